"""SD-HuBERT's training: a teacher that moves, a centre of all processes, and exact resumption."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from models.made import tiny
from vocable.errors import InputError
from vocable.models.regularization import Regularization
from vocable.syllables.distillation import (
    DistillationSettings,
    SentenceBatch,
    SentenceDistillation,
    collapse_warning,
    reinitialized,
)
from vocable.syllables.perturbation import PerturbationSettings, perturbed, stretched, time_mask

CONFIG = replace(tiny(), family="sdhubert", aggregator=True)
SMALL = DistillationSettings(prototypes=8, hidden=12, reinitialized=(2, 3), teacher_decay=0.9)


def batch(seed: int = 0, utterances: int = 4) -> SentenceBatch:
    drawn = np.random.default_rng(seed)
    audio = torch.from_numpy(drawn.standard_normal((utterances, 400 + 320 * 29)).astype(np.float32))
    settings = PerturbationSettings()
    return SentenceBatch(audio, perturbed(drawn, utterances, 30, settings), perturbed(drawn, utterances, 30, settings), 2.4)


def objective(settings: DistillationSettings = SMALL, seed: int = 0) -> SentenceDistillation:
    torch.manual_seed(seed)
    return SentenceDistillation(CONFIG, settings, Regularization(dropout=0.1, layer_drop=0.2))


def test_the_loss_is_the_cross_entropy_of_both_and_gradients_reach_the_student_alone() -> None:
    made = objective().train()
    made.begin_step()
    losses = made(batch())
    losses.loss.backward()
    reached = {name for name, parameter in made.named_parameters() if parameter.grad is not None}
    assert any(name.startswith("encoder.blocks") for name in reached)
    assert "encoder.aggregator" in reached
    assert "encoder.mask_embedding" in reached
    assert not any(name.startswith(("teacher.", "encoder.convolutions.", "encoder.positions.")) for name in reached)
    assert float(losses.loss.detach()) > 0
    assert set(losses.metrics) == {"spread_sentences", "spread_frames", "teacher_entropy", "teacher_tells"}


def test_the_loss_in_evaluation_is_what_a_slow_reference_says() -> None:
    made = objective().eval()
    made.begin_step()
    made.center.copy_(torch.arange(8.0) / 50)
    made.begun[1] = 1
    with torch.no_grad():
        found = made(batch())
        stream = made.encoder.through(made.encoder.projection(made._convolved(batch().audio)))
        student = made.distillation(stream[:, 0])
        wanted = torch.exp((student - made.center) / 0.05)  # the teacher is the student yet
        wanted = wanted / wanted.sum(dim=1, keepdim=True)
        told = torch.exp(student / 0.2)
        expected = -(wanted * torch.log(told / told.sum(dim=1, keepdim=True))).sum()
    assert float(found.loss) == pytest.approx(float(expected), rel=1e-4)


def test_the_teacher_follows_its_student_and_never_trains() -> None:
    made = objective().train()
    assert not made.teacher.training
    made.begin_step()
    own, theirs = made.encoder.blocks[0].feed_forward.inner.weight, made.teacher.blocks[0].feed_forward.inner.weight
    assert torch.equal(own, theirs)
    before = theirs.clone()
    with torch.no_grad():
        own.add_(1.0)
    made.begin_step()
    torch.testing.assert_close(theirs, before + 0.1)
    frozen = objective(replace(SMALL, teacher_decay=1.0)).train()
    frozen.begin_step()
    before = frozen.teacher.head.prototypes.weight.clone()
    with torch.no_grad():
        frozen.distillation.prototypes.weight.add_(1.0)
    frozen.begin_step()
    assert torch.equal(frozen.teacher.head.prototypes.weight, before)  # the authors' code before November 2024


def test_the_centre_is_the_mean_of_a_whole_step_whoever_saw_its_parts() -> None:
    one, parts = objective().train(), objective().train()
    parts.load_state_dict(one.state_dict())
    for made in (one, parts):
        made.begin_step()
        made.eval()  # nothing is left out at random
        made.training = True
    whole = batch(utterances=6)
    one(whole)
    one.end_step(lambda total: total)
    assert float(one.center.abs().sum()) > 0

    def of(first: int, last: int) -> SentenceBatch:
        cut = [type(item)(item.mask[first:last], item.positions[first:last]) for item in (whole.student, whole.teacher)]
        return SentenceBatch(whole.audio[first:last], cut[0], cut[1], 1.0)

    other = copy.deepcopy(parts)
    parts(of(0, 2))
    other(of(2, 6))
    sums = []
    other.end_step(lambda total: sums.append(total.clone()) or total)  # type: ignore[func-returns-value]
    parts.end_step(lambda total: total + sums[0])
    torch.testing.assert_close(parts.center, one.center)
    before = one.center.clone()
    one(whole)
    one.end_step(lambda total: total)
    torch.testing.assert_close(one.center, before)  # 0.9 of it stays, and the rest is the same again


def test_what_is_validated_on_leaves_the_centre_alone_unless_it_is_asked_for() -> None:
    for settings, moves in (
        (SMALL, False),
        (replace(SMALL, center="batch"), False),
        (replace(SMALL, center="batch", center_in_validation=True), True),
    ):
        made = objective(settings).eval()
        made.begin_step()
        with torch.no_grad():
            made(batch())
        made.end_step(lambda total: total) if settings.center == "batch" else None
        assert bool(made.center.abs().sum() > 0) == moves


def test_blocks_begin_anew_but_for_their_values_and_norms() -> None:
    made = objective()
    before = copy.deepcopy(made.encoder.blocks)
    reinitialized(made, (2, 3))
    first, last = made.encoder.blocks[0], made.encoder.blocks[2]
    assert torch.equal(first.attention.query_key_value.weight, before[0].attention.query_key_value.weight)
    old, new = before[2].attention.query_key_value.weight.chunk(3), last.attention.query_key_value.weight.chunk(3)
    assert not torch.equal(old[0], new[0])
    assert not torch.equal(old[1], new[1])
    assert torch.equal(old[2], new[2])
    assert torch.equal(last.attention_norm.weight, before[2].attention_norm.weight)
    assert float(last.feed_forward.inner.bias.detach().std()) == pytest.approx(128**-0.5, rel=0.3)
    with pytest.raises(InputError, match="reinitialized 4: the encoder has 3 blocks"):
        reinitialized(made, (4,))


def test_each_way_of_changing_an_utterance_is_as_frequent_as_asked() -> None:
    drawn = np.random.default_rng(0)
    made = perturbed(drawn, 4000, 60, PerturbationSettings())
    masked, moved = made.mask.any(dim=1), (made.positions != torch.arange(60.0)).any(dim=1)
    assert float(moved.float().mean()) == pytest.approx(0.2, abs=0.03)
    assert not bool((masked & moved).any())
    assert float(masked.float().mean()) > 0.7
    assert bool((made.positions >= 0).all())
    assert bool((made.positions <= 59).all())
    untouched = perturbed(drawn, 5, 60, PerturbationSettings(masks=(), stretch=0.0))
    frames = torch.randn(5, 60, 3)
    assert torch.equal(untouched(frames, torch.ones(3)), frames)


def test_short_utterances_are_masked_and_stretched_within_their_length() -> None:
    drawn = np.random.default_rng(0)
    for frames in range(1, 40):
        assert len(stretched(drawn, frames)) == frames
        assert len(time_mask(drawn, frames, 0.9, 10)) == frames
    assert not time_mask(drawn, 9, 1.0, 10).any()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"student_temperature": 0.0}, "give more than 0"),
        ({"teacher_decay": 1.5}, "give 0 to 1"),
        ({"prototypes": 1}, "give 2 or more"),
        ({"center_in_validation": True}, "center_in_validation goes with"),
        ({"center": "none"}, "center 'none'"),
        ({"reduction": "none"}, "reduction 'none'"),
    ],
)
def test_settings_that_mean_nothing_are_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        replace(SMALL, **changes)


def test_a_collapse_is_told() -> None:
    good = [{"spread_sentences": 1.0}] * 6
    assert collapse_warning(good) is None
    warning = collapse_warning([*good, {"spread_sentences": 0.01}])
    assert warning is not None
    assert "sentences are told apart less and less" in warning
    with pytest.raises(InputError, match="an aggregator, which this encoder hasn't"):
        SentenceDistillation(tiny())
    with pytest.raises(InputError, match="add up to more than 1"):
        PerturbationSettings(stretch=0.9)
    with pytest.raises(InputError, match="a mask of probability"):
        PerturbationSettings(masks=((0.5, 2.0, 3),))
