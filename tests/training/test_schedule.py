"""The learning rate goes as the recipes say."""

from __future__ import annotations

import math

import pytest

from vocable.errors import InputError
from vocable.training.schedule import Schedule


def test_huberts_rises_to_its_peak_at_8_percent_and_falls_to_nothing() -> None:
    schedule = Schedule(warmup=0.08)
    found = [schedule.factor(step, 400_000) for step in (0, 16_000, 32_000, 216_000, 400_000)]
    assert found == pytest.approx([0, 0.5, 1, 0.5, 0])


def test_other_decays() -> None:
    assert [Schedule(warmup=0, decay="constant").factor(step, 10) for step in (0, 5, 10)] == [1, 1, 1]
    cosine = Schedule(warmup=0.1, decay="cosine", final=0.2)
    assert [cosine.factor(step, 100) for step in (5, 10, 55, 100)] == pytest.approx([0.5, 1, 0.6, 0.2])
    tri_stage = Schedule(warmup=0.1, hold=0.4, decay="exponential", final=0.05)  # fairseq's
    assert [tri_stage.factor(step, 100) for step in (10, 50, 75, 100)] == pytest.approx([1, 1, math.sqrt(0.05), 0.05])
    linear = Schedule(warmup=0.06, final=0.02)
    assert linear.factor(100, 100) == pytest.approx(0.02)


@pytest.mark.parametrize(
    "wrong", [{"warmup": -0.1}, {"warmup": 0.6, "hold": 0.6}, {"final": 2}, {"decay": "step"}, {"decay": "exponential"}]
)
def test_impossible_schedules_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError):
        Schedule(**wrong)  # type: ignore[arg-type]
