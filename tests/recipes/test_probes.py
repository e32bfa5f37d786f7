"""`vocable evaluate probes`: what is in frames is found, on utterances and chapters that probes weren't fitted to."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sklearn.cluster import KMeans

from models.made import made_checkpoint, tiny
from vocable.audio.manifest import Manifest
from vocable.audio.manifest_files import read_manifest
from vocable.checkpoints.encoders import write_encoder
from vocable.cli.evaluate_probes import ProbedFrames
from vocable.clustering.codebook import Codebook, read_codebook
from vocable.evaluation.probes import histogram, run_histogram
from vocable.execution.engine import Engine, Work
from vocable.features.encoder_layer import EncoderFile, EncoderLayer
from vocable.features.extractors import Mfcc
from vocable.features.pipeline import FramePipeline
from vocable.features.pitch import Pitch
from vocable.recipes.probe_draw import DrawBlocks, Drawn, draw
from vocable.recipes.probes import Probed

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


def written(folder: Path) -> Path:
    """An encoder."""
    write_encoder(made_checkpoint(tiny(), seed=1), folder / "encoder", "vocable")
    return folder / "encoder"


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
    file = EncoderFile(str(written(tmp_path)))
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
    given = ("evaluate", "probes", tmp_path / "encoder", rooms / "audio", "--alignments", rooms / "phones", *SPEAKERS, "--json")
    both, alone = (scores_of(cli(*given, "--layers", layers)) for layers in (f"1,{depth}", depth))
    assert set(both) == {"1", str(depth)}
    assert both[str(depth)] == alone[str(depth)]
    assert all(both["1"][name] != both[str(depth)][name] for name in ("phone", "speaker"))


def test_units_are_those_of_the_codebook_and_what_is_pooled_is_of_all_of_them(cli: Cli, rooms: Path, tmp_path: Path) -> None:
    cli("kmeans", rooms / "audio", "--out", tmp_path / "b.safetensors", "--clusters", 6, *SPEAKERS)
    cli("manifest", rooms / "audio" / "0", "--out", tmp_path / "m.tsv", "--workers", 1)
    book, manifest = read_codebook(tmp_path / "b.safetensors"), read_manifest(tmp_path / "m.tsv")
    assert book.spec is not None
    with Engine(Work()) as engine:
        drawn = draw(
            manifest, DrawBlocks(FramePipeline(book.spec), codebook=book, fraction=0.3, with_pitch=False), engine, "frames"
        )
    for item, path in zip(drawn.utterances, manifest.paths, strict=True):
        (units,) = book.label([soundfile.read(Path(manifest.root) / path, dtype="float32")[0]])
        assert 10 < len(item.places) < 60
        assert np.array_equal(item.frames, units[item.places])
        assert np.array_equal(item.whole[0], histogram(units, 6)[None])
        assert np.array_equal(item.whole[1], run_histogram(units, 6)[None])


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
    cli("manifest", tmp_path / "a", "--out", tmp_path / "m.tsv", "--workers", 1)
    manifest = read_manifest(tmp_path / "m.tsv").select([0, 1])
    with Engine(Work()) as engine:
        drawn = draw(manifest, DrawBlocks(FramePipeline(Mfcc().spec), fraction=0.5), engine, "frames")
    for item, path in zip(drawn.utterances, manifest.paths, strict=True):
        (heard,) = Pitch()([soundfile.read(Path(manifest.root) / path, dtype="float32")[0]])
        assert np.array_equal(item.pitch, heard[item.places, 0])
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
    said = cli("evaluate", "probes", "mfcc", rooms / "audio", "--workers", 1, fails=True)
    assert "nothing to ask: for phones give --alignments, for who speaks give --speakers" in said


def test_other_audio_is_normalised_by_what_the_probe_is_fitted_to(cli: Cli, rooms: Path, tmp_path: Path) -> None:
    """By its own mean and variance, audio that is loud throughout would be half loud, half quiet."""
    shutil.copytree(rooms / "phones", tmp_path / "phones")
    (tmp_path / "loud").mkdir()
    for path in (rooms / "audio" / "0").rglob("*.flac"):
        parts = soundfile.read(path, dtype="float32")[0].reshape(10, 1600)
        soundfile.write(tmp_path / "loud" / f"loud{path.name}", parts[np.abs(parts).max(axis=1) > 0.1].reshape(-1), 16000)
        (tmp_path / "phones" / f"loud{path.stem}.tsv").write_text("start\tend\tphone\n0\t1\tq\n")
    given = (
        "evaluate",
        "probes",
        "mfcc",
        rooms / "audio" / "0",
        "--valid",
        tmp_path / "loud",
        "--alignments",
        tmp_path / "phones",
    )
    for scope in ("none", "corpus"):
        assert scores_of(cli(*given, "--normalize", scope, "--workers", 1, "--json"))["frames"]["phone"]["accuracy"] > 0.9


def test_statistics_of_other_audio_are_taken_of_its_speakers_alone(
    cli: Cli, rooms: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipelines: list[FramePipeline] = []

    def noted(manifest: Manifest, job: DrawBlocks, engine: Engine, title: str) -> Drawn:
        pipelines.append(job.pipeline)
        return draw(manifest, job, engine, title)

    monkeypatch.setattr("vocable.recipes.probes.draw", noted)
    given = (
        "evaluate",
        "probes",
        "mfcc",
        rooms / "audio" / "0",
        "--valid",
        rooms / "audio" / "1",
        "--alignments",
        rooms / "phones",
    )
    cli(*given, "--normalize", "corpus", "--workers", 1)
    assert pipelines[0] is pipelines[1]
    cli(*given, "--normalize", "speaker", "--speakers", "*/{speaker}-*", "--workers", 1)
    assert [set(pipeline.normalization.speakers) for pipeline in pipelines[2:]] == [{"0"}, {"1"}]


def test_what_cannot_be_probed_is_refused_before_any_frame_is_made(
    cli: Cli, rooms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vocable.recipes.probes.draw", None)
    audio, folder = rooms / "audio", written(tmp_path)
    (tmp_path / "file").write_text("here")
    np.save(tmp_path / "c.npy", np.eye(39, dtype=np.float32))
    (tmp_path / "c.pkl").write_bytes(pickle.dumps(KMeans(2, n_init=1).fit(np.eye(39))))
    Codebook(np.eye(39)).write(tmp_path / "c.safetensors")
    cli("kmeans", audio / "0", "--out", tmp_path / "book.safetensors", "--clusters", 3, "--workers", 1)
    for arguments, sentence in (
        (["mfcc", audio, "--layers", 3], "--layers: no effect here, since frames are mfcc"),
        (["mfcc", audio, "--mel-bins", 40], "--mel-bins: no effect here"),
        (["logmel", audio, "--chunking", "windows"], "--chunking: no effect here"),
        (["mfcc", audio, "--precision", "auto", "--encoder", folder], "--encoder, --precision: no effect here"),
        (["mfcc", audio, "--normalize", "speaker"], "needs speakers"),
        (["mfcc", audio, "--held-out", 1], "--held-out 1"),
        (["mfcc", audio, "--bins", 1], "--bins 1: give 2 to"),
        (["mfcc", audio, "--tier", "x"], "go with --alignments"),
        (["mfcc", audio, "--alignments", tmp_path / "nowhere"], "nowhere doesn't exist"),
        (["mfcc", audio, "--valid", tmp_path / "nowhere"], "nowhere doesn't exist"),
        (["mfcc", audio, "--chapters", "{speaker}/{chapter}", *SPEAKERS], "doesn't match"),
        (["mfcc", audio, "--chapters", "*/*/*", *SPEAKERS], "should hold {chapter} once"),
        (["mfcc", audio, "--out", tmp_path / "file"], "file can't be a folder"),
        ([tmp_path / "nothing", audio], "nothing"),
        ([folder, audio, "--normalize", "none"], "--normalize: no effect here"),
        ([folder, audio, "--encoder", folder, "--mel-bins", 40], "--encoder, --mel-bins: no effect here"),
        ([folder, audio, "--sample-rate", 8000], "--sample-rate 8000: the encoder takes audio at 16000 Hz"),
        ([folder, audio, "--layers", 99], "99"),
        ([folder, audio, "--mean-std", tmp_path / "c.npy"], "--mean-std goes with"),
        ([tmp_path / "book.safetensors", audio, "--mel-bins", 40], "--mel-bins: no effect here, since a codebook says"),
        ([tmp_path / "book.safetensors", audio, "--chunking", "windows"], "--chunking: no effect here"),
        (
            [tmp_path / "book.safetensors", audio, "--precision", "float32"],
            "--precision: no effect here, since no --encoder is given",
        ),
        ([tmp_path / "book.safetensors", audio, "--encoder", folder], "leave out --encoder"),
        ([tmp_path / "book.safetensors", audio, "--sample-rate", 8000], "--sample-rate 8000: the codebook is for 16000 Hz"),
        *(([tmp_path / f"c.{end}", audio], "doesn't say which frames they are for") for end in ("npy", "pkl", "safetensors")),
    ):
        assert sentence in cli("evaluate", "probes", *arguments, fails=True), arguments


def test_an_encoder_is_run_as_it_is_asked_to(tmp_path: Path) -> None:
    frames = ProbedFrames(layers=(2,), chunking="windows:9:1", waveform_normalization="utterance", mean_std=tmp_path)
    probed = frames.probed("encoder", Work())
    assert probed == Probed(layers=(2,), chunking="windows:9:1", encoder=EncoderFile("encoder", "utterance", "float32", tmp_path))
    spec = EncoderFile(str(written(tmp_path))).spec(1)
    Codebook(np.eye(3, spec.dim), spec).write(tmp_path / "book")
    of_units = replace(frames, encoder="encoder").probed(str(tmp_path / "book"), Work())
    assert of_units.encoder == probed.encoder
    assert of_units.codebook is not None


def test_what_cannot_be_asked_does_not_end_the_rest(cli: Cli, rooms: Path, tmp_path: Path) -> None:
    names = ["0/0/0-0-0.flac", "1/0/1-0-0.flac"]
    (tmp_path / "m.tsv").write_text("\n".join([str(rooms / "audio"), *(f"{name}\t16000" for name in names)]) + "\n")
    given = ("evaluate", "probes", "mfcc", tmp_path / "m.tsv", "--alignments", rooms / "phones", *SPEAKERS)
    said = json.loads(cli(*given, "--out", tmp_path / "o", "--json"))
    assert set(said["scores"]["frames"]) == {"phone"}
    assert said["scores"]["frames"]["phone"]["utterances"] == 1
    assert said["speakers_scored_on"] == "nothing"
    assert any("speakers were not asked for: no two speakers have two utterances" in note for note in said["notes"])
    assert "speakers were not asked for" in cli(*given)


def test_rows_that_are_repeated_are_not_fitted_to_and_scored_on(cli: Cli, rooms: Path, tmp_path: Path) -> None:
    row = "0/0/0-0-0.flac\t16000"
    (tmp_path / "m.tsv").write_text("\n".join([str(rooms / "audio"), *[row] * 9]) + "\n")
    said = cli("evaluate", "probes", "mfcc", tmp_path / "m.tsv", "--alignments", rooms / "phones", "--workers", 1, fails=True)
    assert "phones were not asked for: a probe needs utterances to be fitted to and others" in said
