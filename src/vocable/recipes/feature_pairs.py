"""Frames and labels of utterances in a `.npy` each, listed in a CSV, as MelHuBERT's code takes them."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vocable.artefacts.headers import digest_of_array, write_header
from vocable.artefacts.writing import replacing, space_checked, write_text
from vocable.audio.blocks import shard_bounds
from vocable.checkpoints.npy import npy_shape
from vocable.errors import InputError, MismatchError
from vocable.execution.engine import Engine, Job
from vocable.execution.progress import progress
from vocable.execution.stages import Finished, Payload, Stage
from vocable.recipes.workplace import NAME, Claim
from vocable.units.units import Units, UnitsHeader

FeatureType = Literal["float32", "float16", "float64", "none"]
FEATURES, LABELS = "feature", "cluster"
MEAN_STD = "mean-std.npy"
"""The file of mean and deviation of log-mel bins."""
_MADE_FROM = ".made-from"

COLUMNS = ("file_path", "label_path", "length")
_RATES = (100.0, 50.0)
"""Labels per second: one for each log-mel frame, or for two together."""


@dataclass(frozen=True)
class FeaturePairs:
    """What some CSVs list, in their order."""

    features: tuple[Path, ...]
    lengths: NDArray[np.int64]
    """Log-mel frames of 10 ms in each, as the files say."""
    units: Units
    rate: float
    """Labels per second."""
    notes: tuple[str, ...]


def read_pairs(files: Sequence[Path], bins: int) -> FeaturePairs:
    """Read CSVs of frames and labels.

    Lengths are taken from the files of frames, and labels' rate from how many of them there are: a CSV's own column counts frames
    of 10 ms in some, of 20 ms in others.

    Args:
        files: each with the columns file_path, label_path and length.
        bins: of log-mel frames.

    Raises:
        InputError: a file is missing, broken or of something else.
        MismatchError: labels aren't of their frames, or some are at another rate.
    """
    features: list[Path] = []
    lengths: list[int] = []
    labels: list[NDArray[np.integer[Any]]] = []
    rates: set[float] = set()
    notes: list[str] = []
    for path in files:
        stated = []
        for line, (frames, units, length) in _rows(path):
            shape = npy_shape(frames)
            if len(shape) != 2 or shape[1] != bins:
                raise InputError(
                    f"{frames} has an array of shape {shape}, not log-mel frames of {bins} bins: see {path}, line {line}"
                )
            own = _labels(units)
            rate = next((rate for rate in _RATES if len(own) == -(-shape[0] * rate // 100)), None)
            if rate is None:
                raise MismatchError(
                    f"{path}, line {line}: {units} has {len(own)} labels and {frames} {shape[0]} frames of 10 ms, which take "
                    f"{shape[0]} labels, or {-(-shape[0] // 2)} at 20 ms: give the labels that belong to them"
                )
            if shape[0] > 1:
                rates.add(rate)
            if len(rates) > 1:
                raise MismatchError(f"{path}, line {line}: labels of {1000 / rate:g} ms, after others: make all at one rate")
            features.append(frames)
            lengths.append(shape[0])
            labels.append(own)
            stated.append((shape[0], length))
        if any(length != frames for frames, length in stated):
            if any(length != -(-frames // 2) for frames, length in stated):
                raise MismatchError(f"{path} has lengths that are neither of its frames nor half as many: make it anew")
            notes.append(f"{path} counts frames of 20 ms; limits of length are taken in time all the same")
    if not features:
        raise InputError(
            f"{', '.join(map(str, files)) or 'no CSV'} lists no utterance: give one that 'vocable melhubert preprocess' wrote"
        )
    rate = rates.pop() if rates else _RATES[0]
    units_read = Units.of(labels, UnitsHeader(rate=rate), [path.stem for path in features])
    return FeaturePairs(tuple(features), np.array(lengths, dtype=np.int64), units_read, rate, tuple(notes))


def _rows(path: Path) -> Iterator[tuple[int, tuple[Path, Path, int]]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            if tuple(header) != COLUMNS:
                raise InputError(f"{path} begins with {','.join(header)[:80]!r}, not with {','.join(COLUMNS)}: give such a CSV")
            for number, row in enumerate(reader, 2):
                if len(row) != len(COLUMNS) or not row[2].strip().isdecimal():
                    raise InputError(f"{path}, line {number}: {','.join(row)[:80]!r} isn't two paths and a length: make it anew")
                yield number, (_placed(path, number, row[0]), _placed(path, number, row[1]), int(row[2]))
    except FileNotFoundError:
        raise InputError(f"{path} isn't there: give the CSV that 'vocable melhubert preprocess' wrote") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is no CSV ({error}): give the one that 'vocable melhubert preprocess' wrote") from error


def _placed(listed: Path, line: int, name: str) -> Path:
    """Return a path as it stands, or from the CSV's folder."""
    for path in (Path(name), listed.parent / name):
        if path.is_file():
            return path
    raise InputError(f"{listed}, line {line}: {name} isn't there, nor from its folder: mend the path, or make the CSV anew")


def _labels(path: Path) -> NDArray[np.integer[Any]]:
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} is no whole .npy of labels ({error}): make it again") from error
    if found.ndim != 1 or found.dtype.kind not in "iu" or (len(found) and int(found.min()) < 0):
        raise InputError(f"{path} has an array of {found.dtype} and shape {found.shape}, not labels from 0 on: make it again")
    labels: NDArray[np.integer[Any]] = found
    return labels


@dataclass(frozen=True)
class Stored:
    """What was written."""

    out: Path
    csv: Path | None
    utterances: int
    frames: int
    clusters: int
    missing: int = 0
    """Blocks that other parts of the work have still to do."""
    was_done: bool = False


@dataclass(frozen=True)
class Pairs:
    """Frames and labels that are to be made."""

    keys: Sequence[str]
    """Names of the files, by utterance."""
    lengths: Sequence[int]
    """Log-mel frames of each."""
    clusters: int
    mean_std: NDArray[np.float64]
    made_from: dict[str, Any]
    blocks: Sequence[Any]
    """What a job makes some of them of."""
    job: Job[Any, tuple[dict[str, Any], Payload]]
    """A block to frames and labels by name, and what the ledger keeps of it."""
    left_out: Callable[[Finished[Any]], set[int]]
    """The utterances that could not be made."""
    described: dict[str, Any]
    """What a header says of them."""


@dataclass(frozen=True)
class PairWriter:
    """Writes frames and labels, one file each, and the CSV; what was written before a kill isn't made again.

    Files are written aside, in folders that get their names when they are whole.

    Args:
        out: the folder.
        name: of the CSV.
        dtype: of frames; `none` writes neither frames nor CSV.
        pairs: what is to be made.
    """

    out: Path
    name: str
    dtype: FeatureType
    pairs: Pairs

    @property
    def csv(self) -> Path | None:
        """The CSV, if there is one."""
        return None if self.dtype == "none" else self.out / f"{self.name}-data-cluster-pair.csv"

    def write(self, engine: Engine, overwrite: bool) -> Stored:
        """Write what isn't written yet.

        Raises:
            InputError: something else stands there, and isn't to be replaced.
        """
        claim, pairs = self._claim(), self.pairs
        places = [] if self.csv is None else [self.out / FEATURES, self.out / LABELS]
        done = Stored(self.out, self.csv, len(pairs.keys), sum(pairs.lengths), pairs.clusters, was_done=True)
        if claim.is_settled() and all(_noted(place) == claim.key for place in places):
            return done
        claim.check(overwrite)
        for place in places:
            if place.exists() and _noted(place) != claim.key and not overwrite:
                raise InputError(f"{place} is there already, and holds something else: give another folder, or --overwrite")
        skipped: set[int] = set()
        if places:
            finished = self._made(engine, claim)
            if finished.missing:
                return replace(done, missing=finished.missing, was_done=False)
            skipped = pairs.left_out(finished)
            self._check_whole(claim, skipped)
        with claim.taken(overwrite) as staged:
            for place in places:
                self._put(place, claim)
            np.save(staged / MEAN_STD, pairs.mean_std)
            header = {"format": "vocable.melhubert/1", "dtype": self.dtype, "clusters": pairs.clusters, **pairs.described}
            write_header(staged / "preprocess.json", header)
            if self.csv is not None:
                self._list(staged / self.csv.name, skipped)
        return replace(done, utterances=len(pairs.keys) - len(skipped), was_done=False)

    def _claim(self) -> Claim:
        made_from = {**self.pairs.made_from, "dtype": self.dtype, "mean_std": digest_of_array(self.pairs.mean_std)}
        files = [*([self.csv] if self.csv is not None else []), self.out / "preprocess.json", self.out / MEAN_STD]
        return Claim.of(self.out / NAME, f"melhubert-{self.name}", made_from, files)

    def _aside(self, claim: Claim) -> Path:
        return self.out / NAME / f"melhubert-{claim.key[:16]}"

    def _made(self, engine: Engine, claim: Claim) -> Finished[Any]:
        aside = self._aside(claim)
        for name in (FEATURES, LABELS):
            if _noted(self.out / name) != claim.key:
                (aside / name).mkdir(parents=True, exist_ok=True)
        blocks = self.pairs.blocks
        mine = slice(*shard_bounds(len(blocks), engine.work.nshard, engine.work.rank))
        with progress("log-mel", sum(block.size for block in blocks[mine])) as shown:
            return Stage("melhubert", [claim.key], self.out / NAME).run(
                _Write(self.pairs.job, self.dtype, aside), blocks, engine, shown, mine
            )

    def _check_whole(self, claim: Claim, skipped: set[int]) -> None:
        for name in (FEATURES, LABELS):
            place = self.out / name if _noted(self.out / name) == claim.key else self._aside(claim) / name
            there = {path.stem for path in place.glob("*.npy")}
            for row, key in enumerate(self.pairs.keys):
                if row not in skipped and key not in there:
                    raise InputError(f"{place / key}.npy was removed meanwhile: remove {self.out / NAME}, too, and run again")

    def _put(self, place: Path, claim: Claim) -> None:
        """Give a folder of files its name."""
        if _noted(place) == claim.key:
            return
        aside = self._aside(claim) / place.name
        write_text(aside / _MADE_FROM, claim.key)
        shutil.rmtree(place, ignore_errors=True)
        aside.rename(place)

    def _list(self, path: Path, skipped: set[int]) -> None:
        out = self.out.resolve()
        with replacing(path) as file:
            file.write((",".join(COLUMNS) + "\n").encode())
            for row, (key, length) in enumerate(zip(self.pairs.keys, self.pairs.lengths, strict=True)):
                if row not in skipped:
                    file.write(f"{out / FEATURES / key}.npy,{out / LABELS / key}.npy,{length}\n".encode())


def _noted(place: Path) -> str | None:
    path = place / _MADE_FROM
    return path.read_text() if path.is_file() else None


@dataclass(frozen=True)
class _Write:
    """A job: make frames and labels, and write each to its file."""

    job: Job[Any, tuple[dict[str, Any], Payload]]
    dtype: FeatureType
    folder: Path

    def open(self, device: str) -> Callable[[Any], Payload]:
        make = self.job.open(device)

        def run(block: Any) -> Payload:
            made, kept = make(block)
            for key, (frames, labels) in made.items():
                _write_array(self.folder / FEATURES / f"{key}.npy", frames.astype(self.dtype))
                _write_array(self.folder / LABELS / f"{key}.npy", labels.astype(np.int64))
            return kept

        return run


def _write_array(path: Path, array: NDArray[Any]) -> None:
    """Write an array as a `.npy`, whole or not at all."""
    held = io.BytesIO()
    np.save(held, array, allow_pickle=False)
    with space_checked(path), replacing(path) as file:
        file.write(held.getvalue())
