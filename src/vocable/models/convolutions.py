"""The convolutions of an encoder: samples in, frames out, as matrix products over blocks that stay in the cache."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from vocable.models.config import Convolution, EncoderConfig

_BLOCK = 64
"""Frames that are convolved at once. What the first convolution makes of 64 frames' samples takes 8 MiB."""

_DEVICE_BLOCK = 2048  # of a device that has its memory near and a price on each step

_MOMENTS = 1 << 16  # windows of samples at once

_NORM_EPS = 1e-5  # of all norms between convolutions, in every reference implementation

Step = Callable[[Tensor], Tensor]


class ConvolutionLayer(nn.Module):
    """One convolution with its norm, if it has one; weights have torch's shape (channels out, channels in, width)."""

    def __init__(self, inputs: int, shape: Convolution, bias: bool, norm: bool) -> None:
        super().__init__()
        self.stride, self.width = shape.stride, shape.width
        self.weight = nn.Parameter(torch.empty(shape.channels, inputs, shape.width))
        self.bias = nn.Parameter(torch.zeros(shape.channels)) if bias else None
        self.norm = nn.LayerNorm(shape.channels, _NORM_EPS) if norm else None  # group norm has the same two vectors
        nn.init.kaiming_normal_(self.weight)


class ConvolutionStack(nn.Module):
    """All convolutions, each followed by GELU.

    With group norm the first one's channels are normalised over the whole waveform. Their means and variances follow from those
    of the samples that the convolution sees together, so they are known before it is made, and become part of its weights.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.hop, self.field = config.hop, config.receptive_field
        self.over_time = config.convolution_norm == "group"
        inputs = 1
        self.layers = nn.ModuleList()
        for number, shape in enumerate(config.convolutions):
            norm = number == 0 or config.convolution_norm == "layer"
            self.layers.append(ConvolutionLayer(inputs, shape, config.convolution_bias, norm))
            inputs = shape.channels
        self._following: list[Step] | None = None

    def prepare(self) -> None:
        """Lay out the weights for products, once for all waveforms; they must not change any more."""
        self._following = [self._step(layer) for layer in self.convolution_layers()[1:]]

    def forward(self, waveform: Tensor) -> Tensor:
        """Return all frames of one waveform: float32 of shape (samples,), of at least one frame."""
        convolved = self.on(waveform)
        return convolved.frames(0, convolved.count)

    def on(self, waveform: Tensor) -> Convolved:
        """Return the frames of one waveform, to be made as they are asked for."""
        following = self._following or [self._step(layer) for layer in self.convolution_layers()[1:]]
        return Convolved(waveform, [self._first(waveform), *following], self.hop, self.field)

    def convolution_layers(self) -> list[ConvolutionLayer]:
        """Return the convolutions in order."""
        return list(self.layers)  # type: ignore[arg-type]

    def _first(self, waveform: Tensor) -> Step:
        """Return what the first convolution does with samples, in float32 whatever the type of the others."""
        layers = self.convolution_layers()
        layer, norm = layers[0], layers[0].norm
        device = waveform.device
        place = torch.device("cpu") if device.type == "mps" else device  # which has no float64
        exact = partial(torch.Tensor.to, device=place, dtype=torch.float64)
        weight, bias = exact(layer.weight[:, 0]), None if layer.bias is None else exact(layer.bias)
        if self.over_time and norm is not None:
            found = moments(waveform.to(place), layer.width, layer.stride)
            mean, variance = weight @ found.means, ((weight @ found.covariance) * weight).sum(dim=1).clamp(min=0)
            scale = exact(norm.weight) / torch.sqrt(variance + norm.eps)
            # The convolution's own bias is a constant of each channel, which the norm takes out.
            weight, bias, norm = weight * scale[:, None], exact(norm.bias) - mean * scale, None
        matrix = weight.T.float().contiguous().to(device)
        offset = None if bias is None else bias.float().to(device)
        kind = layers[1].weight.dtype if len(layers) > 1 else torch.float32

        def convolved(samples: Tensor) -> Tensor:
            windows = samples.unfold(0, layer.width, layer.stride)
            made = windows @ matrix if offset is None else torch.addmm(offset, windows, matrix)
            return _activated(made, norm).to(kind)

        return convolved

    @staticmethod
    def _step(layer: ConvolutionLayer) -> Step:
        """Return what another convolution does with the rows of the one before."""
        products = _Products.of(layer)
        return lambda rows: _activated(products(rows), layer.norm)


@dataclass(frozen=True)
class Convolved:
    """The frames of one waveform, which are made when they are asked for."""

    waveform: Tensor
    steps: list[Step]
    hop: int
    field: int

    @property
    def count(self) -> int:
        """How many there are."""
        return max(0, (len(self.waveform) - self.field) // self.hop + 1)

    def frames(self, first: int, last: int) -> Tensor:
        """Return the frames from `first` to before `last`, of shape (frames, channels) and the weights' type."""
        size = _BLOCK if self.waveform.device.type == "cpu" else _DEVICE_BLOCK
        blocks = []
        for begin in range(first, last, size):
            end = min(begin + size, last) - 1
            values = self.waveform[begin * self.hop : end * self.hop + self.field]
            for step in self.steps:
                values = step(values)
            blocks.append(values)
        return blocks[0] if len(blocks) == 1 else torch.cat(blocks)


class Moments(NamedTuple):
    """Of the samples that a convolution sees together, over time, in float64."""

    means: Tensor
    """Of shape (width,), for each waveform."""
    covariance: Tensor
    """Of shape (width, width), for each waveform."""


def moments(waveforms: Tensor, width: int, stride: int) -> Moments:
    """Return the moments of the samples that a convolution of this width and stride sees together.

    Mean and variance of what it makes of them follow: with weights w, w·means and w·covariance·w.

    Args:
        waveforms: of shape (samples,), or (waveforms, samples).
        width: of the convolution.
        stride: of the convolution.
    """
    middle = waveforms.mean(dim=-1, dtype=torch.float64, keepdim=True)  # taken out, so that differences are of like sizes
    count = (waveforms.shape[-1] - width) // stride + 1
    total, products = middle.new_zeros(*middle.shape[:-1], width), middle.new_zeros(*middle.shape[:-1], width, width)
    for first in range(0, count, _MOMENTS):
        last = min(first + _MOMENTS, count) - 1
        seen = waveforms[..., first * stride : last * stride + width].double() - middle
        windows = seen.unfold(-1, width, stride)
        total += windows.sum(dim=-2)
        products += windows.mT @ windows
    means = total / count
    return Moments(means + middle, products / count - means[..., :, None] * means[..., None, :])


@dataclass(frozen=True)
class _Products:
    """A convolution as matrix products: rows that follow each other, as many as the stride, are one row to BLAS."""

    width: int
    stride: int
    bias: Tensor | None
    parts: list[tuple[int, int, Tensor]]
    """First tap and number of taps, and their weights, of shape (taps · inputs, channels)."""

    @classmethod
    def of(cls, layer: ConvolutionLayer) -> _Products:
        parts = []
        for first in range(0, layer.width, layer.stride):
            taps = min(layer.stride, layer.width - first)
            weights = layer.weight[:, :, first : first + taps].permute(2, 1, 0)
            parts.append((first, taps, weights.reshape(-1, weights.shape[2]).contiguous()))
        return cls(layer.width, layer.stride, layer.bias, parts)

    def __call__(self, rows: Tensor) -> Tensor:
        """Return the convolution's rows of rows of shape (length, inputs), contiguous."""
        length, inputs = rows.shape
        count = (length - self.width) // self.stride + 1
        made = self.bias
        for first, taps, weights in self.parts:
            seen = rows.as_strided((count, taps * inputs), (self.stride * inputs, 1), rows.storage_offset() + first * inputs)
            made = seen @ weights if made is None else torch.addmm(made, seen, weights)
        assert made is not None
        return made


def _activated(made: Tensor, norm: nn.LayerNorm | None) -> Tensor:
    """Return rows normalised and through GELU; the rows given are gone."""
    if norm is not None:
        made = norm(made.float()).to(made.dtype)
    return functional.gelu(made) if torch.is_grad_enabled() else torch.ops.aten.gelu_(made)
