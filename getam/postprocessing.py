"""From folders of probabilities and images to masks, by the dense CRF."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from getam.crf import dense_crf
from getam.crf_settings import CrfSettings
from getam.images import IMAGE_SUFFIXES, read_image, write_mask
from getam.parallel import map_unordered
from getam.probabilities import read_probabilities

_PROBABILITY_SUFFIXES = (".npy", ".npz")


@dataclass(frozen=True)
class Job:
    """One image: files to read and the mask to write."""

    probabilities: Path
    image: Path
    mask: Path


def find_jobs(probabilities: Path, images: Path, masks: Path) -> list[Job]:
    """A job for each <id>.npy or <id>.npz of `probabilities`, with <id>.jpg, .jpeg or .png of `images`.

    Raises:
        FileNotFoundError: there is no such folder, no probabilities, or no image for some of them.
        ValueError: an id stands for two files of one folder, or masks would be written among the images.
    """
    if masks.resolve() == images.resolve():
        raise ValueError(f"{masks} is the folder of the images: masks need a folder of their own")
    sources = _by_id(probabilities, _PROBABILITY_SUFFIXES)
    photographs = _by_id(images, IMAGE_SUFFIXES)
    missing = [name for name in sources if name not in photographs]
    if missing:
        shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise FileNotFoundError(f"{images} has no image for {len(missing)} of the probabilities: {shown}")
    return [Job(path, photographs[name], masks / f"{name}.png") for name, path in sources.items()]


def _by_id(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}")
    found = {}
    for path in sorted(path for path in folder.iterdir() if path.suffix.lower() in suffixes):
        if path.stem in found:
            raise ValueError(f"{path.stem} stands twice in {folder}: {found[path.stem].name} and {path.name}")
        found[path.stem] = path
    if not found:
        raise FileNotFoundError(f"{folder} holds no {' or '.join(suffixes)} file")
    return found


def refine_files(jobs: list[Job], settings: CrfSettings, workers: int) -> Iterator[Path]:
    """Writes the masks, several at once in processes of their own, and yields each path as it is done.

    A mask is an 8-bit PNG with VOC's palette: the most probable label of each pixel. It appears whole or not at all.

    Raises:
        ValueError: a file cannot be read or does not fit its image; the message names it. Masks that are done stay.
    """
    return map_unordered(partial(refine_file, settings=settings), jobs, max(1, min(workers, len(jobs))))


def refine_file(job: Job, settings: CrfSettings) -> Path:
    """Writes the mask of one image and returns its path."""
    probabilities = read_probabilities(job.probabilities)
    image = read_image(job.image)
    if settings.bgr:
        image = image[..., ::-1]
    try:
        marginals = dense_crf(
            image,
            probabilities,
            settings.iterations,
            settings.gaussian,
            settings.bilateral,
            settings.backend,
            negligible=settings.negligible,
        )
    except ValueError as error:
        raise ValueError(f"{job.probabilities} with {job.image}: {error}") from error
    write_mask(job.mask, marginals.argmax(0).to(torch.uint8).numpy())
    return job.mask
