"""HuBERT, wav2vec 2.0 and WavLM as transformers keeps them: a folder with a configuration and weights, read and written."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from vocable.artefacts.headers import Header, read_header
from vocable.checkpoints.encoder_checkpoint import EncoderCheckpoint, Tensors, gathered, readers_of
from vocable.checkpoints.tensor_names import MASK_EMBEDDING, TRANSFORMERS
from vocable.checkpoints.torch_files import read_torch_file
from vocable.errors import InputError, UnknownNormalizationError
from vocable.models.config import Convolution, EncoderConfig, RelativePositions, WaveformNormalization

_FAMILIES = {"hubert": "hubert", "wav2vec2": "wav2vec2", "wavlm": "wavlm"}
_ONLY = {"hidden_act": "gelu", "feat_extract_activation": "gelu", "conv_pos_batch_norm": False, "adapter_attn_dim": None}
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
HEADS = "pretraining_heads.safetensors"
"""Where we keep what transformers has no place for, and reads over."""

_EPS = 1e-7  # that its feature extractor adds to the variance of a waveform


def read_transformers(folder: Path, normalization: WaveformNormalization | None) -> EncoderCheckpoint:
    """Return the encoder in a folder.

    Args:
        folder: with config.json, model.safetensors or pytorch_model.bin (or shards of one), and preprocessor_config.json.
        normalization: of waveforms, for folders that don't say.

    Raises:
        InputError: it holds something else, or isn't whole.
        UnsafeFileError: its weights are a pickle that asks for more than tensors.
    """
    header = read_header(folder / "config.json")
    config = _config(folder, header, normalization)
    readers, shapes = _weights(folder)
    found = gathered(folder, config, TRANSFORMERS, Tensors(readers), shapes)
    mask = f"{found.prefix}{TRANSFORMERS.mask_embedding}"
    beside = safetensors_weights(folder / HEADS)[0] if (folder / HEADS).is_file() else {}
    heads = Tensors(({MASK_EMBEDDING: readers[mask]} if mask in readers else {}) | beside)
    return EncoderCheckpoint(
        folder, "transformers", config, found.tensors, heads, tuple(name for name in found.others if name != mask)
    )


def transformers_content(checkpoint: EncoderCheckpoint) -> tuple[Header, Header, dict[str, Tensor]]:
    """Return config.json, preprocessor_config.json and the tensors that transformers loads an encoder from."""
    config = checkpoint.config
    tensors = {
        name: part.contiguous()
        for ours, theirs in TRANSFORMERS.names(config).items()
        for name, part in zip(theirs, checkpoint.tensors[ours].chunk(len(theirs)), strict=True)
    }
    if MASK_EMBEDDING in checkpoint.heads:
        tensors[TRANSFORMERS.mask_embedding] = checkpoint.heads[MASK_EMBEDDING]
    model = {"hubert": "HubertModel", "wav2vec2": "Wav2Vec2Model", "wavlm": "WavLMModel"}[config.family]
    header: Header = {
        "architectures": [model],
        "model_type": config.family,
        "hidden_size": config.dim,
        "intermediate_size": config.ffn_dim,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "do_stable_layer_norm": config.pre_norm,
        "feat_extract_norm": config.convolution_norm,
        "feat_proj_layer_norm": config.projection_norm,
        "conv_dim": [item.channels for item in config.convolutions],
        "conv_kernel": [item.width for item in config.convolutions],
        "conv_stride": [item.stride for item in config.convolutions],
        "conv_bias": config.convolution_bias,
        "num_feat_extract_layers": len(config.convolutions),
        "num_conv_pos_embeddings": config.position_width,
        "num_conv_pos_embedding_groups": config.position_groups,
        "layer_norm_eps": config.norm_eps,
        "hidden_act": "gelu",
        "feat_extract_activation": "gelu",
        "torch_dtype": "float32",
    }
    if config.waveform_eps != _EPS:
        header["waveform_eps"] = config.waveform_eps  # ours; transformers' own is always the one it is without
    if config.relative_positions is not None:
        header |= {
            "num_buckets": config.relative_positions.buckets,
            "max_bucket_distance": config.relative_positions.max_distance,
        }
    if MASK_EMBEDDING not in checkpoint.heads:
        header |= {"mask_time_prob": 0.0, "mask_feature_prob": 0.0}
    preprocessor: Header = {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "do_normalize": config.waveform_normalization == "utterance",
        "feature_size": 1,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": config.convolution_norm == "layer",
        "sampling_rate": config.sample_rate,
    }
    return header, preprocessor, tensors


def _config(folder: Path, header: Header, normalization: WaveformNormalization | None) -> EncoderConfig:
    where = folder / "config.json"
    family = _FAMILIES.get(str(header.get("model_type")))
    if family is None:
        raise InputError(f"{where} is of a model of type {header.get('model_type')!r}: give a HuBERT, wav2vec 2.0 or WavLM model")
    for name, allowed in _ONLY.items():
        if header.get(name, allowed) != allowed:
            raise InputError(f"{where} is of a kind that isn't known here: its {name} is {header[name]!r}; take another model")
    rate, normalized = _preprocessor(folder, normalization)
    try:
        shapes = zip(header["conv_dim"], header["conv_kernel"], header["conv_stride"], strict=True)
        return EncoderConfig(
            family=family,  # type: ignore[arg-type]
            layers=header["num_hidden_layers"],
            dim=header["hidden_size"],
            ffn_dim=header["intermediate_size"],
            heads=header["num_attention_heads"],
            pre_norm=header.get("do_stable_layer_norm", False),
            convolution_norm=header.get("feat_extract_norm", "group"),
            convolutions=tuple(Convolution(*shape) for shape in shapes),
            convolution_bias=header.get("conv_bias", False),
            projection_norm=header.get("feat_proj_layer_norm", True) if family == "hubert" else True,
            position_width=header.get("num_conv_pos_embeddings", 128),
            position_groups=header.get("num_conv_pos_embedding_groups", 16),
            relative_positions=_positions(header) if family == "wavlm" else None,
            norm_eps=header.get("layer_norm_eps", 1e-5),
            waveform_normalization=normalized,
            waveform_eps=header.get("waveform_eps", _EPS),
            sample_rate=rate,
        )
    except KeyError as error:
        raise InputError(f"{where} doesn't say its {error.args[0]}: copy it again") from error
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    except (TypeError, ValueError) as error:
        raise InputError(f"{where} can't be read ({error}): copy it again") from error


def _positions(header: Header) -> RelativePositions:
    return RelativePositions(header.get("num_buckets", 320), header.get("max_bucket_distance", 800))


def _preprocessor(folder: Path, normalization: WaveformNormalization | None) -> tuple[int, WaveformNormalization]:
    path = folder / "preprocessor_config.json"
    header = read_header(path) if path.is_file() else {}
    if normalization is None:
        said = header.get("do_normalize")
        if not isinstance(said, bool):
            raise UnknownNormalizationError(folder, "preprocessor_config.json has no do_normalize")
        normalization = "utterance" if said else "none"
    rate = header.get("sampling_rate", 16000)
    return rate if isinstance(rate, int) else 16000, normalization


def _weights(folder: Path) -> tuple[dict[str, Callable[[], Tensor]], dict[str, tuple[int, ...]]]:
    """Return readers and shapes of a folder's tensors, safetensors before pickles."""
    for name in _WEIGHTS:
        if (folder / name).is_file():
            return _file_weights(folder / name)
        index = folder / f"{name}.index.json"
        if index.is_file():
            return _shards(index)
    raise InputError(f"{folder} holds no weights: {' or '.join(_WEIGHTS)} should stand beside its config.json")


def _shards(index: Path) -> tuple[dict[str, Callable[[], Tensor]], dict[str, tuple[int, ...]]]:
    named = read_header(index).get("weight_map")
    files = (
        sorted(set(named.values())) if isinstance(named, dict) and all(isinstance(item, str) for item in named.values()) else []
    )
    if not files or any("/" in name or "\\" in name for name in files):
        raise InputError(f"{index} doesn't say which files the weights are in: copy it again")
    readers: dict[str, Callable[[], Tensor]] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for name in files:
        if not (index.parent / name).is_file():
            raise InputError(f"{index.parent / name} isn't there, though {index.name} names it: copy it too")
        more, sizes = _file_weights(index.parent / name)
        readers |= more
        shapes |= sizes
    return readers, shapes


def _file_weights(path: Path) -> tuple[dict[str, Callable[[], Tensor]], dict[str, tuple[int, ...]]]:
    if path.suffix == ".safetensors":
        return safetensors_weights(path)
    content = read_torch_file(path)
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no tensors by name: copy it again")
    tensors = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    return readers_of(tensors), {name: tuple(value.shape) for name, value in tensors.items()}


def safetensors_weights(path: Path) -> tuple[dict[str, Callable[[], Tensor]], dict[str, tuple[int, ...]]]:
    """Return readers and shapes of a safetensors file's tensors; each is read when its reader is called.

    Raises:
        InputError: the file is cut short, or is something else.
    """
    try:
        file: Any = safe_open(path, framework="pt")
        names = list(file.keys())
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
    except SafetensorError as error:
        raise InputError(f"{path} is not a whole safetensors file ({error}): copy it again") from error
    return {name: partial(file.get_tensor, name) for name in names}, shapes
