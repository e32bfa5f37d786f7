"""Made audio, the command line in a process of its own, and what must not differ between runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray


def speech_like(seconds: float, seed: int, sample_rate: int = 16000) -> NDArray[np.float32]:
    """Return noise shaped by moving resonances: loud and quiet, voiced and not, so that frames differ."""
    rng = np.random.default_rng(seed)
    count = int(seconds * sample_rate)
    time = np.arange(count) / sample_rate
    pitch = 100 + 80 * rng.random() + 30 * np.sin(2 * np.pi * time * (1 + rng.random()))
    voice = np.sign(np.sin(2 * np.pi * np.cumsum(pitch) / sample_rate)) * (np.sin(2 * np.pi * 3 * time + rng.random()) > 0)
    loud = 0.02 + 0.2 * np.abs(np.sin(2 * np.pi * 2 * time + 6 * rng.random()))
    return (loud * (0.5 * voice + 0.3 * rng.standard_normal(count))).astype(np.float32)


def write_audio(path: Path, seconds: float, seed: int, sample_rate: int = 16000, **options: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, speech_like(seconds, seed, sample_rate), sample_rate, **options)
    return path


def run_vocable(*arguments: object, cwd: Path | None = None, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    command = [sys.executable, "-m", "vocable", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False)


def artefacts_in(folder: Path) -> dict[str, bytes]:
    """Return all files below a folder that must not differ from run to run."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".vocable" not in path.parts and not re.fullmatch(r"run(-\d+)?\.jsonl", path.name)
    }
