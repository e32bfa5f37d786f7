"""`Segmenter`: audio to syllables, with what describes each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from vocable.audio.faults import AudioFault
from vocable.errors import InputError
from vocable.features.encoder_layer import EncoderFile, Precision
from vocable.features.waveforms import as_waveforms
from vocable.models.taps import Tap
from vocable.syllables.cutting import syllables
from vocable.syllables.hearing import FrameStore, Heard, Listener, Recording, Sound
from vocable.syllables.merging import Segments
from vocable.syllables.minimum_cut import Frames
from vocable.syllables.norm_peaks import require_scipy
from vocable.syllables.settings import PRESETS, SegmentSettings
from vocable.syllables.voicing import scaled_norms


@dataclass(frozen=True)
class Syllables:
    """The segments of an utterance."""

    segments: NDArray[np.float64]
    """Start and end of each, in seconds, of shape (segments, 2): whole frames."""
    frames: Segments
    """The same in frames."""
    segment_features: Frames
    """Mean of each one's frames, of shape (segments, dim)."""
    features: Frames | None
    """All frames of the utterance, of shape (length, dim), if they were asked for. What isn't speech stays in them."""
    length: int
    """How many frames there are."""
    seconds: float
    """Of audio."""
    bounded: int = 0
    """Stretches of speech in which a bound on pieces was reached, so that without it the cut might be another."""
    speech: NDArray[np.bool_] | None = None
    """Which frames are speech, of shape (length,); None where norms don't tell that."""


class Segmenter:
    """Cuts audio into syllables.

    What an utterance is cut into doesn't depend on what else is in a list. Where windows are `overlap-add` and not all frames are
    returned, memory doesn't grow with an utterance's length.

    Args:
        checkpoint: of SD-HuBERT, in any layout, or of another encoder: a file, a folder, or a name on the Hub.
        settings: how to cut: those of `PRESETS`, by name, or others.
        precision: of the encoder's products.
        device: a torch device.
        features: whether to return all frames, too.

    Raises:
        InputError: there is no such encoder, or it has fewer layers.
    """

    def __init__(
        self,
        checkpoint: str | Path | EncoderFile,
        settings: SegmentSettings | str = "current",
        *,
        precision: Precision = "float32",
        device: str = "cpu",
        features: bool = True,
    ) -> None:
        if isinstance(settings, str) and settings not in PRESETS:
            raise InputError(f"settings {settings!r}: give SegmentSettings, or one of {', '.join(PRESETS)}")
        self.settings = PRESETS[settings] if isinstance(settings, str) else settings
        encoder = checkpoint if isinstance(checkpoint, EncoderFile) else EncoderFile(str(checkpoint), precision=precision)
        found = encoder.checkpoint()
        found.require_statistics()
        if self.settings.method == "norm-peaks":
            require_scipy()
        layers = self.settings.layer, self.settings.voicing.layer
        for layer in layers:
            Tap(layer).check(found.config.layers)
        self._rate = found.config.sample_rate / found.config.hop
        self._features = features
        self._listener = Listener(encoder.runner(max(layers), device), found.config, *layers)

    @overload
    def __call__(self, audio: Sound) -> Syllables: ...

    @overload
    def __call__(self, audio: Sequence[Any]) -> list[Syllables]: ...

    def __call__(self, audio: Any) -> Any:
        """Return the syllables of an audio file or waveform; of a list, a list of them.

        Raises:
            AudioFault: a file can't be read, or is shorter than a frame.
        """
        if isinstance(audio, (str, Path)):
            return self.of([audio])[0]
        if isinstance(audio, np.ndarray) or hasattr(audio, "numpy"):
            return self.of(as_waveforms([audio]))[0]
        return self.of([item if isinstance(item, (str, Path)) else as_waveforms([item])[0] for item in audio])

    def of(self, sounds: Sequence[Sound]) -> list[Syllables]:
        """Return the syllables of audio files and waveforms.

        Raises:
            AudioFault: one can't be used.
        """
        made = []
        for number, item in enumerate(self.found(sounds)):
            if isinstance(item, AudioFault):
                raise _named(item, sounds[number], number)
            cut, frames = item
            made.append(replace(cut, features=frames.read(0, frames.count)) if self._features else cut)
        return made

    def heard(self, sounds: Sequence[Any]) -> list[Heard]:
        """Return what is heard in audio files and waveforms, uncut.

        Raises:
            AudioFault: one can't be used.
        """
        given = [item if isinstance(item, (str, Path, Recording)) else as_waveforms([item])[0] for item in sounds]
        for number, item in enumerate(made := self._heard(given)):
            if isinstance(item, AudioFault):
                raise _named(item, given[number], number)
        return [item for item in made if not isinstance(item, AudioFault)]

    def _heard(self, sounds: Sequence[Sound]) -> list[Heard | AudioFault]:
        return self._listener.whole(sounds) if self.settings.windows == "whole" else self._listener.in_windows(sounds)

    def found(self, sounds: Sequence[Sound], cutters: int = 1) -> Iterator[tuple[Syllables, FrameStore] | AudioFault]:
        """Yield the syllables of each sound with its frames, which may be more than memory holds, or why it can't be used.

        Args:
            sounds: audio files and waveforms.
            cutters: threads that cut, where the encoder is somewhere else.
        """
        heard = self._heard(sounds)
        if cutters == 1:
            yield from map(self._cut, heard)
            return
        with ThreadPoolExecutor(cutters) as threads:
            yield from threads.map(self._cut, heard)

    def _cut(self, heard: Heard | AudioFault) -> tuple[Syllables, FrameStore] | AudioFault:
        if isinstance(heard, AudioFault):
            return heard
        if not np.isfinite(heard.norms).all():
            return AudioFault("not finite", "its samples are so large that frames overflow")
        norms: NDArray[np.floating] = heard.norms
        speech = None
        if self.settings.method != "norm-peaks":
            norms = scaled_norms(norms, self.settings.voicing.strategy)
            speech = norms > self.settings.voicing.threshold
        found, bounded = syllables(heard.frames.read, norms, heard.loudness, self.settings, self._rate)
        means = [heard.frames.read(first, last).mean(axis=0) for first, last in found.tolist()]
        features = np.stack(means) if means else np.empty((0, self._listener.config.dim), np.float32)
        made = Syllables(found / self._rate, found, features, None, heard.frames.count, heard.seconds, bounded, speech)
        return made, heard.frames


def _named(fault: AudioFault, sound: Sound, number: int) -> AudioFault:
    """Return a fault that says whose it is."""
    if fault.path is None:
        where = sound.path if isinstance(sound, Recording) else sound
        fault.path = f"waveform {number}, counted from 0" if isinstance(where, np.ndarray) else str(where)
    return fault
