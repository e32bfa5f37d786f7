"""One loop for all objectives: what it learns follows from the seed and the step, whatever happens on the way."""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
import signal
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_pre_hook

from training.toy import Toy, ToyData, exported, same, toy_trainer, weights_in
from vocable.errors import DiskFullError, InputError
from vocable.training import checkpointing, run_folder
from vocable.training.interruption import InterruptedTraining
from vocable.training.records import read_records
from vocable.training.run_folder import only_training
from vocable.training.trainer import Hooks
from vocable.training.world import World


class Killed(BaseException):
    """As abrupt an end as there is within a process."""


class KilledAt(ToyData):
    def __init__(self, position: int) -> None:
        super().__init__()
        self._fatal = position

    def make(self, position: int) -> Any:
        if position == self._fatal:
            raise Killed
        return super().make(position)


class AsksAt(ToyData):
    def __init__(self, position: int, asked: signal.Signals = signal.SIGTERM) -> None:
        super().__init__()
        self._position, self._asked = position, asked

    def make(self, position: int) -> Any:
        if position == self._position:
            os.kill(os.getpid(), self._asked)
        return super().make(position)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    toy_trainer(folder).run()
    return folder


@pytest.mark.parametrize("position", [3, 12, 13, 20, 23])
def test_a_run_that_was_ended_goes_on_to_the_same_weights_bit_for_bit(tmp_path: Path, undisturbed: Path, position: int) -> None:
    with pytest.raises(Killed):
        toy_trainer(tmp_path, data=KilledAt(position)).run()
    again = ToyData()
    toy_trainer(tmp_path, data=again).run()
    done = position // 2 // 5 * 5
    assert min(again.made) == 2 * done
    assert same(weights_in(tmp_path), weights_in(undisturbed))


def test_the_same_command_after_the_end_changes_nothing(tmp_path: Path) -> None:
    toy_trainer(tmp_path).run()
    before, data = weights_in(tmp_path), ToyData()
    toy_trainer(tmp_path, data=data).run()
    assert same(weights_in(tmp_path), before)
    assert data.made == []


def test_records_have_each_step_once(tmp_path: Path, undisturbed: Path) -> None:
    with pytest.raises(Killed):
        toy_trainer(tmp_path, data=KilledAt(18)).run()  # after step 9, of which the record of step 8 is beyond the checkpoint
    toy_trainer(tmp_path).run()
    found, expected = (read_records(folder / "metrics.jsonl") for folder in (tmp_path, undisturbed))
    assert [(item["split"], item["step"]) for item in found] == [(item["split"], item["step"]) for item in expected]
    assert [item["step"] for item in expected if item["split"] == "train"] == [4, 8, 12]
    assert [item["off"] for item in found if item["split"] == "valid"] == [
        item["off"] for item in expected if item["split"] == "valid"
    ]


def test_losses_are_divided_by_all_that_a_step_counts(tmp_path: Path) -> None:
    toy = Toy()
    trainer = toy_trainer(tmp_path, steps=1, toy=toy, validation=None)
    before = {name: value.detach().clone() for name, value in toy.named_parameters()}
    made = [ToyData().make(at) for at in range(2)]
    from vocable.training.seeds import derived_seed

    total = sum(len(item.batch.values) for item in made)
    for at, item in enumerate(made):
        torch.manual_seed(derived_seed(1, at))
        (toy(item.batch).loss / total).backward()
    grads = {name: value.grad.clone() for name, value in toy.named_parameters() if value.grad is not None}
    toy.zero_grad()
    seen: dict[str, Tensor] = {}

    def note(optimizer: torch.optim.Optimizer, *_: object) -> None:
        seen.update({name: value.grad.clone() for name, value in toy.named_parameters() if value.grad is not None})

    handle = register_optimizer_step_pre_hook(note)
    try:
        trainer.run()
    finally:
        handle.remove()
    assert set(seen) == set(grads) == set(before)
    assert all(torch.allclose(seen[name], grads[name], rtol=1e-5, atol=1e-7) for name in grads)


def test_the_latest_and_the_best_checkpoints_are_kept(tmp_path: Path) -> None:
    toy_trainer(tmp_path, steps=40, keep=2).run()
    kept = sorted(item.name for item in (tmp_path / "checkpoints").iterdir())
    assert kept[-2:] == ["step-00000035", "step-00000040"]
    assert len(kept) <= 3


@pytest.mark.parametrize("harm", ["state", "metadata", "cut", "gone"])
def test_a_checkpoint_that_is_not_whole_is_passed_over(
    tmp_path: Path, undisturbed: Path, capsys: pytest.CaptureFixture[str], harm: str
) -> None:
    with pytest.raises(Killed):
        toy_trainer(tmp_path, data=KilledAt(21)).run()
    newest = tmp_path / "checkpoints" / "step-00000010"
    tensors = next(newest.glob("*.distcp"))
    if harm == "state":
        (newest / "state.json").unlink()
    elif harm == "metadata":
        (newest / ".metadata").unlink()
    elif harm == "cut":
        tensors.write_bytes(tensors.read_bytes()[:-100])
    else:
        tensors.unlink()
    data = ToyData()
    toy_trainer(tmp_path, data=data).run()
    assert "an older one is looked for" in capsys.readouterr().err
    assert min(data.made) == 10
    assert same(weights_in(tmp_path), weights_in(undisturbed))


def test_a_checkpoint_that_asks_for_code_is_refused_and_nothing_runs(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        toy_trainer(tmp_path, data=KilledAt(21)).run()
    contents = tmp_path / "checkpoints" / "step-00000010" / ".metadata"
    contents.write_bytes(pickle.dumps(Malicious(tmp_path / "ran")))
    state = contents.with_name("state.json")
    known = json.loads(state.read_bytes())
    known["files"][".metadata"] = contents.stat().st_size
    state.write_text(json.dumps(known))
    with pytest.raises(InputError, match=r"\.metadata isn't read: it asks for posix\.mkdir"):
        toy_trainer(tmp_path).run()
    assert not (tmp_path / "ran").exists()


class Malicious:
    def __init__(self, target: Path) -> None:
        self._target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self._target),)


def test_nothing_is_begun_anew_where_no_checkpoint_is_whole(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        toy_trainer(tmp_path, data=KilledAt(21)).run()
    for state in (tmp_path / "checkpoints").glob("*/state.json"):
        state.unlink()
    with pytest.raises(InputError, match="no checkpoint in .* is whole"):
        toy_trainer(tmp_path).run()
    toy_trainer(tmp_path, overwrite=True).run()


def test_a_broken_checkpoint_does_not_displace_good_ones(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        toy_trainer(tmp_path, steps=40, data=KilledAt(21), keep=1, validation=None).run()
    folder = tmp_path / "checkpoints"
    (folder / "step-00000099").mkdir()
    with pytest.raises(InterruptedTraining):
        toy_trainer(tmp_path, steps=40, data=AsksAt(22), keep=1, validation=None).run()
    (kept,) = folder.iterdir()
    assert "step-00000010" < kept.name < "step-00000040"


def test_a_training_that_is_done_stays_done_without_its_checkpoints(tmp_path: Path) -> None:
    hooks = Hooks(export=exported)
    toy_trainer(tmp_path, hooks=hooks).run()
    shutil.rmtree(tmp_path / "checkpoints")
    data = ToyData()
    toy_trainer(tmp_path, hooks=hooks, data=data).run()
    assert data.made == []
    with pytest.raises(InputError, match=r"model is of a training that can't go on, .*--overwrite"):
        toy_trainer(tmp_path, hooks=hooks, seed=2).run()
    assert (tmp_path / "model" / "weights.pt").is_file()
    toy_trainer(tmp_path, hooks=hooks, seed=2, data=data, overwrite=True).run()
    assert data.made


def test_two_trainings_do_not_share_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_folder, "_PATIENCE", 0.2)
    with only_training(tmp_path), pytest.raises(InputError, match="another process trains in"), only_training(tmp_path):
        pass
    with only_training(tmp_path):
        pass


def test_checkpoints_come_by_the_clock_too(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        toy_trainer(tmp_path, data=KilledAt(21), checkpoint_minutes=1e-9).run()
    assert max(item.name for item in (tmp_path / "checkpoints").iterdir()) == "step-00000010"
    with pytest.raises(Killed):
        toy_trainer(tmp_path / "often", data=KilledAt(18), checkpoint_minutes=1e-9).run()
    assert max(item.name for item in (tmp_path / "often" / "checkpoints").iterdir()) == "step-00000009"


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = checkpointing._written

    def full(tensors: dict[str, Any], folder: Path, alone: bool) -> None:
        written(tensors, folder, alone)
        if folder.name.startswith("step-00000010"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(checkpointing, "_written", full)
        with pytest.raises(DiskFullError, match=r"no space left to write .*step-00000010"):
            toy_trainer(tmp_path).run()
    assert [item.name for item in (tmp_path / "checkpoints").iterdir()] == ["step-00000005"]
    toy_trainer(tmp_path).run()
    assert same(weights_in(tmp_path), weights_in(undisturbed))


def test_other_settings_are_not_taken_for_the_same_training(tmp_path: Path) -> None:
    toy_trainer(tmp_path, steps=5).run()
    for changes in ({"seed": 2}, {"precision": "bfloat16"}, {"micro_batches": 4}, {"identity": {"toy": 2}}):
        with pytest.raises(InputError, match="a training with other settings or data"):
            toy_trainer(tmp_path, steps=5, **changes).run()


def test_another_training_is_replaced_where_that_is_asked_for(tmp_path: Path) -> None:
    toy_trainer(tmp_path, steps=5).run()
    before, data = weights_in(tmp_path), ToyData()
    toy_trainer(tmp_path, steps=5, data=data, overwrite=True).run()
    assert data.made == []  # it is the same
    toy_trainer(tmp_path, steps=5, seed=2, overwrite=True).run()
    assert not same(weights_in(tmp_path), before)
    assert len([item for item in read_records(tmp_path / "metrics.jsonl") if item["split"] == "train"]) == 2


def test_a_loss_that_is_not_finite_ends_the_training(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gradients aren't finite in step 9: .* the last checkpoint stands"):
        toy_trainer(tmp_path, toy=Toy(spoil_at=17)).run()
    assert [item.name for item in (tmp_path / "checkpoints").iterdir()] == ["step-00000005"]


def test_a_loss_that_no_scale_makes_finite_ends_the_training(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gradients aren't finite in float16 however they are scaled"):
        toy_trainer(tmp_path, steps=100, toy=Toy(spoil_at=17), precision="float16").run()
    found = [item["loss"] for item in read_records(tmp_path / "metrics.jsonl") if item["split"] == "valid"]
    assert found[0] is not None


def test_what_cannot_be_read_is_counted_and_too_much_of_it_ends_the_training(tmp_path: Path) -> None:
    few = {2: {7: "cut short"}, 3: {7: "cut short"}, 5: {9: "gone"}}
    toy_trainer(tmp_path / "few", data=ToyData(unreadable=few)).run()
    last = [item for item in read_records(tmp_path / "few" / "metrics.jsonl") if item["split"] == "train"][-1]
    assert last["unreadable"] == 2
    with pytest.raises(InputError, match=r"5 of 400 utterances can't be read, .*row 1 \(gone\)"):
        toy_trainer(tmp_path / "many", data=ToyData(unreadable={4: dict.fromkeys(range(5), "gone")})).run()


@pytest.mark.parametrize("asked", [signal.SIGTERM, signal.SIGINT])
def test_a_checkpoint_is_written_before_the_end_that_is_asked_for(
    tmp_path: Path, undisturbed: Path, asked: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(asked)
    with pytest.raises(InterruptedTraining, match="the same command goes on from there"):
        toy_trainer(tmp_path, data=AsksAt(14, asked)).run()
    assert signal.getsignal(asked) == before
    assert ("Ctrl-C again ends at once" in capsys.readouterr().err) == (asked == signal.SIGINT)
    toy_trainer(tmp_path).run()
    assert same(weights_in(tmp_path), weights_in(undisturbed))


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_resumes_bit_for_bit_with_its_scale(tmp_path: Path, precision: str) -> None:
    toy_trainer(tmp_path / "whole", precision=precision).run()
    with pytest.raises(Killed):
        toy_trainer(tmp_path / "cut", precision=precision, data=KilledAt(21)).run()
    toy_trainer(tmp_path / "cut", precision=precision).run()
    assert same(weights_in(tmp_path / "whole"), weights_in(tmp_path / "cut"))
    scales = [item.get("loss_scale") for item in read_records(tmp_path / "cut" / "metrics.jsonl") if item["split"] == "train"]
    assert all(scale == 128 for scale in scales) if precision == "float16" else scales == [None] * 3


def test_hooks_measure_watch_and_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measured: list[int] = []

    def measure(weights: dict[str, Tensor], step: int) -> dict[str, float]:
        measured.append(step)
        assert set(weights) == set(Toy().state_dict())
        return {"pnmi": step / 100}

    hooks = Hooks(
        measure=measure, watch=lambda records: "it is stuck" if len(records) > 2 else None, export=exported,
        first_loss=lambda loss: f"odd: {loss:.0f}",
    )  # fmt: skip
    toy_trainer(tmp_path, hooks=hooks).run()
    assert measured == [6, 12]
    assert [item["pnmi"] for item in read_records(tmp_path / "metrics.jsonl") if item["split"] == "valid"] == [0.06, 0.12]
    said = capsys.readouterr()
    assert said.err.count("warning: it is stuck") == 1
    assert "warning: odd: " in said.err
    assert "validation: loss" in said.out
    assert (tmp_path / "best" / "weights.pt").is_file()


def leveldb_records(content: bytes) -> Iterator[bytes]:
    """Yield the records of a log as wandb keeps it: LevelDB's, behind seven bytes that say so."""
    place, held = 7, b""
    while place + 7 <= len(content):
        if (left := -place % 32_768) and left < 7:  # no header fits before the block ends
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", content[place : place + 7])
        held += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part of one
            yield held
            held = b""


def test_tensorboard_and_wandb_get_what_the_records_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard")
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    toy_trainer(tmp_path, trackers=("tensorboard", "wandb")).run()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    records = [item for item in read_records(tmp_path / "metrics.jsonl") if item["split"] == "train"]
    found = EventAccumulator(str(tmp_path / "tensorboard" / "train")).Reload().Scalars("off")
    assert [item.step for item in found] == [4, 8, 12]
    assert [item.value for item in found] == pytest.approx([item["off"] for item in records])
    (run,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    from wandb.proto import wandb_internal_pb2

    logged = []
    for content in leveldb_records(run.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(content)
        named = {"/".join(item.nested_key or [item.key]): item.value_json for item in record.history.item}
        if "train/off" in named:
            logged.append(json.loads(named["train/off"]))
    assert logged == pytest.approx([item["off"] for item in records])


def test_records_with_a_line_cut_short_are_read_without_it(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"split": "train", "step": 1}\n{"split": "tr')
    assert [item["step"] for item in read_records(path)] == [1]
    path.write_text('{"split": "tr\n{"split": "train", "step": 1}\n')
    with pytest.raises(InputError, match="line 1 is no record"):
        read_records(path)


def test_a_step_needs_a_micro_batch_for_each_process(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a step has 2 micro-batches, and there are 3 processes"):
        toy_trainer(tmp_path, world=World(0, 3)).run()


def test_fsdp_refuses_what_would_hang_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="equally many micro-batches: a step has 4 for 3 processes"):
        toy_trainer(tmp_path, world=World(0, 3), micro_batches=4, parallel="fsdp").run()


def test_too_little_memory_is_told_with_what_helps(tmp_path: Path) -> None:
    class Large(Toy):
        def forward(self, batch: Any) -> Any:
            if self.training and self.seen == 3:
                raise torch.OutOfMemoryError("much too large")
            return super().forward(batch)

    with pytest.raises(InputError, match="too little memory for 1 s of audio at once: give a smaller batches.micro_seconds"):
        toy_trainer(tmp_path, toy=Large()).run()


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    toy_trainer(tmp_path, steps=5).run()

    class Wider(Toy):
        def __init__(self) -> None:
            super().__init__()
            self.more = torch.nn.Linear(2, 2)

    shutil.rmtree(tmp_path / "model")
    with pytest.raises(InputError, match="doesn't hold what is trained here"):
        toy_trainer(tmp_path, steps=5, toy=Wider()).run()
