"""The bilateral filter of the dense energy, on the permutohedral lattice (docs/explanation/method.md section 4).

`torch.ops.getam.bilateral_filter` is the operator: C++ (getam_lattice) for tensors on the CPU, Triton kernels or torch
operations (getam/lattice/forms.py) for those on a CUDA device.
"""

import torch
from torch import Tensor

from getam.lattice import _native, torch_lattice
from getam.lattice.forms import lattice_form
from getam.utils.checks import check_positive, check_shape


def bilateral_filter(images_rgb: Tensor, values: Tensor, sigma_rgb: float, sigma_xy: float) -> Tensor:
    """W values, with W the unnormalised Gaussian kernel on (x, y) / sigma_xy and (r, g, b) / sigma_rgb.

    On the permutohedral lattice of Adams, Baek and Davis (2010), normalised as in Kraehenbuehl and Koltun's code: about
    0.6 times the exact sum; apart from that factor it differs by 4 to 8%. W is not symmetric; the gradient is the exact
    transpose.

    Args:
        images_rgb: (B, 3, H, W), in the units of sigma_rgb, usually 0..255. It gets no gradient.
        values: (B, K, H, W), any K.
        sigma_rgb, sigma_xy: standard deviations, in units of colour and in pixels.

    Returns:
        (B, K, H, W), float32: the lattice works in single precision.

    Raises:
        ValueError: shapes that do not fit, an image that is not finite, or a sigma that is too small for the image.

    >>> images_rgb, values = torch.zeros(1, 3, 8, 8), torch.ones(1, 2, 8, 8)
    >>> bilateral_filter(images_rgb, values, sigma_rgb=15, sigma_xy=5).shape
    torch.Size([1, 2, 8, 8])
    """
    if values.ndim != 4:
        raise ValueError(f"values: expected (B, K, H, W), got {tuple(values.shape)}")
    check_shape("images_rgb", images_rgb, (values.shape[0], 3, *values.shape[2:]))
    check_positive(sigma_rgb=sigma_rgb, sigma_xy=sigma_xy)
    if values.is_cuda and values.numel():
        # One lattice for both directions. Its limits refuse what is not finite, without one more wait for the device.
        form = lattice_form(values.device)
        lattice = torch_lattice.bilateral_lattice(images_rgb, float(sigma_rgb), float(sigma_xy), form)
        return torch_lattice.LatticeFilter.apply(values, lattice, False)
    if not torch.isfinite(images_rgb).all():
        raise ValueError("images_rgb: expected finite values")
    return _filter(images_rgb, values.to(torch.float32), float(sigma_rgb), float(sigma_xy), False)


@torch.library.custom_op("getam::bilateral_filter", mutates_args=(), device_types="cpu")
def _filter(images_rgb: Tensor, values: Tensor, sigma_rgb: float, sigma_xy: float, transposed: bool) -> Tensor:
    return _native.bilateral_filter(images_rgb, values, sigma_rgb, sigma_xy, transposed, torch.get_num_threads())


@_filter.register_kernel("cuda")
def _filter_on_gpu(images_rgb: Tensor, values: Tensor, sigma_rgb: float, sigma_xy: float, transposed: bool) -> Tensor:
    form = lattice_form(values.device)
    return torch_lattice.bilateral_filter(images_rgb, values, sigma_rgb, sigma_xy, transposed, form)


@_filter.register_fake
def _(images_rgb: Tensor, values: Tensor, sigma_rgb: float, sigma_xy: float, transposed: bool) -> Tensor:
    return torch.empty_like(values, dtype=torch.float32, memory_format=torch.contiguous_format)


def _keep_for_backward(ctx, inputs, output) -> None:
    images_rgb, _, ctx.sigma_rgb, ctx.sigma_xy, ctx.transposed = inputs
    ctx.save_for_backward(images_rgb)


def _backward(ctx, gradient: Tensor):
    (images_rgb,) = ctx.saved_tensors
    return None, _filter(images_rgb, gradient, ctx.sigma_rgb, ctx.sigma_xy, not ctx.transposed), None, None, None


_filter.register_autograd(_backward, setup_context=_keep_for_backward)
