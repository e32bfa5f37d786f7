"""Files of settings that come with vocable, found by name."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from vocable.errors import InputError


def recipe_file(name: str | Path, folders: Sequence[str]) -> Path:
    """Return the path of a file of settings: the file itself, or one that comes with vocable, by name.

    Args:
        name: of the file.
        folders: of the recipes that are looked through.

    Raises:
        InputError: there is neither.
    """
    path = Path(name)
    if path.exists() or path.suffix:
        return path
    for folder in folders:
        if (shipped := _place(folder) / f"{name}.toml").is_file():
            return shipped
    raise InputError(f"{name} is neither a file nor one of {', '.join(shipped_recipes(folders))}: give one of these")


def shipped_recipes(folders: Sequence[str]) -> list[str]:
    """Return the names of the settings that come with vocable."""
    return sorted(item.stem for folder in folders for item in _place(folder).glob("*.toml"))


def _place(folder: str) -> Path:
    return Path(str(resources.files("vocable.recipes"))) / folder
