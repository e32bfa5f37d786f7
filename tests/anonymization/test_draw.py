"""The draw of codebooks follows from key and utterance alone; the reference's plans are replayed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chisquare

from vocable.anonymization.draw import KeyedDraw, ReferenceDraw, of_frames, read_key, segment_count
from vocable.errors import InputError

NAMES = [f"book-{number}" for number in range(20)]
KEY = bytes(range(32))


def test_the_references_plans_are_replayed(shared: Path) -> None:
    with np.load(shared / "golden" / "wavlm" / "quant_io.npz") as golden:
        np.testing.assert_array_equal(ReferenceDraw(5).per_audio(30), golden["plan_per_audio"])
        some = ReferenceDraw(118, used=10)
        np.testing.assert_array_equal(some._begun()[1], golden["kmeans_num10_of118_subset"])
        plan = some.per_audio(30)
        np.testing.assert_array_equal(plan, golden["kmeans_num10_of118_subset"][golden["kmeans_num10_plan"]])
        for stride in (1, 4, 7):
            segments = ReferenceDraw(5, seed=99).per_segment([segment_count(40, stride)])[0]
            np.testing.assert_array_equal(of_frames(segments, 40, stride), golden[f"stride{stride}_cb"])


def test_a_draw_depends_on_key_name_and_purpose_alone() -> None:
    draw = KeyedDraw(NAMES, key=KEY)
    plan = draw.segments("u1", 500)
    np.testing.assert_array_equal(KeyedDraw(list(NAMES), key=KEY).segments("u1", 500), plan)
    np.testing.assert_array_equal(draw.segments("u1", 20), plan[:20])
    for other in (
        KeyedDraw(NAMES, key=KEY + b"x").segments("u1", 500),
        draw.segments("u2", 500),
        draw.segments("u1", 500, None, "f"),
    ):
        assert (other != plan).mean() > 0.8
    assert (KeyedDraw(NAMES).segments("u1", 500) != KeyedDraw(NAMES).segments("u1", 500)).any()
    assert "0x" not in repr(draw)
    assert str(KEY) not in repr(draw)
    # Two words can't be mistaken for two others that read the same one after another.
    assert (draw.segments("b", 50, purpose="a") != draw.segments("", 50, purpose="ab")).any()


def test_all_codebooks_are_drawn_alike() -> None:
    draw = KeyedDraw(NAMES, key=KEY)
    within = np.bincount(draw.segments("long", 200_000), minlength=20)
    across = np.bincount([draw.segments(f"u{number}", 1)[0] for number in range(20_000)], minlength=20)
    pairs = draw.segments("long", 200_000)
    followed = np.bincount(pairs[::2] * 20 + pairs[1::2], minlength=400)
    for counts in (within, across, followed):
        assert chisquare(counts).pvalue > 1e-4
    skewed = within.copy()
    skewed[0] += skewed[1] // 10
    assert chisquare(skewed).pvalue < 1e-4  # the test would have seen it


def test_some_are_used_and_own_ones_are_left_out() -> None:
    used = KeyedDraw(NAMES, key=KEY, used=6)
    assert len(used.allowed()) == 6
    assert set(used.segments("u", 400).tolist()) == set(used.allowed().tolist())
    assert used.allowed().tolist() != KeyedDraw(NAMES, key=KEY[::-1], used=6).allowed().tolist()
    speakers = [[f"s{number // 2}"] for number in range(20)]
    other = KeyedDraw(NAMES, speakers, KEY, own_left_out=True)
    assert not {6, 7} & set(other.segments("u", 1000, "s3").tolist())
    assert len(set(other.segments("u", 1000, "s3").tolist())) == 18
    with pytest.raises(InputError, match="who speaks isn't known"):
        other.segments("u", 3)
    with pytest.raises(InputError, match="of s0's own speech"):
        KeyedDraw(NAMES[:2], speakers[:2], KEY, own_left_out=True).segments("u", 3, "s0")
    for wrong in (0, 21):
        with pytest.raises(InputError, match="give 1 to 20"):
            KeyedDraw(NAMES, key=KEY, used=wrong)
    with pytest.raises(InputError, match="there are 5"):
        ReferenceDraw(5, used=6)


def test_keys_come_from_files(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(KEY)
    assert read_key(tmp_path / "key") == KEY
    (tmp_path / "short").write_bytes(b"secret\n")
    with pytest.raises(InputError, match="can be guessed"):
        read_key(tmp_path / "short")
    with pytest.raises(InputError, match="can't be read"):
        read_key(tmp_path / "none")


def test_segments_are_of_a_stride() -> None:
    assert segment_count(40, 7) == 6
    assert segment_count(40, None) == 1
    assert segment_count(0, 3) == 0
    assert of_frames(np.array([3, 1]), 5, 3).tolist() == [3, 3, 3, 1, 1]
