"""Listing the usable audio of a folder or a manifest, in one manifest or split in two."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

from vocable.audio.faults import Skipped, require_none
from vocable.audio.manifest import Manifest
from vocable.audio.manifest_files import check_form, read_manifest, write_manifest
from vocable.audio.speakers import check_fraction, split
from vocable.errors import InputError
from vocable.execution.engine import Engine, Work
from vocable.recipes.companion_manifest import manifest_files, possible_manifest_files
from vocable.recipes.corpus import CorpusSettings, open_corpus, require_source, require_speakers, require_usable
from vocable.recipes.skipping import keep_skipped
from vocable.recipes.workplace import Claim, open_workplace

_SIDES = ("train", "valid")


@dataclass(frozen=True, kw_only=True)
class Splitting:
    """How a manifest is split into train and valid."""

    valid_percent: float = 0.0
    """Part of the utterances that becomes valid: a fraction below 1; 0 for no split."""
    by_speaker: bool = False
    """Keep each speaker's utterances on one side."""
    seed: int = 0

    def __post_init__(self) -> None:
        check_fraction(self.valid_percent)

    @property
    def in_two(self) -> bool:
        """Whether there is a split."""
        return self.valid_percent > 0

    def check_target(self, out: Path) -> None:
        """Refuse a target that can't hold what this makes: a manifest, or a folder for two.

        Raises:
            InputError: says what it should be.
        """
        if not self.in_two:
            check_form(out)
        elif out.suffix == ".tsv" or out.is_file():
            raise InputError(f"--out {out}: with --valid-percent it is a folder, for train.tsv and valid.tsv")

    def require_speakers(self, source: Path, corpus: CorpusSettings) -> None:
        """Refuse, before it is scanned, a folder whose speakers have to be known and aren't named.

        Raises:
            InputError: says how to name them.
        """
        if self.by_speaker:
            require_speakers(source, corpus, "a split by speaker")


@dataclass(frozen=True)
class Listed:
    """What became of listing audio."""

    manifests: dict[Path, Manifest]
    skipped: list[Skipped] = field(default_factory=list)
    record: Path | None = None
    """Where what was left out is named."""
    missing: int = 0
    """Blocks of files that other parts of the work have still to look at."""
    was_done: bool = False
    """They stood there already."""


def list_audio(
    source: Path,
    out: Path,
    corpus: CorpusSettings,
    splitting: Splitting,
    work: Work,
    strict: bool = False,
    overwrite: bool = False,
) -> Listed:
    """Write the usable rows of a folder or a manifest to the manifest `out`, or split in two to the folder `out`.

    Args:
        source: a folder of audio, or a manifest.
        out: the manifest, whose suffix says in which form; with a split, a folder for `train.tsv` and `valid.tsv`.
        corpus: which audio is taken.
        splitting: into what.
        work: where it runs, and which part of the files this run looks at.
        strict: make anything left out an error.
        overwrite: replace manifests of something else.

    Raises:
        InputError: nothing usable, or manifests of something else stand there.
    """
    in_two = splitting.in_two
    splitting.check_target(out)
    place = out if in_two else out.parent
    record = place / "skipped.jsonl" if in_two else out.with_suffix(".skipped.jsonl")
    require_source(source)
    splitting.require_speakers(source, corpus)
    folder = open_workplace(place)
    with Engine(work) as engine:
        opened = open_corpus(source, corpus, engine, folder, share=True)
    if opened.missing:
        return Listed({}, missing=opened.missing)
    require_usable(opened, source)
    if in_two:
        sides = split(opened.manifest, splitting.valid_percent, splitting.seed, splitting.by_speaker)
        parts = {path: side for name, side in zip(_SIDES, sides, strict=True) for path in manifest_files(place / name, side)}
        rivals = [path for name in _SIDES for path in possible_manifest_files(place / name)]
    else:
        parts, rivals = {out: opened.manifest}, []
    made_from = {"audio": opened.state, **asdict(corpus), **asdict(splitting)}
    claim = Claim.of(folder, f"manifest-{'split' if in_two else out.name}", made_from, parts, companions=rivals)
    claim.check(overwrite, source)
    keep_skipped(opened.skipped, record)
    if strict:
        require_none(opened.skipped, record)
    if claim.is_settled():
        there = {path: read_manifest(path, corpus.sample_rate) for path in parts}
        return Listed(there, opened.skipped, record, was_done=True)
    with claim.taken(overwrite) as staged:
        for path, rows in parts.items():
            write_manifest(staged / path.name, rows)
    return Listed(parts, opened.skipped, record)
