"""Blocks end with the row that fills them, however the manifest is gone through."""

from __future__ import annotations

import numpy as np
import pytest

from vocable.audio.blocks import Block, block_ends, blocks_of
from vocable.audio.faults import AudioFault
from vocable.audio.manifest import Manifest, Utterance


def ends_by_hand(samples: list[int], limit: float) -> list[int]:
    ends, filled = [], 0
    for row, count in enumerate(samples):
        filled += max(count, 0)
        if filled >= limit:
            ends.append(row + 1)
            filled = 0
    return ends


@pytest.mark.parametrize("seed", range(30))
def test_blocks_end_with_the_row_that_fills_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    samples = rng.choice([-1, 0, 1, 5, 30, 99, 100, 101, 700], size=int(rng.integers(0, 200)))
    expected = ends_by_hand(samples.tolist(), 100.0)
    ends, rest = block_ends(samples, 100.0)
    assert ends.tolist() == expected
    assert rest == np.maximum(samples[expected[-1] if expected else 0 :], 0).sum()
    found, filled, first = [], 0.0, 0
    for part in np.split(samples, np.sort(rng.integers(0, len(samples) + 1, 4))):
        own, filled = block_ends(part, 100.0, filled)
        found += (own + first).tolist()
        first += len(part)
    assert found == expected
    manifest = Manifest.of([Utterance(str(at), f"{at}.wav", int(count)) for at, count in enumerate(samples)])
    blocks = list(blocks_of(manifest, 100 / manifest.sample_rate))
    assert [block.first + len(block.utterances) for block in blocks] == [
        *expected,
        *([len(samples)] if len(samples) > (expected[-1] if expected else 0) else []),
    ]
    assert [item.id for block in blocks for item in block.utterances] == list(manifest.ids)
    assert [block.index for block in blocks] == list(range(len(blocks)))


def test_spoiled_rows_are_not_read_and_blocks_are_the_same_work_all_the_same() -> None:
    rows = (Utterance("a", "a.wav", 9), Utterance("b", "b.wav", 9, channel=1), Utterance("c", "b.wav", 9, channel=2))
    block = Block(0, 0, "/audio", rows, 16000)
    assert block.names == ("/audio/a.wav", "/audio/b.wav:1", "/audio/b.wav:2")
    without = block.without(frozenset({"/audio/b.wav:1"}))
    assert without.content == block.content
    assert [without.is_spoiled(row) for row in rows] == [False, True, False]
    with pytest.raises(AudioFault, match="/audio/b.wav: whatever process reads it ends at once"):
        without.where(rows[1])
    only = without.only(frozenset({"/audio/a.wav"}))
    assert [only.is_spoiled(row) for row in rows] == [False, True, True]
    assert only.where(rows[0]) == "/audio/a.wav"
