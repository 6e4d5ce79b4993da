"""Masks from folders of probabilities and images, by the dense CRF."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from getam.data.images import IMAGE_SUFFIXES, read_image, write_mask
from getam.evaluation.probabilities import read_probabilities
from getam.lattice.crf_on_cpu import dense_crf_on_cpu
from getam.lattice.settings import CrfSettings
from getam.utils.checks import check_shape, shortened
from getam.utils.parallel import map_unordered

_PROBABILITY_SUFFIXES = (".npy", ".npz")


@dataclass(frozen=True)
class Job:
    """One image: files to read, and masks to write, at least one of the two.

    Attributes:
        mask: path of the mask by the CRF.
        plain: path of the mask of the probabilities as they are.
        labels: those that are possible in the image, where its classes are known; None: all.
    """

    probabilities: Path
    image: Path
    mask: Path | None
    plain: Path | None = None
    labels: tuple[int, ...] | None = None


def find_jobs(probabilities: Path, images: Path, masks: Path) -> list[Job]:
    """A job for each <id>.npy or <id>.npz of `probabilities`, with <id>.jpg, .jpeg or .png of `images`.

    Raises:
        FileNotFoundError: there is no such folder, it holds no probabilities, or some of them have no image.
        ValueError: two files of one folder have the same id, or masks would be written among the images.
    """
    if masks.resolve() == images.resolve():
        raise ValueError(f"{masks} is the folder of the images; masks need a folder of their own")
    sources = _by_id(probabilities, _PROBABILITY_SUFFIXES)
    photographs = _by_id(images, IMAGE_SUFFIXES)
    missing = [name for name in sources if name not in photographs]
    if missing:
        raise FileNotFoundError(f"{images} has no image for {len(missing)} of the probabilities: {shortened(missing)}")
    return [Job(path, photographs[name], masks / f"{name}.png") for name, path in sources.items()]


def _by_id(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}")
    found = {}
    for path in sorted(path for path in folder.iterdir() if _is_wanted(path, suffixes)):
        if path.stem in found:
            raise ValueError(f"{folder} has two files for {path.stem}: {found[path.stem].name} and {path.name}")
        found[path.stem] = path
    if not found:
        raise FileNotFoundError(f"{folder} holds no {' or '.join(suffixes)} file")
    return found


def _is_wanted(path: Path, suffixes: tuple[str, ...]) -> bool:
    # Hidden files are not the user's: macOS leaves `._x.npy` beside x.npy on foreign disks.
    return path.suffix.lower() in suffixes and not path.name.startswith(".")


def refine_files(jobs: list[Job], settings: CrfSettings, workers: int) -> Iterator[Path]:
    """Writes the masks in several processes and yields one path of each job as it is done.

    A mask is an 8-bit PNG with VOC's palette: the most probable label of each pixel. It appears whole or not at all.

    Raises:
        ValueError: a file cannot be read or does not fit its image; the message names it. Finished masks stay.
    """
    return map_unordered(partial(refine_file, settings=settings), jobs, max(1, min(workers, len(jobs))))


def refine_file(job: Job, settings: CrfSettings) -> Path:
    """Writes the masks of one image and returns the path of the first. Raises as `refine_files` does."""
    image, probabilities = read_job(job, settings)
    try:
        if job.plain is not None:
            write_mask(job.plain, most_probable(probabilities))
        if job.mask is not None:
            write_mask(job.mask, most_probable(dense_crf_on_cpu(image, probabilities, settings).numpy()))
    except ValueError as error:
        raise error_of(job, error) from error
    return job.mask or job.plain


def read_job(job: Job, settings: CrfSettings) -> tuple[np.ndarray, np.ndarray]:
    """The image uint8 (H, W, 3), with its channels in the order of the settings, and the probabilities (C + 1, H, W).

    Of a job with `labels` the others have the probability 0, and these sum to 1.

    Raises:
        ValueError: a file cannot be read, or their sizes differ; the message names both.
    """
    probabilities = read_probabilities(job.probabilities)
    image = read_image(job.image)
    try:
        if probabilities.shape[:2] == image.shape[:2] and probabilities.shape[1:] != image.shape[:2]:
            raise ValueError(
                f"probabilities: {probabilities.shape} has the channels last; expected (C + 1, H, W): save "
                "probabilities.transpose(2, 0, 1)"
            )
        check_shape("probabilities", probabilities, (len(probabilities), *image.shape[:2]))
    except ValueError as error:
        raise error_of(job, error) from error
    if job.labels is not None:
        probabilities = _restricted(probabilities, job.labels)
    return image[..., ::-1] if settings.bgr else image, probabilities


def _restricted(probabilities: np.ndarray, labels: tuple[int, ...]) -> np.ndarray:
    """The same, given that a pixel has one of these labels; all alike where none of them was possible."""
    chosen = list(labels)
    restricted = np.zeros_like(probabilities)
    total = probabilities[chosen].sum(0)
    with np.errstate(invalid="ignore"):
        restricted[chosen] = np.where(total > 0, probabilities[chosen] / total, 1 / len(chosen))
    return restricted


def error_of(job: Job, error: ValueError) -> ValueError:
    """The error with the names of the files."""
    return ValueError(f"{job.probabilities} with {job.image}: {error}")


def most_probable(probabilities: np.ndarray) -> np.ndarray:
    """The labels uint8 (H, W) of probabilities (C + 1, H, W)."""
    # numpy's argmax takes a quarter of the time of torch's on the CPU.
    return probabilities.argmax(0).astype(np.uint8)
