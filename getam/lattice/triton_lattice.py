"""The permutohedral lattice of csrc/ as Triton kernels, for NVIDIA's GPUs: a hash table on the device.

It needs the package triton, which comes with torch's builds for CUDA, and, when it runs, a C compiler; no nvcc.
"""

from math import sqrt

import torch
import triton
from torch import Tensor

from getam.lattice import triton_kernels as kernels
from getam.lattice.torch_lattice import LARGEST, known_numbering, numbering

_BLOCK = 128  # points, or slots, of a program: one to a thread
_AT_ONCE = 1024  # values of a program
# Points often lie exactly on a face: sums and products must be rounded one by one, as in csrc/.
_EXACT = {"enable_fp_fusion": False}


class TritonLattice:
    """`TorchLattice` with the same vertices and weights, and the same sums in another order.

    Vertices have exact keys of 64 bits, those of `numbering`. The hash table has at least two slots for each corner of
    each point, more than vertices can be: it never overflows, and no vertex is lost or taken for another. The order of
    the additions of a splat, and so their rounding, differs from run to run.

    The host waits for the device as often as for `TorchLattice`.

    Args:
        features: (d, N) float32; the lattice approximates a Gaussian of variance 1 in these units.
        images: number of images. The points are those of the first image, then those of the second, and so on, as many
            of each; points of different images have no vertex in common.
        bounds: between which two numbers each feature lies; None: found.

    Attributes:
        weights: (d + 1, N), the barycentric coordinates.
        corners: (d + 1, N), int32, the numbers of the vertices.
        vertices: their number.

    Raises:
        ValueError: the features span more lattice cells than can be numbered, are not finite, or too many.
    """

    def __init__(self, features: Tensor, images: int = 1, bounds: list[tuple[float, float]] | None = None):
        d, points = features.shape
        if points * (d + 1) > 2**30:
            raise ValueError(f"the images have too many pixels: {points}, at most {2**30 // (d + 1)}")
        features = features.contiguous()
        blocks = triton.cdiv(points, _BLOCK)
        geometry = _geometry(d)
        with torch.cuda.device_of(features):
            chosen = known_numbering(bounds, images, features.device)
            if chosen is None:
                extremes = features.new_empty(blocks, 2, d, dtype=torch.int32)
                kernels.measure[(blocks,)](features, extremes, points, **geometry, **_EXACT)
                lowest, highest = extremes[:, 0].amin(0), extremes[:, 1].amax(0)
                chosen = numbering(lowest, highest, features.abs().amax(), images)
            lowest, units, steps = chosen
            self.weights = torch.empty(d + 1, points, device=features.device)
            slots = torch.empty_like(self.weights, dtype=torch.int32)
            table = _empty_table(points * (d + 1), features.device)
            last = len(table) - 1
            arguments = features, lowest, units, steps, table, slots, self.weights, points, points // images, last
            kernels.place[(blocks,)](*arguments, **geometry, **_EXACT)
            numbers = (table != kernels.EMPTY.value).cumsum(0, dtype=torch.int32)
            self.vertices = int(numbers[-1])
            numbers -= 1
            self.corners = numbers[slots]
            self._neighbours = torch.empty(d + 1, 2, self.vertices, dtype=torch.int32, device=features.device)
            grid = triton.cdiv(len(table), _BLOCK), d + 1
            kernels.link[grid](table, numbers, steps, self._neighbours, self.vertices, last, block_size=_BLOCK)
        self._slice_scale = 1 / (1 + 2.0**-d)

    def filter(self, values: Tensor, transposed: bool = False, weights: Tensor | None = None) -> Tensor:
        """Splat, blur and slice: (N, K) -> (N, K). The transpose blurs in the reverse order.

        Args:
            values: (N, K), float32 or float64.
            transposed: apply the transposed operator.
            weights: (d + 1, N), used instead of the barycentric coordinates `self.weights`.
        """
        weights = (self.weights if weights is None else weights).contiguous()
        values = values.contiguous()
        points, channels = values.shape
        columns = min(32, triton.next_power_of_2(channels))
        block = {"rows": _AT_ONCE // columns, "columns": columns}
        of_points, of_vertices = (
            (triton.cdiv(rows, block["rows"]), triton.cdiv(channels, columns)) for rows in (points, self.vertices)
        )
        table = values.new_zeros(self.vertices, channels)
        other, filtered = torch.empty_like(table), torch.empty_like(values)
        simplices = {"simplex": len(weights), **block}
        with torch.cuda.device_of(values):
            kernels.splat[of_points](values, weights, self.corners, table, points, channels, **simplices, **_EXACT)
            for neighbours in self._neighbours.flip(0) if transposed else self._neighbours:
                kernels.blur[of_vertices](table, neighbours, other, self.vertices, channels, **block, **_EXACT)
                table, other = other, table
            arguments = table, weights, self.corners, filtered, points, channels
            kernels.slice_values[of_points](*arguments, **simplices, **_EXACT)
        return filtered.mul_(self._slice_scale)


def _geometry(d: int) -> dict:
    """The constants of the kernels that place points of d dimensions."""
    scales = tuple(sqrt(2 / 3) * (d + 1) / sqrt((i + 1) * (i + 2)) for i in range(d))
    return {"scales": scales, "largest": LARGEST, "d": d, "block_size": _BLOCK, "width": triton.next_power_of_2(d + 1)}


def _empty_table(keys: int, device: torch.device) -> Tensor:
    """A hash table for so many keys at most, with a power of two of slots."""
    return torch.full((triton.next_power_of_2(2 * keys),), kernels.EMPTY.value, device=device)
