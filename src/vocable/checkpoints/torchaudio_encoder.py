"""Encoders as torchaudio keeps them: tensors alone, whose shapes tell the configuration of every model it publishes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from vocable.artefacts.headers import naming
from vocable.checkpoints.encoder_checkpoint import EncoderCheckpoint, Tensors, gathered, prefix_of
from vocable.checkpoints.tensor_names import (
    FINAL_PROJECTION,
    LABEL_EMBEDDINGS,
    MASK_EMBEDDING,
    TORCHAUDIO,
    TORCHAUDIO_WAVLM,
    Layout,
    gains_of,
)
from vocable.errors import InputError, UnknownNormalizationError
from vocable.models.config import CONVOLUTIONS, Convolution, EncoderConfig, RelativePositions, WaveformNormalization

_HEADS = {768: 12, 1024: 16, 1280: 16}  # of the base, large and extra large models, whatever their family


def is_torchaudio(content: object) -> bool:
    """Tell whether what a file of torch's holds is of this layout."""
    return isinstance(content, dict) and any(str(name).endswith(f"{TORCHAUDIO.positions}.bias") for name in content)


def read_torchaudio(path: Path, content: dict[str, Any], normalization: WaveformNormalization | None) -> EncoderCheckpoint:
    """Return the encoder in what a file holds.

    Raises:
        InputError: `normalization` is None, since these files don't say it; or shapes are of no model that torchaudio makes.
    """
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    layout = TORCHAUDIO_WAVLM if any(name.endswith(TORCHAUDIO.gate_scale) for name in tensors) else TORCHAUDIO
    if normalization is None:
        raise UnknownNormalizationError(path)
    try:
        config = _config(path, layout, tensors, normalization)
    except KeyError as error:
        raise InputError(f"{path} lacks the tensor {error.args[0]}: copy it again") from error
    found = gathered(path, config, layout, Tensors.of(tensors), {name: tuple(value.shape) for name, value in tensors.items()})
    heads: dict[str, Tensor] = {}
    named = {
        MASK_EMBEDDING: layout.mask_embedding,
        LABEL_EMBEDDINGS: layout.label_embeddings[0] if layout.label_embeddings else "",
        **{f"{FINAL_PROJECTION}.{part}": f"{layout.final_projection}.{part}" for part in ("weight", "bias")},
    }
    for ours, theirs in named.items():
        if theirs in tensors:
            heads[ours] = tensors[theirs]
    others = tuple(name for name in found.others if name not in named.values())
    if deeper := [name for name in others if f"{found.prefix}{layout.block.partition('{')[0]}" in name]:
        raise InputError(f"{path} has {deeper[0]}, but lacks what belongs to it: copy it again")
    return EncoderCheckpoint(path, "torchaudio", config, found.tensors, Tensors.of(heads), others)


def _config(path: Path, layout: Layout, tensors: dict[str, Tensor], normalization: WaveformNormalization) -> EncoderConfig:
    prefix = prefix_of(layout, tensors)
    convolutions: list[Convolution] = []
    while (name := f"{prefix}{layout.convolution.format(i=len(convolutions))}.weight") in tensors:
        channels, _, width = tensors[name].shape
        stride = CONVOLUTIONS[len(convolutions)].stride if len(convolutions) < len(CONVOLUTIONS) else 0
        convolutions.append(Convolution(channels, width, stride))
    widths = [item.width for item in convolutions]
    if widths != [item.width for item in CONVOLUTIONS]:
        raise InputError(
            f"{path} has convolutions of the widths {widths}, whose strides aren't known: convert it from its source"
        )
    layers = 0
    while f"{prefix}{layout.block.format(i=layers)}.{layout.attention_norm}.weight" in tensors:
        layers += 1
    direction = tensors[f"{prefix}{layout.positions}.{gains_of(layout, tensors, prefix)[1]}"]
    dim = direction.shape[0]
    gated = layout is TORCHAUDIO_WAVLM
    block = layout.block.format(i=0)
    heads = tensors[f"{prefix}{block}.attention.{layout.gate_scale}"].numel() if gated else _HEADS.get(dim)
    if heads is None:
        raise InputError(f"{path} has frames of {dim} values, of no model that torchaudio publishes: convert it from its source")
    norms = f"{prefix}{layout.layer_norm.format(i=1)}.weight" in tensors
    relative = tensors[f"{prefix}{block}.attention.{layout.relative_positions}"].shape[0] if gated else 0
    with naming(path):
        return EncoderConfig(
            family="wavlm" if gated else "hubert" if any(name.startswith("logit_generator") for name in tensors) else "wav2vec2",
            layers=layers,
            dim=dim,
            ffn_dim=tensors[f"{prefix}{block}.{layout.inner}.weight"].shape[0],
            heads=heads,
            pre_norm=norms,
            convolution_norm="layer" if norms else "group",
            convolutions=tuple(convolutions),
            convolution_bias=f"{prefix}{layout.convolution.format(i=0)}.bias" in tensors,
            position_width=direction.shape[2],
            position_groups=dim // direction.shape[1],
            relative_positions=RelativePositions(relative, 800) if gated else None,
            waveform_normalization=normalization,
        )
