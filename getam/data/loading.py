"""Data sets and loaders for torch: random views for training, whole photographs for prediction."""

import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from getam.data.augmentation import View, mean_colour, random_view
from getam.data.dataset import Split, check_saliency
from getam.data.images import read_image, read_mask
from getam.utils.checks import check_whole
from getam.utils.files import readable_size

_PREFETCHED = 4  # batches per worker
_SECONDS_TO_SAVE = 30  # that a worker stays after SIGTERM


class RandomViews(Dataset):
    """Random views of a split's images, with a map of each and image-level labels.

    An item is indexed by (epoch, i) and depends only on these and the seed, not on the process that makes it or on
    earlier items: a run that is resumed, or has another number of workers, sees the same samples.

    Args:
        split: of a prepared data set.
        crop: side of the views.
        seed: another seed gives other views.
        scale: as `random_view` takes it.

    Raises:
        ValueError: the split has no image-level labels.
    """

    def __init__(self, split: Split, crop: int, seed: int, scale: tuple[float, float] | None = None):
        check_whole(1, crop=crop)
        check_whole(0, seed=seed)
        if split.labels is None:
            raise ValueError(f"split {split.name!r} has no image-level labels to train on")
        self._split, self._crop, self._seed, self._scale = split, crop, seed, scale

    def __len__(self) -> int:
        return len(self._split)

    @property
    def item_bytes(self) -> int:
        """Bytes of an item's tensors: image, map, validity, labels."""
        return 5 * self._crop**2 + 4 * self._split.labels.shape[1]

    def _view(
        self, position: tuple[int, int], read_map: Callable[[str, tuple[int, int]], np.ndarray]
    ) -> tuple[View, dict[str, Tensor | str]]:
        """The view of an image and its map, which is in the place of the saliency; `id` and `labels` float32 (C,).

        read_map: of an id and the image's (H, W), uint8 (H, W).
        """
        epoch, i = position
        name = self._split.ids[i]
        image = read_image(self._split.image(name))
        marked = read_map(name, image.shape[:2])
        generator = np.random.default_rng([self._seed, epoch, i])
        view = random_view(image, marked, self._crop, generator, self._scale)
        return view, {"id": name, "labels": torch.from_numpy(self._split.labels[i])}


class TrainingImages(RandomViews):
    """`RandomViews` with saliency maps.

    Args:
        saliency: folder of <id>.png; None: every pixel is salient.

    Raises:
        FileNotFoundError: images lack their saliency map.
        ValueError: the split has no labels.
    """

    def __init__(self, split: Split, saliency: Path | None, crop: int, seed: int = 0):
        super().__init__(split, crop, seed)
        if saliency is not None:
            check_saliency(split, saliency)
        self._saliency = saliency

    def __getitem__(self, position: tuple[int, int]) -> dict[str, Tensor | str]:
        """`id`; `image_rgb` uint8 (3, S, S); `saliency` uint8, `valid` bool (S, S); `labels` float32 (C,).

        The network's input is normalise_images(image_rgb) * valid: on the padding exactly the mean colour.

        Raises:
            ValueError: a file cannot be read, or the saliency map has another size than the image.
        """
        view, of_image = self._view(position, self._read_map)
        return {**view._asdict(), **of_image}

    def _read_map(self, name: str, size: tuple[int, int]) -> np.ndarray:
        return (
            np.full(size, 255, np.uint8) if self._saliency is None else read_mask(self._saliency / f"{name}.png", size)
        )


class EpochBatches(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, i): in each epoch every image at most once, in a new random order; the rest is dropped.

    With R replicas (processes of distributed training) a step uses the same images as one process with an R times
    larger batch; each replica takes its part of them.

    Args:
        images: number of images of the split.
        batch_size: images of one batch of one replica.
        epochs: number of epochs.
        seed: another seed gives another order.
        first_step: steps that are already done; the batches begin after them.
        rank, replicas: this process, and how many there are.
        steps: None: those of `epochs`. Otherwise their number, which overrides it; the last epoch may be incomplete.

    Raises:
        ValueError: there are fewer images than one step needs.
    """

    def __init__(
        self,
        images: int,
        batch_size: int,
        epochs: int,
        seed: int = 0,
        first_step: int = 0,
        rank: int = 0,
        replicas: int = 1,
        steps: int | None = None,
    ):
        check_whole(1, batch_size=batch_size, epochs=epochs, replicas=replicas)
        check_whole(0, images=images, seed=seed, first_step=first_step, rank=rank)
        if rank >= replicas:
            raise ValueError(f"rank: expected a number below {replicas}, got {rank}")
        if images < batch_size * replicas:
            raise ValueError(f"a step needs {batch_size * replicas} images, the split has {images}")
        self.steps_per_epoch, self.batch_size = images // (batch_size * replicas), batch_size
        self._images, self._batch_size, self._seed = images, batch_size, seed
        self._steps = epochs * self.steps_per_epoch if steps is None else steps
        self._first_step, self._rank, self._replicas = first_step, rank, replicas

    def __len__(self) -> int:
        return max(0, self._steps - self._first_step)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        last_epoch = None
        for step in range(self._first_step, self._steps):
            epoch, step_of_epoch = divmod(step, self.steps_per_epoch)
            if epoch != last_epoch:
                order = np.random.default_rng([self._seed, epoch, self._images]).permutation(self._images)
                last_epoch = epoch
            start = (step_of_epoch * self._replicas + self._rank) * self._batch_size
            yield [(epoch, int(i)) for i in order[start : start + self._batch_size]]


def training_batches(
    images: TrainingImages, batches: EpochBatches, workers: int, pin_memory: bool = False
) -> DataLoader:
    """Batches of `images` as dictionaries, `id` a list and the others stacked, prefetched by `workers` processes.

    Raises:
        OSError: the shared memory is too small for the workers.
    """
    _check_shared_memory(workers, images.item_bytes * batches.batch_size)
    return DataLoader(
        images,
        batch_sampler=batches,
        num_workers=workers,
        pin_memory=pin_memory,
        persistent_workers=workers > 0,
        prefetch_factor=_PREFETCHED if workers else None,
        worker_init_fn=_leave_signals_to_parent,
    )


def _check_shared_memory(workers: int, item_bytes: int, folder: Path = Path("/dev/shm")) -> None:
    """Raises an OSError before workers die of a bus error: Docker gives a container 64 MiB unless told otherwise."""
    needed = workers * _PREFETCHED * item_bytes
    if workers and folder.is_dir() and (free := shutil.disk_usage(folder).free) < needed:
        raise OSError(
            f"{folder} has {readable_size(free)} free, and {workers} workers need about {readable_size(needed)}: start "
            "the container with --ipc=host (or --shm-size), or take fewer --workers; 0 needs none"
        )


def _leave_signals_to_parent(worker: int) -> None:
    """A signal reaches the whole process group; workers must go on until the training process has saved its state."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(_SECONDS_TO_SAVE))


class InferenceImages(Dataset):
    """Whole photographs of a split: (id, (H, W), [uint8 (S, S, 3) for each size S]).

    Resized as uint8 by OpenCV's INTER_LINEAR (docs/explanation/method.md, section 6).

    Args:
        ids: which of the split's images, in which order.
        sizes, fit: as for `squares`.
    """

    def __init__(self, split: Split, ids: Sequence[str], sizes: Sequence[int], fit: str = "stretch"):
        self._split, self._ids, self._sizes, self._fit = split, ids, sizes, fit

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, i: int) -> tuple[str, tuple[int, int], list[np.ndarray]]:
        """Raises ValueError where the image cannot be read."""
        image = read_image(self._split.image(self._ids[i]))
        return self._ids[i], image.shape[:2], squares(image, self._sizes, self._fit)


def squares(image_rgb: np.ndarray, sizes: Sequence[int], fit: str = "stretch") -> list[np.ndarray]:
    """An image uint8 (H, W, 3) as a square of each size.

    Args:
        sizes: sides of the squares.
        fit: `stretch`: it is resized to the square. `pad`: it lies in the square's upper left corner, made smaller only
            if it is larger than the square; the rest has the mean colour.
    """
    if fit == "stretch":
        return [resized(image_rgb, (size, size)) for size in sizes]
    padded = []
    for size in sizes:
        height, width = area = area_in_square(image_rgb.shape[:2], size)
        square = np.empty((size, size, 3), np.uint8)
        square[:] = mean_colour()
        square[:height, :width] = image_rgb if area == image_rgb.shape[:2] else resized(image_rgb, area)
        padded.append(square)
    return padded


def area_in_square(image: tuple[int, int], side: int) -> tuple[int, int]:
    """(height, width) of an image (H, W) in a padded square: its own, unless it is larger than the square."""
    scale = min(1, side / max(image))
    return tuple(max(1, round(length * scale)) for length in image)


def resized(image_rgb: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An image uint8 (H, W, 3) resized to (height, width) as OpenCV's INTER_LINEAR does it."""
    return cv2.resize(image_rgb, size[::-1], interpolation=cv2.INTER_LINEAR)


def inference_images(images: Dataset, workers: int) -> DataLoader:
    """Items one by one, prefetched by `workers` processes."""
    return DataLoader(images, batch_size=None, num_workers=workers, prefetch_factor=_PREFETCHED if workers else None)
