from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

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
    with pytest.raises(InputError, match="should be 'vocable.codebook/1'"):
        read_codebook(tmp_path / "c.safetensors")


def test_a_codebook_that_lacks_a_part_is_named(tmp_path: Path) -> None:
    from vocable.artefacts.tensors import read_tensors, write_tensors

    BOOK.write(tmp_path / "km.safetensors")
    tensors, header = read_tensors(tmp_path / "km.safetensors", "vocable.codebook/1")
    for part in ("centroids", "features", "normalization", "fit"):
        rest = {name: value for name, value in header.items() if name != part}
        write_tensors(tmp_path / "x.safetensors", {} if part == "centroids" else tensors, rest)
        with pytest.raises(InputError, match=f"lacks its {part}: it is no whole codebook"):
            read_codebook(tmp_path / "x.safetensors")


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
    waveform = np.zeros(8000, np.float32)
    waveform[4000] = np.nan
    with pytest.raises(InputError, match="NaN or infinity"):
        BOOK.label([waveform])


@pytest.mark.parametrize("centroids", [np.zeros(3), np.zeros((0, 3)), np.full((2, 3), np.nan), np.full((2, 3), 1e300)])
def test_impossible_centroids_are_refused(centroids: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"finite numbers of shape \(clusters, dim\)"):
        Codebook(centroids)
