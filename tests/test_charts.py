"""The specifications of the charts: Vega-Lite 5.6, without data, reading stored fields by fixed names only."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from fwmagic.report import NEUTRAL
from fwmagic.report.words import CHARTS

TEXTS = {
    path.name.removesuffix(".json"): path.read_text(encoding="utf-8")
    for path in files("fwmagic").joinpath("charts").iterdir()
}
SPECS = {name: json.loads(text) for name, text in TEXTS.items()}
# What the charts use of Vega-Lite. All of it is in version 5.6.1: its schema and its compiler took these files.
TRANSFORMS = {"filter", "calculate", "flatten", "fold", "window", "joinaggregate", "stack", "aggregate"}
MARKS = {"bar", "point", "tick", "rule", "line", "text"}
CHANNELS = {"x", "x2", "y", "y2", "yOffset", "color", "opacity", "shape", "size", "strokeDash", "detail", "text"}
CHANNELS |= {"tooltip"}


def objects(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from objects(item)


def views(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [part for part in objects(spec) if "mark" in part]


def test_every_chart_has_a_specification_and_is_in_the_documentation():
    assert set(SPECS) == set(CHARTS)
    assert all(chart.isidentifier() for chart in CHARTS), "the panel imports them by name"
    docs = (Path(__file__).parent.parent / "docs" / "magics.md").read_text(encoding="utf-8")
    listed = docs.split("The charts are ")[1].split("\n\n")[0]
    assert re.findall(r"`([a-z]+)`", listed) == list(CHARTS)


@pytest.mark.parametrize("chart", CHARTS)
def test_a_specification_brings_neither_data_nor_an_address(chart):
    spec = SPECS[chart]
    assert spec["$schema"] == "https://vega.github.io/schema/vega-lite/v5.json"
    assert spec["description"].endswith(".")
    assert spec["background"] == "transparent"
    assert [part["data"] for part in objects(spec) if "data" in part] == [
        {"name": "ratios" if chart == "ratios" else "variants"}
    ]
    assert TEXTS[chart].count("//") == 1, "the only address is that of the schema"
    assert not {"datasets", "width", "config", "autosize", "params"} & set(spec)
    assert list(spec["usermeta"]) == ["title", "table"], "what stands over the chart, and the heads of its table"
    assert not any({"url", "href", "values"} & set(part) and "labelExpr" not in part for part in objects(spec))


@pytest.mark.parametrize("chart", CHARTS)
def test_only_what_vega_lite_5_6_has_is_used(chart):
    for part in objects(SPECS[chart]):
        for step in part.get("transform", []):
            assert len(TRANSFORMS & set(step)) == 1, step
        assert set(part.get("encoding", {})) <= CHANNELS
    assert {view["mark"]["type"] for view in views(SPECS[chart])} <= MARKS


@pytest.mark.parametrize("chart", CHARTS)
def test_every_mark_has_a_name_and_a_tooltip(chart):
    for view in views(SPECS[chart]):
        assert re.fullmatch(r"[a-z_]+", view["name"])
        assert "tooltip" in view["mark"] or "tooltip" in view["encoding"]
    names = [view["name"] for view in views(SPECS[chart])]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("chart", CHARTS)
def test_the_colour_of_a_framework_comes_with_its_variant(chart):
    """A report that was stored before variants had one is drawn in a neutral colour."""
    assert {"calculate": f"datum.colour || '{NEUTRAL}'", "as": "colour"} in SPECS[chart]["transform"]
    scales = [part["scale"] for part in objects(SPECS[chart]) if part.get("field") == "colour"]
    assert scales == [None]


@pytest.mark.parametrize("chart", ["memory", "stages"])
@pytest.mark.parametrize("ink", [0, 255])
def test_no_two_greys_of_a_legend_look_alike(chart, ink):
    """What was perhaps in use, what was held and what others had: 215, 198 and 226 of 255."""
    (legend,) = (part["legend"] for part in objects(SPECS[chart]) if isinstance(part.get("legend"), dict))
    assert legend["symbolFillColor"] == "#707070", "what the panel draws in the colour of its text"
    (shades,) = re.findall(r"\[([\d., ]+)\]\[datum.rank\]", TEXTS[chart])
    greys = sorted(abs(255 - ink) + (2 * bool(ink) - 1) * 255 * float(shade) for shade in shades.split(","))
    assert min(b - a for a, b in itertools.pairwise(greys)) >= 45


def test_the_course_of_memory_says_that_it_is_not_a_call_that_was_timed():
    assert "one call apart" in SPECS["timeline"]["usermeta"]["title"]


@pytest.mark.parametrize("chart", CHARTS)
def test_fields_have_plain_names(chart):
    """A name that holds a dot or a bracket would be read as a path."""
    named = [part["field"] for part in objects(SPECS[chart]) if "field" in part]
    made = [part["as"] for part in objects(SPECS[chart]) if "as" in part]
    for name in [*named, *(n for names in made for n in ([names] if isinstance(names, str) else names))]:
        assert re.fullmatch(r"[a-zA-Z0-9_ ]+", name)


@pytest.mark.parametrize("chart", [chart for chart in CHARTS if chart != "timeline"])
def test_the_height_follows_from_the_number_of_rows(chart):
    assert SPECS[chart]["height"] == {"step": 34}
