"""One SD-HuBERT training, described: audio, the encoder it begins with, distillation, batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from vocable.errors import InputError
from vocable.models.config import EncoderConfig
from vocable.models.regularization import Regularization
from vocable.recipes.configuration import built, read_values, with_options
from vocable.recipes.hubert_settings import ModelSettings
from vocable.recipes.shipped import recipe_file
from vocable.syllables.distillation import DistillationSettings
from vocable.syllables.perturbation import PerturbationSettings
from vocable.training.batches import BatchSettings
from vocable.training.settings import TrainingSettings

_EPS = 1e-7  # that the authors' feature extractor adds to the variance of a waveform


@dataclass(frozen=True, kw_only=True)
class SentenceData:
    """What is learnt from."""

    train: tuple[Path, ...]
    """Folders of audio, or manifests."""
    valid: tuple[Path, ...] = ()
    """Others to validate on; without any, the training isn't validated."""
    ext: tuple[str, ...] = ()
    """File name endings, such as flac; by default all known ones."""


@dataclass(frozen=True, kw_only=True)
class SdhubertSettings:
    """One SD-HuBERT training.

    Raises:
        InputError: parts don't go together.
    """

    data: SentenceData
    backbone: str | None = None
    """The encoder it begins with, in any layout, as `vocable inspect` takes it: HuBERT, or an SD-HuBERT to go on with."""
    model: ModelSettings = field(default_factory=ModelSettings)
    """The shape of one that begins at random, where there is no backbone."""
    regularization: Regularization = field(default_factory=Regularization)
    perturbation: PerturbationSettings = field(default_factory=PerturbationSettings)
    distillation: DistillationSettings = field(default_factory=DistillationSettings)
    reference_quirks: bool = False
    """Train as the authors' code does: losses added up over a batch, each process's centre moved before the loss, and when
    validating, and a learning rate that never falls, since its schedule is passed over."""
    batches: BatchSettings
    training: TrainingSettings

    def __post_init__(self) -> None:
        if self.backbone is not None and self.model != ModelSettings():
            raise InputError("backbone and model: the encoder is the backbone's, so leave out [model], or backbone")
        if self.backbone is None and self.model == ModelSettings():
            raise InputError(
                "backbone isn't given: give --init HUBERT, or under [model] the shape of an encoder that begins at random"
            )
        if self.model.init is not None:
            raise InputError("model.init: give it as backbone, whose shape is taken, too")
        if self.training.parallel != "ddp":
            raise InputError("parallel fsdp: a teacher follows its student whole here; take ddp")
        if self.regularization.feature_gradient != 1:
            raise InputError(
                "regularization.feature_gradient: convolutions are learnt or not, as distillation.frozen says; leave it out"
            )
        if not self.model.position_gains:
            raise InputError("model.position_gains=false is for trainings from the start: leave it out")

    def resolved(self) -> SdhubertSettings:
        """Return the settings with what `reference_quirks`, and what isn't given, mean in their place."""
        distillation = self.distillation
        if distillation.frozen is None:
            distillation = replace(distillation, frozen=() if self.backbone is None else ("convolutions", "positions"))
        if not self.reference_quirks:
            return replace(self, distillation=distillation)
        return replace(
            self,
            reference_quirks=False,
            distillation=replace(distillation, center="batch", center_in_validation=True, reduction="sum"),
            training=replace(self.training, schedule=replace(self.training.schedule, decay="constant")),
        )


def sentence_config(found: EncoderConfig) -> EncoderConfig:
    """Return the configuration of an encoder with an aggregator.

    Where a group norm takes out the waveform's own mean and size, waveforms are normalised as in the authors' files, which don't
    say it.
    """
    config = replace(found, family="sdhubert", aggregator=True)
    if config.convolutions and config.convolution_norm == "group":
        config = replace(config, waveform_normalization="utterance", waveform_eps=_EPS)
    return config


def read_sdhubert_settings(source: str | Path, options: Sequence[str] = ()) -> SdhubertSettings:
    """Return the settings of one training out of a file, some of them replaced by dotted options.

    Raises:
        InputError: names what is wrong, and where.
    """
    path = recipe_file(source, ("sdhubert",))
    return built(SdhubertSettings, with_options(read_values(path), options), str(source))
