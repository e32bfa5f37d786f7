"""Which precision suits a processor."""

from __future__ import annotations

import time

import torch

from vocable.training.settings import Precision

_ROWS = 512
_TRIES = 5
_SLOWER = 1.3


def slower_than_float32(precision: Precision, device: torch.device) -> str | None:
    """Return a warning where products in a precision take clearly longer than in float32.

    Processors with AMX, and AMD's since Zen 4, make them faster in bfloat16; others, and Intel's where AMX is hidden from a
    virtual machine, take twice as long, or far longer. So one product is timed, for a few hundredths of a second.
    """
    if device.type != "cpu" or precision == "float32":
        return None
    longer = _seconds(torch.float16 if precision == "float16" else torch.bfloat16) / _seconds(torch.float32)
    if longer < _SLOWER:
        return None
    return f"products in {precision} take {longer:.1f} times as long as in float32 here: give training.precision float32"


def _seconds(kind: torch.dtype) -> float:
    left, right = torch.ones(_ROWS, _ROWS, dtype=kind), torch.ones(_ROWS, _ROWS, dtype=kind)
    took = []
    for _ in range(_TRIES):
        begun = time.perf_counter()
        left @ right.T
        took.append(time.perf_counter() - begun)
    return min(took)
