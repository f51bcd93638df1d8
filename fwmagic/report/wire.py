"""Frozen dataclasses as JSON-ready values, and back, with every misfit named by its place."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any

# What the JSON Schema says of a number, beside its type.
Positive = Annotated[float, ("exclusiveMinimum", 0)]
NotNegative = Annotated[float, ("minimum", 0)]
Share = Annotated[float, ("minimum", 0), ("maximum", 1)]
Count = Annotated[int, ("minimum", 0)]
#: A line of the user's cell, from 1.
LineNumber = Annotated[int, ("minimum", 1)]
Colour = Annotated[str, ("pattern", "^#[0-9a-fA-F]{6}$")]


def encode(value: Any, most_points: int | None) -> Any:
    """Return dataclasses, mappings and tuples as JSON-ready values; a number that is not finite is None.

    With `most_points`, fields that hold their defaults are left out, and those that say how are thinned to so many
    items or fewer.
    """
    # The numbers first: they are nearly all of it, and this runs while a cell is timed.
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return value if most_points is None else float(f"{value:.5g}")
    if value is None or isinstance(value, (str, int)):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        found = (
            (f, _thinned_on_wire(f, getattr(value, f.name), most_points))
            for f in dataclasses.fields(value)
            if f.metadata.get("json", True)
        )
        return {f.name: encode(v, most_points) for f, v in found if most_points is None or not _is_default(f, v)}
    if isinstance(value, Mapping):
        return {str(key): encode(item, most_points) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [encode(item, most_points) for item in value]
    return value


def decode(kind: Any, value: Any, where: str) -> Any:
    """Return `value` as the annotated type `kind`, or raise a ValueError that says where it does not fit."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        return decode(next(a for a in arguments if a is not type(None)), value, where)
    if dataclasses.is_dataclass(kind):
        return _decode_dataclass(kind, value, where)
    if origin is typing.Literal:
        if value not in arguments:
            raise ValueError(f"{where}: one of {', '.join(map(str, arguments))} was expected, not {value!r}")
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"{where}: a list was expected, not {type(value).__name__}")
        return tuple(decode(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is Mapping:
        if not isinstance(value, Mapping):
            raise ValueError(f"{where}: an object was expected, not {type(value).__name__}")
        return {str(key): decode(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{where}: {kind.__name__} was expected, not {type(value).__name__}")
    return value


def spread(items: tuple[Any, ...], most: int) -> tuple[Any, ...]:
    """Return at most so many items, evenly spread."""
    if len(items) <= most:
        return items
    step = len(items) / most
    return tuple(items[int(i * step)] for i in range(most))


def default(field: dataclasses.Field[Any]) -> Any:
    """Return what a field holds where nothing is given; `MISSING` if something has to be."""
    made = field.default_factory
    return field.default if made is dataclasses.MISSING else made()


def _is_default(field: dataclasses.Field[Any], value: Any) -> bool:
    """Say whether a field may be left out; a float is not the bool that equals it."""
    usual = default(field)
    return not field.metadata.get("always", False) and type(value) is type(usual) and bool(value == usual)


def _thinned_on_wire(field: dataclasses.Field[Any], value: Any, most_points: int | None) -> Any:
    if most_points is None or "thinned" not in field.metadata:
        return value
    return field.metadata["thinned"](value, min(most_points, field.metadata.get("most_points", most_points)))


def _decode_dataclass(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: an object was expected, not {type(value).__name__}")
    hints = typing.get_type_hints(kind)
    arguments = {}
    for f in dataclasses.fields(kind):
        if not f.metadata.get("json", True):
            continue
        if f.name in value:
            arguments[f.name] = decode(hints[f.name], value[f.name], f"{where}.{f.name}")
        elif default(f) is dataclasses.MISSING:
            raise ValueError(f"{where}.{f.name} is missing")
    return kind(**arguments)
