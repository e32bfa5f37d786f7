"""Crops of frames with their centroids, for a detokenizer: looked up in a codebook of their speaker, or in any."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from vocable.anonymization.detokenization import FrameBatch
from vocable.audio.faults import AudioFault
from vocable.clustering.fleets import Fleet
from vocable.errors import InputError
from vocable.features.kaldi import Frames
from vocable.training.batches import BatchPlan, BatchSettings
from vocable.training.objective import Made

Policy = Literal["own", "random"]


@dataclass(frozen=True)
class FrameSource:
    """Utterances whose frames can be had.

    Args:
        names: of the utterances.
        speakers: of each; None where nobody says it.
        lengths: frames of each.
        rate: frames per second.
        frames: the frames of a row, of shape (frames, values); raises AudioFault where they can't be had.
        digest: of what tells these utterances from others.
    """

    names: Sequence[str]
    speakers: Sequence[str | None]
    lengths: NDArray[np.int64]
    rate: float
    frames: Callable[[int], Frames]
    digest: str


class DetokenizerData:
    """Micro-batches of crops; what is random in one follows from the seed and its position.

    Args:
        source: of the frames.
        fleet: codebooks that they are looked up in.
        policy: `own`: the codebook, of a speaker or a group, that the utterance's speaker is in; `random`: any.
        batches: how much goes into a micro-batch.
        masked: part of the frames that are zeros before they are looked up.
        seed: of order, crops and draws.

    Raises:
        InputError: no utterance is long enough, or a speaker has no codebook.
    """

    def __init__(
        self, source: FrameSource, fleet: Fleet, policy: Policy, batches: BatchSettings, masked: float, seed: int
    ) -> None:
        self._source, self._fleet, self._masked, self._seed = source, fleet, masked, seed
        self._own = _own_codebooks(source, fleet) if policy == "own" else None
        shortest, longest = (max(2, round(item * source.rate)) for item in (batches.shortest, batches.longest))
        lengths = np.where(source.lengths >= shortest, np.minimum(source.lengths, longest), 0)
        self._plan = BatchPlan(lengths, int(batches.micro_seconds * source.rate), seed, batches.utterances)

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
            InputError: none of its utterances can be read.
        """
        planned = self._plan[position]
        drawn = np.random.default_rng([self._seed, position])
        read: list[tuple[int, Frames]] = []
        unreadable: dict[int, str] = {}
        for row in planned.rows.tolist():
            try:
                read.append((row, self._source.frames(row)))
            except AudioFault as fault:
                unreadable[row] = str(fault)
        if not read:
            raise InputError(f"{next(iter(unreadable.values()))}, and so it goes on: look whether the audio is still there")
        read += read[: len(planned.rows) - len(read)] if unreadable else []
        length = min([planned.length, *(len(frames) for _, frames in read)])
        crops = [self._crop(row, frames, length, drawn) for row, frames in read]
        centroids, clean = (torch.from_numpy(np.stack([crop[part] for crop in crops])) for part in (0, 1))
        return Made(FrameBatch(centroids, clean, len(crops) * length / self._source.rate), unreadable)

    def _crop(self, row: int, frames: Frames, length: int, drawn: np.random.Generator) -> tuple[Frames, Frames]:
        """Return the centroids of a crop, and its frames."""
        start = int(drawn.integers(0, len(frames) - length + 1))
        clean = np.ascontiguousarray(frames[start : start + length])
        seen = clean
        if self._masked:
            seen = clean.copy()
            seen[drawn.permutation(length)[: int(self._masked * length)]] = 0
        codebook = int(drawn.integers(0, len(self._fleet))) if self._own is None else int(self._own[row])
        plan = np.full(length, codebook)
        return self._fleet.lookup(self._fleet.tokens(seen, plan), plan), clean


def _own_codebooks(source: FrameSource, fleet: Fleet) -> NDArray[np.int64]:
    """Return the codebook that each utterance's speaker is in."""
    of_speaker = {speaker: number for number, own in enumerate(fleet.speakers) for speaker in own}
    if len(fleet) == 1 and not fleet.speakers[0]:  # one of all speakers
        return np.zeros(len(source.names), np.int64)
    for name, speaker in zip(source.names, source.speakers, strict=True):
        if speaker is None:
            raise InputError(f"who speaks {name} isn't known: give data.speakers, or data.policy=random")
        if speaker not in of_speaker:
            raise InputError(
                f"{speaker}, who speaks {name}, has no codebook: fit codebooks to the speakers to learn from, or give "
                "data.policy=random"
            )
    return np.array([of_speaker[str(speaker)] for speaker in source.speakers], np.int64)
