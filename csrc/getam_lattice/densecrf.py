"""The interface of pydensecrf's module `densecrf`: change the import, and nothing else.

    from getam_lattice import densecrf as dcrf
    from getam_lattice.utils import unary_from_softmax

    crf = dcrf.DenseCRF2D(width, height, labels)
    crf.setUnaryEnergy(unary_from_softmax(probabilities))
    crf.addPairwiseGaussian(sxy=3, compat=3)
    crf.addPairwiseBilateral(sxy=80, srgb=13, rgbim=image, compat=10)
    marginals = crf.inference(10)

Results are NumPy arrays (labels, variables). Classes take `threads`: one unless it is given, as in pydensecrf.
"""

from enum import IntEnum
from typing import Optional, Union

import numpy as np

from getam_lattice import arguments
from getam_lattice.checks import check_whole
from getam_lattice.kernels import Kernel, Pairwise, mean_field


class KernelType(IntEnum):
    """How the features of a kernel could be learnt. Inference does not depend on it."""

    CONST_KERNEL = 0
    DIAG_KERNEL = 1
    FULL_KERNEL = 2


class NormalizationType(IntEnum):
    """What a kernel is divided by: its row sums, before or after filtering, or their square roots on both sides."""

    NO_NORMALIZATION = 0
    NORMALIZE_BEFORE = 1
    NORMALIZE_AFTER = 2
    NORMALIZE_SYMMETRIC = 3


CONST_KERNEL, DIAG_KERNEL, FULL_KERNEL = KernelType
NO_NORMALIZATION, NORMALIZE_BEFORE, NORMALIZE_AFTER, NORMALIZE_SYMMETRIC = NormalizationType

_NORMALISATIONS = {
    NO_NORMALIZATION: "none",
    NORMALIZE_BEFORE: "before",
    NORMALIZE_AFTER: "after",
    NORMALIZE_SYMMETRIC: "symmetric",
}
Compatibility = Union[float, np.ndarray]


class Unary:
    """Energies of every label at every variable, for `setUnary`."""

    def __init__(self, energies: np.ndarray):
        self.energies = energies


class ConstUnary(Unary):
    """Given energies, u (labels, variables)."""

    def __init__(self, u: np.ndarray):
        super().__init__(arguments.energies("u", arguments.plain_array("u", u, np.float32, ("labels", "variables"))))


class LogisticUnary(Unary):
    """Energies L f from weights L (labels, features) and features f (features, variables)."""

    def __init__(self, L: np.ndarray, f: np.ndarray):
        weights = arguments.finite("L", arguments.plain_array("L", L, np.float32, ("labels", "features")))
        f = arguments.finite("f", arguments.plain_array("f", f, np.float32, ("features", "variables")))
        arguments.same_shape("f", f, (weights.shape[1], f.shape[1]), "(features, variables)")
        super().__init__(arguments.energies("L", weights @ f))


class DenseCRF:
    """A fully connected CRF of `nvar` variables that take one of `nlabels` labels."""

    def __init__(self, nvar: int, nlabels: int, *, threads: int = 1):
        check_whole(1, nvar=nvar, nlabels=nlabels, threads=threads)
        self._variables, self._labels, self._threads = int(nvar), int(nlabels), int(threads)
        self._arrangement: tuple[int, ...] = (self._variables,)
        self._unary: Optional[np.ndarray] = None
        self._pairwise: list[Pairwise] = []

    def setUnary(self, u: Unary) -> None:
        """Sets the energies that a ConstUnary or a LogisticUnary holds."""
        if not isinstance(u, Unary):
            raise TypeError(f"u: expected a ConstUnary or a LogisticUnary, got {type(u).__name__}")
        self._unary = arguments.same_shape("u", u.energies, (self._labels, self._variables), "(labels, variables)")

    def setUnaryEnergy(self, u: np.ndarray, f: Optional[np.ndarray] = None) -> None:
        """Sets the energies u (labels, variables), or u f with u (labels, features) and f (features, variables).

        Energies are negative log-probabilities; infinity excludes a label.
        """
        if f is not None:
            return self.setUnary(LogisticUnary(u, f))
        u = arguments.plain_array("u", u, np.float32, ("labels", "variables"))
        self._unary = arguments.energies("u", self._labels_by_variables("u", u))
        return None

    def addPairwiseEnergy(
        self,
        features: np.ndarray,
        compat: Compatibility,
        kernel: KernelType = DIAG_KERNEL,
        normalization: NormalizationType = NORMALIZE_SYMMETRIC,
    ) -> None:
        """Adds a Gaussian kernel on features (d, variables), in units of the standard deviation.

        Args:
            features: float32.
            compat: a number (Potts: what equal labels gain), energies (labels,) of equal labels, or energies
                (labels, labels) of pairs, of which the symmetric part counts.
            kernel: of no effect on inference.
            normalization: NO_NORMALIZATION, NORMALIZE_BEFORE, NORMALIZE_AFTER or NORMALIZE_SYMMETRIC.
        """
        features = arguments.plain_array("features", features, np.float32, ("features", "variables"))
        arguments.same_shape("features", features, (len(features), self._variables), "(features, variables)")
        arguments.finite("features", features)
        self._add(compat, kernel, normalization, Kernel, features.reshape(-1, *self._arrangement))

    def inference(self, niter: int) -> np.ndarray:
        """The marginals (labels, variables) after `niter` updates."""
        check_whole(niter=niter)
        return mean_field(self._pairwise, self._energies(), niter, energies=True, threads=self._threads)

    def startInference(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The marginals without any update, and two empty arrays that `stepInference` takes.

        Without unary energies the marginals are 0, as in pydensecrf.
        """
        marginals = self._energies() if self._unary is None else self.inference(0)
        return marginals, np.empty((0, 0), np.float32), np.empty((0, 0), np.float32)

    def stepInference(
        self,
        Q: np.ndarray,
        tmp1: Optional[np.ndarray] = None,
        tmp2: Optional[np.ndarray] = None,
    ) -> None:
        """Updates the marginals Q (labels, variables) in place. The other arrays are not used."""
        Q = self._marginals(Q)
        if not Q.flags.writeable:
            raise ValueError("Q: expected an array that can be written to; pass Q.copy()")
        Q[...] = mean_field(self._pairwise, self._energies(), 1, energies=True, start=Q, threads=self._threads)

    def klDivergence(self, Q: np.ndarray) -> float:
        """The divergence of marginals Q (labels, variables) from the CRF's distribution, but for a constant."""
        Q = self._marginals(Q)
        entropy = np.multiply(Q, np.log(np.maximum(Q, np.float32(1e-20))), dtype=np.float64).sum()
        divergence = float(entropy)
        if self._unary is not None:
            divergence += float(np.multiply(self._unary, Q, dtype=np.float64).sum())
        for term in self._pairwise:
            filtered = term.kernel.filter(Q, threads=self._threads)
            if term.compatibility.ndim == 2:
                filtered = term.compatibility @ filtered
            else:
                filtered *= term.compatibility.reshape(-1, 1)
            divergence -= float(np.multiply(Q, filtered, dtype=np.float64).sum())
        return divergence

    def _add(self, compat: Compatibility, kernel: int, normalization: int, build, *features, **options) -> None:
        KernelType(kernel)  # a ValueError that names what it is
        normalisation = _NORMALISATIONS[NormalizationType(normalization)]
        weight = arguments.compatibility(compat, self._labels)
        built = build(*features, normalisation=normalisation, threads=self._threads, **options)
        self._pairwise.append(Pairwise(built, weight))

    def _energies(self) -> np.ndarray:
        return np.zeros((self._labels, self._variables), np.float32) if self._unary is None else self._unary

    def _labels_by_variables(self, argument: str, array: np.ndarray) -> np.ndarray:
        return arguments.same_shape(argument, array, (self._labels, self._variables), "(labels, variables)")

    def _marginals(self, Q: np.ndarray) -> np.ndarray:
        return arguments.finite("Q", self._labels_by_variables("Q", arguments.plain_array("Q", Q, np.float32, "LN")))


class DenseCRF2D(DenseCRF):
    """A fully connected CRF of the pixels of an image, `w` wide and `h` high. Variables are listed row by row."""

    def __init__(self, w: int, h: int, nlabels: int, *, threads: int = 1):
        check_whole(1, w=w, h=h)
        super().__init__(w * h, nlabels, threads=threads)
        self._arrangement = (int(h), int(w))

    def addPairwiseGaussian(
        self,
        sxy: Union[float, tuple[float, float]],
        compat: Compatibility,
        kernel: KernelType = DIAG_KERNEL,
        normalization: NormalizationType = NORMALIZE_SYMMETRIC,
    ) -> None:
        """Adds a Gaussian kernel on positions. `sxy`: in pixels, one number or (x, y). Else as `addPairwiseEnergy`."""
        sigma_xy = arguments.deviations("sxy", sxy, 2)
        self._add(compat, kernel, normalization, Kernel.of_image, *self._arrangement, sigma_xy)

    def addPairwiseBilateral(
        self,
        sxy: Union[float, tuple[float, float]],
        srgb: Union[float, tuple[float, float, float]],
        rgbim: np.ndarray,
        compat: Compatibility,
        kernel: KernelType = DIAG_KERNEL,
        normalization: NormalizationType = NORMALIZE_SYMMETRIC,
    ) -> None:
        """Adds a Gaussian kernel on positions and colours.

        Args:
            sxy: in pixels, one number or (x, y).
            srgb: in 0..255, one number or one per channel.
            rgbim: (h, w, 3), uint8. Other images: `utils.create_pairwise_bilateral` and `addPairwiseEnergy`.
            compat, kernel, normalization: as `addPairwiseEnergy`.
        """
        rgbim = arguments.plain_array("rgbim", rgbim, np.uint8, ("h", "w", "3"))
        arguments.same_shape("rgbim", rgbim, (*self._arrangement, 3), "(h, w, 3)")
        sigma_xy, sigmas = arguments.deviations("sxy", sxy, 2), arguments.deviations("srgb", srgb, 3)
        planes = rgbim.transpose(2, 0, 1)
        self._add(compat, kernel, normalization, Kernel.of_image, *self._arrangement, sigma_xy, planes, sigmas)
