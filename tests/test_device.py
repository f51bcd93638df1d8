"""The device pass: no old peak is passed off as new, and the ledger adds up on a machine whose GPU is not there.

The allocator is a script; NVML is the fake C library of `fake_gpus.py`, read by the real nvidia-ml-py.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fake_gpus import GIB, MIB, Machine, gpu, memory, process
from hypothesis import given
from hypothesis import strategies as st

from fwmagic.frameworks.memory import Counters, Device, Events, Memory
from fwmagic.memory.device import SEGMENTS, UNKNOWN_CONTEXT, device_context, measure, peak
from fwmagic.memory.nvml import Figure
from fwmagic.report import Moment

A = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"
B = "GPU-11111111-2222-3333-4444-555555555555"
TOTAL, RESERVED, OTHERS, CONTEXT = 24 * GIB, 512 * MIB, GIB, 400 * MIB


# The peak


def of_events(*totals, source="every event"):
    return Events([Moment(float(at), total, None) for at, total in enumerate(totals)], source)


NO_EVENTS = Events([], "not available: it records nothing")


class TestPeak:
    def test_of_a_counter_that_was_reset_is_its_own(self):
        before, after = Counters(1, 2, 90, 100, "counters"), Counters(5, 9, 8, 10, "counters")
        for events in (NO_EVENTS, of_events(3, 7)):
            found = peak(before, after, events, reset=True)
            assert (found.peak_in_use, found.peak_held) == (8, 10)
            assert found.source == "counters, its peak reset before the run"

    def test_of_events_is_the_largest(self):
        before, after = Counters(1, 50, 90, 50, "counters"), Counters(5, 60, 90, 60, "counters")
        found = peak(before, after, of_events(10, 40, 20), reset=False)
        assert (found.peak_in_use, found.peak_held, found.source) == (40, 60, "every event")

    def test_of_events_counts_what_there_was_before_the_first_one(self):
        found = peak(Counters(70, 90, 80, 90, "c"), Counters(10, 90, 80, 90, "c"), of_events(10, 40, 10), reset=False)
        assert found.peak_in_use == 70

    def test_events_go_before_a_counter_that_was_not_reset(self):
        found = peak(Counters(1, 9, 50, 9, "c"), Counters(1, 9, 70, 9, "c"), of_events(60), reset=False)
        assert found.peak_in_use == 60

    def test_of_a_counter_that_rose_is_new(self):
        found = peak(Counters(1, 99, 50, 99, "counters"), Counters(1, 99, 51, 99, "counters"), NO_EVENTS, reset=False)
        assert (found.peak_in_use, found.peak_held) == (51, 99)
        assert found.source == "counters: a new peak since the process began"

    def test_of_a_counter_that_did_not_rise_is_not_known(self):
        old = Counters(MIB, 9 * GIB, 5 * GIB, 9 * GIB, "counters")
        found = peak(old, old, NO_EVENTS, reset=False)
        assert (found.peak_in_use, found.peak_held) == (None, 9 * GIB)
        assert found.why == (
            "its peak counter cannot be reset, and the 5.00 GiB that it has shown before were not "
            "exceeded; --isolate measures it in a fresh process"
        )

    @pytest.mark.parametrize("reset", [True, False])
    @pytest.mark.parametrize(
        ("after", "why"),
        [
            (Counters(why="no counters here"), "no counters here"),
            (Counters(5, 9, None, None, "counters"), "no peak in counters"),
        ],
    )
    def test_without_a_counter_says_why(self, after, why, reset):
        found = peak(after, after, NO_EVENTS, reset)
        assert (found.peak_in_use, found.why) == (None, why)

    @pytest.mark.parametrize("reset", [True, False])
    def test_without_a_counter_is_that_of_the_events(self, reset):
        nothing = Counters(why="no counters here")
        assert peak(nothing, nothing, of_events(4, 6), reset).peak_in_use == 6

    @given(
        st.lists(st.integers(0, 1 << 40), min_size=1, max_size=20),
        st.integers(0, 1 << 40),
        st.booleans(),
        st.booleans(),
    )
    def test_is_the_true_one_or_none(self, course, older, reset, records):
        """`course` is what is in use from the start of a run to its end, `older` an earlier peak."""
        shown = max(older, course[0])
        after_it = max(course) if reset else max(shown, *course)
        before = Counters(course[0], None, course[0] if reset else shown, None, "counters")
        after = Counters(course[-1], None, after_it, None, "counters")
        events = of_events(*course[1:]) if records and course[1:] else NO_EVENTS
        found = peak(before, after, events, reset)
        assert found.peak_in_use in (max(course), None)
        assert (found.peak_in_use is None) == bool(found.why)
        if reset or events is not NO_EVENTS or max(course) > shown:
            assert found.peak_in_use == max(course)


# A run


_generations = itertools.count(1_000_000)


@dataclass
class Pool(Memory):
    """A framework's memory on a device that is not there: an allocator that keeps what it got, and NVML's view of it.

    `library` is memory of this process that no allocator knows of; `listed` says whether the driver lists this process.
    """

    resets: bool = True
    records: bool = True
    counts: bool = True
    listed: bool = True
    context: int = CONTEXT
    library: int = 0
    in_use: int = 0
    held: int = 0
    peak_in_use: int = 0
    peak_held: int = 0
    recording: list[Moment] | None = None
    done: list[str] = field(default_factory=list)

    def take(self, count: int) -> None:
        self.in_use += count
        self.held = max(self.held, self.in_use)
        self.peak_in_use, self.peak_held = max(self.peak_in_use, self.in_use), max(self.peak_held, self.held)
        self._changed()

    def give(self, count: int) -> None:
        self.in_use -= count
        self._changed()

    def trim(self) -> None:
        self.held = self.in_use
        self._changed()

    def _changed(self) -> None:
        if self.recording is not None:
            self.recording.append(Moment(float(len(self.recording)), self.in_use, self.held))
        if "FAKE_GPUS" in os.environ:
            self.write()

    def write(self) -> None:
        """Let NVML see what there is now."""
        own = self.context + self.held + self.library
        lines = [gpu(A), gpu(B), memory(A, TOTAL, RESERVED, TOTAL - RESERVED - OTHERS - own, OTHERS + own)]
        lines += [process(A, os.getpid(), own)] if self.listed else []
        text = "\n".join([f"generation {next(_generations)}", *lines, ""])
        Path(os.environ["FAKE_GPUS"]).write_text(text)

    def counters(self, device: Device) -> Counters:
        self.done.append("counters")
        if not self.counts:
            return Counters(why="it counts nothing")
        return Counters(self.in_use, self.held, self.peak_in_use, self.peak_held, "the pool's counters")

    def reset_peak(self, device: Device) -> bool:
        self.done.append("reset")
        if self.resets:
            self.peak_in_use, self.peak_held = self.in_use, self.held
        return self.resets

    @contextmanager
    def record(self, device: Device) -> Iterator[Events]:
        self.done.append("record")
        events = Events(source="it records nothing")
        self.recording = [] if self.records else None
        try:
            yield events
        finally:
            moments, self.recording = self.recording, None
            self.done.append("ended")
        if moments is not None:
            events.moments, events.source = moments, "the pool's events"


def work(pool: Pool, trims: bool = False) -> None:
    """A cell that computes with a temporary of 2 GiB and keeps 64 MiB."""
    pool.done.append("call")
    pool.take(64 * MIB)
    pool.take(2 * GIB)
    pool.give(2 * GIB)
    if trims:
        pool.trim()


def run(pool: Pool, where: Device, trims: bool = False, **options: Any) -> tuple[Any, Pool]:
    """Measure `work` after something larger that is gone and something that stays; in the machine's process."""
    pool.take(128 * MIB)
    pool.take(5 * GIB)
    pool.give(5 * GIB)
    return measure(lambda: work(pool, trims), pool, where, **options), pool


def context(pool: Pool, where: Device) -> Figure:
    pool.write()
    return device_context(pool, where)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with Machine(tmp_path_factory.mktemp("machine")) as started:
        yield started


def measured(machine: Machine, pool: Pool, where: Device | None = None, **options: Any) -> Any:
    where = Device("cuda:0", 0, A) if where is None else where
    ledger, _ = machine.ask("run(pool, where, **options)", run=run, pool=pool, where=where, options=options)
    assert tuple(amount.kind for amount in ledger.peak) == SEGMENTS
    assert all(bool(amount.source) != bool(amount.why) for amount in ledger.peak)
    return ledger


def amounts(ledger: Any) -> dict[str, int | None]:
    return {amount.kind: amount.bytes for amount in ledger.peak}


def source(ledger: Any, kind: str) -> str:
    return next(amount.source for amount in ledger.peak if amount.kind == kind)


def _why(ledger: Any, kind: str) -> str:
    return next(amount.why for amount in ledger.peak if amount.kind == kind)


KNOWN = Figure(CONTEXT, "NVML before the first allocation")
IN_USE = 128 * MIB + 64 * MIB + 2 * GIB


class TestMeasure:
    def test_its_segments_add_up_to_the_device(self, machine):
        ledger = measured(machine, Pool(library=32 * MIB), others=(("JAX", 8 * MIB),), context=KNOWN)
        assert amounts(ledger) == {
            "other processes": OTHERS,
            "reserved by the driver": RESERVED,
            "context": CONTEXT,
            "in use": IN_USE,
            "free in pool": 5 * GIB + 128 * MIB - IN_USE,
            "held by others here": 8 * MIB,
            "unexplained": 24 * MIB,
            "free": TOTAL - RESERVED - OTHERS - CONTEXT - 32 * MIB - 5 * GIB - 128 * MIB,
        }
        assert sum(amounts(ledger).values()) == ledger.total == TOTAL
        assert (ledger.device, ledger.start, ledger.note) == ("cuda:0", 128 * MIB, "")
        assert ledger.source == "the pool's events"
        assert source(ledger, "in use") == "the pool's counters, its peak reset before the run"

    def test_the_timeline_has_the_peak(self, machine):
        ledger = measured(machine, Pool())
        assert max(moment.in_use for moment in ledger.timeline) == amounts(ledger)["in use"] == IN_USE
        assert len(ledger.timeline) == 3

    def test_without_a_reset_the_events_tell_the_peak(self, machine):
        ledger = measured(machine, Pool(resets=False), context=KNOWN)
        assert amounts(ledger)["in use"] == IN_USE
        assert source(ledger, "in use") == "the pool's events"
        assert sum(amounts(ledger).values()) == TOTAL

    def test_without_reset_and_events_an_older_peak_is_named_and_not_used(self, machine):
        ledger = measured(machine, Pool(resets=False, records=False), context=KNOWN)
        found = amounts(ledger)
        assert (found["in use"], found["free in pool"]) == (None, None)
        assert "the 5.13 GiB that it has shown before were not exceeded" in _why(ledger, "in use")
        assert "--isolate" in _why(ledger, "in use")
        assert len(ledger.timeline) == 0
        assert ledger.source == "it records nothing"
        assert found["other processes"] == OTHERS

    def test_an_allocator_that_counts_nothing_costs_no_other_segment(self, machine):
        ledger = measured(machine, Pool(counts=False, resets=False, records=False), context=KNOWN)
        known = {"other processes", "reserved by the driver", "context", "held by others here", "free"}
        assert {name for name, count in amounts(ledger).items() if count is not None} == known
        assert _why(ledger, "in use") == "it counts nothing"
        assert _why(ledger, "unexplained") == "it counts nothing"

    def test_what_was_given_back_before_the_reading_was_not_free_at_the_peak(self, machine):
        ledger = measured(machine, Pool(), trims=True, context=KNOWN)
        assert sum(amounts(ledger).values()) == TOTAL
        held = 5 * GIB + 128 * MIB
        assert amounts(ledger)["free"] == TOTAL - RESERVED - OTHERS - CONTEXT - held

    def test_a_process_that_the_driver_does_not_list_is_measured_by_difference(self, machine):
        pool = Pool(listed=False)
        ledger, _ = machine.ask("fresh(pool, where)", fresh=fresh, pool=pool, where=Device("cuda:0", 0, A))
        # Of this process, only what came during the run is seen; the rest of the device's use is taken for others'.
        assert amounts(ledger)["other processes"] == OTHERS + CONTEXT
        assert "difference of the whole device since the reading before" in source(ledger, "other processes")
        assert amounts(ledger)["unexplained"] == 0
        assert amounts(ledger)["in use"] == 64 * MIB + 2 * GIB

    @pytest.mark.parametrize(
        ("where", "why"),
        [
            (Device("gpu:0", 0), "does not name the device with the ordinal 0"),
            (Device("gpu:5", 5), "does not name the device with the ordinal 5"),
            (
                Device("cuda:0", 0, "12345678-0000-0000-0000-000000000000"),
                "NVML knows no device with the UUID 12345678",
            ),
        ],
    )
    def test_a_device_that_is_not_known_says_why_and_is_not_guessed(self, machine, where, why):
        ledger = measured(machine, Pool(), where)
        of_nvml = {"other processes", "reserved by the driver", "context", "unexplained", "free"}
        assert {name for name, count in amounts(ledger).items() if count is None} == of_nvml
        assert ledger.total is None
        for name in of_nvml - {"context"}:
            assert _why(ledger, name).startswith("device unknown: ")
            assert why in _why(ledger, name)
        assert amounts(ledger)["in use"] == IN_USE

    def test_by_default_the_context_of_a_process_in_use_is_not_known(self, machine):
        ledger = measured(machine, Pool())
        assert _why(ledger, "context") == UNKNOWN_CONTEXT.why
        assert "--isolate" in _why(ledger, "context")
        assert amounts(ledger)["unexplained"] == CONTEXT

    def test_one_run_between_the_readings_with_the_recording_around_it_alone(self, machine):
        _, pool = machine.ask("run(pool, where)", run=run, pool=Pool(), where=Device("cuda:0", 0, A))
        assert pool.done == ["reset", "counters", "record", "call", "ended", "counters"]

    def test_the_outputs_are_alive_until_the_last_reading(self):
        pool = Pool()

        class Output:
            def __init__(self):
                pool.take(MIB)

            def __del__(self):
                pool.give(MIB)

        ledger = measure(Output, pool, Device("fake:0", 0, "GPU-none"))
        assert [moment.in_use for moment in ledger.timeline] == [MIB]
        assert pool.in_use == 0

    def test_what_the_call_raises_passes_and_ends_the_recording(self):
        pool, error = Pool(), ZeroDivisionError("of the user")

        def call():
            assert pool.recording == []
            raise error

        with pytest.raises(ZeroDivisionError) as raised:
            measure(call, pool, Device("fake:0", 0, "GPU-none"))
        assert raised.value is error
        assert pool.recording is None
        assert pool.done == ["reset", "counters", "record", "ended"]

    def test_an_interrupt_passes_too(self):
        pool = Pool()

        def call():
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            measure(call, pool, Device("fake:0", 0, "GPU-none"))
        assert pool.recording is None


def fresh(pool: Pool, where: Device) -> tuple[Any, Pool]:
    """Measure `work` in a process that has nothing on the device yet."""
    pool.write()
    return measure(lambda: work(pool), pool, where), pool


class TestContext:
    """What the driver needs for the process, asked before anything was allocated."""

    def ask(self, machine, pool, where=None):
        where = Device("cuda:0", 0, A) if where is None else where
        return machine.ask("context(pool, where)", context=context, pool=pool, where=where)

    @pytest.mark.parametrize("held", [0, 100 * MIB])
    def test_is_what_nvml_counts_less_what_is_held(self, machine, held):
        found = self.ask(machine, Pool(held=held))
        assert found.bytes == CONTEXT
        assert found.source.startswith("NVML's list of processes on the device, PID")
        assert found.source.endswith(", before anything was allocated")

    @pytest.mark.parametrize(
        ("pool", "where", "why"),
        [
            (Pool(listed=False), None, "the driver lists no process with the PID"),
            (Pool(counts=False), None, "no counter of what is held (it counts nothing)"),
            (Pool(), Device("gpu:7", 7), "device unknown: "),
        ],
    )
    def test_that_is_not_known_says_why(self, machine, pool, where, why):
        found = self.ask(machine, pool, where)
        assert found.bytes is None
        assert found.why.startswith(why)

    def test_less_than_the_allocator_holds_is_a_contradiction(self, machine):
        pool = Pool(held=GIB, context=-512 * MIB)
        found = self.ask(machine, pool)
        assert found == Figure(None, why="NVML counts less than the allocator holds")

    def test_takes_the_place_of_the_unknown_one_in_a_ledger(self, machine):
        known = self.ask(machine, Pool())
        ledger = measured(machine, Pool(), context=known)
        assert amounts(ledger)["unexplained"] == 0
        assert source(ledger, "context") == known.source


def asked_meanwhile(pool: Pool, where: Device) -> tuple[int, int]:
    """Return how often NVML has been asked when the run begins, and when it ends."""
    found = []

    def call() -> None:
        for _ in range(2):
            found.append(len(Path(os.environ["FAKE_GPUS_LOG"]).read_text().splitlines()))
            work(pool)

    measure(call, pool, where)
    return found[0], found[1]


def test_nvml_is_not_asked_while_the_call_runs_and_never_for_another_device(machine):
    first, last = machine.ask("ask(pool, where)", ask=asked_meanwhile, pool=Pool(), where=Device("cuda:0", 0, A))
    assert first == last > 0
    assert "nvmlDeviceGetHandleByIndex_v2" not in [function for _, function in machine.calls()[first:]]
