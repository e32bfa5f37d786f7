"""HuBERT in several iterations: labels of MFCC, a training, a layer, its labels, a training, and so on; each once."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vocable.artefacts.headers import digest_of, write_header
from vocable.artefacts.writing import replacing, write_text
from vocable.audio.manifest_files import read_manifest
from vocable.clustering.codebook import read_codebook
from vocable.errors import VocableError
from vocable.execution.engine import Engine, Work
from vocable.features.encoder_layer import EncoderFile
from vocable.features.pipeline import FramePipeline
from vocable.recipes.configuration import built
from vocable.recipes.corpus import CorpusSettings, open_corpus, rows_named
from vocable.recipes.feature_pairs import MEAN_STD
from vocable.recipes.fitting import FitSettings
from vocable.recipes.frame_quality import QualitySettings, score_frames
from vocable.recipes.frames import FrameChoice, corpus_statistics
from vocable.recipes.hubert_settings import HubertSettings
from vocable.recipes.iterations_settings import IterationSettings, PretrainingSettings
from vocable.recipes.label_preparation import Preparation, prepare
from vocable.recipes.layers import LayerScores, LayerSettings, score_layers
from vocable.recipes.scoring import Truth
from vocable.recipes.training_pages import SCORES, report_of
from vocable.recipes.units import label_source
from vocable.recipes.workplace import NAME
from vocable.timelines.alignments import Alignments


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where trainings and labels are made."""

    work: Work
    """Of the labels."""
    device: str = "cpu"
    """Of the trainings."""
    threads: int | None = None
    processes: int = 1
    """That train together on this machine."""


class Pretraining:
    """HuBERT in several iterations, in one folder: labels-1, iteration-1, layers-1.json, labels-2, iteration-2 and so on.

    What stands is taken, what was ended goes on.

    Args:
        settings: of it all.
        out: the folder.
        place: where work runs.
        overwrite: replace what other settings or audio made.
    """

    def __init__(self, settings: PretrainingSettings, out: Path, place: Place, overwrite: bool = False) -> None:
        self._settings, self._out, self._place, self._overwrite = settings, out, place, overwrite
        audio = settings.audio
        self._corpus = CorpusSettings(speakers=audio.speakers, min_seconds=audio.min_seconds)
        self._truth = None if audio.alignments is None else Truth(alignments=audio.alignments)

    def run(self) -> Path:
        """Make all that isn't made yet, and return the page that tells of it.

        Raises:
            InputError: something given can't be used, or the folder holds something else.
        """
        if self._truth is not None:
            self._truth.check()
            Alignments(self._truth.alignments)  # says what is wrong with them before anything takes time
        layers: list[int] = []
        for number, iteration in enumerate(self._settings.iterations, 1):
            labels = self._out / f"labels-{number}"
            if number == 1:
                self._label(labels, self._first_frames(), self._settings.labels.clusters, self._settings.labels.seed)
            else:
                layer = self._layer(number - 1, iteration.layer)
                layers.append(layer)
                frames = FrameChoice(encoder=str(self._model(number - 1)), layer=layer, normalize=iteration.normalize)
                self._label(labels, frames, iteration.clusters, 0)
            self._take_statistics(iteration, labels)
            self._train(number, iteration, labels)
        layers.append(self._layer(len(self._settings.iterations), "auto"))
        self._score(layers)
        page = self._out / "report.html"
        write_text(page, report_of(self._out))
        return page

    def _model(self, number: int) -> Path:
        return self._out / f"iteration-{number}" / "model"

    def _first_frames(self) -> FrameChoice:
        asked = self._settings.labels
        return FrameChoice(features=asked.features, normalize=asked.normalize, context=asked.context)

    def _label(self, out: Path, frames: FrameChoice, clusters: int, seed: int) -> None:
        """Make the labels of both parts with one codebook."""
        audio = self._settings.audio
        _say(f"labels: {clusters} clusters of {_named(frames)}, in {out}")
        asked = Preparation(
            corpus=self._corpus,
            frames=frames,
            fit=FitSettings(clusters=clusters, seed=seed),
            valid_percent=audio.valid_percent if audio.valid is None else 0.0,
        )
        prepare(audio.train, out, asked, self._place.work, self._overwrite)
        if audio.valid is not None:
            codebook = read_codebook(out / "codebook.safetensors")
            label_source(
                audio.valid,
                codebook,
                out,
                "valid",
                (".km",),
                self._corpus,
                self._place.work,
                overwrite=self._overwrite,
                encoder=frames.encoder_file,
            )

    def _take_statistics(self, iteration: IterationSettings, labels: Path) -> None:
        """Write the mean and deviation of train's log-mel frames beside the labels, if the model takes them out."""
        model = built(HubertSettings, iteration.training(labels), "an iteration").model
        path = labels / MEAN_STD
        if model.input != "logmel" or model.mel_normalization != "corpus":
            return
        plain = FramePipeline(FrameChoice(features="logmel", mel_bins=model.mel_bins).base(model.sample_rate))
        learnt = read_manifest(labels / "train.tsv", model.sample_rate).ids
        with Engine(self._place.work) as engine:
            opened = open_corpus(self._settings.audio.train, self._corpus, engine, labels / NAME)
            manifest = rows_named(opened.manifest, learnt, self._settings.audio.train)
            made = corpus_statistics(plain, manifest, engine, labels / NAME)
        if not path.is_file() or not np.array_equal(np.load(path, allow_pickle=False), made):
            _say(f"statistics of log-mel frames, in {path}")
            with replacing(path) as file:
                np.save(file, made)

    def _train(self, number: int, iteration: IterationSettings, labels: Path) -> None:
        out = self._out / f"iteration-{number}"
        values = iteration.training(labels)
        settings = self._out / f"iteration-{number}.json"
        write_header(settings, values)
        _say(f"iteration {number}: {iteration.settings}, in {out}")
        place = self._place
        if place.processes == 1:
            from vocable.recipes.hubert_training import train_hubert

            train_hubert(built(HubertSettings, values, str(settings)), out, place.device, place.threads, self._overwrite)
            return
        given = ["--out", str(out), "--device", place.device, "--processes", str(place.processes)]
        given += ["--overwrite"] if self._overwrite else []
        if place.threads is not None:
            given += ["--threads", str(place.threads)]
        if _run([sys.executable, "-m", "vocable", "train", "hubert", str(settings), *given]):
            raise VocableError(
                f"iteration {number} ended before it was done: mend what it said above, and run the same command again"
            )

    def _layer(self, number: int, asked: int | str) -> int:
        """Return the layer of an iteration that is taken: the one asked for, or the best on train, where phones are known."""
        if self._truth is not None:
            best = self._best_layer(f"layers-{number}", self._model(number), f"iteration {number}")
            return best if asked == "auto" else int(asked)
        settings = built(HubertSettings, self._settings.iterations[number - 1].training(self._out), f"iteration {number}")
        return (settings.measure.layer or max(1, settings.model.layers // 2)) if asked == "auto" else int(asked)

    def _best_layer(self, name: str, model: Path, whose: str) -> int:
        """Return the layer that is worth most, on the utterances of train that have alignments."""
        assert self._truth is not None
        path, picture = self._out / f"{name}.json", self._out / f"{name}.svg"
        encoder = EncoderFile(str(model))
        of = digest_of([encoder.checkpoint().digest, *self._scored_with()])
        if path.is_file() and picture.is_file():
            known = json.loads(path.read_bytes())
            if known.get("of") == of:
                return int(known["best"])
        _say(f"layers of {model}")
        asked = LayerSettings(clusters=self._settings.scored_clusters[0])
        made: LayerScores = score_layers(self._settings.audio.train, encoder, self._truth, asked, self._corpus, self._place.work)
        write_text(picture, made.picture(whose))
        write_header(path, {"of": of, **made.rows()})
        return made.best.layer

    def _scored_with(self) -> list[Any]:
        """Return what scores depend on beside frames."""
        labels = self._out / "labels-1"
        manifests = [path.read_text() for part in ("train", "valid") if (path := labels / f"{part}.tsv").is_file()]
        return [manifests, str(self._settings.audio.alignments), *self._settings.scored_clusters]

    def _score(self, layers: list[int]) -> None:
        """Write what frames before and behind each iteration are worth, where phones are known and there is a valid."""
        audio = self._settings.audio
        if self._truth is None or audio.valid is None:
            return
        from vocable.recipes.hubert_training import write_initial

        period = self._period()
        first = self._settings.iterations[0]
        initial = self._out / "initial"
        write_initial(built(HubertSettings, first.training(self._out / "labels-1"), "iteration 1"), initial)
        best = self._best_layer("layers-initial", initial, "random weights")
        every = max(1, period // 160)
        rows: list[tuple[str, FrameChoice, int]] = [
            ("MFCC", FrameChoice(), every),
            ("MFCC, normalised per utterance, 4 neighbours on each side", FrameChoice(normalize="utterance", context=4), every),
            (f"random weights, layer {best}", FrameChoice(encoder=str(initial), layer=best), 1),
            *(
                (f"iteration {number}, layer {layer}", FrameChoice(encoder=str(self._model(number)), layer=layer), 1)
                for number, layer in enumerate(layers, 1)
            ),
        ]
        path, clusters = self._out / SCORES, self._settings.scored_clusters
        known: dict[str, Any] = json.loads(path.read_bytes()) if path.is_file() else {}
        known = {name: known[name] for name, _, _ in rows if name in known}
        for place, (name, choice, step) in enumerate(rows):
            key = digest_of([choice.state(), step, *self._scored_with()])
            if known.get(name, {}).get("of") != key:
                _say(f"scores: {name}")
                asked = QualitySettings(clusters=clusters[0], every=step, also=clusters[1:])
                made = score_frames(audio.train, audio.valid, choice, self._truth, asked, self._corpus, self._place.work)
                asked_for = {"place": place, "clusters": asked.clusters, "seeds": asked.seeds, "period": period / 16}
                known[name] = {"of": key, **asked_for, **made.rows()}
                write_header(path, known)

    def _period(self) -> int:
        """Return samples from a frame of the models to the next."""
        return EncoderFile(str(self._model(1))).checkpoint().config.hop


def _named(frames: FrameChoice) -> str:
    what = frames.features if frames.encoder is None else f"layer {frames.layer} of {frames.encoder}"
    return what if frames.normalize == "none" else f"{what}, normalised per {frames.normalize}"


def _run(command: list[str]) -> int:
    """Run a command, which is told of a SIGTERM, too; return its exit code."""
    with subprocess.Popen(command) as child:
        before = signal.signal(signal.SIGTERM, lambda *_: child.terminate())
        try:
            return child.wait()
        except KeyboardInterrupt:  # which it got, too
            return child.wait()
        finally:
            signal.signal(signal.SIGTERM, before)


def _say(line: str) -> None:
    print(line, flush=True)
