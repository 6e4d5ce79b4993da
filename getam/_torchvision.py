"""Lets torchvision be imported beside a CPU build of torch.

timm imports torchvision, and the wheel of torchvision on the package index is compiled for CUDA. Beside a torch without
CUDA its operator library does not load, and ``import torchvision`` fails because the operators ``torchvision::nms`` and
``torchvision::qnms`` are not declared. Neither is ever called here, so it is enough to declare them. If the library
loads, it declares them itself and nothing is done.

The check runs when torchvision is first imported, so that importing this package alone does not load torch.
"""

import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder
from pathlib import Path

_SCHEMAS = {
    "torchvision::nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "torchvision::qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


def prepare_import() -> None:
    """Installs the import hook that declares the missing operators."""
    if not any(isinstance(finder, _Notice) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Notice())


class _Notice(MetaPathFinder):
    """Finds no module; Python asks it before each import, so it can act before torchvision's."""

    def find_spec(self, fullname, path=None, target=None) -> None:
        if fullname == "torchvision":
            _declare_missing_operators()


def _declare_missing_operators() -> None:
    import torch

    if _library_loads():
        return
    for name, schema in _SCHEMAS.items():
        namespace, operator = name.split("::")
        if not hasattr(getattr(torch.ops, namespace), operator):
            torch.library.define(name, schema)


def _library_loads() -> bool:
    import torch

    spec = PathFinder.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return False
    for library in Path(spec.origin).parent.glob("_C.*"):
        try:
            torch.ops.load_library(library)
        except OSError:
            continue
        return True
    return False
