"""fairseq's line for training HuBERT, with the keys of its public files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from vocable.checkpoints.encoders import read_encoder
from vocable.errors import InputError
from vocable.recipes.fairseq_training import read_fairseq_training
from vocable.training.records import read_records

Cli = Callable[..., str]

BASE = """# @package _group_

common:
  fp16: true
  log_format: json
  log_interval: 200
  seed: 1337
  tensorboard_logdir: tblog

checkpoint:
  save_interval_updates: 25000
  keep_interval_updates: 1
  no_epoch_checkpoints: true

distributed_training:
  ddp_backend: no_c10d
  distributed_backend: 'nccl'
  distributed_world_size: 32
  distributed_port: 29671
  nprocs_per_node: 8
  find_unused_parameters: true

task:
  _name: hubert_pretraining
  data: ???
  label_dir: ???
  labels: ???
  label_rate: ${model.label_rate}
  sample_rate: 16000
  max_sample_size: 250000
  min_sample_size: 32000
  pad_audio: false
  random_crop: true
  normalize: false

dataset:
  num_workers: 6
  max_tokens: 1400000
  skip_invalid_size_inputs_valid_test: true
  validate_interval: 5
  validate_interval_updates: 10000

criterion:
  _name: hubert
  pred_masked_weight: 1.0
  pred_nomask_weight: 0.0
  loss_weights: [10,]

optimization:
  max_update: 400000
  lr: [0.0005]
  clip_norm: 10.0

optimizer:
  _name: adam
  adam_betas: (0.9,0.98)
  adam_eps: 1e-06
  weight_decay: 0.01

lr_scheduler:
  _name: polynomial_decay
  warmup_updates: 32000

model:
  _name: hubert
  label_rate: ???
  skip_masked: false
  skip_nomask: false
  mask_prob: 0.80
  extractor_mode: default
  conv_feature_layers: '[(512,10,5)] + [(512,3,2)] * 4 + [(512,2,2)] * 2'
  final_dim: 256
  encoder_layerdrop: 0.05
  dropout_input: 0.1
  dropout_features: 0.1
  dropout: 0.1
  attention_dropout: 0.1
  feature_grad_mult: 0.1
  untie_final_proj: true
  activation_dropout: 0.0

hydra:
  job:
    config:
      override_dirname:
        kv_sep: '-'
  run:
    dir: ???
"""

GIVEN = ["task.data=D", "task.label_dir=L", 'task.labels=["km"]', "model.label_rate=100"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "hubert_base_librispeech.yaml").write_text(BASE)
    return tmp_path


def test_the_public_file_is_the_papers_training(folder: Path) -> None:
    found = read_fairseq_training(folder, "hubert_base_librispeech", [*GIVEN, "hydra.run.dir=out"], half=True)
    made = found.settings
    assert found.out == Path("out")
    assert (made.data.folder, made.data.label_folder, made.data.labels, made.data.label_rate) == (
        Path("D"),
        Path("L"),
        ("km",),
        100,
    )
    assert (made.batches.micro_batches, made.batches.micro_seconds, made.batches.longest, made.batches.shortest) == (
        32,
        87.5,
        15.625,
        2,
    )
    assert (made.training.steps, made.training.precision, made.training.seed) == (400_000, "float16", 1337)
    assert (made.training.optimizer.learning_rate, made.training.optimizer.betas, made.training.optimizer.eps) == (
        5e-4,
        (0.9, 0.98),
        1e-6,
    )
    assert [made.training.schedule.factor(step, 400_000) for step in (0, 16_000, 32_000, 216_000, 400_000)] == [0, 0.5, 1, 0.5, 0]
    assert (made.loss.penalty, made.loss.projection, made.masks.probability) == (10, 256, 0.8)
    assert (made.regularization.layer_drop, made.regularization.feature_gradient) == (0.05, 0.1)
    assert made.training.trackers == ("tensorboard",)
    assert made.model.config().layers == 12
    assert "distributed_training.ddp_backend" in found.idle
    assert "model.dropout_features" in found.idle
    assert not {"task.labels", "common.fp16", "optimizer._name"} & set(found.idle)
    assert read_fairseq_training(folder, "hubert_base_librispeech", GIVEN, half=False).settings.training.precision == "float32"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (GIVEN[1:], "needs task.data: give it"),
        ([*GIVEN[:2], GIVEN[3]], "needs task.labels"),
        ([*GIVEN, "task.fine_tuning=true"], "task.fine_tuning is True, and here it can only be False"),
        ([*GIVEN, "model.mask_selection=uniform"], "model.mask_selection is 'uniform'"),
        ([*GIVEN, "model.conv_feature_layers=[(512,10,5)]"], "only the usual widths and strides"),
        ([*GIVEN, "optimizer.adam_betas=both"], "optimizer.adam_betas is 'both', which can't be read"),
        ([*GIVEN, "dataset.max_tokens=1000"], "have to grow in this order"),
        ([*GIVEN, "task.label_rate=50"], "task.label_rate is 50 and model.label_rate 100"),
        (
            [*GIVEN, "lr_scheduler.total_num_update=250000"],
            "the learning rate's schedule has 250000 updates and the training 400000",
        ),
        ([*GIVEN, "lr_scheduler._name=tri_stage", "+lr_scheduler.decay_steps=100"], "schedule has 100 updates"),
    ],
)
def test_what_there_is_nothing_here_for_is_refused(folder: Path, options: list[str], said: str) -> None:
    with pytest.raises(InputError) as caught:
        read_fairseq_training(folder, "hubert_base_librispeech", options, half=False)
    assert said in str(caught.value)


@pytest.mark.parametrize("false", ["false", "False"])
def test_options_are_read_as_hydra_reads_them(folder: Path, false: str) -> None:
    options = [
        "task.data=D", "task.labels=[km,phn]", "model.label_rate=100", f"+model.layer_norm_first={false}", f"task.normalize={false}",
        f"common.fp16={false}", f"task.pad_audio={false}", "optimization.lr=[1e-3]", "optimizer.adam_betas=(0.8,0.9)",
        "checkpoint.keep_interval_updates=-1", "checkpoint.save_interval_updates=0", "checkpoint.save_dir=kept",
    ]  # fmt: skip
    found = read_fairseq_training(folder, "hubert_base_librispeech", options, half=True)
    made = found.settings
    assert (made.model.pre_norm, made.model.waveform_normalization, made.training.precision) == (False, "none", "float32")
    assert made.data.labels == ("km", "phn")
    assert (made.training.optimizer.learning_rate, made.training.optimizer.betas) == (1e-3, (0.8, 0.9))
    assert min(made.training.keep, made.training.checkpoint_every) > made.training.steps
    assert found.out == Path("kept")


def test_keys_that_are_not_given_are_fairseqs_defaults(tmp_path: Path) -> None:
    kept = ("common", "task", "dataset", "criterion", "lr_scheduler")
    lines = "\n".join(part for part in BASE.split("\n\n") if part.startswith(kept) or part.startswith("# @package"))
    (tmp_path / "few.yaml").write_text(lines)
    options = [*GIVEN, "optimization.max_update=9", "task.min_sample_size=null"]
    made = read_fairseq_training(tmp_path, "few", options, half=False).settings
    assert (made.regularization.dropout, made.regularization.attention_dropout, made.regularization.layer_drop) == (0.1, 0.1, 0)
    assert (made.masks.probability, made.loss.projection, made.batches.shortest) == (0.65, 768, 0.025)
    optimizer = made.training.optimizer
    assert (optimizer.betas, optimizer.eps, optimizer.weight_decay, optimizer.clip_norm) == ((0.9, 0.999), 1e-8, 0, 0)


def test_the_line_of_fairseqs_readme_trains(
    cli: Cli, folder: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = tmp_path / "labels"
    cli("fairseq", "wav2vec_manifest", corpus, "--dest", labels, "--valid-percent", 0.2)
    for split in ("train", "valid"):
        cli("fairseq", "dump_mfcc_feature", labels, split, 1, 0, tmp_path / "feat")
    cli("fairseq", "learn_kmeans", tmp_path / "feat", "train", 1, tmp_path / "km.bin", 10)
    for split in ("train", "valid"):
        cli("fairseq", "dump_km_label", tmp_path / "feat", split, tmp_path / "km.bin", 1, 0, labels)
        cli("fairseq", "merge", labels, split, 1)
    cli("fairseq", "preprocess", "-s", "km", "--trainpref", labels / "train", "--destdir", labels, "--only-source")
    small = [
        "model.encoder_layers=1", "+model.encoder_embed_dim=32", "+model.encoder_ffn_embed_dim=32", "+model.encoder_attention_heads=2",
        "+model.conv_pos=8", "+model.conv_pos_groups=2", "model.conv_feature_layers=[(8,10,5)] + [(8,3,2)] * 4 + [(8,2,2)] * 2",
        "task.min_sample_size=8000", "task.max_sample_size=16000", "dataset.max_tokens=32000", "optimization.max_update=3",
        "common.log_interval=1", "distributed_training.distributed_world_size=2", "common.tensorboard_logdir=null",
    ]  # fmt: skip
    monkeypatch.chdir(tmp_path)
    said = cli(
        "fairseq", "hydra_train", "--config-dir", folder, "--config-name", "hubert_base_librispeech", f"task.data={labels}",
        f"task.label_dir={labels}", 'task.labels=["km"]', "model.label_rate=100", "hydra.run.dir=exp", *small,
        "--device", "cpu", "--threads", 1,
    )  # fmt: skip
    assert "without effect here: checkpoint.no_epoch_checkpoints, common.log_format" in said
    assert tuple(read_encoder(tmp_path / "exp" / "model").heads["label_embeddings"].shape) == (10, 256)
    assert [item["step"] for item in read_records(tmp_path / "exp" / "metrics.jsonl") if item["split"] == "train"] == [1, 2, 3]


def test_a_dictionary_in_another_order_is_taken_by_its_symbols(cli: Cli, folder: Path, corpus: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels"
    cli("prepare", corpus, "--out", labels, "--clusters", 6, "--workers", 1)
    words = ["3 90", "0 80", "5 10", "1 9", "2 8", "4 7", "madeupword0000 0", "madeupword0001 0"]
    (labels / "dict.km.txt").write_text("\n".join(words) + "\n")
    tiny = tmp_path / "tiny.toml"
    from recipes.test_training import TINY

    tiny.write_text(TINY)
    given = ("train", "hubert", tiny, f"data.folder={labels}", "training.steps=2", "--threads", 1)
    cli(*given, "--out", tmp_path / "run")
    assert tuple(read_encoder(tmp_path / "run" / "model").heads["label_embeddings"].shape) == (6, 8)
    (labels / "dict.km.txt").write_text("\n".join(words[:4]) + "\n")
    assert "where the labels need 0 to 5" in cli(*given, "--out", tmp_path / "other", fails=True)
