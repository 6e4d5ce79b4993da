import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from getam import open_dataset
from getam.data.images import write_mask
from getam.evaluation.submission import write_submission


@pytest.fixture
def masks(small_shapes, tmp_path):
    split = open_dataset(small_shapes / "dataset").split("test")
    for i, name in enumerate(split.ids):
        write_mask(tmp_path / "masks" / f"{name}.png", np.full((32, 32), i, np.uint8))
    return split, tmp_path / "masks"


def test_as_the_server_wants_it(masks, tmp_path):
    split, folder = masks
    archive = tmp_path / "out" / "voc.tar.gz"
    assert write_submission(split, folder, archive) == 5
    with tarfile.open(archive, "r:gz") as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar}
    assert set(members) == {f"results/VOC2012/Segmentation/comp6_test_cls/{name}.png" for name in split.ids}
    for i, name in enumerate(split.ids):
        with Image.open(io.BytesIO(members[f"results/VOC2012/Segmentation/comp6_test_cls/{name}.png"])) as mask:
            assert mask.mode == "P"
            assert mask.size == (32, 32)
            assert (np.array(mask) == i).all()
            assert mask.getpalette()[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]


def test_the_same_masks_give_the_same_bytes(masks, tmp_path):
    split, folder = masks
    contents = []
    for name in ("a.tar.gz", "b.tgz"):
        write_submission(split, folder, tmp_path / name)
        contents.append((tmp_path / name).read_bytes())
    assert contents[0] == contents[1]


@pytest.mark.parametrize("what", ["unknown", "missing", "size", "grey", "palette"])
def test_what_the_server_would_refuse(masks, tmp_path, what):
    split, folder = masks
    path = folder / f"{split.ids[2]}.png"
    error, message = (
        ValueError,
        {
            "unknown": "label 255; the server takes 0 to 20",
            "missing": "1 of the 5 masks of split .test. are missing",
            "size": "expected 32 x 32 pixels",
            "grey": "palette PNGs",
            "palette": "palette PNGs",
        }[what],
    )
    if what == "missing":
        path.unlink()
        error = FileNotFoundError
    elif what == "unknown":
        write_mask(path, np.full((32, 32), 255, np.uint8))
    elif what == "size":
        write_mask(path, np.zeros((32, 31), np.uint8))
    elif what == "grey":
        Image.new("L", (32, 32)).save(path)
    else:
        Image.new("P", (32, 32)).save(path)
        mask = Image.new("P", (32, 32))
        mask.putpalette([9] * 768)
        mask.save(path)
    with pytest.raises(error, match=message):
        write_submission(split, folder, tmp_path / "a.tar.gz")
    assert not list(tmp_path.glob("*.tar.gz*"))
    with pytest.raises(ValueError, match=r"the server takes \.tar\.gz"):
        write_submission(split, folder, tmp_path / "a.zip")
