"""GETAM: semantic segmentation from image-level labels by gradient-weighted transformer attention maps (arXiv
2112.02841).

Every public name can be imported from here; its module, and with it torch, is imported when it is first used.
"""

from importlib import import_module

from getam._torchvision import prepare_import

# Here, so that `import timm` works in any module that has imported getam.
prepare_import()

_HOMES = {
    "ActivationRecord": "activation",
    "CheckpointError": "weights",
    "ConfusionMatrix": "metrics",
    "DenseEnergyLoss": "losses",
    "Recipe": "recipe",
    "SegmentationNetwork": "network",
    "activation_maps": "activation",
    "bilateral_filter": "lattice",
    "build_model": "network",
    "classification_loss": "losses",
    "complete_labels": "pseudo_labels",
    "cross_entropy_loss": "losses",
    "dense_crf": "crf",
    "dense_crf_batch": "crf",
    "explain": "explaining",
    "load_experiment": "experiment",
    "load_network": "checkpoints",
    "load_recipe": "recipe",
    "load_released_checkpoint": "checkpoints",
    "normalise_images": "backbones",
    "normalise_maps": "refinement",
    "open_dataset": "datasets.prepared",
    "predict_probabilities": "inference",
    "refine_maps": "refinement",
    "saliency_loss": "losses",
    "saliency_target": "pseudo_labels",
    "train": "training",
}

__all__ = list(_HOMES)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'getam' has no attribute {name!r}")
    return getattr(import_module(f"getam.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
