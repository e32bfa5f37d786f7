"""Where the time of an encoder's layer goes: each part by itself, on the same utterances as encoders.py.

python benchmarks/encoder_parts.py [--speech DIR]
"""

from __future__ import annotations

from functools import partial
from typing import Any

from encoders import LAYER, RATE, _waveforms, cases
from harness import Benchmark, Clock

benchmark = Benchmark(
    "encoder_parts", f"Parts of the way to layer {LAYER} of a HuBERT of base size, float32, single-threaded",
    baseline="all of it", figures=("audio s a CPU s",),
)  # fmt: skip


def _part(name: str, case: dict[str, Any], seed: int, clock: Clock) -> dict[str, Any]:
    import torch

    from vocable.checkpoints.encoders import read_encoder
    from vocable.models.inference import prepared
    from vocable.models.taps import Tap

    encoder = prepared(read_encoder(case["encoder"]).build(LAYER), "float32", torch.device("cpu"))
    waveforms = [torch.from_numpy(waveform) for waveform in _waveforms(case)]
    with torch.inference_mode():
        convolved = [encoder.convolutions(waveform) for waveform in waveforms]
        streams = [encoder([frames], [Tap(LAYER)])[Tap(LAYER)][0] for frames in convolved]
        weight = encoder.positions.weight()
        with clock.running():
            for waveform, frames, stream in zip(waveforms, convolved, streams, strict=True):
                if name == "all of it":
                    encoder([encoder.convolutions(waveform)], [Tap(LAYER)])
                if name == "convolutions":
                    encoder.convolutions(waveform)
                if name == "projection and positions":
                    encoder.positions(encoder.projection(frames), weight)
                for block in encoder.blocks:
                    if name == "attention":
                        block.attention_norm(stream + block.attention(stream, [len(stream)], None))
                    if name == "feed-forward":
                        block.feed_forward_norm(stream + block.feed_forward(stream))
    return {"audio s a CPU s": sum(map(len, waveforms)) / RATE / clock.cpu}


for part in ("all of it", "convolutions", "projection and positions", "attention", "feed-forward"):
    benchmark.contender(part)(partial(_part, part))


if __name__ == "__main__":
    benchmark.main(cases)
