"""`Timeline`: what is said when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vocable.errors import InputError

_ROUNDING = 1e-6  # seconds: less than a sample at 192 kHz, and far more than float64's rounding of a day


class IntervalError(InputError):
    """An interval that can't be: `interval` is its number, from 0, for whoever knows where it was read."""

    def __init__(self, interval: int, detail: str) -> None:
        super().__init__(interval, detail)
        self.interval, self.detail = interval, detail

    def __str__(self) -> str:
        return f"interval {self.interval + 1} {self.detail}"


@dataclass(frozen=True)
class Timeline:
    """Labelled intervals of one utterance, in order and without overlap.

    Args:
        starts: seconds, shape (intervals,), rising.
        ends: seconds, shape (intervals,), each at or after its start and at or before the next start.
        labels: one for each interval.

    Raises:
        InputError: the numbers of starts, ends and labels differ.
        IntervalError: an interval overlaps the next, runs backwards, or has a time that is no finite number.
    """

    starts: NDArray[np.float64]
    ends: NDArray[np.float64]
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "starts", np.asarray(self.starts, dtype=np.float64))
        object.__setattr__(self, "ends", np.asarray(self.ends, dtype=np.float64))
        object.__setattr__(self, "labels", tuple(self.labels))
        if not len(self.starts) == len(self.ends) == len(self.labels):
            raise InputError(
                f"{len(self.starts)} starts, {len(self.ends)} ends and {len(self.labels)} labels don't make intervals"
            )
        self._refuse(~(np.isfinite(self.starts) & np.isfinite(self.ends)), "should have finite numbers of seconds as its times")
        # A start and a duration that were added up miss the next start in the last bits: that is no overlap.
        earliest = np.maximum(self.ends[:-1] - _ROUNDING, self.starts[:-1])
        overlaps = np.append(self.starts[1:] < earliest, False)[: len(self.starts)]
        self._refuse(overlaps | (self.ends < self.starts), "overlaps the next or runs backwards")

    def _refuse(self, wrong: NDArray[np.bool_], detail: str) -> None:
        """Raise for the first interval that is marked in `wrong`."""
        if wrong.any():
            at = int(wrong.argmax())
            raise IntervalError(at, f"({self.starts[at]:g}-{self.ends[at]:g} s, {self.labels[at]!r}) {detail}")

    def __len__(self) -> int:
        return len(self.labels)

    def labels_at(self, times: ArrayLike) -> list[str | None]:
        """Return the label at each time in seconds (start included, end not), None where there is no interval."""
        points = np.asarray(times, dtype=np.float64)
        if not len(self):
            return [None] * len(points)
        index = np.searchsorted(self.starts, points, side="right") - 1
        inside = (index >= 0) & (points < self.ends[np.maximum(index, 0)])
        return [self.labels[i] if ok else None for i, ok in zip(index.tolist(), inside.tolist(), strict=True)]

    @classmethod
    def from_frames(cls, labels: Sequence[str], rate: float, first_centre: float) -> Timeline:
        """Make intervals of per-frame labels: frame i stands for the 1/rate seconds around first_centre + i/rate."""
        changes = [i for i in range(len(labels)) if i == 0 or labels[i] != labels[i - 1]]
        edges = np.array([*changes, len(labels)]) / rate + first_centre - 0.5 / rate
        return cls(edges[:-1], edges[1:], tuple(labels[i] for i in changes))
