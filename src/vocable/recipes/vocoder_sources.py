"""The speech that a vocoder learns from: audio, or dumped frames with the audio they are of; as it is, or said again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from vocable.anonymization.cepstra import SPEC
from vocable.anonymization.detokenizer_data import own_codebooks
from vocable.anonymization.parts_frames import PARTS_SPEC
from vocable.anonymization.vocoder_data import Again, SpeechSource, mel_frames_of, parts_frames_of, said_again
from vocable.anonymization.voices import check_conformer
from vocable.artefacts.feature_spec import FeatureSpec
from vocable.audio.decoding import Waveform, read_waveform
from vocable.audio.manifest import Manifest
from vocable.checkpoints.detokenizers import read_detokenizer
from vocable.clustering.fleets import read_fleet
from vocable.errors import InputError
from vocable.features.hifigan_mel import HifiganMel
from vocable.features.kaldi import Frames
from vocable.models.vocoder import VocoderConfig
from vocable.recipes.corpus import CorpusSettings
from vocable.recipes.frame_stores import dumped_frames
from vocable.recipes.training_corpus import training_manifest
from vocable.recipes.vocoder_settings import VocoderDataSettings
from vocable.training.world import World


def audio_source(source: Path, asked: VocoderDataSettings, config: VocoderConfig, out: Path, world: World) -> SpeechSource:
    """Return the speech of a folder of audio, or a manifest.

    Raises:
        InputError: there is none, or no codebook for a speaker.
        MismatchError: codebooks or detokenizer are for other frames.
    """
    mel = HifiganMel(config.hop, config.sample_rate) if asked.input == "logmel" else None
    spec = PARTS_SPEC if mel is None else mel.spec
    corpus = CorpusSettings(speakers=asked.speakers, sample_rate=spec.sample_rate)
    manifest = training_manifest([source], corpus, out, world)
    speakers = [item.speaker for item in manifest]
    if mel is None:
        frames = parts_frames_of(_again(asked, SPEC, manifest.ids, speakers, world.device))
    else:
        frames = mel_frames_of(mel)
    lengths = manifest.samples.astype(np.int64) // spec.hop
    return SpeechSource(manifest.ids, speakers, lengths, spec, _waveform_of(manifest, spec), frames, manifest.digest)


def stored_source(folder: Path, asked: VocoderDataSettings, device: torch.device) -> SpeechSource:
    """Return the speech whose frames were dumped.

    Raises:
        InputError: there is none, nothing says which audio it is of, or there is no codebook for a speaker.
        MismatchError: codebooks or detokenizer are for other frames.
    """
    found = dumped_frames(folder, asked.speakers)
    if found.rows is None or not found.specs:
        raise InputError(f"{folder} doesn't say which audio its frames are of: make them with 'vocable features'")
    spec, source, rows = found.specs[0], found.source, found.rows
    for other in found.specs[1:]:
        spec.require_equal(other, "a shard's frames", "another's")
    again = _again(asked, spec, source.names, source.speakers, device)

    def frames(row: int, waveform: Waveform) -> Frames:
        del waveform
        own = source.frames(row)
        return own if again is None else again(row, own)

    lengths = np.minimum(source.lengths, rows.samples // spec.hop)
    return SpeechSource(source.names, source.speakers, lengths, spec, _waveform_of(rows, spec), frames, source.digest)


def _waveform_of(manifest: Manifest, spec: FeatureSpec) -> Callable[[int], Waveform]:
    def waveform(row: int) -> Waveform:
        item = manifest[row]
        return read_waveform(manifest.where(item), spec.sample_rate, item.channel)

    return waveform


def _again(
    asked: VocoderDataSettings, spec: FeatureSpec, names: Sequence[str], speakers: Sequence[str | None], device: torch.device
) -> Again | None:
    if asked.codebooks is None:
        return None
    fleet = read_fleet(asked.codebooks)
    fleet.require(spec)
    conformer = None
    if asked.detokenizer is not None:
        model = read_detokenizer(asked.detokenizer)
        check_conformer(spec, model)
        conformer = model.build_conformer()
    return said_again(fleet, own_codebooks(names, speakers, fleet), conformer, device)
