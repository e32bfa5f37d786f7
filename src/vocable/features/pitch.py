"""`Pitch`: how high a voice is, on MFCC's frames.

It is found by the library swift-f0 (MIT; the extra `pitch`), whose small network comes with it. Its own frames stand 16 ms apart;
between them pitch is interpolated, and a frame is voiced when the library's nearest one is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocable.artefacts.feature_spec import FeatureSpec
from vocable.audio.decoding import Waveform
from vocable.errors import InputError
from vocable.features.kaldi import Frames
from vocable.features.waveforms import as_waveforms

SAMPLE_RATE, HOP, WINDOW = 16_000, 160, 400
FLOOR, CEILING = 50.0, 600.0  # Hz
LIBRARY = "swift-f0"
_THEIR_HOP = 256
_VOICED = 0.5  # least confidence, as the library calibrates it
# Samples of silence ahead, with which the library's frame 1 + 5n has the very centre of our frame 8n.
_AHEAD = _THEIR_HOP - WINDOW // 2


class Pitch:
    """The fundamental frequency in Hz every 10 ms, 0 where there is no voice: frame i is that of samples 160 i to 160 i + 400.

    Args:
        floor: Hz, of the lowest voice.
        ceiling: Hz, of the highest.

    Raises:
        InputError: the library isn't there, or doesn't go as low or as high.
    """

    def __init__(self, floor: float = FLOOR, ceiling: float = CEILING) -> None:
        self._floor, self._ceiling = floor, ceiling
        self._detector, version = _opened()
        try:
            self._detector.detect(np.zeros(_THEIR_HOP, np.float32), SAMPLE_RATE, floor, ceiling)
        except (TypeError, ValueError) as error:
            raise InputError(f"pitch from {floor} to {ceiling} Hz can't be found ({error}): give other limits") from error
        self.spec = FeatureSpec(
            kind="f0",
            dim=1,
            hop=HOP,
            receptive_field=WINDOW,
            sample_rate=SAMPLE_RATE,
            parameters={"library": LIBRARY, "version": version, "floor": floor, "ceiling": ceiling},
            recorded={"precision": "float32", "device": "cpu"},
        )

    def __call__(self, waveforms: Sequence[Waveform]) -> list[Frames]:
        """Return the pitch of each waveform at 16 kHz, float32 of shape (frames, 1).

        Raises:
            InputError: `waveforms` is no list of mono waveforms of floating-point samples.
        """
        return [self._pitch(waveform)[:, None] for waveform in as_waveforms(waveforms)]

    def _pitch(self, waveform: Waveform) -> NDArray[np.float32]:
        count = self.spec.frame_count(len(waveform))
        if not count or not np.isfinite(waveform).all():  # the library refuses both; who asked looks whether frames are finite
            return np.full(count, np.nan, np.float32)
        padded = np.pad(waveform, (_AHEAD, 2 * _THEIR_HOP))
        found = self._detector.detect(padded, SAMPLE_RATE, self._floor, self._ceiling)
        voiced, octaves = found.confidence >= _VOICED, np.log2(found.pitch_hz)
        at = (HOP * np.arange(count) + _THEIR_HOP) / _THEIR_HOP
        before = at.astype(np.int64)
        after, weight = before + 1, at - before
        nearest = np.where(weight < 0.5, before, after)
        between = (1 - weight) * octaves[before] + weight * octaves[after]
        pitch = 2 ** np.where(voiced[before] & voiced[after], between, octaves[nearest])
        made: NDArray[np.float32] = np.where(voiced[nearest], pitch, 0).astype(np.float32)
        return made


def is_installed() -> bool:
    """Tell whether pitch can be found here."""
    try:
        _opened()
    except InputError:
        return False
    return True


def _opened() -> tuple[Any, str]:
    """Return the library's detector, and its version."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        from swift_f0 import SwiftF0

        said = version(LIBRARY)
    except (ImportError, PackageNotFoundError) as error:
        raise InputError("to find pitch the extra is needed: pip install 'vocable[pitch]'") from error
    return SwiftF0(threads=1, spin=False), said  # one thread, as everywhere: the bits don't depend on how many cores there are
