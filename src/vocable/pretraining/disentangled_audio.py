"""Utterances with labels, who speaks and how high, as micro-batches of crops."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vocable.pretraining.disentanglement import UNKNOWN, DisentangledBatch
from vocable.pretraining.labelled_audio import LabelledAudio
from vocable.training.objective import Made
from vocable.units.pitch_labels import RATE, PitchLabels


class DisentangledAudio:
    """Micro-batches of a manifest with labels, the very same as without who speaks and how high.

    Args:
        labelled: the micro-batches.
        speakers: of the manifest's rows, -1 for unknown ones; None where none is known.
        pitch: of the same rows; None where none is known.
        rate: frames per second.
    """

    def __init__(
        self, labelled: LabelledAudio, speakers: NDArray[np.int64] | None, pitch: PitchLabels | None, rate: float
    ) -> None:
        self._labelled, self._speakers, self._pitch, self._ratio = labelled, speakers, pitch, RATE / rate
        self._ends = np.cumsum([0] if pitch is None else pitch.lengths)

    @property
    def micro_batches(self) -> int:
        """How many an epoch has."""
        return self._labelled.micro_batches

    @property
    def utterances(self) -> int:
        """How many are long enough."""
        return self._labelled.utterances

    def make(self, position: int) -> Made:
        """Return the micro-batch at a position.

        Raises:
            InputError: an utterance can't be read, nor can others in its place.
        """
        found = self._labelled.cropped(position)
        speakers = None if self._speakers is None else torch.from_numpy(self._speakers[found.rows])
        pitch = None
        if self._pitch is not None:
            rows = zip(found.rows, found.starts, strict=True)
            pitch = torch.from_numpy(np.stack([self._pitch_of(row, start, found.length) for row, start in rows]))
        return Made(DisentangledBatch(self._labelled.batch_of(found), speakers, pitch), found.unreadable)

    def _pitch_of(self, row: int, start: int, frames: int) -> NDArray[np.int64]:
        assert self._pitch is not None
        end = int(self._ends[row])
        whole = self._pitch.values[end - int(self._pitch.lengths[row]) : end]
        return pitch_of_frames(whole, self._ratio, start, frames)


def pitch_of_frames(pitch: NDArray[np.integer[Any]], ratio: float, first: int, frames: int) -> NDArray[np.int64]:
    """Return the pitch of frames, of which j has that of floor(j · ratio), as labels have; one behind the end has none.

    Crops don't depend on where pitch ends: an utterance is cropped as in a training without it.

    Args:
        pitch: of an utterance, from its start.
        ratio: values per frame.
        first: frame.
        frames: how many.
    """
    at = np.floor((first + np.arange(frames)) * ratio).astype(np.int64)
    found = np.full(frames, UNKNOWN, dtype=np.int64)
    there = at < len(pitch)
    found[there] = pitch[at[there]]
    return found
