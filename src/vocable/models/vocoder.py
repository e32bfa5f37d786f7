"""`Vocoder`: HiFi-GAN's generator on frames of an encoder (arXiv 2010.05646; as knn-vc has it, arXiv 2305.18975)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from vocable.errors import InputError

_SLOPE = 0.1
_LAST_SLOPE = 0.01  # torch's default, which the reference has before its last convolution
_AT_ONCE = 512  # frames
_MOST, _MOST_PARTS = 1 << 20, 200  # of which nobody ever had a model


@dataclass(frozen=True, kw_only=True)
class VocoderConfig:
    """The shape of a vocoder; by default knn-vc's, of 16.5 million parameters.

    Raises:
        InputError: parts don't go together.
    """

    dim: int = 1024
    """Values of a frame."""
    projected: int = 512
    channels: int = 512
    """Behind the first convolution; each stage halves them."""
    rates: tuple[int, ...] = (10, 8, 2, 2)
    """By how much each stage raises the sample rate."""
    kernels: tuple[int, ...] = (20, 16, 4, 4)
    block_kernels: tuple[int, ...] = (3, 7, 11)
    dilations: tuple[tuple[int, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
    sample_rate: int = 16000
    source: bool = False
    """Whether a frame's last values are samples, a hop of them, of a waveform to begin with, which all stages are given, as in
    neural source-filter models (arXiv 1904.12088)."""

    def __post_init__(self) -> None:
        dilations = tuple(own for own in self.dilations if isinstance(own, tuple))
        sizes = (self.dim, self.projected, self.channels, *self.rates, *self.kernels, *self.block_kernels, *sum(dilations, ()))
        known = all(type(size) is int and 1 <= size <= _MOST for size in sizes) and len(dilations) == len(self.dilations)
        if not known or type(self.sample_rate) is not int or not 1000 <= self.sample_rate <= _MOST or len(sizes) > _MOST_PARTS:
            raise InputError(f"a vocoder of {self}: all sizes have to be whole numbers from 1 on, and no more than there can be")
        if len(self.rates) != len(self.kernels) or not self.rates or len(self.block_kernels) != len(self.dilations):
            raise InputError(f"a vocoder of {self}: each rate needs a kernel, and each of block_kernels its dilations")
        if any(kernel < rate or (kernel - rate) % 2 for rate, kernel in zip(self.rates, self.kernels, strict=True)):
            raise InputError(f"a vocoder with rates {self.rates} and kernels {self.kernels}: kernels have to be an even more")
        if any(kernel % 2 == 0 for kernel in self.block_kernels):
            raise InputError(f"a vocoder with block_kernels {self.block_kernels}: give odd ones")
        if type(self.source) is not bool or (self.source and self.dim <= self.hop):
            raise InputError(f"a vocoder with source {self.source} and frames of {self.dim} values: give more than {self.hop}")
        if self.channels % 2 ** len(self.rates):
            raise InputError(f"a vocoder of {self.channels} channels: they are halved {len(self.rates)} times; give a multiple")

    @property
    def hop(self) -> int:
        """Samples that a frame becomes."""
        return math.prod(self.rates)

    @property
    def told(self) -> int:
        """Values of a frame that aren't samples."""
        return self.dim - self.hop if self.source else self.dim

    @property
    def reach(self) -> int:
        """Frames on either side that a sample may depend on."""
        reach, rate = 3.0, 1
        for up, kernel in zip(self.rates, self.kernels, strict=True):
            reach += kernel / up / rate
            rate *= up
            blocks = (sum((size - 1) // 2 * (dilation + 1) for dilation in own) for size, own in self._blocks())
            reach += max(blocks) / rate
        return math.ceil(reach + 3 / rate)

    def _blocks(self) -> list[tuple[int, tuple[int, ...]]]:
        return list(zip(self.block_kernels, self.dilations, strict=True))


class Vocoder(nn.Module):
    """Frames to a waveform.

    Args:
        config: its shape.
    """

    def __init__(self, config: VocoderConfig) -> None:
        super().__init__()
        self.config = config
        self.projection = nn.Linear(config.told, config.projected)
        self.first = nn.Conv1d(config.projected, config.channels, 7, padding=3)
        self.stages = nn.ModuleList(_Stage(config, number) for number in range(len(config.rates)))
        self.last = nn.Conv1d(config.channels >> len(config.rates), 1, 7, padding=3)

    def forward(self, frames: Tensor) -> Tensor:
        """Return the waveforms of frames of shape (utterances, frames, dim), of shape (utterances, hop · frames)."""
        told, samples = frames[:, :, : self.config.told], frames[:, :, self.config.told :]
        made = self.first(self.projection(told).mT)
        source = samples.flatten(1)[:, None] if self.config.source else None
        for stage in self.stages:
            made = stage(made, source)
        waveforms: Tensor = torch.tanh(self.last(functional.leaky_relu(made, _LAST_SLOPE)))[:, 0]
        return waveforms

    def of_utterance(self, frames: Tensor) -> Tensor:
        """Return the waveform of an utterance's frames of shape (frames, dim), part by part, so that memory is bounded."""
        hop, reach, parts = self.config.hop, self.config.reach, []
        for first in range(0, len(frames), _AT_ONCE):
            last = min(first + _AT_ONCE, len(frames))
            begin, end = max(0, first - reach), min(len(frames), last + reach)
            found = self(frames[None, begin:end])[0]
            parts.append(found[hop * (first - begin) : hop * (last - begin)])
        return torch.cat(parts) if parts else frames.new_zeros(0)


class _Stage(nn.Module):
    def __init__(self, config: VocoderConfig, number: int) -> None:
        super().__init__()
        rate, kernel = config.rates[number], config.kernels[number]
        before, after = config.channels >> number, config.channels >> (number + 1)
        self.up = nn.ConvTranspose1d(before, after, kernel, rate, padding=(kernel - rate) // 2)
        if config.source:
            left = math.prod(config.rates[number + 1 :])
            around = max(left // 2, 3)
            self.source = nn.Conv1d(1, after, left + 2 * around, left, padding=around)
        self.blocks = nn.ModuleList(
            _ResidualBlock(after, size, dilations) for size, dilations in zip(config.block_kernels, config.dilations, strict=True)
        )

    def forward(self, made: Tensor, source: Tensor | None) -> Tensor:
        raised = self.up(functional.leaky_relu(made, _SLOPE))
        raised = raised if source is None else raised + self.source(source)
        total: Tensor = sum(block(raised) for block in self.blocks) / len(self.blocks)
        return total


class _ResidualBlock(nn.Module):
    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.dilated = nn.ModuleList(
            nn.Conv1d(channels, channels, kernel, dilation=dilation, padding=(kernel - 1) // 2 * dilation)
            for dilation in dilations
        )
        self.plain = nn.ModuleList(nn.Conv1d(channels, channels, kernel, padding=(kernel - 1) // 2) for _ in dilations)

    def forward(self, made: Tensor) -> Tensor:
        for dilated, plain in zip(self.dilated, self.plain, strict=True):
            made = made + plain(functional.leaky_relu(dilated(functional.leaky_relu(made, _SLOPE)), _SLOPE))
        return made
