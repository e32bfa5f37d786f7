"""Segments in files: ours, and those of SD-HuBERT's authors, which are read without running anything in them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocable.artefacts.feature_spec import FeatureSpec
from vocable.artefacts.headers import OBJECT, digest_of, naming, read_field, read_header, require_form, whole
from vocable.artefacts.text import lines_of
from vocable.audio.decoding import LIBSNDFILE_EXTENSIONS, MEDIA_EXTENSIONS
from vocable.checkpoints.pickled_arrays import is_pickled, read_pickled_arrays
from vocable.errors import InputError, sentence_of
from vocable.recipes.making import MARK
from vocable.recipes.segment_files import FEATURES, FRAMES, SEGMENTS
from vocable.recipes.syllable_segments import FORMAT, HEADER

KNOWN_EXTENSIONS = LIBSNDFILE_EXTENSIONS | MEDIA_EXTENSIONS
_OTHER = "_segment.txt"  # as the authors' code spelled it, where its README has our ending
_PICKLED = ".npy"


@dataclass(frozen=True)
class Stored:
    """An utterance's segments."""

    id: str
    segments: NDArray[np.float64]
    """Start and end of each in seconds, of shape (segments, 2)."""
    features: NDArray[np.float32] | None
    """What describes each, of shape (segments, dim), where it is there."""


class StoredSegments:
    """A folder of segments, one file or a few for each utterance, at any depth.

    Args:
        folder: that `vocable syllables segment` wrote, or SD-HuBERT's code.

    Raises:
        InputError: it isn't there, or holds none.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise InputError(f"{folder} is no folder: give one that 'vocable syllables segment' wrote")
        self.folder = folder
        makings = [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]  # parts of LibriSpeech have one each
        for part in makings:
            if (part / MARK).is_file() and not (part / HEADER).is_file():
                raise InputError(f"{part} is not finished: run the command that cuts it again, or its other parts")
        self._headers = [path for part in makings if (path := part / HEADER).is_file()]
        self._files: dict[str, tuple[Path, str]] = {}
        for path in _files_in(folder):
            name = path.relative_to(folder).as_posix()
            ending = next((item for item in (SEGMENTS, _OTHER, FEATURES, FRAMES, _PICKLED) if name.endswith(item)), None)
            if ending in (SEGMENTS, _OTHER) or (ending == _PICKLED and is_pickled(path)):
                stem = name.removesuffix(ending)
                if stem not in self._files or ending == SEGMENTS:  # ours goes with the features beside it
                    self._files[stem] = (path, ending)
        if not self._files and self._headers:
            raise InputError(f"{folder} has no _segments.txt files: cut again, with --form txt,features")
        if not self._files:
            raise InputError(f"{folder} holds no segments: make them with 'vocable syllables segment'")
        written = sum(read_field(path, header, "utterances", whole(0)) for path, header in self._read_headers())
        if len(self._files) < written:
            raise InputError(
                f"{folder} has segments of {len(self._files):,} of the {written:,} utterances that were cut: run the command "
                "that cut them again"
            )

    @property
    def ids(self) -> list[str]:
        """The utterances, by name."""
        return sorted(self._files)

    def _read_headers(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        for path in self._headers:
            found = read_header(path)
            require_form(path, found, FORMAT)
            yield path, found

    @cached_property
    def spec(self) -> FeatureSpec | None:
        """What describes segments, if that is known.

        Raises:
            MismatchError: parts of the folder were cut otherwise than others.
        """
        found: FeatureSpec | None = None
        for path, header in self._read_headers():
            features = read_field(path, header, "features", OBJECT)
            with naming(path):
                own = FeatureSpec.from_json(features)
            if found is not None:
                found.require_equal(own, str(self._headers[0]), str(path))
            found = own
        return found

    @property
    def state(self) -> str:
        """Digest of the names, sizes and times of all files."""
        rows: list[list[str | int]] = []
        for name in self.ids:
            path, ending = self._files[name]
            files = (path, path.with_name(path.name.removesuffix(ending) + FEATURES))
            rows += [[name, file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files if file.exists()]
        return digest_of(rows)

    def name_of(self, file: str) -> str | None:
        """Return the utterance that an audio file's path, or a name, means; the shorter of both is how the longer ends.

        Raises:
            InputError: several could be meant.
        """
        stem, ending = os.path.splitext(file)
        name = stem if ending.lower().lstrip(".") in KNOWN_EXTENSIONS else file
        if name in self._files:
            return name
        alike = [item for item in self._by_last_part.get(_last(name), []) if _ends(item, name) or _ends(name, item)]
        if len(alike) > 1:
            raise InputError(
                f"{self.folder} has segments of {alike[0]} and {alike[1]}, and {file} could mean both: name it whole"
            )
        return alike[0] if alike else None

    @cached_property
    def _by_last_part(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name in self.ids:
            found.setdefault(_last(name), []).append(name)
        return found

    def of(self, name: str, described: bool = False) -> Stored:
        """Return an utterance's segments.

        Args:
            name: of the utterance.
            described: whether what describes them is wanted, too.

        Raises:
            InputError: a file is damaged, or lacks what is wanted.
            UnsafeFileError: it asks for code to be run.
        """
        path, ending = self._files[name]
        if ending == _PICKLED:
            found = read_pickled_arrays(path)
            if "segments" not in found:
                raise InputError(f"{path} holds no segments: make it again")
            segments = _numbers(path, found["segments"], 2)
            features = _numbers(path, found["segment_features"]) if "segment_features" in found else None
        else:
            segments, features = read_segment_lines(path), None
            beside = path.with_name(path.name.removesuffix(ending) + FEATURES)
            if described and beside.is_file():
                features = _matrix(beside)
        if described and features is None:
            raise InputError(f"{path} has nothing beside it that describes segments: cut with --form txt,features")
        if features is not None and len(features) != len(segments):
            raise InputError(f"{path} has {len(segments)} segments, and {len(features)} are described: cut them anew")
        return Stored(name, segments, None if features is None else features.astype(np.float32))

    def described(self, names: Sequence[str] | None = None) -> Iterator[Stored]:
        """Yield utterances with what describes their segments; by default all."""
        return (self.of(name, described=True) for name in (self.ids if names is None else names))


def _last(name: str) -> str:
    return name.rsplit("/", 1)[-1]


def _ends(longer: str, shorter: str) -> bool:
    return longer.endswith(f"/{shorter}")


def read_segment_lines(path: Path) -> NDArray[np.float64]:
    """Return the segments in a file of lines `start, end`, of shape (segments, 2).

    Raises:
        InputError: names the line that is none.
    """
    rows = []
    for number, line in enumerate(lines_of(path, path.read_bytes()), 1):
        if not line.strip():
            continue
        try:
            start, end = (float(part) for part in line.split(","))
        except ValueError as error:
            raise InputError(
                f"{path} line {number} should be a start and an end, apart by a comma, but reads {line!r}"
            ) from error
        if not 0 <= start <= end < np.inf:
            raise InputError(f"{path} line {number}: a segment can't run from {start} to {end}: correct it")
        rows.append((start, end))
    return np.array(rows, dtype=np.float64).reshape(-1, 2)


def _matrix(path: Path) -> NDArray[Any]:
    try:
        found: NDArray[Any] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} is not a whole .npy file ({error}): make it again") from error
    return _numbers(path, found)


def _numbers(path: Path, found: NDArray[Any], columns: int | None = None) -> NDArray[Any]:
    """Return finite numbers of shape (segments, …)."""
    if columns is not None and found.size == 0:
        return np.empty((0, columns))
    fits = found.ndim == 2 and found.dtype.kind in "fiu" and columns in (None, found.shape[1] if found.ndim == 2 else None)
    with np.errstate(over="ignore"):
        if not fits or not np.isfinite(found.astype(np.float32)).all():
            raise InputError(f"{path} holds no finite numbers of shape (segments, {columns or 'dim'}): make it again")
    return found


def _files_in(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise InputError(sentence_of(error)) from error

    seen: set[str] = set()
    for place, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        if (where := os.path.realpath(place)) in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add(where)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(place, name) for name in sorted(names))
