"""Voice anonymization by commands: fleets, conversion with and without a model, the authors' commands, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import soundfile
import torch
from sklearn.cluster import MiniBatchKMeans

from helpers import artefacts_in, write_audio
from models.made import made_encoder, tiny
from vocable.anonymization.anonymizer import Anonymizer, ByKey
from vocable.anonymization.draw import KeyedDraw, ReferenceDraw
from vocable.checkpoints.detokenizers import DetokenizerCheckpoint, write_detokenizer
from vocable.checkpoints.encoder_checkpoint import EncoderCheckpoint
from vocable.checkpoints.encoders import write_encoder
from vocable.clustering.fleets import read_fleet
from vocable.features.encoder_layer import EncoderFile
from vocable.models.conformer import Conformer, ConformerConfig
from vocable.models.vocoder import Vocoder, VocoderConfig

Cli = Callable[..., str]
SHAPE = ConformerConfig(dim=64, heads=4, ffn_dim=64, layers=2)
VOCODER = VocoderConfig(dim=64, projected=16, channels=32)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Speech of four speakers, whose codebooks others are to get."""
    root = tmp_path_factory.mktemp("pool")
    for number in range(8):
        write_audio(root / f"p{number % 4}" / f"{number}.wav", 2.0 + number / 4, number)
    return root


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("audio")
    for number in range(7):
        write_audio(root / f"s{number % 2}" / f"u{number}.wav", 0.7 + number / 5, 100 + number)
    return root


@pytest.fixture(scope="module")
def fleet(pool: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from vocable.cli.main import run

    out = tmp_path_factory.mktemp("fleet") / "voices.safetensors"
    command = [
        "anonymize",
        "fit-codebooks",
        pool,
        "--out",
        out,
        "--speakers",
        "{speaker}/*",
        "--clusters",
        "32",
        "--note",
        "agreed",
    ]
    assert run([str(item) for item in command]) == 0
    return out


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("encoder") / "wavlm"
    write_encoder(EncoderCheckpoint.of(made_encoder(tiny("wavlm", large=True, layers=7))), path, "vocable")
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(3)
    conformer, vocoder = Conformer(SHAPE), Vocoder(VOCODER)
    tensors = {f"conformer.{name}": value for name, value in conformer.state_dict().items()}
    tensors |= {f"vocoder.{name}": value for name, value in vocoder.state_dict().items()}
    path = tmp_path_factory.mktemp("model") / "detokenizer.safetensors"
    write_detokenizer(DetokenizerCheckpoint(path, SHAPE, VOCODER, tensors), path)
    return path


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "key"
    path.write_bytes(bytes(range(32)))
    return path


def waves_in(folder: Path) -> dict[str, bytes]:
    return {name: content for name, content in artefacts_in(folder).items() if name.endswith(".wav")}


def test_a_fleet_has_a_codebook_for_each_speaker_fitted_to_all_frames(cli: Cli, fleet: Path, pool: Path, tmp_path: Path) -> None:
    made = read_fleet(fleet)
    assert made.names == ("p0", "p1", "p2", "p3")
    assert made.speakers == tuple((name,) for name in made.names)
    assert made.groups == ((0, 3), (3, 7), (7, 13), (13, 20))
    assert made.note == "agreed"
    assert made.statistics["mean"].shape == (4, 80)
    again = ("anonymize", "fit-codebooks", pool, "--speakers", "{speaker}/*", "--clusters", 32, "--note", "agreed")
    for name, options in (("two", ("--workers", 2)), ("parts", ())):
        out = tmp_path / name / "voices.safetensors"
        if name == "parts":
            said = cli(*again, "--out", out, "--nshard", 2, "--rank", 1)
            assert "2 codebooks are left to others" in said
            assert not out.exists()
            options = ("--nshard", 2, "--rank", 0)
        cli(*again, "--out", out, *options)
        assert out.read_bytes() == fleet.read_bytes()
        assert "done already" in cli(*again, "--out", out, *options)
    said = cli(*again[:-2], "--out", fleet, fails=True)
    assert "--overwrite" in said


def test_a_killed_fit_goes_on_behind_the_last_codebook(
    cli: Cli, fleet: Path, pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vocable.recipes import fleet_fitting

    out = tmp_path / "voices.safetensors"
    command = (
        "anonymize", "fit-codebooks", pool, "--out", out, "--speakers", "{speaker}/*", "--clusters", 32, "--note", "agreed",
        "--workers", 1,
    )  # fmt: skip
    fitted: list[str] = []
    run = fleet_fitting._Fit.run

    def killed(self: Any, *rest: Any) -> None:
        if len(fitted) == 2:
            raise KeyboardInterrupt
        fitted.append(self.name)
        run(self, *rest)

    monkeypatch.setattr(fleet_fitting._Fit, "run", killed)
    cli(*command, fails=True)
    assert not out.exists()
    monkeypatch.setattr(fleet_fitting._Fit, "run", lambda self, *rest: (fitted.append(self.name), run(self, *rest)))
    cli(*command)
    assert fitted == ["p0", "p1", "p2", "p3"]
    assert out.read_bytes() == fleet.read_bytes()
    assert not list((tmp_path / ".vocable").glob("fleet-*.safetensors"))


def test_speakers_can_be_put_together(cli: Cli, pool: Path, tmp_path: Path) -> None:
    common = ("anonymize", "fit-codebooks", pool, "--clusters", 8)
    cli(*common, "--out", tmp_path / "all.safetensors", "--speakers-per-codebook", "all", "--dtype", "float16")
    everything = read_fleet(tmp_path / "all.safetensors")
    assert (everything.names, everything.codebooks.dtype) == (("all",), np.float16)
    two = ("--speakers", "{speaker}/*", "--speakers-per-codebook", 2)
    cli(*common, "--out", tmp_path / "two.safetensors", *two)
    assert read_fleet(tmp_path / "two.safetensors").speakers == (("p0", "p1"), ("p2", "p3"))
    cli(*common, "--out", tmp_path / "random.safetensors", *two, "--grouping", "random", "--seed", 4)
    together = read_fleet(tmp_path / "random.safetensors").speakers
    assert sorted(name for own in together for name in own) == ["p0", "p1", "p2", "p3"]
    assert "who speaks" in cli(*common, "--out", tmp_path / "x.safetensors", fails=True)
    assert "give a number, or all" in cli(
        *common, "--out", tmp_path / "x.safetensors", "--speakers-per-codebook", "some", fails=True
    )


def test_a_speaker_who_says_little_gets_a_smaller_codebook(cli: Cli, pool: Path, tmp_path: Path) -> None:
    source = tmp_path / "pool"
    shutil.copytree(pool, source)
    write_audio(source / "p9" / "short.wav", 0.3, 1)
    (source / "p8").mkdir()
    (source / "p8" / "broken.wav").write_bytes(b"RIFF and no more")
    said = cli(
        "anonymize", "fit-codebooks", source, "--out", tmp_path / "f.safetensors", "--speakers", "{speaker}/*", "--clusters", 32
    )
    assert "5 codebooks" in said
    assert "1 of them have fewer centroids" in said
    assert "broken.wav" in (tmp_path / "f.skipped.jsonl").read_text()
    made = read_fleet(tmp_path / "f.safetensors")
    assert [made.clusters(number) for number in range(5)] == [32, 32, 32, 32, 15]


@pytest.mark.parametrize("per", ["audio", "frame"])
def test_the_same_key_gives_the_same_bytes(cli: Cli, audio: Path, fleet: Path, key: Path, tmp_path: Path, per: str) -> None:
    how = ("--per", "frame", "--stride", 3) if per == "frame" else ()
    common = ("--codebooks", fleet, "--key", key, *how)
    said = cli("anonymize", "convert", audio, *common, "--out", tmp_path / "one", "--workers", 1)
    assert "7 utterances" in said
    one = waves_in(tmp_path / "one")
    assert sorted(one) == sorted(f"s{number % 2}/u{number}.wav" for number in range(7))
    cli("anonymize", "convert", audio, *common, "--out", tmp_path / "two", "--workers", 2)
    for rank in (1, 0):
        cli("anonymize", "convert", audio, *common, "--out", tmp_path / "parts", "--nshard", 2, "--rank", rank)
    assert waves_in(tmp_path / "two") == waves_in(tmp_path / "parts") == one
    assert "done already" in cli("anonymize", "convert", audio, *common, "--out", tmp_path / "one")
    (tmp_path / "one" / "s0" / "u2.wav").unlink()
    (tmp_path / "one" / "s1" / "u3.wav").write_bytes(b"cut short")
    cli("anonymize", "convert", audio, *common, "--out", tmp_path / "one")
    assert waves_in(tmp_path / "one") == one
    # In another order, and one alone.
    reverse = tmp_path / "reverse.jsonl"
    names = [f"s{number % 2}/u{number}" for number in (6, 3, 0)]
    reverse.write_text("".join(json.dumps({"id": name, "path": str(audio / f"{name}.wav")}) + "\n" for name in names))
    cli("anonymize", "convert", reverse, *common, "--out", tmp_path / "some")
    assert waves_in(tmp_path / "some") == {f"{name}.wav": one[f"{name}.wav"] for name in names}
    other = tmp_path / "other-key"
    other.write_bytes(bytes(range(1, 33)))
    cli("anonymize", "convert", audio, "--codebooks", fleet, "--key", other, *how, "--out", tmp_path / "other")
    assert waves_in(tmp_path / "other") != one
    for name, content in one.items():
        samples, rate = soundfile.read(tmp_path / "one" / name)
        assert (rate, soundfile.info(tmp_path / "one" / name).subtype) == (16000, "PCM_16")
        assert len(samples) == soundfile.info(audio / name).frames
        assert content != (audio / name).read_bytes()


def test_a_dry_run_says_what_it_takes_and_does_nothing(
    cli: Cli, audio: Path, pool: Path, fleet: Path, encoder: Path, model: Path, listed: Path, tmp_path: Path
) -> None:
    imported = tmp_path / "imported.safetensors"
    cli("anonymize", "import-codebooks", listed, "--out", imported, "--encoder", encoder, "--layer", 6)
    before = sorted(tmp_path.rglob("*"))
    speakers = ("--speakers", "{speaker}/*", "--dry-run")
    for command in (
        ("fit-codebooks", pool, "--out", tmp_path / "x.safetensors", *speakers),
        ("fit-codebooks", pool, "--out", tmp_path / "x.safetensors", *speakers, "--encoder", encoder, "--layer", 6),
        ("convert", audio, "--codebooks", fleet, "--out", tmp_path / "x", "--dry-run"),
        ("convert", audio, "--codebooks", pool, "--out", tmp_path / "x", "--codebook-speakers", "{speaker}/*", "--dry-run"),
        ("convert", audio, "--codebooks", imported, "--model", model, "--encoder", encoder, "--out", tmp_path / "x", "--dry-run"),
    ):
        said = cli("anonymize", *command, "--workers", 1)
        assert all(word in said for word in ("usable utterances", "hours of audio", "writes", "memory", "time")), said
    assert sorted(tmp_path.rglob("*")) == before


def test_files_are_described(cli: Cli, fleet: Path, model: Path, tmp_path: Path) -> None:
    said = cli("inspect", fleet)
    for words in ("codebooks of speakers", "cepstra, 20 values every 10 ms", "agreed", "values 13 to 19"):
        assert words in said
    write_audio(tmp_path / "in" / "u.wav", 1.0, 1)
    cli("anonymize", "convert", tmp_path / "in", "--codebooks", fleet, "--out", tmp_path / "out")
    said = cli("inspect", tmp_path / "out")
    assert "vocable.anonymized/1" in said
    assert "not recognised" not in said
    for path in (model, official(model, tmp_path / "e_50.pth")):
        said = cli("inspect", path)
        assert "2 layers of 64 values, 4 heads" in said
        assert "320 samples for each frame" in said


def test_a_killed_conversion_goes_on(
    cli: Cli, audio: Path, fleet: Path, key: Path, tmp_path: Path, short_blocks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vocable.recipes import anonymization

    common = ("anonymize", "convert", audio, "--codebooks", fleet, "--key", key, "--workers", 1)
    cli(*common, "--out", tmp_path / "once")
    write: Any = anonymization.write_wave
    written: list[Path] = []

    def killed(path: Path, *rest: Any) -> int:
        if len(written) == 6:
            raise KeyboardInterrupt
        written.append(path)
        return write(path, *rest)

    monkeypatch.setattr(anonymization, "write_wave", killed)
    cli(*common, "--out", tmp_path / "cut", fails=True)
    assert not (tmp_path / "cut" / "anonymized.json").exists()
    monkeypatch.setattr(anonymization, "write_wave", lambda path, *rest: written.append(path) or write(path, *rest))
    cli(*common, "--out", tmp_path / "cut")
    assert 7 <= len(written) < 6 + 7  # what was done before isn't done again
    assert waves_in(tmp_path / "cut") == waves_in(tmp_path / "once")
    page = (tmp_path / "cut" / "report.html").read_text()
    assert page.count("<audio") == 7
    cli(*common, "--out", tmp_path / "compared", "--compare")
    page = (tmp_path / "compared" / "report.html").read_text()
    assert page.count("<audio") == 14
    assert "don't give it away" in page


def test_the_draw_is_written_on_request_alone(cli: Cli, audio: Path, fleet: Path, key: Path, tmp_path: Path) -> None:
    common = ("anonymize", "convert", audio, "--codebooks", fleet, "--key", key)
    cli(*common, "--out", tmp_path / "kept", "--write-draw")
    expected = KeyedDraw(("p0", "p1", "p2", "p3"), key=key.read_bytes())
    files = sorted((tmp_path / "kept").rglob("*.draw.json"))
    assert len(files) == 7
    for file in files:
        name = file.relative_to(tmp_path / "kept").as_posix().removesuffix(".draw.json")
        assert json.loads(file.read_text()) == {"codebooks": [f"p{expected.segments(name, 1)[0]}"]}
    cli(*common, "--out", tmp_path / "plain")
    assert waves_in(tmp_path / "plain") == waves_in(tmp_path / "kept")
    everything = b"".join(
        path.read_bytes() for path in (tmp_path / "plain").rglob("*") if path.is_file() and path.suffix != ".wav"
    )
    assert b'"p1"' not in everything
    assert key.read_bytes() not in everything
    assert key.read_bytes().hex().encode() not in everything


def test_own_codebooks_are_left_out_and_few_are_used(cli: Cli, pool: Path, fleet: Path, key: Path, tmp_path: Path) -> None:
    common = ("anonymize", "convert", pool, "--codebooks", fleet, "--key", key, "--per", "frame", "--write-draw")
    cli(*common, "--out", tmp_path / "others", "--exclude-own-speaker", "--speakers", "{speaker}/*")
    for file in (tmp_path / "others").rglob("*.draw.json"):
        assert set(json.loads(file.read_text())["codebooks"]) == {"p0", "p1", "p2", "p3"} - {file.parent.name}
    cli(*common, "--out", tmp_path / "few", "--codebooks-used", 2)
    drawn = [json.loads(file.read_text())["codebooks"] for file in (tmp_path / "few").rglob("*.draw.json")]
    assert len({name for own in drawn for name in own}) == 2
    assert "give 1 to 4" in cli(*common, "--out", tmp_path / "x", "--codebooks-used", 5, fails=True)
    said = cli(*common, "--out", tmp_path / "y", "--exclude-own-speaker", fails=True)
    assert "who speaks p0/0 isn't known" in said


def test_originals_stay_and_codebooks_have_to_say_whose_they_are(
    cli: Cli, audio: Path, pool: Path, fleet: Path, tmp_path: Path
) -> None:
    shutil.copytree(audio, tmp_path / "audio")
    before = artefacts_in(tmp_path / "audio")
    common = ("anonymize", "convert", tmp_path / "audio", "--codebooks", fleet, "--overwrite")
    for out in (tmp_path / "audio", tmp_path / "audio" / "deep"):
        assert "lies in" in cli(*common, "--out", out, fails=True)
    listed = tmp_path / "list.scp"
    listed.write_text(f"u0 {tmp_path / 'audio' / 's0' / 'u0.wav'}\n")
    command = ("anonymize", "convert", listed, "--codebooks", fleet, "--overwrite")
    assert "is read, and would be written" in cli(*command, "--out", tmp_path / "audio" / "s0", fails=True)
    assert {name: content for name, content in artefacts_in(tmp_path / "audio").items() if name in before} == before
    everybody = tmp_path / "all.safetensors"
    cli("anonymize", "fit-codebooks", pool, "--out", everybody, "--clusters", 8, "--speakers-per-codebook", "all")
    own = ("--exclude-own-speaker", "--speakers", "{speaker}/*")
    said = cli("anonymize", "convert", pool, "--codebooks", everybody, *own, "--out", tmp_path / "x", fails=True)
    assert "doesn't say whose it is" in said
    said = cli("anonymize", "convert", pool, "--codebooks", everybody, *own, "--out", tmp_path / "x", "--dry-run", fails=True)
    assert "doesn't say whose it is" in said


def test_a_key_that_could_be_guessed_is_refused_and_none_is_needed_for_a_subset(
    cli: Cli, audio: Path, fleet: Path, tmp_path: Path
) -> None:
    (tmp_path / "weak").write_bytes(b"a" * 32)
    common = ("anonymize", "convert", audio, "--codebooks", fleet)
    assert "can be guessed" in cli(*common, "--key", tmp_path / "weak", "--out", tmp_path / "x", fails=True)
    used = set()
    for name in ("one", "two"):
        cli(*common, "--out", tmp_path / name, "--codebooks-used", 1, "--write-draw")
        used |= {json.loads(file.read_text())["codebooks"][0] for file in (tmp_path / name).rglob("*.draw.json")}
    assert len(used) == 1


def test_the_references_plan_counts_frames_as_they_are_made(
    cli: Cli, audio: Path, encoder: Path, model: Path, listed: Path, tmp_path: Path
) -> None:
    imported = tmp_path / "imported.safetensors"
    cli("anonymize", "import-codebooks", listed, "--out", imported, "--encoder", encoder, "--layer", 6, "--names-are-speakers")
    assert read_fleet(imported).speakers == tuple((f"spk{number}",) for number in range(5))
    common = (
        "anonymize",
        "convert",
        audio,
        "--codebooks",
        imported,
        "--model",
        model,
        "--encoder",
        encoder,
        "--draw",
        "reference",
    )
    for name, options in (("a", ()), ("b", ("--match-length",))):
        assert "7 utterances" in cli(*common, "--per", "frame", "--stride", 3, "--out", tmp_path / name, *options)


def test_speakers_with_names_of_groups_and_broken_files_have_codebooks(cli: Cli, encoder: Path, tmp_path: Path) -> None:
    for number, speaker in enumerate(("a", "a-and-0", "a-and-1", "b")):
        write_audio(tmp_path / "pool" / speaker / "u.wav", 1.0, number)
    common = ("anonymize", "fit-codebooks", tmp_path / "pool", "--speakers", "{speaker}/*", "--clusters", 8)
    cli(*common, "--out", tmp_path / "two.safetensors", "--speakers-per-codebook", 3)
    made = read_fleet(tmp_path / "two.safetensors")
    assert made.speakers == (("a", "a-and-0", "a-and-1"), ("b",))
    content = write_audio(tmp_path / "long.flac", 8.0, 9).read_bytes()
    (tmp_path / "pool" / "b" / "cut.flac").write_bytes(content[: len(content) // 2])
    out = tmp_path / "wide.safetensors"
    command = (*common[:-1], 64, "--out", out, "--encoder", encoder, "--layer", 6)
    cli(*command)
    made = read_fleet(out)
    assert made.names == ("a", "a-and-0", "a-and-1", "b")
    assert made.clusters(3) <= 64
    assert "cut.flac" in cli(*command, "--strict", fails=True)


def test_damaged_codebooks_make_no_speech(cli: Cli, audio: Path, fleet: Path, key: Path, tmp_path: Path) -> None:
    content = bytearray(fleet.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    for number in range(4):  # all rows but the first, which is looked at when a fleet is opened
        first = start + 4 * 20 * 32 * number
        content[first + 80 : first + 4 * 20 * 32] = np.full(20 * 31, np.nan, np.float32).tobytes()
    (tmp_path / "nan.safetensors").write_bytes(content)
    command = ("anonymize", "convert", audio, "--codebooks", tmp_path / "nan.safetensors", "--key", key, "--out", tmp_path / "x")
    assert "aren't finite" in cli(*command, fails=True)
    assert not waves_in(tmp_path / "x")


def test_codebooks_can_be_fitted_on_the_way(cli: Cli, audio: Path, pool: Path, tmp_path: Path) -> None:
    out = tmp_path / "said"
    cli("anonymize", "convert", audio, "--codebooks", pool, "--codebook-speakers", "{speaker}/*", "--out", out)
    assert read_fleet(out / "codebooks.safetensors").names == ("p0", "p1", "p2", "p3")
    assert len(waves_in(out)) == 7


def test_what_is_odd_is_named_or_made_right(cli: Cli, fleet: Path, key: Path, tmp_path: Path) -> None:
    source = tmp_path / "odd"
    source.mkdir()
    stereo = np.stack([np.sin(np.arange(44100) / 20), np.zeros(44100)], axis=1) * 0.3
    soundfile.write(source / "stereo.wav", stereo, 44100)
    write_audio(source / "short.wav", 0.01, 1)
    soundfile.write(source / "silent.wav", np.zeros(8000), 16000)
    soundfile.write(source / "loud.wav", np.full(8000, 1e30), 16000, subtype="DOUBLE")
    (source / "empty.wav").write_bytes(b"")
    (source / "broken.flac").write_bytes(b"fLaC and no more")
    cli("anonymize", "convert", source, "--codebooks", fleet, "--key", key, "--out", tmp_path / "said", "--min-seconds", 0)
    names = set(waves_in(tmp_path / "said"))
    assert names == {"stereo.wav", "short.wav"}
    assert soundfile.info(tmp_path / "said" / "stereo.wav").frames == 16000
    assert soundfile.info(tmp_path / "said" / "stereo.wav").samplerate == 16000
    skipped = (tmp_path / "said" / "skipped.jsonl").read_text()
    assert all(name in skipped for name in ("empty.wav", "broken.flac", "silent.wav", "loud.wav"))
    assert "no audio" in cli(
        "anonymize", "convert", tmp_path / "said" / ".vocable", "--codebooks", fleet, "--out", tmp_path / "z", fails=True
    )


def test_nothing_is_written_outside_the_folder(cli: Cli, audio: Path, fleet: Path, tmp_path: Path) -> None:
    u0, u1 = audio / "s0" / "u0.wav", audio / "s1" / "u1.wav"
    cases = {
        "up": (f"../evil {u0}\n", "outside the folder"),
        "absolute": (f"/tmp/evil {u0}\n", "outside the folder"),
        "pipe": (f"evil touch {tmp_path}/ran |\n", "is not run"),
        "empty": ("\n", "has no rows"),
    }
    for name, (text, said) in cases.items():
        (tmp_path / f"{name}.scp").write_text(text)
        out = tmp_path / "out" / name
        assert said in cli("anonymize", "convert", tmp_path / f"{name}.scp", "--codebooks", fleet, "--out", out, fails=True), name
    assert not (tmp_path / "out" / "evil.wav").exists()
    assert not Path("/tmp/evil.wav").exists()
    assert not (tmp_path / "ran").exists()
    (tmp_path / "twice.scp").write_text(f"same {u0}\nsame {u1}\n")
    cli("anonymize", "convert", tmp_path / "twice.scp", "--codebooks", fleet, "--out", tmp_path / "twice")
    assert len(waves_in(tmp_path / "twice")) == 1
    assert "same" in (tmp_path / "twice" / "skipped.jsonl").read_text()


def official(model: Path, path: Path) -> Path:
    """Write a model as SEF-MK's trainer does."""
    from vocable.checkpoints.detokenizers import _CONFORMER, read_detokenizer

    weights: dict[str, torch.Tensor] = {}
    for name, value in read_detokenizer(model).tensors.items():
        kind, rest = name.split(".", 1)
        if kind == "conformer":
            _, number, inner = rest.split(".", 2)
            one = value[..., None] if inner in ("convolution.gated.weight", "convolution.outer.weight") else value
            weights[f"conformer.conformer_layers.{number}.{_CONFORMER[inner]}"] = one
            continue
        for ours, theirs in (("projection", "lin_pre"), ("first", "conv_pre"), ("last", "conv_post")):
            rest = re.sub(rf"^{ours}\.", f"{theirs}.", rest)
        rest = re.sub(r"^stages\.(\d)\.up", r"ups.\1", rest)
        if (found := re.fullmatch(r"stages\.(\d)\.blocks\.(\d)\.(dilated|plain)\.(.+)", rest)) is not None:
            convs = "convs1" if found[3] == "dilated" else "convs2"
            rest = f"resblocks.{3 * int(found[1]) + int(found[2])}.{convs}.{found[4]}"
        weights[f"hifi.model.{rest}"] = value
    torch.save({"extra": {"model_config": {"conformer_num_heads": 4, "dropout": 0.1}}, "model_state_dict": weights}, path)
    return path


@pytest.fixture(scope="module")
def listed(encoder: Path, audio: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Codebooks as SEF-MK's trainer writes them, in a list."""
    folder = tmp_path_factory.mktemp("kmeans")
    extractor = EncoderFile(str(encoder), "none").extractor(EncoderFile(str(encoder), "none").spec(6))
    waves = [soundfile.read(path, dtype="float32")[0] for path in sorted(audio.rglob("*.wav"))]
    frames = np.concatenate(extractor(waves)).astype(np.float64)
    lines = []
    for number in range(5):
        fitted = MiniBatchKMeans(12 - number % 2, random_state=number, n_init=1).fit(frames)
        joblib.dump(fitted, folder / f"kmeans-cluster-{number}.pt")
        lines.append(f"spk{number} {folder / f'kmeans-cluster-{number}.pt'}\n")
    (folder / "kmeans.scp").write_text("".join(lines))
    return folder / "kmeans.scp"


@pytest.fixture(scope="module")
def heard(audio: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("list") / "audio.scp"
    files = sorted(audio.rglob("*.wav"))
    path.write_text("".join(f"{file}\n" if number % 2 else f"name{number} {file}\n" for number, file in enumerate(files)))
    return path


def test_inference_audio_multi_kmeans(
    cli: Cli, encoder: Path, model: Path, listed: Path, heard: Path, audio: Path, tmp_path: Path
) -> None:
    checkpoint = official(model, tmp_path / "e_50.pth")
    out = tmp_path / "out"
    common = ("--kmeans_scp", listed, "--audio_scp", heard, "--wavlm_ckpt", encoder, "--ckpt", checkpoint)
    said = cli("sefmk", "inference_audio_multi_kmeans", *common, "--output_dir", out, "--num_proc", 2, "--gpus", "cpu", "cuda:0")
    assert "7 files" in said
    files = sorted(audio.rglob("*.wav"))
    made = waves_in(out)
    assert sorted(made) == sorted(path.name for path in files)
    plan = ReferenceDraw(5).per_audio(7)
    fleet = read_fleet(out / "codebooks.safetensors")
    assert fleet.names == tuple(f"spk{number}" for number in range(5))
    assert [fleet.clusters(number) for number in range(5)] == [12, 11, 12, 11, 12]
    for file, number in zip(files, plan.tolist(), strict=True):
        one = Anonymizer(fleet, model, encoder=encoder, draw=lambda *_, at=number: _drawn(at))(file)  # type: ignore[misc]
        samples, rate = soundfile.read(out / file.name, dtype="float32")
        assert rate == 16000
        np.testing.assert_allclose(samples, one.waveform, atol=1e-4)
        assert len(samples) == 320 * ((soundfile.info(file).frames - 400) // 320 + 1)
    assert "done already" in cli("sefmk", "inference_audio_multi_kmeans", *common, "--output_dir", out, "--gpus", "cpu")
    few = cli(
        "sefmk", "inference_audio_multi_kmeans", *common, "--output_dir", tmp_path / "few", "--kmeans_num", 2, "--gpus", "cpu"
    )
    assert "7 files" in few
    assert "give 1 to 5" in cli(
        "sefmk", "inference_audio_multi_kmeans", *common, "--output_dir", tmp_path / "x", "--kmeans_num", 6, fails=True
    )


def _drawn(number: int) -> Any:
    from vocable.anonymization.anonymizer import Drawn

    return Drawn(np.array([number]), number)


def test_inference_audio_random_frame(cli: Cli, encoder: Path, model: Path, listed: Path, heard: Path, tmp_path: Path) -> None:
    checkpoint = official(model, tmp_path / "e_50.pth")
    common = ("--kmeans_scp", listed, "--audio_scp", heard, "--wavlm_ckpt", encoder, "--ckpt", checkpoint, "--gpus", "cpu")
    for name, options in (("a", ("--stride", 1)), ("b", ("--stride", 4, "--kmeans_num", 3, "--num_proc", 1))):
        assert "7 files" in cli("sefmk", "inference_audio_random_frame", *common, "--output_dir", tmp_path / name, *options)
        assert len(waves_in(tmp_path / name)) == 7


def test_an_encoders_codebooks_are_fitted_and_imported(
    cli: Cli, pool: Path, audio: Path, encoder: Path, model: Path, listed: Path, key: Path, tmp_path: Path
) -> None:
    of_layer = ("--encoder", encoder, "--layer", 6)
    fitted = tmp_path / "fitted.safetensors"
    cli("anonymize", "fit-codebooks", pool, "--out", fitted, *of_layer, "--clusters", 16, "--speakers", "{speaker}/*")
    made = read_fleet(fitted)
    assert made.spec is not None
    assert (made.spec.layer, made.spec.waveform_normalization, made.dim) == (6, "none", 64)
    imported = tmp_path / "imported.safetensors"
    said = cli("anonymize", "import-codebooks", listed, "--out", imported, *of_layer, "--note", "of tests")
    assert "5 codebooks of up to 12 centroids of 64 values" in said
    assert read_fleet(imported).spec == made.spec
    assert "5 codebooks" in cli(
        "anonymize", "import-codebooks", listed.parent, "--out", tmp_path / "f.safetensors", "--dtype", "float16"
    )
    common = ("anonymize", "convert", audio, "--key", key, "--encoder", encoder, "--model", model)
    for codebooks, name in ((fitted, "a"), (imported, "b")):
        cli(*common, "--codebooks", codebooks, "--out", tmp_path / name, "--match-length")
        for wave in waves_in(tmp_path / name):
            assert soundfile.info(tmp_path / name / wave).frames == soundfile.info(audio / wave).frames
    alone = Anonymizer(
        imported,
        model,
        encoder=encoder,
        draw=ByKey(KeyedDraw(read_fleet(imported).names, key=key.read_bytes())),
        match_length=True,
    )(audio / "s0" / "u0.wav", "s0/u0")
    held = soundfile.read(tmp_path / "b" / "s0" / "u0.wav", dtype="float32")[0]
    np.testing.assert_allclose(held, np.clip(alone.waveform, -1, 1), atol=1e-4)
    assert "can't be used" not in cli("anonymize", "import-codebooks", listed, "--out", tmp_path / "blind.safetensors")
    said = cli(*common, "--codebooks", tmp_path / "blind.safetensors", "--out", tmp_path / "x", fails=True)
    assert "don't say what frames they are of" in said


def test_parts_that_do_not_go_together_are_refused(
    cli: Cli, audio: Path, encoder: Path, model: Path, fleet: Path, listed: Path, tmp_path: Path
) -> None:
    imported = tmp_path / "imported.safetensors"
    cli("anonymize", "import-codebooks", listed, "--out", imported, "--encoder", encoder, "--layer", 6)
    other = tmp_path / "other"
    write_encoder(EncoderCheckpoint.of(made_encoder(tiny("wavlm", large=True, layers=7), seed=9)), other, "vocable")
    narrow = tmp_path / "narrow.safetensors"
    shape = ConformerConfig(dim=32, heads=4, ffn_dim=64, layers=1)
    tensors = {f"conformer.{name}": value for name, value in Conformer(shape).state_dict().items()}
    write_detokenizer(DetokenizerCheckpoint(narrow, shape, None, tensors), narrow)
    common = ("anonymize", "convert", audio, "--out", tmp_path / "x")
    cases: list[tuple[tuple[Any, ...], str]] = [
        (("--codebooks", imported), "give --model"),
        (("--codebooks", imported, "--model", model), "give --encoder"),
        (("--codebooks", imported, "--model", model, "--encoder", other), "model"),
        (("--codebooks", imported, "--model", narrow, "--encoder", encoder), "makes frames of 32 values"),
        (("--codebooks", imported, "--model", narrow, "--vocoder", model, "--encoder", encoder), "values"),
        (("--codebooks", fleet, "--model", model, "--encoder", encoder), "codebooks of cepstra take none; leave it out"),
        (("--codebooks", fleet, "--model", model), "makes frames of 64 values of others"),
        (("--codebooks", fleet, "--vocoder", model), "doesn't say that its vocoder is for speech parts"),
        (("--codebooks", fleet, "--encoder", encoder), "goes with --model"),
        (("--codebooks", fleet, "--stride", 2), "goes with --per frame"),
        (("--codebooks", fleet, "--per", "frame", "--stride", 0), "give 1 or more"),
        (("--codebooks", fleet, "--draw", "reference", "--exclude-own-speaker"), "doesn't look at who speaks"),
        (("--codebooks", model), "vocable.fleet"),
        (("--codebooks", tmp_path / "none.safetensors"), "none.safetensors"),
        (("--codebooks", fleet, "--key", tmp_path / "none"), "can't be read"),
    ]
    for options, said in cases:
        assert said in cli(*common, *options, fails=True), options
        assert not (tmp_path / "x" / "anonymized.json").exists()


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return shutil.rmtree, ("/nowhere/at/all",)


def test_malicious_and_broken_lists_are_refused(cli: Cli, listed: Path, tmp_path: Path) -> None:
    joblib.dump(_Evil(), tmp_path / "evil.pt")
    (tmp_path / "evil.scp").write_text(f"a {tmp_path / 'evil.pt'}\n")
    import_ = ("anonymize", "import-codebooks")
    assert "nothing in it was run" in cli(*import_, tmp_path / "evil.scp", "--out", tmp_path / "f.safetensors", fails=True)
    good = listed.read_text().splitlines()
    for text, said in (
        (f"{good[0]}\n\n{good[0]}\n", "line 3: spk0 names"),
        (f"{good[0]}\nspk1 /no/such/file.pt\n", "line 2: /no/such/file.pt is no file"),
        (f"spk1 cat {tmp_path} |\n", "line 1"),
        ("\n", "lists nothing"),
    ):
        (tmp_path / "list.scp").write_text(text)
        assert said in cli(*import_, tmp_path / "list.scp", "--out", tmp_path / "f.safetensors", fails=True)
    np.save(tmp_path / "narrow.npy", np.zeros((3, 5)))
    (tmp_path / "list.scp").write_text(f"{good[0]}\nnarrow {tmp_path / 'narrow.npy'}\n")
    assert "narrow has the shape (3, 5)" in cli(*import_, tmp_path / "list.scp", "--out", tmp_path / "f.safetensors", fails=True)
    assert not (tmp_path / "f.safetensors").exists()
    (tmp_path / "empty").mkdir()
    assert "holds no codebooks" in cli(*import_, tmp_path / "empty", "--out", tmp_path / "f.safetensors", fails=True)


def test_equal_names_in_a_list_keep_both_files(cli: Cli, audio: Path, tmp_path: Path) -> None:
    from vocable.errors import InputError
    from vocable.recipes.codebook_lists import listed_audio

    for speaker in ("a", "b"):
        (tmp_path / speaker).mkdir()
        shutil.copy(audio / "s0" / "u0.wav", tmp_path / speaker / "same.wav")
    (tmp_path / "list.scp").write_text(f"a-same {tmp_path}/a/same.wav\nb/../same {tmp_path}/b/same.wav\n")
    rows = [json.loads(line) for line in listed_audio(tmp_path / "list.scp", tmp_path / "work").read_text().splitlines()]
    assert [row["id"] for row in rows] == ["a-same", "b-..-same"]
    (tmp_path / "list.scp").write_text(f"one {tmp_path}/a/same.wav\none {tmp_path}/b/same.wav\n")
    with pytest.raises(InputError, match="line 2: 'one' names the file to write as line 1 has"):
        listed_audio(tmp_path / "list.scp", tmp_path / "work")
