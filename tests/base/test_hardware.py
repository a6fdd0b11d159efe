"""What this machine computes with, as far as it is known without torch. A GPU's driver is a folder that a test can make."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from msgspec import structs

from bnexp.base import hardware
from bnexp.base.hardware import computes_bf16, cpu_model, machine, on_gpu, torch_build, visible_gpus
from bnexp.config import Config
from bnexp.execution.cluster import local_workers
from bnexp.planning.plan import CACHE_BYTES, GPU_CACHE_BYTES, width


def driver(folder: Path, monkeypatch: pytest.MonkeyPatch, *models: str, cuda: bool = True) -> None:
    """As if NVIDIA's driver were there with these GPUs, and a PyTorch for them."""
    for index, model in enumerate(models):
        (folder / f"0000:0{index}:00.0").mkdir()
        (folder / f"0000:0{index}:00.0" / "information").write_text(f"Model: \t\t {model}\nIRQ:   \t\t 42\n")
    monkeypatch.setattr(hardware, "GPUS", folder)
    monkeypatch.setattr(hardware, "torch_build", lambda: ("2.13.0", cuda))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_the_build_is_the_one_that_importing_torch_finds() -> None:
    assert torch_build() == (torch.__version__, torch.version.cuda is not None)


def test_the_cpu_is_the_kernels() -> None:
    text = Path("/proc/cpuinfo").read_text()
    assert cpu_model()
    assert "model name" not in text or f": {cpu_model().partition(' (cpu family')[0]}\n" in text


def test_two_generations_of_one_name_are_two(tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    found = []
    for family in (23, 25):
        info.write_text(f"processor\t: 0\ncpu family\t: {family}\nmodel\t\t: 49\nmodel name\t: AMD EPYC\nstepping\t: 0\n")
        found.append(cpu_model(info))
    assert found == ["AMD EPYC (cpu family 23, model 49)", "AMD EPYC (cpu family 25, model 49)"]
    info.write_text("model name\t: Some CPU @ 2.0 GHz\n")
    assert cpu_model(info) == "Some CPU @ 2.0 GHz"


def test_an_arm_core_is_its_makers_and_parts_number(tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text(
        "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n\nprocessor\t: 1\nCPU implementer\t: 0x41\nCPU part\t: 0xd4f\n"
    )
    assert cpu_model(info) == "0x41/0xd0c"
    info.write_text("Hardware: something\n")
    assert cpu_model(info) == cpu_model(tmp_path / "nothing") != ""


@pytest.mark.parametrize(
    ("visible", "count"),
    [(None, 2), ("", 0), ("-1", 0), ("0", 1), ("1, 0", 2), ("0,-1,1", 1), ("NoDevFiles", 0), ("GPU-8f2a,3,4", 2), ("MIG-1", 1)],
)
def test_gpus_that_are_hidden_do_not_count(visible: str | None, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver(tmp_path, monkeypatch, "H100", "H100")
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert visible_gpus() == count
    assert on_gpu("auto") == (count > 0)
    assert on_gpu("cuda")
    assert not on_gpu("cpu")
    assert count == 0 or local_workers("auto") == count
    wide = Config().replace(**{"train.batch_size": 512})
    assert GPU_CACHE_BYTES > CACHE_BYTES
    assert width(wide, (1, 8, 8)) == (16 if count else 1)
    assert width(wide.replace(device="cpu"), (1, 8, 8)) == 1


def test_auto_means_the_cpu_where_pytorch_has_no_cuda(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver(tmp_path, monkeypatch, *["H100"] * 64, cuda=False)
    assert not on_gpu("auto")
    assert local_workers("auto") == local_workers("cpu") != 64


def test_a_machine_is_told_by_its_gpus_name_where_it_has_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver(tmp_path, monkeypatch, "NVIDIA H100 80GB HBM3", "NVIDIA H100 80GB HBM3")
    on_cpu, with_gpu = machine(False), machine(True)
    assert on_cpu is not None
    assert with_gpu == structs.replace(on_cpu, gpu="NVIDIA H100 80GB HBM3")
    assert on_cpu.cpu == cpu_model()
    (tmp_path / "0000:01:00.0" / "information").write_text("Model: T4\n")
    assert machine(True) is None  # a worker gets the one or the other
    for gpu in tmp_path.iterdir():
        (gpu / "information").unlink()
    assert machine(True) is None


def test_none_of_it_imports_torch() -> None:
    code = (
        "import sys, bnexp.execution.grid; from bnexp.base.hardware import *;"
        "on_gpu('auto'), machine(False); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("flags\t\t: fpu avx2 avx512f avx512_bf16\n", True),
        ("flags\t\t: fpu avx2 avx512f\n", False),
        ("Features\t: fp asimd bf16 i8mm\n", True),
        ("Features\t: fp asimd i8mm\n", False),
        ("processor : 0\n", True),
    ],
)
def test_a_cpu_without_bf16_says_so(text: str, expected: bool, tmp_path: Path) -> None:
    """Where the kernel does not say, nobody is warned."""
    (tmp_path / "cpuinfo").write_text(text)
    assert computes_bf16(tmp_path / "cpuinfo") == expected
    assert computes_bf16(tmp_path / "nothing")
