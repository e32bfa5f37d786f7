"""Passes over frames that lie on a GPU: labels, and the sums of what moved, are made there; sums are the same integers."""

from __future__ import annotations

import numpy as np
import torch

from vocable.clustering import device_kernels
from vocable.clustering.assignment import Array, Labels
from vocable.clustering.assignment_device import DeviceNearestCentroid
from vocable.clustering.cluster_sums import ClusterSums
from vocable.clustering.device_frames import DeviceSource, HalfFrames, on
from vocable.clustering.farthest import Farthest
from vocable.clustering.passes import Measures, Outcome

_LARGEST_SCALE = 2.0**100
_WIDER = 4  # times as many frames are looked at for the farthest, since float64 sums in another order on the device


def suits(measures: Measures) -> bool:
    """Tell whether sums on this grid can be made on a device: whole steps of float32 values, with nothing finer."""
    scale = measures.grid.scale[:-1]
    return not measures.grid.fine and bool(scale.min() >= 1 and scale.max() < _LARGEST_SCALE)


class DeviceWalk:
    """Goes through frames on a device.

    Args:
        source: the frames.
        measures: how passes measure.
    """

    def __init__(self, source: DeviceSource, measures: Measures) -> None:
        self._frames, self._device, self._measures = source.tensor, source.device, measures
        point = torch.from_numpy(measures.anchor.astype(np.float32)).to(self._device)
        with torch.inference_mode():
            self._halves = HalfFrames(self._frames, point, torch.from_numpy(measures.anchor).to(self._device))
            self._spread = float(self._halves.squares.sum())
        self._scale = torch.from_numpy(measures.grid.scale[:-1].astype(np.float32)).to(self._device)
        self._sums = ClusterSums(measures.grid, measures.n_clusters)
        self._labels: torch.Tensor | None = None
        self._nearest: DeviceNearestCentroid | None = None

    @property
    def labels(self) -> Labels | None:
        """Those of the last pass."""
        return None if self._labels is None else self._labels.cpu().numpy()

    def __call__(self, centroids: Array) -> Outcome:
        """Make a pass."""
        self._nearest = DeviceNearestCentroid(centroids, self._device, self._measures.anchor)
        with torch.inference_mode(), on(self._device):
            labels, before = self._nearest.label(self._halves), self._labels
            self._add_up(before, labels)
            self._labels = labels
            inertia = self._measures.inertia(self._spread, self._sums, centroids)
            if inertia is None:
                inertia = float(self._distances().sum())
        return Outcome(self._sums, inertia)

    def farthest(self) -> Farthest:
        """Return the frames that the last pass found farthest from their centroids."""
        assert self._nearest is not None
        assert self._labels is not None
        limit = self._measures.limit
        with torch.inference_mode():
            rows = self._distances().topk(min(_WIDER * limit, len(self._frames))).indices.sort().values
            frames, labels = self._frames[rows].cpu().numpy(), self._labels[rows].cpu().numpy()
        return Farthest.of(frames, self._nearest.squared_distances(frames, labels), limit)

    def _distances(self) -> torch.Tensor:
        assert self._nearest is not None
        assert self._labels is not None
        return self._nearest.squared_distances_of(self._frames, self._labels)

    def _add_up(self, before: torch.Tensor | None, labels: torch.Tensor) -> None:
        """Bring the sums up to date with new labels."""
        moved = None if before is None else torch.nonzero(before != labels)[:, 0]
        if before is not None and moved is not None and 2 * len(moved) < len(labels):
            self._add(moved, before[moved], -1)
            self._add(moved, labels[moved], 1)
        else:
            self._sums = ClusterSums(self._measures.grid, self._measures.n_clusters)
            self._add(None, labels, 1)

    def _add(self, rows: torch.Tensor | None, labels: torch.Tensor, sign: int) -> None:
        """Add rows, or all, to the sums of their labels, or take them away."""
        clusters = self._measures.n_clusters
        ordered, order = torch.sort(labels.to(torch.int16) if clusters < 1 << 15 else labels, stable=True)
        bounds = torch.searchsorted(ordered, torch.arange(clusters + 1, dtype=ordered.dtype, device=labels.device))
        counts = bounds.diff()
        segments = (counts + device_kernels.SEGMENT - 1) // device_kernels.SEGMENT
        of = torch.repeat_interleave(torch.arange(clusters, device=labels.device), segments)
        within = torch.arange(len(of), device=labels.device) - (torch.cumsum(segments, 0) - segments)[of]
        starts = bounds[of] + within * device_kernels.SEGMENT
        stops = torch.minimum(starts + device_kernels.SEGMENT, bounds[of + 1])
        steps = torch.zeros(clusters, self._frames.shape[1], dtype=torch.int64, device=labels.device)
        order = order if rows is None else rows[order]
        device_kernels.add_segments(self._frames, order, starts, stops, of, self._scale, steps, sign)
        self._sums.add_steps(steps.cpu().numpy(), sign * counts.cpu().numpy())
