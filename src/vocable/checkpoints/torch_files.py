"""Files of torch.save, read without running anything in them: tensors, plain values, and inert stand-ins for a few classes."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from vocable.errors import InputError, UnsafeFileError


class Inert:
    """Stands for an object of a class that files name and weights don't need; keeps what it was given, and does nothing."""

    def __init__(self, *arguments: object) -> None:
        self.arguments = arguments
        self.state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state

    # A file may fill what it believes to be a list or a dictionary.
    def append(self, _: object) -> None:
        """Take no notice."""

    def extend(self, _: object) -> None:
        """Take no notice."""

    def __setitem__(self, _: object, __: object) -> None:
        """Take no notice."""


class InertNamespace(Inert):
    """Stands for argparse.Namespace, or a fairseq Dictionary: what its attributes are called, with their values."""


class InertConfig(Inert):
    """Stands for a configuration of omegaconf's, or one of its values."""


_CLASSES: dict[str, type[Inert]] = {
    "argparse.Namespace": InertNamespace,
    "fairseq.data.dictionary.Dictionary": InertNamespace,
    "omegaconf.dictconfig.DictConfig": InertConfig,
    "omegaconf.listconfig.ListConfig": InertConfig,
    **{
        f"omegaconf.nodes.{name}": InertConfig
        for name in ("AnyNode", "StringNode", "IntegerNode", "FloatNode", "BooleanNode", "EnumNode", "BytesNode", "PathNode")
    },
    **dict.fromkeys(("omegaconf.base.ContainerMetadata", "omegaconf.base.Metadata", "omegaconf.base.SCMode"), Inert),
    **dict.fromkeys(("typing.Any", "typing.Dict", "typing.List", "typing.Union", "typing.Optional", "types.NoneType"), Inert),
    **dict.fromkeys(("builtins.dict", "builtins.list", "builtins.str", "builtins.int", "builtins.float", "builtins.bool"), Inert),
    **dict.fromkeys(("fairseq.dataclass.constants.Choices", "enum.Enum"), Inert),
    **dict.fromkeys(("collections.defaultdict",), Inert),
    **dict.fromkeys(("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "numpy.dtype"), Inert),
    **dict.fromkeys((f"numpy.dtypes.{name}DType" for name in ("Float64", "Float32", "Int64", "Int32", "Bool")), Inert),
    "_codecs.encode": Inert,
    "pathlib.PosixPath": Inert,
}
"""Exactly these names may stand in a file beside those that torch itself allows; each is replaced by a stand-in of ours."""


def read_torch_file(path: Path) -> Any:
    """Return what a file of torch.save holds, tensors mapped from it where its format allows.

    Raises:
        UnsafeFileError: the file asks for a function or class that no model needs; nothing in it was run.
        InputError: it is damaged, or no such file.
    """
    mapped = _is_zip(path)
    if mapped:
        _check_names(path)
    try:
        with _stand_ins():
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        if asked is not None:
            raise _unsafe(path, [asked[1]]) from error
        raise _damaged(path, error) from error
    except OSError:
        raise
    except Exception as error:  # a broken stream can fail in any way
        raise _damaged(path, error) from error


def attributes(value: object) -> dict[str, Any]:
    """Return a configuration as a plain dictionary, whether it was one, a Namespace, or omegaconf's."""
    found = plain(value)
    return found if isinstance(found, dict) else {}


def plain(value: object) -> Any:
    """Return a value with the stand-ins in it replaced by what they keep, each once however often it is referred to."""
    return _plain(value, {})


def _plain(value: object, known: dict[int, Any]) -> Any:
    if not isinstance(value, (Inert, dict, list, tuple)):
        return value
    if id(value) not in known:
        known[id(value)] = None  # what holds itself holds nothing there
        known[id(value)] = _content(value, known)
    return known[id(value)]


def _content(value: Inert | dict[Any, Any] | list[Any] | tuple[Any, ...], known: dict[int, Any]) -> Any:
    if isinstance(value, InertConfig):
        state = value.state
        return _plain(state.get("_content", state.get("_val")), known) if isinstance(state, dict) else None
    if isinstance(value, InertNamespace):
        return _plain(value.state, known)
    if isinstance(value, Inert):
        return _plain(value.arguments[0], known) if len(value.arguments) == 1 else None
    if isinstance(value, dict):
        return {key: _plain(item, known) for key, item in value.items() if isinstance(key, str)}
    return [_plain(item, known) for item in value]


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _check_names(path: Path) -> None:
    """Refuse a file of the zip format that names what isn't known, before it is read."""
    try:
        asked = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception as error:
        raise _damaged(path, error) from error
    if unknown := sorted(set(asked) - set(_CLASSES)):
        raise _unsafe(path, unknown)


@contextmanager
def _stand_ins() -> Iterator[None]:
    with torch.serialization.safe_globals([(stand_in, name) for name, stand_in in _CLASSES.items()]):
        yield


def _unsafe(path: Path, names: list[str]) -> UnsafeFileError:
    return UnsafeFileError(
        f"{path} was not read, and nothing in it was run: it asks for {', '.join(names[:3])}, which no model needs; "
        "get the model from a source you trust, in safetensors if there is one"
    )


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path} is cut short, damaged or no file of torch's ({type(error).__name__}: {str(error)[:200]}): copy it again"
    )
