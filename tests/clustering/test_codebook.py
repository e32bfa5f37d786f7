from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from vocable.artefacts.tensors import read_tensors, write_tensors
from vocable.clustering import Codebook, read_codebook
from vocable.errors import InputError, MismatchError
from vocable.features import Mfcc
from vocable.features.normalization import Normalization
from vocable.features.pipeline import FramePipeline

RNG = np.random.default_rng(0)
CENTROIDS = RNG.standard_normal((10, 39)).astype(np.float32)
BOOK = Codebook(CENTROIDS, Mfcc().spec, fit={"seed": 3})


def test_a_codebook_round_trips_under_any_name(tmp_path: Path) -> None:
    for name in ("km.safetensors", "km.bin", "km.pkl"):
        BOOK.write(tmp_path / name)
        found = read_codebook(tmp_path / name)
        assert np.array_equal(found.centroids, CENTROIDS)
        assert (found.spec, found.fit, found.digest) == (BOOK.spec, {"seed": 3}, BOOK.digest)


def test_corpus_statistics_travel_with_it(tmp_path: Path) -> None:
    normalization = Normalization("corpus", (CENTROIDS[0], np.abs(CENTROIDS[1])))
    spec = FramePipeline(Mfcc().spec, normalization).spec
    Codebook(CENTROIDS, spec, normalization).write(tmp_path / "km")
    found = read_codebook(tmp_path / "km")
    assert found.normalization.name == normalization.name == spec.frame_normalization
    assert np.array_equal(found.normalization(CENTROIDS), normalization(CENTROIDS))


def test_frames_of_another_spec_are_refused_by_name() -> None:
    frames = RNG.standard_normal((20, 39)).astype(np.float32)
    assert np.array_equal(BOOK.assign(frames, Mfcc().spec), BOOK.assign(frames))
    with pytest.raises(MismatchError, match="hop 160 against 320"):
        BOOK.assign(frames, replace(Mfcc().spec, hop=320))
    with pytest.raises(InputError, match="39 values don't go with frames of 40"):
        Codebook(CENTROIDS, replace(Mfcc().spec, dim=40))


def test_units_are_looked_up() -> None:
    units = np.array([3, 0, 9])
    assert np.array_equal(BOOK.lookup(units), CENTROIDS[units])
    assert BOOK.assign(BOOK.lookup(units)).tolist() == [3, 0, 9]
    assert len(BOOK.lookup(np.array([], dtype=int))) == 0
    for bad in ([10], [-1]):
        with pytest.raises(InputError, match="a codebook of 10"):
            BOOK.lookup(np.array(bad))


def test_the_digest_follows_centroids_and_frames_alone() -> None:
    assert replace(BOOK, fit={}).digest == BOOK.digest
    assert len({BOOK.digest, replace(BOOK, spec=None).digest, replace(BOOK, centroids=CENTROIDS + 1).digest}) == 3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_centroids_come_from_npy(tmp_path: Path, dtype: type) -> None:
    np.save(tmp_path / "c.npy", CENTROIDS.astype(dtype))
    found = read_codebook(tmp_path / "c.npy")
    assert np.array_equal(found.centroids, CENTROIDS)
    assert found.centroids.dtype == np.float32
    assert found.spec is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros(3, np.float32), "should hold centroids of shape"),
        (np.zeros((0, 3), np.float32), "should hold centroids of shape"),
        (np.zeros((2, 3), np.int64), "should hold centroids of shape"),
        (np.full((2, 3), np.inf, np.float32), "NaN or infinite"),
    ],
)
def test_arrays_that_are_no_centroids_are_refused(tmp_path: Path, value: np.ndarray, message: str) -> None:
    np.save(tmp_path / "c.npy", value)
    with pytest.raises(InputError, match=message):
        read_codebook(tmp_path / "c.npy")


def test_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="doesn't exist: give a codebook"):
        read_codebook(tmp_path / "no")
    np.save(tmp_path / "c.npy", CENTROIDS)
    (tmp_path / "c.npy").write_bytes((tmp_path / "c.npy").read_bytes()[:-100])
    with pytest.raises(InputError, match=r"c\.npy is not a whole \.npy file"):
        read_codebook(tmp_path / "c.npy")
    save_file({"x": CENTROIDS}, tmp_path / "c.safetensors")
    with pytest.raises(InputError, match=r"c\.safetensors should say it is 'vocable.codebook/1', but says nothing"):
        read_codebook(tmp_path / "c.safetensors")


def test_a_codebook_that_lacks_a_part_is_named(tmp_path: Path) -> None:
    BOOK.write(tmp_path / "km.safetensors")
    tensors, header = read_tensors(tmp_path / "km.safetensors", "vocable.codebook/1")
    for part in ("centroids", "features", "normalization", "fit"):
        rest = {name: value for name, value in header.items() if name != part}
        write_tensors(tmp_path / "x.safetensors", {} if part == "centroids" else tensors, rest)
        with pytest.raises(InputError, match=rf"x\.safetensors lacks its {part}: it is not whole; make it again"):
            read_codebook(tmp_path / "x.safetensors")


def meddled(path: Path, book: Codebook = BOOK, arrays: dict[str, Any] | None = None, **change: Any) -> Path:
    """Write a codebook whose header or arrays were meddled with; an array that is None is left out."""
    book.write(path)
    tensors, header = read_tensors(path, "vocable.codebook/1")
    kept = {name: array for name, array in {**tensors, **(arrays or {})}.items() if array is not None}
    write_tensors(path, kept, {**header, **change})
    return path


SPEC = Mfcc().spec.to_json()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        *[({"features": value}, "should give an object, or null, for 'features'") for value in ([], "mfcc", 3)],
        ({"features": {**SPEC, "parameters": None}}, "a feature spec should give an object for 'parameters', but gives null"),
        ({"features": {**SPEC, "context": "a"}}, "a feature spec should give a whole number from 0 to .* for 'context'"),
        *[({"features": {**SPEC, "sample_rate": value}}, "for 'sample_rate'") for value in (0, "16000")],
        *[({"features": {**SPEC, "hop": value}}, "for 'hop'") for value in (0, -160, 160.5)],
        ({"features": {**SPEC, "receptive_field": 0}}, "for 'receptive_field'"),
        ({"features": {**SPEC, "dim": "39"}}, "for 'dim', but gives .39"),
        ({"features": {**SPEC, "dim": 40}}, "centroids of 39 values don't go with frames of 40: give the spec"),
        ({"features": {**SPEC, "colour": 1}}, "unknown key 'colour'"),
        ({"features": {"kind": "mfcc"}}, "is incomplete"),
        ({"normalization": "foo"}, "frames can't be normalised per 'foo'"),
        ({"normalization": "utterance"}, "normalised by none, but utterance is given"),
        ({"normalization": "corpus"}, "takes the corpus's mean and standard deviation"),
        *[({"normalization": value}, "should give text for 'normalization'") for value in (None, [], 1, {})],
        *[({"fit": value}, "should give an object for 'fit'") for value in (None, [], "a", 1)],
        *[({"fit": {"frames": value}}, "the codebook's fit should give .* for 'frames'") for value in (0, "9", None, 1.5)],
        ({"fit": {"utterances": "9"}}, "the codebook's fit should give .* for 'utterances'"),
        ({"fit": {"inertia": None}}, "the codebook's fit should give a number for 'inertia', but gives null"),
        ({"fit": {"settings": []}}, "the codebook's fit should give an object for 'settings'"),
        ({"fit": {"settings": {"seed": "a"}}}, "the settings of the codebook's fit should give .* for 'seed'"),
        ({"fit": {"imported": 1}}, "the codebook's fit should give text for 'imported'"),
    ],
)
def test_a_header_with_a_wrong_part_is_refused_by_file_and_key(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=rf"km\.safetensors:? .*{message}"):
        read_codebook(meddled(tmp_path / "km.safetensors", **change))


@pytest.mark.parametrize("text", ["no json", "null", "[]", "[" * 100_000, "{}"], ids=["text", "null", "list", "deep", "empty"])
def test_a_codebook_whose_header_is_none_is_refused_by_name(tmp_path: Path, text: str) -> None:
    save_file({"centroids": CENTROIDS}, tmp_path / "km.safetensors", {"vocable": text})
    with pytest.raises(InputError, match=r"km\.safetensors .*: (make it again|it was made by another)"):
        read_codebook(tmp_path / "km.safetensors")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"std": None}, "lacks its std"),
        ({"mean": None}, "lacks its mean"),
        ({"mean": np.zeros(38, np.float32)}, "mean and std of frames that can't be"),
        ({"mean": np.full(39, np.nan, np.float32)}, "mean and std of frames that can't be"),
        ({"std": np.zeros(39, np.float32)}, "mean and std of frames that can't be"),
        ({"std": np.ones((39, 1), np.float32)}, "should hold one row of float32 or float64 as its std"),
        ({"std": np.ones(39, np.int32)}, "should hold one row of float32 or float64 as its std"),
        ({"mean": np.ones(39, np.float32)}, "normalised by corpus:.*, but corpus:.* is given"),
    ],
)
def test_statistics_of_a_corpus_that_cannot_be_are_refused_by_name(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    normalization = Normalization("corpus", (CENTROIDS[0], np.abs(CENTROIDS[1])))
    book = Codebook(CENTROIDS, FramePipeline(Mfcc().spec, normalization).spec, normalization)
    assert read_codebook(meddled(tmp_path / "km", book)).digest == book.digest
    with pytest.raises(InputError, match=rf"km:? .*{message}"):
        read_codebook(meddled(tmp_path / "km", book, arrays))


def test_statistics_are_those_of_frames_before_they_are_stacked() -> None:
    right, wrong = (Normalization("corpus", (np.zeros(dim, np.float32), np.ones(dim, np.float32))) for dim in (13, 39))
    spec = replace(Mfcc().spec, context=1)
    Codebook(CENTROIDS, replace(spec, frame_normalization=right.name), right)
    with pytest.raises(InputError, match="should have the 13 values of frames not yet stacked"):
        Codebook(CENTROIDS, replace(spec, frame_normalization=wrong.name), wrong)


def test_what_a_fit_says_beside_is_free(tmp_path: Path) -> None:
    fit = {"frames": 10, "inertia": 2, "colour": None, "settings": {"k": [1]}}
    Codebook(CENTROIDS, fit=fit).write(tmp_path / "km")
    assert read_codebook(tmp_path / "km").fit == fit


def test_waveforms_become_the_units_of_their_frames() -> None:
    waveforms = [RNG.standard_normal(count).astype(np.float32) * 0.1 for count in (8000, 400, 5000)]
    for found, frames in zip(BOOK.label(waveforms), Mfcc()(waveforms), strict=True):
        assert np.array_equal(found, BOOK.assign(frames))
    stacked = FramePipeline(Mfcc().spec, Normalization("utterance"), 1)
    book = Codebook(RNG.standard_normal((7, 117)).astype(np.float32), stacked.spec, stacked.normalization)
    for found, frames in zip(book.label(waveforms), stacked.frames_of(waveforms), strict=True):
        assert np.array_equal(found, book.assign(frames, stacked.spec))
    with pytest.raises(MismatchError, match="normalisation: utterance; neighbours on each side: 1"):
        book.assign(stacked.frames_of(waveforms)[0])
    speakers = FramePipeline(Mfcc().spec, Normalization("speaker"))
    with pytest.raises(MismatchError, match="per speaker: label a manifest"):
        Codebook(CENTROIDS, speakers.spec, speakers.normalization).label(waveforms)
    with pytest.raises(MismatchError, match="doesn't say what frames it is for"):
        Codebook(CENTROIDS).label(waveforms)


def test_frames_that_are_not_finite_have_no_units() -> None:
    frames = np.zeros((3, 39), np.float32)
    frames[1, 1] = np.nan
    with pytest.raises(InputError, match="NaN or infinity"):
        BOOK.assign(frames)
    for value in (1e39, -1e39, 1e300):  # finite as float64, which labels aren't made in
        wide = np.zeros((3, 39))
        wide[1, 1] = value
        with pytest.raises(InputError, match="infinite as float32: leave such frames out"):
            BOOK.assign(wide)
    assert BOOK.assign(np.full((1, 39), 3e38)).shape == (1,)
    waveform = np.zeros(8000, np.float32)
    waveform[4000] = np.nan
    with pytest.raises(InputError, match="NaN or infinity"):
        BOOK.label([waveform])


@pytest.mark.parametrize("centroids", [np.zeros(3), np.zeros((0, 3)), np.full((2, 3), np.nan), np.full((2, 3), 1e300)])
def test_impossible_centroids_are_refused(centroids: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"finite numbers of shape \(clusters, dim\)"):
        Codebook(centroids)
