"""How a model is trained, whatever it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from vocable.artefacts.headers import Header
from vocable.errors import InputError
from vocable.training.records import TrackerName
from vocable.training.schedule import Schedule

Precision = Literal["float32", "bfloat16", "float16"]
Parallel = Literal["ddp", "fsdp"]


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """AdamW, or Adam.

    Raises:
        InputError: a part is none.
    """

    learning_rate: float = 5e-4
    """At the peak of the schedule."""
    kind: Literal["adamw", "adam"] = "adamw"
    """`adamw` decays weights apart from their gradients, as fairseq's Adam does, too."""
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-6
    weight_decay: float = 0.01
    decayed: Literal["all", "matrices"] = "all"
    """`matrices` leaves out biases and norms."""
    clip_norm: float = 10.0
    """Largest norm of all gradients together; 0 for any."""

    def __post_init__(self) -> None:
        if not self.learning_rate > 0 or not self.eps > 0:
            raise InputError(f"learning_rate {self.learning_rate} and eps {self.eps}: give numbers above 0")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise InputError(f"betas {self.betas}: give two numbers from 0 to below 1")
        if self.weight_decay < 0 or self.clip_norm < 0:
            raise InputError(f"weight_decay {self.weight_decay} and clip_norm {self.clip_norm}: give 0 or more")
        _one_of("kind", self.kind, "adamw", "adam")
        _one_of("decayed", self.decayed, "all", "matrices")


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How a model is trained, whatever it is.

    Raises:
        InputError: a part is none.
    """

    steps: int
    """Updates."""
    seed: int = 1
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    schedule: Schedule = field(default_factory=Schedule)
    precision: Precision = "float32"
    """`bfloat16` and `float16` make products in it, under autocast; weights stay in float32."""
    compile: bool = False
    """Through torch.compile, which takes minutes at the start."""
    parallel: Parallel = "ddp"
    """How several processes share the work: `ddp` keeps all of the model in each, `fsdp` (FSDP2) a part."""
    log_every: int = 100
    """Steps between two records."""
    validate_every: int = 5000
    checkpoint_every: int = 5000
    checkpoint_minutes: float = 30.0
    """A checkpoint is also written where the last one is older, so that no more than this is lost."""
    keep: int = 2
    """How many of the latest checkpoints stay, beside the best."""
    trackers: tuple[TrackerName, ...] = ()
    """Whoever gets the records, too: `tensorboard`, `wandb`."""
    loaders: int = 2
    """Threads that read audio in each process."""

    def __post_init__(self) -> None:
        for name in ("steps", "log_every", "validate_every", "checkpoint_every", "keep", "loaders"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} {getattr(self, name)}: give 1 or more")
        if not self.checkpoint_minutes > 0:
            raise InputError(f"checkpoint_minutes {self.checkpoint_minutes}: give more than 0")
        if self.seed < 0:
            raise InputError(f"seed {self.seed}: give 0 or more")
        _one_of("precision", self.precision, "float32", "bfloat16", "float16")
        _one_of("parallel", self.parallel, "ddp", "fsdp")
        for name in self.trackers:
            _one_of("trackers", name, "tensorboard", "wandb")

    def check_shares(self, micro_batches: int, processes: int) -> None:
        """Refuse a step that processes can't share.

        Args:
            micro_batches: of a step.
            processes: how many are to train together.

        Raises:
            InputError: some would have nothing to do, or FSDP's not equally much.
        """
        if micro_batches < processes:
            raise InputError(
                f"a step has {micro_batches} micro-batches, and there are {processes} processes: give more batches.seconds, or "
                "fewer batches.micro_seconds"
            )
        if self.parallel == "fsdp" and micro_batches % processes:
            raise InputError(
                f"parallel fsdp takes all processes through equally many micro-batches: a step has {micro_batches} for "
                f"{processes} processes; give other batches.seconds, or take ddp"
            )

    def identity(self) -> Header:
        """Return what the weights depend on beside data and model, as a JSON value; how many steps there are is part of it."""
        return {
            "steps": self.steps,
            "seed": self.seed,
            "optimizer": {**vars(self.optimizer), "betas": list(self.optimizer.betas)},
            "schedule": vars(self.schedule),
            "precision": self.precision,
        }


def _one_of(name: str, value: Any, *allowed: str) -> None:
    if value not in allowed:
        raise InputError(f"{name} {value!r} is none of {', '.join(allowed)}: give one of them")
