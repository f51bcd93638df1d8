"""The bars of a report's memory."""

from __future__ import annotations

import re

import pytest
from example_reports import a_ledger

from fwmagic.ledgers import bar, extent
from fwmagic.report import Amount, Ledger
from fwmagic.strips import colour

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
    assert extent([LEDGER]) == 500
    assert drawn(bar("torch", LEDGER, 500)) == {
        "rest": ("#8C8C8C", [(0, 194)]),
        "held": (colour("torch"), [(200, 94), (700, 294)]),
        "use": (colour("torch"), [(300, 394)]),
    }


def test_bars_share_a_scale_and_free_memory_is_left_out():
    longer = a_ledger(in_use=10_000)
    assert extent([LEDGER, longer]) == sum(a.bytes for a in longer.peak if a.name != "free")
    assert drawn(bar("jax", LEDGER, 1000))["use"][1] == [(150, 194)]
    assert "free " not in bar("jax", Ledger("host", 8, (Amount("in use", 3, ""), Amount("free", 5, ""))), 8)


@pytest.mark.parametrize("name", ["in use", "in use (static)"])
def test_how_the_memory_in_use_was_found_does_not_matter(name):
    ledger = Ledger("host", None, (Amount(name, 10, "XLA"),))
    assert drawn(bar("jax", ledger, 10)) == {"use": (colour("jax"), [(0, 994)])}
    assert f"<desc>{name} 10 B</desc>" in bar("jax", ledger, 10)


def test_nothing_known_is_nothing_drawn():
    assert extent([]) == 0
    assert extent([Ledger("host", None, (Amount("in use", None, "unknown"), Amount("context", 0, "")))]) == 0
