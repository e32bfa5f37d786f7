"""`Discriminators`: what tells speech from what a vocoder makes, by periods and by scales (HiFi-GAN, arXiv 2010.05646)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from vocable.errors import InputError
from vocable.models.weight_norm import with_weight_norm

_SLOPE = 0.1
_BY_PERIOD = (32, 128, 512, 1024, 1024)
_BY_SCALE = (
    (128, 15, 1, 1),
    (128, 41, 2, 4),
    (256, 41, 2, 16),
    (512, 41, 4, 16),
    (1024, 41, 4, 16),
    (1024, 41, 1, 16),
    (1024, 5, 1, 1),
)
"""Channels, kernel, stride and groups of each convolution."""
_MOST_SCALES, _LONGEST, _NARROWEST = 8, 1000, 32
_FIRST_ITERATIONS = 15  # of the power method, from random numbers on


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """Which discriminators there are; by default HiFi-GAN's, of 41.1 and 29.6 million parameters.

    Raises:
        InputError: there can be no such.
    """

    periods: tuple[int, ...] = (2, 3, 5, 7, 11)
    """Samples from row to row of the pictures that the first kind sees; () for none of it."""
    scales: int = 3
    """How many of the second kind there are, each of audio at half the rate; 0 for none."""
    narrower: int = 1
    """What channels are divided by: a power of two."""

    def __post_init__(self) -> None:
        if any(type(period) is not int or not 1 <= period <= _LONGEST for period in self.periods):
            raise InputError(f"discriminators of periods {self.periods}: give whole numbers of 1 to {_LONGEST} samples")
        if type(self.scales) is not int or not 0 <= self.scales <= _MOST_SCALES:
            raise InputError(f"discriminators of {self.scales} scales: give 0 to {_MOST_SCALES}")
        if self.narrower not in [1 << power for power in range(_NARROWEST.bit_length())]:
            raise InputError(f"discriminators narrower by {self.narrower}: give a power of two up to {_NARROWEST}")

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.periods) + self.scales


class Judged(NamedTuple):
    """What one discriminator makes of waveforms."""

    scores: Tensor
    """Of shape (waveforms, places): about 1 for speech, about 0 for what was made."""
    maps: list[Tensor]
    """What is behind each convolution, the last of which are the scores."""


class Discriminators(nn.Module):
    """All discriminators.

    Args:
        config: which.
    """

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.periods = nn.ModuleList(with_weight_norm(_ByPeriod(period, config.narrower)) for period in config.periods)
        self.scales = nn.ModuleList(_ByScale(config.narrower) for _ in range(config.scales))
        for number, scale in enumerate(self.scales):
            if number == 0:
                for module in [part for part in scale.modules() if isinstance(part, nn.Conv1d)]:
                    parametrize.register_parametrization(module, "weight", _SpectralNorm(module.weight))
            else:
                with_weight_norm(scale)

    def forward(self, waveforms: Tensor) -> list[Judged]:
        """Return what each makes of waveforms of shape (waveforms, samples)."""
        judged = [period(waveforms) for period in self.periods]
        heard = waveforms[:, None]
        for number, scale in enumerate(self.scales):
            heard = functional.avg_pool1d(heard, 4, 2, padding=2) if number else heard
            judged.append(scale(heard))
        return judged

    @torch.no_grad()
    def follow(self) -> None:
        """Bring the norms, by which the first scale's weights are divided, up to them.

        Torch's own does so with each forward pass, so that it would matter how many micro-batches a process takes.
        """
        for module in self.modules():
            if isinstance(module, parametrize.ParametrizationList) and isinstance(module[0], _SpectralNorm):
                module[0].follow(module.original)


class _ByPeriod(nn.Module):
    """Sees every so many-th sample side by side, and each of them by itself."""

    def __init__(self, period: int, narrower: int) -> None:
        super().__init__()
        self._period = period
        widths = [1, *(width // narrower for width in _BY_PERIOD)]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, (5, 1), (1 if number == len(_BY_PERIOD) else 3, 1), padding=(2, 0))
            for number, (before, after) in enumerate(pairwise(widths), 1)
        )
        self.last = nn.Conv2d(widths[-1], 1, (3, 1), padding=(1, 0))

    def forward(self, waveforms: Tensor) -> Judged:
        missing = -waveforms.shape[1] % self._period
        padded = functional.pad(waveforms[:, None], (0, missing), mode="reflect")
        return _judged(padded.view(len(waveforms), 1, -1, self._period), self.convolutions, self.last)


class _ByScale(nn.Module):
    """Sees all samples, at one rate."""

    def __init__(self, narrower: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList()
        before = 1
        for channels, kernel, stride, groups in _BY_SCALE:
            after = channels // narrower
            shared = math.gcd(groups, before, after)
            self.convolutions.append(nn.Conv1d(before, after, kernel, stride, padding=kernel // 2, groups=shared))
            before = after
        self.last = nn.Conv1d(before, 1, 3, padding=1)

    def forward(self, heard: Tensor) -> Judged:
        return _judged(heard, self.convolutions, self.last)


def _judged(seen: Tensor, convolutions: nn.ModuleList, last: nn.Module) -> Judged:
    maps = []
    for convolution in convolutions:
        seen = functional.leaky_relu(convolution(seen), _SLOPE)
        maps.append(seen)
    maps.append(last(seen))
    return Judged(maps[-1].flatten(1), maps)


class _SpectralNorm(nn.Module):
    """Divides a weight by its largest singular value, as far as the power method has found it (arXiv 1802.05957)."""

    left: Tensor
    right: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        rows = weight.detach().flatten(1)
        self.register_buffer("left", functional.normalize(torch.randn(len(rows)), dim=0))
        self.register_buffer("right", functional.normalize(torch.randn(rows.shape[1]), dim=0))
        with torch.no_grad():
            for _ in range(_FIRST_ITERATIONS):
                self.follow(weight)

    def follow(self, weight: Tensor) -> None:
        """Go a step of the power method."""
        rows = weight.detach().flatten(1)
        self.right.copy_(functional.normalize(rows.T @ self.left, dim=0))
        self.left.copy_(functional.normalize(rows @ self.right, dim=0))

    def forward(self, weight: Tensor) -> Tensor:
        with torch.autocast(weight.device.type, enabled=False):
            return weight / (self.left @ weight.flatten(1) @ self.right)
