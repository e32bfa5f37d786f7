"""What stands is kept, completed or refused, and never taken for something else."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from helpers import artefacts_in, write_audio
from vocable.audio.faults import read_skipped
from vocable.audio.manifest_files import read_manifest
from vocable.clustering import read_codebook
from vocable.errors import InputError
from vocable.execution import Work
from vocable.recipes.corpus import CorpusSettings
from vocable.recipes.fitting import FitSettings
from vocable.recipes.frames import FrameChoice
from vocable.recipes.label_preparation import Preparation, prepare
from vocable.recipes.units import label_source
from vocable.units import read_units

Cli = Callable[..., str]
SETTINGS = Preparation(fit=FitSettings(clusters=6), valid_percent=0.2)


@pytest.mark.parametrize(
    "lost", ["train.km", "valid.tsv", "train.km.json", "codebook.safetensors", "summary.json", "skipped.jsonl", "dict.km.txt"]
)
def test_any_file_that_was_removed_comes_back_as_it_was(audio: Path, tmp_path: Path, lost: str) -> None:
    prepare(audio, tmp_path / "run", SETTINGS)
    before = artefacts_in(tmp_path / "run")
    (tmp_path / "run" / lost).unlink()
    prepare(audio, tmp_path / "run", SETTINGS)
    assert artefacts_in(tmp_path / "run") == before


def test_without_its_work_folder_a_finished_run_is_known_by_its_results(audio: Path, tmp_path: Path) -> None:
    prepare(audio, tmp_path / "run", SETTINGS)
    before = artefacts_in(tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / ".vocable")
    assert prepare(audio, tmp_path / "run", SETTINGS).was_done
    assert artefacts_in(tmp_path / "run") == before
    shutil.rmtree(tmp_path / "run" / ".vocable")
    with pytest.raises(InputError, match="nothing beside it says what it was made from"):
        prepare(audio, tmp_path / "run", Preparation(fit=FitSettings(clusters=5), valid_percent=0.2))


@pytest.mark.parametrize(
    ("command", "change", "why"),
    [
        ("kmeans", ["--clusters", 5], "made with other settings: clusters 4 then, 5 now"),
        ("kmeans", ["--normalize", "utterance"], "made with other settings: normalize none then, utterance now"),
        ("units", ["--codebook", "other.safetensors"], "it was made with another codebook"),
        ("features", ["--context", 2], "it was made from other frames"),
        ("manifest", ["--min-seconds", 0.5], "min-seconds 0.025 then, 0.5 now"),
    ],
)
def test_what_stands_is_refused_with_what_differs(
    audio: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch, command: str, change: list[object], why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    cli("kmeans", audio, "--out", "km.safetensors", "--clusters", 4, "--workers", 1)
    cli("kmeans", audio, "--out", "other.safetensors", "--clusters", 4, "--seed", 1, "--workers", 1)
    arguments = {
        "kmeans": ["kmeans", audio, "--out", "k.safetensors", "--clusters", 4],
        "units": ["units", audio, "--out", "u", "--codebook", "km.safetensors"],
        "features": ["features", "mfcc", audio, "--out", "f"],
        "manifest": ["manifest", audio, "--out", "m.tsv"],
    }[command]
    cli(*arguments, "--workers", 1)
    changed = [*arguments, *change, "--workers", 1]
    if command in ("kmeans", "units"):
        changed = [item for at, item in enumerate(arguments) if item != change[0] and arguments[at - 1] != change[0]] + [
            *change,
            "--workers",
            1,
        ]
    assert why in cli(*changed, fails=True)
    shutil.rmtree(
        next(path for path in (tmp_path / "u" / ".vocable", tmp_path / "f" / ".vocable", tmp_path / ".vocable") if path.exists())
    )
    assert "nothing beside it says what it was made from" in cli(*changed, fails=True)
    cli(*changed, "--overwrite")


def test_strictness_changes_no_result_and_is_asked_anew(audio: Path, tmp_path: Path) -> None:
    soundfile.write(audio / "silent.wav", np.zeros(16000), 16000)
    prepare(audio, tmp_path / "run", SETTINGS)
    before = artefacts_in(tmp_path / "run")
    strict = Preparation(fit=SETTINGS.fit, valid_percent=0.2, strict=True)
    with pytest.raises(InputError, match=r"silent\.wav"):
        prepare(audio, tmp_path / "run", strict)
    assert artefacts_in(tmp_path / "run") == before
    (audio / "silent.wav").unlink()
    assert not prepare(audio, tmp_path / "strict", strict).skipped


def test_labels_of_fewer_splits_or_forms_leave_none_of_the_others(audio: Path, tmp_path: Path) -> None:
    """A valid.km of an earlier codebook beside a new one would be taken for the new one's."""
    both = Preparation(fit=SETTINGS.fit, valid_percent=0.2, forms=(".km", ".rle"))
    prepare(audio, tmp_path / "run", both)
    fewer = Preparation(fit=FitSettings(clusters=5), valid_percent=0.0)
    prepare(audio, tmp_path / "run", fewer, overwrite=True)
    prepare(audio, tmp_path / "fresh", fewer)
    assert artefacts_in(tmp_path / "run") == artefacts_in(tmp_path / "fresh")


def test_labels_by_other_tools_are_not_replaced_unasked(audio: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "valid.km").write_text("precious\n")
    with pytest.raises(InputError, match=r"valid\.km is there already \(nothing beside it says what it was made from\)"):
        prepare(audio, tmp_path / "run", SETTINGS)
    assert sorted(artefacts_in(tmp_path / "run")) == ["valid.km"]
    prepare(audio, tmp_path / "run", SETTINGS, overwrite=True)
    assert (tmp_path / "run" / "valid.km").read_text() != "precious\n"


def test_audio_that_changed_midway_is_worked_on_anew(audio: Path, tmp_path: Path) -> None:
    """The same names and lengths, other sound, before the labels were finished: results in the ledger are not theirs."""
    prepare(audio, tmp_path / "run", SETTINGS)
    for at in range(6):
        write_audio(audio / f"{at}.wav", 1.0, at + 10)
        os.utime(audio / f"{at}.wav", (at, at))
    prepare(audio, tmp_path / "run", SETTINGS, overwrite=True)
    prepare(audio, tmp_path / "fresh", SETTINGS)
    assert artefacts_in(tmp_path / "run") == artefacts_in(tmp_path / "fresh")


def test_other_speakers_are_other_results(audio: Path, tmp_path: Path) -> None:
    for table, who in (("one", "ab"), ("two", "ba")):
        (tmp_path / table).write_text("".join(f"{at} {who[at // 3]}{'' if at < 5 else 'x'}\n" for at in range(6)))
    made = []
    for table in ("one", "two", "one"):
        settings = Preparation(
            corpus=CorpusSettings(speakers=str(tmp_path / table)),
            frames=FrameChoice(normalize="speaker"),
            fit=SETTINGS.fit,
            valid_percent=0.0,
        )
        prepare(audio, tmp_path / "run", settings, overwrite=True)
        prepare(audio, tmp_path / f"fresh-{len(made)}", settings)
        made.append(artefacts_in(tmp_path / "run"))
        assert made[-1] == artefacts_in(tmp_path / f"fresh-{len(made) - 1}")


def test_a_folder_that_moved_is_prepared_anew_only_if_asked(audio: Path, tmp_path: Path) -> None:
    prepare(audio, tmp_path / "run", SETTINGS)
    audio.rename(tmp_path / "moved")
    with pytest.raises(InputError, match="the audio has changed since: files were moved"):
        prepare(tmp_path / "moved", tmp_path / "run", SETTINGS)
    prepare(tmp_path / "moved", tmp_path / "run", SETTINGS, overwrite=True)
    assert read_manifest(tmp_path / "run" / "train.tsv").root == str(tmp_path / "moved")


def test_a_run_that_failed_leaves_no_claim_behind(audio: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can't make 5000 clusters"):
        prepare(audio, tmp_path / "run", Preparation(fit=FitSettings(clusters=5000), valid_percent=0.2))
    prepare(audio, tmp_path / "run", SETTINGS)
    prepare(audio, tmp_path / "fresh", SETTINGS)
    assert artefacts_in(tmp_path / "run") == artefacts_in(tmp_path / "fresh")


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_shards_of_units_end_in_the_same_files(
    corpus: Path, tmp_path: Path, cli: Cli, order: tuple[int, ...], short_blocks: None
) -> None:
    cli("kmeans", corpus, "--out", tmp_path / "km.safetensors", "--clusters", 4, "--workers", 1)
    codebook = read_codebook(tmp_path / "km.safetensors")
    for rank in order:
        made = label_source(corpus, codebook, tmp_path / "parts", None, [".km"], CorpusSettings(), Work(nshard=3, rank=rank))
        assert (made.missing == 0) == (rank == order[-1])
    label_source(corpus, codebook, tmp_path / "whole", None, [".km"], CorpusSettings(), Work())
    assert artefacts_in(tmp_path / "parts") == artefacts_in(tmp_path / "whole")


def test_units_name_what_they_left_out_and_refuse_it_when_strict(audio: Path, tmp_path: Path, cli: Cli) -> None:
    cli("kmeans", audio, "--out", tmp_path / "km.safetensors", "--clusters", 4, "--workers", 1)
    soundfile.write(audio / "silent.wav", np.zeros(16000), 16000)
    arguments = ["units", audio, "--codebook", tmp_path / "km.safetensors", "--out", tmp_path / "u", "--workers", 1]
    assert "1 silent" in cli(*arguments)
    assert [item.path for item in read_skipped(tmp_path / "u" / "units.skipped.jsonl")] == ["silent.wav"]
    before = artefacts_in(tmp_path / "u")
    assert "1 silent" in cli(*arguments)
    assert "silent.wav: silent" in cli(*arguments, "--strict", fails=True)
    assert artefacts_in(tmp_path / "u") == before
    (audio / "silent.wav").unlink()
    assert "is there already" in cli(*arguments, fails=True)
    cli(*arguments, "--overwrite")
    assert not (tmp_path / "u" / "units.skipped.jsonl").exists()


def test_fits_name_what_they_left_out_and_refuse_it_when_strict(audio: Path, tmp_path: Path, cli: Cli) -> None:
    soundfile.write(audio / "silent.wav", np.zeros(16000), 16000)
    arguments = ["kmeans", audio, "--out", tmp_path / "km.safetensors", "--clusters", 4, "--workers", 1]
    assert "silent.wav: silent" in cli(*arguments, "--strict", fails=True)
    assert not (tmp_path / "km.safetensors").exists()
    assert "1 silent" in cli(*arguments)
    assert [item.path for item in read_skipped(tmp_path / "km.skipped.jsonl")] == ["silent.wav"]
    assert "1 silent" in cli(*arguments)
    assert "silent.wav: silent" in cli(*arguments, "--strict", fails=True)


def test_fits_are_made_by_one_part_of_a_job_array(audio: Path, tmp_path: Path, cli: Cli) -> None:
    arguments = ["kmeans", audio, "--out", tmp_path / "km.safetensors", "--clusters", 4, "--workers", 1, "--nshard", 2]
    cli(*arguments, "--rank", 1)
    assert not (tmp_path / "km.safetensors").exists()
    cli(*arguments, "--rank", 0)
    assert (tmp_path / "km.safetensors").exists()


def test_labels_take_the_rate_of_their_codebook(tmp_path: Path, cli: Cli) -> None:
    for at in range(3):
        write_audio(tmp_path / "audio" / f"{at}.wav", 1.0, at, sample_rate=8000)
    fit = ["kmeans", tmp_path / "audio", "--out", tmp_path / "km.safetensors", "--clusters", 4, "--workers", 1]
    cli(*fit, "--sample-rate", 8000)
    label = ["units", tmp_path / "audio", "--codebook", tmp_path / "km.safetensors", "--out", tmp_path / "u", "--workers", 1]
    cli(*label)
    assert read_units(tmp_path / "u" / "units.km").lengths.tolist() == [98] * 3
    assert (tmp_path / "u" / "units.tsv").read_text().splitlines()[1:] == [f"{at}.wav\t8000" for at in range(3)]
    assert "the codebook is for 8000 Hz" in cli(*label, "--sample-rate", 16001, fails=True)
    cli("inspect", tmp_path / "u" / "units.km")


def test_half_written_files_of_dead_processes_are_cleared_away(audio: Path, tmp_path: Path) -> None:
    (tmp_path / "run" / ".vocable").mkdir(parents=True)
    prepare(audio, tmp_path / "run", SETTINGS)
    expected = artefacts_in(tmp_path / "run")
    import subprocess
    import sys

    code = (
        "import os, pathlib\n"
        "from vocable.artefacts.writing import replacing\n"
        f"with replacing(pathlib.Path({str(tmp_path / 'run' / 'train.km')!r})) as file:\n"
        "    file.write(b'half'); file.flush(); os._exit(1)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    assert len(list((tmp_path / "run").glob(".*.part"))) == 1
    prepare(audio, tmp_path / "run", SETTINGS)
    assert not list((tmp_path / "run").glob(".*.part"))
    assert artefacts_in(tmp_path / "run") == expected


@pytest.mark.parametrize("name", ["line\nbreak", "tab\tbed", "blank "])
def test_a_folder_that_no_manifest_can_name_is_refused_at_once(tmp_path: Path, name: str) -> None:
    write_audio(tmp_path / name / "a.wav", 1.0, 1)
    with pytest.raises(InputError, match="a tab, a line break or a blank at its end: rename it"):
        prepare(tmp_path / name, tmp_path / "run", SETTINGS)


def test_what_the_system_refuses_is_a_sentence(audio: Path, tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "file").write_text("")
    assert "there is a file of that name on the way" in cli("prepare", audio, "--out", tmp_path / "file", fails=True)
    assert "there is a file of that name on the way" in cli("prepare", audio, "--out", tmp_path / "file" / "x", fails=True)
    long = cli("prepare", audio, "--out", tmp_path / ("x" * 300), fails=True)
    assert "Traceback" not in long
    assert long.startswith("vocable: ")
    assert "--workers 0: at least 1 is needed" in cli("prepare", audio, "--out", tmp_path / "r", "--workers", 0, fails=True)


def test_results_stand_until_others_are_ready_to_replace_them(audio: Path, tmp_path: Path, cli: Cli) -> None:
    """A run with --overwrite that fails, or is killed before it writes, has removed nothing."""
    prepare(audio, tmp_path / "run", SETTINGS)
    cli("kmeans", audio, "--out", tmp_path / "km.safetensors", "--clusters", 4, "--workers", 1)
    before, codebook = artefacts_in(tmp_path / "run"), (tmp_path / "km.safetensors").read_bytes()
    for settings in (
        Preparation(fit=FitSettings(clusters=5000), valid_percent=0.2),
        Preparation(fit=SETTINGS.fit, frames=FrameChoice(normalize="speaker"), valid_percent=0.2),
    ):
        with pytest.raises(InputError, match="can't make 5000 clusters|needs speakers"):
            prepare(audio, tmp_path / "run", settings, overwrite=True)
        assert artefacts_in(tmp_path / "run") == before
    again = ["kmeans", audio, "--out", tmp_path / "km.safetensors", "--clusters", 5000, "--overwrite", "--workers", 1]
    assert "can't make 5000 clusters" in cli(*again, fails=True)
    assert (tmp_path / "km.safetensors").read_bytes() == codebook
    assert prepare(audio, tmp_path / "run", SETTINGS).was_done


def test_what_the_work_is_on_is_never_replaced_by_it(audio: Path, tmp_path: Path, cli: Cli) -> None:
    prepare(audio, tmp_path / "run", SETTINGS)
    manifest = tmp_path / "run" / "train.tsv"
    content = manifest.read_bytes()
    with pytest.raises(InputError, match="is one of the files to write: give another name or folder"):
        prepare(manifest, tmp_path / "run", Preparation(fit=SETTINGS.fit, valid_percent=0.0), overwrite=True)
    assert "is one of the files to write" in cli("manifest", manifest, "--out", manifest, "--overwrite", fails=True)
    label = ["units", manifest, "--codebook", tmp_path / "run" / "codebook.safetensors", "--out", tmp_path / "run"]
    assert "is one of the files to write" in cli(*label, "--name", "train", "--overwrite", fails=True)
    assert manifest.read_bytes() == content


@pytest.mark.parametrize("command", ["prepare", "kmeans", "manifest", "units"])
def test_speakers_named_otherwise_are_other_results(audio: Path, tmp_path: Path, cli: Cli, command: str) -> None:
    table = tmp_path / "utt2spk"

    def name(who: str) -> None:
        table.write_text("".join(f"{at} {who[at]}\n" for at in range(6)))

    speakers = ["--speakers", table, "--workers", 1]
    name("aabbcc")
    cli("kmeans", audio, "--out", tmp_path / "k.safetensors", "--clusters", 4, "--normalize", "speaker", *speakers)
    arguments = {
        "prepare": ["prepare", audio, "--clusters", 4, "--normalize", "speaker", "--valid-percent", 0.3],
        "kmeans": ["kmeans", audio, "--clusters", 4, "--normalize", "speaker"],
        "manifest": ["manifest", audio, "--valid-percent", 0.3, "--by-speaker"],
        "units": ["units", audio, "--codebook", tmp_path / "k.safetensors"],
    }[command]
    out = {"kmeans": "out.safetensors"}.get(command, "out")
    cli(*arguments, "--out", tmp_path / out, *speakers)
    name("abcabc")
    assert "is there already" in cli(*arguments, "--out", tmp_path / out, *speakers, fails=True)
    cli(*arguments, "--out", tmp_path / out, *speakers, "--overwrite")
    cli(*arguments, "--out", tmp_path / "fresh" / out, *speakers)
    if command == "kmeans":
        assert (tmp_path / out).read_bytes() == (tmp_path / "fresh" / out).read_bytes()
    else:
        assert artefacts_in(tmp_path / out) == artefacts_in(tmp_path / "fresh" / out)


def test_a_fit_for_speakers_that_changed_meanwhile_is_made_anew(audio: Path, tmp_path: Path) -> None:
    """Killed after the fit, run again with another table: labels and codebook are of the same speakers."""
    table = tmp_path / "utt2spk"
    table.write_text("".join(f"{at} {'aabbcc'[at]}\n" for at in range(6)))
    settings = Preparation(
        corpus=CorpusSettings(speakers=str(table)), frames=FrameChoice(normalize="speaker"), fit=SETTINGS.fit, valid_percent=0.2
    )
    prepare(audio, tmp_path / "run", settings)
    for lost in ("train.km", "summary.json"):
        (tmp_path / "run" / lost).unlink()
    table.write_text("".join(f"{at} {'abcabc'[at]}\n" for at in range(6)))
    prepare(audio, tmp_path / "run", settings, overwrite=True)
    prepare(audio, tmp_path / "fresh", settings)
    assert artefacts_in(tmp_path / "run") == artefacts_in(tmp_path / "fresh")


def test_results_are_vouched_for_by_what_they_say_not_by_what_lies_beside(audio: Path, tmp_path: Path) -> None:
    prepare(audio, tmp_path / "run", SETTINGS)
    prepare(audio, tmp_path / "other", Preparation(fit=FitSettings(clusters=5), valid_percent=0.2))
    shutil.copy(tmp_path / "other" / "codebook.safetensors", tmp_path / "run" / "codebook.safetensors")
    shutil.rmtree(tmp_path / "run" / ".vocable")
    with pytest.raises(InputError, match="nothing beside it says what it was made from"):
        prepare(audio, tmp_path / "run", SETTINGS)


@pytest.mark.parametrize("command", ["prepare", "kmeans", "units", "features", "manifest"])
def test_links_and_permissions_change_nothing(audio: Path, tmp_path: Path, cli: Cli, command: str) -> None:
    cli("kmeans", audio, "--out", tmp_path / "k.safetensors", "--clusters", 4, "--workers", 1)
    arguments = {
        "prepare": ["prepare", audio, "--clusters", 4],
        "kmeans": ["kmeans", audio, "--clusters", 4],
        "units": ["units", audio, "--codebook", tmp_path / "k.safetensors"],
        "features": ["features", "mfcc", audio],
        "manifest": ["manifest", audio],
    }[command]
    out = tmp_path / {"kmeans": "out.safetensors", "manifest": "out.tsv"}.get(command, "out")
    cli(*arguments, "--out", out, "--workers", 1)
    (audio / "0.wav").chmod(0o600)
    os.link(audio / "1.wav", tmp_path / "elsewhere.wav")
    assert "done already" in cli(*arguments, "--out", out, "--workers", 1)


def test_parts_of_a_job_array_log_apart(audio: Path, tmp_path: Path) -> None:
    for rank in range(2):
        prepare(audio, tmp_path / "run", SETTINGS, Work(nshard=2, rank=rank))
    assert sorted(path.name for path in (tmp_path / "run").glob("run*")) == ["run-0.jsonl", "run-1.jsonl"]
