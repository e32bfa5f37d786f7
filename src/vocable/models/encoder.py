"""`Encoder`: frames of speech as HuBERT, wav2vec 2.0, WavLM and MelHuBERT describe them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from vocable.models.blocks import Block, applied
from vocable.models.config import EncoderConfig
from vocable.models.convolutions import ConvolutionStack
from vocable.models.dropout import dropout
from vocable.models.positions import PositionalConvolution, RelativePositionBias
from vocable.models.regularization import NONE, Regularization
from vocable.models.taps import Tap

LEAST_ROWS = 256
"""With fewer rows BLAS takes other kernels, whose last bits differ: below 192 with Intel's, where weights of 1024 inputs lie by
input, and below 16 with all that were tried."""


class Projection(nn.Module):
    """From the convolutions' channels to the encoder's values."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.channels, config.norm_eps) if config.projection_norm else None
        self.linear = nn.Linear(config.channels, config.dim) if config.channels != config.dim else None

    def forward(self, stream: Tensor) -> Tensor:
        """Return frames projected, in float32."""
        made = stream.float() if self.norm is None else self.norm(stream.float())
        return made if self.linear is None else applied(self.linear, made).float()


class MaskedStates(NamedTuple):
    """What becomes of utterances, some of whose frames are hidden; all of shape (utterances, frames, dim)."""

    projected: Tensor
    """Before any frame is hidden."""
    blocks: list[Tensor]
    """Behind each block, residual included, without any final norm: what goes on to the next."""
    final: Tensor
    """Behind the last block and the final norm, if there is one."""


class Encoder(nn.Module):
    """Convolutions, a projection, positions and a transformer's blocks.

    Frames of several utterances go through it as one stream, one after another: linear layers take all of it, and all else sees
    each utterance at its own length, without padding. So what an utterance becomes doesn't depend on the others.

    Args:
        config: the whole encoder's.
        layers: how many blocks to build; by default all.
        regularization: what is done to it in training mode.
    """

    def __init__(self, config: EncoderConfig, layers: int | None = None, regularization: Regularization = NONE) -> None:
        super().__init__()
        self.config, self.regularization = config, regularization
        self.convolutions = ConvolutionStack(config) if config.convolutions else None
        """None where frames are log-mel's, which are made elsewhere."""
        self.mel_mean: Tensor | None
        self.mel_std: Tensor | None
        of_corpus = config.mel is not None and config.mel.normalization == "corpus"
        for name in ("mel_mean", "mel_std"):
            self.register_buffer(name, torch.ones(config.mel.bins) if config.mel is not None and of_corpus else None)
        self.projection = Projection(config)
        self.positions = PositionalConvolution(config)
        relative = config.relative_positions
        self.relative_positions = None if relative is None else RelativePositionBias(relative, config.heads)
        self.norm = nn.LayerNorm(config.dim, config.norm_eps)
        self.blocks = nn.ModuleList(Block(config, regularization) for _ in range(config.layers if layers is None else layers))
        self.aggregator = nn.Parameter(torch.randn(config.dim) * config.dim**-0.5) if config.aggregator else None
        hides_input = config.mel is not None and config.mel.hides_input
        self.mask_embedding = None if hides_input else nn.Parameter(torch.rand(config.dim))
        """None where a hidden frame is one of zeros."""

    def forward(self, utterances: Sequence[Tensor], taps: Collection[Tap]) -> dict[Tap, list[Tensor]]:
        """Return the frames of utterances at each tap.

        Args:
            utterances: what `convolutions` made of each, or its log-mel frames, of shape (frames, channels).
            taps: where frames are wanted; blocks behind the last of them aren't run.

        Returns:
            For each tap and utterance, float32 of shape (frames, dim).

        Raises:
            InputError: a tap doesn't exist.
        """
        return {tap: [own[self._before :] for own in found] for tap, found in self._found(utterances, taps).items()}

    def sentences(self, utterances: Sequence[Tensor], layers: Collection[int]) -> dict[int, Tensor]:
        """Return what the aggregator of each utterance is behind some layers, of shape (utterances, dim)."""
        found = self._found(utterances, [Tap(layer) for layer in layers])
        return {tap.layer: torch.stack([own[0] for own in each]) for tap, each in found.items()}

    def _found(self, utterances: Sequence[Tensor], taps: Collection[Tap]) -> dict[Tap, list[Tensor]]:
        """Return the rows of utterances at each tap, the aggregator's first where there is one."""
        for tap in taps:
            tap.check(self.config.layers)
        lengths = [len(frames) for frames in utterances]
        missing = LEAST_ROWS - sum(lengths)
        rows = [*utterances, utterances[0].new_zeros(missing, utterances[0].shape[1])] if missing > 0 else list(utterances)
        stream = self._positioned(self.projection(torch.cat(rows)), lengths)
        if self.aggregator is not None:
            total, first = sum(lengths), self.aggregator[None].to(stream.dtype)
            parts = [part for own in torch.split(stream[:total], lengths) for part in (first, own)]
            stream = torch.cat([*parts, stream[total:]])
            lengths = [length + 1 for length in lengths]
        return {tap: list(torch.split(frames.float(), lengths)) for tap, frames in self._tapped(stream, lengths, taps).items()}

    @property
    def _before(self) -> int:
        """Rows before an utterance's frames."""
        return 0 if self.aggregator is None else 1

    def masked(self, frames: Tensor, mask: Tensor, left_out: Collection[int] = ()) -> Tensor:
        """Return what becomes of a batch of utterances of one length, some of whose frames are hidden from it; for training.

        Args:
            frames: what the convolutions made of them, or log-mel frames, of shape (utterances, frames, channels).
            mask: true where a frame is hidden, of shape (utterances, frames).
            left_out: blocks that are passed over, counted from 1.

        Returns:
            Frames behind the last block and the final norm, if there is one, of shape (utterances, frames, dim).
        """
        return self.masked_states(frames, mask, left_out).final

    def masked_states(self, frames: Tensor, mask: Tensor, left_out: Collection[int] = ()) -> MaskedStates:
        """Return what becomes of such a batch on its way; arguments are those of `masked`."""
        hidden = mask[..., None]
        if self.mask_embedding is None:
            frames = frames.masked_fill(hidden, 0.0)  # a bin's mean, once it is normalised
        projected = self.projection(frames)
        stream = dropout(projected, self.regularization.input_dropout, self.training)
        if self.mask_embedding is not None:
            stream = torch.where(hidden, self.mask_embedding.to(stream.dtype), stream)
        _, *states = self._states(stream, self.blocks, left_out)
        return MaskedStates(projected, states, self._final(states[-1]))

    def through(self, stream: Tensor, blocks: nn.ModuleList | None = None, left_out: Collection[int] = ()) -> Tensor:
        """Return what becomes of projected frames behind positions, blocks and the final norm, if there is one; for training.

        Args:
            stream: utterances of one length, of shape (utterances, frames, dim).
            blocks: others in place of the encoder's own.
            left_out: blocks that are passed over, counted from 1.

        Returns:
            Of shape (utterances, frames, dim); with an aggregator one row more, the first.
        """
        for state in self._states(stream, self.blocks if blocks is None else blocks, left_out):
            stream = state  # none of the others is held
        return self._final(stream)

    def _states(self, stream: Tensor, blocks: nn.ModuleList, left_out: Collection[int]) -> Iterator[Tensor]:
        """Yield what projected frames are before the first block and behind each."""
        count = len(stream)
        stream = stream + self.positions.of_batch(stream).to(stream.dtype)
        stream = stream if self.config.pre_norm else self.norm(stream)
        stream = dropout(stream, self.regularization.dropout, self.training)
        if self.aggregator is not None:
            stream = torch.cat([self.aggregator.to(stream.dtype).expand(count, 1, -1), stream], dim=1)
        biases = None if self.relative_positions is None else [self.relative_positions(stream.shape[1])] * count
        yield stream
        for number, block in enumerate(blocks, 1):
            if number not in left_out:
                stream = block(stream, None, biases).block
            yield stream

    def mel_statistics(self) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Return mean and standard deviation of each log-mel bin in the corpus that was learnt from, if they are used."""
        if self.mel_mean is None or self.mel_std is None:
            return None
        return self.mel_mean.numpy(), self.mel_std.numpy()

    def _positioned(self, stream: Tensor, lengths: Sequence[int]) -> Tensor:
        weight = self.positions.weight()
        parts = torch.split(stream[: sum(lengths)], list(lengths))
        added = [self.positions(part.to(weight.dtype), weight).to(stream.dtype) for part in parts]
        stream = stream + functional.pad(torch.cat(added), (0, 0, 0, len(stream) - sum(lengths)))
        return stream if self.config.pre_norm else self.norm(stream)

    def _tapped(self, stream: Tensor, lengths: Sequence[int], taps: Collection[Tap]) -> dict[Tap, Tensor]:
        found: dict[Tap, Tensor] = {}
        biases = None
        if self.relative_positions is not None:
            by_length = {length: self.relative_positions(length) for length in set(lengths)}
            biases = [by_length[length] for length in lengths]
        total = sum(lengths)
        for number, block in enumerate(self.blocks, 1):
            if number > max((tap.layer for tap in taps), default=0):
                break
            states = block(stream, lengths, biases)
            stream = states.block
            for tap in taps:
                if tap.layer == number:
                    found[tap] = self._final(stream)[:total] if tap.name == "final" else getattr(states, tap.name)[:total]
        return found

    def _final(self, stream: Tensor) -> Tensor:
        out: Tensor = self.norm(stream) if self.config.pre_norm else stream
        return out
