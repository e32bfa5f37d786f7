"""`vocable evaluate units|layers|frames|probes|agreement`, and of syllables boundaries|syllables|ssabx."""

from __future__ import annotations

import json
from pathlib import Path

from vocable.artefacts.writing import write_text
from vocable.cli.evaluate_anonymity import anonymization, intelligibility, privacy
from vocable.cli.evaluate_probes import probes
from vocable.cli.evaluate_syllables import boundaries, ssabx, syllables
from vocable.cli.evaluate_voiceprivacy import voiceprivacy
from vocable.cli.options import Audio, Frames, Names, Numbers, Running, check_together
from vocable.cli.tables import bars, print_columns, print_table, report_skipped
from vocable.errors import InputError
from vocable.evaluation.agreement import agreement as compare
from vocable.features.encoder_layer import EncoderFile, Precision, resolved_precision
from vocable.models.config import WaveformNormalization
from vocable.recipes.corpus import CorpusSettings
from vocable.recipes.frame_quality import QualitySettings, score_frames
from vocable.recipes.frames import FrameChoice
from vocable.recipes.layers import LayerSettings, score_layers
from vocable.recipes.scoring import Truth, score_units
from vocable.units.label_files import read_units

__all__ = [
    "agreement", "anonymization", "boundaries", "frames", "intelligibility", "layers", "privacy", "probes", "ssabx", "syllables",
    "units", "voiceprivacy",
]  # fmt: skip


def units(
    labels: Path,
    /,
    *,
    manifest: Path | None = None,
    alignments: Path | None = None,
    tier: str | None = None,
    rate: float | None = None,
    window: float | None = None,
    alignment_rate: float | None = None,
    silence: Names = (),
    json_: bool = False,
) -> None:
    """Say how units are used, and with alignments what they tell of phones.

    Frame i stands at the centre of its analysis window; stress digits of upper-case ARPAbet vowels are stripped.

    Parameters
    ----------
    labels
        A label file: .km, .units or .rle.
    manifest
        Whose rows the labels are; without it, the manifest of the same name beside them.
    alignments
        A folder of UTTERANCE.tsv or UTTERANCE.TextGrid, or a file of per-frame labels ("id<TAB>label,label,…").
    tier
        Tier of the TextGrids, or column of the tables; by default phones, or the third column.
    rate
        Units per second, where the labels don't say.
    window
        Seconds of an analysis window, where the labels don't say, and of per-frame labels; 0.025 by default.
    alignment_rate
        Labels a second of a file of per-frame labels; by default as many as units.
    silence
        More labels that stand for silence, apart by commas.
    json_
        Print JSON.
    """
    if alignments is None and (tier is not None or alignment_rate is not None or silence):
        raise InputError("--tier, --alignment-rate and --silence go with --alignments")
    truth = None
    if alignments is not None:
        truth = Truth(alignments=alignments, tier=tier, rate=alignment_rate, silence=silence)
    found = score_units(labels, truth, manifest, rate, window)
    if json_:
        print(json.dumps(found.rows(), indent=2))
        return
    print_table(f"{labels}: how units are used", found.usage.rows())
    print(f"frames of each unit, most first   {bars(sorted(found.survey.histogram.tolist(), reverse=True))}")
    print(f"runs of 1, 2, 3 … frames          {bars(found.survey.durations.tolist()[1:41])}")
    if found.phones is not None:
        print_table("what they tell of phones", found.phones.rows())
    for note in found.notes:
        print(note)


def layers(
    encoder: str,
    audio: Path,
    /,
    *,
    alignments: Path,
    layers: Numbers = (),
    clusters: int = 100,
    frames: int | None = None,
    seed: int = 0,
    chunking: str = "windows",
    precision: Precision = "float32",
    waveform_normalization: WaveformNormalization | None = None,
    mean_std: Path | None = None,
    tier: str | None = None,
    alignment_rate: float | None = None,
    silence: Names = (),
    picture: Path | None = None,
    json_: bool = False,
    source: Audio = CorpusSettings(),
    running: Running = Running(),
) -> None:
    """Compare the layers of an encoder by what their units tell of phones.

    The audio goes through once for all layers; each gets a k-means of its own, fitted to the same frames and scored on them.

    Parameters
    ----------
    encoder
        A checkpoint of HuBERT, wav2vec 2.0, WavLM or MelHuBERT: a file, a folder, or a name on the Hub.
    audio
        A folder of audio, or a manifest; utterances without an alignment are left out.
    alignments
        A folder of UTTERANCE.tsv or UTTERANCE.TextGrid, or a file of per-frame labels ("id<TAB>label,label,…").
    layers
        Which, from 1, apart by commas; by default all.
    clusters
        Units.
    frames
        Frames of each layer to draw; by default 20,000, or 100 a unit.
    seed
        Of the draw and of k-means.
    chunking
        How long audio goes through: windows, windows:LENGTH:CONTEXT in frames, or fairseq:SAMPLES.
    precision
        bfloat16 is faster where the device is; auto takes it there.
    waveform_normalization
        In place of what the checkpoint says.
    mean_std
        The .npy of mean and deviation that goes with a checkpoint of MelHuBERT's authors' code.
    tier
        Tier of the TextGrids, or column of the tables; by default phones, or the third column.
    alignment_rate
        Labels a second of a file of per-frame labels; by default as many as frames.
    silence
        More labels that stand for silence, apart by commas.
    picture
        An SVG file to draw the scores in.
    json_
        Print JSON.
    """
    settings = LayerSettings(layers=layers, clusters=clusters, frames=frames, seed=seed, chunking=chunking)
    truth = Truth(alignments=alignments, tier=tier, rate=alignment_rate, silence=silence)
    work = running.work()
    file = EncoderFile(encoder, waveform_normalization, resolved_precision(precision, work.devices[0]), mean_std)
    found = score_layers(audio, file, truth, settings, source, work)
    if picture is not None:
        write_text(picture, found.picture())
    if json_:
        print(json.dumps(found.rows(), indent=2))
        return
    columns = ["layer", "phone purity", "cluster purity", "PNMI", "PNMI without silence"]
    rows = [list(vars(score).values()) for score in found.scores]
    title = f"{encoder}: {clusters} units of each layer, {found.frames:,} frames of {found.utterances:,} utterances"
    print_columns(title, columns, rows)
    report_skipped(found.skipped, None)
    print(found.recommendation)
    if picture is not None:
        print(picture)


def frames(
    fitted: Path,
    scored: Path,
    /,
    *,
    alignments: Path,
    clusters: int = 100,
    also: Numbers = (),
    seeds: int = 3,
    every: int = 1,
    most_frames: int = 500_000,
    tier: str | None = None,
    alignment_rate: float | None = None,
    json_: bool = False,
    source: Audio = CorpusSettings(),
    choice: Frames = FrameChoice(),
    running: Running = Running(),
) -> None:
    """Say what frames are worth: units fitted on one corpus and scored on another, and what a linear probe reads out of them.

    Parameters
    ----------
    fitted
        A folder of audio, or a manifest: units are fitted to all of it, the probe to what has alignments.
    scored
        Another one; utterances without an alignment are left out.
    alignments
        A folder of UTTERANCE.tsv or UTTERANCE.TextGrid, or a file of per-frame labels, of both.
    clusters
        Units.
    also
        Other numbers of units to score as well, apart by commas.
    seeds
        k-means is fitted so many times; the means are given, and the least and most.
    every
        Take one frame in so many: 2 compares frames of 10 ms with frames of 20 ms.
    most_frames
        That units and probe are fitted to.
    tier
        Tier of the TextGrids, or column of the tables; by default phones, or the third column.
    alignment_rate
        Labels a second of a file of per-frame labels; by default as many as frames.
    json_
        Print JSON.
    """
    check_together(choice)
    settings = QualitySettings(clusters=clusters, seeds=seeds, every=every, frames=most_frames, also=also)
    work = running.work()
    truth = Truth(alignments=alignments, tier=tier, rate=alignment_rate)
    found = score_frames(fitted, scored, choice.on(work), truth, settings, source, work).rows()
    if json_:
        print(json.dumps(found, indent=2))
    else:
        others = {f"{name}, {count} units": value for count, row in found.pop("also", {}).items() for name, value in row.items()}
        print_table(f"{clusters} units fitted on {fitted}, scored on {scored}", {**found, **others})


def agreement(first: Path, second: Path, /, *, json_: bool = False) -> None:
    """Compare two labellings of the same frames, as when moving from another tool.

    same: part of the frames with the very same unit. matched: the same after the best one-to-one renaming of units. nmi:
    mutual information over the mean of both entropies; 1 for labellings that differ in the units' names alone.

    Parameters
    ----------
    first
        A label file: .km, .units or .rle.
    second
        Another one, of the same utterances.
    json_
        Print JSON.
    """
    result = compare(read_units(first), read_units(second)).rows()
    if json_:
        print(json.dumps(result, indent=2))
    else:
        print_table(f"{first} and {second}", result)
