"""Minimum cuts are the best ones, and those of the authors' code."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from syllables.references import cost_of, slow_minimum_cut
from vocable.errors import InputError
from vocable.syllables.minimum_cut import minimum_cut, minimum_cuts, similarity


def walk(frames: int, seed: int, dim: int = 8) -> NDArray[np.float32]:
    """Return frames of which neighbours are alike."""
    return np.cumsum(np.random.default_rng(seed).standard_normal((frames, dim)), axis=0).astype(np.float32)


@given(st.integers(2, 26), st.integers(1, 25), st.integers(0, 10_000))
def test_a_cut_costs_least_of_all(frames: int, pieces: int, seed: int) -> None:
    pieces = min(pieces, frames - 1)
    matrix = similarity(walk(frames, seed))
    found = minimum_cut(matrix, pieces).boundaries.tolist()
    least, expected = slow_minimum_cut(matrix, pieces)
    assert len(found) == pieces + 1
    assert found[0] == 0
    assert found[-1] == frames - 1
    assert cost_of(matrix, found) == pytest.approx(least, rel=1e-9)
    assert found == expected or cost_of(matrix, found) == pytest.approx(cost_of(matrix, expected), rel=1e-12)


@given(st.integers(6, 24), st.integers(2, 6), st.integers(2, 8), st.integers(0, 10_000))
def test_with_a_bound_a_cut_costs_least_of_those_within_it(frames: int, pieces: int, longest: int, seed: int) -> None:
    pieces = min(pieces, frames - 1)
    matrix = similarity(walk(frames, seed))
    if pieces * longest < frames - 1:
        with pytest.raises(InputError, match=f"{pieces} pieces of at most {longest} frames don't cover {frames - 1}"):
            minimum_cut(matrix, pieces, longest)
        return
    found = minimum_cut(matrix, pieces, longest)
    assert np.diff(found.boundaries).max() <= longest
    assert cost_of(matrix, found.boundaries.tolist()) == pytest.approx(slow_minimum_cut(matrix, pieces, longest)[0], rel=1e-9)
    assert found.bounded == (np.diff(found.boundaries).max() == longest)


def test_stretches_are_cut_together_as_they_are_alone() -> None:
    drawn = np.random.default_rng(0)
    matrices = [similarity(walk(int(frames), seed)) for seed, frames in enumerate(drawn.integers(2, 90, 60))]
    matrices.append(similarity(walk(600, 61)))
    pieces = [max(1, len(matrix) // 5) for matrix in matrices]
    together = minimum_cuts(matrices, pieces)
    for matrix, count, cut in zip(matrices, pieces, together, strict=True):
        assert cut.boundaries.tolist() == minimum_cut(matrix, count).boundaries.tolist()


def test_asymmetric_and_nearly_empty_matrices_are_cut() -> None:
    drawn = np.random.default_rng(1).random((20, 20))
    assert minimum_cut(drawn, 4).boundaries.tolist() == slow_minimum_cut(drawn, 4)[1]
    nothing = np.zeros((10, 10))
    assert minimum_cut(nothing + np.eye(10), 9).boundaries.tolist() == list(range(10))


@pytest.mark.parametrize(("shape", "pieces"), [((5, 5), 5), ((5, 5), 0), ((1, 1), 1), ((3, 4), 1)])
def test_what_cannot_be_cut_is_refused(shape: tuple[int, int], pieces: int) -> None:
    with pytest.raises(InputError, match="can't be cut into|doesn't say how alike"):
        minimum_cut(np.ones(shape), pieces)


def test_cuts_are_those_of_the_authors_code(shared: Path) -> None:
    folder = shared / "golden" / "sdhubert"
    found = np.load(folder / "mincut_core.npz")
    checked = 0
    for case in json.loads((folder / "mincut_core_meta.json").read_text()):
        if case["kind"] == "const":  # all ties
            continue
        key, kind = case["key"], np.dtype(case["dtype"])
        stem = key.rsplit("_", 1)[0]
        features = [name for name in found.files if name.startswith(stem) and name.endswith("__feat")]
        if features:
            frames = found[features[0]].astype(kind)
            matrix = frames @ frames.T
            matrix = matrix - matrix.min() + kind.type(1e-7)
        else:
            matrix = found[next(name for name in found.files if name.startswith(stem) and name.endswith("__ssm"))].astype(kind)
        assert minimum_cut(matrix, case["K"] - 1).boundaries.tolist() == found[f"{key}__boundary"].tolist(), key
        checked += 1
    assert checked == 50
