"""What learns apart is clipped and paced by itself, and how the model learns doesn't depend on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from training.toy import Toy, ToyBatch, same, toy_trainer, weights_in
from vocable.errors import InputError
from vocable.training.objective import Apart, Losses
from vocable.training.settings import OptimizerSettings, TrainingSettings
from vocable.training.world import World
from vocable.training.wrapping import Wrapped


class Judged(Toy):
    """A toy beside which a judge learns of what it doesn't see."""

    def __init__(self, apart_rate: float = 1.0, much: float = 1.0) -> None:
        super().__init__()
        self.judge, self.apart_rate, self.much = nn.Linear(16, 1), apart_rate, much

    @property
    def apart(self) -> nn.Module:
        return self.judge

    def forward(self, batch: ToyBatch) -> Losses:
        found = super().forward(batch)
        judged = self.judge(torch.ones(1, 16)).sum()
        return Losses(found.loss + self.much * (judged - 1).square(), found.metrics)


def wrapped(toy: nn.Module, **changes: Any) -> Wrapped:
    settings = TrainingSettings(steps=1, optimizer=OptimizerSettings(learning_rate=1e-2, **changes))
    return Wrapped(toy, [], settings, World(), False)


def test_gradients_are_clipped_apart() -> None:
    toy = Judged()
    made = wrapped(toy)
    for parameter in toy.parameters():
        parameter.grad = torch.full_like(parameter, 0.5)
    for parameter in toy.judge.parameters():
        parameter.grad = torch.full_like(parameter, 100.0)
    own = [parameter for name, parameter in toy.named_parameters() if not name.startswith("judge")]
    expected = torch.linalg.vector_norm(torch.cat([parameter.grad.flatten() for parameter in own]))
    assert torch.allclose(made.clip(1.0), expected)
    for part in (own, list(toy.judge.parameters())):
        assert float(torch.linalg.vector_norm(torch.cat([item.grad.flatten() for item in part]))) == pytest.approx(1, abs=1e-4)
    own[0].grad.zero_()
    toy.judge.weight.grad.fill_(float("nan"))
    assert not made.clip(1.0).isfinite()


def test_what_learns_apart_has_a_rate_of_its_own_and_its_biases_never_decay(tmp_path: Path) -> None:
    groups = wrapped(Judged(apart_rate=3)).optimizer.param_groups
    assert [(len(group["params"]), group.get("rate"), group["weight_decay"]) for group in groups] == [
        (4, None, 0.01),
        (1, 3, 0.01),
        (1, 3, 0.0),
    ]
    assert [len(group["params"]) for group in wrapped(Judged(), decayed="matrices").optimizer.param_groups] == [2, 2, 1, 1]
    toy = Judged(apart_rate=3)
    toy_trainer(tmp_path, toy=toy, steps=3).run()


def test_the_model_learns_as_without_what_learns_apart(tmp_path: Path) -> None:
    assert isinstance(Judged(), Apart)
    assert not isinstance(Toy(), Apart)
    toy_trainer(tmp_path / "alone").run()
    toy_trainer(tmp_path / "judged", toy=Judged(apart_rate=2, much=1e4)).run()
    judged = weights_in(tmp_path / "judged")
    assert judged.pop("judge.weight").isfinite().all()
    del judged["judge.bias"]
    assert same(judged, weights_in(tmp_path / "alone"))


def test_gradients_that_are_not_finite_end_a_training_wherever_they_are(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gradients aren't finite in step 1"):
        toy_trainer(tmp_path, toy=Judged(much=float("inf"))).run()
