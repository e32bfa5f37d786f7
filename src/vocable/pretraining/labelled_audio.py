"""Utterances with labels, as micro-batches of crops of one length, some of whose frames are hidden."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vocable.models.config import EncoderConfig
from vocable.pretraining.hubert import MaskedBatch
from vocable.pretraining.masking import MaskSettings, reference_masks, span_masks
from vocable.training.batches import BatchSettings
from vocable.training.crops import Cropped, Crops
from vocable.training.inputs import Inputs
from vocable.training.objective import Made
from vocable.units.units import Units


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
        self._sets, self._masks = sets, masks
        rate = config.sample_rate / config.hop
        self._ratios = [item.rate / rate for item in sets]
        self._crops = Crops(inputs, usable_frames(inputs, sets, rate), config, batches, seed)

    @property
    def micro_batches(self) -> int:
        """How many an epoch has."""
        return self._crops.micro_batches

    @property
    def utterances(self) -> int:
        """How many are long enough."""
        return self._crops.utterances

    def make(self, position: int) -> Made:
        """Return the micro-batch at a position.

        Raises:
            InputError: an utterance can't be read, nor can others in its place.
        """
        found = self.cropped(position)
        return Made(self.batch_of(found), found.unreadable)

    def cropped(self, position: int) -> Cropped:
        """Return the utterances of the micro-batch at a position, cropped.

        Raises:
            InputError: an utterance can't be read, nor can others in its place.
        """
        return self._crops.at(position)

    def batch_of(self, found: Cropped) -> MaskedBatch:
        """Return cropped utterances with their labels, some of whose frames are hidden."""
        labels = [
            [
                labels_of_frames(item.units[row], ratio, start, found.length)
                for row, start in zip(found.rows, found.starts, strict=True)
            ]
            for item, ratio in zip(self._sets, self._ratios, strict=True)
        ]
        mask = self._mask(found.drawn, len(found.audio), found.length)
        stacked = torch.from_numpy(np.stack([np.stack(of_set) for of_set in labels]))
        return MaskedBatch.of(torch.stack(found.audio), stacked, torch.from_numpy(mask), found.seconds)

    def _mask(self, drawn: np.random.Generator, utterances: int, length: int) -> NDArray[np.bool_]:
        if not self._masks.reference:
            return span_masks(drawn, utterances, length, self._masks)
        older = np.random.RandomState(int(drawn.integers(1 << 32)))
        return reference_masks(older, [length] * utterances, length, self._masks)


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
