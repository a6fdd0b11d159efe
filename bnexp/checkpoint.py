"""Saved state: a stack's checkpoints in two generations, and a run's model.pt. Only tensors and plain values, read with `weights_only`."""

from __future__ import annotations

import io
import pickletools
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor, nn

from bnexp.errors import DataError, reason
from bnexp.files import atomic_write, make_folder, open_plain, sync_folder
from bnexp.models import build
from bnexp.run import Run

FORMAT = 1
"""Version of a checkpoint's content. model.pt has none: it is a plain state_dict, and the run's summary holds its digest."""
MOST_PICKLE = 2**24
"""Bytes of the pickle inside, which may make a hundred times as many of memory: it says where the tensors are. A stack of two thousand runs
that all stopped at their target has about as many, one of eight below a hundredth."""
TENSOR_BYTES = 2**10
"""What an archive says of a tensor beside its numbers, at the most."""
NAMES = re.compile(r"collections OrderedDict|torch\._utils _rebuild_tensor_v2|torch [A-Z][A-Za-z0-9]*Storage")
"""All that the pickle inside may name: what tensors are made of."""


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Writes `checkpoint.pt`; the one that was there becomes `checkpoint.prev.pt`. At any moment one of them is whole."""
    make_folder(folder)
    current = folder / "checkpoint.pt"
    staged = folder / "checkpoint.next.pt"
    _write(staged, {"format": FORMAT, **state})
    if current.exists():
        current.replace(folder / "checkpoint.prev.pt")
    staged.replace(current)
    sync_folder(folder)


def load_checkpoint(
    folder: Path, report: Callable[[str], None], use: Callable[[dict[str, Any]], None] = lambda state: None, most: int | None = None
) -> dict[str, Any] | None:
    """The newest checkpoint that can be read and that `use` takes, or None; `report` is told of one that cannot, and why `use` raised a
    DataError.

    Args:
        most: bytes that it may have; a larger one is not ours.
    """
    for path in (folder / "checkpoint.pt", folder / "checkpoint.prev.pt"):
        if not path.exists():
            continue
        try:
            state = _read(path, most)
        except DataError as error:
            report(f"{error} It is not used.")
            continue
        if not isinstance(state, dict) or state.get("format") != FORMAT:
            report(f"{path} has another format. It is not used.")
            continue
        try:
            use(state)
        except DataError as error:
            report(f"{path} does not fit: {error} It is not used.")
            continue
        except (LookupError, TypeError, ValueError, RuntimeError, AttributeError, ArithmeticError) as error:
            report(f"{path} does not fit ({type(error).__name__}). It is not used.")
            continue
        return state
    return None


def _write(path: Path, value: dict[str, Any]) -> None:
    buffer = io.BytesIO()  # torch turns a full disk into an error of its own; a plain write does not
    torch.save(value, buffer)
    with atomic_write(path) as file:
        file.write(buffer.getbuffer())


def _read(path: Path, most: int | None = None) -> Any:
    try:
        with open_plain(path, most) as file:
            state = torch.load(_checked(file), map_location="cpu", weights_only=True)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({reason(error)}).") from None
    except Exception as error:  # of a file that is not ours the unpickler raises anything, IndexError and an EOFError without text among it
        why = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise DataError(f"{path} cannot be read ({why}).") from None
    if not _is_plain(state):
        raise DataError(f"{path} cannot be read (it holds tensors that are larger than what is stored of them).")
    return state


def _checked(file: IO[bytes]) -> IO[bytes]:
    """The records of an archive, in a fresh one: torch has a reader of its own, which may find others in the same bytes, and an older one
    for what does not begin as an archive.

    Raises:
        ValueError: it is not what `_write` makes: nothing compressed, so that it takes no more memory than it has bytes; records that fit
            their CRC32, which torch writes and does not look at; a small pickle that names nothing but tensors.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    if file.read(4) != b"PK\3\4":
        raise ValueError("it is no archive")
    fresh = io.BytesIO()
    with zipfile.ZipFile(file) as archive, zipfile.ZipFile(fresh, "w") as copy:
        records = archive.infolist()
        if len({record.filename for record in records}) < max(len(records), 1):
            raise ValueError("it has a name twice, or no records")
        if any(record.compress_type != zipfile.ZIP_STORED for record in records) or sum(record.file_size for record in records) > size:
            raise ValueError("it is compressed")
        for record in records:
            pickled = record.filename.endswith(".pkl")
            if pickled and record.file_size > MOST_PICKLE:
                raise ValueError(f"its pickle has more than {MOST_PICKLE:,} bytes")
            content = archive.read(record)  # which compares the checksum
            if pickled:
                _check_pickle(content)
            copy.writestr(zipfile.ZipInfo(record.filename), content)
    fresh.seek(0)
    return fresh


def _check_pickle(content: bytes) -> None:
    for opcode, argument, _ in pickletools.genops(content):
        if "GLOBAL" in opcode.name and not (argument and NAMES.fullmatch(str(argument))):
            raise ValueError(f"it names {str(argument)[:60]!r}, and should hold tensors and plain values")


def _is_plain(state: Any) -> bool:
    """Whether every tensor inside is dense and no larger than its storage. A list may stand inside twice, and is looked at once."""
    seen, waiting = set(), [state]
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            if value.layout != torch.strided or value.numel() * value.element_size() > value.untyped_storage().nbytes():
                return False
        elif isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, (list, tuple, set)):
            waiting += value
    return True


def save_model(path: Path, state: dict[str, Tensor]) -> None:
    """A plain state_dict. The same weights give the same bytes: contiguous clones, through a buffer (a path would be stored)."""
    _write(path, {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()})


def load_model(path: Path, most: int | None = None) -> dict[str, Tensor]:
    """The state_dict of a model.pt, of at most `most` bytes.

    Raises:
        DataError: it is missing, truncated, larger, or holds anything but tensors.
    """
    if not path.exists():
        raise DataError(f"{path} is not there; the run has no trained model yet. `bnexp resume {path.parent.name}` goes on with it.")
    state = _read(path, most)
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise DataError(f"{path} does not hold a state_dict.")
    return state


def load_network(run: Run) -> nn.Sequential:
    """A run's trained network as a plain module in eval mode: normalized x_[B, C, *map] -> logits_[B, K].

    Inputs are normalized as in training, with `mean` and `std` under `data` in the run's summary.

    Raises:
        DataError: the run's files are missing, damaged or do not belong together.
    """
    config, summary = run.trained_config(), run.summary()
    try:
        data = summary["data"]
        with torch.device("meta"):  # what a stranger's config asks for takes no memory: the weights are those of the file
            network = build(config.model, tuple(data["shape"]), len(data["classes"]))
        own = network.state_dict()
        state = load_model(run.model_pt, most=sum(tensor.nbytes + TENSOR_BYTES for tensor in own.values()) + MOST_PICKLE)
        if not run.is_whole(run.model_pt):
            raise DataError(
                f"{run.model_pt} is not what the run wrote: it was damaged or replaced. `bnexp runs rm {run.id}`, and the same training, "
                "make it anew."
            )
        if {name: tensor.dtype for name, tensor in own.items()} != {name: tensor.dtype for name, tensor in state.items()}:
            raise TypeError("other names or types of weights")
        network.load_state_dict(state, assign=True)
    except (KeyError, TypeError, RuntimeError) as error:
        raise DataError(f"{run.folder}: model.pt does not fit the run's config ({str(error).splitlines()[0][:120]}).") from None
    return network.eval()
