"""Frames and labels of utterances, written in a `.npy` each, and the CSV that lists them; what was written isn't made again."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vocable.artefacts.headers import digest_of, digest_of_array, write_header
from vocable.artefacts.writing import remove_leftovers, replacing, space_checked
from vocable.audio.blocks import shard_bounds
from vocable.errors import InputError
from vocable.execution.engine import Engine, Job
from vocable.execution.ledger import Ledger
from vocable.execution.progress import progress
from vocable.execution.stages import Finished, Payload, Stage
from vocable.features.pipeline import warn_given_up
from vocable.recipes.feature_pairs import COLUMNS, FORMAT, MEAN_STD, SUFFIX
from vocable.recipes.making import MARK, Making, begun, making_in
from vocable.recipes.workplace import NAME, Claim

FeatureType = Literal["float32", "float16", "float64", "none"]
FEATURES, LABELS = "feature", "cluster"
_STAGE = "melhubert"
_NPY_HEADER = 128  # bytes, of an array of one or two dimensions
_UNLISTED = set(',"\n\r')


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
    labels: Sequence[int]
    """Labels of each."""
    bins: int
    clusters: int
    mean_std: NDArray[np.float64]
    made_from: dict[str, Any]
    blocks: Sequence[Any]
    """What a job makes some of them of, in the order of the keys."""
    rows: Sequence[range]
    """The utterances of each block."""
    job: Job[Any, tuple[dict[str, Any], Payload]]
    """A block to frames and labels by name, and what the ledger keeps of it."""
    described: dict[str, Any]
    """What a header says of them."""


@dataclass(frozen=True)
class PairWriter:
    """Writes frames and labels, one file each, and the CSV.

    Files are whole or not there; the CSV, and what says what all of it is, come when all are there, and go first where something
    else is to take their place.

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
        return None if self.dtype == "none" else self.out / f"{self.name}{SUFFIX}"

    def write(self, engine: Engine, overwrite: bool) -> Stored:
        """Write what isn't written yet.

        Raises:
            InputError: something else stands there, and isn't to be replaced.
        """
        claim = self._claim()
        standing = self._standing(claim)
        if standing is not None:
            return standing
        claim.check(overwrite)
        out: set[int] = set()
        lost = False
        if self.csv is None and overwrite and making_in(self.out / FEATURES) is not None:
            self._clear(claim)
        if self.csv is not None:
            finished = self._made(engine, claim, overwrite)
            if finished.missing:
                return Stored(self.out, self.csv, 0, 0, self.pairs.clusters, finished.missing)
            out, lost = self._left_out(finished), any(finished.given_up())
            warn_given_up("the frames", finished)
        with claim.taken(overwrite, lasting=not lost) as staged:
            np.save(staged / MEAN_STD, self.pairs.mean_std)
            header = {
                "format": FORMAT, "key": claim.key, "dtype": self.dtype, "clusters": self.pairs.clusters,
                "mean_std": digest_of_array(self.pairs.mean_std.astype(np.float32)), **self.pairs.described,
            }  # fmt: skip
            write_header(staged / "preprocess.json", header)
            if self.csv is not None:
                self._list(staged / self.csv.name, out)
        return replace(self._counted(out), was_done=False)

    def _counted(self, left_out: set[int]) -> Stored:
        kept = [length for row, length in enumerate(self.pairs.lengths) if row not in left_out]
        return Stored(self.out, self.csv, len(kept), sum(kept), self.pairs.clusters, was_done=True)

    def _claim(self) -> Claim:
        made_from = {
            **self.pairs.made_from, "dtype": self.dtype, "name": self.name, "clusters": self.pairs.clusters,
            "mean_std": digest_of_array(self.pairs.mean_std),
        }  # fmt: skip
        files = [*([self.csv] if self.csv is not None else []), self.out / "preprocess.json", self.out / MEAN_STD]
        return Claim.of(self.out / NAME, _STAGE, made_from, files, companions=sorted(self.out.glob(f"*{SUFFIX}")))

    @property
    def _places(self) -> tuple[Path, Path]:
        return self.out / FEATURES, self.out / LABELS

    def _standing(self, claim: Claim) -> Stored | None:
        """Return what stands there, if all of it is as it was written and where it was written."""
        if not claim.is_settled():
            return None
        if self.csv is None:
            return self._counted(set())
        mark = making_in(self.out / FEATURES)
        listed = _keys_listed(self.csv, self._places[0])
        if listed is None:
            self.csv.unlink()  # the folder was moved
        if mark is None or mark.key != claim.key or listed is None:
            return None
        out = {row for row, key in enumerate(self.pairs.keys) if key not in listed}
        return self._counted(out) if self._are_whole(range(len(self.pairs.keys)), out) else None

    def _are_whole(self, rows: Sequence[int], left_out: set[int], sizes: tuple[Mapping[str, int], ...] | None = None) -> bool:
        """Tell whether the files of some utterances have the sizes that they should have."""
        features, labels = sizes or tuple(_sizes_in(place) for place in self._places)
        width = self.pairs.bins * np.dtype(self.dtype).itemsize
        return all(
            row in left_out
            or (
                features.get(self.pairs.keys[row]) == _NPY_HEADER + self.pairs.lengths[row] * width
                and labels.get(self.pairs.keys[row]) == _NPY_HEADER + self.pairs.labels[row] * 8
            )
            for row in rows
        )

    def _made(self, engine: Engine, claim: Claim, overwrite: bool) -> Finished[Any]:
        mark = making_in(self.out / FEATURES)
        if mark is not None and mark.key != claim.key:
            if not overwrite:
                raise InputError(
                    f"{self._places[0]} holds frames of other settings or audio: give another folder, or --overwrite"
                )
            self._clear(claim)
            mark = None
        for place in self._places:
            place.mkdir(parents=True, exist_ok=True)
            remove_leftovers(place)
        if mark is None or not self._known_are_whole(mark):
            mark = begun(self.out / FEATURES, claim.key, again=mark is not None)
        blocks = self.pairs.blocks
        mine = slice(*shard_bounds(len(blocks), engine.work.nshard, engine.work.rank))
        with progress("log-mel", sum(block.size for block in blocks[mine])) as shown:
            job = _Write(self.pairs.job, self.dtype, self.out)
            return Stage(_STAGE, list(mark), self.out / NAME).run(job, blocks, engine, shown, mine)

    def _clear(self, claim: Claim) -> None:
        """Remove what stands, what speaks of it first."""
        for path in (*claim.files, *claim.companions):
            path.unlink(missing_ok=True)
        features, labels = self._places
        for place in (labels, features):
            for path in place.glob("*.npy"):
                path.unlink(missing_ok=True)
        (features / MARK).unlink(missing_ok=True)  # without it, what is left would be taken for somebody else's

    def _known_are_whole(self, mark: Making) -> bool:
        """Tell whether the files of all blocks that count as done are there."""
        known = Ledger(self.out / NAME).entries(_STAGE)
        sizes = tuple(_sizes_in(place) for place in self._places)
        for block, rows in zip(self.pairs.blocks, self.pairs.rows, strict=True):
            entry = known.get(digest_of([list(mark), block.content]))
            if entry is not None and entry.failure is None:
                out = {rows.start + item[0] for item in entry.summary["skipped"]}
                if not self._are_whole(rows, out, sizes):
                    return False
        return True

    def _left_out(self, finished: Finished[Any]) -> set[int]:
        out: set[int] = set()
        for (_, entry), rows in zip(finished.blocks, self.pairs.rows, strict=True):
            if entry is None or entry.failure is not None:
                out |= set(rows)
            else:
                out |= {rows.start + item[0] for item in entry.summary["skipped"]}
        return out

    def _list(self, path: Path, left_out: set[int]) -> None:
        features, labels = (place.resolve() for place in self._places)
        with replacing(path) as file:
            file.write((",".join(COLUMNS) + "\n").encode())
            for row, (key, length) in enumerate(zip(self.pairs.keys, self.pairs.lengths, strict=True)):
                if row not in left_out:
                    file.write(f"{features / key}.npy,{labels / key}.npy,{length}\n".encode())


def check_places(out: Path, source: Path) -> None:
    """Refuse, before any work, a folder in which something would be lost, or whose files could not be listed.

    Args:
        out: the folder of all.
        source: what is described.

    Raises:
        InputError: says what stands in the way.
    """
    if _UNLISTED & set(str(out.resolve())):
        raise InputError(f"{out}: its whole path has a comma, a quote or a line end, which the CSV can't list: give another")
    places, whence = (out / FEATURES, out / LABELS), source.resolve()
    for place in places:
        if place.is_symlink() or (place.exists() and not place.is_dir()):
            raise InputError(f"{place} is no folder of its own: remove it, or give another folder for the results")
        if whence == place.resolve() or place.resolve() in whence.parents:
            raise InputError(f"{source} lies in {place}, where frames and labels go: give another folder for these")
    if any(place.exists() and any(place.iterdir()) for place in places) and making_in(out / FEATURES) is None:
        raise InputError(f"{places[0]} or {places[1]} holds files that aren't of vocable: give another folder")


def file_keys(ids: Sequence[str]) -> list[str]:
    """Return the names of utterances' files: the last part of their ids, or all of them, with dashes, where two end alike.

    Raises:
        InputError: two would have one name.
    """
    short = [_plain(name.rsplit("/", 1)[-1]) for name in ids]
    keys = short if len(set(short)) == len(short) else [_plain(name.replace("/", "-")) for name in ids]
    first: dict[str, str] = {}
    for name, key in zip(ids, keys, strict=True):
        if first.setdefault(key, name) != name:
            raise InputError(f"{first[key]} and {name} would both be {key}.npy: rename one of them")
    return keys


def _plain(name: str) -> str:
    return "".join("-" if letter in _UNLISTED or not letter.isprintable() else letter for letter in name) or "-"


def _sizes_in(place: Path) -> dict[str, int]:
    if not place.is_dir():
        return {}
    with os.scandir(place) as entries:
        return {entry.name.removesuffix(".npy"): entry.stat().st_size for entry in entries if entry.name.endswith(".npy")}


def _keys_listed(csv: Path, features: Path) -> set[str] | None:
    """Return the names that a CSV lists, or None where its paths lead elsewhere, as after a move."""
    head = f"{features.resolve()}{os.sep}"
    lines = csv.read_text().splitlines()[1:]
    if not all(line.startswith(head) for line in lines):
        return None
    return {line.split(",", 1)[0].removeprefix(head).removesuffix(".npy") for line in lines}


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
                write_array(self.folder / FEATURES / f"{key}.npy", frames.astype(self.dtype))
                write_array(self.folder / LABELS / f"{key}.npy", labels.astype(np.int64))
            return kept

        return run


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write an array as a `.npy`, whole or not at all."""
    held = io.BytesIO()
    np.save(held, array, allow_pickle=False)
    with space_checked(path), replacing(path) as file:
        file.write(held.getvalue())
