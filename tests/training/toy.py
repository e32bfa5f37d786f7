"""A small model to train: it learns to undo noise, with dropout, from batches that follow from their position."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vocable.training.objective import Losses, Made
from vocable.training.settings import OptimizerSettings, TrainingSettings
from vocable.training.trainer import Hooks, Trainer
from vocable.training.world import World


@dataclass(frozen=True)
class ToyBatch:
    values: Tensor
    seconds: float = 1.0

    def to(self, device: torch.device) -> ToyBatch:
        return replace(self, values=self.values.to(device))


class ToyData:
    """Four micro-batches an epoch, of different sizes; positions that were made are noted."""

    def __init__(self, seed: int = 5, unreadable: dict[int, dict[int, str]] | None = None, utterances: int = 400) -> None:
        self._seed, self._unreadable, self.utterances = seed, unreadable or {}, utterances
        self.micro_batches = 4
        self.made: list[int] = []

    def make(self, position: int) -> Made:
        self.made.append(position)
        drawn = np.random.default_rng([self._seed, position])
        values = drawn.standard_normal((3 + position % 4, 6)).astype(np.float32)
        return Made(ToyBatch(torch.from_numpy(values)), self._unreadable.get(position, {}))


class Toy(nn.Module):
    def __init__(self, spoil_at: int | None = None) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.inner, self.outer = nn.Sequential(nn.Linear(6, 16), nn.GELU(), nn.Dropout(0.2)), nn.Linear(16, 6)
        self.spoil_at, self.seen = spoil_at, 0

    def weight(self, batch: ToyBatch) -> float:
        return float(len(batch.values))

    def forward(self, batch: ToyBatch) -> Losses:
        self.seen += self.training
        noisy = batch.values + 0.1 * torch.randn(batch.values.shape)
        off = (self.outer(self.inner(noisy)) - batch.values).float().pow(2).sum(dim=1)
        loss = off.sum()
        if self.spoil_at is not None and self.seen >= self.spoil_at:
            loss = loss * float("nan")
        count = torch.tensor(float(len(off)))
        return Losses(loss, {"off": torch.stack([off.detach().sum(), count])})


def toy_trainer(folder: Path, steps: int = 12, toy: Toy | None = None, data: ToyData | None = None, **changes: Any) -> Trainer:
    """Return a trainer of a toy in a folder; changes are of its settings, or of the trainer."""
    toy = toy or Toy()
    of_trainer = {
        name: changes.pop(name)
        for name in ("hooks", "validation", "world", "micro_batches", "identity", "overwrite")
        if name in changes
    }
    settings = TrainingSettings(
        steps=steps, log_every=4, validate_every=6, checkpoint_every=5,
        optimizer=OptimizerSettings(learning_rate=1e-2), **changes,
    )  # fmt: skip
    described: dict[str, Any] = {
        "micro_batches": 2, "validation": ToyData(9), "world": World(), "identity": {"toy": 1}, "hooks": Hooks(export=exported),
    }  # fmt: skip
    return Trainer(
        objective=toy, blocks=[toy.inner], data=data or ToyData(), settings=settings, folder=folder, **described | of_trainer
    )


def exported(weights: dict[str, Tensor], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(weights, folder / "weights.pt")


def weights_in(folder: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = torch.load(folder / "model" / "weights.pt", weights_only=True)
    return found


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return set(one) == set(other) and all(torch.equal(one[name], other[name]) for name in one)
