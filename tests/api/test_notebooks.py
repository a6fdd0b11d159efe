"""The notebooks: what is stored is what their cells print, and they run from top to bottom with a small budget."""

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from support import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SMALL = {"EPOCHS": 1, "SEEDS": 2}
SAYS = {
    "first-hour": {
        "import bnexp": ["steps to target", "with BN"],
        "network = bnexp.load": ["BatchNorm2d", r"\(1293, 1, 8, 8\) mean -?0.0 std 1.0"],
        "import copy": ["mean after", "beta"],
        "def output_of_first_image": ["training mode.*: True", "evaluation mode.*: False"],
        "study = ": ["<table>", "with BN", "without BN"],
        "for sentence": [r"^- \w.*\."],
        "import matplotlib": ["image/png"],
    },
    "sweep-analysis": {
        "import bnexp": ["<table>", "with BN", "without BN"],
        "runs = bnexp.frame": [r"\d+ runs, \d+ columns", "config.optim.lr"],
        "cells = ": ["diverged", "batch", "none"],
        "import matplotlib": ["image/png"],
        "curves = ": ["image/png"],
        "(part,) = ": ["with BN: best learning rate", "without BN: best learning rate"],
    },
}
"""What the text of a notebook says that the cells show that begin like this."""


def check(notebook: Any, name: str) -> None:
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    for begin, patterns in SAYS[name].items():
        (cell,) = (cell for cell in code if cell.source.startswith(begin))
        shown = "\n".join(str(output.get("text", "")) + str(output.get("data", "")) for output in cell.outputs)
        for pattern in patterns:
            assert re.search(pattern, shown, re.M), (begin, pattern, shown[:2000])
    for cell in code:
        for output in cell.outputs:
            assert output.output_type != "error"
            assert "\x1b" not in str(output.get("text", ""))  # which a notebook would show as letters


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_stored_notebook_shows_what_its_text_says(path: Path) -> None:
    text = path.read_text()
    assert len(text) < 300_000
    assert not re.search(r"/(work|tmp|home|root)/", text)  # the machine that it was executed on
    check(nbformat.reads(text, as_version=4), path.stem)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of Jupyter's own packages
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(path, as_version=4)
    (cell,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ()))
    cell.source += "".join(f"\n{name} = {value}" for name, value in SMALL.items())
    NotebookClient(notebook, timeout=280, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    check(notebook, path.stem)


def test_every_notebook_is_checked() -> None:
    assert {path.stem for path in NOTEBOOKS} == SAYS.keys()
