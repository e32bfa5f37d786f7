"""Tables of intervals: TSV with a header, and files of per-frame labels."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from vocable.errors import InputError
from vocable.timelines.timeline import IntervalError, Timeline


def read_tsv(path: str | Path, column: str | None = None) -> Timeline:
    """Read columns start, end and a label (`column`, or the third) from a tab-separated file with a header line.

    Raises:
        InputError: a column is missing, a time is no number, an interval runs backwards or overlaps the next, or a line is
            not UTF-8; the message names the line.
    """
    first, *lines = _lines(path)
    header = first.split("\t")
    if header[:2] != ["start", "end"] or len(header) < 3:
        raise InputError(f"{path} line 1 should name the columns start, end and a label, tab-separated, but reads {first!r}")
    if column is not None and column not in header:
        raise InputError(f"{path} has no column {column!r}; it has {', '.join(header)}")
    at = header.index(column) if column is not None else 2
    starts, ends, labels, numbers = [], [], [], []
    for number, line in enumerate(lines, 2):
        if not line.strip():
            continue
        row = line.split("\t")
        try:
            start, end, label = float(row[0]), float(row[1]), row[at]
        except (ValueError, IndexError) as error:
            wanted = "start, end and labels, tab-separated"
            raise InputError(f"{path} line {number} should be {wanted}, but reads {line!r}") from error
        starts.append(start)
        ends.append(end)
        labels.append(label)
        numbers.append(number)
    try:
        return Timeline(np.array(starts), np.array(ends), tuple(labels))
    except IntervalError as error:
        raise InputError(f"{path} line {numbers[error.interval]}: {error}: correct its times") from error


def read_frame_labels(path: str | Path) -> dict[str, list[str]]:
    """Read per-frame labels as fairseq's measure_teacher_quality does: `id<TAB>label,label,…`, one utterance a line.

    Raises:
        InputError: a line has no tab or is not UTF-8, or an id stands twice; the message names the line.
    """
    frames: dict[str, list[str]] = {}
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        name, tab, labels = line.partition("\t")
        if not tab:
            raise InputError(f"{path} line {number} should be an utterance id, a tab, and labels separated by commas")
        if name in frames:
            raise InputError(f"{path} line {number} names {name!r} a second time")
        frames[name] = labels.strip().split(",") if labels.strip() else []
    return frames


def _lines(path: str | Path) -> list[str]:
    try:
        # str.splitlines would also break lines at characters that may stand in a label.
        return re.split(r"\r\n?|\n", Path(path).read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        number = error.object.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path} line {number} is not UTF-8 text: save the file as UTF-8") from error
