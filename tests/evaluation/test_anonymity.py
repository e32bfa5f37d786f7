"""Scores of anonymized speech, against slow and obvious ways."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vocable.errors import InputError
from vocable.evaluation.intervals import interval
from vocable.evaluation.recognition import (
    character_errors,
    drawn_word_errors,
    edit_distance,
    normalized,
    pitch_correlation,
    word_errors,
)
from vocable.evaluation.verification import Trials, drawn_rates, equal_error_rate, scored_trials


def slow_rate(scores: list[float], targets: list[bool]) -> float:
    """Return where the two error rates cross, walking over all thresholds."""
    same = [score for score, target in zip(scores, targets, strict=True) if target]
    different = [score for score, target in zip(scores, targets, strict=True) if not target]
    before: tuple[float, float] | None = None
    for threshold in [-np.inf, *sorted(set(scores)), np.inf]:
        rejected = sum(score < threshold for score in same) / len(same)
        accepted = sum(score >= threshold for score in different) / len(different)
        if rejected >= accepted:
            assert before is not None
            part = (before[1] - before[0]) / ((rejected - accepted) - (before[0] - before[1]))
            return before[0] + part * (rejected - before[0])
        before = rejected, accepted
    raise AssertionError


def slow_distance(one: list[str], other: list[str]) -> int:
    if not one or not other:
        return len(one) + len(other)
    return min(
        slow_distance(one[1:], other[1:]) + (one[0] != other[0]),
        slow_distance(one[1:], other) + 1,
        slow_distance(one, other[1:]) + 1,
    )


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=30))
def test_the_equal_error_rate_is_where_both_errors_cross(pairs: list[tuple[int, bool]]) -> None:
    scores, targets = [float(score) for score, _ in pairs], [target for _, target in pairs]
    if all(targets) or not any(targets):
        with pytest.raises(InputError, match="trials of one speaker, and of two"):
            equal_error_rate(np.array(scores), np.array(targets))
        return
    assert equal_error_rate(np.array(scores), np.array(targets)) == pytest.approx(slow_rate(scores, targets), abs=1e-12)


def test_sure_and_hopeless_machines_have_the_rates_they_should() -> None:
    targets = np.array([True] * 50 + [False] * 200)
    assert equal_error_rate(np.where(targets, 1.0, 0.0), targets) == 0
    assert equal_error_rate(np.where(targets, 0.0, 1.0), targets) == 1
    assert equal_error_rate(np.zeros(250), targets) == pytest.approx(0.5)
    drawn = np.random.default_rng(0)
    # Two normal distributions two deviations apart cross where each is wrong in 15.9 % of the cases.
    many = np.array([True] * 100_000 + [False] * 100_000)
    assert equal_error_rate(drawn.standard_normal(200_000) + 2 * many, many) == pytest.approx(0.1587, abs=0.003)


def test_intervals_are_over_speakers() -> None:
    drawn = np.random.default_rng(1)
    speakers = [f"s{number // 10}" for number in range(100)]
    centres = drawn.standard_normal((10, 16))
    described = np.repeat(centres, 10, axis=0) + 1.2 * drawn.standard_normal((100, 16))
    trials = Trials.of([str(number) for number in range(100)], speakers)
    found = scored_trials(trials, trials.scores(described, described))
    assert (found.targets, found.others) == (900, 9000)
    assert found.low < found.rate < found.high
    assert found.high - found.low < 0.2
    assert scored_trials(trials, trials.scores(described, described)) == found
    of_groups = Trials.of(
        [str(number) for number in range(100)], speakers, ["f" if number < 50 else "m" for number in range(100)]
    )
    assert len(of_groups.pairs) == 2 * 50 * 49
    with pytest.raises(InputError, match="several speakers"):
        Trials.of(["a", "b"], ["x", "x"])
    with pytest.raises(InputError, match="several speakers"):
        Trials.of(["a", "b"], ["x", "y"])


@given(st.lists(st.sampled_from("abc"), max_size=6), st.lists(st.sampled_from("abc"), max_size=6))
def test_edit_distances_are_levenshteins(one: list[str], other: list[str]) -> None:
    assert edit_distance(one, other) == slow_distance(one, other)


def test_errors_are_counted_over_all_utterances() -> None:
    assert normalized("It's  GOOD—isn't it? 'Quoted'") == "it's good isn't it quoted"
    found = word_errors(["the cat sat", "a dog"], ["the cat sat down", "dog"], ["x", "y"])
    assert (found.errors, found.said) == (2, 5)
    assert found.rate == pytest.approx(0.4)
    assert found.low == pytest.approx(1 / 3)
    assert found.high == pytest.approx(0.5)
    assert character_errors(["ab c"], ["ab"]).rate == pytest.approx(0.5)
    assert word_errors(["a"], ["b c d"]).rate == 3
    with pytest.raises(InputError, match="nothing was said"):
        word_errors(["", "!"], ["a", "b"])


def test_pitch_is_compared_where_both_are_voiced() -> None:
    one = np.array([100, 0, 110, 120, 130, 0])
    assert pitch_correlation(one, 1.5 * one) == pytest.approx(1)
    assert pitch_correlation(one, np.array([150, 90, 140, 130, 120])) == pytest.approx(-1, abs=0.02)
    assert np.isnan(pitch_correlation(one, np.zeros(6)))
    assert np.isnan(pitch_correlation(one, np.full(6, 100)))


def test_draws_are_of_the_same_speakers_whatever_is_scored() -> None:
    speakers = ["a", "a", "b", "b", "c", "c"]
    trials = Trials.of([str(number) for number in range(6)], speakers)
    drawn = np.random.default_rng(0)
    scores = trials.targets + drawn.standard_normal(len(trials.pairs))
    rates = drawn_rates(trials, scores)
    assert rates.shape == (1000,)
    assert np.array_equal(rates, drawn_rates(trials, scores), equal_nan=True)
    assert np.isnan(rates).any()  # one speaker alone gives no trials of two
    found = scored_trials(trials, scores)
    assert (found.low, found.high) == interval(rates)
    assert interval([np.nan, 1.0, 2.0, np.nan]) == interval([1.0, 2.0])
    said, heard = ["one two", "three four"] * 3, ["one", "three five six"] * 3
    assert np.array_equal(drawn_word_errors(said, heard, speakers), drawn_word_errors(said, heard, speakers))
    assert interval(drawn_word_errors(said, heard, speakers)) == (
        word_errors(said, heard, speakers).low,
        word_errors(said, heard, speakers).high,
    )


def test_trials_several_times_over_are_of_utterances_of_their_own() -> None:
    trials = Trials.of(["0", "1", "2"], ["a", "a", "b"])
    twice = trials.repeated(2)
    assert len(twice.pairs) == 2 * len(trials.pairs)
    assert np.array_equal(twice.targets, np.tile(trials.targets, 2))
    one, other = np.random.default_rng(0).standard_normal((2, 6, 4))
    parts = [trials.scores(one[at : at + 3], other[at : at + 3]) for at in (0, 3)]
    assert twice.scores(one, other) == pytest.approx(np.concatenate(parts), abs=1e-12)
