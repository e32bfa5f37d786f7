from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import vocable
from helpers import run_vocable
from vocable.recipes import espeak

Cli = Callable[..., str]


def test_every_command_has_help(cli: Cli) -> None:
    for group, names in command_lists():
        for name in names:
            assert f"Usage: vocable {' '.join([*group, name])}" in cli(*group, name, "--help")


def command_lists() -> list[tuple[list[str], dict[str, str]]]:
    from vocable.cli.main import COMMANDS, GROUPS

    return [([], COMMANDS), *(([name], commands) for name, (_, commands) in GROUPS.items())]


def test_lists_of_commands_say_what_each_says_of_itself(cli: Cli) -> None:
    import importlib
    import inspect

    for group, commands in command_lists():
        listed = " ".join(line.strip("│ ") for line in cli(*group, "--help").splitlines())
        for name, says in commands.items():
            command = getattr(importlib.import_module(f"vocable.cli.{'.'.join(group) or name}"), name.replace("-", "_"))
            assert (inspect.getdoc(command) or "").partition("\n\n")[0] == says
            assert re.sub(r"\s+", " ", f"{name} {says}") in re.sub(r"\s+", " ", listed)


@pytest.mark.parametrize("arguments", [["--help"], [], ["fairseq", "--help"], ["--version"]])
def test_lists_of_commands_import_none_of_them(arguments: list[str]) -> None:
    script = (
        "import sys\nfrom vocable.cli.main import run\nrun(sys.argv[1:])\nprint('NumPy' if 'numpy' in sys.modules else 'light')"
    )
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("light\n")


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("prepare", 33),
        ("kmeans", 31),
        ("units", 23),
        ("manifest", 18),
        ("demo", 7),
        ("inspect", 5),
        ("convert", 2),
        ("features mfcc", 18),
        ("features logmel", 19),
        ("evaluate units", 8),
        ("evaluate frames", 20),
        ("train hubert", 6),
        ("pretrain", 6),
        ("report", 1),
        ("fairseq hydra_train", 4),
        ("fairseq wav2vec_manifest", 5),
        ("fairseq dump_mfcc_feature", 5),
        ("fairseq learn_kmeans", 13),
        ("fairseq preprocess", 7),
    ],
)
def test_every_option_says_what_it_does(cli: Cli, command: str, options: int) -> None:
    import re

    # An option begins a row; in the text of another it stands further to the right.
    rows = [line.strip("│ *") for line in cli(*command.split(), "--help").splitlines() if re.match(r"│ (\*?\s{2,3})?--", line)]
    assert len(rows) >= options
    for row in rows:
        _, *says = re.split(r"\s{2,}", row, maxsplit=1)
        assert says, row
        assert not says[0].startswith("["), row  # nothing but a default


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prepare"], "requires an argument|missing"),
        (["prepare", "a", "--out", "b", "--cluster", "3"], "Did you mean|--cluster"),
        (["nonsense"], "Unknown command"),
        (["prepare", "a", "--out", "b", "--workers", "x"], "unable to convert"),
        (["prepare", "a", "--out", "b", "--clusters", "2.6"], "'2.6' is no whole number"),
        (["prepare", "a", "--out", "b", "--form", "km,txt"], "'txt' is none of km, units, rle"),
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
    assert done.stderr == f"vocable: {tmp_path}/nowhere doesn't exist: give a folder of audio, or a manifest\n"
    assert not (tmp_path / "run").exists()


def test_ctrl_c_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    import vocable.cli.prepare

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(vocable.cli.prepare, "prepare_labels", interrupted)
    assert "run the same command again to go on" in cli("prepare", "x", "--out", "y", fails=True)


def test_a_reader_that_has_gone_is_no_traceback(corpus: Path, tmp_path: Path) -> None:
    """The pipe is closed before a word is written to it, whatever the machine's speed."""
    run_vocable("prepare", corpus, "--out", tmp_path / "run", "--clusters", 5)
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "vocable", "inspect", str(tmp_path / "run")]
    try:
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(writer)
    assert done.stderr == ""
    assert done.returncode == 1


@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&- <&-"])
def test_streams_that_a_scheduler_closed_are_not_missed(corpus: Path, tmp_path: Path, closed: str) -> None:
    command = f"{sys.executable} -m vocable prepare {corpus} --out {tmp_path / 'run'} --clusters 5 --workers 2 {closed}"
    assert subprocess.run(command, shell=True, check=False).returncode == 0
    assert (tmp_path / "run" / "train.km").exists()


def test_names_that_are_no_text_may_be_written_to_and_printed(corpus: Path, tmp_path: Path) -> None:
    out = os.fsencode(tmp_path) + b"/run\xfe"
    command = [sys.executable, "-m", "vocable", "prepare", corpus, "--out", out, "--clusters", "5"]
    done = subprocess.run(command, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"run\\udcfe" in done.stdout
    plain = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    done = subprocess.run([*command[:3], "inspect", out], capture_output=True, check=False, env=plain)
    assert (done.returncode, done.stderr) == (0, b"")


def test_ctrl_c_during_the_imports_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "cyclopts.py").write_text("raise KeyboardInterrupt\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "vocable", "--help"], capture_output=True, text=True, env=environment, check=False
    )
    assert (done.returncode, done.stderr) == (130, "vocable: stopped; run the same command again to go on\n")


def test_the_version_is_the_packages(cli: Cli) -> None:
    assert cli("--version").strip() == vocable.__version__


def test_importing_the_package_loads_neither_torch_nor_numpy() -> None:
    code = "import sys, vocable; print([name for name in ('torch', 'numpy', 'cyclopts', 'soundfile') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    code = "import sys; from vocable.cli.main import run; run(['--help']); print([n for n in ('torch', 'scipy') if n in sys.modules])"
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


def test_devices_that_are_not_there_are_refused(corpus: Path, tmp_path: Path, cli: Cli) -> None:
    arguments = ["prepare", corpus, "--out", tmp_path / "run", "--clusters", 4]
    assert "no such device here" in cli(*arguments, "--devices", "cpu,cuda:7", fails=True)
    assert "no such kind" in cli(*arguments, "--device", "gpu", fails=True)


def test_the_demo_ends_with_units_that_tell_phones(tmp_path: Path, cli: Cli) -> None:
    out = cli("demo", "--out", tmp_path / "demo", "--workers", 2)
    (row,) = (line.split() for line in out.splitlines() if line.startswith("│ PNMI  "))
    assert float(row[3]) > 0.2
    assert float(row[5]) < 0.05
    again = cli("demo", "--out", tmp_path / "demo", "--workers", 1)
    assert again.splitlines()[-6:] == out.splitlines()[-6:]


def test_the_demo_names_its_extra(tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    monkeypatch.setattr(espeak, "_begun", espeak._begun.__wrapped__)  # as in a process in which nothing was said
    assert "pip install 'vocable[demo]'" in cli("demo", "--out", tmp_path / "demo", fails=True)
