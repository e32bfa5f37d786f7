"""What syllables are where: from alignments, or a file of SD-HuBERT's authors; and made of phones by maximal onset."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocable.artefacts.writing import write_text
from vocable.errors import InputError
from vocable.evaluation.unit_quality import SILENCES
from vocable.syllables.syllabification import Phonology, syllable_timeline
from vocable.timelines.alignments import Alignments
from vocable.timelines.timeline import Timeline

_DIGITS = re.compile("[0-3]")
WORD_COLUMN = "word"
_TIERS = ("syllables", "syllable")


@dataclass(frozen=True)
class Reference:
    """The syllables of an utterance."""

    file: str
    """Of its audio, or its name."""
    times: NDArray[np.float64]
    """Start and end of each in seconds, of shape (syllables, 2)."""
    labels: tuple[str, ...]
    """Without digits of stress."""


def read_references(path: Path, tier: str | None = None) -> list[Reference]:
    """Read syllables: a folder of UTTERANCE.tsv or .TextGrid, or a JSON file as SD-HuBERT's authors have them.

    Args:
        path: of the folder or file.
        tier: of TextGrids, or column of tables; by default one called syllables or syllable, or else what `Alignments` takes.

    Raises:
        InputError: it holds something else; the message names the entry.
    """
    if path.is_dir():
        found = _aligned(path, tier)
        return [_of_timeline(name, timeline) for name, timeline in found.items()]
    try:
        entries = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} can't be read as JSON ({error}): give a folder of syllables, or such a file") from error
    if not isinstance(entries, dict) or not entries:
        raise InputError(f"{path} holds no utterances: give a file such as librispeech_syllable_test.json")
    return [_of_entry(path, name, entry) for name, entry in entries.items()]


def _aligned(path: Path, tier: str | None) -> Alignments:
    if tier is not None:
        return Alignments(path, tier)
    for name in _TIERS:
        found = Alignments(path, name)
        try:
            next(found.items())
        except InputError:
            continue
        return found
    return Alignments(path)


def made_references(
    alignments: Path, phonology: Phonology, words: str | None = WORD_COLUMN, tier: str | None = None
) -> Iterator[tuple[str, Timeline]]:
    """Yield utterances with their syllables, made of phones.

    Args:
        alignments: phones, a folder of UTTERANCE.tsv or .TextGrid.
        phonology: of the language.
        words: column of the tables that says in which word a phone is, or tier of words; None where there is none.
        tier: of the phones.

    Raises:
        InputError: an alignment lacks the column or tier.
    """
    phones = Alignments(alignments, tier)
    of_words = None if words is None else Alignments(alignments, words)
    if not any(phonology.is_vowel(label) for _, timeline in phones.items() for label in timeline.labels):
        name, timeline = next(phones.items())
        raise InputError(
            f"{alignments}: no phone is a vowel of this phonology (of {name} the first are {', '.join(timeline.labels[:4])}): "
            "give --phonology with the vowels of these phones"
        )
    for name, timeline in phones.items():
        in_words = None if of_words is None else of_words.find(name)
        yield name, syllable_timeline(timeline, None if in_words is None else _by_phone(in_words, timeline), phonology, SILENCES)


def _by_phone(words: Timeline, phones: Timeline) -> Timeline:
    """Return in which word each phone is: as a table says phone by phone, or by the middle of each."""
    if len(words) == len(phones) and np.array_equal(words.starts, phones.starts):
        return words
    middles = (phones.starts + phones.ends) / 2
    numbers = np.searchsorted(words.starts, middles, side="right")  # that tell a word said twice from one that goes on
    return Timeline(phones.starts, phones.ends, tuple(map(str, numbers.tolist())))


def write_references(made: Sequence[tuple[str, Timeline]], out: Path, overwrite: bool = False) -> None:
    """Write a table of syllables for each utterance: start, end, syllable.

    Raises:
        InputError: a table stands there, and isn't to be replaced.
    """
    for name, timeline in made:
        path = out / f"{name}.tsv"
        if not overwrite and path.exists() and path.read_bytes() != _table(timeline).encode():  # the same: an earlier run's
            raise InputError(f"{path} is there already: give another folder, or --overwrite")
    for name, timeline in made:
        path = out / f"{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, _table(timeline))


def _table(timeline: Timeline) -> str:
    rows = zip(timeline.starts.tolist(), timeline.ends.tolist(), timeline.labels, strict=True)
    return "start\tend\tsyllable\n" + "".join(f"{start:.4f}\t{end:.4f}\t{label}\n" for start, end, label in rows)


def references_json(made: Sequence[tuple[str, Timeline]], ext: str) -> str:
    """Return syllables in the form of SD-HuBERT's authors.

    Args:
        made: utterances with their syllables.
        ext: of their audio files, such as flac.
    """
    last = [name.rsplit("/", 1)[-1] for name, _ in made]
    keys = last if len(set(last)) == len(last) else [name for name, _ in made]
    entries = {
        key: {
            "file_name": f"{name}.{ext}",
            "syllables": [
                {"start": f"{start:.4f}", "end": f"{end:.4f}", "label": label}
                for start, end, label in zip(timeline.starts.tolist(), timeline.ends.tolist(), timeline.labels, strict=True)
            ],
        }
        for key, (name, timeline) in zip(keys, made, strict=True)
    }
    return json.dumps(entries, indent=1) + "\n"


def _of_timeline(name: str, timeline: Timeline) -> Reference:
    kept = [at for at, label in enumerate(timeline.labels) if label.lower() not in SILENCES]
    times = np.stack([timeline.starts[kept], timeline.ends[kept]], axis=1)
    return Reference(name, times, tuple(_DIGITS.sub("", timeline.labels[at]) for at in kept))


def _of_entry(path: Path, name: str, entry: Any) -> Reference:
    try:
        syllables = entry["syllables"]
        times = np.array([[float(item["start"]), float(item["end"])] for item in syllables], dtype=np.float64).reshape(-1, 2)
        if not (np.isfinite(times).all() and (times[:, 0] <= times[:, 1]).all()):
            raise ValueError("times that are none")
        return Reference(str(entry["file_name"]), times, tuple(_DIGITS.sub("", str(item["label"])) for item in syllables))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}, entry {name}, should have a file_name and syllables, each with start, end and label: correct it"
        ) from error
