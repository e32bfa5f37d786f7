"""Syllables gathered frame by frame, in time that grows with their number: Sylber's segmentation (arXiv 2410.07168)."""

from __future__ import annotations

import numpy as np

from vocable.syllables.merging import Segments
from vocable.syllables.minimum_cut import Frames
from vocable.syllables.settings import Greedy

_EPS = 1e-8


def gathered_syllables(frames: Frames, settings: Greedy) -> Segments:
    """Cut a stretch of speech.

    From left to right, a frame joins the segment before it if it is like its mean, or else begins one. Then each boundary
    between two is looked at once more: segments whose means are alike become one, and others part where frames are most like the
    means of their own side.

    Args:
        frames: of a stretch of speech, of shape (frames, dim).
        settings: how alike frames of a segment are.
    """
    if not len(frames):
        return np.empty((0, 2), np.int64)
    values = frames.astype(np.float64)
    directions = values / np.sqrt((values * values).sum(axis=1, keepdims=True) + _EPS)
    boundaries = _changes(values, directions, settings)
    return _settled(values, directions, boundaries, settings.merge_threshold)


def _changes(values: np.ndarray, directions: np.ndarray, settings: Greedy) -> list[int]:
    """Return 0, the frames that begin a segment, and how many frames there are."""
    boundaries = [0]
    mean, count = values[0], 1
    for at in range(1, len(values)):
        if _direction(mean) @ directions[at] >= settings.merge_threshold:
            mean = (mean * count + values[at]) / (count + 1)
            count += 1
            continue
        boundaries.append(at)
        mean = values[at]
        count = count + 1 if settings.reference_quirks else 1
    return [*boundaries, len(values)]


def _settled(values: np.ndarray, directions: np.ndarray, boundaries: list[int], threshold: float) -> Segments:
    sums = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
    kept = [boundaries[0]]
    for number, boundary in enumerate(boundaries[1:-1], 1):
        first, last = kept[-1], boundaries[number + 1]
        left = _direction((sums[boundary] - sums[first]) / (boundary - first))
        right = _direction((sums[last] - sums[boundary]) / (last - boundary))
        if left @ right >= threshold:
            continue
        begin = max(first, boundary - max(1, (boundary - first) // 2))
        end = min(last, boundary + max(1, (last - boundary) // 2))
        nearby = directions[begin:end]
        to_left, to_right = nearby @ left, nearby @ right
        # Frames before a split are compared with the mean on the left, those from it on with that on the right.
        scores = np.concatenate([[0.0], np.cumsum(to_left - to_right)])
        kept.append(begin + int(scores.argmax()))
    edges = np.array([*kept, boundaries[-1]], dtype=np.int64)
    return np.stack([edges[:-1], edges[1:]], axis=1)


def _direction(value: np.ndarray) -> np.ndarray:
    made: np.ndarray = value / np.sqrt(value @ value + _EPS)
    return made
