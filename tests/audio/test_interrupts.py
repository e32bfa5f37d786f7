"""Ctrl-C while sound is decoded."""

from __future__ import annotations

import os
import signal
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from helpers import write_audio
from vocable.audio.decoding import count_samples, read_waveform


@pytest.fixture
def interruptible() -> object:
    """Ctrl-C as a terminal has it; test runners may ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")  # as in any program
@pytest.mark.parametrize("name", ["a.ogg", "a.flac", "a.wav", "a.mp3", "slice"])
def test_an_interrupt_is_heard_and_no_fault_of_the_file(tmp_path: Path, name: str, interruptible: None) -> None:
    """At sixty moments of the decoding: either it is interrupted, or what it returns is right."""
    path = str(write_audio(tmp_path / (name if "." in name else "a.ogg"), 20.0, 1))
    if name == "slice":
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.write(path, "a.ogg")
        content = Path(path).read_bytes()
        path = f"{tmp_path}/a.zip:{(tmp_path / 'a.zip').read_bytes().index(content)}:{len(content)}"
    expected, begun = read_waveform(path), time.perf_counter()
    assert np.array_equal(read_waveform(path), expected)
    duration, interrupted = time.perf_counter() - begun, 0
    assert count_samples(path) == (len(expected), 16000)
    for at in range(60):
        timer = threading.Timer(duration * at / 60, os.kill, (os.getpid(), signal.SIGINT))
        try:
            try:
                timer.start()
                found = read_waveform(path)
            finally:
                timer.join()
        except KeyboardInterrupt:
            interrupted += 1
        else:
            assert np.array_equal(found, expected)
    assert interrupted > 50
