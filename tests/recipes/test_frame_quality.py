"""`evaluate frames` fits on one corpus and scores on another."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from vocable import KMeans, Mfcc
from vocable.clustering.assignment import NearestCentroid
from vocable.evaluation.joint_counts import JointCounts

Cli = Callable[..., str]


@pytest.fixture
def phones(corpus: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "phones"
    folder.mkdir()
    for file in corpus.rglob("*.flac"):
        if file.stem != "s0-00":  # of which nothing is known
            drawn = np.random.default_rng(int(file.stem[-2:]))
            rows = [f"{at / 10:.1f}\t{(at + 1) / 10:.1f}\t{drawn.choice(['AA1', 'B', 'sil'])}" for at in range(3)]
            (folder / f"{file.stem}.tsv").write_text("\n".join(["start\tend\tphone", *rows]) + "\n")
    return folder


def frames_in(folder: Path, every: int = 1) -> list[tuple[str, np.ndarray]]:
    made = []
    for file in sorted(folder.glob("*.flac")):
        (frames,) = Mfcc()([soundfile.read(file, dtype="float32")[0]])
        made.append((file.stem, frames[::every]))
    return made


@pytest.mark.parametrize("every", [1, 2])
def test_scores_are_those_of_units_fitted_elsewhere(cli: Cli, corpus: Path, phones: Path, every: int) -> None:
    said = cli(
        "evaluate", "frames", corpus / "s0", corpus / "s1", "--alignments", phones, "--clusters", 9, "--seeds", 2, "--every", every,
        "--also", "4,6", "--workers", 1, "--json",
    )  # fmt: skip
    found = json.loads(said)
    alone = cli(
        "evaluate", "frames", corpus / "s0", corpus / "s1", "--alignments", phones, "--clusters", 6, "--seeds", 2, "--every", every,
        "--workers", 1, "--json",
    )  # fmt: skip
    assert set(found["also"]) == {"4", "6"}
    assert all(found["also"]["6"][name] == json.loads(alone)[name] for name in ("pnmi", "pnmi_least", "phone_purity"))
    fitted = np.concatenate([frames for _, frames in frames_in(corpus / "s0", every)])
    expected = []
    for seed in range(2):
        nearest = NearestCentroid(KMeans(9, random_state=seed).fit(fitted).cluster_centers_.astype(np.float32))
        pairs = []
        for name, frames in frames_in(corpus / "s1", every):
            rows = [line.split("\t") for line in (phones / f"{name}.tsv").read_text().splitlines()[1:]]
            centres = 0.0125 + 0.01 * every * np.arange(len(frames))
            own = [next((phone for start, end, phone in rows if float(start) <= at < float(end)), None) for at in centres]
            kept = [at for at, phone in enumerate(own) if phone is not None]
            pairs.append(([own[at].replace("AA1", "AA") for at in kept], nearest(frames[kept])))
        expected.append(JointCounts.of(pairs, 9).pnmi())
    assert found["pnmi"] == pytest.approx(np.mean(expected), abs=1e-9)
    assert (found["pnmi_least"], found["pnmi_most"]) == pytest.approx((min(expected), max(expected)))
    assert found["frames"] == sum(len(labels) for labels, _ in pairs)
    assert 0.2 < found["probe_accuracy"] <= 1


def test_what_cannot_be_scored_is_refused(cli: Cli, corpus: Path, phones: Path, tmp_path: Path) -> None:
    given = ("evaluate", "frames", corpus / "s0", corpus / "s1", "--workers", 1)
    assert "fewer than the 90000 units" in cli(*given, "--alignments", phones, "--clusters", 90_000, fails=True)
    assert "--seeds 0: give 1 or more" in cli(*given, "--alignments", phones, "--seeds", 0, fails=True)
    for file in phones.glob("s1-*"):
        file.unlink()
    assert "to score has an alignment in" in cli(*given, "--alignments", phones, fails=True)


def test_frames_are_drawn_and_normalised_as_asked(cli: Cli, corpus: Path, phones: Path) -> None:
    given = (
        "evaluate",
        "frames",
        corpus / "s0",
        corpus / "s1",
        "--alignments",
        phones,
        "--clusters",
        5,
        "--workers",
        1,
        "--json",
    )
    whole = json.loads(cli(*given))
    few = json.loads(cli(*given, "--most-frames", 400))
    assert few["frames"] == whole["frames"]
    assert few["pnmi"] != whole["pnmi"]
    for normalize in ("utterance", "corpus"):
        assert json.loads(cli(*given, "--normalize", normalize, "--context", 1))["pnmi"] != whole["pnmi"]
    said = cli(
        "evaluate", "frames", corpus, corpus, "--alignments", phones, "--clusters", 5, "--normalize", "speaker", fails=True
    )
    assert "--speakers" in said
