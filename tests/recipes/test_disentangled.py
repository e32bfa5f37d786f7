"""A disentangled HuBERT trained from the command line: plain HuBERT where nothing is reversed, resumed, shared, refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from recipes.test_hydra_train import BASE
from recipes.test_training import TINY, same
from recipes.voices import write_voices
from vocable.audio.manifest_files import read_manifest
from vocable.checkpoints.encoders import read_encoder
from vocable.cli.main import run
from vocable.errors import InputError
from vocable.pretraining.disentanglement_settings import DisentanglementSettings
from vocable.recipes.disentangled_settings import DISENTANGLED_RECIPES, DisentangledSettings, read_disentangled_settings
from vocable.recipes.fairseq_training import read_fairseq_training
from vocable.recipes.shipped import shipped_recipes
from vocable.training import trainer
from vocable.training.records import read_records

Cli = Callable[..., str]

OWN = """
[disentanglement]
tap = 1
reversal = 0.5
begin = 0.1

[disentanglement.speaker]
hidden = 16

[disentanglement.pitch]
hidden = 16
"""


@pytest.fixture(scope="module")
def labelled(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("labelled") / "run"
    assert run(["prepare", str(corpus), "--out", str(out), "--clusters", "12", "--valid-percent", "0.2", "--workers", "1"]) == 0
    (out.parent / "tiny.toml").write_text(TINY)
    (out.parent / "own.toml").write_text(TINY + OWN)
    write_voices(out, out)
    return out


def given(labelled: Path, out: Path, *options: str, kind: str = "disentangled") -> list[str]:
    settings = labelled.parent / ("own.toml" if kind == "disentangled" else "tiny.toml")
    return ["train", kind, str(settings), f"data.folder={labelled}", *options, "--out", str(out), "--threads", "1"]


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "model" / "model.safetensors")


def checkpoint(out: Path, step: int) -> dict[str, Any]:
    target = out / f"step-{step}.pt"
    dcp_to_torch_save(out / "checkpoints" / f"step-{step:08d}", target)
    found: dict[str, Any] = torch.load(target, weights_only=True)
    target.unlink()
    return found


def records(out: Path, split: str) -> list[dict[str, Any]]:
    return [item for item in read_records(out / "metrics.jsonl") if item["split"] == split]


@pytest.mark.parametrize(("decayed", "nothing"), [("all", "reversal=0"), ("matrices", "begin=1 disentanglement.end=1")])
def test_where_nothing_is_reversed_the_run_is_plain_huberts_bit_for_bit(
    labelled: Path, tmp_path: Path, cli: Cli, decayed: str, nothing: str
) -> None:
    options = ("training.optimizer.clip_norm=0.5", f"training.optimizer.decayed={decayed}")
    cli(*given(labelled, tmp_path / "plain", *options, kind="hubert"))
    more = (*options, *f"disentanglement.{nothing}".split(), "disentanglement.head_rate=3")
    cli(*given(labelled, tmp_path / "own", *more))
    for name in ("model", "best"):
        files = [(tmp_path / run / name / "model.safetensors").read_bytes() for run in ("plain", "own")]
        assert files[0] == files[1]
    assert {item["clipped"] for item in records(tmp_path / "own", "train")} == {1.0}
    for step in (8, 12):
        plain, own = (checkpoint(tmp_path / run, step) for run in ("plain", "own"))
        assert all(torch.equal(tensor, own["model"][f"hubert.{name}"]) for name, tensor in plain["model"].items())
        for name, moments in plain["optimizer"]["state"].items():
            others = own["optimizer"]["state"][f"hubert.{name}"]
            assert all(torch.equal(moments[kind], others[kind]) for kind in ("exp_avg", "exp_avg_sq", "step"))
        heads = {name for name in own["model"] if name.startswith("heads.")}
        assert heads == set(own["model"]) - {f"hubert.{name}" for name in plain["model"]} - {"steps"}
        assert own["model"]["steps"] == step
    plain, own = (records(tmp_path / run, "valid") for run in ("plain", "own"))
    assert all(item.items() <= other.items() for item, other in zip(plain, own, strict=True))


def test_a_training_leaves_an_encoder_as_any_other_and_says_how_heads_fare(labelled: Path, tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "run"
    said = cli(*given(labelled, out, "training.steps=6"))
    assert said.strip().endswith(f"{out / 'model'}: the model")
    found = read_encoder(out / "model")
    assert set(found.heads) == {"mask_embedding", "label_embeddings", "final_projection.weight", "final_projection.bias"}
    cli(*given(labelled, tmp_path / "plain", "training.steps=6", kind="hubert"))
    assert not same(weights(out), weights(tmp_path / "plain"))
    train, valid = records(out, "train"), records(out, "valid")
    strength = DisentanglementSettings(reversal=0.5, begin=0.1).strength
    assert [item["reversal"] for item in train] == pytest.approx(
        [sum(strength(step, 6) for step in steps) / 3 for steps in ((0, 1, 2), (3, 4, 5))], rel=1e-5
    )
    names = {"speaker_loss", "speaker_accuracy", "pitch_loss", "pitch_accuracy"}
    assert all(names <= set(item) for item in (*train, *valid))
    assert "What heads tell of speakers and pitch" in (out / "report.html").read_text()
    assert all(0 < item["speaker_loss"] < 3 and 0 < item["pitch_loss"] < 4 for item in train)


def test_a_plain_recipe_has_the_usual_disentanglement_and_a_dry_run_says_what_it_takes(
    labelled: Path, tmp_path: Path, cli: Cli
) -> None:
    options = (
        "model.layers=2",
        "model.dim=32",
        "model.ffn_dim=32",
        "model.heads=2",
        "model.position_width=8",
        "model.position_groups=2",
    )
    out = tmp_path / "run"
    for name in ("small-logmel", "disentangled-small"):
        changes = (*options, "disentanglement.tap=1", f"data.folder={labelled}", "batches.shortest=0.5")
        said = cli("train", "disentangled", name, *changes, "--out", out, "--dry-run", "--threads", 1)
        for words in ("12 at 100 a second", "speakers", "bins of pitch", "4,500 of 1 micro-batches"):
            assert words in said
    assert not out.exists()


@pytest.fixture(scope="module")
def whole(labelled: Path) -> Path:
    """A run that nothing ended."""
    out = labelled.parent / "whole"
    assert run(given(labelled, out)) == 0
    return out


@contextmanager
def ending(monkeypatch: pytest.MonkeyPatch, stop: int) -> Iterator[None]:
    """Have a training end after some steps."""
    one_step, steps = trainer._Run.one_step, []

    def ended(self: Any) -> None:
        if len(steps) == stop:
            raise KeyboardInterrupt
        steps.append(1)
        one_step(self)

    with monkeypatch.context() as patched:
        patched.setattr(trainer._Run, "one_step", ended)
        yield


@pytest.mark.parametrize("stop", [3, 5, 9])
def test_a_run_that_was_ended_goes_on_to_the_same_weights(
    labelled: Path, whole: Path, tmp_path: Path, cli: Cli, stop: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ending(monkeypatch, stop):
        cli(*given(labelled, tmp_path / "cut"), fails=True)
    cli(*given(labelled, tmp_path / "cut"))
    assert same(weights(tmp_path / "cut"), weights(whole))
    one, other = (checkpoint(folder, 12) for folder in (tmp_path / "cut", whole))
    assert same(one["model"], other["model"])


def test_a_run_that_was_ended_does_not_go_on_with_other_heads_or_voices(
    labelled: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    voices, other = (write_voices(labelled, tmp_path / name, headers=False) for name in ("voices", "other"))
    command = given(labelled, tmp_path / "cut", f"data.feat_dir={voices}")
    with ending(monkeypatch, 5):
        cli(*command, fails=True)
    edited(other / "train.spk", lambda rows: [{"s0": "s1", "s1": "s0"}.get(name, name) for name in rows])
    edited(other / "train.f0", lambda rows: [rows[0].replace("-1", "0").replace("3", "2"), *rows[1:]])
    for name in ("train.spk", "train.f0"):
        kept = (voices / name).read_bytes()
        (voices / name).write_bytes((other / name).read_bytes())
        assert "is of a training with other settings or data" in cli(*command, fails=True), name
        (voices / name).write_bytes(kept)
    for change in ("reversal=0.4", "head_rate=2", "speaker.hidden=16 disentanglement.speaker.weight=0.5", "relents=false"):
        options = f"disentanglement.{change}".split()
        assert "is of a training with other settings or data" in cli(*command, *options, fails=True), change
    assert "going on from step 4" in cli(*command)


def test_a_speaker_head_that_goes_wrong_is_told_of(
    labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vocable.recipes.hubert_training.training_warning", lambda *_: None)  # would be said first
    said = {}
    for rate in (1, 10_000):
        options = ("training.steps=6", "disentanglement.reversal=0", f"disentanglement.head_rate={rate}")
        assert run(given(labelled, tmp_path / str(rate), *options)) == 0
        said[rate] = capsys.readouterr().err
    assert "the speaker head's loss is" not in said[1]
    assert "where guessing among 3 speakers has 1.099: the head is broken" in said[10_000]


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("training.parallel=fsdp",)])
def test_two_processes_learn_what_one_does(labelled: Path, tmp_path: Path, more: tuple[str, ...]) -> None:
    options = ("regularization.layer_drop=0", "regularization.dropout=0", "disentanglement.speaker.dropout=0")
    for name, processes in (("one", "1"), ("two", "2")):
        own = more if name == "two" else ()
        command = [sys.executable, "-m", "vocable", *given(labelled, tmp_path / name, *options, *own), "--processes", processes]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stdout + made.stderr
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert all(torch.allclose(one[key], two[key], atol=2e-5, rtol=1e-4) for key in one)
    for first, second in zip(records(tmp_path / "one", "train"), records(tmp_path / "two", "train"), strict=True):
        for name in ("loss", "speaker_loss", "pitch_loss", "reversal"):
            assert first[name] == pytest.approx(second[name], rel=1e-4)


def edited(path: Path, change: Callable[[list[str]], list[str]]) -> None:
    path.write_text("".join(f"{line}\n" for line in change(path.read_text().splitlines())))


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("train.spk", lambda rows: rows[:-1], "train.spk has 18 lines, but the manifest 19 rows"),
        ("train.spk", lambda rows: ["s9", *rows[1:]], "train.spk line 1 names 's9', who isn't in dict.spk.txt"),
        ("train.spk", lambda rows: ["-1"] * len(rows), "has fewer than two known speakers"),
        ("dict.spk.txt", lambda rows: [rows[0], *rows], "names a speaker twice"),
        ("dict.spk.txt", lambda rows: ["s0", *rows[1:]], "line 1 should be a speaker and a count, but reads 's0'"),
        ("train.f0", lambda rows: rows[1:], "train.f0 has 18 lines, but the manifest has 19 rows"),
        ("train.f0", lambda rows: [rows[0], rows[1] + " 1 1 1", *rows[2:]], "train.f0 line 2 has"),
        ("train.f0", lambda rows: ["6" + rows[0][rows[0].index(" "):], *rows[1:]], "train.f0 line 1 holds the bin 6"),
        ("train.f0", lambda rows: ["0.5 1", *rows[1:]], "train.f0 line 1 should be bins of pitch"),
        ("train.f0", lambda rows: [" ".join(["-1"] * len(row.split())) for row in rows], "has fewer than two bins with voiced"),
        ("f0.json", lambda rows: ["{}"], "should say it is 'vocable.f0/1'"),
    ],
)  # fmt: skip
def test_labels_that_do_not_fit_are_refused(
    labelled: Path, tmp_path: Path, cli: Cli, name: str, change: Callable[[list[str]], list[str]], said: str
) -> None:
    voices = write_voices(labelled, tmp_path / "voices", headers=False)
    edited(voices / name, change)
    found = cli(*given(labelled, tmp_path / "out", f"data.feat_dir={voices}"), fails=True)
    assert said in found
    assert found.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_labels_of_another_manifest_dictionary_or_bins_are_refused(labelled: Path, tmp_path: Path, cli: Cli) -> None:
    voices = write_voices(labelled, tmp_path / "voices")
    command = given(labelled, tmp_path / "out", f"data.feat_dir={voices}")

    def refused(name: str, old: str, new: str) -> str:
        content = (voices / name).read_text()
        assert old in content
        (voices / name).write_text(content.replace(old, new, 1))
        found = cli(*command, fails=True)
        (voices / name).write_text(content)
        return found

    assert "is not the file that train.spk.json was written for" in refused("train.spk", "s0", "s1")
    assert "made with another dict.spk.txt" in refused("dict.spk.txt", "s0", "s00")
    assert "made with other bins" in refused("f0.json", '"floor": 50.0', '"floor": 49.0')
    digest = read_manifest(labelled / "train.tsv").digest
    for name in ("train.spk", "train.f0"):
        assert f"{name} was made for another manifest" in refused(f"{name}.json", digest, 64 * "0")
    for name in ("train.spk", "train.f0", "f0.json", "dict.spk.txt"):
        (voices / name).rename(voices / "gone")
        said = cli(*command, fails=True)
        assert f"{voices / name} isn't there" in said or f"{voices / name} doesn't exist" in said
        (voices / "gone").rename(voices / name)
    assert "give data.folder" in cli("train", "disentangled", "small-logmel", "data.sets=[a.csv]", "--out", "x", fails=True)


def test_what_is_not_known_of_validation_is_not_measured(labelled: Path, tmp_path: Path, cli: Cli) -> None:
    voices = write_voices(labelled, tmp_path / "voices", headers=False)
    edited(voices / "valid.spk", lambda rows: ["-1"] * len(rows))
    (voices / "valid.f0").unlink()
    said = cli(*given(labelled, tmp_path / "out", f"data.feat_dir={voices}", "training.steps=2"))
    assert "valid.spk has none of the speakers that are learnt" in said
    assert "valid.f0 isn't there, so what is told of pitch isn't validated" in said
    (valid,) = records(tmp_path / "out", "valid")
    assert not {"speaker_loss", "pitch_loss"} & set(valid)


def test_a_head_without_weight_needs_no_labels(labelled: Path, tmp_path: Path, cli: Cli) -> None:
    voices = write_voices(labelled, tmp_path / "voices")
    for name in ("train.spk", "dict.spk.txt"):
        (voices / name).unlink()
    options = (f"data.feat_dir={voices}", "training.steps=2", "disentanglement.speaker.weight=0")
    cli(*given(labelled, tmp_path / "out", *options))
    (train,) = records(tmp_path / "out", "train")
    assert "pitch_loss" in train
    assert "speaker_loss" not in train


@pytest.mark.parametrize("name", shipped_recipes(("disentangled",)))
def test_settings_that_come_with_vocable_are_whole(name: str) -> None:
    found = read_disentangled_settings(name, ["data.folder=labels"])
    assert found.disentanglement.layer(found.model.layers) == found.measure.layer == found.disentanglement.tap
    assert DISENTANGLED_RECIPES[0] == "disentangled"


@pytest.mark.parametrize(("value", "tap"), [("3", 3), ("last", "last"), ("conv", "conv"), ("null", None)])
def test_a_tap_is_a_layer_or_a_place(value: str, tap: Any) -> None:
    options = ["data.folder=labels", f"disentanglement.tap={value}"]
    assert read_disentangled_settings("small-logmel", options).disentanglement.tap == tap
    with pytest.raises(InputError, match="tap should be a whole number, or conv, last, not 'first'"):
        read_disentangled_settings("small-logmel", [options[0], "disentanglement.tap=first"])
    with pytest.raises(InputError, match="tap 7: the encoder has 6 layers"):
        read_disentangled_settings("small-logmel", [options[0], "disentanglement.tap=7"])


SMALL = [
    "model.encoder_layers=1", "+model.encoder_embed_dim=32", "+model.encoder_ffn_embed_dim=32", "+model.encoder_attention_heads=2",
    "+model.conv_pos=8", "+model.conv_pos_groups=2", "model.conv_feature_layers=[(8,10,5)] + [(8,3,2)] * 4 + [(8,2,2)] * 2",
    "task.min_sample_size=8000", "task.max_sample_size=16000", "dataset.max_tokens=32000", "optimization.max_update=3",
    "lr_scheduler.warmup_updates=1", "common.log_interval=1", "distributed_training.distributed_world_size=2",
    "common.tensorboard_logdir=null",
]  # fmt: skip


def line_of(labels: Path, voices: Path) -> list[str]:
    return [
        f"task.data={labels}",
        f"task.label_dir={labels}",
        'task.labels=["km"]',
        f"task.feat_dir={voices}",
        "hydra.run.dir=exp",
    ]


@pytest.mark.parametrize("makers", [True, False])
def test_the_line_with_feat_dir_trains_the_disentangled_variant(
    cli: Cli, corpus: Path, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, makers: bool
) -> None:
    (tmp_path / "pretrain.yaml").write_text(BASE)
    voices = tmp_path / "F"
    if makers:
        pytest.importorskip("swift_f0", reason="needs the extra pitch")
        for name, others in (("train", ()), ("valid", ("--dict-of", voices))):
            more = ("--out", voices, "--name", name, "--workers", 1)
            cli("features", "speakers", labelled / f"{name}.tsv", *more, "--speakers", "{speaker}/*", *others)
            cli("features", "f0", labelled / f"{name}.tsv", *more, *(("--edges-of", voices) if others else ("--bins", 8)))
    else:
        write_voices(labelled, voices)
    monkeypatch.chdir(tmp_path)
    said = cli(
        "fairseq", "hydra_train", "--config-dir", tmp_path, "--config-name", "pretrain", *line_of(labelled, voices), *SMALL,
        "+disentangle.begin=0", "+disentangle.speaker.weight=0.5", "--device", "cpu", "--threads", 1,
    )  # fmt: skip
    assert "disentangle" not in said.partition("without effect here")[2].partition("\n")[0]
    assert "feat_dir" not in said
    assert read_encoder(tmp_path / "exp" / "model").config.layers == 1
    train = records(tmp_path / "exp", "train")
    assert [item["step"] for item in train] == [1, 2, 3]
    assert train[-1]["reversal"] > 0.09
    assert {"speaker_loss", "pitch_loss"} <= set(train[-1])
    assert {"speaker_loss", "pitch_loss"} <= set(records(tmp_path / "exp", "valid")[-1])


def test_feat_dir_listens_where_the_originals_chart_has_it_and_our_keys_may_follow(tmp_path: Path) -> None:
    (tmp_path / "pretrain.yaml").write_text(BASE)
    line = [*line_of(Path("D"), Path("F")), *SMALL]
    found = read_fairseq_training(tmp_path, "pretrain", line, half=False).settings
    assert isinstance(found, DisentangledSettings)
    assert (found.disentanglement.tap, found.data.voices) == ("conv", Path("F"))
    own = ["+disentangle.tap=last", "+disentangle.schedule=linear", "disentangle.reversal=3e-1", "disentangle.pitch.hidden=8"]
    made = read_fairseq_training(tmp_path, "pretrain", [*line, *own], half=False).settings
    assert isinstance(made, DisentangledSettings)
    assert (made.disentanglement.tap, made.disentanglement.schedule, made.disentanglement.reversal) == ("last", "linear", 0.3)
    assert made.disentanglement.pitch.hidden == 8
    with pytest.raises(InputError, match="there is no setting disentanglement.taps"):
        read_fairseq_training(tmp_path, "pretrain", [*line, "disentangle.taps=1"], half=False)
    plain = read_fairseq_training(tmp_path, "pretrain", [item for item in line if "feat_dir" not in item], half=False)
    assert not isinstance(plain.settings, DisentangledSettings)
