"""A detokenizer's objective and data: what it comes near to, and where its crops come from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from vocable.anonymization.detokenization import Detokenization, DetokenizationSettings, FrameBatch, structural_similarity
from vocable.anonymization.detokenizer_data import DetokenizerData, FrameSource
from vocable.audio.faults import AudioFault
from vocable.clustering.fleets import Fleet, Member, read_fleet, write_fleet
from vocable.errors import InputError
from vocable.models.conformer import ConformerConfig
from vocable.training.batches import BatchSettings

CONFIG = ConformerConfig(dim=16, heads=2, ffn_dim=16, layers=1, features=6, residual=True)


def test_structural_similarity_is_the_references(shared: Path) -> None:
    with np.load(shared / "golden" / "wavlm" / "ssim_io.npz") as golden:
        one, other = (torch.from_numpy(golden[name]) for name in ("a", "b"))
        assert float(structural_similarity(one, other)) == pytest.approx(float(golden["ssim"]), abs=1e-6)
        assert float(structural_similarity(one, one)) == pytest.approx(float(golden["ssim_self"]), abs=1e-6)


def batch() -> FrameBatch:
    drawn = torch.Generator().manual_seed(0)
    clean = torch.randn(2, 12, 6, generator=drawn)
    return FrameBatch(clean + 0.5 * torch.randn(2, 12, 6, generator=drawn), clean, 1.0)


def test_the_loss_is_the_squared_error_and_unlikeness_has_the_right_sign() -> None:
    made = batch()
    plain = Detokenization(CONFIG).eval()
    with torch.no_grad():
        found = plain(made)
    assert plain.weight(made) == 24
    bare = float((made.centroids - made.clean).square().mean())
    assert float(found.loss) / 24 == pytest.approx(bare, rel=1e-5)  # a residual model begins with what it is given
    assert float(found.metrics["error_of_centroids"][0]) / 24 == pytest.approx(bare, rel=1e-5)
    alike = float(structural_similarity(made.centroids, made.clean))
    for quirks, added in ((False, 1 - alike), (True, alike)):
        settings = DetokenizationSettings(similarity=0.5, reference_quirks=quirks)
        torch.manual_seed(0)
        with torch.no_grad():
            loss = float(Detokenization(CONFIG, settings).eval()(made).loss) / 24
        assert loss == pytest.approx(bare + 0.5 * added, rel=1e-4)
    with pytest.raises(InputError, match="below 1"):
        DetokenizationSettings(masked=1.0)


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    drawn = np.random.default_rng(0)
    members = [
        Member(f"c{number}", drawn.standard_normal((5, 6)).astype(np.float32) + 10 * number, (f"s{number}", f"t{number}"))
        for number in range(3)
    ]
    write_fleet(tmp_path / "f", members, ["c0", "c1", "c2"], 5, 6)
    return read_fleet(tmp_path / "f")


def source(speakers: list[str | None], broken: int | None = None) -> FrameSource:
    def frames(row: int) -> np.ndarray:
        if row == broken:
            raise AudioFault("unreadable", "it is broken")
        return np.random.default_rng(row).standard_normal((40 + row, 6)).astype(np.float32)

    lengths = np.array([40 + row for row in range(len(speakers))])
    return FrameSource([f"u{row}" for row in range(len(speakers))], speakers, lengths, 10.0, frames, "x")


SIZES = BatchSettings(seconds=8, micro_seconds=8, longest=2, shortest=1)


def test_frames_are_looked_up_in_the_codebook_of_their_speaker(fleet: Fleet) -> None:
    data = DetokenizerData(source(["s2", "t0", "s1", "s0"]), fleet, "own", SIZES, 0.0, 1)
    made = data.make(0)
    assert made.batch.clean.shape == made.batch.centroids.shape == (4, 20, 6)
    assert made.batch.seconds == 8
    means = made.batch.centroids.mean(dim=(1, 2)).round(decimals=-1)
    assert sorted(means.tolist()) == [0, 0, 10, 20]
    for crop, clean in zip(made.batch.centroids.numpy(), made.batch.clean.numpy(), strict=True):
        codebook = round(float(crop.mean()) / 10)
        book = fleet.centroids(codebook)
        nearest = np.square(clean[:, None] - book[None]).sum(axis=2).argmin(axis=1)
        np.testing.assert_array_equal(crop, book[nearest])
    again = DetokenizerData(source(["s2", "t0", "s1", "s0"]), fleet, "own", SIZES, 0.0, 1).make(0)
    assert torch.equal(again.batch.clean, made.batch.clean)
    random = DetokenizerData(source([None] * 4), fleet, "random", SIZES, 0.0, 1)
    drawn = {round(float(crop.mean()) / 10) for position in range(8) for crop in random.make(position).batch.centroids}
    assert drawn == {0, 1, 2}


def test_masked_frames_are_looked_up_as_zeros_and_stay_the_aim(fleet: Fleet) -> None:
    made = DetokenizerData(source(["s1"]), fleet, "own", SIZES, 0.5, 1).make(0).batch
    of_zero = fleet.centroids(1)[np.square(fleet.centroids(1)).sum(axis=1).argmin()]
    assert (made.centroids[0].numpy() == of_zero).all(axis=1).sum() >= 10
    assert not (made.clean == 0).any()


def test_what_cannot_be_learnt_from_is_told(fleet: Fleet) -> None:
    with pytest.raises(InputError, match=r"who speaks u1 isn't known: give data\.speakers"):
        DetokenizerData(source(["s0", None]), fleet, "own", SIZES, 0.0, 1)
    with pytest.raises(InputError, match="x, who speaks u0, has no codebook"):
        DetokenizerData(source(["x"]), fleet, "own", SIZES, 0.0, 1)
    made = DetokenizerData(source(["s0", "s1"], broken=1), fleet, "own", SIZES, 0.0, 1).make(0)
    assert made.unreadable == {1: "it is broken"}
    assert len(made.batch.clean) == 2
    with pytest.raises(InputError, match="it is broken, and so it goes on"):
        DetokenizerData(source(["s0"], broken=0), fleet, "own", SIZES, 0.0, 1).make(0)
