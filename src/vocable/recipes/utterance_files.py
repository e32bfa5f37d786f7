"""Files of each utterance of a corpus, written block by block: what was written isn't made again, and what is gone is.

A job writes an utterance's files whole, each under its name at once, and says how large they are; the ledger keeps that. So a run
that was killed goes on, parts of the work can be done by several machines, and a file that was removed or cut short is noticed.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from vocable.artefacts.headers import digest_of
from vocable.artefacts.writing import remove_leftovers
from vocable.audio.blocks import Block, BlockShard, blocks_of, shard_bounds
from vocable.audio.manifest import Manifest
from vocable.errors import InputError
from vocable.execution.engine import Engine, Job
from vocable.execution.ledger import Entry, Ledger
from vocable.execution.progress import progress
from vocable.execution.stages import Finished, Payload, Stage
from vocable.recipes.making import Making, begun, making_in
from vocable.recipes.workplace import NAME, Claim

Sizes = Mapping[str, int]
"""Bytes of an utterance's files, by their endings."""
FILES = "files"
"""Where a job's summary of a block keeps them: [row in the block, sizes]."""


@dataclass(frozen=True)
class UtteranceFiles:
    """The files of all utterances of a manifest, below one folder.

    Args:
        out: the folder.
        manifest: of the utterances.
        claim: on the folder.
        stage: what the work is called.
        endings: that files of this kind can have.
    """

    out: Path
    manifest: Manifest
    claim: Claim
    stage: str
    endings: Sequence[str]

    def make(self, job: Job[Block, Payload], engine: Engine, overwrite: bool) -> Finished[Any]:
        """Do the blocks that aren't done yet, or whose files are gone.

        Args:
            job: writes the files of a block, and says their sizes in its summary.
            engine: runs it.
            overwrite: replace files of something else.

        Raises:
            InputError: files of something else stand there, or an utterance's would lie outside the folder.
        """
        require_inside(self.manifest)
        self._refuse_inputs()
        mark = making_in(self.out)
        if mark is not None and mark.key != self.claim.key and not overwrite and self._known:
            raise InputError(f"{self.out} holds {self.stage} of other settings or audio: give another folder, or --overwrite")
        again = mark is not None and mark.key != self.claim.key
        if (mark is None or again) and not overwrite:
            self._refuse_foreign()
        if again:
            self._clear()
        for parent in {path_of(self.out, name, "").parent for name in self.manifest.ids}:
            remove_leftovers(parent)
        if mark is None or again:
            mark = begun(self.out, self.claim.key, again)
        blocks = [self._checked(block, mark) for block in blocks_of(self.manifest)]
        mine = slice(*shard_bounds(len(blocks), engine.work.nshard, engine.work.rank))
        with progress(self.stage, sum(block.size for block in blocks[mine])) as shown:
            return Stage(self.stage, list(mark), self.claim.folder).run(_Unwrapped(job), blocks, engine, shown, mine)

    def _refuse_inputs(self) -> None:
        """Refuse to write where what is read lies, also where files are to be replaced."""
        read = {os.path.realpath(self.manifest.where(item)) for item in self.manifest}
        for name in self.manifest.ids:
            for ending in self.endings:
                if os.path.realpath(path := path_of(self.out, name, ending)) in read:
                    raise InputError(f"{path} is read, and would be written: give another folder")

    def _clear(self) -> None:
        """Remove the files of an earlier making, what speaks of them first."""
        for path in (*self.claim.files, *self.claim.rivals):
            path.unlink(missing_ok=True)
        for entry in self._known.values():
            for name, sizes in _files_in(entry):
                for ending in sizes:
                    path_of(self.out, name, ending).unlink(missing_ok=True)

    def _refuse_foreign(self) -> None:
        for name in self.manifest.ids:
            for ending in self.endings:
                if (path := path_of(self.out, name, ending)).exists():
                    raise InputError(f"{path} is there already, and isn't of this command: give another folder, or --overwrite")

    def _checked(self, block: Block, mark: Making) -> Block | _Again:
        entry = self._known.get(digest_of([list(mark), block.content]))
        if entry is None or entry.failure is not None:
            return block
        whole = FILES in entry.summary and all(self._are_whole(name, sizes) for name, sizes in _files_in(entry))
        return block if whole else _Again(block, uuid.uuid4().hex)

    def _are_whole(self, name: str, sizes: Sizes) -> bool:
        return all(_size_of(path_of(self.out, name, ending)) == size for ending, size in sizes.items())

    @cached_property
    def _known(self) -> Mapping[str, Entry]:
        return Ledger(self.claim.folder).entries(self.stage)


def files_summary(names: Sequence[str], sizes: Sequence[Sizes]) -> dict[str, Any]:
    """Return what the summary of a block says of its files.

    Args:
        names: of the utterances that have some.
        sizes: of each one's.
    """
    return {FILES: [[name, dict(own)] for name, own in zip(names, sizes, strict=True)]}


def require_inside(manifest: Manifest) -> None:
    """Refuse utterances whose files would lie outside the folder of all.

    Raises:
        InputError: names one.
    """
    for name in manifest.ids:
        parts = name.split("/")
        if {"", ".", ".."} & set(parts) or parts[0] == NAME or "\0" in name:
            raise InputError(
                f"the utterance {name!r} would be written outside the folder, or under another's name: give it another id in the "
                "manifest"
            )


def path_of(folder: Path, utterance: str, ending: str) -> Path:
    """Return where an utterance's file of a kind is."""
    return folder / f"{utterance}{ending}"


def _files_in(entry: Entry) -> list[tuple[str, Sizes]]:
    return [] if entry.failure is not None else [(name, sizes) for name, sizes in entry.summary.get(FILES, [])]


def _size_of(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


@dataclass(frozen=True)
class _Again(BlockShard):
    """A block whose files are gone."""

    name: str

    @property
    def first(self) -> int:
        return int(self.block.first)

    @property
    def utterances(self) -> Sequence[Any]:
        found: Sequence[Any] = self.block.utterances
        return found

    @property
    def content(self) -> str:
        return digest_of([self.block.content, self.name])


@dataclass(frozen=True)
class _Unwrapped:
    job: Job[Block, Payload]

    def open(self, device: str) -> Callable[[Block | _Again], Payload]:
        run = self.job.open(device)
        return lambda given: run(given.block if isinstance(given, _Again) else given)
