"""One training of a vocoder: speech looked over, a model begun, trained with its discriminators, and written."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from vocable.anonymization.vocoder_data import SpeechSource, VocoderData
from vocable.anonymization.vocoding import GENERATOR, Vocoding
from vocable.artefacts.feature_spec import FeatureSpec
from vocable.artefacts.headers import Header, write_header
from vocable.checkpoints.detokenizers import VOCODER_FILE, DetokenizerCheckpoint, read_detokenizer, write_detokenizer
from vocable.clustering.fleets import read_fleet
from vocable.errors import MismatchError
from vocable.models.vocoder import Vocoder
from vocable.models.weight_norm import folded
from vocable.recipes.corpus import require_source
from vocable.recipes.frame_stores import dumped_frames
from vocable.recipes.training_run import plain_values, run_in
from vocable.recipes.vocoder_settings import VocoderSettings
from vocable.recipes.vocoder_sources import audio_source, stored_source
from vocable.training.seeds import derived_seed
from vocable.training.trainer import Hooks, Trainer
from vocable.training.world import World, joined, place_of

_VALIDATION_SEED = 7


def train_vocoder(
    settings: VocoderSettings, out: Path, device: str = "cpu", threads: int | None = None, overwrite: bool = False
) -> Path:
    """Train a vocoder, or go on with it, and return its file.

    Args:
        settings: of the training.
        out: the run's folder: settings.json, metrics.jsonl, checkpoints, best and model.
        device: `cpu`, `cuda`, `cuda:1` or `mps`.
        threads: of this process on the CPU; by default its share of the cores.
        overwrite: begin anew where another training stands.

    Raises:
        InputError: something given can't be used.
        MismatchError: frames, codebooks and model are of different kinds.
        DiskFullError: a checkpoint can't be written; the one before it stands.
    """
    with joined(device) as world:
        objective, digest = begun_vocoder(settings)
        with run_in(out, world, threads):
            _trainer(settings, objective, digest, out, world, overwrite).run()
    return out / "model" / VOCODER_FILE


def check_vocoder(settings: VocoderSettings, device: str, processes: int) -> None:
    """Refuse what every process of a training would refuse; nothing is written.

    Raises:
        InputError: something given can't be used.
        MismatchError: the model to begin with is of another shape, or rows beside dumped frames were changed since.
    """
    place_of(device, processes - 1, processes)
    settings.training.check_shares(settings.batches.micro_batches, processes)
    for source in (settings.data.train, settings.data.valid):
        if source is not None:
            require_source(source)
    for folder in (settings.data.frames, settings.data.valid_frames):
        if folder is not None:
            dumped_frames(folder, settings.data.speakers)
    if settings.data.codebooks is not None:
        read_fleet(settings.data.codebooks)
    begun_vocoder(settings)


def begun_vocoder(settings: VocoderSettings) -> tuple[Vocoding, str]:
    """Return the model as its training begins, and the digest of what it begins with.

    Raises:
        InputError: the file to begin with can't be read, or has no vocoder.
        MismatchError: that is of another shape.
    """
    torch.manual_seed(derived_seed(settings.training.seed))
    vocoder, digest = Vocoder(settings.model), ""
    if settings.init is not None:
        found = read_detokenizer(settings.init)
        if found.require_vocoder() != settings.model:
            raise MismatchError(
                f"{settings.init} has {found.vocoder}, but the settings {settings.model}: give settings of its shape"
            )
        vocoder, digest = found.build_vocoder().train(), found.digest
    return Vocoding(vocoder, settings.discriminators, settings.vocoding, settings.training.steps), digest


def speech_source(
    settings: VocoderSettings, audio: Path | None, frames: Path | None, out: Path, world: World
) -> SpeechSource | None:
    """Return the speech of audio, or of frames that were dumped; None of neither.

    Raises:
        InputError: there is none.
        MismatchError: the model is for other frames.
    """
    if audio is not None:
        source = audio_source(audio, settings.data, settings.model, out, world)
    elif frames is not None:
        source = stored_source(frames, settings.data, world.device)
    else:
        return None
    spec, model = source.spec, settings.model
    if (spec.dim, spec.hop, spec.sample_rate) != (model.dim, model.hop, model.sample_rate):
        raise MismatchError(
            f"the model is for {model.dim} values every {model.hop} samples at {model.sample_rate} Hz, but {spec.kind} frames "
            f"have {spec.dim} every {spec.hop} at {spec.sample_rate} Hz: give model.dim={spec.dim}, model.rates with a product "
            f"of {spec.hop}, and model.sample_rate={spec.sample_rate}"
        )
    return source


def _trainer(
    settings: VocoderSettings, objective: Vocoding, begun_with: str, out: Path, world: World, overwrite: bool
) -> Trainer:
    asked = settings.data
    source = speech_source(settings, asked.train, asked.frames, out, world)
    assert source is not None  # the settings have seen to it
    tried = speech_source(settings, asked.valid, asked.valid_frames, out, world)
    if tried is not None:
        source.spec.require_equal(tried.spec, "the frames to learn from", "those to validate on")

    def export(weights: dict[str, Tensor], folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        write_detokenizer(trained_vocoder(settings, weights, source.spec, folder), folder / VOCODER_FILE)

    def write_settings() -> None:
        write_header(out / "settings.json", {"format": "vocable.settings/1", **plain_values(asdict(settings))})

    return Trainer(
        objective=objective,
        blocks=list(objective.generator.stages),
        data=VocoderData(source, settings.batches, settings.training.seed),
        micro_batches=settings.batches.micro_batches,
        validation=None if tried is None else VocoderData(tried, settings.batches, _VALIDATION_SEED),
        settings=settings.training,
        world=world,
        folder=out,
        identity=_identity(settings, source, begun_with),
        leaves_out=True,  # each turn, the parameters of the other's
        overwrite=overwrite,
        hooks=Hooks(export=export, begun=write_settings),
    )


def trained_vocoder(
    settings: VocoderSettings, weights: dict[str, Tensor], spec: FeatureSpec, path: Path
) -> DetokenizerCheckpoint:
    """Return the generator, its weights plain, to be written."""
    prefix = f"{GENERATOR}."
    own = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
    tensors = {f"vocoder.{name}": tensor.contiguous() for name, tensor in folded(own).items()}
    return DetokenizerCheckpoint(path, None, settings.model, tensors, spec)


def _identity(settings: VocoderSettings, source: SpeechSource, begun_with: str) -> Header:
    codebooks, detokenizer = settings.data.codebooks, settings.data.detokenizer
    return {
        "objective": "vocoder", "model": plain_values(asdict(settings.model)), "vocoding": asdict(settings.vocoding),
        "discriminators": plain_values(asdict(settings.discriminators)), "batches": asdict(settings.batches),
        "data": source.digest, "frames": source.spec.digest, "init": begun_with,
        "codebooks": None if codebooks is None else read_fleet(codebooks).digest,
        "detokenizer": None if detokenizer is None else read_detokenizer(detokenizer).digest,
    }  # fmt: skip
