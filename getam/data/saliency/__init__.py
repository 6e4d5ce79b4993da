"""Saliency maps: computed by a network (`network`, `onnx_models`) or without training (`background`), or copied.

`maps` writes them for the splits of a data set.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
