"""Mean-field inference as a layer of a network, which is trained with it (Zheng et al., Conditional Random Fields as
Recurrent Neural Networks, 2015). The model is that of `dense_crf` (docs/explanation/method.md section 6)."""

from collections.abc import Callable

import torch
from torch import Tensor, from_numpy, nn

from getam.lattice._native import as_array
from getam.lattice.forms import lattice_form
from getam.lattice.torch_lattice import TorchLattice, bilateral_features, positions, symmetric_weights
from getam.utils.checks import check_shape, check_whole
from getam_lattice.kernels import Kernel
from getam_lattice.settings import check_settings

# Filters values (L, H, W) with a kernel, or with its transpose.
Operator = Callable[[Tensor, bool], Tensor]


class MeanField(nn.Module):
    """Repeats Q <- softmax(s + C (w_g K_g Q + w_b K_b Q)), from Q = softmax(s), with the kernels of `dense_crf`.

    As it is built it is `dense_crf` with every label; training changes C and w. The backward pass is exact: that of the
    lattice is its transpose. It keeps a fixed number of tensors of the size of Q per iteration. Images get no gradient.

    Args:
        iterations: updates of Q.
        labels: L, the number of channels of s.
        gaussian: sigma_xy in pixels and the first value of w_g.
        bilateral: sigma_xy in pixels, sigma_rgb in units of colour and the first value of w_b.

    Attributes:
        weights: (2, L), trainable: w_g and w_b of every label.
        compatibility: (L, L), trainable: C, what label j (column) adds to the score of label i (row); first the
            identity.

    Raises:
        ValueError: settings that do not fit, or, when it is called, shapes that do not.

    >>> layer = MeanField(iterations=2, labels=3)
    >>> marginals = layer(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8))
    >>> marginals.sum(1).mean().round(decimals=4).item()
    1.0
    """

    def __init__(
        self,
        iterations: int,
        labels: int,
        gaussian: tuple[float, float] = (3, 3),
        bilateral: tuple[float, float, float] = (83, 5, 4),
    ):
        super().__init__()
        check_settings(iterations, gaussian, bilateral, 0)
        check_whole(1, labels=labels)
        self.iterations = iterations
        self.sigmas = float(gaussian[0]), (float(bilateral[0]), float(bilateral[1]))
        self.weights = nn.Parameter(torch.tensor([[float(gaussian[1])], [float(bilateral[2])]]).repeat(1, labels))
        self.compatibility = nn.Parameter(torch.eye(labels))

    def forward(self, images_rgb: Tensor, scores: Tensor) -> Tensor:
        """Marginals (B, L, H, W): images_rgb (B, 3, H, W), 0..255; scores s (B, L, H, W), logits or log-probabilities.

        In float32, or in float64 if the scores are.
        """
        return self.scores(images_rgb, scores).softmax(1)

    def scores(self, images_rgb: Tensor, scores: Tensor) -> Tensor:
        """The logits of the marginals, (B, L, H, W), for losses that take logits."""
        check_shape("scores", scores, (len(scores), len(self.compatibility), *images_rgb.shape[2:]))
        check_shape("images_rgb", images_rgb, (len(scores), 3, *scores.shape[2:]))
        dtype = torch.promote_types(scores.dtype, torch.float32)
        with torch.autocast(scores.device.type, enabled=False):
            pairs = zip(images_rgb.detach(), scores.to(dtype), strict=True)
            return torch.stack([self._of_one_image(*pair) for pair in pairs]) if len(scores) else scores.to(dtype)

    def _of_one_image(self, image_rgb: Tensor, unary: Tensor) -> Tensor:
        operators = self._operators(image_rgb, unary)
        weights, compatibility = (x.to(unary.dtype) for x in (self.weights, self.compatibility))
        scores = unary
        for _ in range(self.iterations):
            q = scores.softmax(0)
            filtered = sum(
                weight[:, None, None] * _Filter.apply(q, operator, False)
                for weight, operator in zip(weights, operators, strict=True)
            )
            scores = unary + torch.einsum("ij,jhw->ihw", compatibility, filtered)
        return scores

    def _operators(self, image_rgb: Tensor, like: Tensor) -> list[Operator]:
        """The Gaussian and the bilateral kernel of one image, for values of the type and on the device of `like`."""
        gaussian_xy, (bilateral_xy, bilateral_rgb) = self.sigmas
        height, width = like.shape[1:]
        if like.device.type == "cpu" and like.dtype == torch.float32:
            threads = torch.get_num_threads()
            planes, sigmas = as_array(image_rgb), (bilateral_rgb,) * 3
            kernels = [
                Kernel.of_image(height, width, (gaussian_xy,) * 2, threads=threads),
                Kernel.of_image(height, width, (bilateral_xy,) * 2, planes, sigmas, threads=threads),
            ]
            return [_compiled(kernel, threads) for kernel in kernels]
        image_rgb = image_rgb.to(like.device)
        features = [
            positions(height, width, gaussian_xy, like.device),
            bilateral_features(image_rgb, bilateral_rgb, bilateral_xy),
        ]
        return [_on_device(lattice_form(like.device)(points), like.dtype) for points in features]


def _compiled(kernel: Kernel, threads: int) -> Operator:
    return lambda values, transposed: from_numpy(kernel.filter(as_array(values), transposed, threads))


def _on_device(lattice: TorchLattice, dtype: torch.dtype) -> Operator:
    lattice.weights = lattice.weights.to(dtype)
    weights = symmetric_weights(lattice)

    def operate(values: Tensor, transposed: bool) -> Tensor:
        return lattice.filter(values.flatten(1).T, transposed, weights).T.reshape(values.shape)

    return operate


class _Filter(torch.autograd.Function):
    """A linear operator whose gradient is its transpose."""

    @staticmethod
    def forward(ctx, values: Tensor, operator: Operator, transposed: bool) -> Tensor:
        ctx.operator, ctx.transposed = operator, transposed
        return operator(values, transposed)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return _Filter.apply(gradient.contiguous(), ctx.operator, not ctx.transposed), None, None
