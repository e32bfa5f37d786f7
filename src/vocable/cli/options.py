"""Options that many commands share."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from vocable.execution.engine import Work, check_device
from vocable.recipes.codebooks import FitSettings
from vocable.recipes.corpus import CorpusSettings
from vocable.recipes.frames import FrameChoice


def available_cores() -> int:
    """Return the number of processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@Parameter(name="*", group="Where the work runs")
@dataclass(frozen=True, kw_only=True)
class Running:
    """Where the work runs."""

    workers: int | None = None
    "Worker processes; by default one for each core. The result doesn't depend on them."
    device: str = "cpu"
    "cpu, cuda, cuda:1 or mps."
    devices: str | None = None
    "Several devices, such as cuda:0,cuda:1; workers take them in turn."
    engine: Literal["local"] = "local"
    "local: on this machine."

    def work(self, nshard: int = 1, rank: int = 0) -> Work:
        """Return where the work runs, with devices that exist."""
        names = tuple(self.devices.split(",")) if self.devices else (self.device,)
        devices = tuple(check_device(name.strip()) for name in names)
        cores = available_cores() if devices == ("cpu",) else len(devices)
        return Work(workers=self.workers or cores, devices=devices, nshard=nshard, rank=rank, engine=self.engine)


@Parameter(name="*", group="Which part of the work")
@dataclass(frozen=True, kw_only=True)
class Part:
    """Which part of the work this run does, for job arrays."""

    nshard: int = 1
    "Parts the work is cut into. The last one to finish writes what takes all of them."
    rank: int = 0
    "Which part this run does, from 0."


Audio = Annotated[CorpusSettings, Parameter(name="*", group="Which audio")]
Frames = Annotated[FrameChoice, Parameter(name="*", group="Which frames")]
Fitting = Annotated[FitSettings, Parameter(name="*", group="How centroids are found")]
Forms = tuple[Literal["km", "units", "rle"], ...]


def work_folder(out: Path) -> Path:
    """Return where finished blocks of work are kept for an output folder."""
    return out / ".vocable"
