"""`Alignments`: the timelines of a corpus, found by utterance id."""

from __future__ import annotations

from pathlib import Path

from vocable.errors import InputError
from vocable.timelines.tables import read_frame_labels, read_tsv
from vocable.timelines.textgrid import read_textgrid
from vocable.timelines.timeline import Timeline

_READERS = {".tsv": read_tsv, ".textgrid": read_textgrid}


class Alignments:
    """A folder of `UTTERANCE.tsv` or `UTTERANCE.TextGrid` files (at any depth), or one file of per-frame labels.

    Utterances are found by id, and where that fails by the last part of the id, which must then be unique.

    Args:
        path: the folder or file.
        tier: the TextGrid tier, or the column of a TSV; by default phones, or the third column.
        rate: frames per second of per-frame labels.
        first_centre: time of the first frame's centre, in seconds; 0.0125 for 25 ms windows.
    """

    def __init__(self, path: Path, tier: str | None = None, rate: float = 100.0, first_centre: float = 0.0125) -> None:
        self.path, self._tier = path, tier
        self._files: dict[str, Path] = {}
        self._timelines: dict[str, Timeline] = {}
        if path.is_dir():
            found = sorted(item for item in path.rglob("*") if item.suffix.lower() in _READERS)
            self._files = {item.relative_to(path).with_suffix("").as_posix(): item for item in found}
        elif path.is_file():
            frames = read_frame_labels(path)
            self._timelines = {name: Timeline.from_frames(labels, rate, first_centre) for name, labels in frames.items()}
        else:
            raise InputError(f"{path} doesn't exist: give a folder of .tsv or .TextGrid files, or a file of per-frame labels")
        if not self._files and not self._timelines:
            raise InputError(f"{path} holds no .tsv or .TextGrid file, and no per-frame labels")
        self._by_last_part: dict[str, list[str]] = {}
        for name in (*self._files, *self._timelines):
            self._by_last_part.setdefault(name.rsplit("/", 1)[-1], []).append(name)

    def __len__(self) -> int:
        return len(self._files) + len(self._timelines)

    def find(self, utterance: str) -> Timeline | None:
        """Return the timeline of an utterance, or None if there is none.

        Raises:
            InputError: several files could be meant, or the file is broken.
        """
        name = utterance if utterance in self._files or utterance in self._timelines else self._unique(utterance)
        if name is None:
            return None
        if name in self._timelines:
            return self._timelines[name]
        file = self._files[name]
        try:
            return _READERS[file.suffix.lower()](file, self._tier)
        except InputError as error:
            raise InputError(str(error) if str(file) in str(error) else f"{file}: {error}") from error

    def _unique(self, utterance: str) -> str | None:
        names = self._by_last_part.get(utterance.rsplit("/", 1)[-1], [])
        if len(names) > 1:
            raise InputError(
                f"{self.path} has {len(names)} alignments that could be {utterance!r}'s: {names[0]} and {names[1]}; "
                "name them by the whole id"
            )
        return names[0] if names else None
