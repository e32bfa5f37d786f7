"""How near speech made of an envelope and a pitch comes to what was said: a vocoder, pulses and noise, and Griffin-Lim.

    python benchmarks/vocoders.py VOCODER --speech DIR [--utterances N]

All three get the same 20 cepstra of an envelope every 10 ms; vocoder and pulses the pitch, too, which Griffin-Lim (librosa's, 32
rounds) can't take; it is also given the whole log-mel frames, pitch and all, for comparison. The error is the mean difference of
HiFi-GAN's log-mel frames to those of what was said, in nepers; the time is CPU seconds for a second of speech, on one thread.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import torch
from harness import RESULTS, machine, versions
from numpy.typing import NDArray

from vocable.anonymization.cepstra import cepstra_of, envelope_of
from vocable.anonymization.parts_frames import parts_frames
from vocable.anonymization.speech_parts import at_level, put_together, taken_apart
from vocable.audio.decoding import read_waveform
from vocable.checkpoints.detokenizers import read_detokenizer
from vocable.features import slaney
from vocable.features.hifigan_mel import HifiganMel

Wave = NDArray[np.float32]
_RATE, _HOP, _POINTS, _ROUNDS = 16_000, 160, 1024, 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vocoder", type=Path)
    parser.add_argument("--speech", type=Path, required=True)
    parser.add_argument("--utterances", type=int, default=24)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    vocoder, mel = read_detokenizer(arguments.vocoder).build_vocoder(), HifiganMel(_HOP)

    def by_vocoder(envelope: Wave, pitch: Wave, said: Wave) -> Wave:
        with torch.inference_mode():
            made: Wave = vocoder.of_utterance(torch.from_numpy(parts_frames(envelope, pitch))).numpy()
        return made[: len(said)]

    ways: dict[str, Callable[[Wave, Wave, Wave], Wave]] = {
        "vocoder": by_vocoder,
        "pulses and noise": lambda envelope, pitch, said: put_together(envelope, pitch, len(said)),
        "Griffin-Lim": lambda envelope, pitch, said: _griffin_lim(_power_of_envelope(envelope), said),
        "Griffin-Lim, of whole log-mel frames": lambda envelope, pitch, said: _griffin_lim(_power_of_mel(said, mel), said),
    }
    files = sorted(arguments.speech.rglob("*.flac"))
    chosen = [files[at] for at in np.linspace(0, len(files) - 1, arguments.utterances).round().astype(int)]
    errors: dict[str, list[float]] = {name: [] for name in ways}
    cpu, seconds = dict.fromkeys(ways, 0.0), 0.0
    for path in chosen:
        said = read_waveform(str(path), _RATE)
        parts = taken_apart(said)
        envelope = envelope_of(cepstra_of(parts, parts.mean), parts.mean)
        seconds += len(said) / _RATE
        for name, way in ways.items():
            begun = time.process_time()
            made = at_level(way(envelope, parts.pitch, said), said)
            cpu[name] += time.process_time() - begun
            errors[name].append(_error(mel, made, said))
    result: dict[str, Any] = {
        "machine": machine(), "versions": versions(), "utterances": len(chosen), "seconds": seconds,
        "error": {name: float(np.mean(own)) for name, own in errors.items()},
        "cpu_per_second": {name: own / seconds for name, own in cpu.items()},
    }  # fmt: skip
    (RESULTS / "vocoders.json").write_text(json.dumps(result, indent=1) + "\n")
    (RESULTS / "vocoders.md").write_text(_table(result))
    print(_table(result))


def _error(mel: HifiganMel, made: Wave, said: Wave) -> float:
    with torch.inference_mode():
        one, other = (mel(torch.from_numpy(np.ascontiguousarray(wave))[None]) for wave in (made, said))
        return float((one - other).abs().mean())


def _power_of_envelope(envelope: Wave) -> Wave:
    """Return magnitudes at all frequencies of an envelope in mel bins, of shape (frequencies, frames)."""
    centres = slaney.centres(envelope.shape[1], _RATE / 2)[1:-1]
    frequencies = np.arange(_POINTS // 2 + 1) * _RATE / _POINTS
    rows = np.stack([np.interp(frequencies, centres, row) for row in envelope])
    magnitudes: Wave = np.exp(0.5 * rows).T.astype(np.float32)
    return magnitudes


def _power_of_mel(said: Wave, mel: HifiganMel) -> Wave:
    """Return magnitudes whose log-mel frames are those of what was said, by non-negative least squares."""
    with torch.inference_mode():
        frames = mel(torch.from_numpy(said)[None])[0].exp().numpy().T
    found: Wave = librosa.util.nnls(mel.filters.numpy().T, frames)
    return found


def _griffin_lim(magnitudes: Wave, said: Wave) -> Wave:
    made: Wave = librosa.griffinlim(
        magnitudes, n_iter=_ROUNDS, hop_length=_HOP, win_length=_POINTS, n_fft=_POINTS, random_state=0
    )
    return np.pad(made, (0, max(0, len(said) - len(made))))[: len(said)].astype(np.float32)


def _table(result: dict[str, Any]) -> str:
    lines = [
        f"{result['utterances']} utterances, {result['seconds']:.0f} s, on {result['machine']['processor']}",
        "",
        "| made by | error of log-mel frames | CPU s for a second |",
        "|---|---:|---:|",
        *(f"| {name} | {result['error'][name]:.3f} | {result['cpu_per_second'][name]:.3f} |" for name in result["error"]),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
