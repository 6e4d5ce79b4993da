"""The permutohedral lattice: bilateral filtering and the dense CRF, in C++ (getam_lattice) and in torch.

Every fast approximation of a Gaussian filter in this package, for the dense energy loss and for the CRF, is this one
(docs/explanation/method.md sections 4 and 6).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
