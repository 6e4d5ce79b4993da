"""The segmentation network: a transformer, the DPT decoder on its taps, and two heads.

docs/explanation/method.md, section 1.
"""

from importlib import import_module
from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from getam.config.backbone_specs import DEEPLAB, TIMM, backbone_spec, module_of
from getam.models.backbones import TAP_STRIDES, Backbone, WeightStandardisation
from getam.models.classifiers import ClassTokenClassifier, PooledClassifier
from getam.models.decoder import Decoder, Reassemble, SqueezeExcite, double
from getam.models.weights import load_pretrained

Classifier = Literal["pooled", "class_token"]


class SegmentationNetwork(nn.Module):
    """GETAM's network on a `Backbone`, or on a `getam.models.timm_backbones.TimmBackbone`; see `build_model`.

    `network(images)` takes normalised images (B, 3, H, W), H and W multiples of 32, and returns class logits (B, C)
    and segmentation logits (B, C + 1, H, W), background first. `network.classify(images)` returns the class logits
    alone and does not run the decoder.

    >>> network = build_model("vit_micro_hybrid", num_classes=3, decoder_width=16).eval()
    >>> network.classify(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 3])
    """

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int,
        classifier: Classifier,
        decoder_width: int,
    ):
        super().__init__()
        self.backbone = backbone
        vit = self.backbone.vit
        prefix_tokens = vit.num_prefix_tokens
        widths = dict(zip("1234", backbone.widths, strict=True))
        stages = backbone.tapped_stages
        self.stage_taps, self.token_taps = "1234"[:stages], "1234"[stages:]
        self.reassemble = nn.ModuleDict(
            {
                tap: Reassemble(vit.embed_dim, prefix_tokens, widths[tap], self.backbone.stride, TAP_STRIDES[tap])
                for tap in self.token_taps
            }
        )
        self.decoder = Decoder(widths, decoder_width)
        self.squeeze_excite = SqueezeExcite(decoder_width)
        self.segmentation_head = nn.Sequential(
            nn.Conv2d(decoder_width, decoder_width, 3, padding=1, bias=False),
            nn.BatchNorm2d(decoder_width),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Conv2d(decoder_width, num_classes + 1, 1),
        )
        self.classifier_kind = classifier
        if classifier == "pooled":
            self.classifier = PooledClassifier(backbone.widths[-1], num_classes)
            vit.norm = nn.Identity()  # the paper's network does not use the final norm
        else:
            self.classifier = ClassTokenClassifier(vit.embed_dim, num_classes, prefix_tokens)

    @property
    def vit(self) -> nn.Module:
        """The timm transformer."""
        return self.backbone.vit

    @property
    def features_module(self) -> nn.Module:
        """The module whose output the classifier reads."""
        return self.reassemble["4"] if self.classifier_kind == "pooled" else self.vit.norm

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.backbone(images)
        taps = dict(zip(self.stage_taps, features.stages, strict=True))
        for tap, tokens in zip(self.token_taps, features.tokens, strict=True):
            taps[tap] = self.reassemble[tap](tokens, features.grid)
        fused = self.squeeze_excite(self.decoder(taps))
        return self._class_logits(features.tokens[-1], taps["4"]), double(self.segmentation_head(fused))

    def classify(self, images: Tensor) -> Tensor:
        """Class logits (B, C) of normalised images (B, 3, H, W), without running the decoder."""
        features = self.backbone(images)
        tokens = features.tokens[-1]
        tap4 = self.reassemble["4"](tokens, features.grid) if self.classifier_kind == "pooled" else None
        return self._class_logits(tokens, tap4)

    def _class_logits(self, tokens: Tensor, tap4: Tensor | None) -> Tensor:
        if self.classifier_kind == "pooled":
            return self.classifier(tap4)
        return self.classifier(self.vit.norm(tokens))


def build_model(
    backbone: str,
    num_classes: int,
    pretrained: bool | str | Path = False,
    *,
    classifier: Classifier = "pooled",
    decoder_width: int = 256,
    weight_standardisation: WeightStandardisation = "released",
) -> SegmentationNetwork:
    """Build the network of the paper on one of its backbones, or on another one; or DeepLab v2.

    Args:
        backbone: a key of `getam.config.backbone_specs.BACKBONES`: vitb_hybrid, vitb, deit, deit_distilled, vit_tiny or
            vit_micro_hybrid; or `timm:NAME`, a vision transformer of timm with a class token. `deeplab_v2` is a network
            of its own (`getam.models.deeplab`), for which the keyword arguments have no effect.
        num_classes: foreground classes C (VOC 20, COCO 80).
        pretrained: False for random weights, True for timm's ImageNet weights (a download), or the path of a
            safetensors or pth file of the timm model.
        classifier: `pooled` (the paper's: linear on the averaged tap 4) or `class_token` (linear on the class token).
        decoder_width: channels of the decoder.
        weight_standardisation: the recipe's setting; it affects the hybrid alone.

    Raises:
        ValueError: an unknown name or a number that is too small.
        TypeError: `pretrained` is of another type.
        FileNotFoundError, CheckpointError: the file `pretrained` does not exist or does not fit.

    >>> network = build_model("vit_micro_hybrid", num_classes=3, decoder_width=16).eval()
    >>> class_logits, seg_logits = network(torch.zeros(1, 3, 64, 96))
    >>> class_logits.shape, seg_logits.shape
    (torch.Size([1, 3]), torch.Size([1, 4, 64, 96]))
    """
    module = module_of(backbone)
    if not isinstance(pretrained, bool | str | Path):
        raise TypeError(f"pretrained: expected True, False or a path, got {pretrained!r}")
    if num_classes < 1:
        raise ValueError(f"num_classes: expected at least 1, got {num_classes}")
    if decoder_width < 1:
        raise ValueError(f"decoder_width: expected at least 1, got {decoder_width}")
    if classifier not in ("pooled", "class_token"):
        raise ValueError(f"classifier: expected 'pooled' or 'class_token', got {classifier!r}")
    if weight_standardisation not in ("released", "paper"):
        raise ValueError(f"weight_standardisation: expected 'released' or 'paper', got {weight_standardisation!r}")
    if backbone == DEEPLAB:
        return import_module(module).DeepLabV2(num_classes, pretrained)
    if module is not None:
        made = import_module(module).TimmBackbone(backbone.removeprefix(TIMM), pretrained)
        return SegmentationNetwork(made, num_classes, classifier, decoder_width)
    made = Backbone(backbone_spec(backbone), pretrained is True, weight_standardisation)
    network = SegmentationNetwork(made, num_classes, classifier, decoder_width)
    if isinstance(pretrained, str | Path):
        load_pretrained(network.vit, pretrained)
    return network
