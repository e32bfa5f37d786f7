"""What probes are scored on is held out whole: recordings however often they are listed, chapters, or another corpus."""

from __future__ import annotations

import numpy as np
import pytest

from vocable.audio.manifest import Manifest, Utterance
from vocable.errors import InputError
from vocable.recipes.probe_settings import ProbeSettings
from vocable.recipes.probe_sides import speaker_sides, utterance_sides


def rows(speakers: int, chapters: int, utterances: int = 4) -> list[Utterance]:
    """Each speaker has one chapter more than the one before."""
    return [Utterance(f"{who}-{chapter}-{at}", f"{who}/{chapter}/{at}.wav", 9, str(who))
            for who in range(speakers) for chapter in range(chapters + who) for at in range(utterances)]  # fmt: skip


def everything(manifest: Manifest) -> np.ndarray:
    return np.ones(len(manifest), dtype=bool)


def test_chapters_are_held_out_whole_and_utterances_where_there_are_none() -> None:
    given = rows(3, 2)
    sides = speaker_sides([Manifest.of(given)], ProbeSettings())
    assert (sides.scored_on, sides.notes) == ("other chapters", ())
    assert (sides.fitted ^ sides.scored).all()
    again = speaker_sides([Manifest.of(given)], ProbeSettings(chapters="{speaker}/{chapter}/*"))
    assert np.array_equal(again.scored, sides.scored)
    for who in range(3):
        held, kept = ({row.id.split("-")[1] for row, own in zip(given, side, strict=True) if own and row.speaker == str(who)}
                      for side in (sides.scored, sides.fitted))  # fmt: skip
        assert held
        assert kept
        assert not held & kept
    sides = speaker_sides([Manifest.of(row for row in given if "-0-" in row.id)], ProbeSettings())
    assert sides.scored_on == "other utterances"
    assert (sides.fitted.sum(), sides.scored.sum()) == (9, 3)
    assert "of the same chapters, since fewer than two have several chapters" in sides.notes[0]
    with pytest.raises(InputError, match="no two speakers have two utterances"):
        speaker_sides([Manifest.of([given[0], given[8]])], ProbeSettings())
    with pytest.raises(InputError, match="give --speakers, and speech of two or more"):
        speaker_sides([Manifest.of(given[:8])], ProbeSettings())


def test_who_takes_no_part_is_told() -> None:
    some = speaker_sides([Manifest.of(rows(5, 0))], ProbeSettings())
    assert some.scored_on == "other chapters"
    assert some.notes == ("3 of 4 speakers have two chapters or more: the others take no part",)
    few = [Utterance(f"{who}/{at}", f"{who}/{at}.wav", 9, who) for who, at in ("a0", "a1", "b0", "b1", "c0")]
    unknown = speaker_sides([Manifest.of(few)], ProbeSettings())
    assert unknown.notes[0].endswith("perhaps of the same chapters, since nothing tells chapters: give --chapters")
    assert unknown.notes[1:] == ("2 of 3 speakers have two utterances or more: the others take no part",)
    assert not (unknown.fitted | unknown.scored)[4]
    both = speaker_sides([Manifest.of(rows(3, 2)), Manifest.of(rows(2, 2))], ProbeSettings())
    assert (both.scored_on, both.notes) == ("the other audio", ("2 of 3 speakers are in both: the others take no part",))
    assert (both.fitted.sum(), both.scored.sum()) == (20, 20)
    alone = speaker_sides([Manifest.of(rows(3, 2)), Manifest.of(rows(1, 2))], ProbeSettings())
    assert (alone.scored_on, alone.notes) == (
        "other chapters", ("speakers were scored within the first audio, since fewer than two are in both",)
    )  # fmt: skip
    assert not (alone.fitted | alone.scored)[-8:].any()


def test_a_recording_is_on_one_side_however_often_it_is_listed() -> None:
    twice = [
        Utterance(f"{who}/{at}{mark}", f"{who}/{at}.flac", 9, who) for who in "ab" for at in range(30) for mark in ("", "#2")
    ]
    manifest = Manifest.of(twice)
    for sides in (utterance_sides([manifest], everything(manifest), ProbeSettings()), speaker_sides([manifest], ProbeSettings())):
        assert (sides.fitted ^ sides.scored).all()
        assert np.array_equal(sides.scored[::2], sides.scored[1::2])
        assert 4 <= sides.scored[::2].sum() <= 20
    once = Manifest.of(twice[::2])
    assert np.array_equal(
        utterance_sides([once], everything(once), ProbeSettings()).scored,
        utterance_sides([manifest], everything(manifest), ProbeSettings()).scored[::2],
    )
    with pytest.raises(InputError, match="no two speakers have two utterances"):
        speaker_sides([Manifest.of(row for row in twice if "/0" in row.id)], ProbeSettings())


def test_channels_of_a_file_are_recordings_of_their_own() -> None:
    calls = Manifest.of(Utterance(f"{at}:{side}", f"{at}.wav", 9, channel=side) for at in range(40) for side in (1, 2))
    sides = utterance_sides([calls], everything(calls), ProbeSettings(held_out=0.5))
    assert (sides.scored[::2] != sides.scored[1::2]).any()


@pytest.mark.parametrize("held_out", [0.001, 0.5, 0.999])
def test_both_sides_have_something_of_what_is_usable(held_out: float) -> None:
    manifest = Manifest.of(rows(2, 2))
    for count in range(2, 6):
        usable = np.zeros(len(manifest), dtype=bool)
        usable[3 : 3 + count] = True
        sides = utterance_sides([manifest], usable, ProbeSettings(held_out=held_out))
        assert np.array_equal(sides.fitted ^ sides.scored, usable)
        assert sides.fitted.any()
        assert sides.scored.any()
    alone = np.arange(len(manifest)) == 2
    sides = utterance_sides([manifest], alone, ProbeSettings(held_out=held_out))
    assert (sides.fitted.sum(), sides.scored.sum()) == (1, 0)


def test_a_second_corpus_is_scored_whole() -> None:
    both = [Manifest.of(rows(1, 2)), Manifest.of(rows(2, 1))]
    sides = utterance_sides(both, np.ones(20, dtype=bool), ProbeSettings())
    assert sides.scored.tolist() == [False] * 8 + [True] * 12
    assert (sides.fitted ^ sides.scored).all()
    assert sides.scored_on == "the other audio"


def test_settings_that_cannot_be_are_refused() -> None:
    for changes, said in (
        ({"bins": 1}, "--bins 1: give 2 to"),
        ({"bins": 1 << 20}, "--bins 1048576"),
        ({"frames": 0}, "--frames 0: give 1 or more"),
        ({"held_out": 1.0}, "--held-out 1"),
        ({"chapters": "*/*"}, "should hold {chapter} once"),
    ):
        with pytest.raises(InputError, match=said):
            ProbeSettings(**changes)
