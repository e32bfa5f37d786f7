"""What stays of a voice, and whose mean and pitch are drawn, is what conditions are compared by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from helpers import speech_like, write_audio
from vocable.anonymization.anonymizer import Anonymizer, ByKey
from vocable.anonymization.cepstra import cepstra_of, envelope_of
from vocable.anonymization.draw import KeyedDraw
from vocable.anonymization.speech_parts import at_level, put_together, taken_apart
from vocable.clustering.fleets import Fleet, read_fleet
from vocable.errors import InputError

KEY = bytes(range(32))


@pytest.fixture(scope="module")
def fleets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Fleet, Fleet]:
    """A codebook for each of three speakers, and one of all."""
    from vocable.cli.main import run

    root = tmp_path_factory.mktemp("pool")
    for number in range(3):
        write_audio(root / "audio" / f"p{number}" / "a.wav", 2.0, number)
    found = []
    for each in ("1", "all"):
        out = root / f"{each}.safetensors"
        command = ["anonymize", "fit-codebooks", root / "audio", "--out", out, "--speakers", "{speaker}/*", "--clusters", 16]
        assert run([*map(str, command), "--speakers-per-codebook", each]) == 0
        found.append(read_fleet(Path(out)))
    return found[0], found[1]


def expected(wave: np.ndarray, frames: np.ndarray, mean: np.ndarray, factor: float) -> np.ndarray:
    parts = taken_apart(wave)
    return at_level(put_together(envelope_of(frames, mean), parts.pitch * np.float32(factor), parts.samples), wave)


def test_what_is_kept_stays_as_it_was(fleets: tuple[Fleet, Fleet]) -> None:
    each, _ = fleets
    wave = speech_like(1.0, 9)
    parts = taken_apart(wave)
    own = cepstra_of(parts, parts.mean)
    draw = ByKey(KeyedDraw(each.names, each.speakers, KEY))
    drawn = int(draw("u", 1, None).segments[0])
    plan = np.full(len(own), drawn)
    looked_up = each.lookup(each.tokens(own, plan), plan)
    target = each.statistics["pitch"][drawn]
    factor = float(target) / parts.median_pitch if parts.median_pitch and target else 1.0
    for keeps, frames, mean, times in (
        (("frames", "voice"), own, parts.mean, 1.0),
        (("frames",), own, each.statistics["mean"][drawn], factor),
        (("voice",), looked_up, parts.mean, 1.0),
        ((), looked_up, each.statistics["mean"][drawn], factor),
    ):
        made = Anonymizer(each, draw=draw, keeps=keeps, distance=1)(wave, "u").waveform  # type: ignore[arg-type]
        assert np.array_equal(made, expected(wave, frames, mean, times)), keeps


def test_voices_may_be_farther_from_the_usual_one(fleets: tuple[Fleet, Fleet]) -> None:
    each, one = fleets
    wave = speech_like(1.0, 9)
    parts = taken_apart(wave)
    own = cepstra_of(parts, parts.mean)
    draw = ByKey(KeyedDraw(each.names, each.speakers, KEY))
    drawn = int(draw("u", 1, None).segments[0])
    plan = np.full(len(own), drawn)
    means, pitches = each.statistics["mean"].astype(np.float64), np.log(each.statistics["pitch"].astype(np.float64))
    mean = means.mean(axis=0) + 1.5 * (means[drawn] - means.mean(axis=0))
    pitch = np.exp(pitches.mean() + 1.5 * (pitches[drawn] - pitches.mean()))
    made = Anonymizer(each, draw=draw, distance=1.5)(wave, "u").waveform
    looked_up = each.lookup(each.tokens(own, plan), plan)
    wanted = expected(wave, looked_up, mean.astype(np.float32), pitch / parts.median_pitch)
    assert np.abs(made - wanted).max() < 1e-4
    usual, far = (Anonymizer(each, draw=draw, distance=way)(wave, "u").waveform for way in (None, 1.4))
    assert np.array_equal(usual, far)
    alone = Anonymizer(one, distance=1)(wave, "u").waveform
    assert np.abs(Anonymizer(one, distance=2)(wave, "u").waveform - alone).max() < 1e-4  # it is the usual one
    for wrong in (-0.1, 5, float("nan")):
        with pytest.raises(InputError, match="give a multiple"):
            Anonymizer(each, distance=wrong)


def test_voices_of_others_are_drawn_beside_one_codebook(fleets: tuple[Fleet, Fleet]) -> None:
    each, one = fleets
    wave = speech_like(1.0, 9)
    voices = KeyedDraw(each.names, each.speakers, KEY)
    draw = ByKey(KeyedDraw(one.names, one.speakers, KEY), voices)
    speakers = {draw(f"u{number}", 1, None).speaker for number in range(30)}
    assert speakers == {0, 1, 2}
    parts = taken_apart(wave)
    own, plan = cepstra_of(parts, parts.mean), np.zeros(len(parts.pitch), np.int64)
    speaker = draw("u0", 1, None).speaker
    target = each.statistics["pitch"][speaker]
    factor = float(target) / parts.median_pitch if parts.median_pitch and target else 1.0
    made = Anonymizer(one, draw=draw, voices=each, distance=1)(wave, "u0").waveform
    assert np.array_equal(made, expected(wave, one.lookup(one.tokens(own, plan), plan), each.statistics["mean"][speaker], factor))
    assert len(Anonymizer(one, voices=each)(wave).waveform) == len(wave)
