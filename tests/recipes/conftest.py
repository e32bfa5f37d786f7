from __future__ import annotations

from pathlib import Path

import pytest

from helpers import run_vocable, write_audio


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    """Six files of a second."""
    for at in range(6):
        write_audio(tmp_path / "audio" / f"{at}.wav", 1.0, at)
    return tmp_path / "audio"


@pytest.fixture(scope="session")
def mel_speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve utterances of 0.5 to 3.2 seconds."""
    root = tmp_path_factory.mktemp("speech")
    for at in range(12):
        write_audio(root / f"s{at % 3}" / f"{at:03d}.flac", 0.5 + 0.2456 * at, at)
    return root


@pytest.fixture(scope="session")
def preprocessed(mel_speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data")
    made = run_vocable("melhubert", "preprocess", mel_speech, out, "--clusters", 16, "--workers", 1)
    assert made.returncode == 0, made.stderr
    return out
