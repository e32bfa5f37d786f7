"""SD-HuBERT's training as its authors' YAML file and dotted overrides say, and its exported checkpoint."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vocable.checkpoints.encoders import read_encoder, write_encoder
from vocable.errors import InputError
from vocable.recipes.configuration import Values, built, read_values, with_options, yaml_value
from vocable.recipes.sdhubert_settings import SdhubertSettings

PARTS = ("train-clean-100", "train-clean-360", "train-other-500")
VALIDATED = ("dev-clean",)
"""Of LibriSpeech, which the authors' code learns from, and is validated on."""
_DEFAULTS: Values = {
    "name": "sdhubert_base",
    "model": {
        "speech_upstream": "facebook/hubert-base-ls960", "reinit_layers": [9, 10, 11], "ema_decay": 0.999, "final_dim": 2048,
        "freeze_extractor": True, "freeze_pos_embedding": True, "center_momentum": 0.9, "perturb_teacher": True, "gamma": 0.1,
        "lr": 1e-4, "T_max": 200_000, "loss_coefs": {"distill_loss": 1},
    },
    "data": {"root_dir": None, "batch_size": 100, "num_workers": 1, "sample_len": 5.01},
    "checkpoint_epoch": 1, "max_steps": 200_000, "limit_val_batches": 5, "resume_ckpt": None, "check_val_every_n_epoch": 50,
    "gpus": "0,1",
}  # fmt: skip
"""The authors' sdhubert_base.yaml."""
_IDLE = ("checkpoint_epoch", "limit_val_batches", "resume_ckpt", "check_val_every_n_epoch")


@dataclass(frozen=True)
class ReferenceTraining:
    """What a file and overrides come to."""

    name: str
    settings: SdhubertSettings
    processes: int
    """As many as there are GPUs named."""
    notes: tuple[str, ...]
    """What has no effect here, or another one."""


def read_reference_training(config: Path | None, options: Sequence[str], quirks: bool, on_gpu: bool) -> ReferenceTraining:
    """Read the authors' YAML file, if one is given, with dotted overrides.

    Args:
        config: the file; without it, what theirs says.
        options: such as data.root_dir=LIBRISPEECH or model.lr=5e-5.
        quirks: train as their code does where vocable does otherwise.
        on_gpu: whether GPUs are to share the work.

    Raises:
        InputError: a key is unknown, or LibriSpeech isn't where it is said to be.
    """
    where = "the overrides" if config is None else str(config)
    given = with_options({} if config is None else read_values(config), options, yaml_value)
    values = _merged(_DEFAULTS, given, where, "")
    model, data = values["model"], values["data"]
    if data["root_dir"] is None:
        raise InputError("data.root_dir isn't given: say where LibriSpeech is, as data.root_dir=LIBRISPEECH")
    root = Path(str(data["root_dir"])).expanduser()
    train = [root / part for part in PARTS if (root / part).is_dir()]
    if not train:
        raise InputError(f"{root} holds none of {', '.join(PARTS)}: give LibriSpeech's folder as data.root_dir")
    valid = [root / part for part in VALIDATED if (root / part).is_dir()]
    gpus = _gpus(values["gpus"])
    processes = max(1, len(gpus)) if on_gpu else 1
    notes = [name for name in _IDLE if _differs(name, given)]
    if on_gpu and gpus != list(range(len(gpus))):
        notes.append("which gpus (the first so many are taken; CUDA_VISIBLE_DEVICES chooses others)")
    if model["loss_coefs"] != _DEFAULTS["model"]["loss_coefs"]:
        notes.append("model.loss_coefs (there is one loss, and AdamW heeds no factor of it)")
    seconds = data["batch_size"] * data["sample_len"]
    made: Values = {
        "data": {"train": [str(part) for part in train], "valid": [str(part) for part in valid], "ext": ["flac"]},
        "backbone": str(model["speech_upstream"]),
        "reference_quirks": quirks,
        "regularization": {"dropout": 0.1, "attention_dropout": 0.1, "activation_dropout": 0.1, "layer_drop": 0.1},
        "perturbation": {"teacher": bool(model["perturb_teacher"])},
        "distillation": {
            "prototypes": model["final_dim"], "teacher_decay": model["ema_decay"], "center_momentum": model["center_momentum"],
            "reinitialized": [number + 1 for number in model["reinit_layers"] or []],
            "frozen": [
                part
                for part, name in (("convolutions", "freeze_extractor"), ("positions", "freeze_pos_embedding"))
                if model[name]
            ],
        },
        "batches": {
            "seconds": seconds * processes, "micro_seconds": seconds, "longest": data["sample_len"],
            "shortest": min(0.5, data["sample_len"]), "utterances": data["batch_size"],
        },
        "training": {
            "steps": values["max_steps"], "loaders": max(1, data["num_workers"]), "validate_every": 10_000,
            "optimizer": {"learning_rate": model["lr"], "betas": [0.9, 0.999], "eps": 1e-8, "clip_norm": 0.5},
            "schedule": {"warmup": 0.0, "decay": "cosine", "final": model["gamma"]},
        },
    }  # fmt: skip
    if model["T_max"] != values["max_steps"]:
        notes.append("model.T_max (the learning rate falls over max_steps)")
    return ReferenceTraining(str(values["name"]), built(SdhubertSettings, made, where), processes, tuple(notes))


def _gpus(value: Any) -> list[int]:
    """Return the GPUs that a number, a list, or numbers apart by commas name."""
    items = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else [value]
    try:
        return [int(item) for item in items if item is not None and str(item).strip()]
    except (TypeError, ValueError) as error:
        raise InputError(f"gpus={value!r}: give numbers, such as '0,1'") from error


def export_model(run: Path, out: Path | None, overwrite: bool) -> Path:
    """Write the model of a run in the authors' layout, and return where.

    Args:
        run: the run's folder, or its model; or a run of the authors' code, of which the newest checkpoint is taken.
        out: the file; by default the run's path with .pt behind it.
        overwrite: replace the file.

    Raises:
        InputError: there is no model, or a file stands there.
    """
    place = next((item for item in (run / "model", run / "best", run) if (item / "config.json").is_file()), None)
    if place is None:
        theirs = sorted(run.glob("lightning_logs/version_*/checkpoints/*.ckpt"), key=lambda path: path.stat().st_mtime_ns)
        if not theirs:
            raise InputError(f"{run} holds no model: give the folder of a training that has ended, or was validated")
        place = theirs[-1]
    target = out or run.with_name(f"{run.name}.pt")
    write_encoder(read_encoder(place), target, "sdhubert", overwrite)
    return target


def _merged(known: Values, given: Values, where: str, section: str) -> Values:
    made = dict(known)
    for name, value in given.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, 1, 0.5)
            hint = f"; did you mean {section}{near[0]}?" if near else f"; there are {', '.join(known)}"
            raise InputError(f"{where}: SD-HuBERT's code has no setting {section}{name}{hint}")
        inner: Any = known[name]
        if not _is_alike(inner, value) and name != "loss_coefs":  # which is heeded by nobody
            raise InputError(f"{where}: {section}{name}={value!r} is of another kind than the {inner!r} of SD-HuBERT's code")
        made[name] = _merged(inner, value, where, f"{section}{name}.") if isinstance(value, dict) else value
    return made


def _is_alike(known: Any, value: Any) -> bool:
    """Tell whether a value may stand where SD-HuBERT's code has another."""
    if known is None or isinstance(known, str):  # a path, GPUs
        return not isinstance(value, dict)
    if isinstance(known, bool):
        return isinstance(value, bool)
    if isinstance(known, list):
        return value is None or (isinstance(value, list) and all(type(item) is int for item in value))
    if isinstance(known, (int, float)):
        if isinstance(value, str):  # YAML takes 1e-3 for a word
            with suppress(ValueError):
                value = float(value)
        whole = type(value) is int or (type(value) is float and value.is_integer())
        return whole if isinstance(known, int) else isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, dict)


def _differs(name: str, given: Values) -> bool:
    return name in given and given[name] != _DEFAULTS[name]
