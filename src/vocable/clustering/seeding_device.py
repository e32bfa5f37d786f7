"""Greedy k-means++ on a device: the draws of `seeding`, of sums that may round otherwise there."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from vocable.clustering.assignment import Array


def chosen_on(
    device: str, columns: Array, rows: Array, weights: Array, first: int, draws: NDArray[np.float64]
) -> NDArray[np.intp]:
    """Choose frames as `seeding` does.

    Args:
        device: a torch device.
        columns: the frames as one product with `rows` gives distances, shape (values, frames).
        rows: shape (frames, values).
        weights: shape (frames,).
        first: number of the first chosen.
        draws: from 0 to 1, for each other one to choose, shape (clusters - 1, trials).
    """
    with torch.inference_mode():
        right, left, each = (torch.from_numpy(np.ascontiguousarray(values)).to(device) for values in (columns, rows, weights))
        uniform = torch.from_numpy(draws).to(device)
        chosen = torch.full((len(draws) + 1,), first, dtype=torch.int64, device=device)
        trials, last = torch.arange(draws.shape[1], device=device), len(left) - 1
        nearest = (left[first : first + 1] @ right)[0].clamp_(min=0)
        nearest[first] = 0
        for at in range(len(draws)):
            mass = torch.cumsum(each * nearest, 0, dtype=torch.float64)
            drawn = torch.searchsorted(mass, uniform[at] * mass[-1], right=True).clamp_(max=last)
            distances = (left[drawn] @ right).clamp_(min=0)
            distances[trials, drawn] = 0
            updated = torch.minimum(distances, nearest)
            best = (updated @ each).argmin()
            chosen[at + 1] = drawn[best]
            nearest = updated[best]
        found: NDArray[np.intp] = chosen.cpu().numpy()
        return found
