"""Processes that validate together add up the same numbers, whoever had something to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from training.toy import Toy, ToyData
from vocable.training.validation import validated
from vocable.training.world import World


@dataclass(frozen=True)
class Asked(World):
    """Notes how many numbers are to be added up each time; with other processes' another number would never end."""

    counts: list[int] = field(default_factory=list)

    def summed(self, values: Sequence[float]) -> list[float]:
        self.counts.append(len(values))
        return list(values)


def test_a_process_without_a_micro_batch_adds_up_as_many_numbers_as_the_others() -> None:
    data, toy = ToyData(), Toy().eval()
    data.micro_batches = 1
    counts, values = [], []
    for rank in range(3):
        world = Asked(rank, 3, torch.device("cpu"))
        values.append(validated(data, world, 1, lambda made, _: toy(made.batch), lambda made: toy.weight(made.batch)))
        counts.append(world.counts)
    assert counts[0] == counts[1] == counts[2]
    assert values[0]["off"] > 0
    assert values[1]["off"] == values[2]["off"] == 0
