"""Which options the command line has: one that is given its default is meant all the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

_options: ContextVar[frozenset[str]] = ContextVar("_options", default=frozenset())


@contextmanager
def spelled_out(arguments: Sequence[str]) -> Iterator[None]:
    """Remember, while a command runs, the options among its arguments."""
    until = arguments.index("--") if "--" in arguments else len(arguments)
    token = _options.set(frozenset(item.partition("=")[0] for item in arguments[:until] if item.startswith("--")))
    try:
        yield
    finally:
        _options.reset(token)


def spelled(fields: Iterable[str]) -> list[str]:
    """Return those of the options of some fields that the command line has, as they are spelled there."""
    return [name for name in (f"--{item.replace('_', '-')}" for item in fields) if name in _options.get()]
