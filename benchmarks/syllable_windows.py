"""What windows of 5 s change in syllables of ten minutes of speech, and what memory they take.

    python benchmarks/syllable_windows.py ENCODER --speech DIR [--layer L --norm-layer N …]

Ten minutes are utterances of a folder one after another. Boundaries of both ways are compared within 50 ms, near the seams of
windows (within a quarter of a second of the middle of what two share) and elsewhere; the time shift is where most agree. Memory
is that of processes of their own, for one minute and for ten.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from harness import RESULTS, machine, peak_mib, versions

_RATE = 16_000
_NEAR = 0.25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoder")
    parser.add_argument("--speech", type=Path, required=True)
    parser.add_argument("--layer", type=int, default=9)
    parser.add_argument("--norm-layer", type=int, default=10)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--cache", type=Path, default=Path("build/benchmarks"))
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one is not None:
        print(json.dumps(_cut(arguments, *arguments.one)))
        return
    arguments.cache.mkdir(parents=True, exist_ok=True)
    long, short = (_joined(arguments.speech, minutes, arguments.cache) for minutes in (arguments.minutes, 1))
    found = {way: _child(long, way) for way in ("whole", "overlap-add")}
    result: dict[str, Any] = {
        "machine": machine(), "versions": versions(), "minutes": arguments.minutes,
        **_compared(found["whole"], found["overlap-add"]),
        "peak_mib": {
            f"{way}, {minutes:g} min": (found[way] if path is long else _child(path, way))["peak_mib"]
            for way in ("whole", "overlap-add")
            for minutes, path in ((1, short), (arguments.minutes, long))
        },
    }  # fmt: skip
    (RESULTS / "syllable_windows.json").write_text(json.dumps(result, indent=1) + "\n")
    (RESULTS / "syllable_windows.md").write_text(_table(result))
    print(_table(result))


def _joined(speech: Path, minutes: float, cache: Path) -> Path:
    """Return a file of so many minutes of speech."""
    path = cache / f"speech-{minutes:g}min.wav"
    if not path.exists():
        parts, left = [], int(minutes * 60 * _RATE)
        for file in sorted(speech.rglob("*.flac")):
            samples, rate = soundfile.read(file, dtype="float32")
            assert rate == _RATE
            parts.append(samples[:left])
            left -= len(parts[-1])
            if not left:
                break
        soundfile.write(path, np.concatenate(parts), _RATE)
    return path


def _child(path: Path, way: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, *sys.argv, "--one", str(path), way], stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _cut(arguments: argparse.Namespace, path: str, way: str) -> dict[str, Any]:
    from vocable.syllables.segmenter import Segmenter
    from vocable.syllables.settings import PRESETS

    settings = PRESETS["current"]
    settings = replace(
        settings, layer=arguments.layer, windows=way, voicing=replace(settings.voicing, layer=arguments.norm_layer)
    )  # type: ignore[arg-type]
    made = Segmenter(arguments.encoder, settings, features=False)(path)
    return {"starts": made.segments[:, 0].tolist(), "length": made.length, "peak_mib": round(peak_mib())}


def _compared(whole: dict[str, Any], windows: dict[str, Any]) -> dict[str, Any]:
    from vocable.evaluation.boundaries import matched
    from vocable.syllables.overlap_add import OVERLAP, spans

    one, other = np.array(whole["starts"]), np.array(windows["starts"])
    seams = np.array([(first + OVERLAP / 2) * 0.02 for first, _ in spans(windows["length"])[1:]])
    hits = np.array([matched([time], [other[np.abs(other - time).argmin()]]) for time in one.tolist()], dtype=bool)
    near = np.abs(one[:, None] - seams).min(axis=1) <= _NEAR
    shifts = {round(shift * 0.02, 2): matched(one.tolist(), (other + shift * 0.02).tolist(), 0.005) for shift in range(-6, 7)}
    return {
        "boundaries": {"whole": len(one), "windows": len(other)}, "near": int(near.sum()),
        "agree_near": float(hits[near].mean()), "agree_elsewhere": float(hits[~near].mean()),
        "shift": max(shifts, key=lambda shift: shifts[shift]), "last": {"whole": float(one[-1]), "windows": float(other[-1])},
        "frames": {"whole": whole["length"], "windows": windows["length"]},
    }  # fmt: skip


def _table(result: dict[str, Any]) -> str:
    rows = [
        ("boundaries of the whole file", f"{result['boundaries']['whole']:,}"),
        ("of windows", f"{result['boundaries']['windows']:,}"),
        (f"found in windows within 50 ms, near seams ({result['near']:,})", f"{result['agree_near']:.1%}"),
        ("elsewhere", f"{result['agree_elsewhere']:.1%}"),
        ("shift at which most agree, s", f"{result['shift']:g}"),
        ("last boundary, s", f"{result['last']['whole']:.2f} and {result['last']['windows']:.2f}"),
        *((f"peak memory, {name}, MiB", f"{value:,}") for name, value in result["peak_mib"].items()),
    ]
    lines = [
        f"Ten minutes of speech, whole and in windows of 5 s, on {result['machine']['processor']}",
        "",
        "| | |",
        "|---|---:|",
    ]
    return "\n".join([*lines, *(f"| {name} | {value} |" for name, value in rows)]) + "\n"


if __name__ == "__main__":
    main()
