"""Scores of anonymized speech by commands, with judges made for the test."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from vocable.errors import InputError
from vocable.evaluation.recognisers import recogniser
from vocable.evaluation.verifiers import verifier
from vocable.recipes.anonymity import read_transcripts

Cli = Callable[..., str]


def tone(pitch: float, number: int) -> NDArray[np.float32]:
    """Return speech of a speaker with a pitch, in which an utterance's number is written."""
    wave = 0.3 * np.sin(2 * np.pi * pitch * np.arange(8000) / 16000)
    wave[0] = number / 100
    return wave.astype(np.float32)


def describe(wave: NDArray[np.float32]) -> NDArray[np.float64]:
    """Tell a speaker by the pitch."""
    found = np.zeros(40)
    found[min(39, np.abs(np.fft.rfft(wave)).argmax() // 10)] = 1
    return found


def write_down(wave: NDArray[np.float32]) -> str:
    return f"number {round(float(wave[0]) * 100)} it is"


@pytest.fixture(autouse=True)
def judges(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("judges_of_tests")
    module.describe, module.write_down, module.nothing = describe, write_down, 3  # type: ignore[attr-defined]
    module.mute, module.lost = (lambda _: None), (lambda _: np.array([np.nan, 1.0]))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "judges_of_tests", module)


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Path, Path]:
    for speaker in range(4):
        for number in range(5):
            name = f"s{speaker}/u{speaker * 5 + number}.wav"
            for side, pitch, said in (("before", 200 + 60 * speaker, 0), ("now", 200 + 60 * ((speaker + 1) % 4), number == 0)):
                (tmp_path / side / f"s{speaker}").mkdir(parents=True, exist_ok=True)
                soundfile.write(tmp_path / side / name, tone(pitch, speaker * 5 + number + said), 16000, subtype="FLOAT")
    return tmp_path / "before", tmp_path / "now"


def test_privacy_is_scored_for_both_attackers(cli: Cli, sides: tuple[Path, Path], tmp_path: Path) -> None:
    common = ("evaluate", "privacy", *sides, "--workers", 1, "--verifier", "judges_of_tests:describe")
    speakers = ("--speakers", "{speaker}/*")
    found = json.loads(cli(*common, *speakers, "--json"))
    assert found["original"]["rate"] == 0
    assert found["ignorant"]["rate"] > 0.3
    assert found["lazy_informed"]["rate"] == 0  # each has another's pitch, but always the same one's
    assert found["missing"] == []
    assert found["original"]["targets"] == 80
    said = cli(*common, *speakers)
    assert "lazy-informed" in said
    (tmp_path / "groups").write_text("s0 f\ns1 f\ns2 m\ns3 m\n")
    assert json.loads(cli(*common, *speakers, "--json", "--groups", tmp_path / "groups"))["original"]["others"] == 100
    assert "give --speakers" in cli(*common, fails=True)
    (tmp_path / "groups").write_text("s0 f\n")
    assert "which group s1 belongs to" in cli(*common, *speakers, "--groups", tmp_path / "groups", fails=True)


def test_intelligibility_is_scored_by_what_was_said_or_is_read(cli: Cli, sides: tuple[Path, Path], tmp_path: Path) -> None:
    common = ("evaluate", "intelligibility", *sides, "--workers", 1, "--recogniser", "judges_of_tests:write_down")
    found = json.loads(cli(*common, "--json", "--speakers", "{speaker}/*"))
    assert found["words"]["errors"] == 4  # a number in each speaker's first utterance
    assert found["words"]["said"] == 80
    assert found["original"] is None
    lines = [f"u{number} number {number} it was" for number in range(20)]
    (tmp_path / "said.trans.txt").write_text("\n".join(lines))
    found = json.loads(cli(*common, "--json", "--transcripts", tmp_path / "said.trans.txt"))
    assert found["original"]["errors"] == 20
    assert found["words"]["errors"] == 24
    (sides[1] / "s0" / "u0.wav").unlink()
    said = cli(*common)
    assert "1 originals have nothing made of them, such as s0/u0" in said
    assert "correlation of pitch" in said
    (tmp_path / "said.trans.txt").write_text("s0/u1 one\ns1/u1 two\n")
    assert read_transcripts(tmp_path / "said.trans.txt") == {"s0/u1": "one", "s1/u1": "two"}
    (tmp_path / "said.trans.txt").write_text("u1\tone two\n")
    assert read_transcripts(tmp_path / "said.trans.txt") == {"u1": "one two"}
    assert "has no transcript" in cli(*common, "--transcripts", tmp_path / "said.trans.txt", fails=True)


def test_who_cannot_judge_is_told(sides: tuple[Path, Path], cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for make in (verifier, recogniser):
        with pytest.raises(InputError, match="MODULE:NAME"):
            make("nobody")
        with pytest.raises(InputError, match="can't be imported"):
            make("no_such_module:f")
        with pytest.raises(InputError, match="can't be called"):
            make("judges_of_tests:nothing")
    with pytest.raises(InputError, match="holds no transcripts"):
        read_transcripts(tmp_path)
    (tmp_path / "others").mkdir()
    soundfile.write(tmp_path / "others" / "x.wav", tone(100, 1), 16000)
    said = cli("evaluate", "privacy", sides[0], tmp_path / "others", "--verifier", "judges_of_tests:describe", fails=True)
    assert "has no utterance that" in said
    common = ("evaluate", "privacy", *sides, "--workers", 1, "--speakers", "{speaker}/*")
    for judge in ("mute", "lost"):
        assert "let it return finite numbers" in cli(*common, "--verifier", f"judges_of_tests:{judge}", fails=True)
    broken = ModuleType("faster_whisper")
    broken.WhisperModel = lambda model, **_: 1 / 0 if model != "no/such" else int("no model")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "faster_whisper", broken)
    assert "can't be had" in cli("evaluate", "intelligibility", *sides, "--recogniser", "faster-whisper:no/such", fails=True)
    assert "no effect here" in cli(*common, "--verifier", "judges_of_tests:describe", "--sample-rate", 8000, fails=True)
    assert "let it return a str" in cli(
        "evaluate", "intelligibility", *sides, "--workers", 1, "--recogniser", "judges_of_tests:mute", fails=True
    )
