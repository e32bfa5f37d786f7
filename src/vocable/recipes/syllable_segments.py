"""Syllables of a corpus: cut block by block, an utterance's files written as it is cut, and what was cut isn't cut again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from vocable.artefacts.feature_spec import FeatureSpec
from vocable.artefacts.headers import canonical_json, write_header
from vocable.artefacts.writing import replacing
from vocable.audio.blocks import Block
from vocable.audio.faults import AudioFault, Skipped, crash_of, require_none
from vocable.audio.manifest import Manifest, Utterance
from vocable.errors import InputError
from vocable.execution.engine import Engine, Work
from vocable.execution.processor import available_cores
from vocable.execution.stages import Finished, Payload
from vocable.features.encoder_layer import EncoderFile
from vocable.features.pipeline import skipped_rows
from vocable.recipes.corpus import CorpusSettings, open_corpus, require_some, require_source, require_usable
from vocable.recipes.segment_files import ENDINGS, FORMS, write_syllables
from vocable.recipes.skipping import keep_skipped, refuse_skipped
from vocable.recipes.utterance_files import UtteranceFiles, files_summary
from vocable.recipes.workplace import Claim, open_workplace
from vocable.syllables.hearing import FrameStore, Recording
from vocable.syllables.minimum_cut import Frames
from vocable.syllables.norm_peaks import require_scipy
from vocable.syllables.overlap_add import OVERLAP, WINDOW
from vocable.syllables.segmenter import Segmenter, Syllables
from vocable.syllables.settings import SegmentSettings

HEADER = "segments.json"
FORMAT = "vocable.segments/1"
_STAGE = "syllables"
_JSONL = "segments.jsonl"
_AT_ONCE = 1024  # frames that are written together


@dataclass(frozen=True, kw_only=True)
class SyllableJob:
    """What is cut, and what is written.

    Raises:
        InputError: a form is none.
    """

    encoder: EncoderFile
    segment: SegmentSettings = field(default_factory=SegmentSettings)
    corpus: CorpusSettings = field(default_factory=lambda: CorpusSettings(min_seconds=0.1))
    forms: tuple[str, ...] = ("txt", "features")
    silent_frames: bool = True
    """Whether frames that aren't speech are written as they are, or as zeros, as SD-HuBERT's code has them."""

    def __post_init__(self) -> None:
        if self.segment.method == "norm-peaks":
            require_scipy()
        if unknown := [form for form in self.forms if form not in FORMS] or [""] * (not self.forms):
            raise InputError(f"--form {unknown[0] or None}: give some of {', '.join(FORMS)}")

    @cached_property
    def spec(self) -> FeatureSpec:
        """What describes a segment."""
        base = self.encoder.spec(self.segment.layer)
        self.encoder.spec(self.segment.voicing.layer)  # says what is wrong with it before anything is made
        chunking = f"overlap-add:{WINDOW}:{OVERLAP}" if self.segment.windows == "overlap-add" else base.chunking
        return replace(base, chunking=chunking, parameters={**base.parameters, "pooling": "segments", **self.segment.applied()})


@dataclass(frozen=True)
class Cut:
    """What became of cutting."""

    out: Path
    utterances: int = 0
    segments: int = 0
    seconds: float = 0.0
    skipped: list[Skipped] = field(default_factory=list)
    record: Path | None = None
    bounded: int = 0
    """Stretches of speech in which a bound on pieces was reached."""
    missing: int = 0
    """Blocks that other parts of the work have still to do."""
    was_done: bool = False


def cut_syllables(source: Path, out: Path, job: SyllableJob, work: Work, strict: bool = False, overwrite: bool = False) -> Cut:
    """Cut a folder of audio, a file, or a manifest into syllables, and write them to `out`.

    Args:
        source: what to cut.
        out: folder for the files, `UTTERANCE_segments.txt` and so on, and for what says how they were made.
        job: how to cut, and what to write.
        work: where it runs.
        strict: make anything left out an error.
        overwrite: replace segments of something else.

    Raises:
        InputError: nothing to cut, or something else stands there.
    """
    require_source(source)
    spec = job.spec  # says what is wrong with the encoder and its layers, before anything is made
    job = replace(job, corpus=replace(job.corpus, sample_rate=spec.sample_rate))
    folder = open_workplace(out)
    with Engine(work) as engine:
        opened = open_corpus(source, job.corpus, engine, folder)
        require_usable(opened, source)
        record = out / "skipped.jsonl"
        if strict:
            refuse_skipped(opened.skipped, record)
        made_from = {
            "audio": opened.state, "spec": spec.identity(), "recorded": spec.recorded, "forms": sorted(job.forms),
            "device": engine.work.kind, "silent_frames": job.silent_frames,
        }  # fmt: skip
        files = [out / HEADER, *([out / _JSONL] if "jsonl" in job.forms else [])]
        claim = Claim.of(folder, _STAGE, made_from, files, companions=[out / _JSONL])
        claim.check(overwrite, source)
        files_of = UtteranceFiles(out, opened.manifest, claim, _STAGE, list(ENDINGS.values()))
        finished = files_of.make(_CutBlocks(job, out), engine, overwrite)
        if finished.missing:
            return Cut(out, missing=finished.missing)
        left_out = skipped_rows(finished)
        skipped = [*opened.skipped, *left_out.values()]
        keep_skipped(skipped, record)
        if strict:
            require_none(skipped, record)
        require_some(len(opened.manifest) - len(left_out), skipped, source)
        was_done = claim.is_settled()
        rows = list(_rows(finished, spec))
        if not was_done:
            with claim.taken(overwrite, lasting=not any(finished.given_up())) as staged:
                _describe(staged, job, opened.manifest, rows)
    segments = sum(len(found) for _, found, _ in rows)
    seconds = sum(opened.manifest[row].samples for row, _, _ in rows) / opened.manifest.sample_rate
    bounded = sum(entry.summary["bounded"] for _, entry in finished.done())
    return Cut(out, len(rows), segments, seconds, skipped, record, bounded, was_done=was_done)


def _rows(finished: Finished[Any], spec: FeatureSpec) -> Iterator[tuple[int, NDArray[np.float64], int]]:
    """Yield each utterance that was cut: its row, its segments in seconds, and how many frames it has."""
    rate = spec.sample_rate / spec.hop
    for block, _, content in finished.results():
        held = load(content)
        edges = np.concatenate([[0], np.cumsum(held["counts"])])
        for number, row in enumerate(held["rows"].tolist()):
            yield block.first + row, held["segments"][edges[number] : edges[number + 1]] / rate, int(held["lengths"][number])


def _describe(folder: Path, job: SyllableJob, manifest: Manifest, rows: Sequence[tuple[int, NDArray[np.float64], int]]) -> None:
    """Write what says what all files are."""
    header = {
        "format": FORMAT, "features": job.spec.to_json(), "settings": asdict(job.segment), "forms": sorted(job.forms),
        "utterances": len(rows), "segments": sum(len(found) for _, found, _ in rows),
    }  # fmt: skip
    write_header(folder / HEADER, header)
    if "jsonl" in job.forms:
        with replacing(folder / _JSONL) as file:
            for row, found, length in rows:
                line = {"id": manifest.ids[row], "segments": found.round(6).tolist(), "length": length}
                file.write((canonical_json(line) + "\n").encode())


@dataclass(frozen=True)
class _CutBlocks:
    """A job: the syllables of a block, whose files are written."""

    job: SyllableJob
    out: Path

    def open(self, device: str) -> Callable[[Block], Payload]:
        segmenter = Segmenter(self.job.encoder, self.job.segment, device=device)
        cutters = 1 if device == "cpu" else min(8, available_cores())

        def run(block: Block) -> Payload:
            sounds = [self._recording(block, item) for item in block.utterances if not block.is_spoiled(item)]
            all_made = segmenter.found(sounds, cutters)
            rows, found, sizes, skipped = [], [], [], []
            for row, item in enumerate(block.utterances):
                made = crash_of(item.path) if block.is_spoiled(item) else next(all_made)
                if isinstance(made, AudioFault):
                    out = Skipped.of(item.path, made)
                    skipped.append([row, out.path, out.reason, out.detail])
                    continue
                cut, frames = made
                sizes.append(write_syllables(self.out, item.id, cut, self._kept(cut, frames), self.job.forms))
                rows.append(row)
                found.append(cut)
            files = files_summary([block.utterances[row].id for row in rows], sizes)
            return _packed(rows, found), {**files, "skipped": skipped, "bounded": sum(item.bounded for item in found)}

        return run

    def _kept(self, cut: Syllables, frames: FrameStore) -> Iterator[Frames]:
        """Yield the frames as they are to be written, some at a time."""
        for first in range(0, frames.count, _AT_ONCE):
            part = frames.read(first, min(frames.count, first + _AT_ONCE))
            if not self.job.silent_frames and cut.speech is not None:
                part = np.where(cut.speech[first : first + len(part), None], part, np.float32(0))
            yield part

    @staticmethod
    def _recording(block: Block, item: Utterance) -> Recording:
        return Recording(block.where(item), item.channel, item.samples)


def _packed(rows: list[int], found: list[Syllables]) -> bytes:
    return save(
        {
            "rows": np.array(rows, np.int64),
            "counts": np.array([len(item.frames) for item in found], np.int64),
            "lengths": np.array([item.length for item in found], np.int64),
            "segments": np.concatenate([np.empty((0, 2), np.int64), *(item.frames for item in found)]),
        }
    )
