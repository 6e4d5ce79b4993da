"""The memory that a process may still use: the machine's, or less in a control group; the choice of a device."""

import os
import re
from pathlib import Path

import pytest
import torch

from getam.utils.hardware import available_memory, choose_device

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
