"""`HifiganMel`: log-mel frames as HiFi-GAN's loss compares them, and as its first vocoders were given them (arXiv 2010.05646)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from vocable.artefacts.feature_spec import FeatureSpec
from vocable.errors import InputError
from vocable.features import slaney

BINS, _POINTS, _HIGHEST = 80, 1024, 8000  # values, samples of a window, Hz
_STEADY = 1e-9  # beneath the root, whose slope at 0 would be infinite
_LEAST = 1e-5  # of an energy in a bin


class HifiganMel(nn.Module):
    """Waveforms to log-mel frames: frame t looks at 1024 samples around those from hop · t to hop · (t + 1).

    Magnitudes of a spectrum seen through a Hann window, in 80 of Slaney's triangles of equal area from 0 to 8000 Hz, as a
    natural logarithm, 1e-5 at least. The waveform is mirrored at its ends.

    Args:
        hop: samples from frame to frame.
        sample_rate: Hz.

    Raises:
        InputError: there can be no such frames.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, hop: int, sample_rate: int = 16000) -> None:
        super().__init__()
        if hop > _POINTS or (_POINTS - hop) % 2 or sample_rate < 2 * _HIGHEST:
            raise InputError(
                f"log-mel frames every {hop} samples at {sample_rate} Hz: give an even number of up to {_POINTS} samples, and "
                f"{2 * _HIGHEST} Hz or more"
            )
        self.hop, self.sample_rate = hop, sample_rate
        edges = slaney.centres(BINS, _HIGHEST)
        frequencies = np.arange(_POINTS // 2 + 1) * sample_rate / _POINTS
        filters = slaney.triangles(frequencies, BINS, _HIGHEST) * 2 / (edges[2:] - edges[:-2])
        self.register_buffer("window", torch.hann_window(_POINTS), persistent=False)
        self.register_buffer("filters", torch.from_numpy(filters.astype(np.float32)), persistent=False)

    @property
    def spec(self) -> FeatureSpec:
        """What the frames are."""
        return FeatureSpec(
            kind="hifigan-mel", dim=BINS, hop=self.hop, receptive_field=_POINTS, sample_rate=self.sample_rate,
            parameters={"highest": _HIGHEST, "least": _LEAST, "scale": "slaney"},
        )  # fmt: skip

    @property
    def least_samples(self) -> int:
        """Samples that a waveform needs, in order to be mirrored."""
        return (_POINTS - self.hop) // 2 + 1

    def forward(self, waveforms: Tensor) -> Tensor:
        """Return frames of shape (waveforms, samples // hop, 80) of waveforms of shape (waveforms, samples)."""
        around = (_POINTS - self.hop) // 2
        with torch.autocast(waveforms.device.type, enabled=False):
            padded = functional.pad(waveforms[:, None], (around, around), mode="reflect")[:, 0]
            window = self.window.to(padded)
            spectrum = torch.stft(padded, _POINTS, self.hop, window=window, center=False, return_complex=True)
            magnitudes = (spectrum.real.square() + spectrum.imag.square() + _STEADY).sqrt()
            energies: Tensor = (magnitudes.mT @ self.filters.to(padded)).clamp(min=_LEAST).log()
        return energies
