"""Any vision transformer of timm with a class token as the backbone of GETAM's network.

`getam.models.network` imports it by name, so that an edit here makes no result of the named backbones stale.
"""

from functools import cache, partial
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from timm.layers import PatchEmbed
from timm.models import Beit, Eva, VisionTransformer
from timm.models.beit import gen_relative_position_index
from torch import Tensor, nn

from getam.constants import IMAGE_MEAN, IMAGE_STD
from getam.models.backbones import Features, check_images
from getam.models.weights import CheckpointError, read_state_dict
from getam.utils.checks import suggestion

# timm's modules of ViT, DeiT and DeiT III, EVA and EVA-02, BEiT; DINOv2 is in the first, DINOv3 in that of EVA.
_DYNAMIC = ("vision_transformer", "deit", "eva")
_SUPPORTED = (*_DYNAMIC, "beit")
_STRIDES = (4, 8, 16, 32)


class TimmBackbone(nn.Module):
    """A timm transformer that takes normalised images with sides that are multiples of 32, and returns its features.

    Taps: the last block of each quarter of the depth. Widths of the reassembled taps: 1/8, 1/4, 1/2 and 1 of the width
    of the transformer, as of the paper's ViT-B. A patch whose side is no power of two, such as DINOv2's 14, counts
    as the nearest one (16): the image is resized inside, so that the grid of the tokens has this stride. Positions are
    resized at every forward, absolute ones by timm (bicubic), BEiT's relative ones bilinearly.

    Images are normalised as `getam.normalise_images` does it, with ImageNet's statistics; inside they get those of the
    weights, which timm's `pretrained_cfg` has.

    Args:
        name: of timm, such as `vit_small_patch14_reg4_dinov2.lvd142m`.
        pretrained: False, True (timm's weights, a download), or the path of a file of them.

    Raises:
        ValueError: timm has no such model, or it has no class token, no square patches or other blocks than these.
        FileNotFoundError, CheckpointError: the file does not exist or does not fit.
    """

    tapped_stages = 0

    def __init__(self, name: str, pretrained: bool | str | Path):
        super().__init__()
        self.vit = _create(name, pretrained)
        depth, width = len(self.vit.blocks), self.vit.embed_dim
        self.tapped_blocks = tuple(depth * quarter // 4 - 1 for quarter in (1, 2, 3, 4))
        self.widths = (width // 8, width // 4, width // 2, width)
        self.patch = self.vit.patch_embed.patch_size[0]
        self.stride = min(_STRIDES, key=lambda stride: abs(stride - self.patch))
        described = self.vit.pretrained_cfg
        ours, theirs = (IMAGE_MEAN, IMAGE_STD), (described["mean"], described["std"])
        (mean, std), (new_mean, new_std) = ((torch.tensor(x).view(2, 3, 1, 1)) for x in (ours, theirs))
        # x std + mean is the colour from 0 to 1.
        self.register_buffer("_factor", std / new_std, persistent=False)
        self.register_buffer("_offset", (mean - new_mean) / new_std, persistent=False)
        self._relative_grid: tuple[int, int] | None = None
        for block in self.vit.blocks:
            if getattr(block.attn, "relative_position_bias_table", None) is not None:
                block.attn._get_rel_pos_bias = partial(self._relative_bias, block.attn)

    def forward(self, images: Tensor) -> Features:
        """The `Features` of normalised images (B, 3, H, W). Raises ValueError unless sides are multiples of 32."""
        check_images(images)
        grid = images.shape[-2] // self.stride, images.shape[-1] // self.stride
        images = images * self._factor + self._offset
        if self.patch != self.stride:
            size = grid[0] * self.patch, grid[1] * self.patch
            images = F.interpolate(images, size=size, mode="bilinear", align_corners=False)
        self._relative_grid = grid
        tapped = self.vit.forward_intermediates(
            images, list(self.tapped_blocks), return_prefix_tokens=True, output_fmt="NLC", intermediates_only=True
        )
        return Features([], [torch.cat([prefix, patches], dim=1) for patches, prefix in tapped], grid)

    def _relative_bias(self, attention: nn.Module) -> Tensor:
        """BEiT's relative position bias (1, heads, N, N) for the grid of the images, in place of timm's own."""
        table, stored, grid = attention.relative_position_bias_table, attention.window_size, self._relative_grid
        if tuple(stored) != grid:
            (rows, columns), size = ((2 * sides[0] - 1, 2 * sides[1] - 1) for sides in (stored, grid))
            plane = table[: rows * columns].T.unflatten(1, (rows, columns))
            plane = F.interpolate(plane[None], size=size, mode="bilinear", align_corners=True)[0]
            table = torch.cat([plane.flatten(1).T, table[rows * columns :]])  # the last are the class token's
        index = _relative_index(grid, table.device)
        return table[index].permute(2, 0, 1)[None]


@cache
def _relative_index(grid: tuple[int, int], device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # others may need gradients
        return gen_relative_position_index(grid, device)


def _create(name: str, pretrained: bool | str | Path) -> nn.Module:
    """The timm model without its classifier and pooling; `norm` is the one before its own classifier."""
    architecture = name.split(".")[0]
    if not timm.is_model(architecture):
        raise ValueError(f"timm has no model {name!r}; {suggestion(architecture, timm.list_models())}")
    if not timm.models.is_model_in_modules(architecture, _SUPPORTED):
        raise ValueError(
            f"timm:{name}: expected a ViT, DeiT, BEiT, EVA or DINOv2: GETAM needs a class token and blocks with global "
            "attention"
        )
    dynamic = {"dynamic_img_size": True} if timm.models.is_model_in_modules(architecture, _DYNAMIC) else {}
    weights = {}
    if isinstance(pretrained, str | Path):
        weights = {"pretrained_cfg_overlay": {"state_dict": read_state_dict(pretrained)}}
    try:
        vit = timm.create_model(name, pretrained=bool(pretrained), num_classes=0, **dynamic, **weights)
    except (RuntimeError, KeyError) as error:
        if weights:
            raise CheckpointError(f"{pretrained} does not fit timm:{name}: {_one_line(error)}") from error
        raise ValueError(f"timm:{name}: {_one_line(error)}") from error
    _check(name, vit)
    # With pooled patches timm's norm is behind the pooling.
    if isinstance(vit.norm, nn.Identity):
        vit.norm = vit.fc_norm
    vit.fc_norm = nn.Identity()
    if getattr(vit, "attn_pool", None) is not None:
        vit.attn_pool = None
    if isinstance(vit, Beit):
        vit.patch_embed.strict_img_size = False
    return vit


def _check(name: str, vit: nn.Module) -> None:
    """Raises a ValueError that says what the transformer lacks, if GETAM cannot use it."""
    missing = []
    if not isinstance(vit, VisionTransformer | Beit | Eva) or getattr(vit, "cls_token", None) is None:
        missing.append("class token")
    patches = getattr(vit, "patch_embed", None)
    if type(patches) is not PatchEmbed or len(set(patches.patch_size)) != 1:
        missing.append("square patches without a convolutional stem")
    if len(getattr(vit, "blocks", ())) < 4:
        missing.append("four blocks to tap")
    if isinstance(vit, Beit) and vit.pos_embed is not None:
        missing.append("positions that can be resized")
    if missing:
        raise ValueError(f"timm:{name}: GETAM cannot use it, as it has no {' and no '.join(missing)}")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
