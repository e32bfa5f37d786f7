"""`NearestCentroid` on GPUs that run Triton kernels: scores in float16, all that is close decided there in float64.

As `assignment_screened`: what rounding takes from a frame or a centroid bounds the error of a score, the bound comes with the
score, and where more than one centroid may be nearest, distances decide. Float16 has three bits more, so few are close.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

from vocable.clustering import device_kernels
from vocable.clustering.assignment import Array, Labels, NearestCentroid
from vocable.clustering.device_frames import HalfFrames, moved, on

_ROWS = 1 << 18  # of frames moved and labelled at a time
_COMPARED_BYTES = 1 << 25  # of marks for which centroids are close
_FLOAT32 = 2.0**-24
_UP = 1 + 2.0**-10
_LARGEST_EXPONENT = 12  # of scaled values: float16 reaches to 2^16, and 24 bits below 1
_REACH = 60  # exponents of scales
_ALIKE = 1e-11  # distances that differ by less, relatively, are summed again on the CPU, whose order of summing counts


class Side(NamedTuple):
    """Centroids as the kernels take them; rows are padded with such that score minus infinity."""

    columns: torch.Tensor
    bias: torch.Tensor
    lost: torch.Tensor
    norms: torch.Tensor
    slack: torch.Tensor
    """What the bias is more than it should be."""


class _Rounded(NamedTuple):
    """What labels are made of."""

    frames: HalfFrames
    side: Side
    lengths: torch.Tensor
    """No less than those of the frames, as they were multiplied."""
    gaps: torch.Tensor
    """What scores are off beside, per length of a centroid."""
    labels: torch.Tensor
    """Changed."""


class DeviceNearestCentroid(NearestCentroid):
    """Labels float32 frames on a GPU.

    Args:
        centroids: shape (clusters, dim), float32.
        device: a torch device.
        shift: a point amid the frames, shape (dim,); that amid the centroids by default.
    """

    def __init__(self, centroids: Array, device: str, shift: Array | None = None) -> None:
        # By default the median: one centroid far out would move the mean far from the frames, and leave their scores few digits.
        super().__init__(centroids, np.median(centroids, axis=0) if shift is None else shift)
        self.device = device
        self._there = torch.from_numpy(self._wide).to(device)
        self.point = torch.from_numpy(self._shift).to(device)
        self._reach = float(torch.linalg.vector_norm(self._there - self.point.double(), dim=1).max())
        exponent = _LARGEST_EXPONENT - int(np.frexp(self._reach)[1])
        self._scale = float(np.ldexp(1.0, exponent)) if self._reach else 1.0
        self._unsuited = bool(self._reach) and abs(exponent) > _REACH

    def __call__(self, frames: Array) -> Labels:
        """Return the label of each frame of shape (frames, dim)."""
        frames = self._checked(frames)
        labels = np.empty(len(frames), dtype=np.int32)
        for first in range(0, len(frames), _ROWS):
            piece = frames[first : first + _ROWS]
            labels[first : first + _ROWS] = self.label(HalfFrames(moved(piece, self.device), self.point)).cpu().numpy()
        return labels

    def label(self, frames: HalfFrames) -> torch.Tensor:
        """Return the labels of frames on the device, rounded around the point that this was made with."""
        with torch.inference_mode(), on(self.device):
            if self._unsuited:
                return self._on_cpu(frames.frames)
            count, width = frames.values.shape
            labels = torch.zeros(count, dtype=torch.int32, device=self.device)
            if not count:
                return labels
            best, second = torch.empty(2, count, dtype=torch.float32, device=self.device).unbind()
            lengths = frames.lengths * _UP
            rounded = _Rounded(
                frames, self._side(width), lengths, frames.lost * _UP + lengths * ((width + 40) * 3 * _FLOAT32), labels
            )
            device_kernels.nearest_two(
                frames.values, rounded.side, frames.scales, lengths, rounded.gaps, labels, best, second
            )  # fmt: skip
            least = self._least(best, rounded)
            doubtful = torch.nonzero(~(second < least))[:, 0]  # and what is no number
            step = max(1, _COMPARED_BYTES // len(self.centroids))
            for first in range(0, len(doubtful), step):
                rows = doubtful[first : first + step]
                self._compare(rounded, rows, least[rows].contiguous())
            return labels

    def squared_distances_of(self, frames: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the squared distance of each frame from the centroid of its label, in float64."""
        out = torch.empty(len(frames), dtype=torch.float64, device=self.device)
        with on(self.device):
            device_kernels.distances(frames, self._there, torch.arange(len(frames), device=self.device), labels, out)
        return out

    def _side(self, width: int) -> Side:
        clusters, dim = self._there.shape
        scaled = (self._there - self.point.double()) * self._scale
        rounded = scaled.half()
        kept = rounded.double()
        bias = -0.5 * scaled.square().sum(dim=1) / self._scale  # to be multiplied by a frame's scale
        slack = bias.abs() * 2.0**-21
        rows = -(-clusters // device_kernels.COLUMNS) * device_kernels.COLUMNS
        columns = torch.zeros(rows, width, dtype=torch.float16, device=self.device)
        columns[:clusters, :dim] = rounded
        rest = (0, rows - clusters)
        lost, norms = (torch.linalg.vector_norm(values, dim=1) * _UP for values in (scaled - kept, kept))
        made = [functional.pad((bias + slack).float(), rest, value=-torch.inf)]
        made += [functional.pad(values.float(), rest) for values in (lost, norms, slack)]
        return Side(columns, *made)

    def _least(self, best: torch.Tensor, rounded: _Rounded) -> torch.Tensor:
        """Return what the upper bound of a score reaches for each centroid that may be as near as the one that scores best."""
        own, side, scales = rounded.labels.long(), rounded.side, rounded.frames.scales
        bounds = rounded.lengths * side.lost[own] + rounded.gaps * side.norms[own] + scales * side.slack[own]
        wide = 16 * len(self._shift) * 2.0**-52 * self._scale  # rounding of float64's distances
        root = scales.sqrt()
        bounds += wide * (rounded.lengths / root + self._reach * root).square()
        least: torch.Tensor = best - 2 * bounds * _UP - best.abs() * (4 * _FLOAT32)
        least[~torch.isfinite(bounds)] = torch.nan  # of frames too long for scores; the CPU labels them
        return least

    def _compare(self, rounded: _Rounded, rows: torch.Tensor, least: torch.Tensor) -> None:
        """Label some rows by their distances from the centroids that may be nearest."""
        frames, labels = rounded.frames, rounded.labels
        possible = torch.empty(len(rows), len(self.centroids), dtype=torch.int8, device=self.device)
        device_kernels.reaching(
            frames.values, rounded.side, frames.scales, rounded.lengths, rounded.gaps, rows, least, possible
        )  # fmt: skip
        at, candidates = torch.nonzero(possible, as_tuple=True)
        found = torch.empty(len(at), dtype=torch.float64, device=self.device)
        device_kernels.distances(frames.frames, self._there, rows[at], candidates, found)
        nearest = torch.full((len(rows),), torch.inf, dtype=torch.float64, device=self.device)
        nearest.scatter_reduce_(0, at, found, "amin")
        close = found <= (nearest * (1 + _ALIKE))[at]
        labels[rows[at[close]]] = candidates[close].to(torch.int32)
        left = torch.bincount(at[close], minlength=len(rows)) != 1  # ties, and frames too long for scores
        if left.any():
            labels[rows[left]] = self._on_cpu(frames.frames[rows[left]])

    def _on_cpu(self, frames: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(super().__call__(frames.cpu().numpy())).to(self.device)
