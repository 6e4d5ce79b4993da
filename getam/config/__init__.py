"""The settings of a run: recipes, experiments, and the tables whose rows are read from runs.

Everything here is validated data, and imports without torch. It uses `getam.lattice.settings` and the helpers of
`getam.utils`, and nothing else of the package.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
