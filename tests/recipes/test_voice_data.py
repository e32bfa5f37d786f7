"""Labels of speakers and pitch as a training takes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from recipes.voices import write_voices
from vocable.recipes.disentangled_settings import read_disentangled_settings
from vocable.recipes.training_data import TrainingData
from vocable.recipes.voice_data import VoiceData

Cli = Callable[..., str]


@pytest.fixture
def prepared(cli: Cli, corpus: Path, tmp_path: Path) -> Path:
    cli("prepare", corpus, "--out", tmp_path / "run", "--clusters", 12, "--valid-percent", 0.2, "--workers", 1)
    return tmp_path / "run"


def voices_of(prepared: Path, voices: Path) -> VoiceData:
    settings = read_disentangled_settings("small-waveform", [f"data.folder={prepared}", f"data.feat_dir={voices}"])
    return VoiceData.read(settings, TrainingData.read(settings.data, settings.model.config()))


def test_what_validation_lacks_is_said_as_it_is(prepared: Path, tmp_path: Path) -> None:
    voices = write_voices(prepared, tmp_path / "voices", headers=False)
    assert voices_of(prepared, voices).notes == ()
    valid = voices / "valid.spk"
    valid.write_text("-1\n" * len(valid.read_text().split()))
    assert voices_of(prepared, voices).notes == (
        f"{valid} has none of the speakers that are learnt, so what is told of speakers isn't validated",
    )
    valid.unlink()
    assert voices_of(prepared, voices).notes == (f"{valid} isn't there, so what is told of speakers isn't validated",)
