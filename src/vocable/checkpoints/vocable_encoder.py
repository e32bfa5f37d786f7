"""Our own layout of an encoder: a folder with config.json and model.safetensors."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from vocable.artefacts.headers import OBJECT, Header, naming, read_field, read_header, require_form
from vocable.checkpoints.encoder_checkpoint import EncoderCheckpoint, Tensors, expected_shapes
from vocable.checkpoints.tensor_names import is_head
from vocable.checkpoints.transformers_encoder import safetensors_weights
from vocable.errors import InputError
from vocable.models.config import EncoderConfig

FORM = "vocable.encoder/1"


def read_vocable(folder: Path) -> EncoderCheckpoint:
    """Return the encoder in a folder of ours.

    Raises:
        InputError: it isn't whole, or was written by a newer version.
    """
    where = folder / "config.json"
    header = read_header(where)
    require_form(where, header, FORM)
    with naming(where):
        config = EncoderConfig.from_json(read_field("the header", header, "encoder", OBJECT))
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise InputError(f"{folder} holds no weights: model.safetensors should stand beside its config.json")
    readers, shapes = safetensors_weights(weights)
    for name, shape in expected_shapes(config).items():
        if name not in shapes:
            raise InputError(f"{weights} lacks the tensor {name}, which an encoder of its configuration has: copy it again")
        if shapes[name] != shape:
            raise InputError(f"{weights} has {name} of shape {shapes[name]}, but {where} says {shape}: copy both again")
    heads = Tensors({name: reader for name, reader in readers.items() if is_head(name)})
    own = expected_shapes(config)
    tensors = Tensors({name: readers[name] for name in own})
    ignored = tuple(sorted(set(readers) - set(own) - set(heads)))
    return EncoderCheckpoint(folder, "vocable", config, tensors, heads, ignored)


def vocable_content(checkpoint: EncoderCheckpoint) -> tuple[Header, dict[str, Tensor]]:
    """Return config.json and the tensors of our layout."""
    header: Header = {"format": FORM, "encoder": checkpoint.config.to_json(), "digest": checkpoint.digest}
    tensors = {name: checkpoint.tensors[name] for name in checkpoint.tensors}
    return header, tensors | {name: checkpoint.heads[name] for name in checkpoint.heads}
