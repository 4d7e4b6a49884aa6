"""Dataclasses from the JSON of what `asdict` made of them, and what is wrong with it."""

from __future__ import annotations

import functools
import json
import sys
from dataclasses import MISSING, fields, is_dataclass
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

_JSON: dict[type, str] = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    dict: "an object",
    list: "a list",
    type(None): "null",
}
_SHOWN = 40  # characters of what is wrong
_hints = functools.cache(get_type_hints)


class WrongError(Exception):
    """What is wrong in the JSON, and where."""


def made(kind: Any, value: Any, where: str) -> Any:
    """A value of this kind from what `asdict` and JSON made of it; fields without a default must be there."""
    if is_dataclass(kind):
        return _object(kind, value, where)
    origin, inner = get_origin(kind) or kind, get_args(kind)
    if origin in (list, tuple):
        _check((list,), value, where)
        return origin(made(inner[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    _check(inner if origin is UnionType else (origin,), value, where)
    return value


def _object(kind: Any, value: Any, where: str) -> Any:
    _check((dict,), value, where)
    hints, found = _hints(kind), {}
    for f in fields(kind):
        inside = f"{where}.{f.name}" if where else f.name
        if f.name in value:
            found[f.name] = made(hints[f.name], value[f.name], inside)
        elif f.default is MISSING:
            raise WrongError(f"{inside} is missing")
    return kind(**found)


def _check(kinds: tuple[type, ...], value: Any, where: str) -> None:
    # JSON does not tell 1.0 from 1; what no float can hold cannot be compared.
    whole = float in kinds and type(value) is int and abs(value) <= sys.float_info.max
    if type(value) not in kinds and not whole:
        text = json.dumps(value)
        shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
        raise WrongError(f"{where or 'it'} is {shown}, not {' or '.join(_JSON[kind] for kind in kinds)}")
