"""Who speaks and how high in what is trained on, looked over before any time is lost."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from vocable.artefacts.headers import Header, digest_of_array
from vocable.audio.manifest import Manifest
from vocable.errors import InputError, MismatchError
from vocable.recipes.disentangled_settings import DisentangledSettings
from vocable.recipes.training_data import Split, TrainingData
from vocable.training.inputs import AudioInputs
from vocable.units.pitch_labels import PitchLabels, read_pitch_labels
from vocable.units.speaker_labels import SpeakerLabels, read_speaker_labels


@dataclass(frozen=True)
class Voices:
    """Who speaks and how high in the utterances of a split."""

    speakers: SpeakerLabels | None
    """None where nobody is known, or asked for."""
    pitch: PitchLabels | None
    """None where none is known, or asked for."""

    @property
    def speaker_ids(self) -> NDArray[np.int64] | None:
        """Of shape (utterances,); -1 where nobody knows."""
        return None if self.speakers is None else self.speakers.ids

    @property
    def identity(self) -> Header:
        """Digests of what it holds."""
        return {
            "speakers": None if self.speakers is None else digest_of_array(self.speakers.ids),
            "pitch": None if self.pitch is None else digest_of_array(self.pitch.values),
        }


@dataclass(frozen=True)
class VoiceData:
    """What heads learn, and are measured on."""

    train: Voices
    valid: Voices | None
    notes: tuple[str, ...]
    """What heads aren't measured on."""

    @property
    def speakers(self) -> int | None:
        """How many there are; None where no head tells them."""
        return None if self.train.speakers is None else len(self.train.speakers.names)

    @property
    def bins(self) -> int | None:
        """How many there are of pitch; None where no head tells it."""
        return None if self.train.pitch is None else len(self.train.pitch.bins)

    @classmethod
    def read(cls, settings: DisentangledSettings, data: TrainingData) -> Self:
        """Read and check the labels of heads.

        Args:
            settings: of the training.
            data: whose rows they should be.

        Raises:
            InputError: something is missing or broken, or there is nothing to tell apart.
            MismatchError: they are of another manifest, of other audio, or validation's are numbered otherwise.
        """
        notes: list[str] = []
        train = _learnt(settings, data.train)
        if data.valid is None:
            return cls(train, None, ())
        return cls(train, _measured(settings, data.valid, train, notes), tuple(notes))


def _learnt(settings: DisentangledSettings, split: Split) -> Voices:
    """Return what heads learn.

    Raises:
        InputError: it is missing, or there are fewer than two speakers, or bins.
    """
    asked, manifest = settings.disentanglement, _manifest(split)
    speakers = pitch = None
    if asked.speaker.weight:
        path = _required(_place(settings, split, "spk"), "vocable features speakers")
        speakers = read_speaker_labels(path, manifest)
        if len(np.unique(speakers.ids[speakers.ids >= 0])) < 2:
            raise InputError(
                f"{path} has fewer than two known speakers, and telling them apart takes two: give speech of others, or "
                "disentanglement.speaker.weight=0"
            )
    if asked.pitch.weight:
        path = _required(_place(settings, split, "f0"), "vocable features f0")
        pitch = read_pitch_labels(path, manifest)
        if len(np.unique(pitch.values[pitch.values >= 0])) < 2:
            raise InputError(
                f"{path} has fewer than two bins with voiced frames: make it again, or give disentanglement.pitch.weight=0"
            )
    return Voices(speakers, pitch)


def _measured(settings: DisentangledSettings, split: Split, train: Voices, notes: list[str]) -> Voices:
    """Return what heads are measured on, as far as there is such; a validation's speakers are often others.

    Raises:
        MismatchError: speakers or bins are others than those that are learnt.
    """
    speakers, pitch = None, None
    spoken, high = _place(settings, split, "spk"), _place(settings, split, "f0")
    if train.speakers is not None and spoken.is_file():
        speakers = read_speaker_labels(spoken, _manifest(split))
        if (speakers.ids < 0).all():
            speakers = None
    if train.speakers is not None and speakers is None:
        why = "has none of the speakers that are learnt" if spoken.is_file() else "isn't there"
        notes.append(f"{spoken} {why}, so what is told of speakers isn't validated")
    if train.pitch is not None and high.is_file():
        pitch = read_pitch_labels(high, _manifest(split))
        mine, theirs = train.pitch.header.codebook, pitch.header.codebook
        if mine is not None and theirs is not None and mine != theirs:
            raise MismatchError(f"{high} was made with other bins than those that are learnt: make both with one f0.json")
    elif train.pitch is not None:
        notes.append(f"{high} isn't there, so what is told of pitch isn't validated")
    return Voices(speakers, pitch)


def _manifest(split: Split) -> Manifest:
    assert isinstance(split.inputs, AudioInputs)  # the settings have seen to it
    return split.inputs.manifest


def _place(settings: DisentangledSettings, split: Split, ending: str) -> Path:
    return settings.data.voices / f"{split.name}.{ending}"


def _required(path: Path, command: str) -> Path:
    if not path.is_file():
        raise InputError(f"{path} isn't there: make it with '{command}', or say with data.feat_dir where it is")
    return path
