from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from models.made import STYLES, made_checkpoint, made_encoder, tiny, waveform
from vocable.artefacts.feature_spec import FeatureSpec
from vocable.checkpoints.encoder_checkpoint import EncoderCheckpoint
from vocable.checkpoints.encoders import write_encoder
from vocable.errors import InputError, MismatchError
from vocable.features.encoder_layer import EncoderFile, EncoderLayer, layer_spec, resolved_precision
from vocable.features.encoder_runner import normalized_waveform
from vocable.features.extractors import extractor_of
from vocable.features.windows import Chunks, Windows, chunking_of
from vocable.models.config import Convolution, Family, large

MODELS: list[tuple[Family, bool]] = [("hubert", False), ("hubert", True), ("wavlm", False)]


@cache
def layer_two(family: Family, large_norms: bool) -> EncoderLayer:
    return EncoderLayer(made_checkpoint(tiny(family, large_norms)), 2)


@cache
def alone(family: Family, large_norms: bool, length: int) -> NDArray[np.float32]:
    return layer_two(family, large_norms)([waveform(length, length)])[0]


@pytest.mark.parametrize(("family", "large_norms"), MODELS)
@settings(max_examples=25)
@given(lengths=st.lists(st.integers(400, 20_000), min_size=1, max_size=7), budget=st.sampled_from([1, 40, 100, 1000]))
def test_frames_do_not_depend_on_batch_neighbours(family: Family, large_norms: bool, lengths: list[int], budget: int) -> None:
    layer = layer_two(family, large_norms)
    layer._runner._budget = budget
    for length, frames in zip(lengths, layer([waveform(length, length) for length in lengths]), strict=True):
        assert frames.dtype == np.float32
        assert frames.shape == (layer.spec.frame_count(length), layer.spec.dim)
        assert np.array_equal(frames, alone(family, large_norms, length))


@pytest.mark.parametrize(("family", "large_norms"), STYLES)
def test_waveforms_shorter_than_a_frame_have_none(family: Family, large_norms: bool) -> None:
    layer = layer_two(family, large_norms)
    found = layer([waveform(length) for length in (0, 399, 400, 719, 1, 720)])
    assert [frames.shape for frames in found] == [(0, 64), (0, 64), (1, 64), (1, 64), (0, 64), (2, 64)]
    assert np.array_equal(found[2], layer([waveform(400)])[0])
    assert layer([]) == []


@pytest.mark.slow
def test_frames_of_a_wide_encoder_do_not_depend_on_batch_neighbours() -> None:
    layer = EncoderLayer(made_checkpoint(replace(large("wavlm"), layers=1)), 1)
    waveforms = [waveform(length, length) for length in (400, 2000, 16_000, 16_001, 7000, 33_333, 401)]
    together = layer(waveforms)
    assert all(np.array_equal(layer([one])[0], frames) for one, frames in zip(waveforms, together, strict=True))


@given(count=st.integers(1, 3000), length=st.integers(1, 400), context=st.integers(0, 150))
def test_windows_keep_every_frame_once_and_in_order(count: int, length: int, context: int) -> None:
    if length <= 2 * context:
        with pytest.raises(InputError, match=f"windows of {length} frames can't have {context} frames of context on each side"):
            Windows(length, context)
        return
    windows = list(Windows(length, context).over(count))
    assert [kept for window in windows for kept in range(window.kept_from, window.kept_to)] == list(range(count))
    for window in windows:
        assert 0 <= window.first <= window.kept_from < window.kept_to <= window.last <= count
        assert window.last - window.first == min(length, count)
        assert window.first == 0 or window.kept_from - window.first >= context
        assert window.last == count or window.last - window.kept_to >= context


def test_a_waveform_no_longer_than_a_window_goes_through_whole() -> None:
    checkpoint, samples = made_checkpoint(tiny()), waveform(400 + 99 * 320)
    whole, exact, cut = (EncoderLayer(checkpoint, 2, chunking=f"windows:{length}:20")([samples])[0] for length in (5000, 100, 99))
    assert np.array_equal(whole, exact)
    assert cut.shape == whole.shape
    assert not np.array_equal(cut, whole)


def without_attention(large_norms: bool) -> EncoderCheckpoint:
    encoder = made_encoder(tiny("hubert", large_norms))
    for block in encoder.blocks:
        block.attention.output.weight.zero_()
        block.attention.output.bias.zero_()
    return EncoderCheckpoint.of(encoder)


@pytest.mark.parametrize("large_norms", [False, True])
def test_nothing_but_attention_ends_at_a_window_of_enough_context(large_norms: bool) -> None:
    checkpoint, samples = without_attention(large_norms), waveform(100_000)
    (whole,) = EncoderLayer(checkpoint, 3)([samples])
    (cut,) = EncoderLayer(checkpoint, 3, chunking="windows:50:8")([samples])  # of the positional convolution's 16 frames
    (short,) = EncoderLayer(checkpoint, 3, chunking="windows:50:0")([samples])
    assert len(whole) == 312
    assert np.abs(cut - whole).max() < 1e-5
    assert np.abs(short - whole).max() > 1e-2


@pytest.mark.parametrize("rest", [0, 1, 399, 400, 401, 719, 720, 1599])
@pytest.mark.parametrize("chunks", [1, 2, 5])
def test_fairseqs_chunks_are_as_if_each_were_alone(chunks: int, rest: int) -> None:
    checkpoint, size = made_checkpoint(tiny()), 1600
    layer = EncoderLayer(checkpoint, 2, chunking=f"fairseq:{size}")
    samples = waveform(chunks * size + rest)
    (found,) = layer([samples])
    pieces = EncoderLayer(checkpoint, 2)([samples[first : first + size] for first in range(0, len(samples), size)])
    assert np.array_equal(found, np.concatenate(pieces))
    assert len(found) == layer.spec.frame_count(len(samples)) == 4 * chunks + (0 if rest < 400 else 1 + (rest - 400) // 320)


def test_fairseqs_chunks_are_of_the_waveform_normalised_as_a_whole() -> None:
    checkpoint = made_checkpoint(tiny("hubert", large=True))
    samples = waveform(5000) * np.linspace(0.01, 1, 5000, dtype=np.float32)
    whole = normalized_waveform(samples, checkpoint.config)
    as_it_is = replace(checkpoint, config=replace(checkpoint.config, waveform_normalization="none"))
    expected = np.concatenate(EncoderLayer(as_it_is, 2)([whole[:2000], whole[2000:4000], whole[4000:]]))
    assert np.array_equal(EncoderLayer(checkpoint, 2, chunking="fairseq:2000")([samples])[0], expected)


class LittleMemory:
    """Stands for an encoder on a device that has memory for so many frames at once."""

    def __init__(self, encoder: Any, most: int) -> None:
        self.convolutions, self._encoder, self._most = encoder.convolutions, encoder, most
        self.refused = 0

    def __call__(self, utterances: Sequence[Tensor], taps: Any) -> Any:
        if sum(map(len, utterances)) > self._most:
            self.refused += 1
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return self._encoder(utterances, taps)


@pytest.mark.parametrize("most", [100, 150, 400])
def test_out_of_memory_makes_smaller_batches_and_the_same_frames(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], most: int
) -> None:
    layer = EncoderLayer(made_checkpoint(tiny()), 2)
    waveforms = [
        waveform(length, length) for length in (20_000, 16_000, 12_345, 20_000, 18_000, 9000, 16_000, 21_000, 400, 15_000)
    ]
    expected = layer(waveforms)
    little = LittleMemory(layer._runner._encoder, most)
    monkeypatch.setattr(layer._runner, "_encoder", little)
    for one, other in zip(layer(waveforms), expected, strict=True):
        assert np.array_equal(one, other)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == little.refused > 0
    assert all(line.startswith("cpu is out of memory: batches have ") for line in lines)
    layer(waveforms)
    assert little.refused == len(lines)  # what was learnt is kept
    assert capsys.readouterr().err == ""


def test_a_window_too_large_for_the_memory_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = EncoderLayer(made_checkpoint(tiny()), 2)
    monkeypatch.setattr(layer._runner, "_encoder", LittleMemory(layer._runner._encoder, 40))
    with pytest.raises(InputError) as caught:
        layer([waveform(400 + 59 * 320), waveform(400 + 59 * 320)])
    assert str(caught.value) == (
        "cpu has too little memory for 60 frames at once: take another device, or shorter windows, "
        "such as --chunking windows:30:3, where no codebook says which"
    )
    chunking_of("windows:30:3")


def test_many_short_utterances_are_halved_until_they_fit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    waveforms = [waveform(400 + 320 * at, at) for at in range(12)]
    layer = EncoderLayer(made_checkpoint(tiny()), 2)
    expected = layer(waveforms)
    monkeypatch.setattr(layer._runner, "_encoder", LittleMemory(layer._runner._encoder, 12))
    assert all(map(np.array_equal, layer(waveforms), expected))
    assert capsys.readouterr().err.count("is out of memory") >= 2


@pytest.mark.parametrize("changes", [{"heads": 8}, {"pre_norm": True}, {"norm_eps": 1e-3}, {"position_groups": 4}])
def test_the_same_weights_in_another_arithmetic_are_another_encoder(changes: dict[str, Any]) -> None:
    checkpoint = made_checkpoint(tiny())
    other = replace(checkpoint, config=replace(checkpoint.config, **changes))
    same = other.config == checkpoint.config
    assert other.digest == checkpoint.digest
    assert (layer_spec(other, 1) == layer_spec(checkpoint, 1)) == same


def test_chunks_shorter_than_a_frame_are_refused() -> None:
    wide = tiny(convolutions=(Convolution(32, 20, 5), *tiny().convolutions[1:]))
    assert wide.receptive_field > 400
    with pytest.raises(InputError, match=f"a frame takes {wide.receptive_field} samples"):
        EncoderLayer(made_checkpoint(wide), 1, chunking="fairseq:405")


@pytest.mark.parametrize(("family", "large_norms"), STYLES)
def test_bfloat16_is_near_float32_and_recorded(family: Family, large_norms: bool) -> None:
    checkpoint, waveforms = made_checkpoint(tiny(family, large_norms)), [waveform(length, 1) for length in (400, 9000, 20_000)]
    exact, rounded = EncoderLayer(checkpoint, 3), EncoderLayer(checkpoint, 3, precision="bfloat16")
    for one, other in zip(exact(waveforms), rounded(waveforms), strict=True):
        assert other.dtype == np.float32
        assert 1e-4 < np.linalg.norm(one - other) / np.linalg.norm(one) < 0.05
    assert rounded.spec == exact.spec
    assert rounded.spec.digest == exact.spec.digest
    assert rounded.spec.recorded == {"precision": "bfloat16", "device": "cpu", "waveform_eps": checkpoint.config.waveform_eps}
    assert exact.spec.recorded["precision"] == "float32"


def test_the_automatic_precision_is_what_the_device_is_fast_in(monkeypatch: pytest.MonkeyPatch) -> None:
    for speed, meant in ((8.0, "bfloat16"), (2.0, "bfloat16"), (1.0, "float32")):
        monkeypatch.setattr("vocable.execution.processor.bfloat16_speed", lambda speed=speed: speed)
        assert resolved_precision("auto", "cpu") == meant
        assert resolved_precision("auto", "cuda:1") == "bfloat16"
        assert resolved_precision("auto", "mps") == "float32"
        for said in ("float32", "bfloat16"):
            assert resolved_precision(said, "cpu") == said  # type: ignore[arg-type]
        assert EncoderLayer(made_checkpoint(tiny()), 1, precision="auto").spec.recorded["precision"] == meant
    with pytest.raises(InputError, match="--precision float16: give float32, bfloat16 or auto"):
        resolved_precision("float16", "cpu")  # type: ignore[arg-type]


@pytest.mark.parametrize(("scale", "offset"), [(0.1, 0.0), (1e-3, 0.3), (1e-6, 0.0)])
def test_normalised_waveforms_have_mean_0_and_variance_1(scale: float, offset: float) -> None:
    config, samples = tiny("hubert", large=True), waveform(20_000, 1, scale) + np.float32(offset)
    found = normalized_waveform(samples, config)
    wide = samples.astype(np.float64)
    mean = sum(wide.tolist()) / 20_000
    variance = sum((value - mean) ** 2 for value in wide.tolist()) / 20_000
    assert found.dtype == np.float32
    assert np.allclose(found, (wide - mean) / (variance + config.waveform_eps) ** 0.5, atol=1e-5)
    assert normalized_waveform(samples, tiny()) is samples
    assert len(normalized_waveform(samples[:0], config)) == 0


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("windows", Windows(2000, 250)),
        ("windows:500:50", Windows(500, 50)),
        ("windows:1:0", Windows(1, 0)),
        ("fairseq", Chunks(1_600_000)),
        ("fairseq:400", Chunks(400)),
    ],
)
def test_chunking_is_what_its_text_says(text: str, meant: Windows | Chunks) -> None:
    assert chunking_of(text) == meant
    assert chunking_of(str(meant)) == meant


@pytest.mark.parametrize(
    "text",
    ["", "whole", "windows:", "windows:500", "windows:500:250", "windows:0:0", "windows:-5:1", "windows:5:1:1", "windows:5.0:1",
     "fairseq:", "fairseq:399", "fairseq:0", "fairseq:1e6", "fairseq:99999999999999", "Windows", "windows "],
)  # fmt: skip
def test_other_texts_are_no_chunking(text: str) -> None:
    with pytest.raises(InputError, match=r": give |; give "):
        chunking_of(text)


def test_a_layer_that_is_not_there_is_refused_before_anything_is_built() -> None:
    checkpoint = made_checkpoint(tiny())
    for layer, tap, said in (
        (0, "block", "layer 0 doesn't exist: the encoder has 3 layers; give one from 1 to 3"),
        (4, "ffn", "layer 4 doesn't exist: the encoder has 3 layers; give one from 1 to 3"),
        (None, "block", "which layer\\? The encoder has 3: give --layer 1 to 3"),
        (2, "final", "the tap 'final' is behind the last layer, 3"),
    ):
        with pytest.raises(InputError, match=said):
            layer_spec(checkpoint, layer, tap)  # type: ignore[arg-type]
    assert layer_spec(checkpoint, None, "final").layer == 3


def test_a_spec_makes_its_frames_again_and_no_others(tmp_path: Path) -> None:
    for number, seed in enumerate((1, 2)):
        write_encoder(made_checkpoint(tiny(), seed), tmp_path / str(number), "vocable")
    mine, other = (EncoderFile(str(tmp_path / str(number))) for number in (0, 1))
    for layer, tap, chunking in ((2, "block", "windows"), (1, "attention", "fairseq:800"), (None, "final", "windows:40:4")):
        spec = mine.spec(layer, tap, chunking)  # type: ignore[arg-type]
        assert FeatureSpec.from_json(spec.to_json()) == spec
        made = extractor_of(spec, "cpu", mine)
        assert made.spec == spec
        assert len(made([waveform(5000)])[0]) == spec.frame_count(5000)
        with pytest.raises(
            MismatchError, match=rf"^the frames of .*{tmp_path.name}/1 and what is wanted are not of the same frames: model"
        ):
            other.extractor(spec)
    with pytest.raises(MismatchError, match="give --encoder with its checkpoint"):
        extractor_of(mine.spec(1))
    assert mine.spec(1) != replace(mine, waveform_normalization="utterance").spec(1)


def test_a_checkpoint_is_opened_once_unless_its_files_change(tmp_path: Path) -> None:
    file = EncoderFile(str(tmp_path / "encoder"))
    write_encoder(made_checkpoint(tiny(), 1), tmp_path / "encoder", "vocable")
    first = file.checkpoint()
    assert file.checkpoint() is first
    write_encoder(made_checkpoint(tiny(), 2), tmp_path / "encoder", "vocable", overwrite=True)
    assert file.checkpoint().digest == made_checkpoint(tiny(), 2).digest != first.digest
