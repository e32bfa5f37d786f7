"""Verifiers, which describe who speaks: none comes along, one is known by name, and any other is a callable of one's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocable.audio.decoding import Waveform
from vocable.evaluation.own_functions import imported, own_function

SAMPLE_RATE = 16_000
Verifier = Callable[[Waveform], NDArray[np.floating[Any]]]
"""A waveform at 16 kHz to what describes who speaks, of shape (dim,)."""
VERIFIERS = ("resemblyzer",)


def verifier(name: str) -> Verifier:
    """Return a verifier by name: `resemblyzer`, or `MODULE:NAME`.

    Raises:
        InputError: it isn't known, or isn't installed.
    """
    if name == "resemblyzer":
        return _resemblyzer()
    found: Verifier = own_function(name, "verifier", VERIFIERS)
    return found


def _resemblyzer() -> Verifier:
    package = imported("resemblyzer", "resemblyzer 'setuptools<81'")
    encoder = package.VoiceEncoder("cpu", verbose=False)

    def describe(waveform: Waveform) -> NDArray[np.floating[Any]]:
        found: NDArray[np.floating[Any]] = encoder.embed_utterance(package.preprocess_wav(waveform, SAMPLE_RATE))
        return found

    return describe
