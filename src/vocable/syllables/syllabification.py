"""Syllables of words, from their phones: as many consonants as a language lets a syllable begin with go to the next one.

That is the principle of maximal onset (Kahn 1976). What a syllable can begin with, and which phones are vowels, is data.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import pairwise
from pathlib import Path

import numpy as np

from vocable.artefacts.text import lines_of
from vocable.errors import InputError
from vocable.timelines.timeline import Timeline

_GAP = 0.015  # seconds without a phone, in which nobody speaks; times are often whole hundredths
_STRESS = re.compile(r"(?<=[A-Za-z])[0-3]$")


@dataclass(frozen=True)
class Phonology:
    """What makes syllables of a language's phones."""

    vowels: frozenset[str]
    onsets: frozenset[tuple[str, ...]]
    """Consonants that a syllable can begin with."""

    @classmethod
    def read(cls, path: Path | None = None) -> Phonology:
        """Read a file of `vowels` and `onsets`; by default English's.

        Raises:
            InputError: a line is neither, or there are no vowels.
        """
        if path is None:
            lines = resources.files("vocable.syllables").joinpath("english.txt").read_text().split("\n")
        elif path.is_file():
            lines = lines_of(path, path.read_bytes())
        else:
            raise InputError(f"{path}: there is no such file; give one with lines of vowels and onsets")
        vowels: set[str] = set()
        onsets: set[tuple[str, ...]] = set()
        for number, line in enumerate(lines, 1):
            kind, _, rest = line.partition("#")[0].strip().partition(" ")
            if kind == "vowels":
                vowels.update(rest.split())
            elif kind == "onsets":
                onsets.update(tuple(item.split()) for item in rest.split(",") if item.strip())
            elif kind:
                raise InputError(f"{path} line {number} begins with {kind!r}: write vowels or onsets, and then phones")
        if not vowels:
            raise InputError(f"{path} names no vowels: write a line such as 'vowels a e i o u'")
        return cls(frozenset(vowels), frozenset(onsets))

    def is_vowel(self, phone: str) -> bool:
        """Tell whether a phone, with or without a digit of stress, is a vowel."""
        return phone in self.vowels or _STRESS.sub("", phone) in self.vowels

    def syllables_of(self, phones: Sequence[str]) -> list[range]:
        """Return the phones of each syllable of a word, by their numbers; a word without a vowel is one syllable."""
        nuclei = [at for at, phone in enumerate(phones) if self.is_vowel(phone)]
        starts = [0]
        for nucleus, following in pairwise(nuclei):
            between = [_STRESS.sub("", phone) for phone in phones[nucleus + 1 : following]]
            longest = next((at for at in range(len(between)) if tuple(between[at:]) in self.onsets), len(between))
            starts.append(nucleus + 1 + longest)
        return [range(first, last) for first, last in zip(starts, [*starts[1:], len(phones)], strict=True)] if phones else []


def syllable_timeline(phones: Timeline, words: Timeline | None, phonology: Phonology, silences: frozenset[str]) -> Timeline:
    """Return the syllables of an utterance.

    Args:
        phones: its phones.
        words: the words that these are in, an interval for each phone; without it, words end at silences alone.
        phonology: of the language.
        silences: labels of phones, in lower case, that are none.
    """
    rows: list[tuple[float, float, str]] = []
    word: list[int] = []

    def close() -> None:
        for syllable in phonology.syllables_of([phones.labels[at] for at in word]):
            own = word[syllable.start : syllable.stop]
            label = " ".join(phones.labels[at] for at in own)
            rows.append((float(phones.starts[own[0]]), float(phones.ends[own[-1]]), label))
        word.clear()

    for at, label in enumerate(phones.labels):
        silent = label.lower() in silences
        if word:
            other = words is not None and words.labels[at] != words.labels[at - 1]
            if silent or other or phones.starts[at] - phones.ends[at - 1] > _GAP:
                close()
        if not silent:
            word.append(at)
    close()
    starts, ends = (np.array([row[part] for row in rows], dtype=np.float64) for part in (0, 1))
    return Timeline(starts, ends, tuple(row[2] for row in rows))
