"""What a training will take, before it begins: sizes, steps, and the time of one micro-batch tried."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from vocable.anonymization.vocoder_data import VocoderData
from vocable.anonymization.vocoding import Vocoding
from vocable.execution.progress import duration
from vocable.pretraining.disentanglement import DisentangledObjective
from vocable.pretraining.hubert import HubertObjective
from vocable.recipes.disentangled_settings import DisentangledSettings
from vocable.recipes.disentangled_training import disentangled_objective, voiced_audio
from vocable.recipes.hubert_settings import HubertSettings
from vocable.recipes.hubert_training import labelled_audio, made_objective
from vocable.recipes.sdhubert_settings import SdhubertSettings
from vocable.recipes.sdhubert_training import begun_objective, manifest_of, sentence_audio
from vocable.recipes.training_data import TrainingData
from vocable.recipes.training_run import share_cores
from vocable.recipes.vocoder_settings import VocoderSettings
from vocable.recipes.vocoder_training import begun_vocoder, speech_source
from vocable.recipes.voice_data import VoiceData
from vocable.syllables.distillation import SentenceDistillation
from vocable.training.batches import BatchSettings
from vocable.training.objective import Data, InTurns, Stepping
from vocable.training.settings import TrainingSettings
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
    inputs = data.train.inputs
    plan = _Plan(
        objective, sum(item.numel() for item in objective.head.parameters()), source, settings.batches, settings.training
    )
    return plan.rows(world, threads, len(inputs.ids), inputs.seconds, _labels(data))


def plan_disentangled(settings: DisentangledSettings, device: str, threads: int | None) -> dict[str, Any]:
    """Return what a training of a disentangled HuBERT will take, by name; one micro-batch goes forward and backward.

    Raises:
        InputError: something given can't be used.
        MismatchError: labels, speakers or pitch don't belong to the audio or the model.
    """
    config = settings.model.config()
    world = World(device=place_of(device))
    data = TrainingData.read(settings.data, config)
    voices = VoiceData.read(settings, data)
    hubert, _ = made_objective(settings, config, data.clusters, data.corpus)
    objective = disentangled_objective(settings, hubert, voices)
    labelled = labelled_audio(settings, config, data.train, settings.training.seed)
    source = voiced_audio(labelled, voices.train, config)
    in_heads = sum(item.numel() for part in (hubert.head, objective.heads) for item in part.parameters())
    plan = _Plan(objective, in_heads, source, settings.batches, settings.training)
    told = {"speakers": voices.speakers, "bins of pitch": voices.bins}
    rows = {**_labels(data), **{name: f"{count:,}" for name, count in told.items() if count is not None}}
    return plan.rows(world, threads, len(data.train.inputs.ids), data.train.inputs.seconds, rows)


def _labels(data: TrainingData) -> dict[str, str]:
    each = zip(data.clusters, data.train.sets, strict=True)
    return {"labels": ", ".join(f"{count:,} at {item.rate:g} a second" for count, item in each)}


def plan_sdhubert(settings: SdhubertSettings, device: str, threads: int | None) -> dict[str, Any]:
    """Return what a training of SD-HuBERT will take, by name; one micro-batch goes forward and backward to tell the time.

    Raises:
        InputError: something given can't be used.
    """
    settings = settings.resolved()
    world = World(device=place_of(device))
    objective, config, _ = begun_objective(settings)
    with tempfile.TemporaryDirectory() as folder:
        manifest = manifest_of(settings.data.train, settings, config, Path(folder), world)
    source = sentence_audio(settings, manifest, config)
    in_head = sum(item.numel() for item in objective.distillation.parameters())
    plan = _Plan(objective, in_head, source, settings.batches, settings.training)
    return plan.rows(world, threads, len(manifest), manifest.seconds, {})


def plan_vocoder(settings: VocoderSettings, device: str, threads: int | None) -> dict[str, Any]:
    """Return what a training of a vocoder will take, by name; one micro-batch goes forward and backward to tell the time.

    Raises:
        InputError: something given can't be used.
        MismatchError: frames, codebooks and model are of different kinds.
    """
    world = World(device=place_of(device))
    judged = replace(settings, vocoding=replace(settings.vocoding, adversarial_from=0.0))  # as most of it is
    objective, _ = begun_vocoder(judged)
    with tempfile.TemporaryDirectory() as folder:
        source = speech_source(settings, settings.data.train, settings.data.frames, Path(folder), world)
    assert source is not None  # the settings have seen to it
    in_discriminators = sum(item.numel() for item in objective.discriminators.parameters())
    data = VocoderData(source, settings.batches, settings.training.seed)
    plan = _Plan(objective, in_discriminators, data, settings.batches, settings.training, "discriminators")
    return plan.rows(world, threads, len(source.names), float(source.lengths.sum()) / source.spec.rate, {})


@dataclass(frozen=True)
class _Plan:
    objective: HubertObjective | DisentangledObjective | SentenceDistillation | Vocoding
    in_heads: int
    """Parameters."""
    source: Data
    batches: BatchSettings
    training: TrainingSettings
    heads: str = "heads"
    """What the parameters are in that aren't the model's."""

    def rows(self, world: World, threads: int | None, utterances: int, seconds: float, labels: dict[str, str]) -> dict[str, Any]:
        """Return what to show, after a micro-batch was tried."""
        share_cores(world, threads)
        tried, audio = self._tried(world)
        learnt = sum(item.numel() for item in self.objective.parameters() if item.requires_grad)
        held = sum(item.numel() for item in self.objective.state_dict().values())
        micro = self.batches.micro_batches
        epochs = self.training.steps * micro / self.source.micro_batches
        state = _BYTES * (held + (_COPIES - 1) * learnt)
        rows: dict[str, Any] = {
            "parameters": f"{learnt / 1e6:,.1f} million are learnt, of which {self.in_heads / 1e6:,.2f} in {self.heads}",
            "utterances": f"{self.source.utterances:,} of {utterances:,} are long enough",
            "audio": f"{seconds / 3600:,.2f} h, gone through {epochs:,.1f} times",
            **labels,
            "steps": f"{self.training.steps:,} of {micro} micro-batches of up to {self.batches.micro_seconds:g} s",
            "checkpoints": f"{state / 2**30:.2f} GiB each, up to {self.training.keep + 1}",
            "one micro-batch": f"{tried:.2f} s for {audio:.1f} s of audio",
            "time": f"{duration(tried * micro * self.training.steps)} with one process",
        }
        if world.device.type == "cuda":
            moments = (_COPIES - 1) * _BYTES * learnt
            rows["memory"] = f"{(torch.cuda.max_memory_allocated(world.device) + moments) / 2**30:.1f} GiB of the GPU"
        return rows

    def _tried(self, world: World) -> tuple[float, float]:
        """Return the seconds that a micro-batch takes, and those of its audio."""
        self.objective.to(world.device).train()
        batch = self.source.make(0).batch.to(world.device)
        half = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(self.training.precision)
        if isinstance(self.objective, Stepping):
            self.objective.begin_step()
        taken = 0.0
        for _ in range(2):  # the first warms up
            begun = time.monotonic()
            for turn in self.objective.turns if isinstance(self.objective, InTurns) else (None,):
                if isinstance(self.objective, InTurns) and turn is not None:
                    self.objective.begin_turn(turn)
                with torch.autocast(world.device.type, half or torch.bfloat16, enabled=half is not None):
                    loss = self.objective(batch).loss / self.objective.weight(batch)
                loss.backward()
            if world.device.type == "cuda":
                torch.cuda.synchronize(world.device)
            taken = time.monotonic() - begun
        return taken, batch.seconds
