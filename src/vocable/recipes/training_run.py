"""A training's folder, processes and threads, whatever is trained."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from vocable.artefacts.headers import canonical_json
from vocable.artefacts.run_log import RunLog
from vocable.artefacts.writing import write_text
from vocable.errors import InputError
from vocable.execution.processor import available_cores
from vocable.recipes.training_pages import report_of
from vocable.recipes.workplace import NAME
from vocable.training.run_folder import only_training
from vocable.training.world import World


@contextmanager
def run_in(out: Path, world: World, threads: int | None, notes: Sequence[str] = ()) -> Iterator[None]:
    """Keep a run's folder while it is trained in, and write its report at the end.

    Args:
        out: the folder.
        world: the processes.
        threads: of this one on the CPU; by default its share of the cores.
        notes: what the user should know before.

    Raises:
        InputError: something that is no training stands there, or another training runs there.
    """
    with ExitStack() as stack:
        _claim(out)
        if world.is_first:
            stack.enter_context(only_training(out))
            for note in dict.fromkeys(notes):
                print(f"note: {note}", flush=True)
        world.barrier()
        share_cores(world, threads)
        log = RunLog(out / ("run.jsonl" if world.is_first else f"run-{world.rank}.jsonl"))
        with log.recorded():
            yield
        if world.is_first:
            write_text(out / "report.html", report_of(out))


def _claim(out: Path) -> None:
    """Make the run's folder.

    Raises:
        InputError: something that is no training stands there.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file: give a folder for the run")
    out.mkdir(parents=True, exist_ok=True)
    others = [item for item in out.iterdir() if not item.match("run*.jsonl") and item.name not in (".lock", NAME)]
    if others and not (out / "settings.json").exists():
        raise InputError(f"{out} holds something that is no training: give another folder")


def plain_values(value: Any) -> Any:
    """Return settings as JSON values."""
    if isinstance(value, dict):
        return {name: plain_values(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_values(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    canonical_json(value)
    return value


def share_cores(world: World, threads: int | None) -> None:
    """Give this process its threads; several on one machine share its cores."""
    if world.device.type != "cpu":
        return
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    torch.set_num_threads(threads or max(1, available_cores() // here))
