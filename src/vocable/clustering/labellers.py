"""Which code labels frames on which device."""

from __future__ import annotations

from vocable.clustering.assignment import Labeller, NearestCentroid
from vocable.execution.engine import check_device


def labeller_for(device: str) -> Labeller:
    """Return what makes, of centroids, a function that labels frames on a device; `cpu` takes NumPy, others torch.

    Raises:
        InputError: there is no such device.
    """
    if device == "cpu":
        return NearestCentroid
    check_device(device)
    from vocable.clustering.assignment_torch import TorchNearestCentroid

    return lambda centroids: TorchNearestCentroid(centroids, device)
