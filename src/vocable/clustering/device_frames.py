"""Frames that lie in a GPU's memory: moved there once for a fit, and rounded there for many passes."""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vocable.clustering.assignment import Array
from vocable.clustering.device_kernels import DEPTH, round_frames
from vocable.clustering.sources import ArraySource

_STAGED_BYTES = 1 << 26
_HEADROOM = 3 << 30
_SAMPLES = 1.5  # frames in memory at once, to those of the whole: itself, and a sample of half of it at most
_BESIDE = 100  # bytes of a frame beside its values: lengths, labels and what orders them


def fits(frames: Array, device: str) -> bool:
    """Tell whether a GPU has room for frames, and for what a fit makes of them."""
    free, _ = torch.cuda.mem_get_info(torch.device(device))
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # by torch, for what comes next
    count, dim = frames.shape
    needed: float = count * (_SAMPLES * 4 * dim + 2 * _width(dim) + _BESIDE) + _HEADROOM
    return needed < int(free) + int(kept)


def on(device: str | torch.device) -> AbstractContextManager[object]:
    """Make a GPU the current one of this thread, on which kernels run and events are recorded."""
    return torch.cuda.device(device) if torch.device(device).type == "cuda" else nullcontext()


def moved(frames: Array, device: str) -> torch.Tensor:
    """Return frames on a device, through pinned memory where it is a GPU: pageable memory is copied at a fraction of its rate."""
    with on(device):
        return _moved(frames, device)


def _moved(frames: Array, device: str) -> torch.Tensor:
    there = torch.empty(frames.shape, dtype=torch.float32, device=device)
    rows = max(1, _STAGED_BYTES // max(1, 4 * frames.shape[1]))
    if there.device.type != "cuda" or len(frames) <= rows:
        there.copy_(_readable(frames))
        return there
    stages = [torch.empty(rows, frames.shape[1], dtype=torch.float32, pin_memory=True) for _ in range(2)]
    done: list[Any] = [torch.cuda.Event() for _ in stages]  # type: ignore[no-untyped-call]
    for turn, first in enumerate(range(0, len(frames), rows)):
        stage, event = stages[turn % 2], done[turn % 2]
        event.synchronize()
        piece = _readable(frames[first : first + rows])
        stage[: len(piece)].copy_(piece)
        there[first : first + rows].copy_(stage[: len(piece)], non_blocking=True)
        event.record()
    torch.cuda.synchronize(there.device)
    return there


def _readable(frames: Array) -> torch.Tensor:
    """Return frames as a tensor that is only read: torch warns of arrays that can't be written to."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return torch.from_numpy(np.ascontiguousarray(frames))


def _width(dim: int) -> int:
    """Return the columns of rounded frames."""
    return -(-dim // DEPTH) * DEPTH


class DeviceSource(ArraySource):
    """Frames in memory that also lie on a device.

    Args:
        frames: float32, shape (frames, dim).
        device: of the copy.
    """

    def __init__(self, frames: Array, device: str) -> None:
        super().__init__(frames)
        self.device, self.tensor = device, moved(frames, device)

    def largest(self) -> NDArray[np.float64]:
        """Return the largest absolute value of each column; NaN where one is."""
        largest: NDArray[np.float64] = (
            torch.maximum(self.tensor.amax(dim=0), -self.tensor.amin(dim=0)).cpu().numpy().astype(np.float64)
        )
        return largest

    def part(self, rows: NDArray[np.intp]) -> DeviceSource:
        """Return some of the frames; on the host too, which few need."""
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
    """Frames around a point on a device, scaled by powers of two and rounded to float16, with what bounds the scores' errors.

    Args:
        frames: float32, shape (frames, dim).
        shift: the point, float32, shape (dim,).
        anchor: what squared distances are taken from, float64, shape (dim,); the point, by default.
    """

    def __init__(self, frames: torch.Tensor, shift: torch.Tensor, anchor: torch.Tensor | None = None) -> None:
        count, dim = frames.shape
        self.frames = frames
        self.values = torch.empty(count, _width(dim), dtype=torch.float16, device=frames.device)
        self.scales, self.lengths, self.lost = torch.empty(3, count, dtype=torch.float32, device=frames.device).unbind()
        self.squares = torch.empty(count, dtype=torch.float64, device=frames.device)
        """Of the distances from the anchor."""
        if count:
            anchor = shift.double() if anchor is None else anchor
            with on(frames.device):
                round_frames(frames, shift, anchor, self.values, self.scales, self.lengths, self.lost, self.squares)

    def __len__(self) -> int:
        return len(self.frames)
