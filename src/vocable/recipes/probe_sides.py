"""Which utterances probes are fitted to, and which they are scored on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vocable.audio.manifest import Manifest, id_of
from vocable.audio.speakers import chapters_of, hash_fraction
from vocable.errors import InputError
from vocable.recipes.probe_settings import ProbeSettings


@dataclass(frozen=True)
class Sides:
    """Which utterances a probe is fitted to, and which it is scored on; others take no part. Each of shape (utterances,)."""

    fitted: NDArray[np.bool_]
    scored: NDArray[np.bool_]
    scored_on: str
    """Other chapters, other utterances, or the other audio."""
    notes: tuple[str, ...] = ()
    """Who takes no part, and why chapters aren't held out."""


def speakers_in(manifest: Manifest) -> set[str]:
    """Return who is known to speak."""
    return {name for name in manifest.speakers or () if name is not None}


def utterance_sides(heard: Sequence[Manifest], usable: NDArray[np.bool_], settings: ProbeSettings) -> Sides:
    """Return the sides for phones and pitch: scored are the second corpus, or else a part of the first one's recordings.

    A recording's own hash decides, whatever others there are; but where that leaves a side empty, the next by hash is taken.

    Args:
        heard: utterances of one corpus or two.
        usable: those that can be asked about, of shape (utterances,).
        settings: which part is held out.
    """
    if len(heard) == 2:
        scored = np.repeat([False, True], [len(manifest) for manifest in heard])
        return Sides(usable & ~scored, usable & scored, "the other audio")
    names = _recordings(heard[0])
    drawn = {name: hash_fraction(settings.seed, name) for name, own in zip(names, usable.tolist(), strict=True) if own}
    count = _of_both(sum(fraction < settings.held_out for fraction in drawn.values()), len(drawn))
    held_out = set(sorted(drawn, key=lambda name: drawn[name])[:count])
    scored = np.array([name in held_out for name in names], dtype=bool)
    return Sides(usable & ~scored, usable & scored, "other utterances")


def speaker_sides(heard: Sequence[Manifest], settings: ProbeSettings) -> Sides:
    """Return the sides for who speaks.

    Scored are speakers in the second corpus, if two or more are in both; or else some chapters of each who has several, if two or
    more have; or else some recordings of each who has several.

    Args:
        heard: utterances of one corpus or two.
        settings: which part is held out, and what tells chapters.

    Raises:
        InputError: fewer than two speakers are known, or of fewer than two something could be held out.
    """
    everyone = [speakers_in(manifest) for manifest in heard]
    if len(everyone[0]) < 2:
        raise InputError("give --speakers, and speech of two or more")
    notes = []
    if len(heard) == 2:
        shared = everyone[0] & everyone[1]
        if len(shared) > 1:
            return _shared_sides(heard, shared, len(everyone[0] | everyone[1]))
        notes.append("speakers were scored within the first audio, since fewer than two are in both")
    chapters = chapters_of(heard[0], settings.chapters)
    for what, parts in (("chapters", chapters), ("utterances", _recordings(heard[0]))):
        groups = {} if parts is None else _several(heard[0], parts)
        if len(groups) < 2:
            continue
        if what == "utterances":
            notes.append(_SAME_CHAPTERS if chapters is not None else _NO_CHAPTERS)
        if len(groups) < len(everyone[0]):
            notes.append(f"{len(groups)} of {len(everyone[0])} speakers have two {what} or more: the others take no part")
        return _parted_sides(heard, groups, settings, f"other {what}", tuple(notes))
    raise InputError("no two speakers have two utterances each, of which one could be held out: give more speech")


_SAME_CHAPTERS = "speakers were scored on other utterances of the same chapters, since fewer than two have several chapters"
_NO_CHAPTERS = (
    "speakers were scored on other utterances, perhaps of the same chapters, since nothing tells chapters: give --chapters"
)
_Groups = dict[str, dict[str, list[int]]]
"""Rows by speaker and chapter, or recording."""


def _recordings(manifest: Manifest) -> list[str]:
    """Return the recording of each utterance: rows may be repeated, to weigh more, and then they are on one side."""
    return [id_of(item.path) if item.channel is None else f"{id_of(item.path)}:{item.channel}" for item in manifest]


def _several(manifest: Manifest, parts: list[str]) -> _Groups:
    """Return the rows of those who speak in two parts or more."""
    groups: _Groups = {}
    for row, (speaker, part) in enumerate(zip(manifest.speakers or (), parts, strict=True)):
        if speaker is not None:
            groups.setdefault(speaker, {}).setdefault(part, []).append(row)
    return {speaker: own for speaker, own in groups.items() if len(own) > 1}


def _parted_sides(
    heard: Sequence[Manifest], groups: _Groups, settings: ProbeSettings, scored_on: str, notes: tuple[str, ...]
) -> Sides:
    """Return the sides that hold out a part of what each says in the first corpus."""
    fitted, scored = np.zeros((2, sum(map(len, heard))), dtype=bool)
    for speaker, own in groups.items():
        ordered = sorted(own, key=lambda part: hash_fraction(settings.seed, f"{speaker}/{part}"))
        count = _of_both(round(settings.held_out * len(own)), len(own))
        for at, part in enumerate(ordered):
            (scored if at < count else fitted)[own[part]] = True
    return Sides(fitted, scored, scored_on, notes)


def _shared_sides(heard: Sequence[Manifest], shared: set[str], everyone: int) -> Sides:
    """Return the sides that hold out all of the second corpus, of those who are in both."""
    fitted, scored = np.zeros((2, sum(map(len, heard))), dtype=bool)
    first = len(heard[0])
    fitted[:first], scored[first:] = ([name in shared for name in manifest.speakers or ()] for manifest in heard)
    few = f"{len(shared)} of {everyone} speakers are in both: the others take no part"
    return Sides(fitted, scored, "the other audio", (few,) if len(shared) < everyone else ())


def _of_both(count: int, every: int) -> int:
    """Return how many to hold out, so that some are, and some aren't."""
    return max(0, min(max(1, count), every - 1))
