"""HuBERT trained from the command line: killed and resumed, in one process and in two, on labels that fit."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vocable.checkpoints.encoders import read_encoder
from vocable.training.records import read_records

Cli = Callable[..., str]

TINY = """
[model]
layers = 2
dim = 32
ffn_dim = 64
heads = 2
convolution_channels = 16
position_width = 8
position_groups = 2

[regularization]
dropout = 0.1
attention_dropout = 0.1
layer_drop = 0.2
feature_gradient = 0.5

[loss]
projection = 8

[batches]
seconds = 8
micro_seconds = 4
longest = 2
shortest = 0.5

[training]
steps = 12
log_every = 3
validate_every = 6
checkpoint_every = 4

[training.optimizer]
learning_rate = 1e-3
"""


@pytest.fixture(scope="module")
def labelled(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from vocable.cli.main import run

    out = tmp_path_factory.mktemp("labelled") / "run"
    assert run(["prepare", str(corpus), "--out", str(out), "--clusters", "12", "--valid-percent", "0.2", "--workers", "1"]) == 0
    (out.parent / "tiny.toml").write_text(TINY)
    return out


def command(labelled: Path, out: Path, *options: str, processes: int = 1) -> list[str]:
    given = [f"data.folder={labelled}", *options, "--out", str(out), "--threads", "1", "--processes", str(processes)]
    return [sys.executable, "-m", "vocable", "train", "hubert", str(labelled.parent / "tiny.toml"), *given]


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "model" / "model.safetensors")


def ended(labelled: Path, out: Path, *options: str, processes: int = 1) -> None:
    made = subprocess.run(command(labelled, out, *options, processes=processes), capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr


def killed_after(step: int, labelled: Path, out: Path, *options: str, processes: int = 1, later: float = 0.0) -> None:
    """Start a training, and kill all its processes some seconds after it has written the checkpoint of a step, or has begun."""
    process = subprocess.Popen(
        command(labelled, out, *options, processes=processes),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    checkpoint = out / "checkpoints" / f"step-{step:08d}" if step else out / "settings.json"
    while process.poll() is None and not checkpoint.exists():
        time.sleep(0.005)
    time.sleep(later)
    assert process.poll() is None, "it ended before it could be killed"
    os.killpg(process.pid, signal.SIGKILL)  # torchrun's own processes are of other groups
    process.wait()
    begun = time.monotonic()
    while running(out):
        assert time.monotonic() - begun < 5, "processes outlive torchrun"
        time.sleep(0.02)


def running(out: Path) -> list[int]:
    """Return the processes that were told to train in a folder."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if str(out).encode() in file.read_bytes().split(b"\0"):
                found.append(int(file.parent.name))
    return found


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return set(one) == set(other) and all(torch.equal(one[name], other[name]) for name in one)


def test_a_training_leaves_an_encoder_with_its_heads(labelled: Path, tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "run"
    said = cli("train", "hubert", labelled.parent / "tiny.toml", f"data.folder={labelled}", "--out", out, "--threads", 1)
    assert said.strip().endswith(f"{out / 'model'}: the model")
    for name in ("model", "best"):
        found = read_encoder(out / name)
        assert found.config.layers == 2
        assert tuple(found.heads["label_embeddings"].shape) == (12, 8)
        assert set(found.heads) == {"mask_embedding", "label_embeddings", "final_projection.weight", "final_projection.bias"}
    records = read_records(out / "metrics.jsonl")
    assert [item["step"] for item in records if item["split"] == "train"] == [3, 6, 9, 12]
    assert {"loss", "loss_masked", "accuracy_masked", "accuracy_unmasked", "penalty", "gradient_norm", "learning_rate"} <= set(
        records[0]
    )
    assert [item["step"] for item in records if item["split"] == "valid"] == [6, 12]
    labels = tmp_path / "units"
    cli(
        "prepare",
        labelled / "train.tsv",
        "--encoder",
        out / "model",
        "--layer",
        2,
        "--clusters",
        6,
        "--out",
        labels,
        "--workers",
        1,
    )
    assert (labels / "train.km").read_text()


def test_phones_are_measured_at_each_validation(labelled: Path, tmp_path: Path, cli: Cli) -> None:
    phones = tmp_path / "phones"
    phones.mkdir()
    rows = "".join(f"{at / 10:.1f}\t{(at + 1) / 10:.1f}\t{'AB'[at % 2]}\n" for at in range(3))
    for line in (labelled / "valid.tsv").read_text().splitlines()[1:]:
        (phones / f"{Path(line.split(chr(9))[0]).stem}.tsv").write_text("start\tend\tphone\n" + rows)
    given = (f"data.folder={labelled}", f"measure.alignments={phones}", "measure.layer=2", "measure.clusters=4")
    out = tmp_path / "run"
    said = cli("train", "hubert", labelled.parent / "tiny.toml", *given, "--out", out, "--threads", 1)
    found = [item for item in read_records(out / "metrics.jsonl") if item["split"] == "valid"]
    assert all(0 <= item["pnmi"] <= 1 and 0 < item["phone_purity"] <= 1 for item in found)
    assert "pnmi" in said
    expected = {
        ".lock",
        "best",
        "checkpoints",
        "done.json",
        "metrics.jsonl",
        "model",
        "report.html",
        "run.jsonl",
        "settings.json",
    }
    assert {item.name for item in out.iterdir()} == expected
    given = (*given[:2], "measure.layer=3")
    assert "layer 3 doesn't exist: the encoder has 2 layers" in cli(
        "train", "hubert", labelled.parent / "tiny.toml", *given, "--out", tmp_path / "x", "--threads", 1, fails=True
    )


def test_a_dry_run_says_what_it_takes_and_does_nothing(labelled: Path, tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "run"
    said = cli(
        "train", "hubert", labelled.parent / "tiny.toml", f"data.folder={labelled}", "--out", out, "--dry-run", "--threads", 1
    )
    for words in (
        "parameters",
        "12 at 100 a second",
        "12 of 2 micro-batches of up to 4 s",
        "GiB each, up to 3",
        "with one process",
    ):
        assert words in said
    assert not out.exists()


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_killed_anywhere_it_ends_with_the_same_weights(labelled: Path, tmp_path: Path, processes: int) -> None:
    ended(labelled, tmp_path / "whole", processes=processes)
    moments = random.Random(processes)
    for step in (0, 4, 8):
        killed_after(step, labelled, tmp_path / "cut", processes=processes, later=moments.uniform(0, 0.03))
    ended(labelled, tmp_path / "cut", processes=processes)
    assert same(weights(tmp_path / "cut"), weights(tmp_path / "whole"))


def test_what_all_processes_would_refuse_is_said_once(labelled: Path, tmp_path: Path) -> None:
    refused = command(labelled, tmp_path / "out", "data.train=nothing", processes=2)
    made = subprocess.run(refused, capture_output=True, text=True, check=False)
    assert made.returncode == 1
    assert "nothing.tsv isn't there" in made.stderr
    assert made.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_torchrun_restarts_what_was_killed(labelled: Path, tmp_path: Path) -> None:
    ended(labelled, tmp_path / "whole", processes=2)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=2"]
    process = subprocess.Popen(
        [*launcher, *command(labelled, tmp_path / "cut")[1:]],
        env={**os.environ, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    while not (tmp_path / "cut" / "checkpoints" / "step-00000004").exists() and process.poll() is None:
        time.sleep(0.005)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    _, said = process.communicate()
    assert process.returncode == 0, said.decode()
    assert same(weights(tmp_path / "cut"), weights(tmp_path / "whole"))


@pytest.mark.slow
def test_two_processes_see_what_one_sees_and_either_goes_on_for_the_other(labelled: Path, tmp_path: Path) -> None:
    options = ("regularization.layer_drop=0", "regularization.dropout=0")
    ended(labelled, tmp_path / "one", *options)
    ended(labelled, tmp_path / "two", *options, processes=2)
    killed_after(4, labelled, tmp_path / "both", *options, processes=2)
    ended(labelled, tmp_path / "both", *options)
    one = weights(tmp_path / "one")
    for name in ("two", "both"):
        other = weights(tmp_path / name)
        assert all(torch.allclose(one[key], other[key], atol=2e-5, rtol=1e-4) for key in one)
    found = [read_records(tmp_path / name / "metrics.jsonl") for name in ("one", "two")]
    for first, second in zip(*found, strict=True):
        assert (first["split"], first["step"]) == (second["split"], second["step"])
        assert first["loss"] == pytest.approx(second["loss"], rel=1e-4)


@pytest.mark.slow
def test_processes_count_an_utterance_that_cannot_be_read_once(labelled: Path, tmp_path: Path, corpus: Path) -> None:
    shutil.copytree(corpus, tmp_path / "speech")
    folder = tmp_path / labelled.name
    shutil.copytree(labelled, folder)
    root, *rows = (folder / "train.tsv").read_text().splitlines()
    longest = max(rows, key=lambda row: int(row.split("\t")[1])).split("\t")[0]
    assert Path(root) == corpus
    (folder / "train.tsv").write_text("\n".join([str(tmp_path / "speech"), *rows]) + "\n")
    (tmp_path / "speech" / longest).write_bytes(b"no sound")
    shutil.copy(labelled.parent / "tiny.toml", tmp_path)
    ended(folder, tmp_path / "out", processes=2)
    counts = [item["unreadable"] for item in read_records(tmp_path / "out" / "metrics.jsonl") if item["split"] == "train"]
    assert counts[-1] == 1


@pytest.mark.slow
def test_fsdp_and_ddp_learn_the_same(labelled: Path, tmp_path: Path) -> None:
    options = ("regularization.layer_drop=0",)
    ended(labelled, tmp_path / "ddp", *options, processes=2)
    ended(labelled, tmp_path / "fsdp", *options, "training.parallel=fsdp", processes=2)
    ddp, fsdp = weights(tmp_path / "ddp"), weights(tmp_path / "fsdp")
    for name in ddp:
        if name.endswith(
            "query_key_value.bias"
        ):  # what is added to all keys alike changes nothing: its gradient is rounding alone
            ddp[name], fsdp[name] = (torch.cat([part[:32], part[64:]]) for part in (ddp[name], fsdp[name]))
    assert max(float((ddp[name] - fsdp[name]).abs().max()) for name in ddp) <= 1e-6


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a compiler")
def test_compiled_blocks_learn_the_same(labelled: Path, tmp_path: Path) -> None:
    options = ("training.steps=2", "data.valid=null", "regularization.dropout=0", "regularization.attention_dropout=0")
    ended(labelled, tmp_path / "plain", *options)
    ended(labelled, tmp_path / "compiled", *options, "training.compile=true")
    plain, compiled = weights(tmp_path / "plain"), weights(tmp_path / "compiled")
    assert all(torch.allclose(plain[name], compiled[name], atol=2e-5, rtol=1e-4) for name in plain)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_gpu_learns_what_a_processor_does(labelled: Path, tmp_path: Path, precision: str) -> None:
    options = ("regularization.dropout=0", "regularization.attention_dropout=0", "regularization.layer_drop=0")
    ended(labelled, tmp_path / "cpu", *options)
    given = [*command(labelled, tmp_path / "gpu", *options, f"training.precision={precision}"), "--device", "cuda"]
    made = subprocess.run(given, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    found = [read_records(tmp_path / name / "metrics.jsonl") for name in ("cpu", "gpu")]
    for first, second in zip(*found, strict=True):
        assert second["loss"] == pytest.approx(first["loss"], rel=1e-3 if precision == "float32" else 3e-2)
    assert ("loss_scale" in found[1][0]) == (precision == "float16")
