"""How fast HuBERT's base model learns on a GPU, beside transformers' model and the usual way to write it, in bfloat16.

    python benchmarks/pretraining_gpu.py [--profile]

A step is forward, backward, clipping and a fused AdamW, with dropout of 0.1, on utterances of ten seconds of noise, half of whose
frames are hidden, with 500 labels, which lie on the device. transformers has no loss for HuBERT; its model is measured with
vocable's. Steps are timed in wall seconds with the device synchronised, medians of interleaved rounds; compiling comes
first. Utilisation is the operations that the model's products take (forward and backward, counted by torch in vocable's), over
time and over what the device reaches in a large product of bfloat16 matrices.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from gpu import gpu_versions, peak
from harness import RESULTS
from pretraining_step import DROPOUT, LABELS, SECONDS, expanded_logits, usual_body
from torch import Tensor, nn
from torch.nn import functional

from vocable.models.config import base
from vocable.models.regularization import Regularization
from vocable.pretraining.hubert import HubertObjective, LabelHead, MaskedBatch
from vocable.pretraining.loss_settings import LossSettings

ROUNDS, STEPS, WARM_UP = 5, 5, 3
BATCHES = (8, 32)
PENALTY = 10


def batch_of(utterances: int) -> MaskedBatch:
    generator = torch.Generator().manual_seed(0)
    frames = (SECONDS * 16_000 - 400) // 320 + 1
    mask = torch.zeros(utterances, frames, dtype=torch.bool)
    for start in range(5, frames - 10, 20):
        mask[:, start : start + 10] = True
    audio = torch.randn(utterances, SECONDS * 16_000, generator=generator) / 10
    labels = torch.randint(0, LABELS, (1, utterances, frames), generator=generator)
    return MaskedBatch.of(audio, labels, mask, utterances * SECONDS).to(torch.device("cuda"))


def vocable_step(batch: MaskedBatch, compiled: bool) -> tuple[nn.Module, Callable[[], Tensor]]:
    rates = dict.fromkeys(("dropout", "attention_dropout", "input_dropout"), DROPOUT)
    objective = HubertObjective(base(), [LABELS], LossSettings(penalty=PENALTY), Regularization(**rates)).cuda().train()
    if compiled:
        for block in objective.encoder.blocks:
            block.compile(dynamic=True)
    asked = objective.weight(batch)
    return objective, lambda: objective(batch).loss / asked


def transformers_step(batch: MaskedBatch, compiled: bool) -> tuple[nn.Module, Callable[[], Tensor]]:
    from transformers import HubertConfig, HubertModel

    rates = dict.fromkeys(("hidden_dropout", "attention_dropout", "feat_proj_dropout"), DROPOUT)
    body = HubertModel(HubertConfig(**rates, layerdrop=0.0, activation_dropout=0.0, mask_time_prob=0.05)).cuda().train()
    head = LabelHead(768, [LABELS], LossSettings()).cuda()
    if compiled:
        for layer in body.encoder.layers:
            layer.compile(dynamic=True)
    wanted = batch.labels[0].flatten()[batch.hidden]

    def loss() -> Tensor:
        frames = body(batch.audio, mask_time_indices=batch.mask).last_hidden_state
        return functional.cross_entropy(head(frames.flatten(0, 1)[batch.hidden])[0], wanted)

    return nn.ModuleList([body, head]), loss


def usual_step(batch: MaskedBatch, compiled: bool) -> tuple[nn.Module, Callable[[], Tensor]]:
    body, project = usual_body(DROPOUT).cuda().train(), nn.Linear(768, 256).cuda()
    embeddings = nn.Parameter(torch.rand(LABELS, 256, device="cuda"))
    wanted = batch.labels[0].flatten()[batch.hidden]

    def loss() -> Tensor:
        features, frames = body(batch.audio, batch.mask)
        logits = expanded_logits(project(frames.flatten(0, 1)[batch.hidden]), wanted, embeddings)
        wrong = functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device="cuda"))
        return wrong + PENALTY * features.float().pow(2).mean()

    return nn.ModuleList([body, project, nn.ParameterList([embeddings])]), loss


CONTENDERS: dict[str, tuple[Any, bool]] = {
    "vocable": (vocable_step, False),
    "vocable, compile = true": (vocable_step, True),
    "transformers' model, vocable's loss": (transformers_step, False),
    "transformers' model, layers compiled, vocable's loss": (transformers_step, True),
    "the usual way": (usual_step, False),
}


def step_of(make: Any, batch: MaskedBatch, compiled: bool) -> Callable[[], None]:
    torch.manual_seed(0)
    model, loss_of = make(batch, compiled)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

    def step() -> None:
        with torch.autocast("cuda", torch.bfloat16):
            loss = loss_of()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def measured(utterances: int) -> dict[str, Any]:
    """Time all contenders on one batch."""
    batch = batch_of(utterances)
    steps: dict[str, Callable[[], None]] = {}
    figures: dict[str, Any] = {}
    for name, (make, compiled) in CONTENDERS.items():
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated()
        try:
            steps[name] = step_of(make, batch, compiled)
            for _ in range(WARM_UP):
                steps[name]()
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            steps[name]()
            torch.cuda.synchronize()
        except torch.OutOfMemoryError:
            del steps[name]
            print(f"{name}: out of memory", file=sys.stderr, flush=True)
            continue
        figures[name] = {"seconds": [], "peak_bytes": torch.cuda.max_memory_allocated() - before}
    for _ in range(ROUNDS):
        for name, step in steps.items():
            torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in range(STEPS):
                step()
            torch.cuda.synchronize()
            figures[name]["seconds"].append((time.perf_counter() - start) / STEPS)
    for name, figure in figures.items():
        print(utterances, name, f"{statistics.median(figure['seconds']):.4f} s", file=sys.stderr, flush=True)
    return figures


def operations(utterances: int) -> float:
    """Return the floating-point operations of a step's products."""
    from torch.utils.flop_counter import FlopCounterMode

    batch = batch_of(utterances)
    _, loss_of = vocable_step(batch, compiled=False)
    with FlopCounterMode(display=False) as counter, torch.autocast("cuda", torch.bfloat16):
        loss_of().backward()
    return float(counter.get_total_flops())


def profiled(name: str, utterances: int) -> str:
    make, compiled = CONTENDERS[name]
    step = step_of(make, batch_of(utterances), compiled)
    for _ in range(WARM_UP):
        step()
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as found:
        for _ in range(STEPS):
            step()
        torch.cuda.synchronize()
    return found.key_averages().table(sort_by="self_cuda_time_total", row_limit=40, max_name_column_width=70)


def table(result: dict[str, Any]) -> str:
    lines = ["Steps of HuBERT's pretraining on a GPU, base size, bfloat16", ""]
    for utterances, case in result["cases"].items():
        base_time = statistics.median(case["figures"]["vocable"]["seconds"])
        lines += [
            f"**{utterances} utterances of {SECONDS} s a step**", "",
            "| | ms a step, median (range) | × vocable | steps a second | audio s a second | of the bfloat16 peak | peak GiB |",
            "|---|---:|---:|---:|---:|---:|---:|",
        ]  # fmt: skip
        for name, figure in case["figures"].items():
            taken = figure["seconds"]
            median = statistics.median(taken)
            used = case["operations"] / median / result["peak"]
            lines.append(
                f"| {name} | {1e3 * median:.1f} ({1e3 * min(taken):.1f} – {1e3 * max(taken):.1f}) | {median / base_time:.2f} | "
                f"{1 / median:.2f} | {int(utterances) * SECONDS / median:,.0f} | {used:.0%} | "
                f"{figure['peak_bytes'] / 2**30:.1f} |"
            )
        lines += ["", f"{ROUNDS} rounds of {STEPS} steps, interleaved; {case['operations'] / 1e12:.1f} Tflop a step.", ""]
    packages = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    peak_said = f"products of 8192 × 8192 bfloat16 matrices: {result['peak'] / 1e12:.0f} Tflop/s"
    return "\n".join([*lines, f"{result['device']}; {peak_said}. {packages}", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", action="store_true", help="say which kernels take the time, and measure nothing")
    if parser.parse_args().profile:
        for name in ("vocable", "vocable, compile = true"):
            print(name, profiled(name, BATCHES[-1]), sep="\n")
        return
    result: dict[str, Any] = {
        "device": torch.cuda.get_device_name(), "peak": peak(torch.bfloat16),
        "versions": {**gpu_versions(), "transformers": importlib.metadata.version("transformers")}, "cases": {},
    }  # fmt: skip
    RESULTS.mkdir(exist_ok=True)
    for utterances in BATCHES:
        result["cases"][str(utterances)] = {"operations": operations(utterances), "figures": measured(utterances)}
        (RESULTS / "pretraining_gpu.json").write_text(json.dumps(result, indent=1) + "\n")
        (RESULTS / "pretraining_gpu.md").write_text(table(result))
    print(table(result))


if __name__ == "__main__":
    main()
