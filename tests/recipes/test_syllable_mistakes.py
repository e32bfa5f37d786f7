"""What users of the syllables' commands get wrong, and what others left: a sentence each, and nothing of theirs is lost."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from helpers import artefacts_in, write_audio
from models.made import made_encoder, tiny
from vocable.checkpoints.encoder_checkpoint import EncoderCheckpoint
from vocable.checkpoints.encoders import write_encoder
from vocable.errors import InputError
from vocable.recipes.sdhubert_reference import read_reference_training
from vocable.recipes.sdhubert_settings import read_sdhubert_settings
from vocable.recipes.stored_segments import StoredSegments
from vocable.recipes.syllable_references import read_references
from vocable.syllables.compat import MincutWrapper
from vocable.syllables.segmenter import Segmenter
from vocable.syllables.settings import Greedy, MinimumCut, NormPeaks, Voicing
from vocable.syllables.syllabification import Phonology

Cli = Callable[..., str]
LAYERS = ("--layer", 2, "--norm-layer", 3, "--norm-threshold", -1)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("encoder") / "sdhubert"
    config = replace(tiny(), family="sdhubert", aggregator=True)
    write_encoder(EncoderCheckpoint.of(made_encoder(config)), path, "vocable")
    return path


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("audio")
    for number in range(4):
        write_audio(root / f"s{number % 2}" / f"u{number}.wav", 1.0 + number / 4, number)
    return root


@pytest.fixture(scope="module")
def segments(audio: Path, encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from vocable.cli.main import run

    out = tmp_path_factory.mktemp("segments") / "cut"
    command = ["syllables", "segment", audio, "--encoder", encoder, "--out", out, *LAYERS, "--merge-threshold", "2"]
    assert run([str(item) for item in command]) == 0
    return out


@pytest.fixture(scope="module")
def book(segments: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from vocable.cli.main import run

    path = tmp_path_factory.mktemp("book") / "book.safetensors"
    sizes = ["--n-clusters", "6", "--n-clusters-agglomerative", "3"]
    assert run(["syllables", "cluster", str(segments), "--out", str(path), *sizes]) == 0
    return path


def test_units_leave_other_files_alone(cli: Cli, segments: Path, book: Path, tmp_path: Path) -> None:
    common = ("syllables", "units", segments, "--codebook", book, "--out", tmp_path / "u")
    forms = ("--form", "jsonl,textgrid,audacity")
    cli(*common, *forms)
    coarse = artefacts_in(tmp_path / "u")
    grids = {name for name in coarse if name.endswith(".TextGrid")}
    assert grids == {f"s{number % 2}/u{number}.units.TextGrid" for number in range(4)}
    cli(*common, *forms, "--name", "fine", "--level", "fine")
    cli(*common, "--name", "third")
    np.save(tmp_path / "other.npy", np.zeros((3, 5)))
    cli("syllables", "units", segments, "--codebook", tmp_path / "other.npy", "--out", tmp_path / "u", "--name", "x", fails=True)
    after = artefacts_in(tmp_path / "u")
    assert {name: after[name] for name in grids} == {name: coarse[name] for name in grids}
    assert "done already" in cli(*common, *forms)
    (tmp_path / "u" / "s0" / "u0.units.TextGrid").write_text("")
    assert "done already" not in cli(*common, *forms)
    assert artefacts_in(tmp_path / "u")["s0/u0.units.TextGrid"] == coarse["s0/u0.units.TextGrid"]
    cli(*common, "--form", "jsonl", "--overwrite")  # in fewer forms: those that aren't wanted any more go
    assert not list((tmp_path / "u").rglob("*.units.TextGrid"))
    assert len(list((tmp_path / "u").rglob("*.fine.TextGrid"))) == 4
    mine = tmp_path / "v" / "s0" / "u0.units.TextGrid"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    foreign = ("syllables", "units", segments, "--codebook", book, "--out", tmp_path / "v")
    assert "isn't of this command" in cli(*foreign, *forms, fails=True)
    cli(*foreign)
    assert mine.read_text() == "mine"


def test_segments_that_are_gone_are_missed(cli: Cli, segments: Path, book: Path, tmp_path: Path) -> None:
    shutil.copytree(segments, tmp_path / "cut")
    (tmp_path / "cut" / "s0" / "u0_segments.txt").unlink()
    for command in (("units", tmp_path / "cut", "--codebook", book), ("cluster", tmp_path / "cut")):
        out = tmp_path / ("u" if command[0] == "units" else "b.safetensors")
        assert "3 of the 4 utterances" in cli("syllables", *command, "--out", out, fails=True)


def test_segments_in_other_forms_alone_are_told(cli: Cli, audio: Path, encoder: Path, tmp_path: Path) -> None:
    common = ("syllables", "segment", audio, "--encoder", encoder, *LAYERS)
    cli(*common, "--out", tmp_path / "f", "--form", "features")
    with pytest.raises(InputError, match="--form txt,features"):
        StoredSegments(tmp_path / "f")
    assert "--form None" in cli(*common, "--out", tmp_path / "none", "--form", "", fails=True)


def test_a_wrong_layer_leaves_the_folder_free(cli: Cli, audio: Path, encoder: Path, tmp_path: Path) -> None:
    common = ("syllables", "segment", audio, "--encoder", encoder, "--out", tmp_path / "cut", "--layer", 2)
    assert "layer 13" in cli(*common, "--norm-layer", 13, fails=True)
    cli(*common, "--norm-layer", 3)


def test_a_ledger_of_an_older_version_is_done_again(
    cli: Cli, audio: Path, encoder: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    common = ("syllables", "segment", audio, "--encoder", encoder, "--out", tmp_path / "cut", *LAYERS, "--workers", 1)
    monkeypatch.setattr("vocable.recipes.syllable_segments.files_summary", lambda *_: {})
    cli(*common)
    before = artefacts_in(tmp_path / "cut")
    monkeypatch.undo()
    cli(*common)
    assert artefacts_in(tmp_path / "cut") == before


def test_parts_of_librispeech_lie_side_by_side(cli: Cli, encoder: Path, tmp_path: Path) -> None:
    root = tmp_path / "LibriSpeech"
    for part in ("dev-clean", "test-clean", "test-other"):
        write_audio(root / part / "1" / "2" / f"1-2-{len(part)}.flac", 1.2, len(part))
    official = tmp_path / "sdhubert"
    deep = replace(tiny(layers=10), family="sdhubert", aggregator=True)
    write_encoder(EncoderCheckpoint.of(made_encoder(deep)), official, "vocable")
    common = (
        "sdhubert",
        "extract_librispeech_segments",
        "--ckpt_path",
        official,
        "--librispeech_dataroot",
        root,
        "--device",
        "cpu",
    )
    cli(*common, "--split", "val")
    one = artefacts_in(root / "segments")
    assert "2 files" in cli(*common, "--split", "test")
    after = artefacts_in(root / "segments")
    assert one.items() <= after.items()
    stored = StoredSegments(root / "segments" / "sdhubert")
    assert stored.ids == ["dev-clean/1/2/1-2-9", "test-clean/1/2/1-2-10", "test-other/1/2/1-2-10"]
    assert stored.spec is not None
    assert "done already" in cli(*common, "--split", "test")


def test_odd_names_are_left_out_and_the_rest_goes_on(cli: Cli, encoder: Path, tmp_path: Path) -> None:
    deep = replace(tiny(layers=10), family="sdhubert", aggregator=True)
    write_encoder(EncoderCheckpoint.of(made_encoder(deep)), tmp_path / "sdhubert", "vocable")
    write_audio(tmp_path / "in" / "a\u00a0b.wav", 1.0, 1)
    write_audio(tmp_path / "in" / "line\nbreak.wav", 1.0, 2)
    command = ("sdhubert", "segment", "--input_dir", tmp_path / "in", "--ckpt_path", tmp_path / "sdhubert", "--device", "cpu")
    cli(*command, "--output_dir", tmp_path / "out")
    assert (tmp_path / "out" / "a\u00a0b_segments.txt").is_file()
    assert len(list((tmp_path / "out").glob("*_segments.txt"))) == 1
    silent = tmp_path / "silent.wav"
    soundfile.write(silent, np.zeros(16000), 16000)
    said = cli("syllables", "segment", silent, "--encoder", encoder, "--out", tmp_path / "x", *LAYERS, fails=True)
    assert "what was given has no usable audio" in said
    assert "silent.wav" in said
    said = cli(
        "syllables",
        "segment",
        tmp_path / "in" / "line\nbreak.wav",
        "--encoder",
        encoder,
        "--out",
        tmp_path / "y",
        *LAYERS,
        fails=True,
    )
    assert "line break" in said


def test_two_utterances_of_one_name_are_both_in_the_json(cli: Cli, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "al" / name).mkdir(parents=True)
        (tmp_path / "al" / name / "1.tsv").write_text("start\tend\tphone\n0\t0.1\tS\n0.1\t0.3\tIY1\n")
    common = ("syllables", "reference", tmp_path / "al", "--out", tmp_path / "ref", "--words", "")
    assert "are one" in cli(*common, "--json", tmp_path / "ref", fails=True)
    cli(*common, "--json", tmp_path / "ref.json")
    assert sorted(json.loads((tmp_path / "ref.json").read_text())) == ["a/1", "b/1"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Voicing(threshold=float("nan")), lambda: Voicing(silence=float("inf")), lambda: Voicing(least_frames=-1),
        lambda: MinimumCut(syllable_seconds=float("inf")), lambda: MinimumCut(syllable_seconds=5e-324),
        lambda: MinimumCut(merge_threshold=float("nan")), lambda: Greedy(merge_threshold=float("nan")),
        lambda: NormPeaks(prominence=float("inf")), lambda: MincutWrapper(ft_sr=0), lambda: MincutWrapper(merge_threshold=float("nan")),
    ],
)  # fmt: skip
def test_numbers_that_are_none_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(InputError, match="give"):
        make()


@pytest.mark.parametrize(
    "option",
    [
        "data.sample_len=null", "data.batch_size=abc", "data.num_workers=a", "data=5", "model=5", "model.reinit_layers=3",
        "model.reinit_layers=[a]", "model.freeze_extractor=maybe", "max_steps=1.5",
    ],
)  # fmt: skip
def test_settings_of_another_kind_are_refused(option: str, tmp_path: Path) -> None:
    (tmp_path / "train-clean-100").mkdir()
    with pytest.raises(InputError, match="of another kind"):
        read_reference_training(None, [f"data.root_dir={tmp_path}", option], False, False)


def test_an_encoder_at_random_has_to_be_asked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="backbone isn't given"):
        read_sdhubert_settings("sdhubert-small", [f"data.train={tmp_path}"])
    asked = read_sdhubert_settings("sdhubert-small", [f"data.train={tmp_path}", "model.layers=3"])
    assert asked.resolved().distillation.frozen == ()
    given = read_sdhubert_settings("sdhubert-small", [f"data.train={tmp_path}", "backbone=x"])
    assert given.resolved().distillation.frozen == ("convolutions", "positions")


def test_broken_files_are_named(cli: Cli, segments: Path, tmp_path: Path) -> None:
    one = ("syllables", "cluster", segments, "--out", tmp_path / "one.safetensors", "--n-clusters", 1)
    assert "1 clusters in 1 groups" in cli(*one, "--n-clusters-agglomerative", 1)
    (tmp_path / "latin").write_bytes("é".encode("latin-1"))
    assert "latin line 1 is not UTF-8" in cli(
        *one[:3], "--out", tmp_path / "x.safetensors", "--files", tmp_path / "latin", fails=True
    )
    assert "there is no such list" in cli(*one[:3], "--out", tmp_path / "x.safetensors", "--files", tmp_path / "none", fails=True)
    with pytest.raises(InputError, match="not UTF-8"):
        Phonology.read(tmp_path / "latin")
    for name, array in (
        ("strings", np.array(["a", "b"])),
        ("complex", np.zeros((2, 3), complex)),
        ("huge", np.full((2, 3), 1e300)),
    ):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "u_segments.txt").write_text("0.0, 0.1\n0.1, 0.2\n")
        np.save(folder / "u_segmentfeature.npy", array)
        with pytest.raises(InputError, match="u_segmentfeature.npy holds no finite numbers"):
            StoredSegments(folder).of("u", described=True)
    (tmp_path / "latin-1").mkdir()
    shutil.copy(tmp_path / "latin", tmp_path / "latin-1" / "u_segments.txt")
    with pytest.raises(InputError, match="not UTF-8"):
        StoredSegments(tmp_path / "latin-1").of("u")
    for pickled, said in (
        ({"segments": np.zeros(3)}, "holds no finite numbers"),
        ({"segments": np.full((2, 2), np.nan)}, "no finite"),
    ):
        (tmp_path / "p").mkdir(exist_ok=True)
        np.save(tmp_path / "p" / "u.npy", np.array(pickled, dtype=object), allow_pickle=True)
        with pytest.raises(InputError, match=said):
            StoredSegments(tmp_path / "p").of("u")
    shutil.copytree(segments, tmp_path / "cut")
    header = json.loads((tmp_path / "cut" / "segments.json").read_text())
    for changed, said in (({"features": None}, "features"), ({"features": {"kind": "x"}}, "segments.json")):
        (tmp_path / "cut" / "segments.json").write_text(json.dumps({**header, **changed}))
        with pytest.raises(InputError, match=said):
            _ = StoredSegments(tmp_path / "cut").spec
    entry = {"file_name": "a.flac", "syllables": [{"start": "nan", "end": 1, "label": "a"}]}
    (tmp_path / "r.json").write_text(json.dumps({"a": entry}))
    with pytest.raises(InputError, match="entry a"):
        read_references(tmp_path / "r.json")


def test_scores_take_numbers_alone(cli: Cli, segments: Path, tmp_path: Path) -> None:
    (tmp_path / "ref" / "s0").mkdir(parents=True)
    (tmp_path / "ref" / "s0" / "u0.tsv").write_text("start\tend\tsyllable\n0\t0.3\ta\n")
    for option in ("--shift=nan", "--tolerance=nan", "--tolerance=-1"):
        assert "give numbers of seconds" in cli("evaluate", "boundaries", segments, tmp_path / "ref", option, fails=True)
    found = json.loads(cli("evaluate", "boundaries", segments, tmp_path / "ref", "--shift=-0.0", "--json"))
    assert str(found["shift"]) == "0.0"


def test_faults_name_the_file_or_the_waveform(encoder: Path, tmp_path: Path, audio: Path) -> None:
    from vocable.syllables.settings import SegmentSettings

    segmenter = Segmenter(encoder, SegmentSettings(layer=2, voicing=Voicing(layer=3)))
    with pytest.raises(InputError, match=r"gone\.wav"):
        segmenter([audio / "s0" / "u0.wav", tmp_path / "gone.wav"])
    broken = np.zeros(16000, np.float32)
    broken[5] = np.nan
    with pytest.raises(InputError, match="waveform 1, counted from 0: some of its samples are no numbers"):
        segmenter([np.sin(np.arange(16000, dtype=np.float32)), broken])
    with pytest.raises(InputError, match="one of current, published, sylber, zerosyl"):
        Segmenter(encoder, "foo")


def test_the_longest_onset_counts_whatever_else_is_one() -> None:
    rules = Phonology(frozenset({"a"}), frozenset({("s", "t", "r")}))
    assert rules.syllables_of(["a", "s", "t", "r", "a"]) == [range(1), range(1, 5)]
    assert rules.syllables_of(["a", "t", "r", "a"]) == [range(3), range(3, 4)]


def test_links_among_segments_are_followed_and_may_lead_back(segments: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "c").symlink_to(segments)
    (tmp_path / "linked" / "back").symlink_to(tmp_path / "linked")
    assert len(StoredSegments(tmp_path / "linked").ids) == 4


def test_a_folder_of_segments_is_described_by_its_header(cli: Cli, segments: Path) -> None:
    said = cli("inspect", segments)
    assert "vocable.segments/1" in said
    assert "codebook" not in said
