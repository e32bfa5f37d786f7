"""A linear probe reads out what a linear classifier can."""

from __future__ import annotations

import numpy as np
import pytest

from vocable.errors import InputError
from vocable.evaluation.linear_probe import LinearProbe


def test_a_probe_finds_what_is_linear_in_frames() -> None:
    drawn = np.random.default_rng(0)
    frames = drawn.standard_normal((6000, 10)).astype(np.float32) * 50 + 1000
    towards = drawn.standard_normal((10, 4))
    names = [f"p{at}" for at in (((frames - 1000) / 50) @ towards).argmax(axis=1)]
    probe = LinearProbe.fit(frames[:4000], names[:4000])
    found = probe(frames[4000:])
    assert np.mean([one == other for one, other in zip(found, names[4000:], strict=True)]) > 0.95
    again = LinearProbe.fit(frames[:4000], names[:4000])
    assert np.array_equal(probe.weight, again.weight)


def test_a_probe_of_noise_tells_no_more_than_the_commonest_label() -> None:
    drawn = np.random.default_rng(1)
    frames = drawn.standard_normal((8000, 5)).astype(np.float32)
    names = drawn.choice(["a", "b", "c"], p=[0.6, 0.3, 0.1], size=8000).tolist()
    probe = LinearProbe.fit(frames[:6000], names[:6000])
    assert np.mean([one == other for one, other in zip(probe(frames[6000:]), names[6000:], strict=True)]) == pytest.approx(
        0.6, abs=0.04
    )


def test_it_agrees_with_scikit_learns() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    drawn = np.random.default_rng(2)
    centres = drawn.standard_normal((6, 8))
    truth = drawn.integers(0, 6, 6000)
    frames = (centres[truth] + 0.9 * drawn.standard_normal((6000, 8))).astype(np.float32)
    names = [str(at) for at in truth]
    ours = LinearProbe.fit(frames[:4000], names[:4000])(frames[4000:])
    theirs = linear.LogisticRegression(max_iter=1000).fit(frames[:4000], names[:4000]).predict(frames[4000:])
    right = [np.mean([one == other for one, other in zip(found, names[4000:], strict=True)]) for found in (ours, theirs)]
    assert right[0] == pytest.approx(right[1], abs=0.01)


def test_one_label_is_not_enough() -> None:
    with pytest.raises(InputError, match="two labels or more"):
        LinearProbe.fit(np.zeros((3, 2), dtype=np.float32), ["a"] * 3)
