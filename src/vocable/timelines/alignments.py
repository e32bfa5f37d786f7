"""`Alignments`: the timelines of a corpus, found by utterance id."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from vocable.errors import InputError, sentence_of
from vocable.timelines.tables import read_frame_labels, read_tsv
from vocable.timelines.textgrid import read_textgrid
from vocable.timelines.timeline import Timeline

_READERS = {".tsv": read_tsv, ".textgrid": read_textgrid}


class Alignments:
    """A folder of `UTTERANCE.tsv` or `UTTERANCE.TextGrid` files (at any depth), or one file of per-frame labels.

    Utterances are found by id. Where that fails, the shorter of id and name must be how the longer ends, in whole parts of the
    path: `a/x` is found for `b/a/x` and for `x`, but never for `b/x`.

    Args:
        path: the folder or file.
        tier: the TextGrid tier, or the column of a TSV; by default phones, or the third column.
        rate: frames per second of per-frame labels.
        first_centre: time of the first frame's centre, in seconds; 0.0125 for 25 ms windows.

    Raises:
        InputError: it isn't there, can't be listed, holds nothing, or has two files for one utterance.
    """

    def __init__(self, path: str | Path, tier: str | None = None, rate: float = 100.0, first_centre: float = 0.0125) -> None:
        self.path, self.rate, self._tier = Path(path), rate, tier
        self._files: dict[str, Path] = {}
        self._timelines: dict[str, Timeline] = {}
        self._frame_counts: dict[str, int] = {}
        if self.path.is_dir():
            for item in sorted(_files_in(self.path)):
                name = item.relative_to(self.path).with_suffix("").as_posix()
                if name in self._files:
                    raise InputError(f"{self._files[name]} and {item} both align {name!r}: remove one, or give one kind a folder")
                self._files[name] = item
        elif self.path.is_file():
            frames = read_frame_labels(self.path)
            self._timelines = {name: Timeline.from_frames(labels, rate, first_centre) for name, labels in frames.items()}
            self._frame_counts = {name: len(labels) for name, labels in frames.items()}
        else:
            raise InputError(f"{path} doesn't exist: give a folder of .tsv or .TextGrid files, or a file of per-frame labels")
        if not self._files and not self._timelines:
            raise InputError(f"{path} holds no .tsv or .TextGrid file, and no per-frame labels")
        self._by_last_part: dict[str, list[str]] = {}
        for name in (*self._files, *self._timelines):
            self._by_last_part.setdefault(_last_part(name), []).append(name)

    def __len__(self) -> int:
        return len(self._files) + len(self._timelines)

    def items(self) -> Iterator[tuple[str, Timeline]]:
        """Yield all utterances with their timelines, by name.

        Raises:
            InputError: a file is broken.
        """
        for name in sorted((*self._files, *self._timelines)):
            found = self.find(name)
            assert found is not None
            yield name, found

    def find(self, utterance: str) -> Timeline | None:
        """Return the timeline of an utterance, or None if there is none.

        Raises:
            InputError: several files could be meant, or the file is broken.
        """
        name = self.name_of(utterance)
        if name is None:
            return None
        if name in self._timelines:
            return self._timelines[name]
        file = self._files[name]
        return _READERS[file.suffix.lower()](file, self._tier)

    def name_of(self, utterance: str) -> str | None:
        """Return the name of an utterance's alignment, or None if there is none.

        Raises:
            InputError: several could be meant.
        """
        if utterance in self._files or utterance in self._timelines:
            return utterance
        similar = self._by_last_part.get(_last_part(utterance), [])
        names = [name for name in similar if _ends_with(utterance, name) or _ends_with(name, utterance)]
        if len(names) > 1:
            raise InputError(
                f"{self.path} has {len(names)} alignments that {utterance!r} could mean, {names[0]} and {names[1]} among them: "
                "name them by the utterances' whole ids"
            )
        return names[0] if names else None

    def frame_count(self, utterance: str) -> int | None:
        """Return how many per-frame labels an utterance has; None where it has intervals, or nothing."""
        name = self.name_of(utterance)
        return None if name is None else self._frame_counts.get(name)


def _files_in(folder: Path) -> Iterator[Path]:
    """Yield the alignments in a folder, at any depth."""

    def refuse(error: OSError) -> None:  # os.walk, like Path.rglob, passes over what can't be listed
        raise InputError(sentence_of(error)) from error

    for place, _, names in os.walk(folder, onerror=refuse):
        yield from (Path(place, name) for name in names if Path(name).suffix.lower() in _READERS)


def _last_part(name: str) -> str:
    return name.rsplit("/", 1)[-1]


def _ends_with(longer: str, shorter: str) -> bool:
    return longer.endswith(f"/{shorter}")
