"""Convolutions whose weights are directions with lengths (Salimans and Kingma, arXiv 1602.07868), and plain again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

Module = TypeVar("Module", bound=nn.Module)
_LENGTH, _DIRECTION = ".parametrizations.weight.original0", ".parametrizations.weight.original1"
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d)


def with_weight_norm(module: Module) -> Module:
    """Give all convolutions of a module, which is changed, weights of directions with lengths; what it does stays the same."""
    for part in module.modules():
        if isinstance(part, _CONVOLUTIONS):
            weight_norm(part)
    return module


def folded(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a module's tensors by name, with plain weights in place of directions with lengths."""
    found = {}
    for name, tensor in tensors.items():
        if name.endswith(_DIRECTION):
            bare = name.removesuffix(_DIRECTION)
            found[f"{bare}.weight"] = folded_weight(tensors[bare + _LENGTH], tensor)
        elif not name.endswith(_LENGTH):
            found[name] = tensor
    return found


def folded_weight(lengths: Tensor, directions: Tensor) -> Tensor:
    """Return weights, of the shape of `directions`; `lengths` is 1 along the axes that a length is of."""
    others = [axis for axis in range(directions.ndim) if lengths.shape[axis] == 1]
    norms = directions.double().pow(2).sum(dim=others, keepdim=True).sqrt()
    return (directions.double() * (lengths.double() / norms)).float()
