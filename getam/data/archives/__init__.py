"""Archives: what to fetch (`registry`), verified downloads (`downloads`), safe unpacking (`unpacking`)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
