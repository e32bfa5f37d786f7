"""Intervals of scores, from many draws of those that they are over."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

DRAWS = 1000
_CONFIDENCE = 0.95


def interval(values: Sequence[float] | NDArray[np.floating]) -> tuple[float, float]:
    """Return the bounds that 95 % of the values of draws lie between, without those that are NaN; NaN where there are none."""
    known = np.asarray(values, np.float64)
    known = known[np.isfinite(known)]
    if not len(known):
        return float("nan"), float("nan")
    edge = (1 - _CONFIDENCE) / 2
    low, high = np.quantile(known, [edge, 1 - edge])
    return float(low), float(high)
