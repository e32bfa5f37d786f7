from __future__ import annotations

import bz2
import gzip
import lzma
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vocable.checkpoints import compressed
from vocable.checkpoints.compressed import read_decompressed
from vocable.errors import InputError, UnsafeFileError

Pack = Callable[[bytes], bytes]


def xz(content: bytes) -> bytes:
    return lzma.compress(content, preset=0)


def lzma_alone(content: bytes) -> bytes:
    return lzma.compress(content, lzma.FORMAT_ALONE, preset=0)


MEMBERED = [gzip.compress, bz2.compress, xz]
PACKS = [*MEMBERED, zlib.compress, lzma_alone]
NOISE = np.random.default_rng(0).bytes(3 << 20)
ZEROS = bytes(3 << 20)


@pytest.mark.parametrize("pack", PACKS)
@pytest.mark.parametrize("content", [b"", b"short", NOISE, ZEROS, NOISE + ZEROS, ZEROS + NOISE])
def test_what_was_compressed_comes_back(tmp_path: Path, pack: Pack, content: bytes) -> None:
    (tmp_path / "km").write_bytes(pack(content))
    assert read_decompressed(tmp_path / "km") == content


def test_other_files_come_back_as_they_are(tmp_path: Path) -> None:
    for content in (b"", b"x", NOISE):
        (tmp_path / "km").write_bytes(content)
        assert read_decompressed(tmp_path / "km") == content


@pytest.mark.parametrize("pack", MEMBERED)
@pytest.mark.parametrize("padding", [0, 1, 70_000])
def test_all_members_are_read_with_padding_between_and_after(tmp_path: Path, pack: Pack, padding: int) -> None:
    parts = [b"first", NOISE[: 1 << 18], b"", ZEROS, b"last"]
    (tmp_path / "km").write_bytes(b"".join(pack(part) + b"\0" * padding for part in parts))
    assert read_decompressed(tmp_path / "km") == b"".join(parts)


@pytest.mark.parametrize("pack", MEMBERED)
@pytest.mark.parametrize("seen", range(-1, 8))
def test_a_member_may_begin_anywhere(tmp_path: Path, pack: Pack, seen: int) -> None:
    """Also where its first bytes are the last ones of a read of 64 KiB."""
    first = pack(b"first")
    (tmp_path / "km").write_bytes(first.ljust((1 << 16) - seen, b"\0") + pack(b"second"))
    assert read_decompressed(tmp_path / "km") == b"firstsecond"


@pytest.mark.parametrize("pack", MEMBERED)
@pytest.mark.parametrize("cut", [1, 3, 12])
def test_a_last_member_that_is_cut_short_is_refused(tmp_path: Path, pack: Pack, cut: int) -> None:
    second = pack(b"second")
    for kept in (cut, len(second) - cut):
        (tmp_path / "km").write_bytes(pack(b"first") + second[:kept])
        with pytest.raises(InputError, match="km is (cut short|damaged)"):
            read_decompressed(tmp_path / "km")


@pytest.mark.parametrize("pack", PACKS)
def test_what_is_no_member_is_refused(tmp_path: Path, pack: Pack) -> None:
    for more in (b"junk", b"x", b"\0\0junk"):
        (tmp_path / "km").write_bytes(pack(b"first") + more)
        with pytest.raises(InputError, match=r"km is damaged \(something else follows its end\)"):
            read_decompressed(tmp_path / "km")


def test_there_is_an_end_to_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compressed, "_MOST_MEMBERS", 10)
    (tmp_path / "km").write_bytes(gzip.compress(b"x") * 10)
    assert read_decompressed(tmp_path / "km") == b"x" * 10
    (tmp_path / "km").write_bytes(gzip.compress(b"x") * 11)
    with pytest.raises(InputError, match="more than 10 pieces"):
        read_decompressed(tmp_path / "km")


@pytest.mark.parametrize("pack", PACKS)
def test_content_is_held_once(tmp_path: Path, pack: Pack) -> None:
    content = NOISE * 4
    (tmp_path / "km").write_bytes(pack(NOISE) * 4 if pack in MEMBERED else pack(content))
    tracemalloc.start()
    try:
        found = len(read_decompressed(tmp_path / "km"))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found == len(content)
    assert peak < 1.5 * found


@pytest.mark.parametrize("pack", PACKS)
def test_bombs_are_refused_before_they_fill_the_memory(tmp_path: Path, pack: Pack) -> None:
    (tmp_path / "km").write_bytes(pack(bytes(100 << 20)))
    refuse_bomb(tmp_path / "km")


@pytest.mark.parametrize("pack", MEMBERED)
def test_bombs_of_many_members_are_too(tmp_path: Path, pack: Pack) -> None:
    (tmp_path / "km").write_bytes(pack(bytes(5 << 20)) * 20)
    refuse_bomb(tmp_path / "km")


def refuse_bomb(path: Path) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(UnsafeFileError, match=r"km was not read: .* decompress to more than \d+ MiB"):
            read_decompressed(path)
        assert tracemalloc.get_traced_memory()[1] < 24 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("pack", PACKS)
def test_no_content_is_larger_than_the_largest_model(tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compressed, "LARGEST_MODEL", 3 << 20)
    (tmp_path / "km").write_bytes(pack(ZEROS))
    assert read_decompressed(tmp_path / "km") == ZEROS
    (tmp_path / "km").write_bytes(pack(ZEROS + b"\0"))
    with pytest.raises(UnsafeFileError, match="more than 3 MiB"):
        read_decompressed(tmp_path / "km")


def test_nor_is_a_file(tmp_path: Path) -> None:
    assert compressed.LARGEST_MODEL == 4 << 30
    for start in (b"\x80\x04", gzip.compress(b"x")):
        with (tmp_path / "km").open("wb") as file:
            file.write(start)
            file.truncate((4 << 30) + 1)
        with pytest.raises(InputError, match="km is no k-means model: those take less than its 4096 MiB"):
            read_decompressed(tmp_path / "km")


def test_a_dictionary_beyond_any_preset_is_refused(tmp_path: Path) -> None:
    wanted = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 29}]
    header = lzma.compress(b"x", filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 26}])
    (tmp_path / "km").write_bytes(header)
    assert read_decompressed(tmp_path / "km") == b"x"
    (tmp_path / "km").write_bytes(lzma.compress(b"x", filters=wanted))
    with pytest.raises(InputError, match=r"km is damaged \(Memory usage limit"):
        read_decompressed(tmp_path / "km")


def test_lz4_is_named(tmp_path: Path) -> None:
    (tmp_path / "km.bin").write_bytes(b"\x04\x22\x4d\x18 and more")
    with pytest.raises(InputError, match="lz4 -d"):
        read_decompressed(tmp_path / "km.bin")
