"""HuBERT, wav2vec 2.0 and WavLM as fairseq, s3prl and Microsoft write them; and fairseq's layout, written.

What is read: `args` (a Namespace, released models) and `cfg` (a dictionary, omegaconf's or plain) with `model`, and with the
dictionaries of the labels under `task_state`; s3prl's `task_cfg`, `model_cfg`, `model_weight`; WavLM's flat `cfg` with `model`;
models fine-tuned for recognition, whose configuration is within their own.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vocable.checkpoints.encoder_checkpoint import EncoderCheckpoint, Tensors, gathered
from vocable.checkpoints.tensor_names import (
    FAIRSEQ,
    FINAL_PROJECTION,
    LABEL_EMBEDDINGS,
    MASK_EMBEDDING,
    SPECIAL_EMBEDDINGS,
    label_sets,
    of_set,
)
from vocable.checkpoints.torch_files import attributes, plain
from vocable.errors import InputError, UnknownNormalizationError
from vocable.models.config import Convolution, EncoderConfig, RelativePositions, WaveformNormalization

SPECIAL_SYMBOLS = ("<s>", "<pad>", "</s>", "<unk>")
"""What every dictionary of fairseq's begins with: label k is row k + 4."""

_DEFAULT_CONVOLUTIONS = "[(512,10,5)] + [(512,3,2)] * 4 + [(512,2,2)] * 2"
_ONLY = {
    "activation_fn": ("gelu",),
    "layer_type": ("transformer",),
    "pos_enc_type": ("abs",),
    "attn_type": ("", None),
    "conv_pos_batch_norm": (False,),
    "pos_conv_depth": (1,),
    "target_glu": (False,),
}
"""What an encoder here can be; another value is refused."""


def is_fairseq(content: object) -> bool:
    """Tell whether what a file of torch's holds is of this layout."""
    return isinstance(content, dict) and _weights(content) is not None and bool(_settings(content))


def read_fairseq(path: Path, content: dict[str, Any], normalization: WaveformNormalization | None) -> EncoderCheckpoint:
    """Return the encoder in what a file holds.

    Args:
        path: of the file.
        content: what `read_torch_file` returned.
        normalization: of waveforms, for files that don't say.

    Raises:
        InputError: it is of a kind that isn't known here, or isn't whole.
    """
    weights = _weights(content)
    assert weights is not None
    tensors = {name: value for name, value in weights.items() if isinstance(value, Tensor)}
    settings = _settings(content)
    config = _config(path, settings, tensors, normalization)
    found = gathered(path, config, FAIRSEQ, Tensors.of(tensors), {name: tuple(value.shape) for name, value in tensors.items()})
    heads, used = _heads(path, found.prefix, tensors, _label_rows(content))
    others = tuple(name for name in found.others if name not in used)
    layout = "s3prl" if "model_weight" in content else "wavlm" if config.family == "wavlm" else "fairseq"
    return EncoderCheckpoint(path, layout, config, found.tensors, heads, others)


def fairseq_content(checkpoint: EncoderCheckpoint) -> dict[str, Any]:
    """Return what a fairseq file of an encoder holds: plain values and tensors alone.

    Raises:
        InputError: the encoder is of a kind that fairseq hasn't.
    """
    config = checkpoint.config
    model = {
        name: part
        for ours, theirs in FAIRSEQ.names(config).items()
        for name, part in zip(theirs, checkpoint.tensors[ours].chunk(len(theirs)), strict=True)
    }
    heads = checkpoint.heads
    if MASK_EMBEDDING in heads:
        model[FAIRSEQ.mask_embedding] = heads[MASK_EMBEDDING]
    settings = _settings_of(config)
    if config.family == "wavlm":
        return {"cfg": settings, "model": _own(model)}
    task: dict[str, Any] = {
        "_name": "hubert_pretraining",
        "normalize": settings.pop("normalize"),
        "sample_rate": config.sample_rate,
    }
    state: dict[str, Any] = {}
    rows: list[Tensor] = []
    for number in range(label_sets(heads)):
        labels, special = heads[of_set(LABEL_EMBEDDINGS, number)], of_set(SPECIAL_EMBEDDINGS, number)
        rows += [heads[special] if special in heads else labels.new_zeros(len(SPECIAL_SYMBOLS), labels.shape[1]), labels]
    if rows:
        model[FAIRSEQ.label_embeddings[0]] = torch.cat(rows)
        settings["final_dim"] = rows[0].shape[1]
        state |= {"special_symbols": list(SPECIAL_SYMBOLS), "label_rows": [len(labels) for labels in rows[1::2]]}
        settings["untie_final_proj"] = True
    for part in ("weight", "bias"):
        if (name := f"{FINAL_PROJECTION}.{part}") in heads:
            model[f"{FAIRSEQ.final_projection}.{part}"] = heads[name]
    name = "hubert" if config.family == "hubert" else "wav2vec2"
    return {"args": None, "cfg": {"model": {"_name": name, **settings}, "task": task}, "model": _own(model), "task_state": state}


def convolutions_of(text: str) -> tuple[Convolution, ...]:
    """Return the convolutions that an expression such as "[(512,10,5)] + [(512,3,2)] * 4" stands for; nothing is evaluated.

    Raises:
        ValueError: it is no such expression.
    """
    if len(text) > _LONGEST_EXPRESSION:  # Python's parser has limits of its own, and fails beyond them
        raise ValueError(f"convolutions in {len(text)} characters are too many")
    try:
        parsed = ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        raise ValueError(f"convolutions that are no expression: {error}") from error
    return tuple(Convolution(*item) for item in _listed(parsed))


_LONGEST_EXPRESSION = 1000
_MOST_CONVOLUTIONS = 64


def _listed(node: ast.expr) -> list[tuple[int, int, int]]:
    found = None
    if isinstance(node, ast.List):
        found = [_sizes(item) for item in node.elts]
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        found = _listed(node.left) + _listed(node.right)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        times, listed = (node.right, node.left) if isinstance(node.left, (ast.List, ast.BinOp)) else (node.left, node.right)
        if isinstance(times, ast.Constant) and isinstance(times.value, int) and 0 <= times.value <= _MOST_CONVOLUTIONS:
            found = _listed(listed) * times.value
    if found is None or len(found) > _MOST_CONVOLUTIONS:  # a few factors of 64 would fill any memory
        raise ValueError("convolutions are lists of (channels, width, stride), added to each other and multiplied by numbers")
    return found


def _sizes(node: ast.expr) -> tuple[int, int, int]:
    parts = node.elts if isinstance(node, (ast.Tuple, ast.List)) else []
    values = [item.value if isinstance(item, ast.Constant) else None for item in parts]
    if len(values) != 3 or not all(isinstance(value, int) for value in values):
        raise ValueError("a convolution is three numbers: channels, width, stride")
    return values[0], values[1], values[2]  # type: ignore[return-value]


def _weights(content: dict[str, Any]) -> dict[str, Any] | None:
    weights = content.get("model_weight", content.get("model"))
    return weights if isinstance(weights, dict) else None


def _settings(content: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of model and task as one dictionary, those of pretraining where the model is fine-tuned."""
    if "model_cfg" in content:
        return {**attributes(content.get("task_cfg")), **attributes(content["model_cfg"])}
    found = attributes(content.get("cfg")) or attributes(content.get("args"))
    model = found.get("model") if isinstance(found.get("model"), dict) else None
    task = found.get("task") if isinstance(found.get("task"), dict) else {}
    flat: dict[str, Any] = {**(task or {}), **model} if model is not None else found
    inner = attributes(flat.get("w2v_args"))
    if not inner:
        return flat
    return _settings({"cfg": inner}) | ({"normalize": flat["normalize"]} if "normalize" in flat else {})


def _config(
    path: Path, settings: dict[str, Any], tensors: Mapping[str, Tensor], normalization: WaveformNormalization | None
) -> EncoderConfig:
    for name, allowed in _ONLY.items():
        if name in settings and settings[name] not in allowed:
            raise InputError(
                f"{path} is of a kind that isn't known here: its {name} is {settings[name]!r}; take another checkpoint"
            )
    relative = bool(settings.get("relative_position_embedding"))
    if normalization is None:
        normalization = _normalization(path, settings)
    try:
        return EncoderConfig(
            family="wavlm" if relative else "hubert" if _is_hubert(settings, tensors) else "wav2vec2",
            layers=int(settings["encoder_layers"]),
            dim=int(settings["encoder_embed_dim"]),
            ffn_dim=int(settings["encoder_ffn_embed_dim"]),
            heads=int(settings["encoder_attention_heads"]),
            pre_norm=bool(settings.get("layer_norm_first", False)),
            convolution_norm="layer" if settings.get("extractor_mode", "default") == "layer_norm" else "group",
            convolutions=convolutions_of(str(settings.get("conv_feature_layers") or _DEFAULT_CONVOLUTIONS)),
            convolution_bias=bool(settings.get("conv_bias", False)),
            position_width=int(settings.get("conv_pos", 128)),
            position_groups=int(settings.get("conv_pos_groups", 16)),
            relative_positions=RelativePositions(int(settings["num_buckets"]), int(settings["max_distance"]))
            if relative
            else None,
            waveform_normalization=normalization,
            waveform_eps=float(settings.get("waveform_eps", EncoderConfig.waveform_eps)),
            sample_rate=int(settings.get("sample_rate") or 16000),
        )
    except KeyError as error:
        raise InputError(
            f"{path} doesn't say its {error.args[0]}: it is no HuBERT, wav2vec 2.0 or WavLM model; give one"
        ) from error
    except (ValueError, TypeError, OverflowError) as error:
        if isinstance(error, InputError):
            raise InputError(f"{path}: {error}") from error
        raise InputError(f"{path} has a configuration that can't be read ({error}): copy it again") from error


def _normalization(path: Path, settings: dict[str, Any]) -> WaveformNormalization:
    if not isinstance(settings.get("normalize"), bool):
        raise UnknownNormalizationError(path)
    return "utterance" if settings["normalize"] else "none"


def _is_hubert(settings: dict[str, Any], tensors: Mapping[str, Tensor]) -> bool:
    named = str(settings.get("_name") or settings.get("arch") or "")
    return "hubert" in named if named else any(name.startswith("label_embs") for name in tensors)


def _label_rows(content: dict[str, Any]) -> list[tuple[int, int | None]]:
    """Return, for each label set, how many rows of the embeddings are of symbols that are no labels, and how many of labels.

    The former come first. The latter are None where a file doesn't say, and has one set.
    """
    state = attributes(content.get("task_state"))
    if isinstance(state.get("special_symbols"), list):  # ours
        special = len(state["special_symbols"])
        rows = state.get("label_rows")
        return [(special, count) for count in rows] if isinstance(rows, list) else [(special, None)]
    listed = state.get("dictionaries") or [state.get("target_dictionary")]
    dictionaries = listed if isinstance(listed, list) else []
    symbols = [item.get("symbols") if isinstance(item, dict) else None for item in dictionaries]
    if not any(isinstance(item, list) for item in symbols):
        foreign = plain(content.get("dictionaries_symbols"))  # s3prl's
        symbols = foreign if isinstance(foreign, list) else []
    found: list[tuple[int, int | None]] = []
    for own in symbols:
        if isinstance(own, list):
            first = next((at for at, symbol in enumerate(own) if symbol not in SPECIAL_SYMBOLS), len(own))
            found.append((first, len(own) - first))
    if len(found) == 1:
        return [(found[0][0], None)]
    return found or [(len(SPECIAL_SYMBOLS), None)]


def _heads(
    path: Path, prefix: str, tensors: Mapping[str, Tensor], sets: Sequence[tuple[int, int | None]]
) -> tuple[Tensors, set[str]]:
    found: dict[str, Tensor] = {}
    used: set[str] = set()

    def take(theirs: str) -> Tensor | None:
        for name in (f"{prefix}{theirs}", theirs):
            if name in tensors:
                used.add(name)
                return tensors[name]
        return None

    named = {MASK_EMBEDDING: FAIRSEQ.mask_embedding}
    named |= {f"{FINAL_PROJECTION}.{part}": f"{FAIRSEQ.final_projection}.{part}" for part in ("weight", "bias")}
    for ours, theirs in named.items():
        if (tensor := take(theirs)) is not None:
            found[ours] = tensor
    labels = next((made for name in FAIRSEQ.label_embeddings if (made := take(name)) is not None), None)
    if labels is None:
        return Tensors.of(found), used
    wanted = [special + (len(labels) - special if count is None else count) for special, count in sets]
    special_rows = [special for special, _ in sets]
    if labels.ndim != 2 or sum(wanted) != len(labels) or any(map(operator.le, wanted, special_rows)):
        raise InputError(
            f"{path} has label embeddings of shape {tuple(labels.shape)}, of which {sum(special_rows)} are special: copy it again"
        )
    for number, (part, (special, _)) in enumerate(zip(torch.split(labels, wanted), sets, strict=True)):
        found[of_set(LABEL_EMBEDDINGS, number)] = part[special:]
        if part[:special].any():  # zeros are what we write where there were none
            found[of_set(SPECIAL_EMBEDDINGS, number)] = part[:special]
    return Tensors.of(found), used


def _settings_of(config: EncoderConfig) -> dict[str, Any]:
    if config.norm_eps != 1e-5 or not config.projection_norm:
        raise InputError("fairseq has no encoder with such norms: take --to vocable or transformers")
    settings: dict[str, Any] = {
        "extractor_mode": "layer_norm" if config.convolution_norm == "layer" else "default",
        "encoder_layers": config.layers,
        "encoder_embed_dim": config.dim,
        "encoder_ffn_embed_dim": config.ffn_dim,
        "encoder_attention_heads": config.heads,
        "activation_fn": "gelu",
        "layer_norm_first": config.pre_norm,
        "conv_feature_layers": str([(item.channels, item.width, item.stride) for item in config.convolutions]),
        "conv_bias": config.convolution_bias,
        "conv_pos": config.position_width,
        "conv_pos_groups": config.position_groups,
        "normalize": config.waveform_normalization == "utterance",
    }
    if config.waveform_eps != EncoderConfig.waveform_eps:
        settings["waveform_eps"] = config.waveform_eps  # ours; fairseq's is always the one it is without
    if config.relative_positions is not None:
        settings |= {
            "relative_position_embedding": True,
            "num_buckets": config.relative_positions.buckets,
            "max_distance": config.relative_positions.max_distance,
            "gru_rel_pos": True,
        }
    return settings


def _own(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors that are no parts of larger ones, which would be written whole."""
    return {name: tensor.clone() for name, tensor in tensors.items()}
