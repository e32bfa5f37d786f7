"""Which frames: from a choice in words to a pipeline, with the statistics that normalisation takes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from vocable.artefacts.feature_spec import FeatureSpec
from vocable.audio.blocks import Block, blocks_of
from vocable.audio.manifest import Manifest
from vocable.clustering.codebook import Codebook
from vocable.errors import InputError, MismatchError
from vocable.execution.engine import Engine, Work
from vocable.execution.progress import progress
from vocable.execution.stages import Payload, Stage
from vocable.features.encoder_layer import EncoderFile, Precision, require_encoder, resolved_precision
from vocable.features.extractors import LogMel, Mfcc
from vocable.features.normalization import Normalization, Scope, Statistics, takes_speakers
from vocable.features.pipeline import FramePipeline, warn_given_up
from vocable.models.config import WaveformNormalization
from vocable.models.taps import TapName
from vocable.recipes.corpus import CorpusSettings, require_speakers

_MOST_CONTEXT = 500  # ten seconds around each frame


@dataclass(frozen=True, kw_only=True)
class FrameChoice:
    """What describes a frame."""

    features: Literal["mfcc", "logmel"] = "mfcc"
    """mfcc: 39 cepstra with deltas; logmel: log mel energies."""
    mel_bins: int = 40
    """Filters of logmel: 40 as MelHuBERT has them, 80 or any other number as Kaldi has them."""
    normalize: Scope = "none"
    """Take out mean and variance of each value, or the mean alone."""
    context: int = 0
    """Neighbours stacked on each side of a frame."""
    encoder: str | None = None
    """Take frames of an encoder instead: a checkpoint of HuBERT, wav2vec 2.0, WavLM or MelHuBERT; a file, a folder, or a name on
    the Hub."""
    layer: int | None = None
    """With --encoder: which layer's, from 1."""
    tap: TapName = "block"
    """With --encoder: the whole block's output, or what attention or ffn add; final is behind the last layer's final norm."""
    chunking: str = "windows"
    """With --encoder: how long audio goes through: windows, windows:LENGTH:CONTEXT in frames, or fairseq:SAMPLES."""
    precision: Precision = "float32"
    """With --encoder: bfloat16 is faster where the device is; auto takes it there."""
    waveform_normalization: WaveformNormalization | None = None
    """With --encoder: none or utterance, in place of what the checkpoint says."""
    mean_std: Path | None = None
    """With --encoder: the .npy of the training's mean and deviation that goes with a checkpoint of MelHuBERT's authors' code."""

    def __post_init__(self) -> None:
        if self.encoder is None:
            for item in fields(self):
                if item.name in ENCODER_ONLY and getattr(self, item.name) != item.default:
                    raise InputError(f"--{item.name.replace('_', '-')} goes with --encoder: give that, or leave it out")
        elif self.features != FrameChoice.features:
            raise InputError(f"--features {self.features} and --encoder: frames are of one of them; give one")
        if self.features != "logmel" and self.mel_bins != FrameChoice.mel_bins:
            raise InputError(f"--mel-bins {self.mel_bins} goes with --features logmel")
        if self.mel_bins < 1:
            raise InputError(f"--mel-bins {self.mel_bins}: give at least 1, such as 40 or 80")
        if not 0 <= self.context <= _MOST_CONTEXT:
            raise InputError(f"--context {self.context}: give a number of neighbours from 0 to {_MOST_CONTEXT}")

    def require_speakers(self, source: Path, corpus: CorpusSettings) -> None:
        """Refuse, before it is scanned, a folder whose speakers have to be known and aren't named.

        Raises:
            InputError: says how to name them.
        """
        if takes_speakers(self.normalize):
            require_speakers(source, corpus, "normalising per speaker")

    @property
    def encoder_file(self) -> EncoderFile | None:
        """The encoder, and how it is run."""
        return (
            None
            if self.encoder is None
            else EncoderFile(self.encoder, self.waveform_normalization, self.precision, self.mean_std)
        )

    def on(self, work: Work) -> FrameChoice:
        """Return the choice with the precision that `auto` means where the work runs."""
        return self if self.encoder is None else replace(self, precision=resolved_precision(self.precision, work.devices[0]))

    def state(self) -> dict[str, Any]:
        """Return what results depend on: an encoder counts by its weights and how it takes waveforms, wherever it lies."""
        values = asdict(self)
        if self.encoder_file is None:
            return {name: value for name, value in values.items() if name not in ("encoder", *ENCODER_ONLY)}
        spec = self.encoder_file.spec(self.layer, self.tap, self.chunking)
        return {"normalize": self.normalize, "context": self.context, **spec.identity(), **spec.recorded}

    def base(self, sample_rate: int) -> FeatureSpec:
        """Return what the extractor makes, before normalisation and context.

        Raises:
            InputError: there is no such encoder or layer, or it takes audio at another rate.
        """
        if self.encoder_file is not None:
            return checked_rate(self.encoder_file.spec(self.layer, self.tap, self.chunking), sample_rate)
        if self.features == "mfcc":
            return Mfcc(sample_rate).spec
        return LogMel.preset(self.mel_bins, sample_rate).spec


ENCODER_ONLY = ("layer", "tap", "chunking", "precision", "waveform_normalization", "mean_std")


def checked_rate(spec: FeatureSpec, sample_rate: int) -> FeatureSpec:
    """Return a spec whose frames are made of audio at this rate.

    Raises:
        InputError: they aren't.
    """
    if spec.sample_rate != sample_rate:
        raise InputError(f"--sample-rate {sample_rate}: the encoder takes audio at {spec.sample_rate} Hz; leave it out")
    return spec


def pipeline_for(
    choice: FrameChoice, sample_rate: int, manifest: Manifest, engine: Engine, folder: Path, fitted: Manifest | None = None
) -> FramePipeline:
    """Return the pipeline of a choice, with the statistics it normalises by.

    Args:
        choice: which frames.
        sample_rate: Hz.
        manifest: all whose frames are made; speakers' statistics are those of all they say in it.
        engine: runs the work.
        folder: where finished blocks are kept.
        fitted: the part of it that the corpus's statistics are taken from, by default all.
    """
    plain = FramePipeline(choice.base(sample_rate), encoder=choice.encoder_file)
    heard = fitted if fitted is not None and choice.normalize == "corpus" else manifest
    return replace(plain, normalization=_normalization(choice.normalize, plain, heard, engine, folder), context=choice.context)


def pipeline_of(
    codebook: Codebook, encoder: EncoderFile | None, manifest: Manifest, engine: Engine, folder: Path
) -> FramePipeline:
    """Return the pipeline that makes the frames a codebook is for.

    Speakers' statistics are the codebook's, and speakers that it doesn't know are normalised by their own utterances; where it
    holds none, as imported and older ones do, they are those of `manifest`, and a warning says so.

    Raises:
        MismatchError: the codebook doesn't say what frames it is for, or they are of another encoder, or of one that isn't given.
    """
    spec = spec_of(codebook)
    plain = FramePipeline(base_made(spec, encoder), encoder=encoder)
    normalization = codebook.normalization
    require_speakers_for(normalization.scope, manifest)
    if normalization.by_speaker and not normalization.speakers:
        warnings.warn(
            "the codebook holds no statistics of speakers, so that they are taken from what is labelled now, and an utterance's "
            "labels depend on what else there is of its speaker: 'vocable kmeans' makes codebooks that hold them",
            stacklevel=2,
        )
        normalization = _normalization(normalization.scope, plain, manifest, engine, folder)
    return replace(plain, normalization=normalization, context=spec.context)


def base_made(spec: FeatureSpec, encoder: EncoderFile | None) -> FeatureSpec:
    """Return what the extractor makes for frames of a spec, as this run makes them, before anything is made.

    Raises:
        MismatchError: the encoder is another, it is missing, or the frames are no encoder's.
    """
    if spec.kind != "encoder":
        if encoder is not None:
            raise MismatchError(f"the codebook is for frames of kind {spec.kind!r}, which no encoder makes: leave out --encoder")
        return spec.base
    found = require_encoder(encoder, spec)
    depth = found.checkpoint().config.layers  # of another encoder, which may have fewer layers, or more
    layer = depth if spec.tap == "final" else min(spec.layer or 1, depth)
    made = found.spec(layer, spec.tap or "block", spec.chunking)  # type: ignore[arg-type]
    spec.base.require_equal(made, "the codebook's frames", f"those of {found.source}")
    return made


def spec_of(codebook: Codebook) -> FeatureSpec:
    """Return what frames a codebook is for.

    Raises:
        MismatchError: it doesn't say.
    """
    if codebook.spec is None:
        raise MismatchError(
            "the codebook doesn't say what frames it is for, as imported ones don't: name them and give --assume-features"
        )
    return codebook.spec


def assume_frames(codebook: Codebook, choice: FrameChoice, sample_rate: int) -> Codebook:
    """Say which frames an imported codebook is for.

    Raises:
        MismatchError: it says already, its dimension is another, or they are normalised by a corpus it doesn't know.
    """
    if codebook.spec is not None:
        raise MismatchError("the codebook says itself what frames it is for: leave out --assume-features")
    if choice.normalize == "corpus":
        raise MismatchError(
            "an imported codebook doesn't hold the corpus's mean and variance: --normalize corpus can't be assumed"
        )
    base = choice.base(sample_rate)
    spec = FramePipeline(base, Normalization(choice.normalize), choice.context).spec
    if spec.dim != codebook.centroids.shape[1]:
        kind = "an encoder" if spec.kind == "encoder" else spec.kind
        raise MismatchError(
            f"the codebook's centroids have {codebook.centroids.shape[1]} values, frames of {kind} have {spec.dim}: "
            "name those it was fitted to"
        )
    return replace(codebook, spec=spec, normalization=Normalization(choice.normalize))


def corpus_statistics(plain: FramePipeline, manifest: Manifest, engine: Engine, folder: Path) -> NDArray[np.float64]:
    """Return mean and standard deviation of all frames of a manifest, in float64, of shape (2, dim).

    Raises:
        InputError: there are no frames.
    """
    whole = _statistics("corpus", plain, manifest, engine, folder).get("")
    if whole is None or not whole.count:
        raise InputError("there are no frames to take the corpus's mean and deviation from")
    mean = whole.total / whole.count
    return np.stack([mean, np.sqrt(np.maximum(whole.squares / whole.count - mean * mean, 1e-16))])


def _normalization(scope: Scope, plain: FramePipeline, manifest: Manifest, engine: Engine, folder: Path) -> Normalization:
    if scope != "corpus" and not takes_speakers(scope):
        return Normalization(scope)
    require_speakers_for(scope, manifest)
    groups = _statistics(scope, plain, manifest, engine, folder)
    if scope != "corpus":
        return Normalization(scope, speakers={name: item.moments for name, item in groups.items() if name and item.count})
    whole = groups.get("")
    if whole is None or not whole.count:
        raise InputError("there are no frames to take the corpus's mean and variance from")
    return Normalization("corpus", whole.moments)


def require_speakers_for(scope: Scope, manifest: Manifest) -> None:
    """Refuse a manifest that doesn't say who speaks where frames are normalised by that.

    Raises:
        InputError: says how to name them.
    """
    if takes_speakers(scope) and manifest.speakers is None:
        raise InputError(
            "normalising per speaker needs speakers: give --speakers with a pattern such as '{speaker}/*/*', or a table"
        )


def _statistics(scope: Scope, plain: FramePipeline, manifest: Manifest, engine: Engine, folder: Path) -> dict[str, Statistics]:
    """Return sums over all frames by speaker, or under "" over the corpus; blocks are added in their order."""
    job = _Sums(plain, takes_speakers(scope))
    with progress("statistics", manifest.seconds) as shown:
        stage = Stage("statistics", [plain.key, "speaker" if job.by_speaker else "corpus", engine.work.kind], folder)
        finished = stage.run(job, list(blocks_of(manifest)), engine, shown)
    warn_given_up("the statistics", finished)
    total: dict[str, Statistics] = {}
    for _, _, result in finished.results():
        for name, sums in _unpacked(result).items():
            total[name] = total[name] + sums if name in total else sums
    return total


@dataclass(frozen=True)
class _Sums:
    """A job: the statistics of a block's frames."""

    pipeline: FramePipeline
    by_speaker: bool

    def open(self, device: str) -> Callable[[Block], Payload]:
        frames_of = self.pipeline.open(device)

        def run(block: Block) -> Payload:
            made = frames_of(block)
            sums: dict[str, Statistics] = {}
            for row, frames in zip(made.rows, made.frames, strict=True):
                speaker = block.utterances[row].speaker
                name = (speaker or "") if self.by_speaker else ""
                one = Statistics.of(frames)
                sums[name] = sums[name] + one if name in sums else one
            return _packed(sums), {}

        return run


def _packed(sums: dict[str, Statistics]) -> bytes:
    return save(
        {
            "names": np.frombuffer("\n".join(sums).encode(), dtype=np.uint8),
            "counts": np.array([item.count for item in sums.values()], dtype=np.int64),
            "totals": np.array([item.total for item in sums.values()]),
            "squares": np.array([item.squares for item in sums.values()]),
        }
    )


def _unpacked(content: bytes) -> dict[str, Statistics]:
    found = load(content)
    names = found["names"].tobytes().decode().split("\n")
    rows = zip(names, found["counts"].tolist(), found["totals"], found["squares"], strict=False)  # no sums have one empty name
    return {name: Statistics(count, total, squares) for name, count, total, squares in rows}
