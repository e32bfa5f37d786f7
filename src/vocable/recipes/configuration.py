"""Settings out of TOML or YAML files and dotted options, checked by name and type: frozen dataclasses, whole or not at all."""

from __future__ import annotations

import difflib
import math
import tomllib
import types
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from vocable.errors import InputError

T = TypeVar("T")
Values = dict[str, Any]


def read_values(path: Path) -> Values:
    """Return what a TOML or YAML file holds; nothing in it is run.

    Raises:
        InputError: there is no such file, or it can't be read.
    """
    if not path.is_file():
        raise InputError(
            f"{path} {'is a folder' if path.is_dir() else 'does not exist'}: give a file of settings, such as hubert.toml"
        )
    content = path.read_bytes()
    try:
        if path.suffix in _YAML:
            values = _yaml(content) or {}
        else:
            values = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, ValueError) as error:
        said = " ".join(str(error).split())
        raise InputError(f"{path} can't be read as {'YAML' if path.suffix in _YAML else 'TOML'} ({said}): mend it") from error
    if not isinstance(values, dict):
        raise InputError(f"{path} holds no settings: give names with values")
    return values


_YAML = (".yaml", ".yml", ".json")  # JSON is YAML, too


def _yaml(content: bytes) -> Any:
    import yaml

    try:
        return yaml.safe_load(content)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(str(error)) from error


def toml_value(text: str) -> Any:
    """Return what a value means that is written as in TOML, with `null` for none; what can't be one is text."""
    if text == "null":  # TOML has no word for it; YAML's and hydra's
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def yaml_value(text: str) -> Any:
    """Return what a value means that is written as in YAML; what can't be one is text."""
    try:
        value = _yaml(text.encode())
    except ValueError:
        return text
    return text if isinstance(value, dict) or "(" in text else value  # Python's pairs are no YAML


def with_options(values: Mapping[str, Any], options: Sequence[str], value_of: Callable[[str], Any] = toml_value) -> Values:
    """Return settings in which options such as `training.steps=1000` take the place of what was there.

    Sections that are several of one kind go by number, from 1: `iterations.2.layer=5`.

    Args:
        values: the settings.
        options: others.
        value_of: what the text of a value means.

    Raises:
        InputError: an option has no name or no value, or goes below one that has no parts, or no such part.
    """
    made: Values = _copied(values)
    for option in options:
        name, equals, text = option.partition("=")
        *sections, last = name.strip().split(".")
        if not equals or not last:
            raise InputError(f"{option!r} is no setting: write it as training.steps=1000")
        place: Any = made
        for section in sections:
            place = _part(place, section, option)
        if not isinstance(place, dict):
            raise InputError(f"{option!r}: what is before {last} is several sections: name one of them, from 1 to {len(place)}")
        place[last] = value_of(text.strip())
    return made


def _part(place: Any, section: str, option: str) -> Any:
    if isinstance(place, list):
        if not section.isdecimal() or not 1 <= int(section) <= len(place):
            raise InputError(f"{option!r}: there is no {section} of several sections, which go from 1 to {len(place)}")
        return place[int(section) - 1]
    inner = place.setdefault(section, {})
    if not isinstance(inner, dict) and not (isinstance(inner, list) and inner and all(isinstance(item, dict) for item in inner)):
        raise InputError(f"{option!r}: {section} is a value and has no parts; look at the settings' names")
    return inner


def _copied(values: Any) -> Any:
    if isinstance(values, dict):
        return {name: _copied(value) for name, value in values.items()}
    return [_copied(value) for value in values] if isinstance(values, list) else values


def built(kind: type[T], values: Mapping[str, Any], where: str) -> T:
    """Return a dataclass with the given values, and dataclasses in it.

    Args:
        kind: the dataclass.
        values: by the names of its fields.
        where: they are from, for messages.

    Raises:
        InputError: a name is unknown (the message has the nearest), missing, or has a value that it can't have, as no number
            can be NaN or infinite.
    """
    return cast("T", _built(kind, values, where, ""))


def _built(kind: Any, values: Mapping[str, Any], where: str, section: str) -> Any:
    hints = get_type_hints(kind)
    known = {item.name: item for item in fields(kind) if item.init}
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(str(name), [*known, *_everywhere(kind)], 1, 0.5)
            hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(known)}"
            raise InputError(f"{where}: there is no setting {section}{name}{hint}")
    made: Values = {}
    for name, item in known.items():
        if name in values:
            made[name] = _converted(hints[name], values[name], where, f"{section}{name}")
        elif item.default is MISSING and item.default_factory is MISSING:
            raise InputError(f"{where} lacks the setting {section}{name}: give it")
    try:
        return kind(**made)
    except InputError as error:
        raise InputError(f"{where}{f', {section[:-1]}' if section else ''}: {error}") from error


def _everywhere(kind: Any) -> list[str]:
    """Return the names of settings in all sections, with these."""
    found = []
    for name, hint in get_type_hints(kind).items():
        if is_dataclass(hint):
            found += [f"{name}.{inner}" for inner in [item.name for item in fields(hint)] + _everywhere(hint)]
    return found


def _converted(kind: Any, value: Any, where: str, name: str) -> Any:
    """Return a value as a field's type wants it.

    Raises:
        InputError: it can't be.
    """
    if is_dataclass(kind):
        if not isinstance(value, Mapping):
            raise InputError(f"{where}: {name} is a section of settings, not {value!r}")
        return _built(kind, value, where, f"{name}.")
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _one_of([item for item in arguments if item is not type(None)], value, where, name)
    if origin is Literal:
        if value not in arguments:
            raise InputError(f"{where}: {name} is one of {', '.join(map(str, arguments))}, not {value!r}")
        return value
    if origin is tuple:
        listed = value if isinstance(value, (list, tuple)) else [value]
        kinds = arguments[:1] * len(listed) if arguments[-1] is Ellipsis else arguments
        if len(kinds) != len(listed):
            raise InputError(f"{where}: {name} takes {len(kinds)} values, not {len(listed)}")
        return tuple(_converted(inner, item, where, name) for inner, item in zip(kinds, listed, strict=True))
    return _single(kind, value, where, name)


def _one_of(kinds: Sequence[Any], value: Any, where: str, name: str) -> Any:
    """Return a value as the first of several types that can be wants it."""
    if len(kinds) == 1:
        return _converted(kinds[0], value, where, name)
    for kind in kinds:
        with suppress(InputError):
            return _converted(kind, value, where, name)
    words = [", ".join(map(str, get_args(kind))) if get_origin(kind) is Literal else _WORDS.get(kind, kind) for kind in kinds]
    raise InputError(f"{where}: {name} should be {', or '.join(map(str, words))}, not {value!r}")


def _single(kind: Any, value: Any, where: str, name: str) -> Any:
    if kind is Path and isinstance(value, str):
        return Path(value).expanduser()
    if kind is float and isinstance(value, (int, str)) and not isinstance(value, bool):
        with suppress(ValueError, OverflowError):
            value = float(value)  # text, since YAML reads 5e-4 as such
    if isinstance(value, float) and not math.isfinite(value):  # of which no run could be kept, nor anything learnt
        raise InputError(f"{where}: {name} should be a finite number, not {value}")
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise InputError(f"{where}: {name} should be {_WORDS.get(kind, kind)}, not {value!r}")
    return value


_WORDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false", Path: "a path"}
