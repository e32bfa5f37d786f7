"""What an encoder is made of: one description for HuBERT, wav2vec 2.0, WavLM and MelHuBERT."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

from vocable.artefacts.headers import POSITIVE, Kind, read_field, whole
from vocable.errors import InputError

Family = Literal["hubert", "wav2vec2", "wavlm", "melhubert", "sdhubert"]
ConvolutionNorm = Literal["group", "layer"]
WaveformNormalization = Literal["none", "utterance"]
MelNormalization = Literal["none", "utterance", "corpus"]


@dataclass(frozen=True)
class Convolution:
    """One of the convolutions that turn samples into frames."""

    channels: int
    width: int
    stride: int


@dataclass(frozen=True)
class RelativePositions:
    """WavLM's gated bias of attention by how far apart frames are (arXiv 2110.13900, section 3.1)."""

    buckets: int = 320
    max_distance: int = 800
    """Frames beyond which all distances are one."""


@dataclass(frozen=True)
class MelInput:
    """Log-mel frames that take the place of convolutions (arXiv 2211.09944): every 10 ms, of 25 ms."""

    bins: int = 40
    stacked: int = 2
    """That many frames become one."""
    normalization: MelNormalization = "utterance"
    """`utterance`: each bin has mean 0 and variance 1 over an utterance; `corpus`: over the corpus that was learnt from, whose
    statistics are part of the encoder."""
    padded: bool = False
    """Whether frames that are too few at the end to be stacked become one with zeros behind them, or none."""
    hides_input: bool = False
    """Whether a frame is hidden, in training, as zeros in place of its log-mel, or by a vector that is learnt."""


CONVOLUTIONS = (
    Convolution(512, 10, 5),
    *(Convolution(512, 3, 2) for _ in range(4)),
    *(Convolution(512, 2, 2) for _ in range(2)),
)
"""wav2vec 2.0's (arXiv 2006.11477, section 4.2) and everybody's since: a frame every 320 samples, of 400."""


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """The shape of an encoder, and what its waveforms have to be.

    Raises:
        InputError: there can be no such encoder.
    """

    family: Family
    """Whose file formats it is written in; the network follows from the rest."""
    layers: int
    """Transformer blocks."""
    dim: int
    """Values in a frame."""
    ffn_dim: int
    """Values in the middle of a feed-forward layer."""
    heads: int
    """Attention heads."""
    pre_norm: bool
    """Normalise before attention and feed-forward, as large models do, or after their residuals."""
    convolution_norm: ConvolutionNorm
    """`group`: each channel over time after the first convolution; `layer`: each frame after every one."""
    convolutions: tuple[Convolution, ...] = CONVOLUTIONS
    """None where frames are log-mel's."""
    mel: MelInput | None = None
    convolution_bias: bool = False
    projection_norm: bool = True
    """Normalise frames before they are projected to `dim`."""
    position_width: int = 128
    """Frames that the positional convolution sees."""
    position_groups: int = 16
    relative_positions: RelativePositions | None = None
    aggregator: bool = False
    """Whether a learnt vector stands before an utterance's frames, without a position, to gather what the sentence is:
    SD-HuBERT's (arXiv 2310.10803)."""
    norm_eps: float = 1e-5
    """Of the layer norms behind the convolutions."""
    waveform_normalization: WaveformNormalization = "none"
    """`utterance`: each waveform is given mean 0 and variance 1."""
    waveform_eps: float = 1e-5
    """Added to that variance: 1e-5 in fairseq, 1e-7 in transformers."""
    sample_rate: int = 16000

    def __post_init__(self) -> None:
        for name, kind in _KINDS.items():
            read_field("an encoder's configuration", vars(self), name, kind)
        if bool(self.convolutions) == (self.mel is not None):
            raise InputError("an encoder without convolutions makes no frames, unless they are log-mel's: give one of both")
        if self.dim % self.heads or self.dim % self.position_groups:
            raise InputError(
                f"an encoder of {self.dim} values can't have {self.heads} heads and {self.position_groups} groups: "
                "both have to divide it"
            )

    @property
    def hop(self) -> int:
        """Samples from the start of a frame to the start of the next."""
        if self.mel is not None:
            return self.mel.stacked * (self.sample_rate // 100)
        return math.prod(item.stride for item in self.convolutions)

    @property
    def receptive_field(self) -> int:
        """Samples that a frame's convolutions see, or its windows."""
        if self.mel is not None:
            whole = 1 if self.mel.padded else self.mel.stacked  # windows that a frame has to have
            return self.sample_rate // 40 + (whole - 1) * (self.sample_rate // 100)
        field = 1
        for item in reversed(self.convolutions):
            field = (field - 1) * item.stride + item.width
        return field

    @property
    def channels(self) -> int:
        """Values in a frame before it is projected."""
        if self.mel is not None:
            return self.mel.bins * self.mel.stacked
        return self.convolutions[-1].channels

    def frame_count(self, samples: int) -> int:
        """Return how many frames a waveform gives."""
        return 0 if samples < self.receptive_field else 1 + (samples - self.receptive_field) // self.hop

    def arithmetic(self) -> dict[str, Any]:
        """Return what frames depend on beside weights, layer and waveform, as a JSON value: the same weights make others with it.

        The eps of a waveform's variance, in which layouts of one model differ, isn't in it.
        """
        names = ("heads", "pre_norm", "convolution_norm", "norm_eps", "position_groups", "relative_positions", "convolutions")
        values = self.to_json()
        mel = {} if self.mel is None else {"mel": {**values["mel"], "hides_input": None}}  # of training alone
        return {name: values[name] for name in names} | mel | ({"aggregator": True} if self.aggregator else {})

    def to_json(self) -> dict[str, Any]:
        """Return the configuration as a JSON value."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> EncoderConfig:
        """Read what `to_json` wrote.

        Raises:
            InputError: a key is missing or unknown, or a value is of the wrong type; the message names no file.
        """
        if unknown := sorted(set(value) - {item.name for item in fields(cls)}):
            raise InputError(
                f"an encoder's configuration has the unknown key {unknown[0]!r}: a newer version of vocable wrote it"
            )
        try:
            convolutions = tuple(Convolution(**item) for item in value.get("convolutions", []))
            positions = value.get("relative_positions")
            relative = None if positions is None else RelativePositions(**positions)
            mel = None if value.get("mel") is None else MelInput(**value["mel"])
            return cls(**{**value, "convolutions": convolutions, "relative_positions": relative, "mel": mel})
        except TypeError as error:
            raise InputError(f"an encoder's configuration is incomplete ({error}): write it again") from error


_SIZE = whole(1, (1 << 20) - 1)


def _one_of(*names: str) -> Kind[str]:
    return Kind(" or ".join(names), lambda value: isinstance(value, str) and value in names)


_FLAG: Kind[bool] = Kind("true or false", lambda value: isinstance(value, bool))
_KINDS: dict[str, Kind[Any]] = {
    "family": _one_of(*get_args(Family)),
    "layers": whole(1, 1000),  # a network is built of so many to know its shapes
    **dict.fromkeys(("dim", "ffn_dim", "heads", "position_width", "position_groups", "sample_rate"), _SIZE),
    **dict.fromkeys(("pre_norm", "convolution_bias", "projection_norm", "aggregator"), _FLAG),
    "convolution_norm": _one_of("group", "layer"),
    "convolutions": Kind(
        "convolutions of whole sizes",
        lambda value: all(_SIZE.accepts(size) for item in value for size in (item.channels, item.width, item.stride)),
    ),
    "relative_positions": Kind(
        "sizes of relative positions",
        lambda value: (
            value is None or (whole(4).accepts(value.buckets) and whole(value.buckets // 4 + 1).accepts(value.max_distance))
        ),
    ),
    "mel": Kind(
        "whole sizes of log-mel frames, and how they are normalised",
        lambda value: (
            value is None
            or (
                whole(1, 512).accepts(value.bins)
                and whole(1, 64).accepts(value.stacked)
                and value.normalization in get_args(MelNormalization)
                and all(isinstance(flag, bool) for flag in (value.padded, value.hides_input))
            )
        ),
    ),
    **dict.fromkeys(("norm_eps", "waveform_eps"), POSITIVE),
    "waveform_normalization": _one_of("none", "utterance"),
}


def base(family: Family = "hubert") -> EncoderConfig:
    """Return the base configuration of a family (arXiv 2106.07447, table 1; 2110.13900, table 1): 95 million parameters."""
    return EncoderConfig(
        family=family, layers=12, dim=768, ffn_dim=3072, heads=12, pre_norm=False, convolution_norm="group",
        relative_positions=RelativePositions() if family == "wavlm" else None,
    )  # fmt: skip


def large(family: Family = "hubert") -> EncoderConfig:
    """Return the large configuration of a family: 317 million parameters. Its waveforms are normalised."""
    return replace(
        base(family), layers=24, dim=1024, ffn_dim=4096, heads=16, pre_norm=True, convolution_norm="layer",
        waveform_normalization="utterance",
    )  # fmt: skip


def melhubert(stacked: int = 2) -> EncoderConfig:
    """Return MelHuBERT's configuration (arXiv 2211.09944): 90 million parameters.

    Args:
        stacked: log-mel frames of 10 ms that become one: 2 for frames every 20 ms, 1 for every 10 ms.
    """
    mel = MelInput(40, stacked, "corpus", padded=True, hides_input=True)
    return replace(base(), family="melhubert", convolutions=(), mel=mel, projection_norm=False)


def xlarge() -> EncoderConfig:
    """Return HuBERT's extra large configuration: 964 million parameters, 16 heads of 80 values."""
    return replace(large("hubert"), layers=48, dim=1280, ffn_dim=5120)
