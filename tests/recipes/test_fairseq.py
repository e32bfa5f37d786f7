"""Each line of fairseq's simple_kmeans that people have, with `vocable fairseq` in place of `python SCRIPT.py`."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.cluster import MiniBatchKMeans

from helpers import write_audio
from vocable.clustering import KMeans, read_codebook
from vocable.features import Mfcc, StoredFrames
from vocable.recipes.codebooks import FitSettings
from vocable.recipes.label_preparation import Preparation, prepare
from vocable.units.label_files import header_file

Cli = Callable[..., str]


@pytest.fixture
def feats(corpus: Path, tmp_path: Path, cli: Cli) -> Path:
    """`train.tsv` and its MFCCs in one shard."""
    cli("fairseq", "wav2vec_manifest", corpus, "--ext", "flac", "--dest", tmp_path, "--valid-percent", 0)
    cli("fairseq", "dump_mfcc_feature", tmp_path, "train", 1, 0, tmp_path / "feat", "--workers", 1)
    return tmp_path / "feat"


def test_manifests_have_the_root_and_a_sorted_line_for_each_file(corpus: Path, tmp_path: Path, cli: Cli) -> None:
    cli("fairseq", "wav2vec_manifest", corpus, "--ext", "flac", "--dest", tmp_path / "a", "--valid-percent", 0)
    lines = (tmp_path / "a" / "train.tsv").read_text().splitlines()
    assert lines[0] == str(corpus)
    assert lines[1:] == sorted(lines[1:])
    assert len(lines) == 25
    assert not (tmp_path / "a" / "valid.tsv").exists()


def test_the_split_draws_as_the_original_does(corpus: Path, tmp_path: Path, cli: Cli) -> None:
    cli("fairseq", "wav2vec_manifest", corpus, "--dest", tmp_path, "--valid-percent", 0.3, "--seed", 7)
    paths = sorted(path.relative_to(corpus).as_posix() for path in corpus.rglob("*.flac"))
    draw = random.Random(7)
    expected: dict[str, list[str]] = {"train": [], "valid": []}
    for path in paths:
        expected["train" if draw.random() > 0.3 else "valid"].append(path)
    for name, rows in expected.items():
        lines = (tmp_path / f"{name}.tsv").read_text().splitlines()[1:]
        assert [line.split("\t")[0] for line in lines] == rows


def test_a_path_must_contain_its_text(corpus: Path, tmp_path: Path, cli: Cli) -> None:
    cli("fairseq", "wav2vec_manifest", corpus, "--dest", tmp_path, "--valid-percent", 0, "--path_must_contain", "/s1/")
    assert len((tmp_path / "train.tsv").read_text().splitlines()) == 9


def test_a_dest_that_is_a_tsv_is_that_file(corpus: Path, tmp_path: Path, cli: Cli) -> None:
    out = cli(
        "fairseq", "wav2vec_manifest", corpus, "--ext", "flac", "--dest", tmp_path / "new" / "train.tsv", "--valid-percent", "0"
    )
    assert "taken for the manifest itself" in out
    assert (tmp_path / "new" / "train.tsv").is_file()


def test_lengths_are_at_the_files_own_rate_and_bad_files_are_left_out(tmp_path: Path, cli: Cli) -> None:
    write_audio(tmp_path / "a" / "x.wav", 1.0, 1, sample_rate=44100)
    (tmp_path / "a" / "y.wav").write_bytes(b"")
    (tmp_path / "a" / "z.WAV").write_bytes(b"")
    out = cli("fairseq", "wav2vec_manifest", tmp_path / "a", "--ext", "wav", "--dest", tmp_path / "m", "--valid-percent", 0)
    assert (tmp_path / "m" / "train.tsv").read_text().splitlines()[1:] == ["x.wav\t44100"]
    assert "1 empty" in out
    assert (tmp_path / "m" / "skipped.jsonl").exists()


def test_an_impossible_fraction_is_refused(corpus: Path, tmp_path: Path, cli: Cli) -> None:
    assert "is a fraction" in cli("fairseq", "wav2vec_manifest", corpus, "--dest", tmp_path, "--valid-percent", 5, fails=True)


@pytest.mark.parametrize("nshard", [1, 3, 7])
def test_dumped_shards_hold_the_features_in_order(corpus: Path, tmp_path: Path, cli: Cli, nshard: int) -> None:
    import soundfile

    cli("fairseq", "wav2vec_manifest", corpus, "--dest", tmp_path, "--valid-percent", 0)
    for rank in range(nshard):
        cli(
            "fairseq",
            "dump_mfcc_feature",
            tmp_path,
            "train",
            nshard,
            rank,
            tmp_path / "feat",
            "--sample_rate",
            16000,
            "--workers",
            1,
        )
    stores = [StoredFrames(tmp_path / "feat" / f"train_{rank}_{nshard}.npy") for rank in range(nshard)]
    paths = [line.split("\t")[0] for line in (tmp_path / "train.tsv").read_text().splitlines()[1:]]
    found = [frames for store in stores for frames in store]
    assert len(found) == 24
    for path, frames in zip(paths, found, strict=True):
        assert np.array_equal(frames, Mfcc()([soundfile.read(corpus / path, dtype="float32")[0]])[0])


def test_short_utterances_have_no_frames_and_broken_ones_are_an_error(tmp_path: Path, cli: Cli) -> None:
    write_audio(tmp_path / "a.wav", 1.0, 1)
    write_audio(tmp_path / "b.wav", 0.02, 1)
    (tmp_path / "t.tsv").write_text(f"{tmp_path}\na.wav\t16000\nb.wav\t320\n")
    cli("fairseq", "dump_mfcc_feature", tmp_path, "t", 1, 0, tmp_path / "f", "--workers", 1)
    assert (tmp_path / "f" / "t_0_1.len").read_text() == "98\n0\n"
    (tmp_path / "t.tsv").write_text(f"{tmp_path}\na.wav\t16000\nc.wav\t320\n")
    error = cli("fairseq", "dump_mfcc_feature", tmp_path, "t", 1, 0, tmp_path / "g", fails=True)
    assert "row 2 of the manifest, c.wav: the file is not there" in error
    assert not (tmp_path / "g" / "t_0_1.npy").exists()


def test_lengths_that_differ_are_a_warning_as_in_the_original(
    tmp_path: Path, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    from vocable.cli.main import run

    write_audio(tmp_path / "a.wav", 1.0, 1, sample_rate=44100)
    (tmp_path / "t.tsv").write_text(f"{tmp_path}\na.wav\t44100\n")
    assert run(["fairseq", "dump_mfcc_feature", str(tmp_path), "t", "1", "0", str(tmp_path / "f"), "--workers", "1"]) == 0
    assert "warning: a.wav has 16000 samples at 16000 Hz, the manifest says 44100" in capsys.readouterr().err
    assert (tmp_path / "f" / "t_0_1.len").read_text() == "98\n"


def test_dumping_again_after_the_features_were_removed_makes_them_anew(feats: Path, tmp_path: Path, cli: Cli) -> None:
    before = (feats / "train_0_1.npy").read_bytes()
    assert before[192:].count(b"\0") < len(before) // 2
    (feats / "train_0_1.npy").unlink()
    cli("fairseq", "dump_mfcc_feature", tmp_path, "train", 1, 0, feats, "--workers", 1)
    assert (feats / "train_0_1.npy").read_bytes() == before


@pytest.mark.parametrize("percent", [0.1, 1, -1])
@pytest.mark.parametrize("name", ["km.bin", "km.pkl", "km"])
def test_kmeans_is_written_exactly_where_it_is_wanted(feats: Path, tmp_path: Path, cli: Cli, percent: float, name: str) -> None:
    cli("fairseq", "learn_kmeans", feats, "train", 1, tmp_path / name, 6, "--percent", percent, "--n_init", 2, "--max_iter", 3)
    book = read_codebook(tmp_path / name)
    assert book.centroids.shape == (6, 39)
    assert (book.fit["utterances"] == 24) == (percent != 0.1)
    assert book.spec is not None


def test_all_options_of_kmeans_are_taken(feats: Path, tmp_path: Path, cli: Cli) -> None:
    options = {"seed": 3, "init": "random", "max_iter": 5, "batch_size": 500, "tol": 0.01, "max_no_improvement": 20, "n_init": 2}
    options |= {"reassignment_ratio": 0.01}
    given = [word for name, value in options.items() for word in (f"--{name}", value)]
    out = cli("fairseq", "learn_kmeans", feats, "train", 1, tmp_path / "km", 6, "--percent", -1, *given)
    assert "total inertia" in out
    book = read_codebook(tmp_path / "km")
    assert {name: book.fit["settings"][name] for name in options} == options
    frames = np.concatenate(list(StoredFrames(feats / "train_0_1.npy")))
    random_state = options.pop("seed")
    model = KMeans(6, algorithm="minibatch", random_state=random_state, **options).fit(frames)
    assert np.array_equal(book.centroids, model.cluster_centers_)


def test_default_options_are_fairseqs_and_equal_ours(feats: Path, tmp_path: Path, cli: Cli) -> None:
    cli("fairseq", "learn_kmeans", feats, "train", 1, tmp_path / "km", 6)
    frames = np.concatenate(list(StoredFrames(feats / "train_0_1.npy")))
    options = {
        "batch_size": 10000,
        "max_iter": 100,
        "tol": 0.0,
        "max_no_improvement": 100,
        "n_init": 20,
        "reassignment_ratio": 0.0,
    }
    model = KMeans(6, algorithm="minibatch", random_state=0, **options).fit(frames)
    assert np.array_equal(read_codebook(tmp_path / "km").centroids, model.cluster_centers_)


def test_features_larger_than_memory_are_drawn_from_their_files(
    feats: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("fairseq", "learn_kmeans", feats, "train", 1)
    options = ("--n_init", 2, "--tol", "0.0001", "--percent", "0.8", "--batch_size", 300)
    cli(*arguments, tmp_path / "a", 6, *options)
    monkeypatch.setitem(KMeans.__init__.__kwdefaults__, "memory", 1000)
    cli(*arguments, tmp_path / "b", 6, *options)
    assert np.array_equal(read_codebook(tmp_path / "a").centroids, read_codebook(tmp_path / "b").centroids)


def test_the_sample_does_not_depend_on_the_number_of_shards(corpus: Path, tmp_path: Path, cli: Cli) -> None:
    cli("fairseq", "wav2vec_manifest", corpus, "--dest", tmp_path, "--valid-percent", 0)
    books = []
    for nshard in (1, 3):
        for rank in range(nshard):
            cli("fairseq", "dump_mfcc_feature", tmp_path, "train", nshard, rank, tmp_path / f"feat{nshard}", "--workers", 1)
        cli(
            "fairseq",
            "learn_kmeans",
            tmp_path / f"feat{nshard}",
            "train",
            nshard,
            tmp_path / "km",
            6,
            "--percent",
            0.5,
            "--n_init",
            1,
        )
        books.append(read_codebook(tmp_path / "km"))
    assert np.array_equal(books[0].centroids, books[1].centroids)


@pytest.mark.parametrize("percent", ["0", "1.5"])
def test_impossible_percentages_are_refused(feats: Path, tmp_path: Path, cli: Cli, percent: str) -> None:
    assert "--percent" in cli("fairseq", "learn_kmeans", feats, "train", 1, tmp_path / "km", 6, "--percent", percent, fails=True)


def test_a_missing_shard_is_named(feats: Path, tmp_path: Path, cli: Cli) -> None:
    error = cli("fairseq", "learn_kmeans", feats, "train", 2, tmp_path / "km", 6, fails=True)
    assert "train_0_2.npy doesn't exist: dump shard 0 of 2 first" in error
    assert not (tmp_path / "km").exists()


@pytest.mark.parametrize("nshard", [1, 3, 7])
def test_merged_labels_equal_those_of_prepare_whatever_the_shards(corpus: Path, tmp_path: Path, cli: Cli, nshard: int) -> None:
    prepare(corpus, tmp_path / "run", Preparation(fit=FitSettings(clusters=12), valid_percent=0.0))
    book = tmp_path / "run" / "codebook.safetensors"
    cli("fairseq", "wav2vec_manifest", corpus, "--dest", tmp_path, "--valid-percent", 0)
    for rank in range(nshard):
        cli("fairseq", "dump_mfcc_feature", tmp_path, "train", nshard, rank, tmp_path / "feat", "--workers", 1)
        cli("fairseq", "dump_km_label", tmp_path / "feat", "train", book, nshard, rank, tmp_path / "lab", "--workers", 1)
    assert "24 utterances" in cli("fairseq", "merge", tmp_path / "lab", "train", nshard)
    assert (tmp_path / "lab" / "train.km").read_bytes() == (tmp_path / "run" / "train.km").read_bytes()
    cli("fairseq", "dictionary", 12, tmp_path / "lab")
    assert (tmp_path / "lab" / "dict.km.txt").read_bytes() == (tmp_path / "run" / "dict.km.txt").read_bytes()
    if nshard > 1:
        (tmp_path / "lab" / f"train_1_{nshard}.km").unlink()
        error = cli("fairseq", "merge", tmp_path / "lab", "train", nshard, fails=True)
        assert f"train_1_{nshard}.km doesn't exist: label shard 1 of {nshard} first; nothing was written" in error


def test_a_codebook_of_other_frames_is_refused(feats: Path, corpus: Path, tmp_path: Path, cli: Cli) -> None:
    cli("kmeans", corpus, "--out", tmp_path / "mel.safetensors", "--clusters", 5, "--features", "logmel", "--mel-bins", 39)
    error = cli("fairseq", "dump_km_label", feats, "train", tmp_path / "mel.safetensors", 1, 0, tmp_path / "lab", fails=True)
    assert "not of the same frames: kind 'logmel' against 'mfcc'" in error
    np.save(tmp_path / "c.npy", np.zeros((3, 40), np.float32))
    error = cli("fairseq", "dump_km_label", feats, "train", tmp_path / "c.npy", 1, 0, tmp_path / "lab", fails=True)
    assert "has 39 values a frame, the codebook's centroids 40" in error


def test_a_few_frames_are_labelled_without_worker_processes_and_heavy_libraries(feats: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "km.npy", StoredFrames(feats / "train_0_1.npy").array[:5])
    for line in (
        ["fairseq", "dump_km_label", feats, "train", tmp_path / "km.npy", 1, 0, tmp_path / "lab", "--workers", 2],
        ["units", feats, "--codebook", tmp_path / "km.npy", "--out", tmp_path / "units", "--workers", 2],
    ):
        script = (
            "import sys; from vocable.cli.main import run; from vocable.execution import pool; pool.subprocess = None; "
            f"assert run({list(map(str, line))!r}) == 0; "
            "print([name for name in ('torch', 'scipy', 'sklearn', 'rich.table') if name in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "[]"


def test_old_joblib_models_label_as_scikit_learn_does(feats: Path, tmp_path: Path, cli: Cli) -> None:
    store = StoredFrames(feats / "train_0_1.npy")
    model = MiniBatchKMeans(9, n_init=1, random_state=0).fit(np.asarray(store.array))
    joblib.dump(model, tmp_path / "km.bin")
    cli("fairseq", "dump_km_label", feats, "train", tmp_path / "km.bin", 1, 0, tmp_path / "lab")
    lines = (tmp_path / "lab" / "train_0_1.km").read_text().splitlines()
    found = np.concatenate([np.array(line.split(), dtype=int) for line in lines])
    assert (found == model.predict(np.asarray(store.array))).mean() > 0.9999
    assert header_file(tmp_path / "lab" / "train_0_1.km").exists()


def test_shards_by_different_codebooks_are_not_merged(feats: Path, tmp_path: Path, cli: Cli, corpus: Path) -> None:
    for rank in range(2):
        cli("fairseq", "dump_mfcc_feature", tmp_path, "train", 2, rank, tmp_path / "f2", "--workers", 1)
        cli("fairseq", "learn_kmeans", feats, "train", 1, tmp_path / f"km{rank}", 5 + rank, "--n_init", 1)
        cli("fairseq", "dump_km_label", tmp_path / "f2", "train", tmp_path / f"km{rank}", 2, rank, tmp_path / "lab")
    assert "made with another codebook" in cli("fairseq", "merge", tmp_path / "lab", "train", 2, fails=True)


def test_features_that_hold_nan_are_refused(feats: Path, tmp_path: Path, cli: Cli) -> None:
    cli("fairseq", "learn_kmeans", feats, "train", 1, tmp_path / "km", 5, "--n_init", 1)
    with (feats / "train_0_1.npy").open("r+b") as file:
        file.seek(192 + 400)
        file.write(np.array([np.nan], np.float32).tobytes())
    assert "NaN or infinite frames" in cli(
        "fairseq", "dump_km_label", feats, "train", tmp_path / "km", 1, 0, tmp_path / "lab", fails=True
    )
    assert "NaN or infinity" in cli("fairseq", "learn_kmeans", feats, "train", 1, tmp_path / "km2", 5, fails=True)


def test_the_dictionary_is_replaced_and_never_empty(tmp_path: Path, cli: Cli) -> None:
    for clusters in (5, 5, 3):
        cli("fairseq", "dictionary", clusters, tmp_path)
    assert (tmp_path / "dict.km.txt").read_text() == "0 1\n1 1\n2 1\n"
    assert "is empty" in cli("fairseq", "dictionary", 0, tmp_path, fails=True)


def test_preprocess_writes_units_in_order(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "train.km").write_text("3 3 1\n0\n")
    out = cli(
        "fairseq", "preprocess", "-s", "km", "--trainpref", tmp_path / "train", "--destdir", tmp_path / "d", "--only-source"
    )
    assert "4 units in order" in out
    assert "madeupword" in out
    assert (tmp_path / "d" / "dict.km.txt").read_text() == "0 1\n1 1\n2 1\n3 1\n"
    (tmp_path / "empty.km").write_text("\n\n")
    assert "holds no units" in cli("fairseq", "preprocess", "--trainpref", tmp_path / "empty", "--destdir", tmp_path, fails=True)
    (tmp_path / "valid.km").write_text("6\n")
    (tmp_path / "test1.km").write_text("2\n")
    splits = ["--validpref", tmp_path / "valid", "--testpref", f"{tmp_path / 'test1'},{tmp_path / 'train'}"]
    assert "7 units in order" in cli("fairseq", "preprocess", "--trainpref", tmp_path / "train", "--destdir", tmp_path, *splits)


def test_mistakes_name_the_originals_arguments(feats: Path, tmp_path: Path, cli: Cli) -> None:
    assert "N_CLUSTERS 0" in cli("fairseq", "learn_kmeans", feats, "train", 2, tmp_path / "km", 0, fails=True)
    assert "shards hold nothing" in cli("fairseq", "merge", tmp_path, "train", 0, fails=True)
