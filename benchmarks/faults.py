"""What work on a Ray cluster survives: workers, nodes and the command itself killed, a file that crashes, a slow node.

    pip install 'vocable[ray]' && python benchmarks/faults.py SPEECH [--kills 20] [--repeat 4]

A cluster of two nodes is started on this machine for each case, and `vocable prepare` is run on it while harm is done; its
labels, codebook, manifests and list of what was left out must be those of one undisturbed process, byte for byte. Speech is
listed several times under other names, so that there is time for harm.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import RESULTS, machine, versions

_STORE = 100 << 20
_HOOK = """
import os
poison = os.environ.get("VOCABLE_TEST_POISON")
if poison:
    import vocable.features.pipeline as pipeline
    original = pipeline.read_waveform
    def read(path, *rest):
        if path.endswith(poison):
            os.kill(os.getpid(), 11)
        return original(path, *rest)
    pipeline.read_waveform = read
"""
"""Put in the way of audio in the workers: it makes a file crash."""


@dataclass
class Bench:
    """Speech, and where everything is written."""

    speech: Path
    folder: Path
    counts: dict[str, int] = field(default_factory=dict)

    def command(self, out: Path, *where: object) -> list[str]:
        made = ("--clusters", 100, "--normalize", "speaker", "--speakers", "{speaker}/*", "--valid-percent", 0.1)
        return [sys.executable, "-m", "vocable", "prepare", *map(str, (self.speech, "--out", out, *made, *where))]

    def environment(self, **more: str) -> dict[str, str]:
        hook = self.folder / "hook"
        hook.mkdir(exist_ok=True)
        (hook / "sitecustomize.py").write_text(_HOOK)
        path = os.pathsep.join(filter(None, [str(hook), os.environ.get("PYTHONPATH")]))
        return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, "RAY_AUTH_MODE": "disabled", **more}

    def alone(self, name: str, workers: int = 1, **more: str) -> Path:
        """Run undisturbed on this machine."""
        out = self.folder / name
        subprocess.run(self.command(out, "--workers", workers), check=True, env=self.environment(**more), **_QUIET)
        return out


_QUIET: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


@contextlib.contextmanager
def cluster(environment: dict[str, str]) -> Iterator[Any]:
    """Start a cluster of two nodes with one processor each, whose workers have an environment."""
    before = dict(os.environ)
    os.environ.update(environment)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    small = {"num_cpus": 1, "object_store_memory": _STORE}
    made = Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
    made.add_node(**small)
    try:
        yield made
    finally:
        made.shutdown()
        os.environ.clear()
        os.environ.update(before)


def artefacts(folder: Path) -> dict[str, bytes]:
    """Return what must not depend on how work went."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".vocable" not in path.parts and not re.fullmatch(r"run(-\d+)?\.jsonl", path.name)
    }


def workers_of_ray() -> list[int]:
    """Return the processes that are at a task."""
    found = []
    for place in Path("/proc").iterdir():
        if place.name.isdecimal():
            with contextlib.suppress(OSError):
                if (place / "cmdline").read_bytes().startswith(b"ray::work"):
                    found.append(int(place.name))
    return found


def run(bench: Bench, name: str, harm: Callable[[Any, subprocess.Popen[bytes]], int], **more: str) -> tuple[Path, int, float]:
    """Run the command on a cluster while harm is done; return its folder, how often harm was done, and the seconds it took."""
    out = bench.folder / name
    environment = bench.environment(**more)
    begun, done = time.monotonic(), 0
    with cluster(environment) as nodes:
        command = bench.command(out, "--engine", "ray", "--address", nodes.address)
        while True:
            with subprocess.Popen(command, env=environment, **_QUIET) as process:
                done += harm(nodes, process)
                code = process.wait()
            if code != -signal.SIGKILL:
                break
    if code:
        raise SystemExit(f"{name}: the command ended with {code}")
    return out, done, time.monotonic() - begun


def kill_workers(most: int, every: float) -> Callable[[Any, subprocess.Popen[bytes]], int]:
    """Return what kills a worker every few seconds."""

    def harm(nodes: Any, process: subprocess.Popen[bytes]) -> int:
        del nodes
        killed, turn = 0, threading.Event()
        while killed < most and process.poll() is None:
            turn.wait(every)
            for pid in workers_of_ray()[killed % 2 :][:1]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed += 1
        return killed

    return harm


def kill_a_node(nodes: Any, process: subprocess.Popen[bytes]) -> int:
    """Kill a node without warning, and start another a little later."""
    _wait_for_work(process)
    time.sleep(2)
    (other,) = [node for node in nodes.list_all_nodes() if not node.head]
    nodes.remove_node(other, allow_graceful=False)
    time.sleep(5)
    nodes.add_node(num_cpus=1, object_store_memory=_STORE)
    return 1


def kill_the_command(most: int) -> Callable[[Any, subprocess.Popen[bytes]], int]:
    """Return what kills the command some seconds after its work began, so many times."""
    times = [0]

    def harm(nodes: Any, process: subprocess.Popen[bytes]) -> int:
        del nodes
        if times[0] == most:
            return 0
        times[0] += 1
        _wait_for_work(process)
        time.sleep(2 + times[0])
        if process.poll() is not None:
            return 0
        process.kill()
        return 1

    return harm


def slow_down(nodes: Any, process: subprocess.Popen[bytes]) -> int:
    """Stop the workers of one node for most of the time."""
    _wait_for_work(process)
    slowed: set[int] = set()
    while process.poll() is None:
        pids = workers_of_ray()[:1]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
                slowed.add(pid)
        time.sleep(0.9)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        time.sleep(0.1)
    del nodes
    return len(slowed)


def nothing(nodes: Any, process: subprocess.Popen[bytes]) -> int:
    """Do no harm."""
    del nodes
    process.wait()
    return 0


def _wait_for_work(process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None and not workers_of_ray():
        time.sleep(0.1)


def blocks_done(folder: Path) -> tuple[int, int]:
    """Return how many blocks a ledger has, and how many of its lines say what another had said."""
    keys = [
        (line["stage"], line["key"])
        for path in folder.rglob("ledger/*.jsonl")
        for line in map(json.loads, path.read_text().splitlines())
    ]
    return len(set(keys)), len(keys) - len(set(keys))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("speech", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--every", type=float, default=3.0, help="seconds between kills")
    parser.add_argument("--repeat", type=int, default=4, help="how often speech is listed")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        bench = Bench(_repeated(arguments.speech.resolve(), Path(place) / "speech", arguments.repeat), Path(place))
        poison = sorted(bench.speech.rglob("*.flac"))[7].name
        expected = {"": artefacts(bench.alone("alone"))}
        expected[poison] = artefacts(bench.alone("alone, a file crashes", workers=2, VOCABLE_TEST_POISON=poison))
        cases: list[tuple[str, Callable[[Any, subprocess.Popen[bytes]], int], str]] = [
            ("undisturbed", nothing, ""),
            ("a worker killed every few seconds", kill_workers(arguments.kills, arguments.every), ""),
            ("a node killed and replaced", kill_a_node, ""),
            ("the command killed and run again", kill_the_command(3), ""),
            ("a file that crashes whoever reads it", nothing, poison),
            ("a node nine times slower", slow_down, ""),
        ]
        rows = []
        for name, harm, own in cases:
            out, done, seconds = run(bench, name, harm, **({"VOCABLE_TEST_POISON": own} if own else {}))
            blocks, again = blocks_done(out)
            rows.append({"case": name, "harm": done, "equal": artefacts(out) == expected[own], "seconds": seconds,
                         "blocks": blocks, "done_twice": again})  # fmt: skip
            print(rows[-1], flush=True)
            shutil.rmtree(out)
    result = {"machine": machine(), "versions": versions(), "rows": rows}
    (RESULTS / "faults.json").write_text(json.dumps(result, indent=1) + "\n")
    (RESULTS / "faults.md").write_text(table(result))
    print(table(result))
    if not all(row["equal"] for row in rows):
        raise SystemExit("something was lost or changed")


def table(result: dict[str, Any]) -> str:
    """Return the table, Markdown."""
    lines = [
        f"Two nodes of Ray on {result['machine']['processor']}", "",
        "| what was done to it | times | artefacts | seconds | blocks | done twice |", "|---|---:|---|---:|---:|---:|",
    ]  # fmt: skip
    for row in result["rows"]:
        equal = "equal" if row["equal"] else "DIFFERENT"
        lines.append(
            f"| {row['case']} | {row['harm'] or ''} | {equal} | {row['seconds']:.0f} | {row['blocks']} | {row['done_twice']} |"
        )
    return "\n".join(lines) + "\n"


def _repeated(speech: Path, folder: Path, times: int) -> Path:
    """Return a folder in which the files of SPEAKER/CHAPTER/NAME lie several times, as SPEAKER/NAME-TIME."""
    for path in sorted(speech.rglob("*.flac")):
        for time_ in range(times):
            link = folder / path.relative_to(speech).parts[0] / f"{path.stem}-{time_}.flac"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)
    return folder


if __name__ == "__main__":
    main()
