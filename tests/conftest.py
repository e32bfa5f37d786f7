"""What the tests share: made audio, the command line, and the folder `../shared` where it is there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from helpers import write_audio
from vocable.cli.main import run

if not Path("/dev/nvidia0").exists():
    os.environ["TRITON_INTERPRET"] = "1"  # before anything imports Triton, whose kernels are tested on the CPU then

settings.register_profile("vocable", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("vocable")

SHARED = Path(__file__).resolve().parents[2] / "shared"
_skipped_shared: list[str] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark whatever asks for `../shared`, and skip it where real speech and golden files are not at hand.

    Slow tests come first, so that no process is left with one at the end while the others have nothing to do.
    """
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    for item in items:
        if "shared" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.shared)
        if not SHARED.is_dir() and item.get_closest_marker("shared"):
            item.add_marker(pytest.mark.skip(reason="needs ../shared: real speech and golden files"))


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.skipped:  # a whole file: nobody knows which of its tests are of real speech
        _skipped_shared.append(report.nodeid)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and "shared" in report.keywords:
        _skipped_shared.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A check that could run and didn't is no check: skips of `shared` tests fail the run where ../shared is there."""
    if SHARED.is_dir() and _skipped_shared:
        print(f"\nskipped though ../shared is there: {', '.join(_skipped_shared)}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def shared() -> Path:
    return SHARED


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 utterances of three speakers, 0.3 to 4 seconds, in nested folders."""
    root = tmp_path_factory.mktemp("corpus")
    for number in range(24):
        speaker = f"s{number % 3}"
        write_audio(root / speaker / f"{speaker}-{number:02d}.flac", 0.3 + (number * 37 % 24) / 6.5, number)
    return root


@pytest.fixture
def short_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of five seconds: about ten of the corpus, and more than one of each split."""
    monkeypatch.setattr("vocable.audio.blocks.blocks_of.__defaults__", (5.0,))


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run `vocable ARGUMENTS` in this process; return what it prints, or raise if it fails."""

    def call(*arguments: object, fails: bool = False) -> str:
        capsys.readouterr()
        status = run([str(item) for item in arguments])
        captured = capsys.readouterr()
        assert (status != 0) == fails, captured.out + captured.err
        return captured.err if fails else captured.out

    return call
