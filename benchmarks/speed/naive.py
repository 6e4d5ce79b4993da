"""Activation maps the way they are usually computed: full N x N matrices, one backward per (image, class) pair.

benchmarks/speed/activation.py measures it, and tests/method/test_activation.py takes it as the truth. It is written
from the definitions (docs/explanation/method.md section 2) with timm's unfused attention and shares no code with
getam.method.activation.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def full_attention(vit: nn.Module) -> Iterator[list[Tensor]]:
    """Runs timm's unfused attention inside the block; collects each block's A, (B, heads, N, N), in the list."""
    attentions = [block.attn for block in vit.blocks]
    matrices: list[Tensor] = []
    hooks = [a.attn_drop.register_forward_hook(lambda *call: matrices.append(call[2])) for a in attentions]
    fused = [a.fused_attn for a in attentions]
    try:
        for attention in attentions:
            attention.fused_attn = False
        yield matrices
    finally:
        for attention, hook, was_fused in zip(attentions, hooks, fused, strict=True):
            attention.fused_attn = was_fused
            hook.remove()


def naive_maps(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    method: str = "getam",
    start_layer: int = 0,
    fusion: str = "sum",
    heads: str = "released",
    weight_gradients: bool = False,
    whole_forward: bool = False,
) -> Tensor:
    """Maps (B, C, rows, columns) of the token grid; see `getam.method.activation.activation_maps` for the arguments.

    weight_gradients: call `backward()`, which also computes the gradient of every weight, as in code that takes the
        attention gradients from hooks; otherwise the attention gradients alone.
    whole_forward: also run the decoder, which maps do not need, as the released code does.
    """
    vit = getattr(network, "vit", network)
    with full_attention(vit) as matrices:
        if whole_forward:
            logits, _ = network(images)
        else:
            logits = network.classify(images) if hasattr(network, "classify") else network(images)
    matrices = matrices[start_layer:]
    for matrix in matrices:
        matrix.retain_grad()
    prefix = vit.num_prefix_tokens
    rows = round(((matrices[0].shape[-1] - prefix) * images.shape[2] / images.shape[3]) ** 0.5)
    columns = (matrices[0].shape[-1] - prefix) // rows
    maps = torch.zeros(*labels.shape, rows, columns, dtype=torch.promote_types(logits.dtype, torch.float32)).to(
        logits.device
    )
    for image, category in torch.nonzero(labels).tolist():
        if weight_gradients:
            for matrix in matrices:
                matrix.grad = None
            logits[image, category].backward(retain_graph=True)
            gradients = [matrix.grad for matrix in matrices]
        else:
            gradients = torch.autograd.grad(logits[image, category], matrices, retain_graph=True)
        pairs = [(a[image].detach(), g[image]) for a, g in zip(matrices, gradients, strict=True)]
        maps[image, category] = fused_map(pairs, method, fusion, heads)[prefix:].view(rows, -1)
    return maps


def fused_map(pairs: list[tuple[Tensor, Tensor]], method: str, fusion: str, heads: str) -> Tensor:
    """The class token's row (N,) from each block's A and G, (heads, N, N)."""
    identity = torch.eye(pairs[0][0].shape[-1], dtype=pairs[0][0].dtype)
    if method == "rollout":
        return chain([(a.mean(0) + identity) / 2 for a, _ in pairs])[0]
    blocks = [block_map(a, g, method, heads) for a, g in pairs]
    if method == "transformer_attribution":
        return chain([block + identity for block in blocks])[0]
    if fusion == "matmul":
        return chain(blocks)[0]
    stacked = torch.stack(blocks)[:, 0]
    return stacked.sum(0) if fusion == "sum" else stacked.prod(0)


def block_map(a: Tensor, g: Tensor, method: str, heads: str) -> Tensor:
    """The N x N map of one block."""
    if method == "grad_cam":
        g = g.mean((1, 2), keepdim=True).expand_as(g)
    if heads == "paper":
        a, g = a.mean(0, keepdim=True), g.mean(0, keepdim=True)
    weighted = (g * a).relu().mean(0)
    return weighted * g.relu().mean(0) if method == "getam" else weighted


def chain(matrices: list[Tensor]) -> Tensor:
    """M_last ... M_first."""
    product = matrices[0]
    for matrix in matrices[1:]:
        product = matrix @ product
    return product
