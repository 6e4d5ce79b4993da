"""Training, from an experiment to weights: launch, the loop, its two phases, checkpoints, several GPUs."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
