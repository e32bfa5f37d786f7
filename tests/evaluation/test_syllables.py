"""Scores of syllables are those of SD-HuBERT's evaluation, and references follow the rules that are written down."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vocable.errors import InputError
from vocable.evaluation.boundaries import SHIFTS, Boundaries, BoundaryCounts, boundary_counts, matched, tuned_shift
from vocable.evaluation.ssabx import Clip, Triplet, clips_of, read_triplets, score_triplets, triplets_json
from vocable.evaluation.ssabx_triplets import Spoken, TripletSettings, made_triplets
from vocable.evaluation.syllable_quality import matched_segments, overlaps, syllable_scores
from vocable.syllables.syllabification import Phonology, syllable_timeline
from vocable.timelines.timeline import Timeline


@pytest.fixture
def golden(shared: Path) -> Path:
    return shared / "golden" / "sdhubert" / "eval"


def entries(golden: Path, name: str) -> dict[str, Any]:
    return json.loads((golden / f"{name}.json").read_text())


def test_boundaries_are_matched_and_scored_as_by_the_authors_code(golden: Path) -> None:
    for case in entries(golden, "match_boundary"):
        assert matched(case["gt"], case["pred"], case["tol"]) == case["out"][0]
    predictions, expected = np.load(golden / "predictions.npz"), entries(golden, "boundary_expected")

    def of(name: str) -> list[Boundaries]:
        found = []
        for entry in entries(golden, name).values():
            key = entry["file_name"].replace("/", "|").replace(".flac", ".npy")
            times = np.array([[float(item["start"]), float(item["end"])] for item in entry["syllables"]]).reshape(-1, 2)
            found.append(Boundaries.of(times, predictions[f"{key}__segments"]))
        return found

    tuning, tested = of("syll_val"), of("syll_test")
    assert len(SHIFTS) == len(expected["val_by_shift"]) == 20
    for shift, values in zip(SHIFTS.tolist(), expected["val_by_shift"].values(), strict=True):
        assert boundary_counts(tuning, shift).rows() == pytest.approx(values, abs=1e-12)
    assert tuned_shift(tuning) == pytest.approx(expected["best_shift"], abs=1e-12)
    assert boundary_counts(tested, tuned_shift(tuning)).rows() == pytest.approx(expected["test"], abs=1e-12)


def test_counts_of_another_model_on_real_speech_give_its_published_scores() -> None:
    found = BoundaryCounts(hits=105266, references=163763, predictions=161292)
    assert found.precision == pytest.approx(0.6526424125, abs=1e-10)
    assert found.recall == pytest.approx(0.6427947705, abs=1e-10)
    assert found.f1 == pytest.approx(0.6476811616, abs=1e-10)
    assert found.over_segmentation == pytest.approx(-0.0150888784, abs=1e-10)
    assert found.r_value == pytest.approx(0.7002817162, abs=1e-10)


def test_nothing_found_is_no_error() -> None:
    none = BoundaryCounts(0, 5, 0)
    assert (none.precision, none.recall, none.f1, none.over_segmentation) == (0, 0, 0, -1)
    assert BoundaryCounts().r_value <= 1


@given(st.lists(st.floats(0, 5), max_size=8), st.lists(st.floats(0, 5), max_size=8))
def test_a_match_takes_each_boundary_once(references: list[float], predictions: list[float]) -> None:
    references, predictions = sorted(set(references)), sorted(set(predictions))
    hits = matched(references, predictions)
    assert hits <= min(len(references), len(predictions))
    assert matched(references, references) == len(references)
    assert hits == matched(predictions, references)


def test_segments_are_matched_and_units_scored_as_by_the_authors_code(golden: Path) -> None:
    for case in entries(golden, "match_cluster"):
        syllables, segments = np.array(case["gt"]), np.array(case["pred"])
        np.testing.assert_allclose(overlaps(syllables, segments), np.array(case["iou"]), atol=1e-12)
        rows, columns = matched_segments(syllables, segments)
        assert rows.tolist() == case["gt_idx"]
        assert columns.tolist() == case["pred_idx"]
    predictions, units = np.load(golden / "predictions.npz"), np.load(golden / "purity_km.npz")
    pairs = []
    for entry in entries(golden, "syll_test").values():
        key = entry["file_name"].replace("/", "|").replace(".flac", ".npy")
        features, segments = predictions[f"{key}__segment_features"], predictions[f"{key}__segments"].reshape(-1, 2)
        distances = ((features[:, None] - units["centers"][None]) ** 2).sum(axis=-1)
        own = units["reducer"][distances.argmin(axis=1)] if len(features) else np.zeros(0, np.int64)
        times = np.array([[float(item["start"]), float(item["end"])] for item in entry["syllables"]]).reshape(-1, 2)
        rows, columns = matched_segments(times, segments)
        pairs.append(([re.sub("[0-3]", "", entry["syllables"][at]["label"]) for at in rows], own[columns]))
    found = syllable_scores(pairs, 12)
    expected = entries(golden, "purity_expected")["clustering_quality"]
    assert found.cluster_purity == pytest.approx(expected["cluster_purity"], abs=1e-12)
    assert found.syllable_purity == pytest.approx(expected["syllable_purity"], abs=1e-12)
    assert 0 <= found.snmi <= 1
    with pytest.raises(InputError, match="no segment could be taken for a syllable"):
        syllable_scores([], 3)


@pytest.mark.parametrize(
    ("word", "syllables"),
    [
        ("K AE1 T", ["K AE1 T"]),
        ("EH1 K S T R AH0", ["EH1 K", "S T R AH0"]),
        ("S T R EH1 NG TH S", ["S T R EH1 NG TH S"]),
        ("AH0 N HH AE1 P IY0", ["AH0 N", "HH AE1", "P IY0"]),
        ("AE1 T L AH0 S", ["AE1 T", "L AH0 S"]),
        ("S IH1 NG IH0 NG", ["S IH1 NG", "IH0 NG"]),
        ("M HH M", ["M HH M"]),
        ("IY0 AO1", ["IY0", "AO1"]),
    ],
)
def test_as_many_consonants_as_english_lets_begin_a_syllable_go_to_the_next(word: str, syllables: list[str]) -> None:
    phones = word.split()
    assert [" ".join(phones[at] for at in part) for part in Phonology.read().syllables_of(phones)] == syllables


def test_words_silences_and_gaps_end_syllables(tmp_path: Path) -> None:
    phones = Timeline([0, 1, 2, 3, 4, 5.5], [1, 2, 3, 4, 5, 6], ("a", "t", "SIL", "a", "t", "a"))
    words = Timeline(phones.starts, phones.ends, ("at", "at", "SIL", "at", "at", "a"))
    (tmp_path / "other.txt").write_text("# mine\nvowels a e\nonsets t, t r\n")
    phonology = Phonology.read(tmp_path / "other.txt")
    assert syllable_timeline(phones, words, phonology, frozenset({"sil"})).labels == ("a t", "a t", "a")
    joined = Timeline([0, 1, 2, 3], [1, 2, 3, 4], ("a", "t", "t", "a"))
    assert syllable_timeline(joined, None, phonology, frozenset({"sil"})).labels == ("a t", "t a")
    (tmp_path / "other.txt").write_text("vowels a\nsyllables x\n")
    with pytest.raises(InputError, match="line 2 begins with 'syllables'"):
        Phonology.read(tmp_path / "other.txt")
    (tmp_path / "other.txt").write_text("onsets t\n")
    with pytest.raises(InputError, match="names no vowels"):
        Phonology.read(tmp_path / "other.txt")


def test_a_clip_is_described_once_and_nearer_counts(tmp_path: Path) -> None:
    x, same, other = Clip("x.flac", 0.0, 1.0), Clip("p.flac", 0.5, 1.0, "text"), Clip("n.flac", 0.0, 2.0)
    vectors = {"x.flac": [1, 0], "p.flac": [2, 0.1], "n.flac": [0, 3]}
    asked: list[Clip] = []

    def describe(clips: list[Clip]) -> Any:
        asked.extend(clips)
        return iter(np.array(vectors[clip.file], np.float32) for clip in clips)

    triplets = [Triplet(x, same, other), Triplet(x, other, same), Triplet(x, same, same)]
    found = score_triplets(triplets, describe)
    assert found.accuracy == pytest.approx(1 / 3)  # a tie counts as wrong
    assert len(asked) == found.clips == len(clips_of(triplets)) == 3
    (tmp_path / "t.json").write_text(triplets_json(triplets))
    assert read_triplets(tmp_path / "t.json") == triplets
    for content, said in (
        ("[]", "holds no triplets"),
        ("{", "can't be read as JSON"),
        ('{"0": {"X": {"file_name": "a", "segment": [0]}}}', "entry 0: X should have"),
        ('{"0": {"X": {"file_name": "a", "segment": [2, 1]}}}', "runs from 2.0 to 1.0 s"),
    ):
        (tmp_path / "bad.json").write_text(content)
        with pytest.raises(InputError, match=said):
            read_triplets(tmp_path / "bad.json")


def test_triplets_follow_their_rules() -> None:
    def spoken(file: str, speaker: str, words: str) -> Spoken:
        listed = tuple(words.split())
        return Spoken(file, speaker, listed, tuple((float(at), at + 0.9) for at in range(len(listed))))

    corpus = [
        spoken("a", "1", "the cat sat on a mat today"), spoken("b", "2", "look the cat sat on a mat"),
        spoken("c", "1", "the cat sat on a mat"), spoken("d", "3", "the dog sat on a mat"), spoken("e", "3", "x y z u v w q"),
    ]  # fmt: skip
    made = made_triplets(corpus, TripletSettings(fewest=4, most=7, negatives=1))
    assert all(item.x.text == item.positive.text != item.negative.text for item in made)
    speakers = {item.file: item.speaker for item in corpus}
    assert all(len({speakers[item.x.file], speakers[item.positive.file]}) == 2 for item in made)
    assert all(speakers[item.x.file] != speakers[item.negative.file] for item in made)
    longest = [item for item in made if item.x.file == "a" and item.positive.file == "b"]
    assert [item.x.text for item in longest] == ["the cat sat on a mat"]  # and none within it
    assert longest[0].negative.text == "the dog sat on a mat"
    assert made == made_triplets(corpus, TripletSettings(fewest=4, most=7, negatives=1))
    with pytest.raises(InputError, match="no 6 words in a row are said by two speakers"):
        made_triplets(corpus[3:], TripletSettings(fewest=6))
    for wrong in ({"fewest": 0}, {"fewest": 9, "most": 3}, {"negatives": 0}, {"lengths_within": 0.5}):
        with pytest.raises(InputError):
            TripletSettings(**wrong)
