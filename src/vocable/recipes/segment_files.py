"""The files of an utterance's syllables: their times, what describes each, and all frames."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vocable.artefacts.writing import replacing
from vocable.syllables.minimum_cut import Frames
from vocable.syllables.segmenter import Syllables
from vocable.timelines.audacity import audacity_lines
from vocable.timelines.textgrid import write_textgrid
from vocable.timelines.timeline import Timeline

SEGMENTS, FEATURES, FRAMES = "_segments.txt", "_segmentfeature.npy", "_feature.npy"
"""Endings of an utterance's files: its segments' times, what describes each, and all its frames."""
ENDINGS = {"txt": SEGMENTS, "features": FEATURES, "frames": FRAMES, "textgrid": ".TextGrid", "audacity": ".audacity.txt"}
FORMS = (*ENDINGS, "jsonl")
NPY_HEADER = 128
"""Bytes before the values of an .npy file of rows."""


def path_of(folder: Path, utterance: str, ending: str) -> Path:
    """Return where an utterance's file of a kind is."""
    return folder / f"{utterance}{ending}"


def write_syllables(folder: Path, name: str, made: Syllables, frames: Iterable[Frames], forms: Sequence[str]) -> None:
    """Write an utterance's files.

    Args:
        folder: of all files.
        name: the utterance's.
        made: its syllables.
        frames: all of its frames, in parts.
        forms: of `FORMS`.
    """
    if "features" in forms:
        _write(path_of(folder, name, FEATURES), _npy_parts(made.segment_features.shape, [made.segment_features]))
    if "frames" in forms:
        _write(path_of(folder, name, FRAMES), _npy_parts((made.length, made.segment_features.shape[1]), frames))
    labels = Timeline(made.segments[:, 0], made.segments[:, 1], ("",) * len(made.segments))
    if "textgrid" in forms:
        _write(path_of(folder, name, ".TextGrid"), [write_textgrid(numbered(labels), made.seconds, "syllables").encode()])
    if "audacity" in forms:
        _write(path_of(folder, name, ".audacity.txt"), [audacity_lines(numbered(labels)).encode()])
    if "txt" in forms:
        _write(path_of(folder, name, SEGMENTS), [segment_lines(made.segments).encode()])


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


def _write(path: Path, content: Iterable[bytes]) -> None:
    with replacing(path) as file:
        file.writelines(content)
