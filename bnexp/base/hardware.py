"""What this machine computes with, as far as that is known without torch: its CPU, its GPUs, and which of the two a config means."""

from __future__ import annotations

import functools
import os
import platform
import re
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path

from msgspec import Struct

GPUS = Path("/proc/driver/nvidia/gpus")
"""Where NVIDIA's driver lists its GPUs, one folder each."""
_A_GPU: Callable[[str], object] = re.compile(r"\d+|(GPU|MIG)-\S+").fullmatch


class Machine(Struct, frozen=True, omit_defaults=True):
    """What the time of a step with one thread depends on beside the step."""

    cpu: str
    cores: int | None
    torch: str
    threads: int
    gpu: str | None = None


def on_gpu(device: str) -> bool:
    """Whether `device`, a config's, means a GPU here: `auto` does where the driver has one, CUDA_VISIBLE_DEVICES hides not all, and
    PyTorch is built for CUDA. PyTorch itself may still refuse (a driver that is too old): who imports it has to ask it, too."""
    return device == "cuda" or (device == "auto" and visible_gpus() > 0 and torch_build()[1])


def visible_gpus() -> int:
    """The GPUs of this machine that CUDA_VISIBLE_DEVICES does not hide. It counts up to the first name that is none, as CUDA does."""
    count, visible = len(list(GPUS.glob("*"))), os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return count
    return min(count, len(list(takewhile(_A_GPU, map(str.strip, visible.split(","))))))


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def torch_build() -> tuple[str, bool]:
    """PyTorch's version, and whether it is built for CUDA, from the file that says so: importing it would take seconds."""
    text = ""
    with suppress(ImportError, ValueError, OSError):
        spec = find_spec("torch")
        if spec is not None and spec.origin is not None:
            text = Path(spec.origin).with_name("version.py").read_text()
    version = re.search(r"^__version__\s*(?::[^=]*)?=\s*['\"]([^'\"]+)", text, re.MULTILINE)
    return version[1] if version else "unknown", re.search(r"^cuda\s*(?::[^=]*)?=\s*None\b", text, re.MULTILINE) is None


def machine(gpu: bool) -> Machine | None:
    """This machine; None where it has GPUs without a name, or of several kinds, of which a worker gets any."""
    names = {_field(path / "information", "Model") for path in GPUS.glob("*")} if gpu else {None}
    if len(names) != 1 or "" in names:
        return None
    return Machine(cpu_model(), os.cpu_count(), torch_build()[0], 1, names.pop())


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The CPU's name with its family's and model's numbers, as virtual machines call several generations by one name; on ARM, where the
    kernel knows none of these, the numbers of its maker and part."""
    if name := _field(cpuinfo, "model name"):
        kind = ", ".join(f"{word} {number}" for word in ("cpu family", "model") if (number := _field(cpuinfo, word)))
        return f"{name} ({kind})" if kind else name
    numbers = [_field(cpuinfo, name) for name in ("CPU implementer", "CPU part")]
    return "/".join(numbers) if all(numbers) else platform.processor() or platform.machine()


def computes_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the CPU has instructions for bf16, which is 12 times slower than fp32 without them; True where the kernel does not say."""
    flags = (_field(cpuinfo, "flags") or _field(cpuinfo, "Features")).split()
    return not flags or not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(flags)


def _field(path: Path, name: str) -> str:
    """The value of the first line `name : value` of one of the kernel's files; empty where there is none."""
    with suppress(OSError):
        found = re.search(rf"^{name}\s*:[ \t]*(\S.*?)\s*$", path.read_text(errors="replace"), re.MULTILINE)
        return found[1] if found else ""
    return ""
