"""Pitch of whatever audio a user has: dumped in Hz, shard by shard, and cut into bins once all shards are there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vocable.artefacts.headers import write_header
from vocable.audio.faults import Skipped
from vocable.audio.manifest import Manifest
from vocable.errors import InputError
from vocable.execution.engine import Engine, Work
from vocable.features.pipeline import FramePipeline
from vocable.features.pitch import CEILING, FLOOR, SAMPLE_RATE, Pitch
from vocable.features.store import StoredFrames
from vocable.recipes.corpus import (
    Corpus,
    CorpusSettings,
    counted_at,
    for_all_rows,
    open_corpus,
    require_source,
    require_speakers,
    require_usable,
    rows_named,
)
from vocable.recipes.dumped import Origin, joined_rows, origin_of
from vocable.recipes.feature_dump import claim_on_frames, stand
from vocable.recipes.features import dump_shard, record_of, shards_of
from vocable.recipes.skipping import refuse_skipped
from vocable.recipes.workplace import Claim, open_workplace, require_name
from vocable.units.label_files import header_file
from vocable.units.pitch_labels import BINS_FILE, MOST_BINS, Mode, Norm, PitchBins, write_pitch_labels

_FEWEST_BINS = 2  # with one there is nothing to tell apart


@dataclass(frozen=True, kw_only=True)
class PitchSettings:
    """How pitch is cut into bins.

    Raises:
        InputError: there can be no such bins.
    """

    bins: int = 32
    """Bins."""
    mode: Mode = "quantile"
    """quantile: each holds equally many of the voiced frames; uniform: all are equally wide, in octaves."""
    norm: Norm = "none"
    """speaker: pitch is taken relative to the mean of all a speaker says, so that its rise and fall are left."""
    edges_of: Path | None = None
    """A folder with labels of another split, whose bins are taken; the other settings are theirs, then."""

    def __post_init__(self) -> None:
        if not _FEWEST_BINS <= self.bins <= MOST_BINS:
            raise InputError(f"--bins {self.bins}: give {_FEWEST_BINS} to {MOST_BINS}")
        given = [name for name in ("bins", "mode", "norm") if getattr(self, name) != getattr(PitchSettings, name)]
        if self.edges_of is not None and given:
            raise InputError(f"--{given[0]} and --edges-of: the bins are those of {self.edges_of}; leave out --{given[0]}")


@dataclass(frozen=True)
class MadePitch:
    """What became of it."""

    npy: Path
    """This run's shard, in Hz."""
    labels: Path
    utterances: int = 0
    frames: int = 0
    voiced: int = 0
    """Of the frames, of all shards."""
    bins: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    missing: int = 0
    """Shards that other parts of the work have still to dump."""
    was_done: bool = False
    """The labels stood there already."""


def pitch_pipeline() -> FramePipeline:
    """Return what makes the pitch of labels.

    Raises:
        InputError: the library isn't there.
    """
    return FramePipeline(Pitch(FLOOR, CEILING).spec, keeps_short=True)


def label_pitch(
    source: Path,
    out: Path,
    name: str,
    settings: PitchSettings,
    corpus: CorpusSettings,
    work: Work,
    strict: bool = False,
    overwrite: bool = False,
) -> MadePitch:
    """Write this run's shard of the pitch of a folder of audio, or a manifest, to `out/name_RANK_NSHARD.f0.npy`.

    The part of the work that is done last writes `out/name.f0` with its header, and `out/f0.json`. A manifest's rows that are
    shorter than a frame have empty lines, as fairseq's scripts leave them.

    Args:
        source: a folder of audio, or a manifest.
        out: folder for the files.
        name: what they are called.
        settings: of the bins.
        corpus: which audio is taken; its rate is that at which a manifest counts.
        work: where it runs, and which shard this is.
        strict: make anything left out an error.
        overwrite: replace labels of something else.

    Raises:
        InputError: nothing usable, nothing is voiced, or labels of something else stand there.
    """
    require_source(source)
    require_name(name)
    require_pitch_rate(source, corpus)
    theirs = None if settings.edges_of is None else PitchBins.read(settings.edges_of / BINS_FILE)
    norm = settings.norm if theirs is None else theirs.norm
    if norm == "speaker":
        require_speakers(source, corpus, "pitch relative to a speaker's mean")
    pipeline = pitch_pipeline()
    work = replace(work, devices=("cpu",))  # which finds pitch, whatever else there is
    folder = open_workplace(out)
    npys = [out / f"{name}_{rank}_{work.nshard}.f0.npy" for rank in range(work.nshard)]
    with Engine(work) as engine:
        opened, heard = open_for_pitch(source, corpus, engine, folder)
        if strict:
            refuse_skipped(heard.skipped, record_of(npys[work.rank]))
        if norm == "speaker" and opened.manifest.speakers is None:
            raise InputError("pitch relative to a speaker's mean needs speakers: give --speakers with a pattern, or a table")
        claim = _claim(folder, out, name, settings, theirs, opened, pipeline)
        strangers = not overwrite and not claim.is_known() and not claim.files[0].exists()
        if strangers and settings.edges_of is None and (out / BINS_FILE).exists():
            raise InputError(
                f"{out / BINS_FILE} has another split's bins: take them with --edges-of {out}, or give another --out"
            )
        claim.check(overwrite)
        dumped = dump_shard(source, heard, pipeline, engine, npys[work.rank], folder, strict, overwrite)
    there = list(_shards(npys, heard.manifest, pipeline, work, folder))
    if missing := len(npys) - len(there):
        return MadePitch(dumped.npy, claim.files[0], skipped=dumped.skipped, missing=missing)
    pitch = _Pitch.of(there, opened, source)
    was_done = claim.is_settled()
    if not was_done:
        bins = theirs or _bins(settings, pitch)
        with claim.taken(overwrite) as staged:
            labels = (bins(values, mean) for values, mean in pitch.with_means(norm))
            write_pitch_labels(staged / f"{name}.f0", labels, bins, pitch.rows.digest, pipeline.spec.identity())
            if out / BINS_FILE in claim.files:
                write_header(staged / BINS_FILE, bins.to_json())
    voiced = sum(int((values > 0).sum()) for values in pitch)
    bins = PitchBins.read(out / BINS_FILE)
    return MadePitch(
        dumped.npy, claim.files[0], len(pitch.rows), pitch.frames, voiced, len(bins), dumped.skipped, was_done=was_done
    )


def require_pitch_rate(source: Path, corpus: CorpusSettings) -> None:
    """Refuse a rate for a folder of audio, whose lengths nobody has counted.

    Raises:
        InputError: names it.
    """
    if source.is_dir() and corpus.sample_rate != SAMPLE_RATE:
        raise InputError(
            f"--sample-rate {corpus.sample_rate}: pitch is found at {SAMPLE_RATE} Hz, to which audio is converted; leave it out"
        )


def open_for_pitch(source: Path, corpus: CorpusSettings, engine: Engine, folder: Path) -> tuple[Corpus, Corpus]:
    """Return the usable audio as a manifest counts it, and at the rate at which pitch is found.

    Args:
        source: a folder of audio, or a manifest, of which no row is left out for its length.
        corpus: which audio is taken.
        engine: runs the look-ups.
        folder: where finished blocks of them are kept.

    Raises:
        InputError: there is none.
    """
    settings = for_all_rows(source, corpus)
    opened = open_corpus(source, settings, engine, folder)
    require_usable(opened, source)
    heard = counted_at(opened, SAMPLE_RATE, settings, engine, folder)
    require_usable(heard, source)
    return opened, heard


def _claim(
    folder: Path,
    out: Path,
    name: str,
    settings: PitchSettings,
    theirs: PitchBins | None,
    opened: Corpus,
    pipeline: FramePipeline,
) -> Claim:
    """Return the claim on the labels; bins that stand in the same folder are the other split's."""
    labels = out / f"{name}.f0"
    files = [labels, header_file(labels)]
    if settings.edges_of is None or settings.edges_of.resolve() != out.resolve():
        files.append(out / BINS_FILE)
    how = asdict(settings) | {"edges_of": None if theirs is None else theirs.digest}
    return Claim.of(folder, f"f0-{name}", {**how, "frames": pipeline.key, "audio": opened.state}, files)


def _shards(
    npys: list[Path], whole: Manifest, pipeline: FramePipeline, work: Work, folder: Path
) -> Iterator[tuple[StoredFrames, Origin]]:
    """Yield the shards of the pitch of a manifest that stand there, of the audio as it is now."""
    for npy, rows in zip(npys, shards_of(whole, work.nshard), strict=True):
        if stand(npy, claim_on_frames(whole.select(rows), pipeline, work.kind, npy, folder, whole)):
            yield StoredFrames(npy), origin_of(npy)


@dataclass(frozen=True)
class _Pitch:
    """The pitch of utterances, in Hz."""

    stores: tuple[StoredFrames, ...]
    rows: Manifest

    @classmethod
    def of(cls, shards: list[tuple[StoredFrames, Origin]], opened: Corpus, source: Path) -> _Pitch:
        stores, origins = zip(*shards, strict=True)
        known = joined_rows(stores, origins)
        if known is None:
            raise InputError(
                f"{stores[0].path.parent} lacks a manifest that lay beside dumped pitch: give --overwrite to dump it anew"
            )
        return cls(stores, rows_named(opened.manifest, known.ids, source))

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return (frames[:, 0] for store in self.stores for frames in store)

    @property
    def frames(self) -> int:
        return sum(len(store.array) for store in self.stores)

    def with_means(self, norm: Norm) -> Iterator[tuple[NDArray[np.float32], float]]:
        """Yield each utterance's pitch with the mean of its speaker, or its own where nobody knows who speaks; 1 without norm."""
        means = self._means() if norm == "speaker" else {}
        speakers = self.rows.speakers or (None,) * len(self.rows)
        for values, speaker in zip(self, speakers, strict=True):
            if norm == "none":
                yield values, 1.0
            else:
                yield values, means[speaker] if speaker is not None else _mean(*_sums(values))

    def _means(self) -> dict[str, float]:
        sums: dict[str, tuple[float, int]] = {}
        assert self.rows.speakers is not None
        for values, speaker in zip(self, self.rows.speakers, strict=True):
            if speaker is not None:
                total, count = sums.get(speaker, (0.0, 0))
                more, frames = _sums(values)
                sums[speaker] = (total + more, count + frames)
        return {speaker: _mean(*item) for speaker, item in sums.items()}


def _sums(values: NDArray[np.float32]) -> tuple[float, int]:
    """Return the sum of the voiced frames' octaves, and their number."""
    voiced = values[values > 0].astype(np.float64)
    return float(np.log2(voiced).sum()), len(voiced)


def _mean(octaves: float, frames: int) -> float:
    return float(2 ** (octaves / frames)) if frames else 1.0


def _bins(settings: PitchSettings, pitch: _Pitch) -> PitchBins:
    if settings.mode == "uniform":
        return PitchBins.uniform(settings.bins, settings.norm, FLOOR, CEILING)
    relative = (values[values > 0] / np.float64(mean) for values, mean in pitch.with_means(settings.norm))
    return PitchBins.quantile(settings.bins, settings.norm, FLOOR, CEILING, relative)
