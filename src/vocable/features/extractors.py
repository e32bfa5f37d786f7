"""`Mfcc` and `LogMel`: waveforms in, frames out, each with its `FeatureSpec`; and which extractor makes the frames of a spec."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Protocol

import numpy as np

from vocable.artefacts.feature_spec import FeatureSpec
from vocable.audio.decoding import Waveform
from vocable.errors import InputError
from vocable.execution.threads import single_threaded
from vocable.features.encoder_layer import EncoderFile, require_encoder
from vocable.features.kaldi import FilterBank, Frames, cepstral_matrix, deltas
from vocable.features.pitch import Pitch
from vocable.features.waveforms import as_waveforms


class FeatureExtractor(Protocol):
    """What describes frames. The frames of a waveform don't depend on what else is in the list."""

    @property
    def spec(self) -> FeatureSpec:
        """What the frames are."""

    def __call__(self, waveforms: Sequence[Waveform]) -> list[Frames]:
        """Return the frames of each waveform, float32 of shape (frames, dim)."""


class Mfcc:
    """Mel-frequency cepstra with deltas and double deltas: 39 values every 10 ms, as fairseq's dump_mfcc_feature has them.

    C0 is kept, the waveform stays in [-1, 1], nothing is normalised.

    Args:
        sample_rate: Hz; the window is 25 ms, the hop 10 ms.
        num_mel_bins: filters.
        num_ceps: cepstra kept, C0 among them.
        delta_order: how many times differences are taken and appended: 2 for 3 · num_ceps values.
        device: `cpu`, or a torch device.
    """

    def __init__(
        self, sample_rate: int = 16000, num_mel_bins: int = 23, num_ceps: int = 13, delta_order: int = 2, device: str = "cpu"
    ) -> None:
        if not 1 <= num_ceps <= num_mel_bins:
            raise InputError(f"{num_ceps} cepstra of {num_mel_bins} mel bins: there are at most as many as bins")
        self._bank = FilterBank(sample_rate=sample_rate, num_mel_bins=num_mel_bins)
        self._matrix = cepstral_matrix(num_mel_bins, num_ceps, lifter=22.0)
        self._order = delta_order
        parameters = {**_parameters(self._bank), "num_ceps": num_ceps, "lifter": 22.0, "delta_order": delta_order}
        self.spec = _spec("mfcc", num_ceps * (delta_order + 1), self._bank, parameters, device)
        self._torch = None if device == "cpu" else _on_device(self._bank, self._matrix, device)

    def __call__(self, waveforms: Sequence[Waveform]) -> list[Frames]:
        """Return MFCCs of each waveform, shape (frames, dim).

        Raises:
            InputError: `waveforms` is no list of mono waveforms of floating-point samples.
        """
        mono = as_waveforms(waveforms)
        if self._torch is not None:
            return [self._with_deltas(frames) for frames in self._torch(mono)]
        with single_threaded():
            return [self._with_deltas(self._bank(waveform) @ self._matrix) for waveform in mono]

    def _with_deltas(self, statics: Frames) -> Frames:
        orders = [statics]
        for _ in range(self._order):
            orders.append(deltas(orders[-1]) if len(statics) else orders[-1])
        return np.concatenate(orders, axis=1)


class LogMel:
    """Kaldi-style log mel energies every 10 ms.

    Args:
        sample_rate: Hz; the window is 25 ms, the hop 10 ms.
        num_mel_bins: filters.
        window: `povey` or `hamming`.
        scale: factor on the waveform; 32768 gives Kaldi's values.
        device: `cpu`, or a torch device.
    """

    def __init__(
        self, sample_rate: int = 16000, num_mel_bins: int = 80, window: str = "povey", scale: float = 32768.0, device: str = "cpu"
    ) -> None:
        if window not in ("povey", "hamming"):
            raise InputError(f"the window {window!r} is neither povey nor hamming")
        self._bank = FilterBank(sample_rate=sample_rate, num_mel_bins=num_mel_bins, window=window, scale=scale)  # type: ignore[arg-type]
        self.spec = _spec("logmel", num_mel_bins, self._bank, _parameters(self._bank), device)
        self._torch = None if device == "cpu" else _on_device(self._bank, None, device)

    @classmethod
    def preset(cls, num_mel_bins: int, sample_rate: int = 16000, device: str = "cpu") -> LogMel:
        """Return the usual settings for a number of bins: 40 as MelHuBERT has them (Hamming window), else Kaldi's (Povey)."""
        return cls(sample_rate, num_mel_bins, window="hamming" if num_mel_bins == 40 else "povey", device=device)

    def __call__(self, waveforms: Sequence[Waveform]) -> list[Frames]:
        """Return log mel energies of each waveform, shape (frames, num_mel_bins).

        Raises:
            InputError: `waveforms` is no list of mono waveforms of floating-point samples.
        """
        mono = as_waveforms(waveforms)
        if self._torch is not None:
            return self._torch(mono)
        with single_threaded():
            return [self._bank(waveform) for waveform in mono]


def extractor_of(spec: FeatureSpec, device: str = "cpu", encoder: EncoderFile | None = None) -> FeatureExtractor:
    """Return the extractor that makes the frames of a spec, before normalisation and context.

    Args:
        spec: of the frames.
        device: where they are made.
        encoder: which makes them, for frames of kind `encoder`.

    Raises:
        InputError: the spec names settings that no extractor here has.
        MismatchError: the encoder is missing, or is another one.
    """
    if spec.kind == "encoder":
        return require_encoder(encoder, spec).extractor(spec, device)
    settings = spec.parameters
    made: FeatureExtractor
    try:
        if spec.kind == "mfcc":
            made = Mfcc(spec.sample_rate, settings["num_mel_bins"], settings["num_ceps"], settings["delta_order"], device)
        elif spec.kind == "logmel":
            made = LogMel(spec.sample_rate, settings["num_mel_bins"], settings["window"], settings["scale"], device)
        elif spec.kind == "f0":
            made = Pitch(settings["floor"], settings["ceiling"])
        else:
            raise InputError(f"frames of kind {spec.kind!r} can't be made from audio by this version")
    except KeyError as error:
        raise InputError(f"a spec of {spec.kind} frames lacks the setting {error}: make the file again") from error
    except (TypeError, OverflowError) as error:
        raise InputError(f"a spec of {spec.kind} frames has impossible settings ({error}): make the file again") from error
    if made.spec.parameters != settings:
        raise InputError(f"a spec of {spec.kind} frames has settings this version doesn't know: {settings}")
    return made


def _parameters(bank: FilterBank) -> dict[str, Any]:
    values = asdict(bank)
    del values["sample_rate"]
    return {**values, "high_freq": bank.top_freq}


def _spec(kind: str, dim: int, bank: FilterBank, parameters: dict[str, Any], device: str) -> FeatureSpec:
    recorded = {"precision": "float32", "device": device.partition(":")[0]}
    return FeatureSpec(
        kind=kind,
        dim=dim,
        hop=bank.hop,
        receptive_field=bank.length,
        sample_rate=bank.sample_rate,
        parameters=parameters,
        recorded=recorded,
    )


def _on_device(bank: FilterBank, matrix: Frames | None, device: str) -> Callable[[Sequence[Waveform]], list[Frames]]:
    from vocable.features.kaldi_torch import TorchFilterBank

    return TorchFilterBank(bank, matrix, device)
