"""Fleets: a codebook for each speaker, or group of speakers, fitted to all of its frames; or made of codebooks that there are."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from vocable.anonymization.cepstra import CLUSTERS, GROUPS, SPEC
from vocable.artefacts.feature_spec import FeatureSpec
from vocable.artefacts.headers import digest_of
from vocable.audio.blocks import shard_bounds
from vocable.audio.faults import Skipped, read_skipped, require_none
from vocable.audio.manifest import Manifest
from vocable.audio.speakers import hash_fraction
from vocable.checkpoints.centroids import read_centroids
from vocable.clustering.fleets import Fleet, Groups, Member, read_fleet, write_fleet
from vocable.clustering.kmeans import KMeans
from vocable.clustering.sources import FrameSource
from vocable.errors import InputError, TooFewFramesError
from vocable.execution.engine import Engine, Work
from vocable.execution.progress import progress
from vocable.features.encoder_layer import EncoderFile
from vocable.features.kaldi import Frames
from vocable.features.pipeline import FramePipeline
from vocable.recipes.cepstra_frames import CepstraFrames
from vocable.recipes.corpus import CorpusSettings, open_corpus, require_source, require_usable
from vocable.recipes.fit_sources import AudioFrames
from vocable.recipes.skipping import keep_skipped, refuse_skipped
from vocable.recipes.workplace import Claim, open_workplace

_ENCODER_CLUSTERS = 1024
_FRAMES_A_CLUSTER = 2  # at least; of fewer frames, fewer clusters are made


@dataclass(frozen=True, kw_only=True)
class FleetSettings:
    """How codebooks are fitted.

    Raises:
        InputError: a part is none.
    """

    clusters: int | None = None
    """Centroids of a codebook; by default 1024 of an encoder's frames, and 256 for each group of cepstra."""
    speakers_per_codebook: int | None = 1
    """None for all of them in one."""
    grouping: Literal["sorted", "random"] = "sorted"
    """Which speakers go together: those that follow each other by name, or any, by the seed."""
    half: bool = False
    """Keep centroids as float16."""
    note: str = ""
    """What the speakers agreed to, or the licence of their recordings."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("clusters", "speakers_per_codebook"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise InputError(f"--{name.replace('_', '-')} {value}: give 1 or more")
        if self.seed < 0:
            raise InputError(f"--seed {self.seed}: give 0 or more")


def speakers_in_each(value: str, name: str) -> int | None:
    """Return how many speakers go into a codebook; None for all.

    Args:
        value: a number, or all.
        name: of the option, for the message.

    Raises:
        InputError: it is neither.
    """
    if value == "all":
        return None
    if not value.isdecimal():
        raise InputError(f"{name} {value}: give a number, or all")
    return int(value)


@dataclass(frozen=True)
class MadeFleet:
    """What became of a fit."""

    fleet: Fleet | None
    """None while other parts of the work have codebooks to fit."""
    skipped: list[Skipped]
    record: Path
    missing: int = 0
    smaller: int = 0
    """Codebooks with fewer centroids than were asked for, for want of frames."""
    was_done: bool = False


@dataclass(frozen=True)
class FleetFrames:
    """Which frames codebooks are of: a layer's, or cepstra, which need no encoder."""

    encoder: EncoderFile | None = None
    layer: int | None = None

    @property
    def spec(self) -> FeatureSpec:
        """What the frames are."""
        return SPEC if self.encoder is None else self.encoder.spec(self.layer)

    @property
    def groups(self) -> Groups:
        """Columns that have centroids of their own."""
        return GROUPS if self.encoder is None else ((0, self.spec.dim),)

    @property
    def pipeline(self) -> FramePipeline:
        """What makes the frames of an encoder."""
        return FramePipeline(self.spec, encoder=self.encoder)

    def clusters(self, settings: FleetSettings) -> int:
        """Return how many centroids each group of a codebook has."""
        return settings.clusters or (CLUSTERS if self.encoder is None else _ENCODER_CLUSTERS)


def fit_fleet(
    source: Path,
    out: Path,
    settings: FleetSettings,
    corpus: CorpusSettings,
    frames: FleetFrames,
    work: Work,
    strict: bool = False,
    overwrite: bool = False,
) -> MadeFleet:
    """Fit a codebook to each group of a corpus's speakers, and write all to one file; a killed run goes on.

    Args:
        source: a folder of audio, or a manifest.
        out: the fleet.
        settings: of the fits.
        corpus: which audio is taken, and who speaks.
        frames: of which the codebooks are.
        work: where it runs; parts of it are whole codebooks.
        strict: make anything left out an error.
        overwrite: replace a fleet of something else.

    Raises:
        InputError: nothing to fit to, nobody says who speaks, or another fleet stands there.
    """
    check_name(out)
    require_source(source)
    spec = frames.spec
    corpus = replace(corpus, sample_rate=spec.sample_rate)
    folder = open_workplace(out.parent)
    record = out.with_suffix(".skipped.jsonl")
    with Engine(work) as engine:
        opened = open_corpus(source, corpus, engine, folder)
        require_usable(opened, source)
        groups = speaker_groups(opened.manifest, settings)
        if strict:
            refuse_skipped(opened.skipped, record)
        made_from = {
            **asdict(settings),
            "audio": opened.state,
            "spec": spec.identity(),
            "recorded": spec.recorded,
            "device": work.kind,
        }
        claim = Claim.of(folder, f"fleet-{out.name}", made_from, [out])
        claim.check(overwrite, source)
        if claim.is_settled():
            known = read_skipped(record) if record.exists() else []
            if strict:
                require_none(known, record)
            return MadeFleet(read_fleet(out), known, record, was_done=True)
        fits = [_Fit(name, speakers, opened.manifest.select(rows), folder, claim.key) for name, speakers, rows in groups]
        clusters = frames.clusters(settings)
        mine = fits[slice(*shard_bounds(len(fits), work.nshard, work.rank))]
        with progress("codebooks", sum(fit.manifest.seconds for fit in mine)) as shown:
            for fit in mine:
                if fit.path.exists():
                    shown.pass_over(fit.manifest.seconds)
                else:
                    fit.run(frames, clusters, settings.seed, engine, shown.advance)
        if missing := sum(not fit.path.exists() for fit in fits):
            return MadeFleet(None, [], record, missing)
        skipped = [*opened.skipped, *(item for fit in fits for item in fit.skipped())]
        keep_skipped(skipped, record)
        if strict:
            require_none(skipped, record)
        try:
            _put_together(fits, source, out, settings, frames, claim, overwrite, record)
        except FileNotFoundError:
            if not claim.is_settled():  # by another part, which took the fits away meanwhile
                raise
        for fit in fits:
            fit.forget()
    fleet = read_fleet(out)
    smaller = sum(fleet.clusters(number) < clusters for number in range(len(fleet)))
    return MadeFleet(fleet, skipped, record, smaller=smaller)


def _put_together(
    fits: Sequence[_Fit],
    source: Path,
    out: Path,
    settings: FleetSettings,
    frames: FleetFrames,
    claim: Claim,
    overwrite: bool,
    record: Path,
) -> None:
    """Write the codebooks that were fitted to one file."""
    whole = [fit for fit in fits if fit.has_codebook()]
    if not whole:
        raise InputError(f"{source} has no audio that codebooks could be fitted to: {record} says why")
    spec, clusters = frames.spec, frames.clusters(settings)
    made = {"clusters": clusters, "seed": settings.seed, "utterances": sum(len(fit.manifest) for fit in fits)}
    with claim.taken(overwrite) as staged:
        write_fleet(
            staged / out.name, (fit.member() for fit in whole), [fit.name for fit in whole], clusters, spec.dim, spec=spec,
            groups=frames.groups, half=settings.half, note=settings.note, made=made,
        )  # fmt: skip


def import_fleet(
    listed: Sequence[tuple[str, Path]],
    out: Path,
    spec: FeatureSpec | None,
    half: bool,
    note: str,
    names_are_speakers: bool = False,
    overwrite: bool = False,
) -> Fleet:
    """Put codebooks that there are into a fleet: scikit-learn's pickles, joblib's files, .npy or ours; none is run.

    Args:
        listed: name and file of each.
        out: the fleet.
        spec: what frames they are of.
        half: keep centroids as float16.
        note: what the speakers agreed to.
        names_are_speakers: each is called as the speaker it is of.
        overwrite: replace a file that is there.

    Raises:
        InputError: a file isn't one, or of another size than the first; or a file stands there.
        UnsafeFileError: one asks for code to be run.
    """
    check_name(out)
    if out.exists() and not overwrite:
        raise InputError(f"{out} is there already: give another name, or --overwrite")
    shapes = [read_centroids(path).centroids.shape for _, path in listed]
    clusters, dim = max(shape[0] for shape in shapes), shapes[0][1]
    if spec is not None and spec.dim != dim:
        raise InputError(f"{listed[0][1]} has centroids of {dim} values, but the layer's frames have {spec.dim}: give another")
    members = (Member(name, read_centroids(path).centroids, (name,) if names_are_speakers else ()) for name, path in listed)
    write_fleet(
        out, members, [name for name, _ in listed], clusters, dim, spec=spec, half=half, note=note, made={"imported": True}
    )
    return read_fleet(out)


def imported_once(listed: Sequence[tuple[str, Path]], out: Path, spec: FeatureSpec, overwrite: bool = False) -> Path:
    """Put codebooks into a fleet beside what is made with it, unless that was done already; return its path.

    Raises:
        InputError: as `import_fleet`; or a fleet of others stands there.
    """
    states = [[name, os.path.abspath(path), path.stat().st_size, path.stat().st_mtime_ns] for name, path in listed]
    claim = Claim.of(open_workplace(out.parent), f"fleet-{out.name}", {"codebooks": states, "spec": spec.identity()}, [out])
    claim.check(overwrite)
    if not claim.is_settled():
        with claim.taken(overwrite) as staged:
            import_fleet(listed, staged / out.name, spec, half=False, note="")
    return out


def check_name(out: Path) -> None:
    """Refuse a fleet's name that isn't one.

    Raises:
        InputError: says what it should be.
    """
    if out.suffix != ".safetensors" or out.is_dir():
        raise InputError(f"--out {out}: codebooks go into one file, whose name ends in .safetensors")


def speaker_groups(manifest: Manifest, settings: FleetSettings) -> list[tuple[str, tuple[str, ...], list[int]]]:
    """Return the codebooks to fit: a name, its speakers, and the rows of their utterances.

    Raises:
        InputError: nobody says who speaks.
    """
    each = settings.speakers_per_codebook
    rows: dict[str, list[int]] = {}
    for row, item in enumerate(manifest):
        if item.speaker is None and each is not None:
            raise InputError(
                "a codebook for each speaker needs to know who speaks: give --speakers with a pattern such as '{speaker}/*/*', "
                "or --speakers-per-codebook all"
            )
        rows.setdefault(item.speaker or "", []).append(row)
    order = sorted(rows, key=(lambda name: hash_fraction(settings.seed, name)) if settings.grouping == "random" else None)
    size = len(order) if each is None else each
    found = []
    for first in range(0, len(order), size):
        own = tuple(sorted(order[first : first + size]))
        name = "all" if each is None else own[0] if len(own) == 1 else f"{own[0]}-and-{len(own) - 1}"
        found.append((name, tuple(item for item in own if item), sorted(row for item in own for row in rows[item])))
    if len({name for name, _, _ in found}) < len(found):  # a speaker is called as a group is
        found = [(f"codebook-{number}", own, utterances) for number, (_, own, utterances) in enumerate(found)]
    return found


@dataclass(frozen=True)
class _Fit:
    """The fit of one codebook, which lies in a fleet of its own until all are there."""

    name: str
    speakers: tuple[str, ...]
    manifest: Manifest
    folder: Path
    key: str

    @property
    def path(self) -> Path:
        return self.folder / f"fleet-{digest_of([self.key, self.name])[:32]}.safetensors"

    @property
    def _record(self) -> Path:
        return self.path.with_suffix(".skipped.jsonl")

    def run(self, frames: FleetFrames, clusters: int, seed: int, engine: Engine, advance: Callable[[float], None]) -> None:
        """Fit the codebook; where there is too little speech for one, an empty file says so."""
        skipped: list[Skipped] = []
        dim = frames.spec.dim
        try:
            if frames.encoder is None:
                cepstra = CepstraFrames(self.manifest, engine, advance, skipped)
                book = self._fitted(clusters, cepstra.count, frames.groups, dim, seed, engine, cepstra.columns)
                statistics = cepstra.statistics()
            else:
                source = AudioFrames(self.manifest, frames.pipeline, engine, advance, skipped)
                count = sum(frames.spec.frame_count(samples) for samples in self.manifest.samples.tolist())
                book = self._fitted(clusters, count, frames.groups, dim, seed, engine, lambda *_: source)
                statistics = {}
        except TooFewFramesError:
            print(f"warning: {self.name} has too little speech for a codebook, and is left out", file=sys.stderr)
            self.path.write_bytes(b"")
        else:
            member = Member(self.name, book, self.speakers, statistics)
            write_fleet(self.path, [member], [self.name], len(book), dim, groups=frames.groups)
        keep_skipped(skipped, self._record)

    @staticmethod
    def _fitted(
        clusters: int, count: int, groups: Groups, dim: int, seed: int, engine: Engine, source: Callable[[int, int], FrameSource]
    ) -> Frames:
        size = min(clusters, count // _FRAMES_A_CLUSTER)
        if not size:
            raise TooFewFramesError(count, 1)
        book = np.zeros((size, dim), np.float32)
        try:
            for first, last in groups:
                estimator = KMeans(size, random_state=seed, workers=engine.work.here, device=engine.work.device_here)
                book[:, first:last] = estimator.fit(source(first, last)).cluster_centers_
        except TooFewFramesError as error:  # files that can't be read have none of what their headers promise
            if error.count // _FRAMES_A_CLUSTER in (0, size):
                raise
            return _Fit._fitted(clusters, error.count, groups, dim, seed, engine, source)
        return book

    def skipped(self) -> list[Skipped]:
        return read_skipped(self._record) if self._record.exists() else []

    def has_codebook(self) -> bool:
        return self.path.stat().st_size > 0

    def member(self) -> Member:
        own = read_fleet(self.path)
        return Member(self.name, own.centroids(0), self.speakers, {name: values[0] for name, values in own.statistics.items()})

    def forget(self) -> None:
        self.path.unlink(missing_ok=True)
        self._record.unlink(missing_ok=True)
