"""Data sets of the VoicePrivacy challenge said by other voices: folders in Kaldi's form in and out.

Of a data set `NAME` becomes a folder `NAME_anon`, with speech as `wav/UTTERANCE.wav`, a wav.scp of it, and copies of the other
tables. The challenge's scripts find speech by these names, below the folder. Where OUT is called `data`, paths in the new wav.scp
are as the challenge's own recipes write them, relative to the folder that OUT lies in: its scripts run there, and the tree can be
moved. Elsewhere they are whole paths, which hold wherever the challenge is run.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import soundfile

from vocable.artefacts.writing import part_beside, remove_leftovers, write_bytes
from vocable.audio.decoding import LIBSNDFILE_EXTENSIONS, MEDIA_EXTENSIONS, extension_of
from vocable.audio.faults import printable
from vocable.audio.kaldi_sets import SCP, KaldiSet, is_kaldi_set, kaldi_sets_in, kaldi_table, numbered_lines
from vocable.audio.manifest import Utterance
from vocable.clustering.fleets import read_fleet
from vocable.errors import InputError, sentence_of
from vocable.execution.engine import Work
from vocable.recipes.anonymization import WAVE, Conversion, Converted, check_draw, convert_speech
from vocable.recipes.anonymization_plan import plan_conversion
from vocable.recipes.corpus import CorpusSettings
from vocable.recipes.making import making_in
from vocable.recipes.plan import Plan
from vocable.recipes.row_files import row_of, unlistable, write_rows
from vocable.recipes.utterance_files import path_of
from vocable.recipes.workplace import NAME, Claim, open_workplace

_SPEECH = "wav"
_DURATIONS = ("utt2dur", "reco2dur")
"""Of one content: without segments, recordings are utterances."""
_SHORTER = 0.02 + 1e-6  # seconds: by a hop, speech may be shorter without anybody minding
_OF_FRAMES = {"utt2num_frames", "utt2len"}
_AUDIO = LIBSNDFILE_EXTENSIONS | MEDIA_EXTENSIONS
_LARGEST = 256 << 20  # bytes of a table


@dataclass(frozen=True)
class ChosenSets:
    """Data sets to convert, and where to."""

    sets: list[KaldiSet]
    out: Path
    suffix: str
    passed_over: list[str] = field(default_factory=list)
    """Data sets that are what is made of others, by their names."""

    @classmethod
    def of(cls, source: Path, names: Sequence[str], out: Path | None, suffix: str) -> ChosenSets:
        """Find data sets.

        Args:
            source: a data set, or a folder of some.
            names: of those in it; by default all, but not what an earlier run made of them.
            out: folder of the new data sets; by default where those lie that they are made of.
            suffix: of their names.

        Raises:
            InputError: there are none, one isn't there, or it would be written over.
        """
        if {"/", os.sep, "\n", "\r"} & set(suffix):
            raise InputError(f"--suffix {suffix!r}: give what names are to end in, such as _anon")
        if is_kaldi_set(source):
            if names:
                raise InputError(f"{source} is a data set by itself: leave {names[0]} out, or give the folder that it lies in")
            sets, place = [KaldiSet(source)], Path(os.path.abspath(source)).parent
        else:
            sets, place = _named(source, names, suffix), source
        out = place if out is None else out
        if (why := unlistable(os.path.abspath(out))) is not None:
            raise InputError(f"--out {printable(str(out))} has {why}, which no wav.scp can carry: give another folder")
        inside = out.resolve() == place.resolve()

        def is_made(item: KaldiSet) -> bool:
            base = item.name.removesuffix(suffix) if suffix else item.name
            return base != item.name and (inside or is_kaldi_set(place / base))

        made = [item.name for item in sets if is_made(item)]
        if made and (names or len(made) == len(sets)):
            raise InputError(
                f"{made[0]} in {place} ends in {suffix}, as what is made does: give the original, or another --suffix"
            )
        kept = [item for item in sets if item.name not in made]
        chosen = cls(kept, out, suffix, made)
        for item in kept:
            if chosen.target(item).resolve() == item.folder.resolve():
                raise InputError(f"{item.folder} would be written over: give a --suffix, or another --out")
        return chosen

    def target(self, item: KaldiSet) -> Path:
        """Return the folder of what becomes of a data set."""
        return self.out / f"{item.name}{self.suffix}"


@dataclass(frozen=True)
class AnonymizedSet:
    """What became of a data set."""

    folder: Path
    converted: Converted
    not_copied: list[str]
    """Files that are no tables, or tell of frames or of the original audio."""


def is_attackers(name: str) -> bool:
    """Tell by its name whether a data set is one that attackers make for themselves: to train on, or enrolments."""
    return "enroll" in name or name.startswith("train")


def attackers_conversion(conversion: Conversion, codebooks: Path) -> Conversion:
    """Return how attackers convert, who draw from all of their own codebooks, whoever speaks.

    Raises:
        MismatchError: these are of other frames than the users'.
    """
    users, theirs = read_fleet(conversion.codebooks), read_fleet(codebooks)
    if users.spec is not None and theirs.spec is not None:
        users.spec.require_equal(theirs.spec, f"frames of {conversion.codebooks}", f"those of {codebooks}")
    return replace(conversion, codebooks=codebooks, used=None, own_left_out=False)


def anonymize_sets(
    chosen: ChosenSets,
    conversion: Conversion,
    attackers: Conversion | None,
    work: Work,
    strict: bool = False,
    overwrite: bool = False,
) -> Iterator[AnonymizedSet]:
    """Let other voices say what data sets say, and yield what became of each; killed, the same command goes on.

    Args:
        chosen: the data sets.
        conversion: how.
        attackers: how those are converted that attackers make; by default as the others.
        work: where it runs.
        strict: make anything left out an error.
        overwrite: replace what is of something else.

    Raises:
        InputError: a line of a table can't be used, parts don't go together, or something else stands there.
    """
    jobs = _jobs(chosen, conversion, attackers)
    for job in jobs:
        job.refuse_foreign(overwrite)
    for job in jobs:
        yield job.run(work, strict, overwrite)


def plan_sets(
    chosen: ChosenSets, conversion: Conversion, attackers: Conversion | None, work: Work
) -> Iterator[tuple[KaldiSet, Plan]]:
    """Yield each data set, and what its conversion would take; nothing is written.

    Raises:
        InputError: what the conversions themselves would refuse.
    """
    for job in _jobs(chosen, conversion, attackers):
        with tempfile.TemporaryDirectory() as folder:
            yield job.source, plan_conversion(job.listed(Path(folder)), job.conversion, CorpusSettings(), work)


@dataclass(frozen=True)
class _Job:
    """A data set, read, and how it is converted."""

    source: KaldiSet
    target: Path
    conversion: Conversion
    utterances: list[Utterance]
    tables: dict[str, bytes]
    """To copy, by name."""
    durations: dict[str, bytes]
    """Tables of lengths, by name."""
    not_copied: list[str]

    @classmethod
    def of(cls, source: KaldiSet, target: Path, conversion: Conversion) -> _Job:
        rows = source.utterances()
        if odd := next((row.id for row in rows if "/" in row.id), None):
            raise InputError(f"{source.folder / SCP} has the utterance {odd}, whose name can't be that of a file: rename it")
        if conversion.own_left_out and kaldi_table(source.folder, "utt2spk") is None:
            raise InputError(f"{source.folder} has no utt2spk, so own codebooks can't be left out: add it")
        tables, not_copied = _tables(source.folder)
        durations = {name: tables.pop(name) for name in _DURATIONS if name in tables}
        for name in durations:
            _seconds(source.folder / name)  # says now what is wrong with it
        return cls(source, target, conversion, rows, tables, durations, not_copied)

    @property
    def speech(self) -> Path:
        return self.target / _SPEECH

    def listed(self, folder: Path) -> Path:
        """Write a manifest of the utterances."""
        return write_rows(folder, "listed", map(row_of, self.utterances))

    def refuse_foreign(self, overwrite: bool) -> None:
        ours = overwrite or making_in(self.speech) is not None
        if standing := next((path for name in (SCP, *_DURATIONS, *self.tables) if (path := self.target / name).exists()), None):
            if not ours:
                raise InputError(
                    f"{standing} is there already, and isn't of this command: give another --out or --suffix, or --overwrite"
                )
            self._claim.check(overwrite)

    @property
    def _claim(self) -> Claim:
        made_from = {name: hashlib.sha256(content).hexdigest()[:16] for name, content in self.tables.items()}
        return Claim.of(self.speech / NAME, "tables", made_from, [self.target / name for name in self.tables])

    def run(self, work: Work, strict: bool, overwrite: bool) -> AnonymizedSet:
        folder = open_workplace(self.speech)
        remove_leftovers(self.target)
        listed = self.listed(folder)
        with self._unlisted(overwrite):
            done = convert_speech(listed, self.speech, self.conversion, CorpusSettings(), work, strict, overwrite)
        if not done.missing:
            self._copy(overwrite)
            made = [row.id for row in self.utterances if path_of(self.speech, row.id, WAVE).exists()]
            real = {name: soundfile.info(path_of(self.speech, name, WAVE)).duration for name in made} if self.durations else {}
            for name in self.durations:
                _update(self.target / name, self._lengths(name, real))
            place = os.path.abspath(self.speech)
            if (root := Path(os.path.abspath(self.target)).parent).name == "data":
                place = os.path.relpath(place, root.parent)
            # It comes last: a folder that has it is a whole data set.
            _update(self.target / SCP, "".join(f"{name} {os.path.join(place, name + WAVE)}\n" for name in made).encode())
        return AnonymizedSet(self.target, done, self.not_copied)

    @contextmanager
    def _unlisted(self, overwrite: bool) -> Iterator[None]:
        """Put wav.scp aside while speech may be replaced by other speech, and back if none was: killed, the folder lacks it."""
        scp, making = self.target / SCP, making_in(self.speech)
        if not overwrite or not scp.exists():  # unasked, no other speech is replaced
            yield
            return
        aside = part_beside(scp)
        scp.replace(aside)
        try:
            yield
        finally:
            if making_in(self.speech) == making:
                aside.replace(scp)
            aside.unlink(missing_ok=True)

    def _copy(self, overwrite: bool) -> None:
        if self.tables and not self._claim.is_settled():
            with self._claim.taken(overwrite) as staged:
                for name, content in self.tables.items():
                    (staged / name).write_bytes(content)
                (self.target / SCP).unlink(missing_ok=True)

    def _lengths(self, table: str, real: Mapping[str, float]) -> bytes:
        """Return a table of lengths as it was, or with real ones where speech became shorter than it says."""
        said = _seconds(self.source.folder / table)
        if all(abs(said.get(name, seconds) - seconds) <= _SHORTER for name, seconds in real.items()):
            return self.durations[table]
        return "".join(f"{name} {round(real.get(name, seconds), 4)}\n" for name, seconds in said.items()).encode()


def _named(source: Path, names: Sequence[str], suffix: str) -> list[KaldiSet]:
    """Return data sets of a folder, all or by their names."""
    if not names:
        return kaldi_sets_in(source, suffix)
    for name in names:
        if "/" in name or not is_kaldi_set(source / name):
            there = sorted(path.name for path in source.iterdir() if is_kaldi_set(path)) if source.is_dir() else []
            has = f"it has {', '.join(there)}" if there else "give a folder of data sets"
            raise InputError(f"{source} has no data set {name}, with {SCP} in it: {has}")
    return [KaldiSet(source / name) for name in dict.fromkeys(names)]


def _jobs(chosen: ChosenSets, conversion: Conversion, attackers: Conversion | None) -> list[_Job]:
    """Return what is to be done; whatever can be wrong with tables and codebooks is found before any work."""
    for how in (conversion, attackers):
        if how is not None:
            check_draw(how, read_fleet(how.codebooks))
    theirs = attackers or conversion
    return [_Job.of(item, chosen.target(item), theirs if is_attackers(item.name) else conversion) for item in chosen.sets]


def _tables(folder: Path) -> tuple[dict[str, bytes], list[str]]:
    """Return the tables of a data set by name, without wav.scp, and names of files that aren't to be copied."""
    tables: dict[str, bytes] = {}
    others = []
    for path in sorted(folder.iterdir()):
        if path.name == SCP or path.name.startswith(".") or path.is_dir():
            continue
        of_sound = path.suffix == ".scp" or path.name in _OF_FRAMES or extension_of(path.name) in _AUDIO
        content = None if of_sound else _text(path)
        if content is None:
            others.append(path.name)
        else:
            tables[path.name] = content
    return tables, others


def _text(path: Path) -> bytes | None:
    """Return the content of a file that is text."""
    if not path.is_file() or path.stat().st_size > _LARGEST:
        return None
    try:
        content = path.read_bytes()
        content.decode()
    except UnicodeDecodeError:
        return None
    except OSError as error:
        raise InputError(sentence_of(error)) from error
    return None if b"\0" in content else content


def _seconds(path: Path) -> dict[str, float]:
    """Return how long each utterance is said to be."""
    found = {}
    for number, line in numbered_lines(path):
        try:
            name, seconds = line.split()
            found[name] = float(seconds)
        except ValueError as error:
            raise InputError(f"{path} line {number} should be an utterance and its seconds, but reads {line!r}") from error
    return found


def _update(path: Path, content: bytes) -> None:
    """Write a file, unless it is so already."""
    if not path.is_file() or path.read_bytes() != content:
        write_bytes(path, content)
