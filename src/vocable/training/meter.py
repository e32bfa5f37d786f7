"""What the steps of a training say, added up between two records."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from vocable.training.loading import Loader
from vocable.training.objective import Losses
from vocable.training.world import World

_SHOWN = ("loss", "learning_rate", "gradient_norm")


class Meter:
    """Adds up what the steps between two records say."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._clear()

    def _clear(self) -> None:
        self._sums.clear()
        self._loss: list[Tensor] = []
        self._norms: list[Tensor] = []
        self._clipped: list[Tensor] = []
        self._rate = self._seconds = self._weight = 0.0
        self._begun = time.monotonic()

    def add(self, losses: Losses, whole: bool = True) -> None:
        """Take what came of a micro-batch; nothing waits for the device.

        Args:
            losses: loss and metrics.
            whole: whether the loss is the objective's; that of an earlier turn is none, though its metrics count.
        """
        if whole:
            self._loss.append(losses.loss.detach().float())
        for name, value in losses.metrics.items():
            held = self._sums.get(name)
            self._sums[name] = value.detach().float() if held is None else held + value.detach().float()

    def count(self, norm: Tensor, rate: float, seconds: float, weight: float, clip: float) -> None:
        """Take what came of a step."""
        self._norms.append(norm.detach())
        self._clipped.append((norm.detach() > clip).float() if clip else torch.zeros(()))
        self._rate, self._seconds, self._weight = rate, self._seconds + seconds, self._weight + weight

    def taken(self, world: World, loader: Loader, unreadable: int) -> dict[str, float]:
        """Return the numbers of a record, over all processes, and begin anew."""
        elapsed = max(time.monotonic() - self._begun, 1e-9)
        names = sorted(self._sums)
        flat = [float(torch.stack(self._loss).sum()), *(float(part) for name in names for part in self._sums[name])]
        waited, loader.waited = loader.waited, 0.0
        loss, *flat = world.summed(flat)
        values = {"loss": loss / max(self._weight, 1e-12)}
        values |= {name: flat[2 * at] / max(flat[2 * at + 1], 1e-12) for at, name in enumerate(names)}
        values |= {
            "learning_rate": self._rate,
            "gradient_norm": float(torch.stack(self._norms).mean()),
            "clipped": float(torch.stack(self._clipped).mean()),
            "steps_per_second": len(self._norms) / elapsed,
            "audio_per_second": self._seconds / elapsed,
            "waited": waited / elapsed,
            "unreadable": float(unreadable),
        }
        self._clear()
        return values

    def largest_norm(self) -> Tensor:
        """Return the largest norm of gradients since the last record; not finite if one wasn't."""
        return torch.stack([norm.float().cpu() for norm in self._norms]).max() if self._norms else torch.zeros(())


def record_in_words(values: dict[str, float]) -> str:
    """Return what of a record is shown while a training runs."""
    named = {name: value for name, value in values.items() if name in _SHOWN or "accuracy" in name}
    return f"{in_words(named)}, {values['audio_per_second']:,.0f} audio-hours per hour"


def in_words(values: dict[str, float]) -> str:
    """Return numbers with their names."""
    return ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in values.items())
