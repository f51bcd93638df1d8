"""The bars of a report's memory."""

from __future__ import annotations

import re

import pytest
from example_reports import COLOURS, a_ledger

from fwmagic.report import Amount, Ledger, Timeline
from fwmagic.report.drawings import Extent, bar, course, extent

LEDGER = Ledger(
    "cuda:0",
    1000,
    (
        Amount("other processes", 100, "NVML"),
        Amount("context", 50, "NVML"),
        Amount("in use", 200, "NVML"),
        Amount("free in pool", 150, "NVML"),
        Amount("unexplained", None, "the driver does not tell"),
        Amount("free", 500, "NVML"),
    ),
)


def drawn(svg: str) -> dict[str, tuple[str, list[tuple[int, int]]]]:
    """The colour, and start and length of each line, by the class that says how thick it is."""
    paths = re.findall(r'<path class="fw-(\w+)" stroke="(#\w+)" d="([^"]*)"/>', svg)
    return {
        kind: (stroke, [(int(x), int(length)) for x, length in re.findall(r"M(\d+) 5h(\d+)", line)])
        for kind, stroke, line in paths
    }


def test_in_use_held_and_the_rest_are_told_apart_by_thickness_and_stand_in_order():
    assert extent([LEDGER]) == Extent(500, 0.0)
    assert drawn(bar(COLOURS["torch"], LEDGER, Extent(500, 0.0))) == {
        "rest": ("#8C8C8C", [(0, 194)]),
        "held": (COLOURS["torch"], [(200, 94), (700, 294)]),
        "use": (COLOURS["torch"], [(300, 394)]),
    }


def test_bars_share_a_scale_and_free_memory_is_left_out():
    longer = a_ledger(in_use=10_000)
    assert extent([LEDGER, longer]).bytes == sum(a.bytes for a in longer.peak if a.name != "free")
    assert drawn(bar(COLOURS["jax"], LEDGER, Extent(1000, 0.0)))["use"][1] == [(150, 194)]
    assert "free " not in bar(
        "jax", Ledger("host", 8, (Amount("in use", 3, ""), Amount("free", 5, ""))), Extent(8, 0.0)
    )


@pytest.mark.parametrize("name", ["in use", "in use (static)"])
def test_how_the_memory_in_use_was_found_does_not_matter(name):
    ledger = Ledger("host", None, (Amount(name, 10, "XLA"),))
    assert drawn(bar(COLOURS["jax"], ledger, Extent(10, 0.0))) == {"use": (COLOURS["jax"], [(0, 994)])}
    assert f"<desc>{name} 10 B</desc>" in bar(COLOURS["jax"], ledger, Extent(10, 0.0))


def test_nothing_known_is_nothing_drawn():
    assert extent([]) == Extent(0, 0.0)
    assert extent([Ledger("host", None, (Amount("in use", None, "unknown"), Amount("context", 0, "")))]).bytes == 0


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("other processes", "rest"), ("reserved by the driver", "rest"), ("held by others here", "rest"),
        ("context", "held"), ("unexplained", "held"), ("free in pool", "held"), ("in use", "use"),
    ],
)  # fmt: skip
def test_whose_a_segment_is(name, kind):
    ledger = Ledger("cuda:0", None, (Amount(name, 10, ""),))
    assert list(drawn(bar(COLOURS["torch"], ledger, extent([ledger])))) == [kind]


def test_a_course_is_drawn_in_steps_on_the_scale_of_all():
    moments = Timeline((0.0, 1.0, 2.0), (0, 50, 25), (50, 100, 100))
    ledger = Ledger("cuda:0", None, (), moments, "events")
    svg = course(COLOURS["torch"], ledger, Extent(100, 4.0))
    assert f'<path class="fw-area" fill="{COLOURS["torch"]}" d="M0 40H250V20H500V30V40H0z"/>' in svg
    assert f'<path class="fw-line" stroke="{COLOURS["torch"]}" d="M0 20H250V0H500V0"/>' in svg
    assert "<desc>3 moments in 2.00 s, at most 100 B</desc>" in svg
    assert extent([ledger, LEDGER]) == Extent(500, 2.0)


def test_of_a_course_only_what_is_known_is_drawn():
    assert course(COLOURS["jax"], LEDGER, Extent(100, 1.0)) == ""
    assert course(COLOURS["jax"], Ledger("host", None, (), Timeline((0.0,))), Extent(100, 1.0)) == ""
    only = course(COLOURS["jax"], Ledger("host", None, (), Timeline((0.0, 1.0), (5, 7))), Extent(10, 1.0))
    assert "fw-area" in only
    assert "fw-line" not in only
