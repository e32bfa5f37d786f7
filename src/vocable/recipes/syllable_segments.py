"""Syllables of a corpus: cut block by block, an utterance's files written as it is cut, and what was cut isn't cut again."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from vocable.artefacts.feature_spec import FeatureSpec
from vocable.artefacts.headers import canonical_json, digest_of, write_header
from vocable.artefacts.writing import remove_leftovers, replacing
from vocable.audio.blocks import Block, blocks_of, shard_bounds
from vocable.audio.faults import AudioFault, Skipped, require_none
from vocable.audio.manifest import Manifest, Utterance
from vocable.errors import InputError
from vocable.execution.engine import Engine, Work
from vocable.execution.ledger import Entry, Ledger
from vocable.execution.processor import available_cores
from vocable.execution.progress import progress
from vocable.execution.stages import Finished, Payload, Stage
from vocable.features.encoder_layer import EncoderFile
from vocable.features.pipeline import skipped_rows
from vocable.recipes.corpus import CorpusSettings, open_corpus, require_some, require_source, require_usable
from vocable.recipes.making import Making, begun, making_in
from vocable.recipes.segment_files import ENDINGS, FORMS, NPY_HEADER, SEGMENTS, path_of, write_syllables
from vocable.recipes.skipping import keep_skipped, refuse_skipped
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
        if unknown := [form for form in self.forms if form not in FORMS]:
            raise InputError(f"--form {unknown[0]}: give some of {', '.join(FORMS)}")

    @cached_property
    def spec(self) -> FeatureSpec:
        """What describes a segment."""
        base = self.encoder.spec(self.segment.layer)
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
        corpus = _Corpus(out, job, opened.manifest, claim)
        claim.check(overwrite, source)
        require_inside(opened.manifest)
        finished = corpus.cut(engine, overwrite)
        if finished.missing:
            return Cut(out, missing=finished.missing)
        left_out = skipped_rows(finished)
        skipped = [*opened.skipped, *left_out.values()]
        keep_skipped(skipped, record)
        if strict:
            require_none(skipped, record)
        require_some(len(opened.manifest) - len(left_out), skipped, source)
        was_done = claim.is_settled()
        rows = list(corpus.rows(finished))
        if not was_done:
            with claim.taken(overwrite, lasting=not any(finished.given_up())) as staged:
                corpus.describe(staged, rows)
    segments = sum(len(found) for _, found, _ in rows)
    seconds = sum(opened.manifest[row].samples for row, _, _ in rows) / opened.manifest.sample_rate
    bounded = sum(entry.summary["bounded"] for _, entry in finished.done())
    return Cut(out, len(rows), segments, seconds, skipped, record, bounded, was_done=was_done)


@dataclass(frozen=True)
class _Corpus:
    out: Path
    job: SyllableJob
    manifest: Manifest
    claim: Claim

    def cut(self, engine: Engine, overwrite: bool) -> Finished[Any]:
        """Cut the blocks that aren't cut yet, or whose files are gone."""
        mark = making_in(self.out)
        if mark is not None and mark.key != self.claim.key and not overwrite:
            raise InputError(f"{self.out} holds segments of other settings or audio: give another folder, or --overwrite")
        again = mark is not None and mark.key != self.claim.key
        if mark is None and not overwrite:
            self._refuse_foreign()
        if again:
            self._clear()
        for parent in {path_of(self.out, name, SEGMENTS).parent for name in self.manifest.ids}:
            remove_leftovers(parent)
        if mark is None or again:
            mark = begun(self.out, self.claim.key, again)
        blocks = [self._checked(block, mark) for block in blocks_of(self.manifest)]
        mine = slice(*shard_bounds(len(blocks), engine.work.nshard, engine.work.rank))
        with progress("syllables", sum(block.size for block in blocks[mine])) as shown:
            stage = Stage(_STAGE, list(mark), self.claim.folder)
            return stage.run(_CutBlocks(self.job, self.out), blocks, engine, shown, mine)

    def _clear(self) -> None:
        """Remove the files of an earlier making, what speaks of them first."""
        for path in (*self.claim.files, *self.claim.rivals):
            path.unlink(missing_ok=True)
        for entry in self._known.values():
            names = (
                load(Ledger(self.claim.folder).read(entry))["names"].tobytes().decode("utf-8", "surrogateescape")
                if entry.failure is None
                else ""
            )
            for name in filter(None, names.split("\n")):
                for ending in ENDINGS.values():
                    path_of(self.out, name, ending).unlink(missing_ok=True)

    def _refuse_foreign(self) -> None:
        for name in self.manifest.ids:
            for ending in ENDINGS.values():
                if (path := path_of(self.out, name, ending)).exists():
                    raise InputError(f"{path} is there already, and isn't of this command: give another folder, or --overwrite")

    def _checked(self, block: Block, mark: Making) -> Block | _Again:
        entry = self._known.get(digest_of([list(mark), block.content]))
        if entry is None or entry.failure is not None:
            return block
        held = load(Ledger(self.claim.folder).read(entry))
        counts = iter(zip(held["rows"].tolist(), held["counts"].tolist(), held["lengths"].tolist(), strict=True))
        whole = all(self._is_whole(block.utterances[row].id, count, length) for row, count, length in counts)
        return block if whole else _Again(block, uuid.uuid4().hex)

    @cached_property
    def _known(self) -> dict[str, Entry]:
        return Ledger(self.claim.folder).entries(_STAGE)

    def _is_whole(self, name: str, segments: int, frames: int) -> bool:
        width = 4 * self.job.spec.dim
        wanted = {"features": NPY_HEADER + segments * width, "frames": NPY_HEADER + frames * width}
        for form in self.job.forms:
            if form in ENDINGS:
                path = path_of(self.out, name, ENDINGS[form])
                try:
                    size = path.stat().st_size
                except OSError:
                    return False
                if form in wanted and size != wanted[form]:
                    return False
        return True

    def rows(self, finished: Finished[Any]) -> Iterator[tuple[int, NDArray[np.float64], int]]:
        """Yield each utterance that was cut: its row, its segments in seconds, and how many frames it has."""
        rate = self.job.spec.sample_rate / self.job.spec.hop
        for block, _, content in finished.results():
            held = load(content)
            first = block.first
            edges = np.concatenate([[0], np.cumsum(held["counts"])])
            for number, row in enumerate(held["rows"].tolist()):
                own = held["segments"][edges[number] : edges[number + 1]] / rate
                yield first + row, own, int(held["lengths"][number])

    def describe(self, folder: Path, rows: Sequence[tuple[int, NDArray[np.float64], int]]) -> None:
        """Write what says what all files are."""
        spec = self.job.spec
        header = {
            "format": FORMAT, "features": spec.to_json(), "settings": asdict(self.job.segment), "forms": sorted(self.job.forms),
            "utterances": len(rows), "segments": sum(len(found) for _, found, _ in rows),
        }  # fmt: skip
        write_header(folder / HEADER, header)
        if "jsonl" in self.job.forms:
            with replacing(folder / _JSONL) as file:
                for row, found, length in rows:
                    line = {"id": self.manifest.ids[row], "segments": found.round(6).tolist(), "length": length}
                    file.write((canonical_json(line) + "\n").encode())


@dataclass(frozen=True)
class _Again:
    """A block whose files are gone."""

    block: Block
    name: str

    @property
    def size(self) -> float:
        return self.block.size

    @property
    def first(self) -> int:
        return self.block.first

    @property
    def utterances(self) -> Sequence[Any]:
        return self.block.utterances

    @property
    def content(self) -> str:
        return digest_of([self.block.content, self.name])


def require_inside(manifest: Manifest) -> None:
    """Refuse utterances whose files would lie outside the folder of all.

    Raises:
        InputError: names one.
    """
    for name in manifest.ids:
        if name.startswith("/") or ".." in name.split("/"):
            raise InputError(f"the utterance {name!r} would be written outside the folder: give it another id in the manifest")


@dataclass(frozen=True)
class _CutBlocks:
    """A job: the syllables of a block, whose files are written."""

    job: SyllableJob
    out: Path

    def open(self, device: str) -> Callable[[Any], Payload]:
        segmenter = Segmenter(self.job.encoder, self.job.segment, device=device)
        cutters = 1 if device == "cpu" else min(8, available_cores())

        def run(given: Block | _Again) -> Payload:
            block = given.block if isinstance(given, _Again) else given
            sounds = [self._recording(block, item) for item in block.utterances]
            rows, found, skipped = [], [], []
            for row, made in enumerate(segmenter.found(sounds, cutters)):
                item = block.utterances[row]
                if isinstance(made, AudioFault):
                    out = Skipped.of(item.path, made)
                    skipped.append([row, out.path, out.reason, out.detail])
                    continue
                cut, frames = made
                write_syllables(self.out, item.id, cut, self._kept(cut, frames), self.job.forms)
                rows.append(row)
                found.append(cut)
            names = [block.utterances[row].id for row in rows]
            return _packed(rows, names, found), {"skipped": skipped, "bounded": sum(item.bounded for item in found)}

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


def _packed(rows: list[int], names: list[str], found: list[Syllables]) -> bytes:
    return save(
        {
            "rows": np.array(rows, np.int64),
            "names": np.frombuffer("\n".join(names).encode("utf-8", "surrogateescape"), np.uint8),
            "counts": np.array([len(item.frames) for item in found], np.int64),
            "lengths": np.array([item.length for item in found], np.int64),
            "segments": np.concatenate([np.empty((0, 2), np.int64), *(item.frames for item in found)]),
        }
    )
