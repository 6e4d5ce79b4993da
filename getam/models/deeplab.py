"""DeepLab v2 with ResNet-101 (Chen et al. 2017, arXiv 1606.00915), which the paper trains on GETAM's labels.

`getam.models.network` imports it by name, so that an edit here makes no result of GETAM's own network stale.
"""

from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from getam.models.weights import load_exactly, read_state_dict

SCALES = (1.0, 0.75, 0.5)
DILATIONS = (6, 12, 18, 24)
_NAME = "resnet101.tv_in1k"  # torchvision's architecture and weights
_LEAST = 32  # pixels of a side


class DeepLabV2(nn.Module):
    """`network(images)` as GETAM's network: class logits (B, C) and segmentation logits (B, C + 1, H, W).

    Features of ResNet-101 with output stride 8; four parallel 3x3 convolutions with dilations 6, 12, 18 and 24, which
    are summed; the same network on the image at 1, 0.75 and 0.5 of its size, and the maximum of the three. A class's
    logit is its largest one in the image. There is no attention, so no activation maps.

    Args:
        num_classes: foreground classes C.
        pretrained: False, True (a download), or the path of torchvision's weights. With pretrained weights BatchNorm
            keeps its statistics, scale and shift, as in the published training: a batch of 10 is too small for its own.

    Raises:
        FileNotFoundError, CheckpointError: the file does not exist or does not fit.
    """

    def __init__(self, num_classes: int, pretrained: bool | str | Path = False):
        super().__init__()
        self.backbone = timm.create_model(
            _NAME, pretrained=pretrained is True, output_stride=8, num_classes=0, global_pool=""
        )
        self.classifier = nn.ModuleList(
            nn.Conv2d(self.backbone.num_features, num_classes + 1, 3, padding=dilation, dilation=dilation)
            for dilation in DILATIONS
        )
        for convolution in self.classifier:
            nn.init.normal_(convolution.weight, std=0.01)
            nn.init.zeros_(convolution.bias)
        if isinstance(pretrained, str | Path):
            _load(self.backbone, pretrained)
        self._frozen = bool(pretrained)
        if self._frozen:
            for module in self._batch_norms():
                module.requires_grad_(False)

    def _batch_norms(self) -> list[nn.Module]:
        return [module for module in self.backbone.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]

    def train(self, mode: bool = True) -> "DeepLabV2":
        """As of any module, but frozen BatchNorms stay in eval mode."""
        super().train(mode)
        if self._frozen:
            for module in self._batch_norms():
                module.eval()
        return self

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Of normalised images (B, 3, H, W) with sides from 32 pixels."""
        seg_logits = F.interpolate(self.scales(images)[-1], images.shape[-2:], mode="bilinear", align_corners=True)
        return _class_logits(seg_logits), seg_logits

    def classify(self, images: Tensor) -> Tensor:
        """Class logits (B, C) of normalised images (B, 3, H, W)."""
        return self(images)[0]

    def scales(self, images: Tensor) -> list[Tensor]:
        """The logits (B, C + 1, h, w) that have a loss each: of every scale on its own grid, and the maximum.

        Raises:
            ValueError: images of another shape, or smaller than 32 pixels.
        """
        if images.ndim != 4 or images.shape[1] != 3 or min(images.shape[-2:]) < _LEAST:
            raise ValueError(f"images: expected shape (B, 3, H, W) with sides from {_LEAST}, got {tuple(images.shape)}")
        logits = [self._logits(_scaled(images, scale)) for scale in SCALES]
        size = logits[0].shape[-2:]
        resized = [F.interpolate(each, size, mode="bilinear", align_corners=True) for each in logits]
        return [*logits, torch.stack(resized).amax(0)]

    def _logits(self, images: Tensor) -> Tensor:
        features = self.backbone(images)
        return sum(convolution(features) for convolution in self.classifier)


def _scaled(images: Tensor, scale: float) -> Tensor:
    """Resized so that the corner pixels stay the corners: 321 pixels become 241 and 161."""
    if scale == 1:
        return images
    size = [int((side - 1) * scale) + 1 for side in images.shape[-2:]]
    return F.interpolate(images, size, mode="bilinear", align_corners=True)


def _class_logits(seg_logits: Tensor) -> Tensor:
    return seg_logits[:, 1:].amax((2, 3))


def _load(backbone: nn.Module, path: str | Path) -> None:
    """Loads torchvision's or timm's weights of ResNet-101, without the classifier."""
    state = read_state_dict(path)
    for name, value in backbone.state_dict().items():
        if name.endswith("num_batches_tracked"):  # older files have none, and nothing reads it
            state.setdefault(name, value)
    load_exactly(backbone, state, str(path), unused=[r"fc\..*"])
