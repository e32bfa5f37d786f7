"""How probes are fitted, and what is held out from them."""

from __future__ import annotations

from dataclasses import dataclass

from vocable.audio.manifest import Manifest
from vocable.audio.speakers import chapters_of
from vocable.errors import InputError
from vocable.units.pitch_labels import MOST_BINS


@dataclass(frozen=True, kw_only=True)
class ProbeSettings:
    """How probes are fitted.

    Raises:
        InputError: a part can't be.
    """

    frames: int = 30_000
    """Frames that are drawn, from all utterances alike."""
    bins: int = 32
    """Of pitch, each with equally many of the voiced frames that the probe is fitted to."""
    held_out: float = 0.2
    """Part of the utterances, or chapters, that probes are scored on."""
    seed: int = 0
    """Of the draw, of what is held out, and of the probes."""
    chapters: str | None = None
    """Which recording an utterance is cut from: a path pattern such as '{speaker}/{chapter}/*'; by default names as LibriSpeech's
    tell it, SPEAKER-CHAPTER-NUMBER."""

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise InputError(f"--frames {self.frames}: give 1 or more")
        if not 2 <= self.bins <= MOST_BINS:
            raise InputError(f"--bins {self.bins}: give 2 to {MOST_BINS}")
        if not 0 < self.held_out < 1:
            raise InputError(f"--held-out {self.held_out:g}: it is a part of the utterances, such as 0.2")
        if self.chapters is not None:
            chapters_of(Manifest.of([]), self.chapters)  # says now what is wrong with it
