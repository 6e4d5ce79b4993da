"""Records self-attention during a forward pass, fused kernels included (docs/explanation/method.md section 2)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from getam.models.runtime import at_least_float32


@dataclass
class AttentionLayer:
    """One recorded self-attention: queries, keys, values and the output Y = A V before the projection.

    All are (B, heads, N, d), with A = softmax(scale q k^T + bias). `bias` broadcasts to (B, heads, N, N).
    """

    q: Tensor
    k: Tensor
    v: Tensor
    y: Tensor
    bias: Tensor | None
    scale: float

    def rows(self, rows: slice) -> Tensor:
        """These rows of A, (B, heads, rows, N), detached and in at least float32."""
        q, k = (at_least_float32(x.detach()) for x in (self.q[:, :, rows], self.k))
        scores = self.scale * q @ k.transpose(-2, -1)
        if self.bias is not None:
            scores = scores + self.bias.detach().expand(*scores.shape[:2], -1, -1)[:, :, rows]
        return scores.softmax(-1)

    @property
    def values(self) -> Tensor:
        """The values v, detached and in at least float32."""
        return at_least_float32(self.v.detach())


@dataclass
class ClassRows:
    """The class token's row of A, and the values, of L recorded blocks: (L, B, heads, 1, N) and (L, B, heads, N, d)."""

    a: Tensor
    values: Tensor

    def rows(self, rows: slice) -> Tensor:
        """The row of A; there is no other."""
        return self.a


def class_rows(layers: list[AttentionLayer]) -> ClassRows:
    """Of blocks whose tensors have one shape, all at once: on a GPU launches cost more than copies."""
    q = torch.stack([layer.scale * at_least_float32(layer.q.detach()[:, :, :1]) for layer in layers])
    k, v = (at_least_float32(torch.stack([getattr(layer, x).detach() for layer in layers])) for x in "kv")
    scores = q @ k.transpose(-2, -1)
    if any(layer.bias is not None for layer in layers):
        heads = scores.shape[1:3]
        scores = scores + torch.stack([_class_row_bias(layer, heads) for layer in layers])
    return ClassRows(scores.softmax(-1), v)


def _class_row_bias(layer: AttentionLayer, heads: torch.Size) -> Tensor:
    """(B, heads, 1, N)."""
    if layer.bias is None:
        return layer.k.new_zeros(*heads, 1, layer.k.shape[-2])
    return layer.bias.detach().expand(*heads, -1, -1)[:, :, :1]


class AttentionRecorder(TorchFunctionMode):
    """Records every self-attention that runs inside the `with` block, fused kernels included.

    It intercepts ``scaled_dot_product_attention``, through which all of timm's transformers compute attention, so it
    does not depend on their modules: query normalisation, rotary positions and relative-position bias are included.

    Args:
        start_layer: attentions before this one, in the order they run, are counted but not kept.
        detach_start: let the graph begin at the output of attention `start_layer`. With frozen weights everything
            before it runs without a graph.

    Attributes:
        count: self-attentions that ran.
        layers: the recorded ones, from `start_layer` on.
    """

    def __init__(self, start_layer: int = 0, detach_start: bool = False):
        super().__init__()
        self.start_layer = start_layer
        self.detach_start = detach_start
        self.count = 0
        self.layers: list[AttentionLayer] = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is not F.scaled_dot_product_attention:
            return function(*args, **kwargs)
        return self._attend(function, *args, **kwargs)

    def _attend(self, attention, query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, **kwargs):
        y = attention(query, key, value, attn_mask, dropout_p, is_causal, **kwargs)
        if query.shape != key.shape or query.shape[-2] == 1:
            return y  # attention pooling, not self-attention
        index, self.count = self.count, self.count + 1
        if index < self.start_layer:
            return y
        if dropout_p or is_causal:
            raise ValueError("attention maps need attention without dropout and without a causal mask")
        if index == self.start_layer and self.detach_start:
            y = y.detach().requires_grad_()
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype).masked_fill_(~attn_mask, float("-inf"))
        scale = kwargs.get("scale") or query.shape[-1] ** -0.5
        self.layers.append(AttentionLayer(query, key, value, y, attn_mask, scale))
        return y
