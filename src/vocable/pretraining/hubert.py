"""HuBERT's objective: to tell, for frames that were hidden, which cluster they are in (arXiv 2106.07447, section II)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from vocable.checkpoints.tensor_names import LABEL_EMBEDDINGS, of_set
from vocable.models.config import EncoderConfig
from vocable.models.convolution_batches import convolved_batch
from vocable.models.encoder import Encoder, MaskedStates
from vocable.models.regularization import NONE, Regularization
from vocable.pretraining.gradient_scaling import scaled_gradient
from vocable.pretraining.loss_settings import LossSettings
from vocable.training.objective import Losses


@dataclass(frozen=True)
class MaskedBatch:
    """Utterances of one length, their labels, and which of their frames are hidden."""

    audio: Tensor
    """Waveforms, of shape (utterances, samples), or log-mel frames, of shape (utterances, frames, channels)."""
    labels: Tensor
    """Of shape (label sets, utterances, frames)."""
    mask: Tensor
    """True for frames that are hidden, of shape (utterances, frames)."""
    hidden: Tensor
    """Their places among all frames of the batch, one utterance after another."""
    shown: Tensor
    """The places of the others."""
    seconds: float

    @classmethod
    def of(cls, audio: Tensor, labels: Tensor, mask: Tensor, seconds: float) -> MaskedBatch:
        """Make a batch; the places are found here, before a device would have to be waited for."""
        flat = mask.view(-1)
        return cls(audio, labels, mask, flat.nonzero().view(-1), (~flat).nonzero().view(-1), seconds)

    def to(self, device: torch.device) -> MaskedBatch:
        """Return the batch on a device."""
        return self._mapped(lambda item: item.to(device, non_blocking=True))

    def pinned(self) -> MaskedBatch:
        """Return the batch in memory that a GPU copies from while the processor goes on."""
        return self._mapped(torch.Tensor.pin_memory)

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> MaskedBatch:
        audio, labels, mask, hidden, shown = map(change, (self.audio, self.labels, self.mask, self.hidden, self.shown))
        return MaskedBatch(audio, labels, mask, hidden, shown, self.seconds)


class LabelHead(nn.Module):
    """Frames to how likely each label is.

    Args:
        dim: values of a frame.
        labels: how many there are, of each label set.
        settings: of the loss.
    """

    def __init__(self, dim: int, labels: Sequence[int], settings: LossSettings) -> None:
        super().__init__()
        self._settings, self._labels = settings, list(labels)
        if settings.kind == "linear":
            self.final_projection = nn.Linear(dim, sum(labels))
            return
        self.final_projection = nn.Linear(dim, settings.projection * len(labels))
        self.label_embeddings = nn.Parameter(torch.rand(sum(labels), settings.projection))

    def forward(self, frames: Tensor) -> list[Tensor]:
        """Return, for each label set, the logits of frames of shape (frames, dim): float32, of shape (frames, labels)."""
        projected = self.final_projection(frames).float()
        if self._settings.kind == "linear":
            return list(torch.split(projected, self._labels, dim=1))
        with torch.autocast(frames.device.type, enabled=False):  # a cosine in half precision is off by a step before it is scaled
            parts = projected.chunk(len(self._labels), dim=1)
            sets = torch.split(self.label_embeddings.float(), self._labels)
            return [
                functional.normalize(part, dim=1) @ functional.normalize(embeddings, dim=1).T / self._settings.temperature
                for part, embeddings in zip(parts, sets, strict=True)
            ]


@dataclass(frozen=True)
class Encoded:
    """What an encoder makes of a batch."""

    states: MaskedStates
    penalty: Tensor | None
    """Mean square of what the convolutions make, where there are some."""


class HubertObjective(nn.Module):
    """An encoder that learns to predict the labels of frames it doesn't see.

    The loss is the cross-entropy of all labels, on the frames that were asked for; that of one positive and all negatives, as
    fairseq writes it, is the same.

    Args:
        config: of the encoder.
        labels: how many there are, of each label set.
        loss: what is asked.
        regularization: of the encoder.
    """

    def __init__(
        self,
        config: EncoderConfig,
        labels: Sequence[int],
        loss: LossSettings | None = None,
        regularization: Regularization = NONE,
    ) -> None:
        super().__init__()
        self._settings = loss or LossSettings()
        self.encoder = Encoder(config, regularization=regularization)
        self.head = LabelHead(config.dim, labels, self._settings)
        if self.encoder.convolutions is not None and regularization.feature_gradient == 0:
            self.encoder.convolutions.requires_grad_(False)

    def weight(self, batch: MaskedBatch) -> float:
        """Return how many frames are asked for."""
        return float((self._settings.masked > 0) * len(batch.hidden) + (self._settings.unmasked > 0) * len(batch.shown))

    def forward(self, batch: MaskedBatch) -> Losses:
        """Return the loss in nats, summed over frames and label sets, with the penalty for each frame that is asked for."""
        return self.losses(batch, self.encoded(batch))

    def encoded(self, batch: MaskedBatch) -> Encoded:
        """Return what the encoder makes of a batch on its way."""
        convolved, penalty = self._convolved(batch)
        return Encoded(self.encoder.masked_states(convolved, batch.mask, self._left_out()), penalty)

    def losses(self, batch: MaskedBatch, encoded: Encoded) -> Losses:
        """Return what `forward` does of a batch, of which the encoder has made what it makes."""
        stream, penalty = encoded.states.final.flatten(0, 1), encoded.penalty
        labels = batch.labels.flatten(1)
        hidden = self._predicted(stream, labels, batch.hidden, self._settings.masked > 0)
        shown = self._predicted(stream, labels, batch.shown, self._settings.unmasked > 0)
        asked = self.weight(batch)
        loss = self._settings.masked * hidden.loss + self._settings.unmasked * shown.loss
        metrics = {
            "loss_masked": torch.stack([hidden.loss.detach(), hidden.count]),
            "accuracy_masked": torch.stack([hidden.correct, hidden.count]),
            "accuracy_unmasked": torch.stack([shown.correct, shown.count]),
            "commonest": torch.stack([hidden.commonest, hidden.count]),
        }
        if penalty is not None:
            loss = loss + self._settings.penalty * penalty * asked
            metrics["penalty"] = torch.stack([penalty.detach() * asked, torch.full_like(penalty, asked)]).float()
        return Losses(loss, metrics)

    def _convolved(self, batch: MaskedBatch) -> tuple[Tensor, Tensor | None]:
        stack = self.encoder.convolutions
        part = self.encoder.regularization.feature_gradient
        if stack is None:
            return batch.audio, None
        convolved = convolved_batch(stack, batch.audio)
        if 0 < part < 1:
            convolved = scaled_gradient(convolved, part)
        return convolved, convolved.float().pow(2).mean()

    def _left_out(self) -> Collection[int]:
        probability = self.encoder.regularization.layer_drop
        if not self.training or not probability:
            return ()
        drawn = torch.rand(len(self.encoder.blocks), device="cpu").tolist()
        return [number for number, value in enumerate(drawn, 1) if value < probability]

    def _predicted(self, stream: Tensor, labels: Tensor, places: Tensor, learning: bool) -> _Predicted:
        with torch.set_grad_enabled(torch.is_grad_enabled() and learning):
            every = self.head(stream.index_select(0, places))
            wanted = labels.index_select(1, places)
            loss = torch.stack(
                [functional.cross_entropy(logits, own, reduction="sum") for logits, own in zip(every, wanted, strict=True)]
            ).sum()
        first = every[0].detach()
        count = torch.full((), float(len(places)), device=stream.device)
        if not len(places):
            return _Predicted(loss, count, count, count)
        guessed = first.argmax(dim=1)
        # bincount would wait for the device, to see how many counts there are.
        commonest = first.new_zeros(first.shape[1]).scatter_add_(0, guessed, torch.ones_like(guessed, dtype=first.dtype)).max()
        return _Predicted(loss, (guessed == wanted[0]).sum().float(), count, commonest)


@dataclass(frozen=True)
class _Predicted:
    loss: Tensor
    correct: Tensor
    count: Tensor
    commonest: Tensor
    """How often the label is predicted that is predicted most."""


def heads_of(weights: Mapping[str, Tensor], labels: Sequence[int]) -> dict[str, Tensor]:
    """Return what a trained objective has beside its encoder, by the names that checkpoints have for it.

    Args:
        weights: of the objective, by name.
        labels: how many there are, of each label set.
    """
    heads = {name.removeprefix("head."): tensor for name, tensor in weights.items() if name.startswith("head.")}
    if (every := heads.pop(LABEL_EMBEDDINGS, None)) is not None:
        parts = torch.split(every, list(labels))
        heads |= {of_set(LABEL_EMBEDDINGS, number): part for number, part in enumerate(parts)}
    return heads
