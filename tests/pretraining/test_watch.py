"""A training that doesn't learn is noticed."""

from __future__ import annotations

import math

import pytest

from vocable.pretraining.watch import first_loss_warning, training_warning


def record(step: int, loss: float, commonest: float = 0.2, split: str = "train") -> dict[str, object]:
    return {"split": split, "step": step, "loss_masked": loss, "commonest": commonest}


def test_the_first_loss_is_near_that_of_guessing() -> None:
    assert first_loss_warning(math.log(100) * 1.04, 100) is None
    warning = first_loss_warning(math.log(100) * 1.06, 100)
    assert warning is not None
    assert "4.881 nats, where guessing among 100 labels has 4.605" in warning


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([], None),
        ([record(100, 4.6)], None),  # too early to tell
        ([record(300, 3.9)], None),
        ([record(300, 4.38)], "no better than knowing how frequent labels are (4.400): it is stuck"),
        ([record(300, 3.0, 0.95)], "one label is predicted for 95% of the masked frames: the model has collapsed"),
        ([record(300, 4.6), record(400, 3.8)], None),
        ([record(300, 3.9), record(300, 4.6, split="valid")], None),
    ],
)
def test_stuck_and_collapsed_trainings_are_told(records: list[dict[str, object]], said: str | None) -> None:
    found = training_warning(records, 1000, 4.4)
    assert (found is None) == (said is None)
    assert said is None or said in (found or "")
