"""The settings of the dense CRF and their checks; importable without torch, which takes seconds."""

from dataclasses import dataclass

from getam.utils.checks import check_choice, check_whole

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


def check_settings(iterations: int, gaussian: tuple, bilateral: tuple, negligible: float) -> None:
    """A ValueError that names the argument of `dense_crf`, unless every value is allowed."""
    check_whole(iterations=iterations)
    for name, values, meaning in (
        ("gaussian", gaussian, "(sigma_xy, compatibility)"),
        ("bilateral", bilateral, "(sigma_xy, sigma_rgb, compatibility)"),
    ):
        if len(values) != meaning.count(",") + 1 or not all(0 < x < 1e30 for x in values):
            raise ValueError(f"{name}: expected {meaning}, all above 0, got {values!r}")
    if not 0 <= negligible < 1:
        raise ValueError(f"negligible: expected a probability below 1, got {negligible!r}")
