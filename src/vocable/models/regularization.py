"""What is done to an encoder while it is trained, and to none that describes frames."""

from __future__ import annotations

from dataclasses import dataclass, fields

from vocable.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Regularization:
    """How an encoder is kept from learning its data by heart (fairseq's names in brackets, where they differ).

    Raises:
        InputError: a part is none.
    """

    dropout: float = 0.0
    """Of what attention and feed-forward add to the residual, and of frames before the first block."""
    attention_dropout: float = 0.0
    """Of the weights of attention."""
    activation_dropout: float = 0.0
    """In the middle of a feed-forward layer."""
    input_dropout: float = 0.0
    """Of frames before some are masked (dropout_input)."""
    layer_drop: float = 0.0
    """Probability that a block is left out (encoder_layerdrop)."""
    feature_gradient: float = 1.0
    """Part of the gradient that reaches the convolutions (feature_grad_mult); with 0 they aren't trained."""

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            most = "1" if item.name == "feature_gradient" else "below 1"
            if not 0 <= value <= 1 or (value == 1 and most != "1"):
                raise InputError(f"{item.name} {value}: give a part from 0 to {most}")


NONE = Regularization()
"""That of an encoder that isn't trained."""
