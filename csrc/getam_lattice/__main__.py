"""Checks an installation: `python -m getam_lattice` computes a small CRF with every set of kernels."""

import hashlib
import platform
import sys

import numpy as np

from getam_lattice import library
from getam_lattice.crf import dense_crf_of_planes

# Of the labels below, the same on every processor and with every compiler.
EXPECTED = "5a5d0fc0b345882776ec5c6960437914701c1d7147d752c6249b76136c09c85f"


def case() -> tuple[np.ndarray, np.ndarray]:
    """Planes (3, 48, 64) and probabilities (5, 48, 64), from whole numbers alone."""
    y, x = np.indices((48, 64))
    planes = np.stack([(3 * x + y * y // 7) % 256, (x * y) // 13 % 256, (5 * y + x * x // 11) % 256])
    smooth = [(x // 9 + 2 * y // 7 + 3 * label) % 5 for label in range(5)]
    votes = np.stack([1 + smooth[label] + (7 * x + 11 * y + label * label) % 4 for label in range(5)])
    return planes.astype(np.float32), (votes / votes.sum(0)).astype(np.float32)


def labels_digest(instruction_set: str, threads: int) -> str:
    """sha256 of the most probable labels."""
    marginals = dense_crf_of_planes(*case(), 10, (3, 3), (30, 13, 4), 0.0, threads, instruction_set)
    return hashlib.sha256(marginals.argmax(0).astype(np.uint8).tobytes()).hexdigest()


def main() -> int:
    sets = ("best", library.PORTABLE) if library.has_avx2() else (library.PORTABLE,)
    wrong = [name for name in sets for threads in (1, 2) if labels_digest(name, threads) != EXPECTED]
    kernels = "kernels for AVX2 and portable ones" if len(sets) == 2 else "portable kernels"
    versions = f"Python {platform.python_version()}, NumPy {np.__version__}"
    print(f"getam_lattice on {platform.machine()}, {versions}: {kernels}")
    if wrong:
        print(f"wrong labels with: {', '.join(wrong)}", file=sys.stderr)
        return 1
    print("labels as expected")
    return 0


if __name__ == "__main__":
    sys.exit(main())
