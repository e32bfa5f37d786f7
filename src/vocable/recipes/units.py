"""Labelling whatever a user has, audio or dumped frames, with a codebook."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vocable.artefacts.headers import digest_of
from vocable.audio.faults import Skipped, require_none
from vocable.audio.manifest import Manifest
from vocable.clustering.codebook import Codebook
from vocable.execution.engine import Engine, Work
from vocable.features.encoder_layer import EncoderFile
from vocable.features.store import StoredFrames
from vocable.recipes.companion_manifest import possible_manifest_files
from vocable.recipes.corpus import CorpusSettings, open_corpus, require_some, require_source, require_speakers, require_usable
from vocable.recipes.dumped import joined_rows, origin_of, stores_in
from vocable.recipes.frames import base_made, pipeline_of, spec_of
from vocable.recipes.labels import label_files, label_manifests, require_ids_for, write_label_files
from vocable.recipes.skipping import keep_skipped, refuse_skipped
from vocable.recipes.stored_labels import label_stores
from vocable.recipes.workplace import Claim, open_workplace, require_name
from vocable.units.labelling import LabelBlocks


@dataclass(frozen=True)
class Labelled:
    """What became of labelling."""

    files: list[Path]
    utterances: int = 0
    frames: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    record: Path | None = None
    """Where what was left out is named."""
    missing: int = 0
    """Blocks that other parts of the work have still to do."""
    was_done: bool = False
    """The files stood there already."""


def label_source(
    source: Path,
    codebook: Codebook,
    out: Path,
    name: str | None,
    forms: Sequence[str],
    corpus: CorpusSettings,
    work: Work,
    strict: bool = False,
    overwrite: bool = False,
    encoder: EncoderFile | None = None,
    runs: bool = False,
) -> Labelled:
    """Label a folder of audio, a manifest, or a folder of dumped frames, and write the labels to `out`.

    Args:
        source: what to label.
        codebook: with what; it says which frames it is for.
        out: folder for the files.
        name: of the files; by default that of the dumped frames, or "units".
        forms: of the labels.
        corpus: which audio is taken; its rate is the codebook's.
        work: where it runs.
        strict: make anything left out an error.
        overwrite: replace labels of something else.
        encoder: makes the frames, where the codebook is for an encoder's.
        runs: in JSON lines and Parquet, write units without repetitions and how long they last.

    Raises:
        InputError: nothing to label, or labels of something else stand there.
        MismatchError: the frames are not those the codebook is for.
    """
    found, stores = stores_in(source, name) if source.is_dir() else ("", [])
    require_source(source)
    if name is not None:
        require_name(name)
    if codebook.normalization.by_speaker and not stores:
        require_speakers(source, corpus, "normalising per speaker")
    if not stores:
        base_made(spec_of(codebook), encoder)
    folder = open_workplace(out)
    with Engine(work) as engine:
        if stores:
            return _from_stores(stores, codebook, out, name or found, forms, engine, folder, overwrite, runs)
        return _from_audio(
            source, codebook, out, name or "units", forms, corpus, engine, folder, strict, overwrite, encoder, runs
        )


def _claim(
    folder: Path, made_from: dict[str, Any], out: Path, name: str, forms: Sequence[str], manifest: Manifest | None
) -> Claim:
    """Return the claim on the label files of a name."""
    companions = possible_manifest_files(out / name)
    files = label_files(out, name, forms, manifest)
    return Claim.of(folder, f"units-{name}", made_from, files, label_files(out, name), companions)


def _told(runs: bool) -> dict[str, Any]:
    return {"runs": True} if runs else {}


def _from_stores(
    stores: list[StoredFrames],
    codebook: Codebook,
    out: Path,
    name: str,
    forms: Sequence[str],
    engine: Engine,
    folder: Path,
    overwrite: bool,
    runs: bool,
) -> Labelled:
    origins = [origin_of(store.path) for store in stores]
    rows = joined_rows(stores, origins)
    made_from = {"codebook": codebook.digest, "frames": digest_of([store.content for store in stores]), **_told(runs)}
    require_ids_for(forms, rows, out / name)
    claim = _claim(folder, made_from, out, name, forms, rows)
    claim.check(overwrite)
    labels = label_stores(stores, origins, codebook, engine, folder)
    if labels.missing:
        return Labelled(list(claim.files), missing=labels.missing)
    done = Labelled(
        list(claim.files), sum(map(len, stores)), sum(len(store.array) for store in stores), was_done=claim.is_settled()
    )
    if not done.was_done:
        with claim.taken(overwrite) as staged:
            write_label_files(staged, name, forms, labels.header(rows), rows, labels.sequences, runs)
    return done


def _from_audio(
    source: Path,
    codebook: Codebook,
    out: Path,
    name: str,
    forms: Sequence[str],
    corpus: CorpusSettings,
    engine: Engine,
    folder: Path,
    strict: bool,
    overwrite: bool,
    encoder: EncoderFile | None,
    runs: bool,
) -> Labelled:
    if codebook.spec is not None:
        corpus = replace(corpus, sample_rate=codebook.spec.sample_rate)
    opened = open_corpus(source, corpus, engine, folder)
    record = out / f"{name}.skipped.jsonl"
    require_usable(opened, source)
    pipeline = pipeline_of(codebook, encoder, opened.manifest, engine, folder)
    made_from = {
        "codebook": codebook.digest,
        "frames": LabelBlocks(pipeline, codebook).key,
        "device": engine.work.kind,
        "audio": opened.state,
        **_told(runs),
    }
    claim = _claim(folder, made_from, out, name, forms, opened.manifest)
    claim.check(overwrite, source)
    require_ids_for(forms, opened.manifest, out / name)
    if strict:
        refuse_skipped(opened.skipped, record)
    labels = label_manifests({name: opened.manifest}, pipeline, codebook, engine, folder, "units")[name]
    if labels.missing:
        return Labelled(list(claim.files), missing=labels.missing)
    # A TextGrid is of one utterance, and which have labels is known only now.
    claim = _claim(folder, made_from, out, name, forms, labels.kept)
    skipped = [*opened.skipped, *labels.skipped.values()]
    keep_skipped(skipped, record)
    if strict:
        require_none(skipped, record)
    require_some(len(labels.kept), skipped, source)
    was_done = claim.is_settled()
    if not was_done:
        # What killed its worker is tried again.
        with claim.taken(overwrite, lasting=not any(labels.finished.given_up())) as staged:
            labels.write(staged, name, forms, runs)
    frames = sum(length for _, entry in labels.finished.done() for length in entry.summary["lengths"])
    return Labelled(list(claim.files), len(labels.kept), frames, skipped, record, was_done=was_done)
