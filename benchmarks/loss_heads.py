"""How long HuBERT's loss takes from hidden frames to gradients: one product against an expanded cosine similarity.

python benchmarks/loss_heads.py
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

from harness import Benchmark, Clock
from pretraining_step import LABELS, PROJECTED, expanded_logits

FRAMES = 250  # masked, of ten seconds

benchmark = Benchmark(
    "loss_heads", f"HuBERT's loss of {FRAMES} masked frames, {LABELS} labels, forward and backward, single-threaded",
    baseline="one product (vocable)", figures=("loss",),
)  # fmt: skip


def _head(way: str, case: dict[str, Any], seed: int, clock: Clock) -> dict[str, Any]:
    import torch
    from torch.nn import functional

    from vocable.pretraining.hubert import LabelHead
    from vocable.pretraining.loss_settings import LossSettings

    torch.manual_seed(0)
    head = LabelHead(768, [LABELS], LossSettings(projection=PROJECTED))
    frames, labels = torch.randn(FRAMES, 768, requires_grad=True), torch.randint(0, LABELS, (FRAMES,))
    times = 20 if way == "product" else 1
    for turn in range(2):  # the first warms up
        watch = clock if turn else Clock()
        with watch.running():
            for _ in range(times):
                if way == "product":
                    loss = functional.cross_entropy(head(frames)[0], labels)
                else:
                    logits = expanded_logits(head.final_projection(frames), labels, head.label_embeddings)
                    loss = functional.cross_entropy(logits, torch.zeros(FRAMES, dtype=torch.long))
                loss.backward()
    clock.cpu, clock.wall = clock.cpu / times, clock.wall / times
    return {"loss": float(loss)}


benchmark.contender("one product (vocable)")(partial(_head, "product"))
benchmark.contender("expanded cosine similarity (fairseq, minimal_hubert)")(partial(_head, "expanded"))


def cases(_: argparse.Namespace) -> dict[str, Any]:
    return {"10 s of audio": {}}


if __name__ == "__main__":
    benchmark.main(cases)
