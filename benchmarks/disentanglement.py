"""What disentanglement does to a small HuBERT: probes of its tapped layer, and of units, beside cheaper ways to the same end.

    python benchmarks/disentanglement.py TRAIN DEV --alignments A --out RUN [--ways plain,centring=3] [--jobs 2]

A fifth of TRAIN's utterances is kept from all trainings and probes, and scores them; PNMI is that of DEV, other speakers. One
training of `disentangled-small` is made for each way, with the same seeds and steps, of which the plain one is plain HuBERT bit
for bit; its frames, and MFCC, are also clustered after they were normalised. What was made before is taken.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from harness import RESULTS, machine, versions

from vocable.report.line_chart import line_chart

_TAP, _PLAIN = 4, "plain"
_ASKED = ("speaker", "speaker, pooled", "pitch", "phone")
_UNITS = ("speaker", "speaker, histogram", "pitch", "phone")


@dataclass(frozen=True)
class Bench:
    """Where speech is and what is made of it."""

    train: Path
    dev: Path
    alignments: Path
    out: Path
    speakers: str

    def vocable(self, *arguments: object) -> str:
        """Run a command and return what it prints; what it says meanwhile goes through."""
        command = [sys.executable, "-m", "vocable", *map(str, arguments)]
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        return said.stdout

    @property
    def data(self) -> Path:
        return self.out / "labels"

    @property
    def who(self) -> tuple[str, str]:
        return "--speakers", self.speakers

    def prepare(self) -> None:
        """Make labels, speakers and pitch of both parts of the training data."""
        made = ("--normalize", "speaker", "--clusters", 100, "--valid-percent", 0.2)
        self.vocable("prepare", self.train, "--out", self.data, *self.who, *made)
        for name, others in (("train", ("", "")), ("valid", ("--dict-of", "--edges-of"))):
            given = (self.data / f"{name}.tsv", "--out", self.data, "--name", name)
            of_speakers, of_pitch = ((option, self.data) if option else () for option in others)
            self.vocable("features", "speakers", *given, *self.who, *of_speakers)
            self.vocable("features", "f0", *given, *of_pitch)

    def trained(self, way: str, options: Sequence[str]) -> Path:
        """Train in one way, on one core, and return the model."""
        run = self.out / way
        nothing = ("disentanglement.reversal=0", "disentanglement.centring=0")
        changed = () if way == _PLAIN else (f"disentanglement.{way}",)
        given = (f"data.folder={self.data}", *nothing, *changed, *options)
        self.vocable("train", "disentangled", "disentangled-small", *given, "--out", run, "--threads", 1)
        return run / "model"

    def probes(self, name: str, what: object, *options: object) -> dict[str, Any]:
        """Return what probes of something say, by layer."""
        sets = (self.data / "train.tsv", "--valid", self.data / "valid.tsv", *self.who, "--alignments", self.alignments)
        return json.loads(self._kept(f"probes {name}", "evaluate", "probes", what, *sets, *options, "--json"))["scores"]

    def units(self, name: str, *frames: object, encoder: Sequence[object] = ()) -> dict[str, Any]:
        """Return what 100 units of some frames are worth: PNMI on DEV, and what is read out of them one by one."""
        codebook = self.out / "units" / f"{name}.safetensors"
        codebook.parent.mkdir(parents=True, exist_ok=True)
        fitted = (self.data / "train.tsv", *frames, "--clusters", 100, *self.who)
        self.vocable("kmeans", *fitted, "--out", codebook)
        scored = (self.data / "train.tsv", self.dev, "--alignments", self.alignments, *frames, "--clusters", 100, *self.who)
        score = json.loads(self._kept(f"frames {name}", "evaluate", "frames", *scored, "--seeds", 3, "--json"))
        return {**self.probes(f"{name}, units", codebook, *encoder)["units"], "pnmi": score}

    def _kept(self, name: str, *arguments: object) -> str:
        kept = self.out / "scores" / f"{name}.json"
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            said = self.vocable(*arguments)
            kept.write_text(said)
        return kept.read_text()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("dev", type=Path)
    parser.add_argument("--alignments", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--speakers", default="{speaker}/*/*")
    parser.add_argument("--ways", default=f"{_PLAIN},centring=3", help="settings of disentanglement, apart by commas")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at once, each on one core")
    parser.add_argument("options", nargs="*", help="of the trainings, such as training.precision=bfloat16")
    arguments = parser.parse_intermixed_args()
    bench = Bench(arguments.train, arguments.dev, arguments.alignments, arguments.out, arguments.speakers)
    ways = list(dict.fromkeys([_PLAIN, *arguments.ways.split(",")]))
    bench.prepare()
    asked = [*(partial(model_rows, bench, way, arguments.options) for way in ways), partial(mfcc_rows, bench)]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        rows = {name: row for own in pool.map(lambda ask: ask(), asked) for name, row in own.items()}
    result = {
        "machine": machine(), "versions": versions(), "ways": ways, "layer": _TAP,
        "seconds_a_step": {way: _step(bench.out / way) for way in ways}, "rows": rows,
    }  # fmt: skip
    RESULTS.joinpath("disentanglement.json").write_text(json.dumps(result, indent=1) + "\n")
    RESULTS.joinpath("disentanglement.md").write_text(table(result))
    RESULTS.joinpath("disentanglement.svg").write_text(picture(result))
    print(table(result))


def model_rows(bench: Bench, way: str, options: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Train in one way; return what probes and units say of the model's layer."""
    model = bench.trained(way, options)
    layers = bench.probes(way, model)
    frames, encoder = ("--encoder", model, "--layer", _TAP), ("--encoder", model)
    found = {way: {"frames": layers[str(_TAP)], "layers": layers, "units": bench.units(way, *frames, encoder=encoder)}}
    for kind in ("speaker-mean", "speaker") if way == _PLAIN else ():
        both = f"{way}, {kind}"
        found[both] = {"units": bench.units(both, *frames, "--normalize", kind, encoder=encoder)}
    return found


def mfcc_rows(bench: Bench) -> dict[str, dict[str, Any]]:
    """Return what probes and units say of MFCC."""
    found = {}
    for kind in ("none", "speaker-mean", "speaker"):
        name = "MFCC" if kind == "none" else f"MFCC, {kind}"
        own = bench.probes(name, "mfcc", "--normalize", kind)["frames"]
        found[name] = {"frames": own, "units": bench.units(name, "--features", "mfcc", "--normalize", kind)}
    return found


def table(result: dict[str, Any]) -> str:
    """Return the table of all ways, Markdown."""
    heads = [*(f"frames: {name}" for name in _ASKED), *(f"units: {name}" for name in _UNITS), "PNMI"]
    lines = [
        f"Layer {result['layer']} of `disentangled-small`, and MFCC; on {result['machine']['processor']}", "",
        "| frames, how normalised | " + " | ".join(heads) + " |", "|---|" + "---:|" * len(heads),
    ]  # fmt: skip
    for name, row in result["rows"].items():
        frames = [_shown(row.get("frames", {}).get(asked)) for asked in _ASKED]
        units = [_shown(row["units"].get(asked)) for asked in _UNITS]
        lines.append(f"| {name} | {' | '.join([*frames, *units])} | {row['units']['pnmi']['pnmi']:.4f} |")
    first = result["rows"][_PLAIN]
    chances = [f"{100 * part[name]['chance']:.1f}" for part, names in ((first["frames"], _ASKED), (first["units"], _UNITS))
               for name in names]  # fmt: skip
    return "\n".join([*lines, f"| chance | {' | '.join(chances)} | |"]) + "\n"


def picture(result: dict[str, Any]) -> str:
    """Return what probes get right at each layer, plain and in the last way, SVG."""
    lines = {}
    for name in (_PLAIN, result["ways"][-1]):
        for asked in ("speaker", "phone"):
            layers = result["rows"][name]["layers"]
            lines[f"{asked}, {name}"] = [(int(layer), 100 * own[asked]["accuracy"]) for layer, own in layers.items()]
    return line_chart("What linear probes get right, %", "layer", lines)


def _shown(score: dict[str, Any] | None) -> str:
    return "" if score is None else f"{100 * score['accuracy']:.1f}"


def _step(run: Path) -> float:
    """Return how long a step of a training took, in seconds."""
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return 1 / statistics.median(record["steps_per_second"] for record in records if "steps_per_second" in record)


if __name__ == "__main__":
    main()
