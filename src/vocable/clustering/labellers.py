"""Which code labels frames on which device."""

from __future__ import annotations

from vocable.clustering.assignment import Labeller, NearestCentroid


def labeller_for(device: str) -> Labeller:
    """Return what makes, of centroids, a function that labels frames on a device; `cpu` takes NumPy, others torch."""
    if device == "cpu":
        return NearestCentroid
    from vocable.clustering.assignment_torch import TorchNearestCentroid

    return lambda centroids: TorchNearestCentroid(centroids, device)
