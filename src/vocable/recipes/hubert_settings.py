"""One HuBERT training, described: data, model, objective, batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from vocable.errors import InputError
from vocable.models.config import CONVOLUTIONS, ConvolutionNorm, EncoderConfig, MelInput, WaveformNormalization
from vocable.models.regularization import Regularization
from vocable.pretraining.loss_settings import LossSettings
from vocable.pretraining.masking import MaskSettings
from vocable.recipes.configuration import built, read_values, with_options
from vocable.recipes.shipped import recipe_file
from vocable.training.batches import BatchSettings
from vocable.training.settings import TrainingSettings


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Where audio and labels are: in a folder, or in the CSVs of MelHuBERT's code.

    Raises:
        InputError: it is neither, or both.
    """

    folder: Path | None = None
    """Holds the manifests, such as train.tsv, as `vocable prepare` leaves them."""
    sets: tuple[Path, ...] = ()
    """CSVs of log-mel frames and labels, as `vocable melhubert preprocess` writes them."""
    valid_sets: tuple[Path, ...] = ()
    """Such CSVs to validate on."""
    train: str = "train"
    """Name of the manifest to learn from, without .tsv."""
    valid: str | None = "valid"
    """Name of the manifest to validate on; where there is none, the training isn't validated."""
    labels: tuple[str, ...] = ("km",)
    """Endings of the label files, one for each label set."""
    label_folder: Path | None = None
    """Holds the labels and dictionaries; by default the manifests' folder."""
    label_rate: float | None = None
    """Labels per second; needed where the labels don't say it."""
    clusters: int | None = None
    """Labels there are, in each set; by default as a codebook or a dictionary says, or as far as they go."""
    mean_std: Path | None = None
    """The .npy of mean and deviation of log-mel bins, where a corpus's are taken out; by default mean-std.npy in the folder, or
    beside the first CSV."""

    def __post_init__(self) -> None:
        if (self.folder is None) == (not self.sets):
            raise InputError(
                "give data.folder, which holds manifests and labels, or data.sets, which are CSVs of frames and labels"
            )
        if self.clusters is not None and self.clusters < 2:
            raise InputError(f"data.clusters {self.clusters}: give 2 or more")
        if self.sets:
            for name, usual in (("train", "train"), ("valid", "valid"), ("labels", ("km",)), ("label_folder", None)):
                if getattr(self, name) not in (usual, None):
                    raise InputError(f"data.{name} goes with data.folder, and data.sets are given: leave it out")
            if self.label_rate is not None:
                raise InputError("data.label_rate goes with data.folder: of data.sets it follows from how many labels there are")
        if self.folder is not None and self.valid_sets:
            raise InputError("data.valid_sets goes with data.sets: with data.folder there is data.valid")

    @property
    def place(self) -> Path:
        """The folder that is looked in."""
        return self.folder if self.folder is not None else self.sets[0].parent


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """The encoder.

    Raises:
        InputError: there can be no such encoder.
    """

    layers: int = 12
    dim: int = 768
    ffn_dim: int = 3072
    heads: int = 12
    pre_norm: bool = False
    convolution_norm: ConvolutionNorm = "group"
    input: Literal["waveform", "logmel"] = "waveform"
    """`logmel` has log-mel frames in place of convolutions."""
    convolution_channels: int = 512
    mel_bins: int = 40
    mel_stacked: int = 2
    """Log-mel frames of 10 ms that become one."""
    mel_normalization: Literal["none", "utterance", "corpus"] = "utterance"
    mel_padded: bool = False
    """Fill up the last frame with zeros where there is nothing left to stack, as MelHuBERT does, or leave it out."""
    mel_hides_input: bool = False
    """Hide frames as zeros in place of their log-mel, as MelHuBERT does, or by a vector that is learnt."""
    position_width: int = 128
    position_groups: int = 16
    position_gains: bool = True
    """Learn the positional convolution's weights as directions and gains, as HuBERT does; files have gains in either case."""
    waveform_normalization: WaveformNormalization = "none"
    sample_rate: int = 16000
    init: str | None = None
    """An encoder to begin with, as `vocable inspect` takes it, in place of random weights; it has to be of this shape."""

    def config(self) -> EncoderConfig:
        """Return the encoder's configuration."""
        mel = None
        if self.input == "logmel":
            mel = MelInput(self.mel_bins, self.mel_stacked, self.mel_normalization, self.mel_padded, self.mel_hides_input)
        convolutions = tuple(replace(item, channels=self.convolution_channels) for item in CONVOLUTIONS)
        return EncoderConfig(
            family="melhubert" if mel else "hubert",
            layers=self.layers,
            dim=self.dim,
            ffn_dim=self.ffn_dim,
            heads=self.heads,
            pre_norm=self.pre_norm,
            convolution_norm=self.convolution_norm,
            convolutions=() if mel else convolutions,
            mel=mel,
            projection_norm=mel is None,
            position_width=self.position_width,
            position_groups=self.position_groups,
            waveform_normalization=self.waveform_normalization,
            sample_rate=self.sample_rate,
        )


@dataclass(frozen=True, kw_only=True)
class MeasureSettings:
    """What the units of a layer are worth at each validation, where phones are known."""

    alignments: Path | None = None
    """Phones of the validation's utterances, as `vocable evaluate units` takes them."""
    layer: int | None = None
    """By default the middle one. A next iteration's labels are made of it, unless it says otherwise or phones are known."""
    clusters: int = 100


@dataclass(frozen=True, kw_only=True)
class HubertSettings:
    """One HuBERT training."""

    data: DataSettings
    model: ModelSettings = field(default_factory=ModelSettings)
    regularization: Regularization = field(default_factory=Regularization)
    masks: MaskSettings = field(default_factory=MaskSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    batches: BatchSettings
    training: TrainingSettings
    measure: MeasureSettings = field(default_factory=MeasureSettings)

    def __post_init__(self) -> None:
        if self.model.input == "logmel" and self.regularization.feature_gradient != 1:
            raise InputError("regularization.feature_gradient is of convolutions, which input logmel hasn't: leave it out")


HUBERT_RECIPES = ("hubert", "melhubert")
"""Folders of the settings that come with vocable."""


def read_settings(source: str | Path, options: Sequence[str] = ()) -> HubertSettings:
    """Return the settings of one training out of a file, some of them replaced by dotted options.

    Raises:
        InputError: names what is wrong, and where.
    """
    path = recipe_file(source, HUBERT_RECIPES)
    return built(HubertSettings, with_options(read_values(path), options), str(source))
