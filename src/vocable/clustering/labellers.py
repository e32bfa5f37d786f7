"""Which code labels frames on which device, and when it is worth loading torch for it."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from vocable.clustering.assignment import Array, NearestCentroid
from vocable.clustering.sources import ArraySource
from vocable.execution.engine import check_device
from vocable.execution.processor import bfloat16_speed

if TYPE_CHECKING:
    from vocable.clustering.passes import Measures, Walk
    from vocable.clustering.rounded_frames import Directions, Rounding

# Seconds, measured at 768 values with AMX and with Zen 4: what a product takes in float32; what rounding a frame takes for each
# value; what a frame takes that is rounded along some directions, besides products; what finding these takes; what another
# centroid's distance takes for each value; loading torch.
_PRODUCT = 2e-11
_COST = 2.2e-9
_APART = 1e-6
_DIRECTING = 0.2
_DISTANCE = 4.5e-10
_LOADING = 2.0

_MANY_VALUES = 192  # of which half or fewer may tell most centroids apart


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

    @property
    def draws_on(self) -> str | None:
        """A torch device on which centroids are seeded; None for the CPU."""

    def placed(self, frames: Array) -> ArraySource:
        """Return frames in memory as a source, which may keep a copy on a device."""

    def walk(self, source: ArraySource, measures: Measures) -> Walk | None:
        """Return what goes through a source pass by pass on a device; None where the host is to."""


class Sliceable(Protocol):
    """Frames, parts of which can be labelled."""

    def __getitem__(self, rows: slice, /) -> Any: ...


def labeller_for(device: str, frames: int = 0) -> Labeller:
    """Return what labels frames on a device.

    On the CPU that is NumPy, or torch where frames have many values, or the processor is fast at bfloat16, and there is enough to
    do; labels are the same. Other devices take torch.

    Args:
        device: `cpu`, or a torch device.
        frames: about how many are to be labelled, those of several passes counted again.

    Raises:
        InputError: there is no such device.
    """
    if device == "cpu":
        return CpuLabeller(frames)
    check_device(device)
    from vocable.clustering.assignment_torch import runs_kernels

    return _KernelLabeller(device=device) if runs_kernels(device) else _TorchLabeller(device=device)


@dataclass(frozen=True)
class CpuLabeller:
    """Labels frames on the CPU.

    Args:
        frames: about how many; where torch is loaded, it matters for directions alone.
    """

    frames: int = 0
    _found: dict[bytes, Directions | None] = field(default_factory=dict, compare=False)
    """Directions of frames around a point."""

    def __call__(self, centroids: Array, shift: Array | None = None) -> NearestCentroid:
        if not self._screens(centroids.dtype, *centroids.shape):
            return NearestCentroid(centroids, shift)
        directions, worth = self._for_one_pass(centroids) if shift is None else (None, 0.0)
        here = directions is not None or (shift is not None and self._found.get(_key(shift)) is not None)
        if _rounding() == "float32" and not here:
            return NearestCentroid(centroids, shift)
        from vocable.clustering.assignment_screened import ScreenedNearestCentroid

        return ScreenedNearestCentroid(centroids, shift, directions, _rounding(), worth)

    def prepared(self, frames: Array, shift: Array, clusters: int, memory: int) -> Sliceable:
        if 2 * frames.nbytes > memory or not self._screens(frames.dtype, clusters, frames.shape[1]):
            return frames
        from vocable.clustering.rounded_frames import Directions, RoundedFrames

        point, key = shift.astype(np.float32), _key(shift)
        if key not in self._found:
            directions = Directions.of(frames, point)
            self._found[key] = directions if self._gain(clusters, directions) > 0 else None
        if self._found[key] is None and _rounding() == "float32":
            return frames
        return RoundedFrames(frames, point, self._found[key], _rounding())

    @property
    def draws_on(self) -> str | None:
        return None

    def placed(self, frames: Array) -> ArraySource:
        return ArraySource(frames)

    def walk(self, source: ArraySource, measures: Measures) -> Walk | None:
        return None

    def _for_one_pass(self, centroids: Array) -> tuple[Directions | None, float]:
        """Return the centroids' directions where it may pay to find them, and to bring each frame to them once.

        And how many distances a frame may take, beside that from one centroid, for it to pay really.
        """
        from vocable.clustering.rounded_frames import Directions

        clusters, dim = centroids.shape
        if self.frames * _PRODUCT * clusters * dim / bfloat16_speed() < _DIRECTING:
            return None, 0.0
        directions = Directions.of(centroids, centroids.mean(axis=0))
        if directions is None:
            return None, 0.0
        gain = self._gain(clusters, directions) - _PRODUCT * directions.columns.size
        return (directions if self.frames * gain > _DIRECTING else None), gain / (_DISTANCE * dim)

    def _gain(self, clusters: int, directions: Directions | None) -> float:
        """Return the seconds that directions spare a frame whose values along them are there."""
        if directions is None:
            return 0.0
        dim, kept = directions.columns.shape
        gain: float = (dim - kept) * clusters * _PRODUCT / bfloat16_speed() - _APART
        return gain

    def _screens(self, dtype: np.dtype[Any], clusters: int, dim: int) -> bool:
        """Tell whether it may pay to round frames, or to bring them to directions."""
        if dtype != np.float32:
            return False
        speed = bfloat16_speed()
        if speed > 1:
            gain = dim * (_PRODUCT * clusters * (1 - 1 / speed) - _COST)
        else:
            gain = dim / 2 * _PRODUCT * clusters - _APART if dim >= _MANY_VALUES else 0.0
        return gain > 0 and ("torch" in sys.modules or self.frames * gain > _LOADING)


def _rounding() -> Rounding:
    return "bfloat16" if bfloat16_speed() > 1 else "float32"


def _key(point: Array) -> bytes:
    return point.astype(np.float32).tobytes()


@dataclass(frozen=True)
class _TorchLabeller(CpuLabeller):
    """Labels frames on a torch device."""

    device: str = "cpu"

    def __call__(self, centroids: Array, shift: Array | None = None) -> NearestCentroid:
        from vocable.clustering.assignment_torch import TorchNearestCentroid

        return TorchNearestCentroid(centroids, self.device, shift)

    def prepared(self, frames: Array, shift: Array, clusters: int, memory: int) -> Sliceable:
        return frames


@dataclass(frozen=True)
class _KernelLabeller(_TorchLabeller):
    """Labels frames on a GPU that runs Triton kernels, and keeps them there."""

    def __call__(self, centroids: Array, shift: Array | None = None) -> NearestCentroid:
        from vocable.clustering.assignment_device import DeviceNearestCentroid

        if centroids.dtype != np.float32:
            return super().__call__(centroids, shift)
        return DeviceNearestCentroid(centroids, self.device, shift)

    @property
    def draws_on(self) -> str | None:
        return self.device

    def placed(self, frames: Array) -> ArraySource:
        import torch

        from vocable.clustering.device_frames import DeviceSource, fits

        if frames.dtype != np.float32 or not fits(frames, self.device):
            return ArraySource(frames)
        try:
            return DeviceSource(frames, self.device)
        except torch.OutOfMemoryError:  # others took it meanwhile
            return ArraySource(frames)

    def walk(self, source: ArraySource, measures: Measures) -> Walk | None:
        from vocable.clustering.device_frames import DeviceSource
        from vocable.clustering.passes_device import DeviceWalk, suits

        return DeviceWalk(source, measures) if isinstance(source, DeviceSource) and suits(measures) else None
