"""How long a step of HuBERT's pretraining takes, forward and backward, beside the usual way to write it.

    python benchmarks/pretraining_step.py [--rounds N]

The encoder is of HuBERT's base size, on ten seconds of noise, half of it hidden, with 500 labels. "The usual way" is what fairseq
and minimal_hubert do, written here from their description: torch's convolutions and norms, and a cosine similarity between each
frame and its own label's embedding and those of all labels, expanded before it is taken. transformers has no loss for HuBERT; its
model is measured with vocable's.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

from harness import Benchmark, Clock

SECONDS, LABELS, PROJECTED, TEMPERATURE, DROPOUT = 10, 500, 256, 0.1, 0.1

benchmark = Benchmark(
    "pretraining_step", "A step of HuBERT's pretraining, base size, 10 s, forward and backward, single-threaded",
    baseline="vocable, float32", figures=("audio s a CPU s",),
)  # fmt: skip


def _batch() -> tuple[Any, Any, Any]:
    """Return a waveform, labels and a mask, of shapes (1, samples), (1, frames), (1, frames)."""
    import torch

    torch.manual_seed(0)
    frames = (SECONDS * 16_000 - 400) // 320 + 1
    mask = torch.zeros(1, frames, dtype=torch.bool)
    for start in range(5, frames - 10, 20):
        mask[:, start : start + 10] = True
    return torch.randn(1, SECONDS * 16_000) / 10, torch.randint(0, LABELS, (1, frames)), mask


def timed_loss(loss_of: Callable[[], Any], parameters: Any, kind: str, clock: Clock) -> dict[str, Any]:
    import torch

    for turn in range(3):  # the first warms up
        for parameter in parameters:
            parameter.grad = None
        watch = clock if turn else Clock()
        torch.manual_seed(turn)
        with watch.running():
            with torch.autocast("cpu", torch.bfloat16, enabled=kind == "bfloat16"):
                loss = loss_of()
            loss.backward()
    return {"audio s a CPU s": 2 * SECONDS / clock.cpu}


def _vocable(kind: str, case: dict[str, Any], seed: int, clock: Clock) -> dict[str, Any]:
    import torch

    from vocable.models.config import base
    from vocable.models.regularization import Regularization
    from vocable.pretraining.hubert import HubertObjective, MaskedBatch
    from vocable.pretraining.loss_settings import LossSettings

    torch.manual_seed(0)
    rates = dict.fromkeys(("dropout", "attention_dropout", "input_dropout"), case["dropout"])
    objective = HubertObjective(base(), [LABELS], LossSettings(penalty=10), Regularization(**rates)).train()
    waveform, labels, mask = _batch()
    batch = MaskedBatch.of(waveform, labels[None], mask, SECONDS)
    asked = objective.weight(batch)
    return timed_loss(lambda: objective(batch).loss / asked, list(objective.parameters()), kind, clock)


def usual(kind: str, case: dict[str, Any], seed: int, clock: Clock) -> dict[str, Any]:
    import torch
    from torch import nn

    torch.manual_seed(0)
    body = usual_body(case["dropout"]).train()
    head = nn.ModuleDict({"project": nn.Linear(768, PROJECTED)})
    embeddings = nn.Parameter(torch.rand(LABELS, PROJECTED))
    waveform, labels, mask = _batch()

    def loss() -> Any:
        features, frames = body(waveform, mask)
        logits = expanded_logits(head["project"](frames[mask]), labels[mask], embeddings)
        wrong = nn.functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long))
        return wrong + 10 * features.float().pow(2).mean()

    return timed_loss(loss, [*body.parameters(), *head.parameters(), embeddings], kind, clock)


def _transformers(kind: str, case: dict[str, Any], seed: int, clock: Clock) -> dict[str, Any]:
    import torch
    from transformers import HubertConfig, HubertModel

    from vocable.pretraining.hubert import LabelHead
    from vocable.pretraining.loss_settings import LossSettings

    torch.manual_seed(0)
    rates = dict.fromkeys(("hidden_dropout", "attention_dropout", "feat_proj_dropout"), case["dropout"])
    config = HubertConfig(**rates, layerdrop=0.0, activation_dropout=0.0, apply_spec_augment=True, mask_time_prob=0.05)
    body = HubertModel(config).train()
    head = LabelHead(768, [LABELS], LossSettings())
    waveform, labels, mask = _batch()

    def loss() -> Any:
        frames = body(waveform, mask_time_indices=mask).last_hidden_state
        return torch.nn.functional.cross_entropy(head(frames[mask])[0], labels[mask])

    return timed_loss(loss, [*body.parameters(), *head.parameters()], kind, clock)


def expanded_logits(projected: Any, labels: Any, embeddings: Any) -> Any:
    """Return the logits of one positive and all negatives, of shape (frames, 1 + labels), as fairseq forms them."""
    import torch

    positive = embeddings[labels]
    negatives = embeddings[:, None].expand(-1, len(projected), -1)
    same = (positive == negatives).all(dim=-1)
    targets = torch.cat([positive[None], negatives])
    logits = torch.cosine_similarity(projected.float(), targets.float(), dim=-1).type_as(projected) / TEMPERATURE
    logits[1:][same] = float("-inf")
    return logits.T.float()


def usual_body(dropout: float) -> Any:
    import torch
    from torch import nn
    from torch.nn import functional

    class Body(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            shapes = [(1, 10, 5), *[(512, 3, 2)] * 4, *[(512, 2, 2)] * 2]
            self.convolutions = nn.ModuleList(
                nn.Conv1d(inputs, 512, width, stride, bias=False) for inputs, width, stride in shapes
            )
            self.group_norm = nn.GroupNorm(512, 512)
            self.feature_norm, self.project = nn.LayerNorm(512), nn.Linear(512, 768)
            positions = nn.Conv1d(768, 768, 128, padding=64, groups=16)
            self.positions = nn.utils.parametrizations.weight_norm(positions, dim=2)
            self.norm = nn.LayerNorm(768)
            self.layers = nn.ModuleList(Layer() for _ in range(12))
            self.mask = nn.Parameter(torch.rand(768))

        def forward(self, waveform: Any, mask: Any) -> Any:
            values = waveform[:, None]
            for number, convolution in enumerate(self.convolutions):
                values = convolution(values)
                values = functional.gelu(self.group_norm(values) if number == 0 else values)
            features = values.transpose(1, 2)
            frames = functional.dropout(self.project(self.feature_norm(features)), dropout, self.training)
            frames = torch.where(mask[..., None], self.mask.to(frames.dtype), frames)
            moved = functional.gelu(self.positions(frames.transpose(1, 2))[:, :, :-1]).transpose(1, 2)
            frames = functional.dropout(self.norm(frames + moved), dropout, self.training)
            for layer in self.layers:
                frames = layer(frames)
            return features, frames

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query, self.key, self.value, self.out = (nn.Linear(768, 768) for _ in range(4))
            self.inner, self.outer = nn.Linear(768, 3072), nn.Linear(3072, 768)
            self.first, self.second = nn.LayerNorm(768), nn.LayerNorm(768)

        def forward(self, frames: Any) -> Any:
            heads = [part(frames).unflatten(2, (12, 64)).transpose(1, 2) for part in (self.query, self.key, self.value)]
            attended = functional.scaled_dot_product_attention(*heads, dropout_p=dropout if self.training else 0.0)
            attended = self.out(attended.transpose(1, 2).flatten(2))
            frames = self.first(frames + functional.dropout(attended, dropout, self.training))
            added = self.outer(functional.gelu(self.inner(frames)))
            return self.second(frames + functional.dropout(added, dropout, self.training))

    return Body()


for precision in ("float32", "bfloat16"):
    benchmark.contender(f"vocable, {precision}")(partial(_vocable, precision))
    benchmark.contender(f"the usual way, {precision}")(partial(usual, precision))
    benchmark.contender(f"transformers' model, vocable's loss, {precision}")(partial(_transformers, precision))


def cases(_: argparse.Namespace) -> dict[str, Any]:
    return {"with the recipe's dropout, 0.1": {"dropout": DROPOUT}, "without dropout": {"dropout": 0.0}}


if __name__ == "__main__":
    benchmark.main(cases)
