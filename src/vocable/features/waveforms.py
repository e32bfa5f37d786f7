"""What extractors take: mono waveforms, as float32."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from vocable.audio.decoding import Waveform
from vocable.errors import InputError


def as_waveforms(waveforms: Iterable[Any]) -> list[Waveform]:
    """Return each waveform as float32 of shape (samples,).

    Raises:
        InputError: a bare array instead of a list of waveforms, several channels, or samples that aren't floating-point numbers.
    """
    if hasattr(waveforms, "shape") or not isinstance(waveforms, Iterable):
        # A row of a bare array may be an utterance, a channel, or one moment of all channels.
        shape = f"an array of shape {tuple(waveforms.shape)}" if hasattr(waveforms, "shape") else repr(waveforms)
        raise InputError(f"features are made of a list of mono waveforms, not of {shape}: give [waveform]")
    return [_as_waveform(waveform, number) for number, waveform in enumerate(waveforms, 1)]


def _as_waveform(waveform: Any, number: int) -> Waveform:
    try:
        samples = np.asarray(waveform)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged lists, tensors on a GPU or with a gradient
        raise InputError(f"waveform {number} can't be taken as an array ({error}): give a NumPy array of samples") from error
    if samples.ndim == 0:
        raise InputError(f"waveform {number} is the single value {waveform!r}: give a list of waveforms, [waveform]")
    if samples.ndim > 1:
        raise InputError(f"waveform {number} has the shape {samples.shape}, but should be mono: take one channel, or their mean")
    if not np.issubdtype(samples.dtype, np.floating):
        raise InputError(
            f"waveform {number} has samples of type {samples.dtype}, but should have floating-point ones in [-1, 1]: "
            "divide 16-bit integers by 32768"
        )
    return np.ascontiguousarray(samples, dtype=np.float32)
