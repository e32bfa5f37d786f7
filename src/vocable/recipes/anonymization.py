"""Speech of a corpus said by other voices: converted block by block, an utterance's file written as it is made."""

from __future__ import annotations

import hashlib
import io
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import soundfile

from vocable.anonymization.anonymizer import Anonymizer, AsPlanned, ByKey, Draw, Kept, Per, VoiceParts
from vocable.anonymization.draw import KeyedDraw, Plan, ReferenceDraw, require_used, segment_count
from vocable.anonymization.voices import least_samples
from vocable.artefacts.feature_spec import FeatureSpec
from vocable.artefacts.headers import canonical_json, write_header
from vocable.artefacts.writing import replacing, write_text
from vocable.audio.blocks import Block
from vocable.audio.decoding import Waveform
from vocable.audio.faults import AudioFault, Skipped, require_none
from vocable.audio.manifest import Manifest
from vocable.clustering.fleets import Fleet, read_fleet
from vocable.errors import InputError
from vocable.execution.engine import Engine, Work
from vocable.execution.stages import Payload
from vocable.features.pipeline import FramePipeline, skipped_rows
from vocable.recipes.corpus import CorpusSettings, open_corpus, require_some, require_source, require_usable
from vocable.recipes.listening import listening_page
from vocable.recipes.skipping import keep_skipped, refuse_skipped
from vocable.recipes.utterance_files import UtteranceFiles, files_summary, path_of
from vocable.recipes.workplace import Claim, open_workplace

HEADER, PAGE = "anonymized.json", "report.html"
FORMAT = "vocable.anonymized/1"
WAVE, DRAWN = ".wav", ".draw.json"
_STAGE = "anonymized speech"


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """How speech is converted.

    Raises:
        InputError: parts don't go together.
    """

    codebooks: Path
    model: Path | None = None
    encoder: str | None = None
    vocoder: Path | None = None
    per: Per = "audio"
    stride: int = 1
    used: int | None = None
    own_left_out: bool = False
    match_length: bool = False
    draw: Literal["keyed", "reference"] = "keyed"
    key: bytes | None = field(default=None, repr=False)
    """None: one that is made now and kept nowhere."""
    write_draw: bool = False
    """Beside each file, one that names its codebooks."""
    compared: bool = False
    """Put some originals on the page to listen to."""
    voices: Path | None = None
    """Other codebooks of cepstra, of whose speakers mean and pitch are drawn."""
    keeps: tuple[Kept, ...] = ()
    """What stays as it was, for comparison."""
    distance: float | None = None
    """Of voices of cepstra from the usual one, as a multiple; by default 1.4."""

    def __post_init__(self) -> None:
        if self.stride < 1:
            raise InputError(f"--stride {self.stride}: give 1 or more frames")
        if self.draw == "reference" and self.own_left_out:
            raise InputError("--draw reference doesn't look at who speaks: leave --exclude-own-speaker out, or the draw")
        if self.draw == "reference" and self.voices is not None:
            raise InputError("--draw reference draws no voices beside codebooks: leave one of them out")

    @property
    def voice_fleet(self) -> Fleet | None:
        """The codebooks of whose speakers mean and pitch are drawn, where they are others."""
        return None if self.voices is None else read_fleet(self.voices)


@dataclass(frozen=True)
class Converted:
    """What became of it."""

    out: Path
    utterances: int = 0
    seconds: float = 0.0
    skipped: list[Skipped] = field(default_factory=list)
    record: Path | None = None
    missing: int = 0
    """Blocks that other parts of the work have still to do."""
    was_done: bool = False


def convert_speech(
    source: Path,
    out: Path,
    conversion: Conversion,
    corpus: CorpusSettings,
    work: Work,
    strict: bool = False,
    overwrite: bool = False,
) -> Converted:
    """Let other voices say what a folder of audio, or a manifest, says; write `UTTERANCE.wav` files of 16 bits.

    Args:
        source: what to convert.
        out: folder for the files, for what says how they were made, and for a page to listen to some.
        conversion: how.
        corpus: which audio is taken, and who speaks.
        work: where it runs.
        strict: make anything left out an error.
        overwrite: replace speech of something else.

    Raises:
        InputError: nothing to convert, parts that don't go together, or something else stands there.
    """
    require_source(source)
    require_outside(source, out)
    fleet = read_fleet(conversion.codebooks)
    check_draw(conversion, fleet)
    parts = VoiceParts.of(
        fleet, conversion.model, conversion.encoder, conversion.vocoder, conversion.voice_fleet, conversion.distance
    )
    if conversion.keeps and parts.encoder is not None:
        raise InputError("what is kept of a voice is a matter of cepstra: leave keeps out, or take codebooks of these")
    spec = parts.spec
    corpus = replace(corpus, sample_rate=spec.sample_rate)
    folder = open_workplace(out)
    record = out / "skipped.jsonl"
    with Engine(work) as engine:
        opened = open_corpus(source, corpus, engine, folder)
        require_usable(opened, source)
        if strict:
            refuse_skipped(opened.skipped, record)
        described = _described(conversion, parts)
        made_from = {"audio": opened.state, "codebooks": fleet.digest, "device": work.kind, **described, **_private(conversion)}
        claim = Claim.of(folder, "anonymized", made_from, [out / HEADER, out / PAGE])
        claim.check(overwrite, source)
        if conversion.own_left_out and (unnamed := next((item.id for item in opened.manifest if item.speaker is None), None)):
            raise InputError(f"who speaks {unnamed} isn't known, so own codebooks can't be left out: give --speakers")
        files_of = UtteranceFiles(out, opened.manifest, claim, _STAGE, [WAVE, DRAWN])
        given = conversion
        if conversion.key is None:  # one for all workers; which codebooks are used doesn't follow from it, so that parts agree
            given = replace(conversion, key=secrets.token_bytes(32))
        job = _ConvertBlocks(given, conversion.key is None, _plans(conversion, opened.manifest, spec, len(fleet)), out)
        finished = files_of.make(job, engine, overwrite)
        if finished.missing:
            return Converted(out, missing=finished.missing)
        left_out = skipped_rows(finished)
        skipped = [*opened.skipped, *left_out.values()]
        keep_skipped(skipped, record)
        if strict:
            require_none(skipped, record)
        rows = [row for row in range(len(opened.manifest)) if row not in left_out]
        require_some(len(rows), skipped, source)
        was_done = claim.is_settled()
        if not was_done:
            with claim.taken(overwrite, lasting=not any(finished.given_up())) as staged:
                header = {"format": FORMAT, "sample_rate": parts.sample_rate, "utterances": len(rows), "note": fleet.note}
                write_header(staged / HEADER, {**header, "codebooks": fleet.digest, **described})
                page = listening_page(out, opened.manifest, rows, WAVE, conversion.compared)
                (staged / PAGE).write_text(page, encoding="utf-8")
    seconds = sum(opened.manifest[row].samples for row in rows) / opened.manifest.sample_rate
    return Converted(out, len(rows), seconds, skipped, record, was_done=was_done)


def require_outside(source: Path, out: Path) -> None:
    """Refuse to write among what is read.

    Raises:
        InputError: the folder lies in the other.
    """
    if source.is_dir() and out.resolve().is_relative_to(source.resolve()):
        raise InputError(
            f"--out {out} lies in {source}, where the next run would take it for more to convert: give another folder"
        )


def _described(conversion: Conversion, parts: VoiceParts) -> dict[str, Any]:
    """Return what results depend on, and everybody may know."""
    return {
        "per": conversion.per, "stride": conversion.stride if conversion.per == "frame" else None, "used": conversion.used,
        "own_left_out": conversion.own_left_out, "match_length": conversion.match_length, "draw": conversion.draw,
        "model": None if parts.model is None else parts.model.digest,
        "vocoder": None if parts.vocoder is None else parts.vocoder.digest,
        **({} if parts.voices is None else {"voices": parts.voices.digest}),
        **({"keeps": conversion.keeps} if conversion.keeps else {}),
        **({"distance": parts.distance} if parts.encoder is None else {}),
    }  # fmt: skip


def _private(conversion: Conversion) -> dict[str, Any]:
    """Return what else results depend on."""
    return {"key": _trace(conversion.key), "write_draw": conversion.write_draw, "compared": conversion.compared}


def _trace(key: bytes | None) -> str | None:
    """Return what tells a key from another, and takes long to be made, so that keys can't be tried one after another."""
    return None if key is None else hashlib.scrypt(key, salt=b"vocable.key", n=1 << 15, r=8, p=1, maxmem=1 << 26).hex()


def check_draw(conversion: Conversion, fleet: Fleet) -> None:
    """Refuse a draw that these codebooks can't give.

    Raises:
        InputError: more are to be used than there are, or nothing says whose they are.
    """
    require_used(conversion.used, len(fleet))
    if conversion.draw == "keyed":
        KeyedDraw(fleet.names, fleet.speakers, b"", conversion.used, conversion.own_left_out)
        if (voices := conversion.voice_fleet) is not None:
            KeyedDraw(voices.names, voices.speakers, b"", own_left_out=conversion.own_left_out)


def _plans(conversion: Conversion, manifest: Manifest, spec: FeatureSpec, codebooks: int) -> dict[str, Plan] | None:
    """Return the reference's plan for all utterances together, if that is asked for."""
    if conversion.draw == "keyed":
        return None
    draw = ReferenceDraw(codebooks, conversion.used)
    if conversion.per == "audio":
        return {name: np.array([number]) for name, number in zip(manifest.ids, draw.per_audio(len(manifest)), strict=True)}
    samples = manifest.samples.tolist()
    filled = spec.kind == "cepstra" or conversion.match_length  # audio is padded to whole hops
    frames = [-(-count // spec.hop) if filled else spec.frame_count(count) for count in samples]
    segments = [segment_count(count, conversion.stride) for count in frames]
    return dict(zip(manifest.ids, draw.per_segment(segments), strict=True))


@dataclass(frozen=True)
class _ConvertBlocks:
    """A job: the speech of a block, whose files are written."""

    conversion: Conversion
    keyless: bool
    plans: dict[str, Plan] | None
    out: Path

    def open(self, device: str) -> Callable[[Block], Payload]:
        conversion = self.conversion
        fleet, voices = read_fleet(conversion.codebooks), conversion.voice_fleet
        draw: Draw
        if self.plans is not None:
            draw = AsPlanned(self.plans)
        else:
            assert conversion.key is not None
            subset = fleet.digest.encode() if self.keyless else None
            keyed = KeyedDraw(fleet.names, fleet.speakers, conversion.key, conversion.used, conversion.own_left_out, subset)
            left = conversion.own_left_out
            draw = ByKey(
                keyed, None if voices is None else KeyedDraw(voices.names, voices.speakers, conversion.key, own_left_out=left)
            )
        anonymizer = Anonymizer(
            fleet, conversion.model, encoder=conversion.encoder, vocoder=conversion.vocoder, per=conversion.per,
            stride=conversion.stride, draw=draw, voices=voices, keeps=conversion.keeps, distance=conversion.distance,
            match_length=conversion.match_length, device=device,
        )  # fmt: skip
        pipeline = FramePipeline(replace(anonymizer.voice.spec, receptive_field=least_samples(anonymizer.voice.spec)))

        def run(block: Block) -> Payload:
            rows, waveforms, unread = pipeline.waveforms_of(block)
            skipped = [[row, item.path, item.reason, item.detail] for row, item in unread]
            names, sizes = [], []
            for row, waveform in zip(rows, waveforms, strict=True):
                item = block.utterances[row]
                try:
                    made = anonymizer(waveform, item.id, item.speaker)
                except AudioFault as fault:
                    left = Skipped.of(item.path, fault)
                    skipped.append([row, left.path, left.reason, left.detail])
                    continue
                names.append(item.id)
                own = {}
                if conversion.write_draw:
                    path_of(self.out, item.id, "").parent.mkdir(parents=True, exist_ok=True)
                    text = canonical_json({"codebooks": [fleet.names[at] for at in made.segments.tolist()]}) + "\n"
                    write_text(path_of(self.out, item.id, DRAWN), text)
                    own[DRAWN] = len(text.encode())
                own[WAVE] = write_wave(path_of(self.out, item.id, WAVE), made.waveform, made.sample_rate)
                sizes.append(own)
            return b"", {**files_summary(names, sizes), "skipped": sorted(skipped)}

        return run


def write_wave(path: Path, waveform: Waveform, sample_rate: int) -> int:
    """Write a waveform as 16 bits, clipped where it is too loud, and return how many bytes that are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    held = io.BytesIO()
    soundfile.write(held, np.clip(waveform, -1, 1), sample_rate, subtype="PCM_16", format="WAV")
    with replacing(path) as file:
        return file.write(held.getvalue())
