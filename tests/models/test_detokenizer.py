"""Conformer and vocoder are those of SEF-MK, in its files too; nothing depends on neighbours or on padding."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vocable.checkpoints.detokenizers import DetokenizerCheckpoint, read_detokenizer, write_detokenizer
from vocable.errors import InputError, UnsafeFileError
from vocable.models.conformer import Conformer, ConformerConfig
from vocable.models.vocoder import Vocoder, VocoderConfig

SMALL = ConformerConfig(dim=32, heads=4, ffn_dim=64, layers=2, kernel=5)
TINY = VocoderConfig(dim=32, projected=16, channels=32)


@pytest.fixture(scope="module")
def golden(shared: Path) -> Path:
    return shared / "golden" / "wavlm"


def weights_of(golden: Path, name: str) -> dict[str, torch.Tensor]:
    with np.load(golden / f"{name}_weights.npz") as held:
        return {key: torch.from_numpy(held[key]) for key in held}


@pytest.fixture
def official(golden: Path, tmp_path: Path) -> Path:
    """A checkpoint as SEF-MK's trainer writes it."""
    weights = {f"conformer.{name}": value for name, value in weights_of(golden, "conformer_tiny").items()}
    weights |= {f"hifi.model.{name}": value for name, value in weights_of(golden, "hifigan_tiny").items()}
    said = {"hifi_config": "a.json", "hifi_path": "g.pt", "feature_dim": 32, "conformer_num_heads": 4, "dropout": 0.1}
    torch.save({"extra": {"model_config": said}, "model_state_dict": weights, "epoch": 50}, tmp_path / "e_50.pth")
    return tmp_path / "e_50.pth"


def made(module: torch.nn.Module) -> Any:
    torch.manual_seed(0)
    for tensor in module.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.randn_like(tensor) * 0.3)
    for name, tensor in module.state_dict().items():
        if "running_var" in name:
            tensor.copy_(tensor.abs() + 0.5)
    return module.eval()


@torch.inference_mode()
def test_conformer_and_vocoder_give_what_the_references_give(golden: Path, official: Path) -> None:
    found = read_detokenizer(official)
    assert found.conformer == ConformerConfig(dim=32, heads=4, ffn_dim=64, layers=2, kernel=3, dropout=0.1)
    assert found.vocoder == TINY
    with np.load(golden / "conformer_tiny_io.npz") as io:
        conformer = found.build_conformer()
        for one, other in zip(conformer(list(torch.from_numpy(io["x"]))), io["y_full"], strict=True):
            np.testing.assert_allclose(one, other, atol=2e-5)
        # Where the reference lets padding in, ours gives what it gives of the utterance alone.
        short = torch.from_numpy(io["x"][1, :15])
        together = conformer([torch.from_numpy(io["x"][0]), short])
        assert torch.equal(together[1], conformer([short])[0])
        assert np.abs(together[1].numpy() - io["y_padded"][1, :15]).max() > 0.1
    with np.load(golden / "hifigan_tiny_io.npz") as io:
        np.testing.assert_allclose(found.build_vocoder()(torch.from_numpy(io["features"])), io["wav"], atol=2e-5)


def test_sizes_are_the_published_ones() -> None:
    with torch.device("meta"):
        assert sum(item.numel() for item in Conformer(ConformerConfig()).parameters()) == 289_812_480
        plain = sum(item.numel() for item in Vocoder(VocoderConfig()).parameters())
        scales = sum(module.weight.shape[0] for module in Vocoder(VocoderConfig()).modules() if "Conv" in type(module).__name__)
    assert plain + scales == 16_533_506  # as the reference counts them, with weight norm's scales
    assert VocoderConfig().hop == 320


@torch.inference_mode()
def test_an_utterance_is_the_same_alone_and_among_others() -> None:
    conformer = made(Conformer(SMALL))
    utterances = [torch.randn(length, 32) for length in (1, 7, 40, 300)]
    for number, together in enumerate(conformer(utterances)):
        assert torch.equal(together, conformer([utterances[number]])[0])


@torch.inference_mode()
def test_a_long_utterance_is_made_in_parts_and_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    vocoder = Vocoder(TINY)
    frames = torch.randn(150, 32)
    whole = vocoder(frames[None])[0]
    assert whole.shape == (150 * 320,)
    monkeypatch.setattr("vocable.models.vocoder._AT_ONCE", 20)
    torch.testing.assert_close(vocoder.of_utterance(frames), whole, atol=1e-6, rtol=1e-5)
    changed = frames.clone()
    changed[100 + TINY.reach + 1 :] = 0  # what lies farther than its reach doesn't matter
    assert torch.equal(vocoder(changed[None])[0][: 100 * 320], whole[: 100 * 320])
    assert vocoder.of_utterance(frames[:0]).shape == (0,)


@torch.inference_mode()
def test_a_source_reaches_all_stages_and_no_farther_than_frames_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = VocoderConfig(dim=167, projected=8, channels=16, rates=(5, 8, 4), kernels=(11, 16, 8), source=True)
    vocoder, frames = Vocoder(config), torch.randn(120, 167)
    whole = vocoder(frames[None])[0]
    assert whole.shape == (120 * 160,)
    monkeypatch.setattr("vocable.models.vocoder._AT_ONCE", 20)
    torch.testing.assert_close(vocoder.of_utterance(frames), whole, atol=1e-6, rtol=1e-5)
    changed = frames.clone()
    changed[60, 7:] += 1
    differing = (vocoder(changed[None])[0] != whole).nonzero()
    assert 160 * (60 - config.reach) <= int(differing.min()) < 160 * 60 < int(differing.max()) < 160 * (61 + config.reach)
    for stage in vocoder.stages:
        stage.source.weight.zero_()
    assert torch.equal(vocoder(changed[None]), vocoder(frames[None]))
    tensors = {f"vocoder.{name}": value for name, value in vocoder.state_dict().items()}
    write_detokenizer(DetokenizerCheckpoint(tmp_path, None, config, tensors), tmp_path / "v.safetensors")
    assert read_detokenizer(tmp_path / "v.safetensors").vocoder == config
    with pytest.raises(InputError, match="give more than 320"):
        VocoderConfig(dim=300, source=True)


def test_files_go_both_ways(official: Path, tmp_path: Path, golden: Path) -> None:
    found = read_detokenizer(official)
    write_detokenizer(found, tmp_path / "own.safetensors")
    again = read_detokenizer(tmp_path / "own.safetensors")
    assert (again.conformer, again.vocoder, again.digest) == (found.conformer, found.vocoder, found.digest)
    torch.save({**weights_of(golden, "conformer_tiny"), "mask_emb": torch.zeros(32)}, tmp_path / "step160000_model.pth")
    bare = read_detokenizer(tmp_path / "step160000_model.pth")
    assert bare.vocoder is None
    assert bare.conformer is not None
    assert bare.conformer.heads == 16
    with pytest.raises(InputError, match="give one with --vocoder"):
        bare.build_vocoder()
    torch.save({"generator": weights_of(golden, "hifigan_tiny")}, tmp_path / "g_02500000.pt")
    vocoder = read_detokenizer(tmp_path / "g_02500000.pt")
    assert vocoder.conformer is None
    with pytest.raises(InputError, match="a vocoder alone"):
        vocoder.build_conformer()
    assert set(vocoder.tensors) == {name for name in found.tensors if name.startswith("vocoder.")}


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch /tmp/it-ran",)


def test_broken_and_malicious_files_are_refused(official: Path, tmp_path: Path, golden: Path) -> None:
    torch.save({"model_state_dict": {}, "extra": _Evil()}, tmp_path / "evil.pth")
    with pytest.raises(UnsafeFileError, match="nothing in it was run"):
        read_detokenizer(tmp_path / "evil.pth")
    assert not Path("/tmp/it-ran").exists()
    (tmp_path / "cut.pth").write_bytes(official.read_bytes()[:5000])
    with pytest.raises(InputError, match="cut short"):
        read_detokenizer(tmp_path / "cut.pth")
    torch.save({"weights": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="neither a Conformer nor a HiFi-GAN"):
        read_detokenizer(tmp_path / "other.pth")
    with pytest.raises(InputError, match="there is no such file"):
        read_detokenizer(tmp_path / "none.pth")
    weights = weights_of(golden, "conformer_tiny")
    del weights["conformer_layers.1.final_layer_norm.weight"]
    torch.save(weights, tmp_path / "lacks.pth")
    with pytest.raises(InputError, match="it is not whole"):
        read_detokenizer(tmp_path / "lacks.pth").build_conformer()
    found = read_detokenizer(official)
    name = "conformer.layers.0.norm.weight"
    damaged = DetokenizerCheckpoint(
        official, found.conformer, found.vocoder, {**found.tensors, name: torch.full((32,), torch.nan)}
    )
    with pytest.raises(InputError, match="aren't finite"):
        damaged.build_conformer()
    with pytest.raises(InputError, match="give an odd number"):
        ConformerConfig(kernel=4)
    with pytest.raises(InputError, match="divides it"):
        ConformerConfig(dim=10, heads=3)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ConformerConfig(layers=10**7), lambda: ConformerConfig(ffn_dim=64.5), lambda: ConformerConfig(dim=2**40),  # type: ignore[arg-type]
        lambda: VocoderConfig(channels=2**50), lambda: VocoderConfig(dilations=[1, 2, 3]), lambda: VocoderConfig(sample_rate=0),  # type: ignore[arg-type]
        lambda: VocoderConfig(block_kernels=(-3, 7, 11)), lambda: VocoderConfig(sample_rate="x"),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_sizes_that_cannot_be_are_refused_before_anything_is_built(make: Any) -> None:
    with pytest.raises(InputError, match="whole numbers"):
        make()
