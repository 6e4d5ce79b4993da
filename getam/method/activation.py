"""GETAM and the activation maps it is compared with.

docs/explanation/method.md, section 2; the paper's equation 2 and Table 1.

With A = softmax(scale q k^T) of a block's head, Y = A V its output, S the score of a class and G = dS/dA, the class
token's row is all that a map needs: a(j) = A[0, j] and g(j) = G[0, j] = (dS/dY[0]) . v_j over the patch tokens j. So
neither A nor G is formed: fused attention runs, q, k, v and Y are recorded during the forward pass, and dS/dY comes
from one backward. Products of whole matrices (`matmul`, the rollouts) are computed as row vector times matrix, some
rows at a time.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from getam.config.backbone_specs import released_start_layer
from getam.config.choices import FUSIONS, HEADS, METHODS
from getam.method.attention import AttentionLayer, AttentionRecorder, ClassRows, class_rows
from getam.method.present import PresentClasses
from getam.models.classifiers import with_classifier
from getam.models.runtime import at_least_float32, without_checkpointing
from getam.utils.checks import check_choice, check_shape

_FUSED_METHODS = METHODS[:3]

# Rows of an attention matrix held at a time where whole matrices are needed.
_ROWS = 128


def activation_maps(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    method: str = "getam",
    start_layer: int | None = None,
    fusion: str = "sum",
    heads: str = "released",
) -> Tensor:
    """Activation maps: where the network sees each class that an image is labelled with.

    One forward without the decoder, without a graph below `start_layer`, then one backward per rank: the k-th present
    class of all images at once. No weight gradient is computed or changed. Works under autocast. The network stays in
    its mode; call `eval()` first, so that a map does not depend on the other images of the batch and BatchNorm's
    running statistics do not change.

    Args:
        network: a SegmentationNetwork, or any timm vision transformer with a class token and a linear head.
        images: normalised, (B, 3, H, W).
        labels: (B, C), above 0 where the image has the class.
        method: a name of `METHODS`:
            getam: mean_h relu(g a) * mean_h relu(g).
            attention_gradient: mean_h relu(g a).
            grad_cam: mean_h relu(w_h a), with w_h the mean of the whole matrix G_h.
            cam: the positive part of the classifier's weights applied to the features that it pools.
            rollout: the class token's row of the product of (mean_h A + I) / 2; identical for all classes.
            transformer_attribution: the class token's row of the product of mean_h relu(G A) + I.
        start_layer: first block to use. None: that of the released recipe, the last six blocks, for `getam` and
            `attention_gradient`, and all blocks for the others; `cam` uses none. `Recipe.first_block` gives a recipe's.
        fusion: over blocks, for the first three methods: `sum`; `product` of the maps; `matmul`, the class token's row
            of the product of the N x N maps, last block leftmost. The latter two are divided by a maximum after each
            factor, because six raw factors (about 1e-5 each) underflow in float32: they are right up to a positive
            factor.
        heads: `released`, or `paper`: a and g are averaged over the heads before anything else.

    Returns:
        (B, C, rows, columns) of the token grid, (H/16, W/16) with the paper's backbones; float32, at least 0, and 0
        where labels is 0. Not normalised.

    Raises:
        ValueError: an unknown name, shapes that do not fit, or a start_layer beyond the network.
        TypeError: a network without class-token attention.

    >>> network = build_model("vit_micro_hybrid", num_classes=2, decoder_width=16).eval()
    >>> labels = torch.tensor([[1, 0]])
    >>> maps = activation_maps(network, torch.rand(1, 3, 64, 64), labels)
    >>> maps.shape, maps[0, 1].max().item()
    (torch.Size([1, 2, 8, 8]), 0.0)
    """
    if len(labels) != len(images):
        raise ValueError(f"labels: expected a row for each of {len(images)} images, got {len(labels)}")
    record = ActivationRecord(network, method, start_layer, fusion, heads)
    checkpointing = without_checkpointing(network)
    with torch.inference_mode(False), torch.enable_grad(), _frozen(network), checkpointing:
        with record._beginning_at_start_layer():
            class_logits = record.network.classify(images)
        return record.maps(class_logits, labels)


class ActivationRecord:
    """Maps from a forward pass that is needed anyway, as in the joint phase, where the losses share it:

        record = ActivationRecord(network)
        with record:
            class_logits, seg_logits = network(images)
        maps = record.maps(class_logits, labels)  # before backward()

    It can be entered again for the next step. Arguments and errors are those of `activation_maps`.

    >>> network = build_model("vit_micro_hybrid", num_classes=2, decoder_width=16).eval()
    >>> record = ActivationRecord(network)
    >>> with record:
    ...     class_logits, seg_logits = network(torch.rand(1, 3, 64, 64))
    >>> record.maps(class_logits, torch.tensor([[1, 0]])).shape
    torch.Size([1, 2, 8, 8])
    """

    def __init__(
        self,
        network: nn.Module,
        method: str = "getam",
        start_layer: int | None = None,
        fusion: str = "sum",
        heads: str = "released",
    ):
        check_choice("method", method, METHODS)
        check_choice("fusion", fusion, FUSIONS)
        check_choice("heads", heads, HEADS)
        if fusion != "sum" and method not in _FUSED_METHODS:
            raise ValueError(f"fusion {fusion!r} is for {', '.join(_FUSED_METHODS)}; {method} has its own fusion")
        self.network = with_classifier(network)
        self.method, self.fusion, self.heads = method, fusion, heads
        self.start_layer = _start_layer(method, start_layer, len(self.network.vit.blocks))
        self._detach_start = False
        self._attention = AttentionRecorder()
        self._grid: torch.Size | None = None
        self._features: Tensor | None = None

    def __enter__(self) -> "ActivationRecord":
        self._grid = self._features = None
        self._attention = AttentionRecorder(self.start_layer, self._detach_start)
        self._hooks = [
            self.network.vit.patch_embed.proj.register_forward_hook(self._keep_grid),
            self.network.features_module.register_forward_hook(self._keep_features),
        ]
        self._attention.__enter__()
        return self

    def __exit__(self, *exception) -> None:
        self._attention.__exit__(*exception)
        for hook in self._hooks:
            hook.remove()

    @contextmanager
    def _beginning_at_start_layer(self) -> Iterator[None]:
        """Record a forward of frozen weights whose graph begins at `start_layer`, for methods that need a graph."""
        self._detach_start = self.method in _BLOCK_MAPS and not getattr(self.network.vit, "grad_checkpointing", False)
        try:
            with self:
                yield
        finally:
            self._detach_start = False

    def _keep_grid(self, module: nn.Module, inputs: tuple[Tensor], patches: Tensor) -> None:
        self._grid = patches.shape[-2:]

    def _keep_features(self, module: nn.Module, inputs: tuple[Tensor], features: Tensor) -> None:
        self._features = at_least_float32(features.detach())

    def maps(self, class_logits: Tensor, labels: Tensor, classes: PresentClasses | None = None) -> Tensor:
        """The maps of the recorded forward, as `activation_maps` returns them.

        Args:
            class_logits: (B, C) of that forward, with their graph, which is kept for the losses.
            labels: (B, C), above 0 where the image has the class.
            classes: the same as lists; None: read from the labels, which may have to come from the device.

        Raises:
            ValueError: no forward was recorded, it has no graph, or labels have another shape.
        """
        check_shape("labels", labels, class_logits.shape)
        present = (labels > 0).to(class_logits.device)
        # Rows of attention are computed in float32, even if the network ran in bfloat16.
        with torch.autocast(class_logits.device.type, enabled=False):
            if self.method == "cam":
                return self._cam() * present[:, :, None, None]
            self._check_recorded()
            if self.method == "rollout":
                maps = self._rollout(present)
            else:
                maps = self._gradient_maps(class_logits, classes or PresentClasses.of(labels))
            return maps[:, :, self.network.vit.num_prefix_tokens :].unflatten(2, self._grid)

    def _check_recorded(self) -> None:
        blocks = len(self.network.vit.blocks)
        if self._attention.count != blocks:
            raise ValueError(
                f"{self._attention.count} attentions were recorded in {blocks} blocks: maps need one forward inside "
                "the record, of blocks that attend once each by timm's fused attention (on by default)"
            )

    def _gradient_maps(self, class_logits: Tensor, classes: PresentClasses) -> Tensor:
        """(B, C, N), zero where not present: one backward per rank of present class."""
        if not class_logits.requires_grad:
            raise ValueError("class_logits: the recorded forward has no graph; run it with gradients on")
        outputs = [layer.y for layer in self._attention.layers]
        maps = class_logits.new_zeros(
            *class_logits.shape, outputs[0].shape[-2], dtype=at_least_float32(outputs[0]).dtype
        )
        fuse = self._fusion()
        for rank in range(classes.most):
            images, of_rank = classes.of_rank(rank, class_logits.device)
            # Images do not interact, so the gradient of the sum holds each image's own.
            with torch.enable_grad():
                score = class_logits[images, of_rank].sum()
            gradients = torch.autograd.grad(score, outputs, retain_graph=True)
            maps[images, of_rank] = fuse(gradients)[images]
        return maps

    def _fusion(self) -> Callable[[tuple[Tensor, ...]], Tensor]:
        """From dS/dY (B, heads, N, d) of each recorded block to the fused map (B, N)."""
        if self.method in _FUSED_METHODS and self.fusion != "matmul":
            return partial(self._fuse_class_rows, class_rows(self._attention.layers))
        return self._fuse_matrices

    def _fuse_class_rows(self, layers: ClassRows, gradients: tuple[Tensor, ...]) -> Tensor:
        """All blocks at once: their maps are of one shape."""
        gradient = at_least_float32(torch.stack(gradients))
        maps = _BLOCK_MAPS[self.method](layers, gradient, self.heads, slice(0, 1)).squeeze(-2)
        return _scaled(maps).prod(0) if self.fusion == "product" else maps.sum(0)

    def _fuse_matrices(self, gradients: tuple[Tensor, ...]) -> Tensor:
        block_map = _BLOCK_MAPS[self.method]
        blocks = [
            partial(block_map, layer, at_least_float32(gradient), self.heads)
            for layer, gradient in zip(self._attention.layers, gradients, strict=True)
        ]
        return _class_row_of_product(blocks, rescale=self.method != "transformer_attribution")

    def _rollout(self, present: Tensor) -> Tensor:
        row = _class_row_of_product([partial(_rollout_map, layer) for layer in self._attention.layers])
        return row[:, None] * present[:, :, None]

    def _cam(self) -> Tensor:
        if self._features is None:
            raise ValueError("no forward of the network ran inside the record")
        with torch.no_grad():
            evidence = self.network.classifier.evidence(self._features).relu()
        if evidence.ndim == 3:
            return evidence.unflatten(2, self._grid)
        return F.interpolate(evidence, size=self._grid, mode="bilinear", align_corners=True)


# Rows of a block's N x N map: (layer, dS/dY, heads, rows) -> (B, rows, N); of several blocks, (L, B, rows, N).


def _getam(layer: AttentionLayer | ClassRows, gradient: Tensor, heads: str, rows: slice) -> Tensor:
    """Equation 2: attention times gradient, weighted by the gradient once more."""
    a, g = _attention_and_gradient(layer, gradient, heads, rows)
    return (g * a).relu().mean(-3) * g.relu().mean(-3)


def _attention_gradient(layer: AttentionLayer | ClassRows, gradient: Tensor, heads: str, rows: slice) -> Tensor:
    a, g = _attention_and_gradient(layer, gradient, heads, rows)
    return (g * a).relu().mean(-3)


def _grad_cam(layer: AttentionLayer | ClassRows, gradient: Tensor, heads: str, rows: slice) -> Tensor:
    """w_h a, where w_h = mean of G_h = sum_i sum_j (dS/dY_i . v_j) / N^2, a product of two sums."""
    a = layer.rows(rows)
    w = (gradient.sum(-2) * layer.values.sum(-2)).sum(-1)[..., None, None] / gradient.shape[-2] ** 2
    if heads == "paper":
        a, w = a.mean(-3, keepdim=True), w.mean(-3, keepdim=True)
    return (w * a).relu().mean(-3)


def _transformer_attribution(layer: AttentionLayer, gradient: Tensor, heads: str, rows: slice) -> Tensor:
    return _attention_gradient(layer, gradient, heads, rows) + _identity_rows(layer, rows)


def _rollout_map(layer: AttentionLayer, rows: slice) -> Tensor:
    return (layer.rows(rows).mean(1) + _identity_rows(layer, rows)) / 2


_BLOCK_MAPS = {
    "getam": _getam,
    "attention_gradient": _attention_gradient,
    "grad_cam": _grad_cam,
    "transformer_attribution": _transformer_attribution,
}


def _attention_and_gradient(
    layer: AttentionLayer | ClassRows, gradient: Tensor, heads: str, rows: slice
) -> tuple[Tensor, Tensor]:
    """Rows of A and of G = dS/dA, (..., heads, rows, N); averaged to one head for the paper's formula."""
    a = layer.rows(rows)
    g = gradient[..., rows, :] @ layer.values.transpose(-2, -1)
    if heads == "paper":
        return a.mean(-3, keepdim=True), g.mean(-3, keepdim=True)
    return a, g


def _identity_rows(layer: AttentionLayer, rows: slice) -> Tensor:
    numbers = torch.arange(layer.v.shape[2], device=layer.v.device)
    return (numbers[rows, None] == numbers).to(layer.values.dtype)


def _class_row_of_product(blocks: list[Callable[[slice], Tensor]], rescale: bool = False) -> Tensor:
    """Row 0 of M_last ... M_first, (B, N), for blocks that give rows of their M; never a whole matrix.

    With `rescale` the row is divided by its maximum after each block.
    """
    row = blocks[-1](slice(0, 1)).squeeze(1)
    row = _scaled(row) if rescale else row
    tokens = row.shape[1]
    pieces = [slice(start, min(start + _ROWS, tokens)) for start in range(0, tokens, _ROWS)]
    for block in reversed(blocks[:-1]):
        row = sum(torch.einsum("br,brn->bn", row[:, piece], block(piece)) for piece in pieces)
        row = _scaled(row) if rescale else row
    return row


def _scaled(maps: Tensor) -> Tensor:
    """Divided by the maximum over the last dimension, zeros left alone."""
    return maps / maps.amax(-1, keepdim=True).clamp_min(torch.finfo(maps.dtype).tiny)


def _start_layer(method: str, start_layer: int | None, depth: int) -> int:
    if method == "cam":
        return depth  # no attention is kept
    if start_layer is None:
        return released_start_layer(depth) if method in ("getam", "attention_gradient") else 0
    if start_layer not in range(depth):
        raise ValueError(f"start_layer: expected 0 to {depth - 1}, got {start_layer}")
    return start_layer


@contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    """No parameter asks for a gradient inside; afterwards the same ones do as before."""
    asking = [parameter for parameter in network.parameters() if parameter.requires_grad]
    try:
        for parameter in asking:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in asking:
            parameter.requires_grad_(True)
