"""MelHuBERT's training as its authors' two YAML files say."""

from __future__ import annotations

import difflib
import importlib.util
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vocable.checkpoints.encoders import read_encoder, write_encoder
from vocable.checkpoints.melhubert_encoder import BINS, melhubert_config
from vocable.errors import InputError
from vocable.models.config import EncoderConfig
from vocable.recipes.configuration import Values, built, read_values, with_options, yaml_value
from vocable.recipes.hubert_settings import HubertSettings
from vocable.recipes.hubert_training import labelled_audio, train_hubert
from vocable.recipes.training_data import TrainingData

LAST = "last-step.ckpt"
"""What the authors' code calls the checkpoint at the end."""
_MODEL, _RUNNER = "config_model", "config_runner"
_USED = {
    "runner": {"n_epochs", "total_steps", "gradient_clipping", "gradient_accumulate_steps", "log_step", "save_every_x_epochs"},
    "optimizer": {"lr", "betas", "eps", "weight_decay"},
    "datarc": {"num_workers", "train_batch_size", "max_timestep", "sequence_length", "sets"},
}
_ONLY = {
    "mask_selection": "static", "mask_other": 0.0, "no_mask_overlap": False, "learnable_mask_emb": False,
    "mask_before_proj": True, "pred_masked_weight": 1.0, "skip_masked": False,
}  # fmt: skip
"""Of the model; another value there is nothing here for, or it makes the authors' code fail."""


_KNOWN = {
    *_ONLY, "feat_emb_dim", "pos_emb_type", "pos_conv_depth", "conv_pos", "conv_pos_groups", "encoder_layers",
    "encoder_embed_dim", "encoder_ffn_embed_dim", "encoder_attention_heads", "activation_fn", "layer_norm_first",
    "attention_type", "num_cluster", "pred_nomask_weight", "skip_nomask", "mask_prob", "mask_length", "mask_min_space",
    "dropout", "attention_dropout", "activation_dropout", "encoder_layerdrop", "final_dim",
}  # fmt: skip
"""The model's settings that the authors' code has; two are without effect there, too."""


@dataclass(frozen=True)
class MelhubertTraining:
    """What the two files come to."""

    settings: HubertSettings
    epochs: float
    """Over which it goes; 0 where the files give steps."""
    epochs_between_checkpoints: float
    notes: tuple[str, ...]
    """What has no effect here."""

    def with_steps(self, data: TrainingData) -> HubertSettings:
        """Return the settings, with as many steps as the epochs over the data take."""
        settings = self.settings
        config = settings.model.config()
        micro = labelled_audio(settings, config, data.train, settings.training.seed).micro_batches
        an_epoch = micro / settings.batches.micro_batches
        training = settings.training
        steps = max(1, int(self.epochs * an_epoch)) if self.epochs > 0 else training.steps
        every = max(1, int(self.epochs_between_checkpoints * an_epoch)) if self.epochs_between_checkpoints > 0 else steps
        return replace(settings, training=replace(training, steps=steps, checkpoint_every=min(every, steps)))


def read_melhubert_training(
    model: Path, runner: Path, frame_period: int, options: Sequence[str], seed: int, init: str | None = None
) -> MelhubertTraining:
    """Read the authors' pair of YAML files.

    Args:
        model: the one with the key `melhubert`.
        runner: the one with `runner`, `optimizer` and `datarc`.
        frame_period: milliseconds, which the model's has to be.
        options: such as config_runner.datarc.sets=[CSV], in place of what the files say.
        seed: of everything.
        init: a checkpoint to begin with.

    Raises:
        InputError: something in them can't be, or there is nothing here for it.
    """
    found = with_options({_MODEL: read_values(model), _RUNNER: read_values(runner)}, options, yaml_value)
    if unknown := sorted(set(found) - {_MODEL, _RUNNER}):
        raise InputError(f"{unknown[0]} is neither {_RUNNER} nor {_MODEL}: write options as {_RUNNER}.datarc.sets=[CSV]")
    sections, parts = found[_MODEL], found[_RUNNER]
    own = sections.get("melhubert", sections.get("hubert"))
    if not isinstance(own, dict):
        raise InputError(f"{model} has no section melhubert: give the authors' config_model file")
    if unknown := sorted(set(own) - _KNOWN):
        near = difflib.get_close_matches(unknown[0], _KNOWN, 1)
        raise InputError(
            f"{model} has the setting {unknown[0]}, which there is none of{f'; {near[0]} is meant?' if near else ''}: mend it"
        )
    for name, only in _ONLY.items():
        if name in own and own[name] != only:
            raise InputError(f"{model}: {name} is {own[name]!r}, and here it can only be {only!r}")
    config = melhubert_config(model, own)
    assert config.mel is not None
    if config.mel.stacked * 10 != frame_period:
        raise InputError(
            f"-f {frame_period}: {model} has feat_emb_dim {own.get('feat_emb_dim', BINS)}, which is of frames every "
            f"{config.mel.stacked * 10} ms: give the file that goes with it"
        )
    run, optimizer, data = (_section(runner, parts, name) for name in ("runner", "optimizer", "datarc"))
    try:
        return _combined(config, own, run, optimizer, data, seed, init, str(runner), _idle(parts))
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{runner} or {model} has a value that can't be read ({error}): mend it") from error


def train_as_the_authors(
    found: MelhubertTraining, model: Path, runner: Path, out: Path, device: str, threads: int | None, overwrite: bool = False
) -> Path:
    """Train, keep copies of both files in the run's folder, and write the authors' layout of the model at the end.

    Raises:
        InputError: something can't be used; or what `train_hubert` raises.
    """
    data = TrainingData.read(found.settings.data, found.settings.model.config())
    settings = found.with_steps(data)
    beside = {f"{_RUNNER}.yaml": runner.read_bytes(), f"{_MODEL}.yaml": model.read_bytes()}
    made = train_hubert(settings, out, device, threads, overwrite, beside, data)
    last = out / LAST
    if int(os.environ.get("RANK", "0")) == 0:
        write_encoder(read_encoder(made), last, "melhubert", overwrite=True)
    return last


def _section(path: Path, parts: Values, name: str) -> Values:
    found = parts.get(name)
    if not isinstance(found, dict):
        raise InputError(f"{path} has no section {name}: give the authors' config_runner file")
    return found


def _idle(parts: Values) -> tuple[str, ...]:
    named = []
    for section, values in parts.items():
        known = _USED.get(section)
        if known is None or not isinstance(values, dict):
            named.append(section)
        else:
            named += [f"{section}.{name}" for name in values if name not in known]
    return tuple(sorted(named))


def _combined(
    config: EncoderConfig,
    own: Mapping[str, Any],
    run: Values,
    optimizer: Values,
    data: Values,
    seed: int,
    init: str | None,
    where: str,
    idle: tuple[str, ...],
) -> MelhubertTraining:
    assert config.mel is not None
    utterances, accumulated = int(data.get("train_batch_size", 4)), int(run.get("gradient_accumulate_steps", 8))
    frames = int(data.get("sequence_length", 0)) or 1 << 20
    longest = ((frames - 1) * config.hop + config.receptive_field) / config.sample_rate
    limit = int(data.get("max_timestep", 0))
    if limit > 0:
        raise InputError(
            f"{where}: max_timestep {limit} keeps only utterances shorter than that, which there is nothing here for: make a CSV "
            "of these, and give 0"
        )
    shortest = (400 + 160 * -limit) / config.sample_rate if limit else config.receptive_field / config.sample_rate
    sets = data.get("sets") or []
    sets = [sets] if isinstance(sets, str) else sets
    if not isinstance(sets, list):
        raise InputError(f"{where}: datarc.sets is {sets!r}: give a list of CSVs")
    epochs = float(run.get("n_epochs", 0) or 0)
    steps = int(run.get("total_steps", 0) or 0)
    if epochs <= 0 and steps <= 0:
        raise InputError(f"{where}: n_epochs and total_steps are both 0 or less: give one of them")
    unmasked = 0.0 if own.get("skip_nomask", True) else own.get("pred_nomask_weight", 0.0)
    values: Values = {
        "data": {"sets": [str(item) for item in sets], "clusters": int(own.get("num_cluster", 512))},
        "model": {
            "input": "logmel", "mel_bins": BINS, "mel_stacked": config.mel.stacked, "mel_normalization": "corpus",
            "mel_padded": True, "mel_hides_input": True, "layers": config.layers, "dim": config.dim,
            "ffn_dim": config.ffn_dim, "heads": config.heads, "pre_norm": config.pre_norm,
            "position_width": config.position_width, "position_groups": config.position_groups, "init": init,
        },
        "regularization": {
            "dropout": own.get("dropout", 0.1), "attention_dropout": own.get("attention_dropout", 0.1),
            "activation_dropout": own.get("activation_dropout", 0.1), "input_dropout": 0.0,
            "layer_drop": own.get("encoder_layerdrop", 0.0),
        },
        "masks": {"probability": own.get("mask_prob", 0.8), "length": own.get("mask_length", 10), "reference": True},
        "loss": {"kind": "linear", "penalty": 0.0, "unmasked": unmasked},
        "batches": {
            "seconds": longest * utterances * accumulated, "micro_seconds": longest * utterances,
            "longest": longest, "shortest": shortest, "utterances": utterances,
        },
        "training": {
            "steps": max(steps, 1), "seed": seed, "log_every": max(1, int(run.get("log_step", 1000))),
            "checkpoint_every": 1 << 30, "validate_every": 1 << 30, "loaders": max(1, min(8, int(data.get("num_workers", 8)))),
            "trackers": ["tensorboard"] if importlib.util.find_spec("tensorboard") else [],
            "optimizer": {
                "kind": "adam", "learning_rate": optimizer.get("lr", 1e-4), "betas": optimizer.get("betas", [0.9, 0.999]),
                "eps": optimizer.get("eps", 1e-8), "weight_decay": optimizer.get("weight_decay", 0.0),
                "clip_norm": run.get("gradient_clipping", 10.0),
            },
            "schedule": {"warmup": 0.0, "decay": "constant"},
        },
    }  # fmt: skip
    if not sets:
        raise InputError(
            f"{where}: datarc.sets lists no CSV: give {_RUNNER}.datarc.sets=[CSV], one that 'vocable melhubert preprocess' wrote"
        )
    settings = built(HubertSettings, values, where)
    return MelhubertTraining(settings, epochs, float(run.get("save_every_x_epochs", 0) or 0), idle)
