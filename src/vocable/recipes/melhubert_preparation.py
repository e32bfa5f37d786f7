"""MelHuBERT's preprocessing: audio, or Kaldi archives, become log-mel frames and labels in a `.npy` each, and a CSV of these."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vocable.artefacts.headers import digest_of, digest_of_array
from vocable.artefacts.run_log import RunLog
from vocable.audio.blocks import BlockShard, blocks_of
from vocable.audio.manifest import Manifest
from vocable.audio.manifest_files import read_manifest
from vocable.errors import InputError, MismatchError
from vocable.execution.engine import Engine, Work
from vocable.execution.stages import Payload
from vocable.features.kaldi_archives import Entry, matrix_shape, read_matrix, read_numbers, read_table
from vocable.features.normalization import Normalization
from vocable.features.pipeline import FramePipeline
from vocable.recipes.companion_manifest import manifest_beside
from vocable.recipes.corpus import CorpusSettings, open_corpus, require_source, require_usable, rows_named
from vocable.recipes.fitting import FitSettings
from vocable.recipes.frames import FrameChoice, corpus_statistics, pipeline_for, require_speakers_for
from vocable.recipes.label_preparation import Preparation, prepare
from vocable.recipes.pair_writer import FeatureType, Pairs, PairWriter, Stored, check_places, file_keys
from vocable.recipes.workplace import NAME, open_workplace, require_name
from vocable.units.label_files import read_units
from vocable.units.preflight import check_labels
from vocable.units.units import Survey, Units

BINS = 40
_SAMPLE_RATE = 16_000
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
        if "," in self.name or '"' in self.name:
            raise InputError(f"--name {self.name}: give one without commas and quotes, which CSVs have a use for")
        if self.corpus.sample_rate != _SAMPLE_RATE:
            raise InputError(
                f"--sample-rate {self.corpus.sample_rate}: MelHuBERT's frames are of {_SAMPLE_RATE} Hz; leave it out"
            )
        if self.labels is not None and self.dtype == "none":
            raise InputError(
                "--dtype none and --labels: nothing would be written; train on data.folder with these labels instead"
            )
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
    if archives is not None and settings.dtype == "none":
        raise InputError(f"--dtype none: {source} holds archives and no audio that frames could be made of; store them")
    if settings.dtype != "none":
        check_places(out, source)
    open_workplace(out)
    log = RunLog(out / ("run.jsonl" if work.nshard == 1 else f"run-{work.rank}.jsonl"))
    if archives is not None:
        with Engine(work) as engine, log.recorded():
            return PairWriter(out, settings.name, settings.dtype, _of_archives(archives, settings)).write(engine, overwrite)
    with Engine(work) as engine, log.recorded():
        labels = _labels(source, out, settings, work, overwrite)
        if isinstance(labels, int):
            return Stored(out, None, 0, 0, 0, labels)
        units, names = labels
        opened = open_corpus(source, settings.corpus, engine, out / NAME)
        require_usable(opened, source)
        manifest = opened.manifest if names is None else rows_named(opened.manifest, names, source)
        require_speakers_for(settings.normalize, manifest)
        check_labels("labels", units.header, Survey.of(units, units.header.clusters), manifest, rate=units.header.rate)
        choice = FrameChoice(features="logmel", mel_bins=BINS, normalize=settings.normalize)
        plain = FramePipeline(choice.base(_SAMPLE_RATE))
        mean_std = corpus_statistics(plain, manifest, engine, out / NAME)
        mean, std = mean_std.astype(np.float32)
        if settings.normalize == "corpus":  # with just the numbers that are written
            pipeline = replace(plain, normalization=Normalization("corpus", (mean, std)))
        else:
            pipeline = pipeline_for(choice, _SAMPLE_RATE, manifest, engine, out / NAME)
        pairs = _of_audio(manifest, units, pipeline, mean_std)
        return PairWriter(out, settings.name, settings.dtype, pairs).write(engine, overwrite)


def _labels(
    source: Path, out: Path, settings: MelhubertPreparation, work: Work, overwrite: bool
) -> tuple[Units, Sequence[str] | None] | int:
    """Return labels with the ids of their utterances, if these are known; or how many blocks others have still to label."""
    if settings.labels is None:
        frames = FrameChoice(features="logmel", mel_bins=BINS, normalize=settings.label_normalize)
        asked = Preparation(corpus=settings.corpus, frames=frames, fit=settings.fit, valid_percent=0.0)
        prepared = prepare(source, out, asked, work, overwrite)
        return prepared.missing or (read_units(out / "train.km"), prepared.splits["train"].ids)
    units = read_units(settings.labels)
    beside = manifest_beside(settings.labels.with_suffix(""))
    return units, units.ids if beside is None else read_manifest(beside, _SAMPLE_RATE).ids


def _of_audio(manifest: Manifest, units: Units, pipeline: FramePipeline, mean_std: NDArray[np.float64]) -> Pairs:
    spec, keys = pipeline.spec, file_keys(manifest.ids)
    lengths = [spec.frame_count(int(samples)) for samples in manifest.samples]
    blocks, rows = [], []
    for block in blocks_of(manifest):
        own = range(block.first, block.first + len(block.utterances))
        blocks.append(_LabelledBlock(block, tuple(keys[row] for row in own), tuple(units[row] for row in own)))
        rows.append(own)
    for row, (length, labelled) in enumerate(zip(lengths, units.lengths.tolist(), strict=True)):
        if labelled not in (length, length // 2, -(-length // 2)):
            raise MismatchError(
                f"{manifest.ids[row]} has {length} log-mel frames and {labelled} labels, neither one for each nor one for two: "
                "give labels every 10 or 20 ms, of this audio"
            )
    made_from = {"frames": pipeline.key, "labels": digest_of_array(units.values), "audio": manifest.state}
    described = {
        "manifest": manifest.digest, "normalize": pipeline.normalization.scope, "rate": units.header.rate,
        "codebook": units.header.codebook, "sample_rate": _SAMPLE_RATE,
    }  # fmt: skip
    clusters = units.header.clusters or int(units.values.max(initial=0)) + 1
    return Pairs(
        keys,
        lengths,
        units.lengths.tolist(),
        BINS,
        clusters,
        mean_std,
        made_from,
        blocks,
        rows,
        _FramesOfAudio(pipeline),
        described,
    )


@dataclass(frozen=True)
class _LabelledBlock(BlockShard):
    """A block with the names and labels of its utterances."""

    keys: tuple[str, ...]
    labels: tuple[NDArray[np.integer[Any]], ...]


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


def holds_archives(source: Path) -> bool:
    """Tell whether a folder holds the authors' Kaldi archives, whole or not."""
    return source.is_dir() and any(any(source.glob(pattern)) for pattern in ("*.mean-var", "*.bas.scp"))


def _archives(source: Path) -> _Archives | None:
    """Return the tables in a folder, if it is one of Kaldi archives.

    Raises:
        InputError: some of them are missing, or there are several.
    """
    if not holds_archives(source):
        return None
    tables = sorted(source.glob("*.scp"))
    mean_vars, labels = sorted(source.glob("*.mean-var")), [path for path in tables if path.name.endswith(".bas.scp")]
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
    if not features:
        raise InputError(f"{archives.features} lists no utterance: give a table with some")
    mean_std = _mean_std_of(archives.mean_var)
    keys = file_keys([entry.key for entry in features])
    lengths, counts = [], []
    for entry in features:
        shape = matrix_shape(entry)
        count = len(read_numbers(labels[entry.key]))
        if shape[1] != BINS or count not in (shape[0], -(-shape[0] // 2)):
            raise MismatchError(
                f"{entry.key} has frames of shape {shape} in {entry.path} and {count} labels in {labels[entry.key].path}: "
                f"{BINS} bins are taken, and a label for each frame or for two"
            )
        lengths.append(shape[0])
        counts.append(count)
    named = sorted({entry.path for entry in (*features, *labels.values())} | {archives.features, archives.labels})
    states = {path: [path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in named}
    rows = [range(first, min(first + _ENTRIES_IN_BLOCK, len(features))) for first in range(0, len(features), _ENTRIES_IN_BLOCK)]
    blocks = [
        _Entries(tuple((keys[row], features[row], labels[features[row].key]) for row in own), digest_of(list(states.values())))
        for own in rows
    ]
    made_from = {"archives": list(states.values()), "normalize": settings.normalize}
    described = {"normalize": settings.normalize, "rate": 100.0 if counts == lengths else 50.0, "sample_rate": _SAMPLE_RATE}
    clusters = settings.fit.clusters
    job = _FramesOfArchives(settings.normalize, mean_std, clusters)
    return Pairs(keys, lengths, counts, BINS, clusters, mean_std, made_from, blocks, rows, job, described)


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
    """Some utterances of archives: names of their files, and where their frames and labels are."""

    entries: tuple[tuple[str, Entry, Entry], ...]
    state: str
    """Digest of sizes and times of the archives."""

    @property
    def size(self) -> float:
        return float(len(self.entries))

    @property
    def content(self) -> str:
        return digest_of(
            [self.state, [[entry.key, entry.path.name, entry.offset] for _, *pair in self.entries for entry in pair]]
        )


@dataclass(frozen=True)
class _FramesOfArchives:
    """A job: the frames and labels of some utterances of archives."""

    normalize: str
    mean_std: NDArray[np.float64]
    clusters: int

    def open(self, _: str) -> Callable[[_Entries], tuple[dict[str, Any], Payload]]:
        return lambda block: ({key: self._pair(*pair) for key, *pair in block.entries}, (b"", {"skipped": []}))

    def _pair(self, features: Entry, labels: Entry) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        frames, units = read_matrix(features), read_numbers(labels)
        if not np.isfinite(frames.sum()):
            raise InputError(
                f"{features.path} has frames of {features.key} that are not finite: make them again, or leave them out"
            )
        if len(units) and not 0 <= units.min() <= units.max() < self.clusters:
            raise InputError(
                f"{labels.path} has labels from {units.min()} to {units.max()} of {features.key}, and there are {self.clusters}, "
                "from 0: give --clusters, or other labels"
            )
        mean, std = self.mean_std if self.normalize == "corpus" else (frames.mean(axis=0), np.maximum(frames.std(axis=0), 1e-8))
        return (frames - mean) / std, units
