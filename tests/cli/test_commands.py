from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.cluster import KMeans as SklearnKMeans

import vocable
from helpers import run_vocable, write_audio
from vocable.clustering import read_codebook
from vocable.units import read_units

Cli = Callable[..., str]


def test_every_command_has_help(cli: Cli) -> None:
    from vocable.cli.main import app, evaluate, fairseq, features

    for group, path in ((app, []), (features, ["features"]), (evaluate, ["evaluate"]), (fairseq, ["fairseq"])):
        names = [name for name in group if not name.startswith("-")]
        assert names
        for name in names:
            assert f"Usage: vocable {' '.join([*path, name])}" in cli(*path, name, "--help")


def test_every_option_says_what_it_does(cli: Cli) -> None:
    import re

    for command in (
        "prepare",
        "kmeans",
        "units",
        "manifest",
        "demo",
        "inspect",
        "convert",
        "features mfcc",
        "evaluate units",
        "fairseq learn_kmeans",
    ):
        text = cli(*command.split(), "--help")
        for line in text.splitlines():
            option = re.match(r"│ \*?\s+?(--[\w-]+)", line)
            assert not option or len(line.strip("│ ")) > len(option[1]) + 8, f"{command} {line}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prepare"], "requires an argument|missing"),
        (["prepare", "a", "--out", "b", "--cluster", "3"], "Did you mean|--cluster"),
        (["nonsense"], "Unknown command"),
        (["prepare", "a", "--out", "b", "--workers", "x"], "unable to convert"),
    ],
)
def test_mistyped_arguments_end_with_status_two_and_a_hint(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    import re

    from vocable.cli.main import run

    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert re.search(message, captured.out + captured.err)


def test_mistakes_are_one_sentence_without_a_traceback(tmp_path: Path) -> None:
    done = run_vocable("prepare", tmp_path / "nowhere", "--out", tmp_path / "run")
    assert done.returncode == 1
    assert done.stderr == f"vocable: {tmp_path}/nowhere doesn't exist: give a folder of speech, or a manifest\n"
    assert not (tmp_path / "run").exists()


def test_ctrl_c_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    import vocable.cli.prepare

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(vocable.cli.prepare, "prepare_labels", interrupted)
    assert "run the same command again to go on" in cli("prepare", "x", "--out", "y", fails=True)


def test_a_reader_that_has_gone_is_no_traceback(corpus: Path, tmp_path: Path) -> None:
    run_vocable("prepare", corpus, "--out", tmp_path / "run", "--clusters", 5)
    command = f"{sys.executable} -m vocable inspect {tmp_path / 'run'} | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr


def test_the_version_is_the_packages(cli: Cli) -> None:
    assert cli("--version").strip() == vocable.__version__


def test_importing_the_package_loads_neither_torch_nor_numpy() -> None:
    code = "import sys, vocable; print([name for name in ('torch', 'numpy', 'cyclopts', 'soundfile') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    code = "import sys; from vocable.cli.main import run; run(['--help']); print([n for n in ('torch', 'numpy') if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip().endswith("[]")


def test_labels_are_prepared_without_loading_torch(corpus: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from vocable.cli.main import run;"
        f"run(['prepare', {str(corpus)!r}, '--out', {str(tmp_path / 'run')!r}, '--clusters', '5', '--workers', '1']); print('torch' in sys.modules)"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip().endswith("False")
    )


def test_public_names_are_there() -> None:
    for name in vocable.__all__:
        assert getattr(vocable, name) is not None
    assert set(vocable.__all__) <= set(dir(vocable))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = vocable.nonsense


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
    cli("kmeans", corpus, "--out", tmp_path / "km", "--clusters", 3, "--workers", 1)
    cli("features", "mfcc", corpus, "--out", tmp_path / "f", "--workers", 1)
    before = sorted(tmp_path.rglob("*"))
    for arguments in (
        ("kmeans", corpus, "--out", tmp_path / "x"),
        ("units", corpus, "--codebook", tmp_path / "km", "--out", tmp_path / "x"),
        ("features", "mfcc", corpus, "--out", tmp_path / "x"),
        ("features", "logmel", corpus, "--out", tmp_path / "x"),
    ):
        assert "hours of audio" in cli(*arguments, "--dry-run", "--workers", 1)
    assert "frames" in cli("kmeans", tmp_path / "f", "--out", tmp_path / "x", "--dry-run")
    assert "frames would become labels" in cli(
        "units", tmp_path / "f", "--name", "train", "--codebook", tmp_path / "km", "--out", tmp_path / "x", "--dry-run"
    )
    assert sorted(tmp_path.rglob("*")) == before


def test_a_scan_may_be_shared_out(tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vocable.recipes.corpus._FILES_IN_BLOCK", 4)
    for at in range(10):
        write_audio(tmp_path / "a" / f"{at}.wav", 0.1, at)
    arguments = ("manifest", tmp_path / "a", "--out", tmp_path / "m.tsv", "--workers", 1, "--nshard", 2)
    assert "blocks of files are left to others" in cli(*arguments, "--rank", 1)
    assert not (tmp_path / "m.tsv").exists()
    assert "10 utterances" in cli(*arguments, "--rank", 0)
    cli("manifest", tmp_path / "a", "--out", tmp_path / "n.tsv", "--workers", 1)
    assert (tmp_path / "m.tsv").read_bytes() == (tmp_path / "n.tsv").read_bytes()


def test_shards_of_prepare_say_what_is_left(corpus: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    out = cli(
        "prepare",
        corpus,
        "--out",
        tmp_path / "run",
        "--clusters",
        5,
        "--nshard",
        2,
        "--rank",
        0,
        "--workers",
        1,
        "--valid-percent",
        0,
    )
    if "left to others" not in out:  # a corpus of one block: the first shard may have none
        assert (tmp_path / "run" / "train.km").exists()
    cli(
        "prepare",
        corpus,
        "--out",
        tmp_path / "run",
        "--clusters",
        5,
        "--nshard",
        2,
        "--rank",
        1,
        "--workers",
        1,
        "--valid-percent",
        0,
    )
    assert (tmp_path / "run" / "train.km").exists()


def test_manifests_are_made_and_converted(corpus: Path, tmp_path: Path, cli: Cli) -> None:
    assert "24 utterances" in cli("manifest", corpus, "--out", tmp_path / "m.csv", "--speakers", "{speaker}/*", "--workers", 1)
    assert "24 utterances" in cli("manifest", tmp_path / "m.csv", "--out", tmp_path / "m.jsonl")
    cli("manifest", tmp_path / "m.jsonl", "--out", tmp_path / "split", "--valid-percent", 0.3, "--by-speaker")
    assert (tmp_path / "split" / "valid.tsv").exists()
    (corpus.parent / "bad").mkdir(exist_ok=True)
    (corpus.parent / "bad" / "a.wav").write_bytes(b"")
    out = cli("manifest", corpus.parent / "bad", "--out", tmp_path / "b.tsv")
    assert f"named in {tmp_path}/b.skipped.jsonl" in out
    assert "leave --strict out" in cli("manifest", corpus.parent / "bad", "--out", tmp_path / "b.tsv", "--strict", fails=True)


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
    parts = [row.tolist() for rank in range(2) for row in read_units(tmp_path / "u" / f"x_{rank}_2.km")]
    assert parts == [row.tolist() for row in read_units(tmp_path / "u" / "units.km")]
    assert read_units(tmp_path / "u" / "units.units").ids


def test_log_mel_frames_are_dumped_and_leave_out_what_they_must(tmp_path: Path, cli: Cli) -> None:
    import soundfile

    for at in range(3):
        write_audio(tmp_path / "a" / f"{at}.wav", 1.0, at)
    soundfile.write(tmp_path / "a" / "0x.wav", np.zeros(16000), 16000)
    out = cli("features", "logmel", tmp_path / "a", "--out", tmp_path / "f", "--mel-bins", 80, "--workers", 1)
    assert "3 utterances, 294 frames of 80 values" in out
    assert "1 silent" in out
    assert len((tmp_path / "f" / "train_0_1.tsv").read_text().splitlines()) == 4
    assert np.load(tmp_path / "f" / "train_0_1.npy").shape == (294, 80)
    again = cli("features", "logmel", tmp_path / "a", "--out", tmp_path / "f", "--mel-bins", 80, "--workers", 1)
    assert again == out
    assert "silent" in cli("features", "logmel", tmp_path / "a", "--out", tmp_path / "g", "--strict", "--workers", 1, fails=True)


def test_an_existing_codebook_is_not_overwritten_unasked(corpus: Path, tmp_path: Path, cli: Cli) -> None:
    arguments = ["kmeans", corpus, "--out", tmp_path / "km.safetensors", "--clusters", 3, "--workers", 1]
    cli(*arguments)
    assert "is there already" in cli(*arguments, fails=True)
    cli(*arguments, "--overwrite", "--algorithm", "minibatch", "--n-init", 2)


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

    cli("kmeans", corpus, "--out", tmp_path / "km", "--clusters", 4, "--workers", 1)
    for at in range(30):
        write_audio(tmp_path / "long" / f"{at:02}.wav", 10.0, at)
    soundfile.write(tmp_path / "long" / "zero.wav", np.zeros(16000), 16000)
    arguments = ["units", tmp_path / "long", "--codebook", tmp_path / "km", "--out", tmp_path / "u", "--workers", 1]
    assert "blocks are left to others" in cli(*arguments, "--nshard", 2, "--rank", 0)
    out = cli(*arguments, "--nshard", 2, "--rank", 1)
    assert "1 silent" in out
    assert len(read_units(tmp_path / "u" / "units.km")) == 30
    assert "zero.wav" in cli(*arguments, "--strict", fails=True)


def test_speaker_normalisation_needs_speakers(corpus: Path, tmp_path: Path, cli: Cli) -> None:
    arguments = ["kmeans", corpus, "--out", tmp_path / "km", "--clusters", 4, "--normalize", "speaker", "--workers", 1]
    assert "needs speakers: give --speakers" in cli(*arguments, fails=True)
    cli(*arguments, "--speakers", "{speaker}/*")
    cli("units", corpus, "--codebook", tmp_path / "km", "--out", tmp_path / "u", "--speakers", "{speaker}/*", "--workers", 1)
    assert "needs speakers" in cli(
        "units", corpus, "--codebook", tmp_path / "km", "--out", tmp_path / "w", "--workers", 1, fails=True
    )


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
        text = "".join(f"{t / 10:.1f}\t{(t + 1) / 10:.1f}\t{'AB'[t % 2]}1\n" for t in range(50))
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


def test_devices_that_are_not_there_are_refused(corpus: Path, tmp_path: Path, cli: Cli) -> None:
    arguments = ["prepare", corpus, "--out", tmp_path / "run", "--clusters", 4]
    assert "no such device here" in cli(*arguments, "--devices", "cpu,cuda:7", fails=True)
    assert "no such kind" in cli(*arguments, "--device", "gpu", fails=True)


def test_a_torch_device_makes_nearly_the_same_labels(corpus: Path, tmp_path: Path, cli: Cli) -> None:
    cli("kmeans", corpus, "--out", tmp_path / "km", "--clusters", 8, "--workers", 1)
    for device in ("cpu", "cpu:0"):
        cli("units", corpus, "--codebook", tmp_path / "km", "--out", tmp_path / device, "--workers", 1, "--device", device)
    found = json.loads(cli("evaluate", "agreement", tmp_path / "cpu" / "units.km", tmp_path / "cpu:0" / "units.km", "--json"))
    assert found["same"] > 0.999


def test_the_demo_ends_with_units_that_tell_phones(tmp_path: Path, cli: Cli) -> None:
    out = cli("demo", "--out", tmp_path / "demo", "--workers", 2)
    rows = [line.split("│") for line in out.splitlines() if "k-means" in line or "random" in line]
    assert float(rows[0][2]) > 0.2
    assert float(rows[1][2]) < 0.05
    again = cli("demo", "--out", tmp_path / "demo", "--workers", 1)
    assert again.splitlines()[-6:] == out.splitlines()[-6:]


def test_the_demo_names_its_extra(tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    assert "pip install 'vocable[demo]'" in cli("demo", "--out", tmp_path / "demo", fails=True)
