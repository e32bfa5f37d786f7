"""The positional convolution as products, beside torch's own."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from vocable.models.config import base
from vocable.models.positions import PositionalConvolution, grouped_products


@pytest.mark.parametrize(
    ("utterances", "frames", "dim", "groups", "width"),
    [(2, 37, 64, 4, 128), (3, 16, 32, 2, 31), (1, 1, 32, 4, 128), (2, 100, 48, 3, 63), (1, 17, 16, 1, 2), (2, 5, 6, 6, 1)],
)
def test_a_grouped_convolution_as_products_is_the_same_with_its_gradients(
    utterances: int, frames: int, dim: int, groups: int, width: int
) -> None:
    drawn = torch.Generator().manual_seed(frames)
    values = torch.randn(utterances, frames, dim, dtype=torch.float64, generator=drawn, requires_grad=True)
    weight = torch.randn(dim, dim // groups, width, dtype=torch.float64, generator=drawn, requires_grad=True)
    made = grouped_products(values, weight, groups)
    expected = functional.conv1d(values.mT, weight, padding=width // 2, groups=groups)[:, :, :frames].mT
    towards = torch.randn(made.shape, dtype=torch.float64, generator=drawn)
    assert torch.allclose(made, expected, atol=1e-10)
    for ours, theirs in zip(*(torch.autograd.grad(item, (values, weight), towards) for item in (made, expected)), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-10)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("kind", "within"), [(torch.float32, 1e-4), (torch.bfloat16, 2e-2)])
def test_a_gpu_adds_the_same_positions(kind: torch.dtype, within: float) -> None:
    torch.manual_seed(0)
    positions = PositionalConvolution(base())
    frames = torch.randn(3, 211, base().dim)
    expected = positions.of_batch(frames)
    with torch.autocast("cuda", kind, enabled=kind != torch.float32):
        made = positions.cuda().of_batch(frames.cuda()).float().cpu()
    assert float((made - expected).norm() / expected.norm()) < within
