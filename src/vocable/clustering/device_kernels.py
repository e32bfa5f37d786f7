"""Triton kernels for a GPU: which centroid is nearest, how far a frame lies from one, and exact sums of clusters.

Scores are made of rounded values and never leave the chip: of each frame only the two best come out, with bounds of their errors.
"""

from __future__ import annotations

import triton
import triton.language as tl

# Of a tile of scores. On an H100 128 × 256 × 64 keeps the matrix units busiest; it takes 144 KiB of shared memory.
ROWS, COLUMNS, DEPTH = 128, 256, 64
_WARPS, _STAGES = 8, 3
SEGMENT = 256
"""Rows of one cluster that a program adds up."""

_ADDED_ROWS, _ADDED_COLUMNS, _ADDING_WARPS = 4, 1024, 8
_PAIR_VALUES = 256
_ROUNDING_WARPS = 4
# As float32 has them, of largest values from 2^-63 to 2^125; others aren't scaled further.
_LEAST_EXPONENT, _MOST_EXPONENT = 64, 252
_TOP = 12


@triton.jit
def _uppers(
    values, columns, bias, lost, norms, row, there, scale, length, gap, first,
    WIDTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """Return upper bounds of the scores of some frames with `COLUMNS` centroids from `first` on."""
    column = first + tl.arange(0, COLUMNS)
    depth = tl.arange(0, DEPTH)
    left = values + row[:, None] * WIDTH + depth[None, :]
    right = columns + column[None, :] * WIDTH + depth[:, None]
    products = tl.zeros([ROWS, COLUMNS], dtype=tl.float32)
    for at in range(0, WIDTH, DEPTH):
        x = tl.load(left + at, mask=there[:, None], other=0.0)
        products = tl.dot(x, tl.load(right + at), products)
    products += scale[:, None] * tl.load(bias + column)[None, :]
    products += length[:, None] * tl.load(lost + column)[None, :]
    return products + gap[:, None] * tl.load(norms + column)[None, :]


@triton.jit
def _round(
    frames, shift, anchor, values, scales, lengths, lost, squares, dim, width,
    LEAST: tl.constexpr, MOST: tl.constexpr, TOP: tl.constexpr, VALUES: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, VALUES)
    frame = tl.load(frames + row * dim + at, mask=at < dim, other=0.0)
    centred = tl.where(at < dim, frame - tl.load(shift + at, mask=at < dim, other=0.0), 0.0)
    # A power of two that brings the largest value to 2^TOP or a little above: its exponent is read from the bits.
    exponent = (tl.max(tl.abs(centred), axis=0).to(tl.int32, bitcast=True) >> 23) & 255
    exponent = tl.minimum(tl.maximum(exponent, LEAST), MOST)
    scale = ((254 + TOP - exponent) << 23).to(tl.float32, bitcast=True)
    scaled = centred * scale
    rounded = scaled.to(tl.float16)
    taken = scaled - rounded.to(tl.float32)
    apart = tl.where(at < dim, frame.to(tl.float64) - tl.load(anchor + at, mask=at < dim, other=0.0), 0.0)
    tl.store(values + row * width + at, rounded, mask=at < width)
    tl.store(scales + row, scale)
    tl.store(lengths + row, tl.sqrt(tl.sum(scaled * scaled, axis=0)))
    tl.store(lost + row, tl.sqrt(tl.sum(taken * taken, axis=0)))
    tl.store(squares + row, tl.sum(apart * apart, axis=0))


@triton.jit
def _nearest_two(
    values, columns, bias, lost, norms, scales, lengths, gaps, labels, best, second, count, clusters,
    WIDTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    there = row < count
    scale = tl.load(scales + row, mask=there, other=0.0)
    length = tl.load(lengths + row, mask=there, other=0.0)
    gap = tl.load(gaps + row, mask=there, other=0.0)
    top = tl.full([ROWS], float("-inf"), tl.float32)
    runner = tl.full([ROWS], float("-inf"), tl.float32)
    label = tl.zeros([ROWS], tl.int32)
    for first in range(0, clusters, COLUMNS):
        upper = _uppers(
            values, columns, bias, lost, norms, row, there, scale, length, gap, first, WIDTH, ROWS, COLUMNS, DEPTH
        )  # fmt: skip
        most, where = tl.max(upper, axis=1, return_indices=True)
        rest = tl.where(tl.arange(0, COLUMNS)[None, :] == where[:, None], float("-inf"), upper)
        runner = tl.maximum(tl.minimum(top, most), tl.maximum(runner, tl.max(rest, axis=1)))
        label = tl.where(most > top, first + where.to(tl.int32), label)
        top = tl.maximum(top, most)
    tl.store(labels + row, label, mask=there)
    tl.store(best + row, top, mask=there)
    tl.store(second + row, runner, mask=there)


@triton.jit
def _reaching(
    values, columns, bias, lost, norms, scales, lengths, gaps, rows, least, possible, count, clusters,
    WIDTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    there = at < count
    row = tl.load(rows + at, mask=there, other=0)
    scale = tl.load(scales + row, mask=there, other=0.0)
    length = tl.load(lengths + row, mask=there, other=0.0)
    gap = tl.load(gaps + row, mask=there, other=0.0)
    wanted = tl.load(least + at, mask=there, other=0.0)
    first = tl.program_id(1) * COLUMNS
    upper = _uppers(values, columns, bias, lost, norms, row, there, scale, length, gap, first, WIDTH, ROWS, COLUMNS, DEPTH)
    column = first + tl.arange(0, COLUMNS)
    reached = (upper >= wanted[:, None]).to(tl.int8)
    tl.store(
        possible + at[:, None] * clusters + column[None, :], reached, mask=there[:, None] & (column < clusters)[None, :]
    )  # fmt: skip


@triton.jit
def _distances(frames, centroids, rows, candidates, out, dim, VALUES: tl.constexpr):
    pair = tl.program_id(0).to(tl.int64)
    frame = frames + tl.load(rows + pair).to(tl.int64) * dim
    centroid = centroids + tl.load(candidates + pair).to(tl.int64) * dim
    total = tl.zeros([VALUES], tl.float64)
    for first in range(0, dim, VALUES):
        at = first + tl.arange(0, VALUES)
        difference = tl.load(frame + at, mask=at < dim, other=0.0).to(tl.float64) - tl.load(
            centroid + at, mask=at < dim, other=0.0
        )
        total += difference * difference
    tl.store(out + pair, tl.sum(total, axis=0))


@triton.jit
def _add_segments(
    frames, order, starts, stops, labels, scale, sums, dim,
    SIGN: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    segment = tl.program_id(0)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    within = column < dim
    steps = tl.load(scale + column, mask=within, other=0.0)
    start, stop = tl.load(starts + segment), tl.load(stops + segment)
    total = tl.zeros([COLUMNS], tl.int64)
    for first in range(start, stop, ROWS):
        at = first + tl.arange(0, ROWS)
        there = at < stop
        row = tl.load(order + at, mask=there, other=0)
        wanted = there[:, None] & within[None, :]
        value = tl.load(frames + row[:, None] * dim + column[None, :], mask=wanted, other=0.0) * steps[None, :]
        whole = tl.floor(value)  # then the nearest, halves to the even one
        part = value - whole
        odd = whole - 2 * tl.floor(whole * 0.5) == 1
        whole += tl.where((part > 0.5) | ((part == 0.5) & odd), 1.0, 0.0)
        total += tl.sum(whole.to(tl.int64), axis=0)
    tl.atomic_add(sums + tl.load(labels + segment).to(tl.int64) * dim + column, SIGN * total, mask=within)


def round_frames(frames, shift, anchor, values, scales, lengths, lost, squares) -> None:
    """Multiply frames around a point by powers of two and round them, with what was lost.

    Args:
        frames: float32, shape (frames, dim).
        shift: the point, float32, shape (dim,).
        anchor: another, float64, shape (dim,).
        values: float16, shape (frames, width), changed.
        scales: what each frame was multiplied by, float32, shape (frames,), changed.
        lengths: of the frames around the point, as multiplied, likewise.
        lost: length of what rounding took from them, likewise.
        squares: of the frames' distances from the anchor, float64, likewise.
    """
    count, dim = frames.shape
    wide = triton.next_power_of_2(values.shape[1])
    _round[(count,)](
        frames, shift, anchor, values, scales, lengths, lost, squares, dim, values.shape[1],
        LEAST=_LEAST_EXPONENT, MOST=_MOST_EXPONENT, TOP=_TOP, VALUES=wide, num_warps=_ROUNDING_WARPS,
    )  # fmt: skip


def nearest_two(values, side, scales, lengths, gaps, labels, best, second) -> None:
    """Set the best centroid of each frame, its upper bound and that of the second best.

    Args:
        values: rounded frames, shape (frames, width), float16.
        side: the centroids, as `assignment_device` makes them.
        scales: what the frames were multiplied by, shape (frames,).
        lengths: of the frames, as multiplied, shape (frames,).
        gaps: what scores are off beside, per length of a centroid, shape (frames,).
        labels: int32, shape (frames,), changed; `best` and `second` likewise, float32.
    """
    count, width = values.shape
    grid = (triton.cdiv(count, ROWS),)
    _nearest_two[grid](
        values, side.columns, side.bias, side.lost, side.norms, scales, lengths, gaps, labels, best, second, count,
        len(side.columns),
        WIDTH=width, ROWS=ROWS, COLUMNS=COLUMNS, DEPTH=DEPTH, num_warps=_WARPS, num_stages=_STAGES,
    )  # fmt: skip


def reaching(values, side, scales, lengths, gaps, rows, least, possible) -> None:
    """Set which centroids' upper bounds reach a score, for some of the frames.

    Args:
        values: as in `nearest_two`, and so on to `gaps`.
        side: the centroids.
        scales: of the frames.
        lengths: of the frames.
        gaps: of the frames.
        rows: numbers of the frames, int64, shape (rows,).
        least: the score to reach, shape (rows,).
        possible: int8, shape (rows, clusters), changed.
    """
    (count, clusters), width = possible.shape, values.shape[1]
    grid = (triton.cdiv(count, ROWS), triton.cdiv(clusters, COLUMNS))
    _reaching[grid](
        values, side.columns, side.bias, side.lost, side.norms, scales, lengths, gaps, rows, least, possible, count, clusters,
        WIDTH=width, ROWS=ROWS, COLUMNS=COLUMNS, DEPTH=DEPTH, num_warps=_WARPS, num_stages=_STAGES,
    )  # fmt: skip


def distances(frames, centroids, rows, candidates, out) -> None:
    """Set the squared distance of each pair of a frame and a centroid, in float64.

    Args:
        frames: float32, shape (frames, dim).
        centroids: float64, shape (clusters, dim).
        rows: of the frames, shape (pairs,).
        candidates: of the centroids, shape (pairs,).
        out: float64, shape (pairs,), changed.
    """
    if len(rows):
        _distances[(len(rows),)](frames, centroids, rows, candidates, out, frames.shape[1], VALUES=_PAIR_VALUES)


def add_segments(frames, order, starts, stops, labels, scale, sums, sign: int) -> None:
    """Add rows to sums of clusters as integers, or take them away.

    Args:
        frames: float32, shape (frames, dim).
        order: numbers of rows, those of one cluster together, int64.
        starts: where in `order` a segment of one cluster begins, shape (segments,).
        stops: where it ends.
        labels: the cluster of each segment.
        scale: steps to 1, float32, shape (dim,).
        sums: int64, shape (clusters, dim), changed.
        sign: 1 or -1.
    """
    if len(starts):
        dim = frames.shape[1]
        _add_segments[(len(starts), triton.cdiv(dim, _ADDED_COLUMNS))](
            frames,
            order,
            starts,
            stops,
            labels,
            scale,
            sums,
            dim,
            SIGN=sign,
            ROWS=_ADDED_ROWS,
            COLUMNS=_ADDED_COLUMNS,
            num_warps=_ADDING_WARPS,
        )
