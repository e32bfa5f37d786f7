"""Stretches of speech to syllables, by any of the methods."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vocable.syllables.greedy import gathered_syllables
from vocable.syllables.merging import Segments, merged
from vocable.syllables.minimum_cut import Cut, Frames, minimum_cuts, similarity
from vocable.syllables.norm_peaks import norm_peak_syllables
from vocable.syllables.settings import MinimumCut, SegmentSettings
from vocable.syllables.voicing import voiced_stretches

LONGEST_STRETCH = 3000
"""Frames of a stretch that is cut at once: a minimum cut's work grows with the third power of their number, its memory with the
second."""
_TOGETHER = 1 << 20  # numbers of all similarities that are held at once

_NONE = np.empty((0, 2), np.int64)

Norms = NDArray[np.floating]
Read = Callable[[int, int], Frames]
"""The frames of an utterance from one to before another."""


class Found(NamedTuple):
    """The segments of an utterance."""

    segments: Segments
    """In frames."""
    bounded: int = 0
    """Stretches of speech with a piece as long as a bound lets it be, so that without it the cut might be another."""


def syllables(read: Read, norms: Norms, loudness: Norms, settings: SegmentSettings, rate: float = 50.0) -> Found:
    """Return the segments of an utterance.

    Args:
        read: gives the frames that are compared.
        norms: of the layer that tells speech from silence, as `scaled_norms` makes them; for norm-peaks as they are.
        loudness: of each frame, as `voiced_stretches` takes it.
        settings: how to cut.
        rate: frames per second.
    """
    if settings.method == "norm-peaks":
        return Found(norm_peak_syllables(norms, settings.norm_peaks))
    stretches = _shortened(voiced_stretches(norms, loudness, settings.voicing), norms)
    if settings.method == "greedy":
        found = [gathered_syllables(read(first, last), settings.greedy) + first for first, last in stretches.tolist()]
        return Found(np.concatenate([_NONE, *found]))
    return cut_stretches(read, stretches, settings.minimum_cut, rate)


def cut_stretches(read: Read, stretches: Segments, settings: MinimumCut, rate: float = 50.0) -> Found:
    """Return the pieces of stretches of speech.

    Args:
        read: gives the frames that are compared.
        stretches: of shape (stretches, 2).
        settings: how to cut.
        rate: frames per second.
    """
    found = list(_cut(read, stretches, settings, rate))
    return Found(np.concatenate([_NONE, *(item.segments for item in found)]), sum(item.bounded for item in found))


def _shortened(stretches: Segments, norms: Norms) -> Segments:
    """Return stretches of which long ones are parted where their norm is least, near their middle."""
    parts: list[tuple[int, int]] = []
    waiting = [(first, last) for first, last in stretches[::-1].tolist()]
    while waiting:
        first, last = waiting.pop()
        if last - first <= LONGEST_STRETCH:
            parts.append((first, last))
            continue
        quarter = (last - first) // 4
        at = first + quarter + int(norms[first + quarter : last - quarter].argmin())
        waiting += [(at, last), (first, at)]
    return np.array(parts, dtype=np.int64).reshape(-1, 2)


def _cut(read: Read, stretches: Segments, settings: MinimumCut, rate: float) -> Iterator[Found]:
    """Yield the pieces of each stretch; those that fit in memory together are cut together."""
    waiting: list[tuple[int, Frames]] = []
    held = 0
    for first, last in stretches.tolist():
        size = (last - first) ** 2
        if waiting and held + size > _TOGETHER:
            yield from _of_frames(waiting, settings, rate)
            waiting, held = [], 0
        waiting.append((first, read(first, last)))
        held += size
    yield from _of_frames(waiting, settings, rate)


def _of_frames(stretches: Sequence[tuple[int, Frames]], settings: MinimumCut, rate: float) -> Iterator[Found]:
    cut = [at for at, (_, frames) in enumerate(stretches) if len(frames) >= max(2, settings.cut_from)]
    usual = [math.ceil(len(stretches[at][1]) / rate / settings.syllable_seconds) for at in cut]
    wanted = [_within_bounds(pieces, len(stretches[at][1]), settings) for at, pieces in zip(cut, usual, strict=True)]
    raised = {at for at, pieces, count in zip(cut, usual, wanted, strict=True) if count > pieces}
    similarities = [similarity(stretches[at][1]) for at in cut]
    found = dict(zip(cut, minimum_cuts(similarities, wanted, settings.longest), strict=True))
    for at, (first, frames) in enumerate(stretches):
        cut_here = found.get(at)
        bounded = at in raised or (cut_here is not None and cut_here.bounded)
        yield Found(_pieces_of(frames, cut_here, settings) + first, int(bounded))


def _within_bounds(pieces: int, frames: int, settings: MinimumCut) -> int:
    """Return how many pieces a stretch is cut into: as many as a bound on their length takes, and as frames allow."""
    fewest = 1 if settings.longest is None else math.ceil((frames - 1) / settings.longest)
    return min(max(pieces, fewest), frames - 1)


def _pieces_of(frames: Frames, cut: Cut | None, settings: MinimumCut) -> Segments:
    if cut is None:  # too short to be cut
        whole = len(frames) >= settings.shortest and (len(frames) > 1 or settings.cut_from > 1)
        return np.array([[0, len(frames)]] if whole else [], dtype=np.int64).reshape(-1, 2)
    edges = cut.boundaries.copy()
    edges[-1] += settings.closed
    pieces = np.stack([edges[:-1], edges[1:]], axis=1)
    long = pieces[pieces[:, 1] - pieces[:, 0] >= settings.drop_shorter]
    pieces = long if len(long) else pieces
    pieces = merged(frames, pieces, settings.merge_threshold, settings.merge_from)
    return pieces[pieces[:, 1] - pieces[:, 0] >= settings.shortest]
