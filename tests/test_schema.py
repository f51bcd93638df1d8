"""The JSON Schemas, which are made from the dataclasses: reports fit theirs, and what is no report does not."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import jsonschema
import pytest
from example_reports import (
    AGREEMENTS,
    HOW,
    KINDS,
    STATES,
    STATUSES,
    VERDICTS,
    WAYS,
    a_ledger,
    a_report,
    a_variant,
    four_variants,
    reports,
    with_failure,
    with_memory,
)
from hypothesis import given

from fwmagic.report import MIME, Allocation, Report
from fwmagic.report import schema as generator
from fwmagic.report.lines import Lines

SCHEMA, OF_LINES = generator.schema(Report), generator.schema(Lines)
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
OBJECTS = {"Report": SCHEMA, **SCHEMA["$defs"], "Lines": OF_LINES, **OF_LINES["$defs"]}


@pytest.mark.parametrize("schema", [SCHEMA, OF_LINES], ids=["Report", "Lines"])
def test_it_is_a_valid_schema_of_draft_2020_12(schema):
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(schema)


def test_it_is_made_with_the_standard_library_alone():
    """As where the package is built, and nothing that it runs on is installed."""
    command = [sys.executable, "-S", "-W", "error", "-m", "fwmagic.report.schema"]
    made = subprocess.run(command, cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=True)
    assert json.loads(made.stdout) == {"Report": SCHEMA, "Lines": OF_LINES}


@pytest.mark.parametrize("name", sorted(OBJECTS))
def test_every_field_is_asked_for_or_has_a_default_and_no_other_is_taken(name):
    """So that a report which fits has just these fields: the words alone are left out of one that is not stored."""
    stored_only = {"words"} if name == "Report" else set()
    fields = OBJECTS[name]["properties"]
    usual = {field for field in fields if "default" in fields[field]}
    assert {*OBJECTS[name]["required"], *usual, *stored_only} == set(fields)
    assert not usual & set(OBJECTS[name]["required"])
    assert OBJECTS[name]["additionalProperties"] is False


@pytest.mark.parametrize("name", sorted(OBJECTS))
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
        ("Amount", "kind", KINDS),
        ("Ledger", "how", HOW),
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
    heap = a_ledger("heap", lines=(Allocation(3, 8), Allocation(None, 8, "inside XLA")))
    for report in (four_variants(10), with_memory(), with_failure(), a_report(a_variant("jax", memory=(heap,)))):
        VALIDATOR.validate(report._repr_mimebundle_()[MIME])


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("state",), "finished"),
        (("version",), 2),
        (("progress",), 1.5),
        (("unknown",), 1),
        (("variants", 0, "colour"), "red"),
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
        (("variants", 3, "memory", 0, "how"), "guessed"),
        (("variants", 3, "memory", 0, "peak", 0, "kind"), "in use (static)"),
        (("variants", 3, "memory", 0, "peak", 0, "bytes"), -1),
    ],
)
def test_what_does_not_fit_is_refused(path, value):
    report = four_variants(10)
    measured = replace(report.variants[3], memory=(a_ledger(),))
    data = copy.deepcopy(replace(report, variants=(*report.variants[:3], measured)).to_dict())
    VALIDATOR.validate(data)
    *parents, last = path
    inner = data
    for key in parents:
        inner = inner[key]
    inner[last] = value
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(data)


@pytest.mark.parametrize("name", sorted(OBJECTS))
def test_a_missing_field_is_refused(name):
    for field in OBJECTS[name]["required"]:
        instance = {key: None for key in OBJECTS[name]["properties"] if key != field}
        definition = {**OBJECTS[name], "$defs": {**SCHEMA["$defs"], **OF_LINES["$defs"]}}
        errors = list(jsonschema.Draft202012Validator(definition).iter_errors(instance))
        assert any(error.validator == "required" and repr(field) in error.message for error in errors)


def test_a_field_without_a_description_is_an_error():
    @dataclass
    class Bare:
        """Something."""

        field: str

    with pytest.raises(KeyError, match="field"):
        generator._object_schema(Bare)
