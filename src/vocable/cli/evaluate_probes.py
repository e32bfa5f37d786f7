"""`vocable evaluate probes`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from vocable.artefacts.headers import write_header
from vocable.artefacts.tensors import is_safetensors, read_tensors_header
from vocable.artefacts.writing import write_text
from vocable.cli.options import Audio, Numbers, Running
from vocable.cli.tables import print_columns, report_skipped
from vocable.clustering.codebook import FORMAT as CODEBOOK
from vocable.clustering.codebook import read_codebook
from vocable.errors import InputError
from vocable.evaluation.probes import ProbeScore
from vocable.features.encoder_layer import EncoderFile, Precision, resolved_precision
from vocable.features.normalization import Scope
from vocable.recipes.corpus import CorpusSettings
from vocable.recipes.frames import FrameChoice
from vocable.recipes.probe_settings import ProbeSettings
from vocable.recipes.probes import Probed, score_probes
from vocable.recipes.scoring import Truth

Probing = Annotated[ProbeSettings, Parameter(name="*", group="The probes")]


def probes(
    what: str,
    audio: Path,
    /,
    *,
    alignments: Path | None = None,
    valid: Path | None = None,
    layers: Numbers = (),
    encoder: str | None = None,
    normalize: Scope = "none",
    mel_bins: int = 40,
    chunking: str = "windows",
    precision: Precision = "float32",
    tier: str | None = None,
    alignment_rate: float | None = None,
    out: Path | None = None,
    json_: bool = False,
    probing: Probing = ProbeSettings(),
    source: Audio = CorpusSettings(),
    running: Running = Running(),
) -> None:
    """Say what linear probes read out of each layer of an encoder, out of frames, or out of units: phones, pitch, who speaks.

    Probes are fitted anew, and scored on utterances that they weren't fitted to; for speakers on other chapters, where there are
    some. Chance is what always saying the most frequent label gets right.

    Parameters
    ----------
    what
        A checkpoint of an encoder (a file, a folder, or a name on the Hub), mfcc, logmel, or a codebook, whose units are probed.
    audio
        A folder of audio, or a manifest; --speakers says who speaks, unless the manifest does.
    alignments
        A folder of UTTERANCE.tsv or UTTERANCE.TextGrid, or a file of per-frame labels; without, phones aren't asked for.
    valid
        Other audio, which phones and pitch are scored on in place of utterances that are held out; and speakers, where two or
        more of them are in both.
    layers
        Of an encoder: which, from 1, apart by commas; by default all.
    encoder
        With a codebook for an encoder's frames: that encoder.
    normalize
        With mfcc and logmel: take out mean and variance of each value, or the mean alone.
    mel_bins
        With logmel: filters.
    chunking
        How long audio goes through an encoder: windows, windows:LENGTH:CONTEXT in frames, or fairseq:SAMPLES.
    precision
        bfloat16 is faster where the device is; auto takes it there.
    tier
        Tier of the TextGrids, or column of the tables; by default phones, or the third column.
    alignment_rate
        Labels a second of a file of per-frame labels; by default as many as frames.
    out
        A folder for probes.json and probes.svg.
    json_
        Print JSON.
    """
    work = running.work()
    if alignments is None and (tier is not None or alignment_rate is not None):
        raise InputError("--tier and --alignment-rate go with --alignments")
    truth = None if alignments is None else Truth(alignments=alignments, tier=tier, rate=alignment_rate)
    precision = resolved_precision(precision, work.devices[0])
    file = None if encoder is None else EncoderFile(encoder, precision=precision)
    if what in ("mfcc", "logmel"):
        _refuse(what, {"--layers": layers, "--encoder": encoder})
        choice = FrameChoice(features=what, normalize=normalize, mel_bins=mel_bins)  # type: ignore[arg-type]
        choice.require_speakers(audio, source)
        probed = Probed(choice=choice)
    elif _is_codebook(Path(what)):
        _refuse("a codebook", {"--layers": layers, "--normalize": normalize != "none"})
        probed = Probed(codebook=read_codebook(what), encoder=file)
        if probed.codebook is not None and probed.codebook.spec is not None:
            source = replace(source, sample_rate=probed.codebook.spec.sample_rate)
    else:
        _refuse("an encoder", {"--encoder": encoder, "--normalize": normalize != "none"})
        probed = Probed(layers=layers, encoder=EncoderFile(what, precision=precision), chunking=chunking)
    found = score_probes(audio, valid, probed, truth, probing, source, work)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        write_header(out / "probes.json", found.rows())
        write_text(out / "probes.svg", found.picture(Path(what).name))
    if json_:
        print(json.dumps(found.rows(), indent=2))
        return
    names = list(dict.fromkeys(name for own in found.scores.values() for name in own))
    rows = [[layer, *(_shown(own.get(name)) for name in names)] for layer, own in found.scores.items()]
    chances = next(iter(found.scores.values()))
    rows.append(["chance", *(f"{100 * chances[name].chance:.1f} %" for name in names)])
    print_columns(f"{what}: what linear probes get right, speakers on {found.held_out}", ["layer", *names], rows)
    report_skipped(found.skipped, None)
    for note in found.notes:
        print(note)
    if out is not None:
        print(out / "probes.json")


def _shown(score: ProbeScore | None) -> str:
    return "–" if score is None else f"{100 * score.accuracy:.1f} % ({100 * score.low:.1f} to {100 * score.high:.1f})"


def _is_codebook(path: Path) -> bool:
    header = read_tensors_header(path) if path.is_file() and is_safetensors(path) else None
    return header is not None and header["format"] == CODEBOOK


def _refuse(what: str, options: dict[str, object]) -> None:
    for name, value in options.items():
        if value:
            raise InputError(f"{name} doesn't go with {what}: leave it out")
