"""What linear probes read out of the layers of an encoder, out of frames or out of units: phones, pitch and who speaks.

Phones and pitch are scored on utterances that the probes weren't fitted to, speakers on other chapters where there are some.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vocable.artefacts.feature_spec import FeatureSpec
from vocable.audio.faults import Skipped
from vocable.audio.manifest import Manifest
from vocable.audio.speakers import chapters_of
from vocable.clustering.codebook import Codebook
from vocable.evaluation.probes import ProbeScore
from vocable.execution.engine import Engine, Work
from vocable.execution.progress import progress
from vocable.features.encoder_layer import EncoderFile
from vocable.features.normalization import Scope, takes_speakers
from vocable.features.pipeline import FramePipeline
from vocable.features.pitch import is_installed
from vocable.models.taps import Tap
from vocable.recipes.corpus import CorpusSettings, open_corpus, require_some, require_source, require_usable
from vocable.recipes.frames import FrameChoice, base_made, checked_rate, pipeline_for, pipeline_of, require_speakers_for, spec_of
from vocable.recipes.probe_draw import DrawBlocks, Drawn, draw
from vocable.recipes.probe_questions import questions_of, require_something
from vocable.recipes.probe_settings import ProbeSettings
from vocable.recipes.scoring import Truth
from vocable.report.line_chart import line_chart
from vocable.timelines.alignments import Alignments

FORMAT = "vocable.probes/1"


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

    @property
    def every_layer(self) -> tuple[int, ...]:
        """The layers that are probed, in order; none where it isn't an encoder's layers that are."""
        if self.encoder is None or self.codebook is not None:
            return ()
        return tuple(sorted(set(self.layers or range(1, self.encoder.checkpoint().config.layers + 1))))

    @property
    def scope(self) -> Scope:
        """What frames are normalised by."""
        if self.codebook is not None:
            return self.codebook.normalization.scope
        return "none" if self.choice is None else self.choice.normalize

    def base(self, sample_rate: int) -> FeatureSpec:
        """Return what the extractor makes: of an encoder, the deepest layer's frames.

        Raises:
            InputError: there is no such encoder or layer, or it takes audio at another rate.
            MismatchError: the codebook is for other frames, or doesn't say which.
        """
        if self.codebook is not None:
            return base_made(spec_of(self.codebook), self.encoder)
        if self.choice is not None:
            return self.choice.base(sample_rate)
        assert self.encoder is not None
        first, last = self.every_layer[0], self.every_layer[-1]
        Tap(first).check(self.encoder.checkpoint().config.layers)
        return checked_rate(self.encoder.spec(last, chunking=self.chunking), sample_rate)

    def pipeline(self, sample_rate: int, manifest: Manifest, engine: Engine, folder: Path) -> FramePipeline:
        """Return what makes the frames, with the statistics that they are normalised by.

        Args:
            sample_rate: Hz.
            manifest: whose statistics they are, unless a codebook holds them.
            engine: runs the work.
            folder: where finished blocks are kept.
        """
        if self.codebook is not None:
            return pipeline_of(self.codebook, self.encoder, manifest, engine, folder)
        if self.choice is not None:
            return pipeline_for(self.choice, sample_rate, manifest, engine, folder)
        return FramePipeline(self.base(sample_rate), encoder=self.encoder)


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
    places = [source] if other is None else [source, other]
    for place in places:
        require_source(place)
    base = probed.base(corpus.sample_rate)
    alignments = None
    if truth is not None:
        truth.check()
        alignments = Alignments(truth.alignments, truth.tier, truth.rate or base.rate, base.frame_time(0))
    with tempfile.TemporaryDirectory() as folder, Engine(work) as engine:
        opened = [open_corpus(place, corpus, engine, Path(folder)) for place in places]
        for part, place in zip(opened, places, strict=True):
            require_usable(part, place)
        heard = [part.manifest for part in opened]
        _check(heard, probed, settings, alignments is not None)
        drawn = _drawn(heard, probed, settings, corpus.sample_rate, engine, Path(folder))
    for found, place in zip(drawn, places, strict=True):
        require_some(len(found.utterances), found.skipped, place)
    questions = questions_of(drawn, base, alignments, settings)
    layers = [str(layer) for layer in probed.every_layer] or ["units" if probed.codebook is not None else "frames"]
    scores: dict[str, dict[str, ProbeScore]] = {layer: {} for layer in layers}
    with progress("probes", float(len(layers) * len(questions.asked)), "probes") as shown:
        for at, layer in enumerate(layers):
            for question in questions.asked:
                scores[layer][question.name] = question.score(at, settings.seed)
                shown.advance(1.0)
    skipped = [*(item for part in opened for item in part.skipped), *(item for part in drawn for item in part.skipped)]
    return ProbeScores(scores, questions.speakers_scored_on, questions.notes, skipped)


def _check(heard: list[Manifest], probed: Probed, settings: ProbeSettings, aligned: bool) -> None:
    """Refuse what would end the work once all frames are made.

    Raises:
        InputError: nothing could be asked, a pattern matches no path, or nobody says who speaks.
    """
    require_something(heard, aligned)
    if settings.chapters is not None:
        chapters_of(heard[0], settings.chapters)
    for manifest in heard:
        require_speakers_for(probed.scope, manifest)


def _drawn(
    heard: list[Manifest], probed: Probed, settings: ProbeSettings, sample_rate: int, engine: Engine, folder: Path
) -> list[Drawn]:
    pipeline = probed.pipeline(sample_rate, heard[0], engine, folder)
    drawn: list[Drawn] = []
    for manifest in heard:
        if drawn and takes_speakers(probed.scope):  # speakers have statistics of their own; the corpus's are the first one's
            pipeline = probed.pipeline(sample_rate, manifest, engine, folder)
        total = sum(pipeline.spec.frame_count(samples) for samples in manifest.samples.tolist())
        fraction = min(1.0, settings.frames / max(total, 1))
        job = DrawBlocks(pipeline, probed.every_layer, probed.codebook, fraction, settings.seed, is_installed())
        drawn.append(draw(manifest, job, engine, "frames"))
    return drawn
