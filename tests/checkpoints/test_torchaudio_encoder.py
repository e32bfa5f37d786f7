from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.made import made_checkpoint, made_heads, same_values, tiny
from vocable.checkpoints.encoder_checkpoint import EncoderCheckpoint
from vocable.checkpoints.encoders import read_encoder
from vocable.checkpoints.tensor_names import FINAL_PROJECTION, LABEL_EMBEDDINGS, MASK_EMBEDDING, TORCHAUDIO, TORCHAUDIO_WAVLM
from vocable.errors import InputError, UnknownNormalizationError
from vocable.models.config import EncoderConfig, Family


def published(family: Family = "hubert", large: bool = False) -> EncoderConfig:
    """Return a small configuration of as many values as a published one has, from which the number of heads is told."""
    if family == "wavlm":
        return tiny("wavlm", large)
    return tiny(family, large, layers=2, dim=1024 if large else 768, heads=16 if large else 12, ffn_dim=32, position_groups=64)


def state_of(checkpoint: EncoderCheckpoint, prefix: str = "", gains: tuple[str, str] | None = None) -> dict[str, Tensor]:
    layout = TORCHAUDIO if checkpoint.config.relative_positions is None else TORCHAUDIO_WAVLM
    state = {
        f"{prefix}{name}": part.clone()
        for ours, theirs in layout.names(checkpoint.config, gains).items()
        for name, part in zip(theirs, checkpoint.tensors[ours].chunk(len(theirs)), strict=True)
    }
    if LABEL_EMBEDDINGS in checkpoint.heads:
        state["mask_generator.mask_embedding"] = checkpoint.heads[MASK_EMBEDDING]
        state["logit_generator.label_embeddings"] = checkpoint.heads[LABEL_EMBEDDINGS]
        for part in ("weight", "bias"):
            state[f"logit_generator.final_proj.{part}"] = checkpoint.heads[f"{FINAL_PROJECTION}.{part}"]
    return state


def saved_state(state: dict[str, Tensor], folder: Path, old: bool = False) -> Path:
    torch.save(state, folder / "made.pth", _use_new_zipfile_serialization=not old)
    return folder / "made.pth"


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize(("prefix", "gains"), [("", 0), ("wav2vec2.", 1), ("model.", 0)])
@pytest.mark.parametrize(("family", "large"), [("wav2vec2", False), ("wav2vec2", True), ("wavlm", False), ("wavlm", True)])
def test_an_encoder_is_read_bit_for_bit_its_configuration_from_shapes(
    tmp_path: Path, family: Family, large: bool, prefix: str, gains: int, old: bool
) -> None:
    source = made_checkpoint(published(family, large))
    path = saved_state(state_of(source, prefix, TORCHAUDIO.weight_norm[gains]), tmp_path, old)
    found = read_encoder(path, source.config.waveform_normalization)
    assert found.layout == "torchaudio"
    assert found.config == source.config
    assert found.digest == source.digest
    assert set(found.tensors) == set(source.tensors)
    assert all(torch.equal(found.tensors[name], source.tensors[name]) for name in source.tensors)
    assert (list(found.heads), found.ignored) == ([], ())


def test_what_pretraining_leaves_is_found_beside_the_encoder(tmp_path: Path) -> None:
    source = made_checkpoint(published(), 1, made_heads(768))
    found = read_encoder(saved_state(state_of(source, "wav2vec2.") | {"aux.weight": torch.ones(3)}, tmp_path), "none")
    assert same_values(found, source)
    assert found.config == source.config
    assert found.ignored == ("aux.weight",)
    assert found.heads[LABEL_EMBEDDINGS].floor()[:, 0].tolist() == list(range(11))  # all rows are labels


def test_queries_keys_and_values_in_one_tensor_or_three_are_alike() -> None:
    plain, gated = published(), published("wavlm")
    assert "attention.in_proj_weight" in " ".join(state_of(made_checkpoint(gated)))
    assert "attention.q_proj.weight" in " ".join(state_of(made_checkpoint(plain)))


def test_how_waveforms_are_normalised_has_to_be_told(tmp_path: Path) -> None:
    path = saved_state(state_of(made_checkpoint(published("wavlm"))), tmp_path)
    with pytest.raises(UnknownNormalizationError, match=rf"^{path} doesn't say .*--waveform-normalization none"):
        read_encoder(path)
    assert read_encoder(path, "none").config.waveform_normalization == "none"
    assert read_encoder(path, "utterance").config.waveform_normalization == "utterance"


def test_what_torchaudio_does_not_publish_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"made\.pth has frames of 64 values, of no model that torchaudio publishes"):
        read_encoder(saved_state(state_of(made_checkpoint(tiny())), tmp_path), "none")
    config = tiny("wavlm")
    for convolutions in (config.convolutions[:5], (*config.convolutions, config.convolutions[-1])):
        other = made_checkpoint(replace(config, convolutions=convolutions))
        with pytest.raises(InputError, match=r"made\.pth has convolutions of the widths \[10, .*, whose strides aren't known"):
            read_encoder(saved_state(state_of(other), tmp_path), "none")


def test_a_file_that_lacks_any_of_its_tensors_is_refused(tmp_path: Path) -> None:
    state = state_of(made_checkpoint(tiny("wavlm", layers=1)))
    for name in state:
        path = saved_state({other: tensor for other, tensor in state.items() if other != name}, tmp_path)
        with pytest.raises(InputError) as caught:
            read_encoder(path, "none")
        assert str(caught.value).startswith(str(path))
