"""The classes of each image as lists, against the labels they come from."""

import torch

from getam.method.present import PresentClasses

LABELS = torch.tensor([[0, 1, 0, 0.5], [0, 0, 0, 0], [1, 1, 1, 0]])
CPU = torch.device("cpu")


def test_classes():
    classes = PresentClasses.of(LABELS)
    assert classes.of_images == ((1, 3), (), (0, 1, 2))
    assert classes.most == 3
    images, found = classes.pairs(CPU)
    assert torch.equal(torch.stack([images, found], 1), LABELS.nonzero())


def test_ranks():
    classes = PresentClasses.of(LABELS)
    ranks = [tuple(x.tolist() for x in classes.of_rank(rank, CPU)) for rank in range(4)]
    assert ranks == [([0, 2], [1, 0]), ([0, 2], [3, 1]), ([2], [2]), ([], [])]


def test_no_image_and_no_class():
    empty = PresentClasses.of(torch.zeros(0, 5))
    assert empty.most == 0
    none = PresentClasses.of(torch.zeros(2, 5))
    assert none.most == 0
    assert all(x.shape == (0,) and x.dtype == torch.long for x in none.pairs(CPU))
