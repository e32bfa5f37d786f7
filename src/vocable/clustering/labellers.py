"""Which code labels frames on which device, and when it is worth loading torch for it."""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from vocable.clustering.assignment import Array, NearestCentroid
from vocable.execution.engine import check_device

# Seconds, measured with AMX at 768 values: what scores in bfloat16 save for each value of a frame and each centroid, what they
# cost for each value of a frame, and what it takes to load torch.
_SAVED = 1.3e-11
_COST = 2.2e-9
_LOADING = 2.0


class Labeller(Protocol):
    """Makes, of centroids, what labels frames with them."""

    def __call__(self, centroids: Array, shift: Array | None = None) -> NearestCentroid:
        """Return what labels frames with centroids of shape (clusters, dim); for `shift` see `NearestCentroid`."""

    def prepared(self, frames: Array, shift: Array, clusters: int, memory: int) -> Sliceable:
        """Return frames as what is made with this shift takes them, in many passes, in less time.

        Args:
            frames: shape (frames, dim).
            shift: shape (dim,).
            clusters: how many there will be.
            memory: bytes that may be taken, those of the frames counted.
        """


class Sliceable(Protocol):
    """Frames, parts of which can be labelled."""

    def __getitem__(self, rows: slice, /) -> Any: ...


def labeller_for(device: str, frames: int = 0) -> Labeller:
    """Return what labels frames on a device.

    On the CPU that is NumPy's, or torch's in bfloat16 where the processor is fast at it and there is enough to do; labels are the
    same. Other devices take torch.

    Args:
        device: `cpu`, or a torch device.
        frames: about how many are to be labelled, those of several passes counted again.

    Raises:
        InputError: there is no such device.
    """
    if device == "cpu":
        return CpuLabeller(frames)
    check_device(device)
    return _DeviceLabeller(device)


@dataclass(frozen=True)
class CpuLabeller:
    """Labels frames on the CPU.

    Args:
        frames: about how many; where torch is loaded, it matters no more.
    """

    frames: int = 0

    def __call__(self, centroids: Array, shift: Array | None = None) -> NearestCentroid:
        if not self._rounds(centroids.dtype, *centroids.shape):
            return NearestCentroid(centroids, shift)
        from vocable.clustering.assignment_bfloat16 import Bfloat16NearestCentroid

        return Bfloat16NearestCentroid(centroids, shift)

    def prepared(self, frames: Array, shift: Array, clusters: int, memory: int) -> Sliceable:
        if 2 * frames.nbytes > memory or not self._rounds(frames.dtype, clusters, frames.shape[1]):
            return frames
        from vocable.clustering.assignment_bfloat16 import RoundedFrames

        return RoundedFrames(frames, shift.astype(frames.dtype))

    def _rounds(self, dtype: np.dtype[Any], clusters: int = 0, dim: int = 0) -> bool:
        """Tell whether scores are taken in bfloat16."""
        gain = dim * (_SAVED * clusters - _COST)
        if dtype != np.float32 or gain <= 0 or not multiplies_bfloat16():
            return False
        return "torch" in sys.modules or self.frames * gain > _LOADING


@dataclass(frozen=True)
class _DeviceLabeller:
    device: str

    def __call__(self, centroids: Array, shift: Array | None = None) -> NearestCentroid:
        from vocable.clustering.assignment_torch import TorchNearestCentroid

        return TorchNearestCentroid(centroids, self.device, shift)

    def prepared(self, frames: Array, shift: Array, clusters: int, memory: int) -> Sliceable:
        return frames


@cache
def multiplies_bfloat16() -> bool:
    """Tell whether this processor multiplies bfloat16 much faster than float32."""
    path = Path("/proc/cpuinfo")
    return platform.machine() == "x86_64" and path.exists() and fast_at_bfloat16(path.read_text())


def fast_at_bfloat16(cpuinfo: str) -> bool:
    """Tell whether a processor, as Linux describes it, multiplies bfloat16 much faster than float32.

    Intel's with AMX do, and AMD's since Zen 4; others that have instructions for bfloat16 are no faster at it.
    """
    fields = dict(line.partition(":")[::2] for line in cpuinfo.partition("\n\n")[0].splitlines())
    described = {key.strip(): value.strip() for key, value in fields.items()}
    flags = described.get("flags", "").split()
    return "amx_bf16" in flags or ("avx512_bf16" in flags and described.get("vendor_id") == "AuthenticAMD")
