from __future__ import annotations

import os
import pickle
import pickletools
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.cluster import KMeans, MiniBatchKMeans

from vocable.checkpoints.kmeans_pickle import read_kmeans_pickle
from vocable.clustering import read_codebook
from vocable.errors import InputError, UnsafeFileError

FRAMES = np.random.RandomState(0).randn(400, 7)
MODELS = [
    KMeans(5, n_init=1, random_state=0).fit(FRAMES.astype(np.float32)),
    MiniBatchKMeans(5, n_init=2, random_state=np.random.RandomState(3), compute_labels=False).fit(FRAMES),
    MiniBatchKMeans(5, n_init=2, max_iter=2).fit(FRAMES.astype(np.float32)),
]


def same(path: Path, model: Any) -> bool:
    found = read_kmeans_pickle(path)
    return found.dtype == model.cluster_centers_.dtype and np.array_equal(found, model.cluster_centers_)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("compress", [0, ("gzip", 3), ("zlib", 1), ("zlib", 9), ("xz", 3), ("lzma", 3), ("bz2", 3)])
def test_joblib_files_give_the_same_centroids_bit_for_bit(tmp_path: Path, model: Any, compress: Any) -> None:
    joblib.dump(model, tmp_path / "km.bin", compress=compress)
    assert same(tmp_path / "km.bin", model)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("protocol", range(6))
def test_pickles_of_all_protocols_do_too(tmp_path: Path, model: Any, protocol: int) -> None:
    (tmp_path / "km.pkl").write_bytes(pickle.dumps(model, protocol=protocol))
    assert same(tmp_path / "km.pkl", model)
    joblib.dump(model, tmp_path / "km.bin", protocol=protocol)
    assert same(tmp_path / "km.bin", model)


def test_other_layouts_of_the_array_do_too(tmp_path: Path) -> None:
    model = KMeans(5, n_init=1, random_state=0).fit(FRAMES)
    for centres in (np.asfortranarray(model.cluster_centers_), model.cluster_centers_.astype(">f4"), model.cluster_centers_[::2]):
        model.cluster_centers_ = centres
        joblib.dump(model, tmp_path / "a")
        (tmp_path / "b").write_bytes(pickle.dumps(model))
        for name in ("a", "b"):
            found = read_kmeans_pickle(tmp_path / name)
            assert np.array_equal(found, centres)
            assert found.dtype == centres.dtype.newbyteorder("=")
            assert found.flags.c_contiguous
            assert found.base is None, "it keeps the whole file in memory"


def rewritten(content: bytes, names: dict[str, str]) -> bytes:
    """Return a protocol-0 pickle with other module names, as older versions wrote them."""
    for old, new in names.items():
        content = content.replace(f"c{old}\n".encode(), f"c{new}\n".encode())
    return content


def test_names_of_old_versions_are_known(tmp_path: Path) -> None:
    model = MODELS[1]
    old = {
        "sklearn.cluster._kmeans": "sklearn.cluster.k_means_",
        "numpy._core.multiarray": "numpy.core.multiarray",
        "copyreg": "copy_reg",
        "builtins": "__builtin__",
    }
    content = rewritten(pickle.dumps(model, protocol=0), old)
    assert b"k_means_" in content
    (tmp_path / "km.pkl").write_bytes(content)
    assert same(tmp_path / "km.pkl", model)


@pytest.mark.parametrize(
    "name", ["joblib-1.1.1-sklearn-1.2.2.bin", "joblib-1.1.1-sklearn-1.2.2.zlib.bin", "pickle2-sklearn-1.2.2.pkl"]
)
def test_files_of_old_versions_are_read(name: str) -> None:
    """Made with joblib 1.1.1 (arrays not aligned), scikit-learn 1.2.2 and NumPy 1.24, with a RandomState inside."""
    data = Path(__file__).with_name("data")
    assert np.array_equal(read_kmeans_pickle(data / name), np.load(data / "centroids.npy"))


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("writer", ["joblib", "pickle"])
@pytest.mark.parametrize("where", ["attribute", "object array", "whole file"])
def test_a_file_that_asks_for_more_is_refused_and_nothing_runs(tmp_path: Path, writer: str, where: str) -> None:
    mark = tmp_path / "mark"
    model: Any = KMeans(3, n_init=1).fit(FRAMES)
    if where == "whole file":
        model = Evil(mark)
    else:
        model.evil = Evil(mark) if where == "attribute" else np.array([Evil(mark), 1], dtype=object)
    path = tmp_path / "km.bin"
    joblib.dump(model, path) if writer == "joblib" else path.write_bytes(pickle.dumps(model))
    for reader in (read_kmeans_pickle, read_codebook):
        with pytest.raises(UnsafeFileError, match=r"km\.bin"):
            reader(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"cos\nsystem\n(S'touch mark'\ntR.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cnumpy\nload\n(S'x'\ntR.",
        b"(S'x'\nios\nsystem\n.",
        b"P1\n.",
        b"\x80\x02]\x82\x01.",
        b"ccopyreg\n_reconstructor\n(cnumpy\nndarray\ncbuiltins\nobject\nNtR.",
    ],
)
def test_hand_made_streams_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "km.pkl").write_bytes(content)
    with pytest.raises((UnsafeFileError, InputError), match=r"km\.pkl"):
        read_kmeans_pickle(tmp_path / "km.pkl")


def test_an_array_larger_than_its_file_is_refused(tmp_path: Path) -> None:
    joblib.dump(MODELS[0], tmp_path / "km.bin")
    content = (tmp_path / "km.bin").read_bytes()
    shape = content.index(b"shape")
    digits = content.index(b"K\x05K\x07", shape)
    (tmp_path / "km.bin").write_bytes(content[:digits] + b"M\xff\xff" + content[digits + 2 :])
    with pytest.raises(InputError, match=r"km\.bin"):
        read_kmeans_pickle(tmp_path / "km.bin")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (KMeans(3), "no fitted k-means model"),
        (np.zeros(3), "no fitted k-means model"),
        (np.zeros((2, 3), dtype=int), "no fitted k-means model"),
        ({"a": 1}, "no fitted k-means model"),
        ("text", "no fitted k-means model"),
    ],
)
def test_other_contents_are_refused(tmp_path: Path, value: Any, message: str) -> None:
    (tmp_path / "km.pkl").write_bytes(pickle.dumps(value))
    with pytest.raises(InputError, match=message):
        read_kmeans_pickle(tmp_path / "km.pkl")


def test_a_bare_matrix_is_taken_for_centroids(tmp_path: Path) -> None:
    (tmp_path / "km.pkl").write_bytes(pickle.dumps(np.eye(3)))
    assert np.array_equal(read_kmeans_pickle(tmp_path / "km.pkl"), np.eye(3))


def test_numpy_scalars_in_the_state_are_read(tmp_path: Path) -> None:
    model = KMeans(3, n_init=1).fit(FRAMES)
    model.inertia_, model.extra = np.float64(3.5), [np.int32(4), np.array(2.5), np.bool_(True)]
    for protocol in (0, 2, 5):
        (tmp_path / "km.pkl").write_bytes(pickle.dumps(model, protocol=protocol))
        assert same(tmp_path / "km.pkl", model)


def test_the_reader_imports_neither_scikit_learn_nor_joblib(tmp_path: Path) -> None:
    import subprocess
    import sys

    joblib.dump(MODELS[0], tmp_path / "km.bin")
    code = (
        "import sys; from pathlib import Path; from vocable.clustering import read_codebook;"
        f"read_codebook(Path({str(tmp_path / 'km.bin')!r})); print([m for m in ('sklearn', 'joblib', 'scipy', 'torch') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_names_in_real_files_are_few(tmp_path: Path) -> None:
    """What the allow-list holds is what real files need, and hardly more."""
    names = {arg for model in MODELS for op, arg, _ in pickletools.genops(pickle.dumps(model, protocol=2)) if op.name == "GLOBAL"}
    assert len(names) < 12
