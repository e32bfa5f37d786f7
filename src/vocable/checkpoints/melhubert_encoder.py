"""MelHuBERT as its authors' code writes it: weights, and the configuration that made them under `Upstream_Config`.

The mean and deviation of the training's log-mel frames, without which the weights mean nothing, are in a file of their own there.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, from_numpy

from vocable.checkpoints.encoder_checkpoint import MEL_STATISTICS, EncoderCheckpoint, Tensors, gathered
from vocable.checkpoints.npy import npy_shape
from vocable.checkpoints.tensor_names import FINAL_PROJECTION, MASK_EMBEDDING, MELHUBERT
from vocable.checkpoints.torch_files import attributes
from vocable.errors import InputError
from vocable.models.config import EncoderConfig, MelInput

BINS = 40
_SECTIONS = ("melhubert", "hubert")
_ONLY = {"pos_emb_type": "conv", "pos_conv_depth": 1, "activation_fn": "gelu", "attention_type": "original"}
"""What such an encoder here can be; another value is refused."""
_DEFAULTS: Mapping[str, Any] = {
    "feat_emb_dim": 40, "encoder_layers": 1, "encoder_embed_dim": 768, "encoder_ffn_embed_dim": 3072,
    "encoder_attention_heads": 12, "conv_pos": 128, "conv_pos_groups": 16, "layer_norm_first": False,
}  # fmt: skip
"""The authors' code's own, where a configuration doesn't say."""


def is_melhubert(content: object) -> bool:
    """Tell whether what a file of torch's holds is of this layout."""
    return isinstance(content, dict) and "Upstream_Config" in content and isinstance(content.get("model"), dict)


def read_melhubert(path: Path, content: dict[str, Any], statistics: Path | None) -> EncoderCheckpoint:
    """Return the encoder in what a file holds.

    Args:
        path: of the file.
        content: what `read_torch_file` returned.
        statistics: file of the mean and deviation of its log-mel bins; without it the encoder can be looked at, not run.

    Raises:
        InputError: it is of a kind that isn't known here, or isn't whole; or the statistics are of something else.
    """
    if pruned := [name for name in ("Pruned_heads", "Pruning") if content.get(name)]:
        raise InputError(f"{path} is a pruned model ({pruned[0]}), whose layers have shapes of their own: take the whole one")
    config = melhubert_config(path, _settings(path, content))
    tensors = {name: value for name, value in content["model"].items() if isinstance(value, Tensor)}
    found = gathered(path, config, MELHUBERT, Tensors.of(tensors), {name: tuple(value.shape) for name, value in tensors.items()})
    heads = {}
    for part in ("weight", "bias"):
        if (name := f"{found.prefix}{MELHUBERT.final_projection}.{part}") in tensors:
            heads[f"{FINAL_PROJECTION}.{part}"] = tensors[name]
    used = {f"{found.prefix}{MELHUBERT.final_projection}.{part}" for part in ("weight", "bias")}
    learned = f"{found.prefix}{MELHUBERT.mask_embedding}"
    if learned in tensors and tensors[learned].shape == (config.dim,):
        heads[MASK_EMBEDDING] = tensors[learned]
        used.add(learned)
    others = tuple(name for name in found.others if name not in used)
    own = found.tensors
    if statistics is not None:
        assert config.mel is not None
        own = own.joined(Tensors.of(statistics_tensors(read_mean_std(statistics, config.mel.bins))))
    return EncoderCheckpoint(path, "melhubert", config, own, Tensors.of(heads), others)


def melhubert_config(path: Path, settings: Mapping[str, Any]) -> EncoderConfig:
    """Return the encoder that a configuration of the authors' code describes.

    Args:
        path: it stands in, for messages.
        settings: what is under its key `melhubert`.

    Raises:
        InputError: it describes none, or one of a kind that isn't known here.
    """
    for name, allowed in _ONLY.items():
        if (value := settings.get(name, allowed)) != allowed:
            raise InputError(
                f"{path} is of a kind that isn't known here: its {name} is {value!r}, not {allowed!r}; take another checkpoint"
            )
    found = {**_DEFAULTS, **{name: value for name, value in settings.items() if value is not None}}
    try:
        stacked, rest = divmod(int(found["feat_emb_dim"]), BINS)
        if rest or stacked < 1:
            raise InputError(f"{path} takes frames of {found['feat_emb_dim']} values, and MelHuBERT's are a multiple of {BINS}")
        # A vector that is learnt takes the place of the input where it has the input's size, of which there is none here.
        mel = MelInput(BINS, stacked, "corpus", padded=True, hides_input=bool(settings.get("mask_before_proj", True)))
        return EncoderConfig(
            family="melhubert",
            layers=int(found["encoder_layers"]),
            dim=int(found["encoder_embed_dim"]),
            ffn_dim=int(found["encoder_ffn_embed_dim"]),
            heads=int(found["encoder_attention_heads"]),
            pre_norm=bool(found["layer_norm_first"]),
            convolution_norm="group",
            convolutions=(),
            mel=mel,
            projection_norm=False,
            position_width=int(found["conv_pos"]),
            position_groups=int(found["conv_pos_groups"]),
        )
    except (ValueError, TypeError, OverflowError) as error:
        if isinstance(error, InputError):
            raise InputError(str(error) if str(path) in str(error) else f"{path}: {error}") from error
        raise InputError(f"{path} has a configuration that can't be read ({error}): copy it again") from error


def melhubert_content(checkpoint: EncoderCheckpoint) -> dict[str, Any]:
    """Return what a file of this layout holds: plain values and tensors alone. Statistics are written beside it.

    Raises:
        InputError: the encoder is of a kind that MelHuBERT's code hasn't.
    """
    config, heads = checkpoint.config, checkpoint.heads
    mel = config.mel
    if mel is None or mel.bins != BINS or mel.normalization != "corpus" or not mel.padded or config.projection_norm:
        raise InputError(
            f"MelHuBERT's code takes {BINS} log-mel bins, normalised by a corpus's statistics, the last frame filled up: "
            "this encoder's are others; take --to vocable"
        )
    head, bias = (f"{FINAL_PROJECTION}.{part}" for part in ("weight", "bias"))
    if head not in heads or bias not in heads or heads[head].shape[1] != config.dim or set(heads) - {head, bias, MASK_EMBEDDING}:
        raise InputError(
            "MelHuBERT's code takes one linear layer that tells labels, which this encoder hasn't: take --to vocable"
        )
    model = {
        name: part.clone()
        for ours, theirs in MELHUBERT.names(config).items()
        for name, part in zip(theirs, checkpoint.tensors[ours].chunk(len(theirs)), strict=True)
    }
    model |= {f"{MELHUBERT.final_projection}.{part}": heads[f"{FINAL_PROJECTION}.{part}"].clone() for part in ("weight", "bias")}
    settings = {
        **_ONLY,
        "feat_emb_dim": BINS * mel.stacked,
        "conv_pos": config.position_width,
        "conv_pos_groups": config.position_groups,
        "encoder_layers": config.layers,
        "encoder_embed_dim": config.dim,
        "encoder_ffn_embed_dim": config.ffn_dim,
        "encoder_attention_heads": config.heads,
        "layer_norm_first": config.pre_norm,
        "num_cluster": heads[head].shape[0],
        "learnable_mask_emb": False,
        "mask_before_proj": mel.hides_input,
    }
    return {"model": model, "Upstream_Config": {"melhubert": settings}}


def read_mean_std(path: Path, bins: int = BINS) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return mean and standard deviation of a corpus's log-mel bins out of a file of an array of two rows.

    Raises:
        InputError: it holds something else.
    """
    shape = npy_shape(path)
    found = np.load(path, allow_pickle=False) if shape == (2, bins) else np.zeros(0)
    if shape != (2, bins) or not np.isfinite(found).all() or not (found[1] > 0).all():
        raise InputError(
            f"{path} has an array of shape {shape}, not the mean and the deviation (above 0) of {bins} log-mel bins: "
            "give the mean-std.npy that 'vocable melhubert preprocess' wrote, or that came with the checkpoint"
        )
    both: NDArray[np.float32] = found.astype(np.float32)
    return both[0], both[1]


def statistics_tensors(statistics: tuple[NDArray[np.float32], NDArray[np.float32]]) -> dict[str, Tensor]:
    """Return mean and deviation by the names of an encoder's tensors."""
    return {name: from_numpy(values.copy()) for name, values in zip(MEL_STATISTICS, statistics, strict=True)}


def mean_std_beside(out: Path) -> Path:
    """Return where the statistics of a checkpoint in this layout are written."""
    return out.with_name(f"{out.name}.mean-std.npy")


def _settings(path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    sections = attributes(content["Upstream_Config"])
    for name in _SECTIONS:
        if isinstance(sections.get(name), dict):
            return dict(sections[name])
    raise InputError(f"{path} has an Upstream_Config without {' or '.join(_SECTIONS)}: it is another model's")
