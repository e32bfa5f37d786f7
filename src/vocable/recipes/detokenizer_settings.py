"""One training of a detokenizer, described: frames, codebooks, model, batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vocable.anonymization.detokenization import DetokenizationSettings
from vocable.anonymization.detokenizer_data import Policy
from vocable.errors import InputError
from vocable.models.conformer import ConformerConfig
from vocable.recipes.configuration import built, read_values, with_options
from vocable.recipes.shipped import recipe_file
from vocable.training.batches import BatchSettings
from vocable.training.settings import TrainingSettings


@dataclass(frozen=True, kw_only=True)
class FrameDataSettings:
    """What is learnt from: audio, whose frames are made as they are needed, or frames that were dumped.

    Raises:
        InputError: it is neither, or both.
    """

    train: Path | None = None
    """A folder of audio, or a manifest; a detokenizer's is for codebooks of cepstra."""
    valid: Path | None = None
    """Another one to validate on."""
    frames: Path | None = None
    """A folder of frames of an encoder's layer, as `vocable features` leaves them."""
    valid_frames: Path | None = None
    """Others to validate on."""
    speakers: str | None = None
    """Who speaks: a path pattern such as '{speaker}/*/*', or a file of lines 'utterance speaker'."""

    def __post_init__(self) -> None:
        if (self.train is None) == (self.frames is None):
            raise InputError("give data.train, which is audio, or data.frames, which were made before")
        if (self.valid is not None and self.train is None) or (self.valid_frames is not None and self.frames is None):
            raise InputError("data.valid goes with data.train, and data.valid_frames with data.frames")


@dataclass(frozen=True, kw_only=True)
class DetokenizerDataSettings(FrameDataSettings):
    """What a detokenizer learns from."""

    policy: Policy = "own"
    """Codebooks that utterances are looked up in: `own`, that of their speaker or group, as SEF-MK's; or `random`."""
    valid_codebooks: Path | None = None
    """Those of the speakers to validate on, where they are others than those to learn from."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.valid_codebooks is not None and self.valid is None and self.valid_frames is None:
            raise InputError("data.valid_codebooks goes with data.valid or data.valid_frames: give that, too, or leave it out")


@dataclass(frozen=True, kw_only=True)
class DetokenizerSettings:
    """One training of a detokenizer.

    Raises:
        InputError: parts don't go together.
    """

    codebooks: Path
    """A file of 'vocable anonymize fit-codebooks'."""
    data: DetokenizerDataSettings
    model: ConformerConfig = field(default_factory=ConformerConfig)
    detokenization: DetokenizationSettings = field(default_factory=DetokenizationSettings)
    batches: BatchSettings
    training: TrainingSettings

    def __post_init__(self) -> None:
        if self.training.parallel != "ddp":
            raise InputError("parallel fsdp: a detokenizer is trained whole; take ddp")


def read_detokenizer_settings(source: str | Path, options: Sequence[str] = ()) -> DetokenizerSettings:
    """Return the settings of one training out of a file, some of them replaced by dotted options.

    Raises:
        InputError: names what is wrong, and where.
    """
    path = recipe_file(source, ("detokenizer",))
    return built(DetokenizerSettings, with_options(read_values(path), options), str(source))
