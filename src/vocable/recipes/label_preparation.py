"""HuBERT label preparation: a folder of speech becomes manifests, a codebook, labels and a dictionary."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vocable.artefacts.headers import Header, canonical_json, read_header, write_header
from vocable.artefacts.run_log import RunLog
from vocable.artefacts.writing import remove_leftovers
from vocable.audio.faults import Skipped, count_reasons, read_skipped, require_none, write_skipped
from vocable.audio.manifest import Manifest
from vocable.audio.manifest_files import read_manifest
from vocable.audio.speakers import split
from vocable.clustering.codebook import Codebook, read_codebook
from vocable.errors import InputError
from vocable.execution.engine import Engine, Work
from vocable.features.pipeline import FramePipeline
from vocable.recipes.codebooks import FitSettings, fit_on_audio
from vocable.recipes.corpus import Corpus, CorpusSettings, open_corpus
from vocable.recipes.frames import FrameChoice, pipeline_for
from vocable.recipes.labels import Labels, label_manifest
from vocable.units.dictionary import write_dictionary
from vocable.units.label_files import open_units
from vocable.units.preflight import check_labels
from vocable.units.units import Survey
from vocable.units.usage import usage_scores

FORMAT = "vocable.preparation/1"
WORK_FOLDER = ".vocable"
"""Finished blocks of work, below the output folder; it may be removed when nothing runs."""


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
    """Blocks that other shards have still to label; the last shard writes the label files."""


def prepare(source: Path, out: Path, settings: Preparation, work: Work | None = None, overwrite: bool = False) -> Prepared:
    """Turn a folder of speech, or a manifest, into HuBERT training labels in `out`.

    Writes `train.tsv`, `valid.tsv`, `codebook.safetensors`, `train.km`, `valid.km` with their headers, `dict.km.txt`,
    `skipped.jsonl`, `prepare.json` and `summary.json`. Run again after a kill it goes on; run again when done it does nothing.

    Raises:
        InputError: nothing usable, or `out` holds labels of other settings or audio and `overwrite` isn't given.
    """
    folder = out / WORK_FOLDER
    if not source.exists():
        raise InputError(f"{source} doesn't exist: give a folder of speech, or a manifest")
    _claim(out, settings, overwrite)
    with RunLog(out / "run.jsonl").recorded(), Engine(work or Work()) as engine:
        corpus = open_corpus(source, settings.corpus, engine, folder)
        if settings.strict:
            require_none(corpus.skipped)
        if _is_finished(out, corpus, overwrite):
            return _finished(out)
        train, valid = _splits(source, corpus, settings)
        pipeline = pipeline_for(settings.frames, settings.corpus.sample_rate, train, engine, folder)
        codebook = _codebook(out, train, pipeline, settings, engine)
        labels = {"train": label_manifest(train, pipeline, codebook, engine, folder, "label train")}
        if len(valid):
            labels["valid"] = label_manifest(valid, pipeline, codebook, engine, folder, "label valid")
        return _written(out, corpus, labels, settings)


def _claim(out: Path, settings: Preparation, overwrite: bool) -> None:
    """Make the output folder ours: note the settings, or check that they are those noted before."""
    path = out / "prepare.json"
    header = {"format": FORMAT, "settings": asdict(settings)}
    if path.exists() and read_header(path, FORMAT) != json.loads(canonical_json(header)):
        if not overwrite:
            was, now = read_header(path, FORMAT)["settings"], json.loads(canonical_json(header["settings"]))
            raise InputError(
                f"{out} was begun with other settings ({_first_difference(was, now)}): give another --out, or --overwrite"
            )
        _clear(out)
    write_header(path, header)
    remove_leftovers(out)
    remove_leftovers(out / WORK_FOLDER)


def _is_finished(out: Path, corpus: Corpus, overwrite: bool) -> bool:
    """Tell whether everything is written; an output of other audio is refused, or cleared away."""
    noted, summary = out / WORK_FOLDER / "corpus.json", out / "summary.json"
    same = not summary.exists() or read_header(summary)["corpus"] == corpus.manifest.digest
    if noted.exists():
        same = same and read_header(noted)["state"] == corpus.state
    if not same:
        if not overwrite:
            raise InputError(f"the audio has changed since {out} was begun: give another --out, or --overwrite to make it anew")
        _clear(out)
    write_header(noted, {"state": corpus.state})
    return summary.exists()


def _clear(out: Path) -> None:
    """Remove what an earlier preparation wrote, the sign that it was finished first."""
    for name in ("summary.json", "codebook.safetensors", "dict.km.txt", "skipped.jsonl"):
        (out / name).unlink(missing_ok=True)
    for split_name in ("train", "valid"):
        for ending in (".tsv", ".csv", ".km", ".km.json", ".units", ".rle", ".rle.json"):
            (out / f"{split_name}{ending}").unlink(missing_ok=True)


def _splits(source: Path, corpus: Corpus, settings: Preparation) -> tuple[Manifest, Manifest]:
    if not len(corpus.manifest):
        why = ", ".join(f"{count} {reason}" for reason, count in count_reasons(corpus.skipped).items())
        raise InputError(
            f"{source} has no usable audio ({why or 'no file of a known format'}): give a folder of speech, or a manifest"
        )
    return split(corpus.manifest, settings.valid_percent, settings.fit.seed, settings.by_speaker)


def _codebook(out: Path, train: Manifest, pipeline: FramePipeline, settings: Preparation, engine: Engine) -> Codebook:
    """Return the codebook in `out`, fitted if it isn't there."""
    path = out / "codebook.safetensors"
    if path.exists():
        codebook = read_codebook(path)
        if codebook.spec == pipeline.spec and codebook.fit.get("manifest") == train.digest:
            return codebook
    codebook = fit_on_audio(train, pipeline, settings.fit, engine, out / WORK_FOLDER)
    codebook.write(path)
    return codebook


def _written(out: Path, corpus: Corpus, labels: dict[str, Labels], settings: Preparation) -> Prepared:
    """Write manifests, labels, dictionary and summary; check them as a training would meet them; the summary comes last."""
    codebook = labels["train"].codebook
    skipped = [*corpus.skipped, *(item for part in labels.values() for item in part.skipped().values())]
    if missing := sum(part.missing for part in labels.values()):
        return Prepared(out, {}, skipped, codebook, {}, missing)
    write_skipped(out / "skipped.jsonl", skipped)
    if settings.strict:
        require_none(skipped, out / "skipped.jsonl")
    write_dictionary(out / "dict.km.txt", len(codebook))
    summary: Header = {
        "format": "vocable.summary/1",
        "corpus": corpus.manifest.digest,
        "codebook": codebook.digest,
        "clusters": len(codebook),
        "splits": {},
    }
    for name, part in labels.items():
        part.write(out, name, settings.forms)
        summary["splits"][name] = _checked(out, name, settings)
    assert codebook.spec is not None
    fitted = codebook.fit
    summary |= {
        "skipped": count_reasons(skipped),
        "rate": codebook.spec.rate,
        "frame_inertia": fitted["inertia"] / fitted["frames"],
        "seeding": fitted["seeding"],
    }
    write_header(out / "summary.json", summary)
    return _finished(out)


def _checked(out: Path, name: str, settings: Preparation) -> Header:
    """Return a summary of a split's files as they stand on disk.

    Raises:
        MismatchError: they don't fit each other.
    """
    manifest = read_manifest(out / f"{name}.tsv", settings.corpus.sample_rate)
    header, sequences = open_units(out / f"{name}{settings.forms[0]}")
    survey = Survey.of(sequences, header.clusters)
    check_labels(f"{name}{settings.forms[0]}", header, survey, manifest, out / "dict.km.txt", rate=header.rate)
    usage = usage_scores(survey, header.clusters, header.rate)
    return {"utterances": len(manifest), "seconds": manifest.seconds, **usage.rows()}


def _finished(out: Path) -> Prepared:
    """Read a finished preparation."""
    summary = read_header(out / "summary.json")
    splits = {name: read_manifest(out / f"{name}.tsv") for name in summary["splits"]}
    return Prepared(out, splits, read_skipped(out / "skipped.jsonl"), read_codebook(out / "codebook.safetensors"), summary)


def _first_difference(was: Any, now: Any, name: str = "") -> str:
    if isinstance(was, dict) and isinstance(now, dict):
        key = next(key for key in now if was.get(key) != now[key])
        return _first_difference(was.get(key), now[key], key)
    return f"{name.replace('_', '-')} {was} then, {now} now"
