"""Who speaks in the rows of a manifest, as labels."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from vocable.artefacts.headers import digest_of
from vocable.audio.faults import Skipped
from vocable.audio.manifest import Manifest
from vocable.audio.manifest_files import read_manifest
from vocable.audio.speakers import with_speakers
from vocable.errors import InputError
from vocable.execution.engine import Engine, Work
from vocable.recipes.corpus import (
    CorpusSettings,
    for_all_rows,
    open_corpus,
    require_source,
    require_speakers,
    require_usable,
)
from vocable.recipes.skipping import keep_skipped
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
    skipped: list[Skipped] = field(default_factory=list)
    """Files of a folder that can't be used, and rows of a manifest without lengths whose file can't."""
    record: Path | None = None
    """Where they are named."""
    looked_up: bool = True
    """Whether audio was looked at; a manifest may say all that is to be known."""


def label_speakers(
    source: Path, out: Path, name: str, dict_of: Path | None, corpus: CorpusSettings, work: Work, overwrite: bool = False
) -> MadeSpeakers:
    """Write `out/name.spk` with a speaker for each row of a manifest, its header, and `out/dict.spk.txt`.

    Who speaks doesn't depend on whether the audio is of use, so that all rows of a manifest are named. What had to be left out
    of a folder is named in `out/name.spk.skipped.jsonl`.

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
    rows, skipped, looked_up = _opened(source, corpus, work, folder)
    speakers = rows.speakers or (None,) * len(rows)
    counts = counted(speakers)
    names = tuple(counts) if theirs is None else theirs
    labels = out / f"{name}.spk"
    files = [labels, header_file(labels)]
    if dict_of is None or dict_of.resolve() != out.resolve():
        files.append(out / DICTIONARY)
    dictionary = None if theirs is None else digest_of(list(theirs))
    made_from = {"audio": digest_of([rows.digest, speakers]), "dictionary": dictionary}
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
    record = keep_skipped(skipped, out / f"{name}.spk.skipped.jsonl")
    return MadeSpeakers(labels, len(rows), len(names), unknown, was_done, skipped, record, looked_up)


def _opened(source: Path, corpus: CorpusSettings, work: Work, folder: Path) -> tuple[Manifest, list[Skipped], bool]:
    """Return the rows to name, what can't be used, and whether audio had to be looked at for that.

    Raises:
        InputError: there is nothing to name.
    """
    if not source.is_dir():
        rows = read_manifest(source, corpus.sample_rate)
        if len(rows) and (rows.samples >= 0).all():
            return (rows if corpus.speakers is None else with_speakers(rows, corpus.speakers)), [], False
    with Engine(work) as engine:
        opened = open_corpus(source, for_all_rows(source, corpus), engine, folder)
    require_usable(opened, source)
    return opened.manifest, opened.skipped, True
