"""Frames that lie in a GPU's memory: moved there once for a fit, and rounded there for many passes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vocable.clustering.assignment import Array
from vocable.clustering.device_kernels import DEPTH
from vocable.clustering.sources import ArraySource

_STAGED_BYTES = 1 << 26
_ROWS = 1 << 17  # rounded at a time
_LARGEST_EXPONENT = 12  # of scaled values: float16 reaches to 2^16, and 24 bits below 1
_REACH = 100  # exponents of scales
_HEADROOM = 3 << 30
_TIMES = 1.9  # the bytes of the frames: themselves, rounded ones, and samples of both


def fits(frames: Array, device: str) -> bool:
    """Tell whether a GPU has room for frames, and for what a fit makes of them."""
    free, _ = torch.cuda.mem_get_info(torch.device(device))
    return frames.nbytes * _TIMES + _HEADROOM < free


def moved(frames: Array, device: str) -> torch.Tensor:
    """Return frames on a device, through pinned memory where it is a GPU: pageable memory is copied at a fraction of its rate."""
    there = torch.empty(frames.shape, dtype=torch.float32, device=device)
    rows = max(1, _STAGED_BYTES // max(1, 4 * frames.shape[1]))
    if there.device.type != "cuda" or len(frames) <= rows:
        there.copy_(torch.from_numpy(np.ascontiguousarray(frames)))
        return there
    stages = [torch.empty(rows, frames.shape[1], pin_memory=True) for _ in range(2)]
    done: list[Any] = [torch.cuda.Event() for _ in stages]  # type: ignore[no-untyped-call]
    for turn, first in enumerate(range(0, len(frames), rows)):
        stage, event = stages[turn % 2], done[turn % 2]
        event.synchronize()
        piece = torch.from_numpy(np.ascontiguousarray(frames[first : first + rows]))
        stage[: len(piece)].copy_(piece)
        there[first : first + rows].copy_(stage[: len(piece)], non_blocking=True)
        event.record()
    torch.cuda.synchronize(there.device)
    return there


class DeviceSource(ArraySource):
    """Frames in memory that also lie on a device.

    Args:
        frames: float32, shape (frames, dim).
        device: of the copy.
        tensor: the copy, if there is one.
    """

    def __init__(self, frames: Array, device: str, tensor: torch.Tensor | None = None) -> None:
        super().__init__(frames)
        self.device: str | None = device
        self.tensor = moved(frames, device) if tensor is None else tensor

    def largest(self) -> NDArray[np.float64]:
        """Return the largest absolute value of each column; NaN where one is."""
        largest: NDArray[np.float64] = (
            torch.maximum(self.tensor.amax(dim=0), -self.tensor.amin(dim=0)).cpu().numpy().astype(np.float64)
        )
        return largest

    def part(self, rows: NDArray[np.intp]) -> DeviceSource:
        """Return some of the frames; on the host too, which few need."""
        assert self.device is not None
        return _Part(self, rows)


class _Part(DeviceSource):
    """Some frames of a source, taken on the device, and on the host once they are asked for there."""

    def __init__(self, whole: DeviceSource, rows: NDArray[np.intp]) -> None:
        self.device, self._whole, self._rows = whole.device, whole, rows
        self.tensor = whole.tensor[torch.from_numpy(rows).to(whole.tensor.device)]
        self._frames: Array | None = None

    @property
    def frames(self) -> Array:  # type: ignore[override]
        if self._frames is None:
            self._frames = self.tensor.cpu().numpy()
        return self._frames

    def __len__(self) -> int:
        return len(self._rows)


class HalfFrames:
    """Frames around a point on a device, scaled by a power of two and rounded to float16, with what bounds the scores' errors.

    Args:
        frames: float32, shape (frames, dim).
        shift: the point, shape (dim,).
    """

    def __init__(self, frames: torch.Tensor, shift: torch.Tensor) -> None:
        count, dim = frames.shape
        width = -(-dim // DEPTH) * DEPTH
        self.frames = frames
        self.values = torch.zeros(count, width, dtype=torch.float16, device=frames.device)
        self.lengths, self.lost, self.squares = torch.empty(3, count, device=frames.device).unbind()
        pieces = [slice(first, first + _ROWS) for first in range(0, count, _ROWS)]
        largest = max((float((frames[piece] - shift).abs().max()) for piece in pieces), default=0.0)
        self.scale = scale_for(largest)
        """None where the frames are too large or too small to be scaled."""
        if self.scale is None:
            return
        for piece in pieces:
            centred = (frames[piece] - shift).mul_(self.scale)
            rounded = self.values[piece, :dim].copy_(centred)
            self.squares[piece] = torch.linalg.vector_norm(centred, dim=1).square_()
            self.lengths[piece] = torch.linalg.vector_norm(centred, dim=1)
            self.lost[piece] = torch.linalg.vector_norm(centred.sub_(rounded), dim=1)

    def __len__(self) -> int:
        return len(self.frames)


def scale_for(largest: float) -> float | None:
    """Return the power of two that brings values near the top of float16's range; None where there is none."""
    if largest == 0:
        return 1.0
    exponent = _LARGEST_EXPONENT - int(np.frexp(largest)[1]) if np.isfinite(largest) else _REACH + 1
    return float(np.ldexp(1.0, exponent)) if abs(exponent) <= _REACH else None
