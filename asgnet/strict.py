"""Mappings into frozen dataclasses, strictly: an unknown key or a value of the wrong type is a UserError."""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from asgnet.errors import UserError

T = TypeVar("T")


def build(cls: type[T], mapping: Mapping[str, Any] | None, where: str) -> T:
    """Build the dataclass ``cls`` from ``mapping``; ``where`` (such as "params.yaml: train") opens each error.

    Integers are taken for floats, lists for tuples; nothing else is converted. ``Literal`` fields name their choices.
    """
    mapping = {} if mapping is None else mapping
    if not isinstance(mapping, Mapping):
        raise UserError(f"{where}: expected a table of parameters, got {mapping!r}")
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in mapping:
        if key not in fields:
            raise unknown(f"{where}: parameter", str(key), fields)
    missing = [
        name
        for name, field in fields.items()
        if name not in mapping and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise UserError(f"{where}: parameter {missing[0]} is missing; add it")
    return cls(**{key: _convert(hints[key], value, f"{where}.{key}") for key, value in mapping.items()})


def at_least(least: int, section: str, config: Any, *names: str) -> None:
    """Raise UserError unless the parameters ``names`` of ``config``, or all items of those that are lists, are at least
    ``least``; ``section`` opens the error."""
    for name in names:
        value = getattr(config, name)
        for number in value if isinstance(value, tuple) else (value,):
            if number is not None and number < least:
                raise UserError(f"{section}{name}: {number} is too small; expected at least {least}")


def unknown(what: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that is none of ``known``, with the nearest one as a hint."""
    known = sorted(str(k) for k in known)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known are: {', '.join(known)}"
    return UserError(f"{what} {name!r} is unknown; {hint}")


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        if value not in arguments or isinstance(value, bool):
            raise UserError(f"{where}: {value!r} is not one of {', '.join(map(str, arguments))}")
        return value
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        return _convert(next(a for a in arguments if a is not type(None)), value, where)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return build(hint, value, where)
    if origin is tuple and isinstance(value, (list, tuple)):
        return tuple(_convert(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is dict and isinstance(value, Mapping):
        return {str(key): _convert(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if hint is Any:
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{where}: {value} is not finite; expected a number")
    if origin is None and isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    raise UserError(f"{where}: expected {getattr(hint, '__name__', hint)}, got {value!r}")
