"""Detokenizers and vocoders in files: ours, and those of SEF-MK and knn-vc, read without running anything in them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from vocable.artefacts.feature_spec import FeatureSpec
from vocable.artefacts.headers import OBJECT, Header, digest_of, digest_of_array, naming, read_field
from vocable.artefacts.tensors import is_safetensors, read_tensors, write_tensors
from vocable.checkpoints.layouts import DETOKENIZER
from vocable.checkpoints.torch_files import attributes, read_torch_file
from vocable.errors import InputError
from vocable.models.conformer import Conformer, ConformerConfig
from vocable.models.vocoder import Vocoder, VocoderConfig
from vocable.models.weight_norm import folded_weight

DETOKENIZER_FILE, VOCODER_FILE = "detokenizer.safetensors", "vocoder.safetensors"
"""In the folder of a training's model."""
Module = TypeVar("Module", bound=nn.Module)
_CONFORMER = {
    **{
        f"{ours}.{part}.{kind}": f"{theirs}.sequential.{number}.{kind}"
        for ours, theirs in (("first_feed_forward", "ffn1"), ("second_feed_forward", "ffn2"))
        for part, number in (("norm", 0), ("inner", 1), ("outer", 4))
        for kind in ("weight", "bias")
    },
    **{
        f"{ours}.{kind}": f"{theirs}.{kind}"
        for ours, theirs in (
            ("attention_norm", "self_attn_layer_norm"),
            ("attention.output", "self_attn.out_proj"),
            ("convolution.norm", "conv_module.layer_norm"),
            ("convolution.gated", "conv_module.sequential.0"),
            ("convolution.depthwise", "conv_module.sequential.2"),
            ("convolution.batch_norm", "conv_module.sequential.3"),
            ("convolution.outer", "conv_module.sequential.5"),
            ("norm", "final_layer_norm"),
        )
        for kind in ("weight", "bias")
    },
    "attention.query_key_value.weight": "self_attn.in_proj_weight",
    "attention.query_key_value.bias": "self_attn.in_proj_bias",
    "convolution.batch_norm.running_mean": "conv_module.sequential.3.running_mean",
    "convolution.batch_norm.running_var": "conv_module.sequential.3.running_var",
}
"""Our names within a layer, and torchaudio's."""
_VOCODER = (("projection", "lin_pre"), ("first", "conv_pre"), ("last", "conv_post"))
_SCALES = ("weight_g", "parametrizations.weight.original0"), ("weight_v", "parametrizations.weight.original1")
_COUNTER = "num_batches_tracked"  # which says nothing where batch norm has a momentum, and is left out
_HEADS = 16  # of SEF-MK's, where a file doesn't say it
_CONVOLVED_ONE = ("convolution.gated.weight", "convolution.outer.weight")


@dataclass(frozen=True)
class DetokenizerCheckpoint:
    """A conformer that makes frames of centroids, and a vocoder that makes waveforms of frames; either may be missing."""

    path: Path
    conformer: ConformerConfig | None
    vocoder: VocoderConfig | None
    tensors: Mapping[str, Tensor]
    """`conformer.*` and `vocoder.*`, by the names of our parameters."""
    spec: FeatureSpec | None = None
    """What frames they are for, where the file says it."""

    def require_conformer(self) -> ConformerConfig:
        """Return the conformer's shape.

        Raises:
            InputError: the file has none.
        """
        if self.conformer is None:
            raise InputError(f"{self.path} holds a vocoder alone: give --model one with a Conformer, and this as --vocoder")
        return self.conformer

    def require_vocoder(self) -> VocoderConfig:
        """Return the vocoder's shape.

        Raises:
            InputError: the file has none.
        """
        if self.vocoder is None:
            raise InputError(f"{self.path} holds no vocoder: give one with --vocoder, such as knn-vc's g_02500000.pt")
        return self.vocoder

    def build_conformer(self) -> Conformer:
        """Return the conformer.

        Raises:
            InputError: the file has none, or its weights are of another shape.
        """
        config = self.require_conformer()
        self.check()
        return self._loaded(Conformer(config), "conformer")

    def build_vocoder(self) -> Vocoder:
        """Return the vocoder.

        Raises:
            InputError: the file has none, or its weights are of another shape.
        """
        config = self.require_vocoder()
        self.check()
        return self._loaded(Vocoder(config), "vocoder")

    @property
    def digest(self) -> str:
        """SHA-256 of all weights by name, and of both shapes."""
        tensors = {name: digest_of_array(tensor.numpy()) for name, tensor in sorted(self.tensors.items())}
        return digest_of([_header(self.conformer, self.vocoder), tensors])

    def check(self) -> None:
        """Refuse weights of other names or shapes than the networks have, without building these.

        Raises:
            InputError: names the first that is wrong.
        """
        with torch.device("meta"):
            if self.conformer is not None:
                self._own(Conformer(self.conformer), "conformer")
            if self.vocoder is not None:
                self._own(Vocoder(self.vocoder), "vocoder")

    def _loaded(self, module: Module, prefix: str) -> Module:
        own = self._own(module, prefix)
        for name, tensor in own.items():
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                raise InputError(f"{self.path} has numbers in {prefix}.{name} that aren't finite: copy it again")
        module.load_state_dict(own)
        return module.eval()

    def _own(self, module: nn.Module, prefix: str) -> dict[str, Tensor]:
        """Return the weights of a network, which have its names and shapes."""
        own = {name.removeprefix(f"{prefix}."): tensor for name, tensor in self.tensors.items() if name.startswith(f"{prefix}.")}
        for name, tensor in module.state_dict().items():
            if name.endswith(_COUNTER):
                own[name] = tensor
            if name not in own:
                raise InputError(f"{self.path} lacks {prefix}.{name}: it is not whole; copy it again")
            if own[name].shape != tensor.shape:
                raise InputError(
                    f"{self.path} has {prefix}.{name} of shape {tuple(own[name].shape)}, but {tuple(tensor.shape)} goes with the "
                    "other sizes: it is of another model, or damaged"
                )
        return own


def read_detokenizer(path: str | Path) -> DetokenizerCheckpoint:
    """Read a detokenizer with or without its vocoder, or a vocoder: ours, SEF-MK's, or knn-vc's.

    Raises:
        InputError: there is no such file, or it is none of them.
        UnsafeFileError: it asks for code to be run.
    """
    path = Path(path)
    if path.is_dir():
        path = next(
            (path / name for name in (DETOKENIZER_FILE, VOCODER_FILE) if (path / name).is_file()), path / DETOKENIZER_FILE
        )
    if not path.is_file():
        raise InputError(f"{path}: there is no such file; give the checkpoint of a detokenizer")
    if is_safetensors(path):
        return _read_own(path)
    content = attributes(read_torch_file(path))
    weights = content
    for key in ("model_state_dict", "generator"):
        if isinstance(content.get(key), dict):
            weights = content[key]
    tensors = {name: tensor.detach().float() for name, tensor in weights.items() if isinstance(tensor, Tensor)}
    said = attributes(content.get("extra", {})).get("model_config", {}) if isinstance(content.get("extra"), dict) else {}
    found = dict(_conformer_tensors(tensors)), dict(_vocoder_tensors(path, tensors))
    if not found[0] and not found[1]:
        raise InputError(f"{path} holds neither a Conformer nor a HiFi-GAN: give SEF-MK's or knn-vc's checkpoint, or one of ours")
    conformer = _conformer_config(path, found[0], said if isinstance(said, dict) else {}) if found[0] else None
    vocoder = _vocoder_config(path, found[1]) if found[1] else None
    return DetokenizerCheckpoint(path, conformer, vocoder, {**found[0], **found[1]})


def write_detokenizer(checkpoint: DetokenizerCheckpoint, path: Path) -> None:
    """Write a detokenizer as one `.safetensors` file."""
    header = {
        **_header(checkpoint.conformer, checkpoint.vocoder),
        "features": None if checkpoint.spec is None else checkpoint.spec.to_json(),
    }
    write_tensors(
        path,
        {name: tensor.numpy() for name, tensor in sorted(checkpoint.tensors.items()) if not name.endswith(_COUNTER)},
        {"format": DETOKENIZER, **header},
    )


def _header(conformer: ConformerConfig | None, vocoder: VocoderConfig | None) -> Header:
    shape = None if vocoder is None else asdict(vocoder)
    if shape is not None and not shape["source"]:
        del shape["source"]  # files, and their digests, stay what they were before there were sources
    return {"conformer": None if conformer is None else asdict(conformer), "vocoder": shape}


def _read_own(path: Path) -> DetokenizerCheckpoint:
    arrays, header = read_tensors(path, DETOKENIZER)
    shapes = [read_field(path, header, name, OBJECT.or_null()) for name in ("conformer", "vocoder")]
    features = read_field(path, header, "features", OBJECT.or_null())
    with naming(path):
        try:
            conformer = None if shapes[0] is None else ConformerConfig(**shapes[0])
            vocoder = None if shapes[1] is None else VocoderConfig(**_tuples(shapes[1]))
        except TypeError as error:
            raise InputError(f"its header describes no detokenizer ({error}): make it again") from error
        spec = None if features is None else FeatureSpec.from_json(features)
    return DetokenizerCheckpoint(
        path, conformer, vocoder, {name: torch.from_numpy(array) for name, array in arrays.items()}, spec
    )


def _tuples(values: Header) -> dict[str, Any]:
    def of(value: Any) -> Any:
        return tuple(of(item) for item in value) if isinstance(value, list) else value

    return {name: of(value) for name, value in values.items()}


def _conformer_tensors(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    theirs = {theirs: ours for ours, theirs in _CONFORMER.items()}
    for name, tensor in tensors.items():
        found = re.fullmatch(r"(?:conformer\.)?conformer_layers\.(\d+)\.(.+)", name)
        if found is not None and (ours := theirs.get(found[2])) is not None:
            value = tensor[..., 0] if ours in _CONVOLVED_ONE and tensor.ndim == 3 else tensor
            yield f"conformer.layers.{found[1]}.{ours}", value.contiguous()


def _conformer_config(path: Path, tensors: Mapping[str, Tensor], said: Mapping[str, Any]) -> ConformerConfig:
    numbers = {int(name.split(".")[2]) for name in tensors}
    inner = tensors.get("conformer.layers.0.first_feed_forward.inner.weight")
    depthwise = tensors.get("conformer.layers.0.convolution.depthwise.weight")
    if inner is None or depthwise is None or inner.ndim != 2 or depthwise.ndim != 3 or numbers != set(range(len(numbers))):
        raise InputError(f"{path} lacks layers of its Conformer: it is not whole; copy it again")
    heads = said.get("conformer_num_heads", _HEADS)
    dropout = said.get("dropout", 0.1)
    if not isinstance(heads, int) or not isinstance(dropout, (int, float)):
        raise InputError(f"{path} says conformer_num_heads {heads!r} and dropout {dropout!r}: numbers are needed")
    with naming(path):
        return ConformerConfig(
            dim=inner.shape[1],
            heads=heads,
            ffn_dim=inner.shape[0],
            layers=len(numbers),
            kernel=depthwise.shape[2],
            dropout=dropout,
        )


def _vocoder_tensors(path: Path, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    own = {re.sub(r"^(hifi\.model|hifi|generator)\.", "", name): tensor for name, tensor in tensors.items()}
    if "conv_pre.bias" not in own:
        return
    for name in {_module(name) for name in own if _ours(_module(name)) is not None}:
        ours = f"vocoder.{_ours(name)}"
        (scales, directions) = ([f"{name}.{kind}" for kind in kinds if f"{name}.{kind}" in own] for kinds in _SCALES)
        if scales and directions:
            yield f"{ours}.weight", folded_weight(own[scales[0]], own[directions[0]])
        elif f"{name}.weight" in own:
            yield f"{ours}.weight", own[f"{name}.weight"]
        else:
            raise InputError(f"{path} lacks {name}.weight of its vocoder: it is not whole; copy it again")
        if f"{name}.bias" in own:
            yield f"{ours}.bias", own[f"{name}.bias"]


def _module(name: str) -> str:
    return re.sub(r"\.(bias|weight|weight_g|weight_v|parametrizations\.weight\.original[01])$", "", name)


def _ours(module: str) -> str | None:
    """Return our name of a vocoder's module, whose blocks are counted over all stages there."""
    for ours, theirs in _VOCODER:
        if module == theirs:
            return ours
    if (found := re.fullmatch(r"ups\.(\d+)", module)) is not None:
        return f"stages.{found[1]}.up"
    if (found := re.fullmatch(r"resblocks\.(\d+)\.convs([12])\.(\d+)", module)) is not None:
        stage, block = divmod(int(found[1]), _BLOCKS)
        return f"stages.{stage}.blocks.{block}.{'dilated' if found[2] == '1' else 'plain'}.{found[3]}"
    return None


_BLOCKS = 3  # residual blocks of a stage, in all published vocoders of this family


def _vocoder_config(path: Path, tensors: Mapping[str, Tensor]) -> VocoderConfig:
    """Return a vocoder's shape; rates and dilations, which tensors don't say, are those of all published ones of this family."""
    stages = {int(name.split(".")[2]) for name in tensors if name.startswith("vocoder.stages.")}
    try:
        projection, first = tensors["vocoder.projection.weight"], tensors["vocoder.first.weight"]
        kernels = tuple(int(tensors[f"vocoder.stages.{number}.up.weight"].shape[2]) for number in sorted(stages))
        blocks = tuple(int(tensors[f"vocoder.stages.0.blocks.{number}.dilated.0.weight"].shape[2]) for number in range(_BLOCKS))
        dim, projected, channels = projection.shape[1], projection.shape[0], first.shape[0]
    except (KeyError, IndexError) as error:
        raise InputError(f"{path} lacks parts of its vocoder ({error}): it is not whole; copy it again") from error
    if any(kernel % 2 for kernel in kernels):
        raise InputError(f"{path} has a vocoder with kernels {kernels}, of which rates don't follow: no such one is known")
    with naming(path):
        return VocoderConfig(
            dim=dim, projected=projected, channels=channels, rates=tuple(kernel // 2 for kernel in kernels), kernels=kernels,
            block_kernels=blocks,
        )  # fmt: skip
