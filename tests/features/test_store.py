from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest

from vocable.errors import InputError, MismatchError
from vocable.features import FrameAppender, StoredFrames
from vocable.features.store import length_file, make_room, npy_header, read_lengths, write_rows

RNG = np.random.default_rng(0)
UTTERANCES = [RNG.standard_normal((length, 5)).astype(np.float32) for length in (3, 0, 7, 1)]


def filled(folder: Path) -> Path:
    npy = folder / "deep" / "train_0_1.npy"
    appender = FrameAppender(npy, 5)
    for frames in UTTERANCES:
        appender.append(frames)
    return npy


def test_appended_utterances_are_read_back(tmp_path: Path) -> None:
    npy = filled(tmp_path)
    store = StoredFrames(npy)
    assert (len(store), store.dim, store.lengths.tolist()) == (4, 5, [3, 0, 7, 1])
    assert all(np.array_equal(found, frames) for found, frames in zip(store, UTTERANCES, strict=True))
    assert np.array_equal(store[2], UTTERANCES[2])
    assert np.array_equal(np.load(npy), np.concatenate(UTTERANCES))
    assert length_file(npy).read_text() == "3\n0\n7\n1\n"


def test_appending_goes_on_where_it_stopped(tmp_path: Path) -> None:
    npy = filled(tmp_path)
    FrameAppender(npy, 5).append(UTTERANCES[0])
    assert StoredFrames(npy).lengths.tolist() == [3, 0, 7, 1, 3]


def test_an_empty_store_is_a_store(tmp_path: Path) -> None:
    FrameAppender(tmp_path / "a.npy", 5)
    store = StoredFrames(tmp_path / "a.npy")
    assert (len(store), store.array.shape) == (0, (0, 5))


def test_a_kill_at_any_byte_leaves_a_file_that_opens_and_goes_on(tmp_path: Path) -> None:
    """The steps of the last append are data, header, length; each may be cut anywhere."""
    npy = filled(tmp_path)
    before, lengths = npy.read_bytes(), length_file(npy).read_bytes()
    FrameAppender(npy, 5).append(UTTERANCES[2])
    after, more = npy.read_bytes(), length_file(npy).read_bytes()
    states = [(before + after[len(before) : cut], lengths) for cut in range(len(before), len(after) + 1, 7)]
    states += [(after, more[:cut]) for cut in range(len(lengths), len(more) + 1)]
    for content, text in states:
        npy.write_bytes(content)
        length_file(npy).write_bytes(text)
        assert np.load(npy).shape[1] == 5  # NumPy opens it as it stands
        FrameAppender(npy, 5).append(UTTERANCES[3])
        store = StoredFrames(npy)
        assert store.lengths.tolist() in ([3, 0, 7, 1, 1], [3, 0, 7, 1, 7, 1])
        assert np.array_equal(store[3], UTTERANCES[3])
        assert np.array_equal(store[len(store) - 1], UTTERANCES[3])


def test_frames_of_another_dimension_are_refused(tmp_path: Path) -> None:
    npy = filled(tmp_path)
    with pytest.raises(MismatchError, match="5 values a frame"):
        FrameAppender(npy, 5).append(np.zeros((2, 6), np.float32))
    with pytest.raises(MismatchError, match="holds 5 values a frame, not 6"):
        FrameAppender(npy, 6)


def test_a_header_that_cannot_grow_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((2, 5), np.float32))
    length_file(tmp_path / "x.npy").write_text("2\n")
    with pytest.raises(MismatchError, match="a header that can't grow"):
        FrameAppender(tmp_path / "x.npy", 5)


def test_headers_are_numpys(tmp_path: Path) -> None:
    content = npy_header(3, 2) + np.arange(6, dtype="<f4").tobytes()
    assert np.load(io.BytesIO(content)).tolist() == [[0, 1], [2, 3], [4, 5]]
    assert len(npy_header(10**12, 10**6)) == 192


def zipped() -> bytes:
    """Return an .npz, which NumPy opens under any name."""
    file = io.BytesIO()
    np.savez(file, UTTERANCES[0])
    return file.getvalue()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda npy: npy.unlink(), r"train_0_1\.npy doesn't exist"),
        (lambda npy: length_file(npy).unlink(), r"\.len doesn't exist: it belongs beside"),
        (lambda npy: length_file(npy).write_text("3\nx\n"), r"\.len line 2 should be a number of frames"),
        (lambda npy: length_file(npy).write_bytes(b"3\n\xff\n"), r"train_0_1\.len line 2 is not UTF-8 text"),
        (lambda npy: length_file(npy).write_text("3\n²\n"), r"\.len line 2 should be a number of frames, but reads '²'"),
        (lambda npy: length_file(npy).write_text("-3\n"), r"\.len line 1 should be a number of frames"),
        (
            lambda npy: length_file(npy).write_text("9" * 5000),
            r"\.len line 1 should be a number of frames, but reads '9{60}': dump",
        ),
        (lambda npy: length_file(npy).write_text("9" * 20 + "\n"), r"\.len line 1 should be a number of frames"),
        (lambda npy: npy.write_bytes(npy.read_bytes()[:-4]), "not a whole .npy file"),
        (lambda npy: npy.write_bytes(zipped()), r"train_0_1\.npy is not a whole .npy file"),
        (lambda npy: npy.write_bytes(npy_header(10**30, 5)), r"train_0_1\.npy is not a whole .npy file"),
        (lambda npy: npy.write_bytes(npy_header(True, 5) + bytes(20)), r"train_0_1\.npy is not a whole .npy file"),
        (lambda npy: npy.write_bytes(b"junk"), "not a whole .npy file"),
        (lambda npy: np.save(npy, np.zeros(11)), "should hold float32 frames"),
    ],
)
def test_broken_stores_are_named(tmp_path: Path, spoil: object, message: str) -> None:
    npy = filled(tmp_path)
    spoil(npy)  # type: ignore[operator]
    with pytest.raises(InputError, match=message):
        StoredFrames(npy)


@pytest.mark.parametrize("content", [b"3\nx\n7\n1\n", b"3\n\xff\n", b"3\n-1\n", b"3 0\n", "²\n".encode()])
def test_nothing_is_added_to_a_store_of_broken_lengths(tmp_path: Path, content: bytes) -> None:
    npy = filled(tmp_path)
    length_file(npy).write_bytes(content)
    before = npy.read_bytes()
    with pytest.raises(InputError, match=r"train_0_1\.len line \d (should be a number of frames|is not UTF-8)"):
        FrameAppender(npy, 5)
    assert (npy.read_bytes(), length_file(npy).read_bytes()) == (before, content)


def test_a_store_whose_lengths_do_not_add_up_is_refused(tmp_path: Path) -> None:
    npy = filled(tmp_path)
    length_file(npy).write_text("3\n0\n")
    with pytest.raises(MismatchError, match="11 frames, but train_0_1.len adds up to 3"):
        StoredFrames(npy)
    assert read_lengths(length_file(npy)).tolist() == [3, 0]


def test_a_store_with_an_object_array_is_refused(tmp_path: Path) -> None:
    npy = filled(tmp_path)
    np.save(npy, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="not a whole .npy file"):
        StoredFrames(npy)


def test_rows_may_be_written_in_any_order_and_twice(tmp_path: Path) -> None:
    npy, whole = tmp_path / "a.npy", np.concatenate(UTTERANCES)
    make_room(npy, len(whole), 5)
    for _ in range(2):
        for first in (6, 0, 3, 9, 3):
            with npy.open("r+b") as file:
                write_rows(file, first, whole[first : first + 3])
    assert np.array_equal(np.load(npy), whole)
    shutil.copy(npy, tmp_path / "b.npy")
    assert (tmp_path / "b.npy").stat().st_size == 192 + whole.nbytes
