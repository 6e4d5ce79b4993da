"""The settings of a run: recipes, experiments, and the tables whose rows are read from runs.

Everything here is validated data and imports without torch. Of the package it uses `getam.lattice.settings` and
`getam.utils` alone.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
