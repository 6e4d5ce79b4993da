"""The method of the paper (docs/explanation/method.md sections 2 to 4): activation maps, PAMR, pseudo labels, losses.

Its functions work on batches of tensors and know nothing of files, runs or training.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
