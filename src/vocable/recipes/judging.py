"""What verifiers and recognisers make of a corpus, and its pitch: block by block, kept, so that nothing is judged twice."""

from __future__ import annotations

import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vocable.anonymization.speech_parts import taken_apart
from vocable.artefacts.headers import digest_of
from vocable.audio.blocks import Block, blocks_of
from vocable.audio.decoding import Waveform, read_waveform
from vocable.audio.manifest import Manifest
from vocable.checkpoints.ecapa_checkpoint import installed_ecapa
from vocable.errors import InputError
from vocable.evaluation.recognisers import recogniser
from vocable.evaluation.verifiers import SAMPLE_RATE, verifier
from vocable.execution.engine import Engine
from vocable.execution.progress import progress
from vocable.execution.stages import Payload, Stage

Values = NDArray[np.float64]


class Disturbance(Protocol):
    """Changes waveforms before they are judged; it must pickle."""

    @property
    def identity(self) -> str:
        """What tells it from others."""

    def __call__(self, waveform: Waveform, name: str) -> Waveform:
        """Return what becomes of an utterance's waveform."""


@dataclass(frozen=True)
class Judging:
    """Where corpora are judged, and what was found is kept.

    Args:
        engine: does the work.
        folder: for what is found.
    """

    engine: Engine
    folder: Path

    def described(self, manifest: Manifest, name: str, disturbed: Disturbance | None = None) -> Values:
        """Return what a verifier makes of utterances, of shape (utterances, dim).

        Args:
            manifest: of the utterances.
            name: of the verifier.
            disturbed: changes them first.

        Raises:
            InputError: what it returns describes nobody, or it can't be had.
        """
        found = self._arrays("speakers", _Describe(name, disturbed), manifest)
        for item, one in zip(manifest, found, strict=True):
            if one.shape != found[0].shape or not np.isfinite(one).all():
                raise InputError(
                    f"the verifier returned what describes nobody for {item.id}: let it return finite numbers, equally many"
                )
        return np.stack(found)

    def read(self, manifest: Manifest, name: str, disturbed: Disturbance | None = None) -> list[str]:
        """Return what a recogniser reads out of utterances; the arguments are those of `described`.

        Raises:
            InputError: it returns no text, or can't be had.
        """
        return [text for block in self._run("words", _Read(name, disturbed), manifest) for text in json.loads(block[0])]

    def pitches(self, manifest: Manifest, disturbed: Disturbance | None = None) -> list[Values]:
        """Return the pitch of utterances, in Hz, every 10 ms; 0 where there is no voice."""
        return self._arrays("pitch", _FollowPitch(disturbed), manifest)

    def _arrays(self, what: str, job: _Judge, manifest: Manifest) -> list[Values]:
        found: list[Values] = []
        for content, summary in self._run(what, job, manifest):
            found += np.split(np.frombuffer(content, "<f8"), np.cumsum(summary["sizes"])[:-1]) if summary["sizes"] else []
        return found

    def _run(self, what: str, job: _Judge, manifest: Manifest) -> list[Payload]:
        blocks = list(blocks_of(manifest))
        with progress(what, sum(block.size for block in blocks)) as shown:
            finished = Stage(what, job.identity, self.folder).run(job, blocks, self.engine, shown)
        for _, reason in finished.given_up():
            raise InputError(f"{what} couldn't be judged ({reason}): look what is wrong with {job.identity[0] or 'the audio'}")
        return [(content, entry.summary) for _, entry, content in finished.results()]


@dataclass(frozen=True)
class _Judge(ABC):
    """A job: what somebody makes of each utterance of a block."""

    name: str
    disturbed: Disturbance | None

    @property
    def identity(self) -> list[Any]:
        """Return what results depend on beside the audio."""
        return [
            self.name,
            state_of(self.name) if self.name else None,
            None if self.disturbed is None else self.disturbed.identity,
        ]

    def open(self, device: str) -> Callable[[Block], Payload]:
        del device
        judge = self.judge()

        def run(block: Block) -> Payload:
            found = []
            for item in block.utterances:
                waveform = read_waveform(block.where(item), SAMPLE_RATE, item.channel)
                found.append(judge(waveform if self.disturbed is None else self.disturbed(waveform, item.id)))
            return self.kept(found)

        return run

    @abstractmethod
    def judge(self) -> Callable[[Waveform], Any]:
        """Return what is asked."""

    def kept(self, found: list[Any]) -> Payload:
        """Return what was found, arrays of one dimension, as a ledger keeps it."""
        return b"".join(one.astype("<f8").tobytes() for one in found), {"sizes": [len(one) for one in found]}


def state_of(name: str) -> Any:
    """Return what tells a judge from others under the same name, as JSON: a package's version, its file, or its source."""
    kind, _, text = name.partition(":")
    if kind in _PACKAGES:
        return _version(kind)
    if kind in _FILES:
        path = Path(text).expanduser() if text else installed_ecapa() if kind == "ecapa" else None
        return [_version(kind), None if path is None else _files(path)]
    source = getattr(sys.modules.get(kind), "__file__", None)  # it was imported when it was looked whether it can be had
    return None if source is None else _files(Path(source))


_PACKAGES = ("resemblyzer", "pocketsphinx")
_FILES = ("ecapa", "faster-whisper")  # whose names are followed by a file or a folder


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _files(path: Path) -> str | None:
    """Return what tells a file, or the files of a folder, from others under the same name."""
    files = sorted(item for item in path.iterdir() if item.is_file()) if path.is_dir() else [path] if path.is_file() else []
    return digest_of([[item.name, item.stat().st_size, item.stat().st_mtime_ns] for item in files]) if files else None


class _Describe(_Judge):
    def judge(self) -> Callable[[Waveform], Any]:
        describe = verifier(self.name)

        def checked(waveform: Waveform) -> Values:
            made = np.asarray(describe(waveform))
            if made.ndim != 1 or made.dtype.kind not in "fiu":
                raise InputError(
                    f"the verifier returned what describes nobody, {made!r:.60}: let it return finite numbers, equally many"
                )
            return made.astype(np.float64)

        return checked


class _Read(_Judge):
    def judge(self) -> Callable[[Waveform], Any]:
        write_down = recogniser(self.name)

        def checked(waveform: Waveform) -> str:
            text = write_down(waveform)
            if not isinstance(text, str):
                raise InputError(f"the recogniser returned {text!r:.60} where text was wanted: let it return a str")
            return text

        return checked

    def kept(self, found: list[Any]) -> Payload:
        """Return texts as a ledger keeps them."""
        return json.dumps(found).encode(), {}


class _FollowPitch(_Judge):
    def __init__(self, disturbed: Disturbance | None) -> None:
        super().__init__("", disturbed)

    def judge(self) -> Callable[[Waveform], Any]:
        return lambda waveform: taken_apart(waveform).pitch
