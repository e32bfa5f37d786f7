"""Plots and table of a run of `vocable pretrain`, beside the other results.

    python benchmarks/pretraining_plots.py RUN NAME

writes pretraining-NAME-loss.svg, pretraining-NAME-layers.svg and pretraining-NAME.json, and prints the table.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from harness import RESULTS

from vocable.report.line_chart import line_chart
from vocable.report.training_report import runs_in


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("name")
    arguments = parser.parse_args()
    stem = RESULTS / f"pretraining-{arguments.name}"

    losses = {
        f"{run.name}, {split}": run.curve(split, "loss_masked") for run in runs_in(arguments.run) for split in ("train", "valid")
    }
    stem.with_name(f"{stem.name}-loss.svg").write_text(
        line_chart("Loss of masked frames, nats", "steps", losses, from_zero=False)
    )

    layers = {}
    for path in sorted(arguments.run.glob("layers-*.json")):
        which = path.stem.removeprefix("layers-")
        name = "random weights" if which == "initial" else f"iteration {which}"
        layers[name] = [(score["layer"], score["pnmi"]) for score in json.loads(path.read_text())["layers"]]
    stem.with_name(f"{stem.name}-layers.svg").write_text(
        line_chart("PNMI of each layer's units, on train", "layer", layers, from_zero=False)
    )

    scores = json.loads((arguments.run / "scores.json").read_text())
    kept = {
        name: {key: value for key, value in row.items() if key != "of"}
        for name, row in sorted(scores.items(), key=lambda item: item[1]["place"])
    }
    stem.with_suffix(".json").write_text(json.dumps(kept, indent=1) + "\n")
    print("| frames, every 20 ms | PNMI | least – most of 3 fits | phone purity | linear probe |\n|---|---:|---:|---:|---:|")
    for name, row in kept.items():
        spread = f"{row['pnmi_least']:.3f} – {row['pnmi_most']:.3f}"
        print(f"| {name} | {row['pnmi']:.3f} | {spread} | {row['phone_purity']:.3f} | {row['probe_accuracy']:.3f} |")
    for count in next(iter(kept.values())).get("also", {}):
        print(f"\n| {count} units | PNMI | least – most of 3 fits | phone purity |\n|---|---:|---:|---:|")
        for name, row in kept.items():
            own = row["also"][count]
            spread = f"{own['pnmi_least']:.3f} – {own['pnmi_most']:.3f}"
            print(f"| {name} | {own['pnmi']:.3f} | {spread} | {own['phone_purity']:.3f} |")


if __name__ == "__main__":
    main()
