"""An encoder made ready to describe frames."""

from __future__ import annotations

import torch
from torch import nn

from vocable.models.blocks import Gate
from vocable.models.convolutions import ConvolutionLayer
from vocable.models.encoder import Encoder


def prepared(encoder: Encoder, precision: str, device: torch.device) -> Encoder:
    """Return an encoder on its device, with its weights as products there take them fastest; it is changed.

    Args:
        encoder: in float32.
        precision: `bfloat16` makes the products of linear layers and of all convolutions but the first in it; sums go into
            float32; norms, residuals, the positional convolution and WavLM's gates stay in it.
        device: where it runs.
    """
    if precision == "bfloat16":
        gates = {module.linear for module in encoder.modules() if isinstance(module, Gate)}
        convolutions = [module for module in encoder.modules() if isinstance(module, ConvolutionLayer)]
        for module in encoder.modules():
            if isinstance(module, nn.Linear) and module not in gates:
                module.to(torch.bfloat16)
        for layer in convolutions[1:]:  # norms stay as they are
            layer.weight.data = layer.weight.data.to(torch.bfloat16)
            if layer.bias is not None:
                layer.bias.data = layer.bias.data.to(torch.bfloat16)
    encoder.to(device)
    if device.type == "cpu":
        for module in encoder.modules():
            if isinstance(module, nn.Linear):
                # The same numbers, those of one input side by side: BLAS is up to a tenth faster on them.
                module.weight.data = module.weight.data.T.contiguous().T
    if encoder.convolutions is not None:
        encoder.convolutions.prepare()
    return encoder
