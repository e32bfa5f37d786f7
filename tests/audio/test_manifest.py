from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vocable.audio.blocks import blocks_of, shard_bounds
from vocable.audio.kaldi_scp import parse_scp_line
from vocable.audio.manifest import Manifest, Utterance, id_of
from vocable.audio.manifest_files import is_manifest, read_manifest, write_manifest
from vocable.audio.speakers import split, with_speakers
from vocable.errors import InputError

ROWS = [
    Utterance("a/one two", "a/one two.flac", 16000),
    Utterance('b"q"/ü', 'b"q"/ü.wav', 32000, speaker="s1"),
    Utterance("z", "archive.zip:100:200", 48000),
]


def manifest(*rows: Utterance, root: str = "/data") -> Manifest:
    return Manifest.of(rows or ROWS, root)


def many(count: int, seconds: float = 10) -> Manifest:
    return Manifest.of([Utterance(f"u{at:03}", f"s{at % 7}/u{at:03}.wav", int(16000 * seconds)) for at in range(count)], "/d")


def test_rows_know_their_whole_path() -> None:
    whole = manifest()
    assert [whole.where(row) for row in whole] == ["/data/a/one two.flac", '/data/b"q"/ü.wav', "/data/archive.zip:100:200"]
    assert manifest().seconds == 6
    assert manifest().select([2, 0]).ids == ("z", "a/one two")


def test_files_of_one_name_in_other_folders_are_other_files() -> None:
    def read_by(*speakers: str) -> Manifest:
        return Manifest.of([Utterance(f"{who}/{at}", f"{who}/{at}.wav", 5) for at, who in enumerate(speakers)], "/d")

    assert read_by("ann", "ben").digest != read_by("ben", "ann").digest


def test_two_rows_may_not_have_one_id() -> None:
    with pytest.raises(InputError, match="'z' stands twice"):
        manifest(ROWS[2], ROWS[2])


def test_the_digest_follows_content_not_place() -> None:
    moved = Manifest.of([Utterance(f"x{row.id}", f"deeper/{row.path}", row.samples) for row in ROWS], "/elsewhere")
    assert moved.digest == manifest().digest
    longer = manifest(*ROWS[:2], Utterance("z", "archive.zip:100:200", 48001))
    mono = manifest(*ROWS[:2], Utterance("z", "archive.zip:100:200", 48000, channel=1))
    other = manifest(*ROWS[:2], Utterance("z", "a/archive.zip:100:200", 48000))
    digests = {item.digest for item in (manifest(), longer, mono, other, manifest().select([1, 0, 2]))}
    assert len(digests) == 5
    relative = Manifest.of([Utterance("a", "x/a.wav", 1), Utterance("b", "/y/b.wav", 1)])
    assert relative.digest != Manifest.of([Utterance("a", "a.wav", 1), Utterance("b", "/y/b.wav", 1)]).digest
    assert Manifest.of([]).digest


@pytest.mark.parametrize(("path", "name"), [("a/b.flac", "a/b"), ("a.b/c", "a.b/c"), ("x.tar.gz", "x.tar"), (".wav", ".wav")])
def test_ids_are_paths_without_extension(path: str, name: str) -> None:
    assert id_of(path) == name


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_tables_keep_everything(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"m.{form}"
    rows = [*ROWS, Utterance("c", "stereo.wav", 5, channel=2), Utterance("d", "unknown.wav", -1)]
    write_manifest(path, manifest(*rows))
    found = read_manifest(path)
    assert [replace(row, path=found.where(row)) for row in found] == [replace(row, path=f"/data/{row.path}") for row in rows]


def test_tsv_is_fairseqs(tmp_path: Path) -> None:
    path = tmp_path / "train.tsv"
    write_manifest(path, manifest())
    assert path.read_text() == '/data\na/one two.flac\t16000\nb"q"/ü.wav\t32000\narchive.zip:100:200\t48000\n'
    found = read_manifest(path)
    assert found.ids == ("a/one two", 'b"q"/ü', "archive.zip:100:200")
    assert found.digest == manifest().digest


def test_rows_of_a_tsv_may_be_repeated(tmp_path: Path) -> None:
    (tmp_path / "m.tsv").write_text("/d\na.wav\t5\nb.wav\t6\na.wav\t5\na.wav\t5\n")
    assert read_manifest(tmp_path / "m.tsv").ids == ("a", "b", "a#2", "a#3")


def test_paths_outside_the_root_move_it_up(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m.tsv", Manifest.of([Utterance("a", "/x/y/a.wav", 1), Utterance("b", "/x/b.wav", 2)], "/z"))
    assert (tmp_path / "m.tsv").read_text() == "/x\ny/a.wav\t1\nb.wav\t2\n"


def test_scp_names_absolute_files(tmp_path: Path) -> None:
    write_manifest(tmp_path / "wav.scp", manifest(Utterance("u1", "a.wav", 3), root="/d"))
    assert (tmp_path / "wav.scp").read_text() == "u1 /d/a.wav\n"
    assert read_manifest(tmp_path / "wav.scp")[0] == Utterance("u1", "/d/a.wav", -1)


@pytest.mark.parametrize(
    ("name", "row"),
    [("m.tsv", Utterance("a", "a.wav", 1, channel=1)), ("m.scp", Utterance("a b", "a.wav", 1)), ("m.xls", ROWS[0])],
)
def test_a_form_that_cannot_carry_a_row_refuses_it(tmp_path: Path, name: str, row: Utterance) -> None:
    with pytest.raises(InputError, match=name):
        write_manifest(tmp_path / name, manifest(row))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.tsv", "", "line 1 should be the folder"),
        ("m.tsv", "/d\na.wav 100\n", r"m\.tsv line 2 should be a path, one tab and a number of samples, but reads 'a.wav 100'"),
        ("m.tsv", "/d\na.wav\t100\n\nb.wav\tx\n", "line 4"),
        ("m.csv", "file,n\na,1\n", "line 1 should name the columns, among them path"),
        ("m.csv", "path,samples\na.wav,many\n", "line 2 should have a path"),
        ("m.jsonl", '{"path": "a.wav"}\n{', "line 2 is not JSON"),
        ("m.jsonl", "[1]\n", "line 1 should be a JSON object"),
        ("m.jsonl", '{"file": "a"}\n', "line 1 should have a path"),
        ("m.jsonl", '{"path": "a"}\n' + "[" * 200_000, r"m\.jsonl line 2 is not JSON \(.*recursion.*\): write one object a line"),
        ("m.jsonl", f'{{"path": "a", "samples": {"9" * 400}}}\n', "line 1 should have a path, whole numbers for samples"),
        ("m.csv", "path,samples\na.wav,5\nb,c.wav,6\n", "line 3 has more cells than the 2 columns: quote what holds a comma"),
        ("m.csv", "path,samples,sample_rate\na.wav,5,16000\na.wav,5,0\n", r"line 3 .*sample_rate \(1000 to 1000000\)"),
        ("m.csv", "path,samples,sample_rate\na.wav,5,-1\n", r"m\.csv line 2 .*sample_rate \(1000 to 1000000\)"),
        ("m.csv", "path,samples,sample_rate\na.wav,5,999\n", r"line 2 .*sample_rate \(1000 to 1000000\)"),
        ("m.jsonl", '{"path": "a", "sample_rate": 1000001}\n', r"line 1 .*sample_rate \(1000 to 1000000\)"),
        ("m.csv", "path,channel\na.wav,-1\n", "line 2 should have a path, whole numbers"),
        ("m.scp", "u1\n", r"m\.scp line 1: should be an utterance id, a blank and a path"),
        ("m.scp", "u1 a.wav\nu2 cat x.wav |\n", "line 2: the command 'cat x.wav |' is not run"),
        ("m.txt", "", "is no manifest: their names end in"),
    ],
)
def test_bad_manifests_name_the_line(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        read_manifest(tmp_path / name)


def test_missing_and_undecodable_manifests_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no\.tsv doesn't exist"):
        read_manifest(tmp_path / "no.tsv")
    (tmp_path / "m.tsv").write_bytes(b"/d\n\xff\xfe\t1\n")
    with pytest.raises(InputError, match=r"m\.tsv is not UTF-8"):
        read_manifest(tmp_path / "m.tsv")
    assert is_manifest(Path("x.TSV"))
    assert not is_manifest(Path("x.km"))


def test_a_parquet_table_without_paths_is_refused(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"file": ["a"]}), tmp_path / "m.parquet")
    with pytest.raises(InputError, match="should have a column path, but has file"):
        read_manifest(tmp_path / "m.parquet")


@pytest.mark.parametrize("damage", ["names", "cells", "cut", "text"])
def test_a_damaged_parquet_table_is_called_that(tmp_path: Path, damage: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "m.parquet"
    pq.write_table(pa.table({"path": ["ä.wav"], "spéaker": ["a"]}), path, compression="none", store_schema=False)
    whole = path.read_bytes()
    content = {
        "names": whole.replace("spéaker".encode(), b"sp\xff\xffaker"),
        "cells": whole.replace("ä.wav".encode(), b"\xff\xff.wav"),
        "cut": whole[:-20],
        "text": b"path\na.wav\n",
    }[damage]
    assert content != whole
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"m\.parquet is not a whole Parquet file \(.*\): make it again"):
        read_manifest(path)


def test_quotes_carry_a_path_with_a_comma(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text('path,samples\n"b,c.wav",6\nd.wav\n')
    assert [(row.path, row.samples) for row in read_manifest(tmp_path / "m.csv")] == [("b,c.wav", 6), ("d.wav", -1)]


def test_lengths_at_another_rate_are_converted(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("path,samples,sample_rate\na.wav,44100,44100\nb.wav,8001,8000\n")
    assert read_manifest(tmp_path / "m.csv", 16000).samples.tolist() == [16000, 16002]


@pytest.mark.parametrize(
    ("line", "path", "channel"),
    [
        ("u /a b/c.wav", "/a b/c.wav", None),
        ("u flac -c -d -s /a/c.flac |", "/a/c.flac", None),
        ("u /usr/bin/flac -s -d -c /a/c.flac |", "/a/c.flac", None),
        ("u sph2pipe -f wav -p -c 2 /a/c.sph |", "/a/c.sph", 2),
        ("u ../tools/sph2pipe /a/c.sph |", "/a/c.sph", None),
        ("u\t/data/my file.wav", "/data/my file.wav", None),
        (" u \t \t/data/my\tfile.wav \r", "/data/my\tfile.wav", None),
        ("u\tflac -c -d -s /a/c.flac |", "/a/c.flac", None),
        ("u  /a/c\xa0.wav\xa0", "/a/c\xa0.wav\xa0", None),
    ],
)
def test_scp_lines(line: str, path: str, channel: int | None) -> None:
    assert parse_scp_line(line) == Utterance("u", path, -1, channel=channel)


@pytest.mark.parametrize(
    "line",
    [
        "u flac -c -d -s /a; rm -rf / |",
        "u flac -c -d -s $(touch x) |",
        "u flac -c -d -s `x` |",
        "u flac -c -d /a.flac |",
        "u sox a.wav -t wav - |",
        "u flac -c -d -s /a.flac | sox - |",
        "u | cat",
        "u sph2pipe -f wav -o /etc/passwd a |",
        "u feats.ark:123",
    ],
)
def test_no_other_pipe_is_understood(line: str) -> None:
    with pytest.raises(InputError):
        parse_scp_line(line)


def test_blocks_are_runs_of_about_two_minutes() -> None:
    blocks = list(blocks_of(many(30)))
    assert [(block.index, block.first, len(block.utterances)) for block in blocks] == [(0, 0, 12), (1, 12, 12), (2, 24, 6)]
    assert [block.size for block in blocks] == [120, 120, 60]
    assert list(blocks_of(many(30).select([]))) == []
    assert [len(block.utterances) for block in blocks_of(many(3, seconds=500))] == [1, 1, 1]


def test_a_prefix_of_blocks_does_not_depend_on_what_follows() -> None:
    assert list(blocks_of(many(30)))[:2] == list(blocks_of(many(100)))[:2]


@pytest.mark.parametrize("total", [0, 1, 5, 24, 100, 2999])
@pytest.mark.parametrize("nshard", [1, 2, 3, 7, 64])
def test_shards_partition_in_order(total: int, nshard: int) -> None:
    bounds = [shard_bounds(total, nshard, rank) for rank in range(nshard)]
    assert bounds[0][0] == 0
    assert bounds[-1][1] == total
    assert all(left[1] == right[0] for left, right in itertools.pairwise(bounds))


def test_shards_are_cut_as_fairseq_cuts() -> None:
    assert [shard_bounds(5, 2, rank) for rank in (0, 1)] == [(0, 2), (2, 5)]
    with pytest.raises(InputError, match="shard 2 of 2 doesn't exist: ranks run from 0 to 1"):
        shard_bounds(5, 2, 2)
    with pytest.raises(InputError, match="0 shards hold nothing"):
        shard_bounds(5, 0, 0)


@pytest.mark.parametrize("source", ["{speaker}/*", "{speaker}/u*.wav", "{speaker}/*.wav"])
def test_speakers_come_from_a_pattern(source: str) -> None:
    assert with_speakers(many(9), source).speakers == tuple(f"s{at % 7}" for at in range(9))


def test_speakers_come_from_a_table(tmp_path: Path) -> None:
    table = tmp_path / "utt2spk"
    table.write_text("".join(f"u{at:03} anna{at % 2}\n" for at in range(5)))
    assert with_speakers(many(5), str(table)).speakers == ("anna0", "anna1", "anna0", "anna1", "anna0")
    with pytest.raises(InputError, match="no speaker for 'u005'"):
        with_speakers(many(6), str(table))
    for line in ("u000 a b", "u000", "u000\t", "\tann"):
        table.write_text(f"{line}\n")
        with pytest.raises(InputError, match="line 1 should be an utterance and its speaker"):
            with_speakers(many(1), str(table))


@pytest.mark.parametrize("source", ["no/such/file", "{speaker}/{speaker}", "x{speaker}/*"])
def test_speakers_from_nowhere_are_refused(source: str) -> None:
    with pytest.raises(InputError, match="speaker"):
        with_speakers(many(3), source)


@pytest.mark.parametrize("source", ["", " ", ".", "/", "x" * 5000, "\0", "no\udcff"])
def test_what_is_neither_a_table_nor_a_pattern_is_refused(source: str) -> None:
    with pytest.raises(InputError, match="is neither a file nor a pattern with {speaker} in it"):
        with_speakers(many(3), source)


def test_a_table_of_speakers_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, **_: object) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "utt2spk").write_text("u000 ann\n")
    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(InputError, match="utt2spk: permission denied: change its permissions"):
        with_speakers(many(1), str(tmp_path / "utt2spk"))


def test_a_split_is_exact_keeps_order_and_follows_the_seed() -> None:
    train, valid = split(many(100), 0.1, seed=3)
    assert len(valid) == 10
    assert list(train.ids) == sorted(train.ids)
    assert sorted((*train.ids, *valid.ids)) == list(many(100).ids)
    assert split(many(100), 0.1, seed=3)[1].ids == valid.ids
    assert split(many(100), 0.1, seed=4)[1].ids != valid.ids
    # The draw belongs to the utterance: with more of them, those held out before stay the likeliest.
    assert set(split(many(200), 0.1, seed=3)[1].ids) & set(valid.ids)


def test_a_split_has_something_on_both_sides() -> None:
    assert [len(part) for part in split(many(3), 0.001, 0)] == [2, 1]
    assert [len(part) for part in split(many(3), 0.99, 0)] == [1, 2]
    assert [len(part) for part in split(many(3), 0.0, 0)] == [3, 0]
    with pytest.raises(InputError, match="two utterances at least"):
        split(many(1), 0.5, 0)
    for wrong in (1.0, 5, -0.1):
        with pytest.raises(InputError, match="it is a fraction"):
            split(many(3), wrong, 0)


def test_a_split_by_speaker_keeps_speakers_together() -> None:
    whole = with_speakers(many(70), "{speaker}/*")
    train, valid = split(whole, 0.25, 0, by_speaker=True)
    assert train.speakers
    assert valid.speakers
    assert not set(train.speakers) & set(valid.speakers)
    assert 0.25 <= valid.seconds / whole.seconds < 0.5
    with pytest.raises(InputError, match="needs speakers"):
        split(many(3), 0.5, 0, by_speaker=True)
    unknown = Manifest.of([Utterance("a", "a", 1, "x"), Utterance("b", "b", 1)])
    with pytest.raises(InputError, match="'b' has none"):
        split(unknown, 0.5, 0, by_speaker=True)


def test_selecting_with_arrays_keeps_columns() -> None:
    whole = Manifest.of([Utterance(str(at), str(at), at, f"s{at}", at) for at in range(1, 5)])
    part = whole.select(np.array([3, 1]))
    assert list(part) == [whole[3], whole[1]]


def test_a_table_that_names_two_speakers_for_one_utterance_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "utt2spk"
    table.write_text("u000 ann\nu001 ben\nu000 ann\n")
    assert with_speakers(many(2), str(table)).speakers == ("ann", "ben")
    table.write_text("u000 ann\nu001 ben\nu000 ben\n")
    with pytest.raises(InputError, match="line 3 gives 'u000' another speaker than an earlier line"):
        with_speakers(many(2), str(table))


def test_a_table_names_the_last_part_of_an_id_where_no_other_ends_so(tmp_path: Path) -> None:
    rows = Manifest.of([Utterance(name, f"{name}.wav", 5) for name in ("x/001", "x/002", "y/001")])
    table = tmp_path / "utt2spk"
    table.write_text("001 ann\n002 ben\n")
    assert with_speakers(rows.select([0, 1]), str(table)).speakers == ("ann", "ben")
    with pytest.raises(InputError, match="names '001', which may be 'x/001' or 'y/001': give whole ids in it"):
        with_speakers(rows, str(table))
    table.write_text("x/001 ann\n002 ben\ny/001 eve\n")
    assert with_speakers(rows, str(table)).speakers == ("ann", "ben", "eve")


def test_a_row_that_is_repeated_has_the_speaker_of_the_first(tmp_path: Path) -> None:
    (tmp_path / "m.tsv").write_text("/d\na/u.wav\t5\na/u.wav\t5\nb/w#2.wav\t5\n")
    rows = read_manifest(tmp_path / "m.tsv")
    assert rows.ids == ("a/u", "a/u#2", "b/w#2")
    table = tmp_path / "utt2spk"
    for name in ("a/u", "u"):
        table.write_text(f"{name} ann\nb/w#2 ben\n")
        assert with_speakers(rows, str(table)).speakers == ("ann", "ann", "ben")
    table.write_text("u ann\nw ben\n")
    with pytest.raises(InputError, match="no speaker for 'b/w#2'"):
        with_speakers(rows, str(table))
