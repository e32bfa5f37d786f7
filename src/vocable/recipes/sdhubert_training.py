"""One SD-HuBERT training: audio looked over, a model begun, trained and written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vocable.artefacts.headers import Header, write_header
from vocable.artefacts.writing import write_bytes
from vocable.audio.manifest import Manifest
from vocable.checkpoints.encoder_checkpoint import EncoderCheckpoint, Tensors
from vocable.checkpoints.encoders import read_encoder, write_encoder
from vocable.checkpoints.tensor_names import DISTILLATION, MASK_EMBEDDING
from vocable.errors import InputError
from vocable.models.config import EncoderConfig
from vocable.recipes.corpus import CorpusSettings, require_source
from vocable.recipes.sdhubert_settings import SdhubertSettings, sentence_config
from vocable.recipes.training_corpus import training_manifest
from vocable.recipes.training_run import plain_values, run_in
from vocable.syllables.distillation import SentenceDistillation, collapse_warning, reinitialized
from vocable.syllables.perturbation import PerturbationSettings
from vocable.syllables.sentence_audio import SentenceAudio
from vocable.training.inputs import AudioInputs
from vocable.training.seeds import derived_seed
from vocable.training.trainer import Hooks, Trainer
from vocable.training.world import World, joined, place_of

_VALIDATION_SEED = 7
_CENTER = f"{DISTILLATION}.center"
_UNCHANGED = PerturbationSettings(masks=(), stretch=0.0)


def train_sdhubert(
    settings: SdhubertSettings,
    out: Path,
    device: str = "cpu",
    threads: int | None = None,
    overwrite: bool = False,
    beside: Mapping[str, bytes] | None = None,
) -> Path:
    """Train an SD-HuBERT, or go on with it, and return the folder of the model.

    Args:
        settings: of the training.
        out: the run's folder: settings.json, metrics.jsonl, checkpoints, best and model.
        device: `cpu`, `cuda`, `cuda:1` or `mps`.
        threads: of this process on the CPU; by default its share of the cores.
        overwrite: begin anew where another training stands.
        beside: files to keep in the folder, by name: what the settings were read from.

    Raises:
        InputError: something given can't be used; or, later, a loss isn't finite, or too much audio can't be read.
        DiskFullError: a checkpoint can't be written; the one before it stands.
    """
    settings = settings.resolved()
    with joined(device) as world:
        _require_audio(settings)
        begun = begun_objective(settings)
        with run_in(out, world, threads):
            replace(_trainer(settings, begun, out, world, beside or {}), overwrite=overwrite).run()
    return out / "model"


def check_sdhubert(settings: SdhubertSettings, device: str, processes: int) -> None:
    """Refuse what every process of a training would refuse; nothing is written.

    Raises:
        InputError: something given can't be used.
    """
    place_of(device, processes - 1, processes)
    settings.training.check_shares(settings.batches.micro_batches, processes)
    _require_audio(settings)
    begun_objective(settings.resolved())


def begun_objective(settings: SdhubertSettings) -> tuple[SentenceDistillation, EncoderConfig, str]:
    """Return the model as its training begins, its encoder's configuration, and the digest of what it begins with.

    Raises:
        InputError: the backbone can't be read, or has no such blocks to begin anew.
    """
    torch.manual_seed(derived_seed(settings.training.seed))
    if settings.backbone is None:
        config = sentence_config(settings.model.config())
        return SentenceDistillation(config, settings.distillation, settings.regularization), config, ""
    found = read_encoder(settings.backbone)
    found.require_statistics()
    config = sentence_config(found.config)
    objective = SentenceDistillation(config, settings.distillation, settings.regularization)
    own = objective.state_dict()
    given = {f"encoder.{name}": found.tensors[name] for name in found.tensors}
    if found.config.aggregator:  # goes on with what it learnt of sentences
        heads = {name: found.heads[name] for name in found.heads if name.startswith(DISTILLATION) and name != _CENTER}
        given |= {name: tensor for name, tensor in heads.items() if name in own and own[name].shape == tensor.shape}
    if MASK_EMBEDDING in found.heads and found.config.aggregator:
        given[f"encoder.{MASK_EMBEDDING}"] = found.heads[MASK_EMBEDDING]
    objective.load_state_dict({**own, **given})
    anew = settings.distillation.reinitialized
    if anew is None:
        anew = () if found.config.aggregator else tuple(range(max(1, config.layers - 2), config.layers + 1))
    reinitialized(objective, anew)
    return objective, config, found.digest


def _require_audio(settings: SdhubertSettings) -> None:
    if not settings.data.train:
        raise InputError("data.train names nothing: give a folder of audio, or a manifest")
    for source in (*settings.data.train, *settings.data.valid):
        require_source(source)


def manifest_of(sources: Sequence[Path], settings: SdhubertSettings, config: EncoderConfig, out: Path, world: World) -> Manifest:
    """Return the audio in folders and manifests; the first process looks through them, the others read what it found.

    Raises:
        InputError: there is none that can be used.
    """
    return training_manifest(sources, CorpusSettings(ext=settings.data.ext, sample_rate=config.sample_rate), out, world)


def sentence_audio(settings: SdhubertSettings, manifest: Manifest, config: EncoderConfig) -> SentenceAudio:
    """Return what is learnt from.

    Raises:
        InputError: no utterance is long enough.
    """
    return SentenceAudio(AudioInputs(manifest, config), config, settings.batches, settings.perturbation, settings.training.seed)


def _trainer(
    settings: SdhubertSettings,
    begun: tuple[SentenceDistillation, EncoderConfig, str],
    out: Path,
    world: World,
    beside: Mapping[str, bytes],
) -> Trainer:
    objective, config, digest = begun
    manifest = manifest_of(settings.data.train, settings, config, out, world)
    train = sentence_audio(settings, manifest, config)
    valid = None
    if settings.data.valid:
        other = AudioInputs(manifest_of(settings.data.valid, settings, config, out, world), config)
        valid = SentenceAudio(other, config, settings.batches, _UNCHANGED, _VALIDATION_SEED)

    def export(weights: dict[str, Tensor], folder: Path) -> None:
        write_encoder(sentence_checkpoint(config, weights), folder, "vocable", overwrite=True)

    def write_settings() -> None:
        write_header(out / "settings.json", {"format": "vocable.settings/1", **plain_values(asdict(settings))})
        for name, content in beside.items():
            write_bytes(out / name, content)

    return Trainer(
        objective=objective,
        blocks=list(objective.encoder.blocks),
        data=train,
        micro_batches=settings.batches.micro_batches,
        validation=valid,
        settings=settings.training,
        world=world,
        folder=out,
        identity=_identity(settings, config, manifest, digest),
        leaves_out=settings.regularization.layer_drop > 0,
        hooks=Hooks(watch=collapse_warning, export=export, begun=write_settings),
    )


def sentence_checkpoint(config: EncoderConfig, weights: Mapping[str, Tensor]) -> EncoderCheckpoint:
    """Return the student, with its head and the centre, to be written."""
    tensors = {name.removeprefix("encoder."): tensor for name, tensor in weights.items() if name.startswith("encoder.")}
    heads = {name: tensor for name, tensor in weights.items() if name.startswith(f"{DISTILLATION}.")}
    heads[_CENTER] = weights["center"]
    if MASK_EMBEDDING in tensors:
        heads[MASK_EMBEDDING] = tensors.pop(MASK_EMBEDDING)
    return EncoderCheckpoint(Path(), "vocable", config, Tensors.of(tensors), Tensors.of(heads))


def _identity(settings: SdhubertSettings, config: EncoderConfig, manifest: Manifest, digest: str) -> Header:
    made: dict[str, Any] = {
        "objective": "sdhubert",
        "encoder": config.to_json(),
        "regularization": asdict(settings.regularization),
        "perturbation": plain_values(asdict(settings.perturbation)),
        "distillation": plain_values(asdict(settings.distillation)),
        "batches": asdict(settings.batches),
        "data": manifest.digest,
        "backbone": digest,
    }
    return made
