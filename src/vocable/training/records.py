"""`metrics.jsonl`, and whoever else wants to know how a training goes."""

from __future__ import annotations

import json
import os
import uuid
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self

from vocable.artefacts.writing import space_checked, write_text
from vocable.errors import InputError

TrackerName = Literal["tensorboard", "wandb"]


class Tracker(Protocol):
    """Takes numbers as they come up."""

    def log(self, split: str, step: int, values: dict[str, float]) -> None:
        """Take the numbers of a step."""

    def close(self) -> None:
        """Write what is held back."""


class Records:
    """Appends a JSON line for each record to a file, and passes its numbers on to trackers.

    Args:
        path: of the file; lines beyond `step` are removed, since the steps they are of will be made again.
        step: at which the training goes on.
        trackers: by name.
        settings: of the run, for trackers that show them.
    """

    def __init__(
        self, path: Path, step: int, trackers: tuple[TrackerName, ...] = (), settings: dict[str, Any] | None = None
    ) -> None:
        self._path, self._open = path, ExitStack()
        kept = [line for line in read_records(path) if line["step"] <= step] if path.exists() else []
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
        self._trackers: list[Tracker] = [_TRACKERS[name](path.parent, settings or {}, step) for name in trackers]
        for tracker in self._trackers:
            self._open.callback(tracker.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._open.__exit__(kind, error, trace)

    def log(self, split: str, step: int, values: dict[str, float]) -> None:
        """Append a record; what isn't finite is written as null."""
        line = {"split": split, "step": step, **{name: _finite(value) for name, value in values.items()}}
        with space_checked(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        for tracker in self._trackers:
            tracker.log(split, step, values)


def read_records(path: Path) -> list[dict[str, Any]]:
    """Return the records of a training; a last line that was cut short is left out.

    Raises:
        InputError: another line is no record.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    found = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            found.append({**record, "step": int(record["step"]), "split": str(record["split"])})
        except (ValueError, TypeError, KeyError) as error:
            if number == len(lines):
                break
            raise InputError(f"{path} line {number} is no record of a training ({error}): remove it") from error
    return found


def _finite(value: float) -> float | None:
    return value if abs(value) < float("inf") else None


def _kept_id(path: Path, step: int) -> str:
    """Return the name that a run has for a tracker, which it keeps when it goes on."""
    if not step or not path.is_file():
        write_text(path, uuid.uuid4().hex[:12])
    return path.read_text().strip()


class _TensorBoard:
    def __init__(self, folder: Path, settings: dict[str, Any], step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise InputError("to write for TensorBoard the extra is needed: pip install 'vocable[track]'") from error
        self._writers = {
            split: SummaryWriter(str(folder / "tensorboard" / split), purge_step=step + 1 if step else None)
            for split in ("train", "valid")
        }
        self._writers["train"].add_text("settings", f"```\n{json.dumps(settings, indent=2, default=str)}\n```")

    def log(self, split: str, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._writers[split].add_scalar(name, value, step)

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()


class _WandB:
    """Weights & Biases; offline where WANDB_MODE=offline says so, and then in the run's folder."""

    def __init__(self, folder: Path, settings: dict[str, Any], step: int) -> None:
        try:
            import wandb  # type: ignore[import-not-found, unused-ignore]
        except ImportError as error:
            raise InputError("to write for Weights & Biases the extra is needed: pip install 'vocable[track]'") from error
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "vocable"), name=os.environ.get("WANDB_NAME", folder.name), dir=str(folder),
            config=settings, resume="allow", id=os.environ.get("WANDB_RUN_ID", _kept_id(folder / "wandb.id", step)),
        )  # fmt: skip

    def log(self, split: str, step: int, values: dict[str, float]) -> None:
        self._run.log({f"{split}/{name}": value for name, value in values.items()}, step=step)

    def close(self) -> None:
        self._run.finish()


_TRACKERS: dict[str, Any] = {"tensorboard": _TensorBoard, "wandb": _WandB}
