"""Label files: fairseq's `.km` text with a header beside it, a compact binary form, and run-length text.

`.km`      one utterance a line, units separated by blanks; `NAME.km.json` says what made them.
`.units`   the same in one safetensors file, with utterance ids: two bytes a frame up to 65536 clusters.
`.rle`     one utterance a line, `unit:frames` separated by blanks; `NAME.rle.json` as for `.km`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from vocable.artefacts.feature_spec import FeatureSpec
from vocable.artefacts.headers import OBJECT, POSITIVE, TEXT, Header, naming, read_field, read_header, whole, write_header
from vocable.artefacts.tensors import read_tensors, read_vector, write_tensors
from vocable.artefacts.writing import replacing
from vocable.errors import InputError, MismatchError
from vocable.units.units import MOST_CLUSTERS, Sequence, Units, UnitsHeader, expand, run_lengths

FORMAT = "vocable.units/1"
SUFFIXES = (".km", ".units", ".rle")


def header_file(path: Path) -> Path:
    """Return the header that belongs to a text label file."""
    return path.with_name(path.name + ".json")


def read_units(path: str | Path) -> Units:
    """Read labels of any form; the suffix says which, and anything else is taken for `.km` text.

    Raises:
        InputError: a line is no sequence of units, and the message names it; or the header or an array is broken.
        MismatchError: the file isn't the one its header was written for.
    """
    path = Path(path)
    if path.suffix == ".units" and path.is_file():
        return _read_compact(path)
    header, sequences = open_units(path)
    return Units.of(sequences, header)


def open_units(path: Path) -> tuple[UnitsHeader, Iterator[Sequence]]:
    """Return the header of a label file and its utterances one by one; text is read as they are asked for.

    Raises:
        InputError: there is no such file, its header is broken, or, while iterating, a line is no sequence of units.
        MismatchError: the file isn't the one its header was written for.
    """
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "doesn't exist"
        raise InputError(f"{path} {what}: give a label file, such as train.km")
    if path.suffix == ".units":
        units = _read_compact(path)
        return units.header, iter(units)
    return _read_text_header(path), _lines(path)


def write_units(path: str | Path, units: Units) -> None:
    """Write labels in the form the suffix names: `.km`, `.units` or `.rle`.

    Raises:
        InputError: another suffix, `.units` without utterance ids, or an utterance that is too long for `.rle`.
    """
    path = Path(path)
    if path.suffix == ".units":
        _write_compact(path, units)
    elif path.suffix in SUFFIXES:
        with text_writer(path, units.header) as write:
            for sequence in units:
                write(sequence)
    else:
        raise InputError(f"{path}: the name of a label file ends in {', '.join(SUFFIXES)}")


@contextmanager
def text_writer(path: Path, header: UnitsHeader) -> Iterator[TextWriter]:
    """Write a `.km` or `.rle` an utterance at a time; the file and its header appear together at the end."""
    with replacing(path) as file:
        writer = TextWriter(file, path)
        yield writer
        # The header goes first into place: a text without one would be taken for a foreign file.
        write_header(header_file(path), {"format": FORMAT, **asdict(header), **writer.counts()})


_LARGEST = MOST_CLUSTERS - 1  # of the numbers in text: of units, and of the frames of a run
# Frames of an utterance in `.rle`, where a few bytes may stand for any number: a day of audio at 100 a second.
_LONGEST = 24 * 3600 * 100
_RUNS = re.compile(rb"[ \t\r\n]*+(?:[0-9]++:[0-9]++(?:[ \t\r\n]++|\Z))*+")


class TextWriter:
    """Writes lines of units and counts them."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._file, self._path, self._runs = file, path, path.suffix == ".rle"
        self._hasher = hashlib.sha256()
        self._utterances = self._frames = 0

    def __call__(self, units: Sequence) -> None:
        """Write the line of one utterance.

        Raises:
            InputError: it is so long that it couldn't be read again.
        """
        if self._runs and len(units) > _LONGEST:
            raise InputError(f"{self._path} line {self._utterances + 1} {_too_long(len(units))}, or write .km or .units")
        self.write_line(_runs_line(units) if self._runs else units_line(units), len(units))

    def write_line(self, text: str, frames: int = 0) -> None:
        """Write the line of one utterance, which stands for as many frames."""
        line = text.encode() + b"\n"
        self._file.write(line)
        self._hasher.update(line)
        self._utterances += 1
        self._frames += frames

    def counts(self) -> dict[str, int | str]:
        """Return what a header says of the lines written."""
        return {"utterances": self._utterances, "frames": self._frames, "text": self._hasher.hexdigest()}


def units_line(units: Sequence) -> str:
    """Return a line of `.km`, without its end."""
    return " ".join(map(str, units.tolist()))


def _runs_line(units: Sequence) -> str:
    values, durations = run_lengths(units)
    return " ".join(f"{unit}:{frames}" for unit, frames in zip(values.tolist(), durations.tolist(), strict=True))


def _lines(path: Path) -> Iterator[Sequence]:
    runs = path.suffix == ".rle"
    parse, wanted = (_parse_runs, "unit:frames pairs") if runs else (_parse_units, "units")
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                yield parse(line)
            except _TooLongError as error:
                raise InputError(f"{path} line {number} {error}") from error
            except (ValueError, InputError) as error:
                text = line[:60].decode(errors="replace").rstrip("\n")
                raise InputError(f"{path} line {number} should be {wanted} separated by blanks, but reads {text!r}") from error


def _parse_units(line: bytes) -> Sequence:
    return _numbers(line).astype(np.uint32)


def _parse_runs(line: bytes) -> Sequence:
    if not _RUNS.fullmatch(line):
        raise InputError("a run lacks its unit or its length")
    units, frames = _numbers(line.replace(b":", b" ")).reshape(-1, 2).T
    if (total := int(frames.sum())) > _LONGEST:
        raise _TooLongError(_too_long(total))
    return expand(units.astype(np.uint32), frames)


class _TooLongError(InputError):
    """A line that stands for more frames than an utterance has."""


def _too_long(frames: int) -> str:
    return f"has {frames} frames, more than the {_LONGEST} of a day at 100 a second: cut the utterance into shorter ones"


def _numbers(line: bytes) -> NDArray[np.int64]:
    """Read whole numbers separated by blanks; signs, points and all else that numbers may have elsewhere are refused."""
    if line.translate(None, b"0123456789 \t\r\n"):
        raise InputError("there is something else than digits and blanks")
    if not line.strip():
        return np.empty(0, dtype=np.int64)
    numbers = np.fromstring(line, dtype=np.int64, sep=" ")
    if numbers.max() > _LARGEST:  # what overflows has become the largest number there is
        raise InputError(f"a number is above {_LARGEST}")
    return numbers


def _read_text_header(path: Path) -> UnitsHeader:
    beside = header_file(path)
    if not beside.exists():
        return UnitsHeader()
    found = read_header(beside, FORMAT)
    header, written = _checked_header(beside, found), read_field(beside, found, "text", TEXT)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if written != digest:
        raise MismatchError(
            f"{path} is not the file that {beside.name} was written for: it was changed or cut short; "
            f"make it again, or remove {beside.name}"
        )
    return header


def _checked_header(path: Path, found: Header) -> UnitsHeader:
    """Return what a header says, if each part of it can be so."""
    found = {"whole": None, "whole_rows": None, **found}  # older files don't have these two
    rate, features = read_field(path, found, "rate", POSITIVE.or_null()), read_field(path, found, "features", OBJECT)
    if features:
        with naming(path):
            FeatureSpec.from_json({**features, "recorded": {}})
    return UnitsHeader(
        clusters=read_field(path, found, "clusters", whole(1, _LARGEST + 1).or_null()),
        rate=None if rate is None else float(rate),
        codebook=read_field(path, found, "codebook", TEXT.or_null()),
        manifest=read_field(path, found, "manifest", TEXT.or_null()),
        features=features,
        whole=read_field(path, found, "whole", TEXT.or_null()),
        whole_rows=read_field(path, found, "whole_rows", whole(0).or_null()),
    )


def _write_compact(path: Path, units: Units) -> None:
    if units.ids is None:
        raise InputError(f"{path}: the compact form keeps utterance ids, which these labels don't have; give their manifest too")
    names = "\n".join(units.ids).encode()
    tensors = {"units": units.values, "lengths": units.lengths.astype(np.uint32), "ids": np.frombuffer(names, dtype=np.uint8)}
    write_tensors(path, tensors, {"format": FORMAT, **asdict(units.header)})


def _read_compact(path: Path) -> Units:
    tensors, found = read_tensors(path, FORMAT)
    header = _checked_header(path, found)
    units = read_vector(path, tensors, "units", ("uint16", "uint32"))
    lengths = read_vector(path, tensors, "lengths", ("uint32",)).astype(np.int64)
    names = read_vector(path, tensors, "ids", ("uint8",)).tobytes()
    if (largest := int(units.max(initial=0))) > _LARGEST:
        raise InputError(f"{path} holds the unit {largest}, where {_LARGEST} is the largest there can be: label again")
    try:
        ids = tuple(names.decode().split("\n")) if len(lengths) or names else ()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} holds ids that are not UTF-8 text: make it again") from error
    with naming(path):
        return Units(units, lengths, header, ids)
