"""What is asked of predictions; known without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vocable.errors import InputError


@dataclass(frozen=True, kw_only=True)
class LossSettings:
    """What is asked of predictions.

    Raises:
        InputError: a part is none.
    """

    kind: Literal["cosine", "linear"] = "cosine"
    """`cosine`: how alike a projected frame and a label's embedding are, as in the paper; `linear`: a softmax over one linear
    layer, which is lighter and as good (arXiv 2411.17100)."""
    temperature: float = 0.1
    """That cosines are divided by."""
    projection: int = 256
    """Values of a projected frame, and of a label's embedding."""
    masked: float = 1.0
    """Weight of masked frames."""
    unmasked: float = 0.0
    """Weight of the others."""
    penalty: float = 10.0
    """Weight of the mean square of what the convolutions make."""

    def __post_init__(self) -> None:
        if self.kind not in ("cosine", "linear"):
            raise InputError(f"kind {self.kind!r} is none of cosine, linear: give one of them")
        if not self.temperature > 0 or self.projection < 1:
            raise InputError(f"temperature {self.temperature} and projection {self.projection}: give numbers above 0")
        if min(self.masked, self.unmasked, self.penalty) < 0 or self.masked + self.unmasked == 0:
            raise InputError(f"masked {self.masked} and unmasked {self.unmasked} are weights: give 0 or more, and one above it")
