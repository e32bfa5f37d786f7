"""Praat TextGrids, in the long and the short text form."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vocable.errors import InputError
from vocable.timelines.timeline import Timeline

# Praat's reader takes only the free-standing strings and numbers of a file, and nothing from a free-standing ! to the line's end.
# What was matched is never given back (++, *+, ?+): otherwise a long word of digits takes the square of its length.
_TOKEN = re.compile(
    r'(?<![^\s"])![^\r\n]*|"(?:[^"]|"")*+(?:"|\Z)|'
    r"(?<!\S)[-+]?(?:\d++(?:\.\d*+)?+|\.\d++)(?:[eE][-+]?\d++)?+(?!\S)|<exists>|<absent>"
)


def read_textgrid(path: str | Path, tier: str | None = None) -> Timeline:
    """Read one interval tier: the one named `tier`, or one called phones or phone, or the last.

    Empty intervals, with which Praat fills gaps, are left in with the label "".

    Raises:
        InputError: the file is no TextGrid, or has no interval tier of that name.
    """
    tiers = _interval_tiers(Path(path))
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
    tokens = [token for token in _TOKEN.findall(_decoded(path)) if not token.startswith("!")]
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
            width = 3 if kind == "IntervalTier" else 2
            first, at = at + 5, at + 5 + size * width
            # A size is only what the file claims: it must not decide how far we count, nor how much memory is taken.
            if not first <= at <= len(tokens):
                raise ValueError(f"tier {name!r} claims {size} entries")
            if kind == "IntervalTier":
                rows = [tokens[row : row + width] for row in range(first, at, width)]
                tiers.setdefault(name, Timeline(_numbers(rows, 0), _numbers(rows, 1), tuple(_text(row[2]) for row in rows)))
    except InputError as error:
        raise InputError(f"{path}, tier {name!r}: {error}") from error
    except (IndexError, ValueError) as error:
        raise InputError(f"{path} is cut short or not a TextGrid ({error}): export it anew") from error
    return tiers


def _decoded(path: Path) -> str:
    """Return the text: by its byte order mark if it has one, else as UTF-8, else, as the last resort, as Latin-1."""
    raw = path.read_bytes()
    marks = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}
    encoding = next((name for mark, name in marks.items() if raw.startswith(mark)), None)
    try:
        return raw.decode(encoding or "utf-8")
    except UnicodeDecodeError as error:
        if encoding is None:
            return raw.decode("latin-1")
        raise InputError(f"{path} is cut short or damaged at byte {error.start} ({encoding}): export it anew") from error


def _text(token: str) -> str:
    if not token.startswith('"') or token.count('"') % 2:
        raise ValueError(f"{token[:40]} where a quoted string should be")
    return token[1:-1].replace('""', '"')


def _numbers(rows: list[list[str]], column: int) -> NDArray[np.float64]:
    return np.array([float(row[column]) for row in rows])
