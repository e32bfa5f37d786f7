"""What the tensors of an encoder are called in each layout of files, as one table.

Ours are the names of `Encoder`'s parameters. Where another layout keeps in several tensors what is one of ours, they are stacked
along the first dimension (query, key and value).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from vocable.models.config import EncoderConfig

MASK_EMBEDDING = "mask_embedding"
LABEL_EMBEDDINGS = "label_embeddings"
SPECIAL_EMBEDDINGS = "special_embeddings"
FINAL_PROJECTION = "final_projection"
DISTILLATION = "distillation"
"""Before the names of what SD-HuBERT's training has beside its encoder."""

_HEAD = re.compile(
    rf"{MASK_EMBEDDING}|({LABEL_EMBEDDINGS}|{SPECIAL_EMBEDDINGS})(\.[1-9]\d*)?|{FINAL_PROJECTION}\.(weight|bias)|"
    rf"{DISTILLATION}\.[a-z]+(\.\d)?(\.(weight|bias))?",
    re.ASCII,
)


def is_head(name: str) -> bool:
    """Tell whether a tensor of ours is of what pretraining uses beside an encoder."""
    return _HEAD.fullmatch(name) is not None


def of_set(name: str, number: int) -> str:
    """Return the name of a label set's tensor: that of the first has no number."""
    return name if number == 0 else f"{name}.{number}"


def label_sets(names: Collection[str]) -> int:
    """Return how many label sets have embeddings among some heads."""
    return next(number for number in range(len(names) + 1) if of_set(LABEL_EMBEDDINGS, number) not in names)


@dataclass(frozen=True)
class Layout:
    """How a family of files names tensors.

    `{i}` stands for the number of a convolution or block, `{part}` for weight or bias.
    """

    name: str
    convolution: str
    group_norm: str
    layer_norm: str
    projection_norm: str
    projection: str
    positions: str
    norm: str
    block: str
    attention: str
    attention_input: tuple[str, ...]
    attention_output: str
    gate: str
    gate_scale: str
    relative_positions: str
    attention_norm: str
    inner: str
    outer: str
    block_norm: str
    mask_embedding: str
    aggregator: str = ""
    label_embeddings: tuple[str, ...] = ()
    """The first is written, all are read."""
    final_projection: str = ""
    weight_norm: tuple[tuple[str, str], ...] = (
        ("weight_g", "weight_v"),
        ("parametrizations.weight.original0", "parametrizations.weight.original1"),
    )
    """Names of gain and direction; the first are written, all are read."""
    prefixes: tuple[str, ...] = ()
    """That may stand before all names."""

    def names(self, config: EncoderConfig, gains: tuple[str, str] | None = None) -> dict[str, tuple[str, ...]]:
        """Return, for each of our tensors, those of this layout that it consists of."""
        return dict(self._names(config, gains or self.weight_norm[0]))

    def _names(self, config: EncoderConfig, gains: tuple[str, str]) -> Iterator[tuple[str, tuple[str, ...]]]:
        for i, _ in enumerate(config.convolutions):
            ours = f"convolutions.layers.{i}"
            yield f"{ours}.weight", (f"{self.convolution.format(i=i)}.weight",)
            if config.convolution_bias:
                yield f"{ours}.bias", (f"{self.convolution.format(i=i)}.bias",)
            norm = self.layer_norm if config.convolution_norm == "layer" else self.group_norm if i == 0 else None
            if norm is not None:
                yield from _pair(f"{ours}.norm", norm.format(i=i))
        if config.projection_norm:
            yield from _pair("projection.norm", self.projection_norm)
        if config.channels != config.dim:
            yield from _pair("projection.linear", self.projection)
        for ours, theirs in zip(("gain", "direction"), gains, strict=True):
            yield f"positions.{ours}", (f"{self.positions}.{theirs}",)
        yield "positions.bias", (f"{self.positions}.bias",)
        yield from _pair("norm", self.norm)
        if config.aggregator:
            yield "aggregator", (self.aggregator,)
        if config.relative_positions is not None:
            yield "relative_positions.weight", (f"{self.block.format(i=0)}.{self.attention}.{self.relative_positions}",)
        for i in range(config.layers):
            yield from self._block(f"blocks.{i}", self.block.format(i=i), gated=config.relative_positions is not None)

    def _block(self, ours: str, block: str, gated: bool) -> Iterator[tuple[str, tuple[str, ...]]]:
        attention = f"{block}.{self.attention}"
        for part in ("weight", "bias"):
            inputs = tuple(f"{attention}.{name.format(part=part)}" for name in self.attention_input)
            yield f"{ours}.attention.query_key_value.{part}", inputs
        yield from _pair(f"{ours}.attention.output", f"{attention}.{self.attention_output}")
        if gated:
            yield from _pair(f"{ours}.attention.gate.linear", f"{attention}.{self.gate}")
            yield f"{ours}.attention.gate.scale", (f"{attention}.{self.gate_scale}",)
        for name, theirs in (
            ("attention_norm", self.attention_norm),
            ("feed_forward.inner", self.inner),
            ("feed_forward.outer", self.outer),
            ("feed_forward_norm", self.block_norm),
        ):
            yield from _pair(f"{ours}.{name}", f"{block}.{theirs}")


def _pair(ours: str, theirs: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    for part in ("weight", "bias"):
        yield f"{ours}.{part}", (f"{theirs}.{part}",)


def _separate(name: str) -> tuple[str, ...]:
    return tuple(name.replace("*", letter) for letter in "qkv")


FAIRSEQ = Layout(
    name="fairseq",
    convolution="feature_extractor.conv_layers.{i}.0",
    group_norm="feature_extractor.conv_layers.{i}.2",
    layer_norm="feature_extractor.conv_layers.{i}.2.1",
    projection_norm="layer_norm",
    projection="post_extract_proj",
    positions="encoder.pos_conv.0",
    norm="encoder.layer_norm",
    block="encoder.layers.{i}",
    attention="self_attn",
    attention_input=_separate("*_proj.{part}"),
    attention_output="out_proj",
    gate="grep_linear",
    gate_scale="grep_a",
    relative_positions="relative_attention_bias.weight",
    attention_norm="self_attn_layer_norm",
    inner="fc1",
    outer="fc2",
    block_norm="final_layer_norm",
    mask_embedding="mask_emb",
    label_embeddings=("label_embs_concat", "label_embs"),
    final_projection="final_proj",
    prefixes=("w2v_encoder.w2v_model.", "w2v_model.", "encoder.w2v_model.", "model.", "module."),
)
"""fairseq's HuBERT and wav2vec 2.0, and WavLM as Microsoft published it."""

TRANSFORMERS = Layout(
    name="transformers",
    convolution="feature_extractor.conv_layers.{i}.conv",
    group_norm="feature_extractor.conv_layers.{i}.layer_norm",
    layer_norm="feature_extractor.conv_layers.{i}.layer_norm",
    projection_norm="feature_projection.layer_norm",
    projection="feature_projection.projection",
    positions="encoder.pos_conv_embed.conv",
    norm="encoder.layer_norm",
    block="encoder.layers.{i}",
    attention="attention",
    attention_input=_separate("*_proj.{part}"),
    attention_output="out_proj",
    gate="gru_rel_pos_linear",
    gate_scale="gru_rel_pos_const",
    relative_positions="rel_attn_embed.weight",
    attention_norm="layer_norm",
    inner="feed_forward.intermediate_dense",
    outer="feed_forward.output_dense",
    block_norm="final_layer_norm",
    mask_embedding="masked_spec_embed",
    weight_norm=(("parametrizations.weight.original0", "parametrizations.weight.original1"), ("weight_g", "weight_v")),
    prefixes=("hubert.", "wav2vec2.", "wavlm."),
)

TORCHAUDIO = replace(
    TRANSFORMERS,
    name="torchaudio",
    projection_norm="encoder.feature_projection.layer_norm",
    projection="encoder.feature_projection.projection",
    positions="encoder.transformer.pos_conv_embed.conv",
    norm="encoder.transformer.layer_norm",
    block="encoder.transformer.layers.{i}",
    mask_embedding="mask_generator.mask_embedding",
    label_embeddings=("logit_generator.label_embeddings",),
    final_projection="logit_generator.final_proj",
    prefixes=("wav2vec2.", "model."),
)

TORCHAUDIO_WAVLM = replace(
    TORCHAUDIO, attention_input=("attention.in_proj_{part}",), attention_output="attention.out_proj", label_embeddings=()
)


SDHUBERT = replace(TRANSFORMERS, name="sdhubert", aggregator="cls_token", prefixes=())

MELHUBERT = replace(FAIRSEQ, name="melhubert", projection="pre_extract_proj", label_embeddings=(), prefixes=("module.", "model."))


def gains_of(layout: Layout, keys: Mapping[str, object], prefix: str) -> tuple[str, str]:
    """Return which names a file has for the gain and direction of the positional convolution's weights."""
    for gains in layout.weight_norm:
        if f"{prefix}{layout.positions}.{gains[0]}" in keys:
            return gains
    return layout.weight_norm[0]
