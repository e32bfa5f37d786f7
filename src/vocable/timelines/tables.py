"""Tables of intervals: TSV with a header, and files of per-frame labels."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from vocable.errors import InputError
from vocable.timelines.timeline import Timeline


def read_tsv(path: Path, column: str | None = None) -> Timeline:
    """Read columns start, end and a label (`column`, or the third) from a tab-separated file with a header line.

    Raises:
        InputError: a column is missing or a time is no number; the message names the line.
    """
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    header = rows[0] if rows else []
    if header[:2] != ["start", "end"] or len(header) < 3:
        raise InputError(f"{path} line 1 should name the columns start, end and a label, tab-separated, but reads {header}")
    if column is not None and column not in header:
        raise InputError(f"{path} has no column {column!r}; it has {', '.join(header)}")
    at = header.index(column) if column is not None else 2
    starts, ends, labels = [], [], []
    for number, row in enumerate(rows[1:], 2):
        if not row:
            continue
        try:
            starts.append(float(row[0]))
            ends.append(float(row[1]))
            labels.append(row[at])
        except (ValueError, IndexError) as error:
            raise InputError(f"{path} line {number} should be start, end and labels, tab-separated, but reads {row}") from error
    return Timeline(np.array(starts), np.array(ends), tuple(labels))


def read_frame_labels(path: Path) -> dict[str, list[str]]:
    """Read per-frame labels as fairseq's measure_teacher_quality does: `id<TAB>label,label,…`, one utterance a line.

    Raises:
        InputError: a line has no tab, or an id stands twice.
    """
    frames: dict[str, list[str]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        name, tab, labels = line.partition("\t")
        if not tab:
            raise InputError(f"{path} line {number} should be an utterance id, a tab, and labels separated by commas")
        if name in frames:
            raise InputError(f"{path} line {number} names {name!r} a second time")
        frames[name] = labels.strip().split(",") if labels.strip() else []
    return frames
