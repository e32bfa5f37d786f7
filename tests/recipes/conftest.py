from __future__ import annotations

from pathlib import Path

import pytest

from helpers import write_audio


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    """Six files of a second."""
    for at in range(6):
        write_audio(tmp_path / "audio" / f"{at}.wav", 1.0, at)
    return tmp_path / "audio"
