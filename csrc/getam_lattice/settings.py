"""The settings of the dense CRF and its probabilities: what is allowed. Needs no NumPy."""

from getam_lattice.checks import check_whole

# A pixel's sum may be this far from 1: float16 and bfloat16 pass, scores that are not probabilities do not.
SUM_TOLERANCE = 5e-3


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


def check_probabilities(probabilities) -> None:
    """A ValueError unless the first axis of an array or a tensor (labels, H, W) sums to 1 at every pixel."""
    # Written so that NaN fails too.
    if not ((probabilities >= 0) & (probabilities <= 1 + SUM_TOLERANCE)).all():
        raise ValueError("probabilities: expected values from 0 to 1")
    sums = probabilities.sum(0)
    if not (abs(sums - 1) <= SUM_TOLERANCE).all():
        raise ValueError(f"probabilities: expected every pixel to sum to 1, got {sums.min():.4g} to {sums.max():.4g}")
