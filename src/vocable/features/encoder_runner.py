"""`EncoderRunner`: waveforms through an encoder, in batches that fit its device."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from vocable.audio.decoding import Waveform
from vocable.errors import InputError
from vocable.features.kaldi import Frames
from vocable.features.mel_input import mel_frames
from vocable.features.windows import Chunks, Window, Windows
from vocable.models.taps import Tap

if TYPE_CHECKING:
    import torch

    from vocable.checkpoints.encoder_checkpoint import EncoderCheckpoint
    from vocable.models.config import EncoderConfig

_CPU_FRAMES = 1000  # a batch of which stays in a processor's cache from one layer to the next
_GPU_FRAMES = 32_000


class EncoderRunner:
    """Runs an encoder over waveforms in batches of windows, sorted by length, that fit its device.

    Args:
        checkpoint: of the encoder.
        layers: how many blocks to build.
        precision: `float32` or `bfloat16`.
        device: a torch device.
    """

    def __init__(self, checkpoint: EncoderCheckpoint, layers: int, precision: str, device: str) -> None:
        import torch

        from vocable.models.inference import prepared

        self._device, self._config = torch.device(device), checkpoint.config
        encoder = checkpoint.build(layers)
        self._statistics = encoder.mel_statistics()
        try:
            self._encoder = prepared(encoder, precision, self._device)
        except torch.OutOfMemoryError as error:
            raise InputError(f"{device} has too little memory for the encoder: take another device, or free some") from error
        self._budget = _CPU_FRAMES if self._device.type == "cpu" else _GPU_FRAMES

    def __call__(self, waveforms: Sequence[Waveform], taps: Sequence[Tap], chunking: Windows | Chunks) -> list[dict[Tap, Frames]]:
        """Return the frames of each waveform at each tap."""
        import torch

        from vocable.execution.threads import torch_single_threaded

        with torch.inference_mode(), torch_single_threaded(), float32_products(self._device):
            parts = [part for number, waveform in enumerate(waveforms) for part in self._parts(number, waveform, chunking)]
            counts = [0] * len(waveforms)
            for part in parts:
                counts[part.waveform] += part.kept
            frames = [{tap: np.empty((count, self._config.dim), np.float32) for tap in taps} for count in counts]
            for batch in self._batches(parts):
                self._run(batch, taps, frames)
            return frames

    def _parts(self, number: int, waveform: Waveform, chunking: Windows | Chunks) -> Iterator[_Part]:
        import torch

        normalized = torch.from_numpy(normalized_waveform(waveform, self._config))
        windows = chunking if isinstance(chunking, Windows) else Windows(max(1, len(waveform)), 0)
        spans = [(0, len(waveform))] if isinstance(chunking, Windows) else chunking.spans(len(waveform))
        row = 0
        for first, last in spans:
            if self._config.frame_count(last - first) == 0:
                continue  # fairseq's script fails on such a rest
            source = self._source(normalized[first:last])
            for window in windows.over(source.count):
                part = _Part(number, row, source, window)
                yield part
                row += part.kept

    def _source(self, waveform: torch.Tensor) -> _Source:
        """Return what gives the frames that the encoder's blocks start from."""
        if self._encoder.convolutions is None:
            import torch

            made = mel_frames(waveform.numpy(), self._config, self._statistics)
            return _MelFrames(torch.from_numpy(made).to(self._device))
        return self._encoder.convolutions.on(waveform.to(self._device))

    def _batches(self, parts: list[_Part]) -> Iterator[list[_Part]]:
        """Yield parts of about one length together, as many as the budget allows; it may fall meanwhile."""
        waiting = sorted(parts, key=lambda part: (part.length, part.waveform, part.row))
        while waiting:
            batch = [waiting.pop()]
            while waiting and sum(part.length for part in batch) + waiting[-1].length <= self._budget:
                batch.append(waiting.pop())
            yield batch

    def _run(self, batch: list[_Part], taps: Sequence[Tap], frames: list[dict[Tap, Frames]]) -> None:
        """Put the kept frames of each part in their place; where memory doesn't suffice, in two halves."""
        import torch

        try:
            found = self._encoder([part.frames() for part in batch], taps)
            for at, part in enumerate(batch):
                for tap in taps:
                    frames[part.waveform][tap][part.row : part.row + part.kept] = part.of_kept(found[tap][at]).cpu().numpy()
            return
        except torch.OutOfMemoryError:
            total = sum(part.length for part in batch)
            if len(batch) == 1:
                raise InputError(
                    f"{self._device} has too little memory for {total} frames at once: take another device, or shorter windows, "
                    f"such as --chunking windows:{max(2, total // 2)}:{total // 16}, where no codebook says which"
                ) from None
            self._budget = min(self._budget, max(1, total // 2))
        print(f"{self._device} is out of memory: batches have {self._budget} frames from now on", file=sys.stderr, flush=True)
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        half = len(batch) // 2
        self._run(batch[:half], taps, frames)
        self._run(batch[half:], taps, frames)


@contextmanager
def float32_products(device: torch.device) -> Iterator[None]:
    """Let a GPU multiply float32 as float32: by default it takes ten bits of it in convolutions."""
    import torch

    if device.type != "cuda":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


@dataclass(frozen=True)
class _Part:
    """A window of a waveform, whose frames aren't made yet."""

    waveform: int
    row: int
    """Of the waveform's frames, the first that is kept of it."""
    source: _Source
    window: Window

    @property
    def length(self) -> int:
        return self.window.last - self.window.first

    @property
    def kept(self) -> int:
        return self.window.kept_to - self.window.kept_from

    def of_kept(self, frames: torch.Tensor) -> torch.Tensor:
        return frames[self.window.kept_from - self.window.first : self.window.kept_to - self.window.first]

    def frames(self) -> torch.Tensor:
        return self.source.frames(self.window.first, self.window.last)


class _Source(Protocol):
    """The frames of a waveform, by number."""

    @property
    def count(self) -> int:
        """How many there are."""

    def frames(self, first: int, last: int) -> torch.Tensor:
        """Return the frames from `first` to before `last`."""


@dataclass(frozen=True)
class _MelFrames:
    made: torch.Tensor

    @property
    def count(self) -> int:
        return len(self.made)

    def frames(self, first: int, last: int) -> torch.Tensor:
        return self.made[first:last]


def normalized_waveform(waveform: Waveform, config: EncoderConfig) -> Waveform:
    """Return a waveform as an encoder takes it: as it is, or with mean 0 and variance 1."""
    if config.waveform_normalization == "none" or not len(waveform):
        return waveform
    mean, variance = waveform.mean(dtype=np.float64), waveform.var(dtype=np.float64)
    scaled: Waveform = ((waveform - mean) / np.sqrt(variance + config.waveform_eps)).astype(np.float32)
    return scaled
