"""Fits to more frames than memory holds: the workers make passes where the frames are, and the codebook is the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from vocable.clustering.codebook import read_codebook
from vocable.clustering.kmeans import KMeans
from vocable.clustering.lloyd import _Fitter
from vocable.execution.engine import Engine, Work
from vocable.features.store import StoredFrames, npy_header, write_lengths
from vocable.recipes.fit_sources import StoredSample

Cli = Callable[..., str]
LITTLE = ("--memory", "0.0001")


@pytest.fixture(autouse=True)
def short_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vocable.audio.blocks.blocks_of.__defaults__", (12.0,))


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Coloured noise in files of 2 to 4 s, several to a block."""
    folder = tmp_path_factory.mktemp("spread")
    for at in range(26):
        noise = np.random.default_rng(at).standard_normal(1600 * (20 + at % 21))
        colour = np.fft.irfft(np.fft.rfft(noise) / (1 + np.arange(len(noise) // 2 + 1) / (300 * (1 + at % 7))))
        soundfile.write(folder / f"{at:02}.flac", (0.1 * colour / np.abs(colour).max()).astype(np.float32), 16000)
    return folder


def fitted(cli: Cli, speech: Path, out: Path, *options: object) -> Path:
    cli("kmeans", speech, "--clusters", 20, "--fraction", 1, "--out", out, *options)
    return out


def test_the_codebook_does_not_depend_on_workers_or_memory(cli: Cli, speech: Path, tmp_path: Path) -> None:
    found = [
        fitted(cli, speech, tmp_path / f"{name}.safetensors", "--workers", workers, *memory).read_bytes()
        for name, workers, memory in (("1", 1, LITTLE), ("2", 2, LITTLE), ("4", 4, LITTLE))
    ]
    assert found[0] == found[1] == found[2]
    whole = read_codebook(fitted(cli, speech, tmp_path / "whole.safetensors", "--workers", 2))
    spread = read_codebook(tmp_path / "1.safetensors")
    assert np.array_equal(whole.centroids, spread.centroids)
    assert whole.fit["inertia"] == pytest.approx(spread.fit["inertia"], rel=1e-12)
    assert whole.fit["passes"] == spread.fit["passes"]


def test_an_interrupted_fit_goes_on_after_its_last_pass(
    cli: Cli, speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fitted(cli, speech, tmp_path / "whole.safetensors", "--workers", 1, *LITTLE).read_bytes()
    monkeypatch.setattr("vocable.clustering.fit_state._EVERY", 0.0)
    original = _Fitter._note
    ended: list[int] = []

    def note(self: _Fitter, progress: object) -> None:
        original(self, progress)  # type: ignore[arg-type]
        if len(ended) < 2:
            ended.append(progress.level)  # type: ignore[attr-defined]
            raise KeyboardInterrupt

    monkeypatch.setattr(_Fitter, "_note", note)
    out = tmp_path / "broken.safetensors"
    for _ in range(2):
        cli("kmeans", speech, "--clusters", 20, "--fraction", 1, "--workers", 1, *LITTLE, "--out", out, fails=True)
        assert not out.exists()
    assert fitted(cli, speech, out, "--workers", 2, *LITTLE).read_bytes() == whole
    assert len(ended) == 2


def test_frames_in_files_are_read_by_the_workers(tmp_path: Path) -> None:
    rng, stores = np.random.default_rng(0), []
    for at in range(3):
        lengths = rng.integers(0, 9000, 40)
        frames = (rng.standard_normal((lengths.sum(), 5)) + 3 * rng.integers(0, 9, (lengths.sum(), 1))).astype(np.float32)
        (tmp_path / f"{at}.npy").write_bytes(npy_header(len(frames), 5) + frames.tobytes())
        write_lengths(tmp_path / f"{at}.len", lengths.tolist())
        stores.append(StoredFrames(tmp_path / f"{at}.npy"))
    chosen = [at for at in range(120) if at % 7]
    made = {}
    for workers, memory in ((1, 1), (3, 1), (1, 1 << 30)):
        with Engine(Work(workers=workers)) as engine:
            model = KMeans(12, random_state=3, memory=memory).fit(StoredSample(stores, chosen, engine))
        made[workers, memory] = model.cluster_centers_
        assert model.n_frames_ == sum(len(store[at - 40 * which]) for which, store in enumerate(stores)
                                      for at in chosen if 40 * which <= at < 40 * which + 40)  # fmt: skip
    assert np.array_equal(made[1, 1], made[3, 1])
    assert np.array_equal(made[1, 1], made[1, 1 << 30])


def test_what_is_left_out_is_named_as_ever(cli: Cli, speech: Path, tmp_path: Path) -> None:
    folder = tmp_path / "speech"
    folder.mkdir()
    for path in speech.glob("*.flac"):
        (folder / path.name).symlink_to(path)
    soundfile.write(folder / "broken.wav", np.random.default_rng(0).standard_normal(160000).astype(np.float32) * 0.1, 16000)
    content = (folder / "broken.wav").read_bytes()
    cli("manifest", folder, "--out", tmp_path / "all.tsv")
    (folder / "broken.wav").write_bytes(content[:2000])
    out = tmp_path / "c.safetensors"
    cli("kmeans", tmp_path / "all.tsv", "--clusters", 20, "--fraction", 1, "--workers", 2, *LITTLE, "--out", out)
    assert read_codebook(out).fit["utterances"] == 26
    said = [json.loads(line) for line in (tmp_path / "skipped.jsonl").read_text().splitlines()] if (
        tmp_path / "skipped.jsonl"
    ).exists() else []  # fmt: skip
    assert all("broken" in item["path"] for item in said)
