"""A spec is what a file says of frames: nothing that can't be frames passes for one."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest

from vocable.artefacts.feature_spec import FeatureSpec
from vocable.errors import InputError, MismatchError

SPEC = FeatureSpec(kind="mfcc", dim=39, hop=160, receptive_field=400)

WRONG = [
    *[
        (name, value)
        for name in ("dim", "hop", "receptive_field", "sample_rate")
        for value in (0, -160, 160.5, "39", None, True, [1])
    ],
    *[("context", value) for value in (-1, "a", None, 1.0, True)],
    *[("parameters", value) for value in (None, [], "a", 3)],
    *[("recorded", value) for value in (None, [], "a")],
    *[
        (name, value)
        for name in ("kind", "waveform_normalization", "chunking", "frame_normalization")
        for value in (None, 1, [], {})
    ],
    *[(name, value) for name in ("model", "tap") for value in (1, [], {})],
    *[("layer", value) for value in (0, -1, "9", 1.5, True)],
    ("sample_rate", 10**400),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_spec_with_a_part_of_the_wrong_kind_is_refused_by_key(name: str, value: object) -> None:
    message = f"a feature spec should give .+ for '{name}', but gives .+: make it again"
    with pytest.raises(InputError, match=message):
        FeatureSpec.from_json({**SPEC.to_json(), name: value})
    with pytest.raises(InputError, match=message):
        replace(SPEC, **{name: value})  # type: ignore[arg-type]


def test_numbers_that_json_cannot_hold_are_refused() -> None:
    with pytest.raises(InputError, match="'dim'"):
        replace(SPEC, dim=np.int64(39))


@pytest.mark.parametrize("value", [None, [], "a", 3, True])
def test_a_spec_that_is_no_object_is_refused(value: object) -> None:
    with pytest.raises(InputError, match="should give an object for 'features'"):
        FeatureSpec.from_json(value)


def test_neighbours_divide_the_values_of_a_frame() -> None:
    assert replace(SPEC, dim=39 * 3, context=1).base == SPEC
    for context in (2, 10**6):
        with pytest.raises(InputError, match=f"39 values can't have {context} neighbours on each side: give a multiple of"):
            replace(SPEC, context=context)


def test_an_incomplete_spec_says_what_it_lacks() -> None:
    with pytest.raises(InputError, match=r"is incomplete \(it lacks dim, hop\): make the file again"):
        FeatureSpec.from_json({"kind": "mfcc", "receptive_field": 400})


def test_a_spec_read_back_is_the_one_that_was_written() -> None:
    spec = replace(SPEC, model="d" * 64, layer=9, tap="residual", recorded={"device": "cpu"})
    assert FeatureSpec.from_json(spec.to_json()) == spec
    assert FeatureSpec.from_json(spec.to_json()).recorded == spec.recorded


def test_the_same_frames_made_otherwise_are_taken_with_a_warning() -> None:
    made = replace(SPEC, recorded={"precision": "float32", "device": "cpu", "waveform_eps": 1e-5})
    for other in (SPEC, made, replace(made, recorded={**made.recorded, "waveform_eps": 1e-7})):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            made.require_equal(other, "the codebook", "the frames")
            other.require_equal(made, "the codebook", "the frames")
    said = "precision float32 of the codebook is bfloat16 of the frames: a few frames"
    with pytest.warns(UserWarning, match=said):
        made.require_equal(replace(made, recorded={"precision": "bfloat16", "device": "cpu"}), "the codebook", "the frames")
    with pytest.raises(MismatchError):
        made.require_equal(replace(made, dim=13), "the codebook", "the frames")
