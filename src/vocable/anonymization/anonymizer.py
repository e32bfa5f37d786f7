"""`Anonymizer`: speech said by other voices, each of its frames looked up in a codebook that is drawn for it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, cast, get_args

import numpy as np

from vocable.anonymization.cepstra import SPEC
from vocable.anonymization.draw import KeyedDraw, Plan, of_frames, segment_count
from vocable.anonymization.voices import (
    DISTANCE,
    NeuralVoice,
    SourceFilterVoice,
    Voice,
    check_conformer,
    check_model,
    check_parts_vocoder,
    least_samples,
    require_distance,
)
from vocable.artefacts.feature_spec import FeatureSpec
from vocable.audio.decoding import Waveform, read_waveform
from vocable.audio.faults import AudioFault
from vocable.checkpoints.detokenizers import DetokenizerCheckpoint, read_detokenizer
from vocable.clustering.fleets import Fleet, Tokens, read_fleet
from vocable.errors import InputError, MismatchError
from vocable.features.encoder_layer import EncoderFile
from vocable.models.config import WaveformNormalization
from vocable.models.taps import TapName

Per = Literal["audio", "frame"]
Kept = Literal["frames", "voice"]


@dataclass(frozen=True)
class Drawn:
    """Which codebooks an utterance goes to."""

    segments: Plan
    """Of each segment."""
    speaker: int
    """The one whose speaker's mean and pitch are taken, where there are such."""


class Draw(Protocol):
    """Says which codebooks an utterance goes to."""

    def __call__(self, utterance: str, segments: int, speaker: str | None) -> Drawn:
        """Return a codebook for each of an utterance's segments."""


@dataclass(frozen=True)
class ByKey:
    """Draws with a key; `voices` draws whose mean and pitch are taken, where that isn't a codebook's speaker."""

    keyed: KeyedDraw
    voices: KeyedDraw | None = None

    def __call__(self, utterance: str, segments: int, speaker: str | None) -> Drawn:
        """Return a codebook for each segment; the speaker of all of it is drawn by itself where there are several."""
        found = self.keyed.segments(utterance, segments, speaker)
        alone = segments == 1 and self.voices is None
        one = found[:1] if alone else (self.voices or self.keyed).segments(utterance, 1, speaker, "voice")
        return Drawn(found, int(one[0]))


@dataclass(frozen=True)
class AsPlanned:
    """Takes what was drawn before, for all utterances together."""

    plans: Mapping[str, Plan]

    def __call__(self, utterance: str, segments: int, speaker: str | None) -> Drawn:
        """Return the plan of an utterance."""
        del speaker
        found = self.plans[utterance]
        if len(found) != segments:
            raise InputError(f"{utterance} has {segments} segments, but {len(found)} were drawn: its audio has changed")
        return Drawn(found, int(found[0]))


@dataclass(frozen=True)
class Anonymous:
    """An utterance said by other voices."""

    waveform: Waveform
    sample_rate: int
    tokens: Tokens
    """Of each frame, of shape (frames, groups)."""
    segments: Plan
    """The codebook of each segment. Whoever knows it can tell more of the speaker: don't give it away."""


class Anonymizer:
    """Speech in, speech of other voices out.

    Args:
        codebooks: a fleet, or its file.
        model: a detokenizer's file; without one, codebooks of cepstra are made audible without any model.
        encoder: the checkpoint that the codebooks were fitted with, where they are of an encoder's frames.
        vocoder: another vocoder than the model's; or, for codebooks of cepstra, one of speech parts.
        per: `audio`: a codebook for each utterance; `frame`: one for each stretch of `stride` frames.
        stride: frames of such a stretch.
        draw: which codebooks; by default a key that is made now and kept nowhere decides.
        voices: another fleet of cepstra, of whose speakers mean and pitch are drawn; by default those of the codebooks.
        keeps: what stays as it was, in order to see what the rest does: `frames`, which aren't looked up, or `voice`, the
            speaker's own mean and pitch. Speech of which both stay was only taken apart and put together.
        distance: of voices from the usual one, as `SourceFilterVoice` has it; by default 1.4. Codebooks of cepstra alone.
        match_length: give as many samples as came in; by default a model gives as many as its frames make.
        device: a torch device.

    Raises:
        InputError: parts are missing, or don't go together.
        MismatchError: codebooks, encoder and model are for different frames.
    """

    def __init__(
        self,
        codebooks: Fleet | str | Path,
        model: str | Path | None = None,
        *,
        encoder: str | Path | EncoderFile | None = None,
        vocoder: str | Path | None = None,
        per: Per = "audio",
        stride: int = 1,
        draw: Draw | None = None,
        voices: Fleet | str | Path | None = None,
        keeps: Sequence[Kept] = (),
        distance: float | None = None,
        match_length: bool = False,
        device: str = "cpu",
    ) -> None:
        if per not in ("audio", "frame") or stride < 1:
            raise InputError(f"a codebook per {per!r} and a stride of {stride}: give audio or frame, and 1 or more")
        self.fleet = codebooks if isinstance(codebooks, Fleet) else read_fleet(codebooks)
        others = voices if voices is None or isinstance(voices, Fleet) else read_fleet(voices)
        drawn = None if others is None else KeyedDraw(others.names, others.speakers)
        self._draw = draw or ByKey(KeyedDraw(self.fleet.names, self.fleet.speakers), drawn)
        if isinstance(keeps, str) or not set(keeps) <= set(get_args(Kept)):
            raise InputError(f"keeps {keeps!r}: give some of {', '.join(get_args(Kept))}, in a list")
        self._keeps = frozenset(keeps)
        self._stride = stride if per == "frame" else None
        self._match_length = match_length
        self.voice = VoiceParts.of(self.fleet, model, encoder, vocoder, others, distance).voice(device)
        if self._keeps and self.voice.spec != SPEC:
            raise InputError("what is kept of a voice is a matter of cepstra: leave keeps out, or take codebooks of these")

    def __call__(self, audio: str | Path | Waveform, name: str | None = None, speaker: str | None = None) -> Anonymous:
        """Return an utterance said by other voices.

        Args:
            audio: a file, or a waveform at the encoder's rate (16 kHz without one).
            name: of the utterance, by which codebooks are drawn; by default the file's, or for a waveform one that is new.
            speaker: who speaks, where own codebooks are to be left out.

        Raises:
            AudioFault: the file can't be read, is shorter than a frame, or what it holds or becomes isn't finite.
        """
        spec = self.voice.spec
        if isinstance(audio, (str, Path)):
            name = str(audio) if name is None else name
            audio = read_waveform(str(audio), spec.sample_rate)
        waveform = audio.astype(np.float32, copy=False)
        least = least_samples(spec)
        if len(waveform) < least:
            raise AudioFault("short", f"{len(waveform)} samples at {spec.sample_rate} Hz; {least} are needed")
        if not np.isfinite(waveform).all():
            raise AudioFault("not finite", "some of its samples are no numbers")
        samples = len(waveform)
        if self._match_length and spec.kind == "encoder":  # so many that their frames make as many samples at least
            needed = spec.receptive_field + (-(-samples // spec.hop) - 1) * spec.hop
            waveform = np.pad(waveform, (0, max(0, needed - samples)))
        told = self.voice.tell(waveform)
        if not np.isfinite(told.frames).all():
            raise AudioFault("not finite", "its samples are so large that frames overflow")
        frames = len(told.frames)
        drawn = self._draw(secrets.token_hex(16) if name is None else name, segment_count(frames, self._stride), speaker)
        plan = of_frames(drawn.segments, frames, self._stride or frames)
        tokens = self.fleet.tokens(told.frames, plan)
        frames_said = told.frames if "frames" in self._keeps else self.fleet.lookup(tokens, plan)
        said = self.voice.say(frames_said, told, None if "voice" in self._keeps else drawn.speaker)
        if not np.isfinite(said).all():
            raise AudioFault("not finite", "what codebooks and model make of it are no numbers")
        if self._match_length:
            said = said[: round(samples * self.voice.sample_rate / spec.sample_rate)]
        return Anonymous(said, self.voice.sample_rate, tokens, drawn.segments)


@dataclass(frozen=True)
class VoiceParts:
    """What a voice is made of, checked, but not built."""

    fleet: Fleet
    model: DetokenizerCheckpoint | None = None
    vocoder: DetokenizerCheckpoint | None = None
    encoder: EncoderFile | None = None
    voices: Fleet | None = None
    distance: float = DISTANCE
    """Of voices of cepstra."""

    @classmethod
    def of(
        cls,
        fleet: Fleet,
        model: str | Path | None,
        encoder: str | Path | EncoderFile | None,
        vocoder: str | Path | None,
        voices: Fleet | None = None,
        distance: float | None = None,
    ) -> VoiceParts:
        """Return the parts; the arguments are those of `Anonymizer`.

        Raises:
            InputError: parts are missing, or don't go together.
            MismatchError: they are for different frames.
        """
        far = DISTANCE if distance is None else distance
        require_distance(far)
        if model is None:
            if fleet.spec is not None and fleet.spec.kind == "encoder":
                raise InputError(
                    "the codebooks are of an encoder's frames, which a model makes audible: give --model, and --encoder"
                )
            if encoder is not None:
                raise InputError("--encoder goes with --model: give that, too, or leave it out")
            said = _parts_vocoder(vocoder)
            SourceFilterVoice(voices or fleet)
            return cls(fleet, vocoder=said, voices=voices, distance=far)
        if fleet.spec is None:
            raise MismatchError(
                "these codebooks don't say what frames they are of: import them with --encoder and --layer, which say it"
            )
        if fleet.spec.kind != "encoder":
            if encoder is not None:
                raise InputError(f"--encoder: codebooks of {fleet.spec.kind} take none; leave it out")
            own, said = read_detokenizer(model), _parts_vocoder(vocoder)
            check_conformer(SPEC, own)
            own.check()
            SourceFilterVoice(voices or fleet)
            return cls(fleet, own, said, voices=voices, distance=far)
        if distance is not None:
            raise InputError(f"a distance of {far:g}: voices are in an encoder's codebooks as they are; leave it out")
        if voices is not None:
            raise InputError("voices are drawn of a fleet where frames are cepstra: leave them out, these have the voice in them")
        if encoder is None:
            raise InputError(
                f"the codebooks are of layer {fleet.spec.layer} of an encoder whose digest begins {str(fleet.spec.model)[:12]}: "
                "give --encoder with its checkpoint"
            )
        normalization = cast("WaveformNormalization", fleet.spec.waveform_normalization)
        file = encoder if isinstance(encoder, EncoderFile) else EncoderFile(str(encoder), normalization)
        read = read_detokenizer(model), None if vocoder is None else read_detokenizer(vocoder)
        check_model(fleet.spec, *read)
        for checkpoint in filter(None, read):
            checkpoint.check()
        made = file.spec(fleet.spec.layer, cast("TapName", fleet.spec.tap or "block"), fleet.spec.chunking)
        fleet.spec.require_equal(made, "the codebooks' frames", f"those of {file.source}")
        return cls(fleet, *read, file)

    @property
    def spec(self) -> FeatureSpec:
        """What frames are looked up."""
        return SPEC if self.encoder is None or self.fleet.spec is None else self.fleet.spec

    @property
    def sample_rate(self) -> int:
        """Hz of what is said."""
        if self.model is None or self.encoder is None:
            return self.spec.sample_rate
        return check_model(self.spec, self.model, self.vocoder).sample_rate

    def voice(self, device: str = "cpu") -> Voice:
        """Return the voice, built.

        Raises:
            InputError: weights aren't numbers.
        """
        if self.model is None or self.encoder is None:
            return SourceFilterVoice(self.voices or self.fleet, self.model, self.vocoder, device, self.distance)
        return NeuralVoice(self.encoder, self.spec, self.model, self.vocoder, device)


def _parts_vocoder(vocoder: str | Path | None) -> DetokenizerCheckpoint | None:
    """Return a vocoder for codebooks of cepstra, if one is given."""
    if vocoder is None:
        return None
    found = read_detokenizer(vocoder)
    check_parts_vocoder(found)
    found.check()
    return found
