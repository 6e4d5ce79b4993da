"""The saliency stage: a saliency map of every image of a split, an 8-bit PNG of the image's size.

The method takes a pixel as salient if its value is above 0 (docs/method.md, section 3), so a threshold turns graded
maps into 0 and 255.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from skimage.filters import threshold_otsu

from getam.constants import BACKGROUND
from getam.data.dataset import DESCRIPTION, DataSet
from getam.data.images import IMAGE_SUFFIXES, image_size, read_grey, read_image, read_mask, write_grey
from getam.data.saliency import u2net
from getam.data.saliency.background import background_saliency, border_saliency
from getam.data.saliency.u2net import u2net_saliency
from getam.utils import provenance
from getam.utils.checks import check_choice, shortened
from getam.utils.files import check_present, read_json, write_json
from getam.utils.outputs import NOTE, reusable_outputs
from getam.utils.parallel import map_unordered

SOURCES = ("background", "border", "u2net", "folder", "truth")
_LIBRARIES = ("numpy", "scipy", "scikit-image", "pillow", "onnxruntime")
OTSU, KEEP = "otsu", "keep"
_DEFAULT_THRESHOLDS = {"background": OTSU, "border": OTSU, "u2net": 127, "folder": KEEP, "truth": KEEP}


@dataclass(frozen=True)
class SaliencySettings:
    """Source and threshold of the saliency maps.

    Attributes:
        source: `background` and `border` compute maps without training (getam/data/saliency/background.py), `u2net` by
            a network, `folder` copies existing maps: the authors' or the user's. `truth` takes the masks themselves,
            unknown pixels salient; it is an upper bound for studies and must not be used for a result.
        path: for `u2net` the ONNX file; for `folder` the folder that holds <id>.png or .jpg, at any depth.
        threshold: values above it are salient (255), all others are not (0): 0..254; `otsu`: each map's own; `keep`:
            the maps stay graded. None is the source's default: `keep` for a folder, 127 for U2-Net, else `otsu`.
    """

    source: str = "background"
    path: Path | None = None
    threshold: int | str | None = None

    def __post_init__(self):
        check_choice("source", self.source, SOURCES)
        needs_path = self.source in ("u2net", "folder")
        if needs_path and self.path is None:
            raise ValueError(f"path: source {self.source!r} needs one")
        if self.path is not None and not needs_path:
            raise ValueError(f"path: source {self.source!r} takes none, got {self.path}")
        if self.threshold is None:
            object.__setattr__(self, "threshold", _DEFAULT_THRESHOLDS[self.source])
        if self.threshold not in (OTSU, KEEP, *range(255)):
            raise ValueError(f"threshold: expected 0..254, {OTSU} or {KEEP}, got {self.threshold!r}")


def make_saliency(
    dataset: DataSet, splits: list[str], folder: Path, settings: SaliencySettings, workers: int = 1
) -> Iterator[Path]:
    """Writes <id>.png for every image of the splits, then complete-<split>.json; yields each path once it is written.

    Existing maps of the same settings, data and code are kept, those of other splits too; all others are removed.

    Raises:
        FileNotFoundError: an image, a map or the ONNX file is missing.
        ValueError: a file cannot be read, the sizes of a map and its image differ, two images have the same id, or
            `folder` is inside the source folder. Maps that are already written stay.
    """
    if settings.source == "folder" and folder.resolve().is_relative_to(settings.path.resolve()):
        raise ValueError(f"{folder} is inside the source folder {settings.path}: choose another output folder")
    photographs = _photographs(dataset, splits)
    sources = {}
    if settings.source == "folder":
        sources = find_maps(settings.path, list(photographs))
    elif settings.source == "truth":
        sources = _masks(dataset, splits)
    made_with = _made_with(dataset, settings)
    is_new = not (folder / NOTE).is_file() or read_json(folder / NOTE) != made_with
    for split in ["*"] if is_new else splits:
        for manifest in folder.glob(_manifest(split)):
            manifest.unlink()
    done = reusable_outputs(folder, made_with, ".png")
    if sources:
        # Copying maps takes less time than checking whether the originals have changed.
        done = set()
    jobs = [(path, sources.get(name), folder / f"{name}.png") for name, path in photographs.items()]
    for _, _, target in jobs:
        if target.name in done:
            yield target
    waiting = [job for job in jobs if job[2].name not in done]
    yield from map_unordered(partial(_write_map, settings), waiting, max(1, min(workers, len(waiting))))
    for split in map(dataset.split, splits):
        write_json(folder / _manifest(split.name), {**made_with, "split": split.name, "maps": len(split)})


def _manifest(split: str) -> str:
    return f"complete-{split}.json"


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
    """Everything that a map depends on except its image, so that maps of other splits stay valid."""
    described = {**asdict(settings), "path": None if settings.path is None else str(settings.path)}
    if settings.source == "u2net":
        described["model_sha256"] = provenance.file_digest(u2net.check_model(settings.path))
    return {
        "dataset": dataset.name,
        "settings": described,
        "data_sha256": provenance.file_digest(dataset.folder / DESCRIPTION),
        "code_sha256": provenance.step_digest("getam.data.saliency.maps"),
        "versions": provenance.versions(*_LIBRARIES),
    }


def _write_map(settings: SaliencySettings, job: tuple[Path, Path | None, Path]) -> Path:
    path, source, target = job
    if settings.source == "truth":
        saliency = np.where(read_mask(source, image_size(path)) == BACKGROUND, np.uint8(0), np.uint8(255))
    elif source is not None:
        saliency = read_grey(source, image_size(path))
    else:
        image = read_image(path)
        saliency = np.rint(255 * _compute(image, settings)).astype(np.uint8)
    write_grey(target, binarise(saliency, settings.threshold))
    return target


def _compute(image_rgb: np.ndarray, settings: SaliencySettings) -> np.ndarray:
    if settings.source == "u2net":
        return u2net_saliency(image_rgb, settings.path)
    return {"background": background_saliency, "border": border_saliency}[settings.source](image_rgb)


def binarise(saliency: np.ndarray, threshold: int | str) -> np.ndarray:
    """uint8 (H, W): 255 where a map is above the threshold and 0 elsewhere, as `SaliencySettings.threshold` says."""
    if threshold == KEEP:
        return saliency
    if threshold == OTSU:
        # A map of one value has no threshold; nothing is salient.
        threshold = 255 if saliency.min() == saliency.max() else threshold_otsu(saliency)
    return np.where(saliency > threshold, np.uint8(255), np.uint8(0))
