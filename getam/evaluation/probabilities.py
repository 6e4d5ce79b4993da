"""Probabilities of one image in a small file, exact enough for the dense CRF.

    <id>.npz    labels  uint8 (K,)           the labels with p >= 0.001 at some pixel; the others count as 0
                low, high  uint8 (K, H, W)   the bytes of -log p in steps of 1/2048, as differences of neighbours
                count  uint8                 C + 1

The code is that of `getam.evaluation.encoding`; its bytes are apart, as most high ones are 0.
"""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from getam.evaluation.encoding import Encoded, decode, encode
from getam.utils.files import written

_MOST_LABELS = 255  # in an 8-bit mask, where 255 itself means unknown
_ARRAYS = ("labels", "low", "high", "count")


def write_probabilities(path: Path, probabilities: np.ndarray) -> None:
    """Writes float32 (C + 1, H, W) as <id>.npz, whole or not at all.

    Raises:
        ValueError: a value is NaN or infinite.
    """
    write_encoded(path, encode(path, probabilities))


def write_encoded(path: Path, encoded: Encoded) -> None:
    """Writes <id>.npz, whole or not at all."""
    labels, code, count = encoded
    arrays = {
        "labels": labels,
        "low": (code & 255).astype(np.uint8),
        "high": (code >> 8).astype(np.uint8),
        "count": np.uint8(count),
    }
    with written(path) as unfinished, zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        for name, values in arrays.items():
            with file.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, values)


def read_probabilities(path: Path) -> np.ndarray:
    """float32 (C + 1, H, W): probabilities of a file of `write_probabilities`, which sum to 1 at each pixel, or an
    unchanged array of this shape from a plain .npy or .npz file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, holds something else, or has a value that is NaN or infinite.
    """
    arrays = _load(path)
    if set(arrays) == set(_ARRAYS):
        return _decoded(arrays)
    if len(arrays) != 1:
        raise ValueError(f"{path}: expected one array, found {len(arrays)}")
    (values,) = arrays.values()
    # With the channels last, the first side is the image's: the error about that names both shapes.
    if values.ndim != 3 or min(values.shape[0], values.shape[-1]) > _MOST_LABELS:
        raise ValueError(f"{path}: expected (C + 1, H, W) with at most {_MOST_LABELS} labels, got {values.shape}")
    if values.dtype.kind != "f":
        raise ValueError(f"{path}: expected floats, got {values.dtype}")
    if not np.isfinite(values).all():
        raise ValueError(f"{path}: expected finite probabilities, found NaN or infinity")
    return values.astype(np.float32)


def _load(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            return {"": loaded} if isinstance(loaded, np.ndarray) else dict(loaded.items())
    except FileNotFoundError:
        raise
    except ValueError as error:
        if "Object arrays" not in str(error):
            raise ValueError(f"{path} cannot be read as an array: {error}") from error
        raise ValueError(
            f"{path} holds a Python object, such as a dictionary, which is not loaded as it may run code: save the "
            "probabilities alone, a float array (C + 1, H, W), by np.save"
        ) from None
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} cannot be read as an array: {error}") from error


def _decoded(arrays: dict[str, np.ndarray]) -> np.ndarray:
    code = arrays["high"].astype(np.uint16)
    code <<= 8
    code |= arrays["low"]
    return decode(Encoded(arrays["labels"], code, int(arrays["count"])))
