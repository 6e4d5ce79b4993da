"""The memory that a process may still use: the machine's, or less in a control group; the choice of a device."""

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from getam.utils import gpus
from getam.utils.hardware import available_memory, check_device, choose_device, choose_devices

GIB = 2**30


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in {"proc/meminfo": "MemTotal: 99 kB\nMemAvailable:   20971520 kB\n", **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_without_control_groups(tmp_path):
    assert available_memory(write(tmp_path, {})) == 20 * GIB


def test_this_machine():
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < available_memory() <= whole
    assert available_memory(Path("/nowhere")) == whole


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"job": 16 * GIB}, 10 * GIB),  # 7 GiB are used, one of them by the page cache
        ({"": 12 * GIB}, 6 * GIB),  # the limit of an ancestor
        ({"job": 8 * GIB, "job/step": 64 * GIB}, 2 * GIB),
        ({"job": 2 * GIB}, 0),
        ({}, 20 * GIB),
    ],
)
@pytest.mark.parametrize("version", [1, 2])
def test_control_groups(tmp_path, version, limits, expected):
    if version == 2:
        line, top, names = "0::/job/step\n", "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        unlimited = "max"
    else:
        line, top = "5:cpu:/\n4:hugetlb,memory:/job/step\n", "sys/fs/cgroup/memory"
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        unlimited = str(2**63 - 4096)
    files = {"proc/self/cgroup": line}
    for group in ("", "job", "job/step"):
        files[f"{top}/{group}/{names[0]}"] = f"{limits.get(group, unlimited)}\n"
        files[f"{top}/{group}/{names[1]}"] = f"{7 * GIB}\n"
        files[f"{top}/{group}/memory.stat"] = f"cache 1\n{names[2]} {GIB}\n"
    assert available_memory(write(tmp_path, files)) == expected


def test_in_a_container(tmp_path):
    """The path may be the host's; the container sees its own group at the top."""
    files = {
        "proc/self/cgroup": "0::/kubepods/pod1/container2\n",
        "sys/fs/cgroup/memory.max": f"{9 * GIB}\n",
        "sys/fs/cgroup/memory.current": f"{GIB}\n",
        "sys/fs/cgroup/memory.stat": "inactive_file 0\n",
    }
    assert available_memory(write(tmp_path, files)) == 8 * GIB


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize(
    "reason",
    [
        "Torch not compiled with CUDA enabled",
        "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU",
        "The NVIDIA driver on your system is too old (found version 12020).\nPlease update your GPU driver",
    ],
)
def test_auto_says_why_it_takes_the_cpu(monkeypatch, caplog, reason):
    def init():
        raise RuntimeError(reason)

    monkeypatch.setattr(torch.cuda, "init", init)
    with caplog.at_level("INFO"):
        assert choose_device("auto").type == "cpu"
    assert f"finds no GPU: {' '.join(reason.split())}" in caplog.text
    with pytest.raises(ValueError, match=re.escape(f"finds 0 here ({' '.join(reason.split())})")):
        choose_device("cuda")
    caplog.clear()
    choose_device("cpu")
    assert caplog.text == ""


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine with four GPUs, of which torch finds those that CUDA_VISIBLE_DEVICES lists; returns the current one."""
    current = []

    def visible():
        return [int(entry) for entry in os.environ.get("CUDA_VISIBLE_DEVICES", "0,1,2,3").split(",") if entry]

    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(visible()))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(visible()))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: SimpleNamespace(uuid=f"uuid-{visible()[i]}"))
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    monkeypatch.setattr(gpus, "_held", {})
    monkeypatch.setattr(gpus, "_parents", [])
    monkeypatch.setenv("GETAM_GPU_LOCKS", str(tmp_path))
    monkeypatch.setenv("GETAM_GPUS_OF_PARENTS", "")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    yield current
    for descriptor in gpus._held.values():
        os.close(descriptor)


@pytest.fixture
def taken(tmp_path):
    """Locks GPUs in another process."""
    others = []

    def take(*names):
        code = f"import sys; from getam.utils.gpus import share_gpu\nfor n in {names}: print(share_gpu(n), flush=True)"
        command = [sys.executable, "-c", f"{code}\nsys.stdin.read()"]
        environment = {**os.environ, "GETAM_GPU_LOCKS": str(tmp_path)}
        others.append(
            subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
        assert [others[-1].stdout.readline() for _ in names] == ["True\n"] * len(names)

    yield take
    for other in others:
        other.communicate()


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_the_first_free_gpu(machine, taken, device):
    taken("uuid-0", "uuid-2")
    assert choose_device(device) == torch.device("cuda", 1)
    assert choose_device(device) == torch.device("cuda", 1)
    assert machine == [torch.device("cuda", 1)] * 2
    assert choose_devices(device, 2) == [torch.device("cuda", 1), torch.device("cuda", 3)]


def test_only_visible_gpus(machine, taken, monkeypatch):
    """Of GPUs 2 and 3, which are 0 and 1 for this job; GPUs 0 and 1 of another job do not count."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    taken("uuid-0", "uuid-2")
    assert choose_device("cuda") == torch.device("cuda", 1)
    with pytest.raises(ValueError, match="GPU 2 is asked for, torch .* finds 2 here; auto and cpu do without"):
        choose_devices("cuda", 3)


def test_a_gpu_by_its_number(machine, taken, caplog):
    taken("uuid-1")
    with caplog.at_level("INFO"):
        assert choose_device("cuda:3") == torch.device("cuda", 3)
        assert caplog.text == ""
        assert choose_device("cuda:1") == torch.device("cuda", 1)
    assert "cuda:1 is taken by another process; it is shared" in caplog.text
    assert machine == [torch.device("cuda", 3), torch.device("cuda", 1)]
    with pytest.raises(ValueError, match="GPU 4 is asked for, torch .* finds 4 here"):
        choose_device("cuda:4")
    with pytest.raises(ValueError, match="cuda:1 is one GPU, for 2 processes: expected cuda"):
        choose_devices("cuda:1", 2)


def test_parts_of_a_gpu(machine, taken, monkeypatch):
    """They have names of their own in CUDA_VISIBLE_DEVICES; torch may know the whole GPU's."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid="uuid-of-the-whole"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-a, MIG-b")
    taken("MIG-a")
    assert choose_device("cuda") == torch.device("cuda", 1)


def test_the_cpu_takes_no_gpu(machine, tmp_path):
    assert choose_devices("cpu", 2) == [torch.device("cpu")] * 2
    assert list(tmp_path.iterdir()) == []
    assert machine == []


@pytest.mark.parametrize("device", ["tpu", "cuda:", "cuda:N", "cuda:-1", "cpu:0", "CUDA"])
def test_devices_that_there_are_not(device):
    with pytest.raises(ValueError, match="device: expected one of auto, cpu, cuda, cuda:N, got"):
        check_device(device)
    with pytest.raises(ValueError, match="device: expected"):
        choose_device(device)
