"""Classification heads: class scores, and each position's contribution to them."""

import torch
from torch import Tensor, nn


class PooledClassifier(nn.Module):
    """The paper's classifier: global average of tap 4's map (B, width, H/32, W/32), Linear -> (B, C)."""

    def __init__(self, width: int, num_classes: int):
        super().__init__()
        self.linear = nn.Linear(width, num_classes)

    def forward(self, tap: Tensor) -> Tensor:
        return self.linear(tap.mean((2, 3)))

    def evidence(self, tap: Tensor) -> Tensor:
        """Each position's contribution to each class, without bias: (B, C, H/32, W/32). CAM is its positive part."""
        return torch.einsum("bdhw,cd->bchw", tap, self.linear.weight.to(tap.dtype))


class ClassTokenClassifier(nn.Module):
    """Linear on the class token of the last block's normalised tokens (B, N, D) -> (B, C).

    For networks trained from scratch: through the pooled map their class token learns nothing.
    """

    def __init__(self, dim: int, num_classes: int, prefix_tokens: int):
        super().__init__()
        self.prefix_tokens = prefix_tokens
        self.linear = nn.Linear(dim, num_classes)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.linear(tokens[:, 0])

    def evidence(self, tokens: Tensor) -> Tensor:
        """The classifier applied to each patch token, without the bias: (B, C, patches)."""
        return torch.einsum("bnd,cd->bcn", tokens[:, self.prefix_tokens :], self.linear.weight.to(tokens.dtype))


class _TimmHead:
    """The linear head of a timm vision transformer; of a distilled one, the mean of its two heads."""

    def __init__(self, vit: nn.Module):
        self.vit = vit

    def evidence(self, tokens: Tensor) -> Tensor:
        """The head applied to each patch of the final tokens (B, N, D), without the bias: (B, C, patches)."""
        patches = self.vit.fc_norm(tokens[:, self.vit.num_prefix_tokens :])
        heads = [head for head in (self.vit.head, getattr(self.vit, "head_dist", None)) if head is not None]
        weight = sum(head.weight for head in heads) / len(heads)
        return torch.einsum("bnd,cd->bcn", patches, weight.to(patches.dtype))


class _TimmClassifier(nn.Module):
    """Gives a timm vision transformer the interface of a SegmentationNetwork that activation maps use."""

    def __init__(self, vit: nn.Module):
        super().__init__()
        self.vit = vit
        self.classifier = _TimmHead(vit)

    @property
    def features_module(self) -> nn.Module:
        return self.vit.norm

    def classify(self, images: Tensor) -> Tensor:
        return self.vit(images)


def with_classifier(network: nn.Module) -> nn.Module:
    """The network with the interface that activation maps use: `vit`, `classify`, `classifier`, `features_module`.

    A SegmentationNetwork is returned unchanged, a timm vision transformer in a wrapper.

    Raises:
        TypeError: anything else, such as a network without a class token.
    """
    if hasattr(network, "classify") and hasattr(network, "vit"):
        return network
    missing = _missing_parts(network)
    if not missing:
        return _TimmClassifier(network)
    hint = "; of a parallel wrapper, pass its `module`" if hasattr(network, "module") else ""
    raise TypeError(
        f"{type(network).__name__}: activation maps need a SegmentationNetwork or a timm vision transformer; this "
        f"network has no {' and no '.join(missing)}{hint}"
    )


def _missing_parts(network: nn.Module) -> list[str]:
    """The parts of a timm vision transformer that activation maps need and this network lacks."""
    missing = []
    if getattr(network, "cls_token", None) is None:
        missing.append("class token (cls_token)")
    if not hasattr(network, "blocks"):
        missing.append("transformer blocks with global attention (blocks)")
    if getattr(network, "attn_pool", None) is not None:
        missing.append("head on the class token, as it pools the patches by attention (attn_pool)")
    elif not isinstance(getattr(network, "head", None), nn.Linear):
        missing.append("linear classifier (head)")
    elif _is_projection(network):
        missing.append(f"classifier, as its head is CLIP's projection to {network.head.out_features} numbers")
    return missing


def _is_projection(network: nn.Module) -> bool:
    described = getattr(network, "pretrained_cfg", {})
    pretrained = described.get("num_classes")
    # Fine-tuned ones have the classes of ImageNet: 1k, 12k, 22k.
    return (
        "clip" in described.get("architecture", "")
        and network.head.out_features == pretrained
        and pretrained not in (1000, 11821, 21841)
    )
