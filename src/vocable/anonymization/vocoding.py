"""The objective of a vocoder: speech out of frames, and what tells it from what was said (HiFi-GAN, arXiv 2010.05646)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from vocable.errors import InputError
from vocable.features.hifigan_mel import HifiganMel
from vocable.models.discriminators import DiscriminatorConfig, Discriminators, Judged
from vocable.models.vocoder import Vocoder
from vocable.models.weight_norm import with_weight_norm
from vocable.training.objective import Losses

GENERATOR, _DISCRIMINATORS = "generator", "discriminators"


@dataclass(frozen=True, kw_only=True)
class VocodingSettings:
    """What a vocoder is to come near to; by default HiFi-GAN's weights.

    Raises:
        InputError: a part is none.
    """

    mel: float = 45.0
    """How much the difference of log-mel frames counts."""
    features: float = 2.0
    """How much that of what is behind each of the discriminators' convolutions does."""
    adversarial: float = 1.0
    """How much it does that discriminators take for speech what is made."""
    adversarial_from: float = 0.0
    """Part of all steps behind which discriminators take part: a small vocoder on little speech had better learn mel first."""

    def __post_init__(self) -> None:
        if not all(value >= 0 for value in (self.mel, self.features, self.adversarial)):
            raise InputError(f"mel {self.mel}, features {self.features} and adversarial {self.adversarial}: give 0 or more")
        if not 0 <= self.adversarial_from <= 1:
            raise InputError(f"adversarial_from {self.adversarial_from} is a part of all steps: give 0 to 1")


@dataclass(frozen=True)
class SpeechBatch:
    """Crops of utterances, of one length."""

    frames: Tensor
    """Of shape (utterances, frames, values)."""
    waveforms: Tensor
    """What was said there, of shape (utterances, hop · frames)."""
    seconds: float

    def to(self, device: torch.device) -> SpeechBatch:
        """Return the batch on a device."""
        return self._mapped(lambda item: item.to(device, non_blocking=True))

    def pinned(self) -> SpeechBatch:
        """Return the batch in memory that a GPU copies from while the processor goes on."""
        return self._mapped(torch.Tensor.pin_memory)

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> SpeechBatch:
        return SpeechBatch(change(self.frames), change(self.waveforms), self.seconds)


class Vocoding(nn.Module):
    """A generator, and discriminators, which take turns.

    What is counted are frames. While it is evaluated, the loss is the difference of log-mel frames alone: of what discriminators
    say, which change themselves, nothing follows of what is best.

    Args:
        vocoder: the generator as it begins; it gets weight norm.
        discriminators: which there are; of none, log-mel frames are all that is learnt from.
        settings: what counts how much.
        steps: of the whole training.
    """

    steps: Tensor

    def __init__(
        self, vocoder: Vocoder, discriminators: DiscriminatorConfig, settings: VocodingSettings | None = None, steps: int = 1
    ) -> None:
        super().__init__()
        self._settings = settings or VocodingSettings()
        heard = discriminators.count and (self._settings.adversarial or self._settings.features)
        self._first = round(self._settings.adversarial_from * steps) if heard else None
        self._turn = GENERATOR
        self.generator = with_weight_norm(vocoder)
        self.discriminators = Discriminators(discriminators)
        self.mel = HifiganMel(vocoder.config.hop, vocoder.config.sample_rate)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.counted: int | None = None
        """What `steps` holds, which a GPU would have to be waited for; None where it was just loaded."""
        self.register_load_state_dict_post_hook(_forget)  # type: ignore[no-untyped-call]

    @property
    def turns(self) -> tuple[str, ...]:
        """What this step goes through: discriminators first, as soon as they take part."""
        return (_DISCRIMINATORS, GENERATOR) if self._is_judged else (GENERATOR,)

    @property
    def _is_judged(self) -> bool:
        if self.counted is None:
            self.counted = int(self.steps)
        return self._first is not None and self.counted >= self._first

    def begin_step(self) -> None:
        """Begin a step."""
        if self._is_judged:
            self.discriminators.follow()

    def end_step(self, added: Callable[[Tensor], Tensor]) -> None:
        """Count it."""
        del added
        assert self.counted is not None
        self.steps += 1
        self.counted += 1

    def begin_turn(self, turn: str) -> None:
        """Begin a turn."""
        self._turn = turn

    def weight(self, batch: SpeechBatch) -> float:
        """Return how many frames there are."""
        return float(batch.frames.shape[0] * batch.frames.shape[1])

    def forward(self, batch: SpeechBatch) -> Losses:
        """Return the loss of whose turn it is, summed over frames."""
        if self.training and self._turn == _DISCRIMINATORS:
            return self._of_discriminators(batch)
        made = self.generator(batch.frames).float()
        frames = torch.tensor(self.weight(batch), device=made.device)
        mel = (self.mel(made) - self.mel(batch.waveforms)).abs().mean()
        if not self.training:
            return Losses(mel * frames, {"mel_error": _summed(mel, frames)})
        loss, metrics = self._settings.mel * mel, {"mel_error": _summed(mel, frames)}
        if self._is_judged:
            adversarial, features = self._of_generator(made, batch.waveforms)
            loss = loss + self._settings.adversarial * adversarial + self._settings.features * features
            metrics |= {"adversarial": _summed(adversarial, frames), "features": _summed(features, frames)}
        return Losses(loss * frames, metrics)

    def _of_discriminators(self, batch: SpeechBatch) -> Losses:
        """Return how far scores are from 1 for speech and from 0 for what is made: least squares (arXiv 1611.04076)."""
        with torch.no_grad():
            made = self.generator(batch.frames).float()
        count = len(made)
        # Both together: weights, which follow from directions and lengths, are then made once.
        scores = [judged.scores.float() for judged in self.discriminators(torch.cat([batch.waveforms, made]))]
        loss = torch.stack([(1 - own[:count]).square().mean() + own[count:].square().mean() for own in scores]).sum()
        frames = torch.tensor(self.weight(batch), device=made.device)
        metrics = {"discriminators": _summed(loss, frames)}
        for name, right in (("speech", [own[:count] > 0.5 for own in scores]), ("made", [own[count:] < 0.5 for own in scores])):
            share = torch.stack([own.float().mean() for own in right]).mean()
            metrics[f"accuracy_{name}"] = _summed(share, frames)
        return Losses(loss * frames, metrics)

    def _of_generator(self, made: Tensor, waveforms: Tensor) -> tuple[Tensor, Tensor]:
        """Return how far scores of what is made are from 1, and how far it is from speech behind all convolutions."""
        with _fixed(self.discriminators), parametrize.cached():
            with torch.no_grad():
                speech: list[Judged] = self.discriminators(waveforms)
            judged: list[Judged] = self.discriminators(made)
        adversarial = torch.stack([(1 - own.scores.float()).square().mean() for own in judged]).sum()
        pairs = [pair for mine, theirs in zip(judged, speech, strict=True) for pair in zip(mine.maps, theirs.maps, strict=True)]
        return adversarial, torch.stack([(one.float() - other.float()).abs().mean() for one, other in pairs]).sum()


def _summed(mean: Tensor, frames: Tensor) -> Tensor:
    """Return a mean as metrics want it."""
    return torch.stack([mean.detach() * frames, frames])


@contextmanager
def _fixed(module: nn.Module) -> Iterator[None]:
    """Let no gradients be made of a module's parameters by what is called meanwhile."""
    learnt = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in learnt:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learnt:
            parameter.requires_grad_(True)


def _forget(objective: Vocoding, keys: Any) -> None:
    """Let what was loaded be looked at."""
    del keys
    objective.counted = None
