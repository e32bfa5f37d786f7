"""`EncoderLayer`: frames from a layer of an encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from vocable.artefacts.feature_spec import FeatureSpec
from vocable.artefacts.headers import digest_of
from vocable.audio.decoding import Waveform
from vocable.errors import InputError, MismatchError
from vocable.features.encoder_runner import EncoderRunner
from vocable.features.kaldi import Frames
from vocable.features.waveforms import as_waveforms
from vocable.features.windows import Chunks, chunking_of
from vocable.models.config import WaveformNormalization
from vocable.models.taps import Tap, TapName

if TYPE_CHECKING:
    from vocable.checkpoints.encoder_checkpoint import EncoderCheckpoint

Precision = Literal["float32", "bfloat16", "auto"]


@dataclass(frozen=True)
class EncoderFile:
    """Which encoder makes frames, and how it is run; what a worker opens it from."""

    source: str
    """A file, a folder or a name, as `read_encoder` takes it."""
    waveform_normalization: WaveformNormalization | None = None
    """In place of what the checkpoint says."""
    precision: Precision = "float32"
    mean_std: Path | None = None
    """File of the statistics that a checkpoint of MelHuBERT's authors' code goes with."""

    def checkpoint(self) -> EncoderCheckpoint:
        """Return the checkpoint, once for each process."""
        return opened(self.source, self.waveform_normalization, self.mean_std)

    def spec(self, layer: int | None, tap: TapName = "block", chunking: str = "windows") -> FeatureSpec:
        """Return what frames are that a layer of it makes.

        Raises:
            InputError: the layer or the tap doesn't exist.
        """
        return layer_spec(self.checkpoint(), layer, tap, chunking, self.precision)

    def extractor(self, spec: FeatureSpec, device: str = "cpu") -> EncoderLayer:
        """Return what makes the frames of a spec.

        Raises:
            MismatchError: it is of another encoder.
        """
        made = EncoderLayer(
            self.checkpoint(),
            spec.layer,
            cast("TapName", spec.tap or "block"),
            spec.chunking,
            precision=self.precision,
            device=device,
        )
        made.spec.require_equal(spec, f"the frames of {self.source}", "what is wanted")
        return made

    def runner(self, layers: int, device: str = "cpu") -> EncoderRunner:
        """Return what runs the encoder's first `layers` layers and gives frames of any of them."""
        return EncoderRunner(self.checkpoint(), layers, resolved_precision(self.precision, device), device)


def opened(
    source: str | Path, normalization: WaveformNormalization | None = None, mean_std: Path | None = None
) -> EncoderCheckpoint:
    """Return a checkpoint, which is opened once in a process unless its files change.

    Raises:
        InputError: there is none, or none that can be read.
    """
    from vocable.checkpoints.encoders import located

    path = located(source)
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    if mean_std is not None:
        if not mean_std.is_file():
            raise InputError(f"--mean-std {mean_std}: there is no such file; give the mean-std.npy that came with the checkpoint")
        files.append(mean_std)
    state = tuple((file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files)
    return _checkpoint(path, normalization, mean_std, state)


@lru_cache(maxsize=2)
def _checkpoint(path: Path, normalization: WaveformNormalization | None, mean_std: Path | None, _: object) -> EncoderCheckpoint:
    from vocable.checkpoints.encoders import read_encoder

    return read_encoder(path, normalization, mean_std)


class EncoderLayer:
    """Frames from a layer of HuBERT, wav2vec 2.0, WavLM or MelHuBERT.

    Layers count from 1: layer L is the output of the L-th block, residual included, without any final norm, as fairseq's
    dump_hubert_feature and transformers' hidden_states[L] have it. Only the blocks up to it are built and run. The frames of a
    waveform don't depend on what else is in the list.

    Args:
        checkpoint: what `read_encoder` returned, or what it takes.
        layer: 1-based; may be left out with the tap `final`.
        tap: `block`, or the part of it that is taken: `attention` or `ffn`, before they are added to the residual; `final`,
            behind the last block's final norm.
        chunking: how long waveforms go through: `windows`, `windows:LENGTH:CONTEXT` in frames, or `fairseq:SAMPLES`.
        precision: `float32`; `bfloat16`, in which matrix products are made; or `auto`: bfloat16 where the device makes them fast.
        waveform_normalization: `none` or `utterance`, in place of what a checkpoint that is opened here says.
        mean_std: file of the statistics that a checkpoint of MelHuBERT's authors' code goes with.
        device: a torch device.

    Raises:
        InputError: there is no such encoder, layer or tap.
    """

    def __init__(
        self,
        checkpoint: EncoderCheckpoint | str | Path,
        layer: int | None = None,
        tap: TapName = "block",
        chunking: str = "windows",
        *,
        precision: Precision = "float32",
        waveform_normalization: WaveformNormalization | None = None,
        mean_std: Path | None = None,
        device: str = "cpu",
    ) -> None:
        if isinstance(checkpoint, (str, Path)):
            checkpoint = opened(checkpoint, waveform_normalization, mean_std)
        self.spec = layer_spec(checkpoint, layer, tap, chunking, precision, device)
        self._tap = Tap(self.spec.layer or 1, tap)
        self._chunking = chunking_of(self.spec.chunking)
        self._runner = EncoderRunner(checkpoint, self._tap.layer, resolved_precision(precision, device), device)

    def __call__(self, waveforms: Sequence[Waveform]) -> list[Frames]:
        """Return the frames of each waveform, float32 of shape (frames, dim).

        Raises:
            InputError: `waveforms` is no list of mono waveforms of floating-point samples.
        """
        return [of_tap[self._tap] for of_tap in self._runner(as_waveforms(waveforms), [self._tap], self._chunking)]


def layer_spec(
    checkpoint: EncoderCheckpoint,
    layer: int | None,
    tap: TapName = "block",
    chunking: str = "windows",
    precision: Precision = "float32",
    device: str = "cpu",
) -> FeatureSpec:
    """Return what frames of a layer are; the arguments are those of `EncoderLayer`.

    Raises:
        InputError: there is no such layer, tap, chunking or precision.
    """
    config = checkpoint.config
    checkpoint.require_statistics()
    if layer is None and tap != "final":
        raise InputError(f"which layer? The encoder has {config.layers}: give --layer 1 to {config.layers}")
    place = Tap(config.layers if layer is None else layer, tap)
    place.check(config.layers)
    chunks = chunking_of(chunking)
    if isinstance(chunks, Chunks) and chunks.samples < config.receptive_field:
        raise InputError(f"--chunking {chunking}: a frame takes {config.receptive_field} samples; give chunks of more")
    return FeatureSpec(
        kind="encoder",
        dim=config.dim,
        hop=config.hop,
        receptive_field=config.receptive_field,
        sample_rate=config.sample_rate,
        parameters={"arithmetic": digest_of(config.arithmetic())[:16]},
        model=checkpoint.digest,
        layer=place.layer,
        tap=tap,
        waveform_normalization=config.waveform_normalization,
        chunking=str(chunks),
        recorded={
            "precision": resolved_precision(precision, device),
            "device": device.partition(":")[0],
            "waveform_eps": config.waveform_eps,
        },
    )


def resolved_precision(precision: Precision, device: str) -> Literal["float32", "bfloat16"]:
    """Return the precision that is meant: `auto` is bfloat16 where the device makes products of such numbers fast.

    Raises:
        InputError: it is no known one.
    """
    if precision not in ("float32", "bfloat16", "auto"):
        raise InputError(f"--precision {precision}: give float32, bfloat16 or auto")
    if precision != "auto":
        return precision
    if device.startswith("cpu"):
        from vocable.execution.processor import bfloat16_speed

        return "bfloat16" if bfloat16_speed() > 1 else "float32"
    return "bfloat16" if device.startswith("cuda") else "float32"


def require_encoder(encoder: EncoderFile | None, spec: FeatureSpec) -> EncoderFile:
    """Return the encoder that frames of a spec are made with.

    Raises:
        MismatchError: none was given.
    """
    if encoder is None:
        raise MismatchError(
            f"frames of layer {spec.layer} of an encoder are wanted, of the one whose digest begins {str(spec.model)[:12]}: "
            "give --encoder with its checkpoint, or in Python an EncoderLayer"
        )
    return encoder
