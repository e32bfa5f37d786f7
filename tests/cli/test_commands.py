from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from helpers import write_audio
from vocable.clustering import read_codebook
from vocable.units import read_units

Cli = Callable[..., str]


def test_prepare_shows_a_table_what_was_left_out_and_the_plan(corpus: Path, tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "audio").symlink_to(corpus)
    (tmp_path / "a").mkdir()
    write_audio(tmp_path / "a" / "x.wav", 1.0, 1)
    write_audio(tmp_path / "a" / "y.wav", 1.0, 2)
    (tmp_path / "a" / "z.wav").write_bytes(b"")
    plan = cli("prepare", tmp_path / "a", "--out", tmp_path / "run", "--clusters", 5, "--dry-run")
    assert "1 empty" in plan
    assert not (tmp_path / "run").exists()
    out = cli(
        "prepare", tmp_path / "a", "--out", tmp_path / "run", "--clusters", 5, "--workers", 1, "--form", "km", "--form", "rle"
    )
    assert "1 empty: no samples" in out
    assert "perplexity" in out
    assert (tmp_path / "run" / "train.rle").exists()
    events = [json.loads(line)["event"] for line in (tmp_path / "run" / "run.jsonl").read_text().splitlines()]
    assert events == ["start", "end"]


def test_every_stage_says_beforehand_what_it_takes(corpus: Path, tmp_path: Path, cli: Cli) -> None:
    cli("kmeans", corpus, "--out", tmp_path / "km.safetensors", "--clusters", 3, "--workers", 1)
    cli("features", "mfcc", corpus, "--out", tmp_path / "f", "--workers", 1)
    before = sorted(tmp_path.rglob("*"))
    for arguments in (
        ("kmeans", corpus, "--out", tmp_path / "x"),
        ("units", corpus, "--codebook", tmp_path / "km.safetensors", "--out", tmp_path / "x"),
        ("features", "mfcc", corpus, "--out", tmp_path / "x"),
        ("features", "logmel", corpus, "--out", tmp_path / "x"),
    ):
        assert "hours of audio" in cli(*arguments, "--dry-run", "--workers", 1)
    stored = (
        ("kmeans", tmp_path / "f", "--out", tmp_path / "x", "--clusters", 3),
        ("units", tmp_path / "f", "--name", "train", "--codebook", tmp_path / "km.safetensors", "--out", tmp_path / "x"),
        ("manifest", corpus, "--out", tmp_path / "x.tsv"),
        ("manifest", corpus, "--out", tmp_path / "x", "--valid-percent", 0.2),
    )
    for arguments in stored:
        said = cli(*arguments, "--dry-run")
        assert all(word in said for word in ("usable utterances", "24", "hours of audio", "writes", "memory", "time")), said
    assert sorted(tmp_path.rglob("*")) == before


def test_a_scan_may_be_shared_out(tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vocable.recipes.corpus._FILES_IN_BLOCK", 4)
    for at in range(10):
        write_audio(tmp_path / "a" / f"{at}.wav", 0.1, at)
    arguments = ("manifest", tmp_path / "a", "--out", tmp_path / "m.tsv", "--workers", 1, "--nshard", 2)
    assert "This part is done; 2 blocks are left to others. The last part to finish writes the manifest." in cli(
        *arguments, "--rank", 1
    )
    assert not (tmp_path / "m.tsv").exists()
    assert "10 utterances" in cli(*arguments, "--rank", 0)
    cli("manifest", tmp_path / "a", "--out", tmp_path / "n.tsv", "--workers", 1)
    assert (tmp_path / "m.tsv").read_bytes() == (tmp_path / "n.tsv").read_bytes()


def test_shards_of_prepare_say_what_is_left(corpus: Path, tmp_path: Path, cli: Cli, short_blocks: None) -> None:
    arguments = ["prepare", corpus, "--out", tmp_path / "run", "--clusters", 5, "--workers", 1, "--nshard", 2]
    left = cli(*arguments, "--rank", 0)
    assert re.search(r"This part is done; \d+ blocks are left to others\. The last part to finish writes the labels\.", left)
    assert not (tmp_path / "run" / "train.km").exists()
    assert "left to others" not in cli(*arguments, "--rank", 1)
    assert (tmp_path / "run" / "train.km").exists()


def test_manifests_are_made_and_converted(corpus: Path, tmp_path: Path, cli: Cli) -> None:
    assert "24 utterances" in cli("manifest", corpus, "--out", tmp_path / "m.csv", "--speakers", "{speaker}/*", "--workers", 1)
    assert "24 utterances" in cli("manifest", tmp_path / "m.csv", "--out", tmp_path / "m.jsonl")
    cli("manifest", tmp_path / "m.jsonl", "--out", tmp_path / "split", "--valid-percent", 0.3, "--by-speaker")
    assert (tmp_path / "split" / "valid.tsv").exists()
    write_audio(tmp_path / "bad" / "b.wav", 1.0, 1)
    (tmp_path / "bad" / "a.wav").write_bytes(b"")
    out = cli("manifest", tmp_path / "bad", "--out", tmp_path / "b.tsv")
    assert f"named in {tmp_path}/b.skipped.jsonl" in out
    assert "leave --strict out" in cli("manifest", tmp_path / "bad", "--out", tmp_path / "c.tsv", "--strict", fails=True)
    (tmp_path / "bad" / "b.wav").unlink()
    assert "has no usable audio: 1 empty" in cli("manifest", tmp_path / "bad", "--out", tmp_path / "d.tsv", fails=True)


@pytest.mark.parametrize("options", [[], ["--normalize", "corpus"], ["--normalize", "utterance", "--context", "2"]])
def test_dumped_frames_and_audio_make_the_same_codebook_and_labels(
    corpus: Path, tmp_path: Path, cli: Cli, options: list[str]
) -> None:
    for rank in range(2):
        cli(
            "features",
            "mfcc",
            corpus,
            "--out",
            tmp_path / "f",
            "--name",
            "x",
            "--nshard",
            2,
            "--rank",
            rank,
            *options,
            "--workers",
            1,
        )
    cli("kmeans", tmp_path / "f", "--name", "x", "--out", tmp_path / "a.safetensors", "--clusters", 6)
    cli("kmeans", corpus, "--out", tmp_path / "b.safetensors", "--clusters", 6, *options, "--workers", 1)
    first, second = read_codebook(tmp_path / "a.safetensors"), read_codebook(tmp_path / "b.safetensors")
    assert first.digest == second.digest
    cli("units", tmp_path / "f", "--name", "x", "--codebook", tmp_path / "b.safetensors", "--out", tmp_path / "u")
    cli(
        "units",
        corpus,
        "--codebook",
        tmp_path / "a.safetensors",
        "--out",
        tmp_path / "u",
        "--form",
        "km",
        "--form",
        "units",
        "--workers",
        1,
    )
    assert [row.tolist() for row in read_units(tmp_path / "u" / "x.km")] == [
        row.tolist() for row in read_units(tmp_path / "u" / "units.km")
    ]
    assert read_units(tmp_path / "u" / "units.units").ids


def test_log_mel_frames_are_dumped_and_leave_out_what_they_must(tmp_path: Path, cli: Cli) -> None:
    import soundfile

    for at in range(3):
        write_audio(tmp_path / "a" / f"{at}.wav", 1.0, at)
    soundfile.write(tmp_path / "a" / "0x.wav", np.zeros(16000), 16000)
    out = cli("features", "logmel", tmp_path / "a", "--out", tmp_path / "f", "--mel-bins", 80, "--workers", 1)
    assert "train_0_1.npy: 3 utterances, 294 frames\n" in out
    assert "1 silent" in out
    assert len((tmp_path / "f" / "train_0_1.tsv").read_text().splitlines()) == 4
    assert np.load(tmp_path / "f" / "train_0_1.npy").shape == (294, 80)
    again = cli("features", "logmel", tmp_path / "a", "--out", tmp_path / "f", "--mel-bins", 80, "--workers", 1)
    assert again == out.replace("294 frames", "294 frames, done already")
    assert "silent" in cli("features", "logmel", tmp_path / "a", "--out", tmp_path / "g", "--strict", "--workers", 1, fails=True)


def test_an_existing_codebook_is_not_overwritten_unasked(corpus: Path, tmp_path: Path, cli: Cli) -> None:
    arguments = ["kmeans", corpus, "--out", tmp_path / "km.safetensors", "--clusters", 3, "--workers", 1]
    cli(*arguments)
    made = (tmp_path / "km.safetensors").read_bytes()
    assert "done already" in cli(*arguments)
    other = [*arguments, "--algorithm", "minibatch", "--n-init", 2]
    assert "is there already" in cli(*other, fails=True)
    assert (tmp_path / "km.safetensors").read_bytes() == made
    cli(*other, "--overwrite")
    assert (tmp_path / "km.safetensors").read_bytes() != made


def test_imported_codebooks_ask_what_frames_they_are_for(corpus: Path, tmp_path: Path, cli: Cli) -> None:
    cli("kmeans", corpus, "--out", tmp_path / "km.safetensors", "--clusters", 4, "--workers", 1)
    cli("convert", tmp_path / "km.safetensors", tmp_path / "km.npy")
    arguments = ["units", corpus, "--codebook", tmp_path / "km.npy", "--out", tmp_path / "u", "--workers", 1]
    assert "give --assume-features" in cli(*arguments, fails=True)
    cli(*arguments, "--assume-features")
    cli("units", corpus, "--codebook", tmp_path / "km.safetensors", "--out", tmp_path / "v", "--workers", 1)
    assert (tmp_path / "u" / "units.km").read_bytes() == (tmp_path / "v" / "units.km").read_bytes()
    assert "have 39 values, frames of logmel have 40" in cli(*arguments, "--assume-features", "--features", "logmel", fails=True)
    assert "can't be assumed" in cli(*arguments, "--assume-features", "--normalize", "corpus", fails=True)
    known = ["units", corpus, "--codebook", tmp_path / "km.safetensors", "--out", tmp_path / "w", "--assume-features"]
    assert "says itself what frames" in cli(*known, fails=True)


def test_units_take_shards_and_strictness(corpus: Path, tmp_path: Path, cli: Cli) -> None:
    import soundfile

    cli("kmeans", corpus, "--out", tmp_path / "km.safetensors", "--clusters", 4, "--workers", 1)
    for at in range(30):
        write_audio(tmp_path / "long" / f"{at:02}.wav", 10.0, at)
    soundfile.write(tmp_path / "long" / "zero.wav", np.zeros(16000), 16000)
    arguments = ["units", tmp_path / "long", "--codebook", tmp_path / "km.safetensors", "--out", tmp_path / "u", "--workers", 1]
    assert "1 block is left to others" in cli(*arguments, "--nshard", 2, "--rank", 0)
    out = cli(*arguments, "--nshard", 2, "--rank", 1)
    assert "1 silent" in out
    assert len(read_units(tmp_path / "u" / "units.km")) == 30
    assert "zero.wav" in cli(*arguments, "--strict", fails=True)


def test_speaker_normalisation_needs_speakers(corpus: Path, tmp_path: Path, cli: Cli) -> None:
    arguments = [
        "kmeans",
        corpus,
        "--out",
        tmp_path / "km.safetensors",
        "--clusters",
        4,
        "--normalize",
        "speaker",
        "--workers",
        1,
    ]
    assert "needs speakers: give --speakers" in cli(*arguments, fails=True)
    cli(*arguments, "--speakers", "{speaker}/*")
    cli(
        "units",
        corpus,
        "--codebook",
        tmp_path / "km.safetensors",
        "--out",
        tmp_path / "u",
        "--speakers",
        "{speaker}/*",
        "--workers",
        1,
    )
    assert "needs speakers" in cli(
        "units", corpus, "--codebook", tmp_path / "km.safetensors", "--out", tmp_path / "w", "--workers", 1, fails=True
    )


def test_a_torch_device_makes_nearly_the_same_labels(corpus: Path, tmp_path: Path, cli: Cli) -> None:
    cli("kmeans", corpus, "--out", tmp_path / "km.safetensors", "--clusters", 8, "--workers", 1)
    for device in ("cpu", "cpu:0"):
        cli(
            "units",
            corpus,
            "--codebook",
            tmp_path / "km.safetensors",
            "--out",
            tmp_path / device,
            "--workers",
            1,
            "--device",
            device,
        )
    found = json.loads(cli("evaluate", "agreement", tmp_path / "cpu" / "units.km", tmp_path / "cpu:0" / "units.km", "--json"))
    assert found["same"] > 0.999
