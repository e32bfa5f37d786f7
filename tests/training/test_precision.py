"""A lower precision that is no faster is said to be."""

from __future__ import annotations

import pytest
import torch

from vocable.training import precision


@pytest.mark.parametrize("speed", [1.0, 2.0])
def test_a_precision_that_is_no_faster_here_is_warned_of(speed: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "bfloat16_speed", lambda: speed)
    warning = precision.slower_than_float32("bfloat16", torch.device("cpu"))
    assert (warning is not None) == (speed == 1.0)
    assert warning is None or "give training.precision float32" in warning
    assert precision.slower_than_float32("float32", torch.device("cpu")) is None
    assert precision.slower_than_float32("bfloat16", torch.device("cuda")) is None
