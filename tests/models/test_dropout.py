"""Dropout on a processor is torch's, up to which values are dropped."""

from __future__ import annotations

import pytest
import torch

from vocable.models.dropout import dropout


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("probability", [0.05, 0.1, 0.5, 0.9])
def test_a_part_is_dropped_and_the_others_make_up_for_it(kind: torch.dtype, probability: float) -> None:
    torch.manual_seed(0)
    values = torch.ones(101, 1003, dtype=kind)
    made = dropout(values, probability, training=True)
    kept = made != 0
    assert float(kept.float().mean()) == pytest.approx(1 - probability, abs=0.005)
    assert torch.allclose(made[kept].float(), torch.tensor(1 / (1 - probability)), rtol=5e-3)
    assert float(kept.float().mean(dim=0).std()) == pytest.approx((probability * (1 - probability) / 101) ** 0.5, rel=0.15)
    assert float(kept.float().mean(dim=1).std()) == pytest.approx((probability * (1 - probability) / 1003) ** 0.5, rel=0.3)


def test_gradients_go_where_values_went() -> None:
    values = torch.randn(50, 7, requires_grad=True)
    torch.manual_seed(1)
    made = dropout(values, 0.3, training=True)
    (found,) = torch.autograd.grad(made.sum(), values)
    assert torch.equal(found, torch.where(made == 0, 0.0, 1 / (1 - round(0.3 * 65536) / 65536)))
    torch.manual_seed(1)
    assert torch.equal(dropout(values, 0.3, training=True), made)
    torch.manual_seed(2)
    assert not torch.equal(dropout(values, 0.3, training=True), made)


def test_without_training_nothing_is_dropped() -> None:
    values = torch.randn(3, 3)
    assert dropout(values, 0.5, training=False) is values
    assert dropout(values, 0.0, training=True) is values
