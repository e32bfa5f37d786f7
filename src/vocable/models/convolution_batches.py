"""The convolutions of an encoder on a batch of waveforms of one length, with gradients: one matrix product each.

All rows of a batch lie one after another, and each waveform takes a multiple of all strides of them, so that the windows of a
convolution never begin in one waveform's rows and count as another's. The last rows of a waveform are of no use; nothing that is
of use sees them, and they are cut off at the end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from vocable.models.convolutions import ConvolutionLayer, ConvolutionStack, moments

_ALIGNED = 8
"""A GPU's fast products want rows of a multiple of so many values; the first convolution sees 10 samples."""


def convolved_batch(stack: ConvolutionStack, waveforms: Tensor) -> Tensor:
    """Return the frames of waveforms of one length, through which gradients reach the stack's weights.

    Args:
        stack: the convolutions.
        waveforms: float32 of shape (waveforms, samples), of at least one frame each.

    Returns:
        Frames of shape (waveforms, frames, channels), in the type that products are made in.
    """
    first, *others = stack.convolution_layers()
    count, samples = waveforms.shape
    frames = (samples - stack.field) // stack.hop + 1
    kept = frames + -(-(stack.field - stack.hop) // stack.hop)  # and as many as the last frame's window reaches beyond its hop
    rows = _first_rows(stack, first, waveforms, kept * math.prod(layer.stride for layer in others))
    for layer in others:
        bias = None if layer.bias is None else _cast(layer.bias)
        made = _StridedProducts.apply(rows, _cast(layer.weight), bias, layer.stride)  # type: ignore[no-untyped-call]
        rows = _activated(made, layer.norm)
    return rows.view(count, kept, -1)[:, :frames]


def _first_rows(stack: ConvolutionStack, layer: ConvolutionLayer, waveforms: Tensor, kept: int) -> Tensor:
    """Return the first convolution's rows, activated; as many for each waveform as are kept."""
    count, samples = waveforms.shape
    seen = -(-layer.width // _ALIGNED) * _ALIGNED if waveforms.is_cuda else layer.width
    padded = functional.pad(waveforms, (0, (kept - 1) * layer.stride + seen - samples))
    windows = padded.unfold(1, seen, layer.stride)
    behind = (0, 0, 0, seen - layer.width)
    norm = layer.norm
    if not stack.over_time or norm is None:
        weight = functional.pad(_cast(layer.weight[:, 0].T), behind)
        made = windows.reshape(-1, seen).to(weight.dtype) @ weight
        made = made if layer.bias is None else made + _cast(layer.bias)
        return _activated(made, norm)
    with torch.autocast(waveforms.device.type, enabled=False):
        weight = layer.weight[:, 0].double()
        found = moments(waveforms, layer.width, layer.stride)
        centre = found.means @ weight.T
        spread = torch.einsum("ci,bij,cj->bc", weight, found.covariance, weight)
        scale = norm.weight.double() / torch.sqrt(spread.clamp(min=0) + norm.eps)
        offset = norm.bias.double() - centre * scale
        if layer.bias is not None:
            offset = offset + 0 * layer.bias  # the norm takes it out; its gradient is 0 rather than none
        folded = (weight.T[None] * scale[:, None]).float()
    made = torch.baddbmm(_cast(offset.float())[:, None], _cast(windows.contiguous()), functional.pad(_cast(folded), behind))
    return functional.gelu(made).view(count * kept, -1)


def _activated(made: Tensor, norm: nn.LayerNorm | None) -> Tensor:
    if norm is not None:
        made = norm(made.float()).to(made.dtype)
    return functional.gelu(made)


def _cast(tensor: Tensor) -> Tensor:
    """Return a tensor in the type that products are made in: float32, or autocast's."""
    kind = tensor.device.type
    return tensor.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else tensor


class _StridedProducts(torch.autograd.Function):
    """A convolution as products of rows that lie one after another: those of one stride are a row to BLAS."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
        """Return one row for each `stride` rows; what the last windows lack counts as zeros."""
        seen = rows.view(-1, stride * rows.shape[1])
        first, *others = _matrices(weight, stride)
        made = seen @ first if bias is None else torch.addmm(bias, seen, first)
        for ahead, matrix in enumerate(others, 1):
            made[:-ahead].addmm_(seen[ahead:, : len(matrix)], matrix)
        ctx.save_for_backward(rows, weight)
        ctx.stride, ctx.biased = stride, bias is not None
        return made

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None]:
        """Return the gradients of rows, weight and bias."""
        rows, weight = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        seen = rows.view(-1, ctx.stride * rows.shape[1])
        first, *others = _matrices(weight, ctx.stride)
        of_rows, of_weight = gradient @ first.T, [seen.T @ gradient]
        for ahead, matrix in enumerate(others, 1):
            of_rows[ahead:, : len(matrix)].addmm_(gradient[:-ahead], matrix.T)
            of_weight.append(seen[ahead:, : len(matrix)].T @ gradient[:-ahead])
        channels, inputs, width = weight.shape
        laid = torch.cat(of_weight).view(width, inputs, channels).permute(2, 1, 0)
        return of_rows.view(rows.shape), laid, gradient.sum(0) if ctx.biased else None, None


def _matrices(weight: Tensor, stride: int) -> Sequence[Tensor]:
    """Return a convolution's weights, for each stride of its taps one matrix of shape (taps · inputs, channels)."""
    channels, inputs, width = weight.shape
    return torch.split(weight.permute(2, 1, 0).reshape(width * inputs, channels), stride * inputs)
