"""Frames of a MelHuBERT for some audio files, as its authors' extract_feature has them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from vocable.audio.decoding import read_waveform, resample
from vocable.audio.faults import AudioFault
from vocable.audio.scan import find_audio
from vocable.errors import InputError
from vocable.execution.engine import check_device
from vocable.features.encoder_layer import EncoderLayer, opened
from vocable.recipes.demo import SENTENCES, VOICES
from vocable.recipes.espeak import Espeak
from vocable.recipes.pair_writer import write_array


def melhubert_layer(
    checkpoint: str, frame_period: int, layer: int | None, mean_std: Path | None, device: str = "cpu"
) -> EncoderLayer:
    """Return what makes the frames of a layer of a MelHuBERT.

    Args:
        checkpoint: of the authors' code, or ours.
        frame_period: milliseconds, which its has to be.
        layer: from 1; the last by default.
        mean_std: statistics that go with a checkpoint of the authors' code.
        device: a torch device.

    Raises:
        InputError: it is no MelHuBERT, of another period, or lacks its statistics.
    """
    found = opened(checkpoint, None, mean_std)
    if found.config.mel is None:
        raise InputError(f"{checkpoint} takes waveforms, so it is no MelHuBERT: 'vocable features {checkpoint}' dumps its frames")
    own = 1000 * found.config.hop // found.config.sample_rate
    if own != frame_period:
        raise InputError(f"-f {frame_period}: {checkpoint} has frames every {own} ms; give -f {own}")
    return EncoderLayer(found, found.config.layers if layer is None else layer, device=check_device(device))


def extract(layer: EncoderLayer, sources: Sequence[Path], out: Path) -> Iterator[tuple[Path, tuple[int, ...]]]:
    """Write the frames of audio files, each to a `.npy` of its name, and yield where, with their shape.

    Args:
        layer: makes them.
        sources: files, or folders of them.
        out: the folder, which is made.

    Raises:
        InputError: a file can't be read, or two have one name.
    """
    paths = [path for source in sources for path in _files(source)]
    names = Counter(path.stem for path in paths)
    if repeated := next((path for path in paths if names[path.stem] > 1), None):
        raise InputError(f"{repeated} and another file are called {repeated.stem}: take them apart, into two folders")
    out.mkdir(parents=True, exist_ok=True)
    for path in paths:
        try:
            waveform = read_waveform(str(path), layer.spec.sample_rate)
        except AudioFault as fault:
            raise InputError(f"{path} can't be used ({fault}): mend it, or leave it out") from fault
        if len(waveform) < layer.spec.receptive_field:
            raise InputError(f"{path} has {len(waveform)} samples, and a frame takes {layer.spec.receptive_field}: leave it out")
        (frames,) = layer([waveform])
        target = out / f"{path.stem}.npy"
        write_array(target, frames)
        yield target, frames.shape


def extract_examples(layer: EncoderLayer) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the shapes of the frames of two sentences that are made for it."""
    speak = Espeak()
    for name, sentence in zip(list(VOICES)[:2], SENTENCES[:2], strict=True):
        samples, _ = speak.speak(sentence, VOICES[name])
        waveform = (samples / 32768.0).astype("float32")
        (frames,) = layer([resample(waveform, speak.sample_rate, layer.spec.sample_rate)])
        yield f"{name}: {sentence}", frames.shape


def _files(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise InputError(f"{source} isn't there: give audio files, or folders of them")
    found, _ = find_audio(source)
    if not found:
        raise InputError(f"{source} holds no audio: give another folder")
    return [source / path for path in found]
