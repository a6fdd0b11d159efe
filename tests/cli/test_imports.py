"""What a command imports is most of what it takes to start: each is run in a process of its own, which says what it imported.

No time is measured here: `scripts/bench` does that.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TINY = ("train.steps=2", "model.widths=[2]")
LIGHT_COMMANDS = {"torch", "hydra", "omegaconf", "numpy", "scipy", "sklearn", "pandas", "matplotlib", "PIL", "tensorboard", "torchvision"}
LIGHT_COMMANDS |= {"distributed", "yaml"}

LISTING = """
import sys
from bnexp.cli import main
try:
    main(sys.argv[1:])
finally:
    print("IMPORTED", *sys.modules, file=sys.stderr)
"""
AT_FIRST_STEP = """
import os, sys
from bnexp.cli import main

class AtFirstStep:
    '''Watches for the module that trains, and puts an end to the process where its first step has been made.'''

    def find_spec(self, name, path, target=None):
        if name == "bnexp.training.stack":
            sys.meta_path.remove(self)
            from importlib.util import find_spec

            spec = find_spec(name)
            run = spec.loader.exec_module

            def exec_module(module):
                run(module)
                step = module.train_step

                def first_step(stack):
                    step(stack)
                    print("IMPORTED", *sys.modules, file=sys.stderr, flush=True)
                    os._exit(0)

                module.train_step = first_step

            spec.loader.exec_module = exec_module
            return spec

sys.meta_path.insert(0, AtFirstStep())
main(sys.argv[1:])
"""


def imported(script: str, *args: str) -> set[str]:
    """The modules that were there at the end, with the packages they are in."""
    result = subprocess.run([sys.executable, "-c", script, *args], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    _, found, names = result.stderr.rpartition("IMPORTED")
    assert found, result.stderr
    return set(names.split())


@pytest.fixture(scope="module")
def runs_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run."""
    folder = tmp_path_factory.mktemp("imports") / "runs"
    imported(LISTING, "train", *TINY, "--quiet", "--runs-dir", str(folder))
    return folder


@pytest.mark.parametrize("args", [["--help"], ["train", "--help"], ["sweep", "-h"], ["runs", "--help"], ["--version"]], ids=" ".join)
def test_help_imports_next_to_nothing(args: list[str]) -> None:
    """Drawn by Rich it took twice as long as it takes now, for Markdown alone."""
    assert not (LIGHT_COMMANDS | {"rich", "markdown_it", "multiprocessing", "asyncio", "bnexp.config"}) & imported(LISTING, *args)


def test_listing_runs_imports_no_library_of_numbers(runs_dir: Path) -> None:
    assert not LIGHT_COMMANDS & imported(LISTING, "runs", "--runs-dir", str(runs_dir))
    assert not (LIGHT_COMMANDS | {"rich"}) & imported(LISTING, "runs", "--json", "--runs-dir", str(runs_dir))
    assert not LIGHT_COMMANDS & imported(LISTING, "runs", "show", "last", "--runs-dir", str(runs_dir))


def test_the_config_is_composed_without_torch() -> None:
    needed = {"hydra", "omegaconf", "yaml"}
    found = imported(LISTING, "config", "optim.lr=0.3")
    assert needed <= found
    assert not (LIGHT_COMMANDS - needed | {"rich"}) & found


def test_a_finished_run_is_shown_without_torch(runs_dir: Path) -> None:
    found = imported(LISTING, "train", *TINY, "--runs-dir", str(runs_dir))
    assert not {"torch", "tensorboard", "sklearn", "scipy", "matplotlib", "distributed"} & found


def test_the_first_step_waits_for_no_library_it_does_without(tmp_path: Path) -> None:
    """torch, Hydra and TensorBoard's writer, into which the run's beginning goes, are needed. What torch brings itself is compared, as it
    differs from version to version."""
    found = imported(AT_FIRST_STEP, "train", *TINY, "--runs-dir", str(tmp_path))
    assert {"torch", "bnexp.training.stack"} <= found
    own = imported("import sys, torch; print('IMPORTED', *sys.modules, file=sys.stderr)")
    unwanted = {"sklearn", "scipy", "pandas", "matplotlib", "torchvision", "distributed", "dask", "jinja2", "sympy"}
    unwanted |= {
        "torch._dynamo",
        "torch._inductor",
        "torch.distributed",
        "torch.jit._trace",
        "torch.utils.data.dataloader",
        "tensorboard.main",
    }
    assert not unwanted & (found - own)


@pytest.mark.parametrize(("to", "needed"), [("csv", set()), ("markdown", {"rich"}), ("parquet", {"pyarrow"})])
def test_an_export_imports_what_its_format_needs(runs_dir: Path, tmp_path: Path, to: str, needed: set[str]) -> None:
    found = imported(LISTING, "export", "last", "--to", to, "--out", str(tmp_path), "--runs-dir", str(runs_dir))
    assert needed <= found
    assert not ({"torch", "hydra", "matplotlib", "tensorboard", "sklearn", "pyarrow", "mlflow", "wandb"} - needed) & found
