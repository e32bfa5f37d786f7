"""What a job would take: hours, bytes, memory and time, from headers and a short measurement."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vocable.artefacts.feature_spec import FeatureSpec
from vocable.audio.blocks import blocks_of
from vocable.audio.faults import count_reasons
from vocable.audio.manifest import Manifest
from vocable.audio.speakers import split
from vocable.clustering.codebook import Codebook
from vocable.execution.engine import Engine, Work
from vocable.execution.progress import duration
from vocable.features.pipeline import FramePipeline
from vocable.recipes.corpus import CorpusSettings, open_corpus, require_usable
from vocable.recipes.fitting import FitSettings, sampled_rows
from vocable.recipes.frames import FrameChoice, spec_of
from vocable.recipes.label_preparation import Preparation

_PROBE_SECONDS = 30.0  # of audio: a few hundredths of a second of work
_WORKER_BYTES = 150 << 20  # Python, NumPy and a block in flight
_FIT_OPERATIONS_PER_SECOND = 20e9  # multiplications of k-means on a core, over all its passes
_PASSES = 12


@dataclass(frozen=True)
class Plan:
    """An estimate."""

    manifest: Manifest
    skipped: dict[str, int]
    frames: int
    written: int
    """Bytes."""
    memory: int
    """Bytes."""
    time: float
    """Seconds, of the part of the work this run does."""
    part: str = ""
    """Which part of the work that is, if it is cut."""

    def rows(self) -> dict[str, Any]:
        """Return what to show: name → value."""
        return {
            "usable utterances": len(self.manifest),
            "left out by their headers": ", ".join(f"{count} {reason}" for reason, count in self.skipped.items()) or "none",
            "hours of audio": self.manifest.seconds / 3600,
            "frames": self.frames,
            "writes": f"about {self.written / 1e6:,.1f} MB",
            "memory": f"about {self.memory / 2**30:.2f} GiB",
            f"time{self.part}": f"about {duration(self.time)}",
        }


def plan_labels(source: Path, settings: Preparation, work: Work) -> Plan:
    """Estimate a fit and the labels of all audio; nothing is written."""
    frames, fit = settings.frames, settings.fit
    plan = _plan(source, settings.corpus, _spec(frames, settings.corpus), work, 1, _statistics(frames), fit, fit.clusters)
    split(plan.manifest, settings.valid_percent, fit.seed, settings.by_speaker)  # says now what is wrong with it
    return plan


def plan_fit(source: Path, corpus: CorpusSettings, frames: FrameChoice, fit: FitSettings, work: Work) -> Plan:
    """Estimate a fit alone."""
    return _plan(source, corpus, _spec(frames, corpus), work, 0, _statistics(frames), fit)


def plan_units(source: Path, corpus: CorpusSettings, codebook: Codebook, work: Work) -> Plan:
    """Estimate the labels of audio with a codebook that is there.

    Raises:
        MismatchError: the codebook doesn't say what frames it is for.
    """
    spec = spec_of(codebook)
    corpus = replace(corpus, sample_rate=spec.sample_rate)
    by_speaker = codebook.normalization.scope == "speaker"
    return _plan(source, corpus, spec, work, 1, int(by_speaker), clusters=len(codebook))


def plan_dump(source: Path, corpus: CorpusSettings, frames: FrameChoice, work: Work) -> Plan:
    """Estimate a dump of frames."""
    return _plan(source, corpus, _spec(frames, corpus), work, 1, _statistics(frames))


def _spec(frames: FrameChoice, corpus: CorpusSettings) -> FeatureSpec:
    return FramePipeline(frames.base(corpus.sample_rate), context=frames.context).spec


def _statistics(frames: FrameChoice) -> int:
    """Return how often all audio is gone through for statistics."""
    return int(frames.normalize in ("corpus", "speaker"))


def _plan(
    source: Path,
    corpus: CorpusSettings,
    spec: FeatureSpec,
    work: Work,
    cut: int,
    whole: float,
    fit: FitSettings | None = None,
    clusters: int | None = None,
) -> Plan:
    """Estimate; without clusters, frames are written unless something is fitted.

    Args:
        source: of the audio.
        corpus: which of it.
        spec: of the frames.
        work: where it runs.
        cut: passes over the audio that the parts of the work share.
        whole: passes that each part makes.
        fit: what is fitted, by each part.
        clusters: of the labels that are written.
    """
    with tempfile.TemporaryDirectory() as folder, Engine(work) as engine:
        opened = open_corpus(source, corpus, engine, Path(folder))
    require_usable(opened, source)
    manifest = opened.manifest
    frames = sum(spec.frame_count(samples) for samples in manifest.samples.tolist())
    held, fitting = 0, 0.0
    if fit is not None:
        held = sum(spec.frame_count(int(manifest.samples[row])) for row in sampled_rows(manifest, spec, fit))
        whole += held / max(frames, 1)
        fitting = 2 * _PASSES * held * spec.dim * fit.clusters / _FIT_OPERATIONS_PER_SECOND
    if clusters is not None:
        written = frames * (len(str(clusters - 1)) + 1)
    else:
        written = frames * spec.dim * 4 if fit is None else fit.clusters * spec.dim * 4
    seconds = (whole + cut / work.nshard) * manifest.seconds / _measured_rate(manifest, spec) + fitting
    return Plan(
        manifest=manifest,
        skipped=count_reasons(opened.skipped),
        frames=frames,
        written=written,
        memory=work.workers * _WORKER_BYTES + 3 * 4 * held * spec.dim,
        time=seconds / work.workers,
        part=f" of part {work.rank} of {work.nshard}" if work.nshard > 1 else "",
    )


def _measured_rate(manifest: Manifest, spec: FeatureSpec) -> float:
    """Return seconds of audio that a worker turns into frames in a second, from the first utterances."""
    run = FramePipeline(spec.base, context=spec.context).open("cpu")
    for block in blocks_of(manifest, _PROBE_SECONDS):
        run(block)  # the first run also loads what the second needs
        begun = time.perf_counter()
        run(block)
        return max(block.size, 1e-3) / max(time.perf_counter() - begun, 1e-6)
    return 1000.0
