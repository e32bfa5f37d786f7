"""Encoders out of any layout of files that people have, and into three of them."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from vocable.artefacts.headers import read_header, write_header
from vocable.artefacts.writing import part_beside, remove_leftovers, replacing, space_checked
from vocable.checkpoints.encoder_checkpoint import MEL_STATISTICS, EncoderCheckpoint
from vocable.checkpoints.fairseq_encoder import fairseq_content, is_fairseq, read_fairseq
from vocable.checkpoints.layouts import WrittenLayout, folder_layout, hub_name
from vocable.checkpoints.melhubert_encoder import is_melhubert, mean_std_beside, melhubert_content, read_melhubert
from vocable.checkpoints.sdhubert_encoder import is_sdhubert, read_sdhubert, sdhubert_content
from vocable.checkpoints.tensor_names import FINAL_PROJECTION, LABEL_EMBEDDINGS, MASK_EMBEDDING
from vocable.checkpoints.torch_files import read_torch_file
from vocable.checkpoints.torchaudio_encoder import is_torchaudio, read_torchaudio
from vocable.checkpoints.transformers_encoder import HEADS, read_transformers, transformers_content
from vocable.checkpoints.vocable_encoder import read_vocable, vocable_content
from vocable.errors import InputError, VocableError
from vocable.models.config import WaveformNormalization


def read_encoder(
    source: str | Path, normalization: WaveformNormalization | None = None, mean_std: Path | None = None
) -> EncoderCheckpoint:
    """Open an encoder; its tensors are read when they are asked for.

    Args:
        source: a folder of ours or of transformers', a file of fairseq's, s3prl's, torchaudio's, WavLM's, MelHuBERT's or
            SD-HuBERT's, or the name of a model on the Hugging Face Hub, such as facebook/hubert-base-ls960 or hf:NAME@REVISION.
        normalization: of waveforms; takes the place of what the checkpoint says.
        mean_std: file of the mean and deviation of log-mel bins that go with a checkpoint of MelHuBERT's authors' code.

    Raises:
        InputError: it isn't there, isn't whole, is of no known layout, or doesn't say whether waveforms are normalised.
        UnsafeFileError: it asks for code to be run.
    """
    path = located(source)
    found = _in_folder(path, normalization) if path.is_dir() else _in_file(path, normalization, mean_std)
    if mean_std is not None and found.layout != "melhubert":
        raise InputError(f"--mean-std goes with a checkpoint of MelHuBERT's authors' code, which {path} isn't: leave it out")
    _check_heads(found)
    if normalization is not None and found.config.waveform_normalization != normalization:
        found = replace(found, config=replace(found.config, waveform_normalization=normalization))
    return found


def _check_heads(found: EncoderCheckpoint) -> None:
    """Refuse heads that don't fit the encoder.

    Raises:
        InputError: names one.
    """
    dim = found.config.dim
    fitting: dict[str, Callable[[tuple[int, ...]], bool]] = {
        MASK_EMBEDDING: lambda shape: shape == (dim,),
        f"{FINAL_PROJECTION}.weight": lambda shape: len(shape) == 2 and shape[1] == dim,
        LABEL_EMBEDDINGS: lambda shape: len(shape) == 2,
    }
    for name, fits in fitting.items():
        if name in found.heads and not fits(shape := tuple(found.heads[name].shape)):
            raise InputError(
                f"{found.path} has a {name} of shape {shape}, which doesn't fit frames of {dim} values: copy it again"
            )


def write_encoder(checkpoint: EncoderCheckpoint, out: Path, layout: WrittenLayout, overwrite: bool = False) -> None:
    """Write an encoder: a folder, or for fairseq's layout a file.

    Raises:
        InputError: something stands there already, and isn't to be replaced; or the layout has no such encoder.
        DiskFullError: nothing half written stays.
    """
    if os.path.lexists(out) and not overwrite:
        raise InputError(f"{out} stands already: give another path, or --overwrite")
    if layout in ("transformers", "fairseq") and checkpoint.config.mel is not None:
        raise InputError(f"the layout of {layout} has no encoders of log-mel frames: take --to vocable or melhubert")
    if layout in ("transformers", "fairseq") and checkpoint.config.aggregator:
        raise InputError(f"the layout of {layout} has no encoders with an aggregator: take --to vocable or sdhubert")
    if layout in ("fairseq", "melhubert", "sdhubert"):
        if out.is_dir():
            raise InputError(f"{out} is a folder, and {layout}'s layout is a file: give a path such as {out / 'model.pt'}")
        if layout != "melhubert":
            _write_file(fairseq_content(checkpoint) if layout == "fairseq" else sdhubert_content(checkpoint), out)
            return
        checkpoint.require_statistics()
        content = melhubert_content(checkpoint)
        with replacing(mean_std_beside(out)) as file:
            np.save(file, np.stack([checkpoint.tensors[name].numpy() for name in MEL_STATISTICS]).astype(np.float64))
        _write_file(content, out)
        return
    checkpoint.require_statistics()
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file, and this layout is a folder: give another path")
    if out.is_dir() and (others := sorted({item.name for item in out.iterdir()} - _OURS)):
        raise InputError(f"{out} holds {others[0]}, which is not of an encoder: give another path")
    out = out.resolve()  # what a link leads to is replaced, not the link
    out.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(out.parent)
    part = part_beside(out)
    try:
        with space_checked(out):
            part.mkdir()
            if layout == "vocable":
                header, tensors = vocable_content(checkpoint)
                write_header(part / "config.json", header)
            else:
                header, preprocessor, tensors = transformers_content(checkpoint)
                write_header(part / "config.json", header)
                write_header(part / "preprocessor_config.json", preprocessor)
                if heads := {name: checkpoint.heads[name] for name in checkpoint.heads if name != MASK_EMBEDDING}:
                    _save(part / HEADS, heads)
            _save(part / "model.safetensors", tensors)
            aside = part_beside(out)
            if out.is_dir():
                out.rename(aside)
            part.rename(out)
            shutil.rmtree(aside, ignore_errors=True)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write_file(content: dict[str, Any], out: Path) -> None:
    with replacing(out) as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:  # torch's own about a file that isn't whole; why it isn't was raised before
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def _save(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write tensors, each with memory of its own, which safetensors asks for.

    Raises:
        OSError: what the operating system said, which safetensors has in its message alone.
    """
    try:
        save_file({name: tensors[name].contiguous().clone() for name in sorted(tensors)}, path, {"format": "pt"})
    except SafetensorError as error:
        if (said := re.search(r"\(os error (\d+)\)", str(error))) is None:
            raise
        raise OSError(int(said[1]), os.strerror(int(said[1])), os.fspath(path)) from error


_OURS = {"config.json", "preprocessor_config.json", "model.safetensors", HEADS}


def located(source: str | Path) -> Path:
    """Return the path of a checkpoint; a name of the Hub is looked for here first, and then there.

    Raises:
        InputError: there is no such file, folder or model.
    """
    path = Path(source)
    if path.exists():
        return path
    named = hub_name(source)
    if named is None:
        raise InputError(
            f"{source} doesn't exist: give a file, a folder, or the name of a model such as facebook/hubert-base-ls960"
        )
    return _from_hub(*named)


def _from_hub(name: str, revision: str | None) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as error:
        raise InputError(
            f"{name} doesn't exist here, and to fetch models the extra is needed: pip install 'vocable[hub]'"
        ) from error
    wanted = ["config.json", "preprocessor_config.json", "*.safetensors", "*.safetensors.index.json"]
    try:
        here: Path | None = Path(snapshot_download(name, revision=revision, allow_patterns=wanted, local_files_only=True))
    except (LocalEntryNotFoundError, OSError, ValueError):
        here = None
    if here is not None and _is_complete(here):
        return here
    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=wanted))
        if not any(folder.glob("*.safetensors")):
            folder = Path(
                snapshot_download(name, revision=revision, allow_patterns=[*wanted, "pytorch_model*.bin", "*.bin.index.json"])
            )
        return folder
    except (HfHubHTTPError, OSError, ValueError) as error:
        if here is not None and (here / "config.json").is_file():
            return here  # without the network, what is here has to do
        reason = str(error).strip().split("\n")[0][:200]
        raise InputError(
            f"{name} is no file here and can't be fetched ({reason}): give a path, or look at the name and the network"
        ) from error


def _is_complete(folder: Path) -> bool:
    """Tell whether a folder fetched from the Hub has all that an encoder takes; other programs fetch less."""
    if not all((folder / name).is_file() for name in ("config.json", "preprocessor_config.json")):
        return False
    indexes = [*folder.glob("*.safetensors.index.json"), *folder.glob("*.bin.index.json")]
    if not indexes:
        return (folder / "model.safetensors").is_file() or (folder / "pytorch_model.bin").is_file()
    named = read_header(indexes[0]).get("weight_map")
    return isinstance(named, dict) and all((folder / str(part)).is_file() for part in named.values())


def _in_folder(folder: Path, normalization: WaveformNormalization | None) -> EncoderCheckpoint:
    if (folder / "config.json").is_file():
        read_header(folder / "config.json")  # says what is wrong with it
    layout = folder_layout(folder)
    if layout == "vocable":
        return read_vocable(folder)
    if layout == "transformers":
        return read_transformers(folder, normalization)
    raise InputError(f"{folder} holds no encoder: a folder of one has config.json and model.safetensors")


def _in_file(path: Path, normalization: WaveformNormalization | None, mean_std: Path | None) -> EncoderCheckpoint:
    if path.name in _OURS:
        raise InputError(f"{path} is a part of an encoder: give its folder, {path.parent}")
    if path.name.startswith("pytorch_model") and (path.parent / "config.json").is_file():
        raise InputError(f"{path} is a part of an encoder: give its folder, {path.parent}")
    content = read_torch_file(path)
    try:
        if is_melhubert(content):
            return read_melhubert(path, content, mean_std)
        if is_sdhubert(content):
            return read_sdhubert(path, content)
        if is_torchaudio(content):
            return read_torchaudio(path, content, normalization)
        if is_fairseq(content):
            return read_fairseq(path, content, normalization)
    except VocableError:
        raise
    except Exception as error:  # anything may stand where a setting or a tensor should
        raise InputError(
            f"{path} has settings or tensors of another kind than an encoder's ({type(error).__name__}: {str(error)[:200]}): "
            "take another checkpoint"
        ) from error
    raise InputError(
        f"{path} holds no encoder of a known layout: fairseq's, s3prl's, torchaudio's, WavLM's, MelHuBERT's or "
        "SD-HuBERT's were expected"
    )
