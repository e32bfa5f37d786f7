from __future__ import annotations

import io
from pathlib import Path

import pytest

from execution.jobs import Block, KillsBlock, Writes
from vocable.errors import DiskFullError, InputError
from vocable.execution import Engine, Work
from vocable.execution import progress as progress_module
from vocable.execution.ledger import Ledger
from vocable.execution.progress import Progress, duration, progress, status_line
from vocable.execution.stages import Stage


def test_what_was_appended_is_found_by_stage_and_key(tmp_path: Path) -> None:
    writer = Ledger(tmp_path)
    writer.append("s", "three", b"three", {"n": 1})
    writer.append("s", "none", b"", {})
    writer.append("t", "x", b"x", {})
    ledger = Ledger(tmp_path)
    found = ledger.entries("s")
    assert sorted(found) == ["none", "three"]
    assert (ledger.read(found["three"]), found["three"].summary) == (b"three", {"n": 1})
    assert ledger.read(found["none"]) == b""
    assert ledger.entries("u") == {}


def test_several_writers_are_merged_and_a_block_done_twice_counts_once(tmp_path: Path) -> None:
    for _ in range(3):
        Ledger(tmp_path).append("s", "a", b"same", {})
    Ledger(tmp_path).append("s", "b", b"one", {})
    assert len(list((tmp_path / "ledger").iterdir())) == 4
    found = Ledger(tmp_path).entries("s")
    assert {key: Ledger(tmp_path).read(entry) for key, entry in found.items()} == {"a": b"same", "b": b"one"}


def test_what_was_done_counts_more_than_what_was_given_up(tmp_path: Path) -> None:
    Ledger(tmp_path).give_up("s", "a", "it died")
    assert Ledger(tmp_path).entries("s")["a"].failure == "it died"
    Ledger(tmp_path).append("s", "a", b"x", {})
    Ledger(tmp_path).give_up("s", "a", "it died again")
    assert Ledger(tmp_path).entries("s")["a"].failure is None


def test_a_line_cut_short_by_a_kill_is_passed_over(tmp_path: Path) -> None:
    writer = Ledger(tmp_path)
    for block in range(3):
        writer.append("s", str(block), b"x" * 10, {})
    (lines,) = (tmp_path / "ledger").iterdir()
    whole = lines.read_bytes()
    for cut in range(len(whole)):
        lines.write_bytes(whole[:cut])
        assert sorted(Ledger(tmp_path).entries("s")) == list("012")[: whole[:cut].count(b"\n")]
    lines.write_bytes(whole[:-5] + b"\n" + whole)
    assert sorted(Ledger(tmp_path).entries("s")) == list("012")


def test_a_result_that_is_gone_or_too_short_is_not_done(tmp_path: Path) -> None:
    writer = Ledger(tmp_path)
    writer.append("s", "a", b"x" * 10, {})
    writer.append("s", "b", b"y" * 10, {})
    (results,) = (tmp_path / "blocks").iterdir()
    results.write_bytes(results.read_bytes()[:15])
    assert sorted(Ledger(tmp_path).entries("s")) == ["a"]
    results.unlink()
    assert Ledger(tmp_path).entries("s") == {}


def test_a_damaged_result_is_refused_with_the_remedy(tmp_path: Path) -> None:
    entry = Ledger(tmp_path).append("s", "a", b"x" * 10, {})
    (results,) = (tmp_path / "blocks").iterdir()
    results.write_bytes(b"x" * 9 + b"y")
    with pytest.raises(InputError, match=r"\.bin is damaged at byte 0: remove it and run the same command again"):
        Ledger(tmp_path).read(entry)


def test_a_full_disk_leaves_the_block_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    writer = Ledger(tmp_path)
    writer.append("s", "a", b"x" * 10, {})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(DiskFullError):
            writer.append("s", "b", b"y" * 10_000, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sorted(Ledger(tmp_path).entries("s")) == ["a"]
    Ledger(tmp_path).append("s", "b", b"y", {})
    assert sorted(Ledger(tmp_path).entries("s")) == ["a", "b"]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stage_does_only_what_is_missing(tmp_path: Path, workers: int) -> None:
    (tmp_path / "marks").mkdir()
    stage, job = Stage("s", "k", tmp_path / "work"), Writes(str(tmp_path / "marks"))
    with Engine(Work(workers=workers)) as engine:
        shown = Progress("x", 9, "blocks", io.StringIO())
        first = stage.run(job, [Block(at) for at in (0, 3, 4)], engine, shown)
        assert (first.missing, [block.index for block, _ in first.done()]) == (0, [0, 3, 4])
        mine = stage.run(job, [Block(at) for at in range(6)], engine, shown, slice(0, 2))
        assert (mine.missing, [block.index for block, _ in mine.done()]) == (2, [0, 1, 3, 4])
        second = stage.run(job, [Block(at) for at in range(6)], engine, shown)
    assert len(list((tmp_path / "marks").iterdir())) == 6
    assert [(block.index, content) for block, _, content in second.results()] == [(at, b"x" * at) for at in range(6)]
    assert [entry.summary for _, entry in second.done()] == [{"index": at} for at in range(6)]


def test_results_belong_to_what_they_depend_on_not_to_a_place(tmp_path: Path) -> None:
    """A block is known by its content wherever it stands; other settings or another content are other work."""
    (tmp_path / "marks").mkdir()
    job, shown = Writes(str(tmp_path / "marks")), Progress("x", 9, "blocks", io.StringIO())

    def blocks_done_by(depends_on: str, *blocks: Block) -> list[bytes]:
        with Engine(Work()) as engine:
            finished = Stage("s", depends_on, tmp_path / "work").run(job, list(blocks), engine, shown)
        return [content for _, _, content in finished.results()]

    assert blocks_done_by("k", Block(1), Block(2)) == [b"x", b"xx"]
    assert blocks_done_by("k", Block(2), Block(3), Block(1)) == [b"xx", b"xxx", b"x"]
    assert len(list((tmp_path / "marks").iterdir())) == 3
    assert blocks_done_by("other settings", Block(1)) == [b"x"]
    assert len(list((tmp_path / "marks").iterdir())) == 4


def test_blocks_that_kill_are_set_aside_with_their_reason_and_tried_again(tmp_path: Path) -> None:
    stage, shown = Stage("s", "k", tmp_path), Progress("x", 5, "", io.StringIO())
    with Engine(Work(workers=2)) as engine:
        finished = stage.run(KillsBlock(2), [Block(at) for at in range(5)], engine, shown)
    assert [block.index for block, _ in finished.done()] == [0, 1, 3, 4]
    ((block, reason),) = finished.given_up()
    assert block == Block(2)
    assert "4 times" in reason
    assert finished.missing == 0
    with Engine(Work(workers=2)) as engine:
        again = stage.run(KillsBlock(9), [Block(at) for at in range(5)], engine, shown)
    assert [block.index for block, _ in again.done()] == list(range(5))


def test_without_a_terminal_a_line_is_printed_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 10.0, 31.0, 45.0, 62.0])
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: next(clock))
    out = io.StringIO()
    with progress("units", 7200.0, stream=out) as shown:
        shown.pass_over(3600.0)
        for _ in range(4):
            shown.advance(600.0)
    lines = out.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0] == "units: 33%, 0.3 of 1.0 h of audio, 39 audio-hours per hour, 62 s left"


def test_on_a_terminal_there_is_a_bar() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    with progress("scan", 10, "files", stream=out) as shown:
        shown.pass_over(2)
        shown.advance(5)
        shown.note("pass 7")
    assert "scan" in out.getvalue()


@pytest.mark.parametrize(("seconds", "text"), [(0, "0 s"), (89, "89 s"), (600, "10 min"), (7200, "2.0 h")])
def test_durations_are_rounded(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_status_lines_of_nothing_are_whole() -> None:
    assert status_line("x", 0, 0, 0) == "x: 100%, 0.0 of 0.0 h of audio, 0 audio-hours per hour, time unknown"
    assert status_line("scan", 5, 10, 1, "files") == "scan: 50%, 5 of 10 files, 5 files a second, 1 s left"
