from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.made import STYLES, made_checkpoint, made_encoder, ours, shaken, tiny, transformers_model, waveform
from vocable.checkpoints.encoder_checkpoint import EncoderCheckpoint, Tensors, expected_shapes
from vocable.checkpoints.fairseq_encoder import read_fairseq
from vocable.checkpoints.tensor_names import MASK_EMBEDDING, TRANSFORMERS
from vocable.errors import InputError
from vocable.features.encoder_runner import normalized_waveform
from vocable.models import convolutions
from vocable.models.config import Convolution, EncoderConfig, Family, RelativePositions, base, large, xlarge
from vocable.models.convolutions import ConvolutionStack
from vocable.models.encoder import Encoder
from vocable.models.positions import bucket_of_distance
from vocable.models.taps import Tap

LENGTHS = [400, 719, 720, 1040, 1359, 16000, 20531]
"""Samples: of one frame, two and three, and odd and even numbers of them."""


def taken(encoder: Encoder, samples: Tensor, *taps: Tap) -> list[Tensor]:
    made = encoder([encoder.convolutions(samples)], taps)
    return [made[tap][0] for tap in taps]


def every(layers: int) -> list[Tap]:
    return [*(Tap(layer) for layer in range(1, layers + 1)), Tap(layers, "final")]


def layers_of(model: Any, samples: Tensor) -> list[Tensor]:
    """Return the output of each block of transformers' model, and its last hidden state."""
    found: list[Tensor] = []

    def note(_: nn.Module, __: object, made: Any) -> None:
        found.append(made[0] if isinstance(made, tuple) else made)

    hooks = [layer.register_forward_hook(note) for layer in model.encoder.layers]
    try:
        last = model(samples[None]).last_hidden_state
    finally:
        for hook in hooks:
            hook.remove()
    return [item.squeeze(0) for item in (*found, last)]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("family", "large"), STYLES)
def test_every_layer_is_transformers(family: Family, large: bool, bias: bool) -> None:
    pytest.importorskip("transformers")
    config = tiny(family, large, convolution_bias=bias)
    model = transformers_model(config, seed=1)
    encoder = ours(model, config)
    with torch.no_grad():
        for length in LENGTHS:
            samples = torch.from_numpy(waveform(length, length))
            found, expected = taken(encoder, samples, *every(3)), layers_of(model, samples)
            assert [item.shape for item in found] == [item.shape for item in expected] == [(config.frame_count(length), 64)] * 4
            assert max((one - other).abs().max() for one, other in zip(found, expected, strict=True)) <= 1e-4
            states = model(samples[None], output_hidden_states=True).hidden_states
            assert max((found[layer - 1] - states[layer][0]).abs().max() for layer in (1, 2)) <= 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("make", [base, large])
@pytest.mark.parametrize("family", ["hubert", "wavlm"])
def test_every_layer_of_a_full_sized_encoder_is_transformers(family: Family, make: Callable[[Family], EncoderConfig]) -> None:
    pytest.importorskip("transformers")
    config = replace(make(family), layers=12)
    model = transformers_model(config, seed=2, by=0.02)
    encoder = ours(model, config)
    samples = torch.from_numpy(waveform(24_001, 3))
    with torch.no_grad():
        found, expected = taken(encoder, samples, *every(12)), layers_of(model, samples)
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape == (74, config.dim)
        assert (one - other).abs().max() <= 1e-4


def test_long_utterances_attend_as_transformers_does() -> None:
    """WavLM's bias is made for some hundred queries at once, and distances of 800 frames and more are one bucket."""
    pytest.importorskip("transformers")
    config = tiny("wavlm", layers=1)
    model = transformers_model(config, seed=5)
    samples = torch.from_numpy(waveform(320 * 1100 + 80, 1))
    with torch.no_grad():
        (found,), expected = taken(ours(model, config), samples, Tap(1)), layers_of(model, samples)[0]
    assert len(found) == 1100
    assert (found - expected).abs().max() <= 1e-4


@pytest.mark.parametrize(("family", "large"), STYLES)
def test_gradients_are_transformers(family: Family, large: bool) -> None:
    pytest.importorskip("transformers")
    config = tiny(family, large, convolution_bias=True)
    model = transformers_model(config, seed=3)
    encoder = ours(model, config).train().requires_grad_(True)
    samples = torch.from_numpy(waveform(9000, 4))
    towards = torch.randn(27, 64, generator=torch.Generator().manual_seed(0))
    (towards * model(samples[None]).last_hidden_state[0]).sum().backward()
    (towards * taken(encoder, samples, Tap(3, "final"))[0]).sum().backward()
    theirs = {name: parameter.grad for name, parameter in model.named_parameters()}
    names = TRANSFORMERS.names(config)
    for name, parameter in encoder.named_parameters():
        if name == MASK_EMBEDDING:
            continue  # used in pretraining alone
        expected = torch.cat([theirs[part] for part in names[name]])
        if name == "convolutions.layers.0.bias" and not large:  # group norm takes it out
            assert parameter.grad is None
            assert expected.norm() <= 1e-4 * encoder.convolutions.layers[0].weight.grad.norm()
            continue
        assert parameter.grad is not None, name
        assert (parameter.grad - expected).norm() <= 1e-3 * expected.norm(), name


@pytest.mark.parametrize(("family", "large"), STYLES)
def test_blocks_are_the_sum_of_their_parts(family: Family, large: bool) -> None:
    encoder = made_encoder(tiny(family, large))
    samples = torch.from_numpy(waveform(8000))
    before, attention, ffn, after = taken(encoder, samples, Tap(1), Tap(2, "attention"), Tap(2, "ffn"), Tap(2))
    assert min(item.abs().max() for item in (attention, ffn)) > 0.1
    if large:
        assert torch.equal(before + attention + ffn, after)
    else:
        block = encoder.blocks[1]
        assert torch.allclose(block.feed_forward_norm(block.attention_norm(before + attention) + ffn), after, atol=1e-5)


@pytest.mark.parametrize("large", [False, True])
def test_the_final_tap_is_behind_the_final_norm_where_there_is_one(large: bool) -> None:
    encoder = made_encoder(tiny("hubert", large))
    last, final = taken(encoder, torch.from_numpy(waveform(8000)), Tap(3), Tap(3, "final"))
    assert torch.equal(final, encoder.norm(last) if large else last)


@pytest.mark.parametrize(
    ("config", "heads", "count"),
    [(base(), (504, 256), 94_371_712), (large(), (504, 768), 315_435_136), (xlarge(), (504, 1024), 962_493_824)],
)
def test_encoders_have_as_many_parameters_as_the_published(config: EncoderConfig, heads: tuple[int, int], count: int) -> None:
    with torch.device("meta"):
        encoder = Encoder(config)
    assert sum(parameter.numel() for parameter in encoder.parameters()) == count
    assert sum(math.prod(shape) for shape in expected_shapes(config).values()) == count - config.dim  # and the mask embedding


@pytest.mark.parametrize(("family", "large"), STYLES)
def test_only_the_blocks_that_are_wanted_are_read_and_built(family: Family, large: bool) -> None:
    checkpoint = made_checkpoint(tiny(family, large))
    read: list[str] = []

    def reader(name: str) -> Callable[[], Tensor]:
        return lambda: read.append(name) or checkpoint.tensors[name]

    noted = replace(checkpoint, tensors=Tensors({name: reader(name) for name in checkpoint.tensors}))
    built = noted.build(2)
    assert len(built.blocks) == 2
    assert sorted(read) == sorted(name for name in checkpoint.tensors if not name.startswith("blocks.2."))
    samples = torch.from_numpy(waveform(5000))
    assert torch.equal(taken(built, samples, Tap(2))[0], taken(checkpoint.build(), samples, Tap(2))[0])


@pytest.mark.parametrize(
    ("tap", "said"),
    [
        (Tap(0), "layer 0 doesn't exist: the encoder has 3 layers; give one from 1 to 3"),
        (Tap(-1), "layer -1 doesn't exist: the encoder has 3 layers; give one from 1 to 3"),
        (Tap(4), "layer 4 doesn't exist: the encoder has 3 layers; give one from 1 to 3"),
        (Tap(2, "final"), "the tap 'final' is behind the last layer, 3: leave out the layer, or give that one"),
        (Tap(1, "middle"), "the tap 'middle' is none of block, attention, ffn, final: give one of them"),  # type: ignore[arg-type]
    ],
)
def test_what_an_encoder_has_not_is_refused_with_what_it_has(tap: Tap, said: str) -> None:
    with pytest.raises(InputError) as caught:
        taken(made_encoder(tiny()), torch.zeros(800), tap)
    assert str(caught.value) == said


def test_values_that_are_not_finite_are_refused_by_name() -> None:
    checkpoint = made_checkpoint(tiny())
    broken = {name: checkpoint.tensors[name].clone() for name in checkpoint.tensors}
    broken["blocks.1.attention.output.bias"][3] = torch.nan
    with pytest.raises(InputError, match=r"holds blocks\.1\.attention\.output\.bias with values that are not finite"):
        replace(checkpoint, tensors=Tensors.of(broken)).build()
    replace(checkpoint, tensors=Tensors.of(broken)).build(1)  # which are of no use there


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("scale", "offset"), [(0.1, 0.0), (1e-4, 0.0), (0.1, 0.5), (1e-4, 0.5), (1e-3, -0.9), (1.0, 0.0)])
def test_group_norm_within_the_first_convolution_is_torchs(scale: float, offset: float, bias: bool) -> None:
    stack = shaken(ConvolutionStack(tiny(convolutions=(Convolution(32, 10, 5),), convolution_bias=bias)), 1)
    layer = stack.layers[0]

    def by_torch(samples: Tensor, kind: torch.dtype) -> Tensor:
        weights = (layer.weight, layer.bias, layer.norm.weight, layer.norm.bias)
        weight, add, gain, shift = (None if item is None else item.to(kind) for item in weights)
        made = functional.conv1d(samples.to(kind)[None, None], weight, add, stride=5)
        return functional.gelu(functional.group_norm(made, 32, gain, shift, layer.norm.eps))[0].T

    for length in (400, 401, 16_000, 33_333):
        samples = torch.from_numpy(waveform(length, 2, scale) + np.float32(offset))
        with torch.no_grad():
            exact, torchs = by_torch(samples, torch.float64), by_torch(samples, torch.float32)
            assert (stack(samples) - exact).abs().max() <= 1e-6 + 2 * (torchs - exact).abs().max()


def test_the_statistics_of_a_long_waveform_are_those_of_its_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    stack = shaken(ConvolutionStack(tiny()), 1)
    samples = torch.from_numpy(waveform(20_000))
    with torch.no_grad():
        whole = stack(samples)
        for windows in (1, 7, 1000, 3998, 4000):
            monkeypatch.setattr(convolutions, "_MOMENTS", windows)
            assert torch.allclose(stack(samples), whole, atol=1e-6)


def test_frames_are_convolved_alike_wherever_they_are_asked_for() -> None:
    for large_norms in (False, True):
        with torch.no_grad():
            convolved = shaken(ConvolutionStack(tiny("hubert", large_norms)), 1).on(torch.from_numpy(waveform(60_000)))
            assert convolved.count == 187
            whole = convolved.frames(0, 187)
            for first, last in ((0, 1), (3, 90), (63, 65), (64, 128), (100, 187), (186, 187)):
                assert torch.allclose(convolved.frames(first, last), whole[first:last], atol=1e-5)


@pytest.mark.parametrize(("family", "large"), STYLES)
@pytest.mark.parametrize("level", [0.0, 0.5])
def test_a_constant_waveform_has_finite_frames(family: Family, large: bool, level: float) -> None:
    config = tiny(family, large)
    samples = torch.from_numpy(normalized_waveform(np.full(5000, level, np.float32), config))
    assert all(torch.isfinite(frames).all() for frames in taken(made_encoder(config), samples, *every(3)))


def golden_wavlm(shared: Path) -> tuple[EncoderCheckpoint, Any]:
    folder = shared / "golden" / "wavlm"
    settings = json.loads((folder / "wavlm_large_tiny_cfg.json").read_text())
    weights = {name: torch.from_numpy(item) for name, item in np.load(folder / "wavlm_large_tiny_weights.npz").items()}
    checkpoint = read_fairseq(folder / "made.pt", {"cfg": settings, "model": weights}, None)
    return checkpoint, np.load(folder / "wavlm_large_tiny_io.npz")


@pytest.mark.parametrize("kind", ["raw", "norm"])
def test_wavlm_is_microsofts(shared: Path, kind: str) -> None:
    checkpoint, golden = golden_wavlm(shared)
    assert checkpoint.layout == "wavlm"
    assert checkpoint.ignored == ()
    encoder = checkpoint.build()
    for number, samples in enumerate(golden["wavs"]):
        prepared = torch.from_numpy(normalized_waveform(samples, checkpoint.config) if kind == "norm" else samples)
        with torch.no_grad():
            assert np.abs(encoder.convolutions(prepared).T.numpy() - golden[f"{kind}.conv"][number]).max() <= 2e-5
            found = taken(encoder, prepared, *every(3))
        for name, frames in zip(("layer1", "layer2", "layer3", "final"), found, strict=True):
            assert np.abs(frames.numpy() - golden[f"{kind}.{name}"][number]).max() <= 2e-5


def test_buckets_of_distances_are_microsofts(shared: Path) -> None:
    golden = golden_wavlm(shared)[1]
    found = bucket_of_distance(torch.from_numpy(golden["buckets_rel"]), RelativePositions(320, 800))
    assert np.array_equal(found.numpy(), golden["buckets_val"])
