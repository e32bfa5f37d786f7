"""Labels of speakers and pitch for a manifest as it is: with rows that are too short, and lengths at another rate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from helpers import speech_like, write_audio
from recipes.test_disentangled import SMALL, line_of
from recipes.test_hydra_train import BASE
from vocable.audio.manifest_files import read_manifest, write_manifest
from vocable.recipes.disentangled_settings import read_disentangled_settings
from vocable.recipes.training_data import TrainingData
from vocable.recipes.voice_data import VoiceData
from vocable.training.records import read_records
from vocable.units.pitch_labels import read_pitch_labels
from vocable.units.speaker_labels import read_speaker_labels

Cli = Callable[..., str]
SPEAKERS = ("--speakers", "{speaker}-*")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six files of two speakers, of which one lasts 10 ms."""
    for at in range(6):
        seconds = 0.01 if at == 2 else 1.5 + at / 7
        write_audio(tmp_path / "audio" / f"s{at % 2}-{at}.wav", seconds, at)
    return tmp_path


@pytest.fixture
def manifest(folder: Path, cli: Cli) -> Path:
    cli("fairseq", "wav2vec_manifest", folder / "audio", "--ext", "wav", "--dest", folder, "--valid-percent", 0)
    return folder / "train.tsv"


def test_all_rows_of_a_manifest_are_named_whatever_they_are(manifest: Path, cli: Cli) -> None:
    (manifest.parent / "audio" / "s1-3.wav").unlink()
    out = manifest.parent / "l"
    said = cli("features", "speakers", manifest, "--out", out, *SPEAKERS)
    assert said == f"{out / 'train.spk'}: 6 utterances, 2 speakers\n"
    assert read_speaker_labels(out / "train.spk", read_manifest(manifest)).ids.tolist() == [0, 0, 0, 1, 1, 1]
    again = cli("features", "speakers", manifest, "--out", out, *SPEAKERS, "--workers", 3)
    assert f"{manifest} says all there is to know: --workers had nothing to do." in again
    assert "done already" in again
    refused = cli("features", "speakers", manifest, "--out", out, *SPEAKERS, "--min-seconds", 1, fails=True)
    assert f"--min-seconds: no effect here, since each row of {manifest} has its line" in refused


def test_what_is_left_out_of_a_folder_is_said(folder: Path, cli: Cli) -> None:
    given = ("features", "speakers", folder / "audio", "--out", folder / "l", *SPEAKERS, "--workers", 1)
    said = cli(*given)
    record = folder / "l" / "train.spk.skipped.jsonl"
    assert f"Left out, named in {record}:\n       1 short" in said
    assert "train.spk: 5 utterances" in said
    assert "s0-2.wav" in record.read_text()
    cli(*given, "--min-seconds", 0, "--overwrite")
    assert not record.exists()
    assert len((folder / "l" / "train.spk").read_text().split()) == 6


def test_lengths_that_a_manifest_does_not_give_are_looked_up_and_no_row_is_too_short(folder: Path, cli: Cli) -> None:
    rows = [f"{path.stem},{path},{path.name[:2]}" for path in sorted((folder / "audio").iterdir())]
    (folder / "m.csv").write_text("\n".join(["id,path,speaker", *rows, f"gone,{folder / 'gone.wav'},s0", ""]))
    said = cli("features", "speakers", folder / "m.csv", "--out", folder / "l", "--workers", 1)
    assert "1 vanished" in said
    assert (folder / "l" / "train.spk").read_text().split() == ["s0", "s0", "s0", "s1", "s1", "s1"]


def test_speakers_numbered_by_another_dictionary_are_other_labels(manifest: Path, cli: Cli) -> None:
    out = manifest.parent
    for name in ("o", "l"):
        cli("features", "speakers", manifest, "--out", out / name, *SPEAKERS)
    said = cli("features", "speakers", manifest, "--out", out / "l", *SPEAKERS, "--dict-of", out / "o", fails=True)
    assert "train.spk is there already (it was made with another dictionary of speakers): give another name" in said


def test_a_row_too_short_for_a_frame_has_an_empty_line_of_pitch(manifest: Path, cli: Cli, short_blocks: None) -> None:
    pytest.importorskip("swift_f0", reason="needs the extra pitch")
    out, given = manifest.parent, ("features", "f0", manifest, "--bins", 4, "--workers", 1)
    assert "train.f0: 6 utterances" in cli(*given, "--out", out / "one", "--strict")
    for rank in (1, 0):
        cli(*given, "--out", out / "two", "--nshard", 2, "--rank", rank)
    assert (out / "one" / "train.f0").read_bytes() == (out / "two" / "train.f0").read_bytes()
    labels = read_pitch_labels(out / "one" / "train.f0", read_manifest(manifest))
    assert (labels.lengths == 0).tolist() == [path.endswith("s0-2.wav") for path in read_manifest(manifest).paths]
    assert (out / "one" / "train.f0").read_text().split("\n").index("") == labels.lengths.tolist().index(0)
    cli("fairseq", "dump_mfcc_feature", out, "train", 1, 0, out / "feat", "--workers", 1)
    assert (out / "feat" / "train_0_1.len").read_bytes() == (out / "one" / "train_0_1.f0.len").read_bytes()
    assert "--max-seconds: no effect here" in cli(*given, "--out", out / "one", "--max-seconds", 9, fails=True)


def test_fairseqs_line_trains_on_a_manifest_with_a_row_that_is_too_short(manifest: Path, cli: Cli) -> None:
    pytest.importorskip("swift_f0", reason="needs the extra pitch")
    out = manifest.parent
    (out / "valid.tsv").write_bytes(manifest.read_bytes())
    for name, speakers, bins in (("train", (), ("--bins", 4)), ("valid", ("--dict-of", out), ("--edges-of", out))):
        cli("features", "speakers", out / f"{name}.tsv", "--out", out, "--name", name, *SPEAKERS, *speakers)
        cli("features", "f0", out / f"{name}.tsv", "--out", out, "--name", name, *bins, "--workers", 1)
        cli("fairseq", "dump_mfcc_feature", out, name, 1, 0, out, "--workers", 1)
        if name == "train":
            cli("fairseq", "learn_kmeans", out, name, 1, out / "km.bin", 6)
        cli("fairseq", "dump_km_label", out, name, out / "km.bin", 1, 0, out)
        cli("fairseq", "merge", out, name, 1)
    cli("fairseq", "dictionary", 6, out)
    (out / "pretrain.yaml").write_text(BASE)
    line = [item.replace("hydra.run.dir=exp", f"hydra.run.dir={out / 'exp'}") for item in line_of(out, out)]
    run = ("--config-dir", out, "--config-name", "pretrain", *line, *SMALL)
    cli("fairseq", "hydra_train", *run, "--device", "cpu", "--threads", 1)
    (*_, last) = read_records(out / "exp" / "metrics.jsonl")
    assert {"speaker_loss", "pitch_loss"} <= set(last)


def test_pitch_for_a_manifest_at_another_rate_is_that_of_16_khz_and_fits_its_training(cli: Cli, tmp_path: Path) -> None:
    pytest.importorskip("swift_f0", reason="needs the extra pitch")
    for at in range(5):
        write_audio(tmp_path / "audio" / f"s{at % 2}-{at}.wav", 1.5 + at / 7, at, 16000 if at % 2 else 8000)
    soundfile.write(tmp_path / "audio" / "s0-5.wav", speech_like(1.0, 5)[: 16000 - 1], 16000)
    out = tmp_path / "run"
    settings = ("--sample-rate", 8000, "--clusters", 6, "--valid-percent", 0, "--workers", 1)
    cli("prepare", tmp_path / "audio", "--out", out, *settings)
    given = ("features", "f0", out / "train.tsv", "--out", out, "--bins", 4, "--workers", 1)
    assert "as many as there are at 8000 Hz: give the --sample-rate that it counts in" in cli(*given, fails=True)
    assert "usable utterances" in cli(*given, "--sample-rate", 8000, "--dry-run")
    assert "train.f0: 6 utterances" in cli(*given, "--sample-rate", 8000)
    cli("features", "f0", tmp_path / "audio", "--out", tmp_path / "f0", "--bins", 4, "--workers", 1)
    assert (out / "train.f0").read_bytes() == (tmp_path / "f0" / "train.f0").read_bytes()
    cli("features", "speakers", out / "train.tsv", "--out", out, *SPEAKERS, "--sample-rate", 8000)
    options = [f"data.folder={out}", "data.valid=null", "model.sample_rate=8000"]
    training = read_disentangled_settings("small-waveform", options)
    found = VoiceData.read(training, TrainingData.read(training.data, training.model.config()))
    assert found.train.pitch is not None
    assert (found.speakers, len(found.train.pitch)) == (2, 6)


def test_a_file_of_another_length_than_a_manifest_at_another_rate_says_is_left_out(cli: Cli, tmp_path: Path) -> None:
    pytest.importorskip("swift_f0", reason="needs the extra pitch")
    for at in range(4):
        write_audio(tmp_path / "audio" / f"{at}.wav", 1.0, at, 8000)
    cli("manifest", tmp_path / "audio", "--out", tmp_path / "m.tsv", "--sample-rate", 8000, "--workers", 1)
    rows = read_manifest(tmp_path / "m.tsv", 8000)
    assert np.array_equal(rows.samples, [8000] * 4)
    rows.samples[1] = 8002
    write_manifest(tmp_path / "m.tsv", rows)
    given = ("features", "f0", tmp_path / "m.tsv", "--out", tmp_path / "o", "--bins", 2, "--sample-rate", 8000, "--workers", 1)
    assert "1 changed" in cli(*given)
    record = (tmp_path / "o" / "train_0_1.f0.skipped.jsonl").read_text()
    assert "16000 samples at 16000 Hz, but the manifest says 8002 at 8000 Hz" in record
