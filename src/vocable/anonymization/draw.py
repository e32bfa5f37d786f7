"""Which codebook a frame goes to: drawn with a key, so that nothing but the key and the utterance decides it.

The n-th number of an utterance is read from a stream that follows from key and name alone: the same in any order, shard or
worker, and after any kill. Whoever doesn't have the key can't replay the draw.
"""

from __future__ import annotations

import hashlib
import random
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocable.audio.faults import AudioFault
from vocable.errors import InputError

Plan = NDArray[np.int64]
_KEY_BYTES = 32
_LEAST_KEY, _LEAST_DIFFERENT = 16, 8
_NUMBER = 8  # bytes, of which 2**64 / codebooks are left over: no draw is likelier by more than a part in 10**15
_REFERENCE_SEED = 1234


@dataclass(frozen=True)
class KeyedDraw:
    """Draws codebooks with a key.

    Args:
        names: of all codebooks.
        speakers: of each codebook.
        key: secret; by default one that is made now and kept nowhere.
        used: how many of the codebooks are drawn from, which the key chooses; by default all.
        own_left_out: never draw a codebook that the utterance's speaker is in.
        subset: chooses which of them are used, in place of the key.

    Raises:
        InputError: more are to be used than there are.
    """

    names: Sequence[str]
    speakers: Sequence[Sequence[str]] = ()
    key: bytes = field(default_factory=lambda: secrets.token_bytes(_KEY_BYTES), repr=False)
    used: int | None = None
    own_left_out: bool = False
    subset: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        require_used(self.used, len(self.names))
        known = {name for name, own in zip(self.names, self.speakers, strict=False) if own}
        unknown = [name for name in self.names if name not in known]
        if self.own_left_out and unknown:
            raise InputError(f"the codebook {unknown[0]} doesn't say whose it is, so own ones can't be left out: give others")

    def segments(self, utterance: str, count: int, speaker: str | None = None, purpose: str = "codebook") -> Plan:
        """Return a codebook for each segment of an utterance, of shape (segments,).

        Args:
            utterance: its name.
            count: of segments.
            speaker: who speaks.
            purpose: what the draw is for; draws for different ones have nothing to do with each other.

        Raises:
            InputError: no codebook is left to draw.
        """
        allowed = self.allowed(speaker)
        numbers = np.frombuffer(self._stream([purpose, utterance]).digest(_NUMBER * count), "<u8")
        found: Plan = allowed[(numbers % np.uint64(len(allowed))).astype(np.int64)]
        return found

    def allowed(self, speaker: str | None = None) -> Plan:
        """Return the codebooks that may be drawn for a speaker.

        Raises:
            InputError: there is none.
        """
        chosen = range(len(self.names)) if self.used is None else sorted(self._in_order()[: self.used])
        if self.own_left_out and speaker is None:
            raise InputError("who speaks isn't known, so own codebooks can't be left out: give speakers, or don't ask for it")
        left = [number for number in chosen if not (self.own_left_out and speaker in self.speakers[number])]
        if not left:
            raise AudioFault("not drawn", f"all codebooks that may be drawn are of {speaker}'s own speech: give those of others")
        return np.array(left, np.int64)

    def _in_order(self) -> list[int]:
        """Return all codebooks in an order that the key decides."""
        key = self.key if self.subset is None else self.subset
        return sorted(range(len(self.names)), key=lambda at: self._stream(["used", self.names[at]], key).digest(_KEY_BYTES))

    def _stream(self, words: list[str], key: bytes | None = None) -> Any:
        key = self.key if key is None else key
        stream = hashlib.shake_256(len(key).to_bytes(2, "little") + key)
        for word in words:
            text = word.encode("utf-8", "surrogatepass")
            stream.update(len(text).to_bytes(8, "little") + text)
        return stream


@dataclass(frozen=True)
class ReferenceDraw:
    """Draws as SEF-MK's code does, from Python's `random`, seeded: what an utterance gets follows from its place in the list.

    Args:
        codebooks: how many there are.
        used: how many of them, shuffled, are drawn from.
        seed: of the generator.

    Raises:
        InputError: more are to be used than there are.
    """

    codebooks: int
    used: int | None = None
    seed: int = _REFERENCE_SEED

    def __post_init__(self) -> None:
        require_used(self.used, self.codebooks)

    def per_audio(self, utterances: int) -> Plan:
        """Return a codebook for each utterance, in order."""
        generator, chosen = self._begun()
        return np.array([generator.choice(chosen) for _ in range(utterances)], np.int64)

    def per_segment(self, counts: Sequence[int]) -> list[Plan]:
        """Return a codebook for each segment of each utterance, in order; `counts` are numbers of segments."""
        generator, chosen = self._begun()
        return [np.array([chosen[generator.randint(0, len(chosen) - 1)] for _ in range(count)], np.int64) for count in counts]

    def _begun(self) -> tuple[random.Random, list[int]]:
        generator = random.Random(self.seed)
        chosen = list(range(self.codebooks))
        if self.used is not None:
            generator.shuffle(chosen)
            chosen = chosen[: self.used]
        return generator, chosen


def require_used(used: int | None, codebooks: int) -> None:
    """Refuse to use more codebooks than there are.

    Raises:
        InputError: says how many there are.
    """
    if used is not None and not 1 <= used <= codebooks:
        raise InputError(f"{used} codebooks are to be used, but there are {codebooks}: give 1 to {codebooks}")


def of_frames(segments: Plan, frames: int, stride: int) -> Plan:
    """Return the codebook of each frame, of `stride` frames to a segment, of which the last may be shorter."""
    return np.repeat(segments, min(stride, max(1, frames)))[:frames]


def segment_count(frames: int, stride: int | None) -> int:
    """Return how many segments frames are cut into; one where there is no stride."""
    return 1 if stride is None else -(-frames // stride)


def read_key(path: Path) -> bytes:
    """Return the key in a file: all its bytes.

    Raises:
        InputError: it can't be read, or is so short that it could be guessed.
    """
    try:
        key = path.read_bytes()
    except OSError as error:
        raise InputError(f"--key {path} can't be read ({error.strerror}): give a file of {_KEY_BYTES} random bytes") from error
    if len(key.strip()) < _LEAST_KEY or len(set(key)) < _LEAST_DIFFERENT:
        raise InputError(
            f"--key {path} has {len(key.strip())} bytes that can be guessed: give {_KEY_BYTES} random ones, "
            f"such as of 'head -c {_KEY_BYTES} /dev/urandom > {path}'"
        )
    return key
