"""A detokenizer is trained by command, goes on exactly where it was ended, and converts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers import write_audio
from models.made import made_encoder, tiny
from vocable.checkpoints.detokenizers import read_detokenizer
from vocable.checkpoints.encoder_checkpoint import EncoderCheckpoint
from vocable.checkpoints.encoders import write_encoder
from vocable.clustering.fleets import Member, read_fleet, write_fleet

Cli = Callable[..., str]
SMALL = (
    "model.dim=32", "model.ffn_dim=32", "model.layers=1", "batches.seconds=4", "batches.micro_seconds=4", "batches.longest=1",
    "batches.shortest=0.5", "training.steps=8", "training.log_every=1", "training.validate_every=4", "training.checkpoint_every=3",
    "training.loaders=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pool")
    for number in range(6):
        write_audio(root / f"p{number % 2}" / f"{number}.wav", 2.0 + number / 4, number)
    return root


@pytest.fixture(scope="module")
def fleet(pool: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from vocable.cli.main import run

    out = tmp_path_factory.mktemp("fleet") / "voices.safetensors"
    command = ["anonymize", "fit-codebooks", pool, "--out", out, "--speakers", "{speaker}/*", "--clusters", "8"]
    assert run([str(item) for item in command]) == 0
    return out


def command(pool: Path, fleet: Path, out: Path, *options: str) -> tuple[object, ...]:
    data = f"data.train={pool}", f"data.valid={pool}", "data.speakers={speaker}/*"
    return (
        "train",
        "detokenizer",
        "detokenizer-small",
        "--codebooks",
        fleet,
        "--out",
        out,
        "--threads",
        1,
        *data,
        *SMALL,
        *options,
    )


def same(one: Path, other: Path) -> bool:
    first, second = (read_detokenizer(path / "model") for path in (one, other))
    return first.tensors.keys() == second.tensors.keys() and all(
        torch.equal(tensor, second.tensors[name]) for name, tensor in first.tensors.items()
    )


def test_a_detokenizer_learns_and_converts(cli: Cli, pool: Path, fleet: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    said = cli(
        *command(pool, fleet, out, "training.steps=60", "training.validate_every=30", "training.optimizer.learning_rate=3e-3")
    )
    assert "detokenizer.safetensors" in said
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    last = [record for record in records if record["split"] == "valid"][-1]
    assert last["error"] < last["error_of_centroids"]
    found = read_detokenizer(out / "model")
    assert found.conformer is not None
    assert found.spec is not None
    assert (found.conformer.values, found.spec.kind) == (20, "cepstra")
    (tmp_path / "key").write_bytes(bytes(range(32)))
    common = ("anonymize", "convert", pool, "--codebooks", fleet, "--key", tmp_path / "key", "--workers", 1)
    cli(*common, "--out", tmp_path / "with", "--model", out / "model")
    cli(*common, "--out", tmp_path / "without")
    one, other = ((tmp_path / name / "p0" / "0.wav").read_bytes() for name in ("with", "without"))
    assert len(one) == len(other)
    assert one != other


@pytest.mark.parametrize("stop", [2, 5])
def test_a_training_that_was_ended_goes_on_to_the_same_weights(
    cli: Cli, pool: Path, fleet: Path, tmp_path: Path, stop: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vocable.training import trainer

    cli(*command(pool, fleet, tmp_path / "once"))
    steps: list[int] = []
    one_step = trainer._Run.one_step

    def ended(self: Any) -> None:
        if len(steps) == stop:
            raise KeyboardInterrupt
        steps.append(1)
        one_step(self)

    monkeypatch.setattr(trainer._Run, "one_step", ended)
    cli(*command(pool, fleet, tmp_path / "twice"), fails=True)
    monkeypatch.setattr(trainer._Run, "one_step", one_step)
    cli(*command(pool, fleet, tmp_path / "twice"))
    assert same(tmp_path / "once", tmp_path / "twice")


def test_speakers_to_validate_on_may_have_codebooks_of_their_own(cli: Cli, pool: Path, fleet: Path, tmp_path: Path) -> None:
    others = tmp_path / "others"
    for number in range(2):
        write_audio(others / f"q{number}" / "a.wav", 2.0, 70 + number)
    options = (f"data.valid={others}", "training.steps=4")
    assert "q0, who speaks q0/a, has no codebook" in cli(*command(pool, fleet, tmp_path / "run", *options), fails=True)
    own = tmp_path / "own.safetensors"
    cli("anonymize", "fit-codebooks", others, "--out", own, "--speakers", "{speaker}/*", "--clusters", 8, "--workers", 1)
    cli(*command(pool, fleet, tmp_path / "run", *options, f"data.valid_codebooks={own}"))
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    [last] = [record for record in records if record["split"] == "valid"]
    assert 0 < last["error_of_centroids"] < 2  # looked up in their own codebooks
    of_layer = read_fleet(own)
    write_fleet(tmp_path / "odd", [Member("c", of_layer.centroids(0)[:, :4], ("q0",))], ["c"], 8, 4)
    odd = f"data.valid_codebooks={tmp_path / 'odd'}"
    assert "codebooks of other frames" in cli(*command(pool, fleet, tmp_path / "other", *options, odd), fails=True)
    alone = f"data.valid_codebooks={own}", "data.valid=null"
    assert "goes with data.valid" in cli(*command(pool, fleet, tmp_path / "other", *alone), fails=True)


def test_frames_of_an_encoder_are_learnt_from(cli: Cli, pool: Path, tmp_path: Path) -> None:
    encoder = tmp_path / "wavlm"
    write_encoder(EncoderCheckpoint.of(made_encoder(tiny("wavlm", large=True, layers=7))), encoder, "vocable")
    of_layer = ("--layer", 6, "--waveform-normalization", "none")
    cli("features", encoder, pool, "--out", tmp_path / "frames", *of_layer, "--workers", 1)
    fleet = tmp_path / "f.safetensors"
    cli(
        "anonymize",
        "fit-codebooks",
        pool,
        "--out",
        fleet,
        "--encoder",
        encoder,
        *of_layer,
        "--clusters",
        8,
        "--speakers",
        "{speaker}/*",
    )
    data = (f"data.frames={tmp_path / 'frames'}", "data.speakers={speaker}/*", "model.features=64")
    cli(
        "train",
        "detokenizer",
        "detokenizer-small",
        "--codebooks",
        fleet,
        "--out",
        tmp_path / "run",
        *data,
        *SMALL,
        "--threads",
        1,
    )
    found = read_detokenizer(tmp_path / "run" / "model")
    assert found.conformer is not None
    assert found.conformer.values == 64
    assert all(np.isfinite(tensor.numpy()).all() for tensor in found.tensors.values())


def test_what_cannot_be_is_said_in_a_sentence(cli: Cli, pool: Path, fleet: Path, tmp_path: Path) -> None:
    for options, said in (
        (("model.features=21",), "give model.features=20"),
        (("data.frames=x",), "give data.train, which is audio, or data.frames"),
        (("data.policy=some",), "policy"),
        (("data.train=nowhere",), "nowhere doesn't exist"),
        (("model.kernel=4",), "give an odd number"),
    ):
        assert said in cli(*command(pool, fleet, tmp_path / "run", *options), fails=True), options
        assert not (tmp_path / "run" / "model").exists()
