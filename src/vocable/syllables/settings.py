"""How syllables are cut: what a user may choose, and the two sets of choices that SD-HuBERT is known by."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

from vocable.errors import InputError

Method = Literal["minimum-cut", "greedy", "norm-peaks"]
Windows = Literal["overlap-add", "whole"]
Preset = Literal["current", "published", "sylber", "zerosyl"]
_SHORTEST = 0.001  # seconds


def _require_finite(name: str, value: float) -> None:
    if not math.isfinite(value):
        raise InputError(f"{name} {value}: give a number")


@dataclass(frozen=True, kw_only=True)
class Voicing:
    """Which frames are speech, by the norms of an encoder's frames.

    Raises:
        InputError: a part is none.
    """

    layer: int = 10
    """Of the encoder, whose norms are looked at."""
    strategy: Literal["relative", "absolute"] = "relative"
    """`relative`: norms are scaled so that an utterance's 1st percentile becomes 0 and its 99th 1."""
    threshold: float = 0.1
    """Above which a frame is speech."""
    least_frames: int = 2
    """Shorter stretches of speech are left out."""
    silence: float = 0.02
    """Stretches whose waveform, at variance 1, has no higher mean of absolute values are left out."""

    def __post_init__(self) -> None:
        if self.strategy not in ("relative", "absolute"):
            raise InputError(f"strategy {self.strategy!r}: give relative or absolute")
        if self.layer < 1:
            raise InputError(f"norm layer {self.layer}: layers count from 1")
        _require_finite("norm threshold", self.threshold)
        _require_finite("silence threshold", self.silence)
        if self.least_frames < 0:
            raise InputError(f"least frames {self.least_frames}: give 0 or more")


@dataclass(frozen=True, kw_only=True)
class MinimumCut:
    """How a stretch of speech is cut by minimum cut, and its pieces merged.

    Raises:
        InputError: a part is none.
    """

    syllable_seconds: float = 0.1
    """A stretch is cut into as many pieces as make them this long, rounded up; merging makes fewer of them."""
    merge_threshold: float = 0.4
    """Neighbours whose means have at least this cosine become one; above 1, none do."""
    merge_from: int = 2
    """Where a stretch has fewer pieces, none are merged."""
    drop_shorter: int = 0
    """Pieces of fewer frames are left out before merging, unless none would stay."""
    shortest: int = 1
    """Pieces of fewer frames are left out after it."""
    cut_from: int = 1
    """Stretches of fewer frames aren't cut."""
    closed: bool = True
    """Whether the last frame of a stretch is in its last piece; in the published results it is in none."""
    longest: int | None = None
    """Frames that a piece may have before merging; by default any number. Cuts may then not be the best ones."""

    def __post_init__(self) -> None:
        _require_finite("syllable duration", self.syllable_seconds)
        _require_finite("merge threshold", self.merge_threshold)
        if self.syllable_seconds < _SHORTEST:
            raise InputError(f"syllable duration {self.syllable_seconds}: give {_SHORTEST} seconds or more")
        if self.longest is not None and self.longest < 1:
            raise InputError(f"longest {self.longest}: give 1 frame or more")


@dataclass(frozen=True, kw_only=True)
class Greedy:
    """How frames are gathered from left to right, as Sylber does (arXiv 2410.07168).

    Raises:
        InputError: a part is none.
    """

    merge_threshold: float = 0.8
    """A frame joins a segment whose mean has at least this cosine with it."""
    reference_quirks: bool = False
    """As the authors' code: after a change within speech the mean counts frames of the segment before."""

    def __post_init__(self) -> None:
        _require_finite("merge threshold", self.merge_threshold)


@dataclass(frozen=True, kw_only=True)
class NormPeaks:
    """How boundaries are read off the norms of a layer, as ZeroSyl does (arXiv 2602.15537).

    Raises:
        InputError: a part is none.
    """

    smoothing: int = 3
    """Frames of a moving average of the norms, which are first scaled to mean 0 and variance 1."""
    prominence: float = 0.45
    """By how much a boundary's norm stands out."""

    def __post_init__(self) -> None:
        if self.smoothing < 1 or self.smoothing % 2 == 0:
            raise InputError(f"smoothing {self.smoothing}: give an odd number of frames")
        _require_finite("prominence", self.prominence)
        if self.prominence < 0:
            raise InputError(f"prominence {self.prominence}: give 0 or more")


@dataclass(frozen=True, kw_only=True)
class SegmentSettings:
    """How syllables are cut.

    Raises:
        InputError: a part is none.
    """

    method: Method = "minimum-cut"
    layer: int = 9
    """Of the encoder, whose frames are compared and whose means describe segments."""
    windows: Windows = "overlap-add"
    """How audio goes through the encoder: in windows of 5 s that overlap by half a second, in memory that doesn't grow with its
    length, or whole."""
    voicing: Voicing = field(default_factory=Voicing)
    minimum_cut: MinimumCut = field(default_factory=MinimumCut)
    greedy: Greedy = field(default_factory=Greedy)
    norm_peaks: NormPeaks = field(default_factory=NormPeaks)

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise InputError(f"method {self.method!r} is none of {', '.join(get_args(Method))}")
        if self.windows not in get_args(Windows):
            raise InputError(f"windows {self.windows!r}: give overlap-add or whole")
        if self.layer < 1:
            raise InputError(f"layer {self.layer}: layers count from 1")

    def applied(self) -> dict[str, object]:
        """Return, by name, the settings that the method heeds."""
        made: dict[str, object] = {"method": self.method, "norm layer": self.voicing.layer}
        of_method = {"minimum-cut": self.minimum_cut, "greedy": self.greedy, "norm-peaks": self.norm_peaks}[self.method]
        if self.method != "norm-peaks":
            made |= {f"voicing {name}": value for name, value in vars(self.voicing).items() if name != "layer"}
        return made | vars(of_method)


PRESETS: dict[str, SegmentSettings] = {
    # cheoljun95/sdhubert as of December 2024, which is what its commands do
    "current": SegmentSettings(windows="whole"),
    # the same as of May 2024, with which its published scores were made
    "published": SegmentSettings(
        windows="whole",
        voicing=Voicing(layer=11, strategy="absolute", threshold=2.0, least_frames=0, silence=-1.0),
        minimum_cut=MinimumCut(syllable_seconds=0.2, merge_threshold=0.3, merge_from=3, drop_shorter=3, cut_from=5, closed=False),
    ),
    "sylber": SegmentSettings(
        method="greedy",
        windows="whole",
        voicing=Voicing(layer=9, strategy="absolute", threshold=2.6, least_frames=0, silence=-1.0),
    ),
    "zerosyl": SegmentSettings(method="norm-peaks", windows="whole", layer=22, voicing=Voicing(layer=13)),
}
