"""From archives to training samples: fetching, unpacking, the data sets and their splits, images, augmentation.

`getam.data.archives` downloads and unpacks, `getam.data.saliency` computes saliency maps.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
