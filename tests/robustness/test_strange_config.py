"""A stored config that asks for more than this machine has, or is not the one that was trained: nothing is computed with it."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import CONFIG, bn_in, interrupt, write_summary

import bnexp
from bnexp.base.errors import BnexpError, DataError, UsageError
from bnexp.base.files import read_checked_json, write_checked_json
from bnexp.config import from_mapping
from bnexp.execution.launch import launch
from bnexp.execution.step_times import step_times
from bnexp.storage.folder import list_runs
from bnexp.storage.run import Run

LARGE = {"model.widths": [4096] * 60}
"""Blocks of a network of 70 GB, and as much again for its gradients and momentum."""


def test_step_times_of_what_no_memory_holds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"needs at least .* of memory"):
        step_times({"a": CONFIG.replace(**LARGE)})

    def run_out(*args: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")

    monkeypatch.setattr("bnexp.execution.step_times.Stack", run_out)
    with pytest.raises(BnexpError, match="There is not enough memory for this run"):
        step_times({"a": CONFIG})


def test_resume_of_what_no_memory_holds_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a stranger's folder: the plan and the id are those of the large config."""
    interrupt([CONFIG], tmp_path, monkeypatch)
    (run,) = list_runs(tmp_path)
    config = CONFIG.replace(**LARGE)
    large = Run(tmp_path, config.run_id())
    run.folder.rename(large.folder)
    large.start(config)
    summary = read_checked_json(large.summary_json, 1)
    (stack,) = (tmp_path / ".stacks").iterdir()
    plan = read_checked_json(stack / "plan.json", 1)
    plan["members"][0] |= {"id": large.id, "config": yaml.safe_load(large.config_yaml.read_text())}
    write_checked_json(stack / "plan.json", plan, 1)
    recorded = {**plan["members"][0]["config"], "name": config.run_name}
    write_summary(large, {**summary, "id": large.id, "config": recorded})
    assert "needs at least" in bn_in(tmp_path, "resume", large.id, code=2).stderr
    shutil.rmtree(stack)
    assert "needs at least" in bn_in(tmp_path, "resume", large.id, code=2).stderr


def test_a_config_that_is_not_the_summarys_is_computed_with_nowhere(tmp_path: Path) -> None:
    launch([CONFIG, CONFIG.replace(**{"seed": 1}), CONFIG.replace(**{"seed": 2})], tmp_path, quiet=True)
    run, *_ = list_runs(tmp_path)
    assert run.trained_config() == CONFIG.replace(seed=run.result().tree()["seed"])
    summary = run.result().tree()
    del summary["config"]["optim"]["beta2"]  # from before the key existed
    write_summary(run, summary)
    assert run.trained_config() == run.config()
    tree = yaml.safe_load(run.config_yaml.read_text())
    tree["model"]["widths"] = [4096] * 6
    run.config_yaml.write_text(yaml.safe_dump(tree))
    assert from_mapping(tree) == run.config()
    for use in (run.trained_config, lambda: bnexp.load(run.folder)):
        with pytest.raises(DataError, match=r"config\.yaml is not the config of summary\.json"):
            use()


def test_compare_has_no_seconds_of_a_config_that_was_changed(tmp_path: Path) -> None:
    norms = [CONFIG, CONFIG.replace(**{"model.norm": "none"})]
    runs = [launch([config], tmp_path, quiet=True).runs[0] for config in norms]
    tree = yaml.safe_load(runs[0].config_yaml.read_text())
    tree["model"]["widths"] = [4096] * 6
    runs[0].config_yaml.write_text(yaml.safe_dump(tree))
    err = bn_in(tmp_path, "compare", *(run.id for run in runs)).stderr
    assert "No seconds:" in err
    assert "is not the config of summary.json" in err
