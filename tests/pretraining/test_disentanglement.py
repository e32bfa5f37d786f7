"""Heads learn as if nothing were reversed, and the encoder gets minus their gradient, scaled, wherever they listen."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor
from torch.nn import functional

from helpers import speech_like
from models.made import tiny
from pretraining.test_hubert import batch_of
from vocable.audio.manifest import Manifest, Utterance
from vocable.errors import InputError
from vocable.models.regularization import Regularization
from vocable.pretraining.disentangled_audio import DisentangledAudio, pitch_of_frames
from vocable.pretraining.disentanglement import DisentangledBatch, DisentangledObjective, pooled
from vocable.pretraining.disentanglement_settings import DisentanglementSettings, HeadSettings, SpeakerHeadSettings
from vocable.pretraining.gradient_scaling import scaled_gradient
from vocable.pretraining.hubert import HubertObjective
from vocable.pretraining.labelled_audio import LabelledAudio, LabelSet, labels_of_frames
from vocable.pretraining.loss_settings import LossSettings
from vocable.pretraining.masking import MaskSettings
from vocable.pretraining.watch import speaker_warning
from vocable.training.batches import BatchSettings
from vocable.training.inputs import AudioInputs
from vocable.training.objective import Apart, InTurns, Stepping
from vocable.training.settings import OptimizerSettings
from vocable.training.wrapping import optimizer_of
from vocable.units.pitch_labels import PitchBins, PitchLabels
from vocable.units.units import Units, UnitsHeader

STEPS, SPEAKERS, BINS = 100, 5, 7
Tap = int | Literal["conv", "last"]
Gradients = dict[str, Tensor]


def made(tap: Tap = 1, step: int = 0, large: bool = False, dropout: float = 0.0, **changes: Any) -> DisentangledObjective:
    """Return an objective in the middle of a training, without dropout."""
    torch.manual_seed(0)
    hubert = HubertObjective(tiny("hubert", large), [11], LossSettings(projection=8), Regularization(dropout=dropout))
    described: dict[str, Any] = {
        "reversal": 0.3, "speaker": SpeakerHeadSettings(dropout=dropout, hidden=16), "pitch": HeadSettings(dropout=dropout, hidden=16),
    }  # fmt: skip
    settings = DisentanglementSettings(tap=tap, **described | changes)
    objective = DisentangledObjective(hubert, settings, STEPS, SPEAKERS, BINS).train()
    objective.steps.fill_(step)
    return objective


def batch(count: int = 3, **changes: Any) -> DisentangledBatch:
    masked = batch_of(tiny(), 11, count=count)
    torch.manual_seed(4)
    pitch = torch.randint(-1, BINS, tuple(masked.mask.shape))
    known = {"speakers": torch.tensor([2, -1, 4])[:count], "pitch": pitch} | changes
    return DisentangledBatch(masked, known["speakers"], known["pitch"])


def gradients(objective: DisentangledObjective, loss: Tensor) -> Gradients:
    objective.zero_grad(set_to_none=True)
    loss.backward()
    found = {name: value.grad.clone() for name, value in objective.named_parameters() if value.grad is not None}
    objective.zero_grad(set_to_none=True)
    return found


def means_by_hand(objective: DisentangledObjective, given: DisentangledBatch, tap: Tap, turning: bool = False) -> Tensor:
    """Return the weighted mean cross-entropies of the heads, nothing of them reversed, by loops and the encoder's own parts.

    With `turning` those of the items alone that turn the encoder, as parts of the same means.
    """
    encoder = objective.hubert.encoder
    convolved = torch.stack([encoder.convolutions(item) for item in given.masked.audio])
    stream = projected = encoder.projection(convolved)
    stream = torch.where(given.masked.mask[..., None], encoder.mask_embedding, stream)
    stream = stream + encoder.positions.of_batch(stream)
    stream = stream if encoder.config.pre_norm else encoder.norm(stream)
    states = [projected]
    for block in encoder.blocks:
        stream = block(stream, None, None).block
        states.append(stream)
    frames = states[{"conv": 0, "last": -1}.get(tap, tap)]  # type: ignore[call-overload,arg-type]
    speaker, pitch = objective.heads["speaker"], objective.heads["pitch"]
    of_speakers, of_pitch = [], []
    if objective._settings.normalize:
        spread = frames.var(-1, unbiased=False, keepdim=True)
        frames = (frames - frames.mean(-1, keepdim=True)) / (spread + 1e-5).sqrt()
    settings, pooling = objective._settings, objective._settings.speaker.head == "pooled"
    for number, (whole, heard) in enumerate(zip(frames, heard_frames(given, settings.frames), strict=True)):
        own = whole[heard]
        if (known := int(given.speakers[number])) >= 0:
            described = [torch.cat([own.mean(0), (own.var(0, unbiased=False) + 1e-5).sqrt()])] if pooling else list(own)
            for item in described:
                inner = speaker.norm(speaker.inner(item)) if pooling else speaker.inner(item)
                of_speakers.append(-torch.log_softmax(speaker.outer(functional.gelu(inner)), 0)[known])
        for frame, place in zip(own, given.pitch[number][heard], strict=True):
            if int(place) >= 0:
                logits = pitch.outer(functional.gelu(pitch.inner(frame)))
                of_pitch.append(-torch.log_softmax(logits, 0)[int(place)])
    if turning and settings.relents:
        of_speakers = [loss if loss < math.log(SPEAKERS) else 0 * loss for loss in of_speakers]
        of_pitch = [loss if loss < math.log(BINS) else 0 * loss for loss in of_pitch]
        assert any(of_speakers)
        assert 0 < sum(map(bool, of_pitch)) < len(of_pitch)
    weighted = (settings.speaker.weight * torch.stack(of_speakers).mean(), settings.pitch.weight * torch.stack(of_pitch).mean())
    return objective.weight(given) * (weighted[0] + weighted[1])


def heard_frames(given: DisentangledBatch, frames: str) -> Tensor:
    mask = given.masked.mask
    return {"all": torch.ones_like(mask), "masked": mask, "unmasked": ~mask}[frames]


def close(one: Tensor, other: Tensor) -> bool:
    return float((one - other).abs().max()) <= 1e-5 * max(1.0, float(other.abs().max()))


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("tap", ["conv", 1, "last"])
@pytest.mark.parametrize("schedule", ["constant", "dann", "linear"])
@pytest.mark.parametrize("step", [7, 29, 80])
@pytest.mark.parametrize("bounded", [False, True])
def test_the_encoder_gets_minus_the_heads_gradient_times_the_strength(
    large: bool, tap: Tap, schedule: str, step: int, bounded: bool
) -> None:
    weights = {"speaker": SpeakerHeadSettings(weight=0.5, dropout=0, hidden=16), "pitch": HeadSettings(dropout=0, hidden=16)}
    objective = made(tap, step, large, schedule=schedule, normalize=bounded, relents=bounded, **weights)
    expected = {
        "constant": {7: 0.0, 29: 0.3, 80: 0.3},
        "linear": {7: 0.0, 29: 0.15, 80: 0.3},
        "dann": {7: 0.0, 29: 0.3 * (2 / (1 + math.exp(-5)) - 1), 80: 0.3 * (2 / (1 + math.exp(-10)) - 1)},
    }[schedule][step]
    assert objective.strength == pytest.approx(expected, abs=1e-12)
    assert_turned(objective, batch(), tap, expected)


@pytest.mark.parametrize("tap", ["conv", 1])
@pytest.mark.parametrize(("frames", "head"), [("all", "frame"), *itertools.product(("masked", "unmasked"), ("pooled", "frame"))])
@pytest.mark.parametrize("bounded", [False, True])
def test_the_encoder_gets_it_from_the_frames_that_heads_hear(tap: Tap, frames: Any, head: Any, bounded: bool) -> None:
    speaker = SpeakerHeadSettings(head=head, weight=0.5, dropout=0, hidden=16)
    objective = made(tap, 80, schedule="linear", normalize=bounded, relents=bounded, frames=frames, speaker=speaker)
    assert_turned(objective, batch(), tap, 0.3)


def assert_turned(objective: DisentangledObjective, given: DisentangledBatch, tap: Tap, expected: float) -> None:
    found = gradients(objective, objective(given).loss)
    plain = gradients(objective, objective.hubert(given.masked).loss)
    heads = gradients(objective, means_by_hand(objective, given, tap))
    turning = gradients(objective, means_by_hand(objective, given, tap, turning=True))
    reached = 0
    for name, value in found.items():
        if name.startswith("heads."):
            assert close(value, heads[name])
        else:
            turned = turning.get(name, torch.zeros(()))
            assert close(value, plain.get(name, torch.zeros(())) - expected * turned)
            reached += bool(turned.abs().max() > 1e-3)
    assert set(found) == {*plain, *heads}
    assert reached > 3


def test_the_gradient_is_the_numerical_one_of_the_loss_less_what_is_reversed() -> None:
    torch.manual_seed(1)
    values = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)

    def told(frames: Tensor) -> Tensor:
        return frames.sin().square().sum()

    def turned(part: float) -> Tensor:
        (found,) = torch.autograd.grad(values.cos().sum() + told(scaled_gradient(values, -part)), values)
        return found

    step = 1e-6
    for part in (0.0, 0.1, 1.0, 3.0):
        for place in np.ndindex(4, 3):
            moved = torch.zeros(4, 3, dtype=torch.float64)
            moved[place] = step
            with torch.no_grad():
                up, down = ((values + sign * moved) for sign in (1, -1))
                slope = ((up.cos().sum() - part * told(up)) - (down.cos().sum() - part * told(down))) / (2 * step)
            assert float(turned(part)[place]) == pytest.approx(float(slope), abs=1e-7)
    assert torch.equal(scaled_gradient(values, -2.0), values)


def test_the_strength_is_nothing_before_its_beginning_and_whole_behind_its_end() -> None:
    settings = DisentanglementSettings(reversal=0.1)
    found = [settings.strength(step, 1000) for step in range(1000)]
    assert found[:81] == [0.0] * 81
    assert all(later > earlier for earlier, later in itertools.pairwise(found[80:501]))
    assert found[500] == found[999] == pytest.approx(0.1 * (2 / (1 + math.exp(-10)) - 1))
    assert found[290] == pytest.approx(0.1 * (2 / (1 + math.exp(-5)) - 1))
    at_once = DisentanglementSettings(schedule="linear", begin=0.3, end=0.3)
    assert [at_once.strength(step, 10) for step in (2, 3)] == [0.0, 0.1]
    assert DisentanglementSettings(schedule="constant", begin=0).strength(0, 10) == 0.1


@pytest.mark.parametrize("tap", ["conv", 2, "last"])
def test_where_nothing_is_reversed_the_encoder_learns_as_alone_bit_for_bit(tap: Tap) -> None:
    given = batch()
    objective = made(tap, dropout=0.1, reversal=0.0)
    torch.manual_seed(9)
    found = objective(given)
    own = gradients(objective, found.loss)
    torch.manual_seed(9)
    plain = gradients(objective, objective.hubert(given.masked).loss)
    assert all(torch.equal(own[name], value) for name, value in plain.items())
    assert {name for name in own if name.startswith("heads.")} == set(own) - set(plain)
    torch.manual_seed(0)
    alone = HubertObjective(tiny(), [11], LossSettings(projection=8))
    assert all(torch.equal(value, objective.hubert.state_dict()[name]) for name, value in alone.state_dict().items())


@pytest.mark.parametrize("frames", ["all", "masked", "unmasked"])
@pytest.mark.parametrize("head", ["pooled", "frame"])
def test_heads_listen_to_the_frames_they_are_asked_to(frames: Literal["all", "masked", "unmasked"], head: Any) -> None:
    objective = made(1, 50, frames=frames, speaker=SpeakerHeadSettings(head=head, dropout=0, hidden=16))
    given = batch()
    heard = heard_frames(given, frames)
    metrics = objective(given).metrics
    spoken = heard[[0, 2]]  # the second utterance's speaker isn't known
    assert int(metrics["speaker_loss"][1]) == (2 if head == "pooled" else int(spoken.sum()))
    assert int(metrics["pitch_loss"][1]) == int((heard & (given.pitch >= 0)).sum())
    other = torch.where(heard, given.pitch, (given.pitch + 1) % BINS)
    again = objective(batch(pitch=other)).metrics
    assert torch.equal(metrics["pitch_loss"], again["pitch_loss"])


@pytest.mark.parametrize("tap", ["conv", 1, "last"])
@pytest.mark.parametrize("frames", ["all", "unmasked"])
def test_centring_adds_the_part_of_variance_between_utterances(tap: Tap, frames: Any) -> None:
    objective, given = made(tap, 29, reversal=0.0, centring=2.0, schedule="linear", frames=frames), batch()
    found, plain = gradients(objective, objective(given).loss), gradients(objective, objective.hubert(given.masked).loss)
    objective.eval()  # the same states: there is no dropout
    heard = torch.ones_like(given.masked.mask) if frames == "all" else ~given.masked.mask
    states = objective.hubert.encoded(given.masked).states
    tapped = states.projected if tap == "conv" else states.blocks[-1 if tap == "last" else tap - 1]
    values = [functional.layer_norm(own[ok], own.shape[-1:]) for own, ok in zip(tapped, heard, strict=True)]
    every = torch.cat(values)
    apart = sum(len(own) * (own.mean(0) - every.mean(0)).square() for own in values) / len(every)
    part = (apart / (every.var(0, unbiased=False) + 1e-5)).mean()
    assert objective.scheduled == 0.5
    added = gradients(objective, objective.weight(given) * 2.0 * 0.5 * part)
    assert set(found) - set(plain) == {name for name in found if name.startswith("heads.")}
    for name, value in plain.items():
        assert close(found[name], value + added.get(name, torch.zeros(())))
    assert any(bool(value.abs().max() > 1e-3) for value in added.values())
    assert float(objective.train()(given).metrics["between_utterances"][0]) == pytest.approx(float(part.detach()), rel=1e-5)


def test_means_and_deviations_are_over_frames_that_count() -> None:
    torch.manual_seed(2)
    frames, heard = torch.randn(2, 9, 4), torch.rand(2, 9) > 0.4
    found = pooled(frames, heard)
    for number in range(2):
        own = frames[number][heard[number]]
        assert torch.allclose(found[number, :4], own.mean(0), atol=1e-6)
        assert torch.allclose(found[number, 4:], (own.var(0, unbiased=False) + 1e-5).sqrt(), atol=1e-6)
    none = pooled(frames.requires_grad_(), torch.zeros(2, 9, dtype=torch.bool))
    none.sum().backward()
    assert bool(frames.grad is not None and frames.grad.isfinite().all())


def test_what_is_unknown_or_unvoiced_teaches_nothing_and_all_heads_have_gradients() -> None:
    objective = made(1, 50)
    given = batch(speakers=torch.full((3,), -1), pitch=torch.full(tuple(batch().masked.mask.shape), -1))
    found = objective(given)
    own, plain = gradients(objective, found.loss), gradients(objective, objective.hubert(given.masked).loss)
    assert all(torch.equal(own[name], value) for name, value in plain.items())
    assert all(not value.any() for name, value in own.items() if name.startswith("heads."))
    assert {name for name, _ in objective.named_parameters() if name.startswith("heads.")} <= set(own)
    assert [float(part) for part in found.metrics["speaker_loss"]] == [0, 0]


def test_what_is_validated_is_the_loss_of_labels_alone() -> None:
    objective, given = made(2, 50).eval(), batch()
    with torch.no_grad():
        found, plain = objective(given), objective.hubert(given.masked)
    assert torch.equal(found.loss, plain.loss)
    assert next(iter(found.metrics)) == "loss_masked"
    assert {"speaker_loss", "speaker_accuracy", "pitch_loss", "pitch_accuracy"} <= set(found.metrics)
    with torch.no_grad():
        known = objective(batch(speakers=None)).metrics
    assert "speaker_loss" not in known
    assert "pitch_loss" in known


def test_a_head_that_has_no_weight_is_not_there() -> None:
    hubert = HubertObjective(tiny(), [11])
    settings = DisentanglementSettings(speaker=SpeakerHeadSettings(weight=0))
    objective = DisentangledObjective(hubert, settings, STEPS, None, BINS)
    assert list(objective.heads) == ["pitch"]
    assert "speaker_loss" not in objective(batch()).metrics


def test_a_step_is_counted_and_a_checkpoint_says_where_to_go_on() -> None:
    objective = made(1)
    for _ in range(30):
        objective.begin_step()
        objective.end_step(lambda tensor: tensor)
    objective.begin_step()
    other = made(1)
    other.load_state_dict(objective.state_dict())
    other.begin_step()
    assert objective.strength == other.strength == DisentanglementSettings(reversal=0.3).strength(30, STEPS)
    assert float(other(batch()).metrics["reversal"][0]) == pytest.approx(other.strength)
    assert isinstance(objective, Stepping)
    assert isinstance(objective, Apart)
    assert not isinstance(objective, InTurns)
    assert not isinstance(objective.hubert, Apart)


def test_heads_and_nothing_else_learn_at_the_rate_of_heads() -> None:
    objective = made(1, head_rate=3.0)
    groups = optimizer_of(objective, OptimizerSettings(), torch.device("cpu")).param_groups
    rates = {id(parameter): group.get("rate", 1.0) for group in groups for parameter in group["params"]}
    found = {name: rates[id(parameter)] for name, parameter in objective.named_parameters()}
    assert found == {name: 3.0 if name.startswith("heads.") else 1.0 for name in found}


@pytest.mark.parametrize("ratio", [2.0, 1.0])
def test_pitch_stays_with_its_samples_as_labels_do(ratio: float) -> None:
    frames, period = 49, int(320 / ratio)
    pitch = np.arange(1 + (16_000 - 400) // period)
    for first in range(frames - 1):
        for length in (1, 2, frames - first):
            found = pitch_of_frames(pitch, ratio, first, length)
            assert np.array_equal(found, labels_of_frames(pitch, ratio, first, length))
            assert np.array_equal(found * period, (first + np.arange(length)) * 320)
    short = pitch_of_frames(pitch[:-2], ratio, 0, frames)
    lost = {2.0: 1, 1.0: 2}[ratio]
    assert short[-lost:].tolist() == [-1] * lost
    assert np.array_equal(short[:-lost], pitch_of_frames(pitch, ratio, 0, frames)[:-lost])


@pytest.mark.parametrize("rate", [50, 100])
def test_crops_of_pitch_go_with_those_of_labels_and_crops_are_as_without(tmp_path: Path, rate: int) -> None:
    rows = []
    for at, seconds in enumerate((1.0, 1.2, 2.5, 1.7, 3.0)):
        soundfile.write(tmp_path / f"{at}.wav", speech_like(seconds, at), 16_000, subtype="FLOAT")
        rows.append(Utterance(str(at), f"{at}.wav", int(seconds * 16_000)))
    manifest = Manifest.of(rows, str(tmp_path))
    counts = [[1 + (int(samples) - 400) // hop for samples in manifest.samples] for hop in (16_000 // rate, 160)]
    labels, pitch = ([np.arange(count) + 1000 * row for row, count in enumerate(own)] for own in counts)
    pitch[1] = pitch[1][:-2]  # an utterance whose tracker ended early
    sets = [LabelSet(Units.of(labels, UnitsHeader(clusters=6000, rate=rate)), rate)]
    bins = PitchBins.uniform(6000, "none", 50.0, 600.0)
    own = PitchLabels(np.concatenate(pitch).astype(np.int16), np.array([len(row) for row in pitch]), bins, UnitsHeader())
    batches = BatchSettings(seconds=8, micro_seconds=4, longest=2, shortest=0.3)
    plain = LabelledAudio(AudioInputs(manifest, tiny()), sets, tiny(), batches, MaskSettings(length=3), 1)
    data = DisentangledAudio(plain, 10 + np.arange(5), own, 50.0)
    assert (data.micro_batches, data.utterances) == (plain.micro_batches, 5)
    unvoiced, begun = 0, set()
    for position in range(30):
        found, alone = data.make(position).batch, plain.make(position).batch
        for name in ("audio", "labels", "mask", "hidden", "shown"):
            assert torch.equal(getattr(found.masked, name), getattr(alone, name))
        assert found.seconds == alone.seconds
        wanted = found.masked.labels[0]
        assert torch.equal(found.speakers, 10 + wanted[:, 0] // 1000)
        first = wanted % 1000 * (100 // rate)  # of the 100 values a second
        begun |= set(first[:, 0].tolist())
        there = found.pitch >= 0
        unvoiced += int((~there).sum())
        assert torch.equal(found.pitch[there], (first + wanted // 1000 * 1000)[there])
        assert bool((wanted[~there] // 1000 == 1).all())
    assert unvoiced > 0
    assert len(begun) > 3
    assert DisentangledAudio(plain, None, None, 50.0).make(3).batch.pitch is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"reversal": -0.1}, "reversal -0.1"),
        ({"begin": 0.6}, "begin 0.6 and end 0.5"),
        ({"schedule": "steep"}, "schedule 'steep' is none of"),
        ({"frames": "voiced"}, "frames 'voiced' is none of"),
        ({"speaker": SpeakerHeadSettings(weight=0), "pitch": HeadSettings(weight=0)}, "are both 0"),
        ({"head_rate": 0.0}, "head_rate 0.0"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        DisentanglementSettings(**changes)
    with pytest.raises(InputError, match="disentanglement.tap 4: the encoder has 3 layers"):
        made(4)
    with pytest.raises(InputError, match="dropout 1"):
        HeadSettings(dropout=1.0)
    assert DisentanglementSettings().layer(12) == 6


def test_a_head_that_is_worse_than_guessing_is_told_of() -> None:
    records = [{"split": "train", "step": 5, "speaker_loss": math.log(8) + 0.9}]
    assert speaker_warning(records, 8) is None
    assert speaker_warning([{"split": "valid", "step": 5, "speaker_loss": 9.0}], 8) is None
    records.append({"split": "train", "step": 10, "speaker_loss": math.log(8) + 1.1})
    said = speaker_warning(records, 8)
    assert said is not None
    assert "guessing among 8 speakers has 2.079" in said
