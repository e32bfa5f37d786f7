"""HuBERT in several iterations from one command."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from helpers import artefacts_in
from recipes.test_training import TINY
from vocable.checkpoints.encoders import read_encoder
from vocable.units.label_files import read_units

Cli = Callable[..., str]

RECIPE = """
[audio]
train = "{corpus}/s0"
valid = "{corpus}/s1"
{alignments}

[labels]
clusters = 8

[scores]
clusters = [8, 5]

[[iterations]]
settings = "tiny.toml"

[[iterations]]
settings = "tiny.toml"
clusters = 6
training.steps = 6
model.dim = 16
"""


@pytest.fixture
def recipe(corpus: Path, tmp_path: Path) -> Path:
    phones = tmp_path / "phones"
    phones.mkdir()
    for file in corpus.rglob("*.flac"):
        drawn = np.random.default_rng(int(file.stem[-2:]))
        rows = [f"{at / 5:.1f}\t{(at + 1) / 5:.1f}\t{drawn.choice(['AA', 'B', 'S'])}" for at in range(2)]
        (phones / f"{file.stem}.tsv").write_text("\n".join(["start\tend\tphone", *rows]) + "\n")
    (tmp_path / "tiny.toml").write_text(TINY)
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE.format(corpus=corpus, alignments='alignments = "phones"'))
    return path


def test_two_iterations_from_one_command(cli: Cli, recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = cli("pretrain", recipe, "--out", out, "--threads", 1, "--workers", 1)
    assert f"{out / 'report.html'}: curves and scores" in said
    for number, clusters, dim in ((1, 8, 32), (2, 6, 16)):
        found = read_encoder(out / f"iteration-{number}" / "model")
        assert found.config.dim == dim
        assert tuple(found.heads["label_embeddings"].shape) == (clusters, 8)
        for name in ("train", "valid"):
            assert read_units(out / f"labels-{number}" / f"{name}.km").header.clusters == clusters
    second = read_units(out / "labels-2" / "train.km").header
    assert second.rate == 50
    assert second.features["model"] == read_encoder(out / "iteration-1" / "model").digest
    assert second.features["layer"] == json.loads((out / "layers-1.json").read_text())["best"]
    scores = json.loads((out / "scores.json").read_text())
    assert len(scores) == 5
    assert all(list(item["also"]) == ["5"] and 0 <= item["also"]["5"]["pnmi"] <= 1 for item in scores.values())
    assert "pnmi of 5 units" in (out / "report.html").read_text()
    assert all(0 <= item["pnmi"] <= 1 and 0 <= item["probe_accuracy"] <= 1 for item in scores.values())
    page = (out / "report.html").read_text()
    for words in ("iteration-1", "iteration-2", "Loss of masked frames", "<svg", "iteration 2: 8 units of each layer", *scores):
        assert words in page
    rows = ["MFCC<", "4 neighbours", "random weights, layer", "iteration 1, layer", "iteration 2, layer"]
    assert sorted(rows, key=page.index) == rows
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    before = artefacts_in(out)
    cli("pretrain", recipe, "--out", out, "--threads", 1, "--workers", 1)
    assert artefacts_in(out) == before
    assert cli("report", out, "--out", tmp_path / "again.html").strip() == str(tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text() == page


def test_without_phones_the_middle_layer_is_taken(cli: Cli, recipe: Path, tmp_path: Path, corpus: Path) -> None:
    recipe.write_text(RECIPE.format(corpus=corpus, alignments="").replace('valid = "', "min_seconds = 0.4\n#"))
    out = tmp_path / "out"
    cli("pretrain", recipe, "audio.valid_percent=0.3", "--out", out, "--threads", 1, "--workers", 1)
    assert read_units(out / "labels-2" / "train.km").header.features["layer"] == 1
    assert not (out / "scores.json").exists()
    assert cli("report", out / "iteration-2").strip() == str(out / "iteration-2" / "report.html")
    assert "Loss of masked frames" in (out / "iteration-2" / "report.html").read_text()
    assert "holds no training" in cli("report", out / "labels-1", fails=True)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("[[iterations]]", "[[iteration]]"), "recipe.toml has no [[iterations]]"),
        (("clusters = 6", "cluster = 6"), "iteration 2: there is no setting cluster"),
        (("training.steps = 6", "training.step = 6"), "there is no setting training.step; did you mean 'steps'?"),
        (("training.steps = 6", 'training.steps = "six"'), "training.steps should be a whole number, not 'six'"),
        (('settings = "tiny.toml"\nclusters', "clusters"), "iteration 2 lacks its settings"),
        (('settings = "tiny.toml"\nclusters', 'settings = "huge"\nclusters'), "huge is neither a file nor one of hubert-base-1"),
        (("[labels]", "[label]"), "there is no section [label]"),
        (("clusters = 8", "clusters = 8.5"), "[labels]: clusters should be a whole number, not 8.5"),
        (("clusters = 6", "layer = 1.5"), "layer is a whole number or"),
        (("clusters = 6", "layer = 9"), "iteration 2: layer 9 doesn't exist, the one before has 2"),
        (("clusters = 6", 'data.valid = "dev"'), "iteration 2: [data] follows from [audio] and [labels] here"),
        (('alignments = "', 'alignments = "nowhere'), "nowhere"),
        (("[labels]", "[labels"), "can't be read as TOML"),
        (("train = ", "train = 3 #"), "[audio]: train should be a path, not 3"),
    ],
)
def test_a_recipe_that_is_wrong_is_refused_before_anything_is_made(
    cli: Cli, recipe: Path, tmp_path: Path, change: tuple[str, str], said: str
) -> None:
    recipe.write_text(recipe.read_text().replace(*change))
    assert said in cli("pretrain", recipe, "--out", tmp_path / "out", fails=True)
    assert not (tmp_path / "out").exists()


def test_a_melhubert_takes_the_statistics_of_what_it_learns(cli: Cli, recipe: Path, corpus: Path, tmp_path: Path) -> None:
    """Two stages of a model that takes out its corpus's mean, which are made on the way."""
    changed = ['model.input="logmel"', 'model.mel_normalization="corpus"', "model.mel_padded=true", "model.mel_hides_input=true"]
    lines = "\n".join([*changed, 'loss.kind="linear"', "regularization.feature_gradient=1"])
    text = RECIPE.replace('settings = "tiny.toml"\n', f'settings = "tiny.toml"\n{lines}\n')
    recipe.write_text(text.format(corpus=corpus, alignments=""))
    out = tmp_path / "mel"
    cli("pretrain", recipe, "--out", out, "--threads", 1, "--workers", 1)
    for number in (1, 2):
        found = read_encoder(out / f"iteration-{number}" / "model")
        stored = np.load(out / f"labels-{number}" / "mean-std.npy", allow_pickle=False).astype(np.float32)
        assert (np.stack([found.tensors["mel_mean"].numpy(), found.tensors["mel_std"].numpy()]) == stored).all()
    assert read_units(out / "labels-2" / "train.km").header.rate == 50


def test_statistics_are_those_of_the_audio_as_it_is(cli: Cli, recipe: Path, corpus: Path, tmp_path: Path) -> None:
    shutil.copytree(corpus, tmp_path / "speech")
    text = RECIPE[: RECIPE.rindex("[[iterations]]")].replace(
        'settings = "tiny.toml"\n',
        'settings = "tiny.toml"\nmodel.input="logmel"\nmodel.mel_normalization="corpus"\nregularization.feature_gradient=1\n',
    )
    recipe.write_text(text.format(corpus=tmp_path / "speech", alignments=""))
    out, given = tmp_path / "mel", ("--threads", 1, "--workers", 1)
    cli("pretrain", recipe, "--out", out, *given)
    before = np.load(out / "labels-1" / "mean-std.npy", allow_pickle=False)
    for file in (tmp_path / "speech").rglob("*.flac"):
        samples, rate = soundfile.read(file)
        soundfile.write(file, samples / 4, rate)
    cli("pretrain", recipe, "--out", out, *given, "--overwrite")
    after = np.load(out / "labels-1" / "mean-std.npy", allow_pickle=False)
    assert np.allclose(before[0] - after[0], np.log(16), atol=0.1)
