"""`vocable features mfcc|logmel|CHECKPOINT`, and labels beside them: `features f0|speakers`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from vocable.cli.given_options import spelled
from vocable.cli.options import Audio, Part, Running, refuse_idle
from vocable.cli.tables import print_table, report_others, report_skipped
from vocable.features.encoder_layer import Precision
from vocable.features.normalization import Scope
from vocable.models.config import WaveformNormalization
from vocable.models.taps import TapName
from vocable.recipes.corpus import CorpusSettings
from vocable.recipes.features import dump_source
from vocable.recipes.frames import FrameChoice
from vocable.recipes.pitch_labels import PitchSettings, label_pitch
from vocable.recipes.plan import plan_dump, plan_pitch
from vocable.recipes.speaker_labels import label_speakers

Pitches = Annotated[PitchSettings, Parameter(name="*", group="The bins")]


@Parameter(name="*", group="The dump")
@dataclass(frozen=True, kw_only=True)
class Dump:
    """Where frames go, and what is done to them first."""

    out: Path
    "Folder for NAME_RANK_NSHARD.npy, .len, .tsv and .json, and .speakers.safetensors where frames are normalised by speakers."
    name: str = "train"
    "What the files are called."
    normalize: Scope = "none"
    "Take out mean and variance of each value, or the mean alone."
    context: int = 0
    "Neighbours stacked on each side of a frame."
    strict: bool = False
    "Make any unusable file an error."
    overwrite: bool = False
    "Replace frames of something else."
    dry_run: bool = False
    "Say what would be done, how long it takes and what it needs, and do nothing."


def mfcc(
    audio: Path, /, *, dump: Dump, source: Audio = CorpusSettings(), running: Running = Running(), part: Part = Part()
) -> None:
    """Dump mel-frequency cepstra with deltas, 39 values every 10 ms, as fairseq's dump_mfcc_feature does.

    Parameters
    ----------
    audio
        A folder of audio, or a manifest.
    """
    _dump(audio, FrameChoice(features="mfcc", normalize=dump.normalize, context=dump.context), dump, source, running, part)


def logmel(
    audio: Path,
    /,
    *,
    mel_bins: int = 40,
    dump: Dump,
    source: Audio = CorpusSettings(),
    running: Running = Running(),
    part: Part = Part(),
) -> None:
    """Dump log mel energies every 10 ms.

    Parameters
    ----------
    audio
        A folder of audio, or a manifest.
    mel_bins
        Filters: 40 as MelHuBERT has them, 80 or any other number as Kaldi has them.
    """
    choice = FrameChoice(features="logmel", mel_bins=mel_bins, normalize=dump.normalize, context=dump.context)
    _dump(audio, choice, dump, source, running, part)


def encoder(
    checkpoint: str,
    audio: Path,
    /,
    *,
    layer: int | None = None,
    tap: TapName = "block",
    chunking: str = "windows",
    precision: Precision = "float32",
    waveform_normalization: WaveformNormalization | None = None,
    mean_std: Path | None = None,
    dump: Dump,
    source: Audio = CorpusSettings(),
    running: Running = Running(),
    part: Part = Part(),
) -> None:
    """Dump frames of a layer of an encoder: vocable features CHECKPOINT AUDIO --layer L.

    Parameters
    ----------
    checkpoint
        HuBERT, wav2vec 2.0, WavLM or MelHuBERT: a file of fairseq's, torchaudio's, s3prl's or MelHuBERT's authors', a folder of
        transformers' or ours, or a name on the Hub.
    audio
        A folder of audio, or a manifest.
    layer
        From 1: the output of the layer-th block, residual included, without any final norm.
    tap
        The whole block's output, or what attention or ffn add to it; final is behind the last layer's final norm.
    chunking
        How long audio goes through: windows, windows:LENGTH:CONTEXT in frames, or fairseq:SAMPLES.
    precision
        bfloat16 is faster where the device is; auto takes it there.
    waveform_normalization
        In place of what the checkpoint says.
    mean_std
        The .npy of mean and deviation that goes with a checkpoint of MelHuBERT's authors' code.
    """
    choice = FrameChoice(
        encoder=checkpoint,
        layer=layer,
        tap=tap,
        chunking=chunking,
        precision=precision,
        waveform_normalization=waveform_normalization,
        mean_std=mean_std,
        normalize=dump.normalize,
        context=dump.context,
    )
    _dump(audio, choice, dump, source, running, part)


def _dump(audio: Path, choice: FrameChoice, dump: Dump, source: CorpusSettings, running: Running, part: Part) -> None:
    work = running.work(part.nshard, part.rank)
    choice = choice.on(work)
    if dump.dry_run:
        print_table(f"the frames of {audio} would be dumped to {dump.out}", plan_dump(audio, source, choice, work).rows())
        return
    made = dump_source(audio, dump.out, dump.name, choice, source, work, dump.strict, dump.overwrite)
    print(f"{made.npy}: {made.utterances:,} utterances, {made.frames:,} frames{_already(made.was_done)}")
    report_skipped(made.skipped, made.npy.with_suffix(".skipped.jsonl"))


def f0(
    audio: Path,
    /,
    *,
    out: Path,
    name: str = "train",
    bins: Pitches = PitchSettings(),
    strict: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
    source: Audio = CorpusSettings(),
    running: Running = Running(),
    part: Part = Part(),
) -> None:
    """Label audio with pitch: NAME.f0 with bins every 10 ms, -1 where nothing is voiced, and pitch in Hz as dumped frames.

    It is found at 16 kHz; --sample-rate says at which rate a manifest counts. A row too short for a frame has an empty line.

    Parameters
    ----------
    audio
        A folder of audio, or a manifest.
    out
        Folder for NAME.f0 and its .json, f0.json, and NAME_RANK_NSHARD.f0.npy with .f0.len, .f0.tsv and .f0.json.
    name
        What the files are called.
    strict
        Make any unusable file an error.
    overwrite
        Replace labels of something else.
    dry_run
        Say what would be done, how long it takes and what it needs, and do nothing.
    """
    _refuse_limits(audio)
    work = running.work(part.nshard, part.rank)
    if work.kind != "cpu":
        print(f"Pitch is found by the processor: {', '.join(work.devices)} has nothing to do.")
    if dry_run:
        print_table(f"the pitch of {audio} would be written to {out}", plan_pitch(audio, source, work).rows())
        return
    made = label_pitch(audio, out, name, bins, source, work, strict, overwrite)
    report_skipped(made.skipped, made.npy.with_suffix(".skipped.jsonl"))
    if made.missing:
        report_others(made.missing, made.labels.name, "shard")
        return
    voiced = f"{100 * made.voiced / max(made.frames, 1):.1f} % voiced, {made.bins} bins"
    print(f"{made.labels}: {made.utterances:,} utterances, {made.frames:,} frames, {voiced}{_already(made.was_done)}")


def speakers(
    audio: Path,
    /,
    *,
    out: Path,
    name: str = "train",
    dict_of: Path | None = None,
    overwrite: bool = False,
    source: Audio = CorpusSettings(),
    running: Running = Running(),
) -> None:
    """Label audio with who speaks: NAME.spk with a name a row, -1 where nobody knows, and dict.spk.txt.

    All rows of a manifest are named, whatever becomes of their audio.

    Parameters
    ----------
    audio
        A manifest, or a folder of audio; --speakers says who speaks, unless the manifest does.
    out
        Folder for NAME.spk, its .json, and dict.spk.txt.
    name
        What the files are called.
    dict_of
        A folder with labels of another split, whose dictionary is taken: other speakers than those in it are unknown.
    overwrite
        Replace labels of something else.
    """
    _refuse_limits(audio)
    work = running.work()
    made = label_speakers(audio, out, name, dict_of, source, work, overwrite)
    if not made.looked_up and (idle := spelled(item.name for item in fields(Running))):
        print(f"{audio} says all there is to know: {', '.join(idle)} had nothing to do.")
    elif work.kind != "cpu":
        print(f"Headers are read by the processor: {', '.join(work.devices)} had nothing to do.")
    report_skipped(made.skipped, made.record)
    unknown = f", {made.unknown:,} of whom nobody knows" if made.unknown else ""
    print(f"{made.labels}: {made.utterances:,} utterances{unknown}, {made.speakers:,} speakers{_already(made.was_done)}")


def _refuse_limits(audio: Path) -> None:
    """Refuse to choose among the rows of a manifest, each of which has its line."""
    if not audio.is_dir():
        refuse_idle(f"each row of {audio} has its line", CorpusSettings, but=("sample_rate", "speakers"))


def _already(was_done: bool) -> str:
    return ", done already" if was_done else ""
