"""`NearestCentroid` for many values: scores of few digits, or along few directions, leave few centroids to take distances from.

Bfloat16, which some processors multiply several times as fast as float32, keeps 8 bits of a value, so a score is far off, but by
no more than is known: what rounding takes from a frame, in a dot product with a centroid, is at most the product of their lengths
(Cauchy and Schwarz), and so the other way round; and likewise what lies in none of the directions. The bound comes out of the
same matrix product as the score. The distance from the centroid that scores best is then taken in float32, and from those that
may still be nearer, of which most frames have none; float64 decides where float32 can't. So labels are the same, bit for bit.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from vocable.clustering.assignment import Array, Labels, NearestCentroid
from vocable.clustering.rounded_frames import BESIDE, UNITS, UP, Directions, RoundedFrames, Rounding, Space, values_of

_BLOCK_BYTES = 1 << 23  # of a block's scores
_ROWS = 2048  # in a block at most
_PADDED = 128  # rows are multiplied in multiples of this
_PROBED = 32
_JUDGED = 512
_CACHED_VALUES = 1 << 16  # of frames whose distances are taken, for the second-level cache
_MANY_POSSIBLE = 1 / 32  # of the scores: then float32 is faster than so many distances
_LONG = 1e37  # squared distances that float32 holds
_RANGE = (1e-15, 1e15)  # lengths of centroids for which no product vanishes or overflows that matters


class _Work(NamedTuple):
    """What the work on a block of frames is done in, had once for all blocks."""

    space: Space
    rounded_scores: torch.Tensor
    scores: torch.Tensor
    possible: NDArray[np.bool_]


class ScreenedNearestCentroid(NearestCentroid):
    """Labels float32 frames, most of them by rounded scores.

    Args:
        centroids: shape (clusters, dim), float32.
        shift: a point amid the frames, shape (dim,), around which they are rounded; that amid the centroids by default.
        directions: along which frames are rounded, if they aren't yet.
        rounding: the type, if they aren't yet.
        worth: distances from other centroids that may be taken for a frame, on average, before directions cost more than they
            spare; the first frames tell how many it takes.
    """

    def __init__(
        self,
        centroids: Array,
        shift: Array | None = None,
        directions: Directions | None = None,
        rounding: Rounding = "bfloat16",
        worth: float = np.inf,
    ) -> None:
        super().__init__(centroids, shift)
        self._directions, self._rounding, self._worth = directions, rounding, worth
        self._judged = directions is None
        self._block = int(np.clip(1 << (max(1, _BLOCK_BYTES // (4 * len(centroids))).bit_length() - 1), 512, _ROWS))
        self._screens: dict[tuple[Directions | None, Rounding], _Screen] = {}
        self._residual: float | None = None
        self._unsuited = not _RANGE[0] < self._longest < _RANGE[1]
        # Relative error of a sum of squared differences, or of squares, in float32 and in any order.
        self._distance_error = np.float32(1.01 * (centroids.shape[1] + 4) * 2.0**-24)

    def __call__(self, frames: Array | RoundedFrames) -> Labels:
        """Return the label of each frame of shape (frames, dim)."""
        if isinstance(frames, RoundedFrames):
            given, how = frames.frames, (frames.directions, frames.rounding)
        else:
            given = self._checked(frames)
            self._judge(given)
            how = (self._directions, self._rounding)
        if self._unsuited or len(given) < _PROBED or how == (None, "float32"):
            return super().__call__(given)
        labels = np.empty(len(given), dtype=np.int32)
        self._label_all(frames, given, how, labels)
        return labels

    def _judge(self, frames: Array) -> None:
        """Do without directions if they leave too many centroids to some of the first frames."""
        if self._judged or self._unsuited or len(frames) < _JUDGED:
            return
        self._judged = True
        some = np.ascontiguousarray(frames[:: len(frames) // _JUDGED][:_JUDGED])
        others = self._label_all(some, some, (self._directions, self._rounding), np.empty(_JUDGED, np.int32))
        if others > self._worth * _JUDGED:
            self._directions = None

    def _label_all(
        self, frames: Array | RoundedFrames, given: Array, how: tuple[Directions | None, Rounding], labels: Labels
    ) -> int:
        """Label frames, and return how many distances from other centroids it took.

        Args:
            frames: as they are, or rounded.
            given: as they are, shape (frames, dim).
            how: they are rounded.
            labels: shape (frames,), changed.
        """
        if how not in self._screens:
            self._screens[how] = _Screen(self._wide - self._shift, self._columns[-1], *how)
        screen, others = self._screens[how], 0
        try:
            work = screen.works.pop()  # each thread that labels takes one of its own
        except IndexError:
            work = self._work(*how)
        if self._residual is None:  # about how large a squared distance from the nearest centroid is
            some = given[:: len(given) // _PROBED]
            self._residual = min(_LONG, float(np.median(self.squared_distances(some, super().__call__(some)))))
        with torch.inference_mode():
            for first in range(0, len(given), self._block):
                piece = slice(first, first + self._block)
                if isinstance(frames, RoundedFrames):
                    block = frames[piece]
                else:
                    block = RoundedFrames(given[piece], self._shift, *how, work.space)
                others += self._label_block(block, screen, labels[piece], work)
        screen.works.append(work)
        return others

    def _work(self, directions: Directions | None, rounding: Rounding) -> _Work:
        rows, clusters, dim = self._block, len(self.centroids), len(self._shift)
        scores = torch.empty(rows, clusters, dtype=torch.float32, device="cpu")
        space = Space.of(rows, dim, directions, rounding, rows)
        return _Work(space, scores.to(getattr(torch, rounding)), scores, np.empty((rows, clusters), dtype=np.bool_))

    def _multiply(self, rounded: torch.Tensor, screen: _Screen, work: _Work) -> None:
        """Multiply rounded frames, of which there are one of a few numbers: torch makes a kernel for each number it meets."""
        count = len(rounded)
        padded = min(self._block, -(-count // _PADDED) * _PADDED)
        if padded > count:
            space = work.space.rounded[:padded]
            if rounded.data_ptr() != space.data_ptr():
                space[:count].copy_(rounded)
            rounded = space
        scores = work.rounded_scores[:padded]
        if rounded.dtype == torch.float32:  # NumPy's product has all its digits, whatever torch is told
            np.matmul(rounded.numpy(), screen.columns.numpy(), out=scores.numpy())
        else:
            torch.mm(rounded, screen.columns, out=scores)

    def _label_block(self, block: RoundedFrames, screen: _Screen, labels: Labels, work: _Work) -> int:
        """Label frames by their rounded scores, and those that are too close to more than one centroid by distances.

        Returns how many of these, beside that from the centroid that scores best, it takes.
        """
        assert self._residual is not None
        count, at, squares = len(block), block.values + 3, block.squares
        if self._may_overflow(float(squares.max())):
            labels[:] = super().__call__(block.frames)
            return 0
        # Near the best score, to leave the result few digits to lose.
        level: NDArray[np.float32] = (squares - np.float32(self._residual)) / np.float32(2)
        wanted = np.stack([level, *(np.float32(UP) * each for each in (block.lengths, block.lost, block.rest))], axis=1)
        beside = block.rounded[:, at : at + 4]
        beside.copy_(torch.from_numpy(wanted))
        taken: NDArray[np.float32] = beside.float().numpy()
        level, lengths = taken[:, 0], taken[:, 1:]
        self._multiply(block.rounded, screen, work)
        if work.scores is not work.rounded_scores:
            work.scores[:count].copy_(work.rounded_scores[:count])
        upper = work.scores[:count].numpy()
        best, every = upper.argmax(axis=1), np.arange(count)
        labels[:] = best
        unit = np.float32(UNITS[block.rounding] * 1.01)
        sums = self._sums(block, level, screen)
        top, bound = upper[every, best], np.einsum("ij,ij->i", lengths, screen.bounds[best])
        least = _rounded_down(top - np.abs(top) * unit - 2 * (bound + sums), unit)
        possible = np.greater_equal(upper, least[:, None], out=work.possible[:count])
        possible[every, best] = False
        others = np.flatnonzero(possible)
        if not np.isfinite(least).all():
            labels[:] = super().__call__(block.frames)
        elif len(others):
            rows = others // len(self.centroids)
            doubtful = rows[np.flatnonzero(np.diff(rows, prepend=-1))]
            # The distance from the centroid that scores best tells more of its score than the bound.
            distances = np.zeros(count, np.float32)
            distances[doubtful] = self._float32_distances(block.frames, doubtful, best[doubtful])
            least = (squares - distances) / np.float32(2) - level - sums
            least -= self._distance_error * (squares + distances)
            others = others[upper.ravel()[others] >= _rounded_down(least, unit)[rows]]
            if len(others) > _MANY_POSSIBLE * possible.size:
                labels[:] = super().__call__(block.frames)
            elif len(others):
                self._compare(block.frames, others, distances, labels)
        return len(others)

    def _sums(self, block: RoundedFrames, level: NDArray[np.float32], screen: _Screen) -> Any:
        """Return how far sums in float32 may be from what they stand for, beside what rounding of their terms does."""
        longest = np.float32(self._longest * 1.01)
        lengths = np.sqrt(block.squares) * np.float32(1.01) + np.float32(np.sqrt(self._least_square))
        return screen.sum_error * (lengths * longest * 2 + longest**2 + np.abs(level)) + self._error_bound(block.squares)

    def _float32_distances(self, frames: Array, rows: NDArray[np.intp], candidates: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return the squared distance of each pair of a frame and a centroid."""
        distances = np.empty(len(rows), np.float32)
        step = max(1, _CACHED_VALUES // frames.shape[1])
        for first in range(0, len(rows), step):
            piece = slice(first, first + step)
            differences = np.take(self.centroids, candidates[piece], axis=0, mode="clip")
            differences -= np.take(frames, rows[piece], axis=0, mode="clip")
            distances[piece] = np.einsum("ij,ij->i", differences, differences)
        return distances

    def _compare(self, frames: Array, others: NDArray[np.intp], distances: NDArray[np.float32], labels: Labels) -> None:
        """Decide between the centroids that frames have as labels, at some distances, and others that may be nearer.

        Args:
            frames: shape (frames, dim).
            others: frame times number of centroids plus centroid, rising.
            distances: of the frames from the centroids of their labels, shape (frames,).
            labels: shape (frames,), changed.
        """
        clusters = len(self.centroids)
        margin, least = 1 + 3 * self._distance_error, np.float32(self._least_error)
        rows, candidates = np.divmod(others, clusters)
        found = self._float32_distances(frames, rows, candidates)
        close = found <= distances[rows] * margin + least
        if not close.any():
            return
        rows, candidates, found = rows[close], candidates[close], found[close]
        own = np.unique(rows)
        pairs = np.concatenate([others[close], own * clusters + labels[own]])
        order = np.argsort(pairs)
        rows, candidates = np.divmod(pairs[order], clusters)
        found = np.concatenate([found, distances[own]])[order]
        firsts = np.flatnonzero(np.diff(rows, prepend=-1))
        nearest = np.repeat(np.minimum.reduceat(found, firsts), np.diff(firsts, append=len(rows)))
        left = found <= nearest * margin + least
        self._decide(frames, rows[left], candidates[left], labels)


def _rounded_down(values: NDArray[np.float32], unit: np.float32) -> NDArray[np.float32]:
    """Return numbers such that what is no lower than a value isn't rounded to less than its number."""
    lower = values.copy()
    lower -= np.abs(values) * unit
    return lower


class _Screen:
    """Centroids as rounded frames are multiplied with them.

    Beside a frame's values stand 1, 1, 1, a level, its length, what rounding took from it and what lies in no direction; so the
    product is the score, less the level, plus the bound of its error.

    Args:
        centred: centroids around the point, shape (clusters, dim).
        bias: what is added to a product to make it a score, shape (clusters,).
        directions: of the frames.
        rounding: of the frames.
    """

    def __init__(
        self, centred: NDArray[np.float64], bias: NDArray[np.float32], directions: Directions | None, rounding: Rounding
    ) -> None:
        self.works: list[_Work] = []
        clusters, values = len(centred), values_of(centred.shape[1], directions)
        along, tilted, rest = centred, 0.0, np.zeros(clusters)
        if directions is not None:
            along = centred @ directions.wide
            rest_of = centred - along @ directions.wide.T
            rest = np.linalg.norm(rest_of, axis=1) + 1e-12 * np.linalg.norm(centred, axis=1)
            tilted = np.linalg.norm(rest_of @ directions.wide, axis=1)
        dtype: torch.dtype = getattr(torch, rounding)
        rounded = torch.from_numpy(along).to(dtype)
        lost = np.linalg.norm(along - rounded.double().numpy(), axis=1) + tilted
        parts, left = [], torch.from_numpy(bias.copy())
        for _ in range(3):  # three times 8 bits hold float32's 24
            parts.append(left.to(dtype))
            left = left - parts[-1].float()
        lengths = np.stack([lost, np.linalg.norm(along, axis=1), rest], axis=1) * UP
        bounds = torch.from_numpy(lengths).to(dtype)
        self.bounds: NDArray[np.float32] = bounds.float().numpy()
        made = torch.column_stack([rounded, *parts, -torch.ones(clusters, dtype=dtype, device="cpu"), bounds])
        width = Space.of(0, centred.shape[1], directions, rounding, 0).rounded.shape[1]
        self.columns = torch.zeros(width, clusters, dtype=dtype, device="cpu")
        self.columns[: values + BESIDE] = made.T
        self.sum_error = np.float32((width + 16) * 2.0**-23)
