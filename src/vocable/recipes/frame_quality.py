"""What frames are worth: units fitted on one corpus and scored on another, and what a linear probe reads out of them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocable.audio.blocks import Block, blocks_of
from vocable.audio.manifest import Manifest
from vocable.audio.speakers import hash_fraction
from vocable.clustering.assignment import NearestCentroid
from vocable.clustering.kmeans import KMeans
from vocable.errors import InputError
from vocable.evaluation.joint_counts import JointCounts
from vocable.evaluation.linear_probe import LinearProbe
from vocable.evaluation.unit_quality import without_stress
from vocable.execution.engine import Engine, Work
from vocable.execution.progress import progress
from vocable.features.kaldi import Frames
from vocable.features.normalization import takes_speakers
from vocable.features.pipeline import FramePipeline
from vocable.recipes.corpus import CorpusSettings, open_corpus, require_usable
from vocable.recipes.frames import FrameChoice, pipeline_for
from vocable.recipes.scoring import Truth
from vocable.timelines.alignments import Alignments


@dataclass(frozen=True, kw_only=True)
class QualitySettings:
    """How frames are scored.

    Raises:
        InputError: a part is none.
    """

    clusters: int = 100
    """Units."""
    seeds: int = 3
    """k-means is fitted so many times."""
    every: int = 1
    """Take one frame in so many, as 2 to compare frames of 10 ms with frames of 20 ms."""
    frames: int = 500_000
    """Frames at most that units and probe are fitted to, drawn from all utterances alike."""
    also: tuple[int, ...] = ()
    """Other numbers of units, which are scored as well."""

    def __post_init__(self) -> None:
        if any(count < 1 for count in self.also):
            raise InputError(f"numbers of units {self.also}: give 1 or more")
        for name in ("clusters", "seeds", "every", "frames"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name} {getattr(self, name)}: give 1 or more")


@dataclass(frozen=True)
class UnitQuality:
    """The scores of units, for each seed of k-means."""

    pnmi: tuple[float, ...]
    phone_purity: tuple[float, ...]

    def rows(self) -> dict[str, Any]:
        """Return the means over seeds, and how far they spread."""
        return {
            "pnmi": float(np.mean(self.pnmi)),
            "pnmi_least": min(self.pnmi),
            "pnmi_most": max(self.pnmi),
            "phone_purity": float(np.mean(self.phone_purity)),
        }


@dataclass(frozen=True)
class FrameQuality:
    """The scores of one kind of frames."""

    frames: int
    """That were scored."""
    units: UnitQuality
    probe_accuracy: float
    """Of a linear probe."""
    also: dict[int, UnitQuality]
    """Of other numbers of units."""

    def rows(self) -> dict[str, Any]:
        """Return the means over seeds, and how far they spread."""
        more = {"also": {str(count): made.rows() for count, made in self.also.items()}} if self.also else {}
        return {**self.units.rows(), "probe_accuracy": self.probe_accuracy, "frames": self.frames, **more}


def score_frames(
    fitted: Path, scored: Path, choice: FrameChoice, truth: Truth, settings: QualitySettings, corpus: CorpusSettings, work: Work
) -> FrameQuality:
    """Fit units and a linear probe on one corpus, and score them on another.

    Args:
        fitted: a folder of audio or a manifest. Units are fitted to all of it, the probe to what has alignments.
        scored: another; what has no alignment is left out.
        choice: which frames.
        truth: phones of both.
        settings: how many units, seeds and frames.
        corpus: which audio is taken.
        work: where it runs.

    Raises:
        InputError: a corpus has no usable audio or no alignments, or there are fewer frames than units.
    """
    truth.check()
    base = choice.base(corpus.sample_rate)
    alignments = Alignments(truth.alignments, truth.tier, truth.rate or base.rate, base.frame_time(0))
    with tempfile.TemporaryDirectory() as folder, Engine(work) as engine:
        learnt, heard = (open_corpus(source, corpus, engine, Path(folder)) for source in (fitted, scored))
        for opened, source in ((learnt, fitted), (heard, scored)):
            require_usable(opened, source)
        own, other = learnt.manifest, _aligned(heard.manifest, alignments)
        pipeline = theirs = pipeline_for(choice, corpus.sample_rate, own, engine, Path(folder))
        if takes_speakers(choice.normalize):
            theirs = pipeline_for(choice, corpus.sample_rate, other, engine, Path(folder))
        made = _made(own, pipeline, settings, alignments, engine, "frames to fit")
        wanted = _made(other, theirs, replace(settings, frames=1 << 60), alignments, engine, "frames to score")
    most = max((settings.clusters, *settings.also))
    if len(made.frames) < most:
        raise InputError(f"{fitted} gives {len(made.frames)} frames, fewer than the {most} units wanted: take fewer")
    spoken = [at for at, phone in enumerate(wanted.phones) if phone is not None]
    phones = [without_stress(wanted.phones[at] or "") for at in spoken]
    frames = wanted.frames[spoken]
    with progress("k-means", float(settings.seeds * (1 + len(settings.also))), "fits") as shown:

        def quality_of(clusters: int) -> UnitQuality:
            pnmi, purity = [], []
            for seed in range(settings.seeds):
                model = KMeans(clusters, random_state=seed, workers=work.here, device=work.device_here).fit(made.frames)
                units = NearestCentroid(model.cluster_centers_.astype(np.float32))(frames)
                counts = JointCounts.of([(phones, units)], clusters)
                pnmi.append(counts.pnmi())
                purity.append(counts.phone_purity())
                shown.advance(1.0)
            return UnitQuality(tuple(pnmi), tuple(purity))

        asked = quality_of(settings.clusters)
        also = {clusters: quality_of(clusters) for clusters in settings.also}
    return FrameQuality(len(phones), asked, _probed(made, frames, phones, fitted), also)


def _probed(made: _Made, frames: Frames, phones: list[str], fitted: Path) -> float:
    known = [at for at, phone in enumerate(made.phones) if phone is not None]
    if not known:
        raise InputError(f"no utterance of {fitted} has an alignment, which a probe is fitted to: give alignments of some")
    probe = LinearProbe.fit(made.frames[known], [without_stress(made.phones[at] or "") for at in known])
    return float(np.mean([one == other for one, other in zip(probe(frames), phones, strict=True)]))


@dataclass(frozen=True)
class _Made:
    frames: Frames
    phones: list[str | None]
    """At the centre of each frame; None where nothing is known."""


def _made(
    manifest: Manifest, pipeline: FramePipeline, settings: QualitySettings, alignments: Alignments, engine: Engine, title: str
) -> _Made:
    spec = pipeline.spec
    total = sum(spec.frame_count(samples) for samples in manifest.samples.tolist()) // settings.every
    job = _Draw(pipeline, settings.every, min(1.0, settings.frames / max(total, 1)))
    frames: list[Frames] = []
    phones: list[str | None] = []
    with progress(title, manifest.seconds) as shown:
        for outcome in engine.run_shards(job, list(blocks_of(manifest))):
            shown.advance(outcome.shard.size)
            for row, places, own in outcome.result or []:
                frames.append(own)
                timeline = alignments.find(outcome.shard.utterances[row].id)
                phones += [None] * len(places) if timeline is None else timeline.labels_at(spec.frame_times(places))
    return _Made(np.concatenate(frames) if frames else np.empty((0, spec.dim), np.float32), phones)


@dataclass(frozen=True)
class _Draw:
    """A job: one in so many of the frames of a block's utterances, of which a part is drawn."""

    pipeline: FramePipeline
    every: int
    fraction: float

    def open(self, device: str) -> Callable[[Block], list[tuple[int, NDArray[np.intp], Frames]]]:
        frames_of = self.pipeline.open(device)

        def run(block: Block) -> list[tuple[int, NDArray[np.intp], Frames]]:
            made = frames_of(block)
            drawn = []
            for row, frames in zip(made.rows, made.frames, strict=True):
                places = np.arange(0, len(frames), self.every)
                if self.fraction < 1:
                    first = int(hash_fraction(0, block.utterances[row].id) * (1 << 56))
                    places = places[np.random.default_rng(first).random(len(places)) < self.fraction]
                drawn.append((row, places, frames[places]))
            return drawn

        return run


def _aligned(manifest: Manifest, alignments: Alignments) -> Manifest:
    rows = [row for row, utterance in enumerate(manifest.ids) if alignments.find(utterance) is not None]
    if not rows:
        raise InputError(f"none of the {len(manifest)} utterances to score has an alignment in {alignments.path}")
    return manifest.select(rows)
