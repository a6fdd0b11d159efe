"""Hostile run folders: what is in model.pt and in checkpoints."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from faults_hostile_scene import Case, Folder

MODEL = ("evaluate ID", "stats ID")
CHECKPOINT = ("resume ID", "train")


class Code:
    """An object whose unpickling writes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (f"open({str(self.marker)!r}, 'w').write('executed')",)


def _torch(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def _squeezed(data: bytes) -> bytes:
    """The same archive, deflated."""
    found = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(found, "w", zipfile.ZIP_DEFLATED) as smaller:
        for record in archive.infolist():
            smaller.writestr(record.filename, archive.read(record))
    return found.getvalue()


PICKLES: dict[str, Callable[[Any], bytes]] = {
    "bare pickle": lambda value: pickle.dumps(value, protocol=2),
    "pickle of protocol 4": lambda value: pickle.dumps(value, protocol=4),
    "archive": _torch,
    "deflated archive": lambda value: _squeezed(_torch(value)),
}


def cases() -> dict[str, Case]:
    found = {}
    for name, dump in PICKLES.items():
        found[f"model.pt with code, {name}"] = Case(_model_with_code(dump), MODEL, "model.pt")
        found[f"checkpoint.pt with code, {name}"] = Case(_checkpoints_with_code(dump), CHECKPOINT)
    return found | {
        "model.pt that unfolds to 4 GB": Case(
            lambda f: f.put_model(_squeezed(_torch({"w": torch.zeros(10**9, dtype=torch.uint8), "v": 4}))), MODEL, "model.pt"
        ),
        "model.pt with a tensor of 10^15 numbers": Case(
            lambda f: f.put_model(_torch({name: torch.zeros(1).expand(10**15) for name in _state(f)})), MODEL, "model.pt"
        ),
        "model.pt of sparse tensors": Case(
            lambda f: f.put_model(_torch({name: w.to_sparse() if w.dim() else w for name, w in _state(f).items()})), MODEL, "model.pt"
        ),
    }


def _model_with_code(dump: Callable[[Any], bytes]) -> Callable[[Folder], None]:
    return lambda f: f.put_model(dump({"w": Code(f.marker)}))


def _checkpoints_with_code(dump: Callable[[Any], bytes]) -> Callable[[Folder], None]:
    return lambda f: _checkpoints(dump({"format": 1, "step": 4, "code": Code(f.marker)}))(f)


def _checkpoints(data: bytes) -> Callable[[Folder], None]:
    def spoil(f: Folder) -> None:
        for name in ("checkpoint.pt", "checkpoint.prev.pt"):
            (f.stack / name).write_bytes(data)

    return spoil


def _state(f: Folder) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(f.finished.model_pt, weights_only=True)
    return state
