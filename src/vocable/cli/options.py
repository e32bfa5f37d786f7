"""Options that many commands share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, get_args

from cyclopts import Parameter

from vocable.cli.given_options import spelled
from vocable.errors import InputError
from vocable.execution.engine import MOST_WORKERS, Work, check_device
from vocable.execution.processor import available_cores
from vocable.recipes.corpus import CorpusSettings
from vocable.recipes.fitting import MINIBATCH_ONLY, FitSettings
from vocable.recipes.frames import ENCODER_ONLY, FrameChoice

_WORKERS_A_GPU = 2


@Parameter(name="*", group="Where the work runs")
@dataclass(frozen=True, kw_only=True)
class Running:
    """Where the work runs."""

    workers: int | None = None
    "Worker processes; by default one for each core, or two for each GPU, so that one decodes while the other computes."
    device: str = "cpu"
    "cpu, cuda, cuda:1 or mps."
    devices: str | None = None
    "Several devices, such as cuda:0,cuda:1; workers take them in turn, and the passes of a fit run on the first."
    engine: Literal["local", "ray"] = "local"
    "local: processes of this machine; ray: those of a Ray cluster, of which --workers is then the most that work at a time."
    address: str | None = None
    "Of the Ray cluster: auto, or host:port; by default one is started on this machine, and ended with the command."

    def work(self, nshard: int = 1, rank: int = 0) -> Work:
        """Return where the work runs, with devices that exist."""
        if self.devices is not None and self.device != "cpu":
            raise InputError(f"--device {self.device} and --devices {self.devices}: give one of them")
        names = [self.device] if self.devices is None else [name.strip() for name in self.devices.split(",") if name.strip()]
        if not names:
            raise InputError(f"--devices {self.devices!r} names no device: give some, apart by commas, such as cuda:0,cuda:1")
        if self.engine == "ray":
            return self._on_ray(names, nshard, rank)
        devices = tuple(map(check_device, names))
        cores = available_cores()
        default = cores if devices == ("cpu",) else min(cores, _WORKERS_A_GPU * len(devices))
        workers = default if self.workers is None else self.workers
        return Work(workers=workers, devices=devices, nshard=nshard, rank=rank, engine=self.engine, address=self.address)

    def _on_ray(self, devices: list[str], nshard: int, rank: int) -> Work:
        if len(devices) > 1 or devices[0] not in ("cpu", "cuda"):
            raise InputError(f"--device {', '.join(devices)} with --engine ray: give cpu or cuda; Ray says which GPU a task has")
        most = self.workers or (available_cores() if self.address is None else MOST_WORKERS)
        return Work(workers=most, devices=tuple(devices), nshard=nshard, rank=rank, engine="ray", address=self.address)


@Parameter(name="*", group="Which part of the work")
@dataclass(frozen=True, kw_only=True)
class Part:
    """Which part of the work this run does, for job arrays."""

    nshard: int = 1
    "Parts the work is cut into, each done by a command of its own."
    rank: int = 0
    "Which part this run does, from 0."


def _separated(type_: Any, tokens: Any) -> tuple[str, ...]:
    """Read values apart by commas or given one after another."""
    values = tuple(item.strip() for token in tokens for item in token.value.split(",") if item.strip())
    allowed = get_args(get_args(type_)[0])
    for value in values:
        if allowed and value not in allowed:
            raise ValueError(f"{value!r} is none of {', '.join(allowed)}")
    return tuple(dict.fromkeys(values))


def _numbers(type_: Any, tokens: Any) -> tuple[int, ...]:
    """Read whole numbers apart by commas or given one after another."""
    return tuple(int(item) for token in tokens for item in token.value.split(",") if item.strip())


Audio = Annotated[CorpusSettings, Parameter(name="*", group="Which audio")]
Frames = Annotated[FrameChoice, Parameter(name="*", group="Which frames")]
Fitting = Annotated[FitSettings, Parameter(name="*", group="How centroids are found")]
Forms = Annotated[tuple[Literal["km", "units", "rle"], ...], Parameter(converter=_separated)]
Numbers = Annotated[tuple[int, ...], Parameter(converter=_numbers, show_default=False)]
Exports = Annotated[
    tuple[Literal["km", "units", "rle", "jsonl", "parquet", "rttm", "textgrid"], ...], Parameter(converter=_separated)
]
Names = Annotated[tuple[str, ...], Parameter(converter=_separated, show_default=False)]


def refuse_idle(why: str, *groups: type[Any], but: Sequence[str] = ()) -> None:
    """Refuse options of groups that would be ignored, all but some.

    Raises:
        InputError: names them, and says why they have no effect.
    """
    if idle := [name for group in groups for name in spelled(item.name for item in fields(group) if item.name not in but)]:
        raise InputError(f"{', '.join(idle)}: no effect here, since {why}; leave out what has none")


def check_together(frames: FrameChoice | None = None, fitting: FitSettings | None = None) -> None:
    """Refuse options that only go with others that the line doesn't have.

    Raises:
        InputError: names both.
    """
    if frames is not None and frames.encoder is not None and (idle := spelled(["features", "mel_bins"])):
        raise InputError(f"{idle[0]} and --encoder: frames are of one of them; give one")
    if frames is not None and frames.encoder is None and (idle := spelled(ENCODER_ONLY)):
        raise InputError(f"{idle[0]} goes with --encoder: give that, or leave it out")
    if frames is not None and frames.features != "logmel" and spelled(["mel_bins"]):
        raise InputError(f"--mel-bins {frames.mel_bins} goes with --features logmel")
    if fitting is not None and fitting.algorithm == "lloyd" and (idle := spelled(MINIBATCH_ONLY)):
        raise InputError(f"{idle[0]} goes with --algorithm minibatch: give that, or leave it out")
