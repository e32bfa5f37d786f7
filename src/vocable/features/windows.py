"""How an encoder goes through a long waveform: in overlapping windows, or in chunks as fairseq's scripts do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from vocable.errors import InputError

WINDOW = 2000
CONTEXT = 250
FAIRSEQ_CHUNK = 1_600_000


class Window(NamedTuple):
    """Frames that go through an encoder together, and which of them are kept."""

    first: int
    last: int
    kept_from: int
    kept_to: int


@dataclass(frozen=True)
class Windows:
    """Overlapping windows of a fixed number of frames; shorter waveforms go through whole.

    Convolutions see all of a waveform in either case, and so do the statistics of a group norm and of the waveform's own
    normalisation; what ends at a window is attention and the positional convolution.
    """

    length: int = WINDOW
    """Frames in a window: 40 s by default."""
    context: int = CONTEXT
    """Frames at each end whose output is dropped, unless the waveform ends there: 5 s by default."""

    def __post_init__(self) -> None:
        if self.context < 0 or self.length <= 2 * self.context:
            raise InputError(
                f"windows of {self.length} frames can't have {self.context} frames of context on each side: give fewer"
            )

    def __str__(self) -> str:
        return f"windows:{self.length}:{self.context}"

    def over(self, count: int) -> Iterator[Window]:
        """Yield the windows over so many frames."""
        if count <= self.length:
            yield Window(0, count, 0, count)
            return
        kept_to = 0
        while kept_to < count:
            first = min(max(0, kept_to - self.context), count - self.length)
            last = first + self.length
            end = count if last == count else last - self.context
            yield Window(first, last, kept_to, end)
            kept_to = end


@dataclass(frozen=True)
class Chunks:
    """fairseq's chunks of samples, one after another: a frame is lost at each end of one, and nothing sees beyond it."""

    samples: int = FAIRSEQ_CHUNK

    def __str__(self) -> str:
        return f"fairseq:{self.samples}"

    def spans(self, samples: int) -> Iterator[tuple[int, int]]:
        """Yield where chunks of a waveform begin and end, in samples."""
        for first in range(0, samples, self.samples):
            yield first, min(first + self.samples, samples)


_TEXT = re.compile(r"windows(?::([0-9]{1,9}):([0-9]{1,9}))?|fairseq(?::([0-9]{1,12}))?")


def chunking_of(text: str) -> Windows | Chunks:
    """Return what `windows`, `windows:LENGTH:CONTEXT` (frames), `fairseq` or `fairseq:SAMPLES` means.

    Raises:
        InputError: it is none of these.
    """
    found = _TEXT.fullmatch(text)
    if found is None:
        raise InputError(f"--chunking {text}: give windows, windows:LENGTH:CONTEXT (frames), fairseq or fairseq:SAMPLES")
    length, context, samples = found.groups()
    if text.startswith("windows"):
        return Windows() if length is None else Windows(int(length), int(context))
    if samples is not None and int(samples) < 400:
        raise InputError(f"--chunking {text}: chunks of fewer than 400 samples have no frames; give more")
    return Chunks() if samples is None else Chunks(int(samples))
