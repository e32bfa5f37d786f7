"""MelHuBERT from audio and from Kaldi archives to frames of a layer, with the authors' command lines."""

from __future__ import annotations

import json
import struct
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

from helpers import artefacts_in, run_vocable, write_audio
from vocable.checkpoints.encoders import read_encoder
from vocable.errors import InputError, MismatchError
from vocable.features.extractors import LogMel
from vocable.features.kaldi_archives import Entry, read_matrix, read_table
from vocable.recipes.feature_pairs import read_pairs
from vocable.recipes.melhubert_training import read_melhubert_training
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
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve utterances of 0.5 to 3.2 seconds."""
    root = tmp_path_factory.mktemp("speech")
    for at in range(12):
        write_audio(root / f"s{at % 3}" / f"{at:03d}.flac", 0.5 + 0.2456 * at, at)
    return root


@pytest.fixture(scope="module")
def preprocessed(speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data")
    made = run_vocable("melhubert", "preprocess", speech, out, "--clusters", 16, "--workers", 1)
    assert made.returncode == 0, made.stderr
    return out


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


def test_frames_are_normalised_log_mel_and_labels_theirs(speech: Path, preprocessed: Path) -> None:
    pairs = read_pairs([preprocessed / CSV], 40)
    assert (len(pairs.features), pairs.rate) == (12, 100.0)
    mean_std = np.load(preprocessed / "mean-std.npy", allow_pickle=False)
    assert (mean_std.shape, mean_std.dtype) == ((2, 40), np.float64)
    every = []
    for path in pairs.features:
        made = LogMel.preset(40)([_waveform(speech, path.stem)])[0]
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


def _waveform(speech: Path, stem: str) -> NDArray[np.float32]:
    import soundfile

    return soundfile.read(next(speech.rglob(f"{stem}.flac")), dtype="float32")[0]


@pytest.mark.parametrize("dtype", ["float16", "float64", "none"])
def test_frames_are_stored_as_asked(speech: Path, tmp_path: Path, cli: Cli, dtype: str, preprocessed: Path) -> None:
    said = cli("melhubert", "preprocess", speech, tmp_path / "out", "--clusters", 16, "--dtype", dtype, "--workers", 1)
    assert "12 utterances" in said
    assert (tmp_path / "out" / CSV).exists() == (dtype != "none")
    assert (tmp_path / "out" / "mean-std.npy").read_bytes() == (preprocessed / "mean-std.npy").read_bytes()
    assert (tmp_path / "out" / "train.km").read_bytes() == (preprocessed / "train.km").read_bytes()
    for path in (tmp_path / "out" / "feature").glob("*.npy"):
        stored, exact = (np.load(item, allow_pickle=False) for item in (path, preprocessed / "feature" / path.name))
        assert stored.dtype == dtype
        assert np.allclose(stored, exact, rtol=1e-3)


def test_preprocessing_again_does_nothing_and_other_settings_are_refused(speech: Path, preprocessed: Path, cli: Cli) -> None:
    before = {path: path.stat().st_mtime_ns for path in preprocessed.rglob("*.npy")}
    assert "done already" in cli("melhubert", "preprocess", speech, preprocessed, "--clusters", 16, "--workers", 1)
    assert {path: path.stat().st_mtime_ns for path in preprocessed.rglob("*.npy")} == before
    arguments = ("melhubert", "preprocess", speech, preprocessed, "--clusters", 16, "--normalize", "utterance", "--workers", 1)
    assert "--overwrite" in cli(*arguments, fails=True)


@pytest.mark.parametrize("scope", ["utterance", "speaker"])
def test_frames_are_normalised_by_utterance_or_speaker(speech: Path, tmp_path: Path, cli: Cli, scope: str) -> None:
    out = tmp_path / "out"
    given = ("melhubert", "preprocess", speech, out, "--clusters", 16, "--workers", 1, "--normalize", scope)
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
def test_killed_and_run_again_it_has_the_same_bytes(speech: Path, preprocessed: Path, tmp_path: Path, after: float) -> None:
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "vocable",
        "melhubert",
        "preprocess",
        str(speech),
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


def test_parts_of_the_work_come_together(speech: Path, preprocessed: Path, tmp_path: Path, cli: Cli) -> None:
    arguments = ("melhubert", "preprocess", speech, tmp_path / "out", "--clusters", 16, "--workers", 1, "--nshard", 2)
    said = [cli(*arguments, "--rank", rank) for _ in range(3) for rank in (0, 1)]
    assert "12 utterances" in said[-1]
    for path in (preprocessed / "feature").glob("*.npy"):
        assert (tmp_path / "out" / "feature" / path.name).read_bytes() == path.read_bytes()


def _compressed(frames: NDArray[np.float32]) -> tuple[bytes, NDArray[np.float64]]:
    """Return a CM matrix of some frames, and what it stands for: percentiles of each column, and bytes between them."""
    least, span = float(frames.min()), float(frames.max() - frames.min())
    quantised = []
    for column in frames.T:
        points = np.percentile(column, [0, 25, 75, 100])
        codes = np.round((points - least) / span * 65535).astype(np.uint16)
        codes = np.maximum.accumulate(codes + np.arange(4, dtype=np.uint16))
        quantised.append(np.minimum(codes, 65535 - np.arange(4)[::-1]).astype(np.uint16))
    head = b"\0BCM " + struct.pack("<ffii", least, span, *frames.shape) + b"".join(item.tobytes() for item in quantised)
    body, stands = b"", np.empty(frames.shape)
    spread = np.float64(np.float32(span))
    for at, (column, codes) in enumerate(zip(frames.T, quantised, strict=True)):
        low, quarter, three, high = float(np.float32(least)) + spread * codes.astype(np.float64) / 65535
        levels = [low + (quarter - low) * code / 64 for code in range(65)]
        levels += [quarter + (three - quarter) * (code - 64) / 128 for code in range(65, 193)]
        levels += [three + (high - three) * (code - 192) / 63 for code in range(193, 256)]
        nearest = np.abs(column[:, None] - np.array(levels)).argmin(axis=1).astype(np.uint8)
        body += nearest.tobytes()
        stands[:, at] = np.array(levels)[nearest]
    return head + body, stands


def archives_of(folder: Path, kind: str) -> dict[str, tuple[NDArray[np.float64], list[int]]]:
    """Write the authors' archives of five utterances; return what they hold."""
    folder.mkdir()
    drawn = np.random.default_rng(5)
    held: dict[str, tuple[NDArray[np.float64], list[int]]] = {}
    ark, labels, features_scp, labels_scp = b"", b"", "", ""
    for number in range(5):
        key, frames = f"utt-{number}", drawn.normal(14, 4, (20 + 7 * number, 40)).astype(np.float32)
        units = drawn.integers(0, 16, len(frames)).tolist()
        sizes = b"\4" + struct.pack("<i", frames.shape[0]) + b"\4" + struct.pack("<i", frames.shape[1])
        matrix, stands = _compressed(frames)
        if kind != "CM":
            values = frames.astype("<f4" if kind == "FM" else "<f8")
            matrix, stands = b"\0B" + kind.encode() + b" " + sizes + values.tobytes(), frames.astype(np.float64)
        ark += f"{key} ".encode()
        features_scp += f"{key} /share/somewhere/feats.ark:{len(ark)}\n"
        ark += matrix
        labels += f"{key} ".encode()
        labels_scp += f"{key} /share/somewhere/train.bas:{len(labels)}\n"
        labels += (" ".join(map(str, units)) + "\n").encode()
        held[key] = (stands, units)
    (folder / "feats.ark").write_bytes(ark)
    (folder / "train.bas").write_bytes(labels)
    (folder / "train-clean-360.scp").write_text(features_scp)
    (folder / "train-clean-360-k16-e10.bas.scp").write_text(labels_scp)
    every = np.concatenate([frames for frames, _ in held.values()])
    lines = [str(every.sum(axis=0).tolist()), str((every**2).sum(axis=0).tolist()), str(len(every))]
    (folder / "train-clean-360.mean-var").write_text("\n".join(lines) + "\n")
    return held


@pytest.mark.parametrize("kind", ["FM", "DM", "CM"])
def test_kaldi_archives_become_pairs(tmp_path: Path, cli: Cli, kind: str) -> None:
    held = archives_of(tmp_path / "ark", kind)
    out = tmp_path / "out"
    said = cli("melhubert", "preprocess", tmp_path / "ark", out, "--dtype", "float64", "--clusters", 16, "--workers", 1)
    assert "5 utterances" in said
    every = np.concatenate([frames for frames, _ in held.values()])
    mean, std = every.mean(axis=0), every.std(axis=0)
    assert np.allclose(np.load(out / "mean-std.npy", allow_pickle=False), [mean, std], atol=1e-9)
    for key, (frames, units) in held.items():
        stored = np.load(out / "feature" / f"{key}.npy", allow_pickle=False)
        assert np.allclose(stored, (frames - mean) / std, atol=1e-6 if kind == "CM" else 1e-9)
        assert np.load(out / "cluster" / f"{key}.npy", allow_pickle=False).tolist() == units
    assert read_pairs([out / CSV], 40).lengths.tolist() == [20, 27, 34, 41, 48]
    assert "done already" in cli(
        "melhubert", "preprocess", tmp_path / "ark", out, "--dtype", "float64", "--clusters", 16, "--workers", 1
    )


@pytest.mark.parametrize("kind", ["FM", "CM"])
def test_archives_that_are_not_whole_are_refused(tmp_path: Path, cli: Cli, kind: str) -> None:
    archives_of(tmp_path / "ark", kind)
    table = read_table(tmp_path / "ark" / "train-clean-360.scp")
    whole = (tmp_path / "ark" / "feats.ark").read_bytes()
    for content, said in (
        (whole[:-5], "no whole matrix"),
        (whole[: table[-1].offset] + b"\0BXX " + whole[table[-1].offset + 5 :], "its kind is"),
        (whole[: table[-1].offset] + b"text" + whole[table[-1].offset + 4 :], "doesn't begin as a binary one"),
        (whole[: table[-1].offset + 5] + b"\xff" * 20 + whole[table[-1].offset + 25 :], "no whole matrix"),
    ):
        (tmp_path / "ark" / "feats.ark").write_bytes(content)
        with pytest.raises(InputError, match=said):
            read_matrix(table[-1])
        given = ("melhubert", "preprocess", tmp_path / "ark", tmp_path / "out", "--clusters", 16, "--workers", 1)
        assert "utt-4" in cli(*given, fails=True)
        assert not (tmp_path / "out" / CSV).exists()
    (tmp_path / "ark" / "train-clean-360.scp").write_text("no table\n")
    with pytest.raises(InputError, match="line 1"):
        read_table(tmp_path / "ark" / "train-clean-360.scp")
    with pytest.raises(InputError, match="beside their table"):
        read_matrix(Entry("a", tmp_path / "gone.ark", 0))


def test_labels_of_an_archive_have_to_be_its_frames(tmp_path: Path, cli: Cli) -> None:
    archives_of(tmp_path / "ark", "FM")
    labels = tmp_path / "ark" / "train.bas"
    labels.write_bytes(labels.read_bytes().replace(b"\n", b" 3 3 3\n", 1))
    table = (tmp_path / "ark" / "train-clean-360-k16-e10.bas.scp").read_text().splitlines()
    moved = [table[0], *(f"{line.rpartition(':')[0]}:{int(line.rpartition(':')[2]) + 6}" for line in table[1:])]
    (tmp_path / "ark" / "train-clean-360-k16-e10.bas.scp").write_text("\n".join(moved) + "\n")
    given = ("melhubert", "preprocess", tmp_path / "ark", tmp_path / "out", "--clusters", 16, "--workers", 1)
    assert "23 labels" in cli(*given, fails=True)
    (tmp_path / "ark" / "train-clean-360.mean-var").unlink()
    assert ".mean-var" in cli(*given, fails=True)


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
    assert found.with_steps().training.steps >= 2
    other = read_melhubert_training(model.with_name("config_model_10ms.yaml"), runner, 10, [option], 1)
    assert other.settings.model.config().hop == 160
    with pytest.raises(InputError, match="every 20 ms: give the file"):
        read_melhubert_training(model, runner, 10, [option], 1)
    with pytest.raises(InputError, match="isn't there"):
        read_melhubert_training(model, runner, 20, [], 1).with_steps()
    for wrong, said in (
        ("config_model.melhubert.attention_type=causal", "attention_type is 'causal'"),
        ("config_model.melhubert.mask_before_proj=false", "mask_before_proj"),
        ("config_model.melhubert.pos_conv_depth=3", "pos_conv_depth"),
        ("config_runner.datarc.max_timestep=320", "max_timestep 320"),
        ("config_runner.runner.n_epochs=0", "both 0 or less"),
        ("runner.n_epochs=3", "runner is neither"),
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


def test_frames_are_extracted_from_the_authors_checkpoint_and_ours(trained: Path, speech: Path, tmp_path: Path, cli: Cli) -> None:
    checkpoint, statistics = trained / "last-step.ckpt", trained / "last-step.ckpt.mean-std.npy"
    clip = min(speech.rglob("*.flac"))
    one, other = tmp_path / "one", tmp_path / "other"
    said = cli("melhubert", "extract_feature", clip, one, "-c", checkpoint, "-f", 20, "--mean-std", statistics)
    cli("melhubert", "extract_feature", clip, other, "-c", trained / "model", "-f", 20)
    frames = np.load(one / f"{clip.stem}.npy", allow_pickle=False)
    assert f"{len(frames)} frames of 32 values" in said
    assert (frames == np.load(other / f"{clip.stem}.npy", allow_pickle=False)).all()
    samples = len(_waveform(speech, clip.stem))
    assert len(frames) == -(-(1 + (samples - 400) // 160) // 2)
    assert "give --mean-std" in cli("melhubert", "extract_feature", clip, one, "-c", checkpoint, "-f", 20, fails=True)
    assert "give -f 20" in cli("melhubert", "extract_feature", clip, one, "-c", trained / "model", "-f", 10, fails=True)
    assert "give --layer" in cli("features", trained / "model", speech, "--out", tmp_path / "f", "--name", "a", fails=True)


def test_without_audio_two_made_sentences_are_described(trained: Path, cli: Cli) -> None:
    pytest.importorskip("espeakng_loader")
    said = cli("melhubert", "extract_feature", "-c", trained / "model", "-f", 20)
    assert said.count("frames of 32 values") == 2


def test_stage_two_learns_units_of_a_layer(trained: Path, speech: Path, preprocessed: Path, tmp_path: Path, cli: Cli) -> None:
    """A layer of a MelHuBERT is one like any other: k-means, units, and the second stage's labels every 20 ms."""
    labels = tmp_path / "labels"
    cli("prepare", speech, "--out", labels, "--encoder", trained / "model", "--layer", 1, "--clusters", 8, "--valid-percent", 0)
    out = tmp_path / "data"
    cli("melhubert", "preprocess", speech, out, "--labels", labels / "train.km", "--workers", 1)
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
    preprocessed: Path, speech: Path, tmp_path: Path, cli: Cli, recipe: str
) -> None:
    half = tmp_path / "data16"
    cli("melhubert", "preprocess", speech, half, "--clusters", 16, "--dtype", "float16", "--workers", 1)
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


def test_lengths_of_a_csv_are_known_for_what_they_are(preprocessed: Path, tmp_path: Path) -> None:
    header, *lines = (preprocessed / CSV).read_text().splitlines()
    halved = []
    for line in lines:
        features, labels, length = line.split(",")
        target = tmp_path / Path(labels).name
        np.save(target, np.load(labels, allow_pickle=False)[::2])
        halved.append(f"{features},{target},{-(-int(length) // 2)}")
    (tmp_path / "stage2.csv").write_text("\n".join([header, *halved]) + "\n")
    pairs = read_pairs([tmp_path / "stage2.csv"], 40)
    assert pairs.rate == 50.0
    assert pairs.lengths.tolist() == read_pairs([preprocessed / CSV], 40).lengths.tolist()
    assert "counts frames of 20 ms" in pairs.notes[0]
    with pytest.raises(MismatchError, match="at one rate"):
        read_pairs([preprocessed / CSV, tmp_path / "stage2.csv"], 40)


def test_a_broken_csv_is_refused_with_its_line(preprocessed: Path, tmp_path: Path) -> None:
    header, *lines = (preprocessed / CSV).read_text().splitlines()
    features, labels, _ = lines[0].split(",")
    np.save(tmp_path / "few.npy", np.arange(3))
    np.save(tmp_path / "wide.npy", np.zeros((10, 39), np.float32))
    (tmp_path / "cut.npy").write_bytes(Path(features).read_bytes()[:-7])
    for row, said in (
        ("a,b", "line 2"),
        (f"{features},{labels},long", "line 2"),
        (f"{tmp_path / 'gone.npy'},{labels},3", "gone.npy isn't there"),
        (f"{features},{tmp_path / 'few.npy'},3", "3 labels"),
        (f"{tmp_path / 'wide.npy'},{labels},10", "40 bins"),
        (f"{tmp_path / 'cut.npy'},{labels},10", "not a whole .npy"),
        (f"{features},{labels},1", "neither of its frames"),
    ):
        (tmp_path / "some.csv").write_text(f"{header}\n{row}\n")
        with pytest.raises((InputError, MismatchError), match=said):
            read_pairs([tmp_path / "some.csv"], 40)
    (tmp_path / "some.csv").write_text("path,length\n")
    with pytest.raises(InputError, match="not with file_path"):
        read_pairs([tmp_path / "some.csv"], 40)
    with pytest.raises(InputError, match="isn't there"):
        read_pairs([tmp_path / "none.csv"], 40)


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
    said = cli(*begun)
    assert "without effect here: --init-optimizer-from-initial-weight" in said
    first, *_ = losses(tmp_path / "exp")
    *_, last = losses(trained)
    assert first["loss"] == pytest.approx(last["loss"], abs=0.2)
    settings = json.loads((tmp_path / "exp" / "settings.json").read_text())
    assert settings["model"]["init"] == str(trained / "last-step.ckpt")
    assert settings["training"]["seed"] == 7
    assert f"{tmp_path / 'exp' / 'last-step.ckpt'}: the model" in cli(*begun)
