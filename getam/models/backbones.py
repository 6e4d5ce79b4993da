"""The vision transformers of the paper, and the features that the decoder taps."""

from functools import cache, partial
from typing import Literal, NamedTuple

import timm
import torch
import torch.nn.functional as F
from timm.layers import HybridEmbed
from timm.models import VisionTransformer
from torch import Tensor, nn

from getam.config.backbone_specs import BackboneSpec
from getam.constants import IMAGE_MEAN, IMAGE_STD
from getam.models.standardisation import standardised_together, use_released_standardisation

WeightStandardisation = Literal["released", "paper"]

# Strides of the decoder's taps 1 to 4, the same for every transformer.
TAP_STRIDES = {"1": 4, "2": 8, "3": 16, "4": 32}


class ConvStem(nn.Module):
    """Three strided 3x3 convolutions with BatchNorm, (B, 3, H, W) -> (B, 96, H/8, W/8): the stem of `vit_micro_hybrid`.

    A transformer trained from scratch on few images learns much faster with such a stem than from plain patches. It
    has the parts of timm's ResNetV2 (`stem`, `stages`, `norm`), so that both are tapped alike.
    """

    def __init__(self, widths: tuple[int, int, int] = (24, 48, 96)):
        super().__init__()
        channels = (3, *widths)
        self.num_features = widths[-1]
        self.stem, *stages = (
            nn.Sequential(
                nn.Conv2d(channels[i], channels[i + 1], 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(channels[i + 1]),
                nn.ReLU(),
            )
            for i in range(3)
        )
        self.stages = nn.Sequential(*stages)
        self.norm = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(self.stages(self.stem(images)))


def _create(spec: BackboneSpec, pretrained: bool) -> VisionTransformer:
    """The timm model without its classifier."""
    if spec.timm_name is not None:
        return timm.create_model(spec.timm_name, pretrained=pretrained, num_classes=0)
    if pretrained:
        raise ValueError("vit_micro_hybrid is trained from scratch: there are no pretrained weights for it")
    return VisionTransformer(
        img_size=64,
        patch_size=1,
        embed_dim=96,
        depth=4,
        num_heads=3,
        num_classes=0,
        embed_layer=partial(HybridEmbed, backbone=ConvStem()),
    )


class Features(NamedTuple):
    """The tapped features of a backbone.

    stages: feature maps (B, channels, H/4, W/4) and (B, channels, H/8, W/8) of the convolutional part; [] without one.
    tokens: outputs (B, N, D) of the tapped blocks, prefix tokens first, class token at 0.
    grid:   rows and columns of the patch tokens.
    """

    stages: list[Tensor]
    tokens: list[Tensor]
    grid: tuple[int, int]


class Backbone(nn.Module):
    """A timm vision transformer that takes any image size and returns its tapped features.

    docs/explanation/method.md, section 1. The position embedding is resized bilinearly at every forward from its stored
    square grid; that of the prefix tokens stays as it is.
    """

    def __init__(self, spec: BackboneSpec, pretrained: bool, weight_standardisation: WeightStandardisation):
        super().__init__()
        self.vit = _create(spec, pretrained)
        self.tapped_stages = spec.stages
        self.tapped_blocks = spec.blocks
        self.widths = spec.widths
        released = weight_standardisation == "released"
        self._standardised = use_released_standardisation(self.vit.patch_embed) if released else []

    @property
    def stride(self) -> int:
        """Image pixels per patch token along one side."""
        return self.vit.feature_info[0]["reduction"]

    def forward(self, images: Tensor) -> Features:
        """The `Features` of normalised images (B, 3, H, W). Raises ValueError unless sides are multiples of 32."""
        check_images(images)
        patches, stages = self._embed(images)
        grid = patches.shape[-2], patches.shape[-1]
        tokens = torch.cat([*self._prefix(len(images)), patches.flatten(2).transpose(1, 2)], dim=1)
        tokens = self.vit.norm_pre(self.vit.pos_drop(tokens + self._position_embedding(grid)))
        tapped = []
        for index, block in enumerate(self.vit.blocks):
            tokens = block(tokens)
            if index in self.tapped_blocks:
                tapped.append(tokens)
        return Features(stages, tapped, grid)

    def _embed(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        embed = self.vit.patch_embed
        if not self.tapped_stages:
            return embed.proj(images), []
        stages = []
        with standardised_together(self._standardised):
            x = embed.backbone.stem(images)
            for stage in embed.backbone.stages:
                x = stage(x)
                stages.append(x)
        return embed.proj(embed.backbone.norm(x)), stages[: self.tapped_stages]

    def _prefix(self, batch: int) -> list[Tensor]:
        tokens = [self.vit.cls_token]
        if getattr(self.vit, "dist_token", None) is not None:
            tokens.append(self.vit.dist_token)
        return [token.expand(batch, -1, -1) for token in tokens]

    def _position_embedding(self, grid: tuple[int, int]) -> Tensor:
        prefix = self.vit.num_prefix_tokens
        positions = self.vit.pos_embed
        stored = self.vit.patch_embed.grid_size
        if grid == tuple(stored):
            return positions
        squares = positions[:, prefix:].transpose(1, 2).unflatten(2, stored)
        resized = F.interpolate(squares, size=grid, mode="bilinear", align_corners=False)
        return torch.cat([positions[:, :prefix], resized.flatten(2).transpose(1, 2)], dim=1)


def normalise_images(images_rgb: Tensor) -> Tensor:
    """The networks' input, float32 (B, 3, H, W), from images 0..255 of any type and the same shape.

    >>> normalise_images(torch.full((1, 3, 1, 1), 255)).flatten()
    tensor([2.2489, 2.4286, 2.6400])
    """
    mean, std = _image_statistics(images_rgb.device)
    return (images_rgb.float() / 255 - mean) / std


@cache
def _image_statistics(device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation, (3, 1, 1), copied to a device once: a copy makes the host wait."""
    with torch.inference_mode(False):  # others may need gradients
        mean, std = (torch.tensor(x, device=device).view(3, 1, 1) for x in (IMAGE_MEAN, IMAGE_STD))
        return mean, std


def check_images(images: Tensor) -> None:
    """Raises a ValueError unless they are (B, 3, H, W) with sides that are multiples of 32."""
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images: expected shape (B, 3, H, W), got {tuple(images.shape)}")
    height, width = images.shape[-2:]
    if height % 32 or width % 32 or not height or not width:
        raise ValueError(f"images: sides must be multiples of 32, got {height} x {width} (H x W)")
