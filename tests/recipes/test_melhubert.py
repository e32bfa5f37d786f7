"""MelHuBERT from audio and from Kaldi archives to frames of a layer, with the authors' command lines."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from helpers import artefacts_in, run_vocable
from vocable.checkpoints.encoders import read_encoder
from vocable.errors import InputError, MismatchError
from vocable.features.extractors import LogMel
from vocable.recipes.feature_pairs import read_pairs
from vocable.recipes.melhubert_training import read_melhubert_training
from vocable.recipes.training_data import TrainingData
from vocable.training.records import read_records

Cli = Callable[..., str]
CSV = "libri-360-data-cluster-pair.csv"

MODEL = """melhubert:
  feat_emb_dim: {width}
  pos_emb_type: conv
  pos_conv_depth: 1
  conv_pos: 16
  conv_pos_groups: 4
  encoder_layers: 2
  encoder_embed_dim: 32
  encoder_ffn_embed_dim: 64
  encoder_attention_heads: 4
  activation_fn: gelu
  layer_norm_first: False
  attention_type: original
  num_cluster: 16
  pred_masked_weight: 1.0
  pred_nomask_weight: 0.0
  skip_masked: False
  skip_nomask: True
  mask_prob: 0.70
  mask_length: 5
  mask_selection: static
  mask_other: 0.0
  no_mask_overlap: False
  mask_min_space: 1
  learnable_mask_emb: False
  mask_before_proj: True
  dropout: 0.1
  attention_dropout: 0.1
  activation_dropout: 0.1
  encoder_layerdrop: 0.0
"""

RUNNER = """runner:
  n_epochs: 2
  total_steps: -1
  gradient_clipping: 10.0
  gradient_accumulate_steps: 2
  log_step: 2
  save_every_x_epochs: 1
optimizer:
  lr: 1.e-4
  betas: [0.9, 0.999]
  eps: 1.e-8
  weight_decay: 0
datarc:
  num_workers: 2
  train_batch_size: 4
  max_timestep: -60
  sequence_length: 750
  sets: ['/home/somebody/libri-360-data-cluster-pair.csv']
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("config")
    (folder / "config_model_20ms.yaml").write_text(MODEL.format(width=80))
    (folder / "config_model_10ms.yaml").write_text(MODEL.format(width=40))
    (folder / "config_runner.yaml").write_text(RUNNER)
    return folder / "config_model_20ms.yaml", folder / "config_runner.yaml"


@pytest.fixture(scope="module")
def trained(preprocessed: Path, files: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exp")
    model, runner = files
    options = ("-f", 20, "-g", model, "-c", runner, "-n", out, "--device", "cpu", "--threads", 1)
    made = run_vocable("melhubert", "train", *options, f"config_runner.datarc.sets=[{preprocessed / CSV}]")
    assert made.returncode == 0, made.stderr
    return out


def test_frames_are_normalised_log_mel_and_labels_theirs(mel_speech: Path, preprocessed: Path) -> None:
    pairs = read_pairs([preprocessed / CSV], 40)
    assert (len(pairs.features), pairs.rate) == (12, 100.0)
    mean_std = np.load(preprocessed / "mean-std.npy", allow_pickle=False)
    assert (mean_std.shape, mean_std.dtype) == ((2, 40), np.float64)
    every = []
    for path in pairs.features:
        made = LogMel.preset(40)([_waveform(mel_speech, path.stem)])[0]
        every.append(made)
        stored = np.load(path, allow_pickle=False)
        assert stored.dtype == np.float32
        assert (stored == (made - mean_std[0].astype(np.float32)) / mean_std[1].astype(np.float32)).all()
    joined = np.concatenate(every).astype(np.float64)
    assert np.allclose(mean_std, [joined.mean(axis=0), joined.std(axis=0)], atol=1e-6)
    rows = (preprocessed / "train.km").read_text().splitlines()
    manifest = [line.split("\t")[0] for line in (preprocessed / "train.tsv").read_text().splitlines()[1:]]
    for name, row in zip(manifest, rows, strict=True):
        stored = np.load(preprocessed / "cluster" / f"{Path(name).stem}.npy", allow_pickle=False)
        assert (stored.dtype, stored.tolist()) == (np.int64, [int(item) for item in row.split()])
    header, *lines = (preprocessed / CSV).read_text().splitlines()
    assert header == "file_path,label_path,length"
    features, labels, length = lines[0].split(",")
    assert Path(features).is_absolute()
    assert Path(labels).is_file()
    assert int(length) == len(np.load(features, allow_pickle=False))


def _waveform(mel_speech: Path, stem: str) -> NDArray[np.float32]:
    import soundfile

    return soundfile.read(next(mel_speech.rglob(f"{stem}.flac")), dtype="float32")[0]


@pytest.mark.parametrize("dtype", ["float16", "float64", "none"])
def test_frames_are_stored_as_asked(mel_speech: Path, tmp_path: Path, cli: Cli, dtype: str, preprocessed: Path) -> None:
    said = cli("melhubert", "preprocess", mel_speech, tmp_path / "out", "--clusters", 16, "--dtype", dtype, "--workers", 1)
    assert "12 utterances" in said
    assert (tmp_path / "out" / CSV).exists() == (dtype != "none")
    assert (tmp_path / "out" / "mean-std.npy").read_bytes() == (preprocessed / "mean-std.npy").read_bytes()
    assert (tmp_path / "out" / "train.km").read_bytes() == (preprocessed / "train.km").read_bytes()
    for path in (tmp_path / "out" / "feature").glob("*.npy"):
        stored, exact = (np.load(item, allow_pickle=False) for item in (path, preprocessed / "feature" / path.name))
        assert stored.dtype == dtype
        assert np.allclose(stored, exact, rtol=1e-3)


def test_preprocessing_again_does_nothing_and_other_settings_are_refused(mel_speech: Path, preprocessed: Path, cli: Cli) -> None:
    before = {path: path.stat().st_mtime_ns for path in preprocessed.rglob("*.npy")}
    assert "done already" in cli("melhubert", "preprocess", mel_speech, preprocessed, "--clusters", 16, "--workers", 1)
    assert {path: path.stat().st_mtime_ns for path in preprocessed.rglob("*.npy")} == before
    arguments = (
        "melhubert",
        "preprocess",
        mel_speech,
        preprocessed,
        "--clusters",
        16,
        "--normalize",
        "utterance",
        "--workers",
        1,
    )
    assert "--overwrite" in cli(*arguments, fails=True)


@pytest.mark.parametrize("scope", ["utterance", "speaker"])
def test_frames_are_normalised_by_utterance_or_speaker(mel_speech: Path, tmp_path: Path, cli: Cli, scope: str) -> None:
    out = tmp_path / "out"
    given = ("melhubert", "preprocess", mel_speech, out, "--clusters", 16, "--workers", 1, "--normalize", scope)
    if scope == "speaker":
        assert "give --speakers" in cli(*given, fails=True)
        given = (*given, "--speakers", "{speaker}/*", "--label-normalize", "speaker")
    cli(*given)
    made = {path.stem: np.load(path, allow_pickle=False) for path in (out / "feature").glob("*.npy")}
    groups = (
        [[name] for name in made] if scope == "utterance" else [[f"{at:03d}" for at in range(own, 12, 3)] for own in range(3)]
    )
    for group in groups:
        joined = np.concatenate([made[name] for name in group])
        assert np.abs(joined.mean(axis=0)).max() < 1e-3
        assert np.abs(joined.std(axis=0) - 1).max() < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("after", [0.9, 1.5, 2.2])
def test_killed_and_run_again_it_has_the_same_bytes(mel_speech: Path, preprocessed: Path, tmp_path: Path, after: float) -> None:
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "vocable",
        "melhubert",
        "preprocess",
        str(mel_speech),
        str(out),
        "--clusters",
        "16",
        "--workers",
        "1",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(after)
    process.kill()
    process.wait()
    made = run_vocable(*command[3:])
    assert made.returncode == 0, made.stderr
    found, whole = artefacts_in(out), artefacts_in(preprocessed)
    marks = {name for name in whole if name.endswith(".made-from")}
    assert set(found) == set(whole)
    assert all(found[name] == whole[name] for name in set(whole) - marks - {CSV})
    assert found[CSV].replace(str(out.resolve()).encode(), b"") == whole[CSV].replace(str(preprocessed.resolve()).encode(), b"")


def test_parts_of_the_work_come_together(mel_speech: Path, preprocessed: Path, tmp_path: Path, cli: Cli) -> None:
    arguments = ("melhubert", "preprocess", mel_speech, tmp_path / "out", "--clusters", 16, "--workers", 1, "--nshard", 2)
    said = [cli(*arguments, "--rank", rank) for _ in range(3) for rank in (0, 1)]
    assert "12 utterances" in said[-1]
    for path in (preprocessed / "feature").glob("*.npy"):
        assert (tmp_path / "out" / "feature" / path.name).read_bytes() == path.read_bytes()


def test_the_authors_files_say_what_is_trained(files: tuple[Path, Path], preprocessed: Path) -> None:
    model, runner = files
    option = f"config_runner.datarc.sets=[{preprocessed / CSV}]"
    found = read_melhubert_training(model, runner, 20, [option], 1337)
    settings = found.settings
    assert settings.batches.utterances == 4
    assert settings.batches.micro_batches == 2
    config = settings.model.config()
    assert config.frame_count(int(settings.batches.longest * 16_000)) == 750
    assert config.frame_count(int(np.ceil(settings.batches.shortest * 16_000))) == 31  # more than 60 of 10 ms
    assert settings.training.schedule.factor(0, 10) == settings.training.schedule.factor(9, 10) == 1.0
    assert settings.masks.reference
    assert settings.loss.kind == "linear"
    assert found.with_steps(TrainingData.read(settings.data, config)).training.steps >= 2
    other = read_melhubert_training(model.with_name("config_model_10ms.yaml"), runner, 10, [option], 1)
    assert other.settings.model.config().hop == 160
    with pytest.raises(InputError, match="every 20 ms: give the file"):
        read_melhubert_training(model, runner, 10, [option], 1)
    few = read_melhubert_training(model, runner, 20, [option, "config_model.melhubert.num_cluster=3"], 1).settings
    with pytest.raises(MismatchError, match="there is label"):
        TrainingData.read(few.data, config)
    with pytest.raises(InputError, match="isn't there"):
        TrainingData.read(read_melhubert_training(model, runner, 20, [], 1).settings.data, config)
    for wrong, said in (
        ("config_model.melhubert.attention_type=causal", "attention_type is 'causal'"),
        ("config_model.melhubert.mask_before_proj=false", "mask_before_proj"),
        ("config_model.melhubert.pos_conv_depth=3", "pos_conv_depth"),
        ("config_runner.datarc.max_timestep=320", "max_timestep 320"),
        ("config_runner.runner.n_epochs=0", "both 0 or less"),
        ("runner.n_epochs=3", "runner is neither"),
        ("config_model.melhubert.encoder_layer=3", "encoder_layers is meant"),
        ("config_model.melhubert.skip_masked=true", "skip_masked is True"),
        ("config_runner.datarc.sets=5", "give a list of CSVs"),
    ):
        with pytest.raises(InputError, match=said):
            read_melhubert_training(model, runner, 20, [option, wrong], 1)


def test_the_authors_line_trains_and_its_checkpoint_is_theirs(trained: Path, preprocessed: Path) -> None:
    assert {"config_runner.yaml", "config_model.yaml", "last-step.ckpt", "metrics.jsonl", "model"} <= {
        path.name for path in trained.iterdir()
    }
    content = torch.load(trained / "last-step.ckpt", weights_only=True)
    assert content["Upstream_Config"]["melhubert"]["feat_emb_dim"] == 80
    found = read_encoder(trained / "last-step.ckpt", mean_std=trained / "last-step.ckpt.mean-std.npy")
    assert found.digest == read_encoder(trained / "model").digest
    assert (trained / "last-step.ckpt.mean-std.npy").exists()
    stored = np.load(preprocessed / "mean-std.npy", allow_pickle=False).astype(np.float32)
    assert (np.stack([found.tensors["mel_mean"].numpy(), found.tensors["mel_std"].numpy()]) == stored).all()


def test_frames_are_extracted_from_the_authors_checkpoint_and_ours(
    trained: Path, mel_speech: Path, tmp_path: Path, cli: Cli
) -> None:
    checkpoint, statistics = trained / "last-step.ckpt", trained / "last-step.ckpt.mean-std.npy"
    clip = min(mel_speech.rglob("*.flac"))
    one, other = tmp_path / "one", tmp_path / "other"
    said = cli("melhubert", "extract_feature", clip, one, "-c", checkpoint, "-f", 20, "--mean-std", statistics)
    cli("melhubert", "extract_feature", clip, other, "-c", trained / "model", "-f", 20)
    frames = np.load(one / f"{clip.stem}.npy", allow_pickle=False)
    assert f"{len(frames)} frames of 32 values" in said
    assert (frames == np.load(other / f"{clip.stem}.npy", allow_pickle=False)).all()
    samples = len(_waveform(mel_speech, clip.stem))
    assert len(frames) == -(-(1 + (samples - 400) // 160) // 2)
    assert "give --mean-std" in cli("melhubert", "extract_feature", clip, one, "-c", checkpoint, "-f", 20, fails=True)
    assert "no such device" in cli("melhubert", "extract_feature", clip, one, "-c", checkpoint, "-f", 20, "--device", "cuda:9",
                                   "--mean-std", statistics, fails=True)  # fmt: skip
    assert "layer 0" in cli(
        "melhubert", "extract_feature", clip, one, "-c", trained / "model", "-f", 20, "--layer", 0, fails=True
    )
    assert "give -f 20" in cli("melhubert", "extract_feature", clip, one, "-c", trained / "model", "-f", 10, fails=True)
    assert "give --layer" in cli("features", trained / "model", mel_speech, "--out", tmp_path / "f", "--name", "a", fails=True)


def test_without_audio_two_made_sentences_are_described(trained: Path) -> None:
    pytest.importorskip("espeakng_loader")
    made = run_vocable("melhubert", "extract_feature", "-c", trained / "model", "-f", 20)  # what is said depends on what was said
    assert made.returncode == 0, made.stderr
    assert made.stdout.count("frames of 32 values") == 2


def test_stage_two_learns_units_of_a_layer(trained: Path, mel_speech: Path, preprocessed: Path, tmp_path: Path, cli: Cli) -> None:
    """A layer of a MelHuBERT is one like any other: k-means, units, and the second stage's labels every 20 ms."""
    labels = tmp_path / "labels"
    cli(
        "prepare",
        mel_speech,
        "--out",
        labels,
        "--encoder",
        trained / "model",
        "--layer",
        1,
        "--clusters",
        8,
        "--valid-percent",
        0,
    )
    out = tmp_path / "data"
    cli("melhubert", "preprocess", mel_speech, out, "--labels", labels / "train.km", "--workers", 1)
    pairs = read_pairs([out / CSV], 40)
    assert pairs.rate == 50.0
    assert (out / "mean-std.npy").read_bytes() == (preprocessed / "mean-std.npy").read_bytes()
    options = [f"data.folder={labels}", f"data.mean_std={out / 'mean-std.npy'}", "data.valid=null", *TINY]
    cli("train", "melhubert", "melhubert-20ms-2", *options, "--out", tmp_path / "run", "--threads", 1)
    assert read_encoder(tmp_path / "run" / "model").config.mel is not None


TINY = [
    "model.layers=2", "model.dim=32", "model.ffn_dim=64", "model.heads=4", "model.position_width=16", "model.position_groups=4",
    "training.steps=4", "training.log_every=2", "training.validate_every=100", "training.checkpoint_every=2",
    "batches.seconds=16", "batches.micro_seconds=8", "batches.longest=2", "batches.shortest=0.6",
]  # fmt: skip


def losses(run: Path) -> list[dict[str, Any]]:
    return [item for item in read_records(run / "metrics.jsonl") if item["split"] == "train"]


@pytest.mark.parametrize("recipe", ["melhubert-20ms", "melhubert-10ms"])
def test_stored_frames_and_frames_made_of_audio_train_the_same(
    preprocessed: Path, mel_speech: Path, tmp_path: Path, cli: Cli, recipe: str
) -> None:
    half = tmp_path / "data16"
    cli("melhubert", "preprocess", mel_speech, half, "--clusters", 16, "--dtype", "float16", "--workers", 1)
    sources = {
        "stored": [f'data.sets=["{preprocessed / CSV}"]'],
        "audio": [f"data.folder={preprocessed}", "data.valid=null"],
        "half": [f'data.sets=["{half / CSV}"]'],
    }
    for name, given in sources.items():
        cli("train", "melhubert", recipe, *given, *TINY, "--out", tmp_path / name, "--threads", 1)
    stored, audio, half_run = (read_encoder(tmp_path / name / "model") for name in sources)
    assert stored.digest == audio.digest
    assert stored.digest != half_run.digest
    timeless = ("loss", "loss_masked", "accuracy_masked", "gradient_norm")
    assert [[row[name] for name in timeless] for row in losses(tmp_path / "stored")] == [
        [row[name] for name in timeless] for row in losses(tmp_path / "audio")
    ]
    for one, other in zip(losses(tmp_path / "stored"), losses(tmp_path / "half"), strict=True):
        assert abs(one["loss"] - other["loss"]) < 2e-3
    assert stored.config.hop == (320 if recipe == "melhubert-20ms" else 160)


def test_what_goes_with_a_corpus_is_asked_for(preprocessed: Path, tmp_path: Path, cli: Cli) -> None:
    run = ("train", "melhubert", "melhubert-20ms", *TINY, "--out", tmp_path / "run", "--threads", 1)
    said = cli(*run, f"data.folder={preprocessed}", "data.valid=null", f"data.mean_std={tmp_path / 'none.npy'}", fails=True)
    assert "none.npy isn't there" in said
    assert "give both, or none" in cli(
        *run, f"data.folder={preprocessed}", "data.valid=null", "model.mel_normalization=utterance",
        f"data.mean_std={preprocessed / 'mean-std.npy'}", fails=True,
    )  # fmt: skip
    assert "a model of waveforms" in cli("train", "melhubert", "hubert-base-1", "data.folder=x", "--out", tmp_path, fails=True)
    assert "lacks the setting data" in cli(*run, fails=True)
    header = json.loads((preprocessed / "preprocess.json").read_text())
    assert header["format"] == "vocable.melhubert/1"


@pytest.mark.slow
def test_killed_and_resumed_it_ends_with_the_same_weights(preprocessed: Path, tmp_path: Path) -> None:
    given = ("train", "melhubert", "melhubert-20ms", f'data.sets=["{preprocessed / CSV}"]', *TINY, "--threads", 1)
    longer = ("training.steps=12", "training.checkpoint_every=3")
    assert run_vocable(*given, *longer, "--out", tmp_path / "whole").returncode == 0
    command = [sys.executable, "-m", "vocable", *map(str, given), *longer, "--out", str(tmp_path / "cut")]
    for step in (3, 9):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not (tmp_path / "cut" / "checkpoints" / f"step-{step:08d}").exists() and process.poll() is None:
            time.sleep(0.002)
        process.kill()
        process.wait()
    made = run_vocable(*command[3:])
    assert made.returncode == 0, made.stderr
    assert read_encoder(tmp_path / "cut" / "model").digest == read_encoder(tmp_path / "whole" / "model").digest


def test_the_authors_line_begins_with_a_checkpoint(
    trained: Path, preprocessed: Path, files: tuple[Path, Path], tmp_path: Path, cli: Cli
) -> None:
    model, runner = files
    given = (
        "melhubert", "train", "-f", 20, "-g", model, "-c", runner, "-n", tmp_path / "exp", "--seed", 7, "--device", "cpu",
        "--threads", 1, f"config_runner.datarc.sets=[{preprocessed / CSV}]", "config_runner.runner.n_epochs=1",
    )  # fmt: skip
    assert "give a checkpoint" in cli(*given, "--init_optimizer_from_initial_weight", fails=True)
    begun = (*given, "-i", trained / "last-step.ckpt", "--init_optimizer_from_initial_weight")
    said = cli(*begun, "config_runner.optimizer.lr=1e-12")
    assert "without effect here: --init-optimizer-from-initial-weight" in said
    began, made = read_encoder(trained / "model"), read_encoder(tmp_path / "exp" / "model")
    assert all(torch.allclose(made.tensors[name], tensor, atol=1e-7) for name, tensor in began.tensors.items())
    assert torch.allclose(made.heads["final_projection.weight"], began.heads["final_projection.weight"], atol=1e-7)
    settings = json.loads((tmp_path / "exp" / "settings.json").read_text())
    assert settings["model"]["init"] == str(trained / "last-step.ckpt")
    assert settings["training"]["seed"] == 7
    assert f"{tmp_path / 'exp' / 'last-step.ckpt'}: the model" in cli(*begun, "config_runner.optimizer.lr=1e-12")
