"""A vocoder's objective: what is learnt in whose turn, and from when on."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vocable.anonymization.vocoding import SpeechBatch, Vocoding, VocodingSettings
from vocable.errors import InputError
from vocable.models.discriminators import DiscriminatorConfig
from vocable.models.vocoder import Vocoder, VocoderConfig
from vocable.training.objective import InTurns, Made
from vocable.training.schedule import Schedule
from vocable.training.settings import OptimizerSettings, TrainingSettings
from vocable.training.trainer import Trainer
from vocable.training.world import World

CONFIG = VocoderConfig(
    dim=6, projected=8, channels=16, rates=(10, 16), kernels=(20, 32), block_kernels=(3,), dilations=((1,),)
)  # fmt: skip
JUDGES = DiscriminatorConfig(periods=(2, 3), scales=2, narrower=32)
SCHEDULE = Schedule(warmup=0, decay="exponential", final=0.5)
NONE = DiscriminatorConfig(periods=(), scales=0)


def objective(judges: DiscriminatorConfig = JUDGES, steps: int = 1, **settings: float) -> Vocoding:
    torch.manual_seed(0)
    return Vocoding(Vocoder(CONFIG), judges, VocodingSettings(**settings), steps)


def batch(seed: int = 0, utterances: int = 2, frames: int = 8) -> SpeechBatch:
    drawn = torch.Generator().manual_seed(seed)
    waveforms = 0.1 * torch.randn(utterances, frames * 160, generator=drawn)
    return SpeechBatch(torch.randn(utterances, frames, 6, generator=drawn), waveforms, utterances * frames / 100)


class Batches:
    """Two micro-batches an epoch."""

    micro_batches, utterances = 2, 4

    def make(self, position: int) -> Made:
        return Made(batch(position, 2 + position % 2), {})


def trainer(folder: Path, made: nn.Module, steps: int = 1, micro_batches: int = 2, **changes: Any) -> Trainer:
    optimizer = OptimizerSettings(learning_rate=1e-3, betas=(0.8, 0.99), eps=1e-8, weight_decay=0.01, clip_norm=0)
    settings = TrainingSettings(steps=steps, loaders=1, optimizer=optimizer, schedule=SCHEDULE, **changes)
    return Trainer(
        objective=made, blocks=[], data=Batches(), micro_batches=micro_batches, validation=None, settings=settings, world=World(),
        folder=folder, identity={}, leaves_out=True,
    )  # fmt: skip


def values(module: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


def test_each_turn_has_gradients_for_its_own_parameters_alone() -> None:
    made = objective().train()
    assert isinstance(made, InTurns)
    made.begin_step()
    assert made.turns == ("discriminators", "generator")
    for turn in made.turns:
        made.begin_turn(turn)
        made(batch()).loss.backward()
        for name, parameter in made.named_parameters():
            assert (parameter.grad is not None) == name.startswith(turn), (turn, name)
            assert parameter.requires_grad
        made.zero_grad(set_to_none=True)


def test_in_the_discriminators_turn_the_generator_stays_bit_for_bit_and_the_reverse(tmp_path: Path) -> None:
    def kept(turn: str, part: str) -> bool:
        class Alone(Vocoding):
            @property
            def turns(self) -> tuple[str, ...]:
                return (turn,)

        torch.manual_seed(0)
        made = Alone(Vocoder(CONFIG), JUDGES)
        before = values(made)
        trainer(tmp_path / f"{turn}-{part}", made).run()
        return all(torch.equal(value, before[name]) for name, value in values(made).items() if name.startswith(part))

    assert kept("discriminators", "generator")
    assert kept("generator", "discriminators")
    assert not kept("discriminators", "discriminators")
    assert not kept("generator", "generator")


def test_a_step_is_the_one_that_two_optimizers_make_by_turns(tmp_path: Path) -> None:
    made = objective()
    other = copy.deepcopy(made)
    trainer(tmp_path, made, steps=2).run()
    options: dict[str, Any] = {"lr": 1e-3, "betas": (0.8, 0.99), "eps": 1e-8, "weight_decay": 0.01}
    generator = torch.optim.AdamW(other.generator.parameters(), **options)
    judges = torch.optim.AdamW(other.discriminators.parameters(), **options)
    for step in range(2):
        for optimizer in (generator, judges):
            optimizer.param_groups[0]["lr"] = 1e-3 * SCHEDULE.factor(step, 2)
        data = [batch(2 * step + at, 2 + at) for at in (0, 1)]
        frames = sum(item.frames.shape[0] * item.frames.shape[1] for item in data)
        other.discriminators.follow()
        judges.zero_grad()
        for item in data:
            part = item.frames.shape[0] * item.frames.shape[1] / frames
            said = other.generator(item.frames).detach()
            loss = torch.zeros(())
            for speech, false in zip(other.discriminators(item.waveforms), other.discriminators(said), strict=True):
                loss = loss + ((speech.scores - 1) ** 2).mean() + (false.scores**2).mean()
            (part * loss).backward()
        judges.step()
        generator.zero_grad()
        for item in data:
            part = item.frames.shape[0] * item.frames.shape[1] / frames
            said = other.generator(item.frames)
            loss = 45 * (other.mel(said) - other.mel(item.waveforms)).abs().mean()
            for speech, false in zip(other.discriminators(item.waveforms), other.discriminators(said), strict=True):
                loss = loss + ((false.scores - 1) ** 2).mean()
                for one, two in zip(speech.maps, false.maps, strict=True):
                    loss = loss + 2 * (one.detach() - two).abs().mean()
            (part * loss).backward()
        generator.step()
    expected = values(other)
    for name, value in values(made).items():
        torch.testing.assert_close(value, expected[name], atol=1e-6, rtol=1e-5, msg=name)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_comes_near_to_what_float32_does(tmp_path: Path, precision: str) -> None:
    trainer(tmp_path / "whole", whole := objective(), steps=2).run()
    trainer(tmp_path / "half", half := objective(), steps=2, precision=precision).run()
    expected = values(whole)
    for name, value in values(half).items():
        torch.testing.assert_close(value, expected[name], atol=5e-3, rtol=0, msg=name)


def test_discriminators_take_part_from_a_step_on() -> None:
    made = objective(steps=10, adversarial_from=0.3).train()
    seen = []
    for _ in range(5):
        made.begin_step()
        seen.append(len(made.turns))
        made.end_step(lambda tensor: tensor)
    assert seen == [1, 1, 1, 2, 2]
    again = objective(steps=10, adversarial_from=0.3)
    assert again.turns == ("generator",)
    again.load_state_dict(made.state_dict())
    assert again.turns == ("discriminators", "generator")
    for alone in (objective(NONE), objective(adversarial=0, features=0), objective(steps=10, adversarial_from=1)):
        assert alone.turns == ("generator",)


def test_alone_and_when_it_is_evaluated_the_generator_comes_near_to_log_mel_frames() -> None:
    made = objective()
    with torch.no_grad():
        error = float((made.mel(made.generator(batch().frames)) - made.mel(batch().waveforms)).abs().mean())
    made.begin_turn("discriminators")
    judged = made.eval()(batch())
    assert float(judged.loss.detach()) / 16 == pytest.approx(error, rel=1e-5)
    assert set(judged.metrics) == {"mel_error"}
    alone = objective(NONE).train()(batch())
    assert float(alone.loss.detach()) / 16 == pytest.approx(45 * error, rel=1e-5)
    assert made.weight(batch()) == 16


def test_what_is_judged_right_is_counted() -> None:
    made = objective(DiscriminatorConfig(periods=(2, 3), scales=0, narrower=32)).train()
    made.begin_turn("discriminators")
    with torch.no_grad():
        for judge in made.discriminators.periods:
            judge.last.parametrizations.weight.original0.zero_()  # all that is left of scores is their bias
            judge.last.bias.fill_(0.4)
        found = made(batch())
    assert float(found.loss) / 16 == pytest.approx(2 * (0.6**2 + 0.4**2), rel=1e-5)
    assert {name: float(value[0] / value[1]) for name, value in found.metrics.items()} == pytest.approx(
        {"discriminators": 2 * (0.6**2 + 0.4**2), "accuracy_speech": 0, "accuracy_made": 1}
    )


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"mel": -1.0}, "give 0 or more"), ({"adversarial": float("nan")}, "give 0 or more"), ({"adversarial_from": 2.0}, "give 0 to 1")],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(settings: dict[str, float], said: str) -> None:
    with pytest.raises(InputError, match=said):
        VocodingSettings(**settings)
