"""Saved state: two generations of checkpoints, the model file, and the refusal of anything that could run code."""

import io
import os
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support import Tiny, write_summary

from bnexp.base.errors import DataError
from bnexp.config import from_mapping
from bnexp.models import logits, unstack
from bnexp.storage import saved_state
from bnexp.storage.checkpoint import MAX_PICKLE, load_checkpoint, load_model, load_network, save_checkpoint, save_model
from bnexp.storage.facts import DataFacts
from bnexp.storage.result import RunResult
from bnexp.storage.run import Run
from bnexp.training.stack import Stack, train_step

CPU = torch.device("cpu")


class Code:
    """A pickle that runs a command when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def state(step: int) -> dict[str, Any]:
    return {"step": step, "network": {"weight": torch.full((3,), float(step))}, "losses": [torch.zeros(2)], "tracks": [{"best": None}]}


def same(ours: dict[str, Any] | None, expected: dict[str, Any]) -> bool:
    return ours is not None and ours["step"] == expected["step"] and torch.equal(ours["network"]["weight"], expected["network"]["weight"])


def test_two_generations(tmp_path: Path) -> None:
    folder, reports = tmp_path / "stack", []
    assert load_checkpoint(folder, reports.append) is None
    for step in (1, 2, 3):
        save_checkpoint(folder, state(step))
        assert same(load_checkpoint(folder, reports.append), state(step))
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint.prev.pt", "checkpoint.pt"]
    assert torch.load(folder / "checkpoint.prev.pt", weights_only=True)["step"] == 2
    assert reports == []


def zero_length(path: Path) -> None:
    path.write_bytes(b"")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def text(path: Path) -> None:
    path.write_text("this is no checkpoint")


def with_code(path: Path) -> None:
    torch.save({"format": 1, **state(9), "code": Code(path.parent / "ran")}, path)


def bare_code(path: Path) -> None:
    path.write_bytes(pickle.dumps(Code(path.parent / "ran"), protocol=2))


def another_format(path: Path) -> None:
    torch.save({"format": 999, **state(9)}, path)


def a_list(path: Path) -> None:
    torch.save([1, 2], path)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


SPOILED = [zero_length, truncated, text, with_code, bare_code, another_format, a_list, a_folder]


@pytest.mark.parametrize("spoil", SPOILED)
def test_a_spoiled_checkpoint_falls_back_to_the_one_before(tmp_path: Path, spoil: Any) -> None:
    reports: list[str] = []
    save_checkpoint(tmp_path, state(1))
    save_checkpoint(tmp_path, state(2))
    spoil(tmp_path / "checkpoint.pt")
    assert same(load_checkpoint(tmp_path, reports.append), state(1))
    assert len(reports) == 1
    assert "checkpoint.pt" in reports[0]
    assert "It is not used." in reports[0]
    assert not (tmp_path / "ran").exists()
    spoil(tmp_path / "checkpoint.prev.pt")
    assert load_checkpoint(tmp_path, reports.append) is None
    assert len(reports) == 3
    assert not (tmp_path / "ran").exists()


def test_between_the_two_renames_one_checkpoint_is_whole(tmp_path: Path) -> None:
    """The process dies after the old one has become `prev` and before the new one has its name."""
    save_checkpoint(tmp_path, state(1))
    save_checkpoint(tmp_path, state(2))
    (tmp_path / "checkpoint.pt").replace(tmp_path / "checkpoint.prev.pt")
    assert same(load_checkpoint(tmp_path, print), state(2))
    save_checkpoint(tmp_path, state(3))
    assert same(load_checkpoint(tmp_path, print), state(3))


def test_a_write_that_fails_keeps_both_generations(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, state(1))
    save_checkpoint(tmp_path, state(2))
    with pytest.raises((AttributeError, pickle.PicklingError)):
        save_checkpoint(tmp_path, {**state(3), "bad": lambda: None})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.prev.pt", "checkpoint.pt"]
    assert same(load_checkpoint(tmp_path, print), state(2))


def test_the_same_weights_are_the_same_bytes(tmp_path: Path) -> None:
    """Whatever the file is called, and whatever memory the tensors are views of."""
    generator = torch.Generator().manual_seed(0)
    plain = {"a.weight": torch.randn(4, 3, 5, 5, generator=generator), "b": torch.randn(6, generator=generator), "n": torch.tensor(7)}
    strided = {
        "a.weight": plain["a.weight"].contiguous(memory_format=torch.channels_last),
        "b": torch.stack([plain["b"], torch.zeros(6)], 1)[:, 0],
        "n": torch.tensor([7, 8])[0],
    }
    assert not strided["b"].is_contiguous()
    learned = {name: torch.nn.Parameter(tensor) if tensor.is_floating_point() else tensor for name, tensor in plain.items()}
    for name, weights in (("x.pt", plain), ("a longer name.pt", strided), ("y.pt", learned)):
        save_model(tmp_path / name, weights)
    written = {path.read_bytes() for path in tmp_path.iterdir()}
    assert len(written) == 1
    save_model(tmp_path / "other.pt", {**plain, "b": plain["b"] + 1})
    assert (tmp_path / "other.pt").read_bytes() not in written
    assert all(torch.equal(tensor, plain[name]) for name, tensor in load_model(tmp_path / "x.pt").items())


@pytest.mark.parametrize("spoil", [spoil for spoil in SPOILED if spoil is not another_format])
def test_a_model_that_is_no_state_dict_is_refused(tmp_path: Path, spoil: Any) -> None:
    path = tmp_path / "model.pt"
    save_model(path, {"weight": torch.zeros(100)})
    spoil(path)
    with pytest.raises(DataError, match=r"model\.pt"):
        load_model(path)
    assert not (tmp_path / "ran").exists()


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the run has no trained model yet"):
        load_model(tmp_path / "model.pt")


@pytest.mark.parametrize(("shape", "model"), [((2, 6, 5), {"widths": [3, 4]}), ((7,), {"name": "mlp", "widths": [5]})])
def test_a_saved_run_is_a_plain_network(tmp_path: Path, tiny: Tiny, shape: tuple[int, ...], model: dict[str, Any]) -> None:
    data = tiny(shape)
    own = from_mapping({"model": model, "train": {"batch_size": 8, "steps": 9}})
    stack = Stack([own, own.replace(seed=1)], data, CPU)
    for _ in range(4):
        train_step(stack)
    run = Run(tmp_path, "mine-00000000")
    run.start(stack.configs[1])
    config, facts = replace(stack.configs[1], name=stack.configs[1].run_name), DataFacts(shape=shape, classes=("a", "b", "c"))
    run.write_result(RunResult(run.id, "finished", config.seed, config, data=facts))
    save_model(run.model_pt, unstack(stack.network.state_dict(), 2, 1))
    network = load_network(run)
    assert not network.training
    x = data.normalize(data.test.x)
    stacked = logits(stack.network.eval(), x.repeat(1, 2, *[1] * (x.dim() - 2)))[1]
    torch.testing.assert_close(network(x), stacked, rtol=1e-5, atol=1e-5)
    write_summary(run, {**run.result().tree(), "data": {"shape": list(shape), "classes": ["a", "b"]}})
    with pytest.raises(DataError, match=r"model\.pt does not fit the run's config"):
        load_network(run)


def test_what_is_no_whole_and_uncompressed_archive_is_not_read(tmp_path: Path) -> None:
    save_model(path := tmp_path / "model.pt", {"w": torch.zeros(4)})
    one = path.read_bytes()
    path.write_bytes(one[:-1])
    with pytest.raises(DataError, match="zip file"):
        load_model(path)
    with zipfile.ZipFile(io.BytesIO(one)) as stored, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for record in stored.infolist():
            packed.writestr(record.filename, stored.read(record))
    with pytest.raises(DataError, match="it is compressed"):
        load_model(path)


def test_files_of_more_than_they_may_have_are_not_read(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, state(1))
    save_checkpoint(tmp_path, state(2))
    os.truncate(tmp_path / "checkpoint.pt", 2**40)  # a hole, which takes nothing on the disk
    told: list[str] = []
    assert same(load_checkpoint(tmp_path, told.append, most=10**6), state(1))
    assert told == [f"{tmp_path / 'checkpoint.pt'} cannot be read (it has more than 1,000,000 bytes). It is not used."]
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        archive.writestr("archive/data.pkl", bytes(MAX_PICKLE + 1))
    with pytest.raises(DataError, match="its pickle has more than 16,777,216 bytes"):
        load_model(tmp_path / "model.pt")


def plain(value: Any) -> str:
    """A value as text, with its numbers as Python writes them; an OrderedDict is a dict."""
    if isinstance(value, dict):
        return str([(key, plain(part)) for key, part in value.items()])
    if isinstance(value, (list, tuple)):
        return str((type(value).__name__, [plain(part) for part in value]))
    return str((value.dtype, value.tolist())) if isinstance(value, torch.Tensor) else repr(value)


def test_what_was_saved_is_read(tiny: Tiny, tmp_path: Path) -> None:
    """A checkpoint's state, and tensors of every type and of shapes that share their storage."""
    state = Stack([from_mapping({"train": {"batch_size": 8, "steps": 9}, "model": {"widths": [3]}})], tiny((2, 6, 6)), CPU).state_dict()
    weights = torch.arange(24.0).reshape(2, 3, 4)
    state["views"] = [weights, weights[1, 1:, ::2], weights.transpose(0, 2), weights[:0], torch.tensor(3)]
    kinds = (torch.float64, torch.float16, torch.bfloat16, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)
    state["types"] = [weights.to(kind) for kind in kinds]
    state["values"] = [None, True, False, (), (1,), ("a", 2, 0.5, -(2**40)), {1: "ä", "b": {}}, float("nan")]
    save_checkpoint(tmp_path, state)
    assert plain(load_checkpoint(tmp_path, pytest.fail)) == plain({"format": 1, **state})


def test_sparse_tensors_are_refused(tmp_path: Path) -> None:
    torch.save({"w": torch.eye(2).to_sparse()}, tmp_path / "model.pt")
    with pytest.raises(DataError, match=r"model\.pt"):
        load_model(tmp_path / "model.pt")


def test_a_tensor_that_is_larger_than_what_is_stored_takes_no_memory(tmp_path: Path) -> None:
    large = torch.zeros(1).expand(10**15)
    torch.save({"w": large}, tmp_path / "model.pt")
    assert load_model(tmp_path / "model.pt")["w"].shape == large.shape
    with pytest.raises(ValueError, match="larger than what is stored"):
        saved_state.tensor(large, (None,), torch.float32, "w")
