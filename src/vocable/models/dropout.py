"""Dropout, with randomness that a processor is fast at."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

_LEVELS = 1 << 16


def dropout(values: Tensor, probability: float, training: bool) -> Tensor:
    """Return values of which a part is set to 0 and the others scaled up, in training.

    torch draws one random number for each value on a processor, which takes longer than a matrix product's part; here one
    number of 64 bits is drawn for four values, so that the probability is rounded to 1/65536. Both follow torch's generator.
    What is compiled has torch's, which becomes part of what is beside it.
    """
    if not training or probability == 0:
        return values
    if values.device.type != "cpu" or torch.compiler.is_compiling():
        return functional.dropout(values, probability)
    return _Dropped.apply(values, max(1, round(probability * _LEVELS)))  # type: ignore[no-untyped-call, no-any-return]


class _Dropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, threshold: int) -> Tensor:
        drawn = torch.empty(-(-values.numel() // 4), dtype=torch.int64).random_(-(1 << 63), None)
        least = threshold - _LEVELS // 2  # of the numbers whose values are kept
        # Comparisons that end in a mask of truth values take several times as long, and so does what is done with these.
        kept = drawn.view(torch.int16)[: values.numel()].view(values.shape).clamp_(least - 1, least).sub_(least - 1)
        factors = kept.to(values.dtype).mul_(_LEVELS / (_LEVELS - threshold))
        ctx.save_for_backward(factors)
        return values * factors

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (factors,) = ctx.saved_tensors
        return gradients[0] * factors, None
