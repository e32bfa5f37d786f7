"""Who speaks in the rows of a manifest, as labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vocable.artefacts.headers import digest_of
from vocable.errors import InputError
from vocable.execution.engine import Engine, Work
from vocable.recipes.corpus import CorpusSettings, open_corpus, require_source, require_speakers, require_usable
from vocable.recipes.workplace import Claim, open_workplace, require_name
from vocable.units.label_files import header_file
from vocable.units.speaker_labels import (
    DICTIONARY,
    counted,
    read_speaker_dictionary,
    write_speaker_dictionary,
    write_speaker_labels,
)


@dataclass(frozen=True)
class MadeSpeakers:
    """What became of it."""

    labels: Path
    utterances: int
    speakers: int
    """In the dictionary."""
    unknown: int
    """Utterances of others, or of nobody knows whom."""
    was_done: bool


def label_speakers(
    source: Path, out: Path, name: str, dict_of: Path | None, corpus: CorpusSettings, work: Work, overwrite: bool = False
) -> MadeSpeakers:
    """Write `out/name.spk` with a speaker for each row of a manifest, its header, and `out/dict.spk.txt`.

    Args:
        source: a manifest, or a folder of audio.
        out: folder for the files.
        name: what they are called.
        dict_of: a folder with labels of another split, whose dictionary is taken: other speakers than those in it are unknown.
        corpus: which audio is taken, and who speaks in it.
        work: where it runs.
        overwrite: replace labels of something else.

    Raises:
        InputError: nobody says who speaks, or labels of something else stand there.
    """
    require_source(source)
    require_name(name)
    require_speakers(source, corpus, "a list of speakers")
    theirs = None if dict_of is None else read_speaker_dictionary(dict_of / DICTIONARY)
    folder = open_workplace(out)
    with Engine(work) as engine:
        opened = open_corpus(source, corpus, engine, folder)
    require_usable(opened, source)
    rows = opened.manifest
    speakers = rows.speakers or (None,) * len(rows)
    counts = counted(speakers)
    names = tuple(counts) if theirs is None else theirs
    labels = out / f"{name}.spk"
    files = [labels, header_file(labels)]
    if dict_of is None or dict_of.resolve() != out.resolve():
        files.append(out / DICTIONARY)
    made_from = {"audio": opened.state, "dictionary": None if theirs is None else digest_of(list(theirs))}
    claim = Claim.of(folder, f"spk-{name}", made_from, files)
    if dict_of is None and not overwrite and not claim.is_known() and not labels.exists() and (out / DICTIONARY).exists():
        raise InputError(
            f"{out / DICTIONARY} has another split's speakers: take them with --dict-of {out}, or give another --out"
        )
    claim.check(overwrite, source)
    was_done = claim.is_settled()
    if not was_done:
        with claim.taken(overwrite) as staged:
            write_speaker_labels(staged / labels.name, speakers, names, rows.digest)
            if out / DICTIONARY in files:
                write_speaker_dictionary(staged / DICTIONARY, {who: counts.get(who, 0) for who in names})
    unknown = sum(who not in set(names) for who in speakers)
    return MadeSpeakers(labels, len(rows), len(names), unknown, was_done)
