"""What stands where frames and labels go: kills on the way, parts of the work, other settings, files that were removed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from helpers import artefacts_in, write_audio
from vocable.errors import InputError, MismatchError
from vocable.recipes import pair_writer
from vocable.recipes.feature_pairs import read_pairs
from vocable.recipes.hubert_settings import read_settings
from vocable.recipes.pair_writer import file_keys
from vocable.recipes.training_data import TrainingData

Cli = Callable[..., str]
CSV = "libri-360-data-cluster-pair.csv"

pytestmark = pytest.mark.usefixtures("short_blocks")


def line(source: Path, out: Path, *more: object) -> tuple[object, ...]:
    return ("melhubert", "preprocess", source, out, "--clusters", 16, "--workers", 1, *more)


@pytest.fixture
def whole(mel_speech: Path, tmp_path: Path, cli: Cli) -> Path:
    """What an undisturbed run makes, of several blocks."""
    cli(*line(mel_speech, tmp_path / "whole"))
    return tmp_path / "whole"


def same(one: Path, other: Path) -> bool:
    """Tell whether two folders hold the same, but for their own paths and the name of a making."""
    found, wanted = artefacts_in(one), artefacts_in(other)
    for files, folder in ((found, one), (wanted, other)):
        files[CSV] = files[CSV].replace(str(folder.resolve()).encode(), b"")
        files["feature/.made-from"] = files["feature/.made-from"].split()[0]
    return found == wanted


class Stop(BaseException):
    """Stands for a kill."""


@pytest.mark.parametrize("after", [0, 1, 7, 14, 23])
def test_stopped_anywhere_and_run_again_it_has_the_same_bytes(
    mel_speech: Path, whole: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    out, written, write = tmp_path / "out", 0, pair_writer.write_array

    def stopping(path: Path, array: NDArray[Any]) -> None:
        nonlocal written
        if written == after:
            raise Stop
        written += 1
        write(path, array)

    monkeypatch.setattr(pair_writer, "write_array", stopping)
    with pytest.raises(Stop):
        cli(*line(mel_speech, out))
    assert not (out / CSV).exists()
    assert len(list((out / "feature").glob("*.npy"))) + len(list((out / "cluster").glob("*.npy"))) == after
    made: list[Path] = []
    monkeypatch.setattr(pair_writer, "write_array", lambda path, array: (made.append(path), write(path, array)))
    assert "12 utterances" in cli(*line(mel_speech, out))
    assert same(out, whole)
    assert len(made) <= 24 - after + 8, "whole blocks are made again"


def test_parts_of_the_work_come_together_in_any_order(mel_speech: Path, whole: Path, tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "out"
    said = [cli(*line(mel_speech, out, "--nshard", 3, "--rank", rank)) for rank in (2, 0, 1, 2, 0, 1, 0)]
    assert "blocks are left" in said[0]
    assert "12 utterances" in said[-1]
    found, wanted = artefacts_in(out), artefacts_in(whole)
    assert all(found[name] == content for name, content in wanted.items() if name.endswith(".npy"))


def test_one_kind_of_frames_takes_the_place_of_another_and_back(mel_speech: Path, whole: Path, cli: Cli) -> None:
    before = artefacts_in(whole)
    refused = cli(*line(mel_speech, whole, "--dtype", "float16"), fails=True)
    assert "--overwrite" in refused
    assert artefacts_in(whole) == before
    cli(*line(mel_speech, whole, "--dtype", "float16", "--overwrite"))
    assert all(np.load(path, allow_pickle=False).dtype == np.float16 for path in (whole / "feature").glob("*.npy"))
    cli(*line(mel_speech, whole, "--overwrite"))
    after = artefacts_in(whole)
    mark = "feature/.made-from"
    assert {name: content for name, content in after.items() if name != mark} == {
        name: content for name, content in before.items() if name != mark
    }


def test_stopped_while_it_replaces_others_nothing_old_speaks_of_it(
    mel_speech: Path, whole: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink = Path.unlink

    def stop(path: Path, array: NDArray[Any]) -> None:
        raise Stop

    def stop_at_frames(path: Path, missing_ok: bool = False) -> None:
        if path.parent.name == "feature" and path.name == "007.npy":
            raise Stop
        unlink(path, missing_ok)

    with monkeypatch.context() as patched, pytest.raises(Stop):
        patched.setattr(Path, "unlink", stop_at_frames)
        cli(*line(mel_speech, whole, "--normalize", "utterance", "--overwrite"))
    assert list((whole / "feature").glob("*.npy"))
    assert not (whole / CSV).exists()
    with monkeypatch.context() as patched, pytest.raises(Stop):
        patched.setattr(pair_writer, "write_array", stop)
        cli(*line(mel_speech, whole, "--normalize", "utterance", "--overwrite"))
    assert not any((whole / name).exists() for name in (CSV, "preprocess.json", "mean-std.npy"))
    cli(*line(mel_speech, whole, "--normalize", "utterance", "--overwrite"))
    assert json.loads((whole / "preprocess.json").read_text())["normalize"] == "utterance"


@pytest.mark.parametrize("harm", ["removed", "cut", "work folder, too"])
def test_files_that_are_gone_or_cut_are_made_again(mel_speech: Path, whole: Path, tmp_path: Path, cli: Cli, harm: str) -> None:
    shutil.copytree(whole, tmp_path / "kept")
    path = whole / "feature" / "003.npy"
    if harm == "cut":
        path.write_bytes(path.read_bytes()[:100])
    else:
        path.unlink()
    more: tuple[object, ...] = ()
    if harm == "work folder, too":
        shutil.rmtree(whole / ".vocable")
        more = ("--overwrite",)
    assert "done already" not in cli(*line(mel_speech, whole, *more))
    found, wanted = artefacts_in(whole), artefacts_in(tmp_path / "kept")
    assert all(found[name] == content for name, content in wanted.items() if name != "feature/.made-from")
    assert "done already" in cli(*line(mel_speech, whole))


def test_a_folder_that_was_moved_lists_its_files_where_they_are(mel_speech: Path, whole: Path, tmp_path: Path, cli: Cli) -> None:
    whole.rename(tmp_path / "moved")
    assert len(read_pairs([tmp_path / "moved" / CSV], 40).features) == 12
    cli(*line(mel_speech, tmp_path / "moved"))
    assert all(
        path.parent == (tmp_path / "moved" / "feature").resolve() for path in read_pairs([tmp_path / "moved" / CSV], 40).features
    )


def test_nothing_that_is_not_of_vocable_is_removed(mel_speech: Path, tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "out"
    (out / "feature").mkdir(parents=True)
    shutil.copy(next(mel_speech.rglob("*.flac")), out / "feature" / "a.flac")
    assert "where frames and labels go" in cli(*line(out / "feature", out, "--overwrite"), fails=True)
    assert "aren't of vocable" in cli(*line(mel_speech, out, "--overwrite"), fails=True)
    assert (out / "feature" / "a.flac").exists()
    shutil.rmtree(out / "feature")
    (out / "feature").symlink_to(tmp_path)
    assert "no folder of its own" in cli(*line(mel_speech, out, "--overwrite"), fails=True)
    assert "a comma" in cli(*line(mel_speech, tmp_path / "a,b"), fails=True)


def test_frames_that_are_not_stored_any_more_leave_nothing_behind(mel_speech: Path, whole: Path, cli: Cli) -> None:
    cli(*line(mel_speech, whole, "--dtype", "none", "--overwrite"))
    assert not list(whole.rglob("*.npy")) or [path.name for path in whole.rglob("*.npy")] == ["mean-std.npy"]
    assert not (whole / CSV).exists()
    assert "done already" in cli(*line(mel_speech, whole, "--dtype", "none"))


def test_another_name_does_not_leave_the_first_csv_behind(mel_speech: Path, whole: Path, cli: Cli) -> None:
    given = line(mel_speech, whole, "--name", "mine", "--normalize", "utterance")
    assert "--overwrite" in cli(*given, fails=True)
    cli(*given, "--overwrite")
    assert [path.name for path in whole.glob("*.csv")] == ["mine-data-cluster-pair.csv"]


def test_names_of_files_are_told_apart() -> None:
    assert file_keys(["a/1", "b/2"]) == ["1", "2"]
    assert file_keys(["a/1", "b/1"]) == ["a-1", "b-1"]
    assert file_keys(["../../x", 'y,"\n']) == ["x", "y---"]
    with pytest.raises(InputError, match="would both be a-b-c.npy"):
        file_keys(["a/b-c", "a-b/c", "x/c"])


def test_frames_are_taken_for_what_they_are(mel_speech: Path, whole: Path, tmp_path: Path, cli: Cli) -> None:
    """Normalised otherwise, by other statistics, of other codebooks: refused before anything is trained on them."""
    cli(*line(mel_speech, tmp_path / "own", "--normalize", "utterance"))
    cli("melhubert", "preprocess", mel_speech, tmp_path / "few", "--clusters", 8, "--workers", 1)
    other = np.load(whole / "mean-std.npy", allow_pickle=False) + 1
    np.save(tmp_path / "other.npy", other)

    def data(*options: str) -> TrainingData:
        settings = read_settings("melhubert-20ms", options)
        return TrainingData.read(settings.data, settings.model.config())

    assert data(f'data.sets=["{whole / CSV}"]').clusters == (16,)
    for options, said in (
        ([f'data.sets=["{tmp_path / "own" / CSV}"]'], "normalised per utterance"),
        ([f'data.sets=["{whole / CSV}"]', "model.mel_normalization=utterance"], "normalised per corpus"),
        ([f'data.sets=["{whole / CSV}"]', f"data.mean_std={tmp_path / 'other.npy'}"], "by other statistics"),
        ([f'data.sets=["{whole / CSV}", "{tmp_path / "few" / CSV}"]'], "different codebooks"),
        ([f'data.sets=["{whole / CSV}"]', "data.clusters=3"], "there is label"),
        ([f'data.sets=["{whole / CSV}"]', "data.label_rate=100"], "data.label_rate goes with data.folder"),
        ([f'data.sets=["{whole / CSV}"]', "data.train=dev"], "data.train goes with data.folder"),
    ):
        with pytest.raises((InputError, MismatchError), match=said):
            data(*options)
    states = {name: read_pairs([folder / CSV], 40).state for name, folder in (("corpus", whole), ("own", tmp_path / "own"))}
    assert states["corpus"] != states["own"]
    shutil.copytree(whole, tmp_path / "copy")
    for csv in (tmp_path / "copy").glob("*.csv"):
        csv.write_text(csv.read_text().replace(str(whole.resolve()), str(tmp_path / "copy")))
    assert read_pairs([tmp_path / "copy" / CSV], 40).state == states["corpus"]


def test_labels_given_are_found_by_name(mel_speech: Path, tmp_path: Path, cli: Cli) -> None:
    cli("prepare", mel_speech, "--out", tmp_path / "labels", "--clusters", 8, "--valid-percent", 0, "--workers", 1)
    for at in range(3):
        write_audio(tmp_path / "other" / f"{at}.flac", 1.0, at)
    labels = tmp_path / "labels" / "train.km"
    given = ("--labels", labels, "--workers", 1)
    assert "--clusters: no effect here" in cli(
        "melhubert", "preprocess", mel_speech, tmp_path / "out", *given, "--clusters", 9, fails=True
    )
    assert "which there are labels of" in cli("melhubert", "preprocess", tmp_path / "other", tmp_path / "out", *given, fails=True)
    assert "nothing would be written" in cli(
        "melhubert", "preprocess", mel_speech, tmp_path / "out", *given, "--dtype", "none", fails=True
    )
    cli("melhubert", "preprocess", mel_speech, tmp_path / "out", *given)
    assert read_pairs([tmp_path / "out" / CSV], 40).units.header.clusters == 8
