"""What a job would take: hours, bytes, memory and time, from headers and a short measurement."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vocable.audio.blocks import blocks_of
from vocable.audio.decoding import read_waveform
from vocable.audio.faults import AudioFault, count_reasons
from vocable.audio.manifest import Manifest
from vocable.audio.speakers import split
from vocable.clustering.codebook import Codebook
from vocable.execution.engine import Engine, Work
from vocable.execution.progress import duration
from vocable.features.encoder_layer import EncoderFile
from vocable.features.extractors import extractor_of
from vocable.features.normalization import takes_speakers
from vocable.features.pipeline import FramePipeline
from vocable.features.store import StoredFrames
from vocable.recipes.codebooks import claim_with_audio, claim_with_stores
from vocable.recipes.corpus import Corpus, CorpusSettings, open_corpus, require_usable
from vocable.recipes.dumped import origin_of
from vocable.recipes.fitting import FitSettings, require_frames_for, sampled_rows, sampled_utterances
from vocable.recipes.frames import FrameChoice, base_made, require_speakers_for, spec_of
from vocable.recipes.label_preparation import Preparation, claim_on
from vocable.recipes.manifests import Splitting
from vocable.recipes.pitch_labels import open_for_pitch, pitch_pipeline, require_pitch_rate
from vocable.recipes.syllable_segments import SyllableJob
from vocable.units.units import unit_type

_PROBE_SECONDS = 30.0  # of audio: a few hundredths of a second of work
WORKER_BYTES = 150 << 20  # Python, NumPy and a block in flight
OPERATIONS_PER_SECOND = 20e9  # multiplications of k-means and of labelling on a core
_READING = 500e6  # bytes of dumped frames a second, from a disk
_PROBED_SECONDS = 15.0
TORCH_BYTES = 500 << 20
PASSES = 24  # of k-means over all frames of its sample, those over parts of it included
_HELD = 4 << 30  # bytes of frames that a fit keeps
_ROW_BYTES = 80  # of a manifest
_SYLLABLES = 4.7  # a second, of SD-HuBERT's
_PITCH_DIGITS = 3  # bytes of a frame in .f0, its blank included
_RUN = 2.2  # frames until the unit changes, for MFCC and 100 clusters


@dataclass(frozen=True)
class Plan:
    """An estimate."""

    utterances: int
    frames: int | None
    """None where no frames are made."""
    written: int
    """Bytes."""
    memory: int
    """Bytes."""
    time: float
    """Seconds, of the part of the work this run does."""
    seconds: float | None = None
    """Of audio; None where frames don't say how many they stand for."""
    skipped: dict[str, int] | None = None
    """Left out by their headers; None where no audio is looked at."""
    part: str = ""
    """Which part of the work that is, if it is cut."""
    done: bool = False
    """The results stand there already."""

    def rows(self) -> dict[str, Any]:
        """Return what to show: name → value."""
        rows: dict[str, Any] = {"usable utterances": self.utterances}
        if self.skipped is not None:
            counts = ", ".join(f"{count} {reason}" for reason, count in self.skipped.items())
            rows["left out by their headers"] = counts or "none"
        if self.seconds is not None:
            rows["hours of audio"] = self.seconds / 3600
        if self.frames is not None:
            rows["frames"] = self.frames
        if self.done:
            return {**rows, "time": "none: done already"}
        return {
            **rows,
            "writes": f"about {_size(self.written)}",
            "memory": f"about {self.memory / 2**30:.2f} GiB",
            f"time{self.part}": f"about {duration(self.time)}",
        }


def plan_manifest(source: Path, settings: CorpusSettings, splitting: Splitting, work: Work) -> Plan:
    """Say what a manifest would list; headers are read for that, which is all the work there is."""
    splitting.require_speakers(source, settings)
    begun = time.monotonic()
    opened = opened_alone(source, settings, work)
    taken = time.monotonic() - begun
    manifest = opened.manifest
    split(manifest, splitting.valid_percent, splitting.seed, splitting.by_speaker)  # says now what is wrong with it
    return Plan(
        utterances=len(manifest),
        frames=None,
        written=len(manifest) * _ROW_BYTES,
        memory=work.here * WORKER_BYTES,
        time=taken / work.nshard,
        seconds=manifest.seconds,
        skipped=count_reasons(opened.skipped),
        part=part_of(work),
    )


def plan_labels(source: Path, out: Path, settings: Preparation, work: Work, overwrite: bool = False) -> Plan:
    """Estimate a fit and the labels of all audio; nothing is written.

    Raises:
        InputError: what the work itself would refuse, results of something else in `out` among it.
    """
    frames, fit = settings.frames, settings.fit
    settings.require_speakers(source)
    opened = _opened_for(frames, source, settings.corpus, work)
    _, claim = claim_on(out, opened, settings, work)
    claim.check(overwrite, source)
    plan = _plan(opened, _pipeline(frames, settings.corpus), work, 1, _statistics(frames), fit, fit.clusters, settings.forms)
    return replace(plan, done=claim.is_settled())


def plan_fit(
    source: Path, out: Path, corpus: CorpusSettings, frames: FrameChoice, fit: FitSettings, work: Work, overwrite: bool = False
) -> Plan:
    """Estimate a fit alone.

    Raises:
        InputError: what the fit itself would refuse, a codebook of something else at `out` among it.
    """
    opened = _opened_for(frames, source, corpus, work)
    claim = claim_with_audio(out, fit, corpus, frames, opened, work)
    claim.check(overwrite, source)
    return replace(_plan(opened, _pipeline(frames, corpus), work, 0, _statistics(frames), fit), done=claim.is_settled())


def plan_units(
    source: Path,
    corpus: CorpusSettings,
    codebook: Codebook,
    work: Work,
    forms: Sequence[str] = (".km",),
    encoder: EncoderFile | None = None,
) -> Plan:
    """Estimate the labels of audio with a codebook that is there, in some forms.

    Raises:
        MismatchError: the codebook doesn't say what frames it is for, or they aren't the encoder's.
    """
    spec = spec_of(codebook)
    base = base_made(spec, encoder)
    opened = opened_alone(source, replace(corpus, sample_rate=spec.sample_rate), work)
    require_speakers_for(codebook.normalization.scope, opened.manifest)
    pipeline = FramePipeline(base, context=spec.context, encoder=encoder)
    statistics = int(codebook.normalization.by_speaker and not codebook.normalization.speakers)
    return _plan(opened, pipeline, work, 1, statistics, clusters=len(codebook), forms=forms)


def plan_syllables(source: Path, job: SyllableJob, work: Work) -> Plan:
    """Estimate what cutting audio into syllables takes.

    Raises:
        InputError: what the work itself would refuse.
    """
    corpus = replace(job.corpus, sample_rate=job.spec.sample_rate)
    opened = opened_alone(source, corpus, work)
    deepest = job.encoder.spec(max(job.segment.layer, job.segment.voicing.layer))
    pipeline = FramePipeline(deepest, encoder=job.encoder)
    manifest, width = opened.manifest, 4 * deepest.dim
    frames = sum(deepest.frame_count(samples) for samples in manifest.samples.tolist())
    segment = sum(
        size
        for form, size in {"txt": 15, "features": width, "textgrid": 110, "audacity": 20, "jsonl": 14}.items()
        if form in job.forms
    )
    return Plan(
        utterances=len(manifest),
        frames=frames,
        written=round(_SYLLABLES * manifest.seconds * segment) + frames * width * ("frames" in job.forms),
        memory=work.here * _worker_bytes(pipeline),
        time=manifest.seconds / work.nshard / measured_rate(manifest, pipeline) / work.here,
        seconds=manifest.seconds,
        skipped=count_reasons(opened.skipped),
        part=part_of(work),
    )


def plan_dump(source: Path, corpus: CorpusSettings, frames: FrameChoice, work: Work) -> Plan:
    """Estimate a dump of frames."""
    opened = _opened_for(frames, source, corpus, work)
    return _plan(opened, _pipeline(frames, corpus), work, 1, _statistics(frames))


def plan_pitch(source: Path, corpus: CorpusSettings, work: Work) -> Plan:
    """Estimate the pitch of audio, and its labels.

    Raises:
        InputError: the library that finds it isn't there.
    """
    require_pitch_rate(source, corpus)
    pipeline = pitch_pipeline()
    with tempfile.TemporaryDirectory() as folder, Engine(work) as engine:
        _, heard = open_for_pitch(source, corpus, engine, Path(folder))
    plan = _plan(heard, pipeline, work, 1, 0)
    return replace(plan, written=plan.written + _PITCH_DIGITS * (plan.frames or 0) // work.nshard)


def plan_stored_fit(stores: Sequence[StoredFrames], out: Path, fit: FitSettings, work: Work, overwrite: bool = False) -> Plan:
    """Estimate a fit to dumped frames.

    Raises:
        InputError: what the fit itself would refuse, a codebook of something else at `out` among it.
    """
    claim = claim_with_stores(out, fit, stores, work)
    claim.check(overwrite)
    held = int(np.concatenate([store.lengths for store in stores])[sampled_utterances(stores, fit)].sum())
    require_frames_for(held, fit.clusters)
    dim = stores[0].dim
    seconds = held * dim * (4 / _READING + PASSES * fit.clusters / OPERATIONS_PER_SECOND / work.here)
    plan = _stored_plan(stores, work, fit.clusters * dim * 4, 3 * 4 * held * dim, seconds)
    return replace(plan, done=claim.is_settled())


def plan_stored_units(stores: Sequence[StoredFrames], codebook: Codebook, work: Work, forms: Sequence[str] = (".km",)) -> Plan:
    """Estimate the labels of dumped frames, in some forms."""
    frames, dim = sum(len(store.array) for store in stores), stores[0].dim
    seconds = frames * dim * (4 / _READING + len(codebook) / OPERATIONS_PER_SECOND / work.here)
    return _stored_plan(stores, work, _label_bytes(frames, len(codebook), forms), 0, seconds / work.nshard, part_of(work))


def _stored_plan(stores: Sequence[StoredFrames], work: Work, written: int, held: int, seconds: float, part: str = "") -> Plan:
    frames, spec = sum(len(store.array) for store in stores), origin_of(stores[0].path).spec
    return Plan(
        utterances=sum(map(len, stores)),
        frames=frames,
        written=written,
        memory=work.here * WORKER_BYTES + held,
        time=seconds,
        seconds=None if spec is None else frames / spec.rate,
        part=part,
    )


def opened_alone(source: Path, corpus: CorpusSettings, work: Work) -> Corpus:
    """Return the usable audio; what that takes is kept nowhere.

    Raises:
        InputError: there is none.
    """
    with tempfile.TemporaryDirectory() as folder, Engine(work) as engine:
        opened = open_corpus(source, corpus, engine, Path(folder))
    require_usable(opened, source)
    return opened


def _opened_for(frames: FrameChoice, source: Path, corpus: CorpusSettings, work: Work) -> Corpus:
    """Return the usable audio, if frames of the choice can be made of it."""
    frames.require_speakers(source, corpus)
    opened = opened_alone(source, corpus, work)
    require_speakers_for(frames.normalize, opened.manifest)
    return opened


def _pipeline(frames: FrameChoice, corpus: CorpusSettings) -> FramePipeline:
    return FramePipeline(frames.base(corpus.sample_rate), context=frames.context, encoder=frames.encoder_file)


def _statistics(frames: FrameChoice) -> int:
    """Return how often all audio is gone through for statistics."""
    return int(frames.normalize == "corpus" or takes_speakers(frames.normalize))


def part_of(work: Work) -> str:
    """Return which part of the work is meant, in words."""
    return f" of part {work.rank} of {work.nshard}" if work.nshard > 1 else ""


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count / 1e3:,.1f} kB"


def _label_bytes(frames: int, clusters: int, forms: Sequence[str]) -> int:
    """Return how much labels take in some forms, and in the ledger, which holds them until the work folder is removed."""
    digits, binary = len(str(clusters - 1)), np.dtype(unit_type(clusters)).itemsize
    sizes = {".km": digits + 1, ".units": binary, ".rle": (digits + 3) / _RUN}
    sizes |= {".units.jsonl": digits + 1, ".units.parquet": binary, ".rttm": 60 / _RUN, ".TextGrid": 110 / _RUN}
    return round(frames * (binary + sum(sizes[form] for form in forms)))


def _plan(
    opened: Corpus,
    pipeline: FramePipeline,
    work: Work,
    cut: int,
    whole: float,
    fit: FitSettings | None = None,
    clusters: int | None = None,
    forms: Sequence[str] = (),
) -> Plan:
    """Estimate; without clusters, frames are written unless something is fitted.

    Args:
        opened: the audio.
        pipeline: makes the frames; how they are normalised doesn't matter here.
        work: where it runs.
        cut: passes over the audio that the parts of the work share.
        whole: passes that each part makes.
        fit: what is fitted, by each part.
        clusters: of the labels that are written.
        forms: of the labels.
    """
    manifest, spec = opened.manifest, pipeline.spec
    frames = sum(spec.frame_count(samples) for samples in manifest.samples.tolist())
    held, fitting = 0, 0.0
    if fit is not None:
        chosen = sampled_rows(manifest, spec, fit)
        held = sum(spec.frame_count(int(manifest.samples[row])) for row in chosen)
        if len(chosen) == len(manifest) and 4 * held * spec.dim <= _HELD:
            cut = 0  # the fit finds the labels of what it is fitted to, and few frames are left to label
        require_frames_for(held, fit.clusters)
        whole += held / max(frames, 1)
        fitting = PASSES * held * spec.dim * fit.clusters / OPERATIONS_PER_SECOND
    if clusters is not None:
        written = _label_bytes(frames, clusters, forms)
    else:
        written = frames * spec.dim * 4 if fit is None else fit.clusters * spec.dim * 4
    seconds = (whole + cut / work.nshard) * manifest.seconds / measured_rate(manifest, pipeline) + fitting
    return Plan(
        utterances=len(manifest),
        frames=frames,
        written=written,
        memory=work.here * _worker_bytes(pipeline) + 3 * 4 * held * spec.dim,
        time=seconds / work.here,
        seconds=manifest.seconds,
        skipped=count_reasons(opened.skipped),
        part=part_of(work),
    )


def _worker_bytes(pipeline: FramePipeline) -> int:
    """Return what a worker takes: with an encoder, torch, and the weights as they are read and as they are used."""
    encoder = pipeline.encoder
    return WORKER_BYTES if encoder is None else WORKER_BYTES + TORCH_BYTES + 2 * encoder.checkpoint().bytes


def _encoder_rate(manifest: Manifest, pipeline: FramePipeline) -> float:
    """Return seconds of audio that a worker takes through an encoder in a second, from the first utterance that can be read.

    It is the processor's; a GPU is faster.
    """
    extract = extractor_of(pipeline.base, "cpu", pipeline.encoder)
    most = int(_PROBED_SECONDS * manifest.sample_rate)
    for utterance in manifest:
        try:
            waveform = read_waveform(manifest.where(utterance), pipeline.base.sample_rate, utterance.channel)[:most]
        except AudioFault:
            continue
        extract([waveform[: len(waveform) // 4]])  # the first run also loads what the second needs
        begun = time.perf_counter()
        extract([waveform])
        return max(len(waveform) / pipeline.base.sample_rate, 1e-3) / max(time.perf_counter() - begun, 1e-6)
    return 1.0


def measured_rate(manifest: Manifest, pipeline: FramePipeline) -> float:
    """Return seconds of audio that a worker turns into frames in a second, from the first utterances."""
    if pipeline.encoder is not None:
        return _encoder_rate(manifest, pipeline)
    run = pipeline.open("cpu")
    for block in blocks_of(manifest, _PROBE_SECONDS):
        run(block)  # the first run also loads what the second needs
        begun = time.perf_counter()
        run(block)
        return max(block.size, 1e-3) / max(time.perf_counter() - begun, 1e-6)
    return 1000.0
