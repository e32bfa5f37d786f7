"""What becomes of shards whose workers, machines or jobs fail: nothing is lost, and what is to blame is named."""

from __future__ import annotations

import itertools
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from execution.jobs import Basket, Fails, FailsOften, Poisoned
from vocable.errors import InputError, WorkerError
from vocable.execution import Engine, Work, run_shards
from vocable.execution.crew import Answer, Died, Done, Failed, Gone, Mendable
from vocable.execution.supervision import ALONE, DEATHS, SEARCHES, TRIES, WHOLE, SetAside, Supervision


class FakeCrew:
    """Answers as a script says: a function of how often a shard was given out, and the shard; None for no answer yet."""

    title = "process"

    def __init__(self, script: Callable[[int, Any], Answer | None], slots: int = 2, uneven: bool = False) -> None:
        self._script, self._slots, self.uneven = script, slots, uneven
        self.given: list[Any] = []
        self._waiting: list[tuple[int, Answer | None]] = []
        self.most = 0

    def begin(self, job: Any) -> None:
        del job

    def slots(self) -> int:
        return self._slots

    def give(self, ticket: int, shard: Any) -> None:
        self._waiting.append((ticket, self._script(self.given.count(shard), shard)))
        self.given.append(shard)
        self.most = max(self.most, len(self._waiting))

    def hear(self, timeout: float | None) -> tuple[int, Answer] | None:
        for at, (ticket, answer) in reversed(list(enumerate(self._waiting))):  # the last given is the first to answer
            if answer is not None:
                del self._waiting[at]
                return ticket, answer
        assert timeout is not None, "nobody would ever answer"
        time.sleep(0.01)
        return None

    def end(self) -> None:
        self._waiting.clear()


def outcomes(crew: FakeCrew, shards: Any) -> list[Any]:
    return [result for _, result in Supervision(crew).map(None, shards)]


def test_machines_that_go_are_replaced_without_end() -> None:
    crew = FakeCrew(lambda times, shard: Gone("its node died") if times < 50 and shard == 3 else Done(shard))
    assert outcomes(crew, range(8)) == list(range(8))
    assert crew.given.count(3) == 51


def test_what_fails_is_tried_a_few_times_and_then_set_aside(capsys: pytest.CaptureFixture[str]) -> None:
    crew = FakeCrew(lambda times, shard: Failed("Traceback\nKeyError: 'x'\n") if shard == 3 else Done(shard))
    assert outcomes(crew, range(5)) == [0, 1, 2, SetAside(f"it failed {TRIES} times (KeyError: 'x')"), 4]
    assert crew.given.count(3) == TRIES
    assert "KeyError: 'x'" in capsys.readouterr().err
    crew = FakeCrew(lambda times, shard: Failed("KeyError") if shard == 3 and times < TRIES - 1 else Done(shard))
    assert outcomes(crew, range(5)) == list(range(5))


def test_a_job_that_fails_on_everything_ends_the_run() -> None:
    crew = FakeCrew(lambda times, shard: Failed("Traceback\nKeyError: 'x'"))
    with pytest.raises(WorkerError, match="(?s)a worker failed:.*KeyError: 'x'"):
        outcomes(crew, range(1000))
    assert len(set(crew.given)) < 10


def test_what_the_user_can_mend_ends_the_run_at_once() -> None:
    crew = FakeCrew(lambda times, shard: Mendable(InputError("three is bad")) if shard == 3 else Done(shard))
    with pytest.raises(InputError, match="three is bad"):
        outcomes(crew, range(1000))
    assert len(crew.given) < 10


def test_a_shard_that_cannot_be_divided_is_set_aside_after_a_few_deaths() -> None:
    crew = FakeCrew(lambda times, shard: Died("SIGSEGV") if shard == 3 else Done(shard))
    assert outcomes(crew, range(5))[3] == SetAside(f"it ended its process {WHOLE} times (SIGSEGV)")
    assert crew.given.count(3) == WHOLE


@pytest.mark.parametrize("poison", [{7}, {0}, {15}, {2, 3, 11}, set(range(16))])
def test_items_that_end_their_process_are_found_by_halves(poison: set[int]) -> None:
    def script(times: int, shard: Basket) -> Answer:
        return Died("SIGSEGV") if poison & set(shard.left) else Done((shard.number, shard.left))

    crew = FakeCrew(script)
    found = outcomes(crew, [Basket(at, tuple(range(16))) if at == 2 else Basket(at, (99,)) for at in range(5)])
    assert [number for number, _ in found] == list(range(5))
    assert found[2][1] == tuple(sorted(set(range(16)) - poison))
    if len(poison) == 1:
        assert len([shard for shard in crew.given if shard.number == 2]) <= DEATHS + 2 * 4 + ALONE


def test_items_found_once_are_passed_over_in_later_jobs() -> None:
    crew = FakeCrew(lambda times, shard: Died("SIGSEGV") if 7 in shard.left else Done(shard.left))
    supervision = Supervision(crew)
    for again in (False, True):
        crew.given.clear()
        assert [result for _, result in supervision.map(None, [Basket(0, (6, 7, 8))])] == [(6, 8)]
        assert (len(crew.given) == 1) == again


def test_processes_that_anybody_may_have_ended_are_no_items_fault() -> None:
    """A shard whose process was killed again and again, but not by an item, is done whole."""
    crew = FakeCrew(lambda times, shard: Died("SIGKILL") if times < 5 and len(shard.left) > 1 else Done(shard.left))
    assert outcomes(crew, [Basket(0, (1, 2, 3))]) == [(1, 2, 3)]
    crew = FakeCrew(lambda times, shard: Died("SIGKILL") if len(shard.left) > 2 else Done(shard.left))
    (last,) = outcomes(crew, [Basket(0, (1, 2, 3))])
    assert isinstance(last, SetAside)
    assert crew.given.count(Basket(0, (1, 2, 3))) == DEATHS * (SEARCHES + 1)


def test_what_is_late_is_given_out_twice_and_the_first_answer_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vocable.execution.supervision._LEAST_LATE", 0.05)
    monkeypatch.setattr("vocable.execution.supervision._GLANCE", 0.01)

    def script(times: int, shard: int) -> Answer | None:
        return None if shard == 5 and not times else Done((shard, times))

    crew = FakeCrew(script, uneven=True)
    assert outcomes(crew, range(12)) == [(at, int(at == 5)) for at in range(12)]
    assert crew.given.count(5) == 2
    even = FakeCrew(lambda times, shard: Done(shard), uneven=False)
    assert outcomes(even, range(12)) == list(range(12))
    assert max(map(even.given.count, range(12))) == 1


def test_a_bounded_number_is_under_way() -> None:
    drawn = itertools.count()
    crew = FakeCrew(lambda times, shard: Done(shard), slots=3)
    found: Iterator[Any] = Supervision(crew).map(None, (next(drawn) for _ in range(1000)))
    for _, result in found:
        if result == 100:
            break
    assert next(drawn) <= 100 + 13
    assert crew.most <= 6


@pytest.mark.parametrize("workers", [1, 2])
def test_a_bug_on_one_shard_sets_it_aside(workers: int, tmp_path: Path) -> None:
    found = list(run_shards(Fails("bug"), range(6), Work(workers=workers)))
    assert [item.result for item in found] == [0, 1, 2, None, 4, 5]
    assert found[3].failure == "it failed 3 times (ZeroDivisionError: a bug)"
    with pytest.raises(WorkerError, match="(?s)a worker failed:.*in run.*ZeroDivisionError: a bug"):
        list(run_shards(Fails("bug"), [3], Work(workers=workers)))
    found = list(run_shards(FailsOften(str(tmp_path), 2), range(3), Work(workers=workers)))
    assert [item.result for item in found] == [0, 1, 2]


@pytest.mark.parametrize("how", [signal.SIGSEGV, signal.SIGKILL])
def test_a_poisonous_item_is_named_and_the_rest_done(how: int) -> None:
    shards = [Basket(at, tuple(range(10 * at, 10 * at + 10))) for at in range(4)]
    with Engine(Work(workers=2)) as engine:
        for _ in range(2):
            found = [item.result for item in engine.run_shards(Poisoned((17,), how), shards)]
            assert found == [tuple(item for item in shard.items if item != 17) for shard in shards]


def test_what_a_job_finds_beside_what_is_known_is_left_out_with_it() -> None:
    poison = {7}
    crew = FakeCrew(lambda times, shard: Died("SIGSEGV") if poison & set(shard.left) else Done(shard.left))
    supervision = Supervision(crew)
    assert [result for _, result in supervision.map(None, [Basket(0, (6, 7, 8))])] == [(6, 8)]
    poison |= {8}
    crew.given.clear()
    assert [result for _, result in supervision.map(None, [Basket(0, (6, 7, 8))])] == [(6,)]
    assert all(7 not in shard.left for shard in crew.given)


def test_jobs_that_keep_their_results_go_further_ahead_of_a_slow_machine() -> None:
    class Keeps:
        returns_nothing = True

    for job, most in ((None, 4 * 2), (Keeps(), 64 * 2)):
        crew = FakeCrew(lambda times, shard: Done(shard))  # the first shard is the last to be answered
        found = Supervision(crew).map(job, range(500))
        assert next(found)[0] == 0
        assert max(crew.given) == most - 1
        found.close()  # type: ignore[attr-defined]
