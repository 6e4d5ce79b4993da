"""The dense CRF on the CPU alone: by the compiled lattice or by pydensecrf. It does not depend on the GPU's code."""

import numpy as np
import torch
from torch import Tensor

from getam.lattice import _native
from getam.lattice.settings import CrfSettings
from getam.utils.checks import check_shape
from getam_lattice.settings import check_probabilities

# pydensecrf takes -log(p), which has to be finite. The lattice clamps at the same value.
_SMALLEST_PROBABILITY = 1e-20


def dense_crf_on_cpu(image_rgb: np.ndarray, probabilities: np.ndarray, settings: CrfSettings) -> Tensor:
    """`dense_crf` with as many threads as torch uses: image (H, W, 3), probabilities (L, H, W) -> (L, H, W).

    The order of the channels is the image's own: `settings.bgr` is not looked at.

    Raises:
        ValueError: a shape or type that does not fit, or probabilities that do not sum to 1.
        ImportError: backend "pydensecrf" without that package.
    """
    image, p = checked(image_rgb, probabilities)
    if settings.backend == "pydensecrf":
        return with_pydensecrf(image, p, settings.iterations, settings.gaussian, settings.bilateral)
    arguments = settings.iterations, settings.gaussian, settings.bilateral, settings.negligible
    return _native.mean_field(image.permute(2, 0, 1), p, *arguments, torch.get_num_threads())


def checked(image_rgb: np.ndarray | Tensor, probabilities: np.ndarray | Tensor) -> tuple[Tensor, Tensor]:
    """The image uint8 (H, W, 3) and the probabilities float32 (L, H, W); `dense_crf_on_cpu` has the errors."""
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


def with_pydensecrf(image: Tensor, probabilities: Tensor, iterations: int, gaussian, bilateral) -> Tensor:
    """Marginals (L, H, W) by pydensecrf, of what `checked` returns. Raises ImportError without that package."""
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
