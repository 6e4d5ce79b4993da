"""Masks by the dense CRF on a GPU, in batches of images of one size."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from getam.data.images import write_mask
from getam.evaluation.masks import Job, error_of, most_probable, read_job, refine_files
from getam.lattice.crf import dense_crf_batch
from getam.lattice.crf_on_cpu import checked
from getam.lattice.settings import CrfSettings

_WAITING = 4  # batches of images that are kept until there are others of their sizes
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class _Loaded:
    """One image, ready for the CRF.

    Attributes:
        image: uint8 (H, W, 3).
        probabilities: float32 (L, H, W), of the labels that are possible somewhere.
        labels: (L,), their values in a mask, ascending.
        absent: the other labels, ascending.
    """

    job: Job
    image: np.ndarray
    probabilities: np.ndarray
    labels: np.ndarray
    absent: np.ndarray


def refine_files_on_device(
    jobs: list[Job], settings: CrfSettings, device: torch.device, batch: int = 4, workers: int = 1
) -> Iterator[Path]:
    """Writes the masks of `refine_files`, computed on a GPU, and yields one path of each job as it is done.

    Every label that is possible somewhere takes part to the end (`negligible` 0). Marginals differ from those of the
    CPU with this setting by the rounding of sums, by less than 2e-4; labels only where two marginals are that close.

    Args:
        batch: images that are computed at once; images of different sizes never are.
        workers: threads that read and write files meanwhile.

    Raises:
        ValueError: as `refine_files`, or the settings ask for pydensecrf, which has no form for a GPU.
    """
    if settings.backend != "lattice":
        raise ValueError(f"backend {settings.backend!r} runs on the CPU alone, not on {device}")
    without_crf = [job for job in jobs if job.mask is None]
    yield from refine_files(without_crf, settings, workers)
    with ThreadPoolExecutor(max(1, workers)) as pool:
        read = partial(_load, settings=settings)
        loaded = _ahead(pool, read, [job for job in jobs if job.mask is not None], workers + batch)
        writing: list[Future[Path]] = []
        for group in _batches(loaded, batch):
            masks = _masks(group, settings, device)
            before, writing = writing, [pool.submit(_write, *pair) for pair in zip(group, masks, strict=True)]
            yield from (future.result() for future in before)
        yield from (future.result() for future in writing)


def _ahead(
    pool: ThreadPoolExecutor, function: Callable[[_Item], _Result], items: Iterable[_Item], count: int
) -> Iterator[_Result]:
    """function(item) of each item, in order; the next `count` items are computed meanwhile."""
    waiting = iter(items)
    running = deque(pool.submit(function, item) for item in islice(waiting, count))
    try:
        while running:
            result = running.popleft().result()
            running.extend(pool.submit(function, item) for item in islice(waiting, 1))
            yield result
    finally:
        for future in running:
            future.cancel()


def _load(job: Job, settings: CrfSettings) -> _Loaded:
    """Reads a job and writes its mask without the CRF."""
    image, probabilities = read_job(job, settings)
    if job.plain is not None:
        write_mask(job.plain, most_probable(probabilities))
    try:
        checked(image, probabilities)
    except ValueError as error:
        raise error_of(job, error) from error
    possible = probabilities.any((1, 2))
    labels, absent = np.flatnonzero(possible), np.flatnonzero(~possible)
    return _Loaded(job, image, probabilities[labels], labels, absent)


def _batches(loaded: Iterable[_Loaded], batch: int) -> Iterator[list[_Loaded]]:
    """Groups of up to `batch` images with one size and number of all labels."""
    waiting: dict[tuple[int, ...], list[_Loaded]] = {}
    for one in loaded:
        size = len(one.labels) + len(one.absent), *one.image.shape
        group = waiting.setdefault(size, [])
        group.append(one)
        if len(group) == batch:
            yield waiting.pop(size)
        elif sum(map(len, waiting.values())) == _WAITING * batch:
            yield waiting.pop(max(waiting, key=lambda size: len(waiting[size])))
    yield from waiting.values()


def _masks(group: list[_Loaded], settings: CrfSettings, device: torch.device) -> np.ndarray:
    """The labels of images of one size, chosen on the device: uint8 (B, H, W)."""
    chosen, probabilities = zip(*_same_number_of_labels(group), strict=True)
    try:
        marginals = dense_crf_batch(
            [np.ascontiguousarray(one.image) for one in group],
            [torch.from_numpy(values).to(device) for values in probabilities],
            iterations=settings.iterations,
            gaussian=settings.gaussian,
            bilateral=settings.bilateral,
            negligible=0,
        )
    except ValueError as error:
        raise error_of(group[0].job, error) from error
    best = torch.stack(marginals).argmax(1)
    labels = torch.from_numpy(np.stack(chosen).astype(np.uint8)).to(device)
    return labels.gather(1, best.flatten(1)).view_as(best).cpu().numpy()


def _same_number_of_labels(group: list[_Loaded]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Of each image labels (L,), ascending, and probabilities (L, H, W), with as many labels for all images.

    Labels that are impossible everywhere are left out, or fill up. Their marginals stay below 1e-15.
    """
    most = max(len(one.labels) for one in group)
    for one in group:
        labels = np.sort(np.concatenate([one.labels, one.absent[: most - len(one.labels)]]))
        probabilities = np.zeros((most, *one.probabilities.shape[1:]), np.float32)
        probabilities[np.searchsorted(labels, one.labels)] = one.probabilities
        yield labels, probabilities


def _write(one: _Loaded, mask: np.ndarray) -> Path:
    write_mask(one.job.mask, mask)
    return one.job.mask
