import json
import os
import shutil
import subprocess
import zlib
from collections.abc import Callable
from math import prod
from pathlib import Path

if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):  # they share the cores; torch asks while it is imported
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(workers))))

import numpy as np
import pytest
import torch

from getam.data import shapes
from getam.data.saliency.maps import SaliencySettings, make_saliency
from getam.utils.parallel import available_cores
from getam_lattice import library
from tests.helpers.small_experiment import small_settings
from tests.helpers.small_workflow import small_configuration


def pytest_xdist_auto_num_workers(config) -> int:
    """`--numprocesses auto`: the cores that this process may use, and not more than there is memory for."""
    return min(8, available_cores())


_SHARED = Path(__file__).parents[2] / "shared"
GOLDEN = Path(os.environ.get("GETAM_GOLDEN", _SHARED / "golden"))
DATA = Path(os.environ.get("GETAM_DATA", _SHARED / "data"))


@pytest.fixture(scope="session")
def golden_folder() -> Path:
    """Outputs of the released code. They are not part of the repository; where a run must have them, it says so."""
    return _outside_folder("GETAM_GOLDEN", GOLDEN, "golden outputs")


def _outside_folder(variable: str, folder: Path, what: str) -> Path:
    if not folder.is_dir():
        message = f"no {what} at {folder}; {variable} names their folder"
        if os.environ.get("GETAM_REQUIRE_GOLDEN") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return folder


@pytest.fixture(scope="session")
def photographs() -> Path:
    """Real photographs with their truth: voc_subset, coco_subset, saliency_samples. Not part of the repository."""
    return _outside_folder("GETAM_DATA", DATA, "photographs")


@pytest.fixture
def small_disk(tmp_path) -> Callable[..., list[str]]:
    """Of a command, the one that runs it with one more argument: a folder on a disk of one megabyte of its own."""
    folder = tmp_path / "small_disk"
    folder.mkdir()
    mounting = 'mount -t tmpfs -o size=1m tmpfs "$0" && "$@" "$0"'

    def wrap(*command: str) -> list[str]:
        return ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mounting, str(folder), *command]

    if not shutil.which("unshare") or subprocess.run(wrap("true"), capture_output=True, check=False).returncode:
        pytest.skip("this system lets nobody mount a small disk (unshare --user --mount)")
    return wrap


@pytest.fixture(scope="session")
def released_state_dict(golden_folder):
    """name of a golden file -> the state dict that its outputs were made with, filled from each tensor's name."""

    def make(golden: str) -> dict[str, torch.Tensor]:
        shapes = json.loads((golden_folder / f"{golden}.state_dict.json").read_text())
        return {name: torch.from_numpy(_tensor(name, shape)) for name, shape in shapes.items()}

    return make


def _tensor(name: str, shape: list[int]) -> np.ndarray:
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    n = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape, dtype=np.float32)
    if name.endswith("running_var"):
        value = 1 + 0.1 * np.abs(n)
    elif name.endswith("running_mean"):
        value = 0.1 * n
    elif name.rsplit(".", 1)[-1] in ("pos_embed", "cls_token", "dist_token"):
        value = 0.2 * n
    elif len(shape) >= 2:
        value = n / np.sqrt(prod(shape[1:]))
    elif name.endswith("weight"):
        value = 1 + 0.1 * n
    else:
        value = 0.02 * n
    return np.asarray(value, np.float32)


@pytest.fixture(params=["best", library.PORTABLE])
def instruction_set(request) -> str | None:
    """The kernels for this processor, and the portable ones, where they are not the same."""
    if request.param == library.PORTABLE:
        return library.PORTABLE
    if not library.has_avx2():
        pytest.skip("this processor's best kernels are the portable ones")
    return None


def relative_error(found, expected) -> float:
    """Largest absolute difference over the largest expected magnitude, in float64."""
    found, expected = (np.asarray(torch.as_tensor(x).detach(), np.float64) for x in (found, expected))
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.fixture(scope="session")
def small_shapes(tmp_path_factory) -> Path:
    """The drawn data set with few small images, and saliency maps in the folder `saliency` beside it."""
    folder = tmp_path_factory.mktemp("shapes")
    settings = shapes.ShapesSettings(side=32, train=24, val=9, test=5)
    dataset = shapes.prepare(folder / "dataset", settings, 1)
    for _ in make_saliency(dataset, list(dataset.splits), folder / "saliency", SaliencySettings("border")):
        pass
    return folder


@pytest.fixture
def small_experiment(small_shapes) -> dict:
    """Settings of an experiment on it that takes a second or two."""
    return small_settings(small_shapes)


@pytest.fixture
def small_workflow() -> dict:
    """A configuration of the workflow that takes a minute or less."""
    return small_configuration()
