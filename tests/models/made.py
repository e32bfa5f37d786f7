"""Small encoders of every family with random weights, and the same as transformers' models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vocable.checkpoints.encoder_checkpoint import EncoderCheckpoint, Tensors, gathered
from vocable.checkpoints.tensor_names import FINAL_PROJECTION, LABEL_EMBEDDINGS, SPECIAL_EMBEDDINGS, TRANSFORMERS
from vocable.models.config import Convolution, EncoderConfig, Family, RelativePositions
from vocable.models.encoder import Encoder

CONVOLUTIONS = (
    Convolution(32, 10, 5),
    *(Convolution(32, 3, 2) for _ in range(4)),
    *(Convolution(32, 2, 2) for _ in range(2)),
)
FAMILIES: tuple[Family, ...] = ("hubert", "wav2vec2", "wavlm")
STYLES = [(family, large) for family in FAMILIES for large in (False, True)]
"""Each family with the norms of base models, and with those of large ones."""


def tiny(family: Family = "hubert", large: bool = False, **changes: Any) -> EncoderConfig:
    """Return the configuration of three blocks with norms as base models have them, or large ones."""
    described: dict[str, Any] = {
        "layers": 3,
        "dim": 64,
        "ffn_dim": 128,
        "heads": 4,
        "pre_norm": large,
        "convolution_norm": "layer" if large else "group",
        "convolutions": CONVOLUTIONS,
        "position_width": 16,
        "position_groups": 4,
        "relative_positions": RelativePositions() if family == "wavlm" else None,
        "waveform_normalization": "utterance" if large else "none",
    }
    return EncoderConfig(family=family, **described | changes)


def shaken(module: nn.Module, seed: int, by: float = 0.1) -> Any:
    """Return a module with noise in all its parameters, so that none is 0 or 1 by habit; in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(by * torch.randn(parameter.shape, generator=generator))
    return module.eval()


def made_encoder(config: EncoderConfig, seed: int = 0) -> Encoder:
    torch.manual_seed(seed)
    encoder: Encoder = shaken(Encoder(config), seed)
    return encoder.requires_grad_(False)


def made_heads(dim: int = 64, labels: int = 11, size: int = 6, special: bool = False) -> dict[str, Tensor]:
    """Return what pretraining leaves beside an encoder; the row of each label holds its number."""
    heads = {
        LABEL_EMBEDDINGS: torch.arange(labels)[:, None].float() + torch.rand(labels, size) / 2,
        f"{FINAL_PROJECTION}.weight": torch.randn(size, dim),
        f"{FINAL_PROJECTION}.bias": torch.randn(size),
    }
    return heads | ({SPECIAL_EMBEDDINGS: 100 + torch.rand(4, size)} if special else {})


def made_checkpoint(config: EncoderConfig, seed: int = 0, heads: dict[str, Tensor] | None = None) -> EncoderCheckpoint:
    return EncoderCheckpoint.of(made_encoder(config, seed), heads)


def waveform(samples: int, seed: int = 0, scale: float = 0.1) -> NDArray[np.float32]:
    return (scale * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def same_values(one: EncoderCheckpoint, other: EncoderCheckpoint) -> bool:
    """Tell whether two checkpoints hold the same tensors bit for bit, heads included."""
    pairs = ((one.tensors, other.tensors), (one.heads, other.heads))
    return all(set(mine) == set(theirs) and all(torch.equal(mine[name], theirs[name]) for name in mine) for mine, theirs in pairs)


def settings_for_transformers(config: EncoderConfig) -> dict[str, Any]:
    settings = {
        "hidden_size": config.dim,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "intermediate_size": config.ffn_dim,
        "conv_dim": [item.channels for item in config.convolutions],
        "conv_kernel": [item.width for item in config.convolutions],
        "conv_stride": [item.stride for item in config.convolutions],
        "conv_bias": config.convolution_bias,
        "num_conv_pos_embeddings": config.position_width,
        "num_conv_pos_embedding_groups": config.position_groups,
        "do_stable_layer_norm": config.pre_norm,
        "feat_extract_norm": config.convolution_norm,
        "vocab_size": 12,
    }
    if config.relative_positions is not None:
        settings["num_buckets"] = config.relative_positions.buckets
        settings["max_bucket_distance"] = config.relative_positions.max_distance
    return settings


def transformers_model(config: EncoderConfig, seed: int = 0, kind: str = "Model", by: float = 0.1) -> Any:
    """Return transformers' model, or its model for recognition (`ForCTC`), with random weights."""
    import transformers

    transformers.logging.set_verbosity_error()
    name = {"hubert": "Hubert", "wav2vec2": "Wav2Vec2", "wavlm": "WavLM"}[config.family]
    torch.manual_seed(seed)
    model = getattr(transformers, name + kind)(getattr(transformers, f"{name}Config")(**settings_for_transformers(config)))
    return shaken(model, seed, by)


def saved(model: Any, folder: Path, normalize: bool | None = False, **options: Any) -> Path:
    """Save transformers' model, with what its feature extractor does where that is said."""
    model.save_pretrained(folder, **options)
    if normalize is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": normalize, "sampling_rate": 16000}))
    return folder


def ours(model: Any, config: EncoderConfig, layers: int | None = None) -> Encoder:
    """Return our encoder with the weights of transformers' model."""
    state = model.state_dict()
    found = gathered(
        Path("made"), config, TRANSFORMERS, Tensors.of(state), {name: tuple(item.shape) for name, item in state.items()}
    )
    return EncoderCheckpoint(Path("made"), "transformers", config, found.tensors).build(layers)
