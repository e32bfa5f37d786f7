"""An utterance keeps its id, and a manifest its digest, through every file that speaks of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from helpers import write_audio
from vocable.audio.manifest import Manifest, Utterance
from vocable.audio.manifest_files import read_manifest
from vocable.clustering import read_codebook
from vocable.units import read_units

Cli = Callable[..., str]


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    for at in range(6):
        write_audio(tmp_path / "wav" / f"f{at}.wav", 1.0 + at / 9, at)
    return tmp_path / "wav"


@pytest.fixture
def scp(audio: Path, tmp_path: Path) -> Path:
    """Kaldi's ids are not the names of the files."""
    (tmp_path / "wav.scp").write_text("".join(f"spk{at % 2}-utt{at} wav/f{at}.wav\n" for at in range(6)))
    return tmp_path / "wav.scp"


def alignments(tmp_path: Path) -> Path:
    folder = tmp_path / "ali"
    folder.mkdir()
    for at in range(6):
        (folder / f"spk{at % 2}-utt{at}.tsv").write_text("start\tend\tphone\n0\t0.5\tA\n0.5\t1.0\tB\n")
    return folder


IDS = [f"spk{at % 2}-utt{at}" for at in range(6)]


def test_prepare_keeps_ids_that_are_not_paths(scp: Path, tmp_path: Path, cli: Cli) -> None:
    cli("prepare", scp, "--out", tmp_path / "run", "--clusters", 4, "--valid-percent", 0.3, "--workers", 1, "--form", "km,units")
    told = [read_manifest(tmp_path / "run" / f"{split}.csv").ids for split in ("train", "valid")]
    assert sorted([*told[0], *told[1]]) == sorted(IDS)
    assert read_units(tmp_path / "run" / "train.units").ids == told[0]
    assert len(read_manifest(tmp_path / "run" / "train.tsv")) == len(told[0])  # for trainings, which take no other form
    scored = json.loads(cli("evaluate", "units", tmp_path / "run" / "train.km", "--alignments", alignments(tmp_path), "--json"))
    assert scored["phones"]["utterances"] == len(told[0])
    cli("inspect", tmp_path / "run")
    assert "done already" in cli(
        "prepare", scp, "--out", tmp_path / "run", "--clusters", 4, "--valid-percent", 0.3, "--workers", 1, "--form", "km,units"
    )


def test_dumped_frames_keep_ids_that_are_not_paths(scp: Path, tmp_path: Path, cli: Cli) -> None:
    cli("kmeans", scp, "--out", tmp_path / "km.safetensors", "--clusters", 4, "--workers", 1)
    cli("features", "mfcc", scp, "--out", tmp_path / "f", "--workers", 1)
    label = ["--codebook", tmp_path / "km.safetensors", "--form", "units", "--workers", 1]
    cli("units", scp, "--out", tmp_path / "u", *label)
    cli("units", tmp_path / "f", "--out", tmp_path / "v", *label)
    direct, stored = read_units(tmp_path / "u" / "units.units"), read_units(tmp_path / "v" / "train.units")
    assert list(direct.ids or ()) == list(stored.ids or ()) == IDS
    assert np.array_equal(direct.values, stored.values)


def test_a_manifest_of_paths_is_no_table_as_well(audio: Path, tmp_path: Path, cli: Cli) -> None:
    cli("prepare", audio, "--out", tmp_path / "run", "--clusters", 4, "--workers", 1)
    assert not list((tmp_path / "run").glob("*.csv"))


def test_a_tsv_that_loses_ids_says_so(scp: Path, audio: Path, tmp_path: Path, cli: Cli) -> None:
    assert "m.tsv has no room for ids other than the paths" in cli("manifest", scp, "--out", tmp_path / "m.tsv")
    assert "no room for ids" not in cli("manifest", scp, "--out", tmp_path / "m.csv")
    assert "no room for ids" not in cli("manifest", audio, "--out", tmp_path / "n.tsv")
    assert "no room for ids" not in cli("manifest", scp, "--out", tmp_path / "split", "--valid-percent", 0.3)
    assert {*read_manifest(tmp_path / "split" / "train.csv").ids} < {*IDS}


@pytest.mark.parametrize("spelled", [["f0.wav", "../wav/f1.wav"], ["f0.wav", "{root}/f1.wav"], ["sub/../f0.wav", "f1.wav"]])
def test_a_digest_does_not_depend_on_how_paths_are_spelled(audio: Path, spelled: list[str]) -> None:
    plain = Manifest.of([Utterance(f"f{at}", f"f{at}.wav", 16000) for at in range(2)], str(audio))
    rows = [Utterance(f"f{at}", path.format(root=audio), 16000) for at, path in enumerate(spelled)]
    assert Manifest.of(rows, str(audio)).digest == plain.digest


def test_paths_of_every_kind_in_one_table_end_in_labels_that_fit(
    audio: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_audio(tmp_path / "up" / "g.wav", 1.2, 9)
    rows = ["f0.wav", str(audio / "f1.wav"), "../up/g.wav", "f2.wav"]
    (audio / "m.csv").write_text("path\n" + "".join(f"{row}\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    cli("prepare", "wav/m.csv", "--out", "run", "--clusters", 4, "--valid-percent", 0, "--workers", 1)
    cli("features", "mfcc", "wav/m.csv", "--out", "f", "--workers", 1)
    cli("units", "f", "--codebook", "run/codebook.safetensors", "--out", "u", "--workers", 1)
    assert (tmp_path / "u" / "train.km").read_bytes() == (tmp_path / "run" / "train.km").read_bytes()
    cli("inspect", "run")


@pytest.mark.parametrize("nshard", [1, 3])
def test_a_sample_of_dumped_frames_is_that_of_their_audio(audio: Path, tmp_path: Path, cli: Cli, nshard: int) -> None:
    """Rows that are repeated, to weigh more, across shards too, are told apart as in one manifest."""
    (tmp_path / "m").mkdir()
    cli("manifest", audio, "--out", tmp_path / "all.tsv", "--workers", 1)
    lines = (tmp_path / "all.tsv").read_text().splitlines()
    (tmp_path / "m" / "train.tsv").write_text("\n".join([lines[0], *lines[1:], *lines[4:], *lines[2:]]) + "\n")
    fit = ["--clusters", 3, "--fraction", 0.5, "--seed", 3, "--workers", 1]
    for rank in range(nshard):
        cli("fairseq", "dump_mfcc_feature", tmp_path / "m", "train", nshard, rank, tmp_path / "f", "--workers", 1)
    cli("kmeans", tmp_path / "f", "--out", tmp_path / "a.safetensors", *fit)
    cli("kmeans", tmp_path / "m" / "train.tsv", "--out", tmp_path / "b.safetensors", *fit)
    stored, direct = read_codebook(tmp_path / "a.safetensors"), read_codebook(tmp_path / "b.safetensors")
    assert 0 < direct.fit["utterances"] < 14
    assert stored.fit["utterances"] == direct.fit["utterances"]
    assert np.array_equal(stored.centroids, direct.centroids)


def test_merged_labels_know_their_manifest(audio: Path, tmp_path: Path, cli: Cli) -> None:
    """Shards of two manifests with as many rows of the same lengths are not joined, nor taken for the other's."""
    for at in range(6):
        write_audio(audio / f"f{at}.wav", 1.0, at)
    cli("fairseq", "wav2vec_manifest", audio, "--ext", "wav", "--dest", tmp_path / "m", "--valid-percent", 0)
    root, *rows = (tmp_path / "m" / "train.tsv").read_text().splitlines()
    (tmp_path / "n").mkdir()
    (tmp_path / "n" / "train.tsv").write_text("\n".join([root, rows[1], rows[0], *rows[2:]]) + "\n")
    cli("kmeans", audio, "--out", tmp_path / "km", "--clusters", 4, fails=True)
    cli("kmeans", audio, "--out", tmp_path / "km.safetensors", "--clusters", 4)
    for name in ("m", "n"):
        for rank in range(2):
            cli("fairseq", "dump_mfcc_feature", tmp_path / name, "train", 2, rank, tmp_path / f"f{name}", "--workers", 1)
            label = [tmp_path / f"f{name}", "train", tmp_path / "km.safetensors", 2, rank, tmp_path / f"l{name}"]
            cli("fairseq", "dump_km_label", *label, "--workers", 1)
        cli("fairseq", "merge", tmp_path / f"l{name}", "train", 2)
        assert (
            read_units(tmp_path / f"l{name}" / "train.km").header.manifest == read_manifest(tmp_path / name / "train.tsv").digest
        )
    cli("inspect", tmp_path / "lm" / "train.km", "--manifest", tmp_path / "m" / "train.tsv")
    assert "was made for another manifest, with as many rows" in cli(
        "inspect", tmp_path / "lm" / "train.km", "--manifest", tmp_path / "n" / "train.tsv", fails=True
    )
    for suffix in (".km", ".km.json"):
        (tmp_path / "ln" / f"train_0_2{suffix}").rename(tmp_path / "lm" / f"train_0_2{suffix}")
    assert "are shards of different manifests: dump and label all shards of one" in cli(
        "fairseq", "merge", tmp_path / "lm", "train", 2, fails=True
    )


def test_merged_labels_of_frames_that_lack_rows_claim_no_manifest(audio: Path, tmp_path: Path, cli: Cli) -> None:
    cli("kmeans", audio, "--out", tmp_path / "km.safetensors", "--clusters", 4)
    soundfile.write(audio / "silent.wav", np.zeros(16000), 16000)
    for nshard in (1, 2):
        for rank in range(nshard):
            shard = ["--nshard", nshard, "--rank", rank, "--workers", 1]
            cli("features", "mfcc", audio, "--out", tmp_path / str(nshard), *shard)
            label = [tmp_path / str(nshard), "train", tmp_path / "km.safetensors", nshard, rank, tmp_path / str(nshard)]
            cli("fairseq", "dump_km_label", *label)
        cli("fairseq", "merge", tmp_path / str(nshard), "train", nshard)
        merged = read_units(tmp_path / str(nshard) / "train.km")
        assert (len(merged), merged.header.manifest) == (6, None)
