"""What a vocoder learns from: crops whose samples are those of their frames, and frames as it will meet them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from helpers import speech_like
from vocable.anonymization.cepstra import cepstra_of, envelope_of
from vocable.anonymization.parts_frames import PARTS_SPEC, parts_frames
from vocable.anonymization.speech_parts import put_together, taken_apart
from vocable.anonymization.vocoder_data import SpeechSource, VocoderData, mel_frames_of, parts_frames_of, said_again
from vocable.audio.decoding import Waveform
from vocable.audio.faults import AudioFault
from vocable.clustering.fleets import Member, read_fleet, write_fleet
from vocable.errors import InputError
from vocable.features.hifigan_mel import HifiganMel
from vocable.features.kaldi import Frames
from vocable.models.conformer import Conformer, ConformerConfig
from vocable.training.batches import BatchSettings

SIZES = BatchSettings(seconds=1.2, micro_seconds=1.2, longest=0.3, shortest=0.3, utterances=4)


def source(count: int = 5, broken: tuple[int, ...] = (), made: list[int] | None = None) -> SpeechSource:
    """Utterances of 0.5 s and more; frames hold the number of their first sample, and samples their own."""

    def waveform(row: int) -> Waveform:
        if row in broken:
            raise AudioFault("unreadable", "it is broken")
        return np.arange(8000 + 100 * row, dtype=np.float32)

    def frames(row: int, heard: Waveform) -> Frames:
        if made is not None:
            made.append(row)
        return np.repeat(np.arange(0, len(heard), 160, dtype=np.float32)[:, None], PARTS_SPEC.dim, axis=1)

    lengths = np.array([(8000 + 100 * row) // 160 for row in range(count)])
    return SpeechSource([f"u{row}" for row in range(count)], [None] * count, lengths, PARTS_SPEC, waveform, frames, "x")


def test_samples_are_those_of_the_frames_and_follow_from_seed_and_position() -> None:
    made: list[int] = []
    data = VocoderData(source(made=made), SIZES, 1)
    assert (data.micro_batches, data.utterances) == (2, 5)
    for position in (0, 1, 5):
        batch = data.make(position).batch
        assert batch.frames.shape[1:] == (30, PARTS_SPEC.dim)
        assert batch.waveforms.shape == (len(batch.frames), 30 * 160)
        assert torch.equal(batch.waveforms[:, ::160], batch.frames[:, :, 0])
        again = VocoderData(source(), SIZES, 1).make(position).batch
        assert torch.equal(again.waveforms, batch.waveforms)
    assert sorted(made) == list(range(5))  # each once: it is kept
    firsts = {float(start) for position in range(40) for start in data.make(position).batch.waveforms[:, 0]}
    assert len(firsts) > 15
    assert not torch.equal(VocoderData(source(), SIZES, 2).make(0).batch.waveforms, data.make(0).batch.waveforms)


def test_where_memory_ends_speech_is_made_again_and_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = VocoderData(source(), SIZES, 1).make(0).batch
    monkeypatch.setattr("vocable.anonymization.vocoder_data._KEPT", 170_000)
    made: list[int] = []
    data = VocoderData(source(made=made), SIZES, 1)
    for position in (0, 1, 0, 1):
        found = data.make(position).batch
        assert position or torch.equal(found.waveforms, expected.waveforms)
    assert len(made) == 2 + 2 * 3  # there is room for two


def test_others_take_the_place_of_what_cannot_be_read() -> None:
    whole = VocoderData(source(), SIZES, 1)
    position = next(at for at in range(2) if len(whole.make(at).batch.frames) == 4)
    found = VocoderData(source(broken=(0, 3)), SIZES, 1).make(position)
    assert set(found.unreadable.values()) == {"it is broken"}
    assert len(found.batch.frames) == 4
    with pytest.raises(InputError, match="it is broken, and so it goes on"):
        VocoderData(source(broken=tuple(range(5))), SIZES, 1).make(0)
    with pytest.raises(InputError, match="no utterance is long enough"):
        VocoderData(source(), BatchSettings(seconds=9, micro_seconds=9, longest=9, shortest=9), 1)


def test_speech_parts_are_those_that_the_voice_gives() -> None:
    waveform = speech_like(0.5, 3)
    found = parts_frames_of(None)(0, waveform)
    parts = taken_apart(waveform)
    envelope = envelope_of(cepstra_of(parts, parts.mean), parts.mean)
    np.testing.assert_array_equal(found, parts_frames(envelope, parts.pitch))
    assert found.shape == (50, PARTS_SPEC.dim)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[:, :80] * 4 - 11, envelope, atol=1e-5)
    voiced = parts.pitch > 0
    assert voiced.any()
    np.testing.assert_allclose(150 * np.exp(found[voiced, 80]), parts.pitch[voiced], rtol=1e-5)
    assert not found[~voiced, 80:82].any()
    np.testing.assert_array_equal(found[:, 81] > 0, voiced)


def test_samples_are_those_that_need_no_model() -> None:
    envelope, pitch = np.zeros((7, 80), np.float32), np.array([0, 0, 100, 100, 90, 0, 0], np.float32)
    samples = parts_frames(envelope, pitch)[:, 82:]
    np.testing.assert_allclose(samples.ravel() / 10, put_together(envelope, pitch, 7 * 160), rtol=1e-6)
    assert parts_frames(envelope[:0], pitch[:0]).shape == (0, PARTS_SPEC.dim)


def test_log_mel_frames_are_made_of_the_audio() -> None:
    mel, waveform = HifiganMel(320), speech_like(0.5, 3)
    with torch.inference_mode():
        assert torch.equal(torch.from_numpy(mel_frames_of(mel)(0, waveform)), mel(torch.from_numpy(waveform)[None])[0])


def test_frames_are_looked_up_in_their_speakers_codebook_and_said_again(tmp_path: Path) -> None:
    drawn = np.random.default_rng(0)
    members = [Member(f"c{number}", drawn.standard_normal((4, 6)).astype(np.float32)) for number in range(2)]
    write_fleet(tmp_path / "f", members, ["c0", "c1"], 4, 6)
    fleet, own = read_fleet(tmp_path / "f"), np.array([1, 0])
    frames = drawn.standard_normal((9, 6)).astype(np.float32)
    cpu = torch.device("cpu")
    for row in (0, 1):
        centroids = fleet.centroids(int(own[row]))
        nearest = centroids[np.square(frames[:, None] - centroids).sum(axis=2).argmin(axis=1)]
        np.testing.assert_array_equal(said_again(fleet, own, None, cpu)(row, frames), nearest)
        torch.manual_seed(0)
        conformer = Conformer(ConformerConfig(dim=8, heads=2, ffn_dim=8, layers=1, features=6))
        made = said_again(fleet, own, conformer, cpu)(row, frames)
        with torch.inference_mode():
            np.testing.assert_array_equal(made, conformer.eval()([torch.from_numpy(nearest)])[0])
