"""Mean-field inference of the dense CRF (Kraehenbuehl and Koltun 2011; docs/method.md section 6)."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from getam.lattice import _native, torch_lattice
from getam.lattice.settings import BACKENDS
from getam.utils.checks import check_choice, check_shape, check_whole
from getam_lattice.settings import check_probabilities, check_settings

# pydensecrf takes -log(p), which has to be finite. The lattice clamps at the same value.
_SMALLEST_PROBABILITY = 1e-20


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
    """
    backend = "lattice" if backend is None else backend
    check_choice("backend", backend, BACKENDS)
    image, probabilities = _checked(image_rgb, probabilities)
    check_settings(iterations, gaussian, bilateral, negligible)
    threads = torch.get_num_threads() if threads is None else threads
    check_whole(1, threads=threads)
    if backend == "pydensecrf":
        return _with_pydensecrf(image, probabilities, int(iterations), gaussian, bilateral)
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
    """`dense_crf` of several images of any sizes, as many at once as there are threads.

    With at least as many images as threads, every image is computed by one thread.

    Args:
        images_rgb: of each image (H, W, 3).
        probabilities: of each image (C + 1, H, W).
        threads: None: as many as torch uses.
        settings: those of `dense_crf`.

    Returns:
        the marginals of each image, (C + 1, H, W).

    Raises:
        ValueError: as `dense_crf`; the message names the image by its number.
    """
    pairs = list(zip(images_rgb, probabilities, strict=True))
    for i, pair in enumerate(pairs):
        try:
            _checked(*pair)
        except ValueError as error:
            raise ValueError(f"image {i}: {error}") from error
    threads = torch.get_num_threads() if threads is None else threads
    check_whole(1, threads=threads)
    at_once = max(1, min(threads, len(pairs)))
    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(lambda pair: dense_crf(*pair, threads=threads // at_once, **settings), pairs))


def _checked(image_rgb: np.ndarray | Tensor, probabilities: np.ndarray | Tensor) -> tuple[Tensor, Tensor]:
    image, probabilities = _tensor(image_rgb), _tensor(probabilities)
    if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image_rgb: expected uint8 (H, W, 3), got {image.dtype} {tuple(image.shape)}")
    if probabilities.ndim != 3 or not probabilities.is_floating_point():
        raise ValueError(
            f"probabilities: expected floats (C + 1, H, W), got {probabilities.dtype} {tuple(probabilities.shape)}"
        )
    check_shape("probabilities", probabilities, (len(probabilities), *image.shape[:2]))
    if probabilities.numel() == 0:
        raise ValueError(f"probabilities: expected at least one label and one pixel, got {tuple(probabilities.shape)}")
    probabilities = probabilities.to(torch.float32)
    check_probabilities(probabilities)
    return image, probabilities


def _tensor(values: np.ndarray | Tensor) -> Tensor:
    if isinstance(values, Tensor):
        return values.detach()
    values = np.ascontiguousarray(values)
    return torch.from_numpy(values if values.flags.writeable else values.copy())


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
    return torch_lattice.mean_field(image_rgb, probabilities, iterations, gaussian, bilateral)


@_mean_field.register_fake
def _(image_rgb, probabilities, iterations, gaussian, bilateral, negligible, threads):
    return torch.empty_like(probabilities, dtype=torch.float32, memory_format=torch.contiguous_format)


def _with_pydensecrf(image: Tensor, probabilities: Tensor, iterations: int, gaussian, bilateral) -> Tensor:
    try:
        from pydensecrf.densecrf import DenseCRF2D
    except ImportError as error:
        raise ImportError(
            "backend 'pydensecrf' needs the package pydensecrf2 (pip install pydensecrf2), which provides the module "
            "pydensecrf; it is built with a C++ compiler and Python's headers (Debian and Ubuntu: g++, python3-dev)"
        ) from error
    labels, height, width = probabilities.shape
    crf = DenseCRF2D(width, height, labels)
    unary = -probabilities.cpu().clamp_min(_SMALLEST_PROBABILITY).log().flatten(1)
    crf.setUnaryEnergy(unary.contiguous().numpy())
    crf.addPairwiseGaussian(sxy=gaussian[0], compat=gaussian[1])
    crf.addPairwiseBilateral(
        sxy=bilateral[0], srgb=bilateral[1], compat=bilateral[2], rgbim=image.cpu().contiguous().numpy()
    )
    marginals = np.array(crf.inference(iterations), np.float32)
    return torch.from_numpy(marginals).view_as(probabilities).to(probabilities.device)
