"""Crops of frames with their tokens, for a detokenizer: looked up in a codebook of their speaker, or in any."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from vocable.anonymization.detokenization import FrameBatch
from vocable.anonymization.frame_crops import FrameCrops
from vocable.clustering.fleets import Fleet, Tokens
from vocable.errors import InputError
from vocable.features.kaldi import Frames
from vocable.training.batches import BatchSettings
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
        tokens: what the frames of a row were looked up as before, of shape (frames, groups), where policy is `own`; empty where
            they couldn't be.
        number: of the fleet, among those of the objective.

    Raises:
        InputError: no utterance is long enough, or a speaker has no codebook.
    """

    def __init__(
        self,
        source: FrameSource,
        fleet: Fleet,
        policy: Policy,
        batches: BatchSettings,
        masked: float,
        seed: int,
        tokens: Callable[[int], Tokens] | None = None,
        number: int = 0,
    ) -> None:
        self._source, self._fleet, self._masked = source, fleet, masked
        self._own = (
            own_codebooks(source.names, source.speakers, fleet, ", or give data.policy=random") if policy == "own" else None
        )
        self._tokens, self._number, self._silent = tokens, number, dict[int, Tokens]()
        self._crops = FrameCrops(source.lengths, source.rate, batches, seed)

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
            InputError: none of its utterances can be read.
        """
        read = self._crops.read(position, self._source.frames, len)
        crops = [self._crop(row, frames, read.length, read.drawn) for row, frames in read.utterances]
        tokens, clean = (torch.from_numpy(np.stack([crop[part] for crop in crops])) for part in (0, 1))
        codebooks = torch.tensor([crop[2] for crop in crops])
        seconds = len(crops) * read.length / self._source.rate
        return Made(FrameBatch(tokens, codebooks, clean, seconds, self._number), read.unreadable)

    def _crop(self, row: int, frames: Frames, length: int, drawn: np.random.Generator) -> tuple[NDArray[np.int64], Frames, int]:
        """Return the tokens of a crop, its frames, and the codebook."""
        start = int(drawn.integers(0, len(frames) - length + 1))
        clean = np.ascontiguousarray(frames[start : start + length])
        masked = drawn.permutation(length)[: int(self._masked * length)] if self._masked else None
        codebook = int(drawn.integers(0, len(self._fleet))) if self._own is None else int(self._own[row])
        before = np.empty(0) if self._tokens is None else self._tokens(row)
        if len(before) == len(frames):
            found = before[start : start + length].astype(np.int64)
        else:
            found = self._fleet.tokens(clean, np.full(length, codebook)).astype(np.int64)
        if masked is not None:
            found[masked] = self._token_of_zeros(codebook)
        return found, clean, codebook

    def _token_of_zeros(self, codebook: int) -> Tokens:
        """Return what a frame that is masked is looked up as, of shape (groups,)."""
        if codebook not in self._silent:
            self._silent[codebook] = self._fleet.tokens(np.zeros((1, self._fleet.dim), np.float32), np.array([codebook]))[0]
        return self._silent[codebook]


def own_codebooks(names: Sequence[str], speakers: Sequence[str | None], fleet: Fleet, instead: str = "") -> NDArray[np.int64]:
    """Return the codebook that each utterance's speaker is in.

    Args:
        names: of the utterances.
        speakers: of each; None where nobody says it.
        fleet: the codebooks.
        instead: what else may be done where there is none, for the message.

    Raises:
        InputError: one's isn't known, or has none.
    """
    of_speaker = {speaker: number for number, own in enumerate(fleet.speakers) for speaker in own}
    if len(fleet) == 1 and not fleet.speakers[0]:  # one of all speakers
        return np.zeros(len(names), np.int64)
    for name, speaker in zip(names, speakers, strict=True):
        if speaker is None:
            raise InputError(f"who speaks {name} isn't known: give data.speakers{instead}")
        if speaker not in of_speaker:
            raise InputError(
                f"{speaker}, who speaks {name}, has no codebook: fit codebooks to the speakers to learn from{instead}"
            )
    return np.array([of_speaker[str(speaker)] for speaker in speakers], np.int64)
