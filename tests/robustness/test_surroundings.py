"""What a process is started in: a notebook's kernel, few open files, no GPU, a batch of one image."""

import io
import json
import os
import pty
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support import ROOT, bn_in

from bnexp.base.errors import BnexpError
from bnexp.execution.session import memory_in_one_sentence
from bnexp.execution.terminal import LastingConsole, watched

TINY = ["data.subset=100", "train.batch_size=16", "train.steps=6", "model.widths=[4]", "metrics=off"]
INLINE = "module://matplotlib_inline.backend_inline"


@pytest.mark.parametrize("backend", [INLINE, "nonsense", "TkAgg"])
def test_figures_do_not_depend_on_the_backend_that_a_notebook_sets(backend: str, tmp_path: Path) -> None:
    """Of the project's own environment matplotlib_inline is no part, and importing matplotlib ended in a traceback."""
    code = (
        "import os; from bnexp.plots import matplotlib; from bnexp.plots.style import own_style; from matplotlib.figure import Figure\n"
        "with own_style(): Figure().savefig('x.svg')\n"
        "print(os.environ['MPLBACKEND'])"
    )
    env = {**os.environ, "MPLBACKEND": backend, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == backend  # it is put back: it is the user's
    assert (tmp_path / "x.svg").read_text().startswith("<?xml")


@pytest.mark.parametrize(
    "variable", ["", "JPY_PARENT_PID=1", "JPY_SESSION_NAME=x.ipynb", "COLAB_RELEASE_TAG=release-colab", f"MPLBACKEND={INLINE}"]
)
def test_a_notebook_gets_plain_lines_though_it_looks_like_a_terminal(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("JPY_", "COLAB_")) or name == "MPLBACKEND"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TERM", "xterm-color")
    name, _, value = variable.partition("=")
    if name:
        monkeypatch.setenv(name, value)
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        assert watched(LastingConsole(file=terminal)) == (not name)
    os.close(ours)
    assert not watched(LastingConsole(file=io.StringIO()))


def test_few_open_files_are_enough_for_one_run_and_too_few_are_said(tmp_path: Path) -> None:
    """204 were asked for, and lower --seeds where there was one."""

    def train(most: int, *args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "bnexp", "train", *TINY, *args, "--json", "--runs-dir", str(tmp_path / "runs")],
            env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120, check=False,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (most, most)),
        )  # fmt: skip

    one = train(16)
    assert json.loads(one.stdout)["status"] == "finished", one.stderr
    many = train(16, "seed=1", "--seeds", "6")
    assert many.returncode == 1
    assert "Too many open files" in many.stderr
    assert many.stderr.splitlines()[-1].count("`ulimit -n 224` before the command allows more, or lower --seeds.") == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused_though_the_run_is(tmp_path: Path) -> None:
    """The CPU run's speed was printed, as if it were the GPU's."""
    for command in (["train"], ["sweep", "lr", "--values", "0.1", "--seeds", "1", "--workers", "0", "model.norm=batch"]):
        assert bn_in(tmp_path, *command, *TINY, "device=cpu", "--quiet", code=None).exit_code == 0
        result = bn_in(tmp_path, *command, *TINY, "device=cuda", "--quiet", code=None)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "device=cuda needs a CUDA GPU" in result.stderr


@pytest.mark.parametrize("command", [["train"], ["sweep", "batch-size", "--values", "1", "--seeds", "1", "--dry-run"]])
def test_a_batch_of_one_image_is_warned_of(command: list[str], tmp_path: Path) -> None:
    tiny = ["data.subset=20", "train.steps=3", "model.widths=[4]", "metrics=off"]
    size = ["train.batch_size=1"] if command == ["train"] else []
    said = bn_in(tmp_path, *command, *tiny, *size, code=None)
    assert said.exit_code == 0
    assert said.stderr.count("Warning: with train.batch_size=1 batch norm") == 1
    assert "Warning" not in bn_in(tmp_path, *command, *tiny, *size, "model.norm=none", code=None).stderr


@pytest.mark.parametrize(("runs", "lower"), [(1, "train.batch_size or model.widths"), (3, "train.batch_size, model.widths or --seeds")])
def test_fewer_seeds_are_advised_where_there_are_several(runs: int, lower: str) -> None:
    with pytest.raises(BnexpError, match=f"lower {lower}"), memory_in_one_sentence(runs):
        raise MemoryError
