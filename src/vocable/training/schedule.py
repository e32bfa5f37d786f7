"""How the learning rate goes along the steps of a training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from vocable.errors import InputError

Decay = Literal["linear", "cosine", "exponential", "constant"]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Up linearly from 0, held, then down.

    Raises:
        InputError: a part is none.
    """

    warmup: float = 0.08
    """Part of all steps in which it rises; HuBERT's is 8 % (arXiv 2106.07447, section IV-C)."""
    hold: float = 0.0
    """Part of all steps in which it stays at its peak."""
    decay: Decay = "linear"
    """`linear` is fairseq's polynomial_decay of power 1; `exponential` the end of its tri_stage."""
    final: float = 0.0
    """Part of the peak that is left at the end; `exponential` needs some."""

    def __post_init__(self) -> None:
        if not (0 <= self.warmup <= 1 and 0 <= self.hold <= 1 and self.warmup + self.hold <= 1):
            raise InputError(
                f"warmup {self.warmup} and hold {self.hold} are parts of all steps: give such that add up to 1 or less"
            )
        if not 0 <= self.final <= 1:
            raise InputError(f"final {self.final} is a part of the peak: give 0 to 1")
        if self.decay not in ("linear", "cosine", "exponential", "constant"):
            raise InputError(f"decay {self.decay!r} is none of linear, cosine, exponential, constant: give one of them")
        if self.decay == "exponential" and self.final == 0:
            raise InputError("an exponential decay never reaches 0: give a final part of the peak, such as 0.05")

    def factor(self, step: int, steps: int) -> float:
        """Return the part of the peak at a step.

        Args:
            step: how many updates were made before.
            steps: how many will be made in all.
        """
        warm, held = self.warmup * steps, (self.warmup + self.hold) * steps
        if step < warm:
            return step / warm
        if step <= held or self.decay == "constant":
            return 1.0
        gone = min(1.0, (step - held) / (steps - held))
        if self.decay == "exponential":
            return math.exp(gone * math.log(self.final))
        left = 1 - gone if self.decay == "linear" else (1 + math.cos(math.pi * gone)) / 2
        return self.final + (1 - self.final) * left
