"""`NearestCentroid` on a torch device: scores there, near-ties decided there in float64, labels equal to the CPU's."""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np
import torch

from vocable.clustering.assignment import Array, Labels, NearestCentroid

_ROWS = 1 << 16


_lock = threading.Lock()
_inside = 0
_before = ""


@cache
def runs_kernels(device: str) -> bool:
    """Tell whether a torch device runs the kernels: whether it is such a GPU, and Triton can compile one for it here."""
    chosen = torch.device(device)
    if chosen.type != "cuda" or torch.version.hip is not None or importlib.util.find_spec("triton") is None:
        return False
    if torch.cuda.get_device_capability(chosen) < (8, 0):
        return False
    try:
        from vocable.clustering.device_frames import HalfFrames

        HalfFrames(torch.ones(1, 1, device=chosen), torch.zeros(1, device=chosen))
    except Exception as error:  # noqa: BLE001 (whatever it is, there is another way)
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        print(f"warning: {device} is used without kernels of our own, which Triton can't compile: {reason}", file=sys.stderr)
        return False
    return True


@contextmanager
def _full_precision() -> Iterator[None]:
    """Keep torch from multiplying float32 in fewer bits than the bound on errors counts on, whatever a user has set.

    The setting is the whole process's: the first thread to come in changes it, and the last to leave changes it back.
    """
    global _inside, _before  # noqa: PLW0603
    with _lock:
        if not _inside:
            _before = torch.get_float32_matmul_precision()
            torch.set_float32_matmul_precision("highest")
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                torch.set_float32_matmul_precision(_before)


class TorchNearestCentroid(NearestCentroid):
    """Labels frames on a device. Frames too close to two centroids for its precision are decided on the CPU."""

    def __init__(self, centroids: Array, device: str, shift: Array | None = None) -> None:
        super().__init__(centroids, shift)
        self._device = torch.device(device)
        self._device_columns = torch.from_numpy(self._columns[:-1]).to(self._device)
        self._device_bias = torch.from_numpy(self._columns[-1].copy()).to(self._device)
        self._device_shift = torch.from_numpy(self._shift).to(self._device)

    def __call__(self, frames: Array) -> Labels:
        """Return the label of each frame of shape (frames, dim)."""
        frames = self._checked(frames)
        labels = np.empty(len(frames), dtype=np.int32)
        with torch.inference_mode(), _full_precision():
            for first in range(0, len(frames), _ROWS):
                piece = frames[first : first + _ROWS]
                labels[first : first + len(piece)] = self._label_piece(piece)
        return labels

    def _label_piece(self, frames: Array) -> Labels:
        centred = torch.from_numpy(np.ascontiguousarray(frames)).to(self._device) - self._device_shift
        squares = (centred * centred).sum(dim=1)
        if self._may_overflow(float(squares.max())):
            return super().__call__(frames)
        scores = torch.addmm(self._device_bias, centred, self._device_columns)
        top = scores.topk(min(2, scores.shape[1]), dim=1)
        labels = top.indices[:, 0].to(torch.int32).cpu().numpy()
        if scores.shape[1] == 1:
            return labels
        sure = top.values[:, 0] - top.values[:, 1] > 2 * self._error_bound(squares)
        close = np.flatnonzero(~sure.cpu().numpy())
        if len(close):
            labels[close] = super().__call__(frames[close])
        return labels
