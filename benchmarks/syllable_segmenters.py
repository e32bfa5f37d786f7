"""Segmenters of syllables beside each other, on speech whose phones are aligned: one table.

    python benchmarks/syllable_segmenters.py ENCODER SDHUBERT --train DIR --dev DIR --alignments DIR

ENCODER is a small HuBERT, SDHUBERT what was trained from it. Every segmenter's settings, and the shift of references, are the
best ones (by R-value) for some utterances of --train; the table is of --dev, other speakers. Beside them are a uniform cutter at
the true rate of syllables, and valleys of the smoothed energy.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from harness import RESULTS, machine, versions
from numpy.typing import NDArray

Waves = list[NDArray[np.float32]]
Starts = list[NDArray[np.float64]]
_RATE = 16_000


@dataclass(frozen=True)
class Aligned:
    """Utterances with the times of their syllables."""

    waves: Waves
    syllables: list[NDArray[np.float64]]

    @classmethod
    def read(cls, folder: Path, alignments: Path, every: int = 1) -> Aligned:
        from vocable.audio.decoding import read_waveform
        from vocable.recipes.syllable_references import made_references
        from vocable.syllables.syllabification import Phonology

        found = dict(made_references(alignments, Phonology.read()))
        waves, times = [], []
        for path in sorted(folder.rglob("*.flac"))[::every]:
            if (timeline := found.get(path.stem)) is not None:
                waves.append(read_waveform(path))
                times.append(np.stack([timeline.starts, timeline.ends], axis=1))
        return cls(waves, times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoder")
    parser.add_argument("sdhubert")
    for name in ("train", "dev", "alignments"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--every", type=int, default=4, help="tune on every so many utterances of --train")
    arguments = parser.parse_args()
    train = Aligned.read(arguments.train, arguments.alignments, arguments.every)
    dev = Aligned.read(arguments.dev, arguments.alignments)
    rows = []
    for name, candidates in _segmenters(arguments.encoder, arguments.sdhubert, train):
        rows.append({"segmenter": name, **_best(candidates, train, dev)})
        print(json.dumps(rows[-1]), flush=True)
    result = {"machine": machine(), "versions": versions(), "utterances": [len(train.waves), len(dev.waves)], "rows": rows}
    (RESULTS / "syllable_segmenters.json").write_text(json.dumps(result, indent=1) + "\n")
    (RESULTS / "syllable_segmenters.md").write_text(_table(rows))
    print(_table(rows))


Candidate = tuple[str, Callable[[Waves], Starts]]


def _segmenters(encoder: str, sdhubert: str, train: Aligned) -> Iterator[tuple[str, list[Candidate]]]:
    rate = sum(map(len, train.syllables)) / sum(len(wave) / _RATE for wave in train.waves)
    yield "uniform, at the true rate", [(f"{rate:.2f} a second", lambda waves: [_uniform(wave, rate) for wave in waves])]
    yield (
        "valleys of energy",
        [
            (
                f"smoothed over {width} ms, {depth:g} deep",
                lambda waves, w=width, d=depth: [_valleys(wave, w, d) for wave in waves],
            )
            for width, depth in itertools.product((40, 80, 120), (0.05, 0.1, 0.2, 0.4))
        ],
    )
    yield "norms, without training for it: the small encoder", list(_of_norms(encoder))
    yield "greedy: the small SD-HuBERT", list(_greedy(sdhubert))
    yield "minimum cut: the small SD-HuBERT", list(_minimum_cut(sdhubert))
    yield "minimum cut: the small encoder", list(_minimum_cut(encoder))


def _of_norms(checkpoint: str) -> Iterator[Candidate]:
    from vocable.syllables.settings import NormPeaks, SegmentSettings, Voicing

    for layer, prominence, smoothing in itertools.product(_layers(checkpoint), (0.1, 0.2, 0.45, 0.9), (3, 5)):
        peaks = NormPeaks(prominence=prominence, smoothing=smoothing)
        settings = SegmentSettings(
            method="norm-peaks", layer=layer, voicing=Voicing(layer=layer), norm_peaks=peaks, windows="whole"
        )
        yield f"layer {layer}, prominence {prominence:g}, {smoothing} frames", _by(checkpoint, settings)


def _greedy(checkpoint: str) -> Iterator[Candidate]:
    from vocable.syllables.settings import Greedy, SegmentSettings, Voicing

    for layer, threshold, merge in itertools.product(
        _layers(checkpoint)[-3:], (-1.0, 0.1, 0.2), (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    ):
        voicing = Voicing(layer=layer, threshold=threshold, least_frames=0)
        settings = SegmentSettings(
            method="greedy", layer=layer, voicing=voicing, greedy=Greedy(merge_threshold=merge), windows="whole"
        )
        yield f"layer {layer}, norms above {threshold:g}, merged from {merge:g}", _by(checkpoint, settings)


def _minimum_cut(checkpoint: str) -> Iterator[Candidate]:
    from vocable.syllables.settings import MinimumCut, SegmentSettings, Voicing

    for layer, threshold, (seconds, merge) in itertools.product(
        _layers(checkpoint)[-3:],
        (-1.0, 0.1),
        ((0.1, 0.2), (0.1, 0.3), (0.1, 0.4), (0.1, 0.5), (0.1, 0.7), (0.2, 0.3), (0.2, 2.0), (0.25, 2.0)),
    ):
        cut = MinimumCut(syllable_seconds=seconds, merge_threshold=merge)
        settings = SegmentSettings(
            layer=layer, voicing=Voicing(layer=layer, threshold=threshold), minimum_cut=cut, windows="whole"
        )
        yield (
            f"layer {layer}, norms above {threshold:g}, pieces of {seconds:g} s merged from {merge:g}",
            _by(checkpoint, settings),
        )


def _layers(checkpoint: str) -> list[int]:
    from vocable.features.encoder_layer import EncoderFile

    return list(range(1, EncoderFile(checkpoint).checkpoint().config.layers + 1))


def _by(checkpoint: str, settings: Any) -> Callable[[Waves], Starts]:
    from vocable.syllables.cutting import syllables
    from vocable.syllables.voicing import scaled_norms

    def cut(waves: Waves) -> Starts:
        starts = []
        for heard in _heard(checkpoint, settings.layer, waves):
            norms = heard.norms if settings.method == "norm-peaks" else scaled_norms(heard.norms, settings.voicing.strategy)
            starts.append(syllables(heard.frames.read, norms, heard.loudness, settings).segments[:, 0] * 0.02)
        return starts

    return cut


_KEPT: dict[tuple[str, int, int], Any] = {}


def _heard(checkpoint: str, layer: int, waves: Waves) -> Any:
    """Return what is heard of utterances in a layer, which goes for all settings."""
    from vocable.syllables.segmenter import Segmenter
    from vocable.syllables.settings import SegmentSettings, Voicing

    key = checkpoint, layer, id(waves)
    if key not in _KEPT:
        settings = SegmentSettings(layer=layer, voicing=Voicing(layer=layer), windows="whole")
        _KEPT[key] = Segmenter(checkpoint, settings, features=False).heard(waves)
    return _KEPT[key]


def _uniform(wave: NDArray[np.float32], rate: float) -> NDArray[np.float64]:
    return np.arange(0, len(wave) / _RATE, 1 / rate)


def _valleys(wave: NDArray[np.float32], width: int, depth: float) -> NDArray[np.float64]:
    """Return where the smoothed amplitude is least between louder parts; every 10 ms."""
    from scipy.signal import find_peaks

    hop = _RATE // 100
    levels = np.sqrt(np.square(wave[: len(wave) // hop * hop].reshape(-1, hop).astype(np.float64)).mean(axis=1))
    window = np.hanning(2 * (width // 10) + 3)
    smooth = np.convolve(levels, window / window.sum(), mode="same")
    valleys, _ = find_peaks(-smooth, prominence=depth * smooth.std())
    return np.concatenate([[0.0], valleys / 100])


def _best(candidates: Sequence[Candidate], train: Aligned, dev: Aligned) -> dict[str, Any]:
    from vocable.evaluation.boundaries import Boundaries, boundary_counts, tuned_shift

    def boundaries(cut: Callable[[Waves], Starts], data: Aligned) -> list[Boundaries]:
        pairs = zip(data.syllables, cut(data.waves), strict=True)
        return [Boundaries.of(times, np.stack([starts, starts], axis=1)) for times, starts in pairs]

    tried = []
    for name, cut in candidates:
        tuning = boundaries(cut, train)
        shift = tuned_shift(tuning)
        tried.append((boundary_counts(tuning, shift).r_value, shift, name, cut))
    _, shift, name, cut = max(tried, key=lambda item: item[0])
    found = boundary_counts(boundaries(cut, dev), shift)
    seconds = sum(len(wave) / _RATE for wave in dev.waves)
    return {
        "settings": name, "shift": round(shift, 3), "precision": found.precision, "recall": found.recall, "f1": found.f1,
        "os": found.over_segmentation, "r_value": found.r_value, "rate": found.predictions / seconds,
    }  # fmt: skip


def _table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "Boundaries of syllables within 50 ms, on speakers that nothing was tuned on", "",
        "| | P | R | F1 | OS | R-value | a second | settings, the best on other speakers |",
        "|---|---:|---:|---:|---:|---:|---:|---|",
    ]  # fmt: skip
    for row in rows:
        values = " | ".join(f"{row[name]:.3f}" for name in ("precision", "recall", "f1", "os", "r_value"))
        lines.append(f"| {row['segmenter']} | {values} | {row['rate']:.2f} | {row['settings']} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
