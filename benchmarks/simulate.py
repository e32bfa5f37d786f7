"""A million hours on paper: what planning, tracking and watching over them take, and what they would cost.

    python benchmarks/simulate.py [--utterances 100000000] [--blocks 10000000]

Four parts, each with the code that runs real work. *Planning*: lengths of utterances, made as they are asked for, are cut into
blocks and these into tasks. *Ledger*: blocks are looked up among ten thousand to ten million that are done. *Watching*:
`Supervision` gives tasks to simulated machines on a simulated clock, some of which are slow, die or lose their work, and whose
tasks some files end. *Costs*: what three sizes take on 1, 8 and 512 GPUs, from figures measured elsewhere in this folder, each of
which is named.
"""

from __future__ import annotations

import argparse
import hashlib
import heapq
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from harness import RESULTS, machine, peak_mib, versions
from numpy.typing import NDArray

from vocable.audio.blocks import BLOCK_SECONDS, block_ends
from vocable.execution.crew import Answer, Died, Done, Failed, Gone
from vocable.execution.ledger import Entries
from vocable.execution.supervision import SetAside, Supervision

_MEAN_SECONDS = 36.0
_RATE = 16000
_PART = 1 << 20  # utterances made at a time
_LOOKED_UP = 20_000


def lengths(count: int) -> Iterator[NDArray[np.int64]]:
    """Yield the samples of utterances, of 1 s to 5 minutes and 36 s on the average, a part at a time."""
    for first in range(0, count, _PART):
        drawn = np.random.default_rng(first).lognormal(np.log(_MEAN_SECONDS) - 0.32, 0.8, min(_PART, count - first))
        yield (np.clip(drawn, 1, 300) * _RATE).astype(np.int64)


def planned(count: int, tasks: int) -> dict[str, Any]:
    """Cut utterances into blocks, and blocks into tasks of about equally many."""
    begun = time.process_time()
    firsts, filled, first, samples = [np.zeros(1, np.uint32)], 0.0, 0, 0
    for part in lengths(count):
        ends, filled = block_ends(part, BLOCK_SECONDS * _RATE, filled)
        firsts.append((ends + first).astype(np.uint32))
        first += len(part)
        samples += int(part.sum())
    blocks = np.concatenate(firsts)
    done = np.zeros(-(-len(blocks) // 8), np.uint8)  # a bit for each
    bounds = np.linspace(0, len(blocks), tasks + 1).astype(np.int64)
    return {
        "utterances": count, "hours": samples / _RATE / 3600, "blocks": len(blocks), "tasks": len(bounds) - 1,
        "cpu_s": time.process_time() - begun, "plan_mib": (blocks.nbytes + done.nbytes + bounds.nbytes) / 2**20,
        "peak_mib": peak_mib(),
    }  # fmt: skip


def ledgers(most: int) -> list[dict[str, Any]]:
    """Open ledgers of more and more blocks, each in a process of its own, and look some up."""
    return [in_a_process("ledger", size) for size in (10**power for power in range(4, 9)) if size <= most]


def looked_up(count: int) -> dict[str, Any]:
    """Write a ledger of so many blocks, by eight writers, open it and look some up."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "ledger"
        folder.mkdir()
        for writer in range(8):
            with (folder / f"w{writer}.jsonl").open("w") as file:
                file.writelines(_line(writer, at) for at in range(count // 8))
        size = sum(path.stat().st_size for path in folder.iterdir())
        begun = time.process_time()
        entries = Entries(Path(place), "units")
        opened = time.process_time() - begun
        drawn = random.Random(0)
        keys = [_key(drawn.randrange(8), drawn.randrange(count // 8)) for _ in range(_LOOKED_UP)]
        begun = time.process_time()
        assert all(entries.get(key) is not None for key in keys)
        found = (time.process_time() - begun) / len(keys)
        assert _key(9, 0) not in entries
    return {"blocks": count, "mib": size / 2**20, "open_s": opened, "look_up_us": found * 1e6, "peak_mib": peak_mib()}


def _key(writer: int, at: int) -> str:
    return hashlib.sha256(f"{writer} {at}".encode()).hexdigest()


def _line(writer: int, at: int) -> str:
    return (
        f'{{"check":{at},"failure":null,"file":"w{writer}.bin","key":"{_key(writer, at)}","offset":{at * 100},"size":0,'
        '"spoiled":0,"stage":"units","summary":{"lengths":[1200,1100,900],"rows":[0,1,2],"skipped":[]}}\n'
    )


@dataclass(frozen=True)
class Task:
    """Blocks that go together, as the crew sees them."""

    number: int
    poison: str = ""
    spoiled: frozenset[str] = frozenset()

    @property
    def names(self) -> tuple[str, ...]:
        """Files in it; only those that matter here are named."""
        return tuple(filter(None, (f"{self.number}/first", self.poison, f"{self.number}/last")))

    def only(self, names: frozenset[str]) -> Task:
        return Task(self.number, self.poison, self.spoiled | (frozenset(self.names) - names))

    def without(self, names: frozenset[str]) -> Task:
        return Task(self.number, self.poison, self.spoiled | names)


class _Kept:
    """A job whose results machines keep."""

    returns_nothing = True


class Machines:
    """A crew of simulated machines: a clock, and a queue of what happens next.

    Args:
        slots: tasks done at a time.
        seconds: that a task takes on the average.
        seed: of all that happens.
    """

    title = "worker process"
    uneven = True

    def __init__(self, slots: int, seconds: float, seed: int = 0) -> None:
        self._slots, self._seconds, self._random = slots, seconds, random.Random(seed)
        self.now, self.worked, self.counts = 0.0, 0.0, dict.fromkeys(("died", "gone", "failed", "given"), 0)
        self._events: list[tuple[float, int, float, Answer]] = []
        self._free = [(0.0, at) for at in range(slots)]  # when each slot is free
        self._slow = {at for at in range(slots) if self._random.random() < 0.01}

    def clock(self) -> float:
        return self.now

    def begin(self, job: Any) -> None:
        del job

    def slots(self) -> int:
        return self._slots

    def give(self, ticket: int, shard: Task) -> None:
        self.counts["given"] += 1
        free, slot = heapq.heappop(self._free)
        takes = self._seconds * self._random.lognormvariate(-0.02, 0.2) * (9.0 if slot in self._slow else 1.0)
        chance = self._random.random()
        answer: Answer = Done(shard.number)
        if shard.poison and shard.poison not in shard.spoiled:
            answer, takes = Died("SIGSEGV"), takes * 0.5
        elif chance < 1e-4:
            answer, takes = Gone("its node died"), takes * self._random.random()
        elif chance < 3e-4:
            answer, takes = Died("SIGKILL"), takes * self._random.random()
        elif chance < 4e-4:
            answer = Failed("OSError: a disk that was slow to answer")
        self.counts["died"] += isinstance(answer, Died)
        self.counts["gone"] += isinstance(answer, Gone)
        self.counts["failed"] += isinstance(answer, Failed)
        end = max(free, self.now) + takes
        heapq.heappush(self._free, (end, slot))
        heapq.heappush(self._events, (end, ticket, takes, answer))

    def hear(self, timeout: float | None) -> tuple[int, Answer] | None:
        if timeout is not None and (not self._events or self._events[0][0] > self.now + timeout):
            self.now += timeout
            return None
        end, ticket, takes, answer = heapq.heappop(self._events)
        self.now = max(self.now, end)
        self.worked += takes
        return ticket, answer

    def end(self) -> None:
        self._events.clear()


def watched(tasks: int, slots: int, seconds: float) -> dict[str, Any]:
    """Let simulated machines do tasks, of which one in ten thousand holds a file that ends whoever reads it."""
    crew = Machines(slots, seconds)
    begun = time.process_time()
    shards = (Task(at, f"{at}/poison" if at % 10_000 == 17 else "") for at in range(tasks))
    finished = aside = 0
    for shard, result in Supervision(crew, crew.clock).map(_Kept(), shards):
        assert isinstance(result, SetAside) or result == shard.number
        finished += 1
        aside += isinstance(result, SetAside)
    cpu = time.process_time() - begun
    ideal = tasks * seconds / slots
    return {
        "tasks": tasks, "slots": slots, "task_s": seconds, "finished": finished, "set_aside": aside, **crew.counts,
        "hours": crew.now / 3600, "over_ideal": crew.now / ideal - 1, "us_a_task": cpu / tasks * 1e6, "peak_mib": peak_mib(),
    }  # fmt: skip


MEASURED = {
    "labels": (1606.0, "hours of FLAC to MFCC labels, K=100, an hour and core; end_to_end.md, 1 worker"),
    "layer": (10.96, "hours to layer 9 of HuBERT base, bfloat16, an hour and core of a Zen 4; encoders.md"),
    "assigned": (10e6 / 0.0517, "frames of 768 values labelled, K=500, a second and GPU; gpu.md, H200"),
    "trained": (4639.0, "hours of audio gone through by pretraining, base, bfloat16, an hour and GPU; pretraining_gpu.md, H100"),
}
"""What the arithmetic rests on, and where it was measured."""

_CORES = 16  # beside each GPU
_OF_A_STEP = 0.8 / 3  # a forward pass to layer 9 of 12 takes about so much of a training step, which has a backward pass, too


def costs() -> list[dict[str, Any]]:
    """Return what a job takes at three sizes on three clusters."""
    labels, _, assigned, trained = (figure for figure, _ in MEASURED.values())
    layer = trained / _OF_A_STEP
    rows = []
    for hours in (1e3, 1e5, 1e6):
        for gpus in (1, 8, 512):
            frames = hours * 3600 * 50
            rows.append({
                "hours": hours, "gpus": gpus, "cores": _CORES * gpus,
                "mfcc_labels_h": hours / labels / (_CORES * gpus),
                "layer_labels_h": (hours / layer + frames / assigned / 3600) / gpus,
                "ten_passes_h": 10 * (hours / layer + frames / assigned / 3600) / gpus,
                "epoch_h": hours / trained / gpus,
                "frames_tb": frames * 768 * 4 / 1e12, "labels_gb": frames * 2 / 1e9,
            })  # fmt: skip
    return rows


def in_a_process(what: str, *numbers: float) -> dict[str, Any]:
    """Run one part in a process of its own, whose peak memory is that part's."""
    command = [sys.executable, __file__, "--part", what, "--numbers", *map(str, numbers)]
    said = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    found: dict[str, Any] = json.loads(said.stdout)
    return found


PARTS = {
    "plan": lambda count, tasks: planned(int(count), int(tasks)),
    "ledger": lambda count: looked_up(int(count)),
    "watch": lambda tasks, slots, seconds: watched(int(tasks), int(slots), seconds),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utterances", type=int, default=100_000_000)
    parser.add_argument("--blocks", type=int, default=10_000_000, help="of the largest ledger")
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--numbers", type=float, nargs="*", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        print(json.dumps(PARTS[arguments.part](*arguments.numbers)))
        return
    result: dict[str, Any] = {
        "machine": machine(), "versions": versions(), "plan": in_a_process("plan", arguments.utterances, arguments.tasks),
        "ledgers": ledgers(arguments.blocks),
        "watched": [in_a_process("watch", arguments.tasks, slots, 60.0) for slots in (8, 1024)],
        "costs": costs(), "measured": MEASURED,
    }  # fmt: skip
    (RESULTS / "simulate.json").write_text(json.dumps(result, indent=1) + "\n")
    (RESULTS / "simulate.md").write_text(table(result))
    print(table(result))


_COLUMNS = {
    "hours": "hours", "GPUs": "gpus", "cores": "cores", "MFCC labels": "mfcc_labels_h", "labels of layer 9": "layer_labels_h",
    "ten passes of a fit": "ten_passes_h", "an epoch, base": "epoch_h", "frames, TB": "frames_tb", "labels, GB": "labels_gb",
}  # fmt: skip


def table(result: dict[str, Any]) -> str:
    """Return the tables, Markdown."""
    plan = result["plan"]
    said = (
        f"**Planning** {plan['utterances']:,} utterances ({plan['hours']:,.0f} hours): {plan['blocks']:,} blocks in "
        f"{plan['tasks']:,} tasks, {plan['cpu_s']:.0f} CPU s, peak {plan['peak_mib']:,.0f} MiB (the plan {plan['plan_mib']:,.0f})"
    )
    lines = [
        f"On {result['machine']['processor']}", "", said, "",
        *_rows(
            {"blocks in the ledger": "blocks", "MiB of lines": "mib", "opened, CPU s": "open_s", "a look-up, µs": "look_up_us",
             "peak MiB": "peak_mib"},
            result["ledgers"],
        ), "",
        *_rows(
            {"tasks of a minute": "tasks", "slots": "slots", "given out": "given", "processes died": "died",
             "machines lost": "gone", "failed": "failed", "set aside": "set_aside", "over the ideal time, %": "over_ideal",
             "µs a task": "us_a_task"},
            [{**row, "over_ideal": 100 * row["over_ideal"]} for row in result["watched"]],
        ), "",
        *_rows(
_COLUMNS,
            [{name: _time(value) if name.endswith("_h") else value for name, value in row.items()} for row in result["costs"]],
        ),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _rows(columns: dict[str, str], rows: list[dict[str, Any]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield "|" + "---:|" * len(columns)
    for row in rows:
        yield f"| {' | '.join(_shown(row[name]) for name in columns.values())} |"


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}"


def _time(hours: float) -> str:
    if hours < 1 / 60:
        return f"{3600 * hours:.0f} s"
    return f"{60 * hours:.0f} min" if hours < 2 else f"{hours:,.0f} h" if hours < 72 else f"{hours / 24:,.0f} days"


if __name__ == "__main__":
    main()
