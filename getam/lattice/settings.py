"""The settings of the dense CRF and their checks; importable without torch, which takes seconds."""

from dataclasses import dataclass

from getam_lattice.checks import check_choice
from getam_lattice.settings import check_settings

BACKENDS = ("lattice", "pydensecrf")


@dataclass(frozen=True)
class CrfSettings:
    """The arguments of `dense_crf`, and `bgr`: pass the image in BGR order, as the released test script does."""

    iterations: int = 20
    gaussian: tuple[float, float] = (3, 3)
    bilateral: tuple[float, float, float] = (83, 5, 4)
    backend: str = "lattice"
    negligible: float = 0.01
    bgr: bool = False

    def __post_init__(self):
        check_settings(self.iterations, self.gaussian, self.bilateral, self.negligible)
        check_choice("backend", self.backend, BACKENDS)
