"""A study: which runs stand in which of its parts, and what is in none."""

from pathlib import Path

import pytest
from support import make_result, with_values

from bnexp.analysis import StepTime, analyse, to_json, with_step_times
from bnexp.analysis.parts import split
from bnexp.base.errors import UsageError
from bnexp.storage.result import RunResult
from bnexp.storage.run import Run


def grid(**settings: object) -> list[RunResult]:
    rows = [make_result(norm, lr, seed) for norm in ("batch", "none") for lr in (0.01, 0.1) for seed in range(2)]
    return [with_values(row, id=f"{row.id}-{'-'.join(map(str, settings.values()))}", **settings) for row in rows]


def test_every_run_of_a_sweep_stands_in_a_part() -> None:
    """Also one that does not read a key which other runs vary, and differs from them in another."""
    cosine = grid(config__optim__schedule="cosine")
    steps = [row for gamma in (0.1, 0.5) for row in grid(config__optim__schedule="step", config__optim__gamma=gamma)]
    parts = split("sweep lr", {"": [*cosine, *steps]})
    assert [dict(part.setting) for part in parts] == [
        {"optim.schedule": "cosine"},
        {"optim.gamma": 0.1, "optim.schedule": "step"},
        {"optim.gamma": 0.5, "optim.schedule": "step"},
    ]
    assert [len(part.runs) for part in parts] == [len(cosine)] * 3


def test_metrics_of_a_sweep_make_parts_and_none_of_its_runs_is_counted_twice() -> None:
    rows = [*grid(config__metrics__drift=True), *grid(config__metrics__drift=False)]
    assert [len(part.runs) for part in split("sweep lr", {"": rows})] == [8, 8]


def test_step_times_belong_to_a_comparison_only() -> None:
    rows = grid()
    runs = [Run(Path("runs"), row.id) for row in rows]
    times = {arm: StepTime(2.0, 1.9, 2.1, 1.0, 0.9, 0.1, 9, 1, "cpu", turns_ms=(2.0, 2.1)) for arm in ("batch", "none")}
    found = analyse("sweep grid", runs, {row.id: row for row in rows}, {"": runs})
    assert len(found.parts) == 2  # every setting, and the arms that they make
    assert with_step_times(found, times) == found
    assert [set(part) & {"cells", "comparison"} for part in to_json(found)["results"]] == [{"cells"}, {"comparison"}]


def test_no_readable_run_is_no_study() -> None:
    with pytest.raises(UsageError, match="None of these runs can be read"):
        analyse("report", [Run(Path("runs"), "a")], {}, {"": [Run(Path("runs"), "a")]})
