"""Probes find what is there, nothing where nothing is, and say how sure they are."""

from __future__ import annotations

import numpy as np
import pytest

from vocable.errors import InputError
from vocable.evaluation.probes import Labelled, histogram, linear_score, pooled, run_histogram, unit_score

RNG = np.random.default_rng(0)
NAMES = np.array(["a", "b", "c", "d"])


def made(utterances: int, seed: int, shuffled: bool = False) -> Labelled:
    """Frames of 20 an utterance, whose label is that of the utterance and lies in their first values."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(utterances) % 4, 20)
    frames = rng.standard_normal((len(labels), 6)).astype(np.float32)
    frames[:, :4] += 8 * np.eye(4, dtype=np.float32)[labels]
    said = np.repeat(rng.permutation(np.arange(utterances) % 4), 20) if shuffled else labels
    return Labelled(frames, NAMES[said].tolist(), np.repeat(np.arange(utterances), 20))


def test_what_is_linearly_readable_is_read_whole() -> None:
    score = linear_score(made(40, 1), made(20, 2))
    assert score.accuracy > 0.99
    assert score.low <= score.accuracy <= score.high
    assert (score.chance, score.items, score.utterances, score.classes) == (0.25, 400, 20, 4)


def test_shuffled_labels_give_chance() -> None:
    scores = [linear_score(made(200, seed, shuffled=True), made(200, seed + 100, shuffled=True)) for seed in range(3)]
    assert abs(np.mean([score.accuracy for score in scores]) - 0.25) < 0.06
    assert all(score.low < 0.32 and score.high > 0.2 for score in scores)


def test_intervals_are_over_utterances_not_over_frames() -> None:
    """Half the utterances are wholly right, half wholly wrong: 400 frames say no more than 20 utterances do."""
    fitted = Labelled(np.repeat([0, 1], 50), ["a"] * 50 + ["b"] * 50, np.repeat([0, 1], 50))
    scored = Labelled(np.zeros(400, np.int64), ["a" if at // 20 % 2 else "b" for at in range(400)], np.arange(400) // 20)
    score = unit_score(fitted, scored)
    assert score.accuracy == 0.5
    assert 0.2 < score.low < 0.35
    assert 0.65 < score.high < 0.8


def test_units_are_read_as_a_table_of_counts_reads_them() -> None:
    units, labels = RNG.integers(0, 9, 500), NAMES[RNG.integers(0, 4, 500)]
    others, theirs = RNG.integers(0, 11, 300), NAMES[RNG.integers(0, 4, 300)]  # 9 and 10 were never met
    score = unit_score(
        Labelled(units, labels.tolist(), np.zeros(500, np.int64)), Labelled(others, theirs.tolist(), np.arange(300))
    )

    def most(values: np.ndarray) -> str:
        return max(sorted(NAMES), key=lambda name: (values == name).sum())

    said = [most(labels[units == unit]) if (units == unit).any() else most(labels) for unit in others]
    assert score.accuracy == np.mean(np.array(said) == theirs)
    assert score.chance == np.mean(theirs == most(labels))


def test_what_is_pooled_is_as_it_says() -> None:
    frames = RNG.standard_normal((50, 3)).astype(np.float32)
    assert np.allclose(pooled(frames), np.concatenate([frames.mean(axis=0), frames.std(axis=0)]), atol=1e-6)
    units = np.array([0, 0, 2, 2, 2, 0])
    assert np.allclose(histogram(units, 4), [0.5, 0, 0.5, 0])
    assert np.allclose(run_histogram(units, 4), [2 / 3, 0, 1 / 3, 0, 1.5, 0, 3, 0])
    assert not run_histogram(units[:0], 4).any()


def test_nothing_to_fit_or_to_score_is_refused() -> None:
    some, none = made(8, 0), Labelled(np.empty((0, 6), np.float32), [], np.empty(0, np.int64))
    for pair in ((some, none), (none, some)):
        with pytest.raises(InputError, match="give more speech"):
            linear_score(*pair)
    with pytest.raises(InputError, match="two labels or more"):
        unit_score(Labelled(np.zeros(2, np.int64), ["a", "a"], np.zeros(2, np.int64)), some)
