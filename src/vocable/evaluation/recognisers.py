"""Recognisers, which write down what is said: none comes along, two are known by name, any other is a callable of one's own."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np

from vocable.audio.decoding import Waveform
from vocable.errors import InputError
from vocable.evaluation.own_functions import imported, own_function

SAMPLE_RATE = 16_000
Recogniser = Callable[[Waveform], str]
"""A waveform at 16 kHz to the words that are said."""
RECOGNISERS = ("faster-whisper:MODEL", "pocketsphinx")


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
    found: Recogniser = own_function(name, "recogniser", RECOGNISERS)
    return found


def _faster_whisper(model: str) -> Recogniser:
    package = imported("faster_whisper", "faster-whisper")
    try:
        whisper = package.WhisperModel(os.path.expanduser(model), device="cpu", compute_type="int8", cpu_threads=1)
    except (ValueError, OSError, RuntimeError) as error:  # whatever the package, the Hub or the file has to say
        said = " ".join(str(error).split())
        raise InputError(
            f"faster-whisper:{model} can't be had ({said:.200}): give a model's folder, or a name when the Hub can be reached"
        ) from error

    def write_down(waveform: Waveform) -> str:
        segments, _ = whisper.transcribe(waveform, language="en", beam_size=1, without_timestamps=True)
        return " ".join(segment.text.strip() for segment in segments)

    return write_down


def _pocketsphinx() -> Recogniser:
    decoder = imported("pocketsphinx", "pocketsphinx").Decoder(samprate=SAMPLE_RATE, loglevel="FATAL")

    def write_down(waveform: Waveform) -> str:
        decoder.start_utt()
        decoder.process_raw((np.clip(waveform, -1, 1) * 32767).astype("<i2").tobytes(), full_utt=True)
        decoder.end_utt()
        found = decoder.hyp()
        return "" if found is None else str(found.hypstr)

    return write_down
