"""The layouts of encoders, told without torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

WrittenLayout = Literal["vocable", "transformers", "fairseq"]


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
