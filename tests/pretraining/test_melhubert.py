"""MelHuBERT beside what its authors' code made of the same weights, log-mel frames and masks."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vocable.checkpoints.encoder_checkpoint import EncoderCheckpoint, Tensors
from vocable.checkpoints.encoders import read_encoder, write_encoder
from vocable.checkpoints.melhubert_encoder import melhubert_config, read_mean_std
from vocable.checkpoints.tensor_names import MELHUBERT
from vocable.features.encoder_layer import EncoderLayer
from vocable.features.kaldi import Frames
from vocable.features.mel_input import mel_frames
from vocable.models.config import EncoderConfig, melhubert
from vocable.models.encoder import Encoder
from vocable.models.taps import Tap
from vocable.pretraining.hubert import HubertObjective, MaskedBatch
from vocable.pretraining.loss_settings import LossSettings
from vocable.pretraining.masking import MaskSettings, reference_masks, span_masks
from vocable.training.settings import OptimizerSettings
from vocable.training.wrapping import optimizer_of

UTTERANCES = ("100-121669-0000", "1001-134707-0000")
SETS = ("100", "360", "960")
MASKS = MaskSettings(probability=0.7, length=5, reference=True)
LINEAR = LossSettings(kind="linear", penalty=0)


@pytest.fixture(scope="module")
def golden(shared: Path) -> Path:
    return shared / "golden" / "melhubert"


def waveform(golden: Path, name: str) -> NDArray[np.float32]:
    return soundfile.read(golden / f"{name}.flac", dtype="float32")[0]


def frames_of(golden: Path, config: EncoderConfig, of_set: str = "360") -> list[Frames]:
    statistics = read_mean_std(golden / f"libri-{of_set}-mean-std.npy")
    return [mel_frames(waveform(golden, name), config, statistics) for name in UTTERANCES]


def seeded(name: str, shape: tuple[int, ...]) -> Tensor:
    """Return a weight as the golden model has it, which is stored nowhere."""
    drawn = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    near_one = name.endswith("weight_g") or "layer_norm.weight" in name
    return torch.from_numpy((1 + 0.1 * drawn if near_one else 0.02 * drawn).astype(np.float32))


def objective_of(config: EncoderConfig, labels: int, official: dict[str, Tensor]) -> HubertObjective:
    """Return our objective with the weights of a state dict of the authors' code."""
    objective = HubertObjective(config, [labels], LINEAR).eval()
    tensors = Tensors.of(official).renamed(MELHUBERT.names(config))
    state = {f"encoder.{name}": tensors[name] for name in tensors}
    state |= {f"head.final_projection.{part}": official[f"final_proj.{part}"] for part in ("weight", "bias")}
    own = objective.state_dict()
    assert set(own) - set(state) == {"encoder.mel_mean", "encoder.mel_std"}
    objective.load_state_dict({**own, **state})
    return objective


def official_gradients(objective: nn.Module, config: EncoderConfig) -> dict[str, Tensor]:
    """Return the gradients by the names of the authors' code."""
    grads = {name.removeprefix("encoder."): item.grad for name, item in objective.named_parameters()}
    found = {}
    for ours, theirs in MELHUBERT.names(config).items():
        gradient = grads[ours]
        assert gradient is not None
        found |= dict(zip(theirs, gradient.chunk(len(theirs)), strict=True))
    for part in ("weight", "bias"):
        gradient = grads[f"head.final_projection.{part}"]
        assert gradient is not None
        found[f"final_proj.{part}"] = gradient
    return found


def losses_of(
    objective: HubertObjective, utterances: list[Tensor], labels: list[Tensor], masks: list[Tensor]
) -> tuple[Tensor, float]:
    """Return the loss of utterances of different lengths, summed over hidden frames, and how many these are."""
    total, count = torch.zeros(()), 0.0
    for frames, own, mask in zip(utterances, labels, masks, strict=True):
        batch = MaskedBatch.of(frames[None], own[None, None], mask[None], 1.0)
        total = total + objective(batch).loss
        count += objective.weight(batch)
    return total, count


@pytest.fixture(scope="module")
def full(golden: Path) -> tuple[HubertObjective, Any]:
    shapes = json.loads((golden / "params_20ms.json").read_text())["param_shapes"]
    objective = objective_of(melhubert(), 512, {name: seeded(name, tuple(shape)) for name, shape in shapes})
    return objective, np.load(golden / "model_20ms.npz", allow_pickle=False)


@pytest.mark.parametrize("stacked", [1, 2])
@pytest.mark.parametrize("of_set", SETS)
def test_log_mel_frames_are_those_of_the_authors_code(golden: Path, stacked: int, of_set: str) -> None:
    expected = np.load(golden / "frontend.npz", allow_pickle=False)
    for name, made in zip(UTTERANCES, frames_of(golden, melhubert(stacked), of_set), strict=True):
        wanted = expected[f"{name}/norm{of_set}_{10 * stacked}ms"]
        assert made.shape == wanted.shape
        assert np.abs(made - wanted).max() < 5e-4


def test_masks_are_drawn_number_for_number(golden: Path) -> None:
    stored = np.load(golden / "masks.npz", allow_pickle=False)
    assert len(stored.files) == 12
    for name in stored.files:
        width, padding, seed = name.split("_")
        frames = int(width[1:])
        lengths = [frames] * 2 if padding == "padnone" else [int(item) for item in padding[3:].split("-")]
        made = reference_masks(np.random.RandomState(int(seed[4:])), lengths, frames, MASKS)
        assert (made == stored[name]).all(), name


def test_both_ways_to_draw_masks_hide_as_much() -> None:
    generator = np.random.default_rng(0)
    for frames, tolerance in ((750, 0.005), (101, 0.01)):
        theirs = np.mean([reference_masks(np.random.RandomState(seed), [frames], frames, MASKS).mean() for seed in range(300)])
        ours = span_masks(generator, 300, frames, MASKS).mean()
        assert abs(ours - theirs) < tolerance
    assert theirs == pytest.approx(1 - (1 - 0.7 / 5) ** 5, abs=0.02)


def test_the_full_model_makes_the_same_frames(golden: Path, full: tuple[HubertObjective, Any]) -> None:
    objective, expected = full
    utterances = [torch.from_numpy(item) for item in frames_of(golden, melhubert())]
    with torch.no_grad():
        found = objective.encoder(utterances, [Tap(layer) for layer in range(1, 13)])
        projected = objective.encoder.projection(torch.cat(utterances))
    lengths = expected["lengths"].tolist()
    assert [len(item) for item in utterances] == lengths
    for number, part in enumerate(torch.split(projected, lengths)):
        wanted = expected["pre_feat_stride8"][number][: -(-lengths[number] // 8)]
        assert np.abs(part[::8].numpy() - wanted).max() < 1e-4
    for layer in range(1, 13):
        for number, frames in enumerate(found[Tap(layer)]):
            wanted = expected[f"layer{layer}_stride16"][number][: -(-lengths[number] // 16)]
            assert np.abs(frames[::16].numpy() - wanted).max() < 1e-4, layer
    assert np.abs(found[Tap(12)][0].numpy() - expected["hidden_utt0_full"]).max() < 1e-4
    assert np.abs(found[Tap(12)][1][::4].numpy() - expected["hidden_utt1_stride4"]).max() < 1e-4


def test_the_full_model_has_the_same_loss_and_gradients(golden: Path, full: tuple[HubertObjective, Any]) -> None:
    objective, expected = full
    objective.zero_grad(set_to_none=True)
    utterances = [torch.from_numpy(item) for item in frames_of(golden, melhubert())]
    lengths, width = [len(item) for item in utterances], max(len(item) for item in utterances)
    masks = reference_masks(np.random.RandomState(1337), lengths, width, MASKS)
    assert (masks == expected["mask_indices"]).all()
    rows = zip(masks, lengths, strict=True)
    labels = [(7 * torch.arange(length) + 13 * row) % 512 for row, length in enumerate(lengths)]
    total, count = losses_of(objective, utterances, labels, [torch.from_numpy(mask[:length]) for mask, length in rows])
    assert count == int(expected["n_masked"]) == 462
    loss = total / count
    assert float(loss.detach()) == pytest.approx(float(expected["masked_loss"]), abs=1e-5)
    loss.backward()  # type: ignore[no-untyped-call]
    wanted = json.loads((golden / "gradnorm_20ms.json").read_text())
    found = official_gradients(objective, melhubert())
    norms = wanted["per_param"]
    compared = {name: norm for name, norm in norms.items() if name in found}
    assert len(compared) == 201
    whole = float(torch.stack([gradient.double().norm() for gradient in found.values()]).norm())
    assert whole == pytest.approx(float(expected["grad_total_norm"]), rel=1e-4)
    for name, norm in compared.items():
        if name.endswith("k_proj.bias"):  # changes nothing: its gradient is rounding alone
            continue
        assert float(found[name].double().norm()) == pytest.approx(norm, rel=1e-4), name


def test_parameters_are_counted_as_in_the_authors_code(golden: Path) -> None:
    for stacked, count in ((2, 90_231_424), (1, 90_200_704)):
        with torch.device("meta"):
            objective = HubertObjective(melhubert(stacked), [512], LINEAR)
        assert sum(item.numel() for item in objective.parameters()) == count
        listed = json.loads((golden / f"params_{10 * stacked}ms.json").read_text())
        assert listed["n_params"] == count
        names = {part for parts in MELHUBERT.names(melhubert(stacked)).values() for part in parts}
        assert names | {"final_proj.weight", "final_proj.bias"} == set(listed["state_dict_keys"])
        assert len(listed["state_dict_keys"]) == 201


def tiny_config(pre_norm: bool = False) -> EncoderConfig:
    settings = {
        "feat_emb_dim": 80, "encoder_layers": 2, "encoder_embed_dim": 48, "encoder_ffn_embed_dim": 96,
        "encoder_attention_heads": 4, "conv_pos": 16, "conv_pos_groups": 4, "layer_norm_first": pre_norm,
    }  # fmt: skip
    return melhubert_config(Path("tiny"), settings)


def tiny_objective(stored: Any, pre_norm: bool = False, weights: str = "w") -> HubertObjective:
    official = {
        name.removeprefix(f"{weights}/"): torch.from_numpy(stored[name]) for name in stored if name.startswith(f"{weights}/")
    }
    return objective_of(tiny_config(pre_norm), 32, official)


@pytest.mark.parametrize("pre_norm", [False, True])
def test_the_tiny_model_makes_the_same_frames(golden: Path, pre_norm: bool) -> None:
    stored = np.load(golden / "tiny_20ms.npz", allow_pickle=False)
    objective = tiny_objective(stored, pre_norm)
    utterances = [torch.from_numpy(row[:length]) for row, length in zip(stored["input"], stored["lengths"], strict=True)]
    with torch.no_grad():
        made = objective.encoder(utterances, [Tap(1), Tap(2), Tap(2, "final")])
    expected = {Tap(2): "preLN_layer2", Tap(2, "final"): "preLN_hidden"} if pre_norm else {Tap(1): "layer1", Tap(2): "hidden"}
    for tap, name in expected.items():
        for row, frames in enumerate(made[tap]):
            assert np.abs(frames.numpy() - stored[name][row, : len(frames)]).max() < 1e-5, name


def test_ten_updates_go_the_same_way(golden: Path) -> None:
    stored = np.load(golden / "tiny_20ms.npz", allow_pickle=False)
    objective = tiny_objective(stored).train()
    optimizer = optimizer_of(
        objective,
        OptimizerSettings(kind="adam", learning_rate=1e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0),
        torch.device("cpu"),
    )
    lengths = stored["lengths"].tolist()
    utterances = [torch.from_numpy(row[:length]) for row, length in zip(stored["input"], lengths, strict=True)]
    labels = [torch.from_numpy(row[:length].astype(np.int64)) for row, length in zip(stored["labels"], lengths, strict=True)]
    found, norms = [], []
    for update in range(10):
        for part in range(2):  # the authors' code takes the mean of micro-batches' means
            masks = stored["traj_masks"][2 * update + part]
            own = [torch.from_numpy(mask[:length].astype(bool)) for mask, length in zip(masks, lengths, strict=True)]
            total, count = losses_of(objective, utterances, labels, own)
            found.append(float((total / count).detach()))
            (total / count / 2).backward()  # type: ignore[no-untyped-call]
        norms.append(float(nn.utils.clip_grad_norm_(objective.parameters(), 10.0)))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    assert np.abs(np.array(found) - stored["traj_losses"]).max() < 1e-5
    assert np.allclose(norms, stored["traj_gradnorm"], rtol=1e-4)
    after = tiny_objective(stored, weights="w_after10").state_dict()
    ours = objective.state_dict()
    assert max(float((ours[name] - after[name]).abs().max()) for name in after) < 1e-5


def test_a_checkpoint_of_the_authors_opens_and_is_written_again(golden: Path, tmp_path: Path) -> None:
    source = golden / "tiny_official_20ms.ckpt"
    stored = np.load(golden / "tiny_20ms.npz", allow_pickle=False)
    found = read_encoder(source, mean_std=golden / "libri-360-mean-std.npy")
    assert (found.layout, found.config) == ("melhubert", tiny_config())
    for ours, theirs in MELHUBERT.names(found.config).items():
        parts = found.tensors[ours].chunk(len(theirs))
        assert all((part.numpy() == stored[f"w/{name}"]).all() for part, name in zip(parts, theirs, strict=True))
    ours, back = tmp_path / "ours", tmp_path / "back.ckpt"
    write_encoder(found, ours, "vocable")
    again = read_encoder(ours)
    assert again.digest == found.digest
    write_encoder(again, back, "melhubert")
    content = torch.load(back, weights_only=True)
    assert list(content) == ["model", "Upstream_Config"]
    wanted = {name.removeprefix("w/"): stored[name] for name in stored if name.startswith("w/")}
    assert set(content["model"]) == set(wanted)
    assert all((tensor.numpy() == wanted[name]).all() for name, tensor in content["model"].items())
    assert read_encoder(back, mean_std=tmp_path / "back.ckpt.mean-std.npy").digest == found.digest
    layer = EncoderLayer(ours, 2)
    (frames,) = layer([waveform(golden, UTTERANCES[1])])
    assert np.abs(frames - stored["hidden"][1]).max() < 2e-4  # log-mel frames of its own input


def test_ours_exported_has_the_keys_of_the_authors(golden: Path, full: tuple[HubertObjective, Any], tmp_path: Path) -> None:
    objective, _ = full
    heads = {f"final_projection.{part}": getattr(objective.head.final_projection, part) for part in ("weight", "bias")}
    out = tmp_path / "full.ckpt"
    write_encoder(EncoderCheckpoint.of(objective.encoder, heads), out, "melhubert")
    content = torch.load(out, weights_only=True)
    assert set(content["model"]) == set(json.loads((golden / "params_20ms.json").read_text())["state_dict_keys"])
    assert len(content["model"]) == 201
    assert content["Upstream_Config"]["melhubert"]["num_cluster"] == 512


def test_frames_of_an_authors_checkpoint_need_its_statistics(golden: Path) -> None:
    source = golden / "tiny_official_20ms.ckpt"
    with pytest.raises(ValueError, match="give --mean-std with that corpus's file"):
        EncoderLayer(source, 1)
    one, other = (EncoderLayer(source, 1, mean_std=golden / f"libri-{name}-mean-std.npy") for name in ("360", "960"))
    assert one.spec.model != other.spec.model


def test_encoders_are_built_like_the_authors(golden: Path) -> None:
    torch.manual_seed(0)
    encoder = Encoder(melhubert())
    assert float(encoder.positions.direction.detach().std()) == pytest.approx(0.006379, rel=0.01)
    assert float(encoder.positions.gain.detach().mean()) == pytest.approx(1.225, rel=0.01)
    assert encoder.projection.linear is not None
    assert float(encoder.projection.linear.weight.detach().std()) == pytest.approx(0.0646, rel=0.02)
    block: Any = encoder.blocks[0]
    assert float(block.attention.query_key_value.weight.detach().std()) == pytest.approx(0.02, rel=0.02)
    assert encoder.mask_embedding is None
