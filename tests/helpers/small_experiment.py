"""The settings of a small experiment."""

from pathlib import Path


def small_settings(folder: Path) -> dict:
    """On the data set and the saliency maps of `small_shapes`; training takes a second or two."""
    return {
        "name": "small",
        "data": {
            "dataset": str(folder / "dataset"),
            "split": "train",
            "saliency": str(folder / "saliency"),
        },
        "network": {
            "backbone": "vit_micro_hybrid",
            "pretrained": False,
            "classifier": "class_token",
            "decoder_width": 16,
        },
        "recipe": {"preset": "paper", "opening": 3},
        "maps": {"dilations": [1, 2], "iterations": 2},
        "training": {
            "crop": 32,
            "batch": 4,
            "epochs": 4,
            "optimiser": "adamw",
            "weight_decay": 0.01,
            "rate": 1e-3,
            "joint_factor": 1.0,
        },
        "inference": {"sizes": [32, 64]},
        "monitoring": {"history": 5, "sheet": 0},
    }
