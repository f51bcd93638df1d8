"""The memory of a report in a terminal."""

from __future__ import annotations

from example_reports import a_report, a_variant, with_memory

from fwmagic.report import Amount, Ledger, Timeline
from fwmagic.report.text import memory_text

MIB = 1 << 20


def of(*ledgers):
    return memory_text(a_report(a_variant("torch", memory=ledgers)).variants).splitlines()


def test_in_use_held_and_the_rest_have_a_mark_each_on_one_scale():
    device = Ledger(
        "cuda:0",
        None,
        (
            Amount("other processes", 10 * MIB, ""),
            Amount("in use", 20 * MIB, ""),
            Amount("free in pool", 10 * MIB, ""),
            Amount("free", 900 * MIB, ""),
        ),
    )
    host = Ledger("host", None, (Amount("in use", 10 * MIB, ""),))
    assert of(device, host) == [
        "memory at the peak, 0 to 40.0 MiB: █ in use, ▒ held and not in use, ░ of others",
        "  torch, cuda:0  " + 10 * "░" + 20 * "█" + 10 * "▒",
        "  torch, host    " + 10 * "█",
    ]


def test_what_is_known_as_from_one_to_another_is_drawn_to_both():
    heading, row = of(Ledger("host", None, (Amount("in use", 10 * MIB, "", most=40 * MIB),)))
    assert ", ╌ perhaps in use," in heading
    assert row == "  torch, host  " + 10 * "█" + 30 * "╌"
    (_, only) = of(Ledger("host", None, (Amount("in use", 0, "", most=MIB),)))
    assert only.endswith("  " + 40 * "╌")


def test_the_smallest_segment_is_seen():
    ledger = Ledger("host", None, (Amount("context", 1, ""), Amount("in use", MIB, "")))
    assert of(ledger)[1].endswith("▒" + 39 * "█")


def test_the_course_of_all_is_on_one_scale_of_time_and_memory():
    long = Ledger("host", None, (Amount("in use", 8, ""),), Timeline((0.0, 2.0, 4.0), (0, 8, 4)))
    short = Ledger("heap", None, (Amount("in use", 4, ""),), Timeline((0.0, 2.0), (4, 1)))
    heading, first, second = of(long, short)
    assert heading.endswith("right: over 4.00 s")
    assert first.endswith(20 * " " + 20 * "█")
    assert second.endswith(20 * "▄")


def test_a_device_of_a_strangers_report_cannot_steer_the_terminal():
    (_, row) = of(Ledger("a\x1b[2J\nb", None, (Amount("in use", MIB, ""),)))
    assert row.startswith("  torch, a b  ")


def test_nothing_known_is_nothing_drawn():
    assert memory_text(a_report().variants) == ""
    assert of(Ledger("cuda:0", None, (Amount("in use", None, why="no driver"),))) == []
    lines = memory_text(with_memory().variants).splitlines()
    assert len(lines) == 5
