"""An objective whose parts take turns is trained as any other: exactly where it was ended, in any precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from training.toy import Toy, ToyBatch, same, toy_trainer, weights_in
from vocable.errors import InputError
from vocable.training import trainer
from vocable.training.objective import InTurns, Losses
from vocable.training.records import read_records


class InTwo(Toy):
    """A toy whose second part learns by turns with the first, from the fourth step on."""

    steps: Tensor

    def __init__(self, spoil_at: int | None = None) -> None:
        super().__init__(spoil_at)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.turn, self.begun = "", []  # type: tuple[str, list[str]]

    @property
    def turns(self) -> tuple[str, ...]:
        return ("outer", "inner") if self.steps >= 3 else ("inner",)

    def begin_turn(self, turn: str) -> None:
        self.turn = turn
        self.begun.append(turn)

    def begin_step(self) -> None:
        self.begun.clear()

    def end_step(self, added: Any) -> None:
        del added
        self.steps += 1

    def forward(self, batch: ToyBatch) -> Losses:
        if not self.training:
            return super().forward(batch)
        own = getattr(self, self.turn)
        learnt = {id(parameter) for parameter in own.parameters()}
        for parameter in self.parameters():
            parameter.requires_grad_(id(parameter) in learnt)
        try:
            found = super().forward(batch)
        finally:
            for parameter in self.parameters():
                parameter.requires_grad_(True)
        return Losses(found.loss * (1 if self.turn == "inner" else 3), {f"of_{self.turn}": found.metrics["off"]})


def in_turns(folder: Path, **changes: Any) -> Any:
    return toy_trainer(folder, toy=InTwo(), **changes)


def ended_after(stop: int, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    steps: list[int] = []
    one_step = trainer._Run.one_step

    def ended(self: Any) -> None:
        if len(steps) == stop:
            raise KeyboardInterrupt
        steps.append(1)
        one_step(self)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(trainer._Run, "one_step", ended)
        in_turns(**changes).run()


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("stop", [2, 3, 5, 9])
def test_a_run_that_was_ended_goes_on_to_the_same_weights(
    tmp_path: Path, stop: int, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = {"precision": precision, "checkpoint_minutes": 1e-9}
    in_turns(tmp_path / "whole", **common).run()
    ended_after(stop, monkeypatch, folder=tmp_path / "cut", **common)
    in_turns(tmp_path / "cut", **common).run()
    assert same(weights_in(tmp_path / "cut"), weights_in(tmp_path / "whole"))


def test_a_part_that_has_no_turn_yet_stays_as_it_is(tmp_path: Path) -> None:
    toy = InTwo()
    assert isinstance(toy, InTurns)
    assert not isinstance(Toy(), InTurns)
    before = {name: value.clone() for name, value in toy.state_dict().items()}
    toy_trainer(tmp_path / "early", toy=toy, steps=3).run()
    assert torch.equal(toy.outer.weight, before["outer.weight"])
    assert not torch.equal(toy.inner[0].weight, before["inner.0.weight"])
    assert toy.begun == ["inner"]
    toy_trainer(tmp_path / "late", toy=(later := InTwo()), steps=5).run()
    assert not torch.equal(later.outer.weight, before["outer.weight"])
    assert later.begun == ["outer", "inner"]


def test_records_have_the_metrics_of_all_turns_and_the_loss_of_the_last(tmp_path: Path) -> None:
    in_turns(tmp_path, validation=None).run()
    last = [item for item in read_records(tmp_path / "metrics.jsonl") if item["split"] == "train"][-1]
    assert last["loss"] == pytest.approx(last["of_inner"], rel=1e-5)
    assert last["of_outer"] > 0


def test_gradients_of_any_turn_that_are_not_finite_end_the_training(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gradients aren't finite in step 5"):
        toy_trainer(tmp_path, toy=InTwo(spoil_at=12)).run()
