"""Means and deviations of speakers in a file: of a codebook, or beside frames that were normalised by them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocable.artefacts.tensors import read_tensors, read_vector, require_array, write_tensors
from vocable.errors import InputError
from vocable.features.normalization import Moments

FORMAT = "vocable.speakers/1"


def write_speakers(path: Path, speakers: Mapping[str, Moments]) -> None:
    """Write the statistics of some speakers to one `.safetensors` file."""
    write_tensors(path, speaker_tensors(speakers), {"format": FORMAT})


def read_speakers(path: Path) -> dict[str, Moments]:
    """Read what `write_speakers` wrote.

    Raises:
        InputError: the file is something else, or broken.
    """
    return speakers_in(path, read_tensors(path, FORMAT)[0])


def speaker_tensors(speakers: Mapping[str, Moments]) -> dict[str, NDArray[Any]]:
    """Return speakers' names, one a line, with their means and deviations of shape (speakers, dim); nothing if there are none."""
    names = sorted(speakers)
    if not names:
        return {}
    mean, std = (np.stack([speakers[name][at] for name in names]) for at in (0, 1))
    return {
        "speakers": np.frombuffer("\n".join(names).encode(), dtype=np.uint8),
        "speaker_mean": mean,
        "speaker_std": std,
    }


def speakers_in(path: Path, tensors: Mapping[str, NDArray[Any]]) -> dict[str, Moments]:
    """Return the speakers of whom `speaker_tensors` made some of a file's arrays.

    Args:
        path: of the file, for messages.
        tensors: its arrays.

    Raises:
        InputError: they can't be means and deviations of speakers.
    """
    if "speakers" not in tensors:
        return {}
    mean, std = (require_array(path, tensors, name) for name in ("speaker_mean", "speaker_std"))
    try:
        names = read_vector(path, tensors, "speakers", ("uint8",)).tobytes().decode().split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} holds names of speakers that are not UTF-8 text: make it again") from error
    wanted = mean.dtype == std.dtype == np.float32 and mean.ndim == 2 and mean.shape == std.shape
    if not wanted or len(mean) != len(set(names)) or not np.isfinite([mean, std]).all() or not (std > 0).all():
        raise InputError(f"{path} holds means and deviations of speakers that can't be: make it again")
    return {name: (mean[at], std[at]) for at, name in enumerate(names)}
