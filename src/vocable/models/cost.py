"""What an encoder's products cost, as papers count it: multiply-accumulates for a second of speech."""

from __future__ import annotations

from vocable.models.config import EncoderConfig


def multiply_accumulates(config: EncoderConfig, seconds: float) -> float:
    """Return the multiply-accumulates for each second of an utterance, heads of pretraining left out.

    Convolutions, linear layers and attention's two products are counted; log-mel frames, norms and activations aren't.

    Args:
        config: of the encoder.
        seconds: how long the utterance is, since attention grows with its square.
    """
    samples = int(seconds * config.sample_rate)
    frames = config.frame_count(samples)
    total, length, inputs = 0, samples, 1
    for item in config.convolutions:
        length = (length - item.width) // item.stride + 1
        total += length * item.channels * inputs * item.width
        inputs = item.channels
    if config.channels != config.dim:
        total += frames * config.channels * config.dim
    total += frames * config.dim * (config.dim // config.position_groups) * config.position_width
    of_block = frames * (4 * config.dim**2 + 2 * config.dim * config.ffn_dim) + 2 * frames**2 * config.dim
    return (total + config.layers * of_block) / seconds
