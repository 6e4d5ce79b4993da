"""Obstacles of a machine before a long run, against stand-ins for nvidia-smi and for disks."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from getam.utils import preflight
from getam.utils.preflight import cuda_of_torch, disk_problems, gpu_problem, shared_memory_problem


def nvidia_smi(folder: Path, says: str, status: int = 0) -> str:
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\necho '{says}'\nexit {status}\n")
    path.chmod(0o755)
    return str(path)


def test_the_cuda_that_torch_is_built_for():
    assert cuda_of_torch() == torch.version.cuda


@pytest.mark.parametrize(
    ("says", "cuda", "expected"),
    [
        ("580.65.06", "13.0", None),
        ("595.1", "13.0", None),
        ("570.124.06", "12.6", None),
        (
            "570.124.06",
            "13.0",
            "the NVIDIA driver 570.124.06 is too old for torch's CUDA 13.0, which needs 580 or newer",
        ),
        ("510.47", "12.6", "which needs 525 or newer"),
        ("580.65.06", None, "3 jobs need a GPU, and torch is built without CUDA: `make setup TORCH=locked`"),
    ],
)
def test_driver(tmp_path, says, cuda, expected):
    problem = gpu_problem(cuda, 3, nvidia_smi(tmp_path, says))
    assert problem is None if expected is None else expected in problem


def test_no_gpu(tmp_path):
    assert "3 jobs need a GPU, and there is no /nowhere/smi" in gpu_problem("13.0", 3, "/nowhere/smi")
    failed = nvidia_smi(tmp_path, "couldnt communicate with the NVIDIA driver", 9)
    assert "says: couldnt communicate with the NVIDIA driver; --config device=cpu" in gpu_problem("13.0", 3, failed)
    assert "says: no GPU" in gpu_problem("13.0", 3, nvidia_smi(tmp_path, ""))


def test_disks_are_added_up(tmp_path, monkeypatch):
    usage = SimpleNamespace(total=10**12, used=0, free=5 * 10**9)
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda place: usage)
    # Both folders are on one disk, and do not exist yet.
    needed = {tmp_path / "resources" / "voc": 3 * 10**9, tmp_path / "results": 10**9}
    assert disk_problems(needed) == []
    (problem,) = disk_problems({**needed, tmp_path / "resources" / "archives": 2 * 10**9})
    assert problem == f"{tmp_path} has 4.7 GiB free, and about 5.6 GiB will be written"


def test_shared_memory(tmp_path, monkeypatch):
    assert shared_memory_problem(tmp_path / "none") is None
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda place: SimpleNamespace(total=64 * 2**20))
    assert "has 64.0 MiB, and the processes that load images need about 256.0 MiB" in shared_memory_problem(tmp_path)
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda place: SimpleNamespace(total=2**30))
    assert shared_memory_problem(tmp_path) is None
