"""The folder beside results in which finished work is kept, and what says whose results they are."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vocable.artefacts.headers import canonical_json, digest_of
from vocable.artefacts.writing import part_beside, remove_leftovers, write_text
from vocable.errors import InputError, VocableError

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
        wanted = folder if out.is_dir() else out
        raise InputError(f"{wanted} can't be a folder: there is a file of that name on the way; give another path") from error
    except OSError as error:
        raise InputError(f"{out} can't be written to ({(error.strerror or str(error)).lower()}): give another path") from error
    remove_leftovers(out)
    remove_leftovers(folder)
    return folder


def require_name(name: str) -> None:
    """Refuse what can't be the name of files in a folder.

    Raises:
        InputError: it is empty, leads elsewhere, is too long, or can't be printed on a line.
    """
    if not name or name in (".", "..") or {"/", os.sep} & set(name) or not name.isprintable() or len(os.fsencode(name)) > 150:
        raise InputError(f"--name {name!r}: give a plain name for the files, such as train")


@dataclass(frozen=True)
class Claim:
    """Whose results stand under some names: checked at the start of a job, taken when they are written.

    Args:
        folder: the work folder.
        name: of the results; no other kind of job has one of these.
        made_from: all they are made from, as JSON gives it back.
        files: the results, in one folder; the first says that all are there: it goes first, and comes last.
        rivals: files that other settings make, and that would be taken for results of these.
        companions: rivals that don't stay beside these results either, where they aren't among them.
    """

    folder: Path
    name: str
    made_from: dict[str, Any]
    files: tuple[Path, ...]
    rivals: tuple[Path, ...] = ()
    companions: tuple[Path, ...] = ()

    @classmethod
    def of(
        cls,
        folder: Path,
        name: str,
        made_from: dict[str, Any],
        files: Iterable[Path],
        rivals: Iterable[Path] = (),
        companions: Iterable[Path] = (),
    ) -> Claim:
        """Make a claim on files for what a JSON object says they are made from; digests stand for what is long."""
        files, companions = tuple(files), tuple(companions)
        others = tuple(path for path in dict.fromkeys((*rivals, *companions)) if path not in files)
        return cls(folder, name, json.loads(canonical_json(made_from)), files, others, companions)

    @property
    def key(self) -> str:
        """Digest of all they are made from."""
        return digest_of(self.made_from)

    def is_settled(self) -> bool:
        """Tell whether all results stand as they were written, made from the same."""
        noted = self._noted()
        known = noted.get("files", {})
        return bool(
            noted.get("made_from") == self.made_from
            and noted.get("done")
            and all(path.name in known and _compared(path, known[path.name]) for path in self.files)
        )

    def is_known(self) -> bool:
        """Tell whether the work folder remembers any claim of this name."""
        return bool(self._noted())

    def is_ours(self) -> bool:
        """Tell whether what stands, all or a part, is made from the same."""
        return bool(self._noted().get("made_from") == self.made_from)

    def stands(self, path: Path) -> bool:
        """Tell whether a result stands as it was written, made from the same."""
        known = self._noted().get("files", {}).get(path.name)
        return bool(self.is_ours() and known is not None and _compared(path, known))

    def check(self, overwrite: bool, source: Path | None = None) -> None:
        """Refuse, before any work, to replace results of something else unasked, or what the work is on.

        Raises:
            InputError: results of something else stand there, or were changed; or the source is one of the files.
        """
        if source is not None and any(source.resolve() == path.resolve() for path in (*self.files, *self.rivals)):
            raise InputError(f"{source} is one of the files to write: give another name or folder for them")
        if overwrite:
            return
        if standing := self._foreign():
            raise InputError(f"{standing[0]} is there already ({self._why(standing[0])}): give another name, or --overwrite")
        if changed := self._changed():
            raise InputError(f"{changed[0]} was changed after it was written: give another name, or --overwrite to make it anew")

    @contextmanager
    def taken(self, overwrite: bool, lasting: bool = True) -> Iterator[Path]:
        """Write the results, by their names, to the folder that is given; they go into place together when the block ends well.

        So results of something else stand until these are whole, whatever happens meanwhile.

        Args:
            overwrite: replace results of something else.
            lasting: with False, the next run works on them again.

        Raises:
            InputError: results of something else stand there; or another run took the names meanwhile.
        """
        self.check(overwrite)
        target = self.files[0].parent
        place = part_beside(target / self.name)  # on the same filesystem, wherever the work folder leads
        place.mkdir(parents=True)
        try:
            yield place
            self.check(overwrite)
            if not self.is_settled():  # another run of the same may have been faster
                self._put_in_place(place, target, lasting)
        except VocableError as error:  # nobody but us knows that place
            error.args = tuple(str(part).replace(str(place), str(target)) for part in error.args)
            raise
        except OSError as error:
            error.filename = str(error.filename).replace(str(place), str(target)) if error.filename else error.filename
            raise
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def _put_in_place(self, place: Path, target: Path, lasting: bool) -> None:
        """Note whose the names are from now on, remove what doesn't belong beside the results, and give them their names.

        Killed anywhere in this, the next run of the same knows from the note what is still to be removed.
        """
        # Headers come before what they are of, which would be taken for foreign without them; the first of the files comes last.
        made = sorted(place.iterdir(), key=lambda path: (path.name == self.files[0].name, path.suffix != ".json", path.name))
        states = {path.name: _state(path) for path in made}
        kept = self._noted().get("files", {}) if self.is_ours() else {}
        leaving = {*self._unfinished(), *(path.name for path in (*self._foreign(), *self.companions))} - set(states)
        self._note(done=False, leaving=leaving)
        if not kept:
            self.files[0].unlink(missing_ok=True)
        for name in leaving:
            (target / name).unlink(missing_ok=True)
        for path in made:
            path.replace(target / path.name)
        if not self.is_ours():
            raise InputError(f"another run writes other results to {target}: run them one after the other")
        others = {name: state for name, state in kept.items() if name not in leaving}  # in other forms
        self._note(done=lasting, files={**others, **states})

    def _why(self, standing: Path) -> str:
        """Return what tells the results that stand from those that are wanted."""
        if not self.is_known():
            for path in sorted(self.folder.glob("*.claim.json")):
                if standing.name in _note_in(path).get("files", {}):
                    return f"another command made it: {path.name} in {self.folder} says what from"
            return "nothing beside it says what it was made from"
        return _difference(self._noted()["made_from"], self.made_from, "it")

    def _foreign(self) -> list[Path]:
        standing = [path for path in (*self.files, *self.rivals) if path.exists()]
        return [] if self.is_ours() else standing  # in this order: what another process puts there now, it has noted before

    def _unfinished(self) -> list[str]:
        """Return the names that a run which was killed on the way should have removed, whoever's it was."""
        return [name for name in self._noted().get("leaving", []) if isinstance(name, str) and os.path.basename(name) == name]

    def _changed(self) -> list[Path]:
        """Return results that stand, but not as they were written."""
        known = self._noted().get("files", {})
        return [path for path in self.files if path.name in known and _compared(path, known[path.name]) is False]

    def _note(self, done: bool, files: dict[str, Any] | None = None, leaving: Iterable[str] = ()) -> None:
        note = {"made_from": self.made_from, "done": done, "files": files or {}, "leaving": sorted(leaving)}
        write_text(self._path, canonical_json(note))

    def _noted(self) -> dict[str, Any]:
        return _note_in(self._path)

    @property
    def _path(self) -> Path:
        return self.folder / f"{self.name}.claim.json"


def _note_in(path: Path) -> dict[str, Any]:
    """Return what a claim noted, or nothing if it didn't, or not whole."""
    try:
        found = json.loads(path.read_text())
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    parts = (found.get("made_from"), found.get("files")) if isinstance(found, dict) else ()
    return found if parts and all(isinstance(part, dict) for part in parts) else {}


_DIGESTED = 256 << 20  # bytes: larger files, such as frames that were dumped, are told by size and time alone


def _state(path: Path) -> list[Any]:
    """Return what tells a file from one that was changed: size, time, and the digest of the content."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, _digest(path) if status.st_size <= _DIGESTED else None]


def _compared(path: Path, known: list[Any]) -> bool | None:
    """Tell whether a file is as it was noted; None if it isn't there."""
    size, time, digest = known
    try:
        status = path.stat()
        if status.st_size != size:
            return False
        return bool(status.st_mtime_ns == time or (digest and _digest(path) == digest))  # a copied folder has other times
    except FileNotFoundError:
        return None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_OTHER_AUDIO = "the audio has changed since: files were moved, added, removed, replaced or touched, or their speakers renamed"
_CHANGED = {
    "audio": _OTHER_AUDIO,
    "whole": _OTHER_AUDIO,
    "codebook": "it was made with another codebook",
    "frames": "it was made from other frames",
    "dictionary": "it was made with another dictionary of speakers",
    "edges_of": "it was made with other bins of pitch",
}


def _difference(was: Any, now: Any, name: str) -> str:
    """Return the first difference between what two results are made from, in words."""
    if isinstance(was, dict) and isinstance(now, dict):
        for key in sorted({*was, *now}, key=lambda item: (item in _CHANGED, item)):  # settings change those as well
            if was.get(key) != now.get(key):
                return _difference(was.get(key), now.get(key), key)
    return _CHANGED.get(name, f"made with other settings: {name.replace('_', '-')} {was} then, {now} now")
