"""What the trainer asks of an objective, and of the data it learns from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn


class Losses(NamedTuple):
    """What an objective makes of a batch."""

    loss: Tensor
    """Sum over what is counted in the batch's weight."""
    metrics: dict[str, Tensor]
    """Each of shape (2,): a sum, and what it is to be divided by once those of all batches are added up."""


class Objective(Protocol):
    """A model and its loss: a `torch.nn.Module` that is called with a batch. It doesn't know how it is distributed.

    All that is random in it follows torch's default generator, which the trainer seeds for each micro-batch.
    """

    def __call__(self, batch: Any) -> Losses:
        """Return the loss of a batch."""

    def weight(self, batch: Any) -> float:
        """Return by how much a batch counts, such as its masked frames: losses are divided by the sum of a step's weights."""


@runtime_checkable
class Stepping(Protocol):
    """An objective that changes something of its own with each step, such as a teacher that follows."""

    def begin_step(self) -> None:
        """Begin a step, before its micro-batches."""

    def end_step(self, added: Callable[[Tensor], Tensor]) -> None:
        """End a step, behind its update; `added` adds a tensor up over all processes."""


@runtime_checkable
class InTurns(Protocol):
    """An objective whose parts are updated one after another within each step, as a generator and what judges it are."""

    @property
    def turns(self) -> tuple[str, ...]:
        """What the step goes through, once it has begun; the loss of the last is the objective's."""

    def begin_turn(self, turn: str) -> None:
        """Begin a turn: from now on the loss has gradients for that turn's parameters alone."""


@runtime_checkable
class Apart(Protocol):
    """An objective with a part that learns beside the model, such as what judges it.

    How the model learns mustn't depend on how large that part's gradients are: they are clipped by themselves.
    """

    @property
    def apart(self) -> nn.Module:
        """The part; its biases and norms never decay."""

    @property
    def apart_rate(self) -> float:
        """Its learning rate, as a multiple of the model's."""


class Batch(Protocol):
    """What goes through a model at once."""

    seconds: float
    """Audio in it."""

    def to(self, device: torch.device) -> Any:
        """Return the same on a device."""

    def pinned(self) -> Any:
        """Return the same in memory that a GPU copies from while the processor goes on."""


@dataclass(frozen=True)
class Made:
    """A micro-batch, and which utterances it had to do without."""

    batch: Any
    unreadable: dict[int, str]
    """Rows with the reason."""


class Data(Protocol):
    """Micro-batches in order."""

    @property
    def micro_batches(self) -> int:
        """How many an epoch has."""

    @property
    def utterances(self) -> int:
        """How many an epoch goes through."""

    def make(self, position: int) -> Made:
        """Return the micro-batch at a position, from 0 over all epochs; always the same. Threads call it."""
