"""Frames and labels of utterances in a `.npy` each, listed in a CSV, as MelHuBERT's code takes them."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocable.artefacts.headers import Header, digest_of, read_header, require_form
from vocable.checkpoints.npy import npy_shape
from vocable.errors import InputError, MismatchError
from vocable.units.units import MOST_CLUSTERS, Units, UnitsHeader, unit_type

COLUMNS = ("file_path", "label_path", "length")
SUFFIX = "-data-cluster-pair.csv"
FORMAT = "vocable.melhubert/1"
MEAN_STD = "mean-std.npy"
"""The file of mean and deviation of log-mel bins."""
_RATES = (100.0, 50.0)
"""Labels per second: one for each log-mel frame, or for two together."""
_SAMPLED = 16  # files whose content tells frames from others of the same lengths


@dataclass(frozen=True)
class FeaturePairs:
    """What some CSVs list, in their order."""

    features: tuple[Path, ...]
    lengths: NDArray[np.int64]
    """Log-mel frames of 10 ms in each, as the files say."""
    units: Units
    rate: float
    """Labels per second."""
    made_by: tuple[Header, ...]
    """What vocable wrote beside the CSVs, if it made them."""
    state: str
    """Digest of what tells these frames from others, wherever they lie."""
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
        MismatchError: labels aren't of their frames, or some are at another rate or of another codebook.
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
            halves = {shape[0] // 2, -(-shape[0] // 2)}
            rate = 100.0 if len(own) == shape[0] else 50.0 if len(own) in halves else None
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
            if any(length not in (frames // 2, -(-frames // 2)) for frames, length in stated):
                raise MismatchError(f"{path} has lengths that are neither of its frames nor half as many: make it anew")
            notes.append(f"{path} counts frames of 20 ms; limits of length are taken in time all the same")
    if not features:
        raise InputError(
            f"{', '.join(map(str, files)) or 'no CSV'} lists no utterance: give one that 'vocable melhubert preprocess' wrote"
        )
    rate = rates.pop() if rates else _RATES[0]
    made_by = tuple(header for path in dict.fromkeys(item.parent for item in files) for header in _header_in(path))
    clusters, codebook = _clusters(files, made_by, labels)
    units_read = Units.of(labels, UnitsHeader(clusters=clusters, rate=rate, codebook=codebook), [path.stem for path in features])
    state = digest_of([[path.stem for path in features], lengths, _content(features), [header.get("key") for header in made_by]])
    return FeaturePairs(tuple(features), np.array(lengths, dtype=np.int64), units_read, rate, made_by, state, tuple(notes))


def _header_in(folder: Path) -> list[Header]:
    path = folder / "preprocess.json"
    if not path.is_file():
        return []
    header = read_header(path)
    require_form(path, header, FORMAT)
    return [header]


def _clusters(
    files: Sequence[Path], made_by: Sequence[Header], labels: Sequence[NDArray[np.integer[Any]]]
) -> tuple[int | None, str | None]:
    """Return how many labels there are and of which codebook, as far as headers say it.

    Raises:
        MismatchError: they say different things, or a label is above.
    """
    for name in ("clusters", "codebook"):
        said = {str(header[name]) for header in made_by if header.get(name) is not None}
        if len(said) > 1:
            raise MismatchError(
                f"{', '.join(map(str, files))} have labels of different codebooks ({name} {' and '.join(sorted(said))}): give "
                "such as were made with one"
            )
    clusters = next((header["clusters"] for header in made_by if header.get("clusters") is not None), None)
    largest = max((int(own.max()) for own in labels if len(own)), default=0)
    if clusters is not None and largest >= clusters:
        raise MismatchError(f"{files[0]} lists label {largest}, where there are {clusters}: preprocess the audio again")
    return clusters, next((header["codebook"] for header in made_by if header.get("codebook") is not None), None)


def _content(paths: Sequence[Path]) -> list[str]:
    """Return digests of the content of a few files."""
    chosen = sorted({round(at) for at in np.linspace(0, len(paths) - 1, min(_SAMPLED, len(paths)))})
    return [hashlib.sha256(paths[at].read_bytes()).hexdigest() for at in chosen]


def _rows(path: Path) -> Iterator[tuple[int, tuple[Path, Path, int]]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            if tuple(header) != COLUMNS:
                raise InputError(f"{path} begins with {','.join(header)[:80]!r}, not with {','.join(COLUMNS)}: give such a CSV")
            for number, row in enumerate(reader, 2):
                if not row:
                    continue
                if len(row) != len(COLUMNS) or not row[2].strip().isdecimal():
                    raise InputError(f"{path}, line {number}: {','.join(row)[:80]!r} isn't two paths and a length: make it anew")
                yield number, (_placed(path, number, row[0]), _placed(path, number, row[1]), int(row[2]))
    except FileNotFoundError:
        raise InputError(f"{path} isn't there: give the CSV that 'vocable melhubert preprocess' wrote") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is no CSV ({error}): give the one that 'vocable melhubert preprocess' wrote") from error


def _placed(listed: Path, line: int, name: str) -> Path:
    """Return a path as it stands, or from the CSV's folder, from which the last two parts lead to it where all was moved."""
    for path in (Path(name), listed.parent / name, listed.parent.joinpath(*Path(name).parts[-2:])):
        if path.is_file():
            return path
    raise InputError(f"{listed}, line {line}: {name} isn't there, nor from its folder: mend the path, or make the CSV anew")


def _labels(path: Path) -> NDArray[np.integer[Any]]:
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} is no whole .npy of labels ({error}): make it again") from error
    if not isinstance(found, np.ndarray) or found.ndim != 1 or found.dtype.kind not in "iu":
        what = f"an array of {found.dtype} and shape {found.shape}" if isinstance(found, np.ndarray) else "several arrays"
        raise InputError(f"{path} has {what}, not labels: make it again")
    least, most = (int(found.min()), int(found.max())) if len(found) else (0, 0)
    if least < 0 or most >= MOST_CLUSTERS:
        raise InputError(f"{path} has labels from {least} to {most}: they run from 0, to {MOST_CLUSTERS - 1} at most")
    return found.astype(unit_type(most + 1))
