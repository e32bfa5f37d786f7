"""Which utterances a step sees: fixed by the seed and the epoch alone, whoever runs it and however often it was interrupted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocable.errors import InputError

_BATCHES_A_BUCKET = 16
"""Micro-batches, at most, that utterances of about one length are drawn for."""

_MOST_CUT = 0.06
"""Part of the longest of these by which the shortest may be shorter, where they fill more than one micro-batch."""


@dataclass(frozen=True, kw_only=True)
class BatchSettings:
    """How much audio goes into a step.

    Raises:
        InputError: there can be no such batches.
    """

    seconds: float
    """Audio in a step, over all processes."""
    micro_seconds: float
    """Audio that goes through the model at once: what fits its memory. A step is whole micro-batches."""
    longest: float = 15.625
    """Seconds beyond which an utterance is cropped, at a place drawn anew in each epoch; fairseq's max_sample_size of 250,000."""
    shortest: float = 2.0
    """Seconds below which an utterance is left out; fairseq's min_sample_size of 32,000."""
    utterances: int | None = None
    """In a micro-batch, at most."""

    def __post_init__(self) -> None:
        for name in ("seconds", "micro_seconds", "longest"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} {getattr(self, name)}: give seconds above 0")
        if self.utterances is not None and self.utterances < 1:
            raise InputError(f"utterances {self.utterances}: give 1 or more")
        if not 0 <= self.shortest <= self.longest <= self.micro_seconds <= self.seconds:
            raise InputError(
                f"shortest {self.shortest:g}, longest {self.longest:g}, micro_seconds {self.micro_seconds:g} and seconds "
                f"{self.seconds:g} have to grow in this order: a step holds micro-batches, and these hold whole utterances"
            )

    @property
    def micro_batches(self) -> int:
        """How many micro-batches a step has."""
        return max(1, round(self.seconds / self.micro_seconds))


@dataclass(frozen=True)
class MicroBatch:
    """Utterances that go through the model at once, all cropped to one length."""

    rows: NDArray[np.int64]
    length: int
    """In the unit that lengths were given in."""


class BatchPlan:
    """The endless sequence of micro-batches of a training.

    Utterances of about one length are drawn together, in another order each epoch, and cropped to the shortest among them. Each
    epoch has equally many micro-batches, so the one at any position is known without those before it.

    Args:
        lengths: of the utterances, shape (utterances,), in frames or samples; 0 for those that aren't used.
        budget: length of a micro-batch, in the same unit.
        seed: of the order.
        most: utterances in a micro-batch.

    Raises:
        InputError: no utterance can be used.
    """

    def __init__(self, lengths: NDArray[np.integer[Any]], budget: int, seed: int, most: int | None = None) -> None:
        used = np.flatnonzero(lengths > 0)
        if not len(used):
            raise InputError("no utterance is long enough to train on: give longer ones, or a smaller batches.shortest")
        self._lengths, self._seed = lengths.astype(np.int64), seed
        order = used[np.argsort(-self._lengths[used], kind="stable")]
        self._buckets: list[tuple[NDArray[np.int64], int]] = []
        first = 0
        while first < len(order):
            longest = int(self._lengths[order[first]])
            size = max(1, min(budget // longest, most or len(order)))
            bucket = order[first : first + size * _BATCHES_A_BUCKET]
            alike = int((self._lengths[bucket] >= (1 - _MOST_CUT) * longest).sum())
            bucket = bucket[: max(size, alike)]
            self._buckets.append((bucket, size))
            first += len(bucket)
        self._counts = [-(-len(bucket) // size) for bucket, size in self._buckets]
        self._epoch: tuple[int, list[NDArray[np.int64]]] = (-1, [])

    @property
    def micro_batches(self) -> int:
        """How many an epoch has."""
        return sum(self._counts)

    @property
    def utterances(self) -> int:
        """How many are used."""
        return sum(len(bucket) for bucket, _ in self._buckets)

    def __getitem__(self, position: int) -> MicroBatch:
        """Return the micro-batch at a position, counted from 0 over all epochs."""
        epoch, at = divmod(position, self.micro_batches)
        drawn = self._epoch
        if drawn[0] != epoch:
            self._epoch = drawn = (epoch, self._drawn(epoch))
        rows = drawn[1][at]
        return MicroBatch(rows, int(self._lengths[rows].min()))

    def _drawn(self, epoch: int) -> list[NDArray[np.int64]]:
        drawn = np.random.default_rng([self._seed, epoch])
        made = []
        for bucket, size in self._buckets:
            shuffled = drawn.permutation(bucket)
            made += [shuffled[first : first + size] for first in range(0, len(shuffled), size)]
        return [made[at] for at in drawn.permutation(len(made))]
