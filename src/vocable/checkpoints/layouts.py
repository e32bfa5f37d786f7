"""The layouts of encoders, told without torch."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Literal

DETOKENIZER = "vocable.detokenizer/1"
"""Format of a detokenizer's file."""

WrittenLayout = Literal["vocable", "transformers", "fairseq", "melhubert", "sdhubert"]


def hub_name(source: str | Path) -> tuple[str, str | None] | None:
    """Return name and revision if this may be a model on the Hugging Face Hub: OWNER/NAME, hf:OWNER/NAME or with @REVISION."""
    named = re.fullmatch(r"(?:hf:)?([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", str(source))
    return None if named is None else (named[1], named[2])


def folder_layout(folder: Path) -> Literal["vocable", "transformers"] | None:
    """Return whose layout a folder of an encoder has, by its config.json; None if it is no such folder."""
    path = folder / "config.json"
    try:
        header = json.loads(path.read_bytes()) if path.is_file() else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(header, dict):
        return None
    if str(header.get("format", "")).startswith("vocable.encoder/"):
        return "vocable"
    return "transformers" if "model_type" in header else None
