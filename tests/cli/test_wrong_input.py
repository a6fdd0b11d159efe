"""Wrong input by the hundred: generated overrides and command lines (scripts/faults_input.py), and what they found by name."""

from __future__ import annotations

import math
import os
import resource
import time
from pathlib import Path

import faults_input
import psutil
import pytest
from faults_tried import Tried

from bnexp.base.errors import UsageError, one_line
from bnexp.config import Config
from bnexp.config.compose import compose, expand
from bnexp.config.cost import least_bytes
from bnexp.config.overrides import MAX_LETTERS
from bnexp.config.tree import MAX_WIDTHS
from bnexp.data import arrays

SEED = 20_150_211


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


def refused(*args: str) -> str:
    """The message of a command that is refused: exit code 2, nothing on stdout, a message of fewer than 10 lines, which is returned."""
    code, out, err, error = faults_input.call(args)
    assert (code, error) == (2, ""), err
    assert out == ""
    assert len(err.splitlines()) < 10
    assert err.replace("\n", "").isprintable()
    return " ".join(err.split())


def check(found: Tried, count: int) -> None:
    assert found.problems == []
    assert found.counts["tried"] >= count * 0.9
    assert found.counts["refused"] > count / 2
    assert found.counts["accepted"] > count / 20
    assert found.counts["run"] > count / 50


@pytest.mark.slow
def test_generated_input_is_refused_in_one_message_or_gives_a_valid_result() -> None:
    check(faults_input.try_inputs(1500, SEED), 1500)


def test_the_check_itself_sees_what_it_should(place: Path) -> None:
    """A refusal with a traceback, many lines, escape sequences or a new file would be found."""
    for out, err, what in (
        ("x", "no", "on stdout"),
        ("", "", "no message"),
        ("", "a\n" * 10, "10 lines"),
        ("", "\x1b[31m", "cannot be printed"),
        ("", "\u202e", "cannot be printed"),
        ("", "Traceback (most recent call last)", "traceback"),
        ("", "x" * 3000, "3000 characters"),
    ):
        assert any(what in broken for broken in faults_input._wrong_refusal(out, err)), what
    before = faults_input._listing(place)
    Path("runs").mkdir()
    assert faults_input._listing(place) - before == {str(place / "runs")}
    assert faults_input.call(["train", "optim.lr=0.1", "train.steps=0"])[0] == 2


LONG = "x" * 70_000


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["runs", "rm", "a\x1b[2Jb"], "no runs"),
        (["runs", "show", "\u202eid"], "no runs"),
        (["report", "--\u202ex"], r"No such option: --\u202ex"),
        (["report", f"--{LONG}"], "No such option"),
        (["resume", "a", LONG, "b\x1b[2J"], "70,000 characters"),
        ([LONG], "No such command"),
        (["train", f"--config-dir={LONG}"], "is not a folder"),
        (["train", f"--seeds={LONG}"], "--seeds"),
        (["stats", f".={LONG[:300]}"], "cannot be read"),  # a folder may have an = in its name, and 300 letters are too many for one
        (["compare", f"~{LONG[:300]}", "--no-bn"], "cannot be deleted"),
        (["sweep", "lr", f"--scheduler={LONG[:300]}"], "--scheduler"),
        (["sweep", "lr", "--scheduler", "a\x1b[2J"], "--scheduler"),
        (["train", f"model.widths=[{'8,' * MAX_LETTERS}8]"], "20,016 characters"),
        (["train", f"model.widths={[1] * (MAX_WIDTHS + 1)}".replace(" ", "")], f"{MAX_WIDTHS + 1} entries; {MAX_WIDTHS} are the most"),
        (["sweep", "grid", "optim.lr=range(1,1000)", "--seeds", "1024"], "1,022,976 cells; 100,000 is the most"),
        (["compare", "--no-bn", "optim.lr=range(1,1000)", "--seeds", "1024"], "cells; 100,000 is the most"),
        (["compare", "--no-bn", LONG, "--fresh"], "... names an existing run, and --no-bn asks for new ones"),
        (["train", "optim.warmup_steps=400"], "leaves nothing of the 400 steps"),
    ],
    ids=range(18),
)  # fmt: skip
def test_found_by_generated_input(place: Path, args: list[str], message: str) -> None:
    start = time.perf_counter()
    assert message in refused(*args)
    assert list(place.iterdir()) == []
    assert time.perf_counter() - start < 10


@pytest.mark.parametrize(
    "args", [["stats", "seed=-1"], ["stats", "lost"], ["train", "device=cuda"], ["sweep", "lr", "device=cuda", "--workers", "0"]]
)
def test_a_refused_command_leaves_nothing_behind(place: Path, args: list[str]) -> None:
    """`stats` made the folder of --out first and read its config then; a GPU that is not there was missed with the locks held."""
    import torch

    if "device=cuda" in args and torch.cuda.is_available():
        pytest.skip("nothing to refuse here")
    refused(*args, *(["--out", "a/b/c"] if args[0] != "train" else []), "--runs-dir", "there")
    assert list(place.iterdir()) == []


def test_a_folder_of_out_that_cannot_be_made_is_said_and_one_that_is_there_stays(place: Path) -> None:
    Path("file").touch()
    assert "cannot be a folder" in refused("stats", "--out", "file/x")
    Path("there").mkdir()
    refused("sweep", "lr", "--workers", "0", "seed=-1", "--out", "there")
    assert sorted(path.name for path in place.iterdir()) == ["file", "there"]


HUGE = f"model.widths={[4096] * 50}".replace(" ", "")


@pytest.mark.parametrize(
    "args",
    [
        ["train", HUGE],
        ["train", "model=mlp", "model.widths=" + str([4096] * 90).replace(" ", ""), "optim=adam", "--seeds", "100"],
        ["train", "--seeds", "1024", "model.widths=[2048]", "train.batch_size=1000"],
        ["sweep", "lr", "--values", "0.1", "--workers", "0", HUGE],
        ["compare", "--no-bn", "--lrs", "0.1", "--workers", "0", HUGE],
        ["stats", HUGE],
    ],
    ids=range(6),
)
def test_what_no_machine_has_the_memory_for_is_refused_before_any_is_taken(
    place: Path, args: list[str], request: pytest.FixtureRequest
) -> None:
    """The system killed these. The limit is for a future in which they are not refused: the tests shall live to tell."""
    before = psutil.Process().memory_info()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    request.addfinalizer(lambda: resource.setrlimit(resource.RLIMIT_AS, limits))
    resource.setrlimit(resource.RLIMIT_AS, (before.vms + 2**31, limits[1]))
    start = time.perf_counter()
    said = refused(*args, "device=cpu")
    assert "of memory and" in said
    assert "lower model.widths" in said
    assert psutil.Process().memory_info().rss - before.rss < 2**28
    assert time.perf_counter() - start < 10
    assert list(place.iterdir()) == []


def test_the_least_memory_is_no_more_than_what_training_takes() -> None:
    """Refusing what would have fitted is worse than not refusing. The tensors that autograd keeps, and the optimizer's, are counted."""
    import torch

    from bnexp.data import load
    from bnexp.models import logits, losses
    from bnexp.training.stack import Stack, train_step

    for overrides in (
        [], ["model.norm=none"], ["model.norm=noisy"], ["model.norm=frozen"], ["optim=adam"], ["optim.momentum=0"], ["precision=bf16"],
        ["model=mlp"], ["model=mlp", "model.norm=none", "model.activation=sigmoid"], ["data=waveforms"],
        ["data=volumes", "train.batch_size=2"],
        ["model.placement=norm-conv-relu"], ["model.placement=conv-relu-norm", "model.widths=[3,70,2,2,2]"],
    ):  # fmt: skip
        config = compose([*overrides, "train.steps=4", "metrics=off"])
        data = load(config.data, torch.device("cpu"))
        stack = Stack([config, config.replace(seed=1)], data, torch.device("cpu"))
        train_step(stack)
        kept: dict[int, int] = {}

        def keep(tensor: torch.Tensor, kept: dict[int, int] = kept) -> torch.Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        x, y = stack.batches[1]
        with (
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
            torch.autocast("cpu", enabled=config.precision == "bf16"),
        ):
            loss = losses(logits(stack.network, x).float(), y)
        weights = sum(param.nbytes for param in stack.network.parameters())
        states = sum(tensor.nbytes for tensors in stack.optimizer.state.values() for tensor in tensors)
        own = {param.untyped_storage().data_ptr() for param in stack.network.parameters()}
        activations = sum(size for where, size in kept.items() if where not in own)
        taken = 2 * weights + states + activations
        header = (data.shape, len(data.train) + len(data.val), len(data.classes))
        assert 0.4 * taken < least_bytes(config, header, 2) <= taken, overrides
        assert loss.isfinite().all()


V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
V2 = ("memory.max", "memory.current", "inactive_file")


@pytest.mark.parametrize(("names", "line", "top"), [(V2, "0::", ""), (V1, "4:memory:", "memory")], ids=["version 2", "version 1"])
def test_a_container_or_a_batch_system_may_leave_less_than_the_machine_has(
    tmp_path: Path, names: tuple[str, str, str], line: str, top: str
) -> None:
    """A control group's files, as the kernel writes them, in another place; the limit of a parent counts where the group has none."""

    def write(folder: Path, most: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in zip(names, (most, f"{2**29}", f"anon 1\n{names[2]} {2**20}"), strict=True):
            (folder / ("memory.stat" if "inactive" in name else name)).write_text(f"{text}\n")

    groups = f"1:name=x:/\n{line}/slurm/job_7\n"
    parent = tmp_path / top / "slurm"
    write(parent / "job_7", "max" if line == "0::" else f"{2**63 - 4096}")
    assert arrays.group_memory(groups, tmp_path) > 2**62
    write(parent, f"{2**30}")
    assert arrays.group_memory(groups, tmp_path) == 2**29 + 2**20
    write(parent / "job_7", f"{2**29 + 1}")
    assert arrays.group_memory(groups, tmp_path) == 1 + 2**20
    assert arrays.group_memory("1:name=x:/\n", tmp_path) == math.inf
    assert 0 < arrays.available_memory() <= psutil.virtual_memory().total


def test_an_override_is_long_enough_for_any_list_of_seeds() -> None:
    assert len(expand([f"seed={','.join(map(str, range(1000)))}"])) == 1000


def test_messages_are_one_printable_line() -> None:
    assert one_line("fine ± é 日本") == "fine ± é 日本"
    assert one_line("a\nb\x1b[2J\u202ec\ud800") == r"a\nb\x1b[2J\u202ec\ud800"
    said = one_line("begin " + "\u202e" * 10**6 + " end", 200)
    assert said.startswith("begin ")
    assert said.endswith(" end")
    assert len(said) <= 200


@pytest.mark.parametrize(
    "name", ["../x", "/etc/x", "a/b", "..", ".", "a\\nb", "x" * 300, "\u202ea", "a\u200fb", "a b", "é", "-x", ".x", ""]
)
def test_names_that_could_lead_elsewhere_are_refused(place: Path, name: str) -> None:
    with pytest.raises(UsageError, match="is not usable"):
        Config().replace(name=name.replace("\\n", "\n"))
    with pytest.raises(UsageError, match=r"is not usable|cannot be read"):
        compose([f"name='{name}'"])
    refused("train", f"name='{name}'", "train.steps=1")
    assert os.listdir(place) == []  # noqa: PTH208
