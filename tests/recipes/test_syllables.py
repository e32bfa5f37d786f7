"""Syllables of a corpus from the command line: cut, clustered, labelled and scored; again, killed, and with broken files."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import joblib
import numpy as np
import pytest
import soundfile
from sklearn.cluster import AgglomerativeClustering, KMeans

from helpers import artefacts_in, speech_like, write_audio
from models.made import made_encoder, tiny
from vocable.checkpoints.encoder_checkpoint import EncoderCheckpoint
from vocable.checkpoints.encoders import write_encoder
from vocable.clustering.codebook import Codebook, read_codebook
from vocable.errors import InputError, MismatchError, UnsafeFileError
from vocable.recipes import syllable_segments
from vocable.recipes.stored_segments import StoredSegments
from vocable.recipes.syllable_clusters import TwoLevels, fitted_levels, grouped

Cli = Callable[..., str]
LAYERS = ("--layer", 2, "--norm-layer", 3)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = replace(tiny(), family="sdhubert", aggregator=True, waveform_normalization="utterance", waveform_eps=1e-7)
    path = tmp_path_factory.mktemp("encoder") / "tiny"
    write_encoder(EncoderCheckpoint.of(made_encoder(config)), path, "vocable")
    return path


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("audio")
    for number in range(9):
        write_audio(root / f"s{number % 3}" / f"u{number}.flac", 0.5 + number / 2, number)
    return root


@pytest.fixture(scope="module")
def segments(audio: Path, encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from vocable.cli.main import run

    out = tmp_path_factory.mktemp("segments") / "cut"
    assert run(["syllables", "segment", str(audio), "--encoder", str(encoder), "--out", str(out), *map(str, LAYERS)]) == 0
    return out


def test_a_corpus_is_cut_in_all_forms(cli: Cli, audio: Path, encoder: Path, tmp_path: Path) -> None:
    forms = "txt,features,frames,textgrid,audacity,jsonl"
    said = cli("syllables", "segment", audio, "--encoder", encoder, "--out", tmp_path / "cut", *LAYERS, "--form", forms)
    assert "9 utterances" in said
    lines = [json.loads(line) for line in (tmp_path / "cut" / "segments.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == sorted(line["id"] for line in lines)
    for line in lines:
        stem = tmp_path / "cut" / line["id"]
        rows = [tuple(map(float, row.split(", "))) for row in Path(f"{stem}_segments.txt").read_text().splitlines()]
        np.testing.assert_allclose(rows, line["segments"], atol=5e-4)
        features, frames = np.load(f"{stem}_segmentfeature.npy"), np.load(f"{stem}_feature.npy")
        assert features.shape == (len(rows), 64)
        assert frames.shape == (line["length"], 64)
        first, last = (round(value * 50) for value in rows[0])
        np.testing.assert_allclose(features[0], frames[first:last].mean(axis=0), rtol=1e-6)
        assert Path(f"{stem}.TextGrid").read_text().count("intervals [") >= len(rows)
        assert len(Path(f"{stem}.audacity.txt").read_text().splitlines()) == len(rows)
    assert "done already" in cli(
        "syllables", "segment", audio, "--encoder", encoder, "--out", tmp_path / "cut", *LAYERS, "--form", forms
    )


def test_frames_are_written_in_parts(
    cli: Cli, audio: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("syllables", "segment", audio, "--encoder", encoder, *LAYERS, "--form", "frames", "--workers", 1)
    cli(*command, "--out", tmp_path / "cut")
    monkeypatch.setattr("vocable.recipes.syllable_segments._AT_ONCE", 7)
    monkeypatch.setattr("vocable.syllables.hearing._IN_MEMORY", 0)  # in a file
    cli(*command, "--out", tmp_path / "parts")
    files = sorted((tmp_path / "cut").rglob("*_feature.npy"))
    assert len(files) == 9
    for file in files:
        content = file.read_bytes()
        assert (tmp_path / "parts" / file.relative_to(tmp_path / "cut")).read_bytes() == content
        held = io.BytesIO()
        np.save(held, np.load(file))
        assert held.getvalue() == content


def test_the_bytes_do_not_depend_on_workers_blocks_or_shards(
    cli: Cli, audio: Path, encoder: Path, segments: Path, tmp_path: Path, short_blocks: None
) -> None:
    common = ("syllables", "segment", audio, "--encoder", encoder, *LAYERS)
    cli(*common, "--out", tmp_path / "two", "--workers", 2)
    for rank in (1, 0):
        cli(*common, "--out", tmp_path / "parts", "--nshard", 2, "--rank", rank)
    expected = {name: content for name, content in artefacts_in(segments).items() if name != ".made-from"}
    for folder in ("two", "parts"):
        found = {name: content for name, content in artefacts_in(tmp_path / folder).items() if name != ".made-from"}
        assert found == expected


def test_what_was_cut_is_not_cut_again_and_what_is_gone_is(
    cli: Cli, audio: Path, encoder: Path, tmp_path: Path, short_blocks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("syllables", "segment", audio, "--encoder", encoder, "--out", tmp_path / "cut", *LAYERS, "--workers", 1)
    written: list[str] = []
    write = syllable_segments.write_syllables

    def killed(folder: Path, name: str, *rest: object) -> dict[str, int]:
        if len(written) == 5:
            raise KeyboardInterrupt
        written.append(name)
        return write(folder, name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(syllable_segments, "write_syllables", killed)
    cli(*command, fails=True)
    assert not (tmp_path / "cut" / "segments.json").exists()
    with pytest.raises(InputError, match="is not finished"):
        StoredSegments(tmp_path / "cut")
    monkeypatch.setattr(
        syllable_segments, "write_syllables", lambda folder, name, *rest: written.append(name) or write(folder, name, *rest)
    )
    cli(*command)
    assert len(written) < 5 + 9
    cli("syllables", "segment", audio, "--encoder", encoder, "--out", tmp_path / "once", *LAYERS)
    whole = {name: content for name, content in artefacts_in(tmp_path / "once").items() if name != ".made-from"}
    assert {name: content for name, content in artefacts_in(tmp_path / "cut").items() if name != ".made-from"} == whole
    (tmp_path / "cut" / "s0" / "u3_segmentfeature.npy").write_bytes(b"cut short")
    written.clear()
    cli(*command)
    assert "s0/u3" in written
    assert len(written) < 9
    assert {name: content for name, content in artefacts_in(tmp_path / "cut").items() if name != ".made-from"} == whole


def test_segments_of_other_settings_are_not_mixed(cli: Cli, audio: Path, encoder: Path, tmp_path: Path) -> None:
    command = ("syllables", "segment", audio, "--encoder", encoder, "--out", tmp_path / "cut", *LAYERS)
    cli(*command, "--form", "txt,features,textgrid,jsonl")
    said = cli(*command, "--merge-threshold", 0.9, fails=True)
    assert "--overwrite" in said
    cli(*command, "--merge-threshold", 0.9, "--overwrite")
    assert not list((tmp_path / "cut").rglob("*.TextGrid"))
    assert not (tmp_path / "cut" / "segments.jsonl").exists()
    assert json.loads((tmp_path / "cut" / "segments.json").read_text())["settings"]["minimum_cut"]["merge_threshold"] == 0.9


def test_files_of_others_are_not_replaced_unasked(cli: Cli, audio: Path, encoder: Path, tmp_path: Path) -> None:
    command = ("syllables", "segment", audio / "s0" / "u0.flac", "--encoder", encoder, "--out", tmp_path, *LAYERS)
    (tmp_path / "u0_feature.npy").write_bytes(b"somebody's")
    assert "u0_feature.npy is there already" in cli(*command, fails=True)
    assert (tmp_path / "u0_feature.npy").read_bytes() == b"somebody's"
    cli(*command, "--overwrite")


def test_unusable_files_are_named_and_the_rest_goes_on(cli: Cli, encoder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "audio"
    write_audio(folder / "good.wav", 2.0, 0)
    write_audio(folder / "same.flac", 2.0, 1)
    write_audio(folder / "same.wav", 1.0, 2)
    write_audio(folder / "short.wav", 0.05, 3)
    soundfile.write(folder / "silent.wav", np.zeros(16000), 16000)
    soundfile.write(folder / "constant.wav", np.full(16000, 0.5), 16000)
    (folder / "empty.wav").write_bytes(b"")
    (folder / "broken.flac").write_bytes(b"fLaC, and no more")
    command = ("syllables", "segment", folder, "--encoder", encoder, *LAYERS)
    said = cli(*command, "--out", tmp_path / "cut")
    assert "2 utterances" in said
    skipped = [json.loads(line) for line in (tmp_path / "cut" / "skipped.jsonl").read_text().splitlines()]
    assert {item["path"]: item["reason"] for item in skipped} == {
        "broken.flac": "unreadable", "constant.wav": "silent", "empty.wav": "empty", "same.wav": "duplicate id",
        "short.wav": "short", "silent.wav": "silent",
    }  # fmt: skip
    assert (tmp_path / "cut" / "same_segments.txt").is_file()
    assert "--strict" in cli(*command, "--out", tmp_path / "strict", "--strict", fails=True)
    (tmp_path / "nothing").mkdir()
    assert "has no audio" in cli(
        "syllables", "segment", tmp_path / "nothing", "--encoder", encoder, "--out", tmp_path / "none", *LAYERS, fails=True
    )
    assert "layer 9 doesn't exist" in cli(
        "syllables", "segment", folder, "--encoder", encoder, "--out", tmp_path / "wrong", fails=True
    )
    assert not (tmp_path / "wrong").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--prominence", 1), "--prominence has no meaning for minimum-cut"),
        (("--method", "greedy", "--longest", 3), "--longest has no meaning for greedy"),
        (("--method", "norm-peaks", "--norm-threshold", 1), "--norm-threshold has no meaning for norm-peaks"),
        (("--form", "wav"), "--form wav: give some of"),
        (("--syllable-duration", 0), "seconds or more"),
    ],
)
def test_options_that_mean_nothing_are_refused(
    cli: Cli, audio: Path, encoder: Path, tmp_path: Path, options: tuple[object, ...], said: str
) -> None:
    assert said in cli(
        "syllables", "segment", audio, "--encoder", encoder, "--out", tmp_path / "cut", *LAYERS, *options, fails=True
    )


@pytest.mark.parametrize(
    "method", [("--method", "greedy"), ("--preset", "zerosyl", "--prominence", 0.2), ("--windows", "overlap-add")]
)
def test_other_methods_run(cli: Cli, audio: Path, encoder: Path, tmp_path: Path, method: tuple[object, ...]) -> None:
    said = cli("syllables", "segment", audio / "s0" / "u6.flac", "--encoder", encoder, "--out", tmp_path, *LAYERS, *method)
    assert "1 utterances" in said
    assert StoredSegments(tmp_path).of("u6").segments.shape[1] == 2


@pytest.mark.parametrize("algorithm", ["lloyd", "minibatch"])
def test_segments_are_clustered_on_two_levels_and_labelled(cli: Cli, segments: Path, tmp_path: Path, algorithm: str) -> None:
    book = tmp_path / "km" / "book.safetensors"
    sizes = "--n-clusters", 12, "--n-clusters-agglomerative", 5
    command = ("syllables", "cluster", segments, "--out", book, *sizes, "--algorithm", algorithm)
    assert "12 clusters in 5 groups" in cli(*command)
    assert "done already" in cli(*command)
    made = read_codebook(book)
    assert made.spec is not None
    assert made.groups is not None
    assert made.groups.tolist() == AgglomerativeClustering(5, linkage="ward").fit_predict(made.centroids).tolist()
    stored = StoredSegments(segments)
    features = np.concatenate([item.features for item in stored.described() if item.features is not None])
    theirs = KMeans(12, init=made.centroids, n_init=1, max_iter=1).fit(features[:12])
    theirs.cluster_centers_ = made.centroids.astype(theirs.cluster_centers_.dtype)
    np.testing.assert_array_equal(made.predict(features), theirs.predict(features))
    said = cli(
        "syllables", "units", segments, "--codebook", book, "--out", tmp_path / "u", "--form", "jsonl,km,rttm,textgrid,audacity"
    )
    assert "9 utterances" in said
    lines = [json.loads(line) for line in (tmp_path / "u" / "units.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == stored.ids == (tmp_path / "u" / "units.ids").read_text().splitlines()
    for line, text in zip(lines, (tmp_path / "u" / "units.km").read_text().splitlines(), strict=True):
        item = stored.of(line["id"], described=True)
        assert item.features is not None
        assert line["units"] == made.groups[made.predict(item.features)].tolist() == [int(unit) for unit in text.split()]
        np.testing.assert_allclose(np.stack([line["starts"], line["ends"]], axis=1), item.segments, atol=1e-6)
        assert (tmp_path / "u" / f"{line['id']}.units.TextGrid").is_file()
    assert "done already" in cli(
        "syllables", "units", segments, "--codebook", book, "--out", tmp_path / "u", "--form", "jsonl,km,rttm,textgrid,audacity"
    )
    (tmp_path / "u" / "s0" / "u0.units.TextGrid").unlink()
    cli("syllables", "units", segments, "--codebook", book, "--out", tmp_path / "u", "--form", "jsonl,km,rttm,textgrid,audacity")
    assert (tmp_path / "u" / "s0" / "u0.units.TextGrid").is_file()
    cli("syllables", "units", segments, "--codebook", book, "--out", tmp_path / "fine", "--level", "fine")
    assert json.loads((tmp_path / "fine" / "units.json").read_text())["units"] == 12
    assert "can't make 999 clusters" in cli(
        "syllables", "cluster", segments, "--out", tmp_path / "big.safetensors", "--n-clusters", 999,
        "--n-clusters-agglomerative", 5, fails=True,
    )  # fmt: skip
    assert not (tmp_path / "big.safetensors").exists()


def test_a_codebook_of_other_segments_is_refused(cli: Cli, audio: Path, encoder: Path, segments: Path, tmp_path: Path) -> None:
    book = tmp_path / "book.safetensors"
    cli("syllables", "cluster", segments, "--out", book, "--n-clusters", 6, "--n-clusters-agglomerative", 0)
    assert read_codebook(book).groups is None
    cli("syllables", "segment", audio, "--encoder", encoder, "--out", tmp_path / "other", "--layer", 1, "--norm-layer", 3)
    assert "layer 2 against 1" in cli(
        "syllables", "units", tmp_path / "other", "--codebook", book, "--out", tmp_path / "u", fails=True
    )


def test_a_kmeans_and_reducer_of_the_authors_code_are_taken_and_nothing_is_run(cli: Cli, segments: Path, tmp_path: Path) -> None:
    features = np.concatenate([item.features for item in StoredSegments(segments).described() if item.features is not None])
    model = KMeans(8, n_init=1, random_state=0).fit(features)
    joblib.dump(model, tmp_path / "km_8.pt")
    np.save(tmp_path / "km_8to3.npy", AgglomerativeClustering(3).fit_predict(model.cluster_centers_))
    cli(
        "syllables", "units", segments, "--codebook", tmp_path / "km_8.pt", "--reducer", tmp_path / "km_8to3.npy",
        "--out", tmp_path / "u",
    )  # fmt: skip
    units = [unit for line in (tmp_path / "u" / "units.jsonl").read_text().splitlines() for unit in json.loads(line)["units"]]
    assert units == np.load(tmp_path / "km_8to3.npy")[model.predict(features)].tolist()
    np.save(tmp_path / "wrong.npy", np.zeros(7, dtype=int))
    assert "a whole number from 0 to 7 for each of 8 centroids" in cli(
        "syllables", "units", segments, "--codebook", tmp_path / "km_8.pt", "--reducer", tmp_path / "wrong.npy",
        "--out", tmp_path / "v", fails=True,
    )  # fmt: skip


def test_pickled_segments_of_the_authors_code_are_read_and_hostile_ones_are_not(segments: Path, tmp_path: Path) -> None:
    ours = StoredSegments(segments)
    for name in ours.ids[:3]:
        item = ours.of(name, described=True)
        path = tmp_path / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, {"segments": item.segments, "segment_features": item.features, "length": 7})  # type: ignore[arg-type]
    theirs = StoredSegments(tmp_path)
    assert theirs.ids == ours.ids[:3]
    assert theirs.spec is None
    for name in theirs.ids:
        np.testing.assert_array_equal(theirs.of(name, described=True).segments, ours.of(name).segments)
        np.testing.assert_array_equal(theirs.of(name, described=True).features, ours.of(name, described=True).features)
    shutil.copy(segments / f"{ours.ids[0]}_segments.txt", tmp_path / "old_segment.txt")
    np.testing.assert_array_equal(StoredSegments(tmp_path).of("old").segments, ours.of(ours.ids[0]).segments)
    with pytest.raises(InputError, match="nothing beside it that describes segments"):
        StoredSegments(tmp_path).of("old", described=True)

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "was-run",)

    np.save(tmp_path / "evil.npy", {"segments": Evil()})  # type: ignore[arg-type]
    with pytest.raises(UnsafeFileError, match="nothing in it was run"):
        StoredSegments(tmp_path).of("evil")
    assert not (tmp_path / "was-run").exists()
    shutil.copy(segments / f"{ours.ids[1]}_segments.txt", tmp_path / "old_segments.txt")  # beside the older spelling
    np.testing.assert_array_equal(StoredSegments(tmp_path).of("old").segments, ours.of(ours.ids[1]).segments)
    (tmp_path / "bad_segments.txt").write_text("0.1, 0.2\n0.3 0.4\n")
    with pytest.raises(InputError, match="line 2 should be a start and an end"):
        StoredSegments(tmp_path).of("bad")


def test_both_levels_are_fitted_with_the_segments_gone() -> None:
    drawn = np.random.default_rng(0)
    parts = [drawn.standard_normal((300, 6)).astype(np.float32) for _ in range(3)]
    made = fitted_levels(parts, TwoLevels(clusters=30, groups=7))
    assert parts == []
    assert len(made) == 30
    assert made.n_groups == 7
    assert grouped(made.centroids, 7).tolist() == (made.groups.tolist() if made.groups is not None else None)
    with pytest.raises(InputError, match="give 1 to 3"):
        TwoLevels(clusters=3, groups=4)


def test_references_and_scores(cli: Cli, tmp_path: Path, encoder: Path, segments: Path) -> None:
    aligned = tmp_path / "phones"
    (aligned / "s0").mkdir(parents=True)
    (aligned / "s1").mkdir()
    for name in ("s0/u0", "s0/u3", "s1/u1", "s1/u4"):
        (aligned / f"{name}.tsv").write_text(
            "start\tend\tphone\tword\n0.0\t0.1\tSIL\t<sil>\n0.1\t0.15\tK\tcatty\n0.15\t0.25\tAE1\tcatty\n0.25\t0.3\tT\tcatty\n"
            "0.3\t0.4\tIY0\tcatty\n0.4\t0.45\tS\tsea\n0.45\t0.6\tIY1\tsea\n"
        )
    said = cli("syllables", "reference", aligned, "--out", tmp_path / "ref", "--json", tmp_path / "ref.json")
    assert "12 syllables of 4 utterances" in said
    assert (tmp_path / "ref" / "s0" / "u0.tsv").read_text().splitlines()[1:] == [
        "0.1000\t0.2500\tK AE1", "0.2500\t0.4000\tT IY0", "0.4000\t0.6000\tS IY1",
    ]  # fmt: skip
    assert "give another folder" in cli("syllables", "reference", aligned, "--out", aligned, fails=True)
    cli("syllables", "reference", aligned, "--out", tmp_path / "ref")  # the same as is there
    (tmp_path / "ref" / "s0" / "u0.tsv").write_text("start\tend\tsyllable\n0\t1\tmine\n")
    assert "--overwrite" in cli("syllables", "reference", aligned, "--out", tmp_path / "ref", fails=True)
    cli("syllables", "reference", aligned, "--out", tmp_path / "ref", "--overwrite")
    (tmp_path / "rules.txt").write_text("vowels a\n")
    assert "no phone is a vowel" in cli(
        "syllables", "reference", aligned, "--out", tmp_path / "none", "--phonology", tmp_path / "rules.txt", fails=True
    )
    rows = json.loads(cli("evaluate", "boundaries", segments, tmp_path / "ref", "--json"))
    same = json.loads(cli("evaluate", "boundaries", segments, tmp_path / "ref.json", "--json"))
    assert rows == same
    assert rows["references"] == 16
    assert rows["utterances"] == 4
    tuned = json.loads(cli("evaluate", "boundaries", segments, tmp_path / "ref", "--tune", tmp_path / "ref", "--json"))
    assert tuned["R-value"] >= rows["R-value"]
    cli("syllables", "cluster", segments, "--out", tmp_path / "b.safetensors", "--n-clusters", 8, "--n-clusters-agglomerative", 4)
    scores = json.loads(
        cli("evaluate", "syllables", segments, tmp_path / "ref", "--codebook", tmp_path / "b.safetensors", "--json")
    )
    assert 0 < scores["syllable_purity"] <= 1
    assert scores["syllables"] <= 3
    assert scores["units"] <= 4
    (tmp_path / "empty").mkdir()
    assert "holds no segments" in cli("evaluate", "boundaries", tmp_path / "empty", tmp_path / "ref", fails=True)
    (tmp_path / "bad.json").write_text('{"a": {"file_name": "x.flac"}}')
    assert "entry a, should have a file_name and syllables" in cli(
        "evaluate", "boundaries", segments, tmp_path / "bad.json", fails=True
    )


def test_triplets_are_made_and_scored(cli: Cli, encoder: Path, tmp_path: Path) -> None:
    audio, aligned = tmp_path / "audio", tmp_path / "words"
    sentences = {
        "a/u0": "one two three four", "b/u1": "one two three four", "c/u2": "one two five four", "c/u3": "six seven eight nine",
    }  # fmt: skip
    for seed, (name, words) in enumerate(sentences.items()):
        path = audio / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, speech_like(2.4, seed), 16000)
        rows = [f"{0.2 + 0.5 * at:.2f}\t{0.7 + 0.5 * at:.2f}\t{word}\n" for at, word in enumerate(words.split())]
        (aligned / name).parent.mkdir(parents=True, exist_ok=True)
        (aligned / f"{name}.tsv").write_text("start\tend\tword\n" + "".join(rows))
    command = ("syllables", "triplets", audio, "--alignments", aligned, "--out", tmp_path / "t.json", "--fewest-words", 3)
    assert "triplets of" in cli(*command, "--speakers", "{speaker}/*")
    assert "--overwrite" in cli(*command, "--speakers", "{speaker}/*", fails=True)
    made = json.loads((tmp_path / "t.json").read_text())
    speakers = {part: {entry[part]["file_name"].split("/")[0] for entry in made.values()} for part in "XPN"}
    assert speakers == {"X": {"a"}, "P": {"b"}, "N": {"c"}}
    first = made["0"]
    assert first["X"]["text"] == first["P"]["text"] == "one two three four"
    assert first["X"]["segment"] == [0.2, 2.2]
    assert first["N"]["text"] == "one two five four"  # which shares most
    for how in (("--layer", 2), ("--mode", "agg", "--layer", 3)):
        found = json.loads(cli("evaluate", "ssabx", encoder, tmp_path / "t.json", audio, *how, "--json"))
        assert found["triplets"] == len(made)
        assert 0 <= found["accuracy"] <= 1
    assert "has no head of its distillation" in cli(
        "evaluate", "ssabx", encoder, tmp_path / "t.json", audio, "--mode", "agg", "--layer", "final", fails=True
    )
    assert "--layer final goes with --mode agg" in cli(
        "evaluate", "ssabx", encoder, tmp_path / "t.json", audio, "--layer", "final", fails=True
    )
    assert "give the folder" in cli("evaluate", "ssabx", encoder, tmp_path / "t.json", tmp_path, "--layer", 2, fails=True)
    assert "need speakers" in cli(*command, "--overwrite", fails=True)


def test_groups_are_kept_in_the_codebooks_file(tmp_path: Path) -> None:
    made = Codebook(np.eye(4, dtype=np.float32), groups=np.array([0, 1, 1, 0]))
    made.write(tmp_path / "b.safetensors")
    found = read_codebook(tmp_path / "b.safetensors")
    assert found.groups is not None
    assert found.groups.tolist() == [0, 1, 1, 0]
    assert found.digest == made.digest != Codebook(np.eye(4, dtype=np.float32)).digest
    assert found.predict(np.eye(4)).tolist() == [0, 1, 2, 3]
    with pytest.raises(InputError, match="groups should be a whole number"):
        Codebook(np.eye(4, dtype=np.float32), groups=np.array([0, 1]))
    assert MismatchError is not None


def test_a_dry_run_says_what_cutting_takes_and_does_nothing(cli: Cli, audio: Path, encoder: Path, tmp_path: Path) -> None:
    said = cli("syllables", "segment", audio, "--encoder", encoder, "--out", tmp_path / "cut", *LAYERS, "--dry-run")
    assert "usable utterances" in said
    assert "about" in said
    assert not (tmp_path / "cut").exists()
