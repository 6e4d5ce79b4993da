"""The parts that a data set is prepared in. Each has its own description, because some need archives of their own."""

from getam.constants import BASE

# Kind of data set -> part -> the splits that it may have.
PARTS = {
    "voc": {BASE: ("train", "val"), "train_aug": ("train_aug",), "test": ("test",)},
    "coco": {BASE: ("val", "val_without_objects"), "train": ("train", "train_without_objects")},
    "shapes": {BASE: ("train", "val", "test")},
}


def splits_of(kind: str) -> tuple[str, ...]:
    """Every split that a kind of data set may have."""
    return tuple(split for splits in PARTS[kind].values() for split in splits)


def part_of(kind: str, split: str) -> str:
    """The part that has a split; for a split that is not known, the first."""
    return next((part for part, splits in PARTS[kind].items() if split in splits), BASE)
