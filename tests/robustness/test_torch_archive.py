"""What torch.save wrote is read as it was; files that would keep the unpickler busy for ever, or crash it, are refused."""

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from support import Tiny
from test_strange_checkpoint import stacks

from bnexp.base.errors import DataError
from bnexp.storage import saved_state
from bnexp.storage.checkpoint import load_checkpoint, load_model
from bnexp.storage.torch_archive import read_archive

SHARED = b"K\x01\x85q\x00" + b"".join(b"h%c\x86q%c" % (level, level + 1) for level in range(60))
"""A tuple of a tuple, each level twice the one below, in 60 levels."""
DEEP = b")" + b"\x85" * 10**6
COLLIDING = b"".join(b"\x8a\x10" + (number * (2**61 - 1)).to_bytes(16, "little") + b"N" for number in range(20_000))


def archive(pickled: bytes) -> io.BytesIO:
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w") as file:
        for name, content in (("data.pkl", b"\x80\x02" + pickled + b"."), ("version", b"3\n"), ("byteorder", b"little")):
            file.writestr(f"archive/{name}", content)
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


def test_what_was_saved_is_read(tiny: Tiny) -> None:
    state, weights = stacks(tiny)[0].state_dict(), torch.arange(24.0).reshape(2, 3, 4)
    state["views"] = [weights, weights[1, 1:, ::2], weights.transpose(0, 2), weights[:0], torch.tensor(3)]
    kinds = (torch.float64, torch.float16, torch.bfloat16, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)
    state["types"] = [weights.to(kind) for kind in kinds]
    state["values"] = [None, True, False, (), (1,), ("a", 2, 0.5, -(2**40)), {1: "ä", "b": {}}, float("nan")]
    assert plain(read_archive(saved(state))) == plain(state)


@pytest.mark.parametrize(
    ("pickled", "why"),
    [
        (b"}" + SHARED + b"Ns", "a tuple of more than 200 parts"),
        (b"ccollections\nOrderedDict\n((" + SHARED + b"Ntt\x85R", "a tuple of more than 200 parts"),
        (b"}" + DEEP + b"Ns", "a tuple of more than 200 parts"),
        (b"}X\x06\x00\x00\x00format" + SHARED + b"s", "a tuple of more than 200 parts"),
        (b"}\x86Ns", "cannot be read"),
        (b"}NN\x86Ns", "neither texts nor small numbers"),
        (b"}(" + COLLIDING + b"u", "neither texts nor small numbers"),
        (b"cos\nsystem\nX\x02\x00\x00\x00ls\x85R", "it names 'os system'"),
        (b"\x8f(" + SHARED + b"\x90", "the instruction EMPTY_SET"),
        (b"N" + b"2" * 1000, "the instruction DUP"),
        (b"N(Ne", "other things than tensors and plain values"),
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


@pytest.mark.parametrize("tensor", [torch.eye(2).to_sparse(), torch.nn.Parameter(torch.zeros(2)), torch.zeros(2, device="meta")])
def test_other_kinds_of_tensors_are_refused(tensor: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="it names"):
        read_archive(saved({"w": tensor}))


def test_a_tensor_that_is_larger_than_what_is_stored_takes_no_memory(tmp_path: Path) -> None:
    large = torch.zeros(1).expand(10**15)
    torch.save({"w": large}, tmp_path / "model.pt")
    assert load_model(tmp_path / "model.pt")["w"].shape == large.shape
    with pytest.raises(ValueError, match="larger than what is stored"):
        saved_state.tensor(large, (None,), torch.float32, "w")
