"""Which layer? One pass over the audio for all layers of an encoder, k-means for each, and what its units tell of phones."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocable.artefacts.feature_spec import FeatureSpec
from vocable.audio.blocks import Block, blocks_of
from vocable.audio.faults import Skipped, lost
from vocable.audio.manifest import Manifest
from vocable.audio.speakers import hash_fraction
from vocable.clustering.kmeans import KMeans
from vocable.errors import InputError
from vocable.evaluation.joint_counts import JointCounts
from vocable.evaluation.unit_quality import SILENCES, require_own, require_same_audio, without_stress
from vocable.execution.engine import Engine, Work
from vocable.execution.progress import progress
from vocable.features.encoder_layer import EncoderFile
from vocable.features.kaldi import Frames
from vocable.features.pipeline import FramePipeline, decoders_for
from vocable.features.windows import chunking_of
from vocable.models.taps import Tap
from vocable.recipes.corpus import CorpusSettings, open_corpus, require_source, require_usable
from vocable.recipes.scoring import Truth
from vocable.report.line_chart import line_chart
from vocable.timelines.alignments import Alignments

_CLOSE = 0.01  # PNMI; how far layers lie apart from one seed of k-means to the next


@dataclass(frozen=True, kw_only=True)
class LayerSettings:
    """How layers are compared."""

    layers: tuple[int, ...] = ()
    """Which, from 1; by default all."""
    clusters: int = 100
    """Units, for each layer's own k-means."""
    frames: int | None = None
    """Frames of each layer that are drawn, fitted to and scored; by default 20,000, or 100 a unit."""
    seed: int = 0
    """Of the draw and of k-means."""
    chunking: str = "windows"
    """How long audio goes through."""

    def __post_init__(self) -> None:
        if self.clusters < 1:
            raise InputError(f"--clusters {self.clusters}: at least 1 is needed")
        if self.frames is not None and self.frames < self.clusters:
            raise InputError(f"--frames {self.frames}: fewer than the {self.clusters} units; give more")

    @property
    def wanted(self) -> int:
        """Frames to draw."""
        return self.frames or max(20_000, 100 * self.clusters)


@dataclass(frozen=True)
class LayerScore:
    """What the units of a layer tell of phones."""

    layer: int
    phone_purity: float
    cluster_purity: float
    pnmi: float
    pnmi_without_silence: float


@dataclass(frozen=True)
class LayerScores:
    """The scores of some layers, and what to take."""

    scores: tuple[LayerScore, ...]
    frames: int
    """That were scored, of each layer."""
    utterances: int
    phones: int
    clusters: int
    skipped: list[Skipped] = field(default_factory=list)

    @property
    def best(self) -> LayerScore:
        """The layer with the highest PNMI."""
        return max(self.scores, key=lambda score: score.pnmi)

    @property
    def as_good(self) -> list[int]:
        """Other layers that are as good, as far as one k-means tells."""
        best = self.best
        return [score.layer for score in self.scores if score is not best and best.pnmi - score.pnmi < _CLOSE]

    @property
    def recommendation(self) -> str:
        """Which layer to take, in a sentence."""
        also = f"; as good, within {_CLOSE:g}: {', '.join(map(str, self.as_good))}" if self.as_good else ""
        return f"Take layer {self.best.layer}: PNMI {self.best.pnmi:.4f} with {self.clusters} units{also}."

    def picture(self, encoder: str = "") -> str:
        """Return the scores as a chart, SVG.

        Args:
            encoder: its name, for the title.
        """
        lines = {
            "PNMI": [(score.layer, score.pnmi) for score in self.scores],
            "PNMI without silence": [(score.layer, score.pnmi_without_silence) for score in self.scores],
            "phone purity": [(score.layer, score.phone_purity) for score in self.scores],
        }
        whose = f"{encoder}: " if encoder else ""
        title = f"{whose}{self.clusters} units of each layer, {self.frames:,} frames"
        return line_chart(title, "layer", lines, self.best.layer)

    def rows(self) -> dict[str, Any]:
        """Return the scores as JSON holds them."""
        return {
            "layers": [vars(score) for score in self.scores],
            "frames": self.frames,
            "utterances": self.utterances,
            "phones": self.phones,
            "clusters": self.clusters,
            "best": self.best.layer,
            "as_good": self.as_good,
        }


def score_layers(
    source: Path, encoder: EncoderFile, truth: Truth, settings: LayerSettings, corpus: CorpusSettings, work: Work
) -> LayerScores:
    """Compare the layers of an encoder: each gets a k-means of its own on the same frames, drawn from all utterances alike.

    Units are scored on the frames they were fitted to, as is done where layers are compared (HuBERT, section IV-G).

    Args:
        source: a folder of audio, or a manifest.
        encoder: whose layers.
        truth: phones; utterances without are left out.
        settings: which layers, and how.
        corpus: which audio is taken.
        work: where it runs.

    Raises:
        InputError: no utterance has an alignment, a layer doesn't exist, or there are fewer frames than units.
    """
    require_source(source)
    truth.check()
    Alignments(truth.alignments, truth.tier)  # says what is wrong with them before anything takes time
    depth = encoder.checkpoint().config.layers
    layers = tuple(sorted(set(settings.layers))) or tuple(range(1, depth + 1))
    spec = encoder.spec(layers[-1], chunking=settings.chunking)
    Tap(layers[0]).check(depth)
    alignments = Alignments(truth.alignments, truth.tier, truth.rate or spec.rate, spec.frame_time(0))
    with tempfile.TemporaryDirectory() as folder, Engine(work) as engine:
        opened = open_corpus(source, corpus, engine, Path(folder))
        require_usable(opened, source)
        manifest = _with_alignments(opened.manifest, spec, alignments)
        drawn = _drawn(manifest, spec, layers, encoder, settings, engine)
    phones = _phones(manifest, spec, drawn, alignments)
    silences = SILENCES | {item.lower() for item in truth.silence}
    kept = np.array([phone is not None for phone in phones], dtype=bool)
    names = [without_stress(phone) for phone in phones if phone is not None]
    if len(names) < settings.clusters:
        raise InputError(
            f"{len(names)} frames lie in intervals, fewer than the {settings.clusters} units wanted: take fewer, or more audio"
        )
    scores = []
    with progress("k-means", float(len(layers)), "layers") as shown:
        for place, layer in enumerate(layers):
            scores.append(_score(layer, drawn.frames[kept, place], names, settings, silences, work))
            shown.advance(1.0)
    spoken = {name for name in names if name.lower() not in silences}
    skipped = [*opened.skipped, *drawn.skipped]
    return LayerScores(tuple(scores), len(names), len(drawn.chosen), len(spoken), settings.clusters, skipped)


@dataclass(frozen=True)
class _Drawn:
    """Frames of all layers."""

    frames: NDArray[np.float32]
    """Of shape (frames, layers, dim)."""
    chosen: list[tuple[int, NDArray[np.intp]]]
    """Rows of the manifest, and which of their frames, in the same order."""
    skipped: list[Skipped]


def _drawn(
    manifest: Manifest, spec: FeatureSpec, layers: tuple[int, ...], encoder: EncoderFile, settings: LayerSettings, engine: Engine
) -> _Drawn:
    total = sum(spec.frame_count(samples) for samples in manifest.samples.tolist())
    job = _DrawFrames(FramePipeline(spec, encoder=encoder), layers, min(1.0, settings.wanted / max(total, 1)), settings.seed)
    frames: list[Frames] = []
    chosen: list[tuple[int, NDArray[np.intp]]] = []
    skipped: list[Skipped] = []
    with progress("layers", manifest.seconds) as shown:
        for outcome in engine.run_shards(job, list(blocks_of(manifest))):
            block, made = outcome.shard, outcome.result
            shown.advance(block.size)
            if made is None:
                skipped += [lost(item.path, outcome.failure or "") for item in block.utterances]
                continue
            skipped += [item for _, item in made.skipped]
            for row, count, own in made.drawn:
                frames.append(own)
                chosen.append((block.first + row, job.places(block.utterances[row].id, count)))
    joined = np.concatenate(frames) if frames else np.empty((0, len(layers), spec.dim), np.float32)
    return _Drawn(joined, chosen, skipped)


@dataclass(frozen=True)
class _BlockDraw:
    """What was drawn from a block's utterances: rows, how many frames they have, and those drawn, (frames, layers, dim)."""

    drawn: list[tuple[int, int, Frames]]
    skipped: list[tuple[int, Skipped]]


@dataclass(frozen=True)
class _DrawFrames:
    """A job: frames of all layers of a block's utterances, of which those drawn are kept."""

    pipeline: FramePipeline
    layers: tuple[int, ...]
    fraction: float
    seed: int

    def places(self, utterance: str, count: int) -> NDArray[np.intp]:
        """Return which of an utterance's frames are drawn; it follows from its id."""
        first = int(hash_fraction(self.seed, utterance) * (1 << 56))
        drawn = np.random.default_rng([self.seed, first]).random(count) < self.fraction
        return np.flatnonzero(drawn)

    def open(self, device: str) -> Callable[[Block], _BlockDraw]:
        encoder = self.pipeline.encoder
        assert encoder is not None
        run_encoder = encoder.runner(self.layers[-1], device)
        chunking, taps = chunking_of(self.pipeline.base.chunking), [Tap(layer) for layer in self.layers]

        def run(block: Block) -> _BlockDraw:
            rows, waveforms, skipped = self.pipeline.waveforms_of(block, decoders_for(device))
            drawn = []
            for row, of_tap in zip(rows, run_encoder(waveforms, taps, chunking), strict=True):
                count = len(of_tap[taps[0]])
                places = self.places(block.utterances[row].id, count)
                drawn.append((row, count, np.stack([of_tap[tap][places] for tap in taps], axis=1)))
            return _BlockDraw(drawn, skipped)

        return run


def _phones(manifest: Manifest, spec: FeatureSpec, drawn: _Drawn, alignments: Alignments) -> list[str | None]:
    """Return the phone at the centre of each frame that was drawn."""
    phones: list[str | None] = []
    for row, places in drawn.chosen:
        timeline = alignments.find(manifest.ids[row])
        assert timeline is not None
        phones += timeline.labels_at(spec.frame_times(places))
    return phones


def _with_alignments(manifest: Manifest, spec: FeatureSpec, alignments: Alignments) -> Manifest:
    """Return the utterances that have an alignment, of this audio.

    Raises:
        InputError: there are none, or two have the same; or one is broken.
        MismatchError: one lasts clearly longer or shorter than the audio.
    """
    owner: dict[str, str] = {}
    known = []
    for row, utterance in enumerate(manifest.ids):
        name, timeline = alignments.name_of(utterance), alignments.find(utterance)
        if name is None or timeline is None:
            continue
        require_own(name, utterance, owner, alignments)
        require_same_audio(utterance, spec.frame_count(int(manifest.samples[row])), spec.rate, timeline, alignments)
        known.append(row)
    if not known:
        raise InputError(
            f"none of the {len(manifest)} utterances has an alignment in {alignments.path}: "
            "their names must be the utterances' ids"
        )
    return manifest.select(known)


def _score(
    layer: int, frames: Frames, phones: list[str], settings: LayerSettings, silences: frozenset[str], work: Work
) -> LayerScore:
    model = KMeans(settings.clusters, random_state=settings.seed, workers=work.here, device=work.device_here)
    units = model.fit(np.ascontiguousarray(frames)).labels_
    assert units is not None
    counts = JointCounts.of([(phones, units)], settings.clusters)
    spoken = counts.without(name for name in counts.labels if name.lower() in silences)
    return LayerScore(layer, counts.phone_purity(), counts.cluster_purity(), counts.pnmi(), spoken.pnmi())
