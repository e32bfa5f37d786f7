"""Tokens of all frames that a detokenizer learns from, looked up once, and kept beside the run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vocable.anonymization.detokenizer_data import FrameSource, own_codebooks
from vocable.artefacts.headers import digest_of
from vocable.audio.faults import AudioFault
from vocable.clustering.fleets import Fleet, Tokens
from vocable.execution.engine import Engine, Work
from vocable.execution.progress import progress
from vocable.execution.stages import Payload, Stage

_ROWS_SECONDS = 600.0  # of audio, whose tokens are kept at once


@dataclass(frozen=True)
class _Rows:
    """Rows that follow each other."""

    first: int
    last: int
    size: float

    @property
    def content(self) -> str:
        return digest_of([self.first, self.last])


@dataclass(frozen=True)
class _LookUp:
    """A job: the tokens of rows in the codebooks of their speakers; of what can't be read, none."""

    source: FrameSource
    fleet: Fleet
    own: NDArray[np.int64]

    def open(self, device: str) -> Callable[[_Rows], Payload]:
        del device

        def run(rows: _Rows) -> Payload:
            found = [self._tokens(row) for row in range(rows.first, rows.last)]
            return b"".join(one.astype("<i4").tobytes() for one in found), {"lengths": [len(one) for one in found]}

        return run

    def _tokens(self, row: int) -> Tokens:
        try:
            frames = np.ascontiguousarray(self.source.frames(row))
        except AudioFault:  # which is told when it is needed
            return np.empty((0, len(self.fleet.groups)), np.int32)
        plan = np.full(len(frames), self.own[row])
        tokens = self.fleet.tokens(frames, plan)
        self.fleet.lookup(tokens, plan)  # says which codebook is damaged, where one is
        return tokens


def looked_up(source: FrameSource, fleet: Fleet, folder: Path) -> Callable[[int], Tokens]:
    """Return what gives the tokens of a row in its speaker's codebook, of shape (frames, groups); killed, it goes on.

    Args:
        source: of the frames.
        fleet: the codebooks.
        folder: where they are kept.

    Raises:
        InputError: a speaker has no codebook.
    """
    own = own_codebooks(source.names, source.speakers, fleet, ", or give data.policy=random")
    blocks = list(_blocks(source))
    stage = Stage("tokens", [source.digest, fleet.digest, own.tolist()], folder)
    with Engine(Work()) as engine, progress("tokens", sum(block.size for block in blocks)) as shown:
        finished = stage.run(_LookUp(source, fleet, own), blocks, engine, shown)
    kind = np.uint16 if fleet.codebooks.shape[1] <= 1 << 16 else np.int32
    found: list[Tokens] = []
    for _, entry, content in finished.results():
        lengths = entry.summary["lengths"]
        tokens = np.frombuffer(content, "<i4").reshape(-1, len(fleet.groups)).astype(kind)
        found += np.split(tokens, np.cumsum(lengths)[:-1])
    return found.__getitem__


def _blocks(source: FrameSource) -> Iterator[_Rows]:
    first, seconds = 0, 0.0
    for row, length in enumerate(source.lengths.tolist()):
        seconds += length / source.rate
        if seconds >= _ROWS_SECONDS or row == len(source.lengths) - 1:
            yield _Rows(first, row + 1, seconds)
            first, seconds = row + 1, 0.0
