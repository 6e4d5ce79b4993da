"""GETAM: semantic segmentation from image-level labels by gradient-weighted transformer attention maps (arXiv
2112.02841).

Every public name can be imported from here; its module, and with it torch, is imported at its first use. The package
has nine rooms, and imports run strictly downwards:

    constants, utils < data, lattice < config < models < method < training | evaluation < cli
"""

import lazy_loader

from getam._torchvision import prepare_import

# Called here, so that `import timm` works in every module of the package.
prepare_import()

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
