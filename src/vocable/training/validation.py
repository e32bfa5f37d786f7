"""What a model makes of data it doesn't learn from."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vocable.training.loading import Loader
from vocable.training.objective import Data, Losses, Made
from vocable.training.world import World


def validated(
    data: Data, world: World, loaders: int, forward: Callable[[Made, int], Losses], weight_of: Callable[[Made], float]
) -> dict[str, float]:
    """Return the loss and the metrics of all micro-batches, of which processes take their share in turn.

    Args:
        data: one epoch of it is gone through.
        world: the processes.
        loaders: threads of each that read audio.
        forward: micro-batch and position → losses; called equally often in all processes.
        weight_of: micro-batch → by how much it counts.
    """
    summed: dict[str, Tensor] = {}
    loss = weight = 0.0
    last = data.micro_batches - 1
    # FSDP's processes have to go through the model equally often: some look at the last micro-batch once more than counts.
    own = range(world.rank, world.rank + -(-data.micro_batches // world.size) * world.size, world.size)
    with torch.no_grad(), Loader(data, (min(at, last) for at in own), loaders) as loader:
        for position, made in zip(own, loader, strict=True):
            losses = forward(made, min(position, last))
            counts = position <= last
            if counts:
                loss += float(losses.loss)
                weight += weight_of(made)
            for name, value in losses.metrics.items():  # all processes have the same names to add up
                summed[name] = summed.get(name, torch.zeros(2)) + counts * value.detach().float().cpu()
    loss, weight = world.summed([loss, weight])
    names = sorted(summed)
    flat = world.summed([float(part) for name in names for part in summed[name]])
    values = {name: flat[2 * at] / max(flat[2 * at + 1], 1e-12) for at, name in enumerate(names)}
    return {"loss": loss / max(weight, 1e-12), **values}
