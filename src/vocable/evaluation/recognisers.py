"""Recognisers, which write down what is said: none comes along, two are known by name, any other is a callable of one's own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vocable.audio.decoding import Waveform
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
    whisper = imported("faster_whisper", "faster-whisper").WhisperModel(model, device="cpu", compute_type="int8", cpu_threads=1)

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
