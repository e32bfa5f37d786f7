"""Functions of the user's own, named as MODULE:NAME, and packages that don't come along."""

from __future__ import annotations

import importlib
import re
from typing import Any

from vocable.errors import InputError

_NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def own_function(name: str, what: str, known: tuple[str, ...]) -> Any:
    """Return what MODULE:NAME names.

    Args:
        name: as it was given.
        what: it is to be, for messages.
        known: names that would have been understood, for messages.

    Raises:
        InputError: it isn't such a name, can't be imported, or can't be called.
    """
    if not _NAME.fullmatch(name):
        raise InputError(f"{what} {name!r}: give {', '.join(known)}, or MODULE:NAME of a function of your own")
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise InputError(f"{what} {name} can't be imported ({error}): give the name of a function that can") from error
    if not callable(found):
        raise InputError(f"{what} {name} can't be called with a waveform: give a function")
    return found


def imported(module: str, install: str) -> Any:
    """Import a package that doesn't come along.

    Args:
        module: its name.
        install: what pip is to be given for it.

    Raises:
        InputError: it isn't there.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(f"{module} isn't there ({error}): pip install {install}") from error
