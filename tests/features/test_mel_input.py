"""Encoders of log-mel frames describe audio as others do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.made import made_checkpoint, tiny, waveform
from vocable import EncoderLayer, LogMel
from vocable.checkpoints.encoders import read_encoder, write_encoder
from vocable.errors import InputError
from vocable.features.mel_input import mel_frames
from vocable.features.normalization import Normalization
from vocable.models.config import EncoderConfig, MelInput
from vocable.models.taps import Tap

CONFIG = tiny("hubert", large=True, convolutions=(), mel=MelInput(40, 2), waveform_normalization="none")


def test_frames_are_stacked_log_mel_of_an_utterance() -> None:
    samples = waveform(16_000)
    made = Normalization("utterance")(LogMel.preset(40)([samples])[0])
    assert np.array_equal(mel_frames(samples, CONFIG), made[:98].reshape(49, 80))
    assert len(made) == 98
    assert (CONFIG.hop, CONFIG.receptive_field, CONFIG.channels) == (320, 560, 80)
    for count in (400, 559, 560, 879, 880, 5000, 16_000):
        assert len(mel_frames(waveform(count), CONFIG)) == CONFIG.frame_count(count)


def test_a_layer_is_that_of_the_encoder_on_its_frames() -> None:
    checkpoint = made_checkpoint(CONFIG)
    samples = waveform(20_000)
    layer = EncoderLayer(checkpoint, 2)
    encoder = checkpoint.build()
    with torch.inference_mode():
        expected = encoder([torch.from_numpy(mel_frames(samples, CONFIG))], [Tap(2)])[Tap(2)][0].numpy()
    assert np.abs(layer([samples])[0] - expected).max() < 1e-5
    assert layer.spec.frame_count(20_000) == len(expected)


def test_neighbours_do_not_matter() -> None:
    layer = EncoderLayer(made_checkpoint(CONFIG), 3, precision="float32")
    waveforms = [waveform(length, length) for length in (600, 5000, 16_001, 33_333, 560)]
    together = layer(waveforms)
    assert all(np.array_equal(layer([one])[0], frames) for one, frames in zip(waveforms, together, strict=True))


def test_our_layout_keeps_them_and_others_have_no_place(tmp_path: Path) -> None:
    checkpoint = made_checkpoint(CONFIG)
    write_encoder(checkpoint, tmp_path / "here", "vocable")
    found = read_encoder(tmp_path / "here")
    assert found.config == CONFIG
    assert found.digest == checkpoint.digest
    for layout in ("transformers", "fairseq"):
        with pytest.raises(InputError, match=f"the layout of {layout} has no encoders of log-mel frames"):
            write_encoder(checkpoint, tmp_path / layout, layout)  # type: ignore[arg-type]
    other = EncoderLayer(made_checkpoint(replace(CONFIG, mel=MelInput(40, 2, "none"))), 2).spec
    assert EncoderLayer(checkpoint, 2).spec != other


@pytest.mark.parametrize(
    "wrong",
    [{"mel": None}, {"mel": MelInput(0, 2)}, {"mel": MelInput(40, 0)}, {"mel": MelInput(40, 2, "week")}],  # type: ignore[arg-type]
)
def test_impossible_inputs_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        replace(CONFIG, **wrong)
    with pytest.raises(InputError, match="without convolutions makes no frames, unless"):
        EncoderConfig(**{**vars(tiny()), "mel": MelInput()})
