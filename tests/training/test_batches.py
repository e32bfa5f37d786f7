"""Batches follow from the seed and the position, hold what fits, and leave nobody out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vocable.errors import InputError
from vocable.training.batches import BatchPlan, BatchSettings


@given(st.lists(st.integers(0, 400), min_size=1, max_size=300), st.integers(400, 2000), st.integers(0, 5))
def test_every_utterance_comes_once_an_epoch_in_batches_that_fit(lengths: list[int], budget: int, seed: int) -> None:
    counts = np.array(lengths)
    if not counts.any():
        with pytest.raises(InputError, match="no utterance is long enough"):
            BatchPlan(counts, budget, seed)
        return
    plan = BatchPlan(counts, budget, seed)
    for epoch in range(2):
        made = [plan[epoch * plan.micro_batches + at] for at in range(plan.micro_batches)]
        assert sorted(np.concatenate([item.rows for item in made]).tolist()) == np.flatnonzero(counts).tolist()
        for item in made:
            assert item.length == counts[item.rows].min() > 0
            assert counts[item.rows].max() * len(item.rows) <= budget or len(item.rows) == 1
    assert plan.utterances == np.count_nonzero(counts)


def test_a_position_has_the_same_batch_whatever_was_asked_before() -> None:
    lengths = np.random.default_rng(0).integers(50, 300, 200)
    one, two = (BatchPlan(lengths, 900, 3) for _ in range(2))
    positions = [5, 140, 3, 77, 12, 300]
    asked = [one[at].rows.tolist() for at in positions]
    assert asked == [two[at].rows.tolist() for at in reversed(positions)][::-1]
    assert asked != [BatchPlan(lengths, 900, 4)[at].rows.tolist() for at in positions]
    epochs = [[one[epoch * one.micro_batches + at].rows.tolist() for at in range(one.micro_batches)] for epoch in range(2)]
    assert epochs[0] != epochs[1]


def test_little_is_cut_off() -> None:
    lengths = np.random.default_rng(0).integers(50, 800, 2000)
    plan = BatchPlan(lengths, 4000, 0)
    kept = sum(len(item.rows) * item.length for item in (plan[at] for at in range(plan.micro_batches)))
    assert kept > 0.97 * lengths.sum()


@pytest.mark.parametrize(
    "wrong",
    [
        {"seconds": 0},
        {"micro_seconds": 4},
        {"seconds": 10, "micro_seconds": 20},
        {"shortest": 20},
        {"longest": -1},
    ],
)
def test_impossible_batches_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError):
        BatchSettings(**{"seconds": 32, "micro_seconds": 16, "longest": 15, "shortest": 1} | wrong)


def test_a_step_is_whole_micro_batches() -> None:
    assert BatchSettings(seconds=2800, micro_seconds=87.5).micro_batches == 32
    assert BatchSettings(seconds=32, micro_seconds=32, longest=8).micro_batches == 1
