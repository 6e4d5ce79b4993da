"""Saliency maps: computed without training (`background`) or by a network (`u2net`), or read from a folder (`maps`)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
