"""From trained weights to scores: prediction, masks, pseudo labels, IoU, and `Run`, which holds the steps together."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
