"""Mean-field inference of the dense CRF (Kraehenbuehl and Koltun 2011; docs/explanation/method.md section 6)."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from getam.lattice import _native, torch_lattice
from getam.lattice.crf_on_cpu import checked, with_pydensecrf
from getam.lattice.forms import lattice_form
from getam.lattice.settings import BACKENDS, CrfSettings
from getam.utils.checks import check_choice, check_whole
from getam_lattice.settings import check_settings


def dense_crf(
    image_rgb: np.ndarray | Tensor,
    probabilities: np.ndarray | Tensor,
    iterations: int = 20,
    gaussian: tuple[float, float] = (3, 3),
    bilateral: tuple[float, float, float] = (83, 5, 4),
    backend: str | None = None,
    *,
    negligible: float = 0.01,
    threads: int | None = None,
) -> Tensor:
    """Marginals of a dense CRF with Potts compatibility and symmetrically normalised kernels.

    Starts from Q = p and repeats Q <- softmax(log p + w_g K_g Q + w_b K_b Q), where K = n^-1/2 W n^-1/2, n = W 1, and W
    is the permutohedral lattice's Gaussian on (x, y) / sigma_xy (K_g), with (r, g, b) / sigma_rgb beside it (K_b).

    Args:
        image_rgb: (H, W, 3), uint8. The order of the channels changes the result; the released test script passes BGR.
        probabilities: (C + 1, H, W), background first; every pixel sums to 1.
        iterations: updates of Q.
        gaussian: sigma_xy in pixels and compatibility w_g.
        bilateral: sigma_xy in pixels, sigma_rgb in 0..255 and compatibility w_b.
        backend: "lattice" (of this package, the default) or "pydensecrf" (that package, one thread, every label).
        negligible: labels whose marginals fall below this at every pixel send no more messages, if that makes the
            others faster to compute; their unary scores stay. It changes marginals of photographs by about 1e-4, and
            those of small noisy images by up to 0.04. 0: every label takes part to the end, as always on a GPU.
        threads: None: as many as torch uses. One image uses at most eight.

    Returns:
        (C + 1, H, W), float32, on the device of the probabilities.

    Raises:
        ValueError: a shape, type or setting that does not fit, or probabilities that do not sum to 1.
        ImportError: backend "pydensecrf" without that package.

    >>> image_rgb = np.zeros((4, 6, 3), np.uint8)
    >>> probabilities = np.full((2, 4, 6), 0.5, np.float32)
    >>> dense_crf(image_rgb, probabilities, iterations=5).shape
    torch.Size([2, 4, 6])
    """
    backend = "lattice" if backend is None else backend
    check_choice("backend", backend, BACKENDS)
    image, probabilities = checked(image_rgb, probabilities)
    check_settings(iterations, gaussian, bilateral, negligible)
    threads = torch.get_num_threads() if threads is None else threads
    check_whole(1, threads=threads)
    if backend == "pydensecrf":
        return with_pydensecrf(image, probabilities, int(iterations), gaussian, bilateral)
    planes = image.permute(2, 0, 1).to(probabilities.device, torch.float32)
    return _mean_field(
        planes,
        probabilities,
        int(iterations),
        [float(x) for x in gaussian],
        [float(x) for x in bilateral],
        float(negligible),
        int(threads),
    )


def dense_crf_batch(
    images_rgb: Iterable[np.ndarray | Tensor],
    probabilities: Iterable[np.ndarray | Tensor],
    *,
    threads: int | None = None,
    **settings,
) -> list[Tensor]:
    """`dense_crf` of several images of any sizes, as many at once as there are threads, or as have one size on a GPU.

    With at least as many images as threads, every image is computed by one thread. On a GPU, one lattice serves all
    images with the same size and number of labels.

    Args:
        images_rgb: of each image (H, W, 3).
        probabilities: of each image (C + 1, H, W), of all on the same kind of device.
        threads: None: as many as torch uses.
        settings: those of `dense_crf`.

    Returns:
        the marginals of each image, (C + 1, H, W).

    Raises:
        ValueError: as `dense_crf`; the message names the image by its number.

    >>> images_rgb = [np.zeros((4, 6, 3), np.uint8), np.zeros((5, 5, 3), np.uint8)]
    >>> probabilities = [np.full((2, *image.shape[:2]), 0.5, np.float32) for image in images_rgb]
    >>> [tuple(marginals.shape) for marginals in dense_crf_batch(images_rgb, probabilities)]
    [(2, 4, 6), (2, 5, 5)]
    """
    pairs = list(zip(images_rgb, probabilities, strict=True))
    on_gpu = []
    for i, pair in enumerate(pairs):
        try:
            image, p = checked(*pair)
        except ValueError as error:
            raise ValueError(f"image {i}: {error}") from error
        if p.is_cuda:
            on_gpu.append((image, p))
    if on_gpu and len(on_gpu) == len(pairs) and settings.get("backend") in (None, "lattice"):
        return _batch_on_gpu(on_gpu, CrfSettings(**{**settings, "backend": "lattice"}))
    threads = torch.get_num_threads() if threads is None else threads
    check_whole(1, threads=threads)
    at_once = max(1, min(threads, len(pairs)))
    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(lambda pair: dense_crf(*pair, threads=threads // at_once, **settings), pairs))


def _batch_on_gpu(pairs: list[tuple[Tensor, Tensor]], settings: CrfSettings) -> list[Tensor]:
    """Marginals of each image (H, W, 3) with its probabilities (L, H, W)."""
    of_shape: dict[tuple, list[int]] = {}
    for i, (_, probabilities) in enumerate(pairs):
        of_shape.setdefault((probabilities.device, *probabilities.shape), []).append(i)
    found = {}
    for (device, *_), indices in of_shape.items():
        planes = torch.stack([pairs[i][0].to(device) for i in indices]).permute(0, 3, 1, 2)
        probabilities = torch.stack([pairs[i][1] for i in indices])
        arguments = int(settings.iterations), settings.gaussian, settings.bilateral, lattice_form(device)
        marginals = torch_lattice.mean_field_batch(planes, probabilities, *arguments)
        found.update(zip(indices, marginals, strict=True))
    return [found[i] for i in range(len(pairs))]


@torch.library.custom_op("getam::mean_field", mutates_args=(), device_types="cpu")
def _mean_field(
    image_rgb: Tensor,
    probabilities: Tensor,
    iterations: int,
    gaussian: list[float],
    bilateral: list[float],
    negligible: float,
    threads: int,
) -> Tensor:
    """Image (3, H, W), probabilities (L, H, W) -> (L, H, W)."""
    return _native.mean_field(image_rgb, probabilities, iterations, gaussian, bilateral, negligible, threads)


@_mean_field.register_kernel("cuda")
def _mean_field_on_gpu(image_rgb, probabilities, iterations, gaussian, bilateral, negligible, threads):
    form = lattice_form(probabilities.device)
    return torch_lattice.mean_field(image_rgb, probabilities, iterations, gaussian, bilateral, form)


@_mean_field.register_fake
def _(image_rgb, probabilities, iterations, gaussian, bilateral, negligible, threads):
    return torch.empty_like(probabilities, dtype=torch.float32, memory_format=torch.contiguous_format)
