"""Discriminators are HiFi-GAN's; their weights are directions with lengths, or divided by their largest singular value."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from vocable.errors import InputError
from vocable.models.discriminators import DiscriminatorConfig, Discriminators
from vocable.models.vocoder import Vocoder, VocoderConfig
from vocable.models.weight_norm import folded, with_weight_norm

SMALL = DiscriminatorConfig(periods=(2, 5), scales=2, narrower=32)


def millions(module: nn.Module) -> float:
    return round(sum(parameter.numel() for parameter in module.parameters()) / 1e6, 1)


def test_sizes_are_the_published_ones() -> None:
    made = Discriminators(DiscriminatorConfig())
    assert (millions(made.periods), millions(made.scales)) == (41.1, 29.6)
    assert len(made.periods) + len(made.scales) == DiscriminatorConfig().count == 8


def effective(state: dict[str, Tensor], name: str) -> Tensor:
    """Return the weight of a convolution, of what a checkpoint has of it."""
    own = f"{name}.parametrizations.weight"
    if f"{own}.original1" in state:
        length, direction = state[f"{own}.original0"], state[f"{own}.original1"]
        return length * direction / direction.flatten(1).norm(dim=1).view(-1, *[1] * (direction.ndim - 1))
    weight = state[f"{own}.original"]
    left, right = state[f"{own}.0.left"], state[f"{own}.0.right"]
    return weight / (left @ weight.flatten(1) @ right)


def through(seen: Tensor, state: dict[str, Tensor], name: str, layers: list[dict[str, Any]]) -> list[Tensor]:
    convolve = functional.conv2d if seen.ndim == 4 else functional.conv1d
    maps = []
    for number, options in enumerate(layers):
        own = f"{name}.convolutions.{number}"
        seen = functional.leaky_relu(convolve(seen, effective(state, own), state[f"{own}.bias"], **options), 0.1)
        maps.append(seen)
    padding = (1, 0) if seen.ndim == 4 else 1
    return [*maps, convolve(seen, effective(state, f"{name}.last"), state[f"{name}.last.bias"], padding=padding)]


@torch.no_grad()
def test_scores_and_maps_are_those_of_a_plain_formulation() -> None:
    torch.manual_seed(0)
    made = Discriminators(SMALL)
    waveforms = torch.randn(3, 2003)
    found, state = made(waveforms), made.state_dict()
    tall = [{"stride": (3, 1), "padding": (2, 0)}] * 4 + [{"padding": (2, 0)}]
    for number, period in enumerate(SMALL.periods):
        mirrored = torch.cat([waveforms, waveforms[:, [2001 - at for at in range(-2003 % period)]]], dim=1)
        rows = torch.stack([mirrored[:, first::period] for first in range(period)], dim=2)[:, None]
        expected = through(rows, state, f"periods.{number}", tall)
        assert [item.shape for item in found[number].maps] == [item.shape for item in expected]
        for one, other in zip(found[number].maps, expected, strict=True):
            torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(found[number].scores, expected[-1].flatten(1))
    heard = waveforms[:, None]
    for number in range(SMALL.scales):
        if number:
            padded = functional.pad(heard, (2, 2))
            heard = padded.unfold(2, 4, 2).mean(dim=3)
        widths = [1, 4, 4, 8, 16, 32, 32, 32]
        layers = [
            {"stride": stride, "padding": kernel // 2, "groups": min(groups, before, after)}
            for (kernel, stride, groups), before, after in zip(
                ((15, 1, 1), (41, 2, 4), (41, 2, 16), (41, 4, 16), (41, 4, 16), (41, 1, 16), (5, 1, 1)),
                widths,
                widths[1:],
                strict=False,
            )
        ]
        expected = through(heard, state, f"scales.{number}", layers)
        for one, other in zip(found[len(SMALL.periods) + number].maps, expected, strict=True):
            torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_the_first_scales_weights_have_a_largest_singular_value_of_one_that_follows_them() -> None:
    torch.manual_seed(0)
    made = Discriminators(SMALL)
    convolution: Any = made.scales[0].convolutions[2]
    for _ in range(30):
        made.follow()
    assert float(torch.linalg.matrix_norm(convolution.weight.flatten(1), 2)) == pytest.approx(1, abs=1e-3)
    before = {name: value.clone() for name, value in made.state_dict().items()}
    convolution.parametrizations.weight.original.mul_(3)
    made(torch.randn(1, 800))  # as often as one likes: that changes nothing
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items() if name.endswith(("left", "right")))
    assert float(torch.linalg.matrix_norm(convolution.weight.flatten(1), 2)) == pytest.approx(1, abs=1e-3)
    assert not any(hasattr(module, "parametrizations") and len(module.parametrizations.weight) != 1 for module in made.modules())


@torch.inference_mode()
def test_folded_weights_do_what_directions_with_lengths_do() -> None:
    torch.manual_seed(0)
    config = VocoderConfig(dim=12, projected=8, channels=16, rates=(4, 2), kernels=(8, 4))
    plain, normed = Vocoder(config), with_weight_norm(Vocoder(config))
    for tensor in normed.state_dict().values():
        tensor.add_(0.05 * torch.randn_like(tensor))
    plain.load_state_dict(folded(normed.state_dict()))
    frames = torch.randn(2, 20, 12)
    torch.testing.assert_close(plain(frames), normed(frames), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: DiscriminatorConfig(periods=(2, 0)),
        lambda: DiscriminatorConfig(scales=9),
        lambda: DiscriminatorConfig(narrower=3),
        lambda: DiscriminatorConfig(scales=1.5),  # type: ignore[arg-type]
    ],
)
def test_discriminators_that_cannot_be_are_refused(make: Any) -> None:
    with pytest.raises(InputError, match=r"discriminators (of|narrower)"):
        make()
    assert Discriminators(DiscriminatorConfig(periods=(), scales=0))(torch.zeros(1, 10)) == []
