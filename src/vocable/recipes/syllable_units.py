"""Segments to sequences of units with their times."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vocable.artefacts.headers import canonical_json, write_header
from vocable.artefacts.writing import replacing, write_text
from vocable.clustering.codebook import Codebook
from vocable.errors import InputError, MismatchError
from vocable.recipes.stored_segments import Stored, StoredSegments
from vocable.recipes.workplace import Claim, open_workplace, require_name
from vocable.timelines.audacity import audacity_lines
from vocable.timelines.rttm import rttm_lines
from vocable.timelines.textgrid import write_textgrid
from vocable.timelines.timeline import Timeline

Level = Literal["coarse", "fine"]
FORMS = ("jsonl", "km", "rttm", "textgrid", "audacity")
FORMAT = "vocable.syllable-units/1"
_BESIDE = {"textgrid": ".TextGrid", "audacity": ".txt"}
"""Endings, behind the name, of the forms that have a file for each utterance."""
_SHORTEST = 0.01  # seconds that a TextGrid has at least: Praat's have no other


@dataclass(frozen=True)
class UnitsMade:
    """What was written."""

    files: list[Path]
    utterances: int
    units: int
    was_done: bool = False


def units_of(stored: Stored, codebook: Codebook, level: Level) -> NDArray[np.int64]:
    """Return the unit of each segment of an utterance."""
    if stored.features is None or not len(stored.features):
        return np.empty(0, np.int64)
    if stored.features.shape[1] != codebook.centroids.shape[1]:
        raise MismatchError(
            f"segments of {stored.id} have {stored.features.shape[1]} values, the codebook's {codebook.centroids.shape[1]}: give "
            "the codebook that was fitted to such segments"
        )
    fine = codebook.predict(stored.features).astype(np.int64)
    return fine if level == "fine" or codebook.groups is None else codebook.groups[fine]


def require_same(stored: StoredSegments, codebook: Codebook) -> None:
    """Refuse segments of other frames, or cut otherwise, than a codebook is for; where either doesn't say, nothing is refused.

    Raises:
        MismatchError: says how they differ.
    """
    if stored.spec is not None and codebook.spec is not None:
        codebook.spec.require_equal(stored.spec, "the codebook's segments", f"those in {stored.folder}")


def write_units(
    source: Path,
    codebook: Codebook,
    out: Path,
    level: Level = "coarse",
    name: str = "units",
    forms: Sequence[str] = ("jsonl",),
    overwrite: bool = False,
) -> UnitsMade:
    """Write the units of stored segments.

    Args:
        source: a folder of segments.
        codebook: of one or two levels.
        out: folder for the files.
        level: of the codebook.
        name: of the files.
        forms: `jsonl` (a line for each utterance: id, units, starts, ends), `km` (units, a line for each; beside it their ids),
            `rttm`, `textgrid` and `audacity` (a file for each utterance).
        overwrite: replace units of something else.

    Raises:
        InputError: a form is none, or units of something else stand there.
        MismatchError: the codebook is for other segments.
    """
    if unknown := [form for form in forms if form not in FORMS] or [""] * (not forms):
        raise InputError(f"--form {unknown[0] or None}: give some of {', '.join(FORMS)}")
    require_name(name)
    stored = StoredSegments(source)
    require_same(stored, codebook)
    folder = open_workplace(out)
    made_from = {"segments": stored.state, "codebook": codebook.digest, "level": level, "forms": sorted(forms)}
    files = [out / f"{name}.json", *_files(out, name, forms)]
    claim = Claim.of(folder, f"syllable-units-{name}", made_from, files)
    claim.check(overwrite, source)
    beside = _Beside(out, folder, name)
    was_done = claim.is_settled() and beside.are_whole()
    if not was_done:
        found = list(_labelled(stored, codebook, level))  # says what is wrong before anything is written
        contents = {
            f"{item.id}.{name}{_BESIDE[form]}": (item, units, form) for item, units in found for form in forms if form in _BESIDE
        }
        beside.begin(list(contents), overwrite)
        for file, (item, units, form) in contents.items():
            beside.write(file, _of_utterance(item, units, form))
        with claim.taken(overwrite) as staged:
            _write(staged, name, forms, stored, found, codebook, level)
        beside.end(list(contents))
    counts = [len(stored.of(item).segments) for item in stored.ids]
    return UnitsMade(files, len(counts), sum(counts), was_done)


@dataclass(frozen=True)
class _Beside:
    """The files that units have for each utterance, and the note of which these are, so that others' are left alone."""

    out: Path
    folder: Path
    name: str

    def are_whole(self) -> bool:
        """Tell whether all that were written are there as they were."""
        return all(size is not None and self._size(file) == size for file, size in self._noted().items())

    def begin(self, files: Sequence[str], overwrite: bool) -> None:
        """Note what is going to be written.

        Raises:
            InputError: one of them stands there, and is somebody else's.
        """
        known = self._noted()
        for file in files:
            if not overwrite and file not in known and (self.out / file).exists():
                raise InputError(f"{self.out / file} is there already, and isn't of this command: give another --name")
        self._note({**known, **dict.fromkeys(files)})

    def write(self, file: str, text: str) -> None:
        """Write one of them."""
        path = self.out / file
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)

    def end(self, files: Sequence[str]) -> None:
        """Remove those of an earlier run that aren't written any more, and note the others' sizes."""
        for file in set(self._noted()) - set(files):
            (self.out / file).unlink(missing_ok=True)
        self._note({file: self._size(file) for file in files})

    def _size(self, file: str) -> int | None:
        path = self.out / file
        return path.stat().st_size if path.is_file() else None

    def _noted(self) -> dict[str, int | None]:
        try:
            found = json.loads(self._path.read_bytes())
        except (FileNotFoundError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _note(self, sizes: dict[str, int | None]) -> None:
        write_text(self._path, canonical_json(sizes))

    @property
    def _path(self) -> Path:
        return self.folder / f"syllable-units-{self.name}.files.json"


def _of_utterance(item: Stored, units: NDArray[np.int64], form: str) -> str:
    timeline = _timeline(item, units)
    if form == "audacity":
        return audacity_lines(timeline)
    return write_textgrid(timeline, max(_SHORTEST, float(timeline.ends.max(initial=0.0))), "units")


def _timeline(item: Stored, units: NDArray[np.int64]) -> Timeline:
    return Timeline(item.segments[:, 0], item.segments[:, 1], tuple(map(str, units.tolist())))


def _files(out: Path, name: str, forms: Sequence[str]) -> list[Path]:
    endings = {"jsonl": [".jsonl"], "km": [".km", ".ids"], "rttm": [".rttm"]}
    return [out / f"{name}{ending}" for form in forms for ending in endings.get(form, [])]


def _write(
    staged: Path,
    name: str,
    forms: Sequence[str],
    stored: StoredSegments,
    found: Sequence[tuple[Stored, NDArray[np.int64]]],
    codebook: Codebook,
    level: Level,
) -> None:
    lines: dict[str, list[str]] = {form: [] for form in forms}
    for item, units in found:
        timeline = _timeline(item, units)
        if "jsonl" in lines:
            row = {"id": item.id, "units": units.tolist(), "starts": _times(item, 0), "ends": _times(item, 1)}
            lines["jsonl"].append(canonical_json(row))
        if "km" in lines:
            lines["km"].append(" ".join(timeline.labels))
        if "rttm" in lines:
            lines["rttm"].append(rttm_lines(item.id, timeline))
    if "jsonl" in lines:
        _put(staged / f"{name}.jsonl", "".join(f"{line}\n" for line in lines["jsonl"]))
    if "km" in lines:
        _put(staged / f"{name}.km", "".join(f"{line}\n" for line in lines["km"]))
        _put(staged / f"{name}.ids", "".join(f"{item}\n" for item in stored.ids))
    if "rttm" in lines:
        _put(staged / f"{name}.rttm", "".join(lines["rttm"]))
    kinds = codebook.n_groups if level == "coarse" else len(codebook)
    header = {"format": FORMAT, "codebook": codebook.digest, "level": level, "units": kinds, "utterances": len(stored.ids)}
    write_header(staged / f"{name}.json", header)


def _labelled(stored: StoredSegments, codebook: Codebook, level: Level) -> Iterator[tuple[Stored, NDArray[np.int64]]]:
    for item in stored.described():
        yield replace(item, features=None), units_of(item, codebook, level)


def _times(item: Stored, part: int) -> list[float]:
    return [round(value, 6) for value in item.segments[:, part].tolist()]


def _put(path: Path, text: str) -> None:
    with replacing(path) as file:
        file.write(text.encode())
