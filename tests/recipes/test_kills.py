"""`prepare` killed at random moments and run again: the same bytes, little repeated, nothing left running.

What is repeated is counted in blocks of work that a ledger holds. Frames that a fit holds in memory are in none, since no frame
touches the disk: a kill during the fit costs making those of its sample again.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from helpers import artefacts_in, write_audio

ROUNDS = 10


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifteen blocks of two minutes."""
    root = tmp_path_factory.mktemp("audio")
    for at in range(60):
        write_audio(root / f"s{at % 4}" / f"{at:03}.flac", 30.0, at)
    return root


def start(audio: Path, out: Path, *options: str) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-m",
        "vocable",
        "prepare",
        audio,
        "--out",
        out,
        "--clusters",
        "30",
        "--workers",
        "2",
        "--valid-percent",
        "0.1",
        *options,
    ]
    return subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


@pytest.fixture(scope="module")
def undisturbed(audio: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], float]:
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    begun = time.monotonic()
    assert start(audio, out).wait(timeout=300) == 0
    return artefacts_in(out), time.monotonic() - begun


def workers_of(pid: int) -> list[int]:
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def ledger_lines(out: Path) -> list[bytes]:
    return [line for path in (out / ".vocable" / "ledger").glob("*.jsonl") for line in path.read_bytes().split(b"\n")[:-1]]


def repeated_blocks(out: Path) -> int:
    """Return how many blocks of work stand in the ledger more than once."""
    entries = [json.loads(line) for line in ledger_lines(out)]
    counts = Counter((entry["stage"], entry["key"]) for entry in entries)
    return sum(counts.values()) - len(counts)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("victim", ["parent", "worker", "group"])
def test_ten_kills_at_random_moments_change_nothing(
    audio: Path, undisturbed: tuple[dict[str, bytes], float], tmp_path: Path, victim: str
) -> None:
    expected, duration = undisturbed
    moments = random.Random(victim)
    for round_number in range(ROUNDS):
        out = tmp_path / str(round_number)
        process, workers = at_a_moment(audio, out, moments.uniform(0.1, 0.9) * duration)
        try:
            if victim == "parent":
                os.kill(process.pid, signal.SIGKILL)
            elif victim == "worker":
                os.kill(moments.choice(workers), signal.SIGKILL)
            else:
                os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it had just finished
        process.wait(timeout=300)
        deadline = time.monotonic() + 10
        while any(map(is_running, workers)) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not [pid for pid in workers if is_running(pid)], "orphans"
        assert start(audio, out).wait(timeout=300) == 0
        assert artefacts_in(out) == expected
        assert repeated_blocks(out) <= 2
        assert not list(out.rglob("*.part"))


def at_a_moment(audio: Path, out: Path, moment: float) -> tuple[subprocess.Popen[bytes], list[int]]:
    """Start a run, and return it with its workers some seconds later; at an earlier moment if it has ended by then."""
    while True:
        process, begun = start(audio, out), time.monotonic()
        workers: list[int] = []
        while process.poll() is None and not (workers and time.monotonic() - begun >= moment):
            time.sleep(0.005)
            workers = workers_of(process.pid)
        if process.poll() is None:
            return process, workers
        shutil.rmtree(out)
        moment /= 2


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_many_kills_of_one_run_still_end_in_the_same_bytes(audio: Path, tmp_path: Path) -> None:
    """Each run is killed after a few blocks, so that the work is done in many pieces, whatever the machine's speed.

    The fit is to half of the utterances: labels of what it is fitted to come all at once.
    """
    options = ("--fraction", "0.5")
    assert start(audio, tmp_path / "undisturbed", *options).wait(timeout=300) == 0
    amounts, out = random.Random(0), tmp_path / "run"
    kills, running = 0, True
    while running:
        before, wanted = len(ledger_lines(out)), amounts.randint(1, 3)
        process = start(audio, out, *options)
        while (running := process.poll() is None) and len(ledger_lines(out)) < before + wanted:
            time.sleep(0.005)
        if running:
            os.killpg(process.pid, signal.SIGKILL)
            kills += 1
        process.wait()
    assert kills >= 3
    assert process.returncode == 0
    assert artefacts_in(out) == artefacts_in(tmp_path / "undisturbed")
    assert repeated_blocks(out) <= 2 * kills
