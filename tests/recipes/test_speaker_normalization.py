"""A codebook of frames normalised by speaker carries their statistics, and labelling applies them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from vocable import Mfcc
from vocable.audio.manifest_files import read_manifest
from vocable.clustering.assignment import NearestCentroid
from vocable.clustering.codebook import Codebook, read_codebook
from vocable.errors import InputError, MismatchError
from vocable.features.normalization import Normalization, Statistics
from vocable.units.label_files import read_units

Cli = Callable[..., str]
SPEAKERS = ("--speakers", "*/{speaker}/*", "--workers", 1)


@pytest.fixture
def halves(corpus: Path, tmp_path: Path) -> Path:
    """Speakers s0 and s1 in a, of whom a/part has some only, and s2 in b."""
    for speaker, folder in (("s0", "a"), ("s1", "a"), ("s2", "b")):
        for file in (corpus / speaker).iterdir():
            place = tmp_path / folder / "x" / speaker / file.name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(file.read_bytes())
    for file in sorted((corpus / "s0").iterdir())[:3]:
        place = tmp_path / "part" / "x" / "s0" / file.name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(file.read_bytes())
    return tmp_path


def frames_of(file: Path) -> np.ndarray:
    return Mfcc()([soundfile.read(file, dtype="float32")[0]])[0]


def labels_in(folder: Path) -> dict[str, np.ndarray]:
    rows = read_manifest(folder / "units.tsv")
    return {Path(path).stem: units for path, units in zip(rows.paths, read_units(folder / "units.km"), strict=True)}


@pytest.mark.parametrize("scope", ["speaker", "speaker-mean"])
def test_known_speakers_are_labelled_by_all_they_said_and_others_by_their_utterance(cli: Cli, halves: Path, scope: str) -> None:
    cli("kmeans", halves / "a", "--out", halves / "k.safetensors", "--clusters", 9, "--normalize", scope, *SPEAKERS)
    codebook = read_codebook(halves / "k.safetensors")
    assert set(codebook.normalization.speakers) == {"s0", "s1"}
    for source in ("a", "b", "part"):
        cli("units", halves / source, "--codebook", halves / "k.safetensors", "--out", halves / f"u-{source}", *SPEAKERS)
    nearest = NearestCentroid(codebook.centroids)
    whole = [Statistics.of(frames_of(file)) for file in sorted((halves / "a" / "x" / "s0").iterdir())]
    mean, std = sum(whole[1:], whole[0]).moments
    for file in (halves / "a" / "x" / "s0").iterdir():
        frames = (frames_of(file) - mean) / (std if scope == "speaker" else np.float32(1))
        found = labels_in(halves / "u-a")[file.stem]
        assert np.mean(found == nearest(frames)) > 0.99  # blocks are added in another order
        assert np.array_equal(found, labels_in(halves / "u-part").get(file.stem, found))
    for file in (halves / "b" / "x" / "s2").iterdir():
        expected = nearest(Normalization("utterance" if scope == "speaker" else "utterance-mean")(frames_of(file)))
        assert np.array_equal(labels_in(halves / "u-b")[file.stem], expected)


def test_label_takes_speakers_by_name(cli: Cli, halves: Path) -> None:
    cli("kmeans", halves / "a", "--out", halves / "k.safetensors", "--clusters", 9, "--normalize", "speaker-mean", *SPEAKERS)
    cli("units", halves / "a", "--codebook", halves / "k.safetensors", "--out", halves / "u", *SPEAKERS)
    codebook = read_codebook(halves / "k.safetensors")
    file = min((halves / "a" / "x" / "s1").iterdir())
    waveform = soundfile.read(file, dtype="float32")[0]
    known, unknown = codebook.label([waveform, waveform], speakers=["s1", None])
    assert np.array_equal(known, labels_in(halves / "u")[file.stem])
    assert not np.array_equal(known, unknown)
    with pytest.raises(MismatchError, match="say who speaks with speakers="):
        codebook.label([waveform])


def test_codebooks_of_other_speakers_are_other_codebooks(tmp_path: Path) -> None:
    spec = Mfcc().spec
    centroids = np.zeros((2, 39), np.float32)
    from dataclasses import replace

    def made(value: float) -> Codebook:
        moments = (np.full(39, value, np.float32), np.ones(39, np.float32))
        return Codebook(
            centroids, replace(spec, frame_normalization="speaker"), Normalization("speaker", speakers={"é": moments})
        )

    made(1).write(tmp_path / "k.safetensors")
    again = read_codebook(tmp_path / "k.safetensors")
    assert again.digest == made(1).digest != made(2).digest
    assert np.array_equal(again.normalization.speakers["é"][0], np.ones(39))
    with pytest.raises(InputError, match="39 values of frames"):
        Codebook(
            centroids,
            replace(spec, frame_normalization="speaker"),
            Normalization("speaker", speakers={"a": (np.zeros(3, np.float32), np.ones(3, np.float32))}),
        )


def test_inspect_says_whose_mean_is_taken_out(cli: Cli, halves: Path) -> None:
    cli("kmeans", halves / "a", "--out", halves / "k.safetensors", "--clusters", 9, "--normalize", "speaker-mean", *SPEAKERS)
    said = cli("inspect", halves / "k.safetensors")
    assert "without the mean of each speaker" in said
    assert "speakers it knows" in said


def test_utterance_means_need_no_speakers(cli: Cli, halves: Path) -> None:
    options = ("--clusters", 9, "--normalize", "utterance-mean", "--workers", 1)
    cli("kmeans", halves / "a", "--out", halves / "k.safetensors", *options)
    cli("units", halves / "b", "--codebook", halves / "k.safetensors", "--out", halves / "u", "--workers", 1)
    nearest = NearestCentroid(read_codebook(halves / "k.safetensors").centroids)
    for name, units in labels_in(halves / "u").items():
        frames = frames_of(halves / "b" / "x" / "s2" / f"{name}.flac")
        assert np.array_equal(units, nearest(frames - frames.mean(axis=0, dtype=np.float64).astype(np.float32)))
