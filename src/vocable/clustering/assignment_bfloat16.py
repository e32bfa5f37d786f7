"""`NearestCentroid` with scores in bfloat16, on processors that multiply it several times as fast as float32.

Bfloat16 keeps 8 bits of a value, so a score is far off, but by no more than is known: what rounding takes from a frame, in a dot
product with a centroid, is at most the product of their lengths (Cauchy and Schwarz), and so the other way round. The bound comes
out of the same matrix product as the score. Where it leaves one centroid, that is the nearest; for the others, one frame in
six, float64 decides among those it leaves. So labels are the same, bit for bit.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from vocable.clustering.assignment import Array, Labels, NearestCentroid

_UNIT = 2.0**-8  # largest relative error of rounding to bfloat16
_UP = 1 + 4 * _UNIT  # what was multiplied by this, rounding to bfloat16 doesn't take below what it was
_BLOCK_BYTES = 1 << 23  # of a block's scores
_TILE = 32  # columns come in multiples of what matrix units take at a time
_ROWS = 2048  # of frames rounded at a time
_PADDED = 128  # rows are multiplied in multiples of this
_PROBED = 32
_MANY_POSSIBLE = 1 / 64  # of the scores: then float32 is faster than deciding in float64
_RANGE = (1e-15, 1e15)  # lengths of centroids for which no product vanishes or overflows that matters


class RoundedFrames:
    """Frames around a point, rounded to bfloat16, with what the bounds of errors take: made once for many passes.

    Args:
        frames: float32, shape (frames, dim).
        shift: the point, shape (dim,).
        space: tensors of at least as many rows to make them in; had anew without.
    """

    def __init__(self, frames: Array, shift: Array, space: _Space | None = None) -> None:
        count, dim = frames.shape
        if space is None:
            space = _Space.of(count, dim, rows_centred=min(count, _ROWS))
        self.frames, self.shift = frames, shift
        self.rounded, self.squares, self.lost = space.rounded[:count], np.empty(count, np.float32), np.empty(count, np.float32)
        around = torch.from_numpy(shift)
        for first in range(0, count, _ROWS):
            piece = slice(first, min(first + _ROWS, count))
            centred, rounded = space.centred[: piece.stop - first], self.rounded[piece, :dim]
            torch.sub(torch.from_numpy(np.ascontiguousarray(frames[piece])), around, out=centred)
            values = centred.numpy()
            self.squares[piece] = np.einsum("ij,ij->i", values, values)
            rounded.copy_(centred)
            centred -= rounded
            self.lost[piece] = np.sqrt(np.einsum("ij,ij->i", values, values))

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, rows: slice) -> RoundedFrames:
        part = object.__new__(RoundedFrames)
        part.frames, part.shift, part.rounded = self.frames[rows], self.shift, self.rounded[rows]
        part.squares, part.lost = self.squares[rows], self.lost[rows]
        return part


class _Space(NamedTuple):
    """Where frames are rounded."""

    centred: torch.Tensor
    rounded: torch.Tensor

    @classmethod
    def of(cls, rows: int, dim: int, rows_centred: int) -> _Space:
        rounded = torch.zeros(rows, _width(dim), dtype=torch.bfloat16)
        rounded[:, dim : dim + 3] = 1
        return cls(torch.empty(rows_centred, dim), rounded)


class _Work(NamedTuple):
    """What the work on a block of frames is done in, had once for all blocks."""

    space: _Space
    rounded_scores: torch.Tensor
    scores: torch.Tensor
    possible: NDArray[np.bool_]


def _width(dim: int) -> int:
    """Return the columns of rounded frames of `dim` values: six more, and a multiple of what matrix units take at a time."""
    return -(-(dim + 6) // _TILE) * _TILE


class Bfloat16NearestCentroid(NearestCentroid):
    """Labels float32 frames, most of them by scores in bfloat16.

    Args:
        centroids: shape (clusters, dim), float32.
        shift: a point amid the frames, shape (dim,), around which they are rounded; that amid the centroids by default.
    """

    def __init__(self, centroids: Array, shift: Array | None = None) -> None:
        super().__init__(centroids, shift)
        exact = torch.from_numpy(np.ascontiguousarray(self._columns[:-1].T))
        rounded = exact.bfloat16()
        lost = ((exact.double() - rounded.double()).norm(dim=1) * _UP).bfloat16()
        norms = (torch.from_numpy(self._norms) * _UP).bfloat16()
        bias = torch.from_numpy(self._columns[-1].copy())
        parts = []
        for _ in range(3):  # three times 8 bits hold float32's 24
            parts.append(bias.bfloat16())
            bias = bias - parts[-1].float()
        # Beside a frame's values stand 1, 1, 1, a level, its length and what rounding took from it; so the product is the score,
        # less the level, plus the bound of its error. The level is near the best score, to leave the result few digits to lose.
        columns = torch.column_stack([rounded, *parts, -torch.ones_like(norms), lost, norms])
        width = _width(centroids.shape[1])
        self._rounded_columns = torch.zeros(width, len(columns), dtype=torch.bfloat16)
        self._rounded_columns[: columns.shape[1]] = columns.T
        self._bounds = torch.column_stack([lost, norms]).float().numpy()
        self._sum_error = np.float32((width + 16) * 2.0**-23)
        self._block = int(np.clip(1 << ((_BLOCK_BYTES // (4 * len(columns))).bit_length() - 1), 512, _ROWS))
        self._works: list[_Work] = []
        self._least_length = np.float32(np.sqrt(self._least_square))
        self._residual: float | None = None
        self._unsuited = not _RANGE[0] < self._longest < _RANGE[1]

    def __call__(self, frames: Array | RoundedFrames) -> Labels:
        """Return the label of each frame of shape (frames, dim)."""
        given = frames.frames if isinstance(frames, RoundedFrames) else self._checked(frames)
        if self._unsuited or len(given) < _PROBED:
            return super().__call__(given)
        labels = np.empty(len(given), dtype=np.int32)
        try:
            work = self._works.pop()  # each thread that labels takes one of its own
        except IndexError:
            work = self._work()
        if self._residual is None:  # about how large a squared distance from the nearest centroid is
            some = given[:: len(given) // _PROBED]
            self._residual = float(np.median(self.squared_distances(some, super().__call__(some))))
        with torch.inference_mode():
            for first in range(0, len(given), self._block):
                piece = slice(first, first + self._block)
                if isinstance(frames, RoundedFrames):
                    block = frames[piece]
                else:
                    block = RoundedFrames(given[piece], self._shift, work.space)
                self._screen(block, self._residual, labels[piece], work)
        self._works.append(work)
        return labels

    def _work(self) -> _Work:
        rows, clusters, dim = self._block, len(self.centroids), len(self._shift)
        scores = torch.empty(rows, clusters)
        return _Work(_Space.of(rows, dim, rows), scores.bfloat16(), scores, np.empty((rows, clusters), dtype=np.bool_))

    def _multiply(self, rounded: torch.Tensor, work: _Work) -> None:
        """Multiply rounded frames, of which there are one of a few numbers: torch makes a kernel for each number it meets."""
        count = len(rounded)
        padded = min(self._block, -(-count // _PADDED) * _PADDED)
        if padded > count:
            space = work.space.rounded[:padded]
            if rounded.data_ptr() != space.data_ptr():
                space[:count].copy_(rounded)
            rounded = space
        torch.mm(rounded, self._rounded_columns, out=work.rounded_scores[:padded])

    def _screen(self, block: RoundedFrames, residual: float, labels: Labels, work: _Work) -> None:
        """Label frames by their rounded scores, and those that are too close to more than one centroid in float64."""
        count, dim = block.frames.shape
        if self._may_overflow(float(block.squares.max())):
            labels[:] = super().__call__(block.frames)
            return
        lengths = np.sqrt(block.squares) * np.float32(1.01) + self._least_length
        level = (block.squares - np.float32(residual)) / 2
        beside = block.rounded[:, dim + 3 : dim + 6]
        beside.copy_(torch.from_numpy(np.stack([level, lengths * np.float32(_UP), block.lost * np.float32(_UP)], axis=1)))
        level, long, lost = beside.float().numpy().T
        self._multiply(block.rounded, work)
        work.scores[:count].copy_(work.rounded_scores[:count])
        upper = work.scores[:count].numpy()
        best, every = upper.argmax(axis=1), np.arange(count)
        labels[:] = best
        own = self._bounds[best]
        bound = long * own[:, 0] + lost * own[:, 1]
        longest = np.float32(self._longest * 1.01)
        sums = self._sum_error * (lengths * longest * 2 + longest**2 + np.abs(level)) + self._error_bound(block.squares)
        top = upper[every, best]
        least = top - np.abs(top) * np.float32(_UNIT * 1.01) - 2 * (bound + sums)
        least -= np.abs(least) * np.float32(_UNIT * 1.01)  # what is no lower isn't rounded to less than this
        possible = np.greater_equal(upper, least[:, None], out=work.possible[:count])
        possible[every, best] = False
        others = np.flatnonzero(possible)
        if len(others) > _MANY_POSSIBLE * possible.size:
            labels[:] = super().__call__(block.frames)
        elif len(others):
            self._settle(block.frames, others, labels)
