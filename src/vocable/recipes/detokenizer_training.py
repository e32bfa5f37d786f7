"""One training of a detokenizer: frames looked over, a model begun, trained and written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from vocable.anonymization.cepstra import SPEC, cepstra_of
from vocable.anonymization.detokenization import Detokenization
from vocable.anonymization.detokenizer_data import DetokenizerData, FrameSource
from vocable.anonymization.speech_parts import HOP, taken_apart
from vocable.artefacts.headers import write_header
from vocable.audio.decoding import read_waveform
from vocable.checkpoints.detokenizers import DETOKENIZER_FILE, DetokenizerCheckpoint, write_detokenizer
from vocable.clustering.fleets import Fleet, read_fleet
from vocable.errors import InputError, MismatchError
from vocable.execution.engine import Engine, Work
from vocable.features.kaldi import Frames
from vocable.recipes.corpus import CorpusSettings, open_corpus, require_source, require_usable
from vocable.recipes.detokenizer_settings import DetokenizerSettings
from vocable.recipes.detokenizer_tokens import looked_up
from vocable.recipes.frame_stores import dumped_frames
from vocable.recipes.training_run import plain_values, run_in
from vocable.recipes.workplace import open_workplace
from vocable.training.seeds import derived_seed
from vocable.training.trainer import Hooks, Trainer
from vocable.training.world import World, joined

_VALIDATION_SEED = 7
_KEPT = 1 << 30  # bytes of cepstra that are made once


def train_detokenizer(
    settings: DetokenizerSettings, out: Path, device: str = "cpu", threads: int | None = None, overwrite: bool = False
) -> Path:
    """Train a detokenizer, or go on with it, and return its file.

    Args:
        settings: of the training.
        out: the run's folder: settings.json, metrics.jsonl, checkpoints, best and model.
        device: `cpu`, `cuda`, `cuda:1` or `mps`.
        threads: of this process on the CPU; by default all cores.
        overwrite: begin anew where another training stands.

    Raises:
        InputError: something given can't be used.
        MismatchError: frames and codebooks are of different kinds.
        DiskFullError: a checkpoint can't be written; the one before it stands.
    """
    with joined(device) as world:
        if world.size > 1:
            raise InputError("a detokenizer's batch norm sees one process's batches alone: train it with one process")
        fleets = _fleets(settings)
        objective = begun_detokenizer(settings, fleets)
        with run_in(out, world, threads):
            _trainer(settings, objective, fleets, out, world, overwrite).run()
    return out / "model" / DETOKENIZER_FILE


def begun_detokenizer(settings: DetokenizerSettings, fleets: Sequence[Fleet]) -> Detokenization:
    """Return the model as its training begins.

    Args:
        settings: of the training.
        fleets: codebooks that frames are looked up in.

    Raises:
        MismatchError: it is for frames of another size than the codebooks'.
    """
    _require_size(settings, fleets[0])
    torch.manual_seed(derived_seed(settings.training.seed))
    return Detokenization(settings.model, fleets, settings.detokenization)


def _fleets(settings: DetokenizerSettings) -> list[Fleet]:
    """Return the codebooks to learn from, and those to validate with, if they are others."""
    fleet, others = read_fleet(settings.codebooks), settings.data.valid_codebooks
    if others is None:
        return [fleet]
    valid = read_fleet(others)
    if valid.dim != fleet.dim or valid.groups != fleet.groups:
        raise MismatchError(f"{others} has codebooks of other frames than {settings.codebooks}: give such of the same ones")
    return [fleet, valid]


def _require_size(settings: DetokenizerSettings, fleet: Fleet) -> None:
    if settings.model.values != fleet.dim:
        raise MismatchError(
            f"the model is for frames of {settings.model.values} values, but the codebooks have {fleet.dim}: give "
            f"model.features={fleet.dim}"
        )


def _trainer(
    settings: DetokenizerSettings,
    objective: Detokenization,
    fleets: Sequence[Fleet],
    out: Path,
    world: World,
    overwrite: bool,
) -> Trainer:
    asked = settings.data

    def data(audio: Path | None, frames: Path | None, seed: int, number: int = 0) -> tuple[DetokenizerData, str] | None:
        fleet = fleets[number]
        if audio is not None:
            source = _of_audio(audio, fleet, asked.speakers, out)
        elif frames is not None:
            source = _of_stores(frames, fleet, asked.speakers)
        else:
            return None
        made = looked_up(source, fleet, open_workplace(out)) if asked.policy == "own" else None
        masked = settings.detokenization.masked
        return DetokenizerData(source, fleet, asked.policy, settings.batches, masked, seed, made, number), source.digest

    learnt = data(asked.train, asked.frames, settings.training.seed)
    assert learnt is not None  # the settings have seen to it
    train, digest = learnt
    tried = data(asked.valid, asked.valid_frames, _VALIDATION_SEED, len(fleets) - 1)
    valid = None if tried is None else tried[0]

    def export(weights: dict[str, Tensor], folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint = DetokenizerCheckpoint(folder, settings.model, None, weights, fleets[0].spec)
        write_detokenizer(checkpoint, folder / DETOKENIZER_FILE)

    def write_settings() -> None:
        write_header(out / "settings.json", {"format": "vocable.settings/1", **plain_values(asdict(settings))})

    described = {
        "objective": "detokenizer", "model": asdict(settings.model), "batches": asdict(settings.batches), "data": digest,
        "detokenization": asdict(settings.detokenization), "codebooks": fleets[0].digest, "policy": settings.data.policy,
    }  # fmt: skip
    return Trainer(
        objective=objective,
        blocks=list(objective.conformer.layers),
        data=train,
        micro_batches=settings.batches.micro_batches,
        validation=valid,
        settings=settings.training,
        world=world,
        folder=out,
        identity=described,
        overwrite=overwrite,
        hooks=Hooks(export=export, begun=write_settings),
    )


def _of_audio(source: Path, fleet: Fleet, speakers: str | None, out: Path) -> FrameSource:
    """Return the cepstra of audio, which are made as they are needed, and kept as far as memory should go."""
    fleet.require(SPEC)
    require_source(source)
    with Engine(Work()) as engine:
        opened = open_corpus(source, CorpusSettings(speakers=speakers), engine, open_workplace(out))
    require_usable(opened, source)
    manifest = opened.manifest
    lengths = -(-manifest.samples // HOP)
    kept: dict[int, Frames] | None = {} if int(lengths.sum()) * SPEC.dim * 4 <= _KEPT else None

    def frames(row: int) -> Frames:
        if kept is not None and row in kept:
            return kept[row]
        item = manifest[row]
        parts = taken_apart(read_waveform(manifest.where(item), SPEC.sample_rate, item.channel))
        found = cepstra_of(parts, parts.mean)
        if kept is not None:
            kept[row] = found
        return found

    return FrameSource(manifest.ids, [item.speaker for item in manifest], lengths, SPEC.rate, frames, manifest.digest)


def _of_stores(folder: Path, fleet: Fleet, speakers: str | None) -> FrameSource:
    """Return frames that were dumped."""
    found = dumped_frames(folder, speakers, None if fleet.spec is None else fleet.spec.rate)
    for spec in found.specs:
        fleet.require(spec)
    return found.source


def check_detokenizer(settings: DetokenizerSettings) -> None:
    """Refuse what a training would refuse; nothing is written.

    Raises:
        InputError: something given can't be used.
        MismatchError: codebooks and model are of different frames.
    """
    _require_size(settings, _fleets(settings)[0])
    for source in (settings.data.train, settings.data.valid):
        if source is not None:
            require_source(source)
