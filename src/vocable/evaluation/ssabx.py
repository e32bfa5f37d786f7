"""Sentence ABX: whether what is said alike is described alike, whoever says it (SD-HuBERT, arXiv 2310.10803, section 3.4).

Of clips X, P and N, P says what X says and N says something else, and neither is of X's speaker. A description is right where X
is nearer to P than to N.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocable.errors import InputError

Vector = NDArray[np.floating]


@dataclass(frozen=True, order=True)
class Clip:
    """A part of an audio file."""

    file: str
    """Relative to the corpus."""
    start: float
    end: float
    text: str = ""


@dataclass(frozen=True)
class Triplet:
    """What is compared."""

    x: Clip
    positive: Clip
    negative: Clip


@dataclass(frozen=True)
class SsabxScores:
    """How often a clip is nearer to one that says the same."""

    accuracy: float
    triplets: int
    clips: int
    """Different ones, each of which was described once."""

    def rows(self) -> dict[str, float | int]:
        """Return name → value."""
        return asdict(self)


def read_triplets(path: Path) -> list[Triplet]:
    """Read triplets in the official form: {"0": {"X": {"file_name", "segment", "text"}, "P": …, "N": …}, …}.

    Raises:
        InputError: it holds something else; the message names the entry.
    """
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} can't be read as JSON ({error}): give a file such as ssabx.json") from error
    if not isinstance(found, dict) or not found:
        raise InputError(f"{path} holds no triplets: give a file such as ssabx.json")
    return [Triplet(*(_clip(path, name, entry, part) for part in "XPN")) for name, entry in found.items()]


def triplets_json(triplets: Sequence[Triplet]) -> str:
    """Return triplets in the official form."""

    def entry(clip: Clip) -> dict[str, Any]:
        return {"file_name": clip.file, "segment": [clip.start, clip.end], "text": clip.text}

    values = {
        str(number): {"X": entry(item.x), "P": entry(item.positive), "N": entry(item.negative)}
        for number, item in enumerate(triplets)
    }
    return json.dumps(values, ensure_ascii=False, indent=1) + "\n"


def _clip(path: Path, name: str, entry: Any, part: str) -> Clip:
    try:
        found = entry[part]
        start, end = (float(value) for value in found["segment"])
        clip = Clip(str(found["file_name"]), start, end, str(found.get("text", "")))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}, entry {name}: {part} should have a file_name and a segment of two times") from error
    if not 0 <= clip.start < clip.end < np.inf:
        raise InputError(f"{path}, entry {name}: the segment of {part} runs from {clip.start} to {clip.end} s: correct it")
    return clip


def clips_of(triplets: Sequence[Triplet]) -> list[Clip]:
    """Return the different clips of triplets; texts don't tell them apart."""
    every = {(clip.file, clip.start, clip.end): clip for item in triplets for clip in (item.x, item.positive, item.negative)}
    return [every[key] for key in sorted(every)]


def score_triplets(triplets: Sequence[Triplet], describe: Callable[[list[Clip]], Iterator[Vector]]) -> SsabxScores:
    """Return how many triplets are right: cos(X, P) > cos(X, N).

    Args:
        triplets: to score.
        describe: clips to one vector each; each clip is described once, whatever number of triplets it is in.
    """
    clips = clips_of(triplets)
    vectors: dict[tuple[str, float, float], Vector] = {
        (clip.file, clip.start, clip.end): _direction(vector) for clip, vector in zip(clips, describe(clips), strict=True)
    }
    right = sum(_is_right(item, vectors) for item in triplets)
    return SsabxScores(right / max(1, len(triplets)), len(triplets), len(clips))


def _is_right(item: Triplet, vectors: Mapping[tuple[str, float, float], Vector]) -> bool:
    x, positive, negative = (vectors[clip.file, clip.start, clip.end] for clip in (item.x, item.positive, item.negative))
    return bool(x @ positive > x @ negative)


def _direction(vector: Vector) -> Vector:
    values = vector.astype(np.float64)
    norm = np.linalg.norm(values)
    direction: Vector = values / norm if norm > 0 else values
    return direction
