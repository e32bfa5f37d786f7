"""The files of an utterance's syllables: their times, what describes each, and all frames."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vocable.artefacts.writing import replacing
from vocable.recipes.utterance_files import path_of
from vocable.syllables.minimum_cut import Frames
from vocable.syllables.segmenter import Syllables
from vocable.timelines.audacity import audacity_lines
from vocable.timelines.textgrid import write_textgrid
from vocable.timelines.timeline import Timeline

SEGMENTS, FEATURES, FRAMES = "_segments.txt", "_segmentfeature.npy", "_feature.npy"
"""Endings of an utterance's files: its segments' times, what describes each, and all its frames."""
ENDINGS = {"txt": SEGMENTS, "features": FEATURES, "frames": FRAMES, "textgrid": ".TextGrid", "audacity": ".audacity.txt"}
FORMS = (*ENDINGS, "jsonl")


def write_syllables(folder: Path, name: str, made: Syllables, frames: Iterable[Frames], forms: Sequence[str]) -> dict[str, int]:
    """Write an utterance's files, and return their sizes by their endings.

    Args:
        folder: of all files.
        name: the utterance's.
        made: its syllables.
        frames: all of its frames, in parts.
        forms: of `FORMS`.
    """
    labels = numbered(Timeline(made.segments[:, 0], made.segments[:, 1], ("",) * len(made.segments)))
    contents: dict[str, Callable[[], Iterable[bytes]]] = {
        "features": lambda: _npy_parts(made.segment_features.shape, [made.segment_features]),
        "frames": lambda: _npy_parts((made.length, made.segment_features.shape[1]), frames),
        "textgrid": lambda: [write_textgrid(labels, made.seconds, "syllables").encode()],
        "audacity": lambda: [audacity_lines(labels).encode()],
        "txt": lambda: [segment_lines(made.segments).encode()],
    }
    sizes: dict[str, int] = {}
    for form, content in contents.items():
        if form in forms:
            sizes[ENDINGS[form]] = _write(path_of(folder, name, ENDINGS[form]), content())
    return sizes


def numbered(timeline: Timeline) -> Timeline:
    """Return intervals labelled by their numbers, from 1, since an empty label says that nobody speaks."""
    return replace(timeline, labels=tuple(str(number) for number in range(1, len(timeline) + 1)))


def segment_lines(segments: NDArray[np.floating]) -> str:
    """Return segments as SD-HuBERT's authors write them: a line `start, end` for each, in seconds with 3 decimals."""
    return "".join(f"{start:.3f}, {end:.3f}\n" for start, end in segments.tolist())


def _npy_parts(shape: tuple[int, ...], parts: Iterable[Frames]) -> Iterator[bytes]:
    """Yield an .npy file of rows that come in parts."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
    yield header.getvalue()
    for part in parts:
        yield np.ascontiguousarray(part, "<f4").tobytes()


def _write(path: Path, content: Iterable[bytes]) -> int:
    with replacing(path) as file:
        return sum(file.write(part) for part in content)
