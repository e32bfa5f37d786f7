"""How units are used: how many, how evenly, how long they last."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocable.units.units import Survey


@dataclass(frozen=True)
class UsageScores:
    """How units are used."""

    units: int
    used: int
    dead: int
    """Units that no frame has."""
    perplexity: float
    """exp of the entropy: how many equally frequent units would be as diverse."""
    mean_run: float
    """Frames until the unit changes."""
    median_run: int
    longest_run: int
    units_per_second: float | None
    """After removing repetitions."""
    bitrate: float | None
    """Bits per second of those, as entropy times rate."""
    frames: int

    def rows(self) -> dict[str, float | int | None]:
        """Return name → value."""
        return asdict(self)


def usage_scores(survey: Survey, clusters: int | None = None, rate: float | None = None) -> UsageScores:
    """Describe how units are used.

    Args:
        survey: of the units.
        clusters: how many units there could be, if that is known.
        rate: units per second, if that is known.
    """
    frames, runs = int(survey.histogram.sum()), int(survey.runs.sum())
    used = int((survey.histogram > 0).sum())
    units = max(clusters or 0, len(survey.histogram))
    per_second = None if rate is None or not frames else runs * rate / frames
    return UsageScores(
        units=units,
        used=used,
        dead=units - used,
        perplexity=math.exp(entropy_of(survey.histogram)),
        mean_run=frames / max(runs, 1),
        median_run=int(np.searchsorted(np.cumsum(survey.durations), runs / 2)) if runs else 0,
        longest_run=int(np.flatnonzero(survey.durations).max(initial=0)),
        units_per_second=per_second,
        bitrate=None if per_second is None else per_second * entropy_of(survey.runs) / math.log(2),
        frames=frames,
    )


def entropy_of(counts: NDArray[np.integer[Any]]) -> float:
    """Return the entropy of a histogram in nats."""
    part = counts[counts > 0] / max(int(counts.sum()), 1)
    return float(-(part * np.log(part)).sum())
