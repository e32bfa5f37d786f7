"""Frames with mean and variance taken out, or the mean alone, per corpus, speaker or utterance; and neighbours as context."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from vocable.artefacts.headers import digest_of, digest_of_array
from vocable.errors import InputError
from vocable.features.kaldi import Frames

Scope = Literal["none", "corpus", "speaker", "utterance", "speaker-mean", "utterance-mean"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

_SMALLEST_STD = 1e-8  # keeps a value that never changes at zero instead of dividing by it


@dataclass(frozen=True)
class Statistics:
    """Sums over frames, in float64: their number, their values, their squares."""

    count: int
    total: NDArray[np.float64]
    squares: NDArray[np.float64]

    @classmethod
    def of(cls, frames: Frames) -> Statistics:
        """Sum the frames of one utterance, shape (frames, dim)."""
        wide = frames.astype(np.float64)
        return cls(len(frames), wide.sum(axis=0), (wide * wide).sum(axis=0))

    def __add__(self, other: Statistics) -> Statistics:
        return Statistics(self.count + other.count, self.total + other.total, self.squares + other.squares)

    @property
    def mean(self) -> Frames:
        """Mean frame, float32."""
        return (self.total / max(self.count, 1)).astype(np.float32)

    @property
    def std(self) -> Frames:
        """Standard deviation of each value (population), float32, never zero."""
        mean = self.total / max(self.count, 1)
        variance = self.squares / max(self.count, 1) - mean * mean
        return np.maximum(np.sqrt(np.maximum(variance, 0.0)), _SMALLEST_STD).astype(np.float32)

    @property
    def moments(self) -> Moments:
        """What frames are normalised by."""
        return self.mean, self.std


Moments = tuple[Frames, Frames]
"""Mean and standard deviation of each value, of shape (dim,)."""


@dataclass(frozen=True)
class Normalization:
    """How frames are normalised: (frame - mean) / std, with the mean and deviation of `scope`, or frame - mean.

    Args:
        scope: `none`, `corpus`, `speaker` or `utterance`; `speaker-mean` and `utterance-mean` leave the variance as it is.
        corpus: mean and standard deviation of the corpus, each of shape (dim,); with scope `corpus` only.
        speakers: the same of the speakers that are known; others are normalised by their own utterance.
    """

    scope: Scope = "none"
    corpus: Moments | None = None
    speakers: Mapping[str, Moments] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.scope not in SCOPES:
            raise InputError(f"frames can't be normalised per {self.scope!r}: choose {', '.join(SCOPES)}")
        if (self.scope == "corpus") != (self.corpus is not None):
            raise InputError("normalising per corpus takes the corpus's mean and standard deviation, and nothing else does")

    @property
    def by_speaker(self) -> bool:
        """Whether it matters who speaks."""
        return takes_speakers(self.scope)

    @property
    def name(self) -> str:
        """What a `FeatureSpec` says of it: the scope, with the digest of a corpus's statistics."""
        return f"corpus:{digest_of_array(np.stack(self.corpus))}" if self.corpus is not None else self.scope

    @property
    def speakers_digest(self) -> str | None:
        """SHA-256 of the speakers' statistics, with which their frames change, or None if there are none."""
        return digest_of_speakers(self.speakers) if self.speakers else None

    def __call__(self, frames: Frames, speaker: str | None = None) -> Frames:
        """Return the frames of an utterance, normalised."""
        if self.scope == "none" or not len(frames):
            return frames
        if self.corpus is not None:
            mean, std = self.corpus
        else:
            known = self.speakers.get(speaker) if self.by_speaker and speaker is not None else None
            mean, std = known or Statistics.of(frames).moments
        return frames - mean if self.scope in _MEAN_ALONE else (frames - mean) / std


def digest_of_speakers(speakers: Mapping[str, Moments]) -> str:
    """Return the SHA-256 of the statistics of some speakers."""
    return digest_of([[name, digest_of_array(np.stack(speakers[name]))] for name in sorted(speakers)])


def takes_speakers(scope: Scope) -> bool:
    """Tell whether frames are normalised by who speaks."""
    return scope in ("speaker", "speaker-mean")


_MEAN_ALONE: tuple[Scope, ...] = ("speaker-mean", "utterance-mean")


def stack_context(frames: Frames, context: int) -> Frames:
    """Return each frame with `context` neighbours on both sides, in order of time, shape (frames, (2 · context + 1) · dim).

    At the ends the first and last frames are repeated.
    """
    if context == 0 or not len(frames):
        return frames if context == 0 else np.empty((0, frames.shape[1] * (2 * context + 1)), dtype=frames.dtype)
    padded = np.pad(frames, ((context, context), (0, 0)), mode="edge")
    return np.concatenate([padded[shift : shift + len(frames)] for shift in range(2 * context + 1)], axis=1)
