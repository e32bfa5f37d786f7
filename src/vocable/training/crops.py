"""Micro-batches of utterances, cropped to one length at places drawn anew each time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from vocable.audio.faults import AudioFault
from vocable.errors import InputError
from vocable.models.config import EncoderConfig
from vocable.training.batches import BatchPlan, BatchSettings
from vocable.training.inputs import Crop, Inputs

_TRIES = 100
"""Utterances that are tried, where one after another can't be read."""


@dataclass(frozen=True)
class Cropped:
    """The utterances of a micro-batch."""

    rows: list[int]
    starts: list[int]
    """First frame of each crop."""
    length: int
    """Frames of each."""
    audio: list[torch.Tensor]
    """What the encoder sees of each: samples, or log-mel frames."""
    drawn: np.random.Generator
    """For whatever else is random in the micro-batch."""
    unreadable: dict[int, str]
    """Rows that others took the place of, with the reason."""
    seconds: float
    """Of audio."""


class Crops:
    """The endless sequence of micro-batches of some utterances.

    What is random follows from the seed and the position alone.

    Args:
        inputs: the utterances.
        frames: that may be used of each, from its start.
        config: of the encoder that is to see them.
        batches: how much goes into a micro-batch.
        seed: of order and crops.

    Raises:
        InputError: no utterance is long enough.
    """

    def __init__(
        self, inputs: Inputs, frames: NDArray[np.int64], config: EncoderConfig, batches: BatchSettings, seed: int
    ) -> None:
        self._inputs, self._frames, self._config, self._seed = inputs, frames, config, seed
        self._shortest = max(2, config.frame_count(math.ceil(batches.shortest * config.sample_rate)))
        longest = config.frame_count(round(batches.longest * config.sample_rate))
        if longest < 2:
            raise InputError(f"batches.longest {batches.longest:g}: a crop has to be of two frames or more")
        lengths = np.where(frames >= self._shortest, np.minimum(frames, longest), 0)
        rate = config.sample_rate / config.hop
        self._plan = BatchPlan(lengths, int(batches.micro_seconds * rate), seed, batches.utterances)

    @property
    def micro_batches(self) -> int:
        """How many an epoch has."""
        return self._plan.micro_batches

    @property
    def utterances(self) -> int:
        """How many are long enough."""
        return self._plan.utterances

    def at(self, position: int) -> Cropped:
        """Return the utterances of the micro-batch at a position.

        Raises:
            InputError: one can't be read, nor can others in its place.
        """
        planned = self._plan[position]
        drawn = np.random.default_rng([self._seed, position])
        unreadable: dict[int, str] = {}
        heard = [self._readable(row, planned.length, unreadable) for row in planned.rows.tolist()]
        length = min(planned.length, *(int(self._frames[taken]) for taken, _ in heard))
        starts = [int(drawn.integers(0, self._frames[taken] - length + 1)) for taken, _ in heard]
        audio = [crop(start, length) for (_, crop), start in zip(heard, starts, strict=True)]
        seconds = len(audio) * length * self._config.hop / self._config.sample_rate
        return Cropped([taken for taken, _ in heard], starts, length, audio, drawn, unreadable, seconds)

    def _readable(self, row: int, length: int, unreadable: dict[int, str]) -> tuple[int, Crop]:
        """Return what crops a row, or another where it can't be read; and which it is."""
        for other in islice(self._in_place_of(row, length), _TRIES):
            try:
                return other, self._inputs.open(other)
            except AudioFault as fault:
                unreadable[other] = str(fault)
        raise InputError(
            f"{next(iter(unreadable.values()))}, and so it goes on: look whether the manifest's audio is still there"
        )

    def _in_place_of(self, row: int, length: int) -> Iterator[int]:
        """Yield a row, those behind it that are as long, and the others, the longest first."""
        yield row
        others = np.roll(np.arange(len(self._frames)), -row)[1:]
        yield from others[self._frames[others] >= length].tolist()
        shorter = others[(self._frames[others] < length) & (self._frames[others] >= self._shortest)]
        yield from shorter[np.argsort(-self._frames[shorter], kind="stable")].tolist()
