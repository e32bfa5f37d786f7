"""`vocable evaluate probes`."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from vocable.artefacts.headers import write_header
from vocable.artefacts.tensors import is_safetensors, read_tensors_header
from vocable.artefacts.writing import write_text
from vocable.checkpoints.torch_magic import is_torch_file
from vocable.cli.given_options import spelled
from vocable.cli.options import Audio, Numbers, Running, refuse_idle
from vocable.cli.tables import print_columns, report_skipped
from vocable.clustering.codebook import FORMAT as CODEBOOK
from vocable.clustering.codebook import Codebook, read_codebook
from vocable.errors import InputError
from vocable.evaluation.probes import ProbeScore
from vocable.execution.engine import Work
from vocable.features.encoder_layer import EncoderFile, Precision, resolved_precision
from vocable.features.normalization import Scope
from vocable.models.config import WaveformNormalization
from vocable.recipes.corpus import CorpusSettings
from vocable.recipes.frames import FrameChoice
from vocable.recipes.probe_settings import ProbeSettings
from vocable.recipes.probes import Probed, score_probes
from vocable.recipes.scoring import Truth
from vocable.recipes.workplace import open_workplace

Probing = Annotated[ProbeSettings, Parameter(name="*", group="The probes")]


@Parameter(name="*", group="Which frames")
@dataclass(frozen=True, kw_only=True)
class ProbedFrames:
    """How the frames are made that are probed."""

    layers: Numbers = ()
    "Of an encoder: which, from 1, apart by commas; by default all."
    encoder: str | None = None
    "With a codebook for an encoder's frames: that encoder."
    normalize: Scope = "none"
    "With mfcc and logmel: take out mean and variance of each value, or the mean alone; with --valid, a corpus's are the first's."
    mel_bins: int = 40
    "With logmel: filters."
    chunking: str = "windows"
    "How long audio goes through an encoder: windows, windows:LENGTH:CONTEXT in frames, or fairseq:SAMPLES."
    precision: Precision = "float32"
    "Of an encoder; bfloat16 is faster where the device is; auto takes it there."
    waveform_normalization: WaveformNormalization | None = None
    "Of an encoder: none or utterance, in place of what the checkpoint says."
    mean_std: Path | None = None
    "The .npy of mean and deviation that goes with a checkpoint of MelHuBERT's authors' code."

    def probed(self, what: str, work: Work) -> Probed:
        """Return what is probed.

        Args:
            what: mfcc, logmel, a codebook or an encoder.
            work: where it runs.

        Raises:
            InputError: options don't go with it, or it is a codebook that doesn't say which frames it is for.
        """
        if what in ("mfcc", "logmel"):
            refuse_idle(f"frames are {what}", ProbedFrames, but=("normalize", *(["mel_bins"] if what == "logmel" else [])))
            return Probed(choice=FrameChoice(features=what, normalize=self.normalize, mel_bins=self.mel_bins))  # type: ignore[arg-type]
        codebook = _codebook(Path(what))
        if codebook is None:
            refuse_idle(f"{what} is taken for an encoder", ProbedFrames, but=("layers", "chunking", *_OF_ENCODER))
            return Probed(layers=self.layers, encoder=self._file(what, work), chunking=self.chunking)
        refuse_idle("a codebook says which frames it is for", ProbedFrames, but=("encoder", *_OF_ENCODER))
        if self.encoder is None:
            refuse_idle("no --encoder is given", ProbedFrames, but=("encoder",))
        if codebook.spec is None:
            raise InputError(
                f"{what} holds centroids, and doesn't say which frames they are for: give a codebook of vocable kmeans or prepare"
            )
        return Probed(codebook=codebook, encoder=None if self.encoder is None else self._file(self.encoder, work))

    def _file(self, source: str, work: Work) -> EncoderFile:
        precision = resolved_precision(self.precision, work.devices[0])
        return EncoderFile(source, self.waveform_normalization, precision, self.mean_std)


_OF_ENCODER = ("precision", "waveform_normalization", "mean_std")


def probes(
    what: str,
    audio: Path,
    /,
    *,
    alignments: Path | None = None,
    valid: Path | None = None,
    tier: str | None = None,
    alignment_rate: float | None = None,
    out: Path | None = None,
    json_: bool = False,
    frames: ProbedFrames = ProbedFrames(),
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
    probed = frames.probed(what, work)
    source = _at_rate_of(probed, source)
    if probed.choice is not None:
        for place in (audio, *([] if valid is None else [valid])):
            probed.choice.require_speakers(place, source)
    if out is not None:
        open_workplace(out)  # says now if it can't be written to
    found = score_probes(audio, valid, probed, truth, probing, source, work)
    if out is not None:
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


def _codebook(path: Path) -> Codebook | None:
    """Return a codebook, or None for what may be an encoder: a folder, a name, a file of torch's, or of others' tensors."""
    if not path.is_file() or is_torch_file(path):
        return None
    if is_safetensors(path):
        header = read_tensors_header(path)
        if header is None or header["format"] != CODEBOOK:
            return None
    return read_codebook(path)


def _at_rate_of(probed: Probed, source: CorpusSettings) -> CorpusSettings:
    """Return which audio is taken, at the rate of a codebook, which needn't be given.

    Raises:
        InputError: another is.
    """
    if probed.codebook is None or probed.codebook.spec is None:
        return source
    rate = probed.codebook.spec.sample_rate
    if source.sample_rate != rate and spelled(["sample_rate"]):
        raise InputError(f"--sample-rate {source.sample_rate}: the codebook is for {rate} Hz; leave it out")
    return replace(source, sample_rate=rate)


def _shown(score: ProbeScore | None) -> str:
    return "–" if score is None else f"{100 * score.accuracy:.1f} % ({100 * score.low:.1f} to {100 * score.high:.1f})"
