"""Windows of audio that overlap, each through an encoder alone, and their frames joined: memory doesn't grow with the length."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from vocable.syllables.minimum_cut import Frames

WINDOW, OVERLAP = 250, 25
"""Frames of a window, and of what two windows share, at 50 frames a second: 5 s and half a second, as the authors' README has
them."""
_RAMP = 5  # frames over which a window comes in, or goes out


def spans(frames: int, window: int = WINDOW, overlap: int = OVERLAP) -> list[tuple[int, int]]:
    """Return where windows begin and end, in frames; the last lies at the end, and shares more with the one before it.

    Args:
        frames: there are.
        window: frames of a window; an utterance of no more is one window.
        overlap: frames that two share at least.
    """
    if frames <= window:
        return [(0, frames)] if frames else []
    firsts = [*range(0, frames - window, window - overlap), frames - window]
    return [(first, first + window) for first in firsts]


def weights(overlap: int = OVERLAP) -> NDArray[np.float64]:
    """Return how much of the later window is taken in each frame that two share, of shape (overlap, 1).

    Both count alike in the middle, and come in and go out along ramps (the authors' code of July 2024).
    """
    ramp = np.clip(np.arange(overlap) / _RAMP, 0.0, 1.0)
    return (ramp / (ramp + ramp[::-1]))[:, None]


class Joined:
    """Joins the frames of windows, which come in order.

    Args:
        overlap: frames that two windows share; where they share more, the later one counts from the last `overlap` of them on.
    """

    def __init__(self, overlap: int = OVERLAP) -> None:
        self._overlap, self._end = overlap, 0
        self._last: Frames | None = None

    def add(self, first: int, frames: Frames) -> Iterator[tuple[int, Frames]]:
        """Take the frames of a window, and yield (first frame, frames) that are settled."""
        fresh = frames
        if self._last is not None:
            begin = self._end - self._overlap - first
            part = weights(self._overlap)
            shared = self._last * (1 - part) + frames[begin : begin + self._overlap] * part
            fresh = np.concatenate([shared.astype(np.float32), frames[begin + self._overlap :]])
        start = 0 if self._last is None else self._end - self._overlap
        self._end = first + len(frames)
        if len(fresh) > self._overlap:
            yield start, fresh[: -self._overlap]
        self._last = fresh[-self._overlap :]

    def rest(self) -> Iterator[tuple[int, Frames]]:
        """Yield what is left once all windows came."""
        if self._last is not None:
            yield self._end - len(self._last), self._last
