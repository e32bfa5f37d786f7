"""One training of a disentangled HuBERT: a HuBERT's, with heads that its encoder is turned against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from vocable.models.config import EncoderConfig
from vocable.pretraining.disentangled_audio import DisentangledAudio
from vocable.pretraining.disentanglement import DisentangledObjective
from vocable.pretraining.hubert import HubertObjective
from vocable.pretraining.labelled_audio import LabelledAudio
from vocable.pretraining.watch import speaker_warning
from vocable.recipes.disentangled_settings import DisentangledSettings
from vocable.recipes.hubert_training import hubert_trainer
from vocable.recipes.training_data import TrainingData
from vocable.recipes.training_run import run_in
from vocable.recipes.voice_data import VoiceData, Voices
from vocable.training.objective import Data
from vocable.training.trainer import Hooks, Trainer
from vocable.training.world import World, joined, place_of

_HUBERT = "hubert."


def train_disentangled(
    settings: DisentangledSettings,
    out: Path,
    device: str = "cpu",
    threads: int | None = None,
    overwrite: bool = False,
) -> Path:
    """Train a disentangled HuBERT, or go on with it, and return the folder of the model: an encoder as any other, without heads.

    Args:
        settings: of the training.
        out: the run's folder: settings.json, metrics.jsonl, checkpoints, best and model.
        device: `cpu`, `cuda`, `cuda:1` or `mps`.
        threads: of this process on the CPU; by default its share of the cores.
        overwrite: begin anew where another training stands.

    Raises:
        InputError: something given can't be used; or, later, a loss isn't finite, or too much audio can't be read.
        MismatchError: labels, speakers or pitch don't belong to the audio or the model.
        DiskFullError: a checkpoint can't be written; the one before it stands.
    """
    config = settings.model.config()
    with joined(device) as world:
        data = TrainingData.read(settings.data, config)
        voices = VoiceData.read(settings, data)
        with run_in(out, world, threads, [*data.notes, *voices.notes]):
            replace(_trainer(settings, config, data, voices, out, world), overwrite=overwrite).run()
    return out / "model"


def check_disentangled(settings: DisentangledSettings, device: str, processes: int) -> None:
    """Refuse what every process of a training would refuse; nothing is written.

    Raises:
        InputError: something given can't be used.
        MismatchError: labels, speakers or pitch don't belong to the audio or the model.
    """
    place_of(device, processes - 1, processes)
    settings.training.check_shares(settings.batches.micro_batches, processes)
    VoiceData.read(settings, TrainingData.read(settings.data, settings.model.config()))


def disentangled_objective(settings: DisentangledSettings, hubert: HubertObjective, voices: VoiceData) -> DisentangledObjective:
    """Return the model as its training begins, around a HuBERT as its own begins."""
    return DisentangledObjective(hubert, settings.disentanglement, settings.training.steps, voices.speakers, voices.bins)


def voiced_audio(labelled: Data | None, voices: Voices | None, config: EncoderConfig) -> DisentangledAudio:
    """Return the micro-batches of a manifest with its labels, who speaks and how high."""
    assert isinstance(labelled, LabelledAudio)
    assert voices is not None  # both are of one split
    return DisentangledAudio(labelled, voices.speaker_ids, voices.pitch, config.sample_rate / config.hop)


def _trainer(
    settings: DisentangledSettings, config: EncoderConfig, data: TrainingData, voices: VoiceData, out: Path, world: World
) -> Trainer:
    plain = hubert_trainer(settings, config, data, out, world, {})
    assert isinstance(plain.objective, HubertObjective)
    return replace(
        plain,
        objective=disentangled_objective(settings, plain.objective, voices),
        data=voiced_audio(plain.data, voices.train, config),
        validation=None if plain.validation is None else voiced_audio(plain.validation, voices.valid, config),
        identity={
            **plain.identity,
            "objective": "disentangled",
            "disentanglement": asdict(settings.disentanglement),
            "voices": {**voices.train.identity, "speakers_told": voices.speakers, "bins_told": voices.bins},
        },
        hooks=_hooks(plain.hooks, voices.speakers),
    )


def _hooks(plain: Hooks, speakers: int | None) -> Hooks:
    """Return HuBERT's hooks for an objective that has it inside: what is measured and written knows no heads."""
    measure, export, watch = plain.measure, plain.export, plain.watch
    assert export is not None
    assert watch is not None

    def measured(weights: dict[str, Tensor], step: int) -> dict[str, float]:
        assert measure is not None
        return measure(_of_hubert(weights), step)

    def watched(records: list[dict[str, Any]]) -> str | None:
        said = watch(records)
        return said if said is not None or speakers is None else speaker_warning(records, speakers)

    return replace(
        plain,
        measure=None if measure is None else measured,
        export=lambda weights, folder: export(_of_hubert(weights), folder),
        watch=watched,
    )


def _of_hubert(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(_HUBERT): tensor for name, tensor in weights.items() if name.startswith(_HUBERT)}
