"""Crops keep their labels, at any offset and either rate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from helpers import speech_like
from models.made import tiny
from vocable.audio.manifest import Manifest, Utterance
from vocable.errors import InputError
from vocable.models.config import MelInput
from vocable.pretraining.labelled_audio import LabelledAudio, LabelSet, labelled_frames, labels_of_frames, usable_frames
from vocable.pretraining.masking import MaskSettings
from vocable.training.batches import BatchSettings
from vocable.training.inputs import AudioInputs
from vocable.units.units import Units, UnitsHeader

BATCHES = BatchSettings(seconds=8, micro_seconds=4, longest=2, shortest=0.3)


@pytest.mark.parametrize(("ratio", "hop"), [(2.0, 320), (1.0, 320)])
def test_a_frame_has_the_label_of_its_own_samples_at_every_offset(ratio: float, hop: int) -> None:
    samples = 16_000
    frames = 1 + (samples - 400) // 320
    period = int(hop / ratio)
    labels = np.arange(1 + (samples - 400) // period)  # label i is of the samples from i · period
    for first in range(frames - 1):
        for length in (1, 2, frames - first):
            found = labels_of_frames(labels, ratio, first, length)
            assert np.array_equal(found * period, (first + np.arange(length)) * hop)


def test_frames_without_a_label_are_not_used() -> None:
    assert [labelled_frames(count, 2.0) for count in (0, 1, 2, 3, 1561)] == [0, 1, 1, 2, 781]
    assert [labelled_frames(count, 1.0) for count in (0, 1, 780)] == [0, 1, 780]
    for count in range(1, 40):
        for ratio in (0.5, 1.0, 2.0, 4.0):
            last = labelled_frames(count, ratio)
            assert labels_of_frames(np.arange(count), ratio, 0, last).max() <= count - 1


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    rows = []
    for at, seconds in enumerate((1.0, 1.2, 2.5, 0.2, 3.0)):
        soundfile.write(tmp_path / f"{at}.wav", speech_like(seconds, at), 16_000, subtype="FLOAT")
        rows.append(Utterance(str(at), f"{at}.wav", int(seconds * 16_000)))
    return Manifest.of(rows, str(tmp_path))


def sets_of(manifest: Manifest, rate: float) -> list[LabelSet]:
    """Return labels that say where they are: thousands of their row, and the number of their frame."""
    hop = int(16_000 / rate)
    counts = [max(0, 1 + (int(samples) - 400) // hop) for samples in manifest.samples]
    rows = [np.arange(count) + 1000 * row for row, count in enumerate(counts)]
    return [LabelSet(Units.of(rows, UnitsHeader(clusters=6000, rate=rate)), rate)]


@pytest.mark.parametrize("rate", [50.0, 100.0])
@pytest.mark.parametrize("mel", [False, True])
def test_micro_batches_hold_crops_with_their_own_labels(manifest: Manifest, rate: float, mel: bool) -> None:
    config = tiny("hubert", convolutions=(), mel=MelInput(40, 2, "none")) if mel else tiny()
    data = LabelledAudio(AudioInputs(manifest, config), sets_of(manifest, rate), config, BATCHES, MaskSettings(length=3), 1)
    assert data.utterances == 4
    ratio = int(rate * 320 / 16_000)
    seen: set[tuple[int, int]] = set()
    for position in range(30):
        batch = data.make(position).batch
        for audio, labels, mask in zip(batch.audio, batch.labels[0], batch.mask, strict=True):
            row, start = divmod(int(labels[0]), 1000)
            assert torch.equal(labels, 1000 * row + start + ratio * torch.arange(len(labels)))
            first = start // ratio
            seen.add((row, first))
            samples = soundfile.read(str(Path(manifest.root) / f"{row}.wav"), dtype="float32")[0]
            if mel:
                assert audio.shape == (len(labels), 80)
            else:
                assert np.array_equal(audio.numpy(), samples[first * 320 : first * 320 + (len(labels) - 1) * 320 + 400])
            assert len(labels) == len(mask) <= 99
        assert batch.hidden.tolist() == batch.mask.flatten().nonzero().flatten().tolist()
        assert batch.seconds == pytest.approx(batch.mask.numel() / 50)
    assert len({first for row, first in seen if row == 4}) > 3


def test_a_position_gives_the_same_batch_again(manifest: Manifest) -> None:
    one, two = (
        LabelledAudio(AudioInputs(manifest, tiny()), sets_of(manifest, 50), tiny(), BATCHES, MaskSettings(), 1) for _ in range(2)
    )
    for position in (7, 0, 3):
        first, second = one.make(position).batch, two.make(position).batch
        assert all(torch.equal(getattr(first, name), getattr(second, name)) for name in ("audio", "labels", "mask"))


@pytest.mark.parametrize("longest", [1.1, 2.0])  # the others are as long as that, or shorter
def test_a_row_that_cannot_be_read_is_replaced_by_another_and_named(manifest: Manifest, longest: float) -> None:
    (Path(manifest.root) / "4.wav").write_bytes(b"no sound")
    samples = np.zeros(40_000, dtype=np.float32)
    samples[100] = np.nan
    soundfile.write(Path(manifest.root) / "2.wav", samples, 16_000, subtype="FLOAT")
    data = LabelledAudio(
        AudioInputs(manifest, tiny()), sets_of(manifest, 50), tiny(), replace(BATCHES, longest=longest), MaskSettings(), 1
    )
    found: dict[int, str] = {}
    for position in range(12):
        made = data.make(position)
        found |= made.unreadable
        assert {int(labels[0]) // 1000 for labels in made.batch.labels[0]} <= {0, 1}
    assert set(found) == {2, 4}
    assert "not finite" in found[2] or "NaN" in found[2]
    for name in ("0", "1"):
        (Path(manifest.root) / f"{name}.wav").unlink()
    with pytest.raises(InputError, match="look whether the manifest's audio is still there"):
        data.make(0)


def test_labels_that_are_few_shorten_what_is_used(manifest: Manifest) -> None:
    few = [LabelSet(Units.of([np.zeros(10, dtype=int)] * 5, UnitsHeader()), 50.0)]
    assert usable_frames(AudioInputs(manifest, tiny()), few, 50.0).tolist() == [10, 10, 10, 9, 10]
