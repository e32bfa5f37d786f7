"""Utterances with labels, as micro-batches of crops of one length, some of whose frames are hidden."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vocable.audio.faults import AudioFault
from vocable.errors import InputError
from vocable.models.config import EncoderConfig
from vocable.pretraining.hubert import MaskedBatch
from vocable.pretraining.inputs import Crop, Inputs
from vocable.pretraining.masking import MaskSettings, reference_masks, span_masks
from vocable.training.batches import BatchPlan, BatchSettings
from vocable.training.objective import Made
from vocable.units.units import Units

_TRIES = 100
"""Utterances that are tried, where one after another can't be read."""


@dataclass(frozen=True)
class LabelSet:
    """Labels of all rows of a manifest."""

    units: Units
    rate: float
    """Labels per second."""


def labels_of_frames(labels: NDArray[np.integer[Any]], ratio: float, first: int, frames: int) -> NDArray[np.int64]:
    """Return the labels of frames `first` … `first + frames - 1`: frame j has label floor(j · ratio).

    With labels at 100 Hz and frames at 50 Hz, MFCC frame 2j and the convolutions' frame j see the same samples.

    Args:
        labels: of an utterance, from its start.
        ratio: labels per frame.
        first: frame.
        frames: how many.
    """
    at = np.floor((first + np.arange(frames)) * ratio).astype(np.int64)
    found: NDArray[np.int64] = labels[at].astype(np.int64)
    return found


def labelled_frames(labels: int, ratio: float) -> int:
    """Return how many frames have a label, where there are so many labels."""
    return math.ceil(labels / ratio)


class LabelledAudio:
    """Micro-batches of a manifest with labels.

    Crops begin at frames, so that labels stay with the samples they were made of. What is random follows from the seed and the
    position alone.

    Args:
        inputs: the utterances.
        sets: labels of these.
        config: of the encoder that is to see them.
        batches: how much goes into a micro-batch.
        masks: which frames are hidden.
        seed: of order, crops and masks.

    Raises:
        InputError: no utterance is long enough.
    """

    def __init__(
        self,
        inputs: Inputs,
        sets: Sequence[LabelSet],
        config: EncoderConfig,
        batches: BatchSettings,
        masks: MaskSettings,
        seed: int,
    ) -> None:
        self._inputs, self._sets, self._config, self._masks, self._seed = inputs, sets, config, masks, seed
        rate = config.sample_rate / config.hop
        self._ratios = [item.rate / rate for item in sets]
        self._frames = usable_frames(inputs, sets, rate)
        self._shortest = max(2, config.frame_count(math.ceil(batches.shortest * config.sample_rate)))
        longest = config.frame_count(round(batches.longest * config.sample_rate))
        if longest < 2:
            raise InputError(f"batches.longest {batches.longest:g}: a crop has to be of two frames or more")
        lengths = np.where(self._frames >= self._shortest, np.minimum(self._frames, longest), 0)
        self._plan = BatchPlan(lengths, int(batches.micro_seconds * rate), seed, batches.utterances)

    @property
    def micro_batches(self) -> int:
        """How many an epoch has."""
        return self._plan.micro_batches

    @property
    def utterances(self) -> int:
        """How many are long enough."""
        return self._plan.utterances

    def make(self, position: int) -> Made:
        """Return the micro-batch at a position.

        Raises:
            InputError: an utterance can't be read, nor can others in its place.
        """
        planned = self._plan[position]
        drawn = np.random.default_rng([self._seed, position])
        unreadable: dict[int, str] = {}
        audio: list[torch.Tensor] = []
        labels: list[list[NDArray[np.int64]]] = []
        heard = [self._readable(row, planned.length, unreadable) for row in planned.rows.tolist()]
        length = min(planned.length, *(int(self._frames[taken]) for taken, _ in heard))
        for taken, crop in heard:
            start = int(drawn.integers(0, self._frames[taken] - length + 1))
            audio.append(crop(start, length))
            labels.append(
                [
                    labels_of_frames(item.units[taken], ratio, start, length)
                    for item, ratio in zip(self._sets, self._ratios, strict=True)
                ]
            )
        mask = self._mask(drawn, len(audio), length)
        stacked = torch.from_numpy(np.stack([np.stack(of_set) for of_set in zip(*labels, strict=True)]))
        seconds = len(audio) * length * self._config.hop / self._config.sample_rate
        return Made(MaskedBatch.of(torch.stack(audio), stacked, torch.from_numpy(mask), seconds), unreadable)

    def _mask(self, drawn: np.random.Generator, utterances: int, length: int) -> NDArray[np.bool_]:
        if not self._masks.reference:
            return span_masks(drawn, utterances, length, self._masks)
        older = np.random.RandomState(int(drawn.integers(1 << 32)))
        return reference_masks(older, [length] * utterances, length, self._masks)

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


def usable_frames(inputs: Inputs, sets: Sequence[LabelSet], rate: float) -> NDArray[np.int64]:
    """Return how many frames of each utterance have labels of all sets.

    Args:
        inputs: the utterances.
        sets: labels of these.
        rate: frames per second.
    """
    frames = inputs.frames
    for item in sets:
        labelled = np.array([labelled_frames(int(length), item.rate / rate) for length in item.units.lengths], dtype=np.int64)
        frames = np.minimum(frames, labelled)
    return frames
