"""Where a frame is: the positional convolution of all encoders, and WavLM's bias of attention by distance."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from vocable.models.config import EncoderConfig, RelativePositions


class PositionalConvolution(nn.Module):
    """A wide grouped convolution whose weights are a direction and, for each tap, a gain (weight normalisation)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        width, groups = config.position_width, config.position_groups
        self._groups = groups
        self.gain = nn.Parameter(torch.empty(1, 1, width))
        self.direction = nn.Parameter(torch.empty(config.dim, config.dim // groups, width))
        self.bias = nn.Parameter(torch.zeros(config.dim))
        nn.init.normal_(self.direction, std=math.sqrt(4 / (width * config.dim)))
        with torch.no_grad():
            self.gain.copy_(_gains_of(self.direction))

    def weight(self) -> Tensor:
        """Return the convolution's weights, of shape (dim, dim / groups, width)."""
        return torch._weight_norm(self.direction, self.gain, 2)  # noqa: SLF001 (what torch's own weight norm calls)

    def forward(self, frames: Tensor, weight: Tensor) -> Tensor:
        """Return what is to be added to the frames of one utterance.

        Args:
            frames: of shape (frames, dim).
            weight: what `weight` returned.
        """
        width = weight.shape[2]
        # One output more than frames where the width is even, which is dropped; as the references do.
        made = functional.conv1d(frames.T[None], weight, self.bias, padding=width // 2, groups=self._groups)
        return functional.gelu(made[0, :, : len(frames)].T)

    def of_batch(self, frames: Tensor) -> Tensor:
        """Return what is to be added to frames of shape (utterances, frames, dim)."""
        weight = self.weight()
        if frames.is_cuda:
            return functional.gelu(grouped_products(frames, weight, self._groups) + self.bias)
        made = functional.conv1d(frames.mT, weight, self.bias, padding=weight.shape[2] // 2, groups=self._groups)
        return functional.gelu(made[:, :, : frames.shape[1]].mT)


def grouped_products(frames: Tensor, weight: Tensor, groups: int) -> Tensor:
    """Return a wide grouped convolution of frames, as one matrix product for each group; there are as many frames as before.

    cuDNN's convolution takes as long as all else in a step together. Here a row is what a few frames that follow one another see,
    and a group's matrix holds its weights once for each of these, one frame further down; zeros beside them add an eighth.

    Args:
        frames: of shape (utterances, frames, dim).
        weight: of shape (dim, dim / groups, width).
        groups: of channels that don't see each other.
    """
    count, length, dim = frames.shape
    width, size = weight.shape[2], dim // groups
    blocks, seen = -(-length // _TOGETHER), -(-(_TOGETHER - 1 + width) // _TOGETHER)
    kind = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else frames.dtype
    behind = (blocks + seen - 1) * _TOGETHER - length - width // 2
    padded = functional.pad(frames, (0, 0, width // 2, behind)).view(count, -1, _TOGETHER, groups, size)
    # (utterances, blocks, together, groups, size, seen) to (groups, utterances, blocks, seen, together, size)
    windows = padded.unfold(1, seen, 1).permute(3, 0, 1, 5, 2, 4).to(kind, memory_format=torch.contiguous_format)
    taps = functional.pad(weight.view(groups, size, size, width), (_TOGETHER - 1, seen * _TOGETHER - width))
    # (groups, out, in, together, taps) to (groups, taps, in, together, out), where the last of those together come first
    matrices = taps.unfold(3, seen * _TOGETHER, 1).permute(0, 4, 2, 3, 1).to(kind, memory_format=torch.contiguous_format)
    made = windows.flatten(3).flatten(1, 2) @ matrices.flatten(3).flatten(1, 2)
    laid = made.view(groups, count, blocks, _TOGETHER, size).flip(3).permute(1, 2, 3, 0, 4).reshape(count, -1, dim)
    return laid[:, :length]


_TOGETHER = 16
"""Frames to a row."""


class PlainPositionalConvolution(PositionalConvolution):
    """The same, whose weights are learnt as they are, without gains; for training.

    Gains move by a learning rate that suits single weights, so a short training leaves them about where they were, and with them
    how much of its neighbourhood a frame holds. Without them small models learn frames whose units tell more of phones.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        del self.gain

    def weight(self) -> Tensor:
        """Return the convolution's weights, of shape (dim, dim / groups, width)."""
        return self.direction


def with_gains(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return an encoder's tensors with the gains that its positional convolution has, if it was trained without them."""
    if _GAIN in tensors or _DIRECTION not in tensors:
        return tensors
    return {**tensors, _GAIN: _gains_of(tensors[_DIRECTION])}


def without_gains(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return an encoder's tensors for a training without gains."""
    made = dict(tensors)
    made[_DIRECTION] = torch._weight_norm(made[_DIRECTION], made.pop(_GAIN), 2)  # noqa: SLF001
    return made


_GAIN, _DIRECTION = "positions.gain", "positions.direction"


def _gains_of(direction: Tensor) -> Tensor:
    gains: Tensor = direction.norm(dim=(0, 1), keepdim=True)
    return gains


def bucket_of_distance(distance: Tensor, positions: RelativePositions) -> Tensor:
    """Return the bucket of each distance (key minus query, in frames): T5's, half for either direction.

    The first half of a direction's buckets are one distance each, the others grow with its logarithm.
    """
    half = positions.buckets // 2
    exact = half // 2
    far = distance.abs()
    growing = torch.log(far.clamp(min=1).float() / exact) / math.log(positions.max_distance / exact) * (half - exact)
    bucket = torch.where(far < exact, far, (exact + growing.long()).clamp(max=half - 1))
    return bucket + half * (distance > 0)


class RelativePositionBias(nn.Module):
    """A value for each head and bucket of distances; one table for all blocks."""

    def __init__(self, positions: RelativePositions, heads: int) -> None:
        super().__init__()
        self._positions = positions
        self.weight = nn.Parameter(torch.empty(positions.buckets, heads))
        nn.init.normal_(self.weight)

    def forward(self, length: int) -> Tensor:
        """Return the values for the distances -(length - 1) … length - 1, of shape (heads, 2 · length - 1)."""
        distance = torch.arange(1 - length, length, device=self.weight.device)
        return self.weight[bucket_of_distance(distance, self._positions)].T.contiguous()


def between_frames(by_distance: Tensor, first: int, last: int) -> Tensor:
    """Return a bias by distance as one for each pair of frames, of shape (heads, last - first, length).

    Args:
        by_distance: of shape (heads, 2 · length - 1).
        first: query of the first row.
        last: query after the last row.
    """
    length = (by_distance.shape[1] + 1) // 2
    queries = torch.arange(first, last, device=by_distance.device)
    keys = torch.arange(length, device=by_distance.device)
    return by_distance[:, keys[None] - queries[:, None] + length - 1]
