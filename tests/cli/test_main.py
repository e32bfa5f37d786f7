from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import vocable
from helpers import run_vocable

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
    run_vocable("prepare", corpus, "--out", tmp_path / "run", "--clusters", 5)
    command = f"{sys.executable} -m vocable inspect {tmp_path / 'run'} | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr


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
    assert "pip install 'vocable[demo]'" in cli("demo", "--out", tmp_path / "demo", fails=True)
