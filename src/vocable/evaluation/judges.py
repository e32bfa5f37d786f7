"""Those who judge speech: verifiers, which describe who speaks, and recognisers, which write down what is said.

None comes along; a few are known by name, and any other is MODULE:NAME, a callable of one's own.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocable.audio.decoding import Waveform
from vocable.errors import InputError

SAMPLE_RATE = 16_000
Verifier = Callable[[Waveform], NDArray[np.floating[Any]]]
"""A waveform at 16 kHz to what describes who speaks, of shape (dim,)."""
Recogniser = Callable[[Waveform], str]
"""A waveform at 16 kHz to the words that are said."""
VERIFIERS, RECOGNISERS = ("resemblyzer",), ("faster-whisper:MODEL", "pocketsphinx")
_OWN = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def verifier(name: str) -> Verifier:
    """Return a verifier by name: `resemblyzer`, or `MODULE:NAME`.

    Raises:
        InputError: it isn't known, or isn't installed.
    """
    if name == "resemblyzer":
        return _resemblyzer()
    found: Verifier = _own(name, "verifier", VERIFIERS)
    return found


def recogniser(name: str) -> Recogniser:
    """Return a recogniser by name: `faster-whisper:MODEL` (a folder, or a name on the Hub), `pocketsphinx`, or `MODULE:NAME`.

    Raises:
        InputError: it isn't known, or isn't installed.
    """
    kind, _, model = name.partition(":")
    if kind == "faster-whisper":
        return _faster_whisper(model or "base")
    if name == "pocketsphinx":
        return _pocketsphinx()
    found: Recogniser = _own(name, "recogniser", RECOGNISERS)
    return found


def _own(name: str, what: str, known: tuple[str, ...]) -> Any:
    if not _OWN.fullmatch(name):
        raise InputError(f"{what} {name!r}: give {', '.join(known)}, or MODULE:NAME of a function of your own")
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise InputError(f"{what} {name} can't be imported ({error}): give the name of a function that can") from error
    if not callable(found):
        raise InputError(f"{what} {name} can't be called with a waveform: give a function")
    return found


def _imported(module: str, install: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(f"{module} isn't there ({error}): pip install {install}") from error


def _resemblyzer() -> Verifier:
    package = _imported("resemblyzer", "resemblyzer 'setuptools<81'")
    encoder = package.VoiceEncoder("cpu", verbose=False)

    def describe(waveform: Waveform) -> NDArray[np.floating[Any]]:
        found: NDArray[np.floating[Any]] = encoder.embed_utterance(package.preprocess_wav(waveform, SAMPLE_RATE))
        return found

    return describe


def _faster_whisper(model: str) -> Recogniser:
    whisper = _imported("faster_whisper", "faster-whisper").WhisperModel(model, device="cpu", compute_type="int8", cpu_threads=1)

    def write_down(waveform: Waveform) -> str:
        segments, _ = whisper.transcribe(waveform, language="en", beam_size=1, without_timestamps=True)
        return " ".join(segment.text.strip() for segment in segments)

    return write_down


def _pocketsphinx() -> Recogniser:
    decoder = _imported("pocketsphinx", "pocketsphinx").Decoder(samprate=SAMPLE_RATE, loglevel="FATAL")

    def write_down(waveform: Waveform) -> str:
        decoder.start_utt()
        decoder.process_raw((np.clip(waveform, -1, 1) * 32767).astype("<i2").tobytes(), full_utt=True)
        decoder.end_utt()
        found = decoder.hyp()
        return "" if found is None else str(found.hypstr)

    return write_down
