"""Results stand until others are whole, and what was changed doesn't pass for them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers import artefacts_in
from vocable.errors import InputError
from vocable.recipes.fitting import FitSettings
from vocable.recipes.label_preparation import Preparation, prepare
from vocable.recipes.workplace import Claim

Cli = Callable[..., str]
SETTINGS = Preparation(fit=FitSettings(clusters=6), valid_percent=0.2)


def test_another_run_that_takes_the_names_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".vocable").mkdir()
    first, second = (Claim.of(tmp_path / ".vocable", "x", {"clusters": at}, [tmp_path / "x.km"]) for at in (1, 2))
    with pytest.raises(InputError, match="is there already"), first.taken(overwrite=False) as mine:
        (mine / "x.km").write_text("1\n")
        with second.taken(overwrite=False) as others:
            (others / "x.km").write_text("2\n")
    assert second.is_settled()
    assert (tmp_path / "x.km").read_text() == "2\n"
    replace = Path.replace

    def at_the_same_time(path: Path, target: Path) -> Path:
        if path.name == "x.km":
            second._note(done=False)
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", at_the_same_time)
    with pytest.raises(InputError, match="another run writes other results"), first.taken(overwrite=True) as mine:
        (mine / "x.km").write_text("1\n")
    assert not first.is_settled()
    assert sorted(path.name for path in (tmp_path / ".vocable").iterdir()) == ["x.claim.json"]


def test_results_stand_until_others_are_whole(audio: Path, tmp_path: Path) -> None:
    """A disk that fills up while labels of other settings are written leaves the old ones, all of them."""
    prepare(audio, tmp_path / "run", SETTINGS)
    before = artefacts_in(tmp_path / "run")
    other = Preparation(fit=FitSettings(clusters=5), valid_percent=0.2)
    largest = max(len(content) for name, content in before.items() if name.endswith(".km"))
    code = (
        "import resource, sys; from vocable.cli.main import run;"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({largest // 2}, {largest // 2}));"
        "sys.exit(run(sys.argv[1:]))"
    )
    arguments = [
        "prepare",
        audio,
        "--out",
        tmp_path / "run",
        "--clusters",
        5,
        "--valid-percent",
        0.2,
        "--overwrite",
        "--workers",
        1,
    ]
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"no space left to write {tmp_path / 'run'}" in done.stderr
    assert "part" not in done.stderr
    assert artefacts_in(tmp_path / "run") == before
    assert prepare(audio, tmp_path / "run", SETTINGS).was_done
    prepare(audio, tmp_path / "run", other, overwrite=True)
    prepare(audio, tmp_path / "fresh", other)
    assert artefacts_in(tmp_path / "run") == artefacts_in(tmp_path / "fresh")


@pytest.mark.parametrize(
    "name", ["train.km", "train.tsv", "train.km.json", "dict.km.txt", "codebook.safetensors", "summary.json"]
)
@pytest.mark.parametrize("damage", ["empty", "edited"])
def test_results_that_were_changed_do_not_pass_for_done(audio: Path, tmp_path: Path, name: str, damage: str) -> None:
    prepare(audio, tmp_path / "run", SETTINGS)
    before = artefacts_in(tmp_path / "run")
    content = before[name]
    (tmp_path / "run" / name).write_bytes(b"" if damage == "empty" else bytes([content[0] ^ 1]) + content[1:])
    with pytest.raises(InputError, match=rf"{name} was changed after it was written: .*--overwrite to make it anew"):
        prepare(audio, tmp_path / "run", SETTINGS)
    prepare(audio, tmp_path / "run", SETTINGS, overwrite=True)
    assert artefacts_in(tmp_path / "run") == before


def test_results_that_were_copied_are_done(audio: Path, tmp_path: Path) -> None:
    """Copies have other times; the content counts."""
    prepare(audio, tmp_path / "run", SETTINGS)
    shutil.copytree(tmp_path / "run", tmp_path / "copy", copy_function=shutil.copyfile)
    assert prepare(audio, tmp_path / "copy", SETTINGS).was_done


def test_labels_that_another_command_replaced_do_not_pass_for_prepares(audio: Path, tmp_path: Path, cli: Cli) -> None:
    prepare(audio, tmp_path / "run", SETTINGS)
    cli("kmeans", audio, "--out", tmp_path / "km.safetensors", "--clusters", 4, "--workers", 1)
    arguments = ["units", audio, "--codebook", tmp_path / "km.safetensors", "--out", tmp_path / "run", "--name", "train"]
    assert "is there already" in cli(*arguments, "--workers", 1, fails=True)
    cli(*arguments, "--workers", 1, "--overwrite")
    with pytest.raises(InputError, match="was changed after it was written"):
        prepare(audio, tmp_path / "run", SETTINGS)


def test_kinds_of_jobs_do_not_take_each_others_names(audio: Path, tmp_path: Path, cli: Cli) -> None:
    out = ["--out", tmp_path / "run", "--workers", 1]
    split = ["manifest", audio, *out, "--valid-percent", 0.3]
    cli("kmeans", audio, "--out", tmp_path / "km.safetensors", "--clusters", 4, "--workers", 1)
    cli(*split)
    for name in ("split", "prepare"):
        cli("units", audio, "--codebook", tmp_path / "km.safetensors", *out, "--name", name)
    assert "done already" in cli(*split)
