"""Files as fairseq and those who build on it save them, made here without any of them."""

from __future__ import annotations

import argparse
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor

CONVOLVED = "[(32,10,5)] + [(32,3,2)] * 4 + [(32,2,2)] * 2"
LABELS = 11


class Dictionary:
    """Pickled under the name of fairseq's own, which isn't here."""

    def __init__(self, specials: int = 4) -> None:
        self.symbols = ["<s>", "<pad>", "</s>", "<unk>"][:specials] + [str(label) for label in range(LABELS)]
        self.count = [1] * len(self.symbols)
        self.indices = {symbol: at for at, symbol in enumerate(self.symbols)}
        self.nspecial = specials


def save_as_fairseq(content: object, path: Path, old: bool = False) -> Path:
    """Save as someone would who has fairseq; it is gone afterwards.

    Args:
        content: of the file.
        path: of the file.
        old: in the format before torch 1.6.
    """
    modules = {name: types.ModuleType(name) for name in ("fairseq", "fairseq.data", "fairseq.data.dictionary")}
    modules["fairseq.data.dictionary"].Dictionary = Dictionary  # type: ignore[attr-defined]
    with mock.patch.dict(sys.modules, modules), mock.patch.object(Dictionary, "__module__", "fairseq.data.dictionary"):
        torch.save(content, path, _use_new_zipfile_serialization=not old)
    return path


def weights(large: bool = False) -> dict[str, Tensor]:
    """Return a small HuBERT by fairseq's names, written out."""
    torch.manual_seed(0)
    state = {"mask_emb": torch.rand(64), "label_embs_concat": torch.rand(4 + LABELS, 6)}
    state["label_embs_concat"] += torch.arange(-4, LABELS)[:, None]  # row k + 4 is label k
    linear = {"final_proj": (6, 64), "post_extract_proj": (64, 32)}
    norms = {"layer_norm": 32, "encoder.layer_norm": 64}
    for at, width in enumerate((10, 3, 3, 3, 3, 2, 2)):
        state[f"feature_extractor.conv_layers.{at}.0.weight"] = torch.randn(32, 32 if at else 1, width)
        if large or at == 0:
            norms[f"feature_extractor.conv_layers.{at}.2" + (".1" if large else "")] = 32
    state["encoder.pos_conv.0.weight_g"] = torch.rand(1, 1, 16)
    state["encoder.pos_conv.0.weight_v"] = torch.randn(64, 16, 16)
    state["encoder.pos_conv.0.bias"] = torch.randn(64)
    for block in ("encoder.layers.0.", "encoder.layers.1."):
        linear |= {f"{block}self_attn.{name}_proj": (64, 64) for name in ("k", "v", "q", "out")}
        linear |= {f"{block}fc1": (128, 64), f"{block}fc2": (64, 128)}
        norms |= {f"{block}self_attn_layer_norm": 64, f"{block}final_layer_norm": 64}
    for name, shape in (linear | {name: (size,) for name, size in norms.items()}).items():
        state[f"{name}.weight"], state[f"{name}.bias"] = torch.randn(shape), torch.randn(shape[0])
    return state


def expected(state: dict[str, Tensor], large: bool = False) -> dict[str, Tensor]:
    """Return the same by our names."""
    found = {"norm": "encoder.layer_norm", "projection.norm": "layer_norm", "projection.linear": "post_extract_proj"}
    for at in range(7 if large else 1):
        found[f"convolutions.layers.{at}.norm"] = f"feature_extractor.conv_layers.{at}.2" + (".1" if large else "")
    for at in range(2):
        ours, theirs = f"blocks.{at}", f"encoder.layers.{at}"
        found[f"{ours}.attention.output"] = f"{theirs}.self_attn.out_proj"
        found[f"{ours}.attention_norm"] = f"{theirs}.self_attn_layer_norm"
        found[f"{ours}.feed_forward.inner"], found[f"{ours}.feed_forward.outer"] = f"{theirs}.fc1", f"{theirs}.fc2"
        found[f"{ours}.feed_forward_norm"] = f"{theirs}.final_layer_norm"
    made = {f"{ours}.{part}": state[f"{theirs}.{part}"] for ours, theirs in found.items() for part in ("weight", "bias")}
    for at in range(7):
        made[f"convolutions.layers.{at}.weight"] = state[f"feature_extractor.conv_layers.{at}.0.weight"]
    for ours, theirs in (("gain", "weight_g"), ("direction", "weight_v"), ("bias", "bias")):
        made[f"positions.{ours}"] = state[f"encoder.pos_conv.0.{theirs}"]
    for at in range(2):
        for part in ("weight", "bias"):
            parts = [state[f"encoder.layers.{at}.self_attn.{letter}_proj.{part}"] for letter in "qkv"]
            made[f"blocks.{at}.attention.query_key_value.{part}"] = torch.cat(parts)
    return made


def model_settings(large: bool = False) -> dict[str, Any]:
    return {
        "_name": "hubert", "label_rate": 50, "extractor_mode": "layer_norm" if large else "default", "encoder_layers": 2,
        "encoder_embed_dim": 64, "encoder_ffn_embed_dim": 128, "encoder_attention_heads": 4, "activation_fn": "gelu",
        "dropout": 0.1, "final_dim": 6, "untie_final_proj": True, "layer_norm_first": large, "conv_feature_layers": CONVOLVED,
        "conv_bias": False, "logit_temp": 0.1, "target_glu": False, "feature_grad_mult": 0.1, "mask_selection": "static",
        "conv_pos": 16, "conv_pos_groups": 4, "latent_temp": [2, 0.5, 0.999995],
    }  # fmt: skip


def rest() -> dict[str, Any]:
    """Return what else is in a file of fairseq's."""
    history = [{"criterion_name": "HubertCriterion", "optimizer_name": "FP16Optimizer", "num_updates": 400_000}]
    extra = {"val_loss": np.float64(3.25), "previous_training_time": 1.5, "train_iterator": {"version": 2, "epoch": 3}}
    return {"criterion": None, "optimizer_history": history, "extra_state": extra, "last_optimizer_state": None}


TASK = {"_name": "hubert_pretraining", "data": "/somebody/data", "labels": ["km"], "normalize": False, "sample_rate": 16000}
STATE = {"task_state": {"dictionaries": [Dictionary()]}}


def as_args(large: bool = False) -> dict[str, Any]:
    flat = {**TASK, **model_settings(large), "normalize": large, "arch": "hubert", "_name": "hubert_pretraining"}
    return {"args": argparse.Namespace(**flat), "model": weights(large), **STATE, **rest()}


def as_cfg(large: bool = False) -> dict[str, Any]:
    settings = {"model": model_settings(large), "task": {**TASK, "normalize": large}, "common": {"fp16": True}}
    return {"args": None, "cfg": settings, "model": weights(large), **STATE, **rest()}


def as_omegaconf(large: bool = False) -> dict[str, Any]:
    omegaconf = pytest.importorskip("omegaconf")
    content = as_cfg(large)
    return {**content, "cfg": omegaconf.OmegaConf.create(content["cfg"])}


def as_fine_tuned(large: bool = False, inner: Callable[[dict[str, Any]], object] = dict) -> dict[str, Any]:
    before = inner({"model": model_settings(large), "task": {**TASK, "normalize": large}})
    settings = {"model": {"_name": "hubert_ctc", "w2v_path": "/x.pt", "w2v_args": before, "normalize": large}, "task": {**TASK}}
    state = {f"w2v_encoder.w2v_model.{name}": item for name, item in weights(large).items() if "final_proj" not in name}
    more = {"w2v_encoder.proj.weight": torch.ones(32, 64), "w2v_encoder.proj.bias": torch.ones(32)}
    return {"args": None, "cfg": settings, "model": state | more, "task_state": {"target_dictionary": Dictionary()}, **rest()}


def as_fine_tuned_long_ago(large: bool = False) -> dict[str, Any]:
    return as_fine_tuned(large, lambda found: argparse.Namespace(**found["task"] | found["model"]))


def as_s3prl(large: bool = False) -> dict[str, Any]:
    return {
        "task_cfg": {**TASK, "normalize": large},
        "model_cfg": model_settings(large),
        "model_weight": weights(large),
        "dictionaries_symbols": [Dictionary().symbols],
    }
