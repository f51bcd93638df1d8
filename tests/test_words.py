"""A report in words: what its text says, in parts."""

from __future__ import annotations

import json

from example_reports import a_report, four_variants, reports, with_memory
from hypothesis import given

from fwmagic.report.words import to_words


def test_the_parts_of_a_report():
    words = to_words(four_variants(10))
    assert list(words) == ["headline", "table", "details", "conditions"]
    first, *_, last = words["headline"]
    assert first["text"].startswith("torch:compiled is 2.1x faster than torch:eager (ratio 0.478")
    assert first["warning"] is False
    assert last == {"text": "the outputs of jax:compiled differ from those of torch:eager", "warning": True}
    assert words["table"]["head"][:3] == ["variant", "runs", "time per call"]
    assert [row[0] for row in words["table"]["rows"]] == ["torch:eager", "torch:compiled", "jax:compiled", "numpy"]
    assert [group["name"] for group in words["details"]][-2:] == ["numpy", "all variants"]
    numpy = words["details"][-2]["lines"]
    assert {"label": "not warm", "text": "its time had not settled when the rounds began", "warning": True} in numpy
    assert [line["label"] for line in words["conditions"]] == ["software", "devices", "load", "timing"]


def test_a_report_without_variants_has_words():
    words = to_words(a_report(variants=()))
    assert words["headline"] == [{"text": "no variant was run", "warning": False}]
    assert words["table"] == {"head": [], "rows": []}
    assert words["details"] == []


@given(reports())
def test_the_words_of_any_report_are_those_of_its_text(report):
    words, text = to_words(report), str(report)
    assert json.loads(json.dumps(words)) == words
    lines = [line for group in words["details"] for line in group["lines"]]
    for line in (*words["headline"], *lines, *words["conditions"]):
        assert line["text"] in text
    assert all(len(row) == len(words["table"]["head"]) for row in words["table"]["rows"])


def test_memory_is_among_the_words():
    (torch, _jax) = to_words(with_memory())["details"]
    assert [line["label"] for line in torch["lines"]].count("memory") == 2
