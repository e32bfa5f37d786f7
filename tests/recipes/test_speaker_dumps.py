"""Frames that are normalised by speakers carry whose statistics those are, from the dump to the codebook to the labels."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from helpers import artefacts_in
from vocable.audio.manifest_files import read_manifest
from vocable.clustering.codebook import read_codebook
from vocable.errors import InputError
from vocable.features.normalization import Normalization, digest_of_speakers
from vocable.features.speaker_statistics import read_speakers, write_speakers
from vocable.recipes.dumped import origin_of, speakers_file, stores_in
from vocable.units.label_files import read_units

Cli = Callable[..., str]
SPEAKERS = ("--speakers", "{speaker}/*", "--workers", 1)
SCOPES = ("speaker", "speaker-mean")


@pytest.fixture
def part(corpus: Path, tmp_path: Path) -> Path:
    """Three utterances of each speaker."""
    for speaker in ("s0", "s1", "s2"):
        for file in sorted((corpus / speaker).iterdir())[:3]:
            place = tmp_path / "part" / speaker / file.name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(file.read_bytes())
    return tmp_path / "part"


def dump(cli: Cli, audio: Path, out: Path, *more: object, scope: str = "speaker-mean") -> None:
    cli("features", "mfcc", audio, "--out", out, "--normalize", scope, *SPEAKERS, *more)


def fit(cli: Cli, source: Path, out: Path, *more: object) -> None:
    cli("kmeans", source, "--out", out, "--clusters", 9, *more)


def label(cli: Cli, source: Path, codebook: Path, out: Path, *more: object, fails: bool = False) -> str:
    return cli("units", source, "--codebook", codebook, "--out", out, *more, fails=fails)


@pytest.mark.parametrize("scope", SCOPES)
def test_a_codebook_of_dumped_frames_is_that_of_their_audio(
    cli: Cli, corpus: Path, part: Path, tmp_path: Path, scope: str, short_blocks: None
) -> None:
    fit(cli, corpus, tmp_path / "a.safetensors", "--normalize", scope, *SPEAKERS)
    dump(cli, corpus, tmp_path / "one", scope=scope)
    for rank in range(3):
        dump(cli, corpus, tmp_path / "three", "--nshard", 3, "--rank", rank, scope=scope)
    wanted = read_codebook(tmp_path / "a.safetensors")
    label(cli, part, tmp_path / "a.safetensors", tmp_path / "u-a", *SPEAKERS)
    for name in ("one", "three"):
        fit(cli, tmp_path / name, tmp_path / f"{name}.safetensors")
        found = read_codebook(tmp_path / f"{name}.safetensors")
        assert (found.digest, found.normalization.speakers_digest) == (wanted.digest, wanted.normalization.speakers_digest)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            label(cli, part, tmp_path / f"{name}.safetensors", tmp_path / f"u-{name}", *SPEAKERS)
            label(cli, tmp_path / name, tmp_path / "a.safetensors", tmp_path / f"v-{name}")
        assert (tmp_path / f"u-{name}" / "units.km").read_bytes() == (tmp_path / "u-a" / "units.km").read_bytes()
    label(cli, corpus, tmp_path / "a.safetensors", tmp_path / "v", *SPEAKERS)
    assert (tmp_path / "v-one" / "train.km").read_bytes() == (tmp_path / "v" / "units.km").read_bytes()


def test_each_shard_has_the_statistics_of_those_who_speak_in_it(
    cli: Cli, corpus: Path, tmp_path: Path, short_blocks: None
) -> None:
    dump(cli, corpus, tmp_path)
    for rank in range(3):
        dump(cli, corpus, tmp_path / "f", "--nshard", 3, "--rank", rank)
    whole = read_speakers(tmp_path / "train_0_1.speakers.safetensors")
    digest = origin_of(tmp_path / "train_0_1.npy").speakers
    assert (sorted(whole), digest) == (["s0", "s1", "s2"], digest_of_speakers(whole))
    _, stores = stores_in(tmp_path / "f")
    parts = [read_speakers(speakers_file(store.path)) for store in stores]
    for own, store in zip(parts, stores, strict=True):
        rows = read_manifest(store.path.with_suffix(".tsv"))
        assert sorted(own) == sorted({path.split("/")[0] for path in rows.paths})
        assert origin_of(store.path).speakers == digest
        assert all(np.array_equal(own[name], whole[name]) for name in own)
    assert min(map(len, parts)) < 3


def test_frames_normalised_by_other_statistics_than_the_codebooks_are_refused(
    cli: Cli, corpus: Path, part: Path, tmp_path: Path
) -> None:
    book = tmp_path / "k.safetensors"
    fit(cli, corpus, book, "--normalize", "speaker-mean", *SPEAKERS)
    dump(cli, part, tmp_path / "f")
    said = label(cli, tmp_path / "f", book, tmp_path / "u", fails=True)
    assert "train_0_1.npy has frames normalised by other statistics of speakers than the codebook's: label the audio" in said
    said = cli("fairseq", "dump_km_label", tmp_path / "f", "train", book, 1, 0, tmp_path / "u", fails=True)
    assert "normalised by other statistics of speakers" in said
    forget(tmp_path / "f" / "train_0_1.npy")
    said = label(cli, tmp_path / "f", book, tmp_path / "u", fails=True)
    assert "train_0_1.npy doesn't say by which statistics of speakers its frames are normalised: label the audio" in said
    assert not list((tmp_path / "u").glob("*.km"))


def forget(npy: Path) -> None:
    """Make dumped frames as older versions left them."""
    path = npy.with_suffix(".json")
    header = json.loads(path.read_text())
    del header["normalization"]["speakers"]
    path.write_text(json.dumps(header))
    speakers_file(npy).unlink()


def test_what_older_versions_left_without_statistics_is_said_to_have_none(cli: Cli, corpus: Path, tmp_path: Path) -> None:
    dump(cli, corpus, tmp_path / "f")
    forget(tmp_path / "f" / "train_0_1.npy")
    with pytest.warns(UserWarning, match="doesn't hold the statistics of speakers that its frames are normalised by"):
        fit(cli, tmp_path / "f", tmp_path / "k.safetensors")
    with pytest.warns(UserWarning, match="nothing tells whether frames are normalised by those it was fitted with"):
        label(cli, tmp_path / "f", tmp_path / "k.safetensors", tmp_path / "u")
    with pytest.warns(UserWarning, match="an utterance's labels depend on what else there is of its speaker"):
        label(cli, corpus, tmp_path / "k.safetensors", tmp_path / "v", *SPEAKERS)
    assert len(read_units(tmp_path / "v" / "units.km")) == 24


def test_shards_of_other_statistics_or_without_them_make_no_codebook(
    cli: Cli, corpus: Path, tmp_path: Path, short_blocks: None
) -> None:
    for rank in range(2):
        dump(cli, corpus, tmp_path / "f", "--nshard", 2, "--rank", rank)
    _, stores = stores_in(tmp_path / "f")
    given = ("kmeans", tmp_path / "f", "--out", tmp_path / "k.safetensors", "--clusters", 3)
    beside = speakers_file(stores[1].path)
    content = beside.read_bytes()
    beside.unlink()
    assert "lacks statistics of speakers that its frames are normalised by: dump the frames again" in cli(*given, fails=True)
    write_speakers(beside, {name: (mean + 1, std) for name, (mean, std) in read_speakers(speakers_file(stores[0].path)).items()})
    assert "lacks statistics of speakers" in cli(*given, fails=True)
    beside.write_bytes(content)
    header = stores[1].path.with_suffix(".json")
    written = json.loads(header.read_text())
    header.write_text(json.dumps({**written, "normalization": {**written["normalization"], "speakers": "0" * 64}}))
    assert "are normalised by other statistics of speakers: dump all shards alike" in cli(*given, fails=True)
    beside.write_bytes(content[:50])
    header.write_text(json.dumps(written))
    assert "is not a whole safetensors file" in cli(*given, fails=True)


def test_statistics_come_and_go_with_their_frames(cli: Cli, corpus: Path, tmp_path: Path) -> None:
    dump(cli, corpus, tmp_path / "f")
    before = artefacts_in(tmp_path / "f")
    assert "train_0_1.speakers.safetensors" in before
    (tmp_path / "f" / "train_0_1.speakers.safetensors").unlink()
    dump(cli, corpus, tmp_path / "f")
    assert artefacts_in(tmp_path / "f") == before
    said = cli("inspect", tmp_path / "f")
    assert "speakers.safetensors" not in said
    cli("features", "mfcc", corpus, "--out", tmp_path / "f", "--overwrite", *SPEAKERS)
    assert sorted(artefacts_in(tmp_path / "f")) == [f"train_0_1.{ending}" for ending in ("json", "len", "npy", "tsv")]


def test_statistics_read_as_they_are_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    known = {name: (rng.random(3, np.float32), 1 + rng.random(3, np.float32)) for name in ("b", "é", "a c")}
    write_speakers(tmp_path / "s", known)
    found = read_speakers(tmp_path / "s")
    assert digest_of_speakers(found) == digest_of_speakers(known) == Normalization("speaker", speakers=known).speakers_digest
    write_speakers(tmp_path / "none", {})
    assert read_speakers(tmp_path / "none") == {}
    write_speakers(tmp_path / "s", {**known, "b": (known["b"][0], -known["b"][1])})
    with pytest.raises(InputError, match="holds means and deviations of speakers that can't be"):
        read_speakers(tmp_path / "s")
