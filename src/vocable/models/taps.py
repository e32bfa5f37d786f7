"""Where frames are taken from an encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from vocable.errors import InputError

TapName = Literal["block", "attention", "ffn", "final"]


@dataclass(frozen=True, order=True)
class Tap:
    """A place where frames are taken from an encoder."""

    layer: int
    """1-based: the layer-th block."""
    name: TapName = "block"
    """`block`: its output, residual included, without any final norm, as fairseq and transformers count layers. `attention` and
    `ffn`: what these parts of it add to the residual. `final`: the output of the last block after the final norm, if there is
    one."""

    def check(self, layers: int) -> None:
        """Refuse a tap that an encoder hasn't; fairseq's would give its last layer.

        Raises:
            InputError: says which there are.
        """
        if self.name not in get_args(TapName):
            raise InputError(f"the tap {self.name!r} is none of {', '.join(get_args(TapName))}: give one of them")
        if not 1 <= self.layer <= layers:
            raise InputError(f"layer {self.layer} doesn't exist: the encoder has {layers} layers; give one from 1 to {layers}")
        if self.name == "final" and self.layer != layers:
            raise InputError(f"the tap 'final' is behind the last layer, {layers}: leave out the layer, or give that one")
