"""`Manifest`: an ordered table of utterances. It holds names and lengths, never audio."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vocable.errors import InputError


@dataclass(frozen=True, slots=True)
class Utterance:
    """One row of a manifest."""

    id: str
    path: str
    """Where the audio is: a file, or `archive.zip:offset:length`; relative to a root, or absolute."""
    samples: int
    """Length at the manifest's sample rate; -1 while unknown."""
    speaker: str | None = None
    channel: int | None = None
    """Channel to take, from 1; None for the mean of all."""
    state: str = ""
    """Size and times of the file when it was last looked at: work that is kept is done anew when they change."""


@dataclass(frozen=True)
class Manifest:
    """Utterances in order, by column.

    Args:
        root: folder that relative paths start from.
        ids: unique names.
        paths: relative to root, or absolute.
        samples: lengths at `sample_rate`, shape (utterances,); -1 where unknown.
        sample_rate: Hz in which `samples` counts.
        speakers: a name for each utterance, or None if unknown.
        channels: a channel (from 1) or None for each utterance, or None if all are mixed.
        states: of the files, as in `Utterance`; never written.

    Raises:
        InputError: an id stands twice.
    """

    root: str
    ids: tuple[str, ...]
    paths: tuple[str, ...]
    samples: NDArray[np.int64]
    sample_rate: int = 16000
    speakers: tuple[str | None, ...] | None = None
    channels: tuple[int | None, ...] | None = None
    states: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if len(set(self.ids)) != len(self.ids):
            seen: set[str] = set()
            twice = next(name for name in self.ids if name in seen or seen.add(name))  # type: ignore[func-returns-value]
            raise InputError(f"the utterance id {twice!r} stands twice in a manifest: ids must be unique")

    @classmethod
    def of(cls, utterances: Iterable[Utterance], root: str = "", sample_rate: int = 16000) -> Manifest:
        """Make a manifest of rows whose paths are relative to `root`, or absolute."""
        rows = list(utterances)
        return cls(
            root=root,
            ids=tuple(row.id for row in rows),
            paths=tuple(row.path for row in rows),
            samples=np.array([row.samples for row in rows], dtype=np.int64),
            sample_rate=sample_rate,
            speakers=tuple(row.speaker for row in rows) if any(row.speaker is not None for row in rows) else None,
            channels=tuple(row.channel for row in rows) if any(row.channel is not None for row in rows) else None,
            states=tuple(row.state for row in rows) if any(row.state for row in rows) else None,
        )

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, row: int) -> Utterance:
        """Return a row, with its path as it stands."""
        return Utterance(
            self.ids[row],
            self.paths[row],
            int(self.samples[row]),
            self.speakers[row] if self.speakers else None,
            self.channels[row] if self.channels else None,
            self.states[row] if self.states else "",
        )

    def __iter__(self) -> Iterator[Utterance]:
        return (self[row] for row in range(len(self)))

    def where(self, utterance: Utterance) -> str:
        """Return the whole path of a row's audio."""
        return os.path.join(self.root, utterance.path)

    def select(self, rows: Sequence[int] | NDArray[np.intp]) -> Manifest:
        """Return the given rows, in the given order."""
        at = [int(row) for row in rows]
        return replace(
            self,
            ids=tuple(self.ids[row] for row in at),
            paths=tuple(self.paths[row] for row in at),
            samples=self.samples[at],
            speakers=tuple(self.speakers[row] for row in at) if self.speakers else None,
            channels=tuple(self.channels[row] for row in at) if self.channels else None,
            states=tuple(self.states[row] for row in at) if self.states else None,
        )

    @property
    def seconds(self) -> float:
        """Length of all audio; unknown lengths count as none."""
        return float(np.maximum(self.samples, 0).sum()) / self.sample_rate

    @property
    def state(self) -> str:
        """SHA-256 over all that is known of the rows and their files, wherever they lie: what results are made from."""
        return state_of(self.root, self)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the rows in order: names below the folder they share, channels and lengths.

        So it is the same wherever that folder lies, and in whatever form the manifest is written.
        """
        wholes = [os.path.abspath(os.path.join(self.root, path)) for path in self.paths]
        shared = os.path.commonpath(map(os.path.dirname, wholes)) if wholes else ""
        hasher = hashlib.sha256(f"{self.sample_rate}\n".encode())
        for item, whole in zip(self, wholes, strict=True):
            name = id_of(whole[len(shared) :].lstrip(os.sep))
            line = f"{name}\t{item.samples}{f'#{item.channel}' if item.channel else ''}\n"
            hasher.update(line.encode(errors="surrogateescape"))
        return hasher.hexdigest()


def state_of(root: str, rows: Iterable[Utterance]) -> str:
    """Return a digest of rows and of the sizes and times of their files.

    The time of the last change to a file's record is left out: links and permissions change it as well.
    """
    hasher = hashlib.sha256(os.fsencode(os.path.abspath(root)))
    for row in rows:
        known = replace(row, state=row.state.rpartition(":")[0])
        hasher.update(repr(known).encode(errors="surrogateescape"))
    return hasher.hexdigest()


def id_of(path: str) -> str:
    """Return the utterance id of a path relative to its root: without its extension, but whole for a slice of an archive."""
    stem, extension = os.path.splitext(path)
    return path if ":" in extension or not stem else stem
