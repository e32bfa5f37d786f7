"""Utterances as micro-batches of crops of one length, whose frames come from anywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from vocable.audio.faults import AudioFault
from vocable.errors import InputError
from vocable.training.batches import BatchPlan, BatchSettings

T = TypeVar("T")
_ROUNDING = 1e-6  # 7.04 s at a rate of 50 are 352 frames, or a hair less


@dataclass(frozen=True)
class Read(Generic[T]):
    """The utterances of a micro-batch."""

    utterances: list[tuple[int, T]]
    """Rows, with what was read of them; some twice, where others couldn't be read."""
    length: int
    """Frames that a crop may have."""
    drawn: np.random.Generator
    """For what is random: it follows from the seed and the position alone."""
    unreadable: dict[int, str]
    """Rows with the reason."""


class FrameCrops:
    """The endless sequence of micro-batches of some utterances.

    Args:
        lengths: frames of the utterances.
        rate: frames per second.
        batches: how much goes into a micro-batch.
        seed: of the order.

    Raises:
        InputError: no utterance is long enough.
    """

    def __init__(self, lengths: NDArray[np.int64], rate: float, batches: BatchSettings, seed: int) -> None:
        self._seed = seed
        shortest, longest = (max(2, round(item * rate)) for item in (batches.shortest, batches.longest))
        used = np.where(lengths >= shortest, np.minimum(lengths, longest), 0)
        self._plan = BatchPlan(used, int(batches.micro_seconds * rate + _ROUNDING), seed, batches.utterances)

    @property
    def micro_batches(self) -> int:
        """How many an epoch has."""
        return self._plan.micro_batches

    @property
    def utterances(self) -> int:
        """How many are long enough."""
        return self._plan.utterances

    def read(self, position: int, read: Callable[[int], T], length_of: Callable[[T], int]) -> Read[T]:
        """Return the utterances of the micro-batch at a position.

        Args:
            position: from 0 over all epochs.
            read: row → what is to be cropped; raises AudioFault where it can't be had.
            length_of: frames of that.

        Raises:
            InputError: none of them can be read.
        """
        planned = self._plan[position]
        found: list[tuple[int, T]] = []
        unreadable: dict[int, str] = {}
        for row in planned.rows.tolist():
            try:
                found.append((row, read(row)))
            except AudioFault as fault:
                unreadable[row] = str(fault)
        if not found:
            raise InputError(f"{next(iter(unreadable.values()))}, and so it goes on: look whether the audio is still there")
        found += found[: len(planned.rows) - len(found)] if unreadable else []
        length = min([planned.length, *(length_of(item) for _, item in found)])
        return Read(found, length, np.random.default_rng([self._seed, position]), unreadable)
