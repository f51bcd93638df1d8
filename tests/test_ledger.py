"""The ledger of a device: its segments add up, gaps are named, and nothing negative or contradicting is hidden."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwmagic.frameworks.memory import Counters
from fwmagic.memory.device import SEGMENTS, DeviceReadings, device_ledger
from fwmagic.memory.nvml import Figure, Reading
from fwmagic.report import Moment

MIB = 1 << 20
GIB = 1 << 30


def reading(total=24 * GIB, own=3 * GIB, others=GIB, reserved=512 * MIB, **absent):
    used = (3 * GIB if own is None else own) + others
    found = {"total": total, "used": used, "free": total - used - reserved, "reserved": reserved, "own": own, **absent}
    return Reading(**{n: Figure(None, why="why") if v is None else Figure(v, "NVML") for n, v in found.items()})


def readings(device=None, context=400 * MIB, in_use=2 * GIB, held=2 * GIB + 512 * MIB, given_back=0, **fields):
    counters = Counters(MIB, held, in_use, held, "counters")
    found = {
        "before": counters,
        "peak": counters,
        "after": dataclasses.replace(counters, in_use=0, held=held - given_back),
        "device": reading() if device is None else device,
        "context": Figure(None, why="why") if context is None else Figure(context, "NVML before the first allocation"),
        **fields,
    }
    return DeviceReadings(**found)


def amounts(ledger):
    return {amount.kind: amount.bytes for amount in ledger.peak}


def test_the_segments_of_a_device():
    ledger = device_ledger("cuda:0", readings(others=(("JAX", 64 * MIB),)), (Moment(0.0, 1, 2),), "events")
    assert tuple(amounts(ledger)) == SEGMENTS
    assert amounts(ledger) == {
        "other processes": GIB,
        "reserved by the driver": 512 * MIB,
        "context": 400 * MIB,
        "in use": 2 * GIB,
        "free in pool": 512 * MIB,
        "held by others here": 64 * MIB,
        "unexplained": 3 * GIB - 2 * GIB - 512 * MIB - 400 * MIB - 64 * MIB,
        "free": 24 * GIB - 4 * GIB - 512 * MIB,
    }
    assert sum(amounts(ledger).values()) == ledger.total == 24 * GIB
    assert (ledger.device, ledger.start, ledger.note, ledger.source) == ("cuda:0", MIB, "", "events")
    assert all(bool(amount.source) != bool(amount.why) for amount in ledger.peak)


def test_what_the_pool_gave_back_was_not_free_at_the_peak():
    ledger = device_ledger("cuda:0", readings(device=reading(own=2 * GIB), held=3 * GIB, given_back=GIB + 512 * MIB))
    assert amounts(ledger)["free"] == 24 * GIB - 3 * GIB - 512 * MIB - GIB - 512 * MIB
    assert sum(amounts(ledger).values()) == ledger.total


@given(
    others=st.integers(0, 2 * GIB),
    reserved=st.integers(0, GIB),
    context=st.integers(0, GIB),
    in_use=st.integers(0, 3 * GIB),
    pool=st.integers(0, 3 * GIB),
    here=st.integers(0, GIB),
    gap=st.integers(0, 2 * GIB),
    given_back=st.integers(0, 3 * GIB),
)
def test_the_segments_add_up_to_the_total_and_a_planted_gap_is_unexplained(
    others, reserved, context, in_use, pool, here, gap, given_back
):
    held = in_use + pool
    given_back = min(given_back, held)
    own = context + held - given_back + here + gap
    found = readings(
        reading(total=40 * GIB, own=own, others=others, reserved=reserved),
        context, in_use, held, given_back, others=(("JAX", here),),
    )  # fmt: skip
    ledger = device_ledger("cuda:0", found)
    assert ledger.note == ""
    assert amounts(ledger)["unexplained"] == gap
    assert sum(amounts(ledger).values()) == ledger.total


@given(
    st.builds(
        Reading,
        **{
            name: st.just(Figure(None, why="why")) | st.builds(Figure, st.integers(0, 8 * GIB), st.just("source"))
            for name in ("total", "used", "free", "reserved", "own")
        },
    ),
    st.lists(st.none() | st.integers(0, 8 * GIB), min_size=7, max_size=7),
)
def test_no_readings_give_a_negative_number_or_fail(device, numbers):
    in_use, held, peak_in_use, peak_held, after, context, here = numbers
    found = DeviceReadings(
        Counters(in_use, held, peak_in_use, peak_held, "before"),
        Counters(in_use, held, peak_in_use, peak_held, "peak"),
        Counters(in_use, after, peak_in_use, peak_held, "after"),
        device,
        Figure(None, why="why") if context is None else Figure(context, "source"),
        (("JAX", here),),
    )
    ledger = device_ledger("cuda:0", found)
    assert all(amount.bytes is None or amount.bytes >= 0 for amount in ledger.peak)
    assert all(bool(amount.source) != bool(amount.why) for amount in ledger.peak)
    if device.used.bytes is not None and device.own.bytes is not None and device.own.bytes > device.used.bytes:
        assert "contradict" in ledger.note


@pytest.mark.parametrize(
    ("found", "kind", "note"),
    [
        (
            readings(device=reading(own=GIB)),
            "unexplained",
            "NVML and the allocators contradict each other: 1.00 GiB of this process, but 2.89 GiB",
        ),
        (
            readings(device=reading(used=GIB)),
            "other processes",
            "NVML's figures contradict each other: 3.00 GiB of this process, but 1.00 GiB of all",
        ),
        (
            readings(in_use=4 * GIB, held=2 * GIB, device=reading(own=4 * GIB)),
            "free in pool",
            "the allocator's counters contradict each other: 4.00 GiB in use, but 2.00 GiB held at most",
        ),
        (
            readings(given_back=-GIB, device=reading(own=6 * GIB)),
            "free in pool",
            "the allocator's counters contradict each other: 3.50 GiB held now, but 2.50 GiB at most until now",
        ),
        (
            readings(held=3 * GIB, given_back=2 * GIB, device=reading(free=MIB)),
            "free",
            "NVML's reading is not of the same time as the counters: 2.00 GiB were given back since",
        ),
    ],
    ids=["own below held", "own above used", "in use above held", "held above its peak", "stale"],
)
def test_readings_that_contradict_each_other_are_named(found, kind, note):
    ledger = device_ledger("cuda:0", found)
    assert note in ledger.note
    assert amounts(ledger)[kind] is None
    (amount,) = (amount for amount in ledger.peak if amount.kind == kind)
    assert "contradict" in amount.why


@pytest.mark.parametrize(
    ("found", "unknown"),
    [
        (readings(device=reading(own=None)), {"other processes", "unexplained"}),
        (readings(device=reading(free=None)), {"free"}),
        (readings(others=(("JAX", None),)), {"held by others here", "unexplained"}),
        (readings(context=None), {"context"}),
        (readings(peak=Counters(1, None, 1, None, "no pool")), {"free in pool"}),
    ],
    ids=["own", "free", "others", "context", "held"],
)
def test_what_is_not_known_says_why_and_costs_nothing_else(found, unknown):
    ledger = device_ledger("cuda:0", found)
    assert {name for name, count in amounts(ledger).items() if count is None} == unknown
    assert ledger.note == ""


def test_a_context_that_is_not_known_is_in_what_is_unexplained():
    with_it, without = device_ledger("cuda:0", readings()), device_ledger("cuda:0", readings(context=None))
    assert amounts(without)["unexplained"] == amounts(with_it)["unexplained"] + 400 * MIB
    assert "its context included" in without.peak[SEGMENTS.index("unexplained")].source
