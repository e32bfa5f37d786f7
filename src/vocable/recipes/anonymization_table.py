"""Conditions of anonymization beside each other: each made, judged, and put into one table and on one page to listen to."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from vocable.artefacts.headers import digest_of, write_header
from vocable.artefacts.writing import write_text
from vocable.audio.manifest import Manifest
from vocable.checkpoints.detokenizers import read_detokenizer
from vocable.clustering.fleets import read_fleet
from vocable.errors import InputError
from vocable.evaluation.recognisers import recogniser
from vocable.evaluation.verifiers import verifier
from vocable.execution.engine import Engine, Work
from vocable.recipes.anonymity import (
    finite,
    read_transcripts,
)
from vocable.recipes.anonymization import Conversion, check_draw, convert_speech, require_outside
from vocable.recipes.anonymization_conditions import (
    CodebooksSettings,
    ConditionSettings,
    ConditionsSettings,
    slug,
)
from vocable.recipes.condition_scores import ConditionScores, Difference, Judged, Judges, Truth, spread
from vocable.recipes.corpus import CorpusSettings, open_corpus, require_source, require_usable
from vocable.recipes.fleet_fitting import FleetFrames, fit_fleet
from vocable.recipes.judging import Judging, state_of
from vocable.recipes.listening import Heard, conditions_page
from vocable.recipes.noise import WhiteNoise
from vocable.recipes.training_run import plain_values
from vocable.recipes.workplace import Claim, open_workplace

FORMAT = "vocable.anonymization-scores/1"
FILE, TABLE, PAGE = "scores.json", "table.md", "report.html"


@dataclass(frozen=True)
class ConditionsTable:
    """All conditions, in order."""

    conditions: list[ConditionScores]
    differences: list[Difference]
    utterances: int
    skipped: int

    def rows(self) -> list[dict[str, str]]:
        """Return a row for each condition."""
        return [item.row() for item in self.conditions]


def compare_conditions(settings: ConditionsSettings, out: Path, work: Work, overwrite: bool = False) -> ConditionsTable:
    """Make and judge all conditions; what was done before isn't done again.

    Writes scores.json, table.md and report.html, codebooks that were fitted, and a folder of speech for each condition.

    Args:
        settings: of the conditions.
        out: folder for all of it.
        work: where it runs.
        overwrite: replace speech and codebooks of other settings.

    Raises:
        InputError: a part is missing or doesn't fit, or something else stands there.
    """
    for judge, name in ((verifier, settings.judges.verifier), (recogniser, settings.judges.recogniser)):
        judge(name)  # says now whether it can be had
    asked = settings.audio
    given = None if asked.transcripts is None else read_transcripts(asked.transcripts)
    corpus = CorpusSettings(speakers=asked.speakers)
    require_source(asked.originals)
    require_outside(asked.originals, out)
    folder = open_workplace(out)
    with Engine(work) as engine:
        opened = open_corpus(asked.originals, corpus, engine, folder)
        require_usable(opened, asked.originals)
        made_from = _made_from(settings, given, opened.state, engine, folder)
        claim = Claim.of(folder, "conditions", made_from, [out / FILE, out / TABLE, out / PAGE])
        claim.check(overwrite)
        truth = Truth.of(opened.manifest, asked.groups, given)
        fleets = {name: _fleet(name, item, out, work, overwrite) for name, item in settings.codebooks.items()}
        conversions = {
            item.name: _conversions(item, settings, fleets) for item in settings.conditions if item.codebooks is not None
        }
        made = {name: _converted(name, own, asked.originals, out, corpus, work, overwrite) for name, own in conversions.items()}
        everywhere = set(opened.manifest.ids).intersection(*(side.ids for sides in made.values() for side in sides))
        originals = _only(opened.manifest, everywhere)
        judges = Judges(settings.judges, originals, truth.of_rows(originals), Judging(engine, folder))
        found: dict[str, Judged] = {}
        noises: dict[str, WhiteNoise] = {}
        for item in sorted(settings.conditions, key=lambda item: item.noise_as is not None):  # noise is as loud as another
            print(f"{item.name}: being judged", file=sys.stderr, flush=True)
            if item.noise_as is not None:
                noises[item.name] = judges.noise_like(found[item.noise_as])
            sides = [_only(side, everywhere) for side in made.get(item.name, [])] or [originals]
            found[item.name] = judges.of(sides, noises.get(item.name))
        table = ConditionsTable(
            [found[item.name].scored(item.name) for item in settings.conditions],
            [found[pair.other].less(found[pair.one], pair.other, pair.one) for pair in settings.comparisons],
            len(originals),
            len(opened.manifest) + len(opened.skipped) - len(originals),
        )
        if not claim.is_settled():
            heard = [
                Heard(item.name, made[item.name][0] if item.name in made else originals, noises.get(item.name))
                for item in settings.conditions
            ]
            with claim.taken(overwrite) as staged:
                _write(
                    table, settings, originals, heard, {name: read_fleet(path).digest for name, path in fleets.items()}, staged
                )
    return table


def _made_from(
    settings: ConditionsSettings, transcripts: dict[str, str] | None, audio: str, engine: Engine, folder: Path
) -> dict[str, Any]:
    """Return what a table follows from."""

    def state(path: Path) -> str:
        if not path.exists():
            raise InputError(f"{path} doesn't exist: mend the conditions")
        if path.is_dir():
            return open_corpus(path, CorpusSettings(), engine, folder).state
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    fleets = {
        name: {**plain_values(asdict(item)), **{part: None if path is None else state(path) for part, path in parts.items()}}
        for name, item in settings.codebooks.items()
        for parts in [{"file": item.file, "audio": item.audio}]
    }
    groups = settings.audio.groups
    conditions = [
        {**plain_values(asdict(item)), "model": _digest_of_model(item.model), "vocoder": _digest_of_model(item.vocoder)}
        for item in settings.conditions
    ]
    return {
        "audio": audio, "codebooks": fleets, "judges": plain_values(asdict(settings.judges)),
        "judges_state": [state_of(settings.judges.verifier), state_of(settings.judges.recogniser)],
        "groups": None if groups is None else state(groups), "transcripts": digest_of(transcripts),
        "conditions": conditions,
        "comparisons": plain_values([asdict(item) for item in settings.comparisons]),
    }  # fmt: skip


def _digest_of_model(path: Path | None) -> str | None:
    """Return what tells a model from others, once it is known that it can be used."""
    if path is None:
        return None
    found = read_detokenizer(path)
    found.check()
    return found.digest


def _fleet(name: str, asked: CodebooksSettings, out: Path, work: Work, overwrite: bool) -> Path:
    """Return the file of codebooks, fitted first if they are to be."""
    if asked.file is not None:
        return asked.file
    assert asked.audio is not None
    path = out / f"codebooks-{slug(name)}.safetensors"
    fit_fleet(asked.audio, path, asked.fit, CorpusSettings(speakers=asked.speakers), FleetFrames(), work, overwrite=overwrite)
    return path


def _conversions(condition: ConditionSettings, settings: ConditionsSettings, fleets: dict[str, Path]) -> list[Conversion]:
    """Return how speech of a condition is converted: as often as it is drawn."""
    assert condition.codebooks is not None
    one = Conversion(
        codebooks=fleets[condition.codebooks], model=condition.model, encoder=condition.encoder, vocoder=condition.vocoder,
        per=condition.per, stride=condition.stride, own_left_out=condition.exclude_own_speaker, match_length=True,
        voices=None if condition.voices is None else fleets[condition.voices], keeps=condition.keeps, distance=condition.distance,
    )  # fmt: skip
    fleet = read_fleet(one.voices or one.codebooks)
    check_draw(one, read_fleet(one.codebooks))
    draws = settings.judges.draws if condition.is_drawn and (len(fleet) > 1 or one.voices is not None) else 1
    return [replace(one, key=_key(draw)) for draw in range(draws)]


def _converted(
    name: str, conversions: Sequence[Conversion], source: Path, out: Path, corpus: CorpusSettings, work: Work, overwrite: bool
) -> list[Manifest]:
    """Return the speech of a condition."""
    made = []
    for number, conversion in enumerate(conversions, 1):
        place = out / slug(name) / str(number)
        print(f"{name}{f', draw {number}' if number > 1 else ''}: {place}", file=sys.stderr, flush=True)
        convert_speech(source, place, conversion, corpus, work, overwrite=overwrite)
        with Engine(Work()) as engine:
            made.append(open_corpus(place, CorpusSettings(min_seconds=0), engine, open_workplace(place)).manifest)
    return made


def _key(draw: int) -> bytes:
    """Return a key that everybody knows: these files are for comparison, and a table has to come out the same again."""
    return hashlib.sha256(f"vocable's conditions, draw {draw}".encode()).digest()


def _only(manifest: Manifest, names: set[str]) -> Manifest:
    """Return the rows of some names, in the order of these."""
    rows = {name: row for row, name in enumerate(manifest.ids) if name in names}
    return manifest.select([rows[name] for name in sorted(rows)])


def _write(
    table: ConditionsTable,
    settings: ConditionsSettings,
    originals: Manifest,
    heard: Sequence[Heard],
    digests: dict[str, str],
    folder: Path,
) -> None:
    judges = settings.judges
    said = {"verifier": judges.verifier, "recogniser": judges.recogniser, "draws": judges.draws, "codebooks": digests}
    values = {
        "conditions": [{**asdict(item), "noise": None if item.noise is None else item.noise.over} for item in table.conditions],
        "differences": [asdict(item) for item in table.differences],
    }
    counts = {"audio": originals.digest, "utterances": table.utterances, "skipped": table.skipped}
    write_header(folder / FILE, finite({"format": FORMAT, **said, **counts, **values}))
    differences = [item.row() for item in table.differences]
    write_text(folder / TABLE, "\n".join([*_lines(table.rows()), "", *_lines(differences)]) + "\n")
    chosen = originals.select(spread(len(originals), judges.listened)).ids
    write_text(folder / PAGE, conditions_page(table.rows(), differences, chosen, heard, judges.listened_seconds))


def _lines(rows: Sequence[dict[str, str]]) -> list[str]:
    """Return a table in Markdown."""
    if not rows:
        return []
    columns = list(rows[0])
    cells = [columns, ["---", *["---:"] * (len(columns) - 1)], *(list(row.values()) for row in rows)]
    return [f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in cells]
