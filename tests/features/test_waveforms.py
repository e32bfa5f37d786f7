from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from helpers import speech_like
from vocable.errors import InputError
from vocable.features import LogMel, Mfcc
from vocable.features.extractors import FeatureExtractor

WAVEFORM = speech_like(0.5, 1)
MAKERS = [Mfcc, LogMel, lambda: Mfcc(device="cpu:0"), lambda: LogMel(device="cpu:0")]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(
    "given",
    [
        [WAVEFORM.astype(np.float64)],
        [WAVEFORM.astype(">f4")],
        [WAVEFORM.tolist()],
        [torch.from_numpy(WAVEFORM)],
        (np.repeat(WAVEFORM, 2)[::2],),
        {"u": WAVEFORM}.values(),
    ],
    ids=["float64", "big-endian", "a list of floats", "a tensor", "every second sample", "values of a dictionary"],
)
def test_the_same_samples_in_another_form_give_the_same_frames(make: Callable[[], FeatureExtractor], given: Any) -> None:
    expected = make()([WAVEFORM])[0]
    (found,) = make()(given)
    assert found.dtype == np.float32
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((800, 2), np.float32), r"not of an array of shape \(800, 2\): give \[waveform\]"),
        (np.zeros((2, 800), np.float32), r"not of an array of shape \(2, 800\)"),
        (torch.zeros(2, 800), r"not of an array of shape \(2, 800\)"),
        (WAVEFORM, r"not of an array of shape \(8000,\): give \[waveform\]"),
        (0.5, "not of 0.5"),
        ([0.1, 0.2, 0.3], r"waveform 1 is the single value 0.1: give a list of waveforms, \[waveform\]"),
        ("a.wav", "waveform 1 is the single value 'a'"),
        ([WAVEFORM, np.zeros((800, 2), np.float32)], r"waveform 2 has the shape \(800, 2\), but should be mono"),
        ([np.zeros(800, np.int16)], "waveform 1 has samples of type int16, .*: divide 16-bit integers by 32768"),
        ([[1, 2, 3]], "waveform 1 has samples of type int64"),
        ([np.zeros(800, np.complex64)], "samples of type complex64"),
        ([[[0.1], [0.2, 0.3]]], "waveform 1 can't be taken as an array"),
        ([torch.zeros(800, requires_grad=True)], "waveform 1 can't be taken as an array"),
    ],
)
def test_what_is_no_list_of_mono_waveforms_is_refused(make: Callable[[], FeatureExtractor], given: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()(given)
