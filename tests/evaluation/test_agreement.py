from __future__ import annotations

import numpy as np
import pytest

from vocable.errors import InputError, MismatchError
from vocable.evaluation.agreement import agreement, best_matching
from vocable.units.units import Units, UnitsHeader


def test_renamed_labels_agree_after_matching() -> None:
    rng = np.random.default_rng(0)
    first = [rng.integers(0, 20, 50) for _ in range(5)]
    names = rng.permutation(20)
    result = agreement(Units.of(first, UnitsHeader()), Units.of([names[row] for row in first], UnitsHeader()))
    assert result.matched == 1
    assert result.nmi == pytest.approx(1)
    assert result.same < 0.5
    assert agreement(Units.of(first, UnitsHeader()), Units.of(first, UnitsHeader())).same == 1


def test_units_are_matched_one_to_one_and_as_a_whole() -> None:
    # Unit 0 goes with 0 five times and with 1 four times, unit 1 with 0 four times: taking the largest first leaves 5 of 13.
    first, second = np.repeat([0, 0, 1], [5, 4, 4]), np.repeat([0, 1, 0], [5, 4, 4])
    result = agreement(*(Units.of([units], UnitsHeader()) for units in (first, second)))
    assert result.matched == (4 + 4) / 13
    assert (result.same, result.frames) == (5 / 13, 13)
    # One unit of three goes with another's three: renamed one to one, a third agrees, not all.
    assert agreement(Units.of([np.arange(3)], UnitsHeader()), Units.of([np.zeros(3, int)], UnitsHeader())).matched == 1 / 3


def test_unrelated_labels_hardly_agree() -> None:
    rng = np.random.default_rng(0)
    result = agreement(*(Units.of([rng.integers(0, 10, 5000)], UnitsHeader()) for _ in range(2)))
    assert result.nmi < 0.01
    assert result.matched < 0.2
    empty = Units.of([], UnitsHeader())
    assert agreement(empty, empty).frames == 0


def test_labels_of_other_frames_are_not_compared() -> None:
    first = Units.of([np.zeros(3, int), np.zeros(4, int)], UnitsHeader())
    with pytest.raises(MismatchError, match="2 utterances can't be compared with 1"):
        agreement(first, Units.of([np.zeros(3, int)], UnitsHeader()))
    with pytest.raises(MismatchError, match="line 2 has 4 labels in one and 5"):
        agreement(first, Units.of([np.zeros(3, int), np.zeros(5, int)], UnitsHeader()))


def test_without_scipy_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(InputError, match=r"pip install 'vocable\[evaluation\]'"):
        best_matching(np.eye(2, dtype=np.int64))


def test_utterances_are_compared_by_id_whatever_their_order() -> None:
    rows = [np.array(row) for row in ([0, 1, 1], [2, 2], [3])]
    first = Units.of(rows, UnitsHeader(manifest="a"), ("x", "y", "z"))
    second = Units.of(rows[::-1], UnitsHeader(manifest="b"), ("z", "y", "x"))
    assert agreement(first, second).same == 1
    other = Units.of(rows, UnitsHeader(), ("x", "y", "w"))
    with pytest.raises(MismatchError, match="only one of the labellings has the utterance 'w'"):
        agreement(first, other)


def test_lines_of_different_manifests_are_not_compared() -> None:
    rows = [np.array([0, 1])]
    first, second = (Units.of(rows, UnitsHeader(manifest=digest)) for digest in "ab")
    with pytest.raises(MismatchError, match=r"different manifests, .*or give both as \.units"):
        agreement(first, second)
    assert agreement(first, Units.of(rows, UnitsHeader())).same == 1


def test_large_units_take_no_more_memory_than_they_are_many() -> None:
    first = Units.of([np.array([16_000_000, 5, 5])], UnitsHeader())
    assert agreement(first, first).matched == 1
