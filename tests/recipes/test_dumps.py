"""Dumped frames: complete, or as they were; whoever else is at it."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from helpers import artefacts_in, write_audio
from vocable.errors import InputError, MismatchError
from vocable.execution import Work
from vocable.features import Mfcc, StoredFrames
from vocable.features.store import write_lengths
from vocable.recipes import fairseq, feature_dump
from vocable.recipes.corpus import CorpusSettings
from vocable.recipes.dumped import stores_in
from vocable.recipes.features import dump_source
from vocable.recipes.frames import FrameChoice

Cli = Callable[..., str]


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    for at in range(5):
        write_audio(tmp_path / "audio" / f"{at}.wav", 1.0 + at / 7, at)
    soundfile.write(tmp_path / "audio" / "2x.wav", np.zeros(16000), 16000)
    return tmp_path / "audio"


def dump(audio: Path, out: Path, **options: Any) -> Any:
    return dump_source(audio, out, "x", FrameChoice(), CorpusSettings(), Work(), **options)


def test_frames_are_those_of_the_utterances_that_have_some(audio: Path, tmp_path: Path) -> None:
    made = dump(audio, tmp_path / "f")
    store = StoredFrames(tmp_path / "f" / "x_0_1.npy")
    assert (len(store), made.utterances, [item.path for item in made.skipped]) == (5, 5, ["2x.wav"])
    for at, frames in enumerate(store):
        waveform, _ = soundfile.read(audio / f"{at}.wav", dtype="float32")
        assert np.array_equal(frames, Mfcc()([waveform])[0])


@pytest.mark.parametrize("options", [{}, {"normalize": "corpus"}, {"normalize": "utterance", "context": 2}])
def test_frames_are_the_same_at_any_number_of_workers(
    corpus: Path, tmp_path: Path, options: dict[str, Any], short_blocks: None
) -> None:
    for workers in (1, 2, 3):
        dump_source(corpus, tmp_path / str(workers), "x", FrameChoice(**options), CorpusSettings(), Work(workers=workers))
        assert artefacts_in(tmp_path / str(workers)) == artefacts_in(tmp_path / "1")


def test_parts_of_dumps_that_were_given_up_go_with_the_next(audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = tmp_path / "f" / ".vocable"
    with monkeypatch.context() as patch:
        patch.setattr(feature_dump, "_link", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        patch.setattr(feature_dump, "_copy_rows", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        for choice in (FrameChoice(), FrameChoice(context=1)):
            with pytest.raises(KeyboardInterrupt):
                dump_source(audio, tmp_path / "f", "x", choice, CorpusSettings(), Work())
    assert len(list(work.glob("x_0_1-*.npy"))) == 2
    dump(audio, tmp_path / "f")
    assert not list(work.glob("*.npy"))


def test_frames_that_were_refused_are_not_left_lying(audio: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"2x\.wav: silent: .*x_0_1\.skipped\.jsonl"):
        dump(audio, tmp_path / "f", strict=True)
    assert [item.name for item in (tmp_path / "f").glob("x*")] == ["x_0_1.skipped.jsonl"]
    assert dump(audio, tmp_path / "f").utterances == 5


def test_a_file_that_changes_while_it_is_dumped_is_named(
    audio: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """fairseq's way takes any length; but rows are laid out by what was looked up."""
    (audio / "2x.wav").unlink()
    cli("fairseq", "wav2vec_manifest", audio, "--ext", "wav", "--dest", tmp_path / "m", "--valid-percent", 0)
    count = fairseq.count_samples
    monkeypatch.setattr(fairseq, "count_samples", lambda path: (2 * count(path)[0], 16000) if "3.wav" in path else count(path))
    arguments = ["fairseq", "dump_mfcc_feature", tmp_path / "m", "train", 1, 0, tmp_path / "f", "--workers", 1]
    assert "3.wav changed while it was dumped: run the same command again" in cli(*arguments, fails=True)
    assert not list((tmp_path / "f").glob("*.npy"))
    monkeypatch.undo()
    cli(*arguments)


@pytest.mark.parametrize("lost", ["x_0_1.npy", "x_0_1.len", "x_0_1.json", "x_0_1.tsv"])
def test_a_file_that_was_removed_comes_back(audio: Path, tmp_path: Path, lost: str) -> None:
    dump(audio, tmp_path / "f")
    before = artefacts_in(tmp_path / "f")
    assert dump(audio, tmp_path / "f").was_done
    (tmp_path / "f" / lost).unlink()
    assert not dump(audio, tmp_path / "f").was_done
    assert artefacts_in(tmp_path / "f") == before


def test_frames_that_were_cut_short_are_dumped_anew(audio: Path, tmp_path: Path) -> None:
    dump(audio, tmp_path / "f")
    before = artefacts_in(tmp_path / "f")
    os.truncate(tmp_path / "f" / "x_0_1.npy", 1000)
    with pytest.raises(InputError, match=r"x_0_1\.npy was changed after it was written: .*--overwrite to make it anew"):
        dump(audio, tmp_path / "f")
    dump(audio, tmp_path / "f", overwrite=True)
    assert artefacts_in(tmp_path / "f") == before


def test_frames_of_something_else_are_refused_or_replaced(audio: Path, tmp_path: Path) -> None:
    dump(audio, tmp_path / "f")
    before = artefacts_in(tmp_path / "f")
    other = FrameChoice(features="logmel")
    with pytest.raises(InputError, match=r"x_0_1\.json is there already"):
        dump_source(audio, tmp_path / "f", "x", other, CorpusSettings(), Work())
    assert artefacts_in(tmp_path / "f") == before
    dump_source(audio, tmp_path / "f", "x", other, CorpusSettings(), Work(), overwrite=True)
    assert StoredFrames(tmp_path / "f" / "x_0_1.npy").dim == 40


def test_a_part_that_another_process_took_is_made_again(audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs of one dump: the first to finish moves the part away under the other's hands."""
    dump(audio, tmp_path / "alone")
    original, taken = feature_dump.write_rows, []

    def stolen(*arguments: Any) -> None:
        original(*arguments)
        if not taken:
            taken.extend((tmp_path / "f" / ".vocable").glob("x_0_1-*.npy"))
            taken[0].unlink()

    monkeypatch.setattr(feature_dump, "write_rows", stolen)
    dump(audio, tmp_path / "f")
    assert artefacts_in(tmp_path / "f") == artefacts_in(tmp_path / "alone")


def test_two_at_once_end_in_the_same_files(audio: Path, tmp_path: Path) -> None:
    dump(audio, tmp_path / "alone")
    for turn in range(3):
        failures: list[BaseException] = []

        def run(out: Path, failures: list[BaseException] = failures) -> None:
            try:
                dump(audio, out)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=run, args=(tmp_path / f"f{turn}",)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        assert artefacts_in(tmp_path / f"f{turn}") == artefacts_in(tmp_path / "alone")


def test_a_filesystem_without_links_will_do(audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (audio / "2x.wav").unlink()
    dump(audio, tmp_path / "alone")

    def link(source: object, target: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", link)
    dump(audio, tmp_path / "f")
    assert artefacts_in(tmp_path / "f") == artefacts_in(tmp_path / "alone")
    dump(audio, tmp_path / "f", overwrite=True)
    assert not list((tmp_path / "f" / ".vocable").glob("*.npy"))


def test_strict_dumps_name_the_first_that_has_no_frames(audio: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"2x\.wav: silent"):
        dump(audio, tmp_path / "f", strict=True)
    dump(audio, tmp_path / "f")
    with pytest.raises(InputError, match=r"2x\.wav: silent"):
        dump(audio, tmp_path / "f", strict=True)


def test_folders_of_dumps_say_what_is_wrong_with_them(audio: Path, tmp_path: Path) -> None:
    assert stores_in(tmp_path) == ("", [])
    folder = tmp_path / "f"
    dump(audio, folder)
    assert [store.path.name for store in stores_in(folder)[1]] == ["x_0_1.npy"]
    with pytest.raises(InputError, match=r"holds frames named x: not y; give another --name"):
        stores_in(folder, "y")
    for suffix in (".npy", ".len"):
        shutil.copy(folder / f"x_0_1{suffix}", folder / f"y_1_2{suffix}")
    with pytest.raises(InputError, match=r"holds frames named x, y: say which with --name"):
        stores_in(folder)
    with pytest.raises(InputError, match=r"lacks y_0_2\.npy: dump shard 0 of 2 first"):
        stores_in(folder, "y")
    shutil.copy(folder / "x_0_1.npy", folder / "x_0_3.npy")
    with pytest.raises(InputError, match=r"holds shards of 'x' of 1 and of 3: keep those of one number"):
        stores_in(folder, "x")
    empty = tmp_path / "empty"
    empty.mkdir()
    np.save(empty / "z_0_1.npy", np.zeros((0, 3), np.float32))
    write_lengths(empty / "z_0_1.len", [])
    with pytest.raises(InputError, match="dumped frames of no utterance"):
        stores_in(empty)


def test_shards_of_different_frames_are_not_fitted_together(audio: Path, tmp_path: Path, cli: Cli) -> None:
    for rank, kind in enumerate(("mfcc", "logmel")):
        shard = ["--nshard", 2, "--rank", rank, "--workers", 1]
        cli("features", kind, audio, "--out", tmp_path / "f", "--name", "x", *shard)
    arguments = ["kmeans", tmp_path / "f", "--out", tmp_path / "km.safetensors", "--clusters", 3]
    assert "has 40 values a frame" in cli(*arguments, fails=True)
    cli("kmeans", audio, "--out", tmp_path / "m.safetensors", "--clusters", 3, "--workers", 1)
    arguments = ["units", tmp_path / "f", "--codebook", tmp_path / "m.safetensors", "--out", tmp_path / "u"]
    assert "not of the same frames: kind 'mfcc' against 'logmel'" in cli(*arguments, fails=True)


def test_a_codebook_by_other_frames_names_only_what_differs() -> None:
    from dataclasses import replace

    spec = Mfcc().spec
    other = replace(spec, parameters={**spec.parameters, "cepstra": 20})
    with pytest.raises(MismatchError) as caught:
        spec.require_equal(other, "a", "b")
    assert "cepstra" in str(caught.value)
    assert "mel" not in str(caught.value)


def test_no_part_is_left_whoever_was_first(audio: Path, tmp_path: Path) -> None:
    (audio / "2x.wav").unlink()
    threads = [threading.Thread(target=dump, args=(audio, tmp_path / "f")) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not [path for path in (tmp_path / "f").rglob("*") if path.name.endswith(".part")]
    assert (tmp_path / "f" / "x_0_1.npy").stat().st_nlink == 1


def test_a_table_of_channels_replaces_the_manifest_of_files(audio: Path, tmp_path: Path, cli: Cli) -> None:
    """A .tsv of an earlier dump beside a new .csv would give the labels to its files."""
    stereo = tmp_path / "stereo.wav"
    soundfile.write(stereo, np.random.default_rng(0).standard_normal((16000, 2)) * 0.1, 16000)
    rows = "".join(f"{stereo},16000,{channel},{channel}\n" for channel in (1, 2))
    (tmp_path / "channels.csv").write_text("path,samples,channel,id\n" + rows)
    one = tmp_path / "one"
    for at in range(2):
        write_audio(one / f"{at}.wav", 1.0, at)
    cli("kmeans", audio, "--out", tmp_path / "km.safetensors", "--clusters", 3, "--workers", 1)
    for source in (one, tmp_path / "channels.csv"):
        cli("features", "mfcc", source, "--out", tmp_path / "f", "--overwrite", "--workers", 1)
        label = ["--codebook", tmp_path / "km.safetensors", "--out", tmp_path / "u", "--overwrite", "--workers", 1]
        cli("units", source, *label)
        cli("units", tmp_path / "f", *label[:-2])
    for folder, name in (("f", "train_0_1"), ("u", "units"), ("u", "train")):
        assert not (tmp_path / folder / f"{name}.tsv").exists()
        assert (tmp_path / folder / f"{name}.csv").read_text().count("stereo.wav") == 2
    cli("inspect", tmp_path / "u" / "units.km")


def test_a_manifest_that_was_changed_beside_its_frames_is_refused(audio: Path, tmp_path: Path, cli: Cli) -> None:
    cli("kmeans", audio, "--out", tmp_path / "km.safetensors", "--clusters", 3, "--workers", 1)
    cli("features", "mfcc", audio, "--out", tmp_path / "f", "--workers", 1)
    path = tmp_path / "f" / "train_0_1.tsv"
    root, *rows = path.read_text().splitlines()
    path.write_text("\n".join([root, *rows[::-1]]) + "\n")
    label = ["units", tmp_path / "f", "--codebook", tmp_path / "km.safetensors", "--out", tmp_path / "u"]
    assert "is not the manifest that train_0_1.npy was made for" in cli(*label, fails=True)


def test_shards_of_two_versions_of_a_manifest_are_not_joined(audio: Path, tmp_path: Path, cli: Cli) -> None:
    for at in range(12):
        write_audio(tmp_path / "long" / f"{at}.wav", 25.0, at)
    for rank in range(2):
        if rank:
            (tmp_path / "long" / "0.wav").unlink()
        shard = ["--nshard", 2, "--rank", rank, "--workers", 1]
        cli("features", "mfcc", tmp_path / "long", "--out", tmp_path / "f", *shard)
    cli("kmeans", audio, "--out", tmp_path / "km.safetensors", "--clusters", 3, "--workers", 1)
    label = ["units", tmp_path / "f", "--codebook", tmp_path / "km.safetensors", "--out", tmp_path / "u"]
    assert "are shards of different manifests: dump all shards of one" in cli(*label, fails=True)
    fit = ["kmeans", tmp_path / "f", "--out", tmp_path / "k2.safetensors", "--clusters", 3]
    assert "are shards of different manifests" in cli(*fit, fails=True)
