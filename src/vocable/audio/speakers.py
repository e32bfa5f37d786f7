"""Who speaks: from a path pattern or a table; and splits that keep whole utterances or whole speakers."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from vocable.audio.manifest import Manifest, id_of
from vocable.errors import InputError, sentence_of


def with_speakers(manifest: Manifest, source: str) -> Manifest:
    """Return the manifest with a speaker for each utterance.

    Args:
        manifest: its paths are matched as they stand, relative to its root.
        source: a pattern such as `{speaker}/*/*` or `*/{speaker}-*`, in which * is any text without a slash; or a file
            of lines `utterance speaker`, as Kaldi's utt2spk, in which the last part of an id will do where it is the only one.

    Raises:
        InputError: a path doesn't match, an utterance is not in the table or may be one of several in it, or there is no such
            table or pattern.
    """
    if "{speaker}" in source:
        speakers = _from_pattern(manifest.paths, source, "speaker")
    elif os.path.isfile(source):  # which, unlike Path's, is false for names that the system refuses
        speakers = _from_table(manifest, Path(source))
    else:
        raise InputError(f"{source!r} is neither a file nor a pattern with {{speaker}} in it, such as '{{speaker}}/*/*'")
    return replace(manifest, speakers=tuple(speakers))


def chapters_of(manifest: Manifest, pattern: str | None = None) -> list[str] | None:
    """Return what recording each utterance is cut from, or None if nothing says so.

    Args:
        manifest: its paths are matched as they stand, relative to its root.
        pattern: such as `{speaker}/{chapter}/*`; without, names as LibriSpeech's tell it: SPEAKER-CHAPTER-NUMBER.

    Raises:
        InputError: a path doesn't match the pattern.
    """
    if pattern is not None:
        return _from_pattern(manifest.paths, pattern, "chapter")
    found = [_LIBRISPEECH.fullmatch(name.rsplit("/", 1)[-1]) for name in manifest.ids]
    return [match["chapter"] for match in found if match is not None] if found and all(found) else None


_LIBRISPEECH = re.compile(r"(?P<speaker>[^-]+)-(?P<chapter>[^-]+)-[^-]+")


def split(manifest: Manifest, valid_percent: float, seed: int, by_speaker: bool = False) -> tuple[Manifest, Manifest]:
    """Split into train and valid, each in the manifest's order.

    The utterances (or speakers) with the lowest hash of seed and id go to valid: round(valid_percent · n) of them, at least
    one when `valid_percent` > 0, never all. By speaker, speakers are taken until they hold that part of the audio.

    Args:
        manifest: to split.
        valid_percent: a fraction from 0 to below 1, as in fairseq despite its name.
        seed: of the hash.
        by_speaker: keep each speaker's utterances together.

    Raises:
        InputError: the fraction isn't one, or speakers are asked for and unknown.
    """
    check_fraction(valid_percent)
    if valid_percent == 0 or len(manifest) == 0:
        return manifest, manifest.select([])
    groups = _speaker_groups(manifest) if by_speaker else {name: [row] for row, name in enumerate(manifest.ids)}
    if len(groups) < 2:
        raise InputError(
            f"a split needs two {'speakers' if by_speaker else 'utterances'} at least; there is {len(groups)}: "
            "use --valid-percent 0"
        )
    # By speaker, audio counts; by utterance, utterances do.
    weight = {name: float(manifest.samples[rows].sum()) if by_speaker else 1.0 for name, rows in groups.items()}
    goal = valid_percent * sum(weight.values()) if by_speaker else round(valid_percent * len(groups))
    valid: list[int] = []
    taken = 0.0
    for name in sorted(groups, key=lambda item: hash_fraction(seed, item))[: len(groups) - 1]:
        if valid and taken >= goal:
            break
        valid += groups[name]
        taken += weight[name]
    held_out = np.zeros(len(manifest), dtype=bool)
    held_out[valid] = True
    return manifest.select(np.flatnonzero(~held_out)), manifest.select(np.flatnonzero(held_out))


def check_fraction(valid_percent: float) -> None:
    """Refuse what is no part of a corpus.

    Raises:
        InputError: it isn't from 0 to below 1.
    """
    if not 0 <= valid_percent < 1:
        raise InputError(f"--valid-percent {valid_percent:g}: it is a fraction below 1, such as 0.01 for one in a hundred")


def hash_fraction(seed: int, name: str) -> float:
    """Return a number in [0, 1) that follows from seed and name alone: a draw that needs no order and no state."""
    return int.from_bytes(
        hashlib.blake2b(f"{seed}\0{name}".encode("utf-8", "surrogateescape"), digest_size=7).digest(), "big"
    ) / (1 << 56)


def _from_pattern(paths: Iterable[str], pattern: str, what: str) -> list[str]:
    """Return the part of each path that stands where a pattern has `{what}`; other names in braces stand for any text."""
    parts = re.split(r"(\{speaker\}|\{chapter\}|\*)", pattern)
    if parts.count(f"{{{what}}}") != 1:
        raise InputError(f"the {what} pattern {pattern!r} should hold {{{what}}} once")
    any_text = {"{speaker}": "[^/]+?", "{chapter}": "[^/]+?", "*": "[^/]*"}
    expression = re.compile(
        "".join({**any_text, f"{{{what}}}": "(?P<wanted>[^/]+?)"}.get(part, re.escape(part)) for part in parts)
    )
    found = []
    for path in paths:
        match = expression.fullmatch(path)
        if match is None:
            raise InputError(f"the {what} pattern {pattern!r} doesn't match {path!r}: * stands for any text without a slash")
        found.append(match["wanted"])
    return found


def _from_table(manifest: Manifest, table: Path) -> list[str]:
    """Return the speaker of each utterance: by its id, or by the id's last part, where no other ends so."""
    speakers = _read_table(table)
    plain = list(map(_plain_id, manifest.ids, manifest.paths))
    ends = Counter(_last_part(name) for name in set(plain))
    found = []
    for numbered, name in zip(manifest.ids, plain, strict=True):
        speaker = speakers.get(numbered, speakers.get(name))
        if speaker is None:
            end = _last_part(name)
            speaker = speakers.get(_last_part(numbered), speakers.get(end))
            if speaker is None:
                raise InputError(f"{table} has no speaker for {numbered!r}")
            if ends[end] > 1:
                other = next(item for item in plain if item != name and _last_part(item) == end)
                raise InputError(f"{table} names {end!r}, which may be {name!r} or {other!r}: give whole ids in it")
        found.append(speaker)
    return found


def _plain_id(name: str, path: str) -> str:
    """Return an id without the number that repeated rows of a `.tsv` have."""
    own, _, number = name.rpartition("#")
    return own if number.isdecimal() and own == id_of(path) else name


def _last_part(name: str) -> str:
    return name.rsplit("/", 1)[-1]


def _read_table(table: Path) -> dict[str, str]:
    speakers: dict[str, str] = {}
    try:
        text = table.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{table} is not UTF-8 text (byte {error.start}): save it as UTF-8") from error
    except OSError as error:
        raise InputError(sentence_of(error)) from error
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            whole = line.strip()
            fields = [item.strip() for item in (re.split(r"\t+", whole) if "\t" in whole else whole.split())]
            if len(fields) != 2:
                raise InputError(f"{table} line {number} should be an utterance and its speaker, but reads {line!r}")
            name, who = fields
            if speakers.setdefault(name, who) != who:
                raise InputError(f"{table} line {number} gives {name!r} another speaker than an earlier line: leave one of them")
    return speakers


def _speaker_groups(manifest: Manifest) -> dict[str, list[int]]:
    if manifest.speakers is None:
        raise InputError("a split by speaker needs speakers: give --speakers with a pattern such as '{speaker}/*/*', or a table")
    groups: dict[str, list[int]] = {}
    for row, speaker in enumerate(manifest.speakers):
        if speaker is None:
            raise InputError(f"a split by speaker needs every speaker; {manifest.ids[row]!r} has none")
        groups.setdefault(speaker, []).append(row)
    return groups
