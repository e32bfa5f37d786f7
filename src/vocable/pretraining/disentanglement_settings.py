"""What an encoder learns not to tell, and when; known without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from vocable.errors import InputError


@dataclass(frozen=True, kw_only=True)
class HeadSettings:
    """A head that learns to tell something of frames.

    Raises:
        InputError: there can be no such head.
    """

    weight: float = 1.0
    """Of its cross-entropy in the loss; with 0 there is no such head, and no labels are needed for it."""
    hidden: int = 256
    """Values in its inner layer."""
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.weight < 0 or self.hidden < 1 or not 0 <= self.dropout < 1:
            raise InputError(
                f"weight {self.weight}, hidden {self.hidden} and dropout {self.dropout}: give 0 or more, 1 or more, and a part "
                "below 1"
            )


@dataclass(frozen=True, kw_only=True)
class SpeakerHeadSettings(HeadSettings):
    """A head that learns to tell who speaks."""

    head: Literal["pooled", "frame"] = "pooled"
    """`pooled`: out of mean and deviation of an utterance's frames; `frame`: out of each frame."""


@dataclass(frozen=True, kw_only=True)
class DisentanglementSettings:
    """What frames are kept from telling, by heads whose gradients come to the encoder turned round.

    The encoder gets each head's gradient times its weight and `reversal`; the heads themselves learn alike with any weight.

    Raises:
        InputError: a part is none.
    """

    tap: int | Literal["conv", "last"] | None = None
    """Where heads listen: `conv` (what the convolutions make, projected, before frames are hidden; not where the input itself is
    hidden, as MelHuBERT's is), behind a layer, from 1, or behind the `last`; by default behind the middle one."""
    frames: Literal["all", "masked", "unmasked"] = "all"
    """Which frames they listen to."""
    normalize: bool = True
    """Whether each frame is brought to mean 0 and variance 1 before heads hear it: else an encoder escapes them by growing."""
    relents: bool = True
    """Whether an utterance, or frame, turns the encoder only while its head does better than guessing; otherwise an encoder is
    driven on where nothing can be told any more, and forgets labels over it."""
    reversal: float = 0.1
    """What the heads' gradients are multiplied with, beside -1, at the most; with 0 the encoder is plain HuBERT's."""
    centring: float = 0.0
    """Weight, on the same schedule, of a loss that needs no head: which part of the variance of frames lies between the means of
    utterances."""
    schedule: Literal["constant", "dann", "linear"] = "dann"
    """How it grows between `begin` and `end`: 2 / (1 + exp(-gamma · p)) - 1 with p from 0 to 1 (arXiv 1505.07818, section 5.2.2),
    linearly, or at once."""
    gamma: float = 10.0
    begin: float = 0.08
    """Part of all steps before which it is 0: heads that know nothing yet turn an encoder nowhere."""
    end: float = 0.5
    """Part of all steps behind which it is whole."""
    head_rate: float = 1.0
    """Learning rate of the heads, as a multiple of the model's."""
    speaker: SpeakerHeadSettings = field(default_factory=SpeakerHeadSettings)
    pitch: HeadSettings = field(default_factory=HeadSettings)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.centring) and self.centring >= 0):
            raise InputError(f"centring {self.centring}: give 0 or more")
        if not (math.isfinite(self.reversal) and self.reversal >= 0 and self.gamma > 0 and self.head_rate > 0):
            raise InputError(
                f"reversal {self.reversal}, gamma {self.gamma} and head_rate {self.head_rate}: give 0 or more, and two numbers "
                "above 0"
            )
        if not 0 <= self.begin <= self.end <= 1:
            raise InputError(f"begin {self.begin} and end {self.end} are parts of all steps: give such as grow from 0 to 1")
        for name, allowed in (("frames", ("all", "masked", "unmasked")), ("schedule", ("constant", "dann", "linear"))):
            if getattr(self, name) not in allowed:
                raise InputError(f"{name} {getattr(self, name)!r} is none of {', '.join(allowed)}: give one of them")
        if self.speaker.weight == 0 and self.pitch.weight == 0:
            raise InputError("speaker.weight and pitch.weight are both 0: give one of them, or train a plain HuBERT")

    def layer(self, layers: int) -> int:
        """Return the layer that heads listen behind; 0 is before frames are hidden.

        Args:
            layers: of the encoder.

        Raises:
            InputError: it has no such layer.
        """
        if self.tap is None:
            return max(1, layers // 2)
        if isinstance(self.tap, str):
            return {"conv": 0, "last": layers}[self.tap]
        if not 1 <= self.tap <= layers:
            raise InputError(f"disentanglement.tap {self.tap}: the encoder has {layers} layers; give one of them, conv, or last")
        return self.tap

    def strength(self, step: int, steps: int) -> float:
        """Return what the heads' gradients are multiplied with, beside -1, in a step; arguments are those of `scheduled`."""
        return self.reversal * self.scheduled(step, steps)

    def scheduled(self, step: int, steps: int) -> float:
        """Return which part of its strength everything here has in a step.

        Args:
            step: how many updates were made before.
            steps: how many will be made in all.
        """
        begin, end = self.begin * steps, self.end * steps
        if step < begin:
            return 0.0
        part = min(1.0, (step - begin) / (end - begin)) if end > begin else 1.0
        if self.schedule == "linear":
            return part
        return 2 / (1 + math.exp(-self.gamma * part)) - 1 if self.schedule == "dann" else 1.0
