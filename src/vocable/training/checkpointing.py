"""Checkpoints of a training: whole or not there, the latest few kept and the best one."""

from __future__ import annotations

import re
import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict_loader import load as load_tensors
from torch.distributed.checkpoint.state_dict_saver import save as save_tensors

from vocable.artefacts.headers import TEXT, Header, read_field, read_header, whole, write_header
from vocable.artefacts.writing import space_checked
from vocable.errors import InputError, VocableError
from vocable.training.checkpoint_reading import Planner, Reader
from vocable.training.world import World

FORM = "vocable.training/1"
_STATE = "state.json"
_NAME = re.compile(r"step-(\d{8})")
_PART = ".part"


@dataclass(frozen=True)
class Checkpoint:
    """A folder of tensors, as torch.distributed.checkpoint writes them, with a note of what it is."""

    folder: Path
    step: int
    """Updates that were made before it."""
    state: Header
    """What else the trainer knows."""


class Checkpoints:
    """The checkpoints of one run.

    A checkpoint is written into a folder of another name and renamed when it is whole; it notes the sizes of its files, so that
    one that was cut short later is recognised, and the one before it taken.

    Args:
        folder: where they lie.
        keep: how many of the latest stay.
        world: the processes that write them together.
    """

    def __init__(self, folder: Path, keep: int, world: World) -> None:
        self._folder, self._keep, self._world = folder, keep, world

    def latest(self, identity: str, overwrite: bool = False) -> Checkpoint | None:
        """Return the newest that is whole, if there is one; the first process asks.

        Args:
            identity: digest of what the training depends on.
            overwrite: take none of a training with other settings for one, and let it be replaced.

        Raises:
            InputError: it is of a training with other settings, or none is whole.
        """
        broken = None
        for folder in sorted(self._named(), reverse=True):
            try:
                found = _opened(folder)
            except VocableError as error:
                broken = error
                print(f"warning: {error}; an older one is looked for", file=sys.stderr, flush=True)
                continue
            if read_field(folder / _STATE, found.state, "identity", TEXT) != identity:
                if overwrite:
                    return None
                raise InputError(
                    f"{folder} is of a training with other settings or data: give another folder, or --overwrite to begin anew"
                )
            return found
        if broken is not None and not overwrite:
            raise InputError(f"no checkpoint in {self._folder} is whole: give another folder, or --overwrite to begin anew")
        return None

    def clear(self) -> None:
        """Remove all of them."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def drop_after(self, step: int) -> None:
        """Remove the broken ones that were passed over, which would count among the latest."""
        for folder in self._named():
            if folder.name > f"step-{step:08d}":
                shutil.rmtree(folder, ignore_errors=True)

    def save(self, step: int, tensors: dict[str, Any], state: Header) -> None:
        """Write a checkpoint with all processes, and remove older ones.

        Args:
            step: updates that were made.
            tensors: nested dictionaries of tensors and plain values.
            state: what else is to be known; "best" is the step of the best one so far, which is kept.

        Raises:
            DiskFullError: nothing half written stays, and the checkpoint before it is as it was.
        """
        target = self._folder / f"step-{step:08d}"
        part = target.with_name(target.name + _PART)
        if self._world.is_first:
            for leftover in self._folder.glob(f"step-*{_PART}"):
                shutil.rmtree(leftover, ignore_errors=True)
            shutil.rmtree(target, ignore_errors=True)  # a broken one that was passed over
            part.mkdir(parents=True)
        self._world.barrier()
        try:
            with space_checked(target):
                _written(tensors, part, alone=self._world.size == 1)
                self._world.barrier()
                if self._world.is_first:
                    files = {item.name: item.stat().st_size for item in sorted(part.iterdir())}
                    write_header(part / _STATE, {"format": FORM, "step": step, "files": files, **state})
                    part.rename(target)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
        if self._world.is_first:
            kept = {*sorted(self._named())[-self._keep :], self._folder / f"step-{state.get('best') or 0:08d}"}
            for folder in self._named():
                if folder not in kept:
                    shutil.rmtree(folder, ignore_errors=True)
        self._world.barrier()

    def load(self, checkpoint: Checkpoint, tensors: dict[str, Any]) -> None:
        """Fill nested dictionaries of tensors, in place, with what a checkpoint holds.

        Raises:
            InputError: it holds others.
        """
        try:
            with _quiet():
                load_tensors(tensors, storage_reader=Reader(checkpoint.folder), planner=Planner(), no_dist=self._world.size == 1)
        except CheckpointException as error:
            raise InputError(
                f"{checkpoint.folder} doesn't hold what is trained here ({_first_of(error)}): give another folder, or --overwrite"
            ) from error

    def _named(self) -> list[Path]:
        if not self._folder.is_dir():
            return []
        return [item for item in self._folder.iterdir() if _NAME.fullmatch(item.name)]


def _written(tensors: dict[str, Any], folder: Path, alone: bool) -> None:
    try:
        with _quiet():
            save_tensors(tensors, checkpoint_id=str(folder), no_dist=alone)
    except CheckpointException as error:
        causes = [cause for cause, _ in error.failures.values() if isinstance(cause, OSError)]
        raise causes[0] if causes else error from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch from saying that a single process saves as a single process."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled, unavailable or uninitialized")
        yield


def _first_of(error: CheckpointException) -> str:
    cause = next(iter(error.failures.values()))[0]
    return str(cause).splitlines()[0]


def _opened(folder: Path) -> Checkpoint:
    """Return a checkpoint that is whole.

    Raises:
        InputError: it isn't.
    """
    path = folder / _STATE
    if not path.is_file():
        raise InputError(f"{folder} is no whole checkpoint (it lacks {_STATE})")
    state = read_header(path, FORM)
    files = state.get("files")
    if not isinstance(files, dict) or not (folder / ".metadata").is_file():
        raise InputError(f"{folder} is no whole checkpoint (it lacks its list of files)")
    for name, size in files.items():
        item = folder / name
        if not item.is_file() or item.stat().st_size != size:
            raise InputError(f"{item} is cut short or gone")
    return Checkpoint(folder, read_field(path, state, "step", whole(0)), state)
