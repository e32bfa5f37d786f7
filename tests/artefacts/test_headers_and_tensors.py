from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vocable.artefacts.feature_spec import FeatureSpec
from vocable.artefacts.headers import canonical_json, digest_of, digest_of_array, read_header, write_header
from vocable.artefacts.run_log import RunLog
from vocable.artefacts.tensors import is_safetensors, read_tensors, read_tensors_header, write_tensors
from vocable.errors import InputError, MismatchError

SPEC = FeatureSpec(kind="mfcc", dim=39, hop=160, receptive_field=400)


def test_canonical_json_does_not_depend_on_the_order_of_keys() -> None:
    assert canonical_json({"b": 1, "a": [1.5, None]}) == canonical_json({"a": [1.5, None], "b": 1}) == '{"a":[1.5,null],"b":1}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(float("nan"))


def test_digests_tell_shape_type_and_values_apart() -> None:
    array = np.arange(6, dtype=np.float32)
    digests = {digest_of_array(item) for item in (array, array.reshape(2, 3), array.astype(np.float64), array + 1)}
    assert len(digests) == 4
    assert digest_of_array(np.asfortranarray(array.reshape(2, 3))) == digest_of_array(array.reshape(2, 3))
    assert digest_of_array(array.astype(">f4")) == digest_of_array(array)
    assert digest_of({"a": 1}) != digest_of({"a": 2})


def test_headers_round_trip_and_refuse_other_forms(tmp_path: Path) -> None:
    path = tmp_path / "h.json"
    write_header(path, {"format": "vocable.x/1", "käse": 1})
    assert read_header(path, "vocable.x/1")["käse"] == 1
    with pytest.raises(InputError, match=r"h\.json should say it is 'vocable\.y/1'"):
        read_header(path, "vocable.y/1")
    for content in ("{", "[1]", "\udcff"):
        path.write_bytes(content.encode("utf-8", "surrogateescape"))
        with pytest.raises(InputError, match=r"h\.json"):
            read_header(path)


def test_equal_tensors_have_equal_bytes(tmp_path: Path) -> None:
    arrays = {name: np.arange(5, dtype=np.float32) + at for at, name in enumerate("qwertz")}
    header = {"format": "vocable.x/1", **{name: at for at, name in enumerate("asdfgh")}}
    write_tensors(tmp_path / "a", arrays, header)
    write_tensors(tmp_path / "b", dict(reversed(arrays.items())), dict(reversed(header.items())))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    found, read = read_tensors(tmp_path / "a", "vocable.x/1")
    assert read == header
    assert all(np.array_equal(found[name], arrays[name]) for name in arrays)


def test_broken_and_foreign_safetensors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_tensors(path, {"x": np.zeros(100)}, {"format": "vocable.x/1"})
    assert is_safetensors(path)
    with pytest.raises(InputError, match=r"should say it is 'vocable\.y/1', but says \"vocable\.x/1\""):
        read_tensors(path, "vocable.y/1")
    path.write_bytes(path.read_bytes()[:-10])
    for reader in (lambda: read_tensors(path, "vocable.x/1"), lambda: read_tensors_header(path)):
        with pytest.raises(InputError, match="not a whole safetensors file"):
            reader()
    from safetensors.numpy import save_file

    save_file({"x": np.zeros(3)}, path)
    assert read_tensors_header(path) is None
    (tmp_path / "text").write_bytes(b"hello world, no tensors here")
    assert not is_safetensors(tmp_path / "text")


def test_specs_are_equal_by_identity_not_by_what_is_recorded() -> None:
    other = FeatureSpec.from_json({**SPEC.to_json(), "recorded": {"device": "cuda"}})
    assert other == SPEC
    assert other.digest == SPEC.digest
    assert SPEC.rate == 100
    assert SPEC.frame_time(0) == 0.0125


@pytest.mark.parametrize(("samples", "frames"), [(0, 0), (399, 0), (400, 1), (559, 1), (560, 2), (190800, 1191)])
def test_frame_counts(samples: int, frames: int) -> None:
    assert SPEC.frame_count(samples) == frames


def test_other_frames_are_refused_with_what_differs() -> None:
    other = FeatureSpec(kind="mfcc", dim=39, hop=320, receptive_field=400, context=1)
    with pytest.raises(MismatchError, match="the codebook and the frames .* hop 160 against 320; context 0 against 1"):
        SPEC.require_equal(other, "the codebook", "the frames")
    SPEC.require_equal(SPEC, "a", "b")


def test_incomplete_and_newer_specs_are_refused() -> None:
    with pytest.raises(InputError, match="unknown key 'colour'.*newer"):
        FeatureSpec.from_json({**SPEC.to_json(), "colour": 1})
    with pytest.raises(InputError, match="incomplete"):
        FeatureSpec.from_json({"kind": "mfcc"})


def test_the_run_log_tells_how_a_run_ended(tmp_path: Path) -> None:
    import json

    log = RunLog(tmp_path / "deep" / "run.jsonl")
    with log.recorded():
        pass
    with pytest.raises(KeyError), log.recorded():
        raise KeyError("x")
    events = [json.loads(line) for line in log.path.read_text().splitlines()]
    assert [event["event"] for event in events] == ["start", "end", "start", "failed"]
    assert events[0]["versions"]["numpy"] == np.__version__
