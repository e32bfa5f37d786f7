"""SD-HuBERT as its authors' code writes it: exported (`config`, `state_dict`), or a checkpoint of Lightning's; read, and written.

Neither says how the network is shaped: that follows from its tensors, and the number of attention heads from HuBERT's 64 values a
head, unless a file of ours says it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vocable.checkpoints.encoder_checkpoint import EncoderCheckpoint, Tensors, gathered
from vocable.checkpoints.tensor_names import DISTILLATION, MASK_EMBEDDING, SDHUBERT
from vocable.checkpoints.torch_files import attributes
from vocable.errors import InputError
from vocable.models.config import Convolution, EncoderConfig

_BACKBONE = "speech_model."
_MASK = "masked_spec_embed"
_VALUES_OF_HEAD = 64
_STRIDES = {10: 5}  # wav2vec 2.0's; all narrower convolutions have 2
_HEADS = {
    **{
        f"{DISTILLATION}.projection.{number}.{part}": f"final_proj.{number}.{part}"
        for number in (0, 2, 4, 5)
        for part in ("weight", "bias")
    },
    f"{DISTILLATION}.prototypes.weight": "final_lin.weight",
    f"{DISTILLATION}.prototypes.bias": "final_lin.bias",
    f"{DISTILLATION}.center": "center",
}
_EPS = 1e-7  # that the feature extractor of its training adds to the variance of a waveform


def is_sdhubert(content: object) -> bool:
    """Tell whether what a file of torch's holds is of this layout."""
    weights = content.get("state_dict") if isinstance(content, dict) else None
    return isinstance(weights, dict) and SDHUBERT.aggregator in _stripped(weights)


def read_sdhubert(path: Path, content: dict[str, Any]) -> EncoderCheckpoint:
    """Return the encoder in what a file holds.

    Raises:
        InputError: it isn't whole.
    """
    found = _stripped(content["state_dict"])
    own = {name.removeprefix(_BACKBONE): value for name, value in found.items() if name.startswith(_BACKBONE)}
    own[SDHUBERT.aggregator] = found[SDHUBERT.aggregator]
    own.pop(_MASK, None)  # the one that is used is beside the backbone
    shapes = {name: tuple(value.shape) for name, value in own.items()}
    config = _config(path, shapes, attributes(content.get("config")))
    tensors = gathered(path, config, SDHUBERT, Tensors.of(own), shapes)
    heads = {ours: found[theirs] for ours, theirs in _HEADS.items() if theirs in found}
    if _MASK in found:
        heads[MASK_EMBEDDING] = found[_MASK]
    return EncoderCheckpoint(path, "sdhubert", config, tensors.tensors, Tensors.of(heads), tensors.others)


def sdhubert_content(checkpoint: EncoderCheckpoint) -> dict[str, Any]:
    """Return what a file of this layout holds: plain values and tensors alone.

    Raises:
        InputError: the encoder is of a kind that SD-HuBERT's code hasn't.
    """
    config, heads = checkpoint.config, checkpoint.heads
    if not config.aggregator or config.pre_norm or config.convolution_norm != "group" or config.convolution_bias:
        raise InputError("SD-HuBERT's code takes a base HuBERT with an aggregator, and this encoder is none: take --to vocable")
    if missing := [name for name in (*_HEADS, MASK_EMBEDDING) if name not in heads]:
        raise InputError(f"SD-HuBERT's code takes {missing[0]}, which this encoder hasn't: take --to vocable")
    backbone = {
        name: part.clone()
        for ours, theirs in SDHUBERT.names(config).items()
        for name, part in zip(theirs, checkpoint.tensors[ours].chunk(len(theirs)), strict=True)
    }
    aggregator = backbone.pop(SDHUBERT.aggregator)
    final = heads[f"{DISTILLATION}.prototypes.weight"].shape[0]
    beside: dict[str, Tensor] = {
        SDHUBERT.aggregator: aggregator,
        _MASK: heads[MASK_EMBEDDING].clone(),
        f"{_BACKBONE}{_MASK}": heads[MASK_EMBEDDING].clone(),
        "temp_s": torch.tensor([0.2]),
        "temp_t": torch.tensor([0.05]),
        "center_momentum_": torch.tensor(0.9),
        "layernorm.weight": torch.ones(final),  # which the authors' code makes, and never uses
        "layernorm.bias": torch.zeros(final),
    }
    weights = beside | {f"{_BACKBONE}{name}": tensor for name, tensor in backbone.items()}
    weights |= {theirs: heads[ours].clone() for ours, theirs in _HEADS.items()}
    settings = {  # what the authors' loader asks for; of the training, its defaults
        "speech_upstream": "facebook/hubert-base-ls960",
        "reinit_layers": [9, 10, 11],
        "ema_decay": 0.999,
        "final_dim": final,
        "freeze_extractor": True,
        "freeze_pos_embedding": True,
        "center_momentum": 0.9,
        "perturb_teacher": True,
        "gamma": 0.1,
        "lr": 1e-4,
        "T_max": 200_000,
        "loss_coefs": {"distill_loss": 1},
        "heads": config.heads,
    }
    return {"config": settings, "state_dict": weights}


def _stripped(weights: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return tensors by what is behind the last `net.` of their names, as the authors' export has them."""
    return {name.rpartition("net.")[2]: value for name, value in weights.items() if isinstance(value, Tensor)}


def _config(path: Path, shapes: Mapping[str, tuple[int, ...]], settings: Mapping[str, Any]) -> EncoderConfig:
    def shape_of(name: str, sizes: int) -> tuple[int, ...]:
        shape = shapes.get(name, ())
        if len(shape) != sizes:
            raise InputError(f"{path} lacks the tensor {name}, or has it in another form: copy it again")
        return shape

    convolutions: list[Convolution] = []
    while (name := f"feature_extractor.conv_layers.{len(convolutions)}.conv.weight") in shapes:
        channels, _, width = shape_of(name, 3)
        convolutions.append(Convolution(channels, width, _STRIDES.get(width, 2)))
    dim, _ = shape_of("feature_projection.projection.weight", 2)
    numbers = [int(found[1]) for name in shapes if (found := re.match(r"encoder\.layers\.(\d{1,3})\.", name))]
    directions = [shapes[name] for _, part in SDHUBERT.weight_norm if (name := f"{SDHUBERT.positions}.{part}") in shapes]
    if not numbers or not directions or len(directions[0]) != 3:
        raise InputError(f"{path} lacks layers, or the positional convolution: copy it again")
    ffn, _ = shape_of("encoder.layers.0.feed_forward.intermediate_dense.weight", 2)
    heads = settings.get("heads", max(1, dim // _VALUES_OF_HEAD))
    return EncoderConfig(
        family="sdhubert",
        layers=max(numbers) + 1,
        dim=dim,
        ffn_dim=ffn,
        heads=heads,
        pre_norm=False,
        convolution_norm="group",
        convolutions=tuple(convolutions),
        position_width=directions[0][2],
        position_groups=dim // max(1, directions[0][1]),
        aggregator=True,
        waveform_normalization="utterance",
        waveform_eps=_EPS,
    )
