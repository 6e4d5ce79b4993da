"""The lattice's Triton kernels, on the pointers of contiguous tensors; `TritonLattice` launches them.

Points are numbered through the batch. Their simplices and weights are those of csrc/simplex.h, bit for bit: launch with
`enable_fp_fusion=False`.
"""

import triton
import triton.language as tl

EMPTY = tl.constexpr(-1)  # a slot of the hash table without a vertex; keys are not negative
_ROUNDING = tl.constexpr(1.5 * 2**23)  # added to a float32 below 2^22 and taken away, it rounds to even
_NOWHERE = tl.constexpr(-1000)  # the rank of a coordinate that only fills the block
# Sizes change from call to call: one compiled kernel serves all of them.
_kernel = triton.jit(do_not_specialize=["points", "points_of_image", "last_slot", "vertices", "channels"])


@triton.jit
def _simplices(
    features,
    point,
    inside,
    points,
    scales: tl.constexpr,
    largest: tl.constexpr,
    d: tl.constexpr,
    block_size: tl.constexpr,
    width: tl.constexpr,
):
    """Of each point its coordinates (block_size, width), those of its simplex's origin, and their ranks.

    The width is a power of two above d; coordinates beyond d only fill the block.
    """
    coordinate = tl.arange(0, width)[None, :]
    sums = tl.zeros((block_size,), tl.float32)
    elevated = tl.zeros((block_size, width), tl.float32)
    for i in tl.static_range(d - 1, -1, -1):
        feature = tl.load(features + i * points + point, mask=inside, other=0.0)
        # Others are refused later; until then, they must not lead beyond any array.
        scaled = tl.where(tl.abs(feature) < largest, feature, 0.0) * scales[i]
        elevated = tl.where(coordinate == i + 1, (sums - (i + 1) * scaled)[:, None], elevated)
        sums += scaled
    elevated = tl.where(coordinate == 0, sums[:, None], elevated)

    rounded = (elevated * (1 / (d + 1)) + _ROUNDING) - _ROUNDING
    origin = rounded * (d + 1)
    remainder = elevated - origin
    # Rank 0 is the largest remainder; of equal ones the earlier coordinate comes first.
    rank = tl.zeros((block_size, width), tl.int32) + tl.sum(rounded, 1).to(tl.int32)[:, None]
    for j in tl.static_range(d + 1):
        other = tl.sum(tl.where(coordinate == j, remainder, 0.0), 1)[:, None]
        rank += ((other > remainder) | ((other == remainder) & (coordinate > j))).to(tl.int32)
    # Where the rounded coordinates do not sum to zero, those that were rounded the furthest are corrected.
    wrap = tl.where(rank < 0, d + 1, 0) - tl.where(rank > d, d + 1, 0)
    return elevated, origin + wrap, tl.where(coordinate <= d, rank + wrap, _NOWHERE)


@_kernel
def measure(
    features,
    extremes,
    points,
    scales: tl.constexpr,
    largest: tl.constexpr,
    d: tl.constexpr,
    block_size: tl.constexpr,
    width: tl.constexpr,
):
    """Features (d, points) -> the lowest and the highest first d coordinates of a block's origins, (blocks, 2, d)."""
    point = tl.program_id(0) * block_size + tl.arange(0, block_size)
    inside = point < points
    _, origin, _ = _simplices(features, point, inside, points, scales, largest, d, block_size, width)
    origin = origin.to(tl.int32)
    coordinate = tl.arange(0, width)
    place = extremes + tl.program_id(0) * 2 * d + coordinate
    tl.store(place, tl.min(tl.where(inside[:, None], origin, 2**30), 0), mask=coordinate < d)
    tl.store(place + d, tl.max(tl.where(inside[:, None], origin, -(2**30)), 0), mask=coordinate < d)


@_kernel
def place(
    features,
    lowest,
    units,
    steps,
    table,
    slots,
    weights,
    points,
    points_of_image,
    last_slot,
    scales: tl.constexpr,
    largest: tl.constexpr,
    d: tl.constexpr,
    block_size: tl.constexpr,
    width: tl.constexpr,
):
    """Features (d, points) -> weights and slots of the corners (d + 1, points), whose keys enter the table."""
    point = tl.program_id(0) * block_size + tl.arange(0, block_size)
    inside = point < points
    elevated, origin, rank = _simplices(features, point, inside, points, scales, largest, d, block_size, width)
    remainder = (elevated - origin) * (1 / (d + 1))
    coordinate = tl.arange(0, width)[None, :]
    digit = origin.to(tl.int64) - tl.load(lowest + coordinate, mask=coordinate < d, other=0)
    unit = tl.load(units + coordinate, mask=coordinate < d, other=0)
    first = tl.sum(digit * unit, 1) + (point // points_of_image) * tl.load(units + d)
    step = tl.load(steps + coordinate, mask=coordinate <= d, other=0)
    for k in tl.static_range(d + 1):
        following = tl.sum(tl.where(rank == (d - k + 1) % (d + 1), remainder, 0.0), 1)
        weight = tl.sum(tl.where(rank == d - k, remainder, 0.0), 1)
        if k == 0:
            weight += 1
        # Corner k has taken the steps of the k smallest remainders.
        key = first + tl.sum(tl.where(rank > d - k, step, 0), 1)
        tl.store(weights + k * points + point, weight - following, mask=inside)
        tl.store(slots + k * points + point, _find_or_add(table, key, inside, last_slot), mask=inside)


@triton.jit
def _first_slot(key, last_slot):
    """Where the search for a key begins: a well mixed number (the finaliser of SplitMix64) below the table's length."""
    mixed = key.to(tl.uint64)
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB
    return ((mixed ^ (mixed >> 31)).to(tl.int64) & last_slot).to(tl.int32)


@triton.jit
def _find_or_add(table, key, wanted, last_slot):
    """The slot of each key. Ends because the table is longer than the number of all keys."""
    slot = _first_slot(key, last_slot)
    waiting = wanted
    while tl.max(waiting.to(tl.int32), 0) > 0:
        found = tl.load(table + slot, mask=waiting, other=EMPTY)
        adding = waiting & (found == EMPTY)
        if tl.max(adding.to(tl.int32), 0) > 0:
            # There is no mask: where nothing is added, the key is exchanged for itself or for nothing.
            before = tl.atomic_cas(table + slot, tl.where(adding, EMPTY, key), key, sem="relaxed")
            found = tl.where(adding, tl.where(before == EMPTY, key, before), found)
        waiting = waiting & (found != key)
        slot = tl.where(waiting, (slot + 1) & last_slot, slot)
    return slot


@_kernel
def link(table, numbers, steps, neighbours, vertices, last_slot, block_size: tl.constexpr):
    """Neighbours (directions, 2, vertices): the vertices one step before and after each; -1 where none is."""
    slot = tl.program_id(0) * block_size + tl.arange(0, block_size)
    direction = tl.program_id(1)
    key = tl.load(table + slot, mask=slot <= last_slot, other=EMPTY)
    there = key != EMPTY
    vertex = tl.load(numbers + slot, mask=there, other=0)
    step = tl.load(steps + direction)
    row = neighbours + direction.to(tl.int64) * 2 * vertices
    tl.store(row + vertex, _find(table, numbers, key - step, there, last_slot), mask=there)
    tl.store(row + vertices + vertex, _find(table, numbers, key + step, there, last_slot), mask=there)


@triton.jit
def _find(table, numbers, key, wanted, last_slot):
    """The number of each key's vertex, or -1."""
    slot = _first_slot(key, last_slot)
    waiting = wanted
    hit = wanted & False
    while tl.max(waiting.to(tl.int32), 0) > 0:
        found = tl.load(table + slot, mask=waiting, other=EMPTY)
        hit = hit | (waiting & (found == key))
        waiting = waiting & (found != key) & (found != EMPTY)
        slot = tl.where(waiting, (slot + 1) & last_slot, slot)
    return tl.load(numbers + slot, mask=hit, other=-1)


@_kernel
def splat(
    values,
    weights,
    corners,
    table,
    points,
    channels,
    simplex: tl.constexpr,
    rows: tl.constexpr,
    columns: tl.constexpr,
):
    """Adds values (points, channels), times the weights of their corners (simplex, points), to (vertices, channels)."""
    point = tl.program_id(0) * rows + tl.arange(0, rows)
    channel = (tl.program_id(1) * columns + tl.arange(0, columns))[None, :]
    inside = point < points
    block = inside[:, None] & (channel < channels)
    value = tl.load(values + point.to(tl.int64)[:, None] * channels + channel, mask=block, other=0.0)
    for k in tl.static_range(simplex):
        vertex = tl.load(corners + k * points + point, mask=inside, other=0).to(tl.int64)
        weight = tl.load(weights + k * points + point, mask=inside, other=0.0)
        tl.atomic_add(table + vertex[:, None] * channels + channel, weight[:, None] * value, mask=block, sem="relaxed")


@_kernel
def blur(table, neighbours, blurred, vertices, channels, rows: tl.constexpr, columns: tl.constexpr):
    """(1/2, 1, 1/2) along one direction, whose neighbours are (2, vertices): (vertices, channels) -> the same."""
    vertex = tl.program_id(0) * rows + tl.arange(0, rows)
    channel = (tl.program_id(1) * columns + tl.arange(0, columns))[None, :]
    inside = vertex < vertices
    block = inside[:, None] & (channel < channels)
    previous = tl.load(neighbours + vertex, mask=inside, other=-1).to(tl.int64)[:, None]
    following = tl.load(neighbours + vertices + vertex, mask=inside, other=-1).to(tl.int64)[:, None]
    place = vertex.to(tl.int64)[:, None] * channels + channel
    own = tl.load(table + place, mask=block, other=0.0)
    one = tl.load(table + previous * channels + channel, mask=block & (previous >= 0), other=0.0)
    two = tl.load(table + following * channels + channel, mask=block & (following >= 0), other=0.0)
    tl.store(blurred + place, own + 0.5 * (one + two), mask=block)


@_kernel
def slice_values(
    table,
    weights,
    corners,
    filtered,
    points,
    channels,
    simplex: tl.constexpr,
    rows: tl.constexpr,
    columns: tl.constexpr,
):
    """Of each point the sum of its corners' values, times their weights: (vertices, channels) -> (points, channels)."""
    point = tl.program_id(0) * rows + tl.arange(0, rows)
    channel = (tl.program_id(1) * columns + tl.arange(0, columns))[None, :]
    inside = point < points
    block = inside[:, None] & (channel < channels)
    total = tl.zeros((rows, columns), filtered.dtype.element_ty)
    for k in tl.static_range(simplex):
        vertex = tl.load(corners + k * points + point, mask=inside, other=0).to(tl.int64)
        weight = tl.load(weights + k * points + point, mask=inside, other=0.0)
        value = tl.load(table + vertex[:, None] * channels + channel, mask=block, other=0.0)
        total += weight[:, None] * value
    tl.store(filtered + point.to(tl.int64)[:, None] * channels + channel, total, mask=block)
