"""Options that would be passed over, inputs that don't go together, and what is said of them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from helpers import write_audio
from vocable.artefacts import writing
from vocable.audio.faults import read_skipped
from vocable.execution import Engine, Work
from vocable.features.store import StoredFrames, npy_header, write_lengths
from vocable.recipes.fit_sources import StoredSample
from vocable.recipes.fitting import FitSettings
from vocable.recipes.label_preparation import Preparation, prepare

Cli = Callable[..., str]


@pytest.fixture
def made(tmp_path: Path, cli: Cli) -> Path:
    """A folder with audio/, km.safetensors, u/units.km, its manifest and f/train_0_1.npy."""
    for at in range(4):
        write_audio(tmp_path / "audio" / f"{at}.wav", 2.0, at)
    cli("kmeans", tmp_path / "audio", "--out", tmp_path / "km.safetensors", "--clusters", 4, "--workers", 1)
    label = ["--codebook", tmp_path / "km.safetensors", "--out", tmp_path / "u", "--workers", 1]
    cli("units", tmp_path / "audio", *label)
    cli("features", "mfcc", tmp_path / "audio", "--out", tmp_path / "f", "--workers", 1)
    return tmp_path


def test_options_without_a_use_are_refused(made: Path, cli: Cli) -> None:
    km, units = made / "km.safetensors", made / "u" / "units.km"
    for arguments, message in (
        (["units", made / "f", "--codebook", km, "--out", made / "x", "--strict"], "nothing that could be left out"),
        (["kmeans", made / "f", "--out", made / "x.safetensors", "--clusters", 2, "--strict"], "nothing that could be left out"),
        (["kmeans", made / "audio", "--out", made / "x.safetensors", "--device", "mps", "--devices", "cpu"], "give one of them"),
        (["kmeans", made / "audio", "--out", made / "x.safetensors", "--batch-size", 5], "give that, or leave it out"),
        (["convert", units, made / "x.rle", "--manifest", made / "u" / "units.tsv"], "--manifest is for labels that become"),
        (["convert", units, made / "x.rle", "--sample-rate", 8000], "--sample-rate is for manifests"),
        (["convert", km, made / "x.npy", "--sample-rate", 8000], "--sample-rate is for manifests"),
        (["convert", km, made / "x.km"], "km.safetensors is no label file"),
        (["inspect", km, "--rate", 0], "go with one label file"),
    ):
        assert message in cli(*arguments, fails=True), arguments
    assert not list(made.glob("x*"))


def test_a_folder_is_described_whatever_lies_in_it(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from vocable.cli.main import run

    (made / "u" / "evil.pkl").write_bytes(b"cposix\nsystem\n(S'true'\ntR.")
    (made / "u" / "gone.km.json").write_bytes((made / "u" / "units.km.json").read_bytes())
    (made / "u" / "changed.km").write_text("1 2\n")
    (made / "u" / "changed.km.json").write_bytes((made / "u" / "units.km.json").read_bytes())
    assert run(["inspect", str(made / "u")]) == 1
    shown = capsys.readouterr()
    assert "units.km fits" in shown.out
    assert "not recognised" in shown.out
    assert "the header of gone.km, which is not here" in shown.out
    assert "changed.km is not the file that changed.km.json was written for" in shown.err


def test_labels_are_compared_with_a_manifest_without_lengths_by_its_rows(made: Path, cli: Cli) -> None:
    rows = (made / "u" / "units.tsv").read_text().splitlines()[1:]
    (made / "m.scp").write_text("".join(f"{at} {made}/audio/{row.split()[0]}\n" for at, row in enumerate(rows)))
    assert "was compared with it by rows alone" in cli("inspect", made / "u" / "units.km", "--manifest", made / "m.scp")
    (made / "m.scp").write_text("a /b.wav\n")
    assert "has 4 lines, but the manifest has 1 rows" in cli(
        "inspect", made / "u" / "units.km", "--manifest", made / "m.scp", fails=True
    )


def alignments_of(made: Path, scale: float, until: float) -> Path:
    folder = made / f"ali-{scale}-{until}"
    folder.mkdir()
    for at in range(4):
        edges = np.arange(0, until, 0.1)
        lines = "".join(f"{edge * scale:.4f}\t{(edge + 0.1) * scale:.4f}\t{'AB'[n % 2]}\n" for n, edge in enumerate(edges))
        (folder / f"{at}.tsv").write_text("start\tend\tphone\n" + lines)
    return folder


def test_alignments_on_another_clock_are_refused(made: Path, cli: Cli) -> None:
    arguments = ["evaluate", "units", made / "u" / "units.km", "--alignments"]
    assert "frames outside" in cli(*arguments, alignments_of(made, 1.0, 2.0))
    for scale in (1000.0, 16000.0):
        error = cli(*arguments, alignments_of(made, scale, 2.0), fails=True)
        assert "whose units last 1.98 s: times must be in seconds" in error


def test_frames_that_no_alignment_covers_are_counted_and_said(made: Path, cli: Cli) -> None:
    arguments = ["evaluate", "units", made / "u" / "units.km", "--json", "--alignments"]
    half = json.loads(cli(*arguments, alignments_of(made, 1.0, 1.0)))
    assert half["phones"]["frames"] + half["phones"]["frames_outside"] == 4 * 198
    assert any("frames lie outside all intervals" in note for note in half["notes"])
    whole = json.loads(cli(*arguments, alignments_of(made, 1.0, 2.0)))
    assert not any("outside" in note for note in whole["notes"])


def test_names_of_silence_may_stand_apart_by_commas(made: Path, cli: Cli) -> None:
    arguments = ["evaluate", "units", made / "u" / "units.km", "--json", "--alignments", alignments_of(made, 1.0, 2.0)]
    assert json.loads(cli(*arguments))["phones"]["phones"] == 2
    assert json.loads(cli(*arguments, "--silence", "a,b"))["phones"]["phones"] == 0
    assert json.loads(cli(*arguments, "--silence", "a", "--silence", "x"))["phones"]["phones"] == 1


def test_alignment_options_go_with_their_kind(made: Path, cli: Cli) -> None:
    folder = alignments_of(made, 1.0, 2.0)
    (made / "frames.txt").write_text("".join(f"{at}\t{','.join('ab' * 99)}\n" for at in range(4)))
    arguments = ["evaluate", "units", made / "u" / "units.km", "--alignments"]
    assert "is a folder: leave it out" in cli(*arguments, folder, "--alignment-rate", 100, fails=True)
    assert "is a file: leave it out" in cli(*arguments, made / "frames.txt", "--tier", "words", fails=True)
    cli(*arguments, made / "frames.txt", "--alignment-rate", 100)


def test_a_split_of_which_nothing_could_be_used_is_said(tmp_path: Path, cli: Cli) -> None:
    for at in range(3):
        write_audio(tmp_path / "a" / f"{at}.wav", 1.0, at)
    arguments = ["prepare", tmp_path / "a", "--clusters", 3, "--valid-percent", 0.3, "--workers", 1]
    cli(*arguments, "--out", tmp_path / "first")
    (held_out,) = (tmp_path / "first" / "valid.tsv").read_text().splitlines()[1:]
    soundfile.write(tmp_path / "a" / held_out.split("\t")[0], np.zeros(16000), 16000)
    assert "warning: nothing of valid could be used" in cli(*arguments, "--out", tmp_path / "second")


def test_an_earlier_split_that_is_left_over_is_pointed_at(tmp_path: Path, capsys: pytest.CaptureFixture[str], cli: Cli) -> None:
    from vocable.cli.main import run

    for at in range(6):
        write_audio(tmp_path / "a" / f"{at}.flac", 0.5, at)
    arguments = ["fairseq", "wav2vec_manifest", str(tmp_path / "a"), "--dest", str(tmp_path / "m"), "--valid-percent"]
    assert run([*arguments, "0.5"]) == 0
    assert "earlier split" not in capsys.readouterr().err
    assert run([*arguments, "0"]) == 0
    assert "valid.tsv is of an earlier split, and its files are in the new train.tsv too" in capsys.readouterr().err


def test_machines_of_like_names_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["gpu-cluster-node-0123", "gpu-cluster-node-0187", "ip-10-0-12-34.internal", "ip-10-0-123-4.internal"]
    found = set()
    for name in names:
        monkeypatch.setattr(writing.socket, "gethostname", lambda name=name: name)
        found.add(writing._machine())
    monkeypatch.setattr(writing.os, "readlink", lambda _: "pid:[another container]")
    found.add(writing._machine())
    assert len(found) == 5


def test_frames_of_several_stores_are_had_by_number(tmp_path: Path) -> None:
    rng, stores, whole = np.random.default_rng(0), [], []
    for at, lengths in enumerate(([3, 0, 5], [4], [2, 7, 1])):
        frames = rng.standard_normal((sum(lengths), 4)).astype(np.float32)
        (tmp_path / f"{at}.npy").write_bytes(npy_header(len(frames), 4) + frames.tobytes())
        write_lengths(tmp_path / f"{at}.len", lengths)
        stores.append(StoredFrames(tmp_path / f"{at}.npy"))
        whole += list(stores[-1])
    for chosen in (list(range(7)), [0, 2, 3, 6], [5], [1, 4]):
        sample = StoredSample(stores, chosen, Engine(Work()))
        expected = np.concatenate([whole[at] for at in chosen])
        assert len(sample) == len(expected)
        assert np.array_equal(np.concatenate(list(sample.blocks())), expected)
        rows = rng.integers(0, len(expected), 200)
        assert np.array_equal(sample.take(rows), expected[rows])


def test_a_file_whose_header_kills_the_reader_is_left_out_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(
        "import os, signal\n"
        "if os.environ.get('POISON'):\n"
        "    import vocable.audio.scan as scan\n"
        "    original = scan.count_samples\n"
        "    def count(path):\n"
        "        if path.endswith(os.environ['POISON']):\n"
        "            os.kill(os.getpid(), signal.SIGSEGV)\n"
        "        return original(path)\n"
        "    scan.count_samples = count\n"
    )
    monkeypatch.syspath_prepend(str(hook))
    monkeypatch.setattr("vocable.recipes.corpus._FILES_IN_BLOCK", 2)
    for at in range(6):
        write_audio(tmp_path / "a" / f"{at}.wav", 1.0, at)
    settings = Preparation(fit=FitSettings(clusters=3), valid_percent=0.0)
    monkeypatch.setenv("POISON", "3.wav")
    made = prepare(tmp_path / "a", tmp_path / "run", settings, Work(workers=2))
    assert len(made.splits["train"]) == 5
    lost = {item.path: item.reason for item in read_skipped(tmp_path / "run" / "skipped.jsonl")}
    assert lost == {"3.wav": "crash"}
    monkeypatch.delenv("POISON")
    assert len(prepare(tmp_path / "a", tmp_path / "run", settings, Work(workers=2)).splits["train"]) == 6


def test_names_that_lead_elsewhere_are_refused(made: Path, cli: Cli) -> None:
    for name in ("../esc", "a/b", "", ".", "n\nl", "x" * 200):
        for arguments in (
            ["units", made / "audio", "--codebook", made / "km.safetensors", "--out", made / "x", "--name", name],
            ["features", "mfcc", made / "audio", "--out", made / "x", "--name", name],
        ):
            assert "give a plain name for the files" in cli(*arguments, fails=True), arguments
    assert not (made / "x").exists()


def test_options_without_a_use_are_refused_whatever_their_value(made: Path, cli: Cli) -> None:
    """One that is given its default is meant all the same."""
    units = ["units", made / "audio", "--codebook", made / "km.safetensors", "--out", made / "x"]
    stored = ["kmeans", made / "f", "--clusters", 2, "--out", made / "x.safetensors"]
    kmeans = ["kmeans", made / "audio", "--clusters", 2, "--out", made / "x.safetensors"]
    for arguments, message in (
        ([*units, "--features", "mfcc"], "--features: no effect here"),
        ([*units, "--normalize=none", "--context", 0], "--normalize, --context: no effect here"),
        ([*stored, "--sample-rate", 16000], "--sample-rate: no effect here"),
        ([*stored, "--min_seconds", 0.025], "--min-seconds: no effect here"),
        ([*kmeans, "--batch-size", 10000], "--batch-size goes with --algorithm minibatch"),
        ([*kmeans, "--mel-bins", 40], "--mel-bins 40 goes with --features logmel"),
    ):
        assert message in cli(*arguments, fails=True), arguments
    cli("kmeans", made / "audio", "--clusters", 2, "--out", made / "k8.safetensors", "--sample-rate", 8000)
    label = ["units", made / "audio", "--codebook", made / "k8.safetensors", "--out", made / "x"]
    assert "--sample-rate 16000: the codebook is for 8000 Hz" in cli(*label, "--sample-rate", 16000, fails=True)
    cli(*label, "--sample-rate", 8000)


def test_reasons_name_the_cause(made: Path, cli: Cli) -> None:
    cli("manifest", made / "audio", "--out", made / "m8.tsv", "--sample-rate", 8000)
    label = ["units", made / "m8.tsv", "--codebook", made / "km.safetensors", "--out", made / "x"]
    assert "the manifest says 16000, as many as there are at 8000 Hz: give the --sample-rate" in cli(*label, fails=True)
    for at in range(4, 8):
        write_audio(made / "other" / f"{at}.wav", 2.0, at)
    assert "the audio has changed since" in cli("features", "mfcc", made / "other", "--out", made / "f", fails=True)
    cli("prepare", made / "audio", "--out", made / "run", "--clusters", 4, "--valid-percent", 0.3)
    for arguments in (
        ["units", made / "audio", "--codebook", made / "km.safetensors", "--out", made / "run", "--name", "train"],
        ["manifest", made / "audio", "--out", made / "run" / "train.tsv"],
        ["kmeans", made / "audio", "--out", made / "run" / "codebook.safetensors", "--clusters", 4],
    ):
        assert "(another command made it: prepare.claim.json in " in cli(*arguments, fails=True)
    cli("convert", made / "km.safetensors", made / "km.npy")
    assume = ["units", made / "audio", "--codebook", made / "km.npy", "--out", made / "x", "--assume-features", "--context", 1]
    assert "km.npy: the codebook's centroids have 39 values, frames of mfcc have 117" in cli(*assume, fails=True)


def test_what_is_wrong_with_options_is_said_before_the_audio_is_scanned(
    made: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scan of a large corpus takes hours."""
    monkeypatch.setattr("vocable.recipes.corpus.find_audio", lambda *_: pytest.fail("it was scanned"))
    prepare_ = ["prepare", made / "audio", "--out", made / "x"]
    for arguments, message in (
        ([*prepare_, "--valid-percent", 7], "--valid-percent 7: it is a fraction below 1"),
        ([*prepare_, "--by-speaker"], "a split by speaker needs speakers: give --speakers"),
        ([*prepare_, "--normalize", "speaker"], "normalising per speaker needs speakers: give --speakers"),
        ([*prepare_, "--speakers", ""], "is neither a file nor a pattern"),
        ([*prepare_, "--speakers", "{speaker}/{speaker}"], "should hold {speaker} once"),
        ([*prepare_, "--features", "logmel", "--mel-bins", 0], "--mel-bins 0: give at least 1"),
        ([*prepare_, "--context", 501], "--context 501: give a number of neighbours from 0 to 500"),
        ([*prepare_, "--clusters", 10**20], "no more than 16,777,216 can be told apart"),
        ([*prepare_, "--devices", ","], "--devices ',' names no device"),
        (["manifest", made / "audio", "--out", made / "x", "--valid-percent", 1], "it is a fraction below 1"),
        (["manifest", made / "audio", "--out", made / "x", "--valid-percent", 0.5, "--by-speaker"], "needs speakers"),
        (["kmeans", made / "audio", "--out", made / "x.safetensors", "--normalize", "speaker"], "needs speakers"),
        (["features", "mfcc", made / "audio", "--out", made / "x", "--normalize", "speaker"], "needs speakers"),
    ):
        for dry in ([], ["--dry-run"]):
            assert message in cli(*arguments, *dry, fails=True), arguments
    assert not (made / "x").exists()


def test_a_dry_run_refuses_what_the_run_would(made: Path, cli: Cli) -> None:
    cli("manifest", made / "audio", "--out", made / "m.csv", "--workers", 1)
    for arguments, message in (
        (["prepare", made / "audio", "--out", made / "x", "--clusters", 100_000], "frames can't make 100000 clusters"),
        (["kmeans", made / "audio", "--out", made / "x.safetensors", "--clusters", 9999], "792 frames can't make 9999 clusters"),
        (["kmeans", made / "f", "--out", made / "x.safetensors", "--clusters", 9999], "792 frames can't make 9999 clusters"),
        (["prepare", made / "m.csv", "--out", made / "x", "--normalize", "speaker"], "normalising per speaker needs speakers"),
        (["features", "mfcc", made / "m.csv", "--out", made / "x", "--normalize", "speaker"], "needs speakers"),
    ):
        assert message in cli(*arguments, "--dry-run", fails=True), arguments
        assert message in cli(*arguments, "--workers", 1, fails=True), arguments


def test_audio_of_which_nothing_can_be_used_is_no_success(made: Path, cli: Cli) -> None:
    (made / "gone.tsv").write_text("/nowhere\n" + "".join(f"{at}.wav\t32000\n" for at in range(4)))
    message = "gone.tsv has no usable audio: 4 vanished; the first is 0.wav: the file is not there; if a folder was moved, mend line 1 of the .tsv"
    for arguments in (
        ["units", made / "gone.tsv", "--codebook", made / "km.safetensors", "--out", made / "x"],
        ["features", "mfcc", made / "gone.tsv", "--out", made / "x"],
    ):
        assert message in cli(*arguments, "--workers", 1, fails=True)
    assert not [path for path in (made / "x").iterdir() if path.suffix in (".km", ".npy", ".tsv")]
    for arguments in (
        ["kmeans", made / "gone.tsv", "--out", made / "x.safetensors"],
        ["prepare", made / "gone.tsv", "--out", made / "y", "--valid-percent", 0],
    ):
        assert "no usable audio: 4 vanished" in cli(*arguments, "--workers", 1, fails=True)


def test_a_dictionary_that_labels_beside_it_cannot_use_is_refused(made: Path, cli: Cli) -> None:
    message = "units.km was made with 4 clusters, not 9: 'vocable fairseq dictionary 4 "
    assert message in cli("fairseq", "dictionary", 9, made / "u", fails=True)
    assert not (made / "u" / "dict.km.txt").exists()
    cli("fairseq", "dictionary", 4, made / "u")
    assert "labels tell no more than 16,777,216 apart" in cli("fairseq", "dictionary", 10**11, made / "x", fails=True)


def test_a_window_is_for_labels_that_do_not_say(made: Path, cli: Cli) -> None:
    arguments = ["evaluate", "units", made / "u" / "units.km", "--window", 0.5]
    assert "says itself what its frames are; leave it out" in cli(*arguments, fails=True)
    assert "leave it out" in cli(*arguments, "--alignments", alignments_of(made, 1.0, 2.0), fails=True)
    (made / "frames.txt").write_text("".join(f"{at}\t{','.join('ab' * 99)}\n" for at in range(4)))
    cli(*arguments, "--alignments", made / "frames.txt", "--alignment-rate", 100)


def test_options_of_the_originals_without_effect_are_named(made: Path, cli: Cli) -> None:
    arguments = [
        "fairseq",
        "preprocess",
        "-s",
        "km",
        "--trainpref",
        made / "u" / "units",
        "--destdir",
        made / "x",
        "--only-source",
    ]
    assert "--workers 8: without effect" in cli(*arguments, "--workers", 8)
    assert "--workers" not in cli(*arguments)


def test_folders_where_files_should_be_are_called_folders(made: Path, cli: Cli) -> None:
    for arguments in (
        ["evaluate", "units", made / "u"],
        ["evaluate", "agreement", made / "u" / "units.km", made / "u"],
        ["convert", made / "u", made / "x.km"],
    ):
        assert "is a folder" in cli(*arguments, fails=True), arguments


@pytest.mark.parametrize("harm", ["other codebook", "cut codebook", "no labels", "lone shard", "cut frames"])
def test_a_folder_whose_files_do_not_fit_is_no_success(made: Path, cli: Cli, harm: str) -> None:
    run = made / "run"
    cli("prepare", made / "audio", "--out", run, "--clusters", 4, "--workers", 1, "--valid-percent", 0.3)
    cli("inspect", run)
    message = {
        "other codebook": "train.km was made with another codebook than codebook.safetensors beside it",
        "cut codebook": "codebook.safetensors is not a whole safetensors file",
        "no labels": "summary.json counts labels of valid, which are not here",
        "lone shard": "lacks train_0_2.npy: dump shard 0 of 2 first",
        "cut frames": "train_0_1.npy",
    }[harm]
    if harm == "other codebook":
        cli("kmeans", made / "audio", "--out", made / "other.safetensors", "--clusters", 4, "--seed", 5, "--workers", 1)
        (run / "codebook.safetensors").write_bytes((made / "other.safetensors").read_bytes())
    elif harm == "cut codebook":
        os.truncate(run / "codebook.safetensors", (run / "codebook.safetensors").stat().st_size - 100)
    elif harm == "no labels":
        (run / "valid.km").unlink()
    elif harm == "lone shard":
        run = made / "g"
        cli("features", "mfcc", made / "audio", "--out", run, "--nshard", 2, "--rank", 1, "--workers", 1)
    else:
        run = made / "f"
        os.truncate(run / "train_0_1.npy", 700)
    assert message in cli("inspect", run, fails=True)


def test_labels_of_another_codebook_may_lie_beside_a_preparation(made: Path, cli: Cli) -> None:
    """They are no part of it, and under a name of their own."""
    run = made / "run"
    cli("prepare", made / "audio", "--out", run, "--clusters", 3, "--workers", 1, "--valid-percent", 0.3)
    cli("units", made / "audio", "--codebook", made / "km.safetensors", "--out", run, "--name", "dev", "--workers", 1)
    (run / "dict.km.txt").unlink()  # which is for the others
    cli("inspect", run)


def test_a_summary_of_something_else_is_no_matter(made: Path, cli: Cli) -> None:
    for content in ("[1, 2]", '{"splits": {"dev": 3}}'):
        (made / "u" / "summary.json").write_text(content)
        cli("inspect", made / "u")


def test_targets_that_say_no_form_are_refused_dry_too(made: Path, cli: Cli) -> None:
    for arguments in (["--out", made / "x.foo"], ["--out", made / "x.tsv", "--valid-percent", 0.5]):
        for dry in ([], ["--dry-run"]):
            cli("manifest", made / "audio", *arguments, *dry, fails=True)


def test_the_compact_form_of_frames_without_ids_is_refused_before_the_work(made: Path, cli: Cli) -> None:
    for path in (made / "f").iterdir():
        if path.suffix in (".tsv", ".json"):
            path.unlink()
    arguments = ["units", made / "f", "--codebook", made / "km.safetensors", "--out", made / "x", "--form", "units"]
    assert f"{made}/x/train.units: this form keeps utterance ids, and no manifest tells them" in cli(*arguments, fails=True)
    assert not (made / "x" / ".vocable" / "ledger").exists()


def test_how_centroids_were_seeded_is_told(made: Path, cli: Cli) -> None:
    assert "seeded by greedy k-means++" in cli("inspect", made / "km.safetensors")
    for at in range(4, 16):
        write_audio(made / "audio" / f"{at}.wav", 2.0, at)
    fit = ["--clusters", 2100, "--workers", 1]
    assert "k-means||" in cli("kmeans", made / "audio", "--out", made / "large.safetensors", *fit)
    assert "seeded by k-means||" in cli("inspect", made / "large.safetensors")
