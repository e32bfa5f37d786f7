"""HuBERT label preparation: a folder of speech becomes manifests, a codebook, labels and a dictionary."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vocable.artefacts.headers import Header, canonical_json, digest_of, read_header, write_header
from vocable.artefacts.run_log import RunLog
from vocable.audio.faults import Skipped, count_lost, count_reasons, read_skipped, require_none, write_skipped
from vocable.audio.manifest import Manifest
from vocable.audio.manifest_files import read_manifest
from vocable.audio.speakers import check_fraction, split
from vocable.clustering.codebook import Codebook, read_codebook
from vocable.errors import InputError, MismatchError
from vocable.execution.engine import Engine, Work
from vocable.execution.stages import Payload
from vocable.features.pipeline import FramePipeline
from vocable.recipes.companion_manifest import manifest_beside, possible_manifest_files
from vocable.recipes.corpus import Corpus, CorpusSettings, open_corpus, require_source, require_speakers, require_usable
from vocable.recipes.fitting import FitSettings, fit_on_audio
from vocable.recipes.frames import FrameChoice, pipeline_for
from vocable.recipes.labels import Labels, label_files, label_manifests
from vocable.recipes.workplace import NAME, Claim, open_workplace
from vocable.units.dictionary import write_dictionary
from vocable.units.label_files import SUFFIXES, open_units
from vocable.units.preflight import check_labels
from vocable.units.units import Survey
from vocable.units.usage import usage_scores

FORMAT = "vocable.preparation/1"


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """All choices of a label preparation."""

    corpus: CorpusSettings = field(default_factory=CorpusSettings)
    frames: FrameChoice = field(default_factory=FrameChoice)
    fit: FitSettings = field(default_factory=FitSettings)
    valid_percent: float = 0.01
    """Part of the corpus that becomes valid: a fraction from 0 to 1."""
    by_speaker: bool = False
    """Keep each speaker's utterances on one side."""
    strict: bool = False
    """Make any unusable file an error."""
    forms: tuple[str, ...] = (".km",)
    """Which label files: .km, .units, .rle."""

    def __post_init__(self) -> None:
        check_fraction(self.valid_percent)

    def require_speakers(self, source: Path) -> None:
        """Refuse a folder whose speakers have to be known and aren't named.

        Raises:
            InputError: says how to name them.
        """
        if self.by_speaker:
            require_speakers(source, self.corpus, "a split by speaker")
        self.frames.require_speakers(source, self.corpus)


@dataclass(frozen=True)
class Prepared:
    """What a preparation came to."""

    folder: Path
    splits: dict[str, Manifest]
    """The rows that have labels."""
    skipped: list[Skipped]
    codebook: Codebook
    summary: Header
    missing: int = 0
    """Blocks that other parts of the work have still to label; the last one writes the label files."""
    was_done: bool = False
    """Everything stood there already."""


def prepare(source: Path, out: Path, settings: Preparation, work: Work | None = None, overwrite: bool = False) -> Prepared:
    """Turn a folder of speech, or a manifest, into HuBERT training labels in `out`.

    Writes `train.tsv`, `valid.tsv`, `codebook.safetensors`, `train.km`, `valid.km` with their headers, `dict.km.txt`,
    `skipped.jsonl`, `prepare.json` and `summary.json`. Run again after a kill it goes on; run again when done it does nothing.

    Raises:
        InputError: nothing usable, or `out` holds labels of other settings or audio and `overwrite` isn't given.
    """
    require_source(source)
    settings.require_speakers(source)
    folder = open_workplace(out)
    with Engine(work or Work()) as engine:
        corpus = open_corpus(source, settings.corpus, engine, folder)
        require_usable(corpus, source)
        parts, claim = claim_on(out, corpus, settings, engine.work)
        train = parts["train"]
        if claim.is_settled() or _vouched_for(out, corpus, settings, claim):
            standing = _standing(out, parts, settings, was_done=True)
            if settings.strict:
                require_none(standing.skipped, out / "skipped.jsonl")
            return standing
        claim.check(overwrite, source)
        if settings.strict:
            _refuse(corpus.skipped, folder)
        with RunLog(out / _log_name(engine.work)).recorded():
            pipeline = pipeline_for(settings.frames, settings.corpus.sample_rate, corpus.manifest, engine, folder, train)
            codebook, found = _codebook(out, train, pipeline, settings, engine, claim)
            labels = label_manifests(parts, pipeline, codebook, engine, folder, "label", found)
            skipped = [*corpus.skipped, *(item for part in labels.values() for item in part.skipped.values())]
            if missing := sum(part.missing for part in labels.values()):
                return Prepared(out, {}, skipped, codebook, {}, missing)
            if settings.strict:
                _refuse(skipped, folder)
            lost = count_lost(skipped) + codebook.fit.get("lost", 0)
            with claim.taken(overwrite, lasting=not lost) as staged:
                _write(staged, corpus, labels, skipped, codebook, settings)
            _kept_codebook(claim).unlink(missing_ok=True)
    try:
        return _standing(out, parts, settings)
    except (InputError, OSError) as error:
        if claim.is_ours():
            raise
        raise InputError(f"another run writes other results to {out}: run them one after the other") from error


def claim_on(out: Path, corpus: Corpus, settings: Preparation, work: Work) -> tuple[dict[str, Manifest], Claim]:
    """Return the splits of a corpus, and the claim on the results of preparing them in `out`.

    Raises:
        InputError: there can be no such split.
    """
    train, valid = split(corpus.manifest, settings.valid_percent, settings.fit.seed, settings.by_speaker)
    parts = {"train": train, **({"valid": valid} if len(valid) else {})}
    rivals = [path for name in ("train", "valid") for path in label_files(out, name)]
    manifests = [path for name in ("train", "valid") for path in possible_manifest_files(out / name)]
    made_from = {**_json(settings), "device": work.kind, "audio": corpus.state}
    return parts, Claim.of(out / NAME, "prepare", made_from, _files(out, parts, settings), rivals, manifests)


def _log_name(work: Work) -> str:
    """Return the log's name: no two parts of the work write to one file."""
    return "run.jsonl" if work.nshard == 1 else f"run-{work.rank}.jsonl"


def _vouched_for(out: Path, corpus: Corpus, settings: Preparation, claim: Claim) -> bool:
    """Tell whether results whose work folder was removed are these: by settings, names and lengths."""
    if claim.is_known() or not all(path.exists() for path in claim.files):
        return False
    try:
        summary = read_header(out / "summary.json")
        if (summary.get("corpus"), summary.get("settings")) != (corpus.manifest.digest, digest_of(_json(settings))):
            return False
        labels = [open_units(path)[0] for path in claim.files if path.suffix in SUFFIXES]
        made_with = {read_codebook(out / "codebook.safetensors").digest, *(header.codebook for header in labels)}
    except (InputError, MismatchError):
        return False  # damaged
    return made_with == {summary.get("codebook")} and set(summary) >= _SHOWN


_SHOWN = {"frame_inertia", "skipped", "splits"}


def _refuse(skipped: list[Skipped], folder: Path) -> None:
    """Raise if anything was left out. The record lies in the work folder: it is no result, and must not stand for one."""
    if skipped:
        write_skipped(folder / "skipped.jsonl", skipped)
        require_none(skipped, folder / "skipped.jsonl")


def _files(out: Path, parts: dict[str, Manifest], settings: Preparation) -> list[Path]:
    """Return all results; the summary, which is written last, is first to go when they are replaced."""
    names = ["summary.json", "prepare.json", "codebook.safetensors", "dict.km.txt", "skipped.jsonl"]
    labels = (path for name, part in parts.items() for path in label_files(out, name, settings.forms, part))
    return [*(out / name for name in names), *labels]


def _codebook(
    out: Path, train: Manifest, pipeline: FramePipeline, settings: Preparation, engine: Engine, claim: Claim
) -> tuple[Codebook, dict[str, Payload]]:
    """Return the codebook, fitted if no earlier run has left it, and the labels that its fit found.

    It lies in the work folder until all results are written. One that audio was lost to, to its fit or to the statistics of its
    frames, is fitted again.
    """
    path, result = _kept_codebook(claim), out / "codebook.safetensors"
    for found in (path, result):
        if found.exists() and (found == path or claim.stands(result)):
            standing = read_codebook(found)
            if not standing.fit.get("lost") and standing.spec == pipeline.spec:
                return standing, {}
    made = fit_on_audio(train, pipeline, settings.fit, engine, claim.folder)
    made.codebook.write(path)
    made.forget_passes()
    return made.codebook, made.labels


def _kept_codebook(claim: Claim) -> Path:
    return claim.folder / f"codebook-{claim.key[:32]}.safetensors"


def _write(
    out: Path,
    corpus: Corpus,
    labels: dict[str, Labels],
    skipped: list[Skipped],
    codebook: Codebook,
    settings: Preparation,
) -> None:
    """Write manifests, labels, dictionary and summary; check them as a training would meet them; the summary comes last."""
    write_header(out / "prepare.json", {"format": FORMAT, "settings": _json(settings)})
    codebook.write(out / "codebook.safetensors")
    write_skipped(out / "skipped.jsonl", skipped)
    write_dictionary(out / "dict.km.txt", len(codebook))
    splits = {}
    for name, part in labels.items():
        part.write(out, name, settings.forms)
        splits[name] = _checked(out, name, part.manifest, settings)
    assert codebook.spec is not None
    fit = codebook.fit
    summary: Header = {
        "format": "vocable.summary/1",
        "corpus": corpus.manifest.digest,
        "clusters": len(codebook),
        "codebook": codebook.digest,
        "frame_inertia": fit["inertia"] / fit["frames"],
        "rate": codebook.spec.rate,
        "seeding": fit["seeding"],
        "settings": digest_of(_json(settings)),
        "skipped": count_reasons(skipped),
        "splits": splits,
    }
    write_header(out / "summary.json", summary)


def _checked(out: Path, name: str, part: Manifest, settings: Preparation) -> Header:
    """Return a summary of a split's files as they stand on disk.

    Raises:
        MismatchError: they don't fit each other.
    """
    manifest = _manifest(out / name, settings)
    header, sequences = open_units(out / f"{name}{settings.forms[0]}")
    survey = Survey.of(sequences, header.clusters)
    check_labels(f"{name}{settings.forms[0]}", header, survey, manifest, out / "dict.km.txt", rate=header.rate)
    usage = usage_scores(survey, header.clusters, header.rate)
    return {"utterances": len(manifest), "seconds": manifest.seconds, **usage.rows()}


def _standing(out: Path, parts: dict[str, Manifest], settings: Preparation, was_done: bool = False) -> Prepared:
    """Read a finished preparation."""
    splits = {name: _manifest(out / name, settings) for name in parts}
    summary = read_header(out / "summary.json")
    codebook = read_codebook(out / "codebook.safetensors")
    return Prepared(out, splits, read_skipped(out / "skipped.jsonl"), codebook, summary, was_done=was_done)


def _manifest(stem: Path, settings: Preparation) -> Manifest:
    found = manifest_beside(stem)
    if found is None:
        raise InputError(f"{stem}.tsv is gone: run the same command again")
    return read_manifest(found, settings.corpus.sample_rate)


def _json(settings: Preparation) -> Any:
    """Return the settings that results depend on, as JSON gives them back: tuples are lists there."""
    values = {**asdict(settings), "frames": settings.frames.state()}
    del values["strict"]
    return json.loads(canonical_json(values))
