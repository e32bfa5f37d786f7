"""Which frames a model has to predict without seeing them: spans that begin at random (arXiv 2006.11477, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vocable.errors import InputError


@dataclass(frozen=True, kw_only=True)
class MaskSettings:
    """How many spans are masked, and how long they are.

    Raises:
        InputError: there can be no such spans.
    """

    probability: float = 0.8
    """Spans times their length, as a part of the frames; they overlap, so 0.8 with spans of 10 hides 0.566 of 780 frames."""
    length: int = 10
    """Frames in a span."""
    least: int = 2
    """Spans in an utterance at least."""
    reference: bool = False
    """Draw spans as fairseq's and MelHuBERT's code does, number for number, from NumPy's older generator; slower."""

    def __post_init__(self) -> None:
        if not 0 < self.probability <= 1:
            raise InputError(f"probability {self.probability}: give a part above 0, up to 1")
        if self.length < 1 or self.least < 1:
            raise InputError(f"length {self.length} and least {self.least}: give 1 or more")


def reference_masks(
    drawn: np.random.RandomState, lengths: Sequence[int], width: int, settings: MaskSettings
) -> NDArray[np.bool_]:
    """Return which frames are masked, of shape (utterances, width), exactly as MelHuBERT's code draws fairseq's static masks.

    Args:
        drawn: what is random; the references take NumPy's global one.
        lengths: frames of each utterance.
        width: frames of the longest.
        settings: of the spans.
    """
    masks = np.zeros((len(lengths), width), dtype=bool)
    every = max(settings.least, int(settings.probability * width / settings.length + drawn.rand()))  # for rows of full length
    padded = any(length < width for length in lengths)
    for mask, length in zip(masks, lengths, strict=True):
        spans = every
        if padded:
            spans = max(settings.least, int(settings.probability * length / settings.length + drawn.rand()))
        longest = settings.length if length - settings.length > spans else length - spans - 1
        starts = drawn.choice(length - longest, spans, replace=False)
        places = (starts[:, None] + np.arange(settings.length)).ravel()
        mask[places[places < length]] = True
    return masks


def span_masks(drawn: np.random.Generator, utterances: int, frames: int, settings: MaskSettings) -> NDArray[np.bool_]:
    """Return which frames are masked, of shape (utterances, frames).

    As fairseq draws them: a number of spans that is rounded at random, begun at different frames, none in the last ones that a
    whole span has no room in. fairseq then makes all utterances of a batch have equally many by showing single frames again; here
    an utterance's mask doesn't depend on the others'. The last frame is never masked, so that very short ones keep a frame.

    Args:
        drawn: what is random.
        utterances: how many.
        frames: of each.
        settings: of the spans.
    """
    if frames < 2:
        return np.zeros((utterances, frames), dtype=bool)
    wanted = settings.probability * frames / settings.length + drawn.random(utterances)
    spans = np.maximum(settings.least, wanted.astype(np.int64))
    # Where there is room for fewer starts than spans, fairseq makes room for one more than there are spans.
    room = np.maximum(frames - settings.length, np.minimum(spans + 1, frames - 1))
    order = drawn.random((utterances, int(room.max())))
    order[np.arange(order.shape[1]) >= room[:, None]] = 2.0
    starts = order.argsort(axis=1).argsort(axis=1) < np.minimum(spans, room)[:, None]
    begun = np.zeros((utterances, frames + 1), dtype=np.int64)
    begun[:, 1 : starts.shape[1] + 1] = starts
    begun = begun.cumsum(axis=1)
    before = np.maximum(np.arange(frames) + 1 - settings.length, 0)
    masks: NDArray[np.bool_] = begun[:, 1:] > begun[:, before]
    masks[:, -1] = False
    return masks
