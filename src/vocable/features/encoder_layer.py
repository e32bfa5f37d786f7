"""`EncoderLayer`: frames from a layer of an encoder."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from vocable.artefacts.feature_spec import FeatureSpec
from vocable.artefacts.headers import digest_of
from vocable.audio.decoding import Waveform
from vocable.errors import InputError, MismatchError
from vocable.features.kaldi import Frames
from vocable.features.waveforms import as_waveforms
from vocable.features.windows import Chunks, Window, Windows, chunking_of
from vocable.models.config import WaveformNormalization
from vocable.models.taps import Tap, TapName

if TYPE_CHECKING:
    import torch

    from vocable.checkpoints.encoder_checkpoint import EncoderCheckpoint
    from vocable.models.config import EncoderConfig
    from vocable.models.convolutions import Convolved

Precision = Literal["float32", "bfloat16", "auto"]

_CPU_FRAMES = 1000  # a batch of which stays in a processor's cache from one layer to the next
_GPU_FRAMES = 32_000


@dataclass(frozen=True)
class EncoderFile:
    """Which encoder makes frames, and how it is run; what a worker opens it from."""

    source: str
    """A file, a folder or a name, as `read_encoder` takes it."""
    waveform_normalization: WaveformNormalization | None = None
    """In place of what the checkpoint says."""
    precision: Precision = "float32"

    def checkpoint(self) -> EncoderCheckpoint:
        """Return the checkpoint, once for each process."""
        return opened(self.source, self.waveform_normalization)

    def spec(self, layer: int | None, tap: TapName = "block", chunking: str = "windows") -> FeatureSpec:
        """Return what frames are that a layer of it makes.

        Raises:
            InputError: the layer or the tap doesn't exist.
        """
        return EncoderLayer(self.checkpoint(), layer, tap, chunking, precision=self.precision, built=False).spec

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


def opened(source: str | Path, normalization: WaveformNormalization | None = None) -> EncoderCheckpoint:
    """Return a checkpoint, which is opened once in a process unless its files change.

    Raises:
        InputError: there is none, or none that can be read.
    """
    from vocable.checkpoints.encoders import located

    path = located(source)
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    state = tuple((file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files)
    return _checkpoint(path, normalization, state)


@lru_cache(maxsize=2)
def _checkpoint(path: Path, normalization: WaveformNormalization | None, _: object) -> EncoderCheckpoint:
    from vocable.checkpoints.encoders import read_encoder

    return read_encoder(path, normalization)


class EncoderLayer:
    """Frames from a layer of HuBERT, wav2vec 2.0 or WavLM.

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
        device: a torch device.
        built: leave the encoder unbuilt, if all that is wanted is its spec.

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
        device: str = "cpu",
        built: bool = True,
    ) -> None:
        if isinstance(checkpoint, (str, Path)):
            checkpoint = opened(checkpoint, waveform_normalization)
        config = checkpoint.config
        if layer is None and tap != "final":
            raise InputError(f"which layer? The encoder has {config.layers}: give --layer 1 to {config.layers}")
        self._tap = Tap(config.layers if layer is None else layer, tap)
        self._tap.check(config.layers)
        self._chunking = chunking_of(chunking)
        if isinstance(self._chunking, Chunks) and self._chunking.samples < config.receptive_field:
            raise InputError(f"--chunking {chunking}: a frame takes {config.receptive_field} samples; give chunks of more")
        self._precision = resolved_precision(precision, device)
        self._device = device
        self.spec = FeatureSpec(
            kind="encoder",
            dim=config.dim,
            hop=config.hop,
            receptive_field=config.receptive_field,
            sample_rate=config.sample_rate,
            parameters={"arithmetic": digest_of(config.arithmetic())[:16]},
            model=checkpoint.digest,
            layer=self._tap.layer,
            tap=tap,
            waveform_normalization=config.waveform_normalization,
            chunking=str(self._chunking),
            recorded={
                "precision": self._precision,
                "device": device.partition(":")[0],
                "waveform_eps": config.waveform_eps,
            },
        )
        if built:
            self._runner = EncoderRunner(checkpoint, self._tap.layer, self._precision, device)

    def __call__(self, waveforms: Sequence[Waveform]) -> list[Frames]:
        """Return the frames of each waveform, float32 of shape (frames, dim).

        Raises:
            InputError: `waveforms` is no list of mono waveforms of floating-point samples.
        """
        return [of_tap[self._tap] for of_tap in self._runner(as_waveforms(waveforms), [self._tap], self._chunking)]


class EncoderRunner:
    """Runs an encoder over waveforms in batches of windows, sorted by length, that fit its device.

    Args:
        checkpoint: of the encoder.
        layers: how many blocks to build.
        precision: `float32` or `bfloat16`.
        device: a torch device.
    """

    def __init__(self, checkpoint: EncoderCheckpoint, layers: int, precision: str, device: str) -> None:
        import torch

        from vocable.models.inference import prepared

        self._device, self._config = torch.device(device), checkpoint.config
        try:
            self._encoder = prepared(checkpoint.build(layers), precision, self._device)
        except torch.OutOfMemoryError as error:
            raise InputError(f"{device} has too little memory for the encoder: take another device, or free some") from error
        self._budget = _CPU_FRAMES if self._device.type == "cpu" else _GPU_FRAMES

    def __call__(self, waveforms: Sequence[Waveform], taps: Sequence[Tap], chunking: Windows | Chunks) -> list[dict[Tap, Frames]]:
        """Return the frames of each waveform at each tap."""
        import torch

        from vocable.execution.threads import torch_single_threaded

        with torch.inference_mode(), torch_single_threaded(), _float32_products(self._device):
            parts = [part for number, waveform in enumerate(waveforms) for part in self._parts(number, waveform, chunking)]
            frames: list[dict[int, dict[Tap, Frames]]] = [{} for _ in waveforms]
            for batch in self._batches(parts):
                for part, made in zip(batch, self._run(batch, taps), strict=True):
                    frames[part.waveform][part.place] = made
            dim = self._config.dim
            joined = []
            for by_place in frames:
                own = [by_place[place] for place in sorted(by_place)]
                joined.append(
                    {tap: np.concatenate([item[tap] for item in own]) if own else np.empty((0, dim), np.float32) for tap in taps}
                )
            return joined

    def _parts(self, number: int, waveform: Waveform, chunking: Windows | Chunks) -> Iterator[_Part]:
        import torch

        normalized = torch.from_numpy(normalized_waveform(waveform, self._config))
        windows = chunking if isinstance(chunking, Windows) else Windows(max(1, len(waveform)), 0)
        spans = [(0, len(waveform))] if isinstance(chunking, Windows) else chunking.spans(len(waveform))
        place = 0
        for first, last in spans:
            if self._config.frame_count(last - first) == 0:
                continue  # fairseq's script fails on such a rest
            convolved = self._encoder.convolutions.on(normalized[first:last].to(self._device))
            for window in windows.over(convolved.count):
                yield _Part(number, place, convolved, window)
                place += 1

    def _batches(self, parts: list[_Part]) -> Iterator[list[_Part]]:
        """Yield parts of about one length together, as many as the budget allows; it may fall meanwhile."""
        waiting = sorted(parts, key=lambda part: (part.length, part.waveform, part.place))
        while waiting:
            batch = [waiting.pop()]
            while waiting and sum(part.length for part in batch) + waiting[-1].length <= self._budget:
                batch.append(waiting.pop())
            yield batch

    def _run(self, batch: list[_Part], taps: Sequence[Tap]) -> list[dict[Tap, Frames]]:
        """Return the kept frames of each part; where memory doesn't suffice, in two halves."""
        import torch

        try:
            found = self._encoder([part.frames() for part in batch], taps)
            return [{tap: _kept(found[tap][at], part.window).cpu().numpy() for tap in taps} for at, part in enumerate(batch)]
        except torch.OutOfMemoryError:
            total = sum(part.length for part in batch)
            if len(batch) == 1:
                raise InputError(
                    f"{self._device} has too little memory for {total} frames at once: take another device, or shorter windows, "
                    f"such as --chunking windows:{max(2, total // 2)}:{total // 16}, where no codebook says which"
                ) from None
            self._budget = min(self._budget, max(1, total // 2))
        print(f"{self._device} is out of memory: batches have {self._budget} frames from now on", file=sys.stderr, flush=True)
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        half = len(batch) // 2
        return self._run(batch[:half], taps) + self._run(batch[half:], taps)


@contextmanager
def _float32_products(device: torch.device) -> Iterator[None]:
    """Let a GPU multiply float32 as float32: by default it takes ten bits of it in convolutions."""
    import torch

    if device.type != "cuda":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


@dataclass(frozen=True)
class _Part:
    """A window of a waveform, not yet convolved."""

    waveform: int
    place: int
    convolved: Convolved
    window: Window

    @property
    def length(self) -> int:
        return self.window.last - self.window.first

    def frames(self) -> torch.Tensor:
        return self.convolved.frames(self.window.first, self.window.last)


def _kept(frames: torch.Tensor, window: Window) -> torch.Tensor:
    return frames[window.kept_from - window.first : window.kept_to - window.first]


def normalized_waveform(waveform: Waveform, config: EncoderConfig) -> Waveform:
    """Return a waveform as an encoder takes it: as it is, or with mean 0 and variance 1."""
    if config.waveform_normalization == "none" or not len(waveform):
        return waveform
    mean, variance = waveform.mean(dtype=np.float64), waveform.var(dtype=np.float64)
    scaled: Waveform = ((waveform - mean) / np.sqrt(variance + config.waveform_eps)).astype(np.float32)
    return scaled


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
