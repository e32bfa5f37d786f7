"""How long AdamW takes for the parameters of a HuBERT of base size, by how it is written in torch.

python benchmarks/optimizer_step.py
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

from harness import Benchmark, Clock

benchmark = Benchmark("optimizer_step", "A step of AdamW for a HuBERT of base size, single-threaded", baseline="fused (vocable)")


def _step(way: str, case: dict[str, Any], seed: int, clock: Clock) -> dict[str, Any]:
    import torch

    from vocable.models.config import base
    from vocable.models.encoder import Encoder
    from vocable.training.settings import OptimizerSettings
    from vocable.training.wrapping import optimizer_of

    encoder = Encoder(base())
    for parameter in encoder.parameters():
        parameter.grad = torch.full_like(parameter, 1e-3)
    if way == "fused":
        optimizer = optimizer_of(encoder, OptimizerSettings(), torch.device("cpu"))
    else:
        optimizer = torch.optim.AdamW(encoder.parameters(), foreach=way == "foreach")
    optimizer.step()
    with clock.running():
        for _ in range(3):
            optimizer.step()
    clock.cpu, clock.wall = clock.cpu / 3, clock.wall / 3
    return {}


benchmark.contender("fused (vocable)")(partial(_step, "fused"))
benchmark.contender("foreach (torch's default)")(partial(_step, "foreach"))
benchmark.contender("one parameter after another")(partial(_step, "loop"))


def cases(_: argparse.Namespace) -> dict[str, Any]:
    return {"94 million parameters": {}}


if __name__ == "__main__":
    benchmark.main(cases)
