"""torch.save's files read without pickle: the same as torch.load gives, and files that would keep pickle busy for ever, or crash it."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from support import Tiny
from test_strange_checkpoint import stacks

from bnexp.base.errors import DataError
from bnexp.storage.checkpoint import load_checkpoint, load_model
from bnexp.storage.torch_archive import read_archive

SHARED = b"K\x01\x85q\x00" + b"".join(b"h%c\x86q%c" % (level, level + 1) for level in range(60))
"""A tuple of a tuple, each level twice the one below, in 60 levels."""
DEEP = b")" + b"\x85" * 10**6
COLLIDING = b"".join(b"\x8a\x10" + (number * (2**61 - 1)).to_bytes(16, "little") + b"N" for number in range(20_000))


def archive(pickled: bytes) -> io.BytesIO:
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w") as file:
        file.writestr("archive/data.pkl", b"\x80\x02" + pickled + b".")
    return found


def saved(value: Any) -> io.BytesIO:
    torch.save(value, found := io.BytesIO())
    found.seek(0)
    return found


def plain(value: Any) -> str:
    """A value as text, with its numbers as Python writes them; an OrderedDict is a dict."""
    if isinstance(value, dict):
        return str([(key, plain(part)) for key, part in value.items()])
    if isinstance(value, (list, tuple)):
        return str((type(value).__name__, [plain(part) for part in value]))
    return str((value.dtype, value.tolist())) if isinstance(value, torch.Tensor) else repr(value)


def test_the_same_as_torch_gives(tiny: Tiny) -> None:
    """A checkpoint's state, and tensors of every type and of shapes that share their storage."""
    state, weights = stacks(tiny)[0].state_dict(), torch.arange(24.0).reshape(2, 3, 4)
    state["views"] = [weights, weights[1, 1:, ::2], weights.transpose(0, 2), weights[:0], torch.tensor(3)]
    kinds = (torch.float64, torch.float16, torch.bfloat16, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)
    state["types"] = [weights.to(kind) for kind in kinds]
    state["values"] = [None, True, False, (), (1,), ("a", 2, 0.5, -(2**40)), {1: "ä", "b": {}}, float("nan")]
    found, expected = read_archive(saved(state)), torch.load(saved(state), weights_only=True)
    assert plain(found) == plain(expected)
    for one, two in zip(found["views"] + found["types"], expected["views"] + expected["types"], strict=True):
        assert (one.dtype, one.stride(), one.storage_offset()) == (two.dtype, two.stride(), two.storage_offset())
        assert torch.equal(one, two)
    assert found["views"][0].untyped_storage().data_ptr() == found["views"][1].untyped_storage().data_ptr()


@pytest.mark.parametrize(
    ("pickled", "why"),
    [
        (b"}" + SHARED + b"Ns", "neither texts nor small numbers"),
        (b"ccollections\nOrderedDict\n((" + SHARED + b"Ntt\x85R", "it calls collections OrderedDict"),
        (b"}" + DEEP + b"Ns", "neither texts nor small numbers"),
        (b"}(" + COLLIDING + b"u", "neither texts nor small numbers"),
        (b"cos\nsystem\nX\x02\x00\x00\x00ls\x85R", "it names 'os system'"),
        (b"\x8f(" + SHARED + b"\x90", "the instruction EMPTY_SET"),
        (b"N" + b"2" * 1000, "the instruction DUP"),
        (b"N(Ne", "it fills a NoneType"),
        (b"", "cannot be read"),
    ],
)
def test_what_would_take_for_ever_is_refused(tmp_path: Path, pickled: bytes, why: str) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(archive(pickled).getvalue())
    told: list[str] = []
    assert load_checkpoint(tmp_path, told.append) is None
    assert why in told[0]
    with pytest.raises(DataError, match=why):
        load_model(tmp_path / "checkpoint.pt")


def test_what_is_nested_where_nothing_hashes_it_does_no_harm(tmp_path: Path) -> None:
    for nested in (SHARED, DEEP):
        (tmp_path / "checkpoint.pt").write_bytes(archive(b"}X\x06\x00\x00\x00format" + nested + b"s").getvalue())
        told: list[str] = []
        assert load_checkpoint(tmp_path, told.append) is None
        assert "another format" in told[0]
        with pytest.raises(DataError, match="does not hold a state_dict"):
            load_model(tmp_path / "checkpoint.pt")


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(1).expand(10**15),
        torch.zeros(3).as_strided((2, 2), (1, 1)),
        torch.eye(2).to_sparse(),
        torch.zeros(2, dtype=torch.cfloat),
    ],
)
def test_tensors_that_are_not_stored_as_a_whole_are_refused(tensor: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"larger than what is stored|it names"):
        read_archive(saved({"w": tensor}))


@pytest.mark.parametrize(
    ("offset", "shape", "stride"), [(2, (2,), (1,)), (0, (2,), (3,)), (-1, (1,), (1,)), (0, (1,), ()), (0, (1,) * 17, (1,) * 17)]
)
def test_tensors_that_reach_beyond_their_storage_are_refused(offset: int, shape: tuple[int, ...], stride: tuple[int, ...]) -> None:
    class Tensor:
        def __reduce__(self) -> tuple[Any, ...]:
            return torch._utils._rebuild_tensor_v2, (torch.zeros(3)._typed_storage(), offset, shape, stride, False, {})

    with pytest.raises(ValueError, match=r"larger than what is stored|impossible shapes"):
        read_archive(saved({"w": Tensor()}))
