from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import joblib
import numpy as np
from sklearn.cluster import KMeans as SklearnKMeans

from vocable.units import read_units

Cli = Callable[..., str]


def test_conversions(corpus: Path, tmp_path: Path, cli: Cli) -> None:
    model = SklearnKMeans(3, n_init=1).fit(np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32))
    joblib.dump(model, tmp_path / "km.bin", compress=3)
    cli("convert", tmp_path / "km.bin", tmp_path / "km.safetensors")
    assert "3 centroids of 4 values" in cli("convert", tmp_path / "km.safetensors", tmp_path / "km.npy")
    assert np.array_equal(np.load(tmp_path / "km.npy"), model.cluster_centers_)
    assert "written as .safetensors or .npy" in cli("convert", tmp_path / "km.bin", tmp_path / "km.txt", fails=True)
    assert "doesn't exist" in cli("convert", tmp_path / "no", tmp_path / "x.npy", fails=True)
    (tmp_path / "a.km").write_text("1 1 2\n3\n")
    cli("convert", tmp_path / "a.km", tmp_path / "a.rle")
    assert "give --manifest" in cli("convert", tmp_path / "a.km", tmp_path / "a.units", fails=True)
    (tmp_path / "a.tsv").write_text("/d\nx.wav\t1\ny.wav\t1\n")
    cli("convert", tmp_path / "a.km", tmp_path / "a.units")
    assert read_units(tmp_path / "a.units").ids == ("x", "y")
    cli("convert", tmp_path / "a.units", tmp_path / "b.km")
    assert (tmp_path / "b.km").read_text() == "1 1 2\n3\n"
    assert "ends in .km" in cli("convert", tmp_path / "a.km", tmp_path / "a.txt", fails=True)
    assert "2 utterances" in cli("convert", tmp_path / "a.tsv", tmp_path / "a.csv")


def test_everything_is_described(corpus: Path, tmp_path: Path, cli: Cli) -> None:
    cli(
        "prepare",
        corpus,
        "--out",
        tmp_path / "run",
        "--clusters",
        5,
        "--workers",
        1,
        "--form",
        "km",
        "--form",
        "units",
        "--speakers",
        "{speaker}/*",
    )
    cli("features", "mfcc", corpus, "--out", tmp_path / "f", "--normalize", "utterance", "--context", 1, "--workers", 1)
    cli("manifest", corpus, "--out", tmp_path / "m.csv", "--speakers", "{speaker}/*", "--workers", 1)
    out = cli("inspect", tmp_path / "run")
    for text in (
        "a codebook",
        "a fairseq dictionary",
        "a log of runs",
        "left out",
        "a manifest",
        "labels",
        "train.km fits",
        "vocable.summary/1",
    ):
        assert text in out
    for path, texts in {
        "f/train_0_1.npy": ["frames in fairseq's format", "normalised per utterance", "1 neighbours"],
        "f/train_0_1.len": ["frames in fairseq's format"],
        "m.csv": ["speakers", "3"],
        "run/prepare.json": ["vocable.preparation/1", "fit clusters"],
    }.items():
        found = cli("inspect", tmp_path / path)
        assert all(text in found for text in texts), found
    assert json.loads(cli("inspect", tmp_path / "run" / "train.km", "--json").split("\ntrain.km fits")[0])["what"] == "labels"


def test_odd_files_are_described_or_refused(tmp_path: Path, cli: Cli) -> None:
    from safetensors.numpy import save_file

    from vocable.artefacts.tensors import write_tensors

    np.save(tmp_path / "c.npy", np.zeros((3, 4), np.float32))
    assert "imported centroids don't say" in cli("inspect", tmp_path / "c.npy")
    save_file({"x": np.zeros(3)}, tmp_path / "x.safetensors")
    assert "not ours" in cli("inspect", tmp_path / "x.safetensors")
    write_tensors(tmp_path / "y.safetensors", {}, {"format": "vocable.fit-state/1", "level": 2})
    assert "vocable.fit-state/1" in cli("inspect", tmp_path / "y.safetensors")
    (tmp_path / "m.scp").write_text("u a.wav\n")
    assert "lengths unknown" in cli("inspect", tmp_path / "m.scp")
    (tmp_path / "dict.km.txt").write_text("1 5\n0 3\nmadeupword0000 0\n")
    assert "padding by fairseq's preprocess.py" in cli("inspect", tmp_path / "dict.km.txt")
    (tmp_path / "d").mkdir()
    assert "no files to describe" in cli("inspect", tmp_path / "d", fails=True)
    (tmp_path / "d" / "junk").write_bytes(b"junk")
    assert "not recognised" in cli("inspect", tmp_path / "d")
    assert "doesn't exist" in cli("inspect", tmp_path / "nowhere", fails=True)


def test_inspect_checks_labels_against_what_is_given(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "x.km").write_text("0 1 2\n1\n")
    (tmp_path / "x.len").write_text("3\n1\n")
    (tmp_path / "d.txt").write_text("0 1\n1 1\n2 1\n")
    out = cli("inspect", tmp_path / "x.km", "--lengths", tmp_path / "x.len", "--dictionary", tmp_path / "d.txt", "--rate", 50)
    assert "x.km fits" in out
    assert "no header of ours" in out
    (tmp_path / "x.len").write_text("3\n2\n")
    assert "line 2 has 1 labels, but the .len says 2" in cli(
        "inspect", tmp_path / "x.km", "--lengths", tmp_path / "x.len", fails=True
    )
    assert "is whole" in cli("inspect", tmp_path / "x.km")


def test_scores_are_printed_as_tables_and_json(corpus: Path, tmp_path: Path, cli: Cli) -> None:
    cli("prepare", corpus, "--out", tmp_path / "run", "--clusters", 5, "--workers", 1, "--valid-percent", 0)
    alignments = tmp_path / "ali"
    alignments.mkdir()
    for at in range(24):
        text = "".join(f"{t / 10:.1f}\t{(t + 1) / 10:.1f}\t{'AB'[t % 2]}1\n" for t in range(int(3 + (at * 37 % 24) / 0.65) + 1))
        (alignments / f"s{at % 3}-{at:02d}.tsv").write_text("start\tend\tphone\n" + text)
    labels = tmp_path / "run" / "train.km"
    out = cli("evaluate", "units", labels)
    assert "perplexity" in out
    assert "█" in out
    found = json.loads(cli("evaluate", "units", labels, "--alignments", alignments, "--json"))
    assert found["phones"]["utterances"] == 24
    assert sum(found["histogram"]) == found["usage"]["frames"] == sum(at * runs for at, runs in enumerate(found["run_lengths"]))
    assert "pnmi" in cli("evaluate", "units", labels, "--alignments", alignments, "--silence", "b")
    assert json.loads(cli("evaluate", "agreement", labels, labels, "--json"))["same"] == 1
    assert "matched" in cli("evaluate", "agreement", labels, labels)
    foreign = tmp_path / "foreign.km"
    foreign.write_bytes(labels.read_bytes())
    arguments = ["evaluate", "units", foreign, "--alignments", alignments]
    assert "give --rate" in cli(*arguments, fails=True)
    assert "give --manifest" in cli(*arguments, "--rate", 100, fails=True)
    again = json.loads(cli(*arguments, "--rate", 100, "--manifest", tmp_path / "run" / "train.tsv", "--json"))
    assert again["phones"] == found["phones"]
    cli("convert", labels, tmp_path / "run" / "train.units")
    assert (
        json.loads(cli("evaluate", "units", tmp_path / "run" / "train.units", "--alignments", alignments, "--json"))["phones"]
        == found["phones"]
    )
