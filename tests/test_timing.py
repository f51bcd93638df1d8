"""The engine: what it calls, in which order and surroundings, what it counts, and when it stops."""

from __future__ import annotations

import gc
import random
import statistics
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import pairwise
from typing import Any, ClassVar

import pytest

from fwmagic import frameworks
from fwmagic.measure import stats
from fwmagic.measure.bench import steady
from fwmagic.measure.calls import Harness, Local, Timed
from fwmagic.measure.timing import BLOCK, Measurement, Progress, time_variants


class World:
    """A clock that only programs move, a count of compilations, and a log of what happened."""

    def __init__(self) -> None:
        self.now = 0.0
        self.compiled = 0
        self.drained = 0
        self.open = False
        self.log: list[tuple[str, str]] = []

    def clock(self) -> float:
        return self.now

    def drain(self) -> None:
        self.drained += 1

    @contextmanager
    def window(self) -> Iterator[None]:
        assert not self.open
        self.open = True
        try:
            yield
        finally:
            self.open = False


class Program:
    """A program of so many seconds a call; `during` may do more, given the number of the call (from 1)."""

    def __init__(
        self,
        world: World,
        name: str,
        seconds: float,
        noise: float = 0.0,
        during: Callable[[int], None] | None = None,
        waiting: float | None = None,
    ) -> None:
        self.world, self.name, self.seconds = world, name, seconds
        self.args: tuple[Any, ...] = ("x",)
        self.most_calls: int | None = None
        self.lead_in = False
        self.calls = 0
        self.entered = False
        self.found: Callable[[], tuple[object, ...] | None] = lambda: None
        self.collecting: set[bool] = set()
        self.wait: Callable[[Any], Any] | None = self.waited if waiting is not None else None
        self._waiting = waiting or 0.0
        self._during = during
        self._noise = random.Random(name)
        self._size = noise

    def enter(self) -> None:
        assert not self.entered
        assert not self.world.open
        self.entered = True
        self.world.log.append(("enter", self.name))

    def exit(self) -> None:
        assert self.entered
        assert not self.world.open
        self.entered = False

    def again(self) -> None:
        assert self.entered
        assert not self.world.open
        self.world.log.append(("again", self.name))

    def finds(self) -> tuple[object, ...] | None:
        assert self.entered
        return self.found()

    def call(self, argument: str) -> str:
        assert argument == "x"
        assert self.entered
        assert self.world.open
        self.calls += 1
        self.collecting.add(gc.isenabled())
        self.world.log.append(("call", self.name))
        self.world.now += self.seconds * (1 + self._noise.gauss(0, self._size))
        if self._during is not None:
            self._during(self.calls)
        return f"{self.name}'s output"

    def waited(self, output: str) -> None:
        assert output == f"{self.name}'s output"
        self.world.now += self._waiting


def run(world: World, programs: Sequence[Timed], budget: float = 1.0, **options: Any) -> Measurement:
    harness = Harness(lambda: world.compiled, world.drain, world.window, world.clock)
    settings: dict[str, Any] = {"seed": 0, "clock": world.clock} | options
    return time_variants([Local(program.name, program, harness) for program in programs], budget=budget, **settings)


def winner(found: Measurement) -> str | None:
    return stats.fastest([variant.name for variant in found.variants if variant.failure is None], found.ratios)


def blocks(world: World) -> list[str]:
    return [name for what, name in world.log if what == "enter"]


@pytest.mark.parametrize(
    ("seconds", "budget"),
    [
        (1e-7, 0.02),
        (1e-5, 0.05),
        (0.01, 0.05),
        (10.0, 0.05),
        (3e-4, 2.0),
        (0.07, 2.0),
        (0.3, 2.0),
        (2.0, 2.0),
        (60.0, 2.0),
    ],
)
def test_the_budget_is_kept_within_a_tenth_or_one_call_each(seconds: float, budget: float) -> None:
    world = World()
    programs = [Program(world, "a", seconds, 0.01), Program(world, "b", seconds, 0.01)]
    found = run(world, programs, budget, least=2.0)
    assert found.spent == pytest.approx(world.now)
    assert found.spent <= max(1.1 * budget, 1.1 * 2 * seconds)
    assert found.stopped == "out of budget"
    assert all(len(variant.samples) >= 1 for variant in found.variants)


@pytest.mark.parametrize("compiles", [0, 1, 2, 99])
def test_a_call_of_ten_seconds_is_made_at_most_twice(compiles: int) -> None:
    world = World()

    def compile_first(call: int) -> None:
        world.compiled += call <= compiles

    program = Program(world, "a", 10.0, during=compile_first)
    found = run(world, [program, Program(world, "b", 9.0)], 2.0)
    assert program.calls <= 2
    assert [len(variant.samples) for variant in found.variants] == [1, 1]
    assert [variant.warm for variant in found.variants] == [False, False]
    assert found.variants[0].every_call == (compiles > 1)
    (ratio,) = found.ratios
    assert (ratio.verdict, ratio.low) == ("undecided", None)


def test_samples_are_seconds_per_call_of_short_blocks() -> None:
    world = World()
    found = run(world, [Program(world, "a", 1e-5), Program(world, "b", 0.004)], 0.5)
    short, long = found.variants
    assert statistics.median(short.samples) == pytest.approx(1e-5)
    assert statistics.median(long.samples) == pytest.approx(0.004)
    assert short.calls_per_block == 2, "it fills a block, but is short"
    assert long.calls_per_block == 1
    assert short.calls == short.calls_per_block * len(short.samples)


def test_every_call_has_its_state_its_window_and_no_garbage_collection() -> None:
    # Program itself checks state and window in every call.
    world = World()
    programs = [Program(world, "a", 0.001), Program(world, "b", 0.001, waiting=0.0)]
    assert gc.isenabled()
    run(world, programs, 0.2)
    assert gc.isenabled()
    assert all(program.collecting == {False} for program in programs)
    assert world.drained == len(blocks(world))


def test_garbage_collection_that_was_off_stays_off() -> None:
    world = World()
    gc.disable()
    try:
        run(world, [Program(world, "a", 0.001)], 0.1)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_rounds_have_one_block_of_each_in_an_order_that_only_the_seed_decides() -> None:
    orders = []
    for seed in (1, 1, 2):
        world = World()
        programs = [Program(world, name, 0.001, 0.01) for name in "abc"]
        found = run(world, programs, 0.5, seed=seed, least=2.0)
        in_rounds = blocks(world)[-3 * len(found.rounds) :]
        rounds = [tuple(in_rounds[i : i + 3]) for i in range(0, len(in_rounds), 3)]
        assert all(sorted(one) == ["a", "b", "c"] for one in rounds)
        assert len(set(rounds)) == 6
        orders.append(rounds)
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]


def test_pairs_are_taken_within_rounds() -> None:
    world = World()
    pace = [1.0]

    def drift(_: int) -> None:
        pace[0] *= 1.01
        a.seconds, b.seconds = 0.002 * pace[0], 0.003 * pace[0]

    a, b = Program(world, "a", 0.002), Program(world, "b", 0.003, during=drift)
    found = run(world, [a, b], 1.0, margin=0.02)
    (ratio,) = found.ratios
    assert ratio.median == pytest.approx(1.5, rel=0.02)
    assert ratio.verdict == "slower"
    assert found.rounds[-1][0] is not None
    assert found.rounds[0][0] is not None
    assert found.rounds[-1][0] > 1.08 * found.rounds[0][0]


def test_where_one_needs_a_lead_in_call_all_get_one_that_is_not_timed() -> None:
    def first_is_slow(call: int) -> None:
        if world.log[-2][0] == "enter":
            world.now += 0.003

    for wanted in (True, False):
        world = World()
        programs = [Program(world, name, 0.001, 1e-3, first_is_slow) for name in "ab"]
        programs[1].lead_in = wanted
        long = Program(world, "c", 0.26)
        found = run(world, [*programs, long], 2.0)
        for variant in found.variants[:2]:
            assert statistics.median(variant.samples) == pytest.approx(0.001 if wanted else 0.004, rel=0.01)
        assert blocks(world).count("c") == long.calls


def test_a_block_with_a_compilation_is_void_and_the_variant_is_warmed_again() -> None:
    world = World()

    def recompile(call: int) -> None:
        if call == 100:
            world.compiled += 1
            world.now += 5e-2

    found = run(world, [Program(world, "a", 0.001), Program(world, "b", 0.001, 0.02, recompile)], 1.0, least=2.0)
    variant = found.variants[1]
    assert variant.voided == 1
    assert not variant.every_call
    assert max(variant.samples) < 0.002
    assert [row[1] for row in found.rounds].count(None) == 1
    assert found.ratios[0].rounds == len(found.rounds) - 1


def test_compiling_before_the_rounds_is_warm_up() -> None:
    world = World()

    def compile_twice(call: int) -> None:
        if call <= 2:
            world.compiled += 1
            world.now += 0.05

    found = run(world, [Program(world, "a", 0.001, during=compile_twice)], 1.0)
    assert (found.variants[0].voided, found.variants[0].every_call, found.variants[0].warm) == (0, False, True)
    assert max(found.variants[0].samples) < 0.002


def test_a_program_that_compiles_on_every_call_is_timed_as_such() -> None:
    world = World()

    def recompile(_: int) -> None:
        world.compiled += 1

    found = run(world, [Program(world, "a", 0.01, during=recompile), Program(world, "b", 0.001)], 1.0)
    assert found.variants[0].every_call
    assert found.variants[0].voided == 0
    assert statistics.median(found.variants[0].samples) == pytest.approx(0.01)
    assert not found.variants[1].every_call


def test_a_program_that_never_stops_compiling_now_and_then_still_gets_samples() -> None:
    world = World()

    def recompile(call: int) -> None:
        world.compiled += call > 60 and call % 10 != 0

    found = run(world, [Program(world, "a", 0.0001, during=recompile), Program(world, "b", 0.0001)], 0.5)
    assert found.variants[0].every_call
    assert found.variants[0].samples


@pytest.mark.parametrize("dying", [1, 50])
@pytest.mark.parametrize("which", ["a", "b", "c"])
@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit])
def test_a_failing_variant_is_dropped_and_the_others_go_on(which: str, dying: int, error: type[BaseException]) -> None:
    world = World()

    def die(call: int) -> None:
        if call == dying:
            raise error("by the user")

    def program(name: str) -> Program:
        return Program(world, name, 0.002, 0.001, die if name == which else None)

    found = run(world, [program(name) for name in "abc"], 2.0)
    failed = {variant.name: variant.failure for variant in found.variants}
    assert isinstance(failed.pop(which), error)
    assert set(failed.values()) == {None}
    assert found.baseline == ("b" if which == "a" else "a")
    assert [(ratio.variant, ratio.verdict) for ratio in found.ratios] == [("b" if which == "c" else "c", "same")]
    assert found.stopped == "decided"
    assert winner(found) is None
    assert gc.isenabled()


def test_when_all_variants_fail_that_is_said() -> None:
    def die(_: int) -> None:
        raise ValueError("no")

    world = World()
    found = run(world, [Program(world, "a", 0.1, during=die), Program(world, "b", 0.1, during=die)])
    assert (found.stopped, found.ratios, found.baseline, found.rounds) == ("failed", (), None, ())
    assert all(variant.time() is None for variant in found.variants)


@pytest.mark.parametrize("at", [1, 3, 40, 200])
def test_an_interrupt_propagates_after_exit(at: int) -> None:
    world = World()

    def interrupt(call: int) -> None:
        if call == at:
            raise KeyboardInterrupt

    program = Program(world, "a", 0.001, 0.02, interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(world, [program, Program(world, "b", 0.001)], 2.0, least=2.0)
    assert program.calls == at
    assert not program.entered
    assert not world.open
    assert gc.isenabled()


@pytest.mark.parametrize(("share", "least", "most"), [(0.2, 0.4, 0.99), (0.3, 0.6, 1.2), (0.8, 1.6, 2.0)])
def test_it_stops_when_decided_but_not_before_its_share_of_the_budget(share, least, most) -> None:
    world = World()
    programs = [Program(world, "a", 0.001, 0.01), Program(world, "b", 0.002, 0.01)]
    found = run(world, programs, 2.0, least=share)
    assert found.stopped == "decided"
    assert found.ratios[0].verdict == "slower"
    assert winner(found) == "a"
    assert least <= found.spent <= most


def test_long_calls_are_looked_at_as_soon_as_they_can_be_decided() -> None:
    world = World()
    found = run(world, [Program(world, "a", 0.05, 0.01), Program(world, "b", 0.1, 0.01)], 10.0, least=0.01)
    assert (found.stopped, found.ratios[0].verdict, found.ratios[0].rounds) == ("decided", "slower", 6)


def test_a_clear_difference_that_drifts_is_decided_all_the_same() -> None:
    world = World()

    def drift(_: int) -> None:
        world.now += 0.002 * world.now  # ever slower, so that no two parts of the run agree

    programs = [Program(world, "a", 0.001, 0.001), Program(world, "b", 0.003, 0.001, during=drift)]
    found = run(world, programs, 5.0)
    assert (found.stopped, found.ratios[0].verdict, found.ratios[0].repeatable) == ("decided", "slower", False)


def test_variants_that_may_be_close_make_the_same_number_of_calls() -> None:
    world = World()
    found = run(world, [Program(world, name, each, 0.01) for name, each in (("a", 3e-6), ("b", 5.9e-6), ("c", 2e-4))])
    assert [variant.calls_per_block for variant in found.variants] == [round(BLOCK / 3e-6)] * 2 + [1]


def test_where_one_starts_anew_in_every_call_so_do_all() -> None:
    world = World()
    anew, free = Program(world, "a", 1e-5, 0.01), Program(world, "b", 1e-5, 0.01)
    anew.most_calls = 1
    found = run(world, [anew, free])
    assert [variant.calls_per_block for variant in found.variants] == [1, 1]
    events = [what for what, name in world.log if name == "a" and what in ("enter", "again", "call")]
    assert all(before in ("enter", "again") for before, event in pairwise(events) if event == "call")
    assert events[-4:] == ["enter", "call", "again", "call"]  # the lead-in call is from the start state, too


def entries_a_call(world: World, *programs: Program) -> float:
    """Return how often such programs are entered for one call."""
    before = len(world.log)
    found = run(world, programs)
    assert all(variant.cores is not None and variant.samples for variant in found.variants)
    events = [what for what, _ in world.log[before:]]
    return events.count("enter") / events.count("call")


def test_where_nothing_has_to_be_put_back_blocks_follow_each_other() -> None:
    world = World()
    programs = [Program(world, name, 1e-4, 0.01) for name in "ab"]
    assert entries_a_call(world, *programs) > 0.3
    for program in programs:
        program.found = lambda: ("the same",)
    assert entries_a_call(world, *programs) < 0.05
    assert all(program.collecting == {False} for program in programs)


def test_where_one_would_find_what_another_one_put_there_they_do_not() -> None:
    world = World()
    a, b = (Program(world, name, 1e-4, 0.01) for name in "ab")
    a.found = lambda: (b.entered,)
    b.found = lambda: ()
    assert entries_a_call(world, a, b) > 0.3


def test_where_a_round_is_long_each_block_has_its_own_preparation() -> None:
    world = World()
    programs = [Program(world, name, 0.02, 0.01) for name in "ab"]
    for program in programs:
        program.found = lambda: ()
    assert entries_a_call(world, *programs) > 0.3


@pytest.mark.parametrize("collecting", [True, False])
def test_cycles_that_calls_leave_are_collected_unless_the_user_collects_none(collecting: bool) -> None:
    class Node:
        def __init__(self) -> None:
            self.own = self

    alive: weakref.WeakSet[Node] = weakref.WeakSet()
    most = 0

    def leave_a_cycle(_: int) -> None:
        nonlocal most
        alive.add(Node())
        most = max(most, len(alive))

    world = World()
    a, b = (Program(world, name, 1e-4, 0.01, leave_a_cycle) for name in "ab")
    a.found = b.found = lambda: ()
    if not collecting:
        gc.disable()
    try:
        run(world, [a, b], 0.5)
    finally:
        gc.enable()
    assert (most < 500) is collecting, most


def test_a_compilation_amid_blocks_that_follow_each_other_voids_all_that_ran_at_once() -> None:
    """Who compiled is not asked between them, so that nothing lies between two calls."""
    world = World()

    def compile_once(call: int) -> None:
        if call == 2000:
            world.compiled += 1
        if world.compiled and call < 2010:
            world.now += 0.1

    a, b = Program(world, "a", 1e-5, 0.01, compile_once), Program(world, "b", 1e-5, 0.01)
    a.found = b.found = lambda: ()
    found = run(world, [a, b], 3.0)
    assert max(found.variants[0].samples) < 2e-5
    assert a.calls > 2000
    assert [variant.voided > 0 for variant in found.variants] == [True, False]  # its block took that much longer


def test_nothing_is_asked_between_calls_that_follow_each_other() -> None:
    world = World()
    asked = 0

    def events() -> int:
        nonlocal asked
        asked += 1
        return 0

    a, b = (Program(world, name, 1e-5, 0.01) for name in "ab")
    a.found = b.found = lambda: ()
    harness = Harness(events, world.drain, world.window, world.clock)
    time_variants([Local(one.name, one, harness) for one in (a, b)], budget=1.0, seed=0, clock=world.clock)
    assert asked < 0.05 * a.calls


def test_a_program_that_fails_amid_blocks_that_follow_each_other_is_not_called_again() -> None:
    world = World()

    def fail(call: int) -> None:
        if call == 2000:
            raise ValueError("mine")

    a, b = Program(world, "a", 1e-5, 0.01, fail), Program(world, "b", 1e-5, 0.01)
    a.found = b.found = lambda: ()
    found = run(world, [a, b])
    assert (a.calls, str(found.variants[0].failure), found.variants[1].failure) == (2000, "mine", None)
    assert not a.entered
    assert not b.entered


def test_what_surrounds_a_block_is_charged_alike() -> None:
    world = World()

    def first_is_slow(_: int) -> None:
        if world.log[-2][0] == "enter":
            world.now += 1e-5

    a, b = Program(world, "a", 3.2e-4, 0.01, first_is_slow), Program(world, "b", 3.4e-4, 0.01, first_is_slow)
    (ratio,) = run(world, [a, b]).ratios
    assert ratio.median == pytest.approx(3.5e-4 / 3.3e-4, rel=0.002)


def test_one_variant_alone_stops_when_its_median_is_known_within_the_margin() -> None:
    for noise, stopped in ((0.005, "decided"), (0.2, "out of budget")):
        world = World()
        found = run(world, [Program(world, "a", 0.01, noise)], 1.0)
        assert found.stopped == stopped
        assert (found.ratios, winner(found), found.baseline) == ((), None, "a")


def test_the_fastest_is_compared_with_every_other() -> None:
    world = World()
    programs = [Program(world, name, each, 0.001) for name, each in (("a", 0.003), ("b", 0.002), ("c", 0.001))]
    found = run(world, programs, 1.0)
    assert {(ratio.variant, ratio.over) for ratio in found.ratios} == {("b", "a"), ("c", "a"), ("c", "b")}
    assert winner(found) == "c"
    assert run(world, programs, 1.0, baseline=1).baseline == "b"


def test_a_program_that_gets_quicker_and_quicker_is_not_called_warm() -> None:
    world = World()

    def quicken(_: int) -> None:
        program.seconds *= 0.98

    program = Program(world, "a", 0.05, during=quicken)
    steady = Program(world, "b", 0.001, 0.01)
    found = run(world, [program, steady], 2.0)
    assert [variant.warm for variant in found.variants] == [False, True]


@pytest.mark.parametrize(
    ("earlier", "later", "same"),
    [
        ([1.0, 1.1, 0.9], [1.04, 1.03, 1.0], True),
        ([1.0, 1.4, 0.7], [1.2, 1.3, 0.9], True),
        ([9.0, 5.0, 3.0], [2.0, 2.1, 2.2], False),
        ([1.0], [1.2], False),
        ([1.0], [1.0], True),
    ],
)
def test_windows_agree(earlier: list[float], later: list[float], same: bool) -> None:
    assert steady(earlier, later) is same
    assert steady(later, earlier) is same


def test_dispatch_and_waiting_are_told_apart_outside_of_the_samples() -> None:
    world = World()
    waiting = Program(world, "a", 0.0002, waiting=0.0008)
    found = run(world, [waiting, Program(world, "b", 0.001), Program(world, "c", 5.0, waiting=1.0)], 1.0)
    a, b, c = found.variants
    assert a.dispatch == pytest.approx(0.0002)
    assert a.wait == pytest.approx(0.0008)
    assert statistics.median(a.samples) == pytest.approx(0.001)
    assert (b.dispatch, b.wait) == (None, None)
    assert (c.dispatch, c.wait) == (None, None)


def test_a_long_program_takes_no_warm_up_from_a_short_one() -> None:
    for seed in range(4):
        world = World()
        found = run(world, [Program(world, "long", 10.0), Program(world, "short", 0.001, 0.01)], seed=seed)
        assert [variant.warm for variant in found.variants] == [False, True]
        assert found.spent <= 1.1 * 10.0


def test_progress_is_told_at_most_five_times_a_second_between_blocks() -> None:
    world = World()
    told: list[tuple[float, Progress]] = []

    def progress(one: Progress) -> None:
        assert not world.open
        told.append((world.now, one))

    programs = [Program(world, "a", 0.001, 0.01), Program(world, "b", 0.001, 0.01)]
    run(world, programs, 2.0, least=2.0, progress=progress)
    gaps = [b - a for (a, _), (b, _) in pairwise(told)]
    assert 6 <= len(told) <= 8
    assert min(gaps) >= 0.25
    shares = [one.share for _, one in told]
    assert shares == sorted(shares)
    assert 0 < shares[0] < 0.2
    assert 0.8 < shares[-1] <= 1
    medians = [statistics.median(variant.samples) for variant in told[-1][1].variants]
    assert medians == pytest.approx([0.001, 0.001], rel=0.05)
    assert told[-1][1].rounds > told[0][1].rounds


def test_a_clock_that_stands_still_gives_no_figure() -> None:
    world = World()
    found = run(world, [Program(world, "a", 0.0), Program(world, "b", 0.0)])
    assert found.stopped == "the clock stood still"
    assert (found.ratios, [variant.time() for variant in found.variants]) == ((), [None, None])


@pytest.mark.parametrize(
    ("jump", "stopped"), [(-1000.0, "the clock went back"), (-1e-3, "out of budget"), (1000.0, "decided")]
)
def test_a_clock_that_jumps_ends_the_run_and_spoils_one_sample_at_most(jump: float, stopped: str) -> None:
    world = World()

    def leap(call: int) -> None:
        world.now += jump * (call == 500)

    found = run(world, [Program(world, "a", 1e-3, 0.01, leap), Program(world, "b", 1e-3, 0.01)], 10.0, least=2.0)
    assert found.stopped == stopped
    for variant in found.variants:
        assert statistics.median(variant.samples) == pytest.approx(1e-3, rel=0.01)
        assert sum(abs(one / 1e-3 - 1) > 0.1 for one in variant.samples) <= 1


def test_twenty_variants_one_of_them_ten_thousand_times_as_slow() -> None:
    world = World()
    programs = [Program(world, f"v{i}", 2e-6 if i else 0.02, 0.01) for i in range(20)]
    found = run(world, programs, 5.0)
    slow, *quick = found.variants
    assert statistics.median(slow.samples) == pytest.approx(0.02, rel=0.02)
    for variant in quick:
        assert statistics.median(variant.samples) == pytest.approx(2e-6, rel=0.02)
    over_slow = [ratio for ratio in found.ratios if ratio.over == "v0"]
    assert {ratio.verdict for ratio in over_slow} == {"faster"}
    assert len(over_slow) == 19
    assert found.spent <= 5.5


def test_the_order_of_the_variants_gives_the_inverse_ratio() -> None:
    for names in (("a", "b"), ("b", "a")):
        world = World()
        seconds = {"a": 3e-4, "b": 4e-4}
        (ratio,) = run(world, [Program(world, name, seconds[name], 0.02) for name in names]).ratios
        assert ratio.low is not None
        assert ratio.high is not None
        assert ratio.low <= seconds[names[1]] / seconds[names[0]] <= ratio.high


def test_the_time_in_a_tight_loop_is_kept_apart_from_that_in_turns() -> None:
    world = World()

    def slow_after_a_pause(_: int) -> None:
        world.now += 1e-4 if world.log[-2][0] == "enter" else 0.0

    found = run(world, [Program(world, name, 3e-4, 0.01, slow_after_a_pause) for name in "ab"])
    for variant in found.variants:
        time = variant.time()
        assert time is not None
        assert time.median == pytest.approx(4e-4, rel=0.01)
        assert time.alone == pytest.approx(3e-4 + 1e-4 / 3, rel=0.02)  # three calls fill a loop


def test_the_time_of_a_report_has_an_interval_and_the_cores_used() -> None:
    world = World()
    found = run(world, [Program(world, "a", 0.001, 0.01)], 0.5)
    time = found.variants[0].time()
    assert time is not None
    assert time.low is not None
    assert time.high is not None
    assert time.low <= time.median <= time.high
    assert time.samples == found.variants[0].samples
    assert time.cores is not None
    assert time.warm


@pytest.mark.parametrize(("names", "budget"), [("", 1.0), ("a", 0.0), ("aa", 1.0)])
def test_nothing_to_time_is_refused(names: str, budget: float) -> None:
    world = World()
    with pytest.raises(ValueError, match="expected"):
        run(world, [Program(world, name, 0.1) for name in names], budget)


class Real:
    """A program of a framework on the machine's own clock."""

    def __init__(
        self, name: str, call: Callable[..., Any], *args: object, wait: Callable[[Any], Any] | None = None
    ) -> None:
        self.name, self.call, self.args, self.wait = name, call, args, wait
        self.most_calls: int | None = None
        self.lead_in = False

    def enter(self) -> None: ...

    def exit(self) -> None: ...

    def again(self) -> None: ...

    def finds(self) -> tuple[()]:
        return ()


def test_torch_and_jax_programs() -> None:
    import jax
    import jax.numpy as jnp
    import torch

    framework = frameworks.get("jax")
    small, large = torch.ones(8, 8), torch.ones(400, 400)
    square = jax.jit(lambda x: x @ x)
    programs = [
        Real("small", torch.matmul, small, small),
        Real("large", torch.matmul, large, large),
        Real("jax", square, jnp.ones((8, 8)), wait=jax.block_until_ready),
        Real("recompiles", lambda x: jax.jit(lambda y: y + 1)(x), jnp.ones(3), wait=jax.block_until_ready),
    ]
    harness = Harness(framework.compile_events, framework.drain, nullcontext)
    found = time_variants([Local(one.name, one, harness) for one in programs], budget=2.0, seed=0)
    small_, large_, jitted, recompiles = found.variants
    assert [variant.failure for variant in found.variants] == [None] * 4
    assert [variant.every_call for variant in found.variants] == [False, False, False, True]
    assert found.ratios[0].median > 1
    assert statistics.median(small_.samples) < statistics.median(large_.samples)
    assert jitted.dispatch is not None
    assert jitted.wait is not None
    assert large_.cores is not None
    assert large_.cores > 0
    assert recompiles.samples


@pytest.mark.parametrize(("seconds", "least"), [(1e-4, 12), (1e-3, 9)])
def test_short_calls_of_two_frameworks_are_decided_on_more_turns(seconds: float, least: int) -> None:
    world = World()
    programs = [Program(world, "a", seconds, 0.01), Program(world, "b", 2 * seconds, 0.01)]
    harness = Harness(lambda: world.compiled, world.drain, world.window, world.clock)
    apart = [Local(program.name, program, harness, pool=program.name) for program in programs]
    found = time_variants(apart, budget=5.0, seed=0, least=0.01, clock=world.clock)
    assert (found.stopped, found.ratios[0].verdict) == ("decided", "slower")
    assert least <= found.ratios[0].rounds < least + 3


class Spinning(Program):
    """A program whose calls take twice as long while the threads of another pool still spin, for 4 ms after a call."""

    last: ClassVar[dict[str, float]] = {}

    def __init__(self, world: World, name: str, seconds: float) -> None:
        super().__init__(world, name, seconds)
        self.alone = seconds

    def enter(self) -> None:
        super().enter()
        others = [then for name, then in self.last.items() if name != self.name]
        self.seconds = self.alone * (2 if any(self.world.now - then < 4e-3 for then in others) else 1)

    def exit(self) -> None:
        super().exit()
        self.last[self.name] = self.world.now


def test_frameworks_have_turns_in_which_the_threads_of_the_other_one_are_at_rest() -> None:
    world = World()
    Spinning.last.clear()
    programs = [Spinning(world, "a", 1e-3), Spinning(world, "b", 0.9e-3)]
    harness = Harness(lambda: world.compiled, world.drain, world.window, world.clock)
    apart = [Local(program.name, program, harness, pool=program.name) for program in programs]
    found = time_variants(apart, budget=1.0, seed=0, clock=world.clock)
    assert [variant.time().median for variant in found.variants] == pytest.approx([1e-3, 0.9e-3], rel=1e-6)
    assert found.ratios[0].verdict == "faster"
    together = time_variants([Local(one.name, one, harness) for one in programs], budget=1.0, seed=0, clock=world.clock)
    assert together.variants[0].time().median > 1.5e-3  # so that the turns are what made the difference


def test_variants_of_one_framework_are_compared_within_its_turns() -> None:
    world = World()
    programs = [Program(world, name, seconds, 0.02) for name, seconds in (("a", 1e-3), ("b", 1.05e-3), ("c", 2e-3))]
    harness = Harness(lambda: world.compiled, world.drain, world.window, world.clock)
    pools = ["one", "one", "other"]
    found = time_variants(
        [Local(program.name, program, harness, pool=pool) for program, pool in zip(programs, pools, strict=True)],
        budget=1.0,
        seed=0,
        clock=world.clock,
    )
    within, across = found.ratios[:2]
    assert (within.variant, across.variant) == ("b", "c")
    assert within.rounds > 5 * across.rounds
    assert (within.median, across.median) == (pytest.approx(1.05, rel=0.01), pytest.approx(2.0, rel=0.02))
    assert len(found.variants[0].samples) == across.rounds  # a time is of the turns, as the ratio to another framework


def test_many_pools_have_turns_enough_for_an_interval() -> None:
    world = World()
    programs = [Program(world, f"v{i}", 1e-4, 0.01) for i in range(12)]
    harness = Harness(lambda: world.compiled, world.drain, world.window, world.clock)
    found = time_variants(
        [Local(one.name, one, harness, pool=one.name) for one in programs], budget=2.0, seed=0, clock=world.clock
    )
    assert all(ratio.interval is not None for ratio in found.ratios)


def test_short_calls_are_made_twice_at_least_and_longer_ones_once() -> None:
    for seconds, calls in ((2e-5, 2), (2e-4, 1)):
        world = World()
        found = run(world, [Program(world, name, seconds, 0.01) for name in "ab"])
        assert [variant.calls_per_block for variant in found.variants] == [calls] * 2
