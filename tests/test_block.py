"""Blocks of one variant on a real clock; the engine's order of blocks is in test_timing."""

from __future__ import annotations

import gc
import threading
import time
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from fwmagic.measure.bench import LONG, Bench
from fwmagic.measure.calls import Block, Harness, Local


class Program:
    """A program that counts its calls and says what it was called with."""

    name, most_calls, lead_in = "p", None, False

    def __init__(self, work=lambda: None, wait=None, args=(1, 2)):
        self.args, self.wait, self.calls, self.state = args, wait, [], []
        self._work = work

    def call(self, *args):
        self.calls.append(args)
        self._work()
        return f"output {len(self.calls)}"

    def enter(self):
        self.state.append("enter")

    def exit(self):
        self.state.append("exit")

    def again(self):
        self.state.append("again")

    def finds(self):
        return ()


@pytest.fixture
def world():
    return SimpleNamespace(events=0, now=0.0, drained=0)


def bench(world, program):
    def drain():
        world.drained += 1

    harness = Harness(lambda: world.events, drain, nullcontext, lambda: world.now)
    return Bench(Local(program.name, program, harness))


def taking(world, seconds):
    def work():
        world.now += seconds

    return work


def test_a_block_is_so_many_calls_with_the_arguments(world):
    program = Program(taking(world, 0.5))
    block = bench(world, program).block(3)
    assert program.calls == [(1, 2)] * 3
    assert program.state == ["enter", "exit"]
    assert (block.seconds, block.calls, block.each, block.compiled) == (1.5, 3, 0.5, False)
    assert world.drained == 1


def test_the_outputs_of_every_call_are_waited_for(world):
    waited = []

    def wait(output):
        waited.append(output)
        world.now += 0.25

    found = bench(world, Program(taking(world, 0.5), wait)).block(2)
    assert waited == ["output 1", "output 2"]
    assert found.each == 0.75


def test_dispatch_and_waiting_are_told_apart(world):
    def wait(_):
        world.now += 0.25

    tried = bench(world, Program(taking(world, 0.5), wait))
    tried.split(3)
    assert (tried.dispatch, tried.wait) == (0.5, 0.25)
    program = Program(taking(world, 0.5))
    without = bench(world, program)
    without.split(3)
    assert (without.dispatch, without.wait, program.calls) == (None, None, [])


def test_a_clock_that_does_not_move_gives_no_zero(world):
    assert bench(world, Program()).block(1).seconds > 0


@pytest.mark.parametrize(
    ("each", "most", "calls"),
    [(1e-5, None, 100), (1.0, None, 1), (1e-5, 7, 7), (0.0, None, 1), (1e-9, None, 1), (2e-9, None, 100_000)],
)
def test_how_many_calls_fill_a_millisecond(world, each, most, calls):
    program = Program()
    program.most_calls = most
    tried = bench(world, program)
    tried.each = each
    assert tried.fill(1e-3) == calls


def test_a_lead_in_call_is_not_part_of_the_block(world):
    for wanted, seconds, calls in [(True, 0.1, 3), (False, 0.1, 2), (True, 0.3, 2)]:
        program = Program(taking(world, seconds))
        tried = bench(world, program)
        tried.each, tried.lead_in = seconds, wanted
        assert tried.block(2).seconds == pytest.approx(2 * seconds)
        assert len(program.calls) == calls


def test_before_a_call_from_the_start_state_comes_one_from_there_too(world):
    program = Program(taking(world, 1e-5))
    program.most_calls = 1
    tried = bench(world, program)
    tried.each, tried.lead_in = 1e-5, True
    assert tried.block(1).seconds == pytest.approx(1e-5)
    assert (len(program.calls), program.state) == (2, ["enter", "again", "exit"])


def test_a_short_call_is_made_twice_before_the_clock(world):
    program = Program(taking(world, 1e-4))
    tried = bench(world, program)
    tried.each, tried.lead_in = 1e-4, True
    assert tried.block(2).seconds == pytest.approx(2e-4)
    assert len(program.calls) == 4


def test_rest_waits_for_threads_that_keep_a_core_busy(world):
    until = time.perf_counter() + 0.06

    def spins():
        while time.perf_counter() < until:
            pass

    thread = threading.Thread(target=spins)
    thread.start()
    bench(world, Program()).rest()
    assert time.perf_counter() >= until
    thread.join()


def test_what_the_program_raises_ends_it_and_everything_is_left(world):
    def fails():
        raise ValueError("mine")

    program = Program(fails)
    tried = bench(world, program)
    assert tried.block(1) is None
    assert str(tried.failure) == "mine"
    assert program.state == ["enter", "exit"]
    assert gc.isenabled()


def test_a_block_with_a_compilation_is_void_until_it_is_clear_that_all_are(world):
    tried = bench(world, Program())
    compiled, clean = Block(1.0, 1.0, 1, True), Block(1.0, 1.0, 1, False)
    in_turn = (compiled, compiled, clean, compiled, compiled)
    assert [tried.sample(b) for b in in_turn] == [None, None, 1.0, None, None]
    assert not tried.every_call
    assert [tried.sample(b) for b in (compiled, compiled)] == [None, 1.0]
    assert (tried.every_call, tried.voided) == (True, 5)
    assert (tried.calls, tried.seconds, tried.cpu) == (2, 2.0, 2.0)


class TestSettling:
    def compiling(self, world, times, seconds=0.01):
        calls = iter(range(99))

        def work():
            world.now += seconds
            world.events += next(calls) < times

        program = Program(work)
        return bench(world, program), program

    @pytest.mark.parametrize(("times", "calls"), [(0, 1), (1, 2), (2, 3)])
    def test_until_a_call_compiles_nothing(self, world, times, calls):
        tried, program = self.compiling(world, times)
        assert not tried.settle().compiled
        assert (len(program.calls), tried.every_call) == (calls, False)

    def test_one_that_always_compiles(self, world):
        tried, program = self.compiling(world, 99)
        assert tried.settle().compiled
        assert (len(program.calls), tried.every_call) == (3, True)

    def test_a_long_one_is_not_called_a_third_time(self, world):
        tried, program = self.compiling(world, 99, 2 * LONG)
        tried.settle()
        assert (len(program.calls), tried.every_call) == (2, True)

    def test_one_that_raises(self, world):
        def fails():
            raise ValueError

        tried = bench(world, Program(fails))
        assert tried.settle() is None
        tried.warm_up(1.0, lambda: world.now)
        assert (tried.only, tried.warm) == (None, False)

    def test_one_that_raises_after_a_while(self, world):
        calls = iter(range(3))

        def fails():
            world.now += 0.01
            next(calls)

        tried = bench(world, Program(fails))
        tried.warm_up(10.0, lambda: world.now)
        assert isinstance(tried.failure, StopIteration)
        assert not tried.warm

    def test_without_time_for_windows_the_only_call_may_be_a_sample(self, world):
        tried = bench(world, Program(taking(world, 1.0)))
        tried.warm_up(1.5, lambda: world.now)
        assert tried.only.seconds == 1.0
        assert not tried.warm

    def test_it_is_warm_when_two_windows_agree(self, world):
        tried = bench(world, Program(taking(world, 0.01)))
        tried.warm_up(10.0, lambda: world.now)
        assert tried.warm
        assert tried.only is None


def test_the_processs_own_seconds_are_counted_too(world):
    def busy():
        end = time.process_time() + 0.01
        while time.process_time() < end:
            pass

    assert bench(world, Program(busy)).block(1).cpu >= 0.01
