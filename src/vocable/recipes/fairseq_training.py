"""fairseq's settings of HuBERT trainings, as its YAML files and dotted options have them, read as ours."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vocable.checkpoints.fairseq_encoder import convolutions_of
from vocable.errors import InputError
from vocable.models.config import CONVOLUTIONS
from vocable.recipes.configuration import Values, built, read_values, with_options, yaml_value
from vocable.recipes.disentangled_settings import DisentangledSettings
from vocable.recipes.disentangled_training import check_disentangled, train_disentangled
from vocable.recipes.hubert_settings import HubertSettings
from vocable.recipes.hubert_training import check_training, train_hubert

Read = Callable[[Any], Any]


@dataclass(frozen=True)
class FairseqTraining:
    """A training as fairseq describes it."""

    settings: HubertSettings
    """With task.feat_dir those of the disentangled variant."""
    out: Path
    """hydra.run.dir, or checkpoint.save_dir."""
    world: int
    """Processes that fairseq would take; here as many micro-batches make a step, whoever makes them."""
    idle: tuple[str, ...]
    """Keys without effect here."""


def read_fairseq_training(folder: Path, name: str, options: Sequence[str], half: bool) -> FairseqTraining:
    """Return the training that a file of fairseq's and dotted options describe.

    Args:
        folder: `--config-dir`.
        name: `--config-name`.
        options: such as task.data=DIR.
        half: whether the device computes in half precision, which `common.fp16` asks for; a CPU doesn't.

    Raises:
        InputError: a key has a value that there is nothing here for, or data, labels or the label rate are missing.
    """
    path = folder / (name if Path(name).suffix else f"{name}.yaml")
    changes = [option.removeprefix("+").removeprefix("+") for option in options]
    given = _flat(with_options(read_values(path), changes, yaml_value))
    values = {key: value for key in given if (value := _resolved(given[key], given)) not in (None, "???")}
    for key in ("task.data", "task.labels"):
        if key not in values:
            raise InputError(f"{path} needs {key}: give it, such as {key}={_EXAMPLES[key]}")
    _refuse(path, values)
    made: Values = {}
    taken = {**_DEFAULTS, **values}
    for key, (ours, read) in _RULES.items():
        if key in taken:
            try:
                _set(made, ours, read(taken[key]))
            except (ValueError, TypeError, SyntaxError, IndexError) as error:
                raise InputError(f"{path}: {key} is {values[key]!r}, which can't be read ({error}): mend it") from error
    world = _combined(path, made, values, half)
    used = {*_RULES, *_COMBINED, *_ONLY}
    kind: type[HubertSettings] = HubertSettings
    if (features := values.get("task.feat_dir")) is not None:
        own = [key for key in values if key.startswith(_DISENTANGLE)]
        used |= {"task.feat_dir", *own}
        made["disentanglement"] = {"tap": "conv"}  # where the original's call chart has it: before frames are hidden
        for key in own:
            _set(made, f"disentanglement.{key.removeprefix(_DISENTANGLE)}", values[key])
        _set(made, "data.feat_dir", str(features))
        kind = DisentangledSettings
    idle = tuple(sorted(key for key in values if key not in used and not key.startswith("hydra.")))
    out = values.get("hydra.run.dir", values.get("checkpoint.save_dir"))
    return FairseqTraining(built(kind, made, str(path)), Path(str(out or "outputs")), world, idle)


def check_as_described(found: FairseqTraining, device: str, processes: int) -> None:
    """Refuse what every process of a training would refuse; nothing is written.

    Raises:
        InputError: something given can't be used.
        MismatchError: labels don't belong to the audio or the model.
    """
    if isinstance(found.settings, DisentangledSettings):
        check_disentangled(found.settings, device, processes)
    else:
        check_training(found.settings, device, processes)


def train_as_described(found: FairseqTraining, device: str, threads: int | None) -> Path:
    """Train, and return the folder of the model.

    Raises:
        InputError: something can't be used; or what `train_hubert` raises.
    """
    if isinstance(found.settings, DisentangledSettings):
        return train_disentangled(found.settings, found.out, device, threads)
    return train_hubert(found.settings, found.out, device, threads)


_DISENTANGLE = "disentangle."
"""Before keys of ours that fairseq hasn't: disentangle.reversal, disentangle.speaker.weight."""
_EXAMPLES = {"task.data": "MANIFESTS", "task.labels": "'[\"km\"]'"}


def _flat(values: Mapping[str, Any], prefix: str = "") -> Values:
    found: Values = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def _resolved(value: Any, values: Values) -> Any:
    """Return what an interpolation such as ${model.label_rate} stands for."""
    for _ in range(10):
        named = re.fullmatch(r"\$\{([\w.]+)\}", value) if isinstance(value, str) else None
        if named is None:
            return value
        value = values.get(named[1])
    return None


def _first(value: Any) -> float:
    """Return the first of a list, as fairseq's learning rates and numbers of micro-batches are."""
    return float(value[0] if isinstance(value, (list, tuple)) else value)


def _seconds(value: Any) -> float:
    return int(value) / 16_000


def _listed(value: Any) -> list[str]:
    if isinstance(value, str):
        value = ast.literal_eval(value) if value.startswith("[") else [value]
    return [str(item) for item in value]


def _pair(value: Any) -> list[float]:
    return [float(item) for item in (ast.literal_eval(value) if isinstance(value, str) else value)]


def _channels(value: Any) -> int:
    """Return the width of convolutions that are otherwise the usual ones."""
    found = convolutions_of(str(value))
    if [(item.width, item.stride) for item in found] != [(item.width, item.stride) for item in CONVOLUTIONS]:
        raise ValueError("only the usual widths and strides are trained here")
    if len({item.channels for item in found}) > 1:
        raise ValueError("only convolutions of one width are trained here")
    return found[0].channels


_ALL = 1 << 30  # more steps than any training has


def _interval(value: Any) -> int:
    return int(value) or _ALL  # 0 is never; at the end it is done in any case


_DEFAULTS: Values = {
    "model.dropout": 0.1,
    "model.attention_dropout": 0.1,
    "model.final_dim": 0,
    "model.mask_prob": 0.65,
    "optimizer.adam_betas": (0.9, 0.999),
    "optimizer.adam_eps": 1e-8,
    "optimizer.weight_decay": 0.0,
    "optimization.clip_norm": 0.0,
    "task.min_sample_size": 400,  # none; but fewer samples make no frame
    "dataset.validate_interval_updates": 0,
    "checkpoint.save_interval_updates": 0,
    "checkpoint.keep_interval_updates": -1,
}
"""What fairseq takes where a key isn't given and vocable's default is another."""

_RULES: dict[str, tuple[str, Read]] = {
    "task.data": ("data.folder", str),
    "task.label_dir": ("data.label_folder", str),
    "task.labels": ("data.labels", _listed),
    "task.sample_rate": ("model.sample_rate", int),
    "task.max_sample_size": ("batches.longest", _seconds),
    "task.min_sample_size": ("batches.shortest", _seconds),
    "task.normalize": ("model.waveform_normalization", lambda value: "utterance" if value else "none"),
    "dataset.train_subset": ("data.train", str),
    "dataset.valid_subset": ("data.valid", str),
    "dataset.max_tokens": ("batches.micro_seconds", _seconds),
    "dataset.num_workers": ("training.loaders", lambda value: max(1, int(value))),
    "dataset.validate_interval_updates": ("training.validate_every", _interval),
    "common.seed": ("training.seed", int),
    "common.log_interval": ("training.log_every", int),
    "checkpoint.save_interval_updates": ("training.checkpoint_every", _interval),
    "checkpoint.keep_interval_updates": ("training.keep", lambda value: int(value) if int(value) >= 0 else _ALL),
    "optimization.max_update": ("training.steps", int),
    "optimization.lr": ("training.optimizer.learning_rate", _first),
    "optimization.clip_norm": ("training.optimizer.clip_norm", float),
    "optimizer.adam_betas": ("training.optimizer.betas", _pair),
    "optimizer.adam_eps": ("training.optimizer.eps", float),
    "optimizer.weight_decay": ("training.optimizer.weight_decay", float),
    "criterion.pred_masked_weight": ("loss.masked", float),
    "criterion.pred_nomask_weight": ("loss.unmasked", float),
    "criterion.loss_weights": ("loss.penalty", _first),
    "model.label_rate": ("data.label_rate", float),
    "model.encoder_layers": ("model.layers", int),
    "model.encoder_embed_dim": ("model.dim", int),
    "model.encoder_ffn_embed_dim": ("model.ffn_dim", int),
    "model.encoder_attention_heads": ("model.heads", int),
    "model.layer_norm_first": ("model.pre_norm", bool),
    "model.extractor_mode": ("model.convolution_norm", lambda value: "layer" if value == "layer_norm" else "group"),
    "model.conv_feature_layers": ("model.convolution_channels", _channels),
    "model.conv_pos": ("model.position_width", int),
    "model.conv_pos_groups": ("model.position_groups", int),
    "model.dropout": ("regularization.dropout", float),
    "model.attention_dropout": ("regularization.attention_dropout", float),
    "model.activation_dropout": ("regularization.activation_dropout", float),
    "model.dropout_input": ("regularization.input_dropout", float),
    "model.encoder_layerdrop": ("regularization.layer_drop", float),
    "model.feature_grad_mult": ("regularization.feature_gradient", float),
    "model.mask_length": ("masks.length", int),
    "model.mask_prob": ("masks.probability", float),
    "model.logit_temp": ("loss.temperature", float),
    "model.final_dim": ("loss.projection", int),
}
"""fairseq's keys, ours, and how values are read."""

_COMBINED = (
    "common.fp16",
    "common.bf16",
    "common.tensorboard_logdir",
    "common.wandb_project",
    "distributed_training.distributed_world_size",
    "optimization.update_freq",
    "lr_scheduler.warmup_updates",
    "lr_scheduler.warmup_steps",
    "lr_scheduler.hold_steps",
    "lr_scheduler.decay_steps",
    "lr_scheduler.final_lr_scale",
    "lr_scheduler.end_learning_rate",
    "lr_scheduler.total_num_update",
    "task.label_rate",
    "checkpoint.save_dir",
    "hydra.run.dir",
)
"""Keys that are read together."""

_ONLY: dict[str, tuple[Any, ...]] = {
    "task._name": ("hubert_pretraining",),
    "model._name": ("hubert",),
    "criterion._name": ("hubert",),
    "optimizer._name": ("adam",),
    "lr_scheduler._name": ("polynomial_decay", "tri_stage", "fixed", "cosine"),
    "model.activation_fn": ("gelu",),
    "model.layer_type": ("transformer",),
    "model.target_glu": (False,),
    "model.conv_bias": (False,),
    "model.mask_selection": ("static",),
    "model.mask_other": (0,),
    "model.no_mask_overlap": (False,),
    "model.mask_channel_prob": (0,),
    "model.conv_pos_batch_norm": (False,),
    "task.fine_tuning": (False,),
    "task.pad_audio": (False,),
    "task.random_crop": (True,),
    "task.single_target": (False,),
}
"""Keys whose other values there is nothing here for."""


def _refuse(path: Path, values: Values) -> None:
    for key, allowed in _ONLY.items():
        if key in values and values[key] not in allowed:
            raise InputError(f"{path}: {key} is {values[key]!r}, and here it can only be {' or '.join(map(repr, allowed))}")


def _combined(path: Path, made: Values, values: Values, half: bool) -> int:
    """Set what follows from several keys; return fairseq's number of processes.

    Raises:
        InputError: two keys don't go together here.
    """
    rate, other = values.get("model.label_rate"), values.get("task.label_rate")
    if other is not None and rate is not None and float(other) != float(rate):
        raise InputError(f"{path}: task.label_rate is {other} and model.label_rate {rate}: give one rate, which labels have")
    if rate is None and other is not None:
        _set(made, "data.label_rate", float(other))
    world = int(values.get("distributed_training.distributed_world_size") or 1)
    batches = made.setdefault("batches", {})
    micro = batches.setdefault("micro_seconds", 87.5)
    batches["seconds"] = micro * world * int(_first(values.get("optimization.update_freq") or 1))
    batches.setdefault("longest", min(micro, 15.625))
    training = made.setdefault("training", {})
    steps = int(training.get("steps", 0)) or 1
    asked = "float16" if values.get("common.fp16") else "bfloat16" if values.get("common.bf16") else "float32"
    training["precision"] = asked if half or asked == "bfloat16" else "float32"
    training["trackers"] = [
        name for name, key in (("tensorboard", "common.tensorboard_logdir"), ("wandb", "common.wandb_project")) if values.get(key)
    ]
    peak = float(training.get("optimizer", {}).get("learning_rate", 5e-4))
    kind = values.get("lr_scheduler._name", "polynomial_decay")
    whole = _updates_of_schedule(kind, values)
    if whole is not None and whole != steps:
        raise InputError(
            f"{path}: the learning rate's schedule has {whole:g} updates and the training {steps}, and here it ends with the "
            "training: give as many"
        )
    warm = float(values.get("lr_scheduler.warmup_updates", values.get("lr_scheduler.warmup_steps")) or 0)
    schedule: Values = {"warmup": min(1.0, warm / steps)}
    if kind == "tri_stage":
        schedule |= {
            "hold": float(values.get("lr_scheduler.hold_steps") or 0) / steps,
            "decay": "exponential",
            "final": float(values.get("lr_scheduler.final_lr_scale") or 0.01),
        }
    elif kind == "polynomial_decay":
        schedule["final"] = float(values.get("lr_scheduler.end_learning_rate") or 0) / peak
    else:
        schedule["decay"] = "constant" if kind == "fixed" else "cosine"
    training["schedule"] = schedule
    if "penalty" not in made.get("loss", {}):
        made.setdefault("loss", {})["penalty"] = 0.0
    if made["loss"].get("projection") == 0:
        made["loss"]["projection"] = made.get("model", {}).get("dim", 768)
    return world


def _updates_of_schedule(kind: Any, values: Values) -> float | None:
    if kind == "tri_stage":
        return sum(float(values.get(f"lr_scheduler.{name}_steps", 0)) for name in ("warmup", "hold", "decay"))
    total = values.get("lr_scheduler.total_num_update") if kind == "polynomial_decay" else None
    return None if total is None else float(total)


def _set(values: Values, name: str, value: Any) -> None:
    *sections, last = name.split(".")
    for section in sections:
        values = values.setdefault(section, {})
    values[last] = value
