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

from bnexp.config import to_mapping
from bnexp.errors import DataError
from bnexp.files import atomic_write, make_folder, open_plain, reason, sync_folder
from bnexp.models import build
from bnexp.run import Run

FORMAT = 1
"""Version of a checkpoint's content. model.pt has none: it is a plain state_dict, and the run's summary holds its digest."""
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
    folder: Path, report: Callable[[str], None], use: Callable[[dict[str, Any]], None] = lambda state: None
) -> dict[str, Any] | None:
    """The newest checkpoint that can be read and that `use` takes, or None; `report` is told of one that cannot, and why `use` raised a
    DataError."""
    for path in (folder / "checkpoint.pt", folder / "checkpoint.prev.pt"):
        if not path.exists():
            continue
        try:
            state = _read(path)
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
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            report(f"{path} does not fit ({type(error).__name__}). It is not used.")
            continue
        return state
    return None


def _write(path: Path, value: dict[str, Any]) -> None:
    buffer = io.BytesIO()  # torch turns a full disk into an error of its own; a plain write does not
    torch.save(value, buffer)
    with atomic_write(path) as file:
        file.write(buffer.getbuffer())


def _read(path: Path) -> Any:
    try:
        with open_plain(path) as file:
            _check_archive(file)
            state = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({reason(error)}).") from None
    except Exception as error:  # of a file that is not ours the unpickler raises anything, IndexError and an EOFError without text among it
        why = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise DataError(f"{path} cannot be read ({why}).") from None
    if not _is_plain(state):
        raise DataError(f"{path} cannot be read (it holds tensors that are larger than what is stored of them).")
    return state


def _check_archive(file: IO[bytes]) -> None:
    """Raises ValueError unless `file` is what `_write` makes: an archive of nothing compressed, so that it takes no more memory than it has
    bytes; of records that fit their CRC32, which torch writes and does not look at; whose pickle names nothing but tensors."""
    size = file.seek(0, io.SEEK_END)
    with zipfile.ZipFile(file) as archive:
        records = archive.infolist()
        if any(record.compress_type != zipfile.ZIP_STORED for record in records) or sum(record.file_size for record in records) > size:
            raise ValueError("it is compressed")
        if (bad := archive.testzip()) is not None:
            raise ValueError(f"its checksum does not fit, in {bad}")
        for record in records:
            if record.filename.endswith(".pkl"):
                for opcode, argument, _ in pickletools.genops(archive.read(record)):
                    if "GLOBAL" in opcode.name and not (argument and NAMES.fullmatch(str(argument))):
                        raise ValueError(f"it names {str(argument)[:60]!r}, and should hold tensors and plain values")
    file.seek(0)


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


def load_model(path: Path) -> dict[str, Tensor]:
    """The state_dict of a model.pt.

    Raises:
        DataError: it is missing, truncated, or holds anything but tensors.
    """
    if not path.exists():
        raise DataError(f"{path} is not there; the run has no trained model yet. `bnexp resume` goes on with it.")
    state = _read(path)
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise DataError(f"{path} does not hold a state_dict.")
    return state


def load_network(run: Run) -> nn.Sequential:
    """A run's trained network as a plain module in eval mode: normalized x_[B, C, *map] -> logits_[B, K].

    Inputs are normalized as in training, with `mean` and `std` under `data` in the run's summary.

    Raises:
        DataError: the run's files are missing, damaged or do not belong together.
    """
    config, summary = run.config(), run.summary()
    if summary["config"] != {**to_mapping(config), "name": config.run_name}:
        raise DataError(f"{run.folder}: config.yaml is not the config of summary.json; one of them was changed or damaged.")
    state = load_model(run.model_pt)
    if not run.is_whole(run.model_pt):
        raise DataError(
            f"{run.model_pt} is not what the run wrote: it was damaged or replaced. `bnexp runs rm {run.id}`, and the same training, "
            "make it anew."
        )
    try:
        data = summary["data"]
        with torch.device("meta"):  # what a stranger's config asks for takes no memory: the weights are those of the file
            network = build(config.model, tuple(data["shape"]), len(data["classes"]))
        if {name: tensor.dtype for name, tensor in network.state_dict().items()} != {name: tensor.dtype for name, tensor in state.items()}:
            raise TypeError("other names or types of weights")
        network.load_state_dict(state, assign=True)
    except (KeyError, TypeError, RuntimeError) as error:
        raise DataError(f"{run.folder}: model.pt does not fit the run's config ({str(error).splitlines()[0][:120]}).") from None
    return network.eval()
