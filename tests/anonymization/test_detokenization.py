"""A detokenizer's objective and data: what it comes near to, and where its crops come from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vocable.anonymization.centroids import Centroids
from vocable.anonymization.detokenization import Detokenization, DetokenizationSettings, FrameBatch, structural_similarity
from vocable.anonymization.detokenizer_data import DetokenizerData, FrameSource
from vocable.audio.faults import AudioFault
from vocable.clustering.fleets import Fleet, Member, read_fleet, write_fleet
from vocable.errors import InputError
from vocable.models.conformer import ConformerConfig
from vocable.recipes.detokenizer_tokens import looked_up
from vocable.training.batches import BatchSettings

CONFIG = ConformerConfig(dim=16, heads=2, ffn_dim=16, layers=1, features=6, residual=True)


def test_structural_similarity_is_the_references(shared: Path) -> None:
    with np.load(shared / "golden" / "wavlm" / "ssim_io.npz") as golden:
        one, other = (torch.from_numpy(golden[name]) for name in ("a", "b"))
        assert float(structural_similarity(one, other)) == pytest.approx(float(golden["ssim"]), abs=1e-6)
        assert float(structural_similarity(one, one)) == pytest.approx(float(golden["ssim_self"]), abs=1e-6)


def batch() -> FrameBatch:
    drawn = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 5, (2, 12, 1), generator=drawn)
    return FrameBatch(tokens, torch.tensor([0, 2]), torch.randn(2, 12, 6, generator=drawn), 1.0)


def centroids_of(made: FrameBatch, fleet: Fleet) -> torch.Tensor:
    """Return the centroids of a batch, looked up one by one."""
    return torch.stack(
        [
            torch.stack([torch.tensor(fleet.centroids(codebook)[token[0]]) for token in own])
            for own, codebook in zip(made.tokens.tolist(), made.codebooks.tolist(), strict=True)
        ]
    )


def test_the_loss_is_the_squared_error_and_unlikeness_has_the_right_sign(fleet: Fleet) -> None:
    made = batch()
    plain = Detokenization(CONFIG, [fleet]).eval()
    centroids = centroids_of(made, fleet)
    with torch.no_grad():
        found = plain(made)
    assert plain.weight(made) == 24
    bare = float((centroids - made.clean).square().mean())
    assert float(found.loss) / 24 == pytest.approx(bare, rel=1e-5)  # a residual model begins with what it is given
    assert float(found.metrics["error_of_centroids"][0]) / 24 == pytest.approx(bare, rel=1e-5)
    alike = float(structural_similarity(centroids, made.clean))
    for quirks, added in ((False, 1 - alike), (True, alike)):
        settings = DetokenizationSettings(similarity=0.5, reference_quirks=quirks)
        torch.manual_seed(0)
        with torch.no_grad():
            loss = float(Detokenization(CONFIG, [fleet], settings).eval()(made).loss) / 24
        assert loss == pytest.approx(bare + 0.5 * added, rel=1e-4)
    with pytest.raises(InputError, match="below 1"):
        DetokenizationSettings(masked=1.0)
    assert set(plain.state_dict()) == {f"conformer.{name}" for name in plain.conformer.state_dict()}  # codebooks aren't learnt


def test_centroids_are_of_the_fleet_that_the_tokens_are_of(tmp_path: Path) -> None:
    fleets, drawn = [], np.random.default_rng(0)
    for number, clusters in enumerate((5, 3)):
        values = [drawn.standard_normal((clusters, 6)).astype(np.float32) for _ in range(2)]
        members = [Member(f"c{at}", own, (f"s{at}",)) for at, own in enumerate(values)]
        write_fleet(tmp_path / str(number), members, ["c0", "c1"], clusters, 6, groups=((0, 2), (2, 6)))
        fleets.append(read_fleet(tmp_path / str(number)))
    gather = Centroids(fleets)
    assert not gather.state_dict()
    for number, clusters in enumerate((5, 3)):
        tokens = drawn.integers(0, clusters, (2, 7, 2))
        found = gather(torch.from_numpy(tokens), torch.tensor([1, 0]), number)
        for own, codebook, made in zip(tokens, (1, 0), found.numpy(), strict=True):
            np.testing.assert_array_equal(made, fleets[number].lookup(own, np.full(7, codebook)))


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
    centroids = centroids_of(made.batch, fleet)
    assert made.batch.clean.shape == centroids.shape == (4, 20, 6)
    assert made.batch.seconds == 8
    means = centroids.mean(dim=(1, 2)).round(decimals=-1)
    assert sorted(means.tolist()) == [0, 0, 10, 20]
    for crop, clean in zip(centroids.numpy(), made.batch.clean.numpy(), strict=True):
        codebook = round(float(crop.mean()) / 10)
        book = fleet.centroids(codebook)
        nearest = np.square(clean[:, None] - book[None]).sum(axis=2).argmin(axis=1)
        np.testing.assert_array_equal(crop, book[nearest])
    again = DetokenizerData(source(["s2", "t0", "s1", "s0"]), fleet, "own", SIZES, 0.0, 1).make(0)
    assert torch.equal(again.batch.clean, made.batch.clean)
    random = DetokenizerData(source([None] * 4), fleet, "random", SIZES, 0.0, 1)
    drawn = {codebook for position in range(8) for codebook in random.make(position).batch.codebooks.tolist()}
    assert drawn == {0, 1, 2}


def test_masked_frames_are_looked_up_as_zeros_and_stay_the_aim(fleet: Fleet) -> None:
    made = DetokenizerData(source(["s1"]), fleet, "own", SIZES, 0.5, 1).make(0).batch
    of_zero = fleet.centroids(1)[np.square(fleet.centroids(1)).sum(axis=1).argmin()]
    assert (centroids_of(made, fleet)[0].numpy() == of_zero).all(axis=1).sum() >= 10
    assert not (made.clean == 0).any()


def test_tokens_that_were_looked_up_before_are_those_that_are_looked_up_now(fleet: Fleet, tmp_path: Path) -> None:
    frames = source(["s2", "t0", "s1", "s0"], broken=2)
    before = looked_up(frames, fleet, tmp_path / "work")
    assert [len(before(row)) for row in range(4)] == [40, 41, 0, 43]
    assert before(0).dtype == np.uint16
    for masked in (0.0, 0.3):
        given = DetokenizerData(frames, fleet, "own", SIZES, masked, 1, before)
        anew = DetokenizerData(frames, fleet, "own", SIZES, masked, 1)
        for position in range(3):
            one, other = given.make(position).batch, anew.make(position).batch
            assert torch.equal(one.tokens, other.tokens)
            assert torch.equal(one.clean, other.clean)
    mended = source(["s2", "t0", "s1", "s0"])
    data = DetokenizerData(mended, fleet, "own", SIZES, 0.0, 1, before)  # of what could not be read then, it is done now
    assert torch.equal(data.make(0).batch.tokens, DetokenizerData(mended, fleet, "own", SIZES, 0.0, 1).make(0).batch.tokens)

    def nobody(row: int) -> np.ndarray:
        raise AssertionError("they were looked up before")

    kept = looked_up(replace(frames, frames=nobody), fleet, tmp_path / "work")
    assert np.array_equal(kept(3), before(3))


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
