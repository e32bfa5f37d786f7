"""A linear probe: how much of the phones a linear classifier reads out of frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vocable.errors import InputError
from vocable.execution.threads import torch_single_threaded

_PASSES = 20
_FEWEST_STEPS = 600
_BATCH = 1024
_RATE = 0.02
_SMALLEST_STD = 1e-6


@dataclass(frozen=True)
class LinearProbe:
    """A softmax over a linear layer on frames with mean 0 and variance 1."""

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    weight: NDArray[np.float32]
    """Of shape (dim, classes)."""
    bias: NDArray[np.float32]
    classes: tuple[str, ...]

    @classmethod
    def fit(cls, frames: NDArray[np.float32], labels: list[str], seed: int = 0) -> LinearProbe:
        """Fit a probe by Adam, with a rate that falls to nothing; the same frames and seed give the same probe.

        Args:
            frames: of shape (frames, dim).
            labels: of each.
            seed: of the order that frames are taken in.

        Raises:
            InputError: there are fewer than two different labels.
        """
        import torch

        classes = tuple(sorted(set(labels)))
        if len(classes) < 2:
            raise InputError("a probe needs frames of two labels or more: give alignments of more speech")
        number = {name: at for at, name in enumerate(classes)}
        wanted = torch.tensor([number[label] for label in labels])
        mean, scale = frames.mean(axis=0, dtype=np.float64), frames.std(axis=0, dtype=np.float64)
        mean, scale = mean.astype(np.float32), (1 / np.maximum(scale, _SMALLEST_STD)).astype(np.float32)
        given = torch.from_numpy((frames - mean) * scale)
        drawn = torch.Generator().manual_seed(seed)
        weight = torch.zeros(frames.shape[1], len(classes), requires_grad=True)
        bias = torch.zeros(len(classes), requires_grad=True)
        batches = -(-len(given) // _BATCH)
        passes = max(_PASSES, -(-_FEWEST_STEPS // batches))
        steps = passes * batches
        optimizer = torch.optim.Adam([weight, bias], lr=_RATE, fused=True)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
        with torch.enable_grad(), torch_single_threaded():
            for _ in range(passes):
                order = torch.randperm(len(given), generator=drawn)
                for first in range(0, len(order), _BATCH):
                    places = order[first : first + _BATCH]
                    loss = torch.nn.functional.cross_entropy(given[places] @ weight + bias, wanted[places])
                    optimizer.zero_grad()
                    loss.backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
                    schedule.step()
        return cls(mean, scale, weight.detach().numpy(), bias.detach().numpy(), classes)

    def __call__(self, frames: NDArray[np.float32]) -> list[str]:
        """Return the label of each frame of shape (frames, dim)."""
        scores = (frames - self.mean) * self.scale @ self.weight + self.bias
        return [self.classes[at] for at in scores.argmax(axis=1)]
