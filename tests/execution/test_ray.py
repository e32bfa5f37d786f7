"""Ray: the same results as on this machine, whatever becomes of its workers and nodes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from execution.jobs import Basket, Fails, Poisoned, Slow, Square, Writes
from helpers import artefacts_in, write_audio
from vocable.errors import InputError, WorkerError
from vocable.execution import Engine, Work, run_shards

ray = pytest.importorskip("ray", reason="needs the extra ray")
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray")]

_STORE = 100 << 20


class Nodes:
    """A cluster of two nodes on this machine, of which one can be killed and replaced."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        small = {"num_cpus": 1, "object_store_memory": _STORE}
        self.cluster = Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
        self.small = small
        self.other = self.cluster.add_node(**small)

    @property
    def work(self) -> Work:
        return Work(workers=100, engine="ray", address=self.cluster.address)

    def lose_a_node(self) -> None:
        self.cluster.remove_node(self.other, allow_graceful=False)

    def replace_it(self) -> None:
        self.other = self.cluster.add_node(**self.small)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    before = {name: os.environ.get(name) for name in ("RAY_AUTH_MODE", "RAY_USAGE_STATS_ENABLED", "PYTHONPATH")}
    here = str(Path(__file__).parents[1])
    os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [here, before["PYTHONPATH"]]))
    made = Nodes()
    yield made
    made.cluster.shutdown()
    for name, value in before.items():
        os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)


def test_outcomes_are_in_order_on_both_nodes_and_jobs_are_opened_once(nodes: Nodes) -> None:
    with Engine(nodes.work) as engine:
        found = [item.result for item in engine.run_shards(Square(seconds=0.05), range(60))]
        assert [value for value, *_ in found if value is not None] == [at * at for at in range(60)]  # type: ignore[misc]
        assert len({pid for *_, pid in found}) >= 2  # type: ignore[misc]
        assert {device for _, device, _ in found} == {"cpu"}  # type: ignore[misc]
        again = [item.result for item in engine.run_shards(Square(1), range(60))]
        assert [value for value, *_ in again] == [at * at + 1 for at in range(60)]  # type: ignore[misc]
        for item in engine.run_shards(Slow(), range(1000)):  # left in the middle
            if item.shard == 3:
                break
        assert [item.result for item in engine.run_shards(Slow(), range(20))] == list(range(20))


def test_what_jobs_raise_is_as_on_this_machine(nodes: Nodes) -> None:
    with Engine(nodes.work) as engine:
        with pytest.raises(InputError, match="three is bad"):
            list(engine.run_shards(Fails("mendable"), range(10)))
        with pytest.raises(InputError, match="can't be opened"):
            list(engine.run_shards(Fails("open"), range(10)))
        with pytest.raises(WorkerError, match=r"(?s)a worker failed:.*ZeroDivisionError: a bug"):
            list(engine.run_shards(Fails("bug"), [3]))
        found = list(engine.run_shards(Fails("bug"), range(6)))
        assert [item.result for item in found] == [0, 1, 2, None, 4, 5]


def test_a_poisonous_item_is_named_and_the_rest_done(nodes: Nodes) -> None:
    shards = [Basket(at, tuple(range(10 * at, 10 * at + 10))) for at in range(4)]
    found = list(run_shards(Poisoned((17,)), shards, nodes.work))
    assert [item.result for item in found] == [tuple(item for item in shard.items if item != 17) for shard in shards]


def test_a_node_that_is_lost_costs_nothing_but_time(nodes: Nodes, tmp_path: Path) -> None:
    from execution.jobs import Block

    (tmp_path / "marks").mkdir()
    found = []
    for item in run_shards(Writes(str(tmp_path / "marks"), 0.3), [Block(at) for at in range(30)], nodes.work):
        found.append(item.result)
        if len(found) == 5:
            nodes.lose_a_node()
        if len(found) == 15:
            nodes.replace_it()
    assert found == [(b"x" * at, {"index": at}) for at in range(30)]
    assert len(list((tmp_path / "marks").iterdir())) <= 30 + 6  # what was under way, and what seemed late


def test_workers_that_are_killed_cost_nothing_but_time(nodes: Nodes, tmp_path: Path) -> None:
    from execution.jobs import Block

    (tmp_path / "marks").mkdir()
    over = threading.Event()
    kills: list[int] = []

    def kill() -> None:
        while not over.wait(1.5) and len(kills) < 6:
            for pid in _busy(tmp_path / "marks")[-1:]:
                try:
                    os.kill(pid, signal.SIGKILL)
                    kills.append(pid)
                except ProcessLookupError:
                    pass

    killer = threading.Thread(target=kill)
    killer.start()
    found = [item.result for item in run_shards(Writes(str(tmp_path / "marks"), 0.3), map(Block, range(40)), nodes.work)]
    over.set()
    killer.join()
    assert len(kills) >= 2
    assert found == [(b"x" * at, {"index": at}) for at in range(40)]


def _busy(marks: Path) -> list[int]:
    """Return the processes that wrote marks, the last one last."""
    written = sorted(marks.iterdir(), key=lambda path: int(path.name.split("-")[2]))
    return list(dict.fromkeys(int(path.name.split("-")[1]) for path in written))


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty-eight files of a second or more of four speakers, of which one is broken."""
    folder = tmp_path_factory.mktemp("speech") / "audio"
    for at in range(48):
        write_audio(folder / f"s{at % 4}" / f"{at:02}.flac", 1 + 0.1 * (at % 9), at)
    (folder / "s0" / "broken.flac").write_bytes(b"fLaC and nothing else")
    return folder


def test_all_ways_to_spread_work_give_the_same_bytes(
    nodes: Nodes, speech: Path, tmp_path: Path, cli: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vocable.audio.blocks.blocks_of.__defaults__", (5.0,))  # so that there are more blocks than ranks
    monkeypatch.setattr("vocable.recipes.corpus._FILES_IN_BLOCK", 4)
    on_ray = ("--engine", "ray", "--address", nodes.cluster.address)
    ways = {"one": ("--workers", 1), "two": ("--workers", 2), "ray": on_ray}
    told = ("--clusters", 7, "--normalize", "speaker", "--speakers", "{speaker}/*", "--valid-percent", 0.2)
    for name, way in ways.items():
        cli("prepare", speech, "--out", tmp_path / name, *told, *way)
    for rank in (3, 1, 6, 0, 5, 2, 4):
        cli("prepare", speech, "--out", tmp_path / "array", *told, "--workers", 1, "--nshard", 7, "--rank", rank)
    cli("prepare", speech, "--out", tmp_path / "array", *told, "--workers", 1)
    expected = artefacts_in(tmp_path / "one")
    assert {"train.km", "valid.km", "dict.km.txt", "codebook.safetensors", "skipped.jsonl"} <= set(expected)
    for name in ("two", "ray", "array"):
        assert artefacts_in(tmp_path / name) == expected, name

    spread = ("--clusters", 7, "--memory", "0.00001", "--fraction", 1)
    del ways["two"]
    for name, way in ways.items():
        cli("kmeans", speech, "--out", tmp_path / f"{name}.safetensors", *spread, *way)
        cli("features", "mfcc", speech, "--out", tmp_path / f"frames-{name}", *way)
        cli("units", speech, "--codebook", tmp_path / f"{name}.safetensors", "--out", tmp_path / f"units-{name}", *way)
    assert (tmp_path / "ray.safetensors").read_bytes() == (tmp_path / "one.safetensors").read_bytes()
    assert artefacts_in(tmp_path / "frames-ray") == artefacts_in(tmp_path / "frames-one")
    assert artefacts_in(tmp_path / "units-ray") == artefacts_in(tmp_path / "units-one")


def test_a_cluster_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match=r"--address 127.0.0.1:1: .*ray start --head"):
        Engine(Work(engine="ray", address="127.0.0.1:1"))


def test_gpus_that_the_cluster_lacks_are_refused(nodes: Nodes) -> None:
    with pytest.raises(InputError, match="--device cuda: the cluster at .* has no GPU"):
        Engine(Work(workers=2, devices=("cuda",), engine="ray", address=nodes.cluster.address))
    assert not ray.is_initialized()


def test_without_an_address_a_cluster_is_started_and_ends_with_the_process(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys\nfrom execution.jobs import Square\nfrom vocable.execution import Work, run_shards\n"
        "print([item.result[0] for item in run_shards(Square(), range(5), Work(workers=2, engine='ray'))], flush=True)\n"
        "print(os.path.exists(os.path.expanduser('~/.ray')))\n"
    )
    path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path, "HOME": str(tmp_path)}
    environment.pop("RAY_AUTH_MODE", None)
    said = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=120, check=True)
    assert said.stdout.split("\n")[:2] == ["[0, 1, 4, 9, 16]", "False"]  # no token of ours stays behind
