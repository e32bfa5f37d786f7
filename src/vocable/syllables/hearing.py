"""What is heard in an utterance before it is cut: the frames of a layer, the norms of another, and how loud each frame is."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar

import numpy as np
from numpy.typing import NDArray

from vocable.artefacts.writing import space_checked
from vocable.audio.decoding import Waveform, waveform_pieces
from vocable.audio.faults import AudioFault
from vocable.features.encoder_runner import EncoderRunner
from vocable.features.windows import Windows
from vocable.models.config import EncoderConfig
from vocable.models.taps import Tap
from vocable.syllables.minimum_cut import Frames
from vocable.syllables.overlap_add import OVERLAP, WINDOW, Joined, spans


@dataclass(frozen=True)
class Recording:
    """An audio file, as a manifest lists it."""

    path: str
    channel: int | None = None
    """From 1; by default the mean of all."""
    samples: int | None = None
    """That it should have, at the encoder's rate."""


Sound = str | Path | Waveform | Recording
"""An audio file, or a waveform at the encoder's rate."""

_PIECE = 1 << 20
_IN_MEMORY = 3000  # frames of an utterance; those of longer ones wait in a temporary file, where TMPDIR says
_AT_ONCE = 16  # windows that go through the encoder together


class FrameStore:
    """The frames of an utterance, in memory or, of a long one, in a file that is gone when nobody needs it.

    Args:
        count: of frames.
        dim: values of each.
    """

    def __init__(self, count: int, dim: int) -> None:
        self.count, self._dim = count, dim
        self._held: Frames | None = np.empty((count, dim), np.float32) if count <= _IN_MEMORY else None
        self._file: IO[bytes] | None = None
        if self._held is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 (it is closed with the store)
            weakref.finalize(self, self._file.close)

    def write(self, first: int, frames: Frames) -> None:
        """Keep frames from one on."""
        if self._held is not None:
            self._held[first : first + len(frames)] = frames
        elif self._file is not None:
            with space_checked(Path(tempfile.gettempdir())):
                self._file.seek(4 * self._dim * first)
                self._file.write(np.ascontiguousarray(frames, np.float32).data)

    def read(self, first: int, last: int) -> Frames:
        """Return the frames from one to before another."""
        if self._held is not None:
            return self._held[first:last]
        assert self._file is not None
        self._file.seek(4 * self._dim * first)
        found = np.frombuffer(self._file.read(4 * self._dim * (last - first)), np.float32)
        return found.reshape(last - first, self._dim)


@dataclass(frozen=True)
class Heard:
    """What is heard in an utterance."""

    frames: FrameStore
    norms: Frames
    """Of another layer's frames, of shape (frames,)."""
    loudness: NDArray[np.float64]
    """Mean absolute value of the samples of each frame's hop, at mean 0 and variance 1, of shape (frames,)."""
    seconds: float
    """Of audio."""


@dataclass(frozen=True)
class Listener:
    """Hears utterances through an encoder.

    Args:
        runner: of the encoder, with as many layers as are asked for.
        config: of the encoder.
        layer: whose frames are kept.
        norm_layer: whose norms are kept.
    """

    runner: EncoderRunner
    config: EncoderConfig
    layer: int
    norm_layer: int

    def whole(self, sounds: Sequence[Sound]) -> list[Heard | AudioFault]:
        """Return what is heard in utterances that go through the encoder whole, in windows of 40 s where they are longer."""
        waveforms: list[Waveform | AudioFault] = [_or_fault(self._whole, sound) for sound in sounds]
        usable = [waveform for waveform in waveforms if not isinstance(waveform, AudioFault)]
        made = iter(self.runner(usable, self._taps, Windows()))
        return [item if isinstance(item, AudioFault) else self._heard(item, next(made)) for item in waveforms]

    def in_windows(self, sounds: Sequence[Sound]) -> list[Heard | AudioFault]:
        """Return what is heard in utterances that go through the encoder in windows that overlap; short ones go together."""
        hearings = [_or_fault(lambda sound: _Hearing(self, sound), sound) for sound in sounds]
        waiting: list[tuple[int, int, Waveform]] = []
        for number, hearing in enumerate(hearings):
            if isinstance(hearing, AudioFault):
                continue
            try:
                for first, waveform in hearing.windows():
                    waiting.append((number, first, waveform))
                    if len(waiting) == _AT_ONCE:
                        self._hear(waiting, hearings)
                        waiting = []
            except AudioFault as fault:  # a file that changed meanwhile
                waiting = [item for item in waiting if item[0] != number]
                hearings[number] = fault
        self._hear(waiting, hearings)
        return [item if isinstance(item, AudioFault) else item.finished() for item in hearings]

    def _hear(self, waiting: list[tuple[int, int, Waveform]], hearings: list[_Hearing | AudioFault]) -> None:
        made = self.runner([waveform for _, _, waveform in waiting], self._taps, Windows())
        for (number, first, _), found in zip(waiting, made, strict=True):
            hearing = hearings[number]
            if not isinstance(hearing, AudioFault):
                hearing.take(first, found[Tap(self.layer)], found[Tap(self.norm_layer)])

    @property
    def _taps(self) -> list[Tap]:
        return sorted({Tap(self.layer), Tap(self.norm_layer)})

    def _whole(self, sound: Sound) -> Waveform:
        waveform = np.concatenate([np.empty(0, np.float32), *self.pieces(sound)])
        self.check(sound, _Level.of([waveform]))
        return waveform

    def _heard(self, waveform: Waveform, found: dict[Tap, Frames]) -> Heard:
        frames = found[Tap(self.layer)]
        store = FrameStore(len(frames), self.config.dim)
        store.write(0, frames)
        loudness = _loudness([waveform], store.count, self.config.hop, _Level.of([waveform]))
        norms = np.linalg.norm(found[Tap(self.norm_layer)], axis=1)
        return Heard(store, norms, loudness, len(waveform) / self.config.sample_rate)

    def pieces(self, sound: Sound) -> Iterator[Waveform]:
        """Yield a sound's waveform piece by piece."""
        if isinstance(sound, np.ndarray):
            for first in range(0, len(sound), _PIECE):
                yield sound[first : first + _PIECE]
            return
        recording = sound if isinstance(sound, Recording) else Recording(str(sound))
        yield from waveform_pieces(recording.path, self.config.sample_rate, recording.channel)

    def check(self, sound: Sound, level: _Level) -> None:
        """Refuse a sound in which nothing could be heard.

        Raises:
            AudioFault: says why.
        """
        rate, field = self.config.sample_rate, self.config.receptive_field
        if isinstance(sound, Recording) and sound.samples is not None and abs(level.count - sound.samples) > 1:
            raise AudioFault("changed", f"{level.count} samples at {rate} Hz, but the manifest says {sound.samples}")
        if level.count < field:
            raise AudioFault("short", f"{level.count} samples at {rate} Hz; one frame takes {field}")
        if not np.isfinite(level.deviation):
            raise AudioFault("not finite", "some of its samples are no numbers")
        if not level.deviation > 0:
            raise AudioFault("silent", "all samples are the same")


class _Hearing:
    """An utterance that is heard window by window."""

    def __init__(self, listener: Listener, sound: Sound) -> None:
        self._listener, self._sound = listener, sound
        config = listener.config
        level = _Level.of(listener.pieces(sound))
        listener.check(sound, level)
        count = config.frame_count(level.count)
        self._loudness = _loudness(listener.pieces(sound), count, config.hop, level)
        self._frames, self._norms = FrameStore(count, config.dim), np.empty(count, np.float32)
        scale = round(config.sample_rate / config.hop) / 50
        self._window, overlap = round(WINDOW * scale), round(OVERLAP * scale)
        self._own, self._other, self._overlap = Joined(overlap), Joined(overlap), overlap
        self._seconds = level.count / config.sample_rate

    def windows(self) -> Iterator[tuple[int, Waveform]]:
        """Yield each window's first frame, and its samples."""
        hop, field = self._listener.config.hop, self._listener.config.receptive_field
        reader = _Forward(self._listener.pieces(self._sound))
        for first, last in spans(self._frames.count, self._window, self._overlap):
            yield first, reader.read(first * hop, (last - 1) * hop + field)

    def take(self, first: int, frames: Frames, others: Frames) -> None:
        """Take what the encoder makes of a window: frames of the layer that is kept, and of the one whose norms are."""
        for at, settled in self._own.add(first, frames):
            self._frames.write(at, settled)
        for at, settled in self._other.add(first, others):
            self._norms[at : at + len(settled)] = np.linalg.norm(settled, axis=1)

    def finished(self) -> Heard:
        """Return what was heard, once all windows were taken."""
        for at, settled in self._own.rest():
            self._frames.write(at, settled)
        for at, settled in self._other.rest():
            self._norms[at : at + len(settled)] = np.linalg.norm(settled, axis=1)
        return Heard(self._frames, self._norms, self._loudness, self._seconds)


Made = TypeVar("Made")


def _or_fault(make: Callable[[Sound], Made], sound: Sound) -> Made | AudioFault:
    try:
        return make(sound)
    except AudioFault as fault:
        return fault


@dataclass(frozen=True)
class _Level:
    count: int
    mean: float
    deviation: float

    @classmethod
    def of(cls, pieces: Iterable[Waveform]) -> _Level:
        count, total, squares = 0, 0.0, 0.0
        for piece in pieces:
            values = piece.astype(np.float64)
            count, total, squares = count + len(piece), total + float(values.sum()), squares + float(values @ values)
        mean = total / max(1, count)
        variance = squares / max(1, count) - mean * mean
        return cls(count, mean, float(np.sqrt(np.maximum(variance, 0.0))))  # which lets what is no number be one


def _loudness(pieces: Iterable[Waveform], frames: int, hop: int, level: _Level) -> NDArray[np.float64]:
    sums = np.zeros(frames)
    at = 0
    for piece in pieces:
        places = np.arange(at, at + len(piece)) // hop
        kept = places < frames
        values = np.abs(piece.astype(np.float64) - level.mean)
        sums += np.bincount(places[kept], weights=values[kept], minlength=frames)
        at += len(piece)
    scale: NDArray[np.float64] = sums / (hop * level.deviation) if level.deviation > 0 else np.zeros(frames)
    return scale


class _Forward:
    """Parts of a waveform, asked for in order, out of its pieces."""

    def __init__(self, pieces: Iterator[Waveform]) -> None:
        self._pieces, self._first = pieces, 0
        self._held: Waveform = np.empty(0, np.float32)

    def read(self, first: int, last: int) -> Waveform:
        while self._first + len(self._held) < last and (piece := next(self._pieces, None)) is not None:
            self._held = np.concatenate([self._held[max(0, first - self._first) :], piece])
            self._first = max(first, self._first)
        return self._held[first - self._first : last - self._first].copy()
