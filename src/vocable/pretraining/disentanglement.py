"""HuBERT's objective with heads that tell who speaks and how high, and an encoder that learns not to let them.

Gradient reversal is Ganin's and others' (arXiv 1505.07818). The original of this variant isn't public; what is here follows the
note that tells where its reversal lies, and is else our own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from vocable.models.dropout import dropout
from vocable.models.encoder import MaskedStates
from vocable.pretraining.disentanglement_settings import DisentanglementSettings, HeadSettings, SpeakerHeadSettings
from vocable.pretraining.gradient_scaling import Gate, reversed_gradient
from vocable.pretraining.hubert import HubertObjective, MaskedBatch
from vocable.training.objective import Losses

UNKNOWN = -1
"""Stands for a speaker who isn't known, and for the pitch of what has none."""
_LEAST_VARIANCE = 1e-5  # the root of 0 has no finite gradient


@dataclass(frozen=True)
class DisentangledBatch:
    """Utterances of one length, with who speaks and how high."""

    masked: MaskedBatch
    speakers: Tensor | None
    """Of shape (utterances,); None where none is known in all of the data."""
    pitch: Tensor | None
    """Of shape (utterances, frames)."""

    @property
    def seconds(self) -> float:
        """Audio in it."""
        return self.masked.seconds

    def to(self, device: torch.device) -> DisentangledBatch:
        """Return the batch on a device."""
        moved = self._mapped(lambda item: item.to(device, non_blocking=True))
        return replace(moved, masked=self.masked.to(device))

    def pinned(self) -> DisentangledBatch:
        """Return the batch in memory that a GPU copies from while the processor goes on."""
        return replace(self._mapped(torch.Tensor.pin_memory), masked=self.masked.pinned())

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> DisentangledBatch:
        speakers, pitch = (None if item is None else change(item) for item in (self.speakers, self.pitch))
        return DisentangledBatch(self.masked, speakers, pitch)


class Items(NamedTuple):
    """What a head is asked about."""

    described: Tensor
    """Utterances, or frames, as the head hears them, of shape (items, values)."""
    wanted: Tensor
    """What it should say, of shape (items,); UNKNOWN for those that don't count."""


class SpeakerHead(nn.Module):
    """Frames to who speaks.

    Args:
        dim: values of a frame.
        speakers: how many there are.
        settings: of the head.
    """

    def __init__(self, dim: int, speakers: int, settings: SpeakerHeadSettings) -> None:
        super().__init__()
        self._settings, self._pooled = settings, settings.head == "pooled"
        width = 2 * dim if self._pooled else dim
        self.inner = nn.Linear(width, settings.hidden)
        self.norm = nn.LayerNorm(settings.hidden) if self._pooled else None
        self.outer = nn.Linear(settings.hidden, speakers)

    def items(self, frames: Tensor, heard: Tensor, speakers: Tensor) -> Items:
        """Return the utterances, or frames, and who speaks in them.

        Args:
            frames: float32, of shape (utterances, frames, dim).
            heard: true for frames that count, of shape (utterances, frames).
            speakers: of the utterances, of shape (utterances,).
        """
        if self._pooled:
            return Items(pooled(frames, heard), torch.where(heard.any(dim=1), speakers, UNKNOWN))
        return Items(frames.flatten(0, 1), torch.where(heard, speakers[:, None], UNKNOWN).flatten())

    def forward(self, described: Tensor) -> Tensor:
        """Return what is told of each item, of shape (items, speakers)."""
        inner = self.inner(described) if self.norm is None else self.norm(self.inner(described))
        told: Tensor = self.outer(dropout(functional.gelu(inner), self._settings.dropout, self.training))
        return told


class PitchHead(nn.Module):
    """Frames to how high they are.

    Args:
        dim: values of a frame.
        bins: how many there are of pitch.
        settings: of the head.
    """

    def __init__(self, dim: int, bins: int, settings: HeadSettings) -> None:
        super().__init__()
        self._settings = settings
        self.inner, self.outer = nn.Linear(dim, settings.hidden), nn.Linear(settings.hidden, bins)

    def items(self, frames: Tensor, heard: Tensor, pitch: Tensor) -> Items:
        """Return the frames and how high they are.

        Only voiced frames count: whether there is a voice is part of what is said.

        Args:
            frames: float32, of shape (utterances, frames, dim).
            heard: true for frames that count, of shape (utterances, frames).
            pitch: bins, of the same shape.
        """
        return Items(frames.flatten(0, 1), torch.where(heard, pitch, UNKNOWN).flatten())

    def forward(self, described: Tensor) -> Tensor:
        """Return what is told of each item, of shape (items, bins)."""
        inner = functional.gelu(self.inner(described))
        told: Tensor = self.outer(dropout(inner, self._settings.dropout, self.training))
        return told


def pooled(frames: Tensor, heard: Tensor) -> Tensor:
    """Return mean and deviation of the frames of each utterance that count, of shape (utterances, 2 · dim).

    Args:
        frames: of shape (utterances, frames, dim).
        heard: true for frames that count, of shape (utterances, frames).
    """
    counted = heard[..., None].to(frames.dtype)
    count = counted.sum(dim=1).clamp(min=1)
    mean = (frames * counted).sum(dim=1) / count
    variance = ((frames - mean[:, None]).square() * counted).sum(dim=1) / count
    return torch.cat([mean, (variance + _LEAST_VARIANCE).sqrt()], dim=1)


def between_utterances(frames: Tensor, heard: Tensor) -> Tensor:
    """Return which part of the variance of frames lies between the means of utterances, a mean over values, of shape ().

    Args:
        frames: of shape (utterances, frames, dim).
        heard: true for frames that count, of shape (utterances, frames).
    """
    counted = heard[..., None].to(frames.dtype)
    count = counted.sum(dim=1).clamp(min=1)
    means = (frames * counted).sum(dim=1) / count
    whole = (means * count).sum(dim=0) / count.sum()
    spread = ((frames - whole).square() * counted).sum(dim=(0, 1)) / count.sum()
    apart = ((means - whole).square() * count).sum(dim=0) / count.sum()
    return (apart / (spread + _LEAST_VARIANCE)).mean()


class DisentangledObjective(nn.Module):
    """HuBERT's objective, and heads whose gradients come to the encoder turned round.

    Heads come after all else: they are made when HuBERT's part is, and what is random in them is drawn behind what is random in
    it; where nothing is reversed, that part learns as it would alone, bit for bit.

    Args:
        hubert: encoder and head of labels, as they begin.
        settings: of what the encoder is turned against.
        steps: of the whole training, which the strength follows.
        speakers: how many there are; None without such a head.
        bins: of pitch, how many there are; None without such a head.

    Raises:
        InputError: the encoder has no such layer.
    """

    steps: Tensor

    def __init__(
        self, hubert: HubertObjective, settings: DisentanglementSettings, steps: int, speakers: int | None, bins: int | None
    ) -> None:
        super().__init__()
        config = hubert.encoder.config
        self._settings, self._steps, self._layer = settings, steps, settings.layer(config.layers)
        self.hubert = hubert
        self.heads = nn.ModuleDict()
        if speakers is not None:
            self.heads["speaker"] = SpeakerHead(config.dim, speakers, settings.speaker)
        if bins is not None:
            self.heads["pitch"] = PitchHead(config.dim, bins, settings.pitch)
        self._weights = {"speaker": settings.speaker.weight, "pitch": settings.pitch.weight}
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self._step: int | None = None

    @property
    def apart(self) -> nn.Module:
        """The heads, however large their gradients are."""
        return self.heads

    @property
    def apart_rate(self) -> float:
        """Their learning rate, as a multiple of the model's."""
        return self._settings.head_rate

    def begin_step(self) -> None:
        """Begin a step, whose number a checkpoint may have said."""
        # A GPU is asked once, since one would have to wait for it.
        self._step = int(self.steps) if self._step is None else self._step + 1

    @torch.no_grad()
    def end_step(self, added: Callable[[Tensor], Tensor]) -> None:
        """Count a step."""
        del added
        self.steps += 1

    @property
    def scheduled(self) -> float:
        """Which part of their strength heads and centring have."""
        return self._settings.scheduled(self._now, self._steps)

    @property
    def strength(self) -> float:
        """What the heads' gradients are multiplied with, beside -1."""
        return self._settings.strength(self._now, self._steps)

    @property
    def _now(self) -> int:
        return int(self.steps) if self._step is None else self._step

    def weight(self, batch: DisentangledBatch) -> float:
        """Return how many frames are asked for."""
        return self.hubert.weight(batch.masked)

    def forward(self, batch: DisentangledBatch) -> Losses:
        """Return HuBERT's loss with the heads' mean cross-entropies, each as often as frames are asked for.

        Out of training it is HuBERT's alone: a model isn't worse for what heads don't find in it.
        """
        encoded = self.hubert.encoded(batch.masked)
        loss, metrics = self.hubert.losses(batch.masked, encoded)
        frames, strength = self._tapped(encoded.states), self.strength if self.training else 0.0
        centring = self._settings.centring * self.scheduled if self.training else 0.0
        frames = (frames if strength or centring else frames.detach()).float()
        if self._settings.normalize:
            frames = functional.layer_norm(frames, frames.shape[-1:])
        metrics = dict(metrics)
        apart = between_utterances(frames, self._heard(batch))
        metrics["between_utterances"] = torch.stack([apart.detach(), torch.ones_like(apart)])
        if centring:
            loss = loss + self.weight(batch) * centring * apart
        frames = frames if strength else frames.detach()
        for name, head, items, gate in self._asked(frames, strength, batch):
            logits = head(items.described).float()
            each = functional.cross_entropy(logits, items.wanted, ignore_index=UNKNOWN, reduction="none")
            if self._settings.relents:
                gate.part = (each.detach() < math.log(logits.shape[1])).view(len(frames), -1, 1)
            count, lost = (items.wanted != UNKNOWN).sum(), each.sum()
            if self.training:
                loss = loss + self.weight(batch) * self._weights[name] * lost / count.clamp(min=1)
            right = (logits.detach().argmax(dim=1) == items.wanted).sum()
            metrics[f"{name}_loss"] = torch.stack([lost.detach(), count])
            metrics[f"{name}_accuracy"] = torch.stack([right, count])
        if self.training:
            metrics["reversal"] = torch.tensor([strength, 1.0])
        return Losses(loss, metrics)

    def _tapped(self, states: MaskedStates) -> Tensor:
        return states.blocks[self._layer - 1] if self._layer else states.projected

    def _asked(
        self, frames: Tensor, strength: float, batch: DisentangledBatch
    ) -> Iterator[tuple[str, SpeakerHead | PitchHead, Items, Gate]]:
        heard = self._heard(batch)
        known = {"speaker": batch.speakers, "pitch": batch.pitch}
        for name, head in self.heads.items():
            assert isinstance(head, (SpeakerHead, PitchHead))
            if (labels := known[name]) is not None:
                gate = Gate()
                own = reversed_gradient(frames, strength, gate) if strength else frames
                yield name, head, head.items(own, heard, labels), gate

    def _heard(self, batch: DisentangledBatch) -> Tensor:
        mask = batch.masked.mask
        return {"all": torch.ones_like(mask), "masked": mask, "unmasked": ~mask}[self._settings.frames]
