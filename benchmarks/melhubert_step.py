"""How long a step of MelHuBERT takes, forward and backward, beside HuBERT's of the same size.

    python benchmarks/melhubert_step.py [--rounds N]

All are of base size with the recipes' dropout, on ten seconds, half of it hidden, with 500 labels. Log-mel frames are made
before, as a training makes them in a thread of their own. transformers' HuBERT, which has no loss for it, is measured with
vocable's; "the usual way" is `pretraining_step.py`'s.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

from harness import Benchmark, Clock
from pretraining_step import DROPOUT, LABELS, SECONDS, timed_loss, usual

benchmark = Benchmark(
    "melhubert_step", "A step of pretraining, base size, 10 s, forward and backward, single-threaded",
    baseline="HuBERT, float32", figures=("audio s a CPU s",),
)  # fmt: skip


def _step(stacked: int, kind: str, case: dict[str, Any], seed: int, clock: Clock) -> dict[str, Any]:
    import torch

    from vocable.models.config import base, melhubert
    from vocable.models.regularization import Regularization
    from vocable.pretraining.hubert import HubertObjective, MaskedBatch
    from vocable.pretraining.loss_settings import LossSettings

    torch.manual_seed(0)
    config = melhubert(stacked) if stacked else base()
    rates = dict.fromkeys(("dropout", "attention_dropout"), case["dropout"])
    inner = {"activation_dropout": case["dropout"]} if stacked else {"input_dropout": case["dropout"]}
    loss = LossSettings(kind="linear", penalty=0) if stacked else LossSettings(penalty=10)
    objective = HubertObjective(config, [LABELS], loss, Regularization(**rates, **inner)).train()
    frames = config.frame_count(SECONDS * 16_000)
    span = 20 if stacked == 1 else 10
    mask = torch.zeros(1, frames, dtype=torch.bool)
    for start in range(5, frames - span, 2 * span):
        mask[:, start : start + span] = True
    audio = torch.randn(1, frames, config.channels) if stacked else torch.randn(1, SECONDS * 16_000) / 10
    batch = MaskedBatch.of(audio, torch.randint(0, LABELS, (1, 1, frames)), mask, SECONDS)
    asked = objective.weight(batch)
    return timed_loss(lambda: objective(batch).loss / asked, list(objective.parameters()), kind, clock)


def _transformers(case: dict[str, Any], seed: int, clock: Clock) -> dict[str, Any]:
    import torch
    from torch import nn
    from torch.nn import functional
    from transformers import HubertConfig, HubertModel

    from vocable.pretraining.hubert import LabelHead
    from vocable.pretraining.loss_settings import LossSettings

    torch.manual_seed(0)
    rates = dict.fromkeys(("hidden_dropout", "attention_dropout", "feat_proj_dropout"), case["dropout"])
    body = HubertModel(HubertConfig(**rates, layerdrop=0.0, activation_dropout=0.0, mask_time_prob=0.05)).train()
    head = LabelHead(768, [LABELS], LossSettings())
    audio, frames = torch.randn(1, SECONDS * 16_000) / 10, (SECONDS * 16_000 - 400) // 320 + 1
    mask = torch.zeros(1, frames, dtype=torch.bool)
    for start in range(5, frames - 10, 20):
        mask[:, start : start + 10] = True
    hidden, labels = mask.flatten(), torch.randint(0, LABELS, (int(mask.sum()),))

    def loss() -> Any:
        made = body(audio, mask_time_indices=mask).last_hidden_state
        return functional.cross_entropy(head(made.flatten(0, 1)[hidden])[0], labels)

    return timed_loss(loss, list(nn.ModuleList([body, head]).parameters()), "float32", clock)


benchmark.contender("transformers' HuBERT, float32")(_transformers)
benchmark.contender("HuBERT the usual way (fairseq, minimal_hubert), float32")(partial(usual, "float32"))
for precision in ("float32", "bfloat16"):
    for name, stacked in (("HuBERT", 0), ("MelHuBERT, 20 ms", 2), ("MelHuBERT, 10 ms", 1)):
        benchmark.contender(f"{name}, {precision}")(partial(_step, stacked, precision))


def cases(_: argparse.Namespace) -> dict[str, Any]:
    return {"with the recipes' dropout, 0.1": {"dropout": DROPOUT}}


if __name__ == "__main__":
    benchmark.main(cases)
