"""`Ecapa`: ECAPA-TDNN, which makes of an utterance a vector that says who speaks (arXiv 2005.07143; as SpeechBrain has it)."""

from __future__ import annotations

from dataclasses import astuple, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from vocable.errors import InputError

_LEAST_VARIANCE = 1e-12  # under the root; SpeechBrain's


@dataclass(frozen=True, kw_only=True)
class EcapaConfig:
    """The shape of an ECAPA-TDNN; by default that of SpeechBrain's for VoxCeleb, of 20.8 million parameters.

    Raises:
        InputError: parts don't go together.
    """

    bins: int = 80
    """Values of a frame."""
    channels: int = 1024
    joined: int = 3072
    """Channels that what all blocks have made becomes."""
    attention: int = 128
    """Channels behind the attention's weights."""
    squeezed: int = 128
    """Channels between squeezing and exciting."""
    dim: int = 192
    """Values of the vector."""
    scale: int = 8
    """Parts that a block's channels are convolved in (Res2Net)."""
    blocks: int = 3
    first_kernel: int = 5
    kernel: int = 3
    """Of the convolutions in blocks, which are 2, 3, 4, … frames apart from block to block."""

    def __post_init__(self) -> None:
        if min(astuple(self)) < 1 or self.channels % self.scale or not self.first_kernel % 2 or not self.kernel % 2:
            raise InputError(f"an ECAPA-TDNN of {self}: sizes start at 1, kernels are odd, and scale divides channels")

    @property
    def reach(self) -> int:
        """Frames beyond its ends that an utterance is continued for, as its own in a mirror; it needs one frame more."""
        return max(self.first_kernel // 2, self.kernel // 2 * (self.blocks + 1))


class Ecapa(nn.Module):
    """Frames of an utterance to a vector that says who speaks.

    Args:
        config: its shape.
    """

    def __init__(self, config: EcapaConfig) -> None:
        super().__init__()
        self.config = config
        first = _Layer(config.bins, config.channels, config.first_kernel)
        self.blocks = nn.ModuleList([first, *(_Block(config, number + 2) for number in range(config.blocks))])
        self.joined = _Layer(config.blocks * config.channels, config.joined)
        self.pooling = _Pooling(config)
        self.pooled_norm = nn.BatchNorm1d(2 * config.joined)
        self.last = nn.Conv1d(2 * config.joined, config.dim, 1)

    def forward(self, frames: Tensor) -> Tensor:
        """Return the vector of one utterance's frames, of shape (frames, bins), of shape (dim,).

        Raises:
            InputError: there are too few frames.
        """
        if len(frames) <= self.config.reach:
            raise InputError(f"{len(frames)} frames are too few to tell who speaks: give {self.config.reach + 1} or more")
        values, made = frames.T[None], []
        for block in self.blocks:
            values = block(values)
            made.append(values)
        pooled = self.pooling(self.joined(torch.cat(made[1:], dim=1)))
        vector: Tensor = self.last(self.pooled_norm(pooled))
        return vector[0, :, 0]


class _Layer(nn.Module):
    """A convolution over time, whose norm comes behind the nonlinearity."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, dilation: int = 1) -> None:
        super().__init__()
        padding = kernel // 2 * dilation
        self.conv = nn.Conv1d(inputs, outputs, kernel, dilation=dilation, padding=padding, padding_mode="reflect")
        self.norm = nn.BatchNorm1d(outputs)

    def forward(self, values: Tensor) -> Tensor:
        made: Tensor = self.norm(functional.relu(self.conv(values)))
        return made


class _Block(nn.Module):
    """SE-Res2Block: channels are convolved in parts, each with what became of the one before, and weighted by their means."""

    def __init__(self, config: EcapaConfig, dilation: int) -> None:
        super().__init__()
        width = config.channels // config.scale
        self.before = _Layer(config.channels, config.channels)
        self.parts = nn.ModuleList(_Layer(width, width, config.kernel, dilation) for _ in range(config.scale - 1))
        self.after = _Layer(config.channels, config.channels)
        self.squeeze = nn.Conv1d(config.channels, config.squeezed, 1)
        self.excite = nn.Conv1d(config.squeezed, config.channels, 1)

    def forward(self, values: Tensor) -> Tensor:
        untouched, *parts = self.before(values).chunk(len(self.parts) + 1, dim=1)
        made = [untouched]
        for number, layer in enumerate(self.parts):
            made.append(layer(parts[number] + made[-1] if number else parts[number]))
        convolved = self.after(torch.cat(made, dim=1))
        squeezed = functional.relu(self.squeeze(convolved.mean(dim=2, keepdim=True)))
        added: Tensor = convolved * torch.sigmoid(self.excite(squeezed))
        return values + added


class _Pooling(nn.Module):
    """Mean and deviation over time, with weights of each channel's own that know the whole utterance (section 3.1)."""

    def __init__(self, config: EcapaConfig) -> None:
        super().__init__()
        self.hidden = _Layer(3 * config.joined, config.attention)
        self.scores = nn.Conv1d(config.attention, config.joined, 1)

    def forward(self, values: Tensor) -> Tensor:
        channels, frames = values.shape[1:]
        whole = _moments(values, values.new_full((1, 1, frames), 1 / frames))
        # The utterance's moments are the same beside every frame, so what becomes of them is computed once.
        own, context = self.hidden.conv.weight[:, :channels], self.hidden.conv.weight[:, channels:]
        hidden = functional.conv1d(values, own) + functional.conv1d(whole, context, self.hidden.conv.bias)
        scores = self.scores(torch.tanh(self.hidden.norm(functional.relu(hidden))))
        return _moments(values, torch.softmax(scores, dim=2))


def _moments(values: Tensor, weights: Tensor) -> Tensor:
    """Return weighted means, then deviations, of shape (1, 2 · channels, 1), of values of shape (1, channels, frames)."""
    mean = (values * weights).sum(dim=2, keepdim=True)
    variance = ((values - mean).square() * weights).sum(dim=2, keepdim=True)
    return torch.cat([mean, variance.clamp(min=_LEAST_VARIANCE).sqrt()], dim=1)
