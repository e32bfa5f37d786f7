"""Values that pass as they are, and whose gradient comes back scaled, or turned round."""

from __future__ import annotations

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
