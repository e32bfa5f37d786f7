"""Real files with bytes cut off or changed: either a codebook or one sentence comes out, and soon."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.cluster import MiniBatchKMeans

from vocable.checkpoints.centroids import read_centroids
from vocable.errors import InputError, UnsafeFileError

# Steps with text in them warn of its bad escapes.
pytestmark = pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")

FRAMES = np.random.RandomState(0).randn(60, 3)
MODEL = MiniBatchKMeans(4, n_init=1, max_iter=2, random_state=np.random.RandomState(3)).fit(FRAMES)
Writer = Callable[[Any, Path], object]

WRITERS: dict[str, Writer] = {
    **{f"pickle {protocol}": lambda model, path, p=protocol: path.write_bytes(pickle.dumps(model, p)) for protocol in range(6)},
    "joblib": joblib.dump,
    **{
        kind: lambda model, path, k=kind: joblib.dump(model, path, compress=(k, 3))
        for kind in ("zlib", "gzip", "bz2", "xz", "lzma")
    },
}


def read_quickly(path: Path) -> bool:
    """Tell whether a codebook came out; anything else must be a sentence that names the file."""
    began = time.monotonic()
    try:
        found = read_centroids(path).centroids
    except (InputError, UnsafeFileError) as error:
        assert str(path) in str(error)
        assert len(str(error)) < 600 + len(str(path))
        return False
    finally:
        assert time.monotonic() - began < 2
    assert found.ndim == 2
    assert np.isfinite(found).all()
    return True


@pytest.fixture(params=WRITERS)
def whole(request: pytest.FixtureRequest, tmp_path: Path) -> bytes:
    WRITERS[request.param](MODEL, tmp_path / "km.bin")
    return (tmp_path / "km.bin").read_bytes()


def test_no_truncated_file_is_a_codebook(tmp_path: Path, whole: bytes) -> None:
    for cut in sorted({*range(0, len(whole), max(1, len(whole) // 200)), *range(len(whole) - 20, len(whole))}):
        (tmp_path / "km.bin").write_bytes(whole[:cut])
        assert not read_quickly(tmp_path / "km.bin"), cut


def test_flipped_bytes_never_do_more_than_fail_or_change_numbers(tmp_path: Path, whole: bytes) -> None:
    rng = np.random.default_rng(1)
    for flips in np.repeat([1, 2, 8], 100):
        spoiled = bytearray(whole)
        for at in rng.integers(len(whole), size=flips):
            spoiled[at] = rng.integers(256)
        (tmp_path / "km.bin").write_bytes(spoiled)
        read_quickly(tmp_path / "km.bin")


def test_pieces_put_in_or_left_out_do_no_more_either(tmp_path: Path, whole: bytes) -> None:
    rng = np.random.default_rng(2)
    for _ in range(100):
        first, last, to = sorted(rng.integers(len(whole), size=3))
        for spoiled in (whole[:first] + whole[last:], whole[:to] + whole[first:last] + whole[to:]):
            (tmp_path / "km.bin").write_bytes(spoiled)
            read_quickly(tmp_path / "km.bin")


def test_noise_is_no_codebook(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    for start in (b"", b"\x80\x04", b"\x93NUMPY\x01\x00", b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\x00", b"\x78\x9c", b"c", b"("):
        for size in (0, 1, 10, 10_000):
            (tmp_path / "km.bin").write_bytes(start + rng.bytes(size))
            assert not read_quickly(tmp_path / "km.bin")
