"""How well boundaries are found: precision, recall, F1, over-segmentation and R-value, as SD-HuBERT's evaluation counts them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 0.05
"""Seconds by which a boundary may be off."""
SHIFTS = np.arange(-0.05, 0.05, 0.005)
"""Seconds by which references are moved, of which the best on other utterances is taken."""

Times = NDArray[np.float64]


@dataclass(frozen=True)
class BoundaryCounts:
    """Boundaries that were found, of how many, among how many."""

    hits: int = 0
    references: int = 0
    predictions: int = 0

    def __add__(self, other: BoundaryCounts) -> BoundaryCounts:
        return BoundaryCounts(self.hits + other.hits, self.references + other.references, self.predictions + other.predictions)

    @property
    def precision(self) -> float:
        """Part of the predictions that are right."""
        return self.hits / self.predictions if self.predictions else 0.0

    @property
    def recall(self) -> float:
        """Part of the references that are found."""
        return self.hits / self.references if self.references else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of both."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0

    @property
    def over_segmentation(self) -> float:
        """By which part there are more predictions than references; below 0 where there are fewer."""
        return self.predictions / self.references - 1 if self.references else 0.0

    @property
    def r1(self) -> float:
        """Distance from all found and nothing besides (Räsänen et al., Interspeech 2009)."""
        return math.hypot(1 - self.recall, self.over_segmentation)

    @property
    def r2(self) -> float:
        """Distance from where more predictions find no more."""
        return (self.recall - 1 - self.over_segmentation) / math.sqrt(2)

    @property
    def r_value(self) -> float:
        """1 where all are found and nothing besides; more predictions alone don't raise it."""
        return 1 - (abs(self.r1) + abs(self.r2)) / 2

    def rows(self) -> dict[str, float]:
        """Return name → value, by the names of the authors' result files."""
        return {
            "match_gt": float(self.hits), "match_pred": float(self.hits), "gt_len": float(self.references),
            "pred_len": float(self.predictions), "prec": self.precision, "recall": self.recall, "f1": self.f1,
            "os": self.over_segmentation, "r1": self.r1, "r2": self.r2, "r_val": self.r_value,
        }  # fmt: skip


@dataclass(frozen=True)
class Boundaries:
    """Of an utterance, in seconds."""

    references: Times
    """All starts and ends of its syllables, each once, rising."""
    predictions: Times
    """The starts of its segments, each once, rising."""

    @classmethod
    def of(cls, syllables: NDArray[np.floating], segments: NDArray[np.floating]) -> Boundaries:
        """Make them of intervals: starts and ends, of shapes (syllables, 2) and (segments, 2)."""
        return cls(np.unique(syllables.astype(np.float64)), np.unique(segments.astype(np.float64).reshape(-1, 2)[:, 0]))


def matched(references: Sequence[float] | Times, predictions: Sequence[float] | Times, tolerance: float = TOLERANCE) -> int:
    """Return how many references are found, each by one prediction: both are gone through from left to right.

    Args:
        references: rising.
        predictions: rising.
        tolerance: seconds.
    """
    hits = wanted = found = 0
    while wanted < len(references) and found < len(predictions):
        if abs(references[wanted] - predictions[found]) <= tolerance:
            hits, wanted, found = hits + 1, wanted + 1, found + 1
        elif references[wanted] < predictions[found]:
            wanted += 1
        else:
            found += 1
    return hits


def boundary_counts(utterances: Iterable[Boundaries], shift: float = 0.0, tolerance: float = TOLERANCE) -> BoundaryCounts:
    """Return the counts of all utterances together.

    Args:
        utterances: references and predictions of each.
        shift: seconds by which references are moved.
        tolerance: seconds by which a prediction may be off.
    """
    total = BoundaryCounts()
    for item in utterances:
        references = (item.references + shift).tolist()
        hits = matched(references, item.predictions.tolist(), tolerance)
        total += BoundaryCounts(hits, len(references), len(item.predictions))
    return total


def tuned_shift(utterances: Sequence[Boundaries], tolerance: float = TOLERANCE) -> float:
    """Return the shift of the best R-value, the first of several as good; to be found on other utterances than are scored."""
    values = [boundary_counts(utterances, shift, tolerance).r_value for shift in SHIFTS.tolist()]
    return float(SHIFTS[int(np.argmax(values))])
