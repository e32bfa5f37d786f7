"""Values that pass as they are, and whose gradient comes back scaled, or turned round."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def scaled_gradient(values: Tensor, factor: float) -> Tensor:
    """Return the same values; what they are made of gets a multiple of their gradient.

    A factor below 0 turns it round: what is behind learns to tell something, and what is before learns not to let it be told
    (arXiv 1505.07818, section 4.2).

    Args:
        values: of any shape.
        factor: that gradients are multiplied with.
    """
    return _ScaledGradient.apply(values, factor)  # type: ignore[no-untyped-call, no-any-return]


class _ScaledGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, values: Tensor, factor: float) -> Tensor:
        ctx.factor = factor  # type: ignore[attr-defined]
        return values.view_as(values)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.factor, None  # type: ignore[attr-defined]


@dataclass
class Gate:
    """Which gradients pass, said after the values have passed and before their gradients come back."""

    part: Tensor | None = None
    """What gradients are multiplied with, of a shape that spreads to theirs; None lets all pass."""


def reversed_gradient(values: Tensor, strength: float, gate: Gate) -> Tensor:
    """Return the same values; what they are made of gets their gradient turned round, as far as a gate lets it pass.

    Args:
        values: of any shape.
        strength: that gradients are multiplied with, beside -1.
        gate: is asked when the gradient comes back.
    """
    return _ReversedGradient.apply(values, strength, gate)  # type: ignore[no-untyped-call, no-any-return]


class _ReversedGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, values: Tensor, strength: float, gate: Gate) -> Tensor:
        ctx.strength, ctx.gate = strength, gate  # type: ignore[attr-defined]
        return values.view_as(values)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None, None]:
        turned = gradients[0] * -ctx.strength  # type: ignore[attr-defined]
        part: Tensor | None = ctx.gate.part  # type: ignore[attr-defined]
        return turned if part is None else turned * part, None, None
