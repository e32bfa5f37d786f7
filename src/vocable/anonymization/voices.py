"""How frames become speech again: by a model that was trained for it, or, without any, by an envelope, pulses and noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from vocable.anonymization.cepstra import SPEC, cepstra_of, envelope_of
from vocable.anonymization.speech_parts import BINS, HOP, SpeechParts, at_level, put_together, taken_apart
from vocable.artefacts.feature_spec import FeatureSpec
from vocable.audio.decoding import Waveform
from vocable.checkpoints.detokenizers import DetokenizerCheckpoint
from vocable.clustering.fleets import Fleet
from vocable.errors import InputError, MismatchError
from vocable.execution.threads import torch_single_threaded
from vocable.features.encoder_layer import EncoderFile
from vocable.features.kaldi import Frames
from vocable.models.conformer import Conformer
from vocable.models.vocoder import VocoderConfig


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

    def say(self, frames: Frames, told: Told, speaker: int) -> Waveform:
        """Return the waveform of other frames in place of an utterance's.

        Args:
            frames: of shape (frames, dim).
            told: the utterance.
            speaker: the codebook whose speaker says it, where that matters beside the frames.
        """


class SourceFilterVoice:
    """Needs no model: cepstra are made audible by an envelope, pulses and noise.

    Codebooks say how sounds differ from a speaker's mean; the mean itself, and the median pitch, are those of one of the fleet's
    speakers.

    Args:
        fleet: codebooks of cepstra, with these statistics.
        model: with a conformer that makes cepstra of centroids, if one was trained.

    Raises:
        MismatchError: it is of other frames.
    """

    spec = SPEC

    def __init__(self, fleet: Fleet, model: DetokenizerCheckpoint | None = None) -> None:
        fleet.require(SPEC)
        if not {"mean", "pitch"} <= set(fleet.statistics):
            raise MismatchError(
                "these codebooks lack their speakers' means and pitch, without which a model is needed: give --model, or "
                "codebooks of 'vocable anonymize fit-codebooks'"
            )
        self._means, pitches = fleet.statistics["mean"], fleet.statistics["pitch"]
        if self._means.shape != (len(fleet), BINS) or pitches.shape != (len(fleet),):
            raise MismatchError("these codebooks' means and pitch have other shapes than cepstra's: fit them again")
        voiced = pitches[pitches > 0]
        usual = np.median(voiced) if len(voiced) else 0.0
        self._pitches = np.where(pitches > 0, pitches, usual)  # of a speaker who was never voiced, somebody else's
        if model is not None:
            check_conformer(SPEC, model)
        self._conformer = None if model is None else model.build_conformer()

    @property
    def sample_rate(self) -> int:
        """Hz of what is said."""
        return SPEC.sample_rate

    def tell(self, waveform: Waveform) -> Told:
        """Return the cepstra of a waveform around its own mean."""
        parts = taken_apart(waveform)
        return Told(cepstra_of(parts, parts.mean), waveform, parts)

    def say(self, frames: Frames, told: Told, speaker: int) -> Waveform:
        """Return cepstra said with a speaker's mean and pitch, as long and as loud as the utterance."""
        assert told.parts is not None
        frames = frames if self._conformer is None else _made(self._conformer, frames)
        own, target = told.parts.median_pitch, float(self._pitches[speaker])
        factor = target / own if own and target else 1.0
        pitch = told.parts.pitch * np.float32(factor)
        made = put_together(envelope_of(frames, self._means[speaker]), pitch, told.parts.samples)
        return at_level(made, told.waveform)


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
        import torch

        self.spec = spec
        check_model(spec, model, vocoder)
        self._conformer, self._vocoder = model.build_conformer(), (vocoder or model).build_vocoder()
        self._device = torch.device(device)
        self._conformer.to(self._device)
        self._vocoder.to(self._device)
        self._extractor = encoder.extractor(spec, device)

    @property
    def sample_rate(self) -> int:
        """Hz of what is said."""
        return self._vocoder.config.sample_rate

    def tell(self, waveform: Waveform) -> Told:
        """Return the encoder's frames of a waveform."""
        return Told(self._extractor([waveform])[0], waveform)

    def say(self, frames: Frames, told: Told, speaker: int) -> Waveform:
        """Return what conformer and vocoder make of centroids: a hop of samples for each frame."""
        del told, speaker
        import torch

        with torch.inference_mode(), torch_single_threaded():
            made = self._conformer([torch.from_numpy(frames).to(self._device)])[0]
            waveform: Any = self._vocoder.of_utterance(made).float().cpu().numpy()
        found: Waveform = waveform
        return found


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
    shape = other.require_vocoder()
    if shape.dim != spec.dim or shape.hop != spec.hop:
        raise InputError(
            f"{other.path} has a vocoder for {shape.dim} values every {shape.hop} samples, but the codebooks' "
            f"frames have {spec.dim} every {spec.hop}: give another vocoder"
        )
    return shape


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
    import torch

    with torch.inference_mode(), torch_single_threaded():
        found: Frames = conformer([torch.from_numpy(frames)])[0].numpy()
    return found


def least_samples(spec: FeatureSpec) -> int:
    """Return how many samples an utterance needs."""
    return HOP if spec == SPEC else spec.receptive_field
