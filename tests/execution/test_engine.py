from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from execution.jobs import Dies, DiesOpening, Fails, Kills, Refused, Slow, Square, Unsendable
from vocable.errors import InputError, VocableError, WorkerError
from vocable.execution import Engine, Work, run_shards
from vocable.execution.engine import check_device


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_outcomes_come_in_the_order_of_the_shards(workers: int) -> None:
    outcomes = list(run_shards(Slow(), range(30), Work(workers=workers)))
    assert [(item.shard, item.result, item.failure) for item in outcomes] == [(at, at, None) for at in range(30)]


def test_one_worker_is_this_process_and_several_are_others() -> None:
    pids = {item.result[2] for item in run_shards(Square(), range(4), Work()) if item.result}
    assert pids == {os.getpid()}
    pids = {item.result[2] for item in run_shards(Square(), range(40), Work(workers=2)) if item.result}
    assert os.getpid() not in pids
    assert len(pids) <= 2


def test_workers_take_the_devices_in_turn() -> None:
    work = Work(workers=2, devices=("cpu", "mps"))
    devices = {item.result[1] for item in run_shards(Square(), range(200), work) if item.result}
    assert devices == {"cpu", "mps"}


def test_workers_stay_for_the_next_job() -> None:
    with Engine(Work(workers=2)) as engine:
        first = [item.result for item in engine.run_shards(Square(), range(50))]
        second = [item.result for item in engine.run_shards(Square(offset=1), range(50))]
    assert [value for value, *_ in second if value is not None] == [value + 1 for value, *_ in first if value is not None]  # type: ignore[misc]
    assert {pid for *_, pid in second} <= {pid for *_, pid in first}  # type: ignore[misc]


@pytest.mark.parametrize("workers", [1, 2])
def test_what_the_user_can_mend_is_raised_as_it_is(workers: int) -> None:
    with pytest.raises(InputError, match="three is bad"):
        list(run_shards(Fails("mendable"), range(10), Work(workers=workers)))
    with pytest.raises(InputError, match="can't be opened"):
        list(run_shards(Fails("open"), range(10), Work(workers=workers)))


def test_answers_that_cannot_be_sent_are_no_killed_worker() -> None:
    found = list(run_shards(Unsendable(), [0, 2], Work(workers=2)))
    assert [item.result for item in found] == [0, None]
    assert "pickle" in (found[1].failure or "")
    with pytest.raises(VocableError, match="^one is odd, since it is$"):
        list(run_shards(Unsendable(), [0, 1], Work(workers=2)))


def test_there_are_no_more_workers_than_shards() -> None:
    outcomes = list(run_shards(Square(), range(3), Work(workers=100_000)))
    assert len({pid for _, _, pid in (item.result for item in outcomes)}) <= 3  # type: ignore[misc]


def test_a_shard_that_kills_its_worker_once_is_done_by_the_next(tmp_path: Path) -> None:
    outcomes = list(run_shards(Kills((2, 5), str(tmp_path)), range(8), Work(workers=2)))
    assert [item.result for item in outcomes] == list(range(8))


@pytest.mark.parametrize(("how", "name"), [(signal.SIGKILL, "SIGKILL, often for want of memory"), (signal.SIGSEGV, "SIGSEGV")])
def test_a_shard_that_kills_its_worker_each_time_is_set_aside_and_named(how: int, name: str) -> None:
    outcomes = list(run_shards(Kills((2,), how=how), range(6), Work(workers=2)))
    assert [item.result for item in outcomes] == [0, 1, None, 3, 4, 5]
    assert outcomes[2].failure == f"it ended its worker process 4 times ({name})"


def test_a_worker_that_is_killed_while_it_begins_is_replaced(tmp_path: Path) -> None:
    assert [item.result for item in run_shards(DiesOpening(str(tmp_path)), range(20), Work(workers=2))] == list(range(20))


def test_what_the_system_refuses_a_worker_is_a_sentence() -> None:
    with pytest.raises(VocableError, match=r"^/nowhere/at all: no such file or directory: it isn't there"):
        list(run_shards(Refused(), [2, 2], Work(workers=2)))
    with pytest.raises(VocableError, match="not enough memory: use fewer --workers"):
        list(run_shards(Refused(), [1, 1], Work(workers=2)))


def test_an_abandoned_map_leaves_the_next_one_its_own_results() -> None:
    """What a map that nobody reads any more still had under way must not be taken for the next one's."""
    with Engine(Work(workers=2)) as engine:
        for offset in range(5):
            outcomes = engine.run_shards(Square(offset), range(50))
            assert next(outcomes).result[0] == offset
            outcomes.close()
        last = [outcome.result[0] for outcome in engine.run_shards(Square(1000), range(50))]
    assert last == [number * number + 1000 for number in range(50)]


def test_workers_that_cannot_begin_are_no_endless_loop() -> None:
    with pytest.raises(WorkerError, match="ended before it began .exit status 7"):
        list(run_shards(Dies(), range(3), Work(workers=2)))


def test_a_consumer_may_stop_early() -> None:
    with Engine(Work(workers=2)) as engine:
        for item in engine.run_shards(Slow(), range(1000)):
            if item.shard == 3:
                break


def test_shards_are_drawn_only_a_bounded_number_ahead() -> None:
    drawn = 0

    def shards() -> object:
        nonlocal drawn
        for at in range(1000):
            drawn += 1
            yield at

    for item in run_shards(Slow(), shards(), Work(workers=2)):  # type: ignore[arg-type]
        assert drawn <= item.shard + 9
        if item.shard == 50:
            break


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "--workers 0"),
        ({"nshard": 2, "rank": 2}, "ranks run from 0 to 1"),
        ({"nshard": 0}, "--nshard 0: at least 1 is needed"),
        ({"engine": "dask"}, "--engine dask: it is local or ray"),
        ({"address": "auto"}, "--address auto goes with --engine ray"),
    ],
)
def test_impossible_work_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Work(**options)  # type: ignore[arg-type]


def test_devices_that_are_not_there_are_refused() -> None:
    assert check_device("cpu") == "cpu"
    with pytest.raises(InputError, match="--device cuda:99: there is no such device here"):
        check_device("cuda:99")
    with pytest.raises(InputError, match="--device gpu: no such kind"):
        check_device("gpu")


JOBS = Path(__file__).with_name("jobs.py")


def start(folder: Path, workers: int) -> subprocess.Popen[bytes]:
    (folder / "marks").mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, str(JOBS), str(folder), str(workers)], stderr=subprocess.DEVNULL, start_new_session=True
    )


def marks(folder: Path) -> Counter[int]:
    return Counter(int(path.name.split("-")[0]) for path in (folder / "marks").iterdir())


def children_of(pid: int) -> list[int]:
    """Return the processes that a process's threads started."""
    return [int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]


@pytest.mark.parametrize("victim", ["parent", "worker", "group"])
def test_a_kill_repeats_at_most_one_block_a_worker_and_leaves_no_orphan(tmp_path: Path, victim: str) -> None:
    process = start(tmp_path, 2)
    while not (tmp_path / "marks").exists() or sum(marks(tmp_path).values()) < 8:
        time.sleep(0.01)
    workers = children_of(process.pid)
    assert len(workers) == 2
    assert all(b"vocable.execution.worker" in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in workers)
    if victim == "parent":
        os.kill(process.pid, signal.SIGKILL)
    elif victim == "worker":
        os.kill(workers[0], signal.SIGKILL)
    else:
        os.killpg(process.pid, signal.SIGKILL)
    assert process.wait(timeout=60) == (0 if victim == "worker" else -signal.SIGKILL)
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not [pid for pid in workers if Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert start(tmp_path, 2).wait(timeout=60) == 0
    counts = marks(tmp_path)
    assert set(counts) == set(range(40))
    assert sum(counts.values()) <= 42


def test_one_blas_thread_is_kept_until_the_last_has_left() -> None:
    import threading

    import numpy as np  # noqa: F401
    from threadpoolctl import threadpool_info

    from vocable.execution.threads import single_threaded

    def threads() -> set[int]:
        return {int(item["num_threads"]) for item in threadpool_info() if item["user_api"] == "blas"}

    before, inside, leave = threads(), threading.Event(), threading.Event()

    def stay() -> None:
        with single_threaded():
            inside.set()
            leave.wait(10)

    with single_threaded():
        other = threading.Thread(target=stay)
        other.start()
        inside.wait(10)
    assert threads() == {1}
    leave.set()
    other.join()
    assert threads() == before
