"""A lower precision that is no faster is said to be."""

from __future__ import annotations

import pytest
import torch

from vocable.training import precision


@pytest.mark.parametrize(
    ("in_float32", "in_bfloat16", "said"), [(1.0, 1.9, "1.9 times as long"), (1.0, 0.6, None), (1.0, 1.1, None)]
)
def test_a_precision_that_is_slower_here_is_warned_of(
    in_float32: float, in_bfloat16: float, said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "_seconds", {torch.float32: in_float32, torch.bfloat16: in_bfloat16}.__getitem__)
    warning = precision.slower_than_float32("bfloat16", torch.device("cpu"))
    assert (warning is None) if said is None else (warning is not None and said in warning)
    assert precision.slower_than_float32("float32", torch.device("cpu")) is None
    assert precision.slower_than_float32("bfloat16", torch.device("cuda")) is None


def test_products_take_time() -> None:
    assert 0 < precision._seconds(torch.bfloat16) < 10
