"""`Trainer`: one loop for all objectives."""

from __future__ import annotations

import math
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vocable.artefacts.headers import Header, digest_of
from vocable.errors import InputError
from vocable.execution.progress import progress
from vocable.training.checkpointing import Checkpoints
from vocable.training.interruption import InterruptedTraining, asked_to_end
from vocable.training.loading import Loader
from vocable.training.meter import Meter, in_words, record_in_words
from vocable.training.objective import Data, Stepping
from vocable.training.precision import slower_than_float32
from vocable.training.records import Records, read_records
from vocable.training.run_folder import RunFolder
from vocable.training.settings import TrainingSettings
from vocable.training.updates import Updates
from vocable.training.validation import validated
from vocable.training.world import World
from vocable.training.wrapping import Wrapped

MOST_UNREADABLE = 0.01
"""Part of the utterances that may be unreadable before training stops."""


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """What a recipe does beside the training."""

    measure: Callable[[dict[str, Tensor], int], dict[str, float]] | None = None
    """Weights and step → numbers that join those of a validation; called in the first process."""
    watch: Callable[[list[dict[str, Any]]], str | None] | None = None
    """All records so far → a warning, if there is cause for one."""
    export: Callable[[dict[str, Tensor], Path], None] | None = None
    """Weights and the folder to write a model to."""
    begun: Callable[[], None] | None = None
    """Called in the first process, once it is known that the run's folder is this training's."""
    first_loss: Callable[[float], str | None] | None = None
    """Loss before the first step → a warning, if it isn't what it should be."""


@dataclass(kw_only=True)
class Trainer:
    """Trains a model, and goes on where an earlier run of the same was ended.

    A step's batches, and all that is random in them, follow from the seed and the step alone. So a run that was killed and
    resumed ends with the same weights, bit for bit, as one that wasn't, and with any number of processes a step sees the same
    batches.

    Args:
        objective: the model with its loss.
        blocks: parts of it that are compiled, or kept apart by FSDP.
        data: what it learns from.
        micro_batches: how many make a step.
        validation: what it is measured on.
        settings: how it is trained.
        world: the processes that train it.
        folder: of the run: checkpoints, metrics.jsonl, the model.
        identity: what else weights depend on: data and model, as a JSON value.
        leaves_out: whether the model leaves out some of its parts at random.
        overwrite: begin anew where another training stands.
        hooks: what is done beside.
    """

    objective: nn.Module
    blocks: list[nn.Module]
    data: Data
    micro_batches: int
    validation: Data | None
    settings: TrainingSettings
    world: World
    folder: Path
    identity: Header
    leaves_out: bool = False
    overwrite: bool = False
    hooks: Hooks = field(default_factory=Hooks)

    def run(self) -> None:
        """Train to the last step.

        Raises:
            InputError: the loss isn't finite any more, too much can't be read, or an earlier run had other settings.
            DiskFullError: a checkpoint can't be written; the one before it stands.
            InterruptedTraining: the process was asked to end, and wrote a checkpoint.
        """
        self.settings.check_shares(self.micro_batches, self.world.size)
        run = _Run(self)
        if run.is_done():
            return
        with run.opened():
            if run.step == 0:
                run.look_over()
            while run.step < self.settings.steps:
                run.one_step()
                run.after_step()
            run.finish()


class _Run:
    """A trainer at work."""

    def __init__(self, trainer: Trainer) -> None:
        self._asked, settings = trainer, trainer.settings
        self._settings, self._world = settings, trainer.world
        self._device = trainer.world.device
        self._wrapped = Wrapped(trainer.objective, trainer.blocks, settings, trainer.world, trainer.leaves_out)
        self._updates = Updates(trainer.objective, self._wrapped, settings, self._device)
        self._checkpoints = Checkpoints(trainer.folder / "checkpoints", settings.keep, trainer.world)
        self._identity = digest_of([settings.identity(), trainer.identity, trainer.micro_batches])
        self._folder = RunFolder(trainer.folder, self._identity)
        self._unreadable: dict[int, str] = {}
        self._best: dict[str, float] = {}
        self._meter = Meter()
        self._warned: set[str] = set()
        self._ending = self._due = False
        """Whether the processes have agreed to end after this step, or to write a checkpoint."""
        self._saved = time.monotonic()
        self.step = 0

    def is_done(self) -> bool:
        """Tell whether this very training was done before, and its model stands."""
        return self._world.of_first(self._world.is_first and self._folder.is_done())

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Go on from the latest checkpoint, and keep loader and records open."""
        self._resume()
        with ExitStack() as stack:
            self._stop = stack.enter_context(asked_to_end())
            if self._world.is_first:
                if self._asked.hooks.begun is not None:
                    self._asked.hooks.begun()
                described = {**self._settings.identity(), **self._asked.identity}
                path = self._asked.folder / "metrics.jsonl"
                left = self._settings.steps - self.step
                self._shown = stack.enter_context(progress(self._asked.folder.name, float(left), "steps"))
                self._records = stack.enter_context(Records(path, self.step, self._settings.trackers, described))
            own, on_gpu = len(self._own(0)), self._device.type == "cuda"
            loader = Loader(self._asked.data, self._positions(), self._settings.loaders, own, on_gpu)
            self._loader = stack.enter_context(loader)
            yield

    def one_step(self) -> None:
        """Make one update."""
        made = [next(self._loader) for _ in self._own(self.step)]
        unreadable = {row: why for item in made for row, why in item.unreadable.items() if row not in self._unreadable}
        weights = [self._asked.objective.weight(item.batch) for item in made]  # type: ignore[operator]
        seconds = sum(item.batch.seconds for item in made)
        total, seconds, unknown, stop, due = self._world.summed(
            [sum(weights), seconds, len(unreadable), self._stop.is_set(), self._world.is_first and self._is_due()]
        )
        self._ending, self._due = bool(stop), bool(due)  # as all processes know it, whatever reaches one of them meanwhile
        if unknown:
            for theirs in self._world.gathered(unreadable):
                self._unreadable |= theirs
            self._check_readable()
        rate = self._settings.optimizer.learning_rate * self._settings.schedule.factor(self.step, self._settings.steps)
        for group in self._wrapped.optimizer.param_groups:
            group["lr"] = rate * group.get("rate", 1.0)
        scale = self._world.size / max(total, 1e-12)  # DDP and FSDP take the mean over processes
        objective = self._asked.objective
        objective.train()
        if isinstance(objective, Stepping):
            objective.begin_step()
        positions = (self.step * self._asked.micro_batches + at for at in self._own(self.step))
        norm = self._updates.make(list(zip(positions, made, strict=True)), scale, self.step, self._meter)
        if isinstance(objective, Stepping):
            objective.end_step(self._world.added)
        self._meter.count(norm, rate, seconds, total, self._settings.optimizer.clip_norm)
        self.step += 1
        if self._world.is_first:
            self._shown.advance(1)

    def after_step(self) -> None:
        """Record, validate, and write a checkpoint, where it is time."""
        settings, last = self._settings, self.step == self._settings.steps
        if self.step % settings.log_every == 0 or last:
            self._record()
        validated = self.step % settings.validate_every == 0 or last
        if validated and self._asked.validation is not None:
            self._validate(self._asked.validation)
        if self.step % settings.checkpoint_every == 0 or last or self._ending or self._due:
            self._save()
        if self._ending and not last:
            raise InterruptedTraining(f"stopped after step {self.step}; the same command goes on from there")

    def finish(self) -> None:
        """Write the model, and that it is done."""
        self._export(self._asked.folder / "model")
        if self._world.is_first:
            self._folder.note_done(self.step)

    def look_over(self) -> None:
        """Warn of a precision that is slow here, and of a validation loss that isn't what it is before anything was learnt."""
        if self._world.is_first:
            _warn(slower_than_float32(self._settings.precision, self._device))
        said = self._asked.hooks.first_loss
        if said is None:
            return
        data = self._asked.validation or self._asked.data
        made = data.make(0)
        self._asked.objective.eval()
        with torch.no_grad():
            losses = self._updates.forward(self._asked.objective, made, 0)
        if self._world.is_first:
            (_, loss), *_ = _means(losses.metrics).items()
            _warn(said(loss))

    def _own(self, step: int) -> range:
        """Return which of a step's micro-batches this process takes: in turn."""
        return range(self._world.rank, self._asked.micro_batches, self._world.size)

    def _positions(self) -> Iterator[int]:
        for step in range(self.step, self._settings.steps):
            for at in self._own(step):
                yield step * self._asked.micro_batches + at

    def _is_due(self) -> bool:
        return time.monotonic() - self._saved > 60 * self._settings.checkpoint_minutes

    def _check_readable(self) -> None:
        unreadable = len(self._unreadable)
        if unreadable > MOST_UNREADABLE * self._asked.data.utterances and unreadable >= 2:
            row, why = next(iter(self._unreadable.items()))
            raise InputError(
                f"{unreadable} of {self._asked.data.utterances} utterances can't be read, such as the one of manifest row "
                f"{row + 1} ({why}): mend them, or take them out; the last checkpoint stands as it was"
            )

    def _record(self) -> None:
        values = self._meter.taken(self._world, self._loader, len(self._unreadable))
        self._updates.check_finite(torch.tensor(values["gradient_norm"]), self.step + 1)
        self._updates.check_scale(self.step + 1)
        if not self._world.is_first:
            return
        values["epoch"] = self.step * self._asked.micro_batches / self._asked.data.micro_batches
        if (loss_scale := self._updates.loss_scale) is not None:
            values["loss_scale"] = loss_scale
        if self._device.type == "cuda":
            values["memory_gib"] = torch.cuda.max_memory_allocated(self._device) / 2**30
        self._records.log("train", self.step, values)
        self._shown.remark(record_in_words(values))
        watch = self._asked.hooks.watch
        warning = None if watch is None else watch(read_records(self._asked.folder / "metrics.jsonl"))
        kind = re.sub(r"[\d.]+", "", warning or "")  # the same again, with other numbers, is said once
        if kind not in self._warned:
            self._warned.add(kind)
            _warn(warning)

    def _validate(self, data: Data) -> None:
        self._asked.objective.eval()
        values = validated(
            data,
            self._world,
            self._settings.loaders,
            lambda made, position: self._updates.forward(self._asked.objective, made, position),
            lambda made: self._asked.objective.weight(made.batch),  # type: ignore[operator]
        )
        weights = self._wrapped.weights() if self._asked.hooks.measure is not None or self._asked.hooks.export is not None else {}
        if self._world.is_first:
            if self._asked.hooks.measure is not None:
                values |= self._asked.hooks.measure(weights, self.step)
            self._records.log("valid", self.step, values)
            print(f"step {self.step}, validation: {in_words(values)}", flush=True)
        better = not self._best or values["loss"] < self._best["loss"]
        if better and math.isfinite(values["loss"]):
            self._best = {"step": self.step, "loss": values["loss"]}
            if self._world.is_first and self._asked.hooks.export is not None:
                self._asked.hooks.export(weights, self._asked.folder / "best")

    def _export(self, target: Path) -> None:
        if self._asked.hooks.export is None:
            return
        weights = self._wrapped.weights()
        if self._world.is_first:
            self._asked.hooks.export(weights, target)
        self._world.barrier()

    def _save(self) -> None:
        self._updates.check_finite(self._meter.largest_norm(), self.step + 1)
        kept = {
            "identity": self._identity,
            "best": self._best.get("step"),
            "best_loss": self._best.get("loss"),
            "unreadable": {str(row): why for row, why in self._unreadable.items()},
        }
        self._checkpoints.save(self.step, self._updates.state(), kept)
        self._saved = time.monotonic()

    def _resume(self) -> None:
        found = None
        if self._world.is_first:
            found = self._checkpoints.latest(self._identity, self._asked.overwrite)
            if found is None:
                self._folder.begin_anew(self._asked.overwrite)
                self._checkpoints.clear()
            else:
                self._checkpoints.drop_after(found.step)
        found = self._world.of_first(found)  # on a shared disk another process might see other files
        if found is None:
            return
        tensors = self._updates.state()
        self._checkpoints.load(found, tensors)
        self._updates.restore(tensors)
        self.step = found.step
        if found.state.get("best") is not None:
            self._best = {"step": found.state["best"], "loss": found.state["best_loss"]}
        self._unreadable = {int(row): why for row, why in found.state.get("unreadable", {}).items()}
        if self._world.is_first:
            print(f"going on from step {found.step} of {self._settings.steps}", flush=True)


def _warn(of: str | None) -> None:
    if of:
        print(f"warning: {of}", file=sys.stderr, flush=True)


def _means(metrics: dict[str, Tensor]) -> dict[str, float]:
    return {name: float(value[0] / value[1].clamp(min=1e-12)) for name, value in metrics.items()}
