"""A pickle's steps carried out on stand-ins: those that a model of arrays takes, each on exact types, and all others refused.

A pickle is a program for a small stack machine. `pickletools` of the standard library takes it apart, reading no more than the
file has; what the steps then do is written out here, so that nothing happens which doesn't stand below.
"""

from __future__ import annotations

import io
import pickletools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from vocable.errors import UnsafeFileError

# Real models take 300 to 500. Every step may make an object, so this is also what keeps small files from filling the memory.
_MOST_STEPS = 100_000

_Kind = TypeVar("_Kind")


class Content:
    """A pickle's bytes, from which objects may take what follows their description."""

    def __init__(self, content: bytes) -> None:
        self._content = memoryview(content)
        self.stream = io.BytesIO(content)

    def take(self, size: int) -> memoryview:
        """Return the next bytes, uncopied.

        Raises:
            ValueError: there are fewer.
        """
        start = self.stream.tell()
        if not 0 <= size <= len(self._content) - start:
            raise ValueError("an array's shape is larger than the file")
        self.stream.seek(start + size)
        return self._content[start : start + size]


class StandIn(ABC):
    """Stands for an object that is never made; its subclasses have slots, so that a file can't add to them."""

    __slots__ = ()

    @abstractmethod
    def built(self, state: object, content: Content) -> StandIn:
        """Take the state that the file gives the object, and return what stands for it from now on."""


@dataclass(frozen=True, slots=True)
class Name:
    """Stands for a class or function that a file names; calling it calls `make`."""

    make: Callable[..., object]


def carry_out(content: bytes, names: Mapping[tuple[str, str], Name]) -> object:
    """Return what a pickle leaves on its stack, made of plain values and of what `names` make.

    Raises:
        UnsafeFileError: it asks for another name, or takes a step that no model of arrays takes.
        Exception: it is damaged, which can show in any way: short reads, an empty stack, bad text.
    """
    return _Machine(content, names).run()


def exactly(kind: type[_Kind], value: object) -> _Kind:
    """Return `value` if it is of this type, and not of one derived from it or behaving like it.

    Raises:
        ValueError: it isn't.
    """
    if type(value) is not kind:
        raise ValueError(f"a {type(value).__name__} stands where a {kind.__name__} should")
    return value


class _Machine:
    def __init__(self, content: bytes, names: Mapping[tuple[str, str], Name]) -> None:
        self._content, self._names = Content(content), names
        self._stack: list[Any] = []
        self._marked: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> object:
        for count, (step, argument, _) in enumerate(pickletools.genops(self._content.stream)):
            if step.name == "STOP":
                break
            if step.name not in self._STEPS or count == _MOST_STEPS:
                many = f"more than {_MOST_STEPS} steps" if count == _MOST_STEPS else f"a step ({step.name})"
                raise UnsafeFileError(f"it takes {many}, which no file of arrays does")
            self._STEPS[step.name](self, argument)
        return self._stack.pop()

    def _push(self, value: object) -> None:
        self._stack.append(value)

    def _pass(self, _: object) -> None:
        """Protocol numbers and frames say nothing that the steps don't."""

    def _pop(self, _: object) -> None:
        self._stack.pop()

    def _mark(self, _: object) -> None:
        self._marked.append(self._stack)
        self._stack = []

    def _since_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._marked.pop()
        return items

    def _last(self, count: int) -> list[Any]:
        if len(self._stack) < count:
            raise ValueError("a step lacks what it works on")
        items = self._stack[-count:]
        del self._stack[-count:]
        return items

    def _global(self, names: str) -> None:
        self._name(*names.split(" ", 1))

    def _stack_global(self, _: object) -> None:
        module, name = self._last(2)
        self._name(exactly(str, module), exactly(str, name))

    def _name(self, module: str, name: str) -> None:
        if (module, name) not in self._names:
            raise UnsafeFileError(f"it asks for {module[:80]}.{name[:80]}, which no file of arrays needs")
        self._push(self._names[module, name])

    def _call(self, _: object) -> None:
        name, arguments = self._last(2)
        self._push(exactly(Name, name).make(*exactly(tuple, arguments)))

    def _build(self, _: object) -> None:
        target, state = self._last(2)
        if not isinstance(target, StandIn):
            raise TypeError(f"a {type(target).__name__} is given a state")
        self._push(target.built(state, self._content))

    def _get(self, index: int) -> None:
        self._push(self._memo[index])

    def _put(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    def _memoize(self, _: object) -> None:
        self._put(len(self._memo))

    def _append(self, items: Iterable[object]) -> None:
        exactly(list, self._stack[-1]).extend(items)

    def _set(self, items: list[Any]) -> None:
        target = exactly(dict, self._stack[-1])
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Text alone: the hash of nested tuples can take for ever.
            target[exactly(str, key)] = value

    def _dict(self, _: object) -> None:
        items = self._since_mark()
        self._push({})
        self._set(items)

    _STEPS: ClassVar[dict[str, Callable[[_Machine, Any], None]]] = {
        **dict.fromkeys(("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"), _push),
        **dict.fromkeys(("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE"), _push),
        **dict.fromkeys(("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"), _push),
        **dict.fromkeys(("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"), _push),
        "NONE": lambda self, _: self._push(None),
        "NEWTRUE": lambda self, _: self._push(True),
        "NEWFALSE": lambda self, _: self._push(False),
        "EMPTY_TUPLE": lambda self, _: self._push(()),
        "EMPTY_LIST": lambda self, _: self._push([]),
        "EMPTY_DICT": lambda self, _: self._push({}),
        "MARK": _mark,
        "TUPLE": lambda self, _: self._push(tuple(self._since_mark())),
        "TUPLE1": lambda self, _: self._push(tuple(self._last(1))),
        "TUPLE2": lambda self, _: self._push(tuple(self._last(2))),
        "TUPLE3": lambda self, _: self._push(tuple(self._last(3))),
        "LIST": lambda self, _: self._push(self._since_mark()),
        "APPEND": lambda self, _: self._append(self._last(1)),
        "APPENDS": lambda self, _: self._append(self._since_mark()),
        "DICT": _dict,
        "SETITEM": lambda self, _: self._set(self._last(2)),
        "SETITEMS": lambda self, _: self._set(self._since_mark()),
        "POP": _pop,
        **dict.fromkeys(("PROTO", "FRAME"), _pass),
        **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _put),
        **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _get),
        "MEMOIZE": _memoize,
        "GLOBAL": _global,
        "STACK_GLOBAL": _stack_global,
        **dict.fromkeys(("REDUCE", "NEWOBJ"), _call),
        "BUILD": _build,
    }
