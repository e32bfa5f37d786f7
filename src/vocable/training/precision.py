"""Which precision suits a processor."""

from __future__ import annotations

import torch

from vocable.execution.processor import bfloat16_speed
from vocable.training.settings import Precision


def slower_than_float32(precision: Precision, device: torch.device) -> str | None:
    """Return a warning where products in a precision are no faster than in float32.

    Intel's processors with AMX, and AMD's since Zen 4, make them faster in bfloat16; others take as long, and Intel's where AMX
    is hidden from a virtual machine twice as long.
    """
    if device.type != "cpu" or precision != "bfloat16" or bfloat16_speed() > 1:
        return None
    return "products in bfloat16 take as long as in float32 on this processor, or twice as long: give training.precision float32"
