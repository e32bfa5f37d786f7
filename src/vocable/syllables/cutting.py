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
"""Frames of a stretch that is cut at once: the work grows with the third power of their number, memory with the second."""
_RATE = 50
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


def syllables(read: Read, norms: Norms, loudness: Norms, settings: SegmentSettings) -> Found:
    """Return the segments of an utterance.

    Args:
        read: gives the frames that are compared.
        norms: of the layer that tells speech from silence, as `scaled_norms` makes them; for norm-peaks as they are.
        loudness: of each frame, as `voiced_stretches` takes it.
        settings: how to cut.
    """
    if settings.method == "norm-peaks":
        return Found(norm_peak_syllables(norms, settings.norm_peaks))
    stretches = voiced_stretches(norms, loudness, settings.voicing)
    if settings.method == "greedy":
        found = [gathered_syllables(read(first, last), settings.greedy) + first for first, last in stretches.tolist()]
        return Found(np.concatenate([_NONE, *found]))
    return cut_stretches(read, _shortened(stretches, norms), settings.minimum_cut)


def cut_stretches(read: Read, stretches: Segments, settings: MinimumCut) -> Found:
    """Return the pieces of stretches of speech.

    Args:
        read: gives the frames that are compared.
        stretches: of shape (stretches, 2).
        settings: how to cut.
    """
    found = list(_cut(read, stretches, settings))
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


def _cut(read: Read, stretches: Segments, settings: MinimumCut) -> Iterator[Found]:
    """Yield the pieces of each stretch; those that fit in memory together are cut together."""
    waiting: list[tuple[int, Frames]] = []
    held = 0
    for first, last in stretches.tolist():
        size = (last - first) ** 2
        if waiting and held + size > _TOGETHER:
            yield from _of_frames(waiting, settings)
            waiting, held = [], 0
        waiting.append((first, read(first, last)))
        held += size
    yield from _of_frames(waiting, settings)


def _of_frames(stretches: Sequence[tuple[int, Frames]], settings: MinimumCut) -> Iterator[Found]:
    cut = [at for at, (_, frames) in enumerate(stretches) if len(frames) >= max(2, settings.cut_from)]
    wanted = [min(_pieces(len(stretches[at][1]), settings), len(stretches[at][1]) - 1) for at in cut]
    similarities = [similarity(stretches[at][1]) for at in cut]
    found = dict(zip(cut, minimum_cuts(similarities, wanted, settings.longest), strict=True))
    for at, (first, frames) in enumerate(stretches):
        cut_here = found.get(at)
        yield Found(_pieces_of(frames, cut_here, settings) + first, int(cut_here is not None and cut_here.bounded))


def _pieces(frames: int, settings: MinimumCut) -> int:
    pieces = math.ceil(frames / _RATE / settings.syllable_seconds)
    return pieces if settings.longest is None else max(pieces, math.ceil((frames - 1) / settings.longest))


def _pieces_of(frames: Frames, cut: Cut | None, settings: MinimumCut) -> Segments:
    if cut is None:  # too short to be cut
        whole = len(frames) > 1 or settings.cut_from > 1
        return np.array([[0, len(frames)]] if whole else [], dtype=np.int64).reshape(-1, 2)
    edges = cut.boundaries.copy()
    edges[-1] += settings.closed
    pieces = np.stack([edges[:-1], edges[1:]], axis=1)
    long = pieces[pieces[:, 1] - pieces[:, 0] >= settings.drop_shorter]
    pieces = long if len(long) else pieces
    if len(pieces) >= settings.merge_from:
        pieces = merged(frames, pieces, settings.merge_threshold)
    return pieces[pieces[:, 1] - pieces[:, 0] >= settings.shortest]
