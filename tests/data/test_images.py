"""Reading photographs of every kind, reading and writing masks."""

import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from getam.data.images import image_size, palette, read_image, read_mask, write_grey, write_mask


@pytest.fixture
def picture() -> np.ndarray:
    """uint8 (40, 60, 3), smooth, so that JPEG keeps it."""
    rows, columns = np.mgrid[:40, :60]
    return np.stack([rows * 4 + 40, columns * 3 + 20, 200 - rows - columns], -1).astype(np.uint8)


def test_modes(tmp_path, picture):
    rgb = Image.fromarray(picture)
    for mode, suffix in (("L", "jpg"), ("CMYK", "jpg"), ("P", "png"), ("RGBA", "png"), ("LA", "png"), ("1", "png")):
        path = tmp_path / f"{mode}.{suffix}"
        rgb.convert(mode).save(path)
        found = read_image(path)
        assert found.dtype == np.uint8
        assert found.shape == picture.shape
        assert image_size(path) == (40, 60)
        if mode in ("CMYK", "RGBA"):
            assert np.abs(found.astype(int) - picture).mean() < 3
        if mode in ("L", "LA", "1"):
            assert (found == found[..., :1]).all()


def test_orientation(tmp_path, picture):
    upright = {
        1: picture,
        2: picture[:, ::-1],
        3: picture[::-1, ::-1],
        4: picture[::-1],
        5: picture.transpose(1, 0, 2),
        6: np.rot90(picture, -1),
        7: picture[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(picture),
    }
    for orientation, expected in upright.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = tmp_path / f"{orientation}.png"
        Image.fromarray(picture).save(path, exif=exif)
        assert np.array_equal(read_image(path), expected), orientation
        assert image_size(path) == expected.shape[:2]


def test_unreadable_images(tmp_path, picture):
    whole = tmp_path / "whole.jpg"
    Image.fromarray(picture).save(whole)
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(whole.read_bytes()[:800])
    (tmp_path / "page.jpg").write_text("<html>not found</html>")
    Image.fromarray(picture[..., 0].astype(np.uint16) * 256).save(tmp_path / "deep.png")
    with pytest.raises(ValueError, match=r"cut\.jpg cannot be read as an image: .*(?i:truncated)"):
        read_image(cut)
    with pytest.raises(ValueError, match=r"page\.jpg cannot be read as an image"):
        read_image(tmp_path / "page.jpg")
    with pytest.raises(ValueError, match=r"deep\.png .*expected 8 bits a channel, found I;16"):
        read_image(tmp_path / "deep.png")
    cv2.imwrite(str(tmp_path / "deep_rgb.png"), picture.astype(np.uint16) * 256)
    with pytest.raises(ValueError, match=r"deep_rgb\.png .*expected 8 bits a channel, found RGB;16B"):
        read_image(tmp_path / "deep_rgb.png")
    with pytest.raises(FileNotFoundError, match=r"none\.jpg"):
        read_image(tmp_path / "none.jpg")
    with pytest.raises(ValueError, match=r"page\.jpg cannot be read"):
        image_size(tmp_path / "page.jpg")


def test_masks(tmp_path):
    labels = np.arange(256, dtype=np.uint8).reshape(8, 32)
    write_mask(tmp_path / "new" / "mask.png", labels)
    assert np.array_equal(read_mask(tmp_path / "new" / "mask.png", (8, 32)), labels)
    assert Image.open(tmp_path / "new" / "mask.png").getpalette() == palette().flatten().tolist()
    write_grey(tmp_path / "grey.png", labels)
    assert np.array_equal(read_mask(tmp_path / "grey.png"), labels)
    Image.fromarray(labels > 100).save(tmp_path / "bits.png")
    assert np.array_equal(read_mask(tmp_path / "bits.png"), (labels > 100) * 255)
    assert sorted(path.name for path in tmp_path.rglob(".*")) == []


def test_bad_masks(tmp_path, picture):
    write_mask(tmp_path / "a.png", picture[..., 0])
    with pytest.raises(ValueError, match=r"a\.png: expected 61 x 40 pixels as its image has, found 60 x 40$"):
        read_mask(tmp_path / "a.png", (40, 61))
    with pytest.raises(ValueError, match=r"a\.png: .*found 60 x 40; the image's EXIF orientation may turn it"):
        read_mask(tmp_path / "a.png", (60, 40))
    Image.fromarray(picture).save(tmp_path / "rgb.png")
    with pytest.raises(ValueError, match=r"rgb\.png cannot be .* expected 8 bits in one channel, found RGB"):
        read_mask(tmp_path / "rgb.png")
    (tmp_path / "four.png").write_bytes(four_bit_png())
    with pytest.raises(ValueError, match=r"four\.png cannot be .* expected 8 bits in one channel, found L;4"):
        read_mask(tmp_path / "four.png")


def four_bit_png() -> bytes:
    """Two pixels of four bits of grey, 1 and 2: Pillow would make 17 and 34 of them."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", 2, 1, 4, 0, 0, 0, 0)
    pixels = zlib.compress(bytes([0, 0x12]))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def test_palette():
    colours = palette().tolist()
    assert colours[:4] == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    assert colours[15] == [192, 128, 128]  # person
    assert colours[255] == [224, 224, 192]  # VOC's void
