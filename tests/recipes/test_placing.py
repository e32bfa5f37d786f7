"""How results come into place: together, in order, and whole after a kill at any step of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers import artefacts_in
from vocable.clustering import Codebook, lloyd
from vocable.errors import DiskFullError, InputError
from vocable.execution import Work
from vocable.recipes import workplace
from vocable.recipes.corpus import CorpusSettings
from vocable.recipes.features import dump_source
from vocable.recipes.fitting import FitSettings
from vocable.recipes.frames import FrameChoice
from vocable.recipes.label_preparation import Preparation, prepare

Cli = Callable[..., str]
SETTINGS = Preparation(fit=FitSettings(clusters=6), valid_percent=0.2)


class Killed(BaseException):
    """The end of a process, as far as a test can have one."""


def killed_at_each_step(run: Callable[[], object], before: Path, out: Path, check: Callable[[], None]) -> int:
    """Run something again and again, killed one step further each time of those that put results in place; return the steps.

    Before each run `out` is what stands in `before`; after each kill the same is run again, and `check` looks.
    """
    originals = {"replace": Path.replace, "unlink": Path.unlink}
    place, steps = workplace.Claim._put_in_place, 0
    while True:
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(before, out)
        left = [steps]

        def dying(name: str, left: list[int] = left) -> Callable[..., object]:
            def step(path: Path, *rest: object, **options: object) -> object:
                if left[0] == 0:
                    raise Killed
                left[0] -= 1
                return originals[name](path, *rest, **options)  # type: ignore[operator]

            return step

        def put(*arguments: object) -> None:
            with pytest.MonkeyPatch.context() as patch:
                for name in originals:
                    patch.setattr(Path, name, dying(name))
                place(*arguments)  # type: ignore[arg-type]

        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(workplace.Claim, "_put_in_place", put)
                patch.setattr(workplace.shutil, "rmtree", lambda *_, **__: None)  # which a killed process doesn't do
                run()
        except Killed:
            for leftover in out.glob(".*.part"):
                shutil.rmtree(leftover)  # as the next process does where that of its number is dead; ours lives
            run()
            check()
            steps += 1
        else:
            return steps


def test_killed_while_results_are_put_in_place_the_next_run_leaves_none_of_the_old(audio: Path, tmp_path: Path) -> None:
    old = Preparation(fit=SETTINGS.fit, valid_percent=0.3, forms=(".km", ".rle"))
    new = Preparation(fit=FitSettings(clusters=5), valid_percent=0.0)
    prepare(audio, tmp_path / "fresh", new)
    prepare(audio, tmp_path / "old", old)
    expected, run = artefacts_in(tmp_path / "fresh"), tmp_path / "run"

    def check() -> None:
        assert artefacts_in(run) == expected
        assert prepare(audio, run, new).was_done

    assert killed_at_each_step(lambda: prepare(audio, run, new, overwrite=True), tmp_path / "old", run, check) > 15


def test_labels_killed_while_they_are_put_in_place_end_right(audio: Path, tmp_path: Path, cli: Cli) -> None:
    cli("kmeans", audio, "--out", tmp_path / "a.safetensors", "--clusters", 4, "--workers", 1)
    cli("kmeans", audio, "--out", tmp_path / "b.safetensors", "--clusters", 3, "--workers", 1)
    label = ["units", audio, "--workers", 1, "--overwrite"]
    cli(*label, "--out", tmp_path / "old", "--codebook", tmp_path / "a.safetensors", "--form", "km,rle,units")
    new = [*label, "--codebook", tmp_path / "b.safetensors"]
    cli(*new, "--out", tmp_path / "fresh")
    expected, out = artefacts_in(tmp_path / "fresh"), tmp_path / "u"

    def check() -> None:
        assert artefacts_in(out) == expected

    assert killed_at_each_step(lambda: cli(*new, "--out", out), tmp_path / "old", out, check) > 8


def test_results_come_into_place_in_order(audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The summary goes first and comes last; a header comes before its labels, which would be foreign without one."""
    prepare(audio, tmp_path / "run", SETTINGS)
    results = set(artefacts_in(tmp_path / "run"))
    steps: list[str] = []
    replace, unlink = Path.replace, Path.unlink
    monkeypatch.setattr(Path, "replace", lambda path, target: (steps.append(f"+{target.name}"), replace(path, target))[1])
    monkeypatch.setattr(Path, "unlink", lambda path, **rest: (steps.append(f"-{path.name}"), unlink(path, **rest))[1])
    prepare(audio, tmp_path / "run", Preparation(fit=FitSettings(clusters=5), valid_percent=0.2), overwrite=True)
    placed = [step for step in steps if step[1:] in results]
    # Each is written to the folder where results wait, which renames it there, and then put in place.
    waiting, placed = placed[: len(results)], placed[len(results) :]
    assert {step[1:] for step in waiting} == results
    assert placed[0] == "-summary.json"
    assert placed[-1] == "+summary.json"
    assert {step[1:] for step in placed} == results
    for split in ("train", "valid"):
        assert placed.index(f"+{split}.km.json") < placed.index(f"+{split}.km")


def test_two_forms_of_the_same_labels_are_both_done(audio: Path, tmp_path: Path, cli: Cli) -> None:
    cli("kmeans", audio, "--out", tmp_path / "km.safetensors", "--clusters", 4, "--workers", 1)
    label = ["units", audio, "--codebook", tmp_path / "km.safetensors", "--out", tmp_path / "u", "--workers", 1, "--form"]
    cli(*label, "km")
    cli(*label, "rle")
    assert "done already" in cli(*label, "km")
    assert "done already" in cli(*label, "rle")
    (tmp_path / "u" / "units.rle").write_text("1:2\n")
    cli(*label, "km")
    assert "units.rle was changed after it was written" in cli(*label, "rle", fails=True)


def test_large_results_are_told_by_their_time(audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vocable.recipes.workplace._DIGESTED", 100)
    prepare(audio, tmp_path / "run", SETTINGS)
    assert prepare(audio, tmp_path / "run", SETTINGS).was_done
    content = (tmp_path / "run" / "train.km").read_bytes()
    (tmp_path / "run" / "train.km").write_bytes(bytes([content[0] ^ 1]) + content[1:])
    with pytest.raises(InputError, match=r"train\.km was changed after it was written"):
        prepare(audio, tmp_path / "run", SETTINGS)


def dump(audio: Path, out: Path) -> None:
    dump_source(audio, out, "x", FrameChoice(), CorpusSettings(), Work())


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a second filesystem at /dev/shm")
def test_a_work_folder_on_another_filesystem_is_no_matter(audio: Path, tmp_path: Path) -> None:
    elsewhere = Path("/dev/shm") / f"vocable-{tmp_path.name}-{os.getpid()}"
    try:
        for name, run in {"run": lambda out: prepare(audio, out, SETTINGS), "f": lambda out: dump(audio, out)}.items():
            (tmp_path / name).mkdir()
            (elsewhere / name).mkdir(parents=True)
            (tmp_path / name / ".vocable").symlink_to(elsewhere / name)
            run(tmp_path / name)
            run(tmp_path / f"plain-{name}")
            assert artefacts_in(tmp_path / name) == artefacts_in(tmp_path / f"plain-{name}")
    finally:
        shutil.rmtree(elsewhere, ignore_errors=True)


def test_a_codebook_that_could_not_be_written_is_found_again_in_one_pass(
    audio: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["kmeans", audio, "--out", tmp_path / "km.safetensors", "--clusters", 30, "--workers", 1]
    passes: list[str] = []
    start = lloyd._Fitter.best_start
    note = lloyd._Fitter._note
    monkeypatch.setattr(lloyd._Fitter, "best_start", lambda self: (passes.append(""), start(self))[1])
    monkeypatch.setattr(lloyd._Fitter, "_note", lambda self, progress: (passes.append(""), note(self, progress))[1])
    with monkeypatch.context() as patch:
        patch.setattr(Codebook, "write", lambda *_: (_ for _ in ()).throw(DiskFullError("no space left to write it")))
        assert "no space left" in cli(*arguments, fails=True)
    assert passes
    passes.clear()
    cli(*arguments)
    assert passes == []
    assert not list((tmp_path / ".vocable").glob("k-means-*.safetensors"))


def test_refusals_while_results_are_written_name_their_place(audio: Path, tmp_path: Path, cli: Cli) -> None:
    """Not that where they wait, which nobody knows."""
    (tmp_path / "wav.scp").write_text("".join(f"{at} {audio}/{at}.wav\n" for at in range(6)))
    (tmp_path / "m.csv").write_text("id,path,channel\n" + "".join(f"{at},{audio}/{at}.wav,1\n" for at in range(6)))
    error = cli("manifest", tmp_path / "m.csv", "--out", tmp_path / "m.tsv", fails=True)
    assert f"{tmp_path}/m.tsv: a .tsv can't say which channel to take" in error
    assert ".part" not in error


def test_of_two_runs_of_the_same_the_slower_leaves_what_stands(tmp_path: Path) -> None:
    (tmp_path / ".vocable").mkdir()
    slower, faster = (workplace.Claim.of(tmp_path / ".vocable", "x", {"clusters": 1}, [tmp_path / "x.km"]) for _ in range(2))
    with slower.taken(overwrite=False) as mine:
        (mine / "x.km").write_text("1\n")
        with faster.taken(overwrite=False) as others:
            (others / "x.km").write_text("1\n")
        stands = (tmp_path / "x.km").stat().st_ino
    assert (tmp_path / "x.km").stat().st_ino == stands
    assert slower.is_settled()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".vocable", "x.km"]
