"""The bars of a report's memory."""

from __future__ import annotations

import re

import pytest
from example_reports import COLOURS, a_ledger, a_variant

from fwmagic.report import Amount, Ledger, Timeline
from fwmagic.report.drawings import Extent, drawn_ledgers, extent, memory

LEDGER = Ledger(
    "cuda:0",
    1000,
    (
        Amount("other processes", 100, "NVML"),
        Amount("context", 50, "NVML"),
        Amount("in use", 200, "NVML"),
        Amount("free in pool", 150, "NVML"),
        Amount("unexplained", None, why="the driver does not tell"),
        Amount("free", 500, "NVML"),
    ),
)


def drawn(svg: str) -> dict[str, tuple[str, list[tuple[int, int]]]]:
    """The colour, and start and length of each line in tenths of a percent, by the class that says how thick it is."""
    found: dict[str, tuple[str, list[tuple[int, int]]]] = {}
    for kind, stroke, x1, x2 in re.findall(
        r'<line class="fw-(\w+)" stroke="(#\w+)"(?: x1="([\d.]+)%")? x2="([\d.]+)%" />', svg
    ):
        start, end = (round(10 * float(x or 0)) for x in (x1, x2))
        found.setdefault(kind, (stroke, []))[1].append((start, end - start))
    return found


def test_in_use_held_and_the_rest_are_told_apart_by_thickness_and_stand_in_order():
    assert extent([LEDGER]) == Extent(500, 0.0)
    assert drawn(memory(COLOURS["torch"], LEDGER, Extent(500, 0.0))) == {
        "rest": ("#8C8C8C", [(0, 194)]),
        "held": (COLOURS["torch"], [(200, 94), (700, 294)]),
        "use": (COLOURS["torch"], [(300, 394)]),
    }


def test_bars_share_a_scale_and_free_memory_is_left_out():
    longer = a_ledger(in_use=10_000)
    assert extent([LEDGER, longer]).bytes == sum(a.bytes for a in longer.peak if a.kind != "free")
    assert drawn(memory(COLOURS["jax"], LEDGER, Extent(1000, 0.0)))["use"][1] == [(150, 194)]
    assert "free " not in memory(
        COLOURS["jax"], Ledger("host", 8, (Amount("in use", 3, ""), Amount("free", 5, ""))), Extent(8, 0.0)
    )


@pytest.mark.parametrize(
    ("how", "name"), [("measured", "in use"), ("sampled", "in use (sampled)"), ("last seen", "in use (last seen)")]
)
def test_how_the_memory_in_use_was_found_does_not_matter(how, name):
    ledger = Ledger("host", None, (Amount("in use", 10, "a counter"), Amount("free", 10)), how=how)
    assert drawn(memory(COLOURS["jax"], ledger, Extent(10, 0.0))) == {"use": (COLOURS["jax"], [(0, 994)])}
    assert f': {name} 10 B"' in memory(COLOURS["jax"], ledger, Extent(10, 0.0))


def test_what_a_compiler_worked_out_is_not_drawn():
    static = Ledger("CPU", None, (Amount("in use", 10, "XLA"),), how="static")
    assert drawn_ledgers([a_variant("jax", memory=(LEDGER, static))]) == [
        (a_variant("jax", memory=(LEDGER, static)), LEDGER)
    ]


def test_nothing_known_is_nothing_drawn():
    assert extent([]) == Extent(0, 0.0)
    assert extent([Ledger("host", None, (Amount("in use", None, why="unknown"), Amount("context", 0, "")))]).bytes == 0


@pytest.mark.parametrize(
    ("kind", "whose"),
    [
        ("other processes", "rest"), ("reserved by the driver", "rest"), ("held by others here", "rest"),
        ("context", "held"), ("unexplained", "held"), ("free in pool", "held"), ("in use", "use"),
    ],
)  # fmt: skip
def test_whose_a_segment_is(kind, whose):
    ledger = Ledger("cuda:0", None, (Amount(kind, 10, ""),))
    assert list(drawn(memory(COLOURS["torch"], ledger, extent([ledger])))) == [whose]


def test_a_scale_is_as_long_as_the_longest_course():
    course = Ledger("cuda:0", None, (), Timeline((0.0, 1.0, 2.0), (0, 50, 25), (50, 100, 100)), "events")
    assert extent([course, LEDGER]) == Extent(500, 2.0)
