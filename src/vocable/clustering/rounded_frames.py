"""Frames in few digits or along few directions, of which scores are made quickly; with what bounds the scores' errors.

Frames of many values lie mostly along a few directions. Rounded there alone, they take a fraction of the products, and what is
left out of a score is at most what is left out of the frame's length times what is left out of the centroid's (Cauchy and
Schwarz).
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray

from vocable.clustering.assignment import Array

Rounding = Literal["bfloat16", "float32"]
"""The type that frames are rounded to: float32, as they are, where only directions make scores quicker."""

UNITS: dict[Rounding, float] = {"bfloat16": 2.0**-8, "float32": 2.0**-24}
"""Largest relative error of rounding to a type."""

UP = 1 + 4 * UNITS["bfloat16"]
"""What was multiplied by this, rounding to either type doesn't take below what it was."""

BESIDE = 7
"""Columns beside a frame's values: three for a centroid's bias, a level, and three lengths."""

_TILE = 32  # columns come in multiples of what matrix units take at a time
_ROWS = 512  # of frames rounded at a time
_FEW_VALUES = 128  # of which none are left out
_KEPT = 0.93  # of the frames' squares around the point; their directions are enough to tell most centroids apart
_LOOKED_AT = 8  # frames to a value, for the directions
_FLOAT32 = 2.0**-24


class Directions:
    """Directions in which frames are told apart.

    Args:
        columns: orthonormal but for rounding, shape (dim, directions), float32.
    """

    def __init__(self, columns: NDArray[np.float32]) -> None:
        self.columns = columns
        self.wide: NDArray[np.float64] = columns.astype(np.float64)
        count = columns.shape[1]
        self.tilt = 1.01 * float(np.linalg.norm(self.wide.T @ self.wide - np.eye(count)))
        """Bound on how far from orthonormal they are, as a norm."""
        absolute = np.abs(self.wide)
        stretch = float(np.sqrt(absolute.sum(axis=0).max() * absolute.sum(axis=1).max()))
        self.rounding = 1.01 * (len(columns) + 2) * _FLOAT32 * stretch
        """Bound on the error of a frame's values along them, as float32 computes them, to the frame's length."""

    @classmethod
    def of(cls, frames: Array, point: Array) -> Self | None:
        """Return the directions that hold most of what frames spread around a point; None where these are many of few."""
        dim = frames.shape[1]
        if dim <= _FEW_VALUES:
            return None
        with np.errstate(over="ignore", invalid="ignore"):
            some = frames[:: max(1, len(frames) // (_LOOKED_AT * dim))] - point
            covariance = some.T @ some
        if not np.isfinite(covariance).all():
            return None
        spread, vectors = np.linalg.eigh(covariance)
        held = np.cumsum(spread[::-1])
        if not held[-1] > 0:
            return None
        wanted = int(np.searchsorted(held, _KEPT * held[-1])) + 1
        width = _width(wanted)
        return cls(np.ascontiguousarray(vectors[:, : -1 - (width - BESIDE) : -1])) if 2 * width <= dim else None


class RoundedFrames:
    """Frames around a point, rounded, with what the bounds of errors take: made once for many passes.

    Args:
        frames: float32, shape (frames, dim).
        shift: the point, shape (dim,).
        directions: along which frames are rounded; all values are, without.
        rounding: the type.
        space: where they are made, with at least as many rows; had anew without.
    """

    squares: NDArray[np.float32]
    """Of the frames' lengths."""
    lengths: NDArray[np.float32]
    """No less than those of what was rounded."""
    lost: NDArray[np.float32]
    """Bounds on the length of what rounding took."""
    rest: NDArray[np.float32]
    """Bounds on the length of what lies in no direction."""

    def __init__(
        self,
        frames: Array,
        shift: Array,
        directions: Directions | None = None,
        rounding: Rounding = "bfloat16",
        space: Space | None = None,
    ) -> None:
        count, dim = frames.shape
        self.frames, self.shift, self.directions, self.rounding = frames, shift, directions, rounding
        if space is None:
            space = Space.of(count, dim, directions, rounding, rows_centred=min(count, _ROWS))
        self.rounded = space.rounded[:count]
        self.squares, self.lengths, self.lost, self.rest = np.empty((4, count), np.float32)
        with np.errstate(over="ignore", invalid="ignore"):  # scores aren't made of frames so long
            for first in range(0, count, _ROWS):
                self._round(slice(first, min(first + _ROWS, count)), space)

    def _round(self, piece: slice, space: Space) -> None:
        # NumPy's products and differences have all their digits, whatever torch is told.
        values = space.centred[: piece.stop - piece.start]
        np.subtract(self.frames[piece], self.shift, out=values.numpy())
        self.squares[piece] = squares = _squares(values)
        if self.directions is not None:
            along_them = space.along[: len(values)]
            np.matmul(values.numpy(), self.directions.columns, out=along_them.numpy())
            values = along_them
        along = squares if self.directions is None else _squares(values)
        rounded = self.rounded[piece, : values.shape[1]]
        rounded.copy_(values)
        values -= rounded
        lost = np.sqrt(_squares(values)) * np.float32(1.01)
        if self.directions is None:
            self.rest[piece] = 0
        else:
            # With P the directions, y what was found along them for a frame x, and r = x - P y what is left: |Pᵀ r| is no more
            # than `rounding` |x| + `tilt` |y|, and |r|² = |x|² - |P y|² - 2 y·Pᵀ r.
            slack = 2 * self.directions.rounding + 4 * self.directions.tilt + 2 * (len(self.shift) + 4) * _FLOAT32
            self.rest[piece] = np.sqrt(np.maximum(squares - along + np.float32(1.02 * slack) * squares, 0)) * np.float32(1.01)
            lost += np.sqrt(squares) * np.float32(1.02 * (self.directions.rounding + 2 * self.directions.tilt))
        self.lost[piece] = lost
        self.lengths[piece] = np.sqrt(along) * np.float32(1.01)

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, rows: slice) -> RoundedFrames:
        part = object.__new__(RoundedFrames)
        part.shift, part.directions, part.rounding = self.shift, self.directions, self.rounding
        part.frames, part.rounded, part.squares = self.frames[rows], self.rounded[rows], self.squares[rows]
        part.lengths, part.lost, part.rest = self.lengths[rows], self.lost[rows], self.rest[rows]
        return part

    @property
    def values(self) -> int:
        """How many values of a frame are rounded."""
        return values_of(len(self.shift), self.directions)


class Space(NamedTuple):
    """Where frames are rounded."""

    centred: torch.Tensor
    along: torch.Tensor
    rounded: torch.Tensor

    @classmethod
    def of(cls, rows: int, dim: int, directions: Directions | None, rounding: Rounding, rows_centred: int) -> Self:
        """Return space for so many frames, of which some are centred at a time."""
        values = values_of(dim, directions)
        rounded = torch.zeros(rows, _width(values), dtype=getattr(torch, rounding), device="cpu")
        rounded[:, values : values + 3] = 1
        centred, along = (
            torch.empty(rows_centred, width, dtype=torch.float32, device="cpu")
            for width in (dim, values if directions is not None else 0)
        )
        return cls(centred, along, rounded)


def values_of(dim: int, directions: Directions | None) -> int:
    """Return how many values of a frame are rounded."""
    return dim if directions is None else directions.columns.shape[1]


def _width(values: int) -> int:
    """Return the columns of rounded frames: some beside the values, and a multiple of what matrix units take at a time."""
    return -(-(values + BESIDE) // _TILE) * _TILE


def _squares(values: torch.Tensor) -> NDArray[np.float32]:
    array = values.numpy()
    squares: NDArray[Any] = np.einsum("ij,ij->i", array, array)
    return squares
