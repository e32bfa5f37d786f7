"""What SD-HuBERT's training does to a sentence, so that student and teacher see it differently (arXiv 2310.10803)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vocable.errors import InputError

Drawn = np.random.Generator | np.random.RandomState
Plan = Literal["mask", "stretch", "none"]


@dataclass(frozen=True)
class SpanMask:
    """Spans of frames that are hidden, as SpecAugment hides time."""

    share: float
    """How likely an utterance is treated so."""
    probability: float
    """Part of its frames that spans cover, as long as they don't overlap."""
    length: int
    """Frames of a span."""


@dataclass(frozen=True, kw_only=True)
class PerturbationSettings:
    """What is done to an utterance: one of these, drawn at random.

    Raises:
        InputError: a part is none.
    """

    masks: tuple[tuple[float, float, int], ...] = ((0.4, 0.2, 10), (0.4, 0.3, 5))
    """Of each kind of mask: how likely an utterance is treated so, which part of its frames spans cover, frames of a span."""
    stretch: float = 0.2
    """How likely a part of an utterance is stretched or squeezed, and the rest of it the other way."""
    teacher: bool = True
    """Whether what the teacher sees is changed, too, in another way."""

    def __post_init__(self) -> None:
        shares = [*(share for share, _, _ in self.masks), self.stretch]
        if min(shares) < 0 or sum(shares) > 1 + 1e-9:
            raise InputError(f"an utterance is treated in one of {len(shares)} ways, whose shares {shares} add up to more than 1")
        for _, probability, length in self.masks:
            if not 0 <= probability <= 1 or length < 1:
                raise InputError(f"a mask of probability {probability} and length {length}: give a part from 0 to 1, and frames")

    @property
    def spans(self) -> tuple[SpanMask, ...]:
        """The kinds of masks."""
        return tuple(SpanMask(*item) for item in self.masks)


@dataclass(frozen=True)
class Perturbed:
    """What is done to the frames of a batch."""

    mask: Tensor
    """True where a frame is hidden, of shape (utterances, frames)."""
    positions: Tensor
    """Where a frame is taken from, between two frames; float32 of shape (utterances, frames)."""

    def __call__(self, frames: Tensor, embedding: Tensor) -> Tensor:
        """Return frames perturbed.

        Args:
            frames: of shape (utterances, frames, dim).
            embedding: what hidden frames become, of shape (dim,).
        """
        before = self.positions.floor().long()
        behind = (before + 1).clamp(max=frames.shape[1] - 1)
        part = (self.positions - before).unsqueeze(-1).to(frames.dtype)
        index = before.unsqueeze(-1).expand_as(frames), behind.unsqueeze(-1).expand_as(frames)
        taken = frames.gather(1, index[0]) * (1 - part) + frames.gather(1, index[1]) * part
        return torch.where(self.mask.unsqueeze(-1), embedding.to(taken.dtype), taken)


def perturbed(drawn: np.random.Generator, utterances: int, frames: int, settings: PerturbationSettings) -> Perturbed:
    """Draw what is done to each utterance of a batch.

    Args:
        drawn: what is random.
        utterances: how many.
        frames: of each.
        settings: what may be done.
    """
    masks = np.zeros((utterances, frames), dtype=bool)
    positions = np.tile(np.arange(frames, dtype=np.float64), (utterances, 1))
    shares = np.cumsum([*(item.share for item in settings.spans), settings.stretch])
    for row, chosen in enumerate(np.searchsorted(shares, drawn.random(utterances), side="right").tolist()):
        if chosen < len(settings.spans):
            span = settings.spans[chosen]
            masks[row] = time_mask(drawn, frames, span.probability, span.length)
        elif chosen == len(settings.spans):
            positions[row] = stretched(drawn, frames)
    return Perturbed(torch.from_numpy(masks), torch.from_numpy(positions.astype(np.float32)))


def time_mask(drawn: Drawn, frames: int, probability: float, length: int) -> NDArray[np.bool_]:
    """Return which frames SpecAugment's time mask hides, as transformers and fairseq draw them: spans begun at different frames.

    Args:
        drawn: what is random.
        frames: of the utterance.
        probability: part of the frames that spans would cover if they didn't overlap.
        length: frames of a span.
    """
    mask = np.zeros(frames, dtype=bool)
    if length > frames:
        return mask
    spans = int(probability * frames / length + drawn.random())
    spans = min(spans, frames // length, frames - length + 1)
    for start in drawn.choice(np.arange(frames - length + 1), spans, replace=False).tolist():
        mask[start : start + length] = True
    return mask


def stretched(drawn: Drawn, frames: int) -> NDArray[np.float64]:
    """Return where frames are taken from when a part of an utterance lasts longer or shorter, and the rest makes up for it.

    Args:
        drawn: what is random.
        frames: of the utterance.

    Returns:
        For each frame a place between two frames, of shape (frames,).
    """
    anchor = int(frames * (0.2 + 0.6 * drawn.random()))
    left = drawn.random() < 0.5
    part = anchor if left else frames - anchor
    if part < 1 or part >= frames:
        return np.arange(frames, dtype=np.float64)
    most = min(1.5, frames / part)
    factor = 0.8 + (most - 0.8) * drawn.random()
    longer = _between(part, int(part * factor), 1 / factor)
    rest = _between(frames - part, frames - len(longer), (frames - part) / max(1, frames - len(longer)))
    return np.concatenate([longer, anchor + rest] if left else [rest, anchor + longer])[:frames]


def _between(count: int, wanted: int, step: float) -> NDArray[np.float64]:
    """Return where so many frames are taken from, among a number of them: so far apart, between the middles of two."""
    at: NDArray[np.float64] = np.clip((np.arange(wanted) + 0.5) * step - 0.5, 0, max(0, count - 1))
    return at
