"""Labels of a layer of an encoder, from audio and by way of dumped frames; what refuses what; layers compared."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers import artefacts_in
from models.made import made_checkpoint, made_heads, tiny
from vocable import EncoderLayer, read_codebook, read_units, read_waveform
from vocable.checkpoints.encoders import write_encoder
from vocable.features import StoredFrames
from vocable.units.units import expand

Cli = Callable[..., str]


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small HuBERT of three layers."""
    folder = tmp_path_factory.mktemp("encoders") / "hubert"
    write_encoder(made_checkpoint(tiny(), seed=1, heads=made_heads()), folder, "vocable")
    return folder


@pytest.fixture(scope="session")
def prepared(corpus: Path, encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from vocable.cli.main import run

    out = tmp_path_factory.mktemp("prepared") / "run"
    options = ["--encoder", encoder, "--layer", 2, "--clusters", 20, "--valid-percent", 0.2, "--workers", 1]
    assert run(["prepare", str(corpus), "--out", str(out), *map(str, options)]) == 0
    return out


def test_fused_labels_are_those_of_dumped_frames(cli: Cli, encoder: Path, prepared: Path, tmp_path: Path) -> None:
    book = prepared / "codebook.safetensors"
    for split in ("train", "valid"):
        cli("features", encoder, prepared / f"{split}.tsv", "--layer", 2, "--out", tmp_path / "dump", "--name", split)
        cli("units", tmp_path / "dump", "--codebook", book, "--out", tmp_path / "labels", "--name", split)
        assert (tmp_path / "labels" / f"{split}.km").read_bytes() == (prepared / f"{split}.km").read_bytes()


def test_nothing_of_the_frames_size_touches_the_disk(prepared: Path) -> None:
    codebook = read_codebook(prepared / "codebook.safetensors")
    frames = sum(len(units) for split in ("train", "valid") for units in read_units(prepared / f"{split}.km"))
    dumped = frames * codebook.centroids.shape[1] * 4
    largest = max(path.stat().st_size for path in prepared.rglob("*") if path.is_file() and path.name != "codebook.safetensors")
    assert largest < dumped / 20


@pytest.mark.parametrize("options", [("--workers", 2), ("--nshard", 2)], ids=["workers", "job array"])
def test_the_bytes_are_the_same_for_any_workers_and_shards(
    cli: Cli, corpus: Path, encoder: Path, prepared: Path, tmp_path: Path, options: tuple[str, int]
) -> None:
    ranks = range(2) if options[0] == "--nshard" else [None]
    for rank in ranks:
        part = [*options, *([] if rank is None else ["--rank", rank, "--workers", 1])]
        common = ["--encoder", encoder, "--layer", 2, "--clusters", 20, "--valid-percent", 0.2]
        cli("prepare", corpus, "--out", tmp_path / "run", *common, *part)
    assert artefacts_in(tmp_path / "run") == artefacts_in(prepared)


def test_the_same_weights_elsewhere_and_in_another_layout_make_the_same_results(
    cli: Cli, corpus: Path, encoder: Path, prepared: Path, tmp_path: Path
) -> None:
    cli("convert", encoder, tmp_path / "model.pt", "--to", "fairseq")
    shutil.copytree(prepared, tmp_path / "run")
    common = ["--layer", 2, "--clusters", 20, "--valid-percent", 0.2]
    assert "done already" in cli("prepare", corpus, "--out", tmp_path / "run", "--encoder", tmp_path / "model.pt", *common)


def test_three_lines_of_python_give_the_same_units(corpus: Path, encoder: Path, prepared: Path) -> None:
    extractor = EncoderLayer(encoder, layer=2)
    codebook = read_codebook(prepared / "codebook.safetensors")
    rows = (prepared / "train.tsv").read_text().splitlines()
    waveforms = [read_waveform(corpus / row.partition("\t")[0]) for row in rows[1:4]]
    expected = list(read_units(prepared / "train.km"))[:3]
    for units, wanted in zip(codebook.label(waveforms, extractor), expected, strict=True):
        assert np.array_equal(units, wanted)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--layer", 3], "layer 3 against 2"),
        (["--tap", "ffn"], "tap 'ffn' against 'block'"),
        (["--chunking", "fairseq"], "chunking 'fairseq:1600000' against 'windows:2000:250'"),
        (["--waveform-normalization", "utterance"], "waveform_normalization 'none' against 'utterance'"),
    ],
)
def test_a_codebook_is_refused_on_frames_of_another_kind(
    cli: Cli, corpus: Path, encoder: Path, prepared: Path, tmp_path: Path, options: list[str], sentence: str
) -> None:
    book = prepared / "codebook.safetensors"
    said = cli("units", corpus, "--encoder", encoder, "--codebook", book, "--out", tmp_path / "out", *options, fails=True)
    assert sentence in said
    assert not (tmp_path / "out" / "units.km").exists()


def test_a_codebook_is_refused_with_another_encoder_or_none(
    cli: Cli, corpus: Path, encoder: Path, prepared: Path, tmp_path: Path
) -> None:
    book = prepared / "codebook.safetensors"
    write_encoder(made_checkpoint(tiny(layers=1), seed=2), tmp_path / "other", "vocable")
    said = cli("units", corpus, "--encoder", tmp_path / "other", "--codebook", book, "--out", tmp_path / "out", fails=True)
    assert "model '" in said
    assert "layer 2 against 1" in said
    said = cli("units", corpus, "--codebook", book, "--out", tmp_path / "out", fails=True)
    assert "give --encoder with its checkpoint" in said
    cli("kmeans", corpus, "--clusters", 10, "--out", tmp_path / "mfcc.safetensors")
    said = cli("units", corpus, "--encoder", encoder, "--codebook", tmp_path / "mfcc.safetensors", "--out", tmp_path, fails=True)
    assert "no encoder makes: leave out --encoder" in said


def test_imported_centroids_are_told_what_they_are_for(
    cli: Cli, corpus: Path, encoder: Path, prepared: Path, tmp_path: Path
) -> None:
    book = read_codebook(prepared / "codebook.safetensors")
    np.save(tmp_path / "km.npy", book.centroids)
    common = ["--codebook", tmp_path / "km.npy", "--out", tmp_path / "out", "--encoder", encoder]
    assert "--assume-features" in cli("units", prepared / "valid.tsv", *common, fails=True)
    cli("units", prepared / "valid.tsv", *common, "--layer", 2, "--assume-spec")
    assert (tmp_path / "out" / "units.km").read_bytes() == (prepared / "valid.km").read_bytes()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--encoder", "ENCODER"], "which layer? The encoder has 3: give --layer 1 to 3"),
        (["--encoder", "ENCODER", "--layer", 0], "layer 0 doesn't exist: the encoder has 3 layers; give one from 1 to 3"),
        (["--encoder", "ENCODER", "--layer", 4], "layer 4 doesn't exist"),
        (["--encoder", "ENCODER", "--layer", 2, "--tap", "final"], "behind the last layer, 3"),
        (["--encoder", "ENCODER", "--layer", 2, "--features", "mfcc"], "--features and --encoder"),
        (["--encoder", "ENCODER", "--layer", 2, "--mel-bins", 40], "--mel-bins and --encoder"),
        (["--encoder", "ENCODER", "--layer", 2, "--sample-rate", 8000], "the encoder takes audio at 16000 Hz"),
        (["--encoder", "ENCODER", "--layer", 2, "--chunking", "windows:100:60"], "windows of 100 frames can't have 60"),
        (["--encoder", "ENCODER", "--layer", 2, "--chunking", "thirds"], "--chunking thirds: give windows"),
        (["--layer", 2], "--layer goes with --encoder"),
        (["--encoder", "nowhere.pt", "--layer", 2], "nowhere.pt doesn't exist: give a file, a folder, or the name of a model"),
        (["--encoder", "CORPUS", "--layer", 2], "holds no encoder"),
    ],
)
def test_what_cannot_be_is_said_before_any_work(
    cli: Cli, corpus: Path, encoder: Path, tmp_path: Path, options: list[object], sentence: str
) -> None:
    given = [{"ENCODER": encoder, "CORPUS": corpus}.get(str(item), item) for item in options]
    assert sentence in cli("prepare", corpus, "--out", tmp_path / "run", "--clusters", 5, *given, fails=True)


def test_the_fairseq_line_dumps_what_it_says(cli: Cli, corpus: Path, encoder: Path, tmp_path: Path) -> None:
    cli("fairseq", "wav2vec_manifest", corpus, "--ext", "flac", "--dest", tmp_path, "--valid-percent", 0)
    cli("convert", encoder, tmp_path / "hubert.pt", "--to", "fairseq")
    for rank in range(2):
        cli("fairseq", "dump_hubert_feature", tmp_path, "train", tmp_path / "hubert.pt", 2, 2, rank, tmp_path / "feat")
    stores = [StoredFrames(tmp_path / "feat" / f"train_{rank}_2.npy") for rank in range(2)]
    rows = (tmp_path / "train.tsv").read_text().splitlines()[1:]
    extract = EncoderLayer(encoder, 2)
    made = [extract([read_waveform(corpus / row.partition("\t")[0])])[0] for row in rows]
    assert np.array_equal(np.concatenate([store.array for store in stores]), np.concatenate(made))
    assert (tmp_path / "feat" / "train_1_2.len").read_text().split() == [str(len(item)) for item in made[12:]]
    cli("fairseq", "learn_kmeans", tmp_path / "feat", "train", 2, tmp_path / "km.bin", 8)
    for rank in range(2):
        cli("fairseq", "dump_km_label", tmp_path / "feat", "train", tmp_path / "km.bin", 2, rank, tmp_path / "lab")
    assert "24 utterances" in cli("fairseq", "merge", tmp_path / "lab", "train", 2)
    said = cli("fairseq", "dump_hubert_feature", tmp_path, "train", encoder, 4, 1, 0, tmp_path / "feat", fails=True)
    assert "layer 4 doesn't exist" in said


def test_fairseq_chunks_lose_the_frames_that_the_original_loses(cli: Cli, corpus: Path, encoder: Path, tmp_path: Path) -> None:
    cli("fairseq", "wav2vec_manifest", corpus, "--ext", "flac", "--dest", tmp_path, "--valid-percent", 0)
    cli("fairseq", "dump_hubert_feature", tmp_path, "train", encoder, 1, 1, 0, tmp_path / "feat", "--max_chunk", 16000)
    lengths = list(map(int, (tmp_path / "feat" / "train_0_1.len").read_text().split()))
    rows = [int(row.partition("\t")[2]) for row in (tmp_path / "train.tsv").read_text().splitlines()[1:]]
    expected = [n // 16000 * 49 + (0 if n % 16000 < 400 else 1 + (n % 16000 - 400) // 320) for n in rows]
    assert lengths == expected
    said = cli("fairseq", "dump_hubert_feature", tmp_path, "train", encoder, 1, 1, 0, tmp_path, "--max_chunk", 10, fails=True)
    assert "--max-chunk 10: a frame takes 400 samples" in said


def test_several_sources_become_one(cli: Cli, corpus: Path, encoder: Path, prepared: Path, tmp_path: Path) -> None:
    book = prepared / "codebook.safetensors"
    first = min((corpus / "s1").iterdir())
    common = ["--encoder", encoder, "--codebook", book]
    cli("units", first, corpus / "s0", prepared / "valid.tsv", *common, "--out", tmp_path / "out", "--form", "units")
    units = read_units(tmp_path / "out" / "units.units")
    assert units.ids is not None
    assert len(units.ids) == len(set(units.ids))
    valid = (prepared / "valid.tsv").read_text().splitlines()[1:]
    assert len(units) == len(
        {
            first.name,
            *(path.name for path in (corpus / "s0").iterdir()),
            *(row.split("/")[-1].partition("\t")[0] for row in valid),
        }
    )
    whole = dict(zip(_ids(prepared / "train.tsv"), read_units(prepared / "train.km"), strict=True))
    for name, values in zip(units.ids, units, strict=True):
        if name in whole:
            assert np.array_equal(values, whole[name])
    said = cli("units", first, tmp_path / "gone.wav", *common, "--out", tmp_path / "out", fails=True)
    assert "gone.wav doesn't exist" in said
    said = cli("units", first, prepared / "dict.km.txt", *common, "--out", tmp_path / "out", fails=True)
    assert "neither audio of a known format nor a manifest" in said


def test_sources_keep_the_ids_and_speakers_of_manifests(
    cli: Cli, corpus: Path, encoder: Path, prepared: Path, tmp_path: Path
) -> None:
    common = ["--encoder", encoder, "--codebook", prepared / "codebook.safetensors", "--out", tmp_path / "out"]
    first, second, third = sorted((corpus / "s1").iterdir())[:3]
    (tmp_path / "named.csv").write_text(f"id,path,speaker\nanna-1,{first},anna\n")
    cli("units", tmp_path / "named.csv", second, *common, "--form", "units")
    assert read_units(tmp_path / "out" / "units.units").ids == ("anna-1", second.stem)
    (tmp_path / "named.csv").write_text(f"id,path\n{second.stem},{first}\n")
    assert "would both have the id" in cli("units", tmp_path / "named.csv", second, *common, fails=True)
    odd = tmp_path / os.fsdecode(b"a\xff.flac")
    shutil.copy(third, odd)
    assert "is a name that is not UTF-8" in cli("units", odd, second, *common, fails=True)


def test_a_dry_run_of_several_sources_writes_nothing(
    cli: Cli, corpus: Path, encoder: Path, prepared: Path, tmp_path: Path
) -> None:
    common = ["--encoder", encoder, "--codebook", prepared / "codebook.safetensors", "--out", tmp_path / "out"]
    assert "would become labels" in cli("units", *sorted((corpus / "s1").iterdir())[:2], *common, "--dry-run")
    assert not (tmp_path / "out").exists()


def test_textgrids_are_of_the_utterances_that_have_labels(
    cli: Cli, corpus: Path, encoder: Path, prepared: Path, tmp_path: Path
) -> None:
    shutil.copytree(corpus / "s0", tmp_path / "audio")
    broken = min((tmp_path / "audio").iterdir())
    broken.write_bytes(broken.read_bytes()[:-3000])
    common = [
        "--encoder",
        encoder,
        "--codebook",
        prepared / "codebook.safetensors",
        "--out",
        tmp_path / "out",
        "--form",
        "textgrid",
    ]
    assert "7 utterances" in cli("units", tmp_path / "audio", *common)
    assert len(list((tmp_path / "out").glob("*.TextGrid"))) == 7
    assert "done already" in cli("units", tmp_path / "audio", *common)


def test_times_follow_frames_that_chunks_lose(cli: Cli, corpus: Path, encoder: Path, prepared: Path, tmp_path: Path) -> None:
    common = ["--encoder", encoder, "--layer", 1, "--chunking", "fairseq:8000"]
    cli("kmeans", corpus, *common, "--clusters", 9, "--out", tmp_path / "km.safetensors")
    longest = max(corpus.rglob("*.flac"), key=lambda path: len(read_waveform(path)))
    cli("units", longest, "--encoder", encoder, "--codebook", tmp_path / "km.safetensors", "--out", tmp_path, "--form", "km,rttm")
    [units] = read_units(tmp_path / "units.km")
    last = (tmp_path / "units.rttm").read_text().splitlines()[-1].split()
    chunks, rest = divmod(len(read_waveform(longest)), 8000)
    assert chunks >= 4
    assert rest >= 400
    in_rest = 1 + (rest - 400) // 320
    centre = (chunks * 8000 + (in_rest - 1) * 320 + 200) / 16000
    assert float(last[3]) + float(last[4]) == pytest.approx(centre + 0.01, abs=2e-4)
    assert len(units) == chunks * 24 + in_rest


def _ids(manifest: Path) -> list[str]:
    return [row.partition("\t")[0].rpartition(".")[0] for row in manifest.read_text().splitlines()[1:]]


def test_units_are_written_as_other_programs_read_them(
    cli: Cli, corpus: Path, encoder: Path, prepared: Path, tmp_path: Path
) -> None:
    import pyarrow.parquet

    from vocable import Alignments

    common = ["--encoder", encoder, "--codebook", prepared / "codebook.safetensors", "--out", tmp_path]
    cli("units", corpus / "s0", *common, "--form", "km,jsonl,parquet,rttm,textgrid", "--runs")
    units = list(read_units(tmp_path / "units.km"))
    names = _ids(tmp_path / "units.tsv")
    rows = [json.loads(line) for line in (tmp_path / "units.units.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == names
    assert rows == pyarrow.parquet.read_table(tmp_path / "units.units.parquet").to_pylist()
    intervals: dict[str, list[list[str]]] = {}
    for line in (tmp_path / "units.rttm").read_text().splitlines():
        intervals.setdefault(line.split()[1], []).append(line.split())
    grids = Alignments(tmp_path)
    for row, values, name in zip(rows, units, names, strict=True):
        assert row["rate"] == 50.0
        assert np.array_equal(expand(np.array(row["units"], np.uint32), np.array(row["durations"])), values)
        timeline = grids.find(name.replace("/", "-"))
        assert timeline is not None
        centres = 200 / 16000 + np.arange(len(values)) / 50
        assert timeline.labels_at(centres) == [str(unit) for unit in values.tolist()]
        assert [item[7] for item in intervals[name]] == [str(unit) for unit in row["units"]]
        assert sum(float(item[4]) for item in intervals[name]) == pytest.approx(len(values) / 50, abs=1e-3)
    assert "--runs goes with" in cli("units", corpus / "s0", *common, "--runs", "--name", "other", fails=True)
    assert "done already" in cli("units", corpus / "s0", *common, "--form", "km,jsonl,parquet,rttm,textgrid", "--runs")


def test_inspect_and_convert_tell_an_encoder_in_words(cli: Cli, encoder: Path, tmp_path: Path) -> None:
    said = cli("inspect", encoder)
    for words in ("a HuBERT encoder in the layout of vocable", "3 of 64 values, 4 heads", "group norm", "label_embeddings 11×6"):
        assert words in said
    digest = said.split("digest")[1].split()[1]
    cli("convert", encoder, tmp_path / "hf", "--to", "transformers")
    cli("convert", tmp_path / "hf", tmp_path / "f.pt", "--to", "fairseq")
    cli("convert", tmp_path / "f.pt", tmp_path / "back", "--to", "vocable")
    for path in ("hf", "f.pt", "back"):
        assert digest in cli("inspect", tmp_path / path)
    assert (tmp_path / "back" / "model.safetensors").read_bytes() == (encoder / "model.safetensors").read_bytes()
    assert "say with --to in which layout" in cli("convert", tmp_path / "hf", tmp_path / "x", fails=True)
    assert "say with --to in which layout" in cli("convert", tmp_path / "f.pt", tmp_path / "x", fails=True)
    assert "say with --to in which layout" in cli("convert", "facebook/hubert-base-ls960", tmp_path / "x", fails=True)
    assert "stands already" in cli("convert", encoder, tmp_path / "hf", "--to", "vocable", fails=True)
    cli("convert", encoder, tmp_path / "hf", "--to", "vocable", "--overwrite")
    assert "the layout of vocable" in cli("inspect", tmp_path / "hf")
    assert "leave them out with --to" in cli(
        "convert", encoder, tmp_path / "x", "--to", "vocable", "--sample-rate", 8000, fails=True
    )
    assert "give --to, too" in cli("convert", encoder, tmp_path / "x", "--waveform-normalization", "none", fails=True)
    (tmp_path / "back" / "model.safetensors").write_bytes((encoder / "model.safetensors").read_bytes()[:5000])
    assert "not a whole safetensors file" in cli("inspect", tmp_path / "back", fails=True)


def test_a_dry_run_tells_an_encoders_time_and_memory(cli: Cli, corpus: Path, encoder: Path, tmp_path: Path) -> None:
    common = ["--encoder", encoder, "--layer", 2, "--dry-run"]
    said = cli("prepare", corpus, "--out", tmp_path / "run", "--clusters", 10, *common)
    assert "frames" in said
    assert "GiB" in said or "MiB" in said
    assert "layer 4 doesn't exist" in cli("features", encoder, corpus, "--layer", 4, "--out", tmp_path, "--dry-run", fails=True)
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="session")
def phones(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Alignments of all but one utterance, with phones of 0.1 s."""
    folder = tmp_path_factory.mktemp("phones")
    for path in sorted(corpus.rglob("*.flac"))[1:]:
        count = int(len(read_waveform(path)) / 1600)
        names = random.Random(path.name).choices(["AH0", "S", "sil", "T"], k=count)
        lines = [f"{at / 10:.2f}\t{(at + 1) / 10:.2f}\t{name}\n" for at, name in enumerate(names)]
        (folder / f"{path.stem}.tsv").write_text("start\tend\tphone\n" + "".join(lines))
    return folder


def test_layers_are_compared_on_the_same_frames(cli: Cli, corpus: Path, encoder: Path, phones: Path, tmp_path: Path) -> None:
    common = [encoder, corpus, "--alignments", phones, "--clusters", 12, "--frames", 800]
    said = cli("evaluate", "layers", *common, "--picture", tmp_path / "layers.svg")
    assert "Take layer" in said
    found = json.loads(cli("evaluate", "layers", *common, "--json"))
    assert [row["layer"] for row in found["layers"]] == [1, 2, 3]
    assert found["utterances"] == 23
    assert found["phones"] == 3
    assert 600 < found["frames"] < 900
    assert found["best"] == max(found["layers"], key=lambda row: row["pnmi"])["layer"]
    picture = (tmp_path / "layers.svg").read_text()
    assert picture.startswith("<svg")
    assert picture.count("<polyline") == 3
    two = json.loads(cli("evaluate", "layers", *common, "--layers", "3,1", "--workers", 2, "--json"))
    assert two["layers"] == [found["layers"][0], found["layers"][2]]  # whatever else is compared, and whoever works


def test_layers_are_scored_as_evaluate_units_scores_labels(
    cli: Cli, corpus: Path, encoder: Path, phones: Path, tmp_path: Path
) -> None:
    found = json.loads(
        cli(
            "evaluate",
            "layers",
            encoder,
            corpus,
            "--alignments",
            phones,
            "--clusters",
            12,
            "--frames",
            10**6,
            "--layers",
            2,
            "--json",
        )
    )
    rows = sorted(corpus.rglob("*.flac"))[1:]
    (tmp_path / "all.csv").write_text("path\n" + "".join(f"{path}\n" for path in rows))
    common = ["--encoder", encoder, "--layer", 2]
    cli("kmeans", tmp_path / "all.csv", *common, "--clusters", 12, "--fraction", 1, "--out", tmp_path / "km.safetensors")
    cli("units", tmp_path / "all.csv", "--encoder", encoder, "--codebook", tmp_path / "km.safetensors", "--out", tmp_path / "u")
    scored = json.loads(cli("evaluate", "units", tmp_path / "u" / "units.km", "--alignments", phones, "--json"))["phones"]
    for name in ("pnmi", "phone_purity", "pnmi_without_silence"):
        assert found["layers"][0][name] == pytest.approx(scored[name], abs=0.03)  # fitted to frames that have a phone alone


def test_layers_are_scored_against_labels_of_frames_at_their_own_rate(
    cli: Cli, corpus: Path, encoder: Path, phones: Path, tmp_path: Path
) -> None:
    rows = []
    for path in sorted(phones.iterdir()):
        names = [line.split("\t")[2] for line in path.read_text().splitlines()[1:]]
        rows.append(f"{path.stem}\t{','.join(name for name in names for _ in range(10))}\n")  # 100 a second
    (tmp_path / "phones.txt").write_text("".join(rows))
    common = [encoder, corpus, "--clusters", 12, "--frames", 800, "--layers", 2, "--json"]
    told = json.loads(cli("evaluate", "layers", *common, "--alignments", tmp_path / "phones.txt", "--alignment-rate", 100))
    assert told["layers"][0]["pnmi"] == pytest.approx(
        json.loads(cli("evaluate", "layers", *common, "--alignments", phones))["layers"][0]["pnmi"], abs=0.01
    )
    said = cli("evaluate", "layers", *common, "--alignments", tmp_path / "phones.txt", fails=True)
    assert "give --alignment-rate, about 10" in said
    assert "leave it out" in cli("evaluate", "layers", *common, "--alignments", phones, "--alignment-rate", 100, fails=True)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--layers", "0"], "layer 0 doesn't exist"),
        (["--layers", "4"], "layer 4 doesn't exist"),
        (["--clusters", 0], "--clusters 0: at least 1"),
        (["--clusters", 10, "--frames", 5], "fewer than the 10 units"),
        (["--clusters", 5000], "fewer than the 5000 units wanted"),
    ],
)
def test_layers_that_cannot_be_compared_are_refused(
    cli: Cli, corpus: Path, encoder: Path, phones: Path, options: list[object], sentence: str
) -> None:
    assert sentence in cli("evaluate", "layers", encoder, corpus, "--alignments", phones, *options, fails=True)
    assert "doesn't exist" in cli("evaluate", "layers", encoder, corpus, "--alignments", phones / "gone", fails=True)


def test_a_broken_file_is_left_out_and_named(cli: Cli, corpus: Path, encoder: Path, phones: Path, tmp_path: Path) -> None:
    shutil.copytree(corpus, tmp_path / "audio")
    broken = sorted((tmp_path / "audio").rglob("*.flac"))[3]
    broken.write_bytes(broken.read_bytes()[:3000])
    cli("prepare", tmp_path / "audio", "--out", tmp_path / "run", "--encoder", encoder, "--layer", 1, "--clusters", 5)
    assert broken.stem in (tmp_path / "run" / "skipped.jsonl").read_text()
    assert "Left out" in cli("evaluate", "layers", encoder, tmp_path / "audio", "--alignments", phones, "--clusters", 5)


def test_a_checkpoint_that_changes_is_another_encoder(cli: Cli, corpus: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    common = ["prepare", corpus, "--out", tmp_path / "run", "--encoder", folder, "--layer", 1, "--clusters", 5]
    write_encoder(made_checkpoint(tiny(), seed=3), folder, "vocable")
    cli(*common)
    write_encoder(made_checkpoint(tiny(), seed=4), folder, "vocable", overwrite=True)
    assert "is there already" in cli(*common, fails=True)
    cli(*common, "--overwrite")


def test_a_checkpoint_that_takes_waveforms_otherwise_is_another_encoder(cli: Cli, corpus: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    common = ["prepare", corpus, "--out", tmp_path / "run", "--encoder", folder, "--layer", 1, "--clusters", 5]
    for number, changes in enumerate(({}, {"waveform_normalization": "utterance"}, {"waveform_eps": 1e-7}, {"heads": 8})):
        write_encoder(made_checkpoint(tiny(**changes), seed=3), folder, "vocable", overwrite=True)
        if number:
            assert "is there already" in cli(*common, fails=True)
        cli(*common, "--overwrite")
    assert "done already" in cli(*common, "--chunking", "windows:2000:250", "--waveform-normalization", "none")


def test_bfloat16_is_told_apart_in_what_is_kept(cli: Cli, corpus: Path, encoder: Path, tmp_path: Path) -> None:
    common = ["prepare", corpus, "--out", tmp_path / "run", "--encoder", encoder, "--layer", 2, "--clusters", 5]
    cli(*common)
    assert "precision" in cli(*common, "--precision", "bfloat16", fails=True)
    cli(*common, "--precision", "bfloat16", "--overwrite")
    spec = read_codebook(tmp_path / "run" / "codebook.safetensors").spec
    assert spec is not None
    assert spec.recorded["precision"] == "bfloat16"
    assert spec == replace(spec, recorded={})


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_ten_kills_with_an_encoder_change_nothing(corpus: Path, encoder: Path, tmp_path: Path) -> None:
    def start(out: Path) -> subprocess.Popen[bytes]:
        options = ["--encoder", encoder, "--layer", 3, "--clusters", 20, "--workers", 1, "--fraction", 0.5]
        command = [sys.executable, "-m", "vocable", "prepare", corpus, "--out", out, *options]
        return subprocess.Popen(
            list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )

    begun = time.monotonic()
    assert start(tmp_path / "undisturbed").wait(timeout=300) == 0
    lasting, moments = time.monotonic() - begun, random.Random(0)
    for number in range(5):
        for _ in range(2):  # the second run, which goes on from the first, is killed as well
            process = start(tmp_path / str(number))
            time.sleep(moments.uniform(0.3, 0.95) * lasting)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        assert start(tmp_path / str(number)).wait(timeout=300) == 0
        assert artefacts_in(tmp_path / str(number)) == artefacts_in(tmp_path / "undisturbed")
