"""`Units`: what utterances became, with everything that says which units they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocable.artefacts.headers import Header
from vocable.errors import InputError

Sequence = NDArray[np.integer[Any]]

MOST_CLUSTERS = 1 << 24
"""Units that labels can tell apart: far above any codebook, and few enough for a table of counts."""


@dataclass(frozen=True)
class UnitsHeader:
    """What made units: known of ours, partly of foreign ones."""

    clusters: int | None = None
    """Units run from 0 to clusters - 1."""
    rate: float | None = None
    """Units per second."""
    codebook: str | None = None
    """Digest of the codebook."""
    manifest: str | None = None
    """Digest of the manifest whose rows these are."""
    features: Header = field(default_factory=dict)
    """Identity of the frames' spec."""
    whole: str | None = None
    """Digest of the manifest of which these are a shard, before anything was left out."""
    whole_rows: int | None = None
    """Its number of rows."""


@dataclass(frozen=True)
class Units:
    """The units of utterances in order.

    Args:
        values: all units, one utterance after another, shape (frames,), uint16 or uint32.
        lengths: units of each utterance, shape (utterances,).
        header: what made them.
        ids: utterance ids; None where only the order of a manifest tells them (`.km`).
    """

    values: Sequence
    lengths: NDArray[np.int64]
    header: UnitsHeader = field(default_factory=UnitsHeader)
    ids: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if int(self.lengths.sum()) != len(self.values) or (self.ids is not None and len(self.ids) != len(self.lengths)):
            raise InputError(
                f"{len(self.lengths)} lengths that add up to {int(self.lengths.sum())}, {len(self.values)} units and "
                f"{'no' if self.ids is None else len(self.ids)} ids don't go together: give one length and id an utterance"
            )

    @classmethod
    def of(cls, sequences: Iterable[Sequence], header: UnitsHeader, ids: Iterable[str] | None = None) -> Units:
        """Make units of a sequence for each utterance."""
        rows = list(sequences)
        largest = max((int(row.max()) for row in rows if len(row)), default=0)
        clusters = max(header.clusters or 0, largest + 1)  # wrong units are kept, for checks to find
        dtype = unit_type(clusters)
        return cls(
            np.concatenate(rows, dtype=dtype, casting="unsafe") if rows else np.empty(0, dtype=dtype),
            np.array([len(row) for row in rows], dtype=np.int64),
            header,
            None if ids is None else tuple(ids),
        )

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, utterance: int) -> Sequence:
        return self._at(int(self._ends[utterance]), int(self.lengths[utterance]))

    def __iter__(self) -> Iterator[Sequence]:
        return (self._at(int(end), int(length)) for end, length in zip(self._ends, self.lengths, strict=True))

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        return np.cumsum(self.lengths)

    def _at(self, end: int, length: int) -> Sequence:
        return self.values[end - length : end]


@dataclass(frozen=True)
class Survey:
    """What counts of units say: enough to check and describe them, however many there are."""

    lengths: NDArray[np.int64]
    """Units of each utterance."""
    histogram: NDArray[np.int64]
    """Frames of each unit."""
    runs: NDArray[np.int64]
    """Times each unit begins, repetitions aside."""
    durations: NDArray[np.int64]
    """Runs by how many frames they last: durations[3] last three."""

    @classmethod
    def of(cls, sequences: Iterable[Sequence], clusters: int | None = None) -> Survey:
        """Go through the units of utterances once."""
        lengths: list[int] = []
        histogram = np.zeros(clusters or 0, dtype=np.int64)
        runs, durations = histogram.copy(), np.zeros(1, dtype=np.int64)
        for units in sequences:
            lengths.append(len(units))
            values, lasting = run_lengths(units)
            histogram, runs, durations = _added(histogram, units), _added(runs, values), _added(durations, lasting)
        return cls(np.array(lengths, dtype=np.int64), histogram, runs, durations)

    @property
    def largest(self) -> int:
        """The largest unit that occurs, or 0."""
        return int(np.flatnonzero(self.histogram).max(initial=0))


def _added(histogram: NDArray[np.int64], units: Sequence) -> NDArray[np.int64]:
    counts = np.bincount(units.astype(np.int64), minlength=len(histogram))
    counts[: len(histogram)] += histogram
    return counts


def unit_type(clusters: int) -> type[np.unsignedinteger[Any]]:
    """Return the smallest unsigned type that holds the units of a codebook."""
    return np.uint16 if clusters <= 1 << 16 else np.uint32


def run_lengths(units: Sequence) -> tuple[Sequence, NDArray[np.int64]]:
    """Return the units without repetitions, and how many frames each lasts; both of shape (runs,)."""
    if not len(units):
        return units, np.empty(0, dtype=np.int64)
    starts = np.flatnonzero(np.append(True, units[1:] != units[:-1]))
    return units[starts], np.diff(np.append(starts, len(units)))


def expand(units: Sequence, durations: NDArray[np.integer[Any]]) -> Sequence:
    """Undo `run_lengths`.

    Raises:
        InputError: the numbers of units and durations differ, or a duration is not positive.
    """
    if len(units) != len(durations) or (len(durations) and int(durations.min()) < 1):
        raise InputError(f"{len(units)} units and {len(durations)} durations don't make runs of at least one frame")
    return np.repeat(units, durations)
