"""Conditions of anonymization that are to be compared, described: audio, codebooks, who judges, and what is done to speech."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vocable.anonymization.anonymizer import Kept, Per
from vocable.anonymization.voices import require_distance
from vocable.artefacts.headers import digest_of
from vocable.errors import InputError
from vocable.evaluation.recognisers import RECOGNISERS
from vocable.evaluation.verifiers import VERIFIERS
from vocable.recipes.configuration import Values, built, read_values, with_options
from vocable.recipes.fleet_fitting import FleetSettings, speakers_in_each
from vocable.recipes.shipped import recipe_file

RECIPES = ("conditions",)


@dataclass(frozen=True, kw_only=True)
class OriginalsSettings:
    """What is said, and by whom."""

    originals: Path
    """A folder of audio, or a manifest."""
    speakers: str | None = None
    """Who speaks: a path pattern such as '{speaker}/*', or a file of lines 'utterance speaker'; a manifest may say it itself."""
    groups: Path | None = None
    """A file of lines 'speaker group', such as genders: trials are then of one group."""
    transcripts: Path | None = None
    """What was said; by default what the recogniser reads out of the originals."""


@dataclass(frozen=True, kw_only=True)
class JudgesSettings:
    """Who judges.

    Raises:
        InputError: a part is none.
    """

    verifier: str = VERIFIERS[0]
    recogniser: str = "faster-whisper:base"
    draws: int = 1
    """How often each condition that draws codebooks is made, with another key each time; scores are of all together."""
    listened: int = 3
    """Utterances to listen to on the page."""
    listened_seconds: float = 8.0
    """Of each, at most."""

    def __post_init__(self) -> None:
        if self.draws < 1 or self.listened < 0 or not self.listened_seconds > 0:
            raise InputError(f"draws {self.draws} and listened {self.listened}: give 1 or more, and 0 or more")
        if not self.recogniser:
            raise InputError(f"recogniser: give one of {', '.join(RECOGNISERS)}, or MODULE:NAME")


@dataclass(frozen=True, kw_only=True)
class CodebooksSettings:
    """Codebooks: a file of them, or speakers' audio that they are fitted to.

    Raises:
        InputError: it is neither, or both.
    """

    file: Path | None = None
    """Of 'vocable anonymize fit-codebooks'."""
    audio: Path | None = None
    """A folder of other speakers' audio, or a manifest; codebooks are of cepstra."""
    speakers: str | None = None
    speakers_per_codebook: str = "1"
    """A number, or all."""
    clusters: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.file is None) == (self.audio is None):
            raise InputError("give file, of codebooks, or audio, which they are fitted to")
        speakers_in_each(self.speakers_per_codebook, "speakers_per_codebook")

    @property
    def fit(self) -> FleetSettings:
        """How they are fitted."""
        each = speakers_in_each(self.speakers_per_codebook, "speakers_per_codebook")
        return FleetSettings(clusters=self.clusters, speakers_per_codebook=each, seed=self.seed)


@dataclass(frozen=True, kw_only=True)
class ConditionSettings:
    """What is done to speech: nothing, a conversion, or noise.

    Raises:
        InputError: parts don't go together.
    """

    name: str
    codebooks: str | None = None
    """Name of those that frames are looked up in."""
    voices: str | None = None
    """Name of those of whose speakers mean and pitch are drawn; by default the same."""
    keeps: tuple[Kept, ...] = ()
    """What stays as it was: `frames` aren't looked up, `voice` is the speaker's own mean and pitch."""
    distance: float | None = None
    """Of voices from the usual one, as a multiple; by default 1.4."""
    per: Per = "audio"
    stride: int = 1
    exclude_own_speaker: bool = False
    model: Path | None = None
    encoder: str | None = None
    vocoder: Path | None = None
    noise_as: str | None = None
    """Name of a condition: white noise is added to the originals, so loud that as many words are read otherwise as there."""

    def __post_init__(self) -> None:
        if self.codebooks is not None and self.noise_as is not None:
            raise InputError(f"{self.name}: codebooks and noise_as are different conditions; give one of them")
        given = [
            name
            for name in ("voices", "keeps", "model", "encoder", "vocoder", "exclude_own_speaker", "distance", "per", "stride")
            if getattr(self, name) not in (None, (), False, "audio", 1) or (name == "distance" and self.distance is not None)
        ]
        if self.codebooks is None and given:
            raise InputError(f"{self.name}: {given[0]} goes with codebooks; name those")
        if self.stride < 1 or (self.stride > 1 and self.per == "audio"):
            raise InputError(f'{self.name}: a stride of {self.stride} goes with per = "frame", and starts at 1')
        if self.distance is not None:
            require_distance(self.distance)
            if "voice" in self.keeps:
                raise InputError(f"{self.name}: a voice that is kept has no distance; leave one of them out")

    @property
    def is_drawn(self) -> bool:
        """Whether what becomes of speech depends on a key."""
        return self.codebooks is not None and set(self.keeps) != {"frames", "voice"}


@dataclass(frozen=True, kw_only=True)
class ComparisonSettings:
    """Two conditions whose difference is wanted, with its interval."""

    one: str
    other: str


@dataclass(frozen=True)
class ConditionsSettings:
    """All of it.

    Raises:
        InputError: names the part that isn't there, or is there twice.
    """

    audio: OriginalsSettings
    judges: JudgesSettings
    codebooks: dict[str, CodebooksSettings]
    conditions: tuple[ConditionSettings, ...]
    comparisons: tuple[ComparisonSettings, ...] = ()

    def __post_init__(self) -> None:
        names = [item.name for item in self.conditions]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise InputError(f"two conditions are called {twice!r}: give each a name of its own")
        for what, called in (("condition", names), ("codebooks", list(self.codebooks))):
            slugs = [slug(name) for name in called]
            if same := next((name for name, short in zip(called, slugs, strict=True) if slugs.count(short) > 1), None):
                raise InputError(f"the {what} {same!r} can't be told from others by letters and digits: give another name")
        for item in self.conditions:
            for name in (item.codebooks, item.voices):
                if name is not None and name not in self.codebooks:
                    raise InputError(
                        f"{item.name}: there are no codebooks {name!r}: add a section [codebooks.{name}], or name others"
                    )
            if item.noise_as is not None and item.noise_as not in names:
                raise InputError(f"{item.name}: there is no condition {item.noise_as!r} to be as loud as")
            if item.noise_as is not None and self.named(item.noise_as).noise_as is not None:
                raise InputError(f"{item.name}: {item.noise_as!r} is noise itself; name a condition that isn't")
        for pair in self.comparisons:
            for name in (pair.one, pair.other):
                if name not in names:
                    raise InputError(f"a comparison names {name!r}, which is no condition")

    def named(self, name: str) -> ConditionSettings:
        """Return a condition by its name."""
        return next(item for item in self.conditions if item.name == name)


def slug(name: str) -> str:
    """Return a name as files are called: its letters and digits, with hyphens; a digest where it has none."""
    short = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return short or digest_of(name)[:16]


_SECTIONS = ("audio", "judges", "codebooks", "conditions", "comparisons")
_Listed = Literal["conditions", "comparisons"]


def read_conditions(source: str | Path, options: Sequence[str] = ()) -> ConditionsSettings:
    """Return the conditions in a file, or in one that comes with vocable; paths in it start from its folder.

    Raises:
        InputError: names what is wrong, and where.
    """
    path = recipe_file(source, RECIPES)
    values = with_options(_placed(read_values(path), path.parent), options)
    if unknown := sorted(set(values) - set(_SECTIONS)):
        raise InputError(f"{path}: there is no section [{unknown[0]}]; there are {', '.join(_SECTIONS)}")
    fleets = _section(values, "codebooks", path)
    conditions = tuple(
        built(ConditionSettings, item, f"{path}, condition {at}") for at, item in _listed(values, "conditions", path)
    )
    if not conditions:
        raise InputError(f"{path} has no [[conditions]]: give one for each row of the table")
    try:
        return ConditionsSettings(
            built(OriginalsSettings, _section(values, "audio", path), f"{path}, [audio]"),
            built(JudgesSettings, _section(values, "judges", path), f"{path}, [judges]"),
            {
                name: built(CodebooksSettings, _section(fleets, name, path), f"{path}, [codebooks.{name}]")
                for name in fleets
                if any(name in (item.codebooks, item.voices) for item in conditions)  # of others nothing need be said
            },
            conditions,
            tuple(
                built(ComparisonSettings, item, f"{path}, comparison {at}") for at, item in _listed(values, "comparisons", path)
            ),
        )
    except InputError as error:
        raise error if str(error).startswith(str(path)) else InputError(f"{path}: {error}") from error


def _section(values: Values, name: str, path: Path) -> Values:
    found = values.get(name, {})
    if not isinstance(found, dict):
        raise InputError(f"{path}: {name} is a section of settings, not {found!r:.60}")
    return found


def _listed(values: Values, name: _Listed, path: Path) -> list[tuple[int, Values]]:
    found = values.get(name, [])
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise InputError(f"{path}: {name} are sections [[{name}]], one after another")
    return list(enumerate(found, 1))


_PATHS = ("originals", "groups", "transcripts", "file", "audio", "model", "vocoder", "speakers", "encoder")
_IF_THERE = ("speakers", "encoder")  # may be something else than a path
_JUDGES = ("verifier", "recogniser")


def _placed(values: Any, folder: Path) -> Any:
    """Return settings with paths that start from a folder; also those in the names of judges."""
    if isinstance(values, list):
        return [_placed(item, folder) for item in values]
    if not isinstance(values, dict):
        return values
    made = {}
    for name, value in values.items():
        if name in _PATHS and isinstance(value, str):
            path = folder / Path(value).expanduser()
            made[name] = str(path) if name not in _IF_THERE or ("{" not in value and path.exists()) else value
        elif name in _JUDGES and isinstance(value, str):
            kind, _, file = value.partition(":")
            there = bool(file) and (folder / Path(file).expanduser()).exists()
            made[name] = f"{kind}:{folder / Path(file).expanduser()}" if there else value
        else:
            made[name] = _placed(value, folder)
    return made
