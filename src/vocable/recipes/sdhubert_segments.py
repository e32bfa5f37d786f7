"""Segments of a folder, and of LibriSpeech, as the commands of SD-HuBERT's authors cut them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vocable.audio.faults import printable
from vocable.errors import InputError
from vocable.execution.engine import Work
from vocable.features.encoder_layer import EncoderFile
from vocable.recipes.corpus import CorpusSettings
from vocable.recipes.row_files import unlistable, write_rows
from vocable.recipes.syllable_segments import Cut, SyllableJob, cut_syllables
from vocable.recipes.workplace import open_workplace
from vocable.syllables.settings import PRESETS

_ENDINGS = (".wav", ".flac", ".ogg")
_CORPUS = CorpusSettings(min_seconds=0.1)
_LIBRISPEECH_SYLLABLE = 0.2


def cut_folder(
    source: Path,
    out: Path,
    encoder: EncoderFile,
    device: str,
    norm_threshold: float,
    silence_threshold: float,
    syllable_seconds: float,
    merge_threshold: float,
    overwrite: bool,
) -> Cut:
    """Cut the audio files in a folder, and none in those below it.

    Args:
        source: the folder.
        out: folder for the files.
        encoder: the checkpoint.
        device: a torch device.
        norm_threshold: above which a frame is speech.
        silence_threshold: stretches that are no louder are left out.
        syllable_seconds: of a piece before any are merged.
        merge_threshold: least cosine of neighbours that become one.
        overwrite: replace segments of something else.

    Raises:
        InputError: there are no audio files, or something else stands in the other folder.
    """
    if not source.is_dir():
        raise InputError(f"--input-dir {source} is no folder: give one of audio files")
    paths = sorted(path for path in source.iterdir() if path.suffix in _ENDINGS and path.is_file())
    if not paths:
        raise InputError(f"--input-dir {source} has no file that ends in {', '.join(_ENDINGS)}: give another folder")
    settings = PRESETS["current"]
    settings = replace(
        settings,
        voicing=replace(settings.voicing, threshold=norm_threshold, silence=silence_threshold),
        minimum_cut=replace(settings.minimum_cut, syllable_seconds=syllable_seconds, merge_threshold=merge_threshold),
    )
    job = SyllableJob(encoder=encoder, segment=settings, corpus=_CORPUS, forms=("txt", "features", "frames"), silent_frames=False)
    listed = _listed(source, [path.name for path in paths], out, job)
    return cut_syllables(listed, out, job, Work(devices=(device,)), overwrite=overwrite)


def cut_librispeech(root: Path, parts: Sequence[str], out: Path, encoder: EncoderFile, device: str, overwrite: bool) -> Cut:
    """Cut parts of LibriSpeech, each into a folder of its own, so that others can be cut later.

    Args:
        root: its folder.
        parts: names of the folders in it; those that are there are taken.
        out: folder for the files.
        encoder: the checkpoint.
        device: a torch device.
        overwrite: replace segments of something else.

    Raises:
        InputError: none of the parts is there.
    """
    paths = {part: sorted(path.relative_to(root / part).as_posix() for path in (root / part).rglob("*.flac")) for part in parts}
    if not any(paths.values()):
        raise InputError(f"{root} has no .flac file in {', '.join(parts)}: give LibriSpeech's folder")
    settings = PRESETS["current"]
    settings = replace(settings, minimum_cut=replace(settings.minimum_cut, syllable_seconds=_LIBRISPEECH_SYLLABLE))
    job = SyllableJob(encoder=encoder, segment=settings, corpus=_CORPUS)
    total = Cut(out, was_done=True)
    for part, own in paths.items():
        if own:
            listed = _listed(root / part, own, out / part, job)
            made = cut_syllables(listed, out / part, job, Work(devices=(device,)), overwrite=overwrite)
            total = replace(
                total,
                utterances=total.utterances + made.utterances,
                segments=total.segments + made.segments,
                seconds=total.seconds + made.seconds,
                skipped=[*total.skipped, *made.skipped],
                record=made.record if made.skipped else total.record,
                was_done=total.was_done and made.was_done,
            )
    return total


def _listed(root: Path, paths: Sequence[str], out: Path, job: SyllableJob) -> Path:
    """Return a manifest of audio files, named by their paths from a folder on, without their endings; first channels alone."""
    _ = job.spec  # says what is wrong with the checkpoint before anything is written
    rows: list[dict[str, str | int]] = []
    for path in paths:
        if unlistable(path) is not None:
            print(
                f"warning: {printable(str(root / path))} is left out, since its name can't be listed: rename it", file=sys.stderr
            )
            continue
        rows.append({"id": Path(path).with_suffix("").as_posix(), "path": str((root / path).resolve()), "channel": 1})
    if not rows:
        raise InputError(f"{root} has no audio file whose name can be listed: rename them")
    return write_rows(open_workplace(out), "listed", rows)
