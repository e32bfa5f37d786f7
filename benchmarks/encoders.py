"""How long frames of a layer of HuBERT take, beside transformers, and how many labels bfloat16 changes.

    python benchmarks/encoders.py [--speech DIR]

The encoder is of HuBERT's base size with random weights, the layer the ninth, the codebook of 500 units fitted to its frames.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import frames
import numpy as np
from harness import Benchmark, Clock

LAYER, CLUSTERS = 9, 500
RATE = 16000
SHORTEST, LONGEST = 10.0, 15.0  # seconds
MEASURED, FITTED = 6, 60  # utterances

benchmark = Benchmark(
    "encoders", f"Layer {LAYER} of a HuBERT of base size, single-threaded",
    baseline="vocable, float32", figures=("audio s a CPU s", "same labels, %", "largest error"),
)  # fmt: skip


def _waveforms(case: dict[str, Any]) -> list[np.ndarray]:
    stored = np.load(case["waveforms"])
    return [stored[name] for name in stored.files]


def _scored(made: list[np.ndarray], case: dict[str, Any], clock: Clock) -> dict[str, Any]:
    """Compare frames and their labels with those that transformers makes in float32."""
    from vocable.clustering.assignment import NearestCentroid

    expected = np.load(case["frames"])
    found = np.concatenate(made)
    nearest = NearestCentroid(np.load(case["centroids"]))
    same = float((nearest(found) == nearest(expected)).mean())
    seconds = sum(map(len, _waveforms(case))) / RATE
    error = float(np.abs(found - expected).max())
    return {"audio s a CPU s": seconds / clock.cpu, "same labels, %": 100 * same, "largest error": error}


def _vocable(precision: str, case: dict[str, Any], seed: int, clock: Clock) -> dict[str, Any]:
    from vocable import EncoderLayer

    extract = EncoderLayer(case["encoder"], LAYER, precision=precision)
    waveforms = _waveforms(case)
    extract([waveforms[0][:RATE]])
    with clock.running():
        made = extract(waveforms)
    return _scored(made, case, clock)


def _transformers(layers: int, kind: str, case: dict[str, Any], seed: int, clock: Clock) -> dict[str, Any]:
    import torch

    model = _model(case["encoder"], layers).to(getattr(torch, kind))
    waveforms = [torch.from_numpy(waveform)[None].to(getattr(torch, kind)) for waveform in _waveforms(case)]
    with torch.inference_mode():
        model(waveforms[0][:, :RATE])
        with clock.running():
            made = [model(waveform, output_hidden_states=True).hidden_states[LAYER][0].float().numpy() for waveform in waveforms]
    return _scored(made, case, clock)


benchmark.contender("vocable, float32")(partial(_vocable, "float32"))
benchmark.contender("vocable, bfloat16")(partial(_vocable, "bfloat16"))
benchmark.contender("transformers, all 12 layers, float32")(partial(_transformers, 12, "float32"))
benchmark.contender("transformers, cut to 9 layers, float32")(partial(_transformers, LAYER, "float32"))
benchmark.contender("transformers, cut to 9 layers, bfloat16")(partial(_transformers, LAYER, "bfloat16"))


def _model(folder: str, layers: int) -> Any:
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    from transformers import HubertConfig, HubertModel
    from transformers.utils import logging as messages

    messages.set_verbosity_error()
    messages.disable_progress_bar()
    config = HubertConfig.from_pretrained(folder, num_hidden_layers=layers)
    return HubertModel.from_pretrained(folder, config=config).eval()


def base_encoder(folder: Path) -> Path:
    """Return a folder, in transformers' layout, of an encoder of HuBERT's base size with random weights; it is made once."""
    if not folder.exists():
        import torch

        from vocable.checkpoints.encoder_checkpoint import EncoderCheckpoint
        from vocable.checkpoints.encoders import write_encoder
        from vocable.models.config import base
        from vocable.models.encoder import Encoder

        torch.manual_seed(0)
        folder.parent.mkdir(parents=True, exist_ok=True)
        write_encoder(EncoderCheckpoint.of(Encoder(base())), folder, "transformers")
    return folder


def cases(arguments: argparse.Namespace) -> dict[str, Any]:
    encoder = base_encoder(arguments.cache / "hubert-base-random")
    stem = arguments.cache / ("encoder-speech" if arguments.speech else "encoder-noise")
    stored = {name: stem.with_suffix(f".{name}") for name in ("waveforms.npz", "frames.npy", "centroids.npy")}
    if not all(path.exists() for path in stored.values()):
        _make(arguments.speech, encoder, stored)
    seconds = sum(map(len, _waveforms({"waveforms": stored["waveforms.npz"]}))) / RATE
    what = "utterances of speech" if arguments.speech else "stretches of noise"
    named = {name.partition(".")[0]: str(path) for name, path in stored.items()}
    return {f"{MEASURED} {what}, {seconds:.0f} s": {"encoder": str(encoder), **named}}


def _make(speech: Path | None, encoder: Path, stored: dict[str, Path]) -> None:
    import torch

    from vocable import EncoderLayer, KMeans

    drawn = np.random.default_rng(0)
    if speech is None:
        every = (
            drawn.standard_normal(int(drawn.uniform(SHORTEST, LONGEST) * RATE)).astype(np.float32) / 10 for _ in range(FITTED)
        )
    else:
        every = (item for item in frames.waveforms(speech) if SHORTEST <= len(item) / RATE <= LONGEST)
    waveforms = [item for _, item in zip(range(FITTED), every, strict=False)]
    centroids = KMeans(CLUSTERS, random_state=0).fit(np.concatenate(EncoderLayer(encoder, LAYER)(waveforms))).cluster_centers_
    np.save(stored["centroids.npy"], centroids.astype(np.float32))
    model = _model(str(encoder), LAYER)
    with torch.inference_mode():
        expected = [
            model(torch.from_numpy(item)[None], output_hidden_states=True).hidden_states[LAYER][0].numpy()
            for item in waveforms[:MEASURED]
        ]
    np.save(stored["frames.npy"], np.concatenate(expected))
    np.savez(stored["waveforms.npz"], *waveforms[:MEASURED])


if __name__ == "__main__":
    benchmark.main(cases)
