"""A vocoder is trained by command with its discriminators, goes on exactly where it was ended, and says what is converted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from helpers import run_vocable, write_audio
from models.made import made_encoder, tiny
from vocable.anonymization.cepstra import cepstra_of, envelope_of
from vocable.anonymization.parts_frames import PARTS_SPEC, parts_frames
from vocable.anonymization.speech_parts import at_level, taken_apart
from vocable.audio.decoding import read_waveform
from vocable.checkpoints.detokenizers import DetokenizerCheckpoint, read_detokenizer, write_detokenizer
from vocable.checkpoints.encoder_checkpoint import EncoderCheckpoint
from vocable.checkpoints.encoders import write_encoder
from vocable.models.discriminators import DiscriminatorConfig
from vocable.models.vocoder import Vocoder, VocoderConfig
from vocable.recipes.vocoder_settings import read_vocoder_settings
from vocable.recipes.vocoder_training import begun_vocoder

Cli = Callable[..., str]
MODEL = (
    "model.projected=8", "model.channels=8", "model.rates=[10,16]", "model.kernels=[20,32]", "model.block_kernels=[3]",
    "model.dilations=[[1]]", "discriminators.periods=[2,3]", "discriminators.scales=1", "discriminators.narrower=32",
)  # fmt: skip
SIZES = (
    "batches.seconds=1.6", "batches.micro_seconds=0.8", "batches.longest=0.2", "batches.shortest=0.2", "batches.utterances=4",
    "training.steps=6", "training.log_every=1", "training.validate_every=3", "training.checkpoint_every=2", "training.loaders=1",
    "training.optimizer.learning_rate=2e-3", "vocoding.adversarial_from=0.5",
)  # fmt: skip
SMALL = (*MODEL, *SIZES)
OF_ENCODER = (
    *(item.replace("[10,16]", "[20,16]").replace("[20,32]", "[40,32]") for item in SMALL),
    "model.dim=64",
    "model.source=false",
)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pool")
    for number in range(8):
        write_audio(root / f"p{number % 2}" / f"{number}.wav", 0.5 + number / 10, number)
    return root


@pytest.fixture(scope="module")
def fleet(pool: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from vocable.cli.main import run

    out = tmp_path_factory.mktemp("fleet") / "voices.safetensors"
    command = ["anonymize", "fit-codebooks", pool, "--out", out, "--speakers", "{speaker}/*", "--clusters", "8"]
    assert run([str(item) for item in command]) == 0
    return out


def command(pool: Path, out: Path, *options: object) -> tuple[object, ...]:
    given = f"data.train={pool}", f"data.valid={pool}", *SMALL, "--threads", 1
    return ("train", "vocoder", "vocoder-small", "--out", out, *given, *options)


@pytest.fixture(scope="module")
def trained(pool: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from vocable.cli.main import run

    out = tmp_path_factory.mktemp("run") / "run"
    assert run([str(item) for item in command(pool, out)]) == 0
    return out


def records_of(out: Path, split: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [record for record in found if record["split"] == split]


def test_a_vocoder_learns_log_mel_first_and_then_from_discriminators(cli: Cli, pool: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    options = "training.steps=30", "training.validate_every=10", "training.log_every=3"
    assert "vocoder.safetensors" in cli(*command(pool, out, *options))
    learnt = records_of(out, "train")
    assert [("discriminators" in record) for record in learnt] == [False] * 5 + [True] * 5
    assert {"adversarial", "features", "accuracy_speech", "accuracy_made"} <= set(learnt[-1])
    errors = [record["mel_error"] for record in records_of(out, "valid")]
    assert errors[-1] < errors[0]
    assert [record["loss"] for record in records_of(out, "valid")] == pytest.approx(errors)
    found = read_detokenizer(out / "model")
    assert found.conformer is None
    assert found.spec == PARTS_SPEC
    assert found.build_vocoder().config.hop == 160
    assert "Error of log-mel frames" in (out / "report.html").read_text()
    assert "a vocoder" in cli("inspect", out / "model")


def test_it_says_what_is_converted_with_codebooks_of_cepstra(
    cli: Cli, pool: Path, fleet: Path, trained: Path, tmp_path: Path
) -> None:
    (tmp_path / "key").write_bytes(bytes(range(32)))
    common = ("anonymize", "convert", pool, "--codebooks", fleet, "--key", tmp_path / "key", "--workers", 1)
    cli(*common, "--out", tmp_path / "with", "--vocoder", trained / "model")
    cli(*common, "--out", tmp_path / "without")
    for number in (0, 5):
        name = f"p{number % 2}/{number}.wav"
        one, other = (soundfile.read(tmp_path / folder / name)[0] for folder in ("with", "without"))
        assert one.shape == other.shape == soundfile.read(pool / name)[0].shape
        assert np.square(one).mean() == pytest.approx(np.square(other).mean(), rel=0.05)
        assert not np.array_equal(one, other)
    assert (
        json.loads((tmp_path / "with" / "anonymized.json").read_text())["vocoder"] == read_detokenizer(trained / "model").digest
    )


def test_an_utterance_with_its_own_frames_and_voice_is_what_was_learnt_from(pool: Path, fleet: Path, trained: Path) -> None:
    from vocable.anonymization.anonymizer import Anonymizer

    path = pool / "p0" / "2.wav"
    anonymizer = Anonymizer(fleet, vocoder=trained / "model", keeps=("frames", "voice"))
    waveform = read_waveform(path)
    parts = taken_apart(waveform)
    frames = parts_frames(envelope_of(cepstra_of(parts, parts.mean), parts.mean), parts.pitch)
    with torch.inference_mode():
        said = read_detokenizer(trained / "model").build_vocoder()(torch.from_numpy(frames)[None])[0].numpy()
    np.testing.assert_allclose(anonymizer(path).waveform, at_level(said[: len(waveform)], waveform), atol=1e-6)


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_a_training_that_was_ended_goes_on_to_the_same_weights(
    cli: Cli, pool: Path, trained: Path, tmp_path: Path, stop: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vocable.training import trainer

    steps: list[int] = []
    one_step = trainer._Run.one_step

    def ended(self: Any) -> None:
        if len(steps) == stop:
            raise KeyboardInterrupt
        steps.append(1)
        one_step(self)

    each = "training.checkpoint_minutes=1e-9"
    with monkeypatch.context() as patched:
        patched.setattr(trainer._Run, "one_step", ended)
        cli(*command(pool, tmp_path / "run", each), fails=True)
    assert f"going on from step {stop} of 6" in cli(*command(pool, tmp_path / "run", each))
    first, second = (read_detokenizer(path / "model") for path in (trained, tmp_path / "run"))
    assert first.digest == second.digest


@pytest.mark.slow
def test_two_processes_learn_what_one_does(cli: Cli, pool: Path, tmp_path: Path) -> None:
    four = "batches.seconds=3.2"  # micro-batches, of which each process takes two
    cli(*command(pool, tmp_path / "one", four))
    done = run_vocable(*command(pool, tmp_path / "two", four), "--processes", 2)
    assert done.returncode == 0, done.stderr
    one, two = (read_detokenizer(tmp_path / name / "model").tensors for name in ("one", "two"))
    for name in one:
        torch.testing.assert_close(two[name], one[name], atol=2e-5, rtol=1e-4, msg=name)
    pairs = zip(records_of(tmp_path / "one", "train"), records_of(tmp_path / "two", "train"), strict=True)
    assert all(mine["loss"] == pytest.approx(theirs["loss"], rel=1e-3) for mine, theirs in pairs)


def test_frames_of_codebooks_and_a_detokenizer_are_learnt_from(cli: Cli, pool: Path, fleet: Path, tmp_path: Path) -> None:
    tiny_conformer = "model.dim=32", "model.ffn_dim=32", "model.layers=1", "training.steps=2", "batches.longest=0.4"
    sizes = "batches.seconds=2", "batches.micro_seconds=2", "batches.shortest=0.4", "training.loaders=1"
    of_pool = f"data.train={pool}", "data.speakers={speaker}/*"
    detokenizer = tmp_path / "detokenizer"
    given = ("--codebooks", fleet, "--out", detokenizer, "--threads", 1, *of_pool, *tiny_conformer, *sizes)
    cli("train", "detokenizer", "detokenizer-small", *given)
    made = {}
    for name, options in (
        ("own", ()), ("looked up", (f"data.codebooks={fleet}",)),
        ("said again", (f"data.codebooks={fleet}", f"data.detokenizer={detokenizer / 'model'}")),
    ):  # fmt: skip
        cli(*command(pool, tmp_path / name, *of_pool, *options, "training.steps=2"))
        made[name] = read_detokenizer(tmp_path / name / "model").digest
    assert len(set(made.values())) == 3
    refused = command(pool, tmp_path / "none", f"data.codebooks={fleet}")
    assert "isn't known: give data.speakers\n" in cli(*refused, fails=True)


def test_dumped_frames_and_log_mel_frames_are_learnt_from(cli: Cli, pool: Path, tmp_path: Path) -> None:
    encoder = tmp_path / "wavlm"
    write_encoder(EncoderCheckpoint.of(made_encoder(tiny("wavlm", large=True, layers=7))), encoder, "vocable")
    of_layer = ("--layer", 6, "--waveform-normalization", "none")
    cli("features", encoder, pool, "--out", tmp_path / "frames", *of_layer, "--workers", 1)
    common = ("train", "vocoder", "vocoder-small", "--threads", 1, *OF_ENCODER)
    frames = f"data.frames={tmp_path / 'frames'}", f"data.valid_frames={tmp_path / 'frames'}"
    cli(*common, *frames, "--out", tmp_path / "run")
    found = read_detokenizer(tmp_path / "run" / "model")
    assert found.spec is not None
    assert (found.spec.kind, found.spec.layer, found.spec.hop) == ("encoder", 6, 320)
    voices = tmp_path / "f.safetensors"
    speakers = ("--speakers", "{speaker}/*")
    cli("anonymize", "fit-codebooks", pool, "--out", voices, "--encoder", encoder, *of_layer, "--clusters", 8, *speakers)
    cli(*common, *frames, f"data.codebooks={voices}", "data.speakers={speaker}/*", "--out", tmp_path / "looked up")
    model = tmp_path / "conformer"
    given = ("--codebooks", voices, "--threads", 1, "data.speakers={speaker}/*", frames[0], "model.features=64", "model.dim=32")
    short = "model.layers=1", "model.ffn_dim=32", "training.steps=2", "batches.longest=0.4", "batches.shortest=0.4"
    cli("train", "detokenizer", "detokenizer-small", "--out", model, *given, *short, "training.loaders=1")
    convert = (
        "anonymize",
        "convert",
        pool,
        "--codebooks",
        voices,
        "--encoder",
        encoder,
        "--model",
        model / "model",
        "--workers",
        1,
    )
    cli(*convert, "--vocoder", tmp_path / "run" / "model", "--out", tmp_path / "converted")
    assert len(list((tmp_path / "converted").rglob("*.wav"))) == 8
    mel = "data.input=logmel", "model.dim=80", "model.source=false"
    cli(*command(pool, tmp_path / "mel", *mel))
    of_mel = read_detokenizer(tmp_path / "mel" / "model")
    assert of_mel.spec is not None
    assert (of_mel.spec.kind, of_mel.spec.dim) == ("hifigan-mel", 80)
    for other, said in (("mel", "kind 'hifigan-mel' against 'encoder'"), ("nowhere", "there is no such file")):
        refused = (*convert, "--vocoder", tmp_path / other / "model", "--out", tmp_path / "none")
        assert said in cli(*refused, fails=True)


def test_a_training_begins_with_what_it_is_given(cli: Cli, pool: Path, trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    cli(*command(pool, out, "training.steps=1", "training.optimizer.learning_rate=1e-12", "--init", trained / "model"))
    begun, made = (read_detokenizer(path / "model") for path in (trained, out))
    for name, tensor in begun.tensors.items():
        torch.testing.assert_close(made.tensors[name], tensor, atol=1e-6, rtol=1e-6)
    assert "give settings of its shape" in cli(
        *command(pool, tmp_path / "b", "model.channels=4", "--init", out / "model"), fails=True
    )


@torch.inference_mode()
def test_a_training_begins_with_knn_vcs_file(shared: Path, tmp_path: Path) -> None:
    golden = shared / "golden" / "wavlm"
    with np.load(golden / "hifigan_tiny_weights.npz") as held:
        torch.save({"generator": {name: torch.from_numpy(held[name]) for name in held}}, tmp_path / "g_02500000.pt")
    sizes = "model.dim=32", "model.projected=16", "model.channels=32", "discriminators.narrower=32"
    options = "data.frames=frames", f"init={tmp_path / 'g_02500000.pt'}", *sizes
    objective, digest = begun_vocoder(read_vocoder_settings("vocoder-base", options))
    assert digest
    with np.load(golden / "hifigan_tiny_io.npz") as io:
        np.testing.assert_allclose(objective.generator(torch.from_numpy(io["features"])), io["wav"], atol=2e-5)


def test_settings_that_come_with_vocable_are_the_published_ones() -> None:
    base = read_vocoder_settings("vocoder-base", ["data.frames=frames"])
    assert (base.model, base.discriminators) == (VocoderConfig(), DiscriminatorConfig())
    assert (base.vocoding.mel, base.vocoding.features, base.vocoding.adversarial_from) == (45, 2, 0)
    assert (base.batches.micro_batches, round(base.batches.longest * 16000)) == (1, 7040)
    assert base.training.schedule.factor(1784, base.training.steps) == pytest.approx(0.999, abs=1e-5)
    small = read_vocoder_settings("vocoder-small", ["data.train=speech"])
    assert (small.model.dim, small.model.hop, small.model.sample_rate) == (PARTS_SPEC.dim, PARTS_SPEC.hop, PARTS_SPEC.sample_rate)


def test_a_dry_run_says_what_it_takes_and_does_nothing(cli: Cli, pool: Path, tmp_path: Path) -> None:
    said = cli(*command(pool, tmp_path / "run", "--dry-run"))
    for words in ("are learnt, of which", "in discriminators", "8 of 8 are long enough", "with one process"):
        assert words in said, said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("data.train=nowhere",), "nowhere doesn't exist"),
        (("data.frames=x",), "give data.train, which is audio, or data.frames"),
        (("data.detokenizer=x",), "data.detokenizer goes with data.codebooks"),
        (("data.input=logmel", "data.codebooks=x"), "data.codebooks go with frames that were dumped"),
        (("data.input=mfcc",), "data.input is one of speech-parts, logmel"),
        (("model.dim=250",), "give model.dim=242, model.rates with a product of 160"),
        (("training.parallel=fsdp",), "take ddp"),
        (("discriminators.scales=9",), "give 0 to 8"),
        (("vocoding.adversarial_from=2",), "give 0 to 1"),
        (("vocodding.mel=2",), "did you mean 'vocoding'"),
        (("--init", "nowhere.pt"), "nowhere.pt: there is no such file"),
        (("--processes", "0"), "give 1 or more"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(cli: Cli, pool: Path, tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    assert said in cli(*command(pool, tmp_path / "run", *options), fails=True)
    assert not (tmp_path / "run" / "model").exists()


def test_frames_without_their_audio_are_refused(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    np.save(folder / "x_0_1.npy", np.zeros((40, 64), np.float32))
    (folder / "x_0_1.len").write_text("40\n")
    refused = (
        "train",
        "vocoder",
        "vocoder-small",
        f"data.frames={folder}",
        *OF_ENCODER,
        "--out",
        tmp_path / "run",
        "--threads",
        1,
    )
    assert "doesn't say which audio its frames are of" in cli(*refused, fails=True)


def test_vocoders_of_other_frames_say_nothing(cli: Cli, pool: Path, fleet: Path, trained: Path, tmp_path: Path) -> None:
    config = VocoderConfig(dim=242, source=True, projected=8, channels=8, rates=(10, 16), kernels=(20, 32))
    own = {f"vocoder.{name}": value for name, value in Vocoder(config).state_dict().items()}
    unsaid, small = tmp_path / "unsaid.safetensors", tmp_path / "small.safetensors"
    write_detokenizer(DetokenizerCheckpoint(unsaid, None, config, own), unsaid)
    other = read_detokenizer(trained / "model")
    assert other.vocoder is not None
    narrow = VocoderConfig(dim=82, projected=8, channels=8, rates=(10, 16), kernels=(20, 32))
    own = {f"vocoder.{name}": value for name, value in Vocoder(narrow).state_dict().items()}
    write_detokenizer(DetokenizerCheckpoint(small, None, narrow, own, PARTS_SPEC), small)
    for vocoder, said in (
        (unsaid, "doesn't say that its vocoder is for speech parts"),
        (small, "has a vocoder for 82 values every 160 samples, but speech parts have 242"),
        (tmp_path / "nothing", "there is no such file"),
    ):
        refused = ("anonymize", "convert", pool, "--codebooks", fleet, "--vocoder", vocoder, "--out", tmp_path / "out")
        assert said in cli(*refused, fails=True)
