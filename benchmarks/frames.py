"""Frames to measure with: made ones, and those of real speech; kept as .npy files between runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.float32]

SPEEDS = (1.0, 0.9, 1.1)
"""At which speech is played, one after the other, until there are enough frames."""
HELD_OUT_SPEEDS = (0.95,)

NOISE = 0.5
"""Deviation within a component of the made mixture, beside 1 between classes and 0.7 between the components of one."""

_PIECE = 1 << 14


def kept(path: Path, make: Callable[[], Frames]) -> Path:
    """Return the path of an array, which is made unless it is there."""
    if not path.exists():
        print(f"making {path}", file=sys.stderr, flush=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial.npy")
        np.save(partial, make())
        partial.rename(path)
    return path


def mixture(count: int, dim: int, seed: int, components: int = 3000) -> Frames:
    """Make frames like those of a speech encoder: a hierarchical mixture of Gaussians with correlated values.

    Components lie around a few dozen broad classes and are used as unevenly as phones are (Zipf); the spectrum of the values
    falls as a power; a component lasts several frames, and neighbouring frames resemble each other. The mixture is the same for
    all seeds, which draw the frames.
    """
    fixed = np.random.default_rng(20260101)
    spectrum = (np.arange(1, dim + 1) ** -0.7).astype(np.float32)
    turn = np.linalg.qr(fixed.standard_normal((dim, dim)))[0].astype(np.float32)
    classes = fixed.standard_normal((40, dim)).astype(np.float32)
    of_class = fixed.integers(0, len(classes), components)
    means = (classes[of_class] + 0.7 * fixed.standard_normal((components, dim)).astype(np.float32)) * spectrum
    use = 1.0 / (10 + fixed.permutation(components))
    drawn = np.random.default_rng(seed)
    lasting = drawn.geometric(0.15, size=count)
    labels = np.repeat(drawn.choice(components, count, p=use / use.sum()), lasting)[:count]
    out = np.empty((count, dim), dtype=np.float32)
    for first in range(0, count, _PIECE):
        piece = slice(first, min(first + _PIECE, count))
        noise = drawn.standard_normal((piece.stop - first, dim), dtype=np.float32)
        noise[1:] = 0.7 * noise[:-1] + 0.714 * noise[1:]  # neighbours resemble each other; of variance 1
        out[piece] = (means[labels[piece]] + NOISE * noise * spectrum) @ turn
    return out


def mfcc(folder: Path, count: int, speeds: tuple[float, ...] = SPEEDS) -> Frames:
    """Return MFCCs of real speech, shape (count, 39)."""
    import vocable

    extract = vocable.Mfcc()
    return _gathered((extract([waveform])[0] for waveform in waveforms(folder, speeds)), count, folder)


def encoded(folder: Path, count: int, speeds: tuple[float, ...] = SPEEDS) -> Frames:
    """Return frames of a randomly initialised encoder of HuBERT's shape (four of its layers), 768 values every 20 ms."""
    import torch

    torch.manual_seed(0)
    encoder = _encoder().eval()

    def frames(waveform: NDArray[np.float32]) -> Frames:
        with torch.inference_mode():
            convolved = encoder[0](torch.from_numpy(waveform)[None, None]).transpose(1, 2)
            out: Frames = encoder[1](convolved)[0].numpy()
        return out

    return _gathered((frames(waveform) for waveform in waveforms(folder, speeds)), count, folder)


def _gathered(parts: Iterator[Frames], count: int, folder: Path) -> Frames:
    kept, total = [], 0
    for part in parts:
        kept.append(part)
        total += len(part)
        if total >= count:
            return np.concatenate(kept)[:count]
    raise SystemExit(f"{folder} holds {total} frames, {count} are wanted")


def _encoder():
    from torch import nn

    widths, strides = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)
    convolutions: list[nn.Module] = []
    for at, (width, stride) in enumerate(zip(widths, strides, strict=True)):
        convolution = nn.Conv1d(1 if at == 0 else 512, 512, width, stride, bias=False)
        nn.init.kaiming_normal_(convolution.weight)
        convolutions += [convolution, *([nn.GroupNorm(512, 512)] if at == 0 else []), nn.GELU()]
    layer = nn.TransformerEncoderLayer(768, 12, 3072, 0.0, "gelu", batch_first=True)
    body = nn.Sequential(nn.LayerNorm(512), nn.Linear(512, 768), nn.TransformerEncoder(layer, 4))
    return nn.Sequential(nn.Sequential(*convolutions), body)


def waveforms(folder: Path, speeds: tuple[float, ...] = (1.0,)) -> Iterator[NDArray[np.float32]]:
    """Yield the speech of a folder's FLAC and WAV files at 16 kHz, once for each speed, the files in a mixed order."""
    import soundfile
    import soxr

    paths = sorted(path for path in folder.rglob("*") if path.suffix in (".flac", ".wav"))
    for speed in speeds:
        for at in np.random.default_rng(0).permutation(len(paths)):
            samples, rate = soundfile.read(paths[at], dtype="float32")
            if rate * speed != 16000:
                samples = soxr.resample(samples, rate * speed, 16000)
            yield samples
