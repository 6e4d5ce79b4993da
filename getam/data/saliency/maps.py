"""The saliency stage: a saliency map of every image of a split, an 8-bit PNG of the image's size.

The method takes a pixel as salient if its value is above 0 (docs/explanation/method.md, section 3), so a threshold
turns graded maps into 0 and 255.
"""

import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
from skimage.filters import threshold_otsu

from getam.constants import BACKGROUND
from getam.data.dataset import DataSet, description_of
from getam.data.images import IMAGE_SUFFIXES, image_size, read_grey, read_image, read_mask, write_grey
from getam.data.saliency.background import background_saliency, border_saliency
from getam.data.saliency.network import check_file, network_saliency, uses_gpu
from getam.data.saliency.onnx_models import MODELS
from getam.utils import provenance
from getam.utils.checks import check_choice, shortened
from getam.utils.files import check_present, read_json, write_json
from getam.utils.hardware import available_memory
from getam.utils.outputs import NOTE, reusable_outputs
from getam.utils.parallel import map_unordered

OTSU, KEEP = "otsu", "keep"
# Every source, and its default threshold. PFAN's maps are graded, and the authors' are used as they are.
DEFAULT_THRESHOLDS = {
    "authors": KEEP,
    "pfan": 127,
    **{name: model.threshold for name, model in MODELS.items()},
    "background": OTSU,
    "border": OTSU,
    "folder": KEEP,
    "truth": KEEP,
}
SOURCES = tuple(DEFAULT_THRESHOLDS)
FOLDERS = ("authors", "pfan", "folder")  # sources that are folders of existing maps
_LIBRARIES = ("numpy", "scipy", "scikit-image", "pillow")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SaliencySettings:
    """Source and threshold of the saliency maps.

    Attributes:
        source: `u2net`, `u2netp`, `isnet` and `birefnet` compute maps by a network
            (getam/data/saliency/onnx_models.py), `background` and `border` without training
            (getam/data/saliency/background.py). `authors`, `pfan` and `folder` copy existing maps: those published by
            the method's authors, those of PFAN, the user's. `truth` takes the masks themselves, unknown pixels salient;
            it is an upper bound for studies and must not be used for a result.
        path: of a network the ONNX file; of existing maps the folder that holds <id>.png or .jpg, at any depth.
        threshold: values above it are salient (255), all others are not (0): 0..254; `otsu`: each map's own; `keep`:
            the maps stay graded. None is the source's default (`DEFAULT_THRESHOLDS`).
    """

    source: str = "background"
    path: Path | None = None
    threshold: int | str | None = None

    def __post_init__(self):
        check_choice("source", self.source, SOURCES)
        needs_path = self.source in (*MODELS, *FOLDERS)
        if needs_path and self.path is None:
            raise ValueError(f"path: source {self.source!r} needs one")
        if self.path is not None and not needs_path:
            raise ValueError(f"path: source {self.source!r} takes none, got {self.path}")
        if self.threshold is None:
            object.__setattr__(self, "threshold", DEFAULT_THRESHOLDS[self.source])
        if self.threshold not in (OTSU, KEEP, *range(255)):
            raise ValueError(f"threshold: expected 0..254, {OTSU} or {KEEP}, got {self.threshold!r}")


def make_saliency(
    dataset: DataSet,
    splits: list[str],
    folder: Path,
    settings: SaliencySettings,
    workers: int = 1,
    device: str = "auto",
) -> Iterator[Path]:
    """Writes <id>.png for every image of the splits, then complete-<split>.json; yields each path once it is written.

    Existing maps of the same settings, data and code are kept, those of other splits too; all others are removed.

    Args:
        workers: processes. A network gets fewer if the free memory does not suffice for all, and one on a GPU.
        device: auto, cpu, cuda or cuda:N; where a network runs. auto: a GPU if onnxruntime-gpu and a GPU are there.

    Raises:
        FileNotFoundError: an image, a map or the ONNX file is missing.
        ValueError: a file cannot be read, the sizes of a map and its image differ, two images have the same id,
            `folder` is inside the source folder, or `device` is not available. Maps that are already written stay.
    """
    if settings.source in FOLDERS and folder.resolve().is_relative_to(settings.path.resolve()):
        raise ValueError(f"{folder} is inside the source folder {settings.path}: choose another output folder")
    photographs = _photographs(dataset, splits)
    sources = {}
    if settings.source in FOLDERS:
        sources = find_maps(settings.path, list(photographs))
    elif settings.source == "truth":
        sources = _masks(dataset, splits)
    made_with = _made_with(dataset, settings)
    is_new = not (folder / NOTE).is_file() or read_json(folder / NOTE) != made_with
    for split in ["*"] if is_new else splits:
        for manifest in folder.glob(_manifest(split)):
            manifest.unlink()
    done = reusable_outputs(folder, made_with, ".png") - _remove_maps_of_other_images(dataset, splits, folder)
    if sources:
        # Copying maps takes less time than checking whether the originals have changed.
        done = set()
    jobs = [(path, sources.get(name), folder / f"{name}.png") for name, path in photographs.items()]
    for _, _, target in jobs:
        if target.name in done:
            yield target
    waiting = [job for job in jobs if job[2].name not in done]
    processes = _processes(settings, max(1, min(workers, len(waiting))), device)
    write = partial(_write_map, settings, max(1, workers // processes), device)
    yield from map_unordered(write, waiting, processes)
    for split in map(dataset.split, splits):
        write_json(folder / _manifest(split.name), {**made_with, "split": split.name, "maps": len(split)})


def _processes(settings: SaliencySettings, workers: int, device: str) -> int:
    """As many processes as were asked for, or as the memory allows; one on a GPU."""
    if settings.source not in MODELS:
        return workers
    if uses_gpu(device):
        return 1
    model = MODELS[settings.source]
    possible = max(1, available_memory() // (model.memory_mib * 2**20))
    if possible < workers:
        _log.info(
            "%d processes at once instead of %d: %s takes about %d MiB of memory in each",
            *(possible, workers, model.name, model.memory_mib),
        )
    return min(workers, possible)


def _manifest(split: str) -> str:
    return f"complete-{split}.json"


def _remove_maps_of_other_images(dataset: DataSet, splits: list[str], folder: Path) -> set[str]:
    """Removes the maps of splits that were prepared from other data since, and returns their names.

    data-<split>.json has the sha256 of the description of the split, so that one split says nothing about another.
    """
    removed = set()
    for split in map(dataset.split, splits):
        note = folder / f"data-{split.name}.json"
        description = description_of(dataset, split.name)
        now = {"dataset": dataset.name, "description_sha256": provenance.file_digest(description)}
        if note.is_file() and read_json(note) != now:
            removed |= {f"{name}.png" for name in split.ids}
            (folder / _manifest(split.name)).unlink(missing_ok=True)
        for name in removed:
            (folder / name).unlink(missing_ok=True)
        write_json(note, now)
    return removed


def _photographs(dataset: DataSet, splits: list[str]) -> dict[str, Path]:
    found = {}
    for split in map(dataset.split, splits):
        for name in split.ids:
            if found.setdefault(name, split.image(name)) != split.image(name):
                raise ValueError(f"two images have the id {name}: {found[name]} and {split.image(name)}")
    return found


def _masks(dataset: DataSet, splits: list[str]) -> dict[str, Path]:
    found = {}
    for split in map(dataset.split, splits):
        if split.masks is None:
            raise ValueError(f"source 'truth': split {split.name!r} has no masks")
        paths = {name: split.mask(name) for name in split.ids}
        check_present(split.masks, list(paths.values()), f"masks of split {split.name!r}")
        found |= paths
    return found


def find_maps(folder: Path, ids: list[str]) -> dict[str, Path]:
    """The file of each id, at any depth of a folder.

    Raises:
        FileNotFoundError: the folder, or the file of an id, is missing.
        ValueError: an id has two files.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder of saliency maps {folder}")
    wanted, found = set(ids), {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in IMAGE_SUFFIXES and path.stem in wanted:
            if path.stem in found:
                raise ValueError(f"two saliency maps of {path.stem}: {found[path.stem]} and {path}")
            found[path.stem] = path
    missing = [name for name in ids if name not in found]
    if missing:
        raise FileNotFoundError(
            f"{folder} has no map for {len(missing)} of the {len(ids)} images: {shortened(missing)}"
        )
    return found


def _made_with(dataset: DataSet, settings: SaliencySettings) -> dict[str, object]:
    """Everything that a map depends on except its image."""
    described, versions = asdict(settings), provenance.versions(*_LIBRARIES)
    if settings.source in MODELS:
        # The weights count, not where they are.
        del described["path"]
        described["model_sha256"] = _model_digest(settings)
        versions["onnxruntime"] = onnxruntime.__version__
    elif settings.path is not None:
        described["path"] = str(settings.path)
    return {
        "dataset": dataset.name,
        "settings": described,
        "code_sha256": provenance.step_digest("getam.data.saliency.maps"),
        "versions": versions,
    }


def _model_digest(settings: SaliencySettings) -> str:
    model = MODELS[settings.source]
    digest = provenance.file_digest(check_file(model, settings.path))
    if digest != model.sha256:
        _log.warning("%s is not the published %s: its sha256 is %s", settings.path, model.file, digest)
    return digest


def _write_map(settings: SaliencySettings, threads: int, device: str, job: tuple[Path, Path | None, Path]) -> Path:
    path, source, target = job
    if settings.source == "truth":
        saliency = np.where(read_mask(source, image_size(path)) == BACKGROUND, np.uint8(0), np.uint8(255))
    elif source is not None:
        saliency = read_grey(source, image_size(path))
    else:
        image = read_image(path)
        saliency = np.rint(255 * _compute(image, settings, threads, device)).astype(np.uint8)
    write_grey(target, binarise(saliency, settings.threshold))
    return target


def _compute(image_rgb: np.ndarray, settings: SaliencySettings, threads: int, device: str) -> np.ndarray:
    if settings.source in MODELS:
        return network_saliency(image_rgb, MODELS[settings.source], settings.path, threads, device)
    return {"background": background_saliency, "border": border_saliency}[settings.source](image_rgb)


def binarise(saliency: np.ndarray, threshold: int | str) -> np.ndarray:
    """uint8 (H, W): 255 where a map is above the threshold and 0 elsewhere, as `SaliencySettings.threshold` says."""
    if threshold == KEEP:
        return saliency
    if threshold == OTSU:
        # A map of one value has no threshold; nothing is salient.
        threshold = 255 if saliency.min() == saliency.max() else threshold_otsu(saliency)
    return np.where(saliency > threshold, np.uint8(255), np.uint8(0))
