"""Long audio: how near windowed frames are to those of the whole, and what an hour in one file takes.

    python benchmarks/long_audio.py [--speech DIR]

The encoder is of HuBERT's base size with random weights, whose attention looks everywhere alike: a trained one's looks near.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import frames
import numpy as np
from encoders import CLUSTERS, LAYER, RATE, base_encoder
from harness import Benchmark, Clock

MINUTES, FILES = 1.0, 3

benchmark = Benchmark(
    "long_audio", f"Layer {LAYER} of a HuBERT of base size on long audio, single-threaded",
    baseline="whole", figures=("relative error", "same labels, %"),
)  # fmt: skip
CHUNKINGS = {
    "whole": "windows:1000000:0",
    "windows of 40 s, 5 s of context (the default)": "windows",
    "windows of 30 s, 5 s of context": "windows:1500:250",
    "windows of 30 s, 1 s of context": "windows:1500:50",
    "windows of 15 s, 2 s of context": "windows:750:100",
    "chunks of 30 s, as fairseq's but shorter": "fairseq:480000",
}


def _run(chunking: str, case: dict[str, Any], seed: int, clock: Clock) -> dict[str, Any]:
    from vocable import EncoderLayer
    from vocable.clustering.assignment import NearestCentroid

    extract = EncoderLayer(case["encoder"], LAYER, chunking=chunking)
    waveforms = np.load(case["waveforms"])
    extract([waveforms[0][:RATE]])
    with clock.running():
        made = extract(list(waveforms))
    if "expected" not in case:
        return {"relative error": "", "same labels, %": ""}
    expected = np.load(case["expected"])
    nearest = NearestCentroid(np.load(case["centroids"]))
    lengths = {len(item) for item in made} | {expected.shape[1]}
    shortest = min(lengths)  # fairseq's chunks lose a frame at each of their ends
    found, whole = np.stack([item[:shortest] for item in made]), expected[:, :shortest]
    error = float(np.linalg.norm(found - whole) / np.linalg.norm(whole - whole.mean(axis=(0, 1))))
    same = float(np.mean([(nearest(one) == nearest(other)).mean() for one, other in zip(found, whole, strict=True)]))
    return {"relative error": error, "same labels, %": 100 * same}


for name, chunking in CHUNKINGS.items():
    benchmark.contender(name)(partial(_run, chunking))


def cases(arguments: argparse.Namespace) -> dict[str, Any]:
    encoder = base_encoder(arguments.cache / "hubert-base-random")

    def speech(samples: int) -> np.ndarray:
        parts, total = [], 0
        every = frames.waveforms(arguments.speech, (1.0, 0.9)) if arguments.speech else _noise()
        for part in every:
            parts.append(part)
            if (total := total + len(part)) >= samples:
                return np.concatenate(parts)[:samples]
        raise SystemExit(f"{arguments.speech} holds {total / RATE:.0f} s, {samples / RATE:.0f} s are wanted")

    minute = int(60 * MINUTES * RATE)
    stem = arguments.cache / f"long-{'speech' if arguments.speech else 'noise'}"
    short = frames.kept(stem.with_suffix(".minutes.npy"), lambda: speech(FILES * minute).reshape(FILES, minute))
    hour = frames.kept(stem.with_suffix(".hour.npy"), lambda: speech(3600 * RATE)[None])

    def expected() -> np.ndarray:
        from vocable import EncoderLayer

        return np.stack(EncoderLayer(encoder, LAYER, chunking=CHUNKINGS["whole"])(list(np.load(short))))

    def centroids() -> np.ndarray:
        from vocable import KMeans

        rows = np.load(stem.with_suffix(".expected.npy"))
        return KMeans(CLUSTERS, random_state=0).fit(rows.reshape(-1, rows.shape[2])).cluster_centers_.astype(np.float32)

    told = {
        "expected": str(frames.kept(stem.with_suffix(".expected.npy"), expected)),
        "centroids": str(frames.kept(stem.with_suffix(".centroids.npy"), centroids)),
    }
    windows = list(CHUNKINGS)[1:2]
    return {
        f"{FILES} files of a minute": {"encoder": str(encoder), "waveforms": str(short), **told},
        "one file of an hour": {
            "encoder": str(encoder),
            "waveforms": str(hour),
            "without": [name for name in CHUNKINGS if name not in windows],
        },
    }


def _noise() -> Any:
    drawn = np.random.default_rng(0)
    while True:
        yield drawn.standard_normal(60 * RATE).astype(np.float32) / 10


if __name__ == "__main__":
    benchmark.main(cases)
