"""Minimum cut: where to part a stretch of frames so that its pieces have least to do with one another, exactly.

Of frames alike as a matrix A says, a piece from frame j to before frame i costs cut / (cut + W / 2), where W is the sum of A
within the piece, and cut the sum of its rows elsewhere; the cut of least total cost is found by dynamic programming (SD-HuBERT,
arXiv 2310.10803; the code it goes back to is VG-HuBERT's, arXiv 2203.15081). The authors' code sums a block for every pair of
frames, which takes the fourth power of their number. Here sums come from a table of cumulative sums, states that no path goes
through are left out, and the table of what states cost lies so that the inner loop stays in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vocable.errors import InputError

_CACHED = 1 << 15
"""Numbers of a tile of the inner loop, which then stays in the cache closest to a core but one."""
_TOGETHER = 1 << 18
"""Numbers of all matrices of stretches that are cut together."""

Frames = NDArray[np.float32]
Boundaries = NDArray[np.int64]


@dataclass(frozen=True)
class Cut:
    """Where a stretch of frames is cut."""

    boundaries: Boundaries
    """Of its pieces: rising, from 0 to the number of the last frame. Which belongs to no piece: the objective, as the authors
    wrote it, only counts it as being elsewhere."""
    bounded: bool = False
    """Whether a piece is as long as a bound on their length lets it be, so that without it there might be another cut."""


def similarity(frames: Frames) -> Frames:
    """Return how alike frames are: their products, less the least of them, and a little more than 0.

    Args:
        frames: of shape (frames, dim).

    Returns:
        float32 of shape (frames, frames).
    """
    products = frames @ frames.T
    made: Frames = products - products.min() + np.float32(1e-7)
    return made


def minimum_cut(similarity: NDArray[np.floating], pieces: int, longest: int | None = None) -> Cut:
    """Return the cut into so many pieces that costs least.

    Args:
        similarity: of shape (frames, frames), not negative; it needn't be symmetric.
        pieces: how many, at most one fewer than there are frames.
        longest: frames that a piece may have; by default any number.

    Raises:
        InputError: there is no such cut, or the matrix isn't square.
    """
    return minimum_cuts([similarity], [pieces], longest)[0]


def minimum_cuts(similarities: Sequence[NDArray[np.floating]], pieces: Sequence[int], longest: int | None = None) -> list[Cut]:
    """Return the cut of each of several stretches of frames, which is what `minimum_cut` returns for it; short ones go together.

    Raises:
        InputError: one has no such cut.
    """
    for matrix, count in zip(similarities, pieces, strict=True):
        _check(matrix, count, longest)
    cuts: list[Cut | None] = [None] * len(similarities)
    for batch in _batches([len(matrix) for matrix in similarities]):
        found = _cut([similarities[at] for at in batch], [pieces[at] for at in batch], longest)
        for at, boundaries in zip(batch, found, strict=True):
            cuts[at] = Cut(boundaries, longest is not None and bool(np.diff(boundaries).max() >= longest))
    return [cut for cut in cuts if cut is not None]


def _check(matrix: NDArray[np.floating], pieces: int, longest: int | None) -> None:
    frames = len(matrix)
    if matrix.shape != (frames, frames):
        raise InputError(f"a matrix of shape {matrix.shape} doesn't say how alike frames are: give a square one")
    if not 1 <= pieces <= frames - 1:
        raise InputError(f"{frames} frames can't be cut into {pieces} pieces: give 1 to {frames - 1}")
    if longest is not None and longest * pieces < frames - 1:
        raise InputError(f"{pieces} pieces of at most {longest} frames don't cover {frames - 1}: give more, or longer ones")


def _batches(sizes: list[int]) -> list[list[int]]:
    """Return stretches of about one size together."""
    batches: list[list[int]] = []
    largest = 0
    for at in sorted(range(len(sizes)), key=lambda at: (-sizes[at], at)):
        if not batches or (len(batches[-1]) + 1) * largest**2 > _TOGETHER or 2 * sizes[at] < largest:
            batches.append([])
            largest = sizes[at]
        batches[-1].append(at)
    return batches


def _cut(similarities: list[NDArray[np.floating]], pieces: list[int], longest: int | None) -> list[Boundaries]:
    sizes = np.array([len(matrix) for matrix in similarities])
    costs = _costs(similarities, sizes, longest)
    totals = _totals(costs, sizes, np.array(pieces), longest)
    return _path(costs, totals, sizes, np.array(pieces))


def _costs(similarities: list[NDArray[np.floating]], sizes: NDArray[np.int64], longest: int | None) -> NDArray[np.float64]:
    """Return at [stretch, i, j] what the piece from j to before i costs; infinitely much where there is none."""
    count, size = len(sizes), int(sizes.max())
    table = np.zeros((count, size + 1, size + 1))  # sums of all that is above and left, and then, in its place, costs
    for own, matrix in zip(table, similarities, strict=True):
        own[1 : len(matrix) + 1, 1 : len(matrix) + 1] = matrix
    for axis in (1, 2):
        np.cumsum(table, axis=axis, out=table)
    diagonal = np.diagonal(table, axis1=1, axis2=2).copy()
    of_rows = table[np.arange(count), :, sizes].copy()
    rows = max(1, _CACHED // (count * size))
    for first in range(0, size, rows):
        last = min(first + rows, size)
        within = diagonal[:, first:last, None] + diagonal[:, None, :last]
        within -= table[:, first:last, :last]
        within -= table[:, :last, first:last].transpose(0, 2, 1)
        of_piece = of_rows[:, first:last, None] - of_rows[:, None, :last]
        with np.errstate(invalid="ignore", divide="ignore"):
            made = (of_piece - within) / (of_piece - within / 2)
        ahead = np.arange(first, last)[:, None] - np.arange(last)
        none = (ahead <= 0) if longest is None else (ahead <= 0) | (ahead > longest)
        made[:, none] = np.inf
        table[:, first:last, :last] = np.where(np.isnan(made), np.inf, made)  # pieces alike to nothing at all
    return table


def _totals(
    costs: NDArray[np.float64], sizes: NDArray[np.int64], pieces: NDArray[np.int64], longest: int | None
) -> NDArray[np.float64]:
    """Return at [k, stretch, i] the least cost of k pieces up to i, wherever the best path may go through there."""
    count, size, most = len(sizes), int(sizes.max()), int(pieces.max())
    slack = int((sizes - 1 - pieces).max())  # with k pieces, a path is at i = k at least, and at i = k + slack at most
    totals = np.full((most + 1, count, size), np.inf)
    totals[0, :, 0] = 0.0
    rows = max(8, min(64, _CACHED // (count * size)))
    kept = np.empty(count * rows * size)
    for first in range(1, size, rows):
        last = min(first + rows, size)
        for number in range(max(1, first - slack), min(most, last - 1) + 1):
            before = number - 1 if longest is None else max(number - 1, first - longest)
            width = last - 1 - before
            if width < 1:
                continue
            tile = kept[: count * (last - first) * width].reshape(count, last - first, width)
            np.add(costs[:, first:last, before : last - 1], totals[number - 1, :, None, before : last - 1], out=tile)
            np.minimum.reduce(tile, axis=2, out=totals[number, :, first:last])
    return totals


def _path(
    costs: NDArray[np.float64], totals: NDArray[np.float64], sizes: NDArray[np.int64], pieces: NDArray[np.int64]
) -> list[Boundaries]:
    """Return the boundaries of the best path, from its end: of several as good, the one whose last pieces are longest."""
    at, stretches = sizes - 1, np.arange(len(sizes))
    found = np.zeros((len(sizes), int(pieces.max()) + 1), np.int64)
    found[stretches, pieces] = at
    for passed in range(int(pieces.max())):
        left = np.maximum(pieces - passed, 1)
        before = (costs[stretches, at, : totals.shape[2]] + totals[left - 1, stretches]).argmin(axis=1)
        going = pieces - passed > 1
        at = np.where(going, before, at)
        found[stretches[going], (left - 1)[going]] = at[going]
    return [boundaries[: count + 1] for boundaries, count in zip(found, pieces, strict=True)]
