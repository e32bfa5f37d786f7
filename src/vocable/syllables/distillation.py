"""SD-HuBERT's objective: what a sentence is, told by a student as its own slower self tells it (arXiv 2310.10803)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from vocable.errors import InputError
from vocable.models.blocks import Block
from vocable.models.config import EncoderConfig
from vocable.models.convolution_batches import convolved_batch
from vocable.models.dropout import dropout
from vocable.models.encoder import Encoder
from vocable.models.regularization import NONE, Regularization
from vocable.syllables.perturbation import Perturbed
from vocable.training.objective import Losses

Part = Literal["convolutions", "positions"]


@dataclass(frozen=True, kw_only=True)
class DistillationSettings:
    """What a student learns of its teacher.

    Raises:
        InputError: a part is none.
    """

    prototypes: int = 2048
    """What a sentence is told by: how much it is of each."""
    hidden: int = 2048
    """Values in the layers between an aggregator and these."""
    student_temperature: float = 0.2
    teacher_temperature: float = 0.05
    teacher_decay: float = 0.999
    """Part of the teacher that stays in each step; the rest becomes the student's. 1 is a teacher that never moves, as in the
    authors' code before November 2024."""
    center_momentum: float = 0.9
    """Part of the centre that stays. Without a centre all sentences would end at one prototype."""
    center: Literal["step", "batch"] = "step"
    """`step`: the mean of a step's teacher outputs, over all processes, moves it behind the step. `batch`: each process's batch
    moves it before its loss, as in the authors' code, and behind the step all go on with the mean of theirs."""
    center_in_validation: bool = False
    """Whether what is validated on moves the centre, too, as in the authors' code; with `batch` alone."""
    reduction: Literal["mean", "sum"] = "mean"
    """Of the loss over a batch's sentences; the authors' `sum` makes clip_norm bite the more, the larger the batch."""
    reinitialized: tuple[int, ...] | None = None
    """Blocks, from 1, that begin anew, but for their values' projections and norms; by default the last three, or of an SD-HuBERT
    that is gone on with none."""
    frozen: tuple[Part, ...] | None = None
    """Parts of the encoder that stay as they are: by default both, or of an encoder that begins at random none."""

    def __post_init__(self) -> None:
        for name in ("student_temperature", "teacher_temperature"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} {getattr(self, name)}: give more than 0")
        for name in ("teacher_decay", "center_momentum"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} {getattr(self, name)}: give 0 to 1")
        if self.prototypes < 2 or self.hidden < 1:
            raise InputError(f"prototypes {self.prototypes} and hidden {self.hidden}: give 2 or more, and 1 or more")
        if self.center_in_validation and self.center != "batch":
            raise InputError('center_in_validation goes with center = "batch"')
        for name, value, allowed in (("center", self.center, ("step", "batch")), ("reduction", self.reduction, ("mean", "sum"))):
            if value not in allowed:
                raise InputError(f"{name} {value!r}: give {' or '.join(allowed)}")


@dataclass(frozen=True)
class SentenceBatch:
    """Crops of utterances, of one length, and what is done to the frames that student and teacher see."""

    audio: Tensor
    """Waveforms, of shape (utterances, samples), or log-mel frames, of shape (utterances, frames, channels)."""
    student: Perturbed
    teacher: Perturbed
    seconds: float

    def to(self, device: torch.device) -> SentenceBatch:
        """Return the batch on a device."""
        return self._mapped(lambda item: item.to(device, non_blocking=True))

    def pinned(self) -> SentenceBatch:
        """Return the batch in memory that a GPU copies from while the processor goes on."""
        return self._mapped(torch.Tensor.pin_memory)

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> SentenceBatch:
        student, teacher = (Perturbed(change(item.mask), change(item.positions)) for item in (self.student, self.teacher))
        return SentenceBatch(change(self.audio), student, teacher, self.seconds)


class SentenceHead(nn.Module):
    """An aggregator to how much a sentence is of each prototype.

    Args:
        dim: values of an aggregator.
        settings: of the distillation.
    """

    def __init__(self, dim: int, settings: DistillationSettings) -> None:
        super().__init__()
        size = settings.hidden
        self.projection = nn.Sequential(
            nn.Linear(dim, size), nn.GELU(), nn.Linear(size, size), nn.GELU(), nn.Linear(size, size), nn.LayerNorm(size)
        )  # fmt: skip
        self.prototypes = nn.Linear(size, settings.prototypes)

    def forward(self, aggregators: Tensor) -> Tensor:
        """Return logits of shape (sentences, prototypes)."""
        logits: Tensor = self.prototypes(self.projection(aggregators))
        return logits


class _Teacher(nn.Module):
    def __init__(self, blocks: nn.ModuleList, head: SentenceHead) -> None:
        super().__init__()
        self.blocks, self.head = copy.deepcopy(blocks), copy.deepcopy(head)


class SentenceDistillation(nn.Module):
    """An encoder with an aggregator, and a teacher made of its own past.

    The teacher has blocks and a head of its own, which follow the student's slowly; all before the blocks is the student's.
    Teacher and centre are part of the state, so that a training goes on exactly where it was ended.

    Args:
        config: of the encoder, which has an aggregator.
        settings: of the distillation.
        regularization: of the student; the teacher's blocks have none.
    """

    def __init__(
        self, config: EncoderConfig, settings: DistillationSettings | None = None, regularization: Regularization = NONE
    ) -> None:
        super().__init__()
        self._settings = settings or DistillationSettings()
        if not config.aggregator:
            raise InputError("sentences are told by an aggregator, which this encoder hasn't: give aggregator = true")
        self.encoder = Encoder(config, regularization=regularization)
        with torch.no_grad():
            if self.encoder.mask_embedding is not None:
                nn.init.normal_(self.encoder.mask_embedding, std=config.dim**-0.5)
        self.distillation = SentenceHead(config.dim, self._settings)
        self.teacher = _Teacher(self.encoder.blocks, self.distillation).requires_grad_(False)
        self.center: Tensor
        self.begun: Tensor
        self.register_buffer("center", torch.zeros(self._settings.prototypes))
        self.register_buffer("begun", torch.zeros(2))
        """Whether the teacher, and the centre, have moved yet: the first time both are taken whole."""
        self._seen: list[tuple[Tensor, int]] = []
        if self.encoder.convolutions is not None and "convolutions" in self._frozen:
            self.encoder.convolutions.requires_grad_(False)
        if "positions" in self._frozen:
            self.encoder.positions.requires_grad_(False)

    @property
    def _frozen(self) -> tuple[Part, ...]:
        return ("convolutions", "positions") if self._settings.frozen is None else self._settings.frozen

    def train(self, mode: bool = True) -> SentenceDistillation:
        """Go to training mode, in which the teacher still leaves out nothing."""
        super().train(mode)
        self.teacher.eval()
        return self

    def weight(self, batch: SentenceBatch) -> float:
        """Return how many sentences there are; 1 where their losses are to be added up."""
        return float(len(batch.audio)) if self._settings.reduction == "mean" else 1.0

    @torch.no_grad()
    def begin_step(self) -> None:
        """Move the teacher towards the student; the first time, it becomes the student."""
        kept = self._settings.teacher_decay if self.begun[0] else 0.0
        own = [*self.encoder.blocks.parameters(), *self.distillation.parameters()]
        for theirs, mine in zip([*self.teacher.blocks.parameters(), *self.teacher.head.parameters()], own, strict=True):
            theirs.lerp_(mine, 1 - kept) if kept else theirs.copy_(mine)
        self.begun[0] = 1

    @torch.no_grad()
    def end_step(self, added: Callable[[Tensor], Tensor]) -> None:
        """Move the centre to where the teacher's outputs of the step are.

        Args:
            added: adds a tensor up over all processes.
        """
        if self._settings.center != "step":
            together = added(torch.cat([self.center, self.center.new_ones(1)]))
            self.center.copy_(together[:-1] / together[-1])
            return
        kind = torch.float32 if self.center.device.type == "mps" else torch.float64  # mps has no float64
        total = self.center.new_zeros(len(self.center) + 1, dtype=kind)
        for outputs, count in self._seen:
            total[:-1] += outputs
            total[-1] += count
        self._seen = []
        total = added(total)
        self._move_center((total[:-1] / total[-1]).float())

    def forward(self, batch: SentenceBatch) -> Losses:
        """Return the cross-entropy of what the student makes of sentences with what the teacher does, summed over sentences."""
        rate = self.encoder.regularization.input_dropout
        projected = dropout(self.encoder.projection(self._convolved(batch.audio)), rate, self.training)
        stream = self.encoder.through(self._perturbed(batch.student, projected), left_out=self._left_out())
        logits = self.distillation(stream[:, 0]).float()
        with torch.no_grad():
            seen = self.encoder.through(self._perturbed(batch.teacher, projected.detach()), self.teacher.blocks)
            outputs = self.teacher.head(seen[:, 0]).float()
            self._look(outputs)
            # Before the first step there is no centre yet, and all sentences would be told alike.
            center = self.center if self.begun[1] else outputs.mean(dim=0)
            wanted = torch.softmax((outputs - center) / self._settings.teacher_temperature, dim=1)
        loss = -(wanted * torch.log_softmax(logits / self._settings.student_temperature, dim=1)).sum()
        return Losses(loss, self._metrics(stream.detach().float(), wanted))

    def _convolved(self, audio: Tensor) -> Tensor:
        return audio if self.encoder.convolutions is None else convolved_batch(self.encoder.convolutions, audio)

    def _perturbed(self, how: Perturbed, projected: Tensor) -> Tensor:
        if not self.training:
            return projected
        embedding = self.encoder.mask_embedding
        return how(projected, projected.new_zeros(projected.shape[-1]) if embedding is None else embedding)

    def _left_out(self) -> Collection[int]:
        probability = self.encoder.regularization.layer_drop
        if not self.training or not probability:
            return ()
        drawn = torch.rand(len(self.encoder.blocks), device="cpu").tolist()
        return [number for number, value in enumerate(drawn, 1) if value < probability]

    def _look(self, outputs: Tensor) -> None:
        """Take notice of the teacher's outputs, for the centre."""
        if self._settings.center == "step":
            if self.training:
                self._seen.append((outputs.sum(dim=0), len(outputs)))
        elif self.training or self._settings.center_in_validation:
            self._move_center(outputs.mean(dim=0))

    def _move_center(self, mean: Tensor) -> None:
        kept = self._settings.center_momentum if self.begun[1] else 0.0
        self.center.copy_(kept * self.center + (1 - kept) * mean)
        self.begun[1] = 1

    @staticmethod
    def _metrics(stream: Tensor, wanted: Tensor) -> dict[str, Tensor]:
        """Return signs of a collapse: sentences, or frames, that all become alike, and a teacher that tells them all alike."""
        sentences, one = stream[:, 0], torch.ones((), device=stream.device)
        spread = sentences.std(dim=0).mean() if len(sentences) > 1 else torch.zeros_like(one)
        certain = -(wanted * wanted.clamp(min=1e-12).log()).sum(dim=1).mean()
        overall = wanted.mean(dim=0)
        told = -(overall * overall.clamp(min=1e-12).log()).sum()
        return {
            "spread_sentences": torch.stack([spread, one]),
            "spread_frames": torch.stack([stream[:, 1:].flatten(0, 1).std(dim=0).mean(), one]),
            "teacher_entropy": torch.stack([certain, one]),
            "teacher_tells": torch.stack([told - certain, one]),
        }


def reinitialized(objective: SentenceDistillation, numbers: Sequence[int]) -> None:
    """Let blocks begin anew, as SD-HuBERT's last three do: queries, keys, outputs and feed-forward; not values, nor norms.

    Args:
        objective: whose blocks.
        numbers: which, from 1.

    Raises:
        InputError: there is no such block.
    """
    for number in numbers:
        if not 1 <= number <= len(objective.encoder.blocks):
            raise InputError(
                f"reinitialized {number}: the encoder has {len(objective.encoder.blocks)} blocks; give some of 1 to "
                f"{len(objective.encoder.blocks)}, or none with []"
            )
        block = cast("Block", objective.encoder.blocks[number - 1])
        with torch.no_grad():
            query, key, _ = block.attention.query_key_value.weight.chunk(3)
            for weight in (key, query, block.attention.output.weight, block.feed_forward.inner.weight):
                nn.init.xavier_normal_(weight)
            nn.init.xavier_normal_(block.feed_forward.outer.weight)
            for bias in (block.feed_forward.inner.bias, block.feed_forward.outer.bias):
                nn.init.normal_(bias, std=bias.numel() ** -0.5)


def collapse_warning(records: list[dict[str, float]]) -> str | None:
    """Return a warning where all sentences have become alike."""
    spreads = [record["spread_sentences"] for record in records if "spread_sentences" in record]
    if len(spreads) < _LATER or max(spreads) <= 0:
        return None
    if spreads[-1] < _COLLAPSED * max(spreads):
        return (
            f"sentences are told apart less and less: their spread fell to {spreads[-1]:.3g} from {max(spreads):.3g}; give a "
            "smaller learning_rate, a higher student_temperature, or a teacher_decay nearer to 1"
        )
    return None


_LATER, _COLLAPSED = 5, 0.05
