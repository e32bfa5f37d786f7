"""How long MFCCs and log mel energies take, of waveforms and of FLAC files.

    python benchmarks/front_ends.py [--speech DIR]

The peers' numbers are not the same: librosa has no pre-emphasis and other deltas; kaldi-native-fbank has Kaldi's numbers, as
vocable has, and is given NumPy's deltas.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from harness import Benchmark, Clock

SECONDS = 600.0  # of sound in a run
RATE, WINDOW, HOP, POINTS = 16000, 400, 160, 512
_REPEATS = 3

benchmark = Benchmark("front_ends", "Front ends, ten minutes of sound three times, single-threaded")

Extract = Callable[[np.ndarray], np.ndarray]
Read = Callable[[str], np.ndarray]


def _measured(case: dict[str, Any], clock: Clock, extract: Extract, read: Read) -> dict[str, Any]:
    """Run an extractor over the sound of a case; whether reading the files counts is the case's to say."""
    first = read(case["files"][0])
    extract(first)
    waveforms = None if case["files_count"] else [read(path) for path in case["files"]]
    for _ in range(_REPEATS):
        with clock.running():
            for at, path in enumerate(case["files"]):
                extract(read(path) if waveforms is None else waveforms[at])
    return {}


@benchmark.contender("vocable")
def vocable(case: dict[str, Any], seed: int, clock: Clock) -> dict[str, Any]:
    from vocable import LogMel, Mfcc, read_waveform

    extractor = Mfcc(RATE) if case["kind"] == "mfcc" else LogMel.preset(80, RATE)
    return _measured(case, clock, lambda waveform: extractor([waveform])[0], read_waveform)


@benchmark.contender("librosa")
def librosa(case: dict[str, Any], seed: int, clock: Clock) -> dict[str, Any]:
    import librosa

    shape = {"sr": RATE, "n_fft": POINTS, "win_length": WINDOW, "hop_length": HOP, "center": False, "fmin": 20.0, "htk": True}

    def mfcc(waveform: np.ndarray) -> np.ndarray:
        static = librosa.feature.mfcc(y=waveform, n_mfcc=13, n_mels=23, lifter=22, **shape)
        orders = [librosa.feature.delta(static, width=5, order=order) for order in (1, 2)]
        return np.concatenate([static, *orders]).T

    def log_mel(waveform: np.ndarray) -> np.ndarray:
        energies = librosa.feature.melspectrogram(y=waveform, n_mels=80, **shape)
        return np.log(np.maximum(energies, np.finfo(np.float32).eps)).T

    extract = mfcc if case["kind"] == "mfcc" else log_mel
    return _measured(case, clock, extract, lambda path: librosa.load(path, sr=None)[0])


@benchmark.contender("kaldi-native-fbank", rounds=3)
def kaldi_native_fbank(case: dict[str, Any], seed: int, clock: Clock) -> dict[str, Any]:
    import kaldi_native_fbank as knf
    import soundfile

    options = knf.MfccOptions() if case["kind"] == "mfcc" else knf.FbankOptions()
    options.frame_opts.dither = 0
    options.mel_opts.num_bins = 23 if case["kind"] == "mfcc" else 80
    options.use_energy = False

    def extract(waveform: np.ndarray) -> np.ndarray:
        computer = knf.OnlineMfcc(options) if case["kind"] == "mfcc" else knf.OnlineFbank(options)
        computer.accept_waveform(RATE, waveform.tolist())
        computer.input_finished()
        static = np.stack([computer.get_frame(at) for at in range(computer.num_frames_ready)])
        if case["kind"] != "mfcc":
            return static
        first = _deltas(static)
        return np.concatenate([static, first, _deltas(first)], axis=1)

    return _measured(case, clock, extract, lambda path: soundfile.read(path, dtype="float32")[0])


def _deltas(table: np.ndarray) -> np.ndarray:
    padded = np.pad(table, ((2, 2), (0, 0)), mode="edge")
    return (padded[3:-1] - padded[1:-3] + 2 * (padded[4:] - padded[:-4])) / 10


def cases(arguments: argparse.Namespace) -> dict[str, Any]:
    folder = arguments.speech or _made(arguments.cache / "sweeps")
    files = _spread(folder, SECONDS)
    return {
        f"{title}, from {'FLAC files' if decoded else 'waveforms'}": {"files": files, "kind": kind, "files_count": decoded}
        for kind, title in (("mfcc", "MFCC with deltas, 39 values"), ("logmel", "log mel energies, 80 values"))
        for decoded in (False, True)
    }


def _spread(folder: Path, seconds: float) -> list[str]:
    """Return FLAC files from all over a folder that hold about so many seconds."""
    import soundfile

    paths = sorted(folder.rglob("*.flac"))
    lengths = [soundfile.info(path).duration for path in paths]
    share = min(1.0, seconds / sum(lengths))
    chosen = [path for at, path in enumerate(paths) if int((at + 1) * share) > int(at * share)]
    return [str(path) for path in chosen]


def _made(folder: Path) -> Path:
    """Make fifty files of twelve seconds, tones that rise and fall through noise, unless they are there."""
    import soundfile

    if not (folder / "49.flac").exists():
        folder.mkdir(parents=True, exist_ok=True)
        drawn = np.random.default_rng(0)
        time = np.arange(12 * RATE) / RATE
        for number in range(50):
            pitch = 150 + 100 * np.sin(2 * np.pi * time * drawn.uniform(0.2, 1)) + drawn.uniform(0, 2000)
            tone = np.sin(2 * np.pi * np.cumsum(pitch) / RATE) * np.sin(2 * np.pi * 2 * time) ** 2
            sound = 0.3 * tone + 0.02 * drawn.standard_normal(len(time))
            soundfile.write(folder / f"{number:02}.flac", sound, RATE)
    return folder


if __name__ == "__main__":
    benchmark.main(cases)
