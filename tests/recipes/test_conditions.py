"""Conditions of anonymization beside each other, by command, with judges made for the test."""

from __future__ import annotations

import importlib
import itertools
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from helpers import artefacts_in, write_audio
from vocable.errors import InputError
from vocable.evaluation.recognition import word_errors
from vocable.evaluation.verification import equal_error_rate
from vocable.recipes.anonymization_conditions import read_conditions, slug
from vocable.recipes.noise import HIGHEST, LOWEST, WhiteNoise, noise_with_errors

Cli = Callable[..., str]
HEARD: list[str] = []


def describe(wave: NDArray[np.float32]) -> NDArray[np.float64]:
    """Tell a speaker by the long-term spectrum."""
    HEARD.append("described")
    frames = np.abs(np.fft.rfft(wave[: len(wave) // 512 * 512].reshape(-1, 512) * np.hanning(512)))
    spectrum = np.log(frames.mean(axis=0) + 1e-6)
    return spectrum - spectrum.mean()


def described(path: Path) -> NDArray[np.float64]:
    found = describe(soundfile.read(path, dtype="float32")[0])
    return found / np.linalg.norm(found)


def write_down(wave: NDArray[np.float32]) -> str:
    """Write a word for each tenth of a second: which part of the spectrum is the strongest."""
    HEARD.append("read")
    spectra = np.abs(np.fft.rfft(wave[: len(wave) // 1600 * 1600].reshape(-1, 1600)))
    return " ".join(f"w{int(one.argmax() // 40)}" for one in spectra)


@pytest.fixture(autouse=True)
def judges(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("judges_of_conditions")
    module.describe, module.write_down = describe, write_down  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "judges_of_conditions", module)
    HEARD.clear()


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("speech")
    for number in range(6):
        write_audio(root / "said" / f"s{number % 3}" / f"{number}.wav", 1.5, number)
        write_audio(root / "others" / f"p{number % 2}" / f"{number}.wav", 1.5, 50 + number)
    return root


RECIPE = """
[audio]
originals = "said"
speakers = "{speaker}/*"

[judges]
verifier = "judges_of_conditions:describe"
recogniser = "judges_of_conditions:write_down"
draws = 2
listened = 2

[codebooks.each]
audio = "others"
speakers = "{speaker}/*"
clusters = 8

[codebooks.all]
audio = "others"
speakers = "{speaker}/*"
speakers_per_codebook = "all"
clusters = 8

[[conditions]]
name = "original"

[[conditions]]
name = "put together"
codebooks = "each"
keeps = ["frames", "voice"]

[[conditions]]
name = "each"
codebooks = "each"

[[conditions]]
name = "one, voices of each"
codebooks = "all"
voices = "each"

[[conditions]]
name = "noise"
noise_as = "each"

[[comparisons]]
one = "one, voices of each"
other = "each"

[[comparisons]]
one = "each"
other = "each"
"""


def test_conditions_come_into_one_table(cli: Cli, speech: Path, tmp_path: Path) -> None:
    (speech / "recipe.toml").write_text(RECIPE)
    command = ("evaluate", "anonymization", speech / "recipe.toml", "--out", tmp_path / "out", "--workers", 1)
    said = cli(*command)
    for name in ("original", "put together", "one, voices of each", "noise", "each, less one, voices of each"):
        assert name in said
    made = json.loads((tmp_path / "out" / "scores.json").read_text())
    rows = {row["name"]: row for row in made["conditions"]}
    assert list(rows) == ["original", "put together", "each", "one, voices of each", "noise"]
    assert rows["original"]["words"] is None  # what is read out of it counts as said
    assert rows["original"]["ignorant"]["targets"] == 6
    assert rows["put together"]["ignorant"]["targets"] == 6  # it is not drawn, and made once
    assert rows["each"]["ignorant"]["targets"] == 12
    for name, folder, draws in (("each", "each", 2), ("put together", "put-together", 1)):
        before = {path.stem: described(path) for path in (speech / "said").rglob("*.wav")}
        rates = []
        for informed in (False, True):
            scores, targets = [], []
            for draw in range(draws):
                now = {path.stem: described(path) for path in (tmp_path / "out" / folder / str(draw + 1)).rglob("*.wav")}
                for one, other in itertools.permutations(sorted(before), 2):
                    scores.append(float((now if informed else before)[one] @ now[other]))
                    targets.append(int(one) % 3 == int(other) % 3)
            rates.append(equal_error_rate(np.array(scores), np.array(targets)))
        assert [rows[name]["ignorant"]["rate"], rows[name]["lazy_informed"]["rate"]] == pytest.approx(rates, abs=1e-9)
    draws = [[path.read_bytes() for path in sorted((tmp_path / "out" / "each" / draw).rglob("*.wav"))] for draw in "12"]
    assert draws[0] != draws[1]
    said_now = [soundfile.read(path)[0] for draw in "12" for path in sorted((tmp_path / "out" / "each" / draw).rglob("*.wav"))]
    said_before = [soundfile.read(path)[0] for path in sorted((speech / "said").rglob("*.wav"))] * 2
    assert rows["each"]["words"] == pytest.approx(
        vars(word_errors([*map(write_down, said_before)], [*map(write_down, said_now)], ["s0", "s0", "s1", "s1", "s2", "s2"] * 2))
    )
    level = rows["noise"]["noise"]
    assert LOWEST < level < HIGHEST - 1
    wanted, got = (rows[name]["words"]["rate"] for name in ("each", "noise"))
    louder, softer = (
        word_errors(
            [*map(write_down, said_before[:6])],
            [
                write_down(WhiteNoise(level + change)(wave.astype(np.float32), f"s{number // 2}/{path.stem}"))
                for number, (wave, path) in enumerate(zip(said_before, sorted((speech / "said").rglob("*.wav")), strict=False))
            ],
        ).rate
        for change in (-2.0, 2.0)
    )
    assert softer <= wanted <= louder
    assert softer <= got <= louder
    first, second = made["differences"]
    assert first["words"][1] <= first["words"][0] <= first["words"][2]
    assert second["ignorant"] == second["words"] == [0, 0, 0]  # draws of speakers are the same ones for both
    assert first["words"][0] == pytest.approx(rows["each"]["words"]["rate"] - rows["one, voices of each"]["words"]["rate"])
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("<audio") == 10
    lines = (tmp_path / "out" / "table.md").read_text().split("\n")
    assert [line.split("|")[1].strip() for line in lines[2:7]] == [
        "original", "put together", "each", "one, voices of each", f"noise ({rows['noise']['noise']:.1f} dB)",
    ]  # fmt: skip
    assert lines[-1] == ""
    before = {name: content for name, content in artefacts_in(tmp_path / "out").items() if not name.endswith("jsonl")}
    HEARD.clear()
    assert json.loads(cli(*command, "--json")) == made
    assert not HEARD  # nothing is judged twice
    assert {name: content for name, content in artefacts_in(tmp_path / "out").items() if not name.endswith("jsonl")} == before


def test_what_was_said_may_be_given(cli: Cli, speech: Path, tmp_path: Path) -> None:
    recipe = RECIPE[: RECIPE.index('[[conditions]]\nname = "put')] + '[[conditions]]\nname = "noise"\nnoise_as = "original"\n'
    (speech / "few.toml").write_text(recipe)
    (tmp_path / "said").write_text("".join(f"s{number % 3}/{number} w1 w2\n" for number in range(6)))
    given = (f"audio.transcripts={tmp_path / 'said'}", "codebooks.each.clusters=4", "judges.listened=0")
    made = json.loads(
        cli("evaluate", "anonymization", speech / "few.toml", *given, "--out", tmp_path / "out", "--workers", 1, "--json")
    )
    assert made["conditions"][0]["words"]["said"] == 12
    assert not list((tmp_path / "out").glob("codebooks*"))  # nobody asks for them
    (tmp_path / "groups").write_text("s0 f\ns1 f\n")
    command = ("evaluate", "anonymization", speech / "few.toml", *given, "--out", tmp_path / "other", "--workers", 1)
    assert "which group s2 belongs to" in cli(*command, f"audio.groups={tmp_path / 'groups'}", fails=True)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('codebooks = "all"\nvoices = "each"', 'codebooks = "al"'), "there are no codebooks 'al': add a section [codebooks.al]"),
        (('noise_as = "each"', 'noise_as = "nothing"'), "there is no condition 'nothing'"),
        (('noise_as = "each"', 'noise_as = "noise"'), "is noise itself"),
        (('name = "put together"', 'name = "original"'), "two conditions are called 'original'"),
        (('name = "put together"', 'name = "Original!"'), "can't be told from others"),
        (('name = "each"\ncodebooks = "each"', 'name = "each"\ncodebooks = "each"\nstride = 3'), "a stride of 3 goes with per"),
        (('name = "each"\ncodebooks = "each"', 'name = "each"\ncodebooks = "each"\ndistance = 99'), "a distance of 99"),
        (('keeps = ["frames", "voice"]', 'keeps = ["frames", "voice"]\ndistance = 2'), "a voice that is kept has no distance"),
        (('name = "original"', 'name = "original"\nper = "frame"'), "per goes with codebooks"),
        (('other = "each"', 'other = "every"'), "a comparison names 'every'"),
        (('keeps = ["frames", "voice"]', 'keeps = ["words"]'), "keeps is one of frames, voice"),
        (('name = "original"', 'name = "original"\nvoices = "each"'), "voices goes with codebooks"),
        (
            ('name = "each"\ncodebooks = "each"', 'name = "each"\ncodebooks = "each"\nnoise_as = "original"'),
            "different conditions",
        ),
        (("draws = 2", "draws = 0"), "give 1 or more"),
        (('recogniser = "judges_of_conditions:write_down"', 'recogniser = ""'), "give one of"),
        (('speakers_per_codebook = "all"', 'speakers_per_codebook = "some"'), "give a number, or all"),
        (('speakers_per_codebook = "all"', 'file = "x"'), "give file, of codebooks, or audio"),
        (("[judges]", "[jury]"), "there is no section [jury]"),
        (("[judges]", "[[judges]]"), "judges is a section"),
        (("[[comparisons]]", "[comparisons.x]"), "comparisons"),
        (('originals = "said"', 'original = "said"'), "did you mean 'originals'"),
    ],
)
def test_mistakes_in_conditions_are_named(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    assert change[0] in RECIPE
    (tmp_path / "recipe.toml").write_text(RECIPE.replace(change[0], change[1]))
    with pytest.raises(InputError) as mistake:
        read_conditions(tmp_path / "recipe.toml")
    assert said in str(mistake.value)
    assert str(mistake.value).startswith(str(tmp_path / "recipe.toml"))


def test_codebooks_have_files_of_their_own(tmp_path: Path) -> None:
    recipe = RECIPE.replace("[codebooks.all]", '[codebooks."EACH!"]').replace('codebooks = "all"', 'codebooks = "EACH!"')
    (tmp_path / "recipe.toml").write_text(recipe)
    with pytest.raises(InputError, match="the codebooks 'each' can't be told from others"):
        read_conditions(tmp_path / "recipe.toml")


def test_a_file_without_conditions_is_refused(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE[: RECIPE.index("[[conditions]]")])
    with pytest.raises(InputError, match="has no"):
        read_conditions(tmp_path / "recipe.toml")


def test_conditions_that_come_along_can_be_read() -> None:
    found = read_conditions("controls", ["audio.originals=a", "codebooks.each.audio=b", "codebooks.all.audio=b"])
    assert len(found.conditions) == 13
    assert {name: item.fit.speakers_per_codebook for name, item in found.codebooks.items()} == {"each": 1, "all": None}
    assert found.conditions[1].keeps == ("frames", "voice")
    assert not found.conditions[1].is_drawn


def test_noise_is_as_loud_as_it_says() -> None:
    wave = np.sin(np.arange(16000) / 5).astype(np.float32) * 0.1
    noise = WhiteNoise(10.0)(wave, "a") - wave
    assert 10 * np.log10(np.square(wave).mean() / np.square(noise).mean()) == pytest.approx(10, abs=0.2)
    assert np.array_equal(WhiteNoise(10.0)(wave, "a"), WhiteNoise(10.0)(wave, "a"))
    assert not np.array_equal(WhiteNoise(10.0)(wave, "a"), WhiteNoise(10.0)(wave, "b"))
    assert np.abs(WhiteNoise(-15.0)(wave * 9, "a")).max() <= 1
    assert not WhiteNoise(0.0)(np.zeros(100, np.float32), "a").any()


def test_noise_is_looked_for_by_what_it_costs() -> None:
    found = noise_with_errors(0.3, lambda noise: 1 / (1 + np.exp((noise.over - 7.3) / 4)))
    assert found.over == pytest.approx(7.3 + 4 * np.log(0.7 / 0.3), abs=0.5)


def test_results_of_something_else_are_not_replaced_unasked(cli: Cli, speech: Path, tmp_path: Path) -> None:
    few = RECIPE[: RECIPE.index('[[conditions]]\nname = "put')] + '[[conditions]]\nname = "noise"\nnoise_as = "original"\n'
    (speech / "short.toml").write_text(few)
    command = ("evaluate", "anonymization", speech / "short.toml", "--out", tmp_path / "out", "--workers", 1)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.html").write_text("mine")
    assert "is there already" in cli(*command, fails=True)
    assert (tmp_path / "out" / "report.html").read_text() == "mine"
    (tmp_path / "out" / "report.html").unlink()
    cli(*command)
    before = (tmp_path / "out" / "scores.json").read_bytes()
    assert "made with other settings" in cli(*command, "judges.listened=1", fails=True)
    assert (tmp_path / "out" / "scores.json").read_bytes() == before
    cli(*command, "judges.listened=1", "--overwrite")
    inside = ("evaluate", "anonymization", speech / "short.toml", "--out", speech / "said" / "out", "--workers", 1)
    assert "give another folder" in cli(*inside, fails=True)
    assert not (speech / "said" / "out").exists()


def test_what_cannot_be_is_told_before_any_work(cli: Cli, speech: Path, tmp_path: Path) -> None:
    (speech / "late.toml").write_text(RECIPE.replace('voices = "each"', 'voices = "each"\nmodel = "nowhere.pt"'))
    command = ("evaluate", "anonymization", speech / "late.toml", "--out", tmp_path / "out", "--workers", 1)
    assert "nowhere.pt: there is no such file" in cli(*command, fails=True)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".vocable"]


def test_files_that_cannot_be_read_are_counted(cli: Cli, speech: Path, tmp_path: Path) -> None:
    shutil.copytree(speech / "said", tmp_path / "said")
    (tmp_path / "said" / "s0" / "broken.wav").write_bytes(b"RIFF")
    few = RECIPE[: RECIPE.index('[[conditions]]\nname = "put')]
    (tmp_path / "recipe.toml").write_text(few)
    command = ("evaluate", "anonymization", tmp_path / "recipe.toml", "--out", tmp_path / "out", "--workers", 1)
    assert "6 utterances, of 7" in cli(*command)
    assert json.loads((tmp_path / "out" / "scores.json").read_text())["skipped"] == 1


def test_a_judge_that_was_changed_judges_anew(cli: Cli, speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = RECIPE[: RECIPE.index('[[conditions]]\nname = "put')].replace("judges_of_conditions:describe", "own_judge:describe")
    (speech / "own.toml").write_text(few)
    monkeypatch.syspath_prepend(tmp_path)
    command = ("evaluate", "anonymization", speech / "own.toml", "--workers", 1)
    rates = []
    for number, body in enumerate(("wave[:3] + 1", "(wave[0] > 9) * wave[:3] + 1")):
        (tmp_path / "own_judge.py").write_text(f"def describe(wave):\n    return {body}\n")
        os.utime(tmp_path / "own_judge.py", (number, number))
        sys.modules.pop("own_judge", None)
        importlib.invalidate_caches()
        found = json.loads(cli(*command, "--out", tmp_path / "out", "--json", *(["--overwrite"] if number else [])))
        rates.append(found["conditions"][0]["ignorant"]["rate"])
    assert rates[1] == 0.5  # all utterances are described alike
    assert rates[0] != 0.5


def test_names_without_letters_are_called_by_their_digest() -> None:
    assert slug("A b") == "a-b"
    assert len({slug("контроль"), slug("шум"), slug("噪音")}) == 3
