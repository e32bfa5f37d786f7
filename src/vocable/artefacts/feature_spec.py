"""What frames are: everything that must be equal before a codebook may label them."""

from __future__ import annotations

import warnings
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocable.artefacts.headers import OBJECT, TEXT, Kind, digest_of, read_field, whole
from vocable.errors import InputError, MismatchError


@dataclass(frozen=True, kw_only=True)
class FeatureSpec:
    """The identity of a kind of frames, and beside it how they were computed.

    Two specs are equal when their identities are. `recorded` (precision, device) is no part of the identity: frames that
    differ there are the same frames up to rounding.

    Raises:
        InputError: a part is of the wrong type, or there can be no such frames.
    """

    kind: str
    """`mfcc`, `logmel`, `encoder` or `f0`."""
    dim: int
    """Values in a frame, context included."""
    hop: int
    """Samples from the start of a frame to the start of the next."""
    receptive_field: int
    """Samples a frame is computed from, context aside."""
    sample_rate: int = 16000
    """Hz."""
    parameters: dict[str, Any] = field(default_factory=dict)
    """Settings of the front end: window, mel bins, cepstra, …"""
    model: str | None = None
    """Digest of the encoder's weights."""
    layer: int | None = None
    """1-based: the output of the layer-th block."""
    tap: str | None = None
    waveform_normalization: str = "none"
    chunking: str = "none"
    frame_normalization: str = "none"
    """`none`, `utterance`, `speaker`, either with `-mean`, or `corpus:` and the digest of its statistics."""
    context: int = 0
    """Neighbours stacked on each side."""
    recorded: dict[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        for name, kind in _KINDS.items():
            read_field("a feature spec", vars(self), name, kind)
        if self.dim % (stacked := 2 * self.context + 1):
            raise InputError(
                f"a feature spec of {self.dim} values can't have {self.context} neighbours on each side: "
                f"give a multiple of {stacked} values"
            )

    @property
    def base(self) -> FeatureSpec:
        """What the extractor makes, before normalisation and context."""
        return replace(self, dim=self.dim // (2 * self.context + 1), frame_normalization="none", context=0)

    @property
    def rate(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.hop

    def frame_count(self, samples: int) -> int:
        """Return how many frames `samples` samples give: 1 + floor((samples - receptive_field) / hop), or none.

        Chunks as fairseq makes them are counted each by itself.
        """
        chunk = self._chunk
        whole, rest = divmod(samples, chunk) if chunk else (0, samples)
        return whole * self._frames_of(chunk) + self._frames_of(rest)

    def frame_time(self, frame: int) -> float:
        """Return the centre of a frame's analysis window, in seconds."""
        return float(self.frame_times(np.array([frame]))[0])

    def frame_times(self, frames: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
        """Return the centres of frames' windows, given by number, in seconds."""
        chunk = self._chunk
        whole, rest = np.divmod(frames, self._frames_of(chunk)) if chunk else (np.zeros_like(frames), frames)
        times: NDArray[np.float64] = (whole * chunk + rest * self.hop + self.receptive_field / 2) / self.sample_rate
        return times

    @property
    def _chunk(self) -> int:
        """Samples of a chunk beyond which nothing is seen; 0 where there are none."""
        kind, _, samples = self.chunking.partition(":")
        return int(samples) if kind == "fairseq" and samples.isdecimal() and int(samples) >= self.receptive_field else 0

    def _frames_of(self, samples: int) -> int:
        return 0 if samples < self.receptive_field else 1 + (samples - self.receptive_field) // self.hop

    def identity(self) -> dict[str, Any]:
        """Return what decides whether two specs are equal, as a JSON value."""
        return {name: value for name, value in asdict(self).items() if name != "recorded"}

    @property
    def digest(self) -> str:
        """SHA-256 of the identity."""
        return digest_of(self.identity())

    def to_json(self) -> dict[str, Any]:
        """Return the whole spec as a JSON value."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> FeatureSpec:
        """Read what `to_json` wrote.

        Raises:
            InputError: it is no object, a key is missing or unknown, or a value is of the wrong type; the message names no file.
        """
        value = read_field("the header", {"features": value}, "features", OBJECT)
        known = {item.name: item.default is MISSING and item.default_factory is MISSING for item in fields(cls)}
        if unknown := sorted(set(value) - set(known)):
            raise InputError(f"a feature spec has the unknown key {unknown[0]!r}: it was written by a newer version of vocable")
        if missing := [name for name, required in known.items() if required and name not in value]:
            raise InputError(f"a feature spec is incomplete (it lacks {', '.join(missing)}): make the file again")
        return cls(**value)

    def differences(self, other: FeatureSpec) -> list[str]:
        """Return one phrase for each part of the identity that differs, such as "layer 9 against 6"."""
        mine, theirs = self.identity(), other.identity()
        if self.kind != other.kind:  # the rest then differs anyway
            return [f"kind {self.kind!r} against {other.kind!r}"]
        mine |= mine.pop("parameters")
        theirs |= theirs.pop("parameters")
        names = [*mine, *(name for name in theirs if name not in mine)]
        return [f"{name} {mine.get(name)!r} against {theirs.get(name)!r}" for name in names if mine.get(name) != theirs.get(name)]

    def require_equal(self, other: FeatureSpec, mine: str, theirs: str) -> None:
        """Refuse frames of another identity, and warn where the same frames were made otherwise.

        Raises:
            MismatchError: says which parts differ and whose they are.
        """
        if differing := self.differences(other):
            raise MismatchError(
                f"{mine} and {theirs} are not of the same frames: {'; '.join(differing)}. Use frames and codebook of one kind"
            )
        for name in _WARNED:
            made, other_made = self.recorded.get(name), other.recorded.get(name)
            if made is not None and other_made is not None and made != other_made:
                warnings.warn(
                    f"{name} {made} of {mine} is {other_made} of {theirs}: a few frames near the border of two clusters may get "
                    "the other one's label",
                    stacklevel=2,
                )


_WARNED = ("precision", "device")
"""What is recorded of frames that changes their last digits."""

_SIZE = whole(1, (1 << 31) - 1)
_KINDS: dict[str, Kind[Any]] = {
    "kind": TEXT,
    "dim": _SIZE,
    "hop": _SIZE,
    "receptive_field": _SIZE,
    "sample_rate": _SIZE,
    "parameters": OBJECT,
    "model": TEXT.or_null(),
    "layer": _SIZE.or_null(),
    "tap": TEXT.or_null(),
    "waveform_normalization": TEXT,
    "chunking": TEXT,
    "frame_normalization": TEXT,
    "context": whole(0, (1 << 30) - 1),
    "recorded": OBJECT,
}
