"""Word and character errors of what a recogniser makes of speech, with intervals over speakers; and how well pitch is kept."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vocable.errors import InputError
from vocable.evaluation.intervals import DRAWS, interval

_KEPT = re.compile(r"[^\w' ]+")


@dataclass(frozen=True)
class ErrorRate:
    """Insertions, deletions and substitutions, of as many as were said."""

    rate: float
    low: float
    """Bounds of 95 % of draws of speakers."""
    high: float
    errors: int
    said: int


def normalized(text: str) -> str:
    """Return a text in lower case, without punctuation but apostrophes within words, with single blanks."""
    words = (word.strip("'") for word in _KEPT.sub(" ", text.lower().replace("’", "'").replace("_", " ")).split())
    return " ".join(word for word in words if word)


def word_errors(said: Sequence[str], heard: Sequence[str], speakers: Sequence[str] | None = None) -> ErrorRate:
    """Return the word error rate of utterances.

    Args:
        said: what was said in each.
        heard: what a recogniser made of it.
        speakers: of each, for the interval; by default each utterance is one.

    Raises:
        InputError: nothing was said.
    """
    return _rate(_words(said), _words(heard), speakers)


def drawn_word_errors(said: Sequence[str], heard: Sequence[str], speakers: Sequence[str] | None = None) -> NDArray[np.float64]:
    """Return the word error rates of many draws of speakers, always the same ones, NaN where nothing was said; of shape (draws,).

    The arguments are those of `word_errors`.
    """
    return _drawn(*_counts(_words(said), _words(heard)), speakers)


def character_errors(said: Sequence[str], heard: Sequence[str], speakers: Sequence[str] | None = None) -> ErrorRate:
    """Return the character error rate of utterances, blanks between words included; the arguments are those of `word_errors`."""
    return _rate([list(normalized(text)) for text in said], [list(normalized(text)) for text in heard], speakers)


def edit_distance(one: Sequence[str], other: Sequence[str]) -> int:
    """Return the fewest insertions, deletions and substitutions that make one sequence of the other (Levenshtein 1966)."""
    codes = {token: code for code, token in enumerate({*one, *other})}
    rows, columns = (np.array([codes[token] for token in sequence], np.int64) for sequence in (one, other))
    places = np.arange(len(columns) + 1)
    costs = places.copy()
    for at, token in enumerate(rows, 1):
        # Of a row, substitutions and deletions first; then insertions, as a running minimum.
        best = np.minimum(costs[1:] + 1, costs[:-1] + (columns != token))
        costs = np.minimum.accumulate(np.concatenate([[at], best]) - places) + places
    return int(costs[-1])


def pitch_correlation(one: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    """Return the correlation of the logarithms of two pitch contours where both are voiced; NaN where that is hardly anywhere.

    Args:
        one: Hz, of shape (frames,); 0 where there is no voice.
        other: of the same utterance said by another; a frame more or less at the end doesn't matter.
    """
    count = min(len(one), len(other))
    one, other = one[:count], other[:count]
    voiced = (one > 0) & (other > 0)
    if voiced.sum() < 3:
        return float("nan")
    logs = [np.log(values[voiced].astype(np.float64)) for values in (one, other)]
    spread = logs[0].std() * logs[1].std()
    return float(((logs[0] - logs[0].mean()) * (logs[1] - logs[1].mean())).mean() / spread) if spread > 0 else float("nan")


def _words(texts: Sequence[str]) -> list[list[str]]:
    return [normalized(text).split() for text in texts]


def _rate(said: list[list[str]], heard: list[list[str]], speakers: Sequence[str] | None) -> ErrorRate:
    errors, counts = _counts(said, heard)
    low, high = interval(_drawn(errors, counts, speakers))
    return ErrorRate(float(errors.sum() / counts.sum()), low, high, int(errors.sum()), int(counts.sum()))


def _counts(said: list[list[str]], heard: list[list[str]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the errors in each utterance, and how much was said."""
    errors = np.array([edit_distance(one, other) for one, other in zip(said, heard, strict=True)], np.int64)
    counts = np.array([len(text) for text in said], np.int64)
    if not counts.sum():
        raise InputError("nothing was said in any of the utterances: an error rate needs words")
    return errors, counts


def _drawn(errors: NDArray[np.int64], counts: NDArray[np.int64], speakers: Sequence[str] | None) -> NDArray[np.float64]:
    names, own = np.unique(speakers if speakers is not None else np.arange(len(errors)), return_inverse=True)
    of_speaker = np.stack([np.bincount(own, values, len(names)) for values in (errors, counts)])
    drawn = np.random.default_rng(0).integers(0, len(names), (DRAWS, len(names)))
    totals = of_speaker[:, drawn].sum(axis=2)
    rates: NDArray[np.float64] = np.where(totals[1] > 0, totals[0] / np.maximum(totals[1], 1), np.nan)
    return rates
