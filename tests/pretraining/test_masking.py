"""Masks cover what the reference's cover, and follow from what is drawn alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vocable.errors import InputError
from vocable.pretraining.masking import MaskSettings, span_masks


def reference(drawn: np.random.Generator, frames: int, settings: MaskSettings) -> np.ndarray:
    """Return one utterance's mask, span by span, as specs of the reference say it."""
    spans = max(settings.least, int(settings.probability * frames / settings.length + drawn.random()))
    last = frames - settings.length
    if last <= spans:
        last = spans + 1
    mask = np.zeros(frames, dtype=bool)
    for start in drawn.choice(min(last, frames - 1), min(spans, last, frames - 1), replace=False):
        mask[start : start + settings.length] = True
    mask[-1] = False
    return mask


@pytest.mark.parametrize(("frames", "coverage"), [(780, 0.566), (99, 0.571)])
def test_coverage_is_the_references(frames: int, coverage: float) -> None:
    settings = MaskSettings()
    masks = span_masks(np.random.default_rng(0), 4000, frames, settings)
    drawn = np.random.default_rng(1)
    slow = np.mean([reference(drawn, frames, settings).mean() for _ in range(4000)])
    assert masks.mean() == pytest.approx(coverage, abs=0.004)
    assert masks.mean() == pytest.approx(slow, abs=0.004)


def test_edges_are_masked_as_often_as_the_references() -> None:
    settings, frames = MaskSettings(), 60
    masks = span_masks(np.random.default_rng(0), 20_000, frames, settings)
    drawn = np.random.default_rng(1)
    slow = np.mean([reference(drawn, frames, settings) for _ in range(20_000)], axis=0)
    assert np.abs(masks.mean(axis=0) - slow).max() < 0.02
    assert not masks[:, -1].any()


@given(st.integers(2, 300), st.floats(0.01, 1), st.integers(1, 30), st.integers(1, 5), st.integers(0, 100))
def test_spans_are_whole_but_at_the_end_and_a_frame_stays(
    frames: int, probability: float, length: int, least: int, seed: int
) -> None:
    settings = MaskSettings(probability=probability, length=length, least=least)
    masks = span_masks(np.random.default_rng(seed), 3, frames, settings)
    assert masks.shape == (3, frames)
    assert masks.any(axis=1).all()
    assert not masks[:, -1].any()
    for mask in masks:
        edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(int), [0]])))
        for first, last in edges.reshape(-1, 2):
            assert last - first >= min(length, frames - 1 - first)


def test_the_same_draw_gives_the_same_masks() -> None:
    one, two = (span_masks(np.random.default_rng([7, 3]), 5, 200, MaskSettings()) for _ in range(2))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, span_masks(np.random.default_rng([7, 4]), 5, 200, MaskSettings()))


@pytest.mark.parametrize("wrong", [{"probability": 0}, {"probability": 1.5}, {"length": 0}, {"least": 0}])
def test_impossible_masks_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        MaskSettings(**wrong)  # type: ignore[arg-type]
