"""Fleets: tokens are those of scikit-learn and of float64, whatever the plan; files are opened where they lie, and are checked."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vocable.artefacts.feature_spec import FeatureSpec
from vocable.clustering.fleets import Fleet, Member, read_fleet, write_fleet
from vocable.errors import InputError, MismatchError


def slow_tokens(fleet: Fleet, frames: NDArray[np.float32], plan: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return tokens one frame at a time, in float64."""
    out = np.zeros((len(frames), len(fleet.groups)), np.int64)
    for at, codebook in enumerate(plan):
        centroids = fleet.centroids(int(codebook)).astype(np.float64)
        for number, (first, last) in enumerate(fleet.groups):
            own = centroids[: int(np.isfinite(fleet.norms[codebook, number]).sum()), first:last]
            out[at, number] = np.square(own - frames[at, first:last]).sum(axis=1).argmin()
    return out


def made_fleet(path: Path, count: int = 5, clusters: int = 16, dim: int = 32, **options: object) -> Fleet:
    drawn = np.random.default_rng(0)
    members = [
        Member(f"m{number}", drawn.standard_normal((clusters - number % 3, dim)).astype(np.float32), (f"s{number}",))
        for number in range(count)
    ]
    write_fleet(path, members, [member.name for member in members], clusters, dim, **options)  # type: ignore[arg-type]
    return read_fleet(path)


def test_tokens_and_lookups_are_the_references(shared: Path, tmp_path: Path) -> None:
    with np.load(shared / "golden" / "wavlm" / "quant_io.npz") as golden:
        books, frames = golden["codebooks"], golden["x"][0]
        members = [Member(f"{number}", book) for number, book in enumerate(books)]
        write_fleet(tmp_path / "f.safetensors", members, [member.name for member in members], 16, 32)
        fleet = read_fleet(tmp_path / "f.safetensors")
        for number in range(5):
            plan = np.full(40, number)
            tokens = fleet.tokens(frames, plan)
            np.testing.assert_array_equal(tokens[:, 0], golden[f"tokens_cb{number}"])
            np.testing.assert_array_equal(fleet.lookup(tokens, plan), golden[f"emb_cb{number}"])
        for stride in (1, 4, 7):
            plan = golden[f"stride{stride}_cb"]
            plan = plan if len(plan) == 40 else np.repeat(plan, stride)[:40]
            tokens = fleet.tokens(frames, plan)
            np.testing.assert_array_equal(tokens[:, 0], golden[f"stride{stride}_tokens"])
            np.testing.assert_array_equal(fleet.lookup(tokens, plan), golden[f"stride{stride}_emb"])


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**31), st.sampled_from([((0, 8),), ((0, 3), (3, 4), (4, 8))]), st.sampled_from([1.0, 1e-3, 1e6]))
def test_tokens_are_those_of_float64_in_every_plan(
    tmp_path_factory: pytest.TempPathFactory, seed: int, groups: tuple[tuple[int, int], ...], far: float
) -> None:
    drawn = np.random.default_rng(seed)
    books = [(far + drawn.standard_normal((size, 8))).astype(np.float32) for size in (5, 1, 7)]
    books[2][4] = books[2][2]  # equal distances go to the lowest
    members = [Member(f"{number}", book) for number, book in enumerate(books)]
    path = tmp_path_factory.mktemp("fleet") / "f.safetensors"
    write_fleet(path, members, ["0", "1", "2"], 7, 8, groups=groups)
    fleet = read_fleet(path)
    frames = np.concatenate(
        [(far + drawn.standard_normal((20, 8))).astype(np.float32), books[2], (books[0][:1] + books[0][1:2]) / 2]
    )
    plan = drawn.integers(0, 3, len(frames))
    tokens = fleet.tokens(frames, plan)
    np.testing.assert_array_equal(tokens, slow_tokens(fleet, frames, plan))
    order = drawn.permutation(len(frames))
    np.testing.assert_array_equal(fleet.tokens(frames[order], plan[order]), tokens[order])
    for at in range(3):
        np.testing.assert_array_equal(fleet.tokens(frames[at : at + 1], plan[at : at + 1])[0], tokens[at])


def test_frames_that_are_out_of_range_in_float32_get_float64s_token(tmp_path: Path) -> None:
    book = np.array([[2e18, 2e18, -3.3e18], [1e18, 0.5e18, -0.1e18]], np.float32)
    write_fleet(tmp_path / "f", [Member("a", book)], ["a"], 2, 3)
    fleet = read_fleet(tmp_path / "f")
    frames = np.full((1, 3), 1e20, np.float32)
    assert fleet.tokens(frames, np.array([0]))[0, 0] == slow_tokens(fleet, frames, np.array([0]))[0, 0] == 1
    with pytest.raises(InputError, match="aren't finite as float32"):
        write_fleet(tmp_path / "g", [Member("a", np.full((2, 3), 1e25))], ["a"], 2, 3)
    assert not (tmp_path / "g").exists()


def test_a_fleet_is_opened_where_it_lies_and_keeps_what_it_was_given(tmp_path: Path) -> None:
    drawn = np.random.default_rng(1)
    pitch = {"pitch": np.float32(120), "mean": drawn.standard_normal(6).astype(np.float32)}
    members = [Member(f"m{number}", drawn.standard_normal((4 + number, 6)), ("a", "b"), pitch) for number in range(3)]
    names = ["m0", "m1", "m2"]
    for name in ("one", "two"):
        write_fleet(tmp_path / name, iter(members), names, 6, 6, half=True, note="agreed to in 2026", made={"seed": 1})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert sorted(item.name for item in tmp_path.iterdir()) == ["one", "two"]
    fleet = read_fleet(tmp_path / "one")
    assert isinstance(fleet.codebooks.base, np.memmap) or isinstance(fleet.codebooks, np.memmap)
    assert [fleet.clusters(number) for number in range(3)] == [4, 5, 6]
    np.testing.assert_array_equal(fleet.centroids(1), members[1].centroids.astype(np.float16).astype(np.float32))
    assert fleet.note == "agreed to in 2026"
    assert fleet.speakers == (("a", "b"),) * 3
    np.testing.assert_array_equal(fleet.statistics["pitch"], [120, 120, 120])
    np.testing.assert_array_equal(fleet.statistics["mean"][2], pitch["mean"])
    write_fleet(tmp_path / "other", members, names, 6, 6)
    assert read_fleet(tmp_path / "other").digest != fleet.digest


def test_a_large_fleet_takes_no_memory(tmp_path: Path) -> None:
    block = np.random.default_rng(0).standard_normal((256, 512)).astype(np.float32)
    members = (Member(f"{number}", block + number) for number in range(300))
    write_fleet(tmp_path / "f", members, [f"{number}" for number in range(300)], 256, 512)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    fleet = read_fleet(tmp_path / "f")
    assert (tmp_path / "f").stat().st_size > 150e6
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000
    assert fleet.tokens(block[:3], np.array([7, 0, 299])).shape == (3, 1)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    fleet = made_fleet(tmp_path / "f")
    with pytest.raises(InputError, match="can't be labelled with codebooks of 32"):
        fleet.tokens(np.zeros((3, 31), np.float32), np.zeros(3, int))
    with pytest.raises(InputError, match="aren't finite"):
        fleet.tokens(np.full((3, 32), np.nan, np.float32), np.zeros(3, int))
    with pytest.raises(InputError, match="aren't all in a fleet of 5"):
        fleet.tokens(np.zeros((3, 32), np.float32), np.array([0, 5, 1]))
    with pytest.raises(MismatchError, match="32 values, but these have 39"):
        fleet.require(FeatureSpec(kind="mfcc", dim=39, hop=160, receptive_field=400))
    with pytest.raises(InputError, match="aren't finite as float16"):
        write_fleet(tmp_path / "g", [Member("a", np.full((2, 3), 1e9))], ["a"], 2, 3, half=True)
    with pytest.raises(InputError, match=r"codebook a has the shape \(2, 4\)"):
        write_fleet(tmp_path / "g", [Member("a", np.zeros((2, 4)))], ["a"], 2, 3)
    with pytest.raises(InputError, match="b of a fleet is missing"):
        write_fleet(tmp_path / "g", [Member("a", np.zeros((2, 3)))], ["a", "b"], 2, 3)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["f"]
    content = (tmp_path / "f").read_bytes()
    (tmp_path / "cut").write_bytes(content[:-100])
    with pytest.raises(InputError, match="not a whole safetensors file"):
        read_fleet(tmp_path / "cut")
    start = 8 + int.from_bytes(content[:8], "little")
    (tmp_path / "damaged").write_bytes(content[:start] + np.full(32, 9, np.float32).tobytes() + content[start + 128 :])
    with pytest.raises(InputError, match="norms aren't those of the codebooks"):
        read_fleet(tmp_path / "damaged")
    (tmp_path / "text").write_text("names")
    with pytest.raises(InputError, match="not a whole safetensors file"):
        read_fleet(tmp_path / "text")
