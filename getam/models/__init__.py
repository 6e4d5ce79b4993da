"""The networks: timm backbones, the DPT decoder with its two heads, and the files that weights are read from."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
