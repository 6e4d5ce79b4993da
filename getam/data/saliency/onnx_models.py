"""Published saliency networks in ONNX format, and the input and output conventions of each.

config/archives.yaml lists where the files are.
"""

from dataclasses import dataclass

from getam.constants import IMAGE_MEAN, IMAGE_STD


@dataclass(frozen=True)
class OnnxModel:
    """A network from (1, 3, side, side) to (1, 1, side, side).

    Attributes:
        name: source of `SaliencySettings`, and key of config/archives.yaml.
        file: file name of the published weights.
        sha256: of the published weights.
        licence: of the published weights.
        side: input width and height in pixels; images are resized without regard to their aspect ratio.
        mean, std: normalisation of the RGB channels, after the division below.
        by_brightest: divide the image by its largest value, as U2-Net's training does; otherwise by 255.
        sigmoid: the first output is a logit. Without it the output is a probability already.
        threshold: default threshold of the maps, 0..254.
        memory_mib: peak memory of a process that runs the network on the CPU.
    """

    name: str
    file: str
    sha256: str
    licence: str
    side: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    by_brightest: bool
    sigmoid: bool
    threshold: int
    memory_mib: int


_IMAGENET = {"mean": IMAGE_MEAN, "std": IMAGE_STD}
_U2NET = {"licence": "Apache-2.0", "side": 320, **_IMAGENET, "by_brightest": True, "sigmoid": False, "threshold": 127}

_ALL = (
    # Qin et al., Pattern Recognition 2020; trained on DUTS-TR.
    OnnxModel(
        name="u2net",
        file="u2net.onnx",
        sha256="8d10d2f3bb75ae3b6d527c77944fc5e7dcd94b29809d47a739a7a728a912b491",
        memory_mib=1100,
        **_U2NET,
    ),
    # The small version of the same network.
    OnnxModel(
        name="u2netp",
        file="u2netp.onnx",
        sha256="309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8",
        memory_mib=600,
        **_U2NET,
    ),
    # IS-Net: Qin et al., ECCV 2022.
    OnnxModel(
        name="isnet",
        file="isnet-general-use.onnx",
        sha256="60920e99c45464f2ba57bee2ad08c919a52bbf852739e96947fbb4358c0d964a",
        licence="Apache-2.0",
        side=1024,
        mean=(0.5, 0.5, 0.5),
        std=(1.0, 1.0, 1.0),
        by_brightest=False,
        sigmoid=False,
        threshold=127,
        memory_mib=2400,
    ),
    # Zheng et al., CAAI AIR 2024; the version with a Swin-T backbone.
    OnnxModel(
        name="birefnet",
        file="BiRefNet-general-bb_swin_v1_tiny-epoch_232.onnx",
        sha256="5600024376f572a557870a5eb0afb1e5961636bef4e1e22132025467d0f03333",
        licence="MIT",
        side=1024,
        **_IMAGENET,
        by_brightest=False,
        sigmoid=True,
        threshold=127,
        memory_mib=7200,
    ),
)
MODELS = {model.name: model for model in _ALL}
