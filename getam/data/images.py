"""Reading photographs and masks, writing masks."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from getam.utils.files import written

if TYPE_CHECKING:
    from torch import Tensor

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
_EIGHT_BIT_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
_ORIENTATION = 0x0112  # EXIF tag; 5 to 8 swap width and height
# The last two: Pillow on broken EXIF data.
_UNREADABLE = (
    UnidentifiedImageError,
    OSError,
    ValueError,
    SyntaxError,
    Image.DecompressionBombError,
    struct.error,
    TypeError,
)


def read_image(path: Path) -> np.ndarray:
    """uint8 (H, W, 3), RGB, turned as its EXIF orientation says; greyscale, palette and CMYK images are converted.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not an image, is truncated, or has more than 8 bits per channel.
    """
    with _opened(path, "an image") as image:
        if image.mode not in _EIGHT_BIT_MODES or _packing(image).endswith(";16B"):
            raise ValueError(f"expected 8 bits a channel, found {_packing(image) or image.mode}")
        return np.array(ImageOps.exif_transpose(image).convert("RGB"))


@contextmanager
def _opened(path: Path, what: str) -> Iterator[Image.Image]:
    """The picture in a file. Errors in the block, except a missing file, become a ValueError that names the file."""
    try:
        with Image.open(path) as image:
            yield image
    except FileNotFoundError:
        raise
    except _UNREADABLE as error:
        raise ValueError(f"{path} cannot be read as {what}: {error}") from error


def _packing(image: Image.Image) -> str:
    """How a PNG's pixels are stored, such as `RGB;16B` or `L;4`: Pillow's mode does not show it."""
    arguments = image.tile[0][-1] if image.tile else ""
    return arguments if isinstance(arguments, str) else ""


def image_size(path: Path) -> tuple[int, int]:
    """(H, W) of the array that `read_image` returns, from the header alone. Raises as `read_image` does."""
    with _opened(path, "an image") as image:
        width, height = image.size
        return (width, height) if image.getexif().get(_ORIENTATION, 1) >= 5 else (height, width)


def mask_size(path: Path) -> tuple[int, int]:
    """(H, W) of the array that `read_mask` returns, from the header alone. Raises as `read_mask` does."""
    with _opened(path, "a mask") as image:
        _check_mask_mode(image)
        return image.height, image.width


def check_image(image_rgb: "np.ndarray | Tensor") -> np.ndarray:
    """The image as an array; tensors may be on any device. Raises a ValueError unless it is uint8 (H, W, 3)."""
    if hasattr(image_rgb, "detach"):
        image_rgb = image_rgb.detach().cpu()
    image = np.asarray(image_rgb)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f"image_rgb: expected uint8 (H, W, 3), got {image.dtype} {image.shape}")
    return image


def read_mask(path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """uint8 (H, W), the values as stored: labels of a palette or grey mask, or a saliency map; one bit gives 0 or 255.

    Args:
        size: (H, W) that the image has and the mask must have.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not an 8-bit image of one channel, has another size, or its palette was reordered.
    """
    with _opened(path, "a mask") as image:
        _check_mask_mode(image)
        mask = np.array(image.convert("L") if image.mode == "1" else image)
        if image.mode == "P":
            _check_palette(image, mask)
    if size is not None:
        _check_size(path, mask, size)
    return mask


def _check_mask_mode(image: Image.Image) -> None:
    # Pillow stretches fewer bits of grey to the whole range.
    if image.mode not in ("L", "P", "1") or _packing(image) in ("L;2", "L;4"):
        raise ValueError(f"expected 8 bits in one channel, found {_packing(image) or image.mode}")


def _check_palette(image: Image.Image, mask: np.ndarray) -> None:
    """Raises a ValueError where every colour of the picture is VOC's, but at another index: the labels are lost.

    Programs that optimise PNGs do this. Palettes with other colours are accepted: only their indices count.
    """
    voc = palette()
    colours = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    if (colours == voc[: len(colours)]).all():
        return
    used = np.flatnonzero(np.bincount(mask.ravel(), minlength=256))
    meant = {colour: index for index, colour in enumerate(map(tuple, voc.tolist()))}
    labels = [meant.get(tuple(colours[index].tolist())) if index < len(colours) else None for index in used]
    if None not in labels and labels != used.tolist():
        moved, label = next(pair for pair in zip(used.tolist(), labels, strict=True) if pair[0] != pair[1])
        raise ValueError(
            f"its palette was reordered: index {moved} has the colour of VOC's label {label}; use VOC's palette again"
        )


def read_grey(path: Path, size: tuple[int, int]) -> np.ndarray:
    """uint8 (H, W), the grey values of a saliency map in any 8-bit mode.

    Raises as `read_mask` does, and a ValueError if the picture has colours.
    """
    image = read_image(path)
    if (image != image[..., :1]).any():
        raise ValueError(f"{path}: expected shades of grey, found colours")
    _check_size(path, image[..., 0], size)
    return image[..., 0]


def _check_size(path: Path, mask: np.ndarray, size: tuple[int, int]) -> None:
    if mask.shape != tuple(size):
        message = f"{path}: expected {_extent(size)} pixels as its image has, found {_extent(mask.shape)}"
        turned = mask.shape == tuple(size)[::-1]
        raise ValueError(message + ("; the image's EXIF orientation may turn it" if turned else ""))


def _extent(size: tuple[int, ...]) -> str:
    height, width = size
    return f"{width} x {height}"


def write_mask(path: Path, labels: np.ndarray) -> None:
    """Writes uint8 (H, W) as an 8-bit PNG with VOC's colours, whole or not at all."""
    mask = Image.fromarray(labels)
    mask.putpalette(palette().tobytes())
    with written(path) as unfinished:
        mask.save(unfinished, format="png")


def write_grey(path: Path, values: np.ndarray) -> None:
    """Writes uint8 (H, W) as an 8-bit greyscale PNG, whole or not at all."""
    with written(path) as unfinished:
        Image.fromarray(values).save(unfinished, format="png")


def palette() -> np.ndarray:
    """VOC's colours of the label values, uint8 (256, 3): bits 0, 3, 6 of the value go to red, 1, 4, 7 to green, 2, 5 to
    blue, the lowest to the highest bit of the colour.
    """
    values = np.arange(256)
    colours = np.zeros((256, 3), int)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= (values >> (3 * bit + channel) & 1) << (7 - bit)
    return colours.astype(np.uint8)
