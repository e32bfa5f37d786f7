"""Multiply-accumulates, beside those that were counted for MelHuBERT and HuBERT."""

from __future__ import annotations

import pytest
import torch

from vocable.models.config import base, melhubert
from vocable.models.cost import multiply_accumulates
from vocable.models.encoder import Encoder
from vocable.models.taps import Tap

COUNTED = [
    (1.0, 6.91, 4.44, 8.97),
    (5.0, 7.17, 4.70, 9.85),
    (10.0, 7.41, 4.94, 10.79),
    (12.6, 7.53, 5.06, 11.27),
    (15.0, 7.64, 5.17, 11.71),
    (30.0, 8.33, 5.86, 14.49),
]


@pytest.mark.parametrize(("seconds", "hubert", "mel20", "mel10"), COUNTED)
def test_they_are_those_that_were_counted(seconds: float, hubert: float, mel20: float, mel10: float) -> None:
    found = [multiply_accumulates(config, seconds) / 1e9 for config in (base(), melhubert(2), melhubert(1))]
    assert found == pytest.approx([hubert, mel20, mel10], abs=0.006)


def test_20_ms_saves_a_third_of_hubert_and_10_ms_costs_more() -> None:
    hubert, mel20, mel10 = (multiply_accumulates(config, 10.0) for config in (base(), melhubert(2), melhubert(1)))
    assert 1 - mel20 / hubert == pytest.approx(0.334, abs=0.0005)
    assert mel10 / hubert == pytest.approx(1.46, abs=0.005)


def test_they_are_what_torch_counts() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    config = melhubert()
    encoder = Encoder(config, 2).eval()
    frames = config.frame_count(160_000)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        encoder([torch.randn(frames, config.channels)], [Tap(2)])
    # torch counts no attention on processors, and the positional convolution's last frame, which is dropped.
    linear, attention = frames * 7_077_888, 2 * frames**2 * 768
    two_layers = multiply_accumulates(config, 10.0) * 10 - 10 * (linear + attention) - 2 * attention
    dropped = 768 * 48 * 128
    assert counter.get_total_flops() / 2 == pytest.approx(two_layers + dropped, rel=1e-6)
