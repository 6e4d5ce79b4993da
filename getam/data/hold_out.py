"""Images of a split that are set aside by a seed: to choose settings on, or to evaluate on."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from getam.data.dataset import Split
from getam.data.parts import FIT, HELD_OUT
from getam.utils.checks import check_whole


def draw(ids: Sequence[str], count: int, seed: int) -> set[str]:
    """`count` of the ids. They depend on the seed and on the ids, not on their order.

    Raises:
        ValueError: a count that is not from 1 to one less than there are, or a negative seed.
    """
    check_whole(1, count=count)
    check_whole(0, seed=seed)
    if count >= len(ids):
        raise ValueError(f"{count} of {len(ids)} images cannot be set aside: none would be left to train on")
    ordered = sorted(ids)
    return {ordered[i] for i in np.random.default_rng(seed).permutation(len(ordered))[:count]}


def hold_out(split: Split, count: int, seed: int) -> tuple[Split, Split]:
    """`<split>_fit` and `<split>_held_out`: a split without `count` images, and these alone, in the split's order.

    Raises as `draw` does.
    """
    chosen = draw(split.ids, count, seed)
    return (
        subset(split, split.name + FIT, set(split.ids) - chosen),
        subset(split, split.name + HELD_OUT, chosen),
    )


def subset(split: Split, name: str, ids: set[str]) -> Split:
    """Some images of a split as a split of another name, in the same order."""
    kept = [i for i, found in enumerate(split.ids) if found in ids]
    labels = None if split.labels is None else split.labels[kept]
    return replace(split, name=name, ids=tuple(split.ids[i] for i in kept), labels=labels)
