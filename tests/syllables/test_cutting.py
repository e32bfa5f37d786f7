"""Stretches of speech become syllables as by the authors' code, and as slow references say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from syllables.references import slow_greedy, slow_merged
from vocable.errors import InputError
from vocable.syllables import cutting
from vocable.syllables.cutting import cut_stretches, syllables
from vocable.syllables.greedy import gathered_syllables
from vocable.syllables.merging import merged
from vocable.syllables.norm_peaks import norm_peak_syllables
from vocable.syllables.settings import PRESETS, Greedy, MinimumCut, NormPeaks, SegmentSettings, Voicing
from vocable.syllables.voicing import runs, scaled_norms, voiced_stretches

Frames = NDArray[np.float32]


def speech(frames: int, seed: int, dim: int = 16) -> Frames:
    """Return frames of syllables: some alike, then others."""
    drawn = np.random.default_rng(seed)
    centres = drawn.standard_normal((frames, dim))
    return (centres[np.sort(drawn.integers(0, max(1, frames // 6), frames))] + 0.4 * drawn.standard_normal((frames, dim))).astype(
        np.float32
    )


@given(st.integers(2, 60), st.integers(0, 1000), st.sampled_from([-1.0, 0.2, 0.5, 0.8, 1.1]))
def test_merging_with_sums_that_are_kept_is_merging_with_means_made_anew(frames: int, seed: int, threshold: float) -> None:
    made = speech(frames, seed)
    edges = np.unique([0, *np.random.default_rng(seed).integers(1, frames, frames // 3), frames])
    pieces = np.stack([edges[:-1], edges[1:]], axis=1)
    expected = slow_merged(made.astype(np.float64), [tuple(piece) for piece in pieces.tolist()], threshold)
    assert [tuple(piece) for piece in merged(made, pieces, threshold).tolist()] == expected


def test_a_piece_of_zeros_is_like_no_other_and_the_rest_is_merged() -> None:
    made = np.ones((12, 4), np.float32)
    made[4:6] = 0
    pieces = np.array([[0, 2], [2, 4], [4, 6], [6, 9], [9, 12]])
    assert merged(made, pieces, 0.5).tolist() == [[0, 4], [4, 6], [6, 12]]


@given(st.integers(1, 50), st.integers(0, 1000), st.sampled_from([0.3, 0.6, 0.8]))
def test_syllables_are_gathered_as_a_slow_reference_gathers_them(frames: int, seed: int, threshold: float) -> None:
    made = speech(frames, seed)
    found = gathered_syllables(made, Greedy(merge_threshold=threshold))
    assert [tuple(item) for item in found.tolist()] == slow_greedy(made, threshold)


def test_syllables_are_gathered_as_by_the_authors_code(shared: Path) -> None:
    golden = np.load(shared / "golden" / "sdhubert" / "sylber_greedy.npz")
    names = [name for name in golden.files if name.endswith("__segments")]
    for name in names:
        stem, norm, merge = name.removesuffix("__segments").rsplit("_", 2)
        frames = golden[f"{stem}__states"]
        voiced = np.sqrt((frames**2).sum(axis=1) + 1e-8) >= float(norm[1:])
        settings = Greedy(merge_threshold=float(merge[1:]), reference_quirks=True)
        found = [gathered_syllables(frames[first:last], settings) + first for first, last in runs(voiced).tolist()]
        assert np.concatenate([np.empty((0, 2)), *found]).tolist() == golden[name].reshape(-1, 2).tolist(), name
    assert len(names) == 36


def test_pieces_are_those_of_the_authors_code(shared: Path) -> None:
    folder = shared / "golden" / "sdhubert"
    golden = np.load(folder / "mincut_wrapper.npz")
    names = {"syl_dur": "syllable_seconds", "merge_threshold": "merge_threshold", "min_cut_minimum": "cut_from"}
    for case in json.loads((folder / "mincut_wrapper_meta.json").read_text()):
        key = case["key"]
        frames, stretches = golden[f"{key}__features"], golden[f"{key}__segments_in"].reshape(-1, 2).astype(np.int64)
        settings = MinimumCut(**{names[name]: value for name, value in case["kw"].items()})
        found = cut_stretches(lambda first, last, frames=frames: frames[first:last], stretches, settings).segments
        assert found.tolist() == golden[f"{key}__segments_out"].reshape(-1, 2).tolist(), key
        means = [frames[first:last].mean(axis=0) for first, last in found.tolist()]
        if means:
            np.testing.assert_allclose(np.stack(means), golden[f"{key}__segment_features"], atol=1e-5)


def test_the_published_settings_leave_out_what_they_left_out() -> None:
    frames = speech(40, 3)
    settings = PRESETS["published"].minimum_cut
    found = cut_stretches(lambda first, last: frames[first:last], np.array([[0, 4], [5, 40]]), settings).segments
    assert found[0].tolist() == [0, 4]  # too short to be cut
    assert found[-1, 1] <= 39  # the last frame is in no piece
    assert (found[:, 1] - found[:, 0] >= 3).all()


def test_merging_ends_where_fewer_pieces_are_left_than_it_takes() -> None:
    frames = np.ones((30, 4), np.float32) + 0.01 * np.random.default_rng(0).random((30, 4)).astype(np.float32)
    pieces = np.array([[0, 8], [8, 16], [16, 24], [24, 30]])
    assert len(merged(frames, pieces, 0.3)) == 1
    assert len(merged(frames, pieces, 0.3, least=3)) == 2  # as for the published scores
    three = np.repeat(np.eye(3, 4, dtype=np.float32) + 0.8, 10, axis=0)  # syllables of ten frames that are somewhat alike
    published = cut_stretches(lambda first, last: three[first:last], np.array([[0, 30]]), PRESETS["published"].minimum_cut)
    assert published.segments.tolist() == [[0, 20], [20, 29]]


def test_a_bound_that_takes_more_pieces_is_told() -> None:
    frames = speech(16, 6)
    found = cut_stretches(lambda a, b: frames[a:b], np.array([[0, 16]]), MinimumCut(syllable_seconds=1.0, longest=7))
    assert found.bounded == 1
    free = cut_stretches(lambda a, b: frames[a:b], np.array([[0, 16]]), MinimumCut(syllable_seconds=1.0))
    assert free.bounded == 0
    assert cut_stretches(lambda a, b: frames[a:b], np.array([[0, 2]]), MinimumCut(cut_from=5, shortest=3)).segments.tolist() == []


def test_pieces_last_as_long_at_any_rate_of_frames() -> None:
    frames = speech(100, 2)
    settings = MinimumCut(syllable_seconds=0.2, merge_threshold=2.0)
    assert len(cut_stretches(lambda a, b: frames[a:b], np.array([[0, 100]]), settings).segments) == 10
    assert len(cut_stretches(lambda a, b: frames[a:b], np.array([[0, 100]]), settings, rate=100.0).segments) == 5


def test_a_bound_on_pieces_makes_as_many_as_it_takes() -> None:
    frames = np.ones((60, 4), np.float32) + np.random.default_rng(0).random((60, 4)).astype(np.float32)
    settings = MinimumCut(syllable_seconds=1.0, merge_threshold=2.0, longest=7)
    found = cut_stretches(lambda first, last: frames[first:last], np.array([[0, 60]]), settings).segments
    assert (found[:, 1] - found[:, 0]).max() <= 8  # and the last frame


def test_long_stretches_are_parted_where_their_norm_is_least(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting, "LONGEST_STRETCH", 40)
    frames, norms = speech(100, 5), np.ones(100)
    norms[47] = 0.5
    settings = SegmentSettings(voicing=Voicing(threshold=0.1, strategy="absolute"), minimum_cut=MinimumCut(merge_threshold=2.0))
    found = syllables(lambda first, last: frames[first:last], norms, np.ones(100), settings).segments
    assert 47 in found[:, 0].tolist()
    assert (found[1:, 0] == found[:-1, 1]).all()
    assert found[-1, 1] == 100


def test_norms_are_scaled_by_percentiles_and_silence_is_left_out() -> None:
    norms = np.concatenate([np.full(50, 1.0), np.full(50, 3.0)])
    scaled = scaled_norms(norms, "relative")
    assert scaled.min() == pytest.approx(0)
    assert scaled.max() == pytest.approx(1)
    assert scaled_norms(np.ones(9), "relative").tolist() == [0.0] * 9  # where the authors' code has NaN
    loudness = np.concatenate([np.full(75, 1.0), np.full(25, 0.0)])
    settings = Voicing(threshold=0.5)
    assert voiced_stretches(scaled, loudness, settings).tolist() == [[50, 100]]
    assert voiced_stretches(scaled, np.zeros(100), settings).tolist() == []
    assert voiced_stretches(scaled, loudness, Voicing(threshold=0.5, least_frames=51)).tolist() == []


def test_boundaries_are_where_norms_stand_out() -> None:
    time = np.arange(100)
    norms = 5 + np.cos(2 * np.pi * time / 20)
    found = norm_peak_syllables(norms, NormPeaks())
    assert found[:, 0].tolist() == [0, 20, 40, 60, 80]
    assert found[-1].tolist() == [80, 100]
    assert norm_peak_syllables(np.ones(30), NormPeaks()).tolist() == [[0, 30]]
    assert norm_peak_syllables(np.empty(0), NormPeaks()).tolist() == []


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: SegmentSettings(method="cut"), "method 'cut' is none of"),
        (lambda: SegmentSettings(windows="half"), "windows 'half'"),
        (lambda: SegmentSettings(layer=0), "layer 0"),
        (lambda: Voicing(layer=0), "norm layer 0"),
        (lambda: Voicing(strategy="none"), "strategy 'none'"),
        (lambda: MinimumCut(syllable_seconds=0), "seconds or more"),
        (lambda: MinimumCut(longest=0), "give 1 frame or more"),
        (lambda: NormPeaks(smoothing=2), "odd number of frames"),
        (lambda: NormPeaks(prominence=-1), "give 0 or more"),
    ],
)
def test_settings_that_mean_nothing_are_refused(made: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        made()  # type: ignore[operator]
