"""The `getam` command: one module per verb. `command` parses and dispatches, `options` has the shared options."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
