from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import mutual_info_score, normalized_mutual_info_score

from vocable.errors import InputError, MismatchError
from vocable.evaluation.agreement import agreement, best_matching
from vocable.evaluation.joint_counts import JointCounts, mutual_information
from vocable.evaluation.unit_quality import phone_scores, without_stress
from vocable.timelines import Alignments
from vocable.units.units import Units, UnitsHeader
from vocable.units.usage import entropy_of


def counts_of(labels: list[str], units: list[int]) -> JointCounts:
    return JointCounts.of([(labels, np.array(units))], max(units) + 1)


def test_purities_are_those_of_the_book() -> None:
    counts = counts_of(list("aaabbbbc"), [0, 0, 1, 1, 1, 1, 2, 2])
    assert counts.labels == ("a", "b", "c")
    assert counts.counts.tolist() == [[2, 1, 0], [0, 3, 1], [0, 0, 1]]
    assert counts.phone_purity() == (2 + 3 + 1) / 8
    assert counts.cluster_purity() == (2 + 3 + 1) / 8
    assert counts.without(["c"]).frames == 7


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 9)), min_size=1, max_size=200))
def test_information_is_scikit_learns(pairs: list[tuple[str, int]]) -> None:
    labels, units = [label for label, _ in pairs], [unit for _, unit in pairs]
    counts = counts_of(labels, units)
    assert mutual_information(counts.counts) == pytest.approx(mutual_info_score(labels, units), abs=1e-9)
    assert counts.nmi() == pytest.approx(normalized_mutual_info_score(labels, units), abs=1e-9)
    entropy = entropy_of(counts.counts.sum(axis=1))
    assert 0 <= counts.pnmi() <= 1 + 1e-12
    if entropy > 0:
        assert counts.pnmi() == pytest.approx(mutual_info_score(labels, units) / entropy, abs=1e-9)


def test_units_that_are_phones_tell_everything_and_one_unit_nothing() -> None:
    assert counts_of(list("abcabc"), [2, 0, 1, 2, 0, 1]).pnmi() == pytest.approx(1)
    assert counts_of(list("abcabc"), [0] * 6).pnmi() == 0
    assert counts_of(list("aaaa"), [0, 1, 2, 3]).pnmi() == 0
    empty = JointCounts.of([], 3)
    assert (empty.frames, empty.phone_purity(), empty.pnmi()) == (0, 0, 0)


def aligned(tmp_path: Path) -> Alignments:
    (tmp_path / "u1.tsv").write_text("start\tend\tphone\n0.00\t0.05\tAH0\n0.05\t0.10\tSIL\n0.10\t0.15\tB\n")
    (tmp_path / "u2.tsv").write_text("start\tend\tphone\n0.00\t0.05\tAH1\n0.07\t0.15\tB\n")
    return Alignments(tmp_path)


def test_frames_stand_at_the_centre_of_their_window(tmp_path: Path) -> None:
    # Frames 0 … 3 are centred at 12.5 … 42.5 ms: AH; 4 … 8: SIL or gap; 9 … 13: B.
    units = Units.of([np.repeat([1, 2, 3], [4, 5, 5])] * 2, UnitsHeader(clusters=4))
    scores = phone_scores(units, ["s/u1", "s/u2"], aligned(tmp_path), 100, 0.0125)
    assert (scores.utterances, scores.phones) == (2, 2)
    assert scores.frames == 28 - 2  # two frames of u2 lie in the gap from 50 to 70 ms
    assert scores.phone_purity == pytest.approx((8 + 5 + 10) / 26)
    assert scores.pnmi_without_silence == pytest.approx(1 - 0, abs=0.2)
    shifted = phone_scores(units, ["u1", "u2"], aligned(tmp_path), 100, 0.0)
    assert shifted.phone_purity < scores.phone_purity


def test_stress_is_stripped_and_silences_are_named(tmp_path: Path) -> None:
    assert [without_stress(phone) for phone in ("AH0", "AH", "sil", "1", "t2")] == ["AH", "AH", "sil", "1", "t"]
    units = Units.of([np.arange(14) % 3] * 2, UnitsHeader(clusters=3))
    assert phone_scores(units, ["u1", "u2"], aligned(tmp_path), 100, 0.0125, frozenset({"sil", "b"})).phones == 1


def test_utterances_without_alignment_are_left_out_or_named(tmp_path: Path) -> None:
    units = Units.of([np.zeros(14, int)] * 2, UnitsHeader())
    assert phone_scores(units, ["u1", "other"], aligned(tmp_path), 100, 0.0125).utterances == 1
    with pytest.raises(InputError, match="none of the 2 utterances has an alignment"):
        phone_scores(units, ["x", "y"], aligned(tmp_path), 100, 0.0125)


def test_renamed_labels_agree_after_matching() -> None:
    rng = np.random.default_rng(0)
    first = [rng.integers(0, 20, 50) for _ in range(5)]
    names = rng.permutation(20)
    result = agreement(Units.of(first, UnitsHeader()), Units.of([names[row] for row in first], UnitsHeader()))
    assert result.matched == 1
    assert result.nmi == pytest.approx(1)
    assert result.same < 0.5
    assert agreement(Units.of(first, UnitsHeader()), Units.of(first, UnitsHeader())).same == 1


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
