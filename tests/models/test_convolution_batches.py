"""Convolutions of a batch are those of each waveform, and their gradients torch's."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from models.made import made_encoder, tiny
from vocable.models.config import Convolution
from vocable.models.convolution_batches import convolved_batch
from vocable.models.convolutions import ConvolutionStack

WIDE = (Convolution(8, 10, 5), Convolution(8, 7, 2), Convolution(16, 5, 3), Convolution(8, 2, 2))  # windows of several strides


def plain(stack: ConvolutionStack, waveforms: torch.Tensor) -> torch.Tensor:
    """Return what torch's own convolutions and norms make of waveforms."""
    values = waveforms[:, None]
    for layer in stack.convolution_layers():
        values = functional.conv1d(values, layer.weight, layer.bias, stride=layer.stride)
        if layer.norm is not None and stack.over_time:
            values = functional.group_norm(values, values.shape[1], layer.norm.weight, layer.norm.bias)
        elif layer.norm is not None:
            values = layer.norm(values.mT).mT
        values = functional.gelu(values)
    return values.mT


@pytest.mark.parametrize("samples", [0, 1, 319, 5000, 16_079])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("wide", [False, True])
def test_values_and_gradients_are_torchs(large: bool, bias: bool, samples: int, wide: bool) -> None:
    config = tiny("hubert", large, convolution_bias=bias)
    config = replace(config, convolutions=WIDE) if wide else config
    stack = made_encoder(config).requires_grad_(True).convolutions
    torch.manual_seed(samples)
    waveforms = torch.randn(3, config.receptive_field + samples) / 10 + 0.03
    made, expected = convolved_batch(stack, waveforms), plain(stack, waveforms)
    assert made.shape == expected.shape
    assert float((made - expected).detach().abs().max()) < 2e-5
    alone = torch.stack([stack(waveform) for waveform in waveforms])
    assert float((made - alone).detach().abs().max()) < 2e-5
    towards = torch.randn(expected.shape)
    parameters = dict(stack.named_parameters())
    found = torch.autograd.grad((made * towards).sum(), list(parameters.values()))
    wanted = torch.autograd.grad((expected * towards).sum(), list(parameters.values()))
    for name, one, other in zip(parameters, found, wanted, strict=True):
        if name == "layers.0.bias" and not large:  # group norm takes it out
            assert not one.any()
            continue
        assert float((one - other).norm()) <= 1e-3 * float(other.norm()), name


def test_half_precision_is_autocasts() -> None:
    stack = made_encoder(tiny()).requires_grad_(True).convolutions
    waveforms = torch.randn(2, 8000) / 10
    with torch.autocast("cpu", torch.bfloat16):
        made = convolved_batch(stack, waveforms)
    assert made.dtype == torch.bfloat16
    exact = convolved_batch(stack, waveforms)
    assert float((made.float() - exact).detach().norm()) < 0.03 * float(exact.detach().norm())
    made.float().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.dtype == torch.float32 for parameter in stack.parameters())
