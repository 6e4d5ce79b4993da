"""Lets torchvision be imported beside a CPU build of torch.

timm imports torchvision, and the wheel of torchvision on the package index is compiled for CUDA: beside a torch without
CUDA its operator library does not load, and ``import torchvision`` then stops because it wants to describe the
operators ``torchvision::nms`` and ``torchvision::qnms`` that nobody has declared. Neither is ever called here, so
declaring them is all it takes. Where the library does load it declares them itself, and nothing is done.
"""

import importlib.util
from pathlib import Path

import torch

_SCHEMAS = {
    "torchvision::nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "torchvision::qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


def declare_missing_operators() -> None:
    """Declare torchvision's two operators unless its own library can do so. Call it before timm is imported."""
    if _library_loads():
        return
    for name, schema in _SCHEMAS.items():
        namespace, operator = name.split("::")
        if not hasattr(getattr(torch.ops, namespace), operator):
            torch.library.define(name, schema)


def _library_loads() -> bool:
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return False
    for library in Path(spec.origin).parent.glob("_C.*"):
        try:
            torch.ops.load_library(library)
        except OSError:
            continue
        return True
    return False
