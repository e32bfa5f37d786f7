"""The folder beside results in which finished work is kept, and what says whose results they are."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vocable.artefacts.headers import canonical_json, digest_of
from vocable.artefacts.writing import remove_leftovers, write_text
from vocable.errors import InputError

NAME = ".vocable"
"""May be removed when nothing runs; what it held is then worked out anew."""


def open_workplace(out: Path) -> Path:
    """Return the work folder of an output folder, and clear away what killed processes left half written in both.

    Raises:
        InputError: `out`, or a folder it should lie in, is a file, or can't be written to.
    """
    folder = out / NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(f"{out} can't be a folder: there is a file of that name on the way; give another path") from error
    except OSError as error:
        raise InputError(f"{out} can't be written to ({(error.strerror or str(error)).lower()}): give another path") from error
    remove_leftovers(out)
    remove_leftovers(folder)
    return folder


@dataclass(frozen=True)
class Claim:
    """Whose results stand under some names: checked at the start of a job, taken when they are written.

    Args:
        folder: the work folder.
        name: of the results.
        made_from: all they are made from, as JSON gives it back.
        files: the results.
        rivals: files that other settings make, and that would be taken for results of these.
    """

    folder: Path
    name: str
    made_from: dict[str, Any]
    files: tuple[Path, ...]
    rivals: tuple[Path, ...] = ()

    @classmethod
    def of(cls, folder: Path, name: str, made_from: dict[str, Any], files: Iterable[Path], rivals: Iterable[Path] = ()) -> Claim:
        """Make a claim on files for what a JSON object says they are made from; digests stand for what is long."""
        files = tuple(files)
        return cls(
            folder, name, json.loads(canonical_json(made_from)), files, tuple(path for path in rivals if path not in files)
        )

    @property
    def key(self) -> str:
        """Digest of all they are made from."""
        return digest_of(self.made_from)

    def is_settled(self) -> bool:
        """Tell whether all results stand, made from the same."""
        return self._noted() == {"made_from": self.made_from, "done": True} and all(path.exists() for path in self.files)

    def is_known(self) -> bool:
        """Tell whether the work folder remembers any claim of this name."""
        return bool(self._noted())

    def check(self, overwrite: bool, source: Path | None = None) -> None:
        """Refuse, before any work, to replace results of something else unasked, or what the work is on.

        Raises:
            InputError: results of something else stand there; or the source is one of the files.
        """
        if source is not None and any(source.resolve() == path.resolve() for path in (*self.files, *self.rivals)):
            raise InputError(f"{source} is one of the files to write: give another name or folder for them")
        standing = self._foreign()
        if standing and not overwrite:
            raise InputError(f"{standing[0]} is there already ({self._why()}): give another name, or --overwrite")

    @contextmanager
    def taken(self, overwrite: bool, lasting: bool = True) -> Iterator[None]:
        """Write the results in this block, once everything is ready for it: results of something else go now, not before.

        Args:
            overwrite: replace results of something else.
            lasting: with False, the next run works on them again.

        Raises:
            InputError: results of something else stand there; or another run took the names meanwhile.
        """
        self.check(overwrite)
        for path in self._foreign():
            path.unlink()
        self._note(done=False)
        yield
        if not self.is_ours():
            raise InputError(f"another run writes other results to {self.files[0].parent}: run them one after the other")
        if lasting:
            self._note(done=True)

    def is_ours(self) -> bool:
        """Tell whether what stands, all or a part, is made from the same."""
        return bool(self._noted().get("made_from") == self.made_from)

    def _why(self) -> str:
        """Return what tells the results that stand from those that are wanted."""
        if not self.is_known():
            return "nothing beside it says what it was made from"
        return _difference(self._noted()["made_from"], self.made_from, "it")

    def _foreign(self) -> list[Path]:
        if self.is_ours():
            return []
        return [path for path in (*self.files, *self.rivals) if path.exists()]

    def _note(self, done: bool) -> None:
        write_text(self._path, canonical_json({"made_from": self.made_from, "done": done}))

    def _noted(self) -> dict[str, Any]:
        try:
            found = json.loads(self._path.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return found if isinstance(found, dict) and isinstance(found.get("made_from"), dict) else {}

    @property
    def _path(self) -> Path:
        return self.folder / f"{self.name}.claim.json"


_CHANGED = {
    "audio": "the audio has changed since: files were moved, added, removed, replaced or touched, or their speakers renamed",
    "codebook": "it was made with another codebook",
    "frames": "it was made from other frames",
}


def _difference(was: Any, now: Any, name: str) -> str:
    """Return the first difference between what two results are made from, in words."""
    if isinstance(was, dict) and isinstance(now, dict):
        for key in sorted({*was, *now}, key=lambda item: (item in _CHANGED, item)):  # settings change those as well
            if was.get(key) != now.get(key):
                return _difference(was.get(key), now.get(key), key)
    return _CHANGED.get(name, f"made with other settings: {name.replace('_', '-')} {was} then, {now} now")
