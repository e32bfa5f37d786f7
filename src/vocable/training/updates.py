"""`Updates`: a step's gradients out of its micro-batches, scaled, clipped, and what the optimizer makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vocable.errors import InputError
from vocable.training.meter import Meter
from vocable.training.objective import InTurns, Losses, Made
from vocable.training.seeds import derived_seed
from vocable.training.settings import TrainingSettings
from vocable.training.wrapping import Wrapped

_LEAST_SCALE = 1e-4
"""Of float16's loss: where it has fallen so far, gradients aren't finite any more (fairseq's limit)."""


class Updates:
    """Makes the updates of a training.

    Args:
        objective: the model with its loss.
        wrapped: the same, as processes share it, with its optimizer.
        settings: of the training.
        device: where it is.
    """

    def __init__(self, objective: nn.Module, wrapped: Wrapped, settings: TrainingSettings, device: torch.device) -> None:
        self._objective, self._wrapped, self._settings, self._device = objective, wrapped, settings, device
        self._scaler = torch.amp.GradScaler(device.type, init_scale=2.0**7, enabled=settings.precision == "float16")

    @property
    def loss_scale(self) -> float | None:
        """By how much float16's loss is multiplied; None in other precisions."""
        return float(self._scaler.get_scale()) if self._scaler.is_enabled() else None

    def make(self, made: Sequence[tuple[int, Made]], scale: float, step: int, meter: Meter) -> Tensor:
        """Update the model, each of its parts that take turns by itself, and return the norm of the last gradients.

        Args:
            made: this process's micro-batches of the step, with their positions.
            scale: what losses are multiplied with.
            step: its number, from 0.
            meter: takes what comes of each micro-batch.

        Raises:
            InputError: the device has too little memory, or gradients aren't finite.
        """
        objective = self._objective
        if not isinstance(objective, InTurns):
            return self._update(made, scale, step, meter, whole=True)
        *before, last = objective.turns
        for turn in before:
            objective.begin_turn(turn)
            self._update(made, scale, step, meter, whole=False)
        objective.begin_turn(last)
        return self._update(made, scale, step, meter, whole=True)

    def _update(self, made: Sequence[tuple[int, Made]], scale: float, step: int, meter: Meter, whole: bool) -> Tensor:
        for number, (position, item) in enumerate(made, 1):
            with self._wrapped.accumulating(number < len(made)):
                losses = self._learnt(item, position, scale)
            meter.add(losses, whole)
        self._scaler.unscale_(self._wrapped.optimizer)
        norm = self._wrapped.clip(self._settings.optimizer.clip_norm)
        if self._device.type == "cpu":  # on a GPU one would have to wait for it; there it is looked at with the next record
            self.check_finite(norm, step + 1)
        self._scaler.step(self._wrapped.optimizer)
        self._scaler.update()
        if self._device.type == "cpu":
            self.check_scale(step + 1)
        self._wrapped.optimizer.zero_grad(set_to_none=True)
        return norm

    def forward(self, model: nn.Module, made: Made, position: int) -> Losses:
        """Return what a model makes of the micro-batch at a position."""
        torch.manual_seed(derived_seed(self._settings.seed, position))
        kind = {"float16": torch.float16}.get(self._settings.precision, torch.bfloat16)
        with torch.autocast(self._device.type, kind, enabled=self._settings.precision != "float32"):
            losses: Losses = model(made.batch.to(self._device))
        return losses

    def _learnt(self, made: Made, position: int, scale: float) -> Losses:
        """Add the gradients of a micro-batch.

        Raises:
            InputError: the device has too little memory for it.
        """
        try:
            losses = self.forward(self._wrapped.model, made, position)
            self._scaler.scale(losses.loss * scale).backward()  # type: ignore[no-untyped-call]
        except torch.OutOfMemoryError as error:
            raise InputError(
                f"{self._device} has too little memory for {made.batch.seconds:.0f} s of audio at once: give a smaller "
                "batches.micro_seconds, of which a step then takes more; the last checkpoint stands as it was"
            ) from error
        return losses

    def check_finite(self, norm: Tensor, step: int) -> None:
        """Refuse to go on with gradients that aren't finite.

        Raises:
            InputError: they aren't, and no scale is to blame.
        """
        if not self._scaler.is_enabled() and not bool(torch.isfinite(norm)):  # else that step was passed over
            raise InputError(
                f"gradients aren't finite in step {step}: give a smaller learning_rate or clip_norm; "
                "the last checkpoint stands as it was"
            )

    def check_scale(self, step: int) -> None:
        """Refuse to go on with a scale that has fallen too far.

        Raises:
            InputError: it has.
        """
        if self._scaler.is_enabled() and self._scaler.get_scale() <= _LEAST_SCALE:
            raise InputError(
                f"gradients aren't finite in float16 however they are scaled, up to step {step}: give a smaller "
                "learning_rate or clip_norm, or precision bfloat16; the last checkpoint stands as it was"
            )

    def state(self) -> dict[str, Any]:
        """Return model, optimizer and scale as nested dictionaries; this process's part of them."""
        return {
            **self._wrapped.state(),
            "scaler": {name: torch.tensor(value) for name, value in self._scaler.state_dict().items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take what `state` returned and a checkpoint filled."""
        self._wrapped.restore(state)
        if state["scaler"]:
            self._scaler.load_state_dict({name: value.item() for name, value in state["scaler"].items()})
