"""The JSON Schemas of what a notebook stores: made from the dataclasses, where they are wanted.

`python -m fwmagic.report.schema` prints them, by name.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fwmagic.report import wire
from fwmagic.report.lines import Lines
from fwmagic.report.report import Report
from fwmagic.report.words import Words

_TYPES = {str: "string", float: "number", int: "integer", bool: "boolean"}
# Only a report that a notebook stores has its words with it; they are no part of the dataclass.
_STORED = {
    "words": {
        "description": "The report in words; only a report stored in a notebook has them.",
        "$ref": "#/$defs/Words",
    }
}


def schema(kind: Any) -> dict[str, Any]:
    """Return a schema, of draft 2020-12: types, enumerations and bounds from the annotations, texts from docstrings.

    A field that has a default may be left out.

    Raises
    ------
    KeyError
        A field is not described in its class's docstring.
    """
    root = _object_schema(kind)
    words = (*_dataclasses_inside(Words), Words) if kind is Report else ()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:fwmagic:{kind.__name__.lower()}:v{root['properties']['version']['const']}",
        **root,
        "properties": {**root["properties"], **(_STORED if words else {})},
        "$defs": {part.__name__: _object_schema(part) for part in dict.fromkeys((*_dataclasses_inside(kind), *words))},
    }


def _object_schema(kind: Any) -> dict[str, Any]:
    summary, described = _docstring(kind)
    hints, fields, required = typing.get_type_hints(kind, include_extras=True), {}, []
    for f in _schema_fields(kind):
        fields[f.name] = {"description": described[f.name], **_type_schema(hints[f.name])}
        usual = wire.default(f)
        if usual is dataclasses.MISSING or f.metadata.get("always", False):
            required.append(f.name)
        else:
            fields[f.name]["default"] = wire.encode(usual, None)
    return {
        "title": kind.__name__,
        "description": summary,
        "type": "object",
        "additionalProperties": False,
        "required": required,
        "properties": fields,
    }


def _type_schema(hint: Any) -> dict[str, Any]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return {**_type_schema(arguments[0]), **dict(arguments[1:])}
    if origin is typing.Literal:
        return {"enum": list(arguments)} if len(arguments) > 1 else {"const": arguments[0]}
    if origin in (types.UnionType, typing.Union):
        inner = _type_schema(arguments[0])
        return {"anyOf": [inner, {"type": "null"}]} if "$ref" in inner else {**inner, "type": [inner["type"], "null"]}
    if origin is tuple:
        return {"type": "array", "items": _type_schema(arguments[0])}
    if origin is Mapping:
        return {"type": "object", "additionalProperties": _type_schema(arguments[1])}
    return {"type": _TYPES[hint]} if hint in _TYPES else {"$ref": f"#/$defs/{hint.__name__}"}


def _schema_fields(kind: Any) -> list[dataclasses.Field[Any]]:
    return [f for f in dataclasses.fields(kind) if f.metadata.get("json", True)]


def _dataclasses_inside(kind: Any) -> Iterator[Any]:
    """Yield the dataclasses that the fields of one hold, those inside them included."""
    inside: Iterable[Any] = typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind, include_extras=True)
        inside = [hints[f.name] for f in _schema_fields(kind)]
    for argument in inside:
        if dataclasses.is_dataclass(argument):
            yield argument
        yield from _dataclasses_inside(argument)


def _docstring(kind: Any) -> tuple[str, dict[str, str]]:
    """Return the first paragraph of a class's docstring, and what it says of each attribute."""
    text, _, attributes = inspect.cleandoc(kind.__doc__).partition("Attributes\n----------\n")
    found = re.findall(r"^(\w+)\n((?:    .*\n?)+)", attributes, re.MULTILINE)
    return " ".join(text.partition("\n\n")[0].split()), {name: " ".join(lines.split()) for name, lines in found}


if __name__ == "__main__":
    print(json.dumps({kind.__name__: schema(kind) for kind in (Report, Lines)}, indent=2))
