"""Speech made by libespeak-ng, which says when each phoneme begins."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocable.errors import InputError
from vocable.timelines.timeline import Timeline

_RETRIEVAL, _PHONEME_EVENTS, _UTF8 = 1, 1, 1
_RATE, _PITCH, _RANGE = 1, 3, 4
_PHONEME = 7  # event type
_SILENCE = "SIL"


class _Id(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    """espeak_EVENT of speak_lib.h."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    ]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


@dataclass(frozen=True)
class Voice:
    """A way of speaking: a voice of espeak-ng with its variant, words a minute, pitch and its range (0-100)."""

    name: str
    rate: int = 165
    pitch: int = 50
    range: int = 50


class Espeak:
    """The library; one speaks at a time in a process.

    Raises:
        InputError: the wheel that carries it isn't installed.
    """

    def __init__(self) -> None:
        self._library, self.sample_rate = _begun()

    def speak(self, text: str, voice: Voice) -> tuple[NDArray[np.int16], Timeline]:
        """Return 16-bit samples at `sample_rate` and the phonemes, as espeak names them, stress marks stripped.

        Raises:
            InputError: espeak-ng has no such voice.
        """
        pieces: list[NDArray[np.int16]] = []
        starts: list[tuple[int, str]] = []

        def receive(samples: Any, count: int, events: Any) -> int:
            if count > 0 and samples:
                pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
            at = 0
            while events[at].type:
                if events[at].type == _PHONEME:
                    starts.append((events[at].sample, events[at].id.string.decode("utf-8", "replace")))
                at += 1
            return 0

        callback = _Callback(receive)
        self._library.espeak_SetSynthCallback(callback)
        if self._library.espeak_SetVoiceByName(voice.name.encode()):
            raise InputError(f"espeak-ng has no voice {voice.name!r}")
        for parameter, value in ((_RATE, voice.rate), (_PITCH, voice.pitch), (_RANGE, voice.range)):
            self._library.espeak_SetParameter(parameter, value, 0)
        content = text.encode()
        self._library.espeak_Synth(content, len(content) + 1, 0, 1, 0, _UTF8, None, None)
        self._library.espeak_Synchronize()
        samples = np.concatenate(pieces) if pieces else np.empty(0, dtype=np.int16)
        return samples, self._timeline(starts, len(samples))

    def _timeline(self, starts: list[tuple[int, str]], count: int) -> Timeline:
        """Make intervals of the phonemes' beginnings; what comes before the first is silence."""
        edges = [0, *(min(at, count) for at, _ in starts), count]
        names = [_SILENCE, *(_phone(name) for _, name in starts)]
        rows = [(begin, end, name) for begin, end, name in zip(edges, edges[1:], names, strict=False) if end > begin]
        times = np.array([row[:2] for row in rows], dtype=np.float64).reshape(-1, 2) / self.sample_rate
        return Timeline(times[:, 0], times[:, 1], tuple(name for *_, name in rows))


@cache
def _begun() -> tuple[ctypes.CDLL, int]:
    """Return the library and its rate; begun twice in a process, it hangs or falls over."""
    try:
        import espeakng_loader
    except ImportError as error:
        raise InputError("the demo's speech takes espeak-ng: pip install 'vocable[demo]'") from error
    library = ctypes.CDLL(str(espeakng_loader.get_library_path()))
    data = str(espeakng_loader.get_data_path()).encode()
    rate = int(library.espeak_Initialize(_RETRIEVAL, 0, data, _PHONEME_EVENTS))
    if rate <= 0:
        raise InputError(f"espeak-ng found no voices in {data.decode()}: install espeakng-loader anew")
    return library, rate


def _phone(name: str) -> str:
    plain = name.lstrip("',")
    return _SILENCE if plain.startswith("_") or not plain else plain
