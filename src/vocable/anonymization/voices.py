"""How frames become speech again: by a model that was trained for it, or, without any, by an envelope, pulses and noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from vocable.anonymization.cepstra import SPEC, cepstra_of, envelope_of
from vocable.anonymization.parts_frames import PARTS_SPEC, parts_frames
from vocable.anonymization.speech_parts import BINS, HOP, SpeechParts, Values, at_level, put_together, taken_apart
from vocable.artefacts.feature_spec import FeatureSpec
from vocable.audio.decoding import Waveform
from vocable.checkpoints.detokenizers import DetokenizerCheckpoint
from vocable.clustering.fleets import Fleet
from vocable.errors import InputError, MismatchError
from vocable.execution.threads import torch_single_threaded
from vocable.features.encoder_layer import EncoderFile
from vocable.features.kaldi import Frames
from vocable.models.conformer import Conformer
from vocable.models.vocoder import Vocoder, VocoderConfig

_FARTHEST = 4.0  # beyond which nobody is understood
DISTANCE = 1.4
"""Of voices from the usual one: beside 1, equal error rates are 2 and 6 points higher, for one more word in a hundred misread."""


def require_distance(distance: float) -> None:
    """Refuse a distance of voices that there can't be.

    Raises:
        InputError: says which there are.
    """
    if not 0 <= distance <= _FARTHEST:
        raise InputError(f"a distance of {distance:g}: give a multiple of what there is, from 0 to {_FARTHEST:g}")


@dataclass(frozen=True)
class Told:
    """An utterance as frames, and what of it frames don't tell."""

    frames: Frames
    """Of shape (frames, dim)."""
    waveform: Waveform
    parts: SpeechParts | None = None


class Voice(Protocol):
    """Turns speech into frames, and frames into speech."""

    spec: FeatureSpec
    """What the frames are."""

    @property
    def sample_rate(self) -> int:
        """Hz of what is said."""

    def tell(self, waveform: Waveform) -> Told:
        """Return the frames of a waveform at the rate of `spec`."""

    def say(self, frames: Frames, told: Told, speaker: int | None) -> Waveform:
        """Return the waveform of other frames in place of an utterance's.

        Args:
            frames: of shape (frames, dim).
            told: the utterance.
            speaker: the codebook whose speaker says it, where that matters beside the frames; None: its own speaker.
        """


class SourceFilterVoice:
    """Needs no model: cepstra are made audible by an envelope, pulses and noise; or a vocoder of speech parts does that better.

    Codebooks say how sounds differ from a speaker's mean; the mean itself, and the median pitch, are those of one of the fleet's
    speakers.

    Args:
        fleet: of the speakers, with these statistics: the codebooks of cepstra that frames are looked up in, or others.
        model: with a conformer that makes cepstra of centroids, if one was trained.
        vocoder: of speech parts, if one was trained.
        device: a torch device, for the vocoder.
        distance: of the speakers' means and pitches from the mean of all, as a multiple: above 1 voices differ more than theirs
            do, and less of the speaker is heard through them.

    Raises:
        InputError: a part is missing, or is for frames of another size.
        MismatchError: a part is for other frames.
    """

    spec = SPEC

    def __init__(
        self,
        fleet: Fleet,
        model: DetokenizerCheckpoint | None = None,
        vocoder: DetokenizerCheckpoint | None = None,
        device: str = "cpu",
        distance: float = DISTANCE,
    ) -> None:
        fleet.require(SPEC)
        if not {"mean", "pitch"} <= set(fleet.statistics):
            raise MismatchError(
                "these codebooks lack their speakers' means and pitch, without which a model is needed: give --model, or "
                "codebooks of 'vocable anonymize fit-codebooks'"
            )
        means, pitches = fleet.statistics["mean"], fleet.statistics["pitch"]
        if means.shape != (len(fleet), BINS) or pitches.shape != (len(fleet),):
            raise MismatchError("these codebooks' means and pitch have other shapes than cepstra's: fit them again")
        voiced = pitches[pitches > 0]
        usual = np.median(voiced) if len(voiced) else 0.0
        pitches = np.where(pitches > 0, pitches, usual)  # of a speaker who was never voiced, somebody else's
        self._means, self._pitches = means, pitches
        if distance != 1:  # else they stay to the last bit
            self._means, self._pitches = _farther(means, distance), pitches
            if (pitches > 0).all():
                self._pitches = np.exp(_farther(np.log(pitches), distance))
        if model is not None:
            check_conformer(SPEC, model)
        self._conformer = None if model is None else model.build_conformer()
        if vocoder is not None:
            check_parts_vocoder(vocoder)
        self._vocoder = None if vocoder is None else vocoder.build_vocoder().to(device)

    @property
    def sample_rate(self) -> int:
        """Hz of what is said."""
        return SPEC.sample_rate

    def tell(self, waveform: Waveform) -> Told:
        """Return the cepstra of a waveform around its own mean."""
        parts = taken_apart(waveform)
        return Told(cepstra_of(parts, parts.mean), waveform, parts)

    def say(self, frames: Frames, told: Told, speaker: int | None) -> Waveform:
        """Return cepstra said with a speaker's mean and pitch, as long and as loud as the utterance."""
        assert told.parts is not None
        frames = frames if self._conformer is None else _made(self._conformer, frames)
        own = told.parts.median_pitch
        target, mean = (own, told.parts.mean) if speaker is None else (float(self._pitches[speaker]), self._means[speaker])
        factor = target / own if own and target else 1.0
        pitch = told.parts.pitch * np.float32(factor)
        envelope, samples = envelope_of(frames, mean), told.parts.samples
        if self._vocoder is None:
            return at_level(put_together(envelope, pitch, samples), told.waveform)
        return at_level(_said(self._vocoder, parts_frames(envelope, pitch))[:samples], told.waveform)


def _farther(values: Values, distance: float) -> Values:
    """Return the values of speakers, of shape (speakers, …), farther from their mean."""
    middle = values.mean(axis=0, dtype=np.float64)
    found: Values = (middle + distance * (values - middle)).astype(np.float32)
    return found


class NeuralVoice:
    """An encoder's layer, a conformer that makes its frames of centroids, and a vocoder.

    Args:
        encoder: whose frames are told.
        spec: of the layer.
        model: with a conformer, and a vocoder if none is given.
        vocoder: another file's.
        device: a torch device.

    Raises:
        InputError: a part is missing, or is for frames of another size.
        MismatchError: the encoder, or its layer, isn't the one that the model is for.
    """

    def __init__(
        self,
        encoder: EncoderFile,
        spec: FeatureSpec,
        model: DetokenizerCheckpoint,
        vocoder: DetokenizerCheckpoint | None = None,
        device: str = "cpu",
    ) -> None:
        self.spec = spec
        check_model(spec, model, vocoder)
        self._conformer, self._vocoder = model.build_conformer(), (vocoder or model).build_vocoder()
        self._conformer.to(device)
        self._vocoder.to(device)
        self._extractor = encoder.extractor(spec, device)

    @property
    def sample_rate(self) -> int:
        """Hz of what is said."""
        return self._vocoder.config.sample_rate

    def tell(self, waveform: Waveform) -> Told:
        """Return the encoder's frames of a waveform."""
        return Told(self._extractor([waveform])[0], waveform)

    def say(self, frames: Frames, told: Told, speaker: int | None) -> Waveform:
        """Return what conformer and vocoder make of centroids: a hop of samples for each frame."""
        del told, speaker
        return _said(self._vocoder, _made(self._conformer, frames))


def check_model(spec: FeatureSpec, model: DetokenizerCheckpoint, vocoder: DetokenizerCheckpoint | None) -> VocoderConfig:
    """Refuse a model for other frames, and return the shape of the vocoder that is taken.

    Args:
        spec: of the codebooks' frames.
        model: with a conformer, and a vocoder if none is given.
        vocoder: another file's.

    Raises:
        InputError: a part is missing, or is for frames of another size.
        MismatchError: the model is for other frames.
    """
    check_conformer(spec, model)
    other = vocoder or model
    if other.spec is not None:
        other.spec.require_equal(spec, "the vocoder's frames", "the codebooks'")
    shape = other.require_vocoder()
    _require_size(other, shape, spec, "the codebooks' frames")
    return shape


def check_parts_vocoder(vocoder: DetokenizerCheckpoint) -> None:
    """Refuse a file without a vocoder of speech parts, which is what goes with codebooks of cepstra.

    Raises:
        InputError: it has no vocoder, or doesn't say what it is for.
        MismatchError: it is for other frames.
    """
    shape = vocoder.require_vocoder()
    if vocoder.spec is None:
        raise InputError(
            f"{vocoder.path} doesn't say that its vocoder is for speech parts, which codebooks of cepstra need: give one of "
            "'vocable train vocoder' with data.input=speech-parts"
        )
    vocoder.spec.require_equal(PARTS_SPEC, "the vocoder's frames", "the speech parts that codebooks of cepstra need")
    _require_size(vocoder, shape, PARTS_SPEC, "speech parts")


def _require_size(vocoder: DetokenizerCheckpoint, shape: VocoderConfig, spec: FeatureSpec, frames: str) -> None:
    if shape.dim != spec.dim or shape.hop != spec.hop:
        raise InputError(
            f"{vocoder.path} has a vocoder for {shape.dim} values every {shape.hop} samples, but {frames} have {spec.dim} every "
            f"{spec.hop}: give another vocoder"
        )


def check_conformer(spec: FeatureSpec, model: DetokenizerCheckpoint) -> None:
    """Refuse a model without a conformer, or with one for other frames.

    Raises:
        InputError: it has none, or one for frames of another size.
        MismatchError: it is for other frames.
    """
    if model.spec is not None:
        model.spec.require_equal(spec, "the model's frames", "the codebooks'")
    values = model.require_conformer().values
    if values != spec.dim:
        raise InputError(
            f"{model.path} makes frames of {values} values of others, but the codebooks have {spec.dim}: give codebooks of its "
            "encoder"
        )


def _made(conformer: Conformer, frames: Frames) -> Frames:
    """Return the frames that a conformer makes of centroids."""
    with torch.inference_mode(), torch_single_threaded():
        found: Frames = conformer([_on_device_of(conformer, frames)])[0].float().cpu().numpy()
    return found


def _said(vocoder: Vocoder, frames: Frames) -> Waveform:
    """Return the waveform that a vocoder makes of frames: a hop of samples for each."""
    with torch.inference_mode(), torch_single_threaded():
        found: Waveform = vocoder.of_utterance(_on_device_of(vocoder, frames)).float().cpu().numpy()
    return found


def _on_device_of(module: nn.Module, frames: Frames) -> Tensor:
    return torch.from_numpy(frames).to(next(module.parameters()).device)


def least_samples(spec: FeatureSpec) -> int:
    """Return how many samples an utterance needs."""
    return HOP if spec == SPEC else spec.receptive_field
