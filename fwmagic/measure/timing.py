"""The engine that times variants against each other: warm-up, rounds in random order, looks, and a budget."""

from __future__ import annotations

import gc
import operator
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from fwmagic.measure import stats
from fwmagic.measure.bench import LEAD_IN, Bench
from fwmagic.measure.calls import Block, Calls
from fwmagic.measure.rounds import Rounds
from fwmagic.report import Ratio, Time

_WARM_UP = 0.3
_SPLIT = 0.05
_SPLIT_CALLS = 25
_TELL = 0.25
#: Nothing is decided before this share of the budget is used: what a machine does for a moment is not what it does.
LEAST = 0.2
# Nor before so many seconds, or that share of a small budget.
_LEAST_SECONDS, _LEAST_OF_SMALL = 0.45, 0.45
_LOOK = 1.5  # the next look at the data is at so many times the seconds of the last one

#: Seconds that a block should take. What disturbs a machine lasts longer, so that it meets all variants of a round; and
#: a block is long against the clock, and what reading it costs.
BLOCK = 1e-5
# A variant without others shares its bursts with nobody: its blocks take so many seconds, which makes a tight loop of
# short calls, the loop that a user would write.
_LOOP = 1e-3
# A call that is shorter than this many seconds is made twice at least: alone, right after that of another variant, it
# takes one of two times by chance, and the median of such ratios is less sure.
_TWICE = 5e-5
# A thread that has to be woken takes about so many seconds to come: calls that are shorter get a lead-in call.
_WAKING = 2e-4
# Variants on the threads of different pools have longer turns, so that each has the machine to itself, as in a program
# of its own: the threads of a pool keep their cores busy for some milliseconds after a call, and those of another one
# take some to come. For so many seconds of a turn nothing counts, and so long it lasts then.
_SETTLED = 5e-3
_TURN = 2e-2
_TURNS = 16
# Between pools nothing is decided before so many rounds, of which the extremes bound a median at 99.5 %: with six, a
# burst may have met most of them. Calls of less than so many seconds may keep to another time for some turns, by
# whether threads sleep or not: these get more rounds.
_LEAST_TURNS, _MOVING, _LEAST_TURNS_MOVING = 9, 5e-4, 12
# So many seconds of rounds run in one go, before anybody is told. Where nothing has to be put back, the blocks of
# rounds that are shorter than this follow each other at once.
_STRETCH = 0.1
# So many seconds of them are run before anything is done about them.
_AT_ONCE = 5e-3
# Then blocks of so many seconds tell how much of the machine a variant uses; they may take this share of the time.
_LOOK_AT_USE, _USE = 1e-3, 0.05
# A clock that has not moved for so many rounds does not move.
_STILL = 1000
# Variants that are further apart than so many times need not make the same number of calls: no bias is as large.
_APART = 20


@dataclass(frozen=True)
class Progress:
    """How far the engine is: share of the budget used, 0 to 1, and what was found out about each variant so far."""

    share: float
    warming: bool
    rounds: int
    variants: tuple[Timing, ...]


@dataclass(frozen=True)
class Timing:
    """What was found out about one variant; seconds are per call.

    `samples` has one value a block that counts, or a turn, `calls` their calls together. `every_call`: it compiles on
    every call. `failure` is what it raised; it was not timed any further.
    """

    name: str
    samples: tuple[float, ...]
    calls_per_block: int
    calls: int
    dispatch: float | None
    wait: float | None
    alone: float | None
    cores: float | None
    page_faults: float | None
    warm: bool
    voided: int
    every_call: bool
    failure: BaseException | None

    def time(self) -> Time | None:
        """Return the numbers as they stand in a report; None if there is no sample."""
        if not self.samples:
            return None
        median, low, high = stats.interval(self.samples)
        return Time(
            samples=self.samples,
            median=median,
            low=low,
            high=high,
            calls_per_block=self.calls_per_block,
            calls=self.calls,
            dispatch=self.dispatch,
            wait=self.wait,
            alone=self.alone,
            cores=self.cores,
            page_faults=self.page_faults,
            warm=self.warm,
            voided=self.voided,
        )


@dataclass(frozen=True)
class Measurement:
    """Everything that `time_variants` found out.

    `rounds` has one row a round with one value a variant (None: failed, or void). `stopped` is decided, out of
    budget, failed (no variant is left), or what the clock did. `baseline` names the variant that the ratios are over:
    the first one that works if the one asked for failed.
    """

    variants: tuple[Timing, ...]
    rounds: tuple[tuple[float | None, ...], ...]
    ratios: tuple[Ratio, ...]
    baseline: str | None
    spent: float
    stopped: str


def time_variants(
    programs: Sequence[Calls],
    *,
    budget: float,
    seed: int,
    least: float = LEAST,
    length: float = BLOCK,
    surroundings: Callable[[], AbstractContextManager[Any]] = nullcontext,
    margin: float = stats.MARGIN,
    baseline: int = 0,
    progress: Callable[[Progress], None] | None = None,
    partial: Callable[[Measurement], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Measurement:
    """Time programs against each other, within `budget` wall seconds for warm-up and rounds of all of them.

    Every program is called at least once. The order within a round is random, from `seed`. `least` is the share of
    the budget before which nothing is decided, `length` the seconds that a block should take, `surroundings` what many
    blocks together run in. `progress` is called outside of that, at most four times a second. An exception of a
    program drops that program; KeyboardInterrupt propagates, after `partial` was called with what was
    measured until then.

    Raises
    ------
    ValueError
        There is nothing to time, the budget is not positive, or two programs have the same name.
    """
    names = [program.name for program in programs]
    if not programs or budget <= 0 or len(set(names)) < len(names):
        raise ValueError(f"programs with different names and a positive budget were expected, not {names}, {budget}")
    engine = _Engine(
        [Bench(program) for program in programs],
        Rounds(names, baseline, margin),
        budget,
        max(least * budget, min(_LEAST_SECONDS, _LEAST_OF_SMALL * budget)),
        length,
        surroundings,
        random.Random(seed),
        progress,
        clock,
    )
    try:
        engine.warm_up()
        return engine.measurement(engine.run_rounds())
    except KeyboardInterrupt:
        if partial is not None:
            partial(engine.measurement("interrupted"))
        raise


class _Engine:
    """One run of `time_variants`."""

    def __init__(
        self,
        benches: Sequence[Bench],
        rounds: Rounds,
        budget: float,
        least: float,
        length: float,
        surroundings: Callable[[], AbstractContextManager[Any]],
        rng: random.Random,
        progress: Callable[[Progress], None] | None,
        clock: Callable[[], float],
    ) -> None:
        self._benches = benches
        self._rounds = rounds
        self._budget = budget
        self._least = least
        self._length = length
        self._surroundings = surroundings
        self._rng = rng
        self._progress = progress
        self._clock = clock
        self._several = len({bench.pool for bench in benches}) > 1
        self._rows: dict[str, bool] = {}
        self._collects = False
        self._start = self._told = clock()
        self._look = 0.0

    def warm_up(self) -> None:
        """Warm every variant up, each with its share of the time for that; then split dispatch and waiting."""
        share = _WARM_UP * self._budget / len(self._benches)
        for turn, bench in enumerate(self._shuffled(), start=1):
            # What one leaves over is for the next; what a single long call took too much is not taken from it.
            deadline = max(self._start + turn * share, self._clock() + share)
            with self._surroundings():
                bench.warm_up(deadline, self._clock)
                if bench.only is None and bench.failure is None:
                    bench.split(self._split_calls(bench))
                if self._several:
                    bench.rest()
            self._tell(warming=True)

    def run_rounds(self) -> str:
        """Run rounds until all is decided, the next one would pass the budget, or nothing is left; say which."""
        self._put_on_equal_footing()
        self._look = self._least
        stopped = ""
        while not stopped:
            with self._surroundings():
                stopped = self._stretch()
            self._tell(warming=False)
        return stopped

    def _stretch(self) -> str:
        """Run rounds for a while; return why they have to stop, or an empty string."""
        if self._several:
            return self._until_told(self._round_of_turns)
        with self._in_a_row(self._shuffled()) as at_once:
            return self._until_told(lambda: self._rounds_of_blocks(at_once))

    def _until_told(self, rounds: Callable[[], float]) -> str:
        """Run `rounds`, which returns the seconds that they take, for a while; return why they have to stop."""
        begun, still = self._clock(), 0
        spent = self._spent()
        took: list[float] = []
        while self._alive():
            took = [*took[-2:], rounds()]
            before, spent = spent, self._spent()
            still = still + 1 if spent == before else 0
            if spent < before:
                return "the clock went back"
            if still > _STILL:
                self._rounds.clear()  # nothing was measured, and no figure is better than one that is made up
                return "the clock stood still"
            # With fewer rounds nothing can be decided, and it would be long until the next look.
            if spent >= self._look and len(self._rounds) >= self._enough():
                self._look = _LOOK * spent
                if self._rounds.decided(self._alive()):
                    return "decided"
            # The quickest of the last three: one disturbed round is no reason to stop early.
            if spent + min(took) > self._budget:
                return "out of budget"
            if self._clock() - begun > _STRETCH:
                return ""
        return "failed"

    def _enough(self) -> int:
        """Return the least number of rounds that decide anything."""
        if not self._several:
            return stats.LEAST_BATCHES
        moving = any(bench.each < _MOVING for bench in self._benches if bench.failure is None)
        return _LEAST_TURNS_MOVING if moving else _LEAST_TURNS

    def measurement(self, stopped: str) -> Measurement:
        """Return all that was found out."""
        spent = self._spent()
        alive = self._alive()
        return Measurement(
            variants=self._timings(),
            rounds=self._rounds.rows,
            ratios=self._rounds.ratios(alive),
            baseline=self._rounds.baseline(alive),
            spent=spent,
            stopped=stopped,
        )

    def _put_on_equal_footing(self) -> None:
        """Give all variants that may be close to each other blocks of as many calls, and with or without a lead-in.

        What surrounds the calls of a block, and is charged to the first of them, weighs the same for all of them then.
        """
        alive = [bench for bench in self._benches if bench.failure is None]
        if not alive:
            return
        quickest = min(alive, key=lambda bench: bench.each)
        most = min(bench.most_calls for bench in alive)
        near = [bench for bench in alive if bench.each <= _APART * quickest.each]
        length = max(self._length, _LOOP) if len(self._benches) == 1 else self._length
        calls = min(most, max(quickest.fill(length), 2 if quickest.each < _TWICE else 1))
        lead_in = quickest.each < _WAKING or any(bench.lead_in for bench in near)
        for bench in alive:
            bench.per_block = calls if bench in near else min(most, bench.fill(self._length))
            bench.lead_in |= lead_in and bench in near

    def _rounds_of_blocks(self, count: int) -> float:
        """Run rounds of one block of every variant; return the wall seconds that they take."""
        begun = self._clock()
        alive = self._shuffled()
        for row in self._blocks(alive, count):
            self._rounds.add([row.get(bench) for bench in self._benches])
        # A sample may be the only call that was made, before this round.
        return max(self._clock() - begun, sum(bench.each * bench.per_block for bench in alive))

    def _round_of_turns(self) -> float:
        """Run a round of turns, one for each pool of threads; return the wall seconds that it takes."""
        begun = self._clock()
        alive = self._shuffled()
        pools = dict.fromkeys(bench.pool for bench in alive)
        # Turns are short where the budget has few of them: an interval needs six.
        turn = min(_TURN, self._budget / (_TURNS * len(pools)) - _SETTLED)
        row = {bench: sample for pool in pools for bench, sample in self._turn(pool, turn).items()}
        self._rounds.add([row.get(bench) for bench in self._benches])
        return max(self._clock() - begun, sum(bench.each * bench.per_block for bench in alive))

    def _turn(self, pool: str, seconds: float) -> dict[Bench, float | None]:
        """Give the variants of one pool the machine for a while, and return the median of each one's blocks.

        Two of them are compared within the turn, block by block.
        """
        found: dict[Bench, list[float]] = {bench: [] for bench in self._shuffled() if bench.pool == pool}
        with self._in_a_row([*found]) as at_once:
            ended = self._blocks_of_turn(found, seconds, at_once)
        if ended:
            next(iter(found)).rest()
        return {bench: statistics.median(samples) if samples else None for bench, samples in found.items()}

    def _blocks_of_turn(self, found: dict[Bench, list[float]], seconds: float, at_once: int) -> bool:
        """Run blocks, and put those that count into `found`; return False if the budget was used up before the end."""
        begun, settled = self._clock(), False
        while not settled or self._clock() - begun < _SETTLED + seconds:
            if not settled and (self._clock() - begun >= _SETTLED or any(b.each > _SETTLED + _TURN for b in found)):
                settled = True
                for samples in found.values():
                    samples.clear()
            for row in self._blocks([bench for bench in self._shuffled() if bench in found], at_once):
                for bench, sample in row.items():
                    if sample is not None:
                        found[bench].append(sample)
                if settled and len(row) > 1:
                    self._rounds.add_within([row.get(bench) for bench in self._benches])
            if self._spent() > self._budget:
                return False
        return True

    def _blocks(self, benches: Sequence[Bench], rounds: int) -> list[dict[Bench, float | None]]:
        """Run rounds of a block of each variant, and return the seconds per call of each.

        A block is None if it is void (then the variant warms up again) or has failed. What is to be done about a block
        is done after all of them: between any two of them passes the same time.
        """
        orders = [self._rng.sample(benches, len(benches)) for _ in range(rounds)]
        found = self._row(orders) if rounds > 1 else None
        if found is None:
            found = [[(bench, self._block(bench)) for bench in order] for order in orders]
        rows = [{bench: bench.sample(block) for bench, block in row} for row in found]
        for bench in benches:
            if any(row[bench] is None for row in rows) and bench.failure is None:
                bench.settle()
        # Cycles that calls leave may hold large arrays: they go as often as Python itself would take them away.
        if self._collects and gc.get_count()[0] > gc.get_threshold()[0]:
            gc.collect(0)
        return rows

    def _row(self, orders: Sequence[Sequence[Bench]]) -> list[list[tuple[Bench, Block | None]]] | None:
        """Run blocks with nothing between them; None if something was compiled meanwhile, by one of those in the row.

        Nobody has looked in between: it counts for the block that took the longest, beyond what its calls took before.
        """
        with orders[0][0].row() as compiled:
            took = [[bench.next_block() for bench in order] for order in orders]
            is_void = compiled()
        found = [
            [
                (bench, None if seconds is None else Block(seconds, None, bench.per_block, compiled=False))
                for bench, seconds in zip(order, row, strict=True)
            ]
            for order, row in zip(orders, took, strict=True)
        ]
        if not is_void:
            return found
        beyond = [(block.seconds - block.calls * bench.each, bench) for row in found for bench, block in row if block]
        if beyond:
            max(beyond, key=operator.itemgetter(0))[1].voided += 1
        return None

    def _block(self, bench: Bench) -> Block | None:
        block, bench.only = bench.only, None
        if block is None or (block.each < LEAD_IN and self._spent() + block.each <= self._budget):
            block = bench.block(bench.per_block)
        return block

    @contextmanager
    def _in_a_row(self, benches: Sequence[Bench]) -> Iterator[int]:
        """Let the blocks of these variants follow each other at once, where that is possible and matters.

        They then share the bursts of the machine, and no thread falls asleep that the next call has to wake again.
        Gives the number of rounds that may be run before anything is done about them.
        """
        seconds = sum(bench.each * bench.per_block for bench in benches)
        anew = any(bench.most_calls == 1 for bench in benches)
        if not benches or seconds > _STRETCH or anew or not self._need_nothing_between(benches):
            yield 1
            return
        for bench in benches:
            if bench.seconds <= _USE * self._spent() / len(self._benches):
                bench.look(_LOOK_AT_USE)
        with ExitStack() as held:
            self._collects = gc.isenabled()
            held.callback(setattr, self, "_collects", False)
            for bench in benches:
                held.enter_context(bench.held())
            at_once = int(_AT_ONCE / seconds)
            if at_once > 1:
                for bench in benches:
                    bench.block(bench.per_block)  # not timed: it wakes the threads
            yield max(1, at_once)

    def _need_nothing_between(self, benches: Sequence[Bench]) -> bool:
        """Say whether none has anything to put back, and all find the same when they are entered together."""
        pool = benches[0].pool
        if pool not in self._rows:
            alone = [bench.finds() for bench in benches]
            with ExitStack() as held:
                for bench in benches:
                    held.enter_context(bench.held())
                together = [bench.finds() for bench in benches]
            self._rows[pool] = all(
                one is not None and other is not None and all(map(operator.is_, one, other))
                for one, other in zip(alone, together, strict=True)
            )
        return self._rows[pool]

    def _split_calls(self, bench: Bench) -> int:
        seconds = _SPLIT * self._budget
        if bench.each <= 0:
            return _SPLIT_CALLS
        # each variant has its share of these seconds, but a single call may take all of them
        return min(_SPLIT_CALLS, max(int(seconds / len(self._benches) / bench.each), int(seconds >= bench.each)))

    def _shuffled(self) -> list[Bench]:
        alive = [bench for bench in self._benches if bench.failure is None]
        return self._rng.sample(alive, len(alive))

    def _alive(self) -> list[int]:
        return [i for i, bench in enumerate(self._benches) if bench.failure is None]

    def _spent(self) -> float:
        return self._clock() - self._start

    def _tell(self, warming: bool) -> None:
        now = self._clock()
        if self._progress is None or now - self._told < _TELL:
            return
        self._told = now
        share = min(1.0, (now - self._start) / self._budget)
        self._progress(Progress(share, warming, len(self._rounds), self._timings()))

    def _timings(self) -> tuple[Timing, ...]:
        return tuple(self._timing(place, bench) for place, bench in enumerate(self._benches))

    def _timing(self, place: int, bench: Bench) -> Timing:
        samples = self._rounds.samples(place)
        return Timing(
            name=bench.name,
            samples=samples,
            calls_per_block=bench.per_block,
            calls=bench.calls,
            dispatch=bench.dispatch,
            wait=bench.wait,
            alone=bench.alone,
            cores=bench.cpu / bench.seconds if bench.seconds > 0 else None,
            page_faults=bench.page_faults / bench.looked_at if bench.looked_at else None,
            warm=bench.warm,
            voided=bench.voided,
            every_call=bench.every_call,
            failure=bench.failure,
        )
