from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import mutual_info_score, normalized_mutual_info_score

from vocable.errors import InputError, MismatchError
from vocable.evaluation.joint_counts import JointCounts, mutual_information, normalized_mutual_information
from vocable.evaluation.unit_quality import PhoneScores, phone_scores, without_stress
from vocable.timelines import Alignments
from vocable.units.units import Survey, Units, UnitsHeader
from vocable.units.usage import entropy_of, usage_scores


def at(rate: float, first: float = 0.0125) -> Callable[[int], np.ndarray]:
    """Return the centres of windows that begin one after another."""
    return lambda count: first + np.arange(count) / rate


def counts_of(labels: list[str], units: list[int]) -> JointCounts:
    return JointCounts.of([(labels, np.array(units))], max(units) + 1)


def test_purities_are_those_of_the_book() -> None:
    counts = counts_of(list("aaaabbbc"), [0, 0, 1, 2, 0, 1, 1, 2])
    assert counts.labels == ("a", "b", "c")
    assert counts.counts.tolist() == [[2, 1, 1], [1, 2, 0], [0, 0, 1]]
    assert counts.phone_purity() == (2 + 2 + 1) / 8
    assert counts.cluster_purity() == (2 + 2 + 1) / 8
    assert counts.without(["c"]).frames == 7


def test_one_unit_for_all_is_pure_of_units_and_many_units_are_pure_of_phones() -> None:
    few, many = counts_of(list("aabc"), [0, 0, 0, 0]), counts_of(list("aaab"), [0, 1, 2, 3])
    assert (few.phone_purity(), few.cluster_purity()) == (2 / 4, 1)
    assert (many.phone_purity(), many.cluster_purity()) == (1, 2 / 4)


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 9)), min_size=1, max_size=200))
def test_information_is_scikit_learns(pairs: list[tuple[str, int]]) -> None:
    labels, units = [label for label, _ in pairs], [unit for _, unit in pairs]
    counts = counts_of(labels, units)
    assert mutual_information(counts.counts) == pytest.approx(mutual_info_score(labels, units), abs=1e-9)
    assert normalized_mutual_information(counts.counts) == pytest.approx(normalized_mutual_info_score(labels, units), abs=1e-9)
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
    scores = phone_scores(units, ["s/u1", "s/u2"], aligned(tmp_path), 100, at(100))
    assert (scores.utterances, scores.phones) == (2, 2)
    assert scores.frames == 28 - 2  # two frames of u2 lie in the gap from 50 to 70 ms
    assert scores.phone_purity == pytest.approx((8 + 5 + 10) / 26)
    shifted = phone_scores(units, ["u1", "u2"], aligned(tmp_path), 100, at(100, 0.0))
    assert shifted.phone_purity < scores.phone_purity


def test_stress_is_stripped_and_silences_are_named(tmp_path: Path) -> None:
    units = Units.of([np.arange(14) % 3] * 2, UnitsHeader(clusters=3))
    assert phone_scores(units, ["u1", "u2"], aligned(tmp_path), 100, at(100), frozenset({"sil", "b"})).phones == 1


def test_stress_digits_are_those_of_arpabet_vowels() -> None:
    vowels = ["AA", "AE", "AH", "AO", "AW", "AX", "AXR", "AY", "EH", "ER", "EY", "IH", "IX", "IY", "OW", "OY", "UH", "UW", "UX"]
    assert [without_stress(f"{vowel}{digit}") for vowel in vowels for digit in (0, 1, 2)] == [v for v in vowels for _ in range(3)]
    others = ["AH", "AH3", "AH01", "sil", "sil_0", "1", "", "T1", "x2", "BAH1", "ao1", "N0", "a1"]
    assert [without_stress(phone) for phone in others] == others


def scores_of_frames(tmp_path: Path, labels: str, units: list[int], rate: float = 50, alignment_rate: float = 50) -> PhoneScores:
    (tmp_path / "f.txt").write_text(f"u\t{labels}\n")
    alignments = Alignments(tmp_path / "f.txt", rate=alignment_rate)
    return phone_scores(Units.of([np.array(units)], UnitsHeader()), ["u"], alignments, rate, at(rate))


def test_scores_are_those_reckoned_by_hand(tmp_path: Path) -> None:
    # Without silence, unit 0 meets AA, AA and B, unit 1 meets B: of the phone's 1 bit, 3/4 · h(1/3) bits stay unknown.
    scores = scores_of_frames(tmp_path, "SIL,AA1,AA0,sil,B,B,sp,sp", [1, 0, 0, 1, 0, 1, 0, 2])
    unknown = 3 / 4 * (np.log2(3) - 2 / 3)
    assert scores.pnmi_without_silence == pytest.approx(1 - unknown)
    # With it: AA 0 0 | B 0 1 | SIL 1 | sil 1 | sp 0 2
    assert scores.pnmi == pytest.approx(mutual_info_score(list("sAAiBBpp"), [1, 0, 0, 1, 0, 1, 0, 2]) / (2.25 * np.log(2)))
    assert (scores.phone_purity, scores.cluster_purity) == ((2 + 1 + 1) / 8, (2 + 1 + 1 + 1 + 1) / 8)
    assert (scores.frames, scores.utterances, scores.phones) == (8, 1, 2)


@pytest.mark.parametrize(("rate", "alignment_rate"), [(50, 50), (100, 100), (50, 100), (100, 50), (62.5, 25), (12.5, 100)])
def test_units_meet_the_labels_of_their_own_time_at_any_rates(tmp_path: Path, rate: float, alignment_rate: float) -> None:
    labels = ["ABCD"[int(0.0125 + at / alignment_rate)] for at in range(int(3.9 * alignment_rate))]
    units = [int(0.0125 + at / rate) for at in range(int(3.9 * rate))]
    scores = scores_of_frames(tmp_path, ",".join(labels), units, rate, alignment_rate)
    assert scores.frames >= len(units) - 1
    assert scores.phone_purity > 0.97  # all but those whose label's half hop reaches over a border


@pytest.mark.parametrize(
    ("labels", "units", "message"),
    [
        (200, 100, r"f\.txt has 200 labels for 'u', 4\.00 s at 50 a second, but its 100 units .* --alignment-rate, about 100,"),
        (50, 100, r"f\.txt has 50 labels for 'u', 1\.00 s at 50 a second, but its 100 units .* --alignment-rate, about 25,"),
        (124, 100, "--alignment-rate, about 62,"),
        (80, 100, "--alignment-rate, about 40,"),
        (20, 10, "--alignment-rate, about 100,"),
    ],
)
def test_frame_labels_of_another_rate_are_refused(tmp_path: Path, labels: int, units: int, message: str) -> None:
    with pytest.raises(MismatchError, match=message):
        scores_of_frames(tmp_path, ",".join("ab" * (labels // 2)), [0] * units)


@pytest.mark.parametrize(("labels", "units"), [(103, 100), (97, 100), (520, 500), (5, 8)])
def test_a_few_frame_labels_more_or_fewer_are_taken(tmp_path: Path, labels: int, units: int) -> None:
    assert scores_of_frames(tmp_path, ",".join("a" * labels), [0] * units).frames <= units


@pytest.mark.parametrize(("labels", "units"), [(0, 100), (2, 0)])
def test_a_score_of_no_frame_is_refused(tmp_path: Path, labels: int, units: int) -> None:
    with pytest.raises(InputError, match=r"f\.txt has no interval that a frame of the 1 utterances lies in"):
        scores_of_frames(tmp_path, ",".join("a" * labels), [0] * units)


def test_two_utterances_are_not_scored_against_one_alignment(tmp_path: Path) -> None:
    units = Units.of([np.zeros(14, int)] * 2, UnitsHeader())
    with pytest.raises(InputError, match=r"one alignment, u1, for 'a/u1' and for 'b/u1': name alignments by"):
        phone_scores(units, ["a/u1", "b/u1"], aligned(tmp_path), 100, at(100))


def test_bits_a_second_are_those_of_runs() -> None:
    # Three runs in 8 frames at 50 a second; each run is one of three equally frequent units, whatever its length.
    usage = usage_scores(Survey.of([np.array([0, 0, 0, 0, 0, 0, 1, 2])]), rate=50)
    assert usage.units_per_second == 3 * 50 / 8
    assert usage.bitrate == pytest.approx(3 * 50 / 8 * np.log2(3))


def test_utterances_without_alignment_are_left_out_or_named(tmp_path: Path) -> None:
    units = Units.of([np.zeros(14, int)] * 2, UnitsHeader())
    assert phone_scores(units, ["u1", "other"], aligned(tmp_path), 100, at(100)).utterances == 1
    with pytest.raises(InputError, match="none of the 2 utterances has an alignment"):
        phone_scores(units, ["x", "y"], aligned(tmp_path), 100, at(100))
