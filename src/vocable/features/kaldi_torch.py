"""The filter bank of `kaldi` on a GPU: the same steps on many windows at once, equal up to rounding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from vocable.audio.decoding import Waveform
from vocable.features.kaldi import LOG_FLOOR, FilterBank, Frames

_ROWS = 1 << 16  # windows at a time: 128 MiB of float32 points


class TorchFilterBank:
    """Computes `bank`, and optionally a matrix on top of it (cepstra), on a torch device."""

    def __init__(self, bank: FilterBank, matrix: Frames | None, device: str) -> None:
        self._bank = bank
        self._device = torch.device(device)
        # In float64, where a device has it, rounding differs from NumPy's by NumPy's alone: where a band is quieter than the rest
        # by orders of magnitude, float32 gives its energy to few digits.
        self._dtype = torch.float32 if self._device.type == "mps" else torch.float64
        self._taper, self._filters = self._moved(bank.taper), self._moved(bank.filters)
        self._matrix = None if matrix is None else self._moved(matrix)

    def __call__(self, waveforms: Sequence[Waveform]) -> list[Frames]:
        """Return frames of each waveform, each of shape (frames, values)."""
        counts = [self._bank.frame_count(len(waveform)) for waveform in waveforms]
        width = self._filters.shape[1] if self._matrix is None else self._matrix.shape[1]
        if not sum(counts):
            return [np.empty((0, width), dtype=np.float32) for _ in counts]
        with torch.inference_mode():
            windows = torch.cat(
                [
                    torch.from_numpy(np.ascontiguousarray(waveform)).to(self._device).unfold(0, self._bank.length, self._bank.hop)
                    for waveform, count in zip(waveforms, counts, strict=True)
                    if count
                ]
            )
            frames = torch.cat([self._compute(piece) for piece in torch.split(windows, _ROWS)]).cpu().numpy()
        return np.split(frames, np.cumsum(counts)[:-1])

    def _moved(self, values: Frames) -> torch.Tensor:
        return torch.from_numpy(values).to(self._device, self._dtype)

    def _compute(self, windows: torch.Tensor) -> torch.Tensor:
        windows = windows.to(self._dtype)
        centred = windows - windows.mean(dim=1, keepdim=True)
        previous = torch.cat([centred[:, :1], centred[:, :-1]], dim=1)
        spectrum = torch.fft.rfft((centred - self._bank.preemphasis * previous) * self._taper, n=self._bank.fft_size)
        energies = (spectrum.real**2 + spectrum.imag**2) @ self._filters
        logs = energies.clamp(min=LOG_FLOOR).log()
        made: torch.Tensor = logs if self._matrix is None else logs @ self._matrix
        return made.float()
