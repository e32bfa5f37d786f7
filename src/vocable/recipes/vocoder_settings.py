"""One training of a vocoder, described: speech, frames, model, discriminators, batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from vocable.anonymization.vocoding import VocodingSettings
from vocable.errors import InputError
from vocable.models.discriminators import DiscriminatorConfig
from vocable.models.vocoder import VocoderConfig
from vocable.recipes.configuration import built, read_values, with_options
from vocable.recipes.detokenizer_settings import FrameDataSettings
from vocable.recipes.shipped import recipe_file
from vocable.training.batches import BatchSettings
from vocable.training.settings import TrainingSettings


@dataclass(frozen=True, kw_only=True)
class VocoderDataSettings(FrameDataSettings):
    """What a vocoder learns from: audio, or frames that were dumped, whose audio the rows beside them name.

    Raises:
        InputError: parts don't go together.
    """

    input: Literal["speech-parts", "logmel"] = "speech-parts"
    """Frames of audio: `speech-parts`, for codebooks of cepstra, or `logmel`, as HiFi-GAN's loss has them."""
    codebooks: Path | None = None
    """A file of 'vocable anonymize fit-codebooks' that frames are looked up in first, each in the codebook of its speaker."""
    detokenizer: Path | None = None
    """A file of 'vocable train detokenizer', or its folder, which makes frames of the centroids: what the vocoder will meet."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.detokenizer is not None and self.codebooks is None:
            raise InputError("data.detokenizer goes with data.codebooks, whose centroids it makes frames of: give these, too")
        if self.codebooks is not None and self.train is not None and self.input == "logmel":
            raise InputError("data.codebooks go with frames that were dumped, or with data.input=speech-parts: leave them out")


@dataclass(frozen=True, kw_only=True)
class VocoderSettings:
    """One training of a vocoder.

    Raises:
        InputError: parts don't go together.
    """

    data: VocoderDataSettings
    model: VocoderConfig = field(default_factory=VocoderConfig)
    init: Path | None = None
    """A vocoder to begin with in place of random weights: ours, knn-vc's or SEF-MK's; it has to be of the model's shape."""
    discriminators: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    vocoding: VocodingSettings = field(default_factory=VocodingSettings)
    batches: BatchSettings
    training: TrainingSettings

    def __post_init__(self) -> None:
        if self.training.parallel != "ddp":
            raise InputError("parallel fsdp: a vocoder and its discriminators take turns, each of them whole; take ddp")


def read_vocoder_settings(source: str | Path, options: Sequence[str] = ()) -> VocoderSettings:
    """Return the settings of one training out of a file, some of them replaced by dotted options.

    Raises:
        InputError: names what is wrong, and where.
    """
    path = recipe_file(source, ("vocoder",))
    return built(VocoderSettings, with_options(read_values(path), options), str(source))
