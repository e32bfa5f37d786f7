"""Praat TextGrids, in the long and the short text form."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vocable.errors import InputError
from vocable.timelines.timeline import Timeline

# Praat's reader takes only the free-standing strings and numbers of a file; what stands between them are comments.
_TOKEN = re.compile(r'"(?:[^"]|"")*"|(?<![^\s])[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![^\s])|<exists>|<absent>')


def read_textgrid(path: Path, tier: str | None = None) -> Timeline:
    """Read one interval tier: the one named `tier`, or one called phones or phone, or the last.

    Empty intervals, with which Praat fills gaps, are left in with the label "".

    Raises:
        InputError: the file is no TextGrid, or has no interval tier of that name.
    """
    tiers = _interval_tiers(path)
    if not tiers:
        raise InputError(f"{path} has no interval tier")
    if tier is not None:
        if tier not in tiers:
            raise InputError(f"{path} has no interval tier {tier!r}; it has {', '.join(map(repr, tiers))}")
        return tiers[tier]
    for name in tiers:
        if name.lower() in {"phones", "phone", "phonemes", "segments"}:
            return tiers[name]
    return tiers[list(tiers)[-1]]


def write_textgrid(timeline: Timeline, duration: float, tier: str) -> str:
    """Return a long-form TextGrid with one interval tier; gaps become empty intervals, since Praat's tiers have none."""
    rows: list[tuple[float, float, str]] = []
    at = 0.0
    for start, end, label in zip(timeline.starts.tolist(), timeline.ends.tolist(), timeline.labels, strict=True):
        if start > at:
            rows.append((at, start, ""))
        if end > start:
            rows.append((start, end, label))
        at = max(at, end)
    if duration > at:
        rows.append((at, duration, ""))
    duration = max(duration, at)
    lines = [
        'File type = "ooTextFile"',
        'Object class = "TextGrid"',
        "",
        "xmin = 0",
        f"xmax = {duration!r}",
        "tiers? <exists>",
        "size = 1",
        "item []:",
    ]
    lines += [
        "    item [1]:",
        '        class = "IntervalTier"',
        f"        name = {_quoted(tier)}",
        "        xmin = 0",
        f"        xmax = {duration!r}",
    ]
    lines.append(f"        intervals: size = {len(rows)}")
    for number, (start, end, label) in enumerate(rows, 1):
        lines += [
            f"        intervals [{number}]:",
            f"            xmin = {start!r}",
            f"            xmax = {end!r}",
            f"            text = {_quoted(label)}",
        ]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _interval_tiers(path: Path) -> dict[str, Timeline]:
    tokens = _TOKEN.findall(_without_indices(_decoded(path)))
    if tokens[:2] != ['"ooTextFile"', '"TextGrid"']:
        raise InputError(f"{path} is not a Praat TextGrid in a text form")
    tiers: dict[str, Timeline] = {}
    try:
        at = 2 + 2  # after the two strings: xmin, xmax
        if tokens[at] == "<absent>":
            return tiers
        number, at = int(tokens[at + 1]), at + 2
        for _ in range(number):
            kind, name, size = _text(tokens[at]), _text(tokens[at + 1]), int(tokens[at + 4])
            at += 5
            width = 3 if kind == "IntervalTier" else 2
            rows = [tokens[at + i * width : at + (i + 1) * width] for i in range(size)]
            at += size * width
            if kind == "IntervalTier":
                tiers.setdefault(name, Timeline(_numbers(rows, 0), _numbers(rows, 1), tuple(_text(row[2]) for row in rows)))
    except (IndexError, ValueError) as error:
        raise InputError(f"{path} is cut short or not a TextGrid ({error})") from error
    return tiers


def _decoded(path: Path) -> str:
    raw = path.read_bytes()
    for mark, encoding in ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"\xef\xbb\xbf", "utf-8-sig")):
        if raw.startswith(mark):
            return raw.decode(encoding)
    return raw.decode("utf-8", errors="replace")


def _without_indices(text: str) -> str:
    """Drop "item [1]:" and its like outside strings; the numbers inside brackets are no values."""
    return re.sub(r'("(?:[^"]|"")*")|\[\d*\]:?', lambda match: match.group(1) or " ", text)


def _text(token: str) -> str:
    if not token.startswith('"'):
        raise ValueError(f"{token} where a quoted string should be")
    return token[1:-1].replace('""', '"')


def _numbers(rows: list[list[str]], column: int) -> NDArray[np.float64]:
    return np.array([float(row[column]) for row in rows])
