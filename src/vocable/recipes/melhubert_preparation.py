"""MelHuBERT's preprocessing: audio, or Kaldi archives, become log-mel frames and labels in a `.npy` each, and a CSV of these."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vocable.artefacts.headers import digest_of, digest_of_array
from vocable.artefacts.run_log import RunLog
from vocable.audio.blocks import Block, blocks_of
from vocable.audio.manifest import Manifest
from vocable.audio.manifest_files import read_manifest
from vocable.audio.speakers import with_speakers
from vocable.errors import InputError, MismatchError
from vocable.execution.engine import Engine, Work
from vocable.execution.stages import Finished, Payload
from vocable.features.kaldi_archives import Entry, read_matrix, read_numbers, read_table
from vocable.features.normalization import Normalization
from vocable.features.pipeline import FramePipeline, skipped_rows
from vocable.recipes.companion_manifest import manifest_beside
from vocable.recipes.corpus import CorpusSettings, open_corpus, require_source, require_usable
from vocable.recipes.feature_pairs import FeatureType, Pairs, PairWriter, Stored
from vocable.recipes.fitting import FitSettings
from vocable.recipes.frames import FrameChoice, corpus_statistics, pipeline_for, require_speakers_for
from vocable.recipes.label_preparation import Preparation, prepare
from vocable.recipes.workplace import NAME, open_workplace, require_name
from vocable.units.label_files import read_units
from vocable.units.preflight import check_labels
from vocable.units.units import Survey, Units

BINS = 40
_ENTRIES_IN_BLOCK = 200


@dataclass(frozen=True, kw_only=True)
class MelhubertPreparation:
    """All choices of MelHuBERT's preprocessing.

    Raises:
        InputError: a part is none.
    """

    name: str = "libri-360"
    """Of the CSV: NAME-data-cluster-pair.csv."""
    dtype: FeatureType = "float32"
    """Of the frames that are stored; none stores none, and a training makes them of the audio."""
    normalize: Literal["corpus", "utterance", "speaker"] = "corpus"
    """What the frames' mean and deviation are taken from. A model of frames normalised per speaker takes those of audio whose
    speaker isn't known as it takes those normalised per utterance."""
    labels: Path | None = None
    """Labels of the utterances, in place of clusters of log-mel frames."""
    label_normalize: Literal["none", "corpus", "utterance", "speaker"] = "none"
    """What the log-mel frames that are clustered are normalised by."""
    corpus: CorpusSettings = field(default_factory=CorpusSettings)
    fit: FitSettings = field(default_factory=lambda: FitSettings(clusters=512))

    def __post_init__(self) -> None:
        require_name(self.name)
        if self.labels is not None and self.label_normalize != "none":
            raise InputError("--label-normalize is for clusters of log-mel frames, and --labels are given: leave out one")


def preprocess(
    source: Path, out: Path, settings: MelhubertPreparation, work: Work | None = None, overwrite: bool = False
) -> Stored:
    """Turn audio, or Kaldi archives, into what MelHuBERT is trained on.

    Of audio it writes what `prepare` does (labels, their manifest, codebook); in either case `mean-std.npy` (float64 of shape
    (2, 40)), and unless no frames are wanted `feature/KEY.npy` (frames, normalised, of shape (frames, 40)), `cluster/KEY.npy`
    (int64) and the CSV that lists them. Run again after a kill it goes on, and ends with the same bytes.

    Args:
        source: a folder of audio, a manifest, or a folder of archives with a table of labels (.bas.scp) and a .mean-var.
        out: the folder for all of it.
        settings: the choices.
        work: where it runs.
        overwrite: replace results of other settings or audio.

    Raises:
        InputError: nothing usable, or `out` holds something else.
        MismatchError: labels don't belong to the utterances.
    """
    work = work or Work()
    archives = _archives(source)
    if archives is None:
        require_source(source)
        FrameChoice(features="logmel", normalize=settings.normalize).require_speakers(source, settings.corpus)
    if archives is not None and settings.normalize == "speaker":
        raise InputError(f"--normalize speaker: {source} holds archives, which don't say who speaks; take corpus or utterance")
    open_workplace(out)
    log = RunLog(out / ("run.jsonl" if work.nshard == 1 else f"run-{work.rank}.jsonl"))
    if archives is not None:
        with Engine(work) as engine, log.recorded():
            return PairWriter(out, settings.name, settings.dtype, _of_archives(archives, settings)).write(engine, overwrite)
    manifest, units, missing = _labelled(source, out, settings, work, overwrite)
    if missing or units is None:
        return Stored(out, None, 0, 0, 0, missing)
    if settings.corpus.speakers is not None and manifest.speakers is None:
        manifest = with_speakers(manifest, settings.corpus.speakers)
    require_speakers_for(settings.normalize, manifest)
    with Engine(work) as engine, log.recorded():
        choice = FrameChoice(features="logmel", mel_bins=BINS, normalize=settings.normalize)
        plain = FramePipeline(choice.base(settings.corpus.sample_rate))
        mean_std = corpus_statistics(plain, manifest, engine, out / NAME)
        mean, std = mean_std.astype(np.float32)
        if settings.normalize == "corpus":  # with just the numbers that are written
            pipeline = replace(plain, normalization=Normalization("corpus", (mean, std)))
        else:
            pipeline = pipeline_for(choice, settings.corpus.sample_rate, manifest, engine, out / NAME)
        pairs = _of_audio(manifest, units, pipeline, mean_std)
        return PairWriter(out, settings.name, settings.dtype, pairs).write(engine, overwrite)


def _labelled(
    source: Path, out: Path, settings: MelhubertPreparation, work: Work, overwrite: bool
) -> tuple[Manifest, Units | None, int]:
    """Return the utterances with their labels, which are made unless they are given; and how many blocks others have to do."""
    if settings.labels is None:
        frames = FrameChoice(features="logmel", mel_bins=BINS, normalize=settings.label_normalize)
        asked = Preparation(corpus=settings.corpus, frames=frames, fit=settings.fit, valid_percent=0.0)
        prepared = prepare(source, out, asked, work, overwrite)
        if prepared.missing:
            return Manifest.of([], ""), None, prepared.missing
        return prepared.splits["train"], read_units(out / "train.km"), 0
    units = read_units(settings.labels)
    if (beside := manifest_beside(settings.labels.with_suffix(""))) is not None:
        manifest = read_manifest(beside, settings.corpus.sample_rate)
    else:
        with Engine(work) as engine:
            opened = open_corpus(source, settings.corpus, engine, out / NAME)
            require_usable(opened, source)
        manifest = opened.manifest
    check_labels(settings.labels.name, units.header, Survey.of(units, units.header.clusters), manifest, rate=units.header.rate)
    return manifest, units, 0


def _of_audio(manifest: Manifest, units: Units, pipeline: FramePipeline, mean_std: NDArray[np.float64]) -> Pairs:
    spec, keys = pipeline.spec, _keys(manifest)
    lengths = [spec.frame_count(int(samples)) for samples in manifest.samples]
    blocks = []
    for block in blocks_of(manifest):
        rows = range(block.first, block.first + len(block.utterances))
        blocks.append(_LabelledBlock(block, tuple(keys[row] for row in rows), tuple(units[row] for row in rows)))
    for row, (length, labelled) in enumerate(zip(lengths, units.lengths.tolist(), strict=True)):
        if labelled not in (length, -(-length // 2)):
            raise MismatchError(
                f"{manifest.ids[row]} has {length} log-mel frames and {labelled} labels, neither one for each nor one for two: "
                "give labels every 10 or 20 ms, of this audio"
            )
    made_from = {"frames": pipeline.key, "labels": digest_of_array(units.values), "audio": manifest.state}

    def left_out(finished: Finished[Any]) -> set[int]:
        return set(skipped_rows(finished, lambda item: item.block))

    return Pairs(
        keys, lengths, units.header.clusters or int(units.values.max(initial=0)) + 1, mean_std, made_from, blocks,
        _FramesOfAudio(pipeline), left_out,
        {"manifest": manifest.digest, "normalize": pipeline.normalization.scope, "rate": units.header.rate},
    )  # fmt: skip


def _keys(manifest: Manifest) -> list[str]:
    """Return the names of utterances' files: the last part of their ids, or all of them where two end alike."""
    short = [utterance.rsplit("/", 1)[-1] for utterance in manifest.ids]
    return short if len(set(short)) == len(short) else [utterance.replace("/", "-") for utterance in manifest.ids]


@dataclass(frozen=True)
class _LabelledBlock:
    """A block with the names and labels of its utterances."""

    block: Block
    keys: tuple[str, ...]
    labels: tuple[NDArray[np.integer[Any]], ...]

    @property
    def size(self) -> float:
        return self.block.size

    @property
    def content(self) -> str:
        return self.block.content


@dataclass(frozen=True)
class _FramesOfAudio:
    """A job: the frames and labels of a block's utterances, by their names, and what of it goes to the ledger."""

    pipeline: FramePipeline

    def open(self, device: str) -> Callable[[_LabelledBlock], tuple[dict[str, Any], Payload]]:
        frames_of = self.pipeline.open(device)

        def run(labelled: _LabelledBlock) -> tuple[dict[str, Any], Payload]:
            made = frames_of(labelled.block)
            found = {
                labelled.keys[row]: (frames, labelled.labels[row]) for row, frames in zip(made.rows, made.frames, strict=True)
            }
            return found, (b"", {"skipped": made.summary()})

        return run


@dataclass(frozen=True)
class _Archives:
    """The tables of a folder of Kaldi archives."""

    folder: Path
    features: Path
    labels: Path
    mean_var: Path


def _archives(source: Path) -> _Archives | None:
    """Return the tables in a folder, if it is one of Kaldi archives.

    Raises:
        InputError: some of them are missing, or there are several.
    """
    if not source.is_dir():
        return None
    tables = sorted(source.glob("*.scp"))
    mean_vars, labels = sorted(source.glob("*.mean-var")), [path for path in tables if path.name.endswith(".bas.scp")]
    if not mean_vars and not labels:
        return None
    features = [path for path in tables if path not in labels]
    for what, found in (("table of features (.scp)", features), ("table of labels (.bas.scp)", labels), (".mean-var", mean_vars)):
        if len(found) != 1:
            named = ", ".join(path.name for path in found) or "none"
            raise InputError(f"{source} should hold one {what} of archives, and has {named}: leave one there")
    return _Archives(source, features[0], labels[0], mean_vars[0])


def _of_archives(archives: _Archives, settings: MelhubertPreparation) -> Pairs:
    if settings.labels is not None or settings.label_normalize != "none":
        raise InputError(
            f"{archives.folder} has labels of its own, {archives.labels.name}: leave out --labels and --label-normalize"
        )
    features, labels = read_table(archives.features), {entry.key: entry for entry in read_table(archives.labels)}
    if without := next((entry.key for entry in features if entry.key not in labels), None):
        raise MismatchError(f"{archives.labels} has no labels of {without}, which {archives.features.name} lists: give them")
    mean_std = _mean_std_of(archives.mean_var)
    blocks = [
        _Entries(tuple((entry, labels[entry.key]) for entry in features[first : first + _ENTRIES_IN_BLOCK]))
        for first in range(0, len(features), _ENTRIES_IN_BLOCK)
    ]
    lengths = [len(read_numbers(labels[entry.key])) for entry in features]
    state = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in (archives.features, archives.labels)]
    made_from = {"archives": state, "normalize": settings.normalize, "mean_std": digest_of_array(mean_std)}
    job = _FramesOfArchives(settings.normalize, mean_std, settings.fit.clusters)
    return Pairs(
        [entry.key for entry in features],
        lengths,
        settings.fit.clusters,
        mean_std,
        made_from,
        blocks,
        job,
        lambda _: set(),
        {"normalize": settings.normalize},
    )


def _mean_std_of(path: Path) -> NDArray[np.float64]:
    """Return mean and deviation out of a .mean-var: sums, sums of squares, and a number of frames, a line each."""
    try:
        sums, squares, count = path.read_text().splitlines()[:3]
        total, square = (np.array([float(item) for item in line.strip(" []\n").split(",")]) for line in (sums, squares))
        mean = total / int(count)
        found = np.stack([mean, np.sqrt(square / int(count) - mean**2)])
    except (OSError, ValueError, ZeroDivisionError) as error:
        raise InputError(f"{path} isn't three lines of sums, squares and a number of frames ({error}): copy it again") from error
    if found.shape != (2, BINS) or not np.isfinite(found).all() or not (found[1] > 0).all():
        raise InputError(f"{path} has no mean and deviation of {BINS} bins: copy it again")
    return found


@dataclass(frozen=True)
class _Entries:
    """Some utterances of archives: where their frames and labels are."""

    entries: tuple[tuple[Entry, Entry], ...]

    @property
    def size(self) -> float:
        return float(len(self.entries))

    @property
    def content(self) -> str:
        return digest_of([[entry.key, entry.path.name, entry.offset] for pair in self.entries for entry in pair])


@dataclass(frozen=True)
class _FramesOfArchives:
    """A job: the frames and labels of some utterances of archives."""

    normalize: str
    mean_std: NDArray[np.float64]
    clusters: int

    def open(self, _: str) -> Callable[[_Entries], tuple[dict[str, Any], Payload]]:
        return lambda block: (
            {features.key: self._pair(features, labels) for features, labels in block.entries},
            (b"", {"skipped": []}),
        )

    def _pair(self, features: Entry, labels: Entry) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        frames, units = read_matrix(features), read_numbers(labels)
        if frames.shape[1] != BINS or len(units) not in (len(frames), -(-len(frames) // 2)):
            raise MismatchError(
                f"{features.key} has frames of shape {frames.shape} in {features.path} and {len(units)} labels in {labels.path}: "
                f"{BINS} bins are taken, and a label for each frame or for two"
            )
        if len(units) and not 0 <= units.min() <= units.max() < self.clusters:
            raise InputError(
                f"{labels.path} has label {units.max()} of {features.key}, and there are {self.clusters}: give --clusters"
            )
        mean, std = self.mean_std if self.normalize == "corpus" else (frames.mean(axis=0), np.maximum(frames.std(axis=0), 1e-8))
        return (frames - mean) / std, units
