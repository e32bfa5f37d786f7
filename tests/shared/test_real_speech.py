"""The main job on real speech (issue 2, lines 2, 5 and 9)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.cluster import MiniBatchKMeans

from vocable.cli.main import run
from vocable.clustering import KMeans
from vocable.clustering.kmeans import FAIRSEQ_MINIBATCH
from vocable.features import StoredFrames

pytestmark = [pytest.mark.shared, pytest.mark.slow]


@pytest.fixture(scope="module")
def train(shared: Path) -> Path:
    return shared / "speech" / "librispeech" / "train"


def test_units_of_other_speakers_tell_as_much_of_phones_as_the_reference(
    shared: Path, train: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dev = shared / "speech" / "librispeech" / "dev"
    assert run(["prepare", str(train), "--out", str(tmp_path / "run"), "--clusters", "100", "--workers", "2"]) == 0
    book = str(tmp_path / "run" / "codebook.safetensors")
    assert run(["units", str(dev), "--codebook", book, "--out", str(tmp_path / "dev"), "--name", "dev"]) == 0
    capsys.readouterr()
    labels = str(tmp_path / "dev" / "dev.km")
    assert run(["evaluate", "units", labels, "--alignments", str(shared / "speech" / "alignments"), "--json"]) == 0
    phones = json.loads(capsys.readouterr().out)["phones"]
    assert phones["utterances"] == 48
    assert phones["phones"] == 38 or phones["phones"] == 39
    assert phones["pnmi"] == pytest.approx(0.350, abs=0.012)
    assert phones["pnmi_without_silence"] == pytest.approx(0.299, abs=0.012)


@pytest.fixture(scope="module")
def frames(train: Path, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    folder = tmp_path_factory.mktemp("frames")
    assert run(["features", "mfcc", str(train), "--out", str(folder)]) == 0
    return np.asarray(StoredFrames(folder / "train_0_1.npy").array)


def test_inertia_on_real_frames_is_no_worse_than_fairseqs(frames: np.ndarray) -> None:
    assert len(frames) > 600_000
    ours = [KMeans(100, random_state=seed).fit(frames).inertia_ for seed in range(2)]
    model = MiniBatchKMeans(100, random_state=0, compute_labels=False, init_size=None, **FAIRSEQ_MINIBATCH).fit(frames)
    assert np.mean(ours) <= inertia_of(model.cluster_centers_, frames)


def inertia_of(centroids: np.ndarray, frames: np.ndarray) -> float:
    from vocable.clustering.assignment import NearestCentroid

    nearest = NearestCentroid(centroids.astype(np.float32))
    return float(nearest.squared_distances(frames, nearest(frames)).sum())


def test_fit_on_a_stream_of_real_frames_equals_that_on_the_array(frames: np.ndarray) -> None:
    class Stream:
        def blocks(self) -> object:
            return (frames[at : at + 9973] for at in range(0, len(frames), 9973))

    whole = KMeans(100, random_state=0).fit(frames)
    for workers, memory in ((1, 4 << 30), (2, 4 << 30), (2, 1 << 20)):
        model = KMeans(100, random_state=0, workers=workers, memory=memory).fit(Stream())
        assert np.array_equal(model.cluster_centers_, whole.cluster_centers_)
        assert model.inertia_ == whole.inertia_


@pytest.mark.timeout(1800)
def test_peak_memory_hardly_grows_from_five_to_fifty_hours(train: Path, tmp_path: Path) -> None:
    """The corpus repeated 3 and 30 times under other ids; the largest process counts."""
    files = sorted(train.rglob("*.flac"))
    peaks = []
    for times in (3, 30):
        rows = [f'{{"id": "{copy}/{path.stem}", "path": "{path}"}}\n' for copy in range(times) for path in files]
        manifest = tmp_path / f"{times}.jsonl"
        manifest.write_text("".join(rows))
        code = (
            "import resource, sys; from vocable.cli.main import run;"
            f"assert run(['prepare', {str(manifest)!r}, '--out', {str(tmp_path / str(times))!r}, '--workers', '2']) == 0;"
            "print(max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))"
        )
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        peaks.append(int(out.splitlines()[-1]) / 1024)
    print("peak MiB", peaks)
    assert peaks[1] < 1.1 * peaks[0]
