"""SD-HuBERT trained, and its authors' commands, argument for argument."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from sklearn.cluster import AgglomerativeClustering, KMeans
from torch.distributed.checkpoint import load

from helpers import run_vocable, write_audio
from models.made import made_encoder, tiny
from vocable.checkpoints.encoder_checkpoint import EncoderCheckpoint
from vocable.checkpoints.encoders import read_encoder, write_encoder
from vocable.checkpoints.tensor_names import DISTILLATION
from vocable.errors import InputError
from vocable.recipes.sdhubert_reference import read_reference_training
from vocable.recipes.sdhubert_settings import read_sdhubert_settings
from vocable.recipes.sdhubert_training import begun_objective
from vocable.recipes.stored_segments import StoredSegments
from vocable.syllables.compat import MincutWrapper, SDHuBERTSegmenter
from vocable.syllables.segmenter import Segmenter
from vocable.training.checkpoint_reading import Reader

Cli = Callable[..., str]
SMALL = (
    "distillation.prototypes=8", "distillation.hidden=12", "distillation.reinitialized=[3]", "batches.seconds=8",
    "batches.micro_seconds=4", "batches.longest=1.0", "batches.shortest=0.3", "training.steps=6", "training.log_every=1",
    "training.validate_every=3", "training.checkpoint_every=2", "training.loaders=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("backbone") / "hubert"
    write_encoder(EncoderCheckpoint.of(made_encoder(tiny())), path, "transformers")
    return path


@pytest.fixture(scope="module")
def librispeech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("LibriSpeech")
    for number in range(12):
        part = "train-clean-100" if number < 8 else "dev-clean" if number < 10 else "test-clean"
        write_audio(root / part / f"s{number % 2}" / "1" / f"s{number % 2}-1-{number:04d}.flac", 1.0 + number / 4, number)
    return root


def command(backbone: Path, librispeech: Path, out: Path, *options: str) -> tuple[object, ...]:
    data = f"data.train={librispeech / 'train-clean-100'}", f"data.valid={librispeech / 'dev-clean'}"
    return "train", "sdhubert", "sdhubert-base", "--init", backbone, "--out", out, *data, *SMALL, *options


def weights_in(folder: Path) -> dict[str, torch.Tensor]:
    found = read_encoder(folder / "model")
    return {name: found.tensors[name] for name in found.tensors} | {name: found.heads[name] for name in found.heads}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def trained(backbone: Path, librispeech: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from vocable.cli.main import run

    out = tmp_path_factory.mktemp("trained") / "run"
    assert run(list(map(str, command(backbone, librispeech, out)))) == 0
    return out


def test_a_training_learns_and_its_model_cuts(trained: Path, backbone: Path, librispeech: Path) -> None:
    records = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert {"spread_sentences", "spread_frames", "teacher_entropy", "teacher_tells"} <= set(records[0])
    assert [record["step"] for record in records if record["split"] == "valid"] == [3, 6]
    rates = [record["learning_rate"] for record in records if record["split"] == "train"]
    assert rates[0] == pytest.approx(1e-4)
    assert rates == sorted(rates, reverse=True)  # the cosine really falls
    found, before = read_encoder(trained / "model"), read_encoder(backbone)
    assert found.config.aggregator
    for name in before.tensors:
        moved = not torch.equal(found.tensors[name], before.tensors[name])
        assert moved != name.startswith(("convolutions.", "positions.")), name
    audio = next(librispeech.rglob("*.flac"))
    assert Segmenter(trained / "model", _layers())(audio).length > 0
    assert (trained / "report.html").is_file()


def _layers():  # type: ignore[no-untyped-def]
    from vocable.syllables.settings import SegmentSettings, Voicing

    return SegmentSettings(layer=2, voicing=Voicing(layer=3))


@pytest.mark.parametrize("stop", [3, 5])
def test_a_training_that_was_ended_goes_on_to_the_same_teacher_centre_and_student(
    backbone: Path, librispeech: Path, trained: Path, tmp_path: Path, stop: int, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vocable.syllables.distillation import SentenceDistillation

    out, steps = tmp_path / "run", 0
    begin = SentenceDistillation.begin_step

    def ended(self: SentenceDistillation) -> None:
        nonlocal steps
        steps += 1
        if steps == stop + 1:
            raise KeyboardInterrupt
        begin(self)

    monkeypatch.setattr(SentenceDistillation, "begin_step", ended)
    cli(*command(backbone, librispeech, out), fails=True)
    monkeypatch.setattr(SentenceDistillation, "begin_step", begin)
    assert f"going on from step {stop // 2 * 2}" in cli(*command(backbone, librispeech, out))
    assert same(weights_in(out), weights_in(trained))
    ended_so, undisturbed = (state_in(folder) for folder in (out, trained))
    assert any(name.startswith("model.teacher.") for name in undisturbed)
    assert {"model.center", "model.begun", "model.encoder.aggregator"} <= set(undisturbed)
    assert same(ended_so, undisturbed)


def state_in(run: Path) -> dict[str, torch.Tensor]:
    """Return all tensors of a run's last checkpoint: student, teacher, centre and optimizer."""
    folder = max((run / "checkpoints").iterdir())
    reader = Reader(folder)
    contents = reader.read_metadata().state_dict_metadata
    held = {
        name: torch.empty(item.size, dtype=item.properties.dtype)
        for name, item in contents.items()
        if hasattr(item, "properties")
    }
    load(held, storage_reader=Reader(folder), no_dist=True)
    return held


@pytest.mark.slow
def test_a_training_that_is_killed_goes_on_to_the_same_weights(
    backbone: Path, librispeech: Path, trained: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    arguments = [sys.executable, "-m", "vocable", *map(str, command(backbone, librispeech, out))]
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    while not (out / "checkpoints").is_dir() or not any((out / "checkpoints").iterdir()):
        time.sleep(0.05)
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = run_vocable(*command(backbone, librispeech, out))
    assert done.returncode == 0, done.stderr
    assert same(weights_in(out), weights_in(trained))


@pytest.mark.slow
def test_two_processes_keep_one_centre_and_learn_what_one_does(
    backbone: Path, librispeech: Path, trained: Path, tmp_path: Path
) -> None:
    done = run_vocable(*command(backbone, librispeech, tmp_path / "run"), "--processes", 2, "--threads", 1)
    assert done.returncode == 0, done.stderr
    one, two = weights_in(trained), weights_in(tmp_path / "run")
    for name in one:
        torch.testing.assert_close(two[name], one[name], atol=2e-5, rtol=1e-4, msg=name)


def test_a_dry_run_says_what_it_takes_and_does_nothing(backbone: Path, librispeech: Path, tmp_path: Path, cli: Cli) -> None:
    said = cli(*command(backbone, librispeech, tmp_path / "run", "--dry-run", "--threads", "1"))
    for words in ("are learnt, of which", "8 of 8 are long enough", "6 of", "GiB each", "with one process"):
        assert words in said, said
    assert not (tmp_path / "run").exists()


def test_quirks_of_the_authors_code_are_asked_for(backbone: Path, librispeech: Path, tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "run"
    cli(*command(backbone, librispeech, out, "reference_quirks=true"))
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert {record["learning_rate"] for record in records if record["split"] == "train"} == {1e-4}
    settings = json.loads((out / "settings.json").read_text())
    assert settings["distillation"]["center"] == "batch"
    assert settings["distillation"]["reduction"] == "sum"


def test_a_training_goes_on_from_an_sdhubert_with_its_head(backbone: Path, librispeech: Path, trained: Path) -> None:
    del backbone
    options = (
        *SMALL,
        f"data.train={librispeech}",
        "distillation.reinitialized=[]",
        f"backbone={json.dumps(str(trained / 'model'))}",
    )
    before = read_encoder(trained / "model")
    kept, _, _ = begun_objective(read_sdhubert_settings("sdhubert-base", [item for item in options if "reinit" not in item]))
    assert torch.equal(kept.encoder.blocks[2].feed_forward.inner.weight, before.tensors["blocks.2.feed_forward.inner.weight"])
    objective, config, digest = begun_objective(read_sdhubert_settings("sdhubert-base", options))
    found = read_encoder(trained / "model")
    assert digest == found.digest
    assert config == found.config
    assert torch.equal(objective.distillation.prototypes.weight, found.heads[f"{DISTILLATION}.prototypes.weight"])
    random = begun_objective(
        read_sdhubert_settings(
            "sdhubert-base",
            (
                *SMALL,
                "backbone=null",
                "model.layers=3",
                "model.dim=64",
                "model.heads=4",
                "model.ffn_dim=64",
                "model.position_groups=4",
            ),
        )
    )
    assert random[2] == ""
    assert random[1].layers == 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("data.train=nowhere",), "nowhere doesn't exist"),
        (("distillation.reinitialized=[4]",), "the encoder has 3 blocks"),
        (("distillation.center=none",), "center is one of step, batch"),
        (("model.layers=3",), "leave out [model], or backbone"),
        (("training.parallel=fsdp",), "take ddp"),
        (("perturbation.stretch=0.9",), "add up to more than 1"),
        (("distilation.hidden=3",), "did you mean 'distillation'"),
        (("batches.shortest=60", "batches.longest=60"), "have to grow in this order"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(
    cli: Cli, backbone: Path, librispeech: Path, tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    assert said in cli(*command(backbone, librispeech, tmp_path / "run", *options), fails=True)
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def official(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SD-HuBERT of the authors' layout that is as deep as their commands want."""
    config = replace(tiny(), family="sdhubert", layers=12, aggregator=True, waveform_normalization="utterance", waveform_eps=1e-7)
    made, heads = EncoderCheckpoint.of(made_encoder(config)), read_encoder(trained / "model").heads
    every = EncoderCheckpoint(
        made.path, "vocable", config, made.tensors, type(made.heads).of({name: heads[name] for name in heads})
    )
    path = tmp_path_factory.mktemp("ckpts") / "sdhubert_base.pt"
    write_encoder(every, path, "sdhubert")
    return path


@pytest.fixture(scope="module")
def segments(official: Path, librispeech: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from vocable.cli.main import run

    save = tmp_path_factory.mktemp("saved")
    arguments = ["--ckpt_path", str(official), "--librispeech_dataroot", str(librispeech), "--save_dir", str(save)]
    assert run(["sdhubert", "extract_librispeech_segments", *arguments]) == 0
    return save / "sdhubert_base"


def test_segment(cli: Cli, official: Path, librispeech: Path, tmp_path: Path) -> None:
    source = next(librispeech.rglob("*.flac")).parent
    said = cli(
        "sdhubert", "segment", "--input_dir", source, "--output_dir", tmp_path / "out", "--batch_size", 4, "--device", "cpu",
        "--ckpt_path", official, "--normcut_threshold", 0.2, "--silence_threshold", 0.01, "--syllable_duration", 0.15,
        "--merge_threshold", 0.5,
    )  # fmt: skip
    assert "without effect here: --batch-size" in said
    names = sorted(path.stem for path in source.glob("*.flac"))
    for name in names:
        rows = [line.split(", ") for line in (tmp_path / "out" / f"{name}_segments.txt").read_text().splitlines()]
        assert all(len(row) == 2 and len(row[0].split(".")[1]) == 3 for row in rows)
        assert len(np.load(tmp_path / "out" / f"{name}_segmentfeature.npy")) == len(rows)
        assert np.load(tmp_path / "out" / f"{name}_feature.npy").shape[1] == 64
    assert "has no file that ends in" in cli(
        "sdhubert", "segment", "--input_dir", librispeech, "--output_dir", tmp_path / "none", "--ckpt_path", official, fails=True
    )


def test_train_and_export_model(cli: Cli, backbone: Path, librispeech: Path, tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "sdhubert_base.yaml").write_text(
        f"name: mine\nmodel:\n  speech_upstream: {backbone}\n  reinit_layers: [2]\n  final_dim: 16\n  lr: 1e-3\n"
        "data:\n  root_dir: ???\n  batch_size: 2\n  num_workers: 1\n  sample_len: 1.01\nmax_steps: 1000\ngpus: '0,1'\n"
        "limit_val_batches: 3\n"
    )
    said = cli(
        "sdhubert", "train", "--config-name=sdhubert_base", "--config-dir", tmp_path / "configs", f"data.root_dir={librispeech}",
        "max_steps=3", "--out", tmp_path / "outputs" / "mine", "--device", "cpu",
    )  # fmt: skip
    assert "without effect here: limit_val_batches" in said
    assert "exported" not in said
    cli("sdhubert", "export_model", f"--ckpt_path={tmp_path / 'outputs' / 'mine'}")
    theirs = tmp_path / "DATE" / "lightning_logs" / "version_0" / "checkpoints"
    theirs.mkdir(parents=True)
    exported = torch.load(tmp_path / "outputs" / "mine.pt", weights_only=True)
    torch.save({"state_dict": {f"net.{name}": part for name, part in exported["state_dict"].items()}}, theirs / "last.ckpt")
    cli("sdhubert", "export_model", f"--ckpt_path={tmp_path / 'DATE'}")
    assert read_encoder(tmp_path / "DATE.pt").digest == read_encoder(tmp_path / "outputs" / "mine.pt").digest
    content = torch.load(tmp_path / "outputs" / "mine.pt", weights_only=True)
    assert content["state_dict"]["final_lin.weight"].shape == (16, 2048)
    assert "speech_model.encoder.layers.2.attention.k_proj.weight" in content["state_dict"]
    ours, theirs = (read_encoder(tmp_path / "outputs" / name) for name in ("mine/model", "mine.pt"))
    assert ours.digest == theirs.digest
    assert "holds no model" in cli("sdhubert", "export_model", f"--ckpt_path={tmp_path}", fails=True)


def test_lightnings_checkpoints_are_read(official: Path, tmp_path: Path) -> None:
    content = torch.load(official, weights_only=True)
    state = {f"net.{name}": tensor for name, tensor in content["state_dict"].items()}
    torch.save({"state_dict": state, "epoch": 3, "hyper_parameters": {"lr": 1e-4}, "callbacks": {}}, tmp_path / "last.ckpt")
    assert read_encoder(tmp_path / "last.ckpt").digest == read_encoder(official).digest


def test_the_authors_settings_are_read(librispeech: Path, tmp_path: Path) -> None:
    found = read_reference_training(None, [f"data.root_dir={librispeech}"], quirks=False, on_gpu=True)
    assert found.processes == 2
    assert found.settings.training.steps == 200_000
    one = read_reference_training(
        None, [f"data.root_dir={librispeech}", "gpus=1", "model.loss_coefs={}"], quirks=False, on_gpu=True
    )
    assert one.processes == 1
    assert [note.split(" (")[0] for note in one.notes] == ["which gpus", "model.loss_coefs"]
    assert found.settings.batches.utterances == 100
    assert found.settings.distillation.reinitialized == (10, 11, 12)
    assert found.settings.training.schedule.final == 0.1
    assert found.settings.batches.seconds == pytest.approx(1002)
    for options, said in (
        ([], "data.root_dir isn't given"),
        ([f"data.root_dir={tmp_path}"], "holds none of train-clean-100"),
        ([f"data.root_dir={librispeech}", "gpus=some"], "give numbers, such as"),
        (["model.ema_deca=3", f"data.root_dir={librispeech}"], "no setting model.ema_deca; did you mean model.ema_decay"),
    ):
        with pytest.raises(InputError, match=said):
            read_reference_training(None, options, quirks=False, on_gpu=False)


def test_extract_librispeech_segments(segments: Path, librispeech: Path) -> None:
    found = StoredSegments(segments)
    assert found.ids == sorted(path.relative_to(librispeech).with_suffix("").as_posix() for path in librispeech.rglob("*.flac"))
    assert not any(path.suffix == ".pkl" for path in segments.rglob("*"))


def test_train_km_and_the_evaluations(
    cli: Cli, segments: Path, librispeech: Path, official: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stored = StoredSegments(segments)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "librispeech_train_10Ksubset.txt").write_text(
        "".join(f"{name}.flac\n" for name in stored.ids if name.startswith("train")) + "train-clean-100/s9/1/gone.flac\n"
    )
    said = cli("sdhubert", "train_km", "--segment_path", segments, "--n_clusters", 8, "--n_clusters_agglomerative", 3)
    assert "1 of 9 utterances" in said
    book = tmp_path / "km" / "sdhubert_base_8to3.safetensors"
    assert book.is_file()
    for split, part in (("test", "test-clean"), ("val", "dev-clean")):
        entries = {
            name: {
                "file_name": f"{name}.flac",
                "syllables": [{"start": f"{at / 5:.2f}", "end": f"{(at + 1) / 5:.2f}", "label": "K AE1"} for at in range(5)],
            }
            for name in stored.ids
            if name.startswith(part)
        }
        (tmp_path / "files" / f"librispeech_syllable_{split}.json").write_text(json.dumps(entries))
    cli("sdhubert", "evaluate_boundary", "--segment_path", segments)
    cli("sdhubert", "evaluate_purity", "--segment_path", segments, "--km_path", book, "--reducer_path", _reducer(tmp_path, book))
    results = json.loads((tmp_path / "results" / "sdhubert_base.json").read_text())
    assert set(results) == {"boundary_detection", "clustering_quality"}
    assert set(results["boundary_detection"]) >= {"match_gt", "prec", "recall", "f1", "os", "r_val"}
    assert results["clustering_quality"]["syllable_purity"] == 1.0
    features = np.concatenate([item.features for item in stored.described() if item.features is not None])
    model = KMeans(4, n_init=1, random_state=0).fit(features)
    joblib.dump(model, tmp_path / "km_4.pt")
    np.save(tmp_path / "km_4to2.npy", AgglomerativeClustering(2).fit_predict(model.cluster_centers_))
    cli(
        "sdhubert", "evaluate_purity", "--segment_path", segments, "--km_path", tmp_path / "km_4.pt", "--reducer_path",
        tmp_path / "km_4to2.npy", "--save_name", "theirs",
    )  # fmt: skip
    assert (tmp_path / "results" / "theirs.json").is_file()
    names = [f"{name}.flac" for name in stored.ids[:3]]
    triplet = {part: {"file_name": name, "segment": [0.1, 0.9], "text": part} for part, name in zip("XPN", names, strict=True)}
    (tmp_path / "files" / "ssabx.json").write_text(json.dumps({"0": triplet}))
    for how in ((), ("--layer", 12, "--mode", "agg"), ("--layer", "final", "--mode", "agg")):
        said = cli("sdhubert", "evaluate_ssabx", "--ckpt_path", official, "--librispeech_dataroot", librispeech, *how)
        assert "accuracy" in said


def _reducer(folder: Path, book: Path) -> Path:
    from vocable.clustering.codebook import read_codebook

    np.save(folder / "reducer.npy", read_codebook(book).groups)
    return folder / "reducer.npy"


def test_the_python_interface_of_the_authors_code(official: Path, librispeech: Path) -> None:
    segmenter = SDHuBERTSegmenter(
        str(official), layer=9, normcut_strategy="relative", normcut_threshold=0.1, silence_threshold=0.02
    )
    mincut = MincutWrapper(syl_dur=0.1, merge_threshold=0.4, ft_sr=50)
    files = [str(path) for path in sorted(librispeech.rglob("*.flac"))[:2]]
    one, both = mincut(segmenter(files[0])), mincut(segmenter(files))
    assert set(one) == {"segments", "features", "length", "segment_features"}
    np.testing.assert_array_equal(one["segments"], both[0]["segments"])
    np.testing.assert_array_equal(one["segments"], Segmenter(official, "current")(files[0]).segments)
    heard = segmenter(files[0])
    assert (heard["features"][~heard["mask"]] == 0).all()
    assert mincut(segmenter(files[0]), output_in_second=False)["segments"].dtype == np.int64
    empty = mincut({"segments": np.zeros(0), "features": np.zeros((5, 4), np.float32)})
    assert empty["segments"].shape == (0, 2)
    assert empty["segment_features"].shape == (0, 4)
