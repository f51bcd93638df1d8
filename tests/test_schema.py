"""The JSON Schema is the definition of the wire format: it and the dataclasses say the same."""

from __future__ import annotations

import copy
import dataclasses
import json
import types
import typing
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

import jsonschema
import pytest
from example_reports import AGREEMENTS, STATES, STATUSES, VERDICTS, WAYS, a_report, four_variants, reports, with_memory
from hypothesis import given

from fwmagic.report import MIME, MOST_POINTS, Report
from fwmagic.report.words import Words

SCHEMA = json.loads(files("fwmagic").joinpath("schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
_SCALARS = {str: "string", float: "number", int: "integer", bool: "boolean"}


def wire_fields(kind: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {f.name: hints[f.name] for f in dataclasses.fields(kind) if f.metadata.get("json", True)}


def dataclasses_in(annotation: Any) -> Iterator[Any]:
    if dataclasses.is_dataclass(annotation):
        yield annotation
        for inner in wire_fields(annotation).values():
            yield from dataclasses_in(inner)
    for argument in typing.get_args(annotation):
        yield from dataclasses_in(argument)


def shape(annotation: Any) -> Any:
    """What the schema has to say of an annotated type."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is types.UnionType:
        inner = shape(arguments[0])
        return {"anyOf": [inner, {"type": "null"}]} if "$ref" in inner else {"type": [inner["type"], "null"]}
    if origin is tuple:
        return {"type": "array", "items": shape(arguments[0])}
    if origin is Mapping:
        return {"type": "object", "additionalProperties": shape(arguments[1])}
    if dataclasses.is_dataclass(annotation):
        return {"$ref": f"#/$defs/{annotation.__name__}"}
    return {"type": _SCALARS[annotation]}


def bare(schema: Any) -> Any:
    """The types of a schema, without descriptions and bounds; an enumeration of strings is a string."""
    if isinstance(schema, list):
        return [bare(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return {"type": _SCALARS[type(values[0])]}
    kept = ("type", "items", "additionalProperties", "$ref", "anyOf")
    return {key: bare(value) for key, value in schema.items() if key in kept}


# Only a report that a notebook stores has its words with it; they are no part of the dataclass.
STORED_ONLY = {"Report": ["words"]}
KINDS = {kind.__name__: kind for kind in (*dataclasses_in(Report), *dataclasses_in(Words))}
OBJECTS = {"Report": SCHEMA, **SCHEMA["$defs"]}


def test_it_is_a_valid_schema_of_draft_2020_12():
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_it_defines_every_dataclass_and_nothing_else():
    assert set(OBJECTS) == set(KINDS)


@pytest.mark.parametrize("name", sorted(KINDS))
def test_fields_and_types_are_those_of_the_dataclass(name):
    fields = wire_fields(KINDS[name])
    definition = OBJECTS[name]
    assert list(definition["properties"]) == [*fields, *STORED_ONLY.get(name, [])]
    assert definition["required"] == list(fields)
    assert definition["additionalProperties"] is False
    assert {key: bare(definition["properties"][key]) for key in fields} == {
        key: shape(annotation) for key, annotation in fields.items()
    }


def test_words_are_those_of_their_dataclass():
    assert bare(SCHEMA["properties"]["words"]) == shape(Words)


@pytest.mark.parametrize("name", sorted(KINDS))
def test_everything_is_described(name):
    assert OBJECTS[name]["description"].endswith(".")
    assert all(field["description"].endswith(".") for field in OBJECTS[name]["properties"].values())


@pytest.mark.parametrize(
    ("name", "field", "values"),
    [
        ("Report", "state", STATES),
        ("Variant", "status", STATUSES),
        ("Compilation", "way", WAYS),
        ("Agreement", "status", AGREEMENTS),
        ("Ratio", "verdict", VERDICTS),
    ],
)
def test_enumerations(name, field, values):
    assert tuple(OBJECTS[name]["properties"][field]["enum"]) == values


@given(reports())
def test_any_report_is_valid_whole_and_thinned(report):
    VALIDATOR.validate(json.loads(report.to_json()))
    VALIDATOR.validate(report._repr_mimebundle_()[MIME])


def test_the_examples_are_valid():
    VALIDATOR.validate(four_variants().to_dict())
    VALIDATOR.validate(a_report().to_dict())
    VALIDATOR.validate(with_memory().to_dict(MOST_POINTS))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("state",), "finished"),
        (("version",), 2),
        (("progress",), 1.5),
        (("unknown",), 1),
        (("variants", 0, "status"), "ok"),
        (("variants", 0, "outputs"), None),
        (("variants", 0, "compilation", "way"), "magic"),
        (("variants", 0, "compilation", "breaks"), [{"line": 0, "reason": "lines start at 1"}]),
        (("variants", 0, "time", "samples"), [None]),
        (("variants", 0, "time", "median"), None),
        (("variants", 2, "agreement", "status"), "equal"),
        (("ratios", 0, "verdict"), "quicker"),
        (("ratios", 0, "median"), 0),
        (("conditions", "versions"), {"torch": 2}),
        (("findings", 0, "line"), "3"),
        (("words",), {"headline": []}),
    ],
)
def test_what_does_not_fit_is_refused(path, value):
    data = copy.deepcopy(four_variants(10).to_dict())
    VALIDATOR.validate(data)
    *parents, last = path
    inner = data
    for key in parents:
        inner = inner[key]
    inner[last] = value
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(data)


@pytest.mark.parametrize("name", sorted(KINDS))
def test_a_missing_field_is_refused(name):
    for field in OBJECTS[name]["required"]:
        instance = {key: None for key in OBJECTS[name]["properties"] if key != field}
        definition = {**OBJECTS[name], "$defs": SCHEMA["$defs"]}
        errors = list(jsonschema.Draft202012Validator(definition).iter_errors(instance))
        assert any(error.validator == "required" and repr(field) in error.message for error in errors)
