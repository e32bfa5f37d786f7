"""`vocable evaluate probes`: what is in frames is found, on utterances and chapters that probes weren't fitted to."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from models.made import made_checkpoint, tiny
from vocable.audio.manifest_files import read_manifest
from vocable.checkpoints.encoders import write_encoder
from vocable.execution.engine import Engine, Work
from vocable.features.encoder_layer import EncoderFile, EncoderLayer
from vocable.features.pipeline import FramePipeline
from vocable.recipes.probe_draw import DrawBlocks, draw

Cli = Callable[..., str]
SPEAKERS = ("--speakers", "{speaker}/*/*", "--workers", 1)


def coloured(seconds: float, centre: float, seed: int) -> np.ndarray:
    """Noise around a frequency."""
    count = int(seconds * 16000)
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(count))
    frequencies = np.fft.rfftfreq(count, 1 / 16000)
    return np.fft.irfft(spectrum * np.exp(-((np.log2(np.maximum(frequencies, 1) / centre)) ** 2) / 0.1), count)


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four speakers whose voices are noises of their own, in three chapters each; phones p and q differ in loudness."""
    folder = tmp_path_factory.mktemp("rooms")
    (folder / "phones").mkdir()
    for speaker in range(4):
        for chapter in range(3):
            for number in range(3):
                name = f"{speaker}-{chapter}-{number}"
                seed = 100 * speaker + 10 * chapter + number
                loud = np.repeat(np.random.default_rng(seed).permutation([0.02, 0.4] * 5), 1600)
                wave = coloured(1.0, 400 * 2.0**speaker, seed)
                place = folder / "audio" / str(speaker) / str(chapter) / f"{name}.flac"
                place.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(place, (wave / np.abs(wave).max() * loud).astype(np.float32), 16000)
                rows = [f"{at / 10:.1f}\t{(at + 1) / 10:.1f}\t{'q' if loud[1600 * at] > 0.1 else 'p'}" for at in range(10)]
                (folder / "phones" / f"{name}.tsv").write_text("\n".join(["start\tend\tphone", *rows]) + "\n")
    return folder


def scores_of(said: str) -> dict[str, dict[str, dict[str, float]]]:
    return json.loads(said)["scores"]


def test_speakers_and_phones_that_are_there_are_found(cli: Cli, rooms: Path, tmp_path: Path) -> None:
    given = ("evaluate", "probes", "mfcc", rooms / "audio", "--alignments", rooms / "phones", *SPEAKERS)
    said = cli(*given, "--json", "--out", tmp_path / "o")
    own = scores_of(said)["frames"]
    assert own["speaker"]["accuracy"] > 0.97
    assert own["speaker, pooled"]["accuracy"] == 1
    assert own["phone"]["accuracy"] > 0.9
    assert own["speaker, pooled"]["utterances"] == 12  # one chapter of three, of each
    assert json.loads(said)["speakers_scored_on"] == "other chapters"
    assert json.loads((tmp_path / "o" / "probes.json").read_text()) == json.loads(said)
    assert (tmp_path / "o" / "probes.svg").read_text().startswith("<svg")
    assert "100.0 %" in cli(*given)
    assert scores_of(cli(*given[:-1], 2, "--json")) == scores_of(said)


def test_speakers_whose_names_are_shuffled_are_not_found(cli: Cli, rooms: Path, tmp_path: Path) -> None:
    names = sorted(path.stem for path in (rooms / "audio").rglob("*.flac"))
    drawn = np.random.default_rng(3).permutation([name[0] for name in names])
    (tmp_path / "utt2spk").write_text("".join(f"{name} {who}\n" for name, who in zip(names, drawn, strict=True)))
    given = ("evaluate", "probes", "mfcc", rooms / "audio", "--speakers", tmp_path / "utt2spk", "--workers", 1, "--json")
    own = scores_of(cli(*given, "--held-out", 0.5))["frames"]
    assert own["speaker"]["accuracy"] < 0.5
    assert own["speaker"]["low"] < 0.35


def test_units_are_probed_and_normalising_by_speaker_hides_who_speaks(cli: Cli, rooms: Path, tmp_path: Path) -> None:
    found = {}
    for scope in ("none", "speaker-mean"):
        book = tmp_path / f"{scope}.safetensors"
        cli("kmeans", rooms / "audio", "--out", book, "--clusters", 6, "--normalize", scope, *SPEAKERS)
        said = cli("evaluate", "probes", book, rooms / "audio", "--alignments", rooms / "phones", *SPEAKERS, "--json")
        found[scope] = scores_of(said)["units"]
        assert {"phone", "speaker", "speaker, histogram", "speaker, runs"} <= set(found[scope])
    assert found["none"]["speaker"]["accuracy"] > 0.8
    assert found["none"]["speaker, histogram"]["accuracy"] == 1
    assert found["speaker-mean"]["speaker"]["accuracy"] < found["none"]["speaker"]["accuracy"] - 0.2


def test_layers_are_those_of_the_encoder_in_one_pass(cli: Cli, rooms: Path, tmp_path: Path) -> None:
    write_encoder(made_checkpoint(tiny(), seed=1), tmp_path / "encoder", "vocable")
    file = EncoderFile(str(tmp_path / "encoder"))
    depth = file.checkpoint().config.layers
    layers = tuple(range(1, depth + 1))
    cli("manifest", rooms / "audio" / "0", "--out", tmp_path / "m.tsv", "--workers", 1)
    manifest = read_manifest(tmp_path / "m.tsv")
    job = DrawBlocks(FramePipeline(file.spec(depth), encoder=file), layers, with_pitch=False)
    with Engine(Work()) as engine:
        drawn = draw(manifest, job, engine, "frames")
    assert [item.row for item in drawn.utterances] == list(range(9))
    first = drawn.utterances[0]
    waveform = soundfile.read(Path(manifest.root) / manifest.paths[0], dtype="float32")[0]
    for at, layer in enumerate(layers):
        (expected,) = EncoderLayer(tmp_path / "encoder", layer=layer)([waveform])
        assert np.array_equal(first.frames[:, at], expected)
        assert np.allclose(first.whole[0][at], np.concatenate([expected.mean(axis=0), expected.std(axis=0)]), atol=1e-5)
    said = cli("evaluate", "probes", tmp_path / "encoder", rooms / "audio", *SPEAKERS, "--json", "--layers", f"1,{depth}")
    assert set(scores_of(said)) == {"1", str(depth)}


def test_pitch_is_asked_of_voiced_frames_alone(cli: Cli, tmp_path: Path) -> None:
    pytest.importorskip("swift_f0", reason="needs the extra pitch")
    for number in range(16):
        time = np.arange(16000) / 16000
        wave = sum(np.sin(2 * np.pi * (110 if number % 2 else 320) * part * time) / part for part in range(1, 12))
        wave = 0.1 * wave * (time < 0.6) + 0.001 * np.random.default_rng(number).standard_normal(16000)
        (tmp_path / "a").mkdir(exist_ok=True)
        soundfile.write(tmp_path / "a" / f"{number}.flac", wave, 16000)
    said = cli("evaluate", "probes", "mfcc", tmp_path / "a", "--bins", 2, "--workers", 1, "--json")
    own = scores_of(said)["frames"]
    assert set(own) == {"pitch"}
    assert own["pitch"]["accuracy"] > 0.95
    assert 50 < own["pitch"]["items"] / own["pitch"]["utterances"] < 65
    assert "give --alignments" in json.loads(said)["notes"][0]
    assert "give --speakers" in json.loads(said)["notes"][1]


def test_other_audio_takes_the_place_of_what_is_held_out(cli: Cli, rooms: Path) -> None:
    said = cli(
        "evaluate", "probes", "mfcc", rooms / "audio" / "0", "--valid", rooms / "audio" / "1", "--alignments", rooms / "phones",
        "--workers", 1, "--json",
    )  # fmt: skip
    assert scores_of(said)["frames"]["phone"]["utterances"] == 9
    assert "speaker" not in scores_of(said)["frames"]


def test_speakers_who_are_in_both_corpora_are_scored_in_the_other_one(cli: Cli, rooms: Path, tmp_path: Path) -> None:
    rows = [f"{path.relative_to(rooms / 'audio')}\t16000" for path in sorted((rooms / "audio").rglob("*.flac"))]
    fitted = [row for row in rows if not row.endswith("-2.flac\t16000") and not row.startswith("3/")]
    for name, own in (("train", fitted), ("valid", [row for row in rows if row not in fitted])):
        (tmp_path / f"{name}.tsv").write_text("\n".join([str(rooms / "audio"), *own]) + "\n")
    said = cli("evaluate", "probes", "mfcc", tmp_path / "train.tsv", "--valid", tmp_path / "valid.tsv", *SPEAKERS, "--json")
    assert json.loads(said)["speakers_scored_on"] == "the other audio"
    own = scores_of(said)["frames"]["speaker, pooled"]
    assert (own["classes"], own["utterances"], own["accuracy"]) == (3, 9, 1.0)  # speaker 3 is in one of them only


def test_without_the_extra_pitch_is_left_out(cli: Cli, rooms: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("probes", "probe_questions"):
        monkeypatch.setattr(f"vocable.recipes.{place}.is_installed", lambda: False)
    said = json.loads(cli("evaluate", "probes", "logmel", rooms / "audio", *SPEAKERS, "--json"))
    assert "pitch" not in said["scores"]["frames"]
    assert "pip install 'vocable[pitch]'" in said["notes"][1]


def test_what_cannot_be_probed_is_refused(cli: Cli, rooms: Path, tmp_path: Path) -> None:
    for arguments, sentence in (
        (["mfcc", rooms / "audio", "--layers", 3], "--layers doesn't go with mfcc"),
        (["mfcc", rooms / "audio", "--normalize", "speaker"], "needs speakers"),
        (["mfcc", rooms / "audio", "--held-out", 1], "--held-out 1"),
        (["mfcc", rooms / "audio", "--frames", 0], "--frames 0: give 1 or more"),
        (["mfcc", rooms / "audio", "--tier", "x"], "go with --alignments"),
        (["mfcc", rooms / "audio", "--workers", 1], "nothing to ask"),
        ([tmp_path / "nothing", rooms / "audio"], "nothing"),
    ):
        assert sentence in cli("evaluate", "probes", *arguments, fails=True)
