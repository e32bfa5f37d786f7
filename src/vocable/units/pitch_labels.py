"""Pitch as labels: `f0.json` says what bins are, `NAME.f0` holds a line of them an utterance, -1 where nothing is voiced.

Beside `NAME.f0` lies `NAME.f0.json`, a header as label files have it: what was labelled, and with which bins.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, Self, cast, get_args

import numpy as np
from numpy.typing import NDArray

from vocable.artefacts.headers import LIST, NUMBER, POSITIVE, TEXT, Header, digest_of, read_field, read_header, whole
from vocable.audio.manifest import Manifest
from vocable.errors import InputError, MismatchError
from vocable.units.label_files import open_units, text_writer
from vocable.units.preflight import check_labels
from vocable.units.units import Survey, UnitsHeader

Mode = Literal["quantile", "uniform"]
Norm = Literal["none", "speaker"]
FORMAT = "vocable.f0/1"
BINS_FILE = "f0.json"
MOST_BINS = 1 << 15
RATE = 100
UNVOICED = -1
# Octaves: the histogram that quantiles are read from has 12,000 parts an octave, a tenth of a cent each.
_STEPS = 12_000
_LINE = re.compile(rb"[ \t\r\n]*(?:(?:-1|[0-9]{1,5})(?:[ \t\r\n]+|\Z))*")


@dataclass(frozen=True)
class PitchBins:
    """How pitch is cut into bins.

    Raises:
        InputError: there can be no such bins.
    """

    edges: tuple[float, ...]
    """Where bins begin, and where the last ends, in Hz; with norm `speaker` in multiples of the speaker's mean (of log F0). What
    lies beyond belongs to the first bin and the last."""
    mode: Mode
    norm: Norm
    floor: float
    """Hz."""
    ceiling: float
    """Hz."""

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode) or self.norm not in get_args(Norm):
            raise InputError(
                f"bins of mode {self.mode!r} and norm {self.norm!r}: there are {get_args(Mode)} and {get_args(Norm)}"
            )
        if not 1 <= len(self) <= MOST_BINS:
            raise InputError(f"{len(self)} bins of pitch: give 1 to {MOST_BINS}")
        if not (np.diff(self.edges) > 0).all() or not self.edges[0] > 0 or not 0 < self.floor < self.ceiling:
            raise InputError("the edges of bins of pitch should rise, and all be above 0: make the labels again")

    def __len__(self) -> int:
        return len(self.edges) - 1

    @classmethod
    def uniform(cls, bins: int, norm: Norm, floor: float, ceiling: float) -> Self:
        """Return bins of equal width in octaves: from floor to ceiling, or an octave to both sides of a speaker's mean."""
        low, high = (floor, ceiling) if norm == "none" else (0.5, 2.0)
        return cls(tuple(np.geomspace(low, high, _checked(bins) + 1).tolist()), "uniform", norm, floor, ceiling)

    @classmethod
    def quantile(cls, bins: int, norm: Norm, floor: float, ceiling: float, voiced: Iterable[NDArray[np.floating]]) -> Self:
        """Return bins that hold about equally many of the voiced frames, a tenth of a cent aside.

        Args:
            bins: how many.
            norm: what `voiced` are: Hz, or multiples of a speaker's mean.
            floor: Hz.
            ceiling: Hz.
            voiced: pitch of voiced frames, in any order, piece by piece.

        Raises:
            InputError: there are too few different ones.
        """
        octaves = np.log2(ceiling / floor)
        low, high = (np.log2(floor), np.log2(ceiling)) if norm == "none" else (-octaves, octaves)
        steps = int(np.ceil((high - low) * _STEPS))
        counts = np.zeros(steps, dtype=np.int64)
        for values in voiced:
            places = ((np.log2(values.astype(np.float64)) - low) * _STEPS).astype(np.int64)
            counts += np.bincount(np.clip(places, 0, steps - 1), minlength=steps)
        ends = np.cumsum(counts)
        if not ends[-1]:
            raise InputError("no frame is voiced, so bins can't hold equally many: give --mode uniform, or other audio")
        inner = np.searchsorted(ends, ends[-1] * np.arange(1, _checked(bins)) / bins) + 1
        edges = 2.0 ** (low + np.concatenate([[0], inner, [steps]]) / _STEPS)
        edges[[0, -1]] = (floor, ceiling) if norm == "none" else (floor / ceiling, ceiling / floor)
        if not (np.diff(edges) > 0).all():
            raise InputError(f"{ends[-1]} voiced frames don't make {bins} bins of equally many: give fewer, or --mode uniform")
        return cls(tuple(edges.tolist()), "quantile", norm, floor, ceiling)

    def __call__(self, pitch: NDArray[np.floating], mean: float = 1.0) -> NDArray[np.int16]:
        """Return the bin of each frame's pitch in Hz, -1 where it is 0.

        Args:
            pitch: of shape (frames,).
            mean: of the speaker, in Hz, with norm `speaker`.
        """
        values = pitch.astype(np.float64) / (mean if self.norm == "speaker" else 1.0)
        bins = np.searchsorted(np.array(self.edges[1:-1]), values, side="right")
        return np.where(pitch > 0, bins, UNVOICED).astype(np.int16)

    def to_json(self) -> Header:
        """Return what `f0.json` holds."""
        return {"format": FORMAT, "rate": RATE, "bins": len(self), **asdict(self), "edges": list(self.edges)}

    @property
    def digest(self) -> str:
        """SHA-256 of all that decides labels."""
        return digest_of(self.to_json())

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read an `f0.json`.

        Raises:
            InputError: it isn't there, or broken.
        """
        if not path.is_file():
            raise InputError(f"{path} doesn't exist: it lies beside labels that 'vocable features f0' makes")
        found = read_header(path, FORMAT)
        edges = read_field(path, found, "edges", LIST)
        if not all(NUMBER.accepts(edge) for edge in edges) or len(edges) != read_field(path, found, "bins", whole(1)) + 1:
            raise InputError(f"{path} should give the edges of its bins, one more than there are: make the labels again")
        mode, norm = cast("Mode", read_field(path, found, "mode", TEXT)), cast("Norm", read_field(path, found, "norm", TEXT))
        limits = (float(read_field(path, found, name, POSITIVE)) for name in ("floor", "ceiling"))
        if read_field(path, found, "rate", POSITIVE) != RATE:
            raise InputError(f"{path} is of labels at another rate than {RATE} a second: make them again")
        return cls(tuple(map(float, edges)), mode, norm, *limits)


@dataclass(frozen=True)
class PitchLabels:
    """The bins of utterances' frames, in the order of a manifest."""

    values: NDArray[np.int16]
    """All, one utterance after another; -1 where nothing is voiced."""
    lengths: NDArray[np.int64]
    """Frames of each utterance."""
    bins: PitchBins
    header: UnitsHeader

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[NDArray[np.int16]]:
        return iter(np.split(self.values, np.cumsum(self.lengths)[:-1])[: len(self)])


def write_pitch_labels(
    path: Path, sequences: Iterable[NDArray[np.int16]], bins: PitchBins, manifest: str, features: Header
) -> None:
    """Write `NAME.f0` and its header.

    Args:
        path: of the labels.
        sequences: bins of each utterance.
        bins: which they are of.
        manifest: digest of the rows.
        features: identity of the pitch's spec.
    """
    header = UnitsHeader(clusters=len(bins), rate=float(RATE), codebook=bins.digest, manifest=manifest, features=features)
    with text_writer(path, header) as write:
        for sequence in sequences:
            write(sequence)


def read_pitch_labels(path: Path, manifest: Manifest | None = None) -> PitchLabels:
    """Read `NAME.f0`, and `f0.json` beside it.

    Args:
        path: of the labels.
        manifest: whose rows they should be.

    Raises:
        InputError: a file is missing or broken.
        MismatchError: the labels were changed, are of another manifest, or of other bins than those beside them.
    """
    header, _ = open_units(path)
    bins = PitchBins.read(path.with_name(BINS_FILE))
    if header.codebook is not None and header.codebook != bins.digest:
        raise MismatchError(f"{path} was made with other bins than those of {BINS_FILE} beside it: make the labels again")
    rows = list(_lines(path, len(bins)))
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    labels = PitchLabels(np.concatenate([np.empty(0, np.int16), *rows]), lengths, bins, header)
    survey = Survey(lengths, np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros(1, np.int64))
    check_labels(path.name, header, survey, manifest, rate=float(RATE))
    return labels


def _lines(path: Path, bins: int) -> Iterator[NDArray[np.int16]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not _LINE.fullmatch(line):
                raise InputError(f"{path} line {number} should be bins of pitch, or -1, separated by blanks: make it again")
            values = np.array(line.split(), dtype=np.int64)
            if values.max(initial=-1) >= bins:
                raise InputError(f"{path} line {number} holds the bin {values.max()}, where there are {bins}: make it again")
            yield values.astype(np.int16)


def _checked(bins: int) -> int:
    if not 1 <= bins <= MOST_BINS:
        raise InputError(f"--bins {bins}: give 1 to {MOST_BINS}")
    return bins
