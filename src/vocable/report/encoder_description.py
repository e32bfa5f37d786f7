"""An encoder's checkpoint, described in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vocable.errors import UnknownNormalizationError
from vocable.models.config import base
from vocable.models.cost import multiply_accumulates


def encoder_rows(path: Path) -> tuple[str, dict[str, Any]]:
    """Return what a checkpoint is in a few words, and what it holds, name by name.

    Raises:
        InputError: it is no encoder's.
    """
    from vocable.checkpoints.encoder_checkpoint import MEL_STATISTICS
    from vocable.checkpoints.encoders import read_encoder

    unknown = False
    try:
        found = read_encoder(path)
    except UnknownNormalizationError:
        found, unknown = read_encoder(path, "none"), True
    config, positions = found.config, found.config.relative_positions
    convolved = (
        "layer norm after every convolution" if config.convolution_norm == "layer" else "group norm after the first convolution"
    )
    if (mel := config.mel) is not None:
        together = f", {mel.stacked} together" if mel.stacked > 1 else ""
        convolved = f"log-mel frames of {mel.bins} bins{together}, {_MEL[mel.normalization]}"
        if mel.normalization == "corpus" and not set(MEL_STATISTICS) <= set(found.tensors):
            convolved += "; they aren't in it: --mean-std has to be given"
    size = found.bytes / 4 / 1e6
    rows: dict[str, Any] = {
        "layers": f"{config.layers} of {config.dim} values, {config.heads} heads, {config.ffn_dim} in the feed-forward",
        "norms": f"{'before' if config.pre_norm else 'after'} each part of a layer; {convolved}",
        "frames": f"every {config.hop} samples, of {config.receptive_field}, at {config.sample_rate} Hz",
        "waveforms": "not said whether they are normalised" if unknown else _WAVEFORMS[config.waveform_normalization],
        "parameters": f"{size:,.1f} million without heads",
        "heads": ", ".join(f"{name} {_shape(tuple(found.heads[name].shape))}" for name in found.heads) or "none",
        "digest": found.digest[:12],
    }
    ours, hubert = (multiply_accumulates(item, _SPOKEN) for item in (config, base()))
    rows["cost"] = (
        f"{ours / 1e9:,.2f} billion multiply-accumulates a second of speech, in utterances of {_SPOKEN:g} s: "
        f"{ours / hubert - 1:+.1%} of HuBERT base's {hubert / 1e9:.2f}"
    )
    if positions is not None:
        rows["positions"] = f"gated bias of {positions.buckets} buckets up to {positions.max_distance} frames"
    if found.ignored:
        rows["not used"] = f"{len(found.ignored)} other tensors, such as {found.ignored[0]}"
    return f"a {_FAMILIES[config.family]} encoder in the layout of {_LAYOUTS[found.layout]}", rows


_SPOKEN = 10.0  # seconds
_MEL = {
    "none": "taken as they are",
    "utterance": "normalised over each utterance",
    "corpus": "normalised by the mean and deviation of the corpus it learnt from",
}
_WAVEFORMS = {"none": "taken as they are", "utterance": "each normalised to mean 0 and variance 1"}
_FAMILIES = {"hubert": "HuBERT", "wav2vec2": "wav2vec 2.0", "wavlm": "WavLM", "melhubert": "MelHuBERT", "sdhubert": "SD-HuBERT"}
_LAYOUTS = {
    "vocable": "vocable",
    "transformers": "transformers",
    "fairseq": "fairseq",
    "s3prl": "s3prl",
    "torchaudio": "torchaudio",
    "wavlm": "Microsoft's WavLM",
    "melhubert": "MelHuBERT's authors",
    "sdhubert": "SD-HuBERT's authors",
}


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))
