"""White noise added to speech: what hides a voice only as far as it hides the words, for comparison."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vocable.audio.decoding import Waveform

LOWEST, HIGHEST = -15.0, 45.0  # dB of speech over noise that are tried
_CLOSE = 0.5  # dB


@dataclass(frozen=True)
class WhiteNoise:
    """Adds noise to waveforms, to each always the same."""

    over: float
    """dB by which speech is louder."""

    @property
    def is_loudest(self) -> bool:
        """Whether no louder noise is tried."""
        return self.over < LOWEST + _CLOSE

    @property
    def identity(self) -> str:
        """What tells it from others."""
        return f"white noise, {self.over:.2f} dB"

    def __call__(self, waveform: Waveform, name: str) -> Waveform:
        """Return the waveform of an utterance with noise, of shape (samples,), quieter if it would be clipped otherwise."""
        seed = int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:8], "little")
        noise = np.random.default_rng(seed).standard_normal(len(waveform), dtype=np.float32)
        power = float(np.square(waveform, dtype=np.float64).mean()) if len(waveform) else 0.0
        made = waveform + noise * np.float32(np.sqrt(power * 10 ** (-self.over / 10)))
        highest = float(np.abs(made).max()) if len(made) else 0.0
        found: Waveform = (made * np.float32(min(1.0, 0.99 / max(highest, 1e-9)))).astype(np.float32)
        return found


def noise_with_errors(rate: float, errors: Callable[[WhiteNoise], float]) -> WhiteNoise:
    """Return noise that costs a rate of errors, as near as half a decibel leads to it.

    Args:
        rate: of errors that is wanted.
        errors: the rate that noise costs; the louder it is the more.
    """
    low, high = LOWEST, HIGHEST
    while high - low > _CLOSE:
        middle = (low + high) / 2
        low, high = (middle, high) if errors(WhiteNoise(middle)) > rate else (low, middle)
    return WhiteNoise((low + high) / 2)
