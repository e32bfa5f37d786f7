"""An encoder in a file: its configuration, its tensors by our names, and what was trained with it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import torch
from torch import Tensor

from vocable.artefacts.headers import canonical_json
from vocable.checkpoints.tensor_names import MASK_EMBEDDING, Layout, gains_of
from vocable.errors import InputError
from vocable.models.config import EncoderConfig
from vocable.models.encoder import Encoder


class Tensors(Mapping[str, Tensor]):
    """Named tensors, read as float32 when they are asked for."""

    def __init__(self, readers: Mapping[str, Callable[[], Tensor]]) -> None:
        self._readers = dict(readers)

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> Tensors:
        """Return tensors that are at hand."""
        return cls(readers_of(tensors))

    def __getitem__(self, name: str) -> Tensor:
        return self._readers[name]().detach().to(torch.float32).contiguous()

    def __contains__(self, name: object) -> bool:
        return name in self._readers  # a Mapping's own would read the tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)

    def joined(self, others: Tensors) -> Tensors:
        """Return these tensors and others."""
        return Tensors({**self._readers, **others._readers})

    def renamed(self, names: Mapping[str, tuple[str, ...]]) -> Tensors:
        """Return tensors under other names, each of one or several of these."""

        def reader(parts: tuple[str, ...]) -> Callable[[], Tensor]:
            return lambda: self[parts[0]] if len(parts) == 1 else torch.cat([self[part] for part in parts])

        return Tensors({name: reader(parts) for name, parts in names.items()})


def readers_of(tensors: Mapping[str, Tensor]) -> dict[str, Callable[[], Tensor]]:
    """Return readers of tensors that are at hand."""
    return {name: partial(_itself, tensor) for name, tensor in tensors.items()}


def _itself(tensor: Tensor) -> Tensor:
    return tensor


@dataclass(frozen=True)
class EncoderCheckpoint:
    """An encoder, not yet built."""

    path: Path
    layout: str
    """vocable, transformers, fairseq, s3prl, torchaudio, wavlm, melhubert or sdhubert."""
    config: EncoderConfig
    tensors: Tensors
    """The encoder's, by the names of its parameters."""
    heads: Tensors = field(default_factory=lambda: Tensors({}))
    """What pretraining uses beside it: mask embedding, label embeddings, final projection."""
    ignored: tuple[str, ...] = ()
    """Tensors in the file that are neither."""

    @classmethod
    def of(cls, encoder: Encoder, heads: Mapping[str, Tensor] | None = None) -> EncoderCheckpoint:
        """Return an encoder that is in memory, to be written."""
        tensors = {name: tensor.detach() for name, tensor in encoder.state_dict().items()}
        mask = {MASK_EMBEDDING: tensors.pop(MASK_EMBEDDING)} if MASK_EMBEDDING in tensors else {}
        return cls(Path(), "vocable", encoder.config, Tensors.of(tensors), Tensors.of({**mask, **(heads or {})}))

    @cached_property
    def digest(self) -> str:
        """SHA-256 over names, shapes and float32 bytes of the encoder's tensors, heads excluded: the same in every layout."""
        hasher = hashlib.sha256()
        for name in sorted(self.tensors):
            tensor = self.tensors[name]
            hasher.update(f"{name} {canonical_json(list(tensor.shape))}\n".encode())
            hasher.update(tensor.numpy().astype("<f4", copy=False).data)
        return hasher.hexdigest()

    @property
    def bytes(self) -> int:
        """What the encoder's values take as float32."""
        return 4 * sum(math.prod(shape) for shape in expected_shapes(self.config).values())

    def build(self, layers: int | None = None) -> Encoder:
        """Return the encoder, or its first `layers` blocks, in evaluation mode and float32.

        Raises:
            InputError: a tensor isn't finite, or the statistics of log-mel frames aren't known.
        """
        self.require_statistics()
        with torch.device("meta"):
            encoder = Encoder(self.config, layers)
        wanted = encoder.state_dict()
        state = {name: self.tensors[name] for name in wanted if name in self.tensors}
        if MASK_EMBEDDING in wanted:
            state[MASK_EMBEDDING] = self.heads[MASK_EMBEDDING] if MASK_EMBEDDING in self.heads else torch.zeros(self.config.dim)
        for name, tensor in state.items():
            if not torch.isfinite(tensor).all():
                raise InputError(
                    f"{self.path} holds {name} with values that are not finite: copy it again, or take another checkpoint"
                )
        encoder.load_state_dict(state, assign=True)
        return encoder.eval().requires_grad_(False)

    def require_statistics(self) -> None:
        """Refuse an encoder whose log-mel frames are to be normalised by statistics that its file doesn't hold.

        Raises:
            InputError: says which file to give.
        """
        mel = self.config.mel
        if mel is not None and mel.normalization == "corpus" and not set(MEL_STATISTICS) <= set(self.tensors):
            raise InputError(
                f"{self.path} doesn't hold the mean and deviation of the corpus it was trained on, without which its frames mean "
                "nothing: give --mean-std with that corpus's file, such as libri-360-mean-std.npy"
            )


MEL_STATISTICS = ("mel_mean", "mel_std")
"""Of the bins of log-mel frames, where an encoder normalises them as the corpus it was trained on."""


def expected_shapes(config: EncoderConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor of an encoder, by our names."""
    with torch.device("meta"):
        encoder = Encoder(config)
    return {name: tuple(tensor.shape) for name, tensor in encoder.state_dict().items() if name != MASK_EMBEDDING}


def gathered(path: Path, config: EncoderConfig, layout: Layout, found: Tensors, shapes: Mapping[str, tuple[int, ...]]) -> Found:
    """Return an encoder's tensors out of a file's, by our names.

    Args:
        path: of the file, for messages.
        config: of the encoder.
        layout: how the file names tensors.
        found: the file's tensors.
        shapes: of each of them.

    Raises:
        InputError: one is missing, or of another shape than the configuration says.
    """
    prefix = prefix_of(layout, found)
    names = {
        ours: tuple(f"{prefix}{part}" for part in parts)
        for ours, parts in layout.names(config, gains_of(layout, found, prefix)).items()
    }
    for ours, shape in expected_shapes(config).items():
        if ours in MEL_STATISTICS:
            continue  # in no foreign file
        parts = names[ours]
        if missing := [part for part in parts if part not in found]:
            raise InputError(f"{path} lacks the tensor {missing[0]}, which an encoder of its configuration has: copy it again")
        of_part = (shape[0] // len(parts), *shape[1:])
        for part in parts:
            if tuple(shapes[part]) != of_part:
                raise InputError(
                    f"{path} has {part} of shape {tuple(shapes[part])}, but its configuration says {of_part}: "
                    "give the configuration that belongs to it"
                )
    used = {part for parts in names.values() for part in parts}
    others = tuple(sorted(set(found) - used))
    own = tuple(f"{prefix}{layout.block.format(i=i)}." for i in range(config.layers))
    if unknown := [name for name in others if name.startswith(own)]:
        raise InputError(f"{path} has {unknown[0]}, a part of its layers that isn't known here: take another checkpoint")
    return Found(found.renamed(names), prefix, others)


@dataclass(frozen=True)
class Found:
    """An encoder's tensors, and what else there was in the file."""

    tensors: Tensors
    prefix: str
    others: tuple[str, ...]


def prefix_of(layout: Layout, names: Mapping[str, object]) -> str:
    """Return what stands before all names of an encoder's tensors in a file."""
    first = f"{layout.positions}.bias"
    return next((prefix for prefix in ("", *layout.prefixes) if f"{prefix}{first}" in names), "")
