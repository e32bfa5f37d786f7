"""Fitting a codebook to whatever a user has: audio, a manifest, or dumped frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vocable.artefacts.headers import digest_of
from vocable.audio.faults import Skipped, read_skipped, require_none
from vocable.clustering.codebook import Codebook, read_codebook
from vocable.errors import InputError
from vocable.execution.engine import Engine, Work
from vocable.features.store import StoredFrames
from vocable.recipes.corpus import Corpus, CorpusSettings, open_corpus, require_source, require_usable
from vocable.recipes.dumped import stores_in
from vocable.recipes.fitting import FitSettings, NewFit, fit_on_audio, fit_on_store
from vocable.recipes.frames import FrameChoice, pipeline_for
from vocable.recipes.skipping import keep_skipped, refuse_skipped
from vocable.recipes.workplace import NAME, Claim, open_workplace


@dataclass(frozen=True)
class Fitted:
    """What became of a fit."""

    codebook: Codebook
    skipped: list[Skipped] = field(default_factory=list)
    record: Path | None = None
    """Where what was left out is named."""
    was_done: bool = False
    """It stood there already."""


def fit_source(
    source: Path,
    out: Path,
    name: str | None,
    settings: FitSettings,
    corpus: CorpusSettings,
    frames: FrameChoice,
    work: Work,
    strict: bool = False,
    overwrite: bool = False,
) -> Fitted:
    """Fit a codebook to a folder of audio, a manifest, or a folder of dumped frames, and write it to `out`.

    Args:
        source: what to fit to.
        out: the codebook.
        name: of the dumped frames, where a folder holds several.
        settings: of the fit.
        corpus: which audio is taken.
        frames: which frames of it.
        work: where it runs.
        strict: make anything left out an error.
        overwrite: replace a codebook of something else.

    Raises:
        InputError: nothing to fit to, or a codebook of something else stands there.
    """
    if out.suffix != ".safetensors" or out.is_dir():
        raise InputError(f"--out {out}: a codebook is a file whose name ends in .safetensors")
    _, stores = stores_in(source, name) if source.is_dir() else ("", [])
    require_source(source)
    frames.require_speakers(source, corpus)
    folder = open_workplace(out.parent)
    with Engine(work) as engine:
        if stores:
            claim = claim_with_stores(out, settings, stores, work)
            if claim.is_settled():
                return Fitted(read_codebook(out), was_done=True)
            claim.check(overwrite)
            return _kept(fit_on_store(stores, settings, engine, folder), out, claim, overwrite)
        return _fit_to_audio(source, out, settings, corpus, frames, engine, folder, strict, overwrite)


def claim_with_stores(out: Path, settings: FitSettings, stores: Sequence[StoredFrames], work: Work) -> Claim:
    """Return the claim on a codebook that is fitted to dumped frames."""
    frames = digest_of([store.content for store in stores])
    return _claim(out, {**asdict(settings), "device": work.kind, "frames": frames})


def claim_with_audio(
    out: Path, settings: FitSettings, corpus: CorpusSettings, frames: FrameChoice, opened: Corpus, work: Work
) -> Claim:
    """Return the claim on a codebook that is fitted to audio."""
    chosen = {**asdict(corpus), **asdict(settings), **frames.state()}
    return _claim(out, {**chosen, "device": work.kind, "audio": opened.state})


def _claim(out: Path, made_from: dict[str, Any]) -> Claim:
    return Claim.of(out.parent / NAME, f"k-means-{out.name}", made_from, [out])


def _fit_to_audio(
    source: Path,
    out: Path,
    settings: FitSettings,
    corpus: CorpusSettings,
    frames: FrameChoice,
    engine: Engine,
    folder: Path,
    strict: bool,
    overwrite: bool,
) -> Fitted:
    record = out.with_suffix(".skipped.jsonl")
    opened = open_corpus(source, corpus, engine, folder)
    require_usable(opened, source)
    claim = claim_with_audio(out, settings, corpus, frames, opened, engine.work)
    claim.check(overwrite, source)
    if strict:
        refuse_skipped(opened.skipped, record)
    if claim.is_settled():
        skipped = read_skipped(record) if record.exists() else []
        if strict:
            require_none(skipped, record)
        return Fitted(read_codebook(out), skipped, record, was_done=True)
    pipeline = pipeline_for(frames, corpus.sample_rate, opened.manifest, engine, folder)
    made = fit_on_audio(opened.manifest, pipeline, settings, engine, folder)
    skipped = [*opened.skipped, *made.skipped]
    keep_skipped(skipped, record)
    if strict:
        require_none(skipped, record)
    return _kept(made, out, claim, overwrite, skipped, record)


def _kept(
    made: NewFit, out: Path, claim: Claim, overwrite: bool, skipped: Sequence[Skipped] = (), record: Path | None = None
) -> Fitted:
    with claim.taken(overwrite, lasting=not made.codebook.fit.get("lost")) as staged:
        made.codebook.write(staged / out.name)
    made.forget_passes()
    return Fitted(made.codebook, list(skipped), record)
