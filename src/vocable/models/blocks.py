"""A block of an encoder's transformer, on the frames of several utterances one after another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from vocable.models.config import EncoderConfig
from vocable.models.dropout import dropout
from vocable.models.positions import between_frames
from vocable.models.regularization import NONE, Regularization

_QUERIES = 512
"""Frames that attend at once where attention has a bias, which is a matrix of all pairs for every head."""


_MOST_WRITTEN_OUT = 1024
"""Frames of an utterance up to which a matrix of all pairs is kept for the backward pass, on a processor."""


def _linear(inputs: int, outputs: int) -> nn.Linear:
    """Return a linear layer that begins as HuBERT's do, after BERT's: small, without bias."""
    made = nn.Linear(inputs, outputs)
    nn.init.normal_(made.weight, std=0.02)
    nn.init.zeros_(made.bias)
    return made


class BlockStates(NamedTuple):
    """What a block makes of each frame."""

    attention: Tensor
    """What attention adds to it."""
    ffn: Tensor
    """What the feed-forward layers add to it."""
    block: Tensor
    """All of it: the block's output."""


class Attention(nn.Module):
    """Self-attention within each utterance, with WavLM's gate on the bias by distance where there is one."""

    def __init__(self, config: EncoderConfig, dropout: float = 0.0) -> None:
        super().__init__()
        self._heads, self._dropout = config.heads, dropout
        self.query_key_value = _linear(config.dim, 3 * config.dim)
        self.output = _linear(config.dim, config.dim)
        self.gate: Gate | None = None if config.relative_positions is None else Gate(config)

    def forward(self, stream: Tensor, lengths: Sequence[int] | None, biases: Sequence[Tensor] | None) -> Tensor:
        """Return what attention adds to each frame.

        Args:
            stream: of shape (frames, dim), the utterances' one after another; or, where they are of one length, of shape
                (utterances, frames, dim).
            lengths: frames of each utterance; None where they are of one length.
            biases: for each utterance a bias by distance, of shape (heads, 2 · length - 1).
        """
        if lengths is None and biases is not None:
            utterances, length, dim = stream.shape
            return self.forward(stream.view(-1, dim), [length] * utterances, biases).view(stream.shape)
        made = applied(self.query_key_value, stream)
        if lengths is None:
            return applied(self.output, self._of_equal_lengths(made))
        attended = torch.zeros(stream.shape, dtype=made.dtype, device=stream.device)
        first = 0
        for number, length in enumerate(lengths):
            own = slice(first, first + length)
            # (length, 3, heads, size) to three of (heads, length, size)
            query, key, value = made[own].view(length, 3, self._heads, -1).permute(1, 2, 0, 3)
            if biases is None or self.gate is None:
                found = functional.scaled_dot_product_attention(query[None], key[None], value[None])[0]
            else:
                found = self._biased(query, key, value, self.gate(stream[own]), biases[number])
            attended[own] = found.transpose(0, 1).reshape(length, -1)
            first += length
        return applied(self.output, attended)

    def _of_equal_lengths(self, made: Tensor) -> Tensor:
        """Return what utterances of one length attend to, all at once."""
        # (utterances, frames, 3, heads, size) to three of (utterances, heads, frames, size)
        query, key, value = made.view(*made.shape[:2], 3, self._heads, -1).permute(2, 0, 3, 1, 4)
        if _pays_written_out(query, self._dropout):
            weights = torch.softmax((query * query.shape[-1] ** -0.5) @ key.mT, dim=-1, dtype=query.dtype)
            found = dropout(weights, self._dropout, self.training) @ value
        else:
            found = functional.scaled_dot_product_attention(query, key, value, dropout_p=self._dropout)
        joined: Tensor = found.transpose(1, 2).flatten(2)
        return joined

    @staticmethod
    def _biased(query: Tensor, key: Tensor, value: Tensor, gate: Tensor, bias: Tensor) -> Tensor:
        parts = []
        for first in range(0, query.shape[1], _QUERIES):
            last = min(first + _QUERIES, query.shape[1])
            added = (gate[:, first:last] * between_frames(bias, first, last)).to(query.dtype)
            parts.append(
                functional.scaled_dot_product_attention(query[None, :, first:last], key[None], value[None], added[None])[0]
            )
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _pays_written_out(query: Tensor, dropped: float) -> bool:
    """Tell whether attention as plain products, softmax and dropout is faster in training than torch's own, and fits memory.

    torch's backward pass through it is slow on processors in half precision, and so is its dropout.
    """
    return query.device.type == "cpu" and query.shape[-2] <= _MOST_WRITTEN_OUT and (dropped > 0 or query.dtype != torch.float32)


class Gate(nn.Module):
    """How much each frame heeds distance, by head (arXiv 2110.13900, section 3.1)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self._heads = config.heads
        self.linear = _linear(config.dim // config.heads, 8)
        self.scale = nn.Parameter(torch.ones(1, config.heads, 1, 1))

    def forward(self, frames: Tensor) -> Tensor:
        """Return a factor for each head and frame, of shape (heads, frames, 1), from what attention sees of an utterance."""
        by_head = frames.view(len(frames), self._heads, -1).transpose(0, 1)
        opened = torch.sigmoid(self.linear(by_head).view(self._heads, len(frames), 2, 4).sum(dim=-1))
        first, second = opened.chunk(2, dim=-1)
        return first * (second * self.scale[0] - 1) + 2


class FeedForward(nn.Module):
    """Two linear layers with GELU between them."""

    def __init__(self, config: EncoderConfig, dropout: float = 0.0) -> None:
        super().__init__()
        self._dropout = dropout
        self.inner = _linear(config.dim, config.ffn_dim)
        self.outer = _linear(config.ffn_dim, config.dim)

    def forward(self, stream: Tensor) -> Tensor:
        """Return what is added to each frame."""
        inner = applied(self.inner, stream)
        activated = functional.gelu(inner) if torch.is_grad_enabled() else torch.ops.aten.gelu_(inner)
        return applied(self.outer, dropout(activated, self._dropout, self.training))


class Block(nn.Module):
    """Attention and feed-forward, each with a residual, normalised before (large models) or after it."""

    def __init__(self, config: EncoderConfig, regularization: Regularization = NONE) -> None:
        super().__init__()
        self._pre_norm, self._dropout = config.pre_norm, regularization.dropout
        self.attention = Attention(config, regularization.attention_dropout)
        self.attention_norm = nn.LayerNorm(config.dim, config.norm_eps)
        self.feed_forward = FeedForward(config, regularization.activation_dropout)
        self.feed_forward_norm = nn.LayerNorm(config.dim, config.norm_eps)

    def forward(self, stream: Tensor, lengths: Sequence[int] | None, biases: Sequence[Tensor] | None) -> BlockStates:
        """Return what the block makes of frames; `Attention.forward` says how they lie."""
        if self._pre_norm:
            attended = self._dropped(self.attention(self.attention_norm(stream), lengths, biases))
            between = stream + attended
            added = self._dropped(self.feed_forward(self.feed_forward_norm(between)))
            return BlockStates(attended, added, between + added)
        attended = self._dropped(self.attention(stream, lengths, biases))
        between = self.attention_norm(stream + attended)
        added = self._dropped(self.feed_forward(between))
        return BlockStates(attended, added, self.feed_forward_norm(between + added))

    def _dropped(self, added: Tensor) -> Tensor:
        return dropout(added, self._dropout, self.training)


def applied(linear: nn.Linear, stream: Tensor) -> Tensor:
    """Return what a linear layer makes of a stream, in the type of its weights; the stream, and norms, stay in float32."""
    out: Tensor = linear(stream.to(linear.weight.dtype))
    return out
