"""`Conformer`: attention and convolution by turns, from the centroids of frames to the frames (arXiv 2005.08100)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from vocable.errors import InputError
from vocable.models.encoder import LEAST_ROWS

_MOST, _MOST_LAYERS = 1 << 20, 1000  # sizes of which nobody ever had a model


@dataclass(frozen=True, kw_only=True)
class ConformerConfig:
    """The shape of a conformer; by default SEF-MK's, of 290 million parameters.

    Raises:
        InputError: parts don't go together.
    """

    dim: int = 1024
    heads: int = 16
    ffn_dim: int = 4096
    layers: int = 12
    kernel: int = 3
    """Frames that a depthwise convolution sees; odd."""
    dropout: float = 0.1
    features: int | None = None
    """Values of a frame, where these aren't `dim`: linear layers lead in and out."""
    residual: bool = False
    """Whether what is made is added to what was given."""

    @property
    def values(self) -> int:
        """Values of a frame, as it is given and as it is made."""
        return self.dim if self.features is None else self.features

    def __post_init__(self) -> None:
        sizes = (self.dim, self.heads, self.ffn_dim, self.layers, self.kernel, self.values)
        if not all(type(size) is int and 1 <= size <= _MOST for size in sizes) or self.layers > _MOST_LAYERS:
            raise InputError(
                f"a conformer of {self}: all sizes have to be whole numbers from 1 on, and no more than there can be"
            )
        if self.dim % self.heads:
            raise InputError(f"a conformer of {self.dim} values and {self.heads} heads: give a number of heads that divides it")
        if self.kernel % 2 == 0:
            raise InputError(f"a conformer's kernel of {self.kernel}: give an odd number of frames")
        if not 0 <= self.dropout < 1:
            raise InputError(f"a conformer's dropout of {self.dropout}: give 0 or more, and less than 1")


class Conformer(nn.Module):
    """Layers of feed-forward, attention, convolution and feed-forward, without positions.

    Utterances go through it one after another in one stream: linear layers and norms take all rows, attention and convolutions
    see each utterance at its own length. So nothing is padded, and what becomes of an utterance doesn't depend on the others.
    (What torchaudio's makes of padded batches does: padding comes in through the convolutions.)

    Args:
        config: its shape.
    """

    def __init__(self, config: ConformerConfig) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.layers))
        self.inward = None if config.features is None else nn.Linear(config.features, config.dim)
        self.outward = None if config.features is None else nn.Linear(config.dim, config.features)
        if self.outward is not None and config.residual:
            nn.init.zeros_(self.outward.weight)  # what was given is where it begins
            nn.init.zeros_(self.outward.bias)

    def forward(self, utterances: Sequence[Tensor]) -> list[Tensor]:
        """Return what becomes of utterances, each of shape (frames, values)."""
        lengths = [len(frames) for frames in utterances]
        rows = list(utterances)
        if not self.training and (missing := LEAST_ROWS - sum(lengths)) > 0:
            rows.append(rows[0].new_zeros(missing, self.config.values))
        given = torch.cat(rows)
        stream = given if self.inward is None else self.inward(given)
        for layer in self.layers:
            stream = layer(stream, lengths)
        stream = stream if self.outward is None else self.outward(stream)
        stream = stream + given if self.config.residual else stream
        return list(torch.split(stream[: sum(lengths)], lengths))


class _Layer(nn.Module):
    def __init__(self, config: ConformerConfig) -> None:
        super().__init__()
        self.first_feed_forward = _FeedForward(config)
        self.attention_norm = nn.LayerNorm(config.dim)
        self.attention = _Attention(config)
        self.convolution = _Convolution(config)
        self.second_feed_forward = _FeedForward(config)
        self.norm = nn.LayerNorm(config.dim)
        self._dropout = config.dropout

    def forward(self, stream: Tensor, lengths: Sequence[int]) -> Tensor:
        stream = stream + 0.5 * self.first_feed_forward(stream)
        attended = self.attention(self.attention_norm(stream), lengths)
        stream = stream + functional.dropout(attended, self._dropout, self.training)
        stream = stream + self.convolution(stream, lengths)
        made: Tensor = self.norm(stream + 0.5 * self.second_feed_forward(stream))
        return made


class _FeedForward(nn.Module):
    def __init__(self, config: ConformerConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.dim)
        self.inner, self.outer = nn.Linear(config.dim, config.ffn_dim), nn.Linear(config.ffn_dim, config.dim)
        self._dropout = config.dropout

    def forward(self, stream: Tensor) -> Tensor:
        inner = functional.dropout(functional.silu(self.inner(self.norm(stream))), self._dropout, self.training)
        return functional.dropout(self.outer(inner), self._dropout, self.training)


class _Attention(nn.Module):
    def __init__(self, config: ConformerConfig) -> None:
        super().__init__()
        self._heads, self._dropout = config.heads, config.dropout
        self.query_key_value = nn.Linear(config.dim, 3 * config.dim)
        self.output = nn.Linear(config.dim, config.dim)

    def forward(self, stream: Tensor, lengths: Sequence[int]) -> Tensor:
        made = self.query_key_value(stream)
        attended = torch.zeros(stream.shape, dtype=made.dtype, device=stream.device)
        dropped = self._dropout if self.training else 0.0
        for own in _own(lengths):
            # (length, 3, heads, size) to three of (1, heads, length, size)
            query, key, value = made[own].unflatten(1, (3, self._heads, -1)).permute(1, 2, 0, 3)[:, None]
            found = functional.scaled_dot_product_attention(query, key, value, dropout_p=dropped)[0]
            attended[own] = found.transpose(0, 1).flatten(1)
        out: Tensor = self.output(attended)
        return out


class _Convolution(nn.Module):
    def __init__(self, config: ConformerConfig) -> None:
        super().__init__()
        dim = config.dim
        self.norm = nn.LayerNorm(dim)
        self.gated = nn.Linear(dim, 2 * dim)
        self.depthwise = nn.Conv1d(dim, dim, config.kernel, padding=config.kernel // 2, groups=dim)
        self.batch_norm = nn.BatchNorm1d(dim)
        self.outer = nn.Linear(dim, dim)
        self._dropout = config.dropout

    def forward(self, stream: Tensor, lengths: Sequence[int]) -> Tensor:
        gated = functional.glu(self.gated(self.norm(stream)), dim=1)
        seen = torch.zeros_like(gated)
        for own in _own(lengths):
            seen[own] = self.depthwise(gated[own].T[None])[0].T
        made = functional.silu(self.batch_norm(seen))
        return functional.dropout(self.outer(made), self._dropout, self.training)


def _own(lengths: Sequence[int]) -> list[slice]:
    """Return the rows of each utterance."""
    ends = torch.tensor([0, *lengths]).cumsum(0).tolist()
    return [slice(first, last) for first, last in pairwise(ends)]
