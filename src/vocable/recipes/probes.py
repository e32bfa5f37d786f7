"""What linear probes read out of the layers of an encoder, out of frames or out of units: phones, pitch and who speaks.

Phones and pitch are scored on utterances that the probes weren't fitted to, speakers on other chapters where there are some.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocable.audio.faults import Skipped
from vocable.audio.manifest import Manifest
from vocable.audio.speakers import chapters_of, hash_fraction
from vocable.clustering.codebook import Codebook
from vocable.errors import InputError
from vocable.evaluation.probes import Labelled, ProbeScore, linear_score, unit_score
from vocable.evaluation.unit_quality import without_stress
from vocable.execution.engine import Engine, Work
from vocable.execution.progress import progress
from vocable.features.encoder_layer import EncoderFile
from vocable.features.pipeline import FramePipeline
from vocable.features.pitch import CEILING, FLOOR, is_installed
from vocable.models.taps import Tap
from vocable.recipes.corpus import CorpusSettings, open_corpus, require_usable
from vocable.recipes.frames import FrameChoice, pipeline_for, pipeline_of
from vocable.recipes.probe_draw import DrawBlocks, Drawn, draw
from vocable.recipes.scoring import Truth
from vocable.report.line_chart import line_chart
from vocable.timelines.alignments import Alignments
from vocable.units.pitch_labels import PitchBins

FORMAT = "vocable.probes/1"


@dataclass(frozen=True, kw_only=True)
class ProbeSettings:
    """How probes are fitted.

    Raises:
        InputError: a part can't be.
    """

    frames: int = 30_000
    """Frames that are drawn, from all utterances alike."""
    bins: int = 32
    """Of pitch, each with equally many of the voiced frames that the probe is fitted to."""
    held_out: float = 0.2
    """Part of the utterances, or chapters, that probes are scored on."""
    seed: int = 0
    """Of the draw, of what is held out, and of the probes."""
    chapters: str | None = None
    """Which recording an utterance is cut from: a path pattern such as '{speaker}/{chapter}/*'; by default names as LibriSpeech's
    tell it, SPEAKER-CHAPTER-NUMBER."""

    def __post_init__(self) -> None:
        for name in ("frames", "bins"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name} {getattr(self, name)}: give 1 or more")
        if not 0 < self.held_out < 1:
            raise InputError(f"--held-out {self.held_out:g}: it is a part of the utterances, such as 0.2")


@dataclass(frozen=True, kw_only=True)
class Probed:
    """What is probed: one of these."""

    layers: tuple[int, ...] | None = None
    """Of the encoder; none for all."""
    encoder: EncoderFile | None = None
    chunking: str = "windows"
    choice: FrameChoice | None = None
    codebook: Codebook | None = None
    """Whose units are probed; the encoder makes its frames, if it is for an encoder's."""


@dataclass(frozen=True)
class ProbeScores:
    """The scores of what was probed."""

    scores: dict[str, dict[str, ProbeScore]]
    """By layer, and by what was asked."""
    held_out: str
    """What speakers were scored on: other chapters, or other utterances."""
    notes: tuple[str, ...] = ()
    skipped: list[Skipped] = field(default_factory=list)

    def rows(self) -> dict[str, Any]:
        """Return the scores as JSON holds them."""
        scores = {layer: {name: score.rows() for name, score in own.items()} for layer, own in self.scores.items()}
        return {"format": FORMAT, "scores": scores, "speakers_scored_on": self.held_out, "notes": list(self.notes)}

    def picture(self, what: str = "") -> str:
        """Return the accuracies as a chart, SVG.

        Args:
            what: was probed, for the title.
        """
        names = dict.fromkeys(name for own in self.scores.values() for name in own)
        places = {layer: float(layer) if layer.isdecimal() else 0.0 for layer in self.scores}
        lines = {
            name: [(places[layer], own[name].accuracy) for layer, own in self.scores.items() if name in own] for name in names
        }
        return line_chart(f"{what + ': ' if what else ''}what linear probes get right", "layer", lines)


def score_probes(
    source: Path,
    other: Path | None,
    probed: Probed,
    truth: Truth | None,
    settings: ProbeSettings,
    corpus: CorpusSettings,
    work: Work,
) -> ProbeScores:
    """Fit fresh probes to frames or units of some utterances, and score them on others.

    Args:
        source: a folder of audio, or a manifest.
        other: another one, which phones and pitch are scored on in place of utterances that are held out; and speakers, where two
            or more of them are in both.
        probed: what is probed.
        truth: phones; without, phones aren't asked for.
        settings: of the probes.
        corpus: which audio is taken, and who speaks.
        work: where it runs.

    Raises:
        InputError: nothing can be asked for, or there is too little speech.
    """
    if truth is not None:
        truth.check()
    with tempfile.TemporaryDirectory() as folder, Engine(work) as engine:
        drawn = []
        skipped: list[Skipped] = []
        for place in (source, *([] if other is None else [other])):
            opened = open_corpus(place, corpus, engine, Path(folder))
            require_usable(opened, place)
            job = _job(probed, opened.manifest, settings, corpus, engine, Path(folder))
            drawn.append(draw(opened.manifest, job, engine, "frames"))
            skipped += [*opened.skipped, *drawn[-1].skipped]
    asked, notes, held_out = _asked(drawn, job.pipeline, truth, settings)
    if not asked:
        raise InputError(f"nothing to ask: {'; '.join(notes)}")
    layers = [str(layer) for layer in job.layers] or ["units" if probed.codebook is not None else "frames"]
    scores: dict[str, dict[str, ProbeScore]] = {}
    with progress("probes", float(len(layers) * len(asked)), "probes") as shown:
        for at, layer in enumerate(layers):
            scores[layer] = {}
            for task in asked:
                scores[layer][task.name] = task.score(at, settings.seed)
                shown.advance(1.0)
    return ProbeScores(scores, held_out, tuple(notes), skipped)


def _job(
    probed: Probed, manifest: Manifest, settings: ProbeSettings, corpus: CorpusSettings, engine: Engine, folder: Path
) -> DrawBlocks:
    layers: tuple[int, ...] = ()
    if probed.codebook is not None:
        pipeline = pipeline_of(probed.codebook, probed.encoder, manifest, engine, folder)
    elif probed.choice is not None:
        pipeline = pipeline_for(probed.choice, corpus.sample_rate, manifest, engine, folder)
    else:
        assert probed.encoder is not None
        depth = probed.encoder.checkpoint().config.layers
        layers = tuple(sorted(set(probed.layers or range(1, depth + 1))))
        Tap(layers[0]).check(depth)
        pipeline = FramePipeline(probed.encoder.spec(layers[-1], chunking=probed.chunking), encoder=probed.encoder)
    total = sum(pipeline.spec.frame_count(samples) for samples in manifest.samples.tolist())
    fraction = min(1.0, settings.frames / max(total, 1))
    return DrawBlocks(pipeline, layers, probed.codebook, fraction, settings.seed, is_installed())


@dataclass(frozen=True)
class _Task:
    """A question to ask of each layer, with what its probe is fitted to and scored on."""

    name: str
    values: Callable[[int], NDArray[Any]]
    """Of a layer: those of all items."""
    labels: NDArray[np.str_]
    utterances: NDArray[np.int64]
    fitted: NDArray[np.bool_]
    scored: NDArray[np.bool_]
    of_units: bool

    def score(self, layer: int, seed: int) -> ProbeScore:
        values = self.values(layer)
        fitted, scored = (
            Labelled(values[own], self.labels[own].tolist(), self.utterances[own]) for own in (self.fitted, self.scored)
        )
        try:
            return unit_score(fitted, scored) if self.of_units else linear_score(fitted, scored, seed)
        except InputError as error:
            raise InputError(f"{self.name}: {error}") from error


def _asked(
    drawn: list[Drawn], pipeline: FramePipeline, truth: Truth | None, settings: ProbeSettings
) -> tuple[list[_Task], list[str], str]:
    """Return what can be asked, why the rest can't, and what speakers are scored on."""
    items, notes = _Items.of(drawn), []
    tasks = []
    held_out = items.held_out(settings)
    fitted, scored = ~held_out[items.owners], held_out[items.owners]
    if truth is None:
        notes.append("phones were not asked for: give --alignments")
    else:
        tasks.append(items.task("phone", _phones(drawn, pipeline, truth), fitted, scored))
    try:
        tasks.append(items.task("pitch", items.pitch_bins(settings.bins, fitted, scored), fitted, scored))
    except InputError as error:
        notes.append(f"pitch was not asked for: {error}")
    manifest = drawn[0].manifest
    if manifest.speakers is None or len(set(manifest.speakers) - {None}) < 2:
        notes.append("speakers were not asked for: give --speakers, and speech of two or more")
        return tasks, notes, "nothing"
    sides, what = _shared_sides(drawn) or _speaker_sides(manifest, settings)
    if what == "other utterances":
        notes.append("speakers were scored on other utterances of the same chapters, since fewer than two have several chapters")
    tasks += items.speaker_tasks(sides)
    return tasks, notes, what


@dataclass(frozen=True)
class _Items:
    """All frames that were drawn, one utterance after another."""

    drawn: list[Drawn]
    ids: list[str]
    owners: NDArray[np.int64]
    """The utterance of each frame."""
    pitch: NDArray[np.float32]

    @classmethod
    def of(cls, drawn: list[Drawn]) -> _Items:
        ids = [part.manifest.ids[item.row] for part in drawn for item in part.utterances]
        every = [item for part in drawn for item in part.utterances]
        if not every:
            raise InputError("no audio could be used, so there is nothing to fit probes to")
        owners = np.repeat(np.arange(len(every)), [len(item.places) for item in every])
        return cls(drawn, ids, owners, np.concatenate([item.pitch for item in every]))

    @property
    def _every(self) -> list[Any]:
        return [item for part in self.drawn for item in part.utterances]

    @property
    def of_units(self) -> bool:
        """Whether they are units."""
        return bool(self._every[0].frames.ndim == 1)

    def frames(self, layer: int) -> NDArray[Any]:
        """Return the frames of a layer, of shape (frames, dim), or units, of shape (frames,)."""
        return np.concatenate([item.frames if item.frames.ndim == 1 else item.frames[:, layer] for item in self._every])

    def held_out(self, settings: ProbeSettings) -> NDArray[np.bool_]:
        """Return which utterances phones and pitch are scored on: those of the second corpus, or a part of the first."""
        if len(self.drawn) == 2:
            return np.arange(len(self.ids)) >= len(self.drawn[0].utterances)
        return np.array([hash_fraction(settings.seed, name) < settings.held_out for name in self.ids])

    def task(self, name: str, labels: list[str | None], fitted: NDArray[np.bool_], scored: NDArray[np.bool_]) -> _Task:
        """Return a question about frames; those without a label take no part."""
        known = np.array([label is not None for label in labels])
        texts = np.array([label or "" for label in labels])
        return _Task(name, self.frames, texts, self.owners, fitted & known, scored & known, self.of_units)

    def pitch_bins(self, bins: int, fitted: NDArray[np.bool_], scored: NDArray[np.bool_]) -> list[str | None]:
        """Return the bin of each frame's pitch; None where nothing is voiced.

        Raises:
            InputError: it isn't known, or too little is voiced.
        """
        if np.isnan(self.pitch).all():
            raise InputError("pip install 'vocable[pitch]'")
        voiced = self.pitch > 0
        if not (voiced & fitted).any() or not (voiced & scored).any():
            raise InputError("no frame is voiced")
        cut = PitchBins.quantile(bins, "none", FLOOR, CEILING, [self.pitch[voiced & fitted]])
        return [str(at) if at >= 0 else None for at in cut(self.pitch).tolist()]

    def speaker_tasks(self, sides: _Sides) -> list[_Task]:
        """Return the questions about who speaks: of frames, and of whole utterances.

        Args:
            sides: rows of the corpora that take part, and whether probes are scored on them.
        """
        rows = [(at, item.row) for at, part in enumerate(self.drawn) for item in part.utterances]
        speakers = [part.manifest.speakers or () for part in self.drawn]
        names = [(speakers[at][row] if (at, row) in sides else None) or "" for at, row in rows]
        fitted, scored = (np.array([sides.get(row) is wanted for row in rows]) for wanted in (False, True))
        of_frames = _Task(
            "speaker",
            self.frames,
            np.array(names)[self.owners],
            self.owners,
            fitted[self.owners],
            scored[self.owners],
            self.of_units,
        )
        kinds = ("speaker, histogram", "speaker, runs") if self.of_units else ("speaker, pooled",)
        numbers = np.arange(len(rows))
        return [
            of_frames,
            *(
                _Task(kind, self._pooled(at), np.array(names), numbers, fitted, scored, of_units=False)
                for at, kind in enumerate(kinds)
            ),
        ]

    def _pooled(self, kind: int) -> Callable[[int], NDArray[np.float32]]:
        return lambda layer: np.stack([item.whole[kind][layer] for item in self._every])


def _phones(drawn: list[Drawn], pipeline: FramePipeline, truth: Truth) -> list[str | None]:
    spec = pipeline.spec
    alignments = Alignments(truth.alignments, truth.tier, truth.rate or spec.rate, spec.frame_time(0))
    phones: list[str | None] = []
    for part in drawn:
        for item in part.utterances:
            timeline = alignments.find(part.manifest.ids[item.row])
            found = [None] * len(item.places) if timeline is None else timeline.labels_at(spec.frame_times(item.places))
            phones += [None if phone is None else without_stress(phone) for phone in found]
    if not any(phone is not None for phone in phones):
        raise InputError(f"no utterance has an alignment in {alignments.path}: their names must be the utterances' ids")
    return phones


_Sides = dict[tuple[int, int], bool]
"""Which rows of which corpus take part, and whether they are held out."""


def _shared_sides(drawn: list[Drawn]) -> tuple[_Sides, str] | None:
    """Return the rows of speakers who are in both corpora, the second's held out; None if they aren't two or more."""
    if len(drawn) < 2:
        return None
    speakers = [part.manifest.speakers or () for part in drawn]
    shared = set(speakers[0]) & set(speakers[1]) - {None}
    if len(shared) < 2:
        return None
    sides = {(at, row): at == 1 for at, own in enumerate(speakers) for row, name in enumerate(own) if name in shared}
    return sides, "the other audio"


def _speaker_sides(manifest: Manifest, settings: ProbeSettings) -> tuple[_Sides, str]:
    """Return rows of speakers with two chapters, or else utterances, or more, and whether they are held out; and which it is."""
    assert manifest.speakers is not None
    chapters = chapters_of(manifest, settings.chapters)
    for what, parts in (("other chapters", chapters), ("other utterances", list(manifest.ids))):
        if parts is None:
            continue
        groups: dict[str, dict[str, list[int]]] = {}
        for row, (speaker, part) in enumerate(zip(manifest.speakers, parts, strict=True)):
            if speaker is not None:
                groups.setdefault(speaker, {}).setdefault(part, []).append(row)
        sides: _Sides = {}
        known = {speaker: own for speaker, own in groups.items() if len(own) > 1}
        for speaker, own in known.items():
            ordered = sorted(own, key=lambda part: hash_fraction(settings.seed, f"{speaker}/{part}"))
            count = min(max(1, round(settings.held_out * len(own))), len(own) - 1)
            sides |= {(0, row): at < count for at, part in enumerate(ordered) for row in own[part]}
        if len(known) > 1:
            return sides, what
    raise InputError("no two speakers have two utterances each, of which one could be held out: give more speech")
