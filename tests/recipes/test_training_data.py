"""Labels are looked over before any time is lost: what would go wrong silently is refused in one sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file

from recipes.test_training import TINY

Cli = Callable[..., str]


@pytest.fixture(scope="module")
def made(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from vocable.cli.main import run

    out = tmp_path_factory.mktemp("made") / "labels"
    assert run(["prepare", str(corpus), "--out", str(out), "--clusters", "60", "--valid-percent", "0.3", "--workers", "1"]) == 0
    return out


@pytest.fixture
def labels(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "labels")
    (tmp_path / "tiny.toml").write_text(TINY)
    return tmp_path / "labels"


def said(cli: Cli, labels: Path, *options: str, **more: object) -> str:
    """Return what is said of a training that is refused; nothing of it may stay."""
    out = labels.parent / "run"
    given = [item for name, value in more.items() for item in (f"--{name}", value)]
    text = cli(
        "train",
        "hubert",
        labels.parent / "tiny.toml",
        f"data.folder={labels}",
        *options,
        "--out",
        out,
        "--threads",
        1,
        *given,
        fails=True,
    )
    assert text.count("\n") == 1, text
    assert not (out / "checkpoints").exists()
    return text


def without_header(labels: Path, name: str) -> None:
    (labels / f"{name}.km.json").unlink()


def test_labels_of_another_manifest_are_refused(cli: Cli, labels: Path) -> None:
    lines = (labels / "train.tsv").read_text().splitlines(keepends=True)
    (labels / "train.tsv").write_text("".join([lines[0], *lines[2:], lines[1]]))
    assert "train.km was made for another manifest, with as many rows" in said(cli, labels)
    (labels / "train.tsv").write_text("".join(lines[:-1]))
    assert "one must have a line for each row of the other" in said(cli, labels)


def test_a_wrong_rate_is_refused(cli: Cli, labels: Path) -> None:
    assert "train.km has 100 labels a second, not 50" in said(cli, labels, "data.label_rate=50")
    for name in ("train", "valid"):
        without_header(labels, name)
    assert "doesn't say its rate: give data.label_rate" in said(cli, labels)
    assert "labels, but" in said(cli, labels, "data.label_rate=50")
    assert "labels at 75 a second last" in said(cli, labels, "data.label_rate=75")


def test_a_dictionary_of_another_size_is_refused(cli: Cli, labels: Path) -> None:
    (labels / "dict.km.txt").write_text("".join(f"{unit} 1\n" for unit in range(50)))
    assert "dict.km.txt has 50 units, where the labels need 0 to 59" in said(cli, labels)


def test_labels_of_another_codebook_on_valid_are_refused(cli: Cli, labels: Path) -> None:
    header = json.loads((labels / "valid.km.json").read_text())
    (labels / "valid.km.json").write_text(json.dumps({**header, "codebook": "0" * 64}))
    assert "valid.km was made with another codebook than train.km" in said(cli, labels)


def test_labels_that_are_all_one_are_refused(cli: Cli, labels: Path) -> None:
    for name in ("train", "valid"):
        without_header(labels, name)
        rows = [line.split() for line in (labels / f"{name}.km").read_text().splitlines()]
        (labels / f"{name}.km").write_text("".join(" ".join(["3"] * len(row)) + "\n" for row in rows))
    assert "train.km has one label for all frames" in said(cli, labels, "data.label_rate=100")
    drawn = np.random.default_rng(0)
    mostly = ["".join(" ".join(str(3 if drawn.random() < 0.9995 else 59) for _ in row) + "\n") for row in rows]
    (labels / "valid.km").write_text("".join(mostly))
    (labels / "train.km").write_text(
        "".join(
            " ".join(["3"] * (len(line.split()) - 1) + ["59"]) + "\n" for line in (labels / "train.km").read_text().splitlines()
        )
    )
    assert "are used as unevenly as" in said(cli, labels, "data.label_rate=100")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["data.train=nothing"], "nothing.tsv isn't there: make it with 'vocable prepare'"),
        (['data.labels=["ltr"]'], "train.ltr isn't there: make labels"),
        (["data.labels=[]"], "data.labels names no label set"),
        (["model.heads=3"], "both have to divide it"),
        (["training.precision=float8"], "training.precision is one of float32, bfloat16, float16"),
        (["model.init=nowhere"], "nowhere doesn't exist"),
        (["measure.alignments=nowhere"], "nowhere"),
        (["model.input=logmel"], "feature_gradient is of convolutions"),
        (["training.log_every=0"], "log_every 0: give 1 or more"),
    ],
)
def test_settings_that_cannot_be_are_refused(cli: Cli, labels: Path, options: list[str], words: str) -> None:
    assert words in said(cli, labels, *options)


def test_audio_that_is_too_short_is_refused(cli: Cli, labels: Path) -> None:
    soundfile.write(labels / "a.wav", np.full(8000, 0.01, dtype=np.float32), 16_000)
    (labels / "short.tsv").write_text(f"{labels}\na.wav\t8000\n")
    (labels / "short.km").write_text(" ".join(["1", "2"] * 24) + "\n")
    options = ("data.train=short", "data.label_rate=100", "batches.shortest=2")
    assert "no utterance is long enough to train on" in said(cli, labels, *options)


def test_a_gpu_that_is_not_there_is_told_at_once(cli: Cli, labels: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    assert "device cuda: 0 GPUs are here" in said(cli, labels, device="cuda")
    assert "no such kind of device" in said(cli, labels, device="abacus")


def test_a_folder_of_something_else_is_not_taken_for_a_run(cli: Cli, labels: Path) -> None:
    (labels.parent / "run").mkdir()
    (labels.parent / "run" / "letters").write_text("dear")
    assert "holds something that is no training" in said(cli, labels)


def effective(model: Path) -> dict[str, torch.Tensor]:
    """Return a model's weights, the positional convolution's written out."""
    weights = load_file(model / "model.safetensors")
    weights["positions"] = torch._weight_norm(weights.pop("positions.direction"), weights.pop("positions.gain"), 2)
    return weights


@pytest.mark.parametrize(("before", "after"), [("true", "true"), ("false", "true"), ("true", "false")])
def test_a_training_goes_on_from_an_encoder_of_its_shape_alone(cli: Cli, labels: Path, before: str, after: str) -> None:
    first, second = labels.parent / "first", labels.parent / "second"
    given = ("train", "hubert", labels.parent / "tiny.toml", f"data.folder={labels}", "training.steps=2", "--threads", 1)
    cli(*given, f"model.position_gains={before}", "--out", first)
    given = (*given, f"model.position_gains={after}")
    cli(*given, "--init", first / "model", "training.optimizer.learning_rate=1e-9", "--out", second)
    one, other = (effective(folder / "model") for folder in (first, second))
    assert all(float((one[name] - other[name]).abs().max()) < 1e-6 for name in one)
    assert "is an encoder of another shape" in said(cli, labels, f"model.init={first / 'model'}", "model.dim=16")
    assert "a training with other settings or data" in cli(*given, "--out", second, fails=True)
    cli(*given, "--out", second, "--overwrite")
