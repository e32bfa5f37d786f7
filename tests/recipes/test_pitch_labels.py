"""`vocable features f0` and `vocable features speakers`: label files that know what they are of."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from helpers import artefacts_in, write_audio
from vocable.audio.manifest_files import read_manifest
from vocable.errors import InputError, MismatchError
from vocable.units.pitch_labels import PitchBins, read_pitch_labels
from vocable.units.speaker_labels import read_speaker_labels

Cli = Callable[..., str]
SPEAKERS = ("--speakers", "{speaker}/*")


@pytest.fixture
def pitched(cli: Cli, corpus: Path, tmp_path: Path) -> Path:
    pytest.importorskip("swift_f0", reason="needs the extra pitch")
    cli("manifest", corpus, "--out", tmp_path / "train.tsv", "--workers", 1)
    cli("features", "f0", tmp_path / "train.tsv", "--out", tmp_path / "f0", "--bins", 8, "--workers", 1)
    return tmp_path


def raw(folder: Path, name: str = "train") -> list[np.ndarray]:
    lengths = [int(line) for line in (folder / f"{name}_0_1.f0.len").read_text().split()]
    return np.split(np.load(folder / f"{name}_0_1.f0.npy")[:, 0], np.cumsum(lengths)[:-1])


def test_bins_hold_equally_many_voiced_frames_and_labels_are_their_places(pitched: Path) -> None:
    rows = read_manifest(pitched / "train.tsv")
    labels = read_pitch_labels(pitched / "f0" / "train.f0", rows)
    edges = json.loads((pitched / "f0" / "f0.json").read_text())["edges"]
    assert (len(labels), len(edges), edges[0], edges[-1]) == (len(rows), 9, 50, 600)
    voiced = np.concatenate(raw(pitched / "f0"))
    voiced = voiced[voiced > 0]
    assert np.allclose(edges[1:-1], np.quantile(voiced, np.arange(1, 8) / 8), rtol=2e-3)
    counts = np.bincount(labels.values[labels.values >= 0], minlength=8)
    assert counts.min() > 0.9 * len(voiced) / 8
    for pitch, own in zip(raw(pitched / "f0"), labels, strict=True):
        expected = [-1 if hz == 0 else max(at for at in range(8) if at == 0 or hz >= edges[at]) for hz in pitch.tolist()]
        assert own.tolist() == expected
    counted = [1 + (samples - 400) // 160 for samples in rows.samples.tolist()]
    assert labels.lengths.tolist() == counted


def test_shards_workers_and_reruns_make_the_same_bytes(cli: Cli, corpus: Path, tmp_path: Path, short_blocks: None) -> None:
    pytest.importorskip("swift_f0", reason="needs the extra pitch")
    for norm in ("none", "speaker"):
        given = ("features", "f0", corpus, *SPEAKERS, "--norm", norm)
        one, two, three = (tmp_path / norm / name for name in ("one", "two", "three"))
        cli(*given, "--out", one, "--workers", 1)
        cli(*given, "--out", two, "--workers", 2)
        assert artefacts_in(one) == artefacts_in(two)
        for rank in (2, 0, 1):
            said = cli(*given, "--out", three, "--workers", 1, "--nshard", 3, "--rank", rank)
            assert ("left to others" in said) == (rank != 1)
        for name in ("train.f0", "train.f0.json", "f0.json"):
            assert (one / name).read_bytes() == (three / name).read_bytes()
        whole = np.concatenate([np.load(three / f"train_{rank}_3.f0.npy") for rank in range(3)])
        assert np.array_equal(whole, np.load(one / "train_0_1.f0.npy"))
        assert "done already" in cli(*given, "--out", one, "--workers", 1)


def test_a_shard_of_audio_that_was_replaced_since_is_left_to_be_dumped_again(
    cli: Cli, tmp_path: Path, short_blocks: None
) -> None:
    pytest.importorskip("swift_f0", reason="needs the extra pitch")
    for at in range(8):
        write_audio(tmp_path / "a" / f"{at}.wav", 2.0, at)
    given = ("features", "f0", tmp_path / "a", "--bins", 4, "--workers", 1)
    shards = [(*given, "--out", tmp_path / "o", "--nshard", 2, "--rank", rank) for rank in range(2)]
    cli(*shards[0])
    write_audio(tmp_path / "a" / "0.wav", 2.0, 99)
    assert "1 shard is left to others" in cli(*shards[1])
    assert not (tmp_path / "o" / "train.f0").exists()
    assert "the audio has changed since" in cli(*shards[0], fails=True)
    assert "train.f0: 8 utterances" in cli(*shards[0], "--overwrite")
    cli(*given, "--out", tmp_path / "fresh")
    assert (tmp_path / "o" / "train.f0").read_bytes() == (tmp_path / "fresh" / "train.f0").read_bytes()


def test_a_shard_of_other_audio_is_not_taken(cli: Cli, corpus: Path, tmp_path: Path) -> None:
    pytest.importorskip("swift_f0", reason="needs the extra pitch")
    more = ("--out", tmp_path, "--bins", 4, "--workers", 1, "--nshard", 2)
    cli("features", "f0", corpus / "s0", *more, "--rank", 0)
    assert "left to others" in cli("features", "f0", corpus / "s1", *more, "--rank", 1)
    assert not (tmp_path / "train.f0").exists()
    cli("features", "f0", corpus / "s1", *more, "--rank", 0, "--overwrite")
    rows = [read_manifest(tmp_path / f"train_{rank}_2.f0.tsv") for rank in range(2)]
    assert len(read_pitch_labels(tmp_path / "train.f0")) == sum(map(len, rows)) == 8
    assert {path.split("-")[0] for part in rows for path in part.paths} == {"s1"}


def test_pitch_relative_to_a_speaker_is_of_all_that_speaker_says(cli: Cli, corpus: Path, tmp_path: Path) -> None:
    pytest.importorskip("swift_f0", reason="needs the extra pitch")
    given = ("features", "f0", corpus, "--out", tmp_path, "--norm", "speaker", "--mode", "uniform", "--bins", 24, "--workers", 1)
    cli(*given, *SPEAKERS)
    labels = read_pitch_labels(tmp_path / "train.f0")
    pitch, rows = raw(tmp_path), read_manifest(tmp_path / "train_0_1.f0.tsv")
    who = [path.split("/")[0] for path in rows.paths]
    for speaker in set(who):
        octaves = np.concatenate([np.log2(own[own > 0]) for own, name in zip(pitch, who, strict=True) if name == speaker])
        mean = octaves.astype("f8").mean()
        for own, found, name in zip(pitch, labels, who, strict=True):
            if name == speaker:
                places = np.floor((np.log2(own[own > 0].astype("f8")) - mean + 1) * 12)
                assert (np.clip(places, 0, 23) != found[own > 0]).mean() < 0.01  # but for those on an edge
    assert "needs speakers" in cli(*given[:3], "--out", tmp_path / "x", "--norm", "speaker", fails=True)


def test_another_split_takes_the_bins_of_the_first(pitched: Path, cli: Cli, corpus: Path) -> None:
    given = ("features", "f0", corpus / "s0", "--out", pitched / "f0", "--name", "valid", "--workers", 1)
    assert f"take them with --edges-of {pitched / 'f0'}" in cli(*given, fails=True)
    before = (pitched / "f0" / "f0.json").read_bytes()
    cli(*given, "--edges-of", pitched / "f0")
    cli(*given[:3], "--out", pitched / "v", "--name", "valid", "--edges-of", pitched / "f0")
    assert (pitched / "f0" / "f0.json").read_bytes() == before == (pitched / "v" / "f0.json").read_bytes()
    assert (pitched / "f0" / "valid.f0").read_bytes() == (pitched / "v" / "valid.f0").read_bytes()
    train = read_pitch_labels(pitched / "f0" / "train.f0")
    ids = read_manifest(pitched / "train.tsv").paths
    first = min(path for path in ids if path.startswith("s0/"))
    assert np.array_equal(next(iter(read_pitch_labels(pitched / "f0" / "valid.f0"))), list(train)[ids.index(first)])
    assert "--bins and --edges-of" in cli(*given, "--edges-of", pitched / "f0", "--bins", 5, fails=True)


def test_labels_of_another_manifest_or_of_other_bins_are_refused(pitched: Path, cli: Cli, corpus: Path, tmp_path: Path) -> None:
    rows, labels = read_manifest(pitched / "train.tsv"), pitched / "f0" / "train.f0"
    with pytest.raises(MismatchError, match="has 24 lines, but the manifest has 23 rows"):
        read_pitch_labels(labels, rows.select(range(23)))
    with pytest.raises(MismatchError, match="another manifest, with as many rows"):
        read_pitch_labels(labels, rows.select([1, 0, *range(2, 24)]))
    bins = (pitched / "f0" / "f0.json").read_text()
    (pitched / "f0" / "f0.json").write_text(json.dumps({**json.loads(bins), "mode": "uniform"}))
    with pytest.raises(MismatchError, match="other bins than those of f0.json"):
        read_pitch_labels(labels)
    (pitched / "f0" / "f0.json").write_text(bins)
    lines = labels.read_text().split("\n")
    labels.write_text("\n".join([*lines[:4], f"-2 {lines[4]}", *lines[5:]]))
    with pytest.raises(MismatchError, match="not the file that"):
        read_pitch_labels(labels)
    (pitched / "f0" / "train.f0.json").unlink()
    with pytest.raises(InputError, match="train.f0 line 5 should be bins of pitch"):
        read_pitch_labels(labels)


def test_audio_that_cannot_be_used_has_no_labels(cli: Cli, tmp_path: Path) -> None:
    pytest.importorskip("swift_f0", reason="needs the extra pitch")
    for at in range(3):
        write_audio(tmp_path / "a" / f"{at}.wav", 1.0, at)
    (tmp_path / "a" / "1.wav").write_bytes((tmp_path / "a" / "1.wav").read_bytes()[:2000])
    cli("features", "f0", tmp_path / "a", "--out", tmp_path / "o", "--bins", 2, "--workers", 1)
    assert len(read_pitch_labels(tmp_path / "o" / "train.f0", read_manifest(tmp_path / "o" / "train_0_1.f0.tsv"))) == 2
    assert "1.wav" in (tmp_path / "o" / "train_0_1.f0.skipped.jsonl").read_text()
    assert "leave it out" in cli("features", "f0", tmp_path / "a", "--out", tmp_path / "p", "--sample-rate", 8000, fails=True)
    assert "--bins 1: give 2 to" in cli("features", "f0", tmp_path / "a", "--out", tmp_path / "p", "--bins", 1, fails=True)


def test_bins_read_as_they_are_written(tmp_path: Path) -> None:
    from vocable.artefacts.headers import write_header

    bins = PitchBins.uniform(4, "none", 50, 800)
    assert np.allclose(bins.edges, [50, 100, 200, 400, 800])
    assert bins(np.array([0, 20, 50, 99.9, 100.1, 399, 900])).tolist() == [-1, 0, 0, 0, 1, 2, 3]
    write_header(tmp_path / "f0.json", bins.to_json())
    assert PitchBins.read(tmp_path / "f0.json") == bins
    for wrong in ({"edges": [1, 2]}, {"rate": 50}, {"mode": "other"}, {"edges": [50, 40, 60, 70, 80]}):
        write_header(tmp_path / "f0.json", {**bins.to_json(), **wrong})
        with pytest.raises(InputError):
            PitchBins.read(tmp_path / "f0.json")
    with pytest.raises(InputError, match="no frame is voiced"):
        PitchBins.quantile(4, "none", 50, 600, [np.empty(0)])
    with pytest.raises(InputError, match="don't make 4 bins"):
        PitchBins.quantile(4, "none", 50, 600, [np.full(9, 100.0)])


def test_speakers_have_a_line_each(cli: Cli, corpus: Path, tmp_path: Path) -> None:
    cli("manifest", corpus, "--out", tmp_path / "train.tsv", "--workers", 1)
    given = ("--workers", 1, *SPEAKERS)
    assert "24 utterances, 3 speakers" in cli("features", "speakers", tmp_path / "train.tsv", "--out", tmp_path / "l", *given)
    rows = read_manifest(tmp_path / "train.tsv")
    assert (tmp_path / "l" / "train.spk").read_text().split("\n") == [*(path.split("/")[0] for path in rows.paths), ""]
    assert (tmp_path / "l" / "dict.spk.txt").read_text() == "s0 8\ns1 8\ns2 8\n"
    labels = read_speaker_labels(tmp_path / "l" / "train.spk", rows)
    assert labels.names == ("s0", "s1", "s2")
    assert labels.ids.tolist() == [int(path[1]) for path in rows.paths]
    with pytest.raises(MismatchError, match="another manifest, with as many rows"):
        read_speaker_labels(tmp_path / "l" / "train.spk", rows.select([1, 0, *range(2, 24)]))
    with pytest.raises(MismatchError, match="24 lines, but the manifest 4 rows"):
        read_speaker_labels(tmp_path / "l" / "train.spk", rows.select(range(4)))


def test_inspect_says_what_they_are(pitched: Path, cli: Cli) -> None:
    cli("features", "speakers", pitched / "train.tsv", "--out", pitched / "f0", "--speakers", "{speaker}/*", "--workers", 1)
    said = cli("inspect", pitched / "f0" / "train.f0")
    assert "labels of pitch" in said
    assert "8, equally frequent" in said
    assert "labels of who speaks" in cli("inspect", pitched / "f0" / "train.spk")
    whole = cli("inspect", pitched / "f0")
    assert "a dictionary of speakers" in whole
    assert "not recognised" not in whole


def test_speakers_of_another_split_are_numbered_as_in_the_first(cli: Cli, corpus: Path, tmp_path: Path) -> None:
    table = tmp_path / "utt2spk"
    names = [path.stem for path in corpus.rglob("*.flac")]
    table.write_text("".join(f"{name} {name[:2]}\n" for name in names))
    cli("features", "speakers", corpus / "s1", "--out", tmp_path, "--speakers", table, "--workers", 1)
    valid = ("features", "speakers", corpus, "--out", tmp_path, "--name", "valid", *SPEAKERS, "--workers", 1)
    assert "take them with --dict-of" in cli(*valid, fails=True)
    assert "16 of whom nobody knows" in cli(*valid, "--dict-of", tmp_path)
    labels = read_speaker_labels(tmp_path / "valid.spk")
    assert labels.names == ("s1",)
    assert sorted(set(labels.ids.tolist())) == [-1, 0]
    cli("features", "speakers", corpus, "--out", tmp_path / "other", "--name", "valid", *SPEAKERS, "--workers", 1)
    (tmp_path / "dict.spk.txt").write_text((tmp_path / "other" / "dict.spk.txt").read_text())
    with pytest.raises(MismatchError, match="another dict.spk.txt"):
        read_speaker_labels(tmp_path / "valid.spk")
    assert "needs speakers" in cli("features", "speakers", corpus, "--out", tmp_path / "x", fails=True)
    table.write_text("".join(f"{name}\ta b\n" for name in names))
    said = cli("features", "speakers", corpus, "--out", tmp_path / "x", "--speakers", table, "--workers", 1, fails=True)
    assert "can't be called 'a b'" in said
