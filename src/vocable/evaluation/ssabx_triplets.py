"""Makes triplets of sentence ABX from any corpus whose words are aligned.

The rules: X and P are one and the same sequence of words, of `fewest` to `most` words, said by two speakers, and as long as
possible: it is part of no longer such sequence of both. N is a sequence of as many words, said by a third speaker or P's, that
shares as many of X's words as any does, but not all, and lasts about as long. Each clip is from the start of its first word to
the end of its last.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from vocable.errors import InputError
from vocable.evaluation.ssabx import Clip, Triplet


@dataclass(frozen=True)
class Spoken:
    """An utterance with its words."""

    file: str
    speaker: str
    words: tuple[str, ...]
    times: tuple[tuple[float, float], ...]
    """Start and end of each word, in seconds."""

    def clip(self, first: int, count: int) -> Clip:
        """Return so many words from one on."""
        start, end = self.times[first][0], self.times[first + count - 1][1]
        return Clip(self.file, start, end, " ".join(self.words[first : first + count]))


@dataclass(frozen=True, kw_only=True)
class TripletSettings:
    """Which triplets are made.

    Raises:
        InputError: a part is none.
    """

    fewest: int = 5
    """Words of a clip, at least."""
    most: int = 14
    """Words of a clip, at most."""
    negatives: int = 10
    """Triplets of one X and P, at most; each with another N."""
    lengths_within: float = 1.5
    """Times that N may be longer or shorter than X."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.fewest <= self.most:
            raise InputError(f"{self.fewest} to {self.most} words: give two numbers from 1, the smaller first")
        if self.negatives < 1 or not self.lengths_within >= 1:
            raise InputError("negatives and lengths_within: give 1 or more")


Place = tuple[int, int]
"""An utterance, and the word of it that a clip begins with."""


def made_triplets(spoken: Sequence[Spoken], settings: TripletSettings) -> list[Triplet]:
    """Return the triplets of a corpus; of equal inputs always the same.

    Raises:
        InputError: no two speakers say the same words.
    """
    drawn = np.random.default_rng(settings.seed)
    triplets: list[Triplet] = []
    for count in range(settings.most, settings.fewest - 1, -1):
        places = _places(spoken, count)
        index = _WordIndex(spoken, places, count)
        for x, positive in _pairs(spoken, places, count, settings):
            own = spoken[x[0]].clip(x[1], count)
            same = spoken[positive[0]].clip(positive[1], count)
            others = index.nearest(x, positive, settings, drawn)
            triplets += [Triplet(own, same, spoken[number].clip(first, count)) for number, first in others]
    if not triplets:
        raise InputError(
            f"no {settings.fewest} words in a row are said by two speakers: give more utterances, or a smaller --fewest-words"
        )
    return triplets


def _places(spoken: Sequence[Spoken], count: int) -> dict[tuple[str, ...], list[Place]]:
    found: dict[tuple[str, ...], list[Place]] = defaultdict(list)
    for number, item in enumerate(spoken):
        for first in range(len(item.words) - count + 1):
            found[item.words[first : first + count]].append((number, first))
    return found


def _pairs(
    spoken: Sequence[Spoken], places: dict[tuple[str, ...], list[Place]], count: int, settings: TripletSettings
) -> Iterator[tuple[Place, Place]]:
    """Yield two places of one sequence of words, of two speakers, that no longer sequence of both goes on to."""
    for words in sorted(places):
        for at, x in enumerate(places[words]):
            for positive in places[words][at + 1 :]:
                one, other = spoken[x[0]], spoken[positive[0]]
                if one.speaker == other.speaker:
                    continue
                before = x[1] > 0 and positive[1] > 0 and one.words[x[1] - 1] == other.words[positive[1] - 1]
                ends = x[1] + count, positive[1] + count
                behind = ends[0] < len(one.words) and ends[1] < len(other.words) and one.words[ends[0]] == other.words[ends[1]]
                if count == settings.most or not (before or behind):
                    yield x, positive


class _WordIndex:
    """Where sequences of so many words are that have a word."""

    def __init__(self, spoken: Sequence[Spoken], places: dict[tuple[str, ...], list[Place]], count: int) -> None:
        self._spoken, self._count = spoken, count
        self._by_word: dict[str, list[Place]] = defaultdict(list)
        for words, found in places.items():
            for word in set(words):
                self._by_word[word] += found

    def nearest(self, x: Place, positive: Place, settings: TripletSettings, drawn: np.random.Generator) -> list[Place]:
        """Return places of other words by other speakers than X's, those that share most words with X first."""
        own = self._spoken[x[0]]
        words = own.words[x[1] : x[1] + self._count]
        shared: dict[Place, int] = defaultdict(int)
        for word in set(words):
            for place in self._by_word[word]:
                shared[place] += 1
        clip = own.clip(x[1], self._count)
        length = clip.end - clip.start
        allowed = []
        for place, count in sorted(shared.items()):
            item = self._spoken[place[0]]
            other = item.clip(place[1], self._count)
            ratio = max((other.end - other.start) / length, length / max(other.end - other.start, 1e-9))
            elsewhere = item.speaker != own.speaker and place[0] != positive[0]
            if elsewhere and count < len(set(words)) and ratio <= settings.lengths_within:
                allowed.append((count, place))
        order = drawn.permutation(len(allowed))
        ranked = sorted((allowed[at] for at in order.tolist()), key=lambda found: -found[0])
        kept: dict[str, Place] = {}  # of overlapping ones in an utterance one is enough
        for _, place in ranked:
            kept.setdefault(self._spoken[place[0]].file, place)
            if len(kept) == settings.negatives:
                break
        return list(kept.values())
