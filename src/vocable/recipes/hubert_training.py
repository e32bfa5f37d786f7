"""One HuBERT training: data looked over, a model built, trained, measured and written."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vocable.artefacts.headers import Header, digest_of_array, write_header
from vocable.artefacts.writing import write_bytes
from vocable.checkpoints.encoder_checkpoint import MEL_STATISTICS, EncoderCheckpoint, Tensors
from vocable.checkpoints.encoders import read_encoder, write_encoder
from vocable.checkpoints.melhubert_encoder import statistics_tensors
from vocable.checkpoints.tensor_names import LABEL_EMBEDDINGS, MASK_EMBEDDING, label_sets, of_set
from vocable.errors import InputError, MismatchError, VocableError
from vocable.execution.engine import Work
from vocable.features.encoder_layer import EncoderFile
from vocable.features.kaldi import Frames
from vocable.models.config import EncoderConfig
from vocable.models.positions import PlainPositionalConvolution, with_gains, without_gains
from vocable.models.taps import Tap
from vocable.pretraining.hubert import HubertObjective, heads_of
from vocable.pretraining.labelled_audio import LabelledAudio
from vocable.pretraining.watch import first_loss_warning, training_warning
from vocable.recipes.corpus import CorpusSettings
from vocable.recipes.hubert_settings import HubertSettings
from vocable.recipes.layers import LayerSettings, score_layers
from vocable.recipes.scoring import Truth
from vocable.recipes.training_data import Split, TrainingData
from vocable.recipes.training_run import plain_values, run_in
from vocable.timelines.alignments import Alignments
from vocable.training.seeds import derived_seed
from vocable.training.trainer import Hooks, Trainer
from vocable.training.world import World, joined, place_of
from vocable.units.usage import entropy_of

_VALIDATION_SEED = 7
"""Of the masks and crops of validation, which are always the same."""


def train_hubert(
    settings: HubertSettings,
    out: Path,
    device: str = "cpu",
    threads: int | None = None,
    overwrite: bool = False,
    beside: Mapping[str, bytes] | None = None,
    data: TrainingData | None = None,
) -> Path:
    """Train a HuBERT, or go on with it, and return the folder of the model.

    Args:
        settings: of the training.
        out: the run's folder: settings.json, metrics.jsonl, checkpoints, best and model.
        device: `cpu`, `cuda`, `cuda:1` or `mps`.
        threads: of this process on the CPU; by default its share of the cores.
        overwrite: begin anew where another training stands.
        beside: files to keep in the folder, by name: what the settings were read from.
        data: what the settings name, if it is read already.

    Raises:
        InputError: something given can't be used; or, later, a loss isn't finite, or too much audio can't be read.
        MismatchError: labels don't belong to the audio or the model.
        DiskFullError: a checkpoint can't be written; the one before it stands.
    """
    config = settings.model.config()
    with joined(device) as world:
        data = data or TrainingData.read(settings.data, config)
        with run_in(out, world, threads, data.notes):
            replace(hubert_trainer(settings, config, data, out, world, beside or {}), overwrite=overwrite).run()
    return out / "model"


def check_training(settings: HubertSettings, device: str, processes: int) -> None:
    """Refuse what every process of a training would refuse; nothing is written.

    Args:
        settings: of the training.
        device: `cpu`, `cuda` (each process its own), `cuda:1` or `mps`.
        processes: how many are to train together.

    Raises:
        InputError: something given can't be used.
        MismatchError: labels don't belong to the audio or the model.
    """
    place_of(device, processes - 1, processes)
    settings.training.check_shares(settings.batches.micro_batches, processes)
    TrainingData.read(settings.data, settings.model.config())


def write_initial(settings: HubertSettings, out: Path) -> None:
    """Write the encoder as a training begins with it: at random, or with what `model.init` says."""
    config = settings.model.config()
    data = TrainingData.read(settings.data, config)
    objective, _ = made_objective(settings, config, data.clusters, data.corpus)
    write_encoder(_checkpoint(config, data.clusters, objective.state_dict()), out, "vocable", overwrite=True)


def made_objective(
    settings: HubertSettings, config: EncoderConfig, clusters: Sequence[int], corpus: tuple[Frames, Frames] | None
) -> tuple[HubertObjective, str]:
    """Return the model, and the digest of what it begins with, if that isn't random."""
    torch.manual_seed(derived_seed(settings.training.seed))
    objective = HubertObjective(config, clusters, settings.loss, settings.regularization)
    if not settings.model.position_gains:
        objective.encoder.positions = PlainPositionalConvolution(config)
    began = "" if settings.model.init is None else _begin_with(objective, settings.model.init)
    if corpus is not None:  # those of what it learns from, whatever it begins with
        objective.load_state_dict({f"encoder.{name}": part for name, part in statistics_tensors(corpus).items()}, strict=False)
    return objective, began


def labelled_audio(settings: HubertSettings, config: EncoderConfig, split: Split, seed: int) -> LabelledAudio:
    """Return the micro-batches of a manifest with its labels."""
    return LabelledAudio(split.inputs, split.sets, config, settings.batches, settings.masks, seed)


def hubert_trainer(
    settings: HubertSettings,
    config: EncoderConfig,
    data: TrainingData,
    out: Path,
    world: World,
    beside: Mapping[str, bytes],
) -> Trainer:
    """Return what trains a HuBERT in a folder, as `train_hubert` says."""
    training = settings.training
    objective, began = made_objective(settings, config, data.clusters, data.corpus)
    source = labelled_audio(settings, config, data.train, training.seed)
    valid = None
    if data.valid is not None:
        valid = labelled_audio(settings, config, data.valid, _VALIDATION_SEED)
    entropy = sum(entropy_of(survey.histogram) for survey in data.train.surveys)
    guessing = float(np.exp(np.mean(np.log(data.clusters))))

    def first_loss(loss: float) -> str | None:
        return None if began else first_loss_warning(loss / len(data.clusters), round(guessing))

    def export(weights: dict[str, Tensor], folder: Path) -> None:
        write_encoder(_checkpoint(config, data.clusters, weights), folder, "vocable", overwrite=True)

    def begun() -> None:
        write_header(out / "settings.json", {"format": "vocable.settings/1", **plain_values(asdict(settings))})
        for name, content in beside.items():
            write_bytes(out / name, content)

    hooks = Hooks(
        measure=_measure(settings, config, data, out, str(world.device)),
        watch=lambda records: training_warning(records, training.steps, entropy),
        export=export,
        begun=begun,
        first_loss=first_loss,
    )
    return Trainer(
        objective=objective,
        blocks=list(objective.encoder.blocks),
        data=source,
        micro_batches=settings.batches.micro_batches,
        validation=valid,
        settings=training,
        world=world,
        folder=out,
        identity=_identity(settings, config, data, began),
        leaves_out=settings.regularization.layer_drop > 0,
        hooks=hooks,
    )


def _identity(settings: HubertSettings, config: EncoderConfig, data: TrainingData, began: str) -> Header:
    return {
        "encoder": config.to_json(),
        "position_gains": settings.model.position_gains,
        "regularization": asdict(settings.regularization),
        "masks": asdict(settings.masks),
        "loss": asdict(settings.loss),
        "batches": asdict(settings.batches),
        "labels": list(data.clusters),
        "data": data.train.identity,
        "mean_std": None if data.corpus is None else digest_of_array(np.stack(data.corpus)),
        "init": began,
    }


def _begin_with(objective: HubertObjective, source: str) -> str:
    """Give the encoder, and the heads that fit, the weights of a checkpoint; return its digest.

    Raises:
        MismatchError: it is an encoder of another shape.
    """
    found = read_encoder(source)
    for name in ("layers", "dim", "waveform_normalization"):
        theirs, ours = getattr(found.config, name), getattr(objective.encoder.config, name)
        if theirs != ours:
            raise MismatchError(f"{source} is an encoder of another shape: its {name} is {theirs}, and [model] says {ours}")
    if found.config.arithmetic() != objective.encoder.config.arithmetic():
        raise MismatchError(
            f"{source} is an encoder of another shape than [model] says: give its numbers there; 'vocable inspect' has them"
        )
    own = objective.state_dict()
    tensors = dict(found.tensors)
    if isinstance(objective.encoder.positions, PlainPositionalConvolution):
        tensors = without_gains(tensors)
    # Statistics of log-mel frames are those of what is learnt from.
    given = {f"encoder.{name}": tensor for name, tensor in tensors.items() if name not in MEL_STATISTICS}
    if f"encoder.{MASK_EMBEDDING}" in own and MASK_EMBEDDING in found.heads:
        given[f"encoder.{MASK_EMBEDDING}"] = found.heads[MASK_EMBEDDING]
    heads = {f"head.{name}": found.heads[name] for name in found.heads if f"head.{name}" in own}
    if f"head.{LABEL_EMBEDDINGS}" in heads:
        every = [found.heads[of_set(LABEL_EMBEDDINGS, number)] for number in range(label_sets(found.heads))]
        heads[f"head.{LABEL_EMBEDDINGS}"] = torch.cat(every)
    if all(own[name].shape == tensor.shape for name, tensor in heads.items()):
        given |= heads  # of as many labels; new ones are learnt otherwise
    if wrong := sorted(name for name, tensor in given.items() if name not in own or own[name].shape != tensor.shape):
        raise MismatchError(f"{source} has a {wrong[0]} that [model] has not: give its shape there")
    wanted = {name for name in own if name.startswith("encoder.")}
    wanted -= {f"encoder.{name}" for name in (MASK_EMBEDDING, *MEL_STATISTICS)}
    if missing := sorted(wanted - set(given)):
        raise MismatchError(f"{source} lacks {missing[0].removeprefix('encoder.')}: it is no whole encoder")
    objective.load_state_dict({**own, **given})
    return found.digest


def _checkpoint(config: EncoderConfig, labels: Sequence[int], weights: Mapping[str, Tensor]) -> EncoderCheckpoint:
    tensors = {name.removeprefix("encoder."): tensor for name, tensor in weights.items() if name.startswith("encoder.")}
    tensors = with_gains(tensors)
    mask = {MASK_EMBEDDING: tensors.pop(MASK_EMBEDDING)} if MASK_EMBEDDING in tensors else {}
    return EncoderCheckpoint(Path(), "vocable", config, Tensors.of(tensors), Tensors.of({**mask, **heads_of(weights, labels)}))


def _measure(settings: HubertSettings, config: EncoderConfig, data: TrainingData, out: Path, device: str) -> Any:
    """Return what scores the units of a layer at each validation, if phones are known."""
    asked = settings.measure
    if asked.alignments is None:
        return None
    if data.valid is None:
        raise InputError("measure.alignments are of utterances to validate on, and data.valid names none: give both")
    layer = asked.layer or max(1, config.layers // 2)
    Tap(layer).check(config.layers)
    LayerSettings(clusters=asked.clusters)  # says now what is wrong with it
    found = Alignments(asked.alignments)
    if all(found.find(utterance) is None for utterance in data.valid.inputs.ids):
        raise InputError(f"none of the utterances of {data.valid.name} has an alignment in {asked.alignments}: give theirs")
    if settings.data.sets:
        raise InputError(
            "measure.alignments needs audio to describe, and data.sets are of frames: give data.folder, or leave it out"
        )
    manifest = settings.data.place / f"{data.valid.name}.tsv"
    alignments = asked.alignments

    def measure(weights: dict[str, Tensor], step: int) -> dict[str, float]:
        with tempfile.TemporaryDirectory(dir=out) as folder:
            encoder = Path(folder) / f"step-{step}"
            write_encoder(_checkpoint(config, data.clusters, weights), encoder, "vocable")
            try:
                found = score_layers(
                    manifest,
                    EncoderFile(str(encoder)),
                    Truth(alignments=alignments),
                    LayerSettings(layers=(layer,), clusters=asked.clusters),
                    CorpusSettings(),
                    Work(devices=(device,)),
                )
            except VocableError as error:  # a measurement that fails is no reason to lose what was learnt
                print(f"warning: step {step} is without PNMI: {error}", file=sys.stderr, flush=True)
                return {}
        return {"pnmi": found.best.pnmi, "phone_purity": found.best.phone_purity}

    return measure
