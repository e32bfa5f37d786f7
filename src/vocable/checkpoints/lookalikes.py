"""Files that are given as a codebook by mistake, told by what they are."""

from __future__ import annotations

import json
import re
from pathlib import Path

from vocable.errors import InputError

REMEDY = "give what vocable kmeans writes, a scikit-learn k-means model, or centroids as .npy"

_HEAD = 1 << 16
_BEGINNINGS = {
    b"RIFF": "audio (WAV)",
    b"fLaC": "audio (FLAC)",
    b"OggS": "audio (Ogg)",
    b"ID3": "audio (MP3)",
    b"FORM": "audio (AIFF)",
    b"NIST_1A": "audio (NIST SPHERE)",
    b"PK\x03\x04": "a zip archive, such as a PyTorch checkpoint or an .npz",
    b"version https://git-lfs": "a pointer of Git LFS, in place of the file that git lfs pull brings",
    b"<": "a web page",
    b"{": "JSON",
}
_MANIFEST_ROW = re.compile(rb"[^\t]+\t-?\d+(\t.*)?")


def refuse_lookalike(path: Path) -> None:
    """Refuse what is no file, or begins like audio, labels, a manifest or another common file.

    Raises:
        InputError: it does; the message says what it looks like.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder: give the codebook itself, such as {path / 'codebook.safetensors'}")
    if not path.is_file():
        raise InputError(f"{path} doesn't exist: give a codebook, such as vocable kmeans writes")
    with path.open("rb") as file:
        what = _looks_like(file.read(_HEAD))
    if what is not None:
        raise InputError(f"{path} is no codebook: it looks like {what}; {REMEDY}")


def refuse_frames(npy: Path) -> None:
    """Refuse a `.npy` whose neighbours say that its rows are frames: `.len` as fairseq dumps have, or a header of ours.

    Raises:
        InputError: they say so.
    """
    for beside in (npy.with_suffix(".len"), npy.with_suffix(".json")):
        if beside.is_file() and (beside.suffix == ".len" or _is_header_of_frames(beside)):
            raise InputError(
                f"{npy} holds frames, not centroids, as {beside.name} beside it says: "
                "fit a codebook to them with vocable kmeans, and give that"
            )


def _looks_like(head: bytes) -> str | None:
    if not head:
        return "an empty file"
    for beginning, what in _BEGINNINGS.items():
        if head.startswith(beginning):
            return what
    if not head.strip(b"0123456789 \r\n"):
        return "labels (lines of whole numbers)"
    rows = head.splitlines()[1:4]
    if rows and all(map(_MANIFEST_ROW.fullmatch, rows)):
        return "a manifest (lines of a file and its samples)"
    return None


def _is_header_of_frames(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            header = json.loads(file.read(_HEAD))
    except (ValueError, RecursionError):
        return False
    return isinstance(header, dict) and str(header.get("format")).startswith("vocable.frames/")
