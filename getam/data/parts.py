"""The parts that a data set is prepared in. Each has its own description, because some need archives of their own."""

from getam.constants import BASE

# Endings of the splits that `--hold-out` derives from another one (getam/data/hold_out.py).
FIT, HELD_OUT = "_fit", "_held_out"

# Kind of data set -> part -> the splits that it may have.
PARTS = {
    "voc": {
        BASE: ("train", "val"),
        "train_aug": ("train_aug", "train_aug" + FIT, "train_aug" + HELD_OUT),
        "test": ("test",),
    },
    "coco": {BASE: ("val", "val_without_objects"), "train": ("train", "train_without_objects")},
    "shapes": {BASE: ("train", "val", "test")},
    "folder": {BASE: ("train", "val")},
}


def splits_of(kind: str) -> tuple[str, ...]:
    """Every split that a kind of data set may have."""
    return tuple(split for splits in PARTS[kind].values() for split in splits)


def part_of(kind: str, split: str) -> str:
    """The part that has a split; for a split that is not known, the first."""
    return next((part for part, splits in PARTS[kind].items() if split in splits), BASE)


def is_held_out(split: str) -> bool:
    """Whether a split exists only where images are held out."""
    return split.endswith((FIT, HELD_OUT))
