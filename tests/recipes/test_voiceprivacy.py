"""The VoicePrivacy challenge's data sets, folders in Kaldi's form: converted by a command, and scored by the challenge's trials."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from helpers import artefacts_in, speech_like, write_audio
from models.made import made_encoder, tiny
from vocable.audio.kaldi_sets import KaldiSet
from vocable.checkpoints.detokenizers import DetokenizerCheckpoint, write_detokenizer
from vocable.checkpoints.encoder_checkpoint import EncoderCheckpoint
from vocable.checkpoints.encoders import write_encoder
from vocable.errors import InputError
from vocable.evaluation.verification import Trials
from vocable.models.conformer import Conformer, ConformerConfig
from vocable.models.vocoder import Vocoder, VocoderConfig
from vocable.recipes.voiceprivacy import is_attackers

Cli = Callable[..., str]
WORDS = "SPOKEN WORDS"


def write_set(folder: Path, rows: dict[str, tuple[str, str]]) -> Path:
    """Write the tables of a data set: of each utterance, what wav.scp says and who speaks."""
    folder.mkdir(parents=True, exist_ok=True)
    speakers = sorted({who for _, who in rows.values()})
    of_whom = {who: [name for name in rows if rows[name][1] == who] for who in speakers}
    for table, lines in {
        "wav.scp": [f"{name} {where}" for name, (where, _) in rows.items()],
        "utt2spk": [f"{name} {who}" for name, (_, who) in rows.items()],
        "spk2utt": [f"{who} {' '.join(names)}" for who, names in of_whom.items()],
        "spk2gender": [f"{who} {'fm'[number % 2]}" for number, who in enumerate(speakers)],
        "text": [f"{name} {WORDS} {name}" for name in rows],
    }.items():
        write_lines(folder / table, lines)
    return folder


def write_lines(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines))


def results_in(folder: Path) -> dict[str, bytes]:
    return {name: content for name, content in artefacts_in(folder).items() if not name.endswith(".made-from")}


def fit(pool: Path, out: Path, *options: object) -> Path:
    from vocable.cli.main import run

    command = ("anonymize", "fit-codebooks", pool, "--out", out, "--clusters", 16, *options)
    assert run([str(item) for item in command]) == 0
    return out


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pool")
    for number in range(3):
        write_audio(root / f"p{number}" / f"{number}.wav", 2.0, number)
    return root


@pytest.fixture(scope="module")
def users(pool: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(pool, tmp_path_factory.mktemp("users") / "each.safetensors", "--speakers", "{speaker}/*")


@pytest.fixture(scope="module")
def attackers(pool: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(pool, tmp_path_factory.mktemp("attackers") / "all.safetensors", "--speakers-per-codebook", "all")


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_bytes(bytes(range(32)))
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The folder `data` of a challenge: enrolments and trials of four speakers, whose paths begin with data/."""
    data = tmp_path / "challenge" / "data"
    enrolled, tried = {}, {}
    for number in range(4):
        for side, rows in (("e", enrolled), ("t", tried)):
            name = f"{number}-{side}"
            where = f"data/corpus/{name}.flac"
            write_audio(data.parent / where, 0.6 + number / 10, 10 * number + (side == "t"))
            rows[name] = (where, f"s{number}")
    write_set(data / "libri_dev_enrolls", enrolled)
    write_lines(data / "libri_dev_enrolls" / "enrolls", enrolled)
    # As Kaldi's recipes of flac and of sphere files have it; we read the files ourselves.
    piped = {name: (f"flac -c -d -s {where} |", who) for name, (where, who) in tried.items()}
    trials = write_set(data / "libri_dev_trials_f", piped)
    write_lines(
        trials / "trials",
        [f"s{who} {name} {'target' if name[0] == str(who) else 'nontarget'}" for who in range(4) for name in tried],
    )
    write_lines(trials / "utt2dur", [f"{name} {0.6 + number / 10:.1f}" for number, name in enumerate(tried)])
    (trials / "feats.scp").write_text("0-t raw_mfcc.ark:4\n")
    (trials / "notes.bin").write_bytes(b"\0\1")
    for number in range(4):
        (trials / f"stray{number}.wav").write_bytes(b"")
    return data


def test_data_sets_become_others_of_the_same_tables(cli: Cli, data: Path, users: Path, key: Path) -> None:
    before = artefacts_in(data)
    common = ("anonymize", "voiceprivacy", data, "--codebooks", users, "--key", key, "--workers", 1)
    said = cli(*common)
    assert "libri_dev_enrolls_anon: 4 utterances" in said
    assert (
        "Not copied, since they are no tables, or tell of the originals' sound: feats.scp, notes.bin, stray0.wav, stray1.wav, stray2.wav and 1 more"
        in said
    )
    assert {name: content for name, content in artefacts_in(data).items() if name in before} == before
    made = data / "libri_dev_trials_f_anon"
    assert sorted(path.name for path in made.iterdir()) == [
        "spk2gender", "spk2utt", "text", "trials", "utt2dur", "utt2spk", "wav", "wav.scp",
    ]  # fmt: skip
    for name in ("spk2gender", "spk2utt", "text", "trials", "utt2dur", "utt2spk"):
        assert (made / name).read_bytes() == (data / "libri_dev_trials_f" / name).read_bytes()
    # As the challenge's own recipes write them, and as its scripts look for speech.
    assert (made / "wav.scp").read_text() == "".join(
        f"{number}-t data/libri_dev_trials_f_anon/wav/{number}-t.wav\n" for number in range(4)
    )
    assert sorted(path.stem for path in made.rglob("*.wav")) == [f"{number}-t" for number in range(4)]
    for number in range(4):
        now = soundfile.info(made / "wav" / f"{number}-t.wav")
        assert (now.subtype, now.frames) == ("PCM_16", soundfile.info(data / "corpus" / f"{number}-t.flac").frames)
    assert [row.speaker for row in KaldiSet(made).utterances()] == ["s0", "s1", "s2", "s3"]
    # The draw is that of 'convert', whose names are the same.
    out = data.parent.parent / "converted"
    cli("anonymize", "convert", data.parent / "data" / "corpus", "--codebooks", users, "--key", key, "--out", out, "--workers", 1)
    assert (out / "0-t.wav").read_bytes() == (made / "wav" / "0-t.wav").read_bytes()


def test_a_second_run_changes_nothing_and_takes_nothing_made_for_an_original(
    cli: Cli, data: Path, users: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = ("anonymize", "voiceprivacy", data, "--codebooks", users, "--workers", 1)  # the key is kept nowhere
    cli(*common)
    before = {
        path: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in data.rglob("*")
        if path.is_file() and "run" not in path.name
    }
    said = cli(*common)
    assert said.count("done already") == 2
    assert "Passed over, since their names end in _anon: libri_dev_enrolls_anon, libri_dev_trials_f_anon" in said
    after = {
        path: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in data.rglob("*")
        if path.is_file() and "run" not in path.name
    }
    assert {path: value for path, value in after.items() if ".vocable" not in path.parts} == {
        path: value for path, value in before.items() if ".vocable" not in path.parts
    }
    assert "as what is made does" in cli(*common, "libri_dev_enrolls_anon", fails=True)
    assert "as what is made does" in cli(*common[:2], data / "libri_dev_enrolls_anon", *common[3:], fails=True)
    # To elsewhere, from elsewhere, with whole paths, which hold wherever they are read.
    out = data.parent / "made"
    monkeypatch.chdir(data.parent)
    cli(
        "anonymize",
        "voiceprivacy",
        "data",
        "libri_dev_enrolls",
        "--codebooks",
        users,
        "--out",
        "made",
        "--suffix",
        "",
        "--workers",
        1,
    )
    assert (out / "libri_dev_enrolls" / "wav.scp").read_text().split("\n")[0] == f"0-e {out}/libri_dev_enrolls/wav/0-e.wav"
    assert not (out / "libri_dev_trials_f").exists()
    assert "would be written over" in cli(*common, "--suffix", "", fails=True)
    assert "give what names are to end in" in cli(*common, "--suffix", "/x", fails=True)


def test_a_killed_conversion_goes_on_at_any_step(
    cli: Cli, data: Path, users: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vocable.recipes import voiceprivacy

    common = ("anonymize", "voiceprivacy", data, "--codebooks", users, "--key", key, "--workers", 1)
    once = data.parent / "once" / "data"
    cli(*common, "--out", once)
    written: list[Path] = []
    update: Any = voiceprivacy._update

    def killed(path: Path, content: bytes) -> None:
        if path.name == "wav.scp":
            raise KeyboardInterrupt
        update(path, content)

    monkeypatch.setattr(voiceprivacy, "_update", killed)
    cli(*common, fails=True)
    made = data / "libri_dev_enrolls_anon"
    assert (made / "text").exists()
    assert not (made / "wav.scp").exists()
    monkeypatch.setattr(voiceprivacy, "_update", lambda path, content: written.append(path) or update(path, content))
    assert "libri_dev_enrolls_anon: 4 utterances, 0.0 minutes, done already" in cli(*common)
    for name in ("libri_dev_enrolls_anon", "libri_dev_trials_f_anon"):
        assert results_in(data / name) == results_in(once / name)
    # What is gone is made anew.
    (made / "wav" / "0-e.wav").unlink()
    (made / "text").unlink()
    cli(*common)
    assert results_in(made) == results_in(once / "libri_dev_enrolls_anon")


def test_attackers_have_codebooks_of_their_own(cli: Cli, data: Path, users: Path, attackers: Path, key: Path) -> None:
    assert [name for name in ("libri_dev_enrolls", "train-clean-360", "libri_dev_trials_m", "IEMOCAP_dev") if is_attackers(name)] == [
        "libri_dev_enrolls", "train-clean-360",
    ]  # fmt: skip
    common = ("anonymize", "voiceprivacy", data, "--key", key, "--workers", 1, "--per", "frame", "--stride", 3)
    # The attackers' one codebook is of all speakers, of whom none could be left out.
    cli(*common, "--codebooks", users, "--attacker-codebooks", attackers, "--out", data.parent / "both",
        "--exclude-own-speaker", "--codebooks-used", 2)  # fmt: skip
    cli(*common, "libri_dev_enrolls", "--codebooks", attackers, "--out", data.parent / "theirs")
    for name in ("0-e.wav", "3-e.wav"):
        both, theirs = (data.parent / out / "libri_dev_enrolls_anon" / "wav" / name for out in ("both", "theirs"))
        assert both.read_bytes() == theirs.read_bytes()
    digests = {
        name: json.loads((data.parent / "both" / f"{name}_anon" / "wav" / "anonymized.json").read_text())["codebooks"]
        for name in ("libri_dev_enrolls", "libri_dev_trials_f")
    }
    assert digests["libri_dev_enrolls"] != digests["libri_dev_trials_f"]


def test_a_pipe_is_never_run(cli: Cli, data: Path, users: Path, tmp_path: Path) -> None:
    scp = data / "libri_dev_trials_f" / "wav.scp"
    whole = scp.read_text()
    for pipe in (
        f"touch {tmp_path}/ran |",
        f"flac -c -d -s $(touch {tmp_path}/ran) |",
        f"| touch {tmp_path}/ran",
        f"flac -c -d -s x; touch {tmp_path}/ran |",
    ):
        scp.write_text(f"{whole}evil {pipe}\n")
        said = cli("anonymize", "voiceprivacy", data, "--codebooks", users, fails=True)
        assert f"{scp} line 5: the command" in said
        assert "is not run" in said
        assert "give the file itself" in said
    assert not (tmp_path / "ran").exists()
    assert not (data / "libri_dev_enrolls_anon").exists()  # all tables are read before any speech is made


def test_mistakes_are_told_with_file_and_line(cli: Cli, data: Path, users: Path, tmp_path: Path) -> None:
    def said(*arguments: object) -> str:
        return cli("anonymize", "voiceprivacy", *arguments, "--codebooks", users, "--workers", 1, fails=True)

    assert "has no data set libri_test, with wav.scp in it: it has libri_dev_enrolls, libri_dev_trials_f" in said(
        data, "libri_test"
    )
    assert "is a data set by itself" in said(data / "libri_dev_enrolls", "libri_dev_enrolls")
    (tmp_path / "empty").mkdir()
    assert "has no wav.scp, nor has a folder in it" in said(tmp_path / "empty")
    assert "is no folder" in said(tmp_path / "nowhere")
    (data / "others").mkdir()
    (data / "others" / "utt2spk").write_text("a b\n")
    assert f"{data / 'others'} has utt2spk, but no wav.scp" in said(data)
    shutil.rmtree(data / "others")
    trials = data / "libri_dev_trials_f"
    lines = (trials / "wav.scp").read_text().splitlines()
    for line, words in (
        ("9-t data/corpus/gone.flac", f"line 5: data/corpus/gone.flac isn't there from {data.parent}, where others are: mend"),
        ("9-t /gone.flac", "line 5: /gone.flac isn't there: mend the path"),
        (lines[1], "line 5 names 1-t again"),
        ("9-t", "line 5: should be an utterance id, a blank and a path"),
        ("9/t data/corpus/0-t.flac", "9/t"),
    ):
        write_lines(trials / "wav.scp", [*lines, line])
        assert words in said(data)
    write_lines(trials / "wav.scp", lines)
    (trials / "utt2dur").write_text("0-t long\n")
    assert "utt2dur line 1 should be an utterance and its seconds" in said(data)
    (trials / "utt2dur").unlink()
    (trials / "segments").write_text("0-t r 0 1\n")
    assert "cuts utterances out of longer files" in said(data)
    (trials / "segments").unlink()
    (trials / "utt2spk").unlink()
    assert "has no utt2spk, so own codebooks can't be left out" in said(data, "--exclude-own-speaker")
    (data / "libri_dev_enrolls_anon").mkdir()
    (data / "libri_dev_enrolls_anon" / "text").write_text("somebody's\n")
    assert "libri_dev_enrolls_anon/text is there already" in said(data)
    assert (data / "libri_dev_enrolls_anon" / "text").read_text() == "somebody's\n"


def test_a_folder_with_wav_scp_is_whole_while_it_is_made_anew(
    cli: Cli, data: Path, users: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vocable.recipes import anonymization
    from vocable.recipes.workplace import Claim

    source, made = data / "libri_dev_enrolls", data / "libri_dev_enrolls_anon"
    other = key.with_name("other")
    other.write_bytes(bytes(range(100, 132)))
    common = ("anonymize", "voiceprivacy", source, "--codebooks", users, "--workers", 1)
    cli(*common, "--key", key)

    def state() -> dict[Path, tuple[bytes, int]]:
        return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in made.rglob("*.*") if ".vocable" not in path.parts}

    before = state()
    assert "done already" in cli(*common, "--key", key, "--overwrite")
    assert state() == before
    # A refused command leaves what there is.
    speech = (data / "corpus" / "3-e.flac").read_bytes()
    (data / "corpus" / "3-e.flac").write_bytes(b"fLaC and no more")
    assert "3-e.flac" in cli(*common, "--key", other, "--overwrite", "--strict", fails=True)
    (data / "corpus" / "3-e.flac").write_bytes(speech)
    assert {path: value for path, value in state().items() if path.suffix != ".jsonl"} == {
        path: value for path, value in before.items() if path.suffix != ".jsonl"
    }
    write: Any = anonymization.write_wave
    put: Any = Claim._put_in_place
    written: list[Path] = []

    def killed(path: Path, *values: Any) -> Any:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path)
        return write(path, *values)

    def killed_at_tables(claim: Claim, *values: Any) -> None:
        if claim.name == "tables":
            raise KeyboardInterrupt
        put(claim, *values)

    monkeypatch.setattr(anonymization, "write_wave", killed)
    cli(*common, "--key", other, "--overwrite", fails=True)
    assert len(written) == 2
    assert not (made / "wav.scp").exists()
    monkeypatch.setattr(anonymization, "write_wave", write)
    cli(*common, "--key", other)
    cli(*common, "--key", other, "--out", data.parent / "once" / "data")
    once = results_in(data.parent / "once" / "data" / made.name)
    assert results_in(made) == once
    # So are tables.
    (source / "text").write_text("0-e OTHER WORDS\n")
    monkeypatch.setattr(Claim, "_put_in_place", killed_at_tables)
    cli(*common, "--key", other, "--overwrite", fails=True)
    assert not (made / "wav.scp").exists()
    monkeypatch.setattr(Claim, "_put_in_place", put)
    cli(*common, "--key", other, "--overwrite")
    assert results_in(made) == {**once, "text": b"0-e OTHER WORDS\n"}


def test_tables_that_changed_are_refused_until_they_are_to_be_replaced(cli: Cli, data: Path, users: Path, key: Path) -> None:
    common = ("anonymize", "voiceprivacy", data / "libri_dev_enrolls", "--codebooks", users, "--key", key, "--workers", 1)
    cli(*common)
    (data / "libri_dev_enrolls" / "text").write_text("0-e OTHER WORDS\n")
    assert "made with other settings: text" in cli(*common, fails=True)
    cli(*common, "--overwrite")
    assert (data / "libri_dev_enrolls_anon" / "text").read_text() == "0-e OTHER WORDS\n"


def test_what_cannot_be_used_is_named_and_stays_in_the_tables(cli: Cli, data: Path, users: Path, key: Path) -> None:
    (data / "corpus" / "2-t.flac").write_bytes(b"fLaC and no more")
    common = ("anonymize", "voiceprivacy", data, "libri_dev_trials_f", "--codebooks", users, "--key", key, "--workers", 1)
    said = cli(*common)
    made = data / "libri_dev_trials_f_anon"
    assert "3 utterances" in said
    assert "utt2spk and the other tables still list them" in said
    assert "2-t.flac" in (made / "wav" / "skipped.jsonl").read_text()
    assert [line.split()[0] for line in (made / "wav.scp").read_text().splitlines()] == ["0-t", "1-t", "3-t"]
    assert "2-t s2" in (made / "utt2spk").read_text()
    assert "2-t.flac" in cli(*common, "--strict", "--out", data.parent / "strict", fails=True)


def test_lengths_are_written_anew_where_speech_became_shorter(cli: Cli, data: Path, users: Path) -> None:
    trials = data / "libri_dev_trials_f"
    (trials / "utt2dur").write_text("0-t 0.65\n1-t 0.70\n2-t 0.80\n9-t 7\n")
    (trials / "reco2dur").write_text("0-t 0.605\n1-t 0.70\n2-t 0.90\n")
    cli("anonymize", "voiceprivacy", trials, "--codebooks", users, "--workers", 1)
    made = data / "libri_dev_trials_f_anon"
    assert (made / "utt2dur").read_text() == "0-t 0.6\n1-t 0.7\n2-t 0.8\n9-t 7.0\n"
    assert (made / "reco2dur").read_text() == "0-t 0.6\n1-t 0.7\n2-t 0.8\n"


def test_a_model_shortens_speech_unless_lengths_are_to_match(cli: Cli, pool: Path, tmp_path: Path) -> None:
    torch.manual_seed(3)
    encoder, model = tmp_path / "encoder", tmp_path / "detokenizer.safetensors"
    write_encoder(EncoderCheckpoint.of(made_encoder(tiny("wavlm", large=True, layers=7))), encoder, "vocable")
    shape, vocoder = ConformerConfig(dim=64, heads=4, ffn_dim=64, layers=2), VocoderConfig(dim=64, projected=16, channels=32)
    parts = {"conformer": Conformer(shape), "vocoder": Vocoder(vocoder)}
    tensors = {f"{part}.{name}": value for part, own in parts.items() for name, value in own.state_dict().items()}
    write_detokenizer(DetokenizerCheckpoint(model, shape, vocoder, tensors), model)
    codebooks = fit(pool, tmp_path / "neural.safetensors", "--encoder", encoder, "--layer", 6, "--speakers-per-codebook", "all")
    folder = write_set(tmp_path / "x_trials_f", {"u": ("u.wav", "s")})
    soundfile.write(folder / "u.wav", speech_like(1, 1)[:9679], 16000)
    for table in ("utt2dur", "reco2dur"):
        (folder / table).write_text("u 0.605\n")
    common = (
        "anonymize",
        "voiceprivacy",
        folder,
        "--codebooks",
        codebooks,
        "--model",
        model,
        "--encoder",
        encoder,
        "--workers",
        1,
    )
    cli(*common)
    cli(*common, "--match-length", "--suffix", "_matched")
    for table in ("utt2dur", "reco2dur"):
        assert (tmp_path / "x_trials_f_anon" / table).read_text() == "u 0.58\n"
        assert (tmp_path / "x_trials_f_matched" / table).read_text() == "u 0.605\n"
    other = fit(pool, tmp_path / "other.safetensors", "--encoder", encoder, "--layer", 5, "--speakers-per-codebook", "all")
    assert "layer" in cli(*common, "--attacker-codebooks", other, "--suffix", "_x", fails=True)


def test_parts_and_dry_runs(cli: Cli, data: Path, users: Path, key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vocable.audio.blocks.blocks_of.__defaults__", (1.0,))
    common = ("anonymize", "voiceprivacy", data, "--codebooks", users, "--key", key, "--workers", 1)
    before = sorted(data.parent.rglob("*"))
    said = cli(*common, "--dry-run")
    assert said.count("would be converted into") == 2
    assert "hours of audio" in said
    assert sorted(data.parent.rglob("*")) == before
    cli(*common, "--out", data.parent / "once" / "data")
    out = data.parent / "parts" / "data"
    assert "The last part to finish writes the tables of" in cli(*common, "--out", out, "--nshard", 2, "--rank", 1)
    assert not (out / "libri_dev_enrolls_anon" / "wav.scp").exists()
    cli(*common, "--out", out, "--nshard", 2, "--rank", 0)
    for name in ("libri_dev_enrolls_anon", "libri_dev_trials_f_anon"):
        assert results_in(out / name) == results_in(data.parent / "once" / "data" / name)


def test_relative_paths_are_looked_for_where_they_may_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_set(tmp_path / "root" / "data" / "set", {"u": ("x.wav", "s")})
    places = [tmp_path / "root", tmp_path / "root" / "data", folder, tmp_path / "here"]
    for place in places:
        write_audio(place / "x.wav", 0.1, 1)
    monkeypatch.chdir(places[-1])
    for place in places:
        assert KaldiSet(folder).utterances()[0].path == str(place / "x.wav")
        assert KaldiSet(Path(os.path.relpath(folder))).utterances()[0].path == str(place / "x.wav")
        (place / "x.wav").unlink()
    with pytest.raises(InputError, match="wav.scp line 1: x.wav isn't there, from none of .*root, .*here: mend the path, or run"):
        KaldiSet(folder).utterances()


def test_all_relative_paths_start_from_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = write_audio(tmp_path / "whole.wav", 0.1, 1)
    rows = {"u": ("corpora/u.wav", "s"), "v": ("corpora/v.wav", "s"), "w": (str(whole), "s")}
    folder = write_set(tmp_path / "root" / "data" / "set", rows)
    here = tmp_path / "here"
    for name in "uv":
        write_audio(here / "corpora" / f"{name}.wav", 0.1, 1)
    monkeypatch.chdir(here)
    assert [row.path for row in KaldiSet(folder).utterances()] == [*(f"{here}/corpora/{name}.wav" for name in "uv"), str(whole)]
    # Of these, one is where the data set lies: the other isn't taken from elsewhere, where it may be other speech.
    write_audio(tmp_path / "root" / "corpora" / "u.wav", 0.1, 1)
    with pytest.raises(InputError, match=r"line 2: corpora/v.wav isn't there from .*/root, where others are"):
        KaldiSet(folder).utterances()
    # The challenge's own use: from the folder that `data` lies in.
    write_audio(tmp_path / "root" / "corpora" / "v.wav", 0.1, 1)
    monkeypatch.chdir(tmp_path / "root")
    assert KaldiSet(Path("data/set")).utterances()[1].path == str(tmp_path / "root" / "corpora" / "v.wav")


def tone(first: float, second: float) -> NDArray[np.float32]:
    """Return a waveform in whose first samples a description is written."""
    wave = np.full(8000, 0.01, np.float32)
    wave[:2] = first, second
    return wave


@pytest.fixture(autouse=True)
def judges(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("judges_of_challenges")
    module.describe = lambda wave: wave[:2].astype(np.float64)  # type: ignore[attr-defined]
    module.write_down = lambda wave: f"{WORDS} n{round(float(wave[0]) * 100)}"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "judges_of_challenges", module)


# What the made verifier says of each utterance, as it was and as it is said now.
ENROLLED = {"a1": ("a", (0.9, 0.0), (0.0, 0.9)), "a2": ("a", (0.0, 0.3), (0.0, 0.9)), "b1": ("b", (0.0, 0.9), (0.9, 0.0))}
TRIED = {
    "a3": ("a", (0.9, 0.3), (0.0, 0.9)), "a4": ("a", (0.6, 0.6), (0.3, 0.9)), "b2": ("b", (0.3, 0.9), (0.9, 0.0)),
    "b3": ("b", (0.9, 0.6), (0.9, 0.3)),
}  # fmt: skip


@pytest.fixture
def challenge(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    for name, rows in (("x_enrolls", ENROLLED), ("x_trials_f", TRIED), ("x_trials_m", TRIED)):
        for side, suffix in enumerate(("", "_anon")):
            folder = data / f"{name}{suffix}"
            write_set(folder, {utterance: (f"wav/{utterance}.wav", rows[utterance][0]) for utterance in rows})
            (folder / "wav").mkdir()
            for utterance, values in rows.items():
                soundfile.write(folder / "wav" / f"{utterance}.wav", tone(*values[1 + side]), 16000, subtype="FLOAT")
        if rows is TRIED:
            listed = [f"{who} {name} {'target' if TRIED[name][0] == who else 'nontarget'}" for who in "ab" for name in TRIED]
            write_lines(data / name / "trials", listed)
    return data


def score(cli: Cli, data: Path, *options: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        cli(
            "evaluate",
            "voiceprivacy",
            data,
            data,
            "--verifier",
            "judges_of_challenges:describe",
            "--workers",
            1,
            "--json",
            *options,
        )
    )
    return found


def test_trials_are_scored_as_one_can_by_hand(cli: Cli, challenge: Path) -> None:
    found = score(cli, challenge)
    # Speaker a is enrolled by the mean (0.45, 0.15), b by (0, 0.9). Cosines of a3, a4, b2, b3 with a are 1 .894 .6 .965, with b
    # .316 .707 .949 .555. At a threshold from .707 to .894, one of four targets (b3, .555) is rejected, and one of four others
    # (b3 taken for a, .965) accepted. Were a's descriptions of equal length, it would be 3 of 8.
    original = found["sets"]["x_trials_f"]["original"]
    assert (original["rate"], original["targets"], original["others"]) == (0.25, 4, 4)
    # With the same enrolments and what is said now: .316 .6 .949 1 and 1 .949 0 .316. No target is above any other.
    assert found["sets"]["x_trials_f"]["ignorant"]["rate"] == 1
    # With enrolments (0, 0.9) and (0.9, 0) of what is said now: 1 .949 0 .316 and 0 .316 1 .949.
    assert found["sets"]["x_trials_f"]["lazy_informed"]["rate"] == 0
    mean = found["means"]["x"]
    assert (mean["original"]["rate"], mean["original"]["targets"], mean["utterances"]) == (0.25, 8, 8)
    assert mean["original"]["low"] <= 0.25 <= mean["original"]["high"]
    said = cli("evaluate", "voiceprivacy", challenge, challenge, "--verifier", "judges_of_challenges:describe", "--workers", 1)
    assert all(words in said for words in ("x_trials_f", "mean of x", "lazy-informed", "25.0% ("))


def test_trials_of_which_nothing_was_made_are_left_out_and_counted(cli: Cli, challenge: Path) -> None:
    made = challenge / "x_trials_f_anon"
    write_lines(made / "wav.scp", [line for line in (made / "wav.scp").read_text().splitlines() if not line.startswith("b3")])
    found = score(cli, challenge)
    assert found["missing"] == ["b3"]
    assert (found["sets"]["x_trials_f"]["original"]["rate"], found["sets"]["x_trials_f"]["original"]["targets"]) == (0, 3)
    assert found["sets"]["x_trials_m"]["original"]["rate"] == 0.25


def test_each_side_reads_speech_of_its_own(cli: Cli, challenge: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in challenge.iterdir():
        write_lines(
            folder / "wav.scp", [f"{path.stem} data/{folder.name}/wav/{path.name}" for path in sorted(folder.rglob("*.wav"))]
        )
    other = tmp_path / "try2" / "data"
    shutil.copytree(challenge, other)
    for path in other.glob("*_anon/wav/*.wav"):  # nothing was hidden here
        shutil.copy(other / path.parts[-3].removesuffix("_anon") / "wav" / path.name, path)
    monkeypatch.chdir(tmp_path)
    both = ("--verifier", "judges_of_challenges:describe", "--workers", 1, "--json")
    found = json.loads(cli("evaluate", "voiceprivacy", "data", other, *both))["sets"]["x_trials_f"]
    assert [found[who]["rate"] for who in ("original", "ignorant", "lazy_informed")] == [0.25, 0.25, 0.25]
    found = json.loads(cli("evaluate", "voiceprivacy", "data", "data", *both))["sets"]["x_trials_f"]
    assert [found[who]["rate"] for who in ("original", "ignorant", "lazy_informed")] == [0.25, 1, 0]
    (other / "x_trials_f_anon" / "wav" / "a3.wav").unlink()
    said = cli("evaluate", "voiceprivacy", "data", other, *both, fails=True)
    assert f"wav.scp line 1: data/x_trials_f_anon/wav/a3.wav isn't there from {other.parent}" in said


def test_files_that_cannot_be_read_are_told(cli: Cli, challenge: Path) -> None:
    broken = [challenge / "x_enrolls" / "wav" / "a2.wav", challenge / "x_trials_f_anon" / "wav" / "b2.wav"]
    for path in broken:
        path.write_bytes(b"RIFF and no more")
    found = score(cli, challenge)
    assert found["skipped"] == [str(path) for path in broken]
    assert found["sets"]["x_trials_f"]["original"]["targets"] == 3
    said = cli("evaluate", "voiceprivacy", challenge, challenge, "--verifier", "judges_of_challenges:describe", "--workers", 1)
    assert "2 unreadable: can't be decoded" in said
    assert f"Trials of these 2 files are left out, too; the first is {broken[0]}." in said


def test_judges_have_no_device(cli: Cli, challenge: Path) -> None:
    assert "--device" in cli("evaluate", "voiceprivacy", challenge, challenge, "--device", "cuda", fails=True)


def test_mistakes_in_trials_are_told_with_file_and_line(cli: Cli, challenge: Path) -> None:
    common = ("evaluate", "voiceprivacy", challenge, challenge, "--verifier", "judges_of_challenges:describe", "--workers", 1)
    trials = challenge / "x_trials_f" / "trials"
    whole = trials.read_text()
    for line, words in (
        ("a a3", "should be a speaker, an utterance, and target or nontarget"),
        ("a a3 yes", "should be a speaker, an utterance, and target or nontarget"),
        ("z a3 nontarget", "enrols nobody called z"),
        ("a zzz target", "has no utterance zzz"),
        ("a b2 target", "says target, but by utt2spk b speaks b2"),
    ):
        trials.write_text(f"{whole}{line}\n")
        said = cli(*common, fails=True)
        assert f"{trials} line 9" in said
        assert words in said
    trials.write_text("a a3 target\n")
    assert "needs trials of one speaker, and of two" in cli(*common, fails=True)
    assert "has no data set x_enrolls_other: anonymize x_enrolls" in cli(*common, "--suffix", "_other", fails=True)
    shutil.rmtree(challenge / "x_enrolls")
    assert "has no NAME_enrolls with NAME_trials_f or NAME_trials_m" in cli(*common, fails=True)


def test_a_trials_list_is_rows_of_both_sides() -> None:
    trials = Trials.listed([("b", "u"), ("a", "u"), ("b", "v")], ["a", "b"], ["u", "v"], ["a", "b"])
    assert trials.pairs.tolist() == [[1, 0], [0, 0], [1, 1]]
    assert trials.targets.tolist() == [False, True, True]
    with pytest.raises(InputError, match="give a list with both"):
        Trials.listed([("a", "u")], ["a"], ["u"], ["a"])


def test_data_sets_are_evaluated_as_they_are(cli: Cli, challenge: Path) -> None:
    sides = (challenge / "x_trials_f", challenge / "x_trials_f_anon")
    privacy = ("evaluate", "privacy", *sides, "--verifier", "judges_of_challenges:describe", "--workers", 1, "--json")
    alone = cli(
        "evaluate", "privacy", *sides, "--verifier", "judges_of_challenges:describe", "--workers", 1, "--json", fails=True
    )
    assert "several speakers" in alone  # spk2gender: a speaks among women, b among men, and both have nobody to be taken for
    write_lines(sides[0] / "spk2gender", ["a f", "b f"])
    found = json.loads(cli(*privacy))
    assert (found["original"]["targets"], found["original"]["others"]) == (4, 8)
    (sides[0] / "groups").write_text("a f\nb m\n")
    assert "several speakers" in cli(*privacy, "--groups", sides[0] / "groups", fails=True)
    # Others than utt2spk's, of whom spk2gender knows nothing.
    (sides[0] / "others").write_text("a3 c\na4 c\nb2 c\nb3 d\n")
    found = json.loads(cli(*privacy, "--speakers", sides[0] / "others"))
    assert (found["original"]["targets"], found["original"]["others"]) == (6, 6)
    heard = ("evaluate", "intelligibility", *sides, "--recogniser", "judges_of_challenges:write_down", "--workers", 1, "--json")
    assert json.loads(cli(*heard))["original"] is None
    for transcripts in (sides[0], sides[0] / "text"):
        found = json.loads(cli(*heard, "--transcripts", transcripts))
        assert (found["original"]["errors"], found["original"]["said"]) == (4, 12)  # the name of each, which it reads otherwise


def test_what_was_made_here_is_scored_here(cli: Cli, data: Path, users: Path, tmp_path: Path) -> None:
    cli("anonymize", "voiceprivacy", data, "--codebooks", users, "--workers", 1)
    found = score(cli, data)
    assert list(found["sets"]) == ["libri_dev_trials_f"]
    assert found["means"] == {}
    assert found["missing"] == []


def test_names_that_no_list_can_carry_are_refused(cli: Cli, data: Path, users: Path, tmp_path: Path) -> None:
    odd = tmp_path / "a\nb"
    said = cli("anonymize", "voiceprivacy", data, "--codebooks", users, "--out", odd, "--dry-run", fails=True)
    assert "a name with a line break, which no wav.scp can carry" in said
    shutil.copytree(data.parent, odd)
    said = cli("anonymize", "voiceprivacy", odd / "data", "--codebooks", users, "--out", tmp_path / "out", fails=True)
    assert "is a name with a line break: rename it" in said
