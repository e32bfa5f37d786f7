"""What a training will take, before it begins: sizes, steps, and the time of one micro-batch tried."""

from __future__ import annotations

import time
from typing import Any

import torch

from vocable.execution.progress import duration
from vocable.recipes.hubert_settings import HubertSettings
from vocable.recipes.hubert_training import labelled_audio, made_objective
from vocable.recipes.training_data import TrainingData
from vocable.recipes.training_run import share_cores
from vocable.training.world import World, place_of

_BYTES = 4
_COPIES = 3  # weights, and the two moments of Adam


def plan_training(settings: HubertSettings, device: str, threads: int | None) -> dict[str, Any]:
    """Return what a training will take, by name; one micro-batch goes forward and backward to tell the time.

    Raises:
        InputError: something given can't be used.
        MismatchError: labels don't belong to the audio or the model.
    """
    config = settings.model.config()
    world = World(device=place_of(device))
    data = TrainingData.read(settings.data, config)
    objective, _ = made_objective(settings, config, data.clusters, data.corpus)
    source = labelled_audio(settings, config, data.train, settings.training.seed)
    share_cores(world, threads)
    objective.to(world.device).train()
    made = source.make(0)
    tried = made.batch.to(world.device)
    half = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(settings.training.precision)
    for _ in range(2):  # the first warms up
        begun = time.monotonic()
        with torch.autocast(world.device.type, half or torch.bfloat16, enabled=half is not None):
            loss = objective(tried).loss / objective.weight(tried)
        loss.backward()
        if world.device.type == "cuda":
            torch.cuda.synchronize(world.device)
        seconds = time.monotonic() - begun
    parameters, in_heads = (sum(item.numel() for item in part.parameters()) for part in (objective, objective.head))
    micro = settings.batches.micro_batches
    epochs = settings.training.steps * micro / source.micro_batches
    whole = seconds * micro * settings.training.steps
    rows: dict[str, Any] = {
        "parameters": f"{parameters / 1e6:,.1f} million, of which {in_heads / 1e6:,.2f} in heads",
        "utterances": f"{source.utterances:,} of {len(data.train.inputs.ids):,} are long enough",
        "audio": f"{data.train.inputs.seconds / 3600:,.2f} h, gone through {epochs:,.1f} times",
        "labels": ", ".join(
            f"{count:,} at {item.rate:g} a second" for count, item in zip(data.clusters, data.train.sets, strict=True)
        ),
        "steps": f"{settings.training.steps:,} of {micro} micro-batches of up to {settings.batches.micro_seconds:g} s",
        "checkpoints": f"{_COPIES * _BYTES * parameters / 2**30:.2f} GiB each, up to {settings.training.keep + 1}",
        "one micro-batch": f"{seconds:.2f} s for {made.batch.seconds:.1f} s of audio",
        "time": f"{duration(whole)} with one process",
    }
    if world.device.type == "cuda":
        moments = 2 * _BYTES * parameters
        rows["memory"] = f"{(torch.cuda.max_memory_allocated(world.device) + moments) / 2**30:.1f} GiB of the GPU"
    return rows
