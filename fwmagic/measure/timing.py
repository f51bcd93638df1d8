"""The engine that times variants against each other: warm-up, rounds in random order, looks, and a budget."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from fwmagic.measure import stats
from fwmagic.measure.bench import LEAD_IN, Bench
from fwmagic.measure.calls import Calls
from fwmagic.measure.rounds import Rounds
from fwmagic.report import Ratio, Time

_WARM_UP = 0.3
_SPLIT = 0.05
_SPLIT_CALLS = 25
_TELL = 0.25
#: Nothing is decided before this share of the budget is used: what a machine does for a moment is not what it does.
LEAST = 0.3
_LOOK = 1.5  # the next look at the data is at so many times the seconds of the last one

#: Seconds that a block should take. What disturbs a machine lasts longer, so that it meets all variants of a round; and
#: a block is long against the clock, and what reading it costs.
BLOCK = 2e-5
# A thread that has to be woken takes about so many seconds to come: calls that are shorter get a lead-in call.
_WAKING = 2e-4
# Variants on the threads of different pools have longer turns, so that each has the machine to itself, as in a program
# of its own: the threads of a pool keep their cores busy for some milliseconds after a call, and those of another one
# take some to come. For so many seconds of a turn nothing counts, and so long it lasts then.
_SETTLED = 5e-3
_TURN = 2e-2
_TURNS = 16
# So many seconds of rounds run in one go, before anybody is told.
_STRETCH = 0.05
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
    failure: Exception | None

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
    program drops that program; KeyboardInterrupt and the like propagate, after `partial` was called with what was
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
        least * budget,
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
        begun, still = self._clock(), 0
        spent = self._spent()
        took: list[float] = []
        while self._alive():
            took = [*took[-2:], self._round()]
            before, spent = spent, self._spent()
            still = still + 1 if spent == before else 0
            if spent < before:
                return "the clock went back"
            if still > _STILL:
                self._rounds.clear()  # nothing was measured, and no figure is better than one that is made up
                return "the clock stood still"
            if spent >= self._look:
                self._look = _LOOK * spent
                if self._rounds.decided(self._alive()):
                    return "decided"
            # The quickest of the last three: one disturbed round is no reason to stop early.
            if spent + min(took) > self._budget:
                return "out of budget"
            if self._clock() - begun > _STRETCH:
                return ""
        return "failed"

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
        calls = min(most, quickest.fill(self._length))
        # A call that has to start from the start state cannot have one before it.
        lead_in = most > 1 and (quickest.each < _WAKING or any(bench.lead_in for bench in near))
        for bench in alive:
            bench.per_block = calls if bench in near else min(most, bench.fill(self._length))
            bench.lead_in |= lead_in and bench in near

    def _round(self) -> float:
        """Run one block of every variant in random order; return the wall seconds that such a round takes."""
        begun = self._clock()
        alive = self._shuffled()
        if self._several:
            pools = dict.fromkeys(bench.pool for bench in alive)
            # Turns are short where the budget has few of them: an interval needs six.
            turn = min(_TURN, self._budget / (_TURNS * len(pools)) - _SETTLED)
            row = {bench: sample for pool in pools for bench, sample in self._turn(pool, turn).items()}
        else:
            row = {bench: self._sample(bench) for bench in alive}
        self._rounds.add([row.get(bench) for bench in self._benches])
        # A sample may be the only call that was made, before this round.
        return max(self._clock() - begun, sum(bench.each * bench.per_block for bench in alive))

    def _turn(self, pool: str, seconds: float) -> dict[Bench, float | None]:
        """Give the variants of one pool the machine for a while, and return the median of each one's blocks."""
        found: dict[Bench, list[float]] = {bench: [] for bench in self._shuffled() if bench.pool == pool}
        begun, settled = self._clock(), False
        while not settled or self._clock() - begun < _SETTLED + seconds:
            if not settled and (self._clock() - begun >= _SETTLED or any(b.each > _SETTLED + _TURN for b in found)):
                settled = True
                for samples in found.values():
                    samples.clear()
            for bench in self._shuffled():
                if bench in found and (sample := self._sample(bench)) is not None:
                    found[bench].append(sample)
            if self._spent() > self._budget:
                break
        else:
            next(iter(found)).rest()
        return {bench: statistics.median(samples) if samples else None for bench, samples in found.items()}

    def _sample(self, bench: Bench) -> float | None:
        """Return the seconds per call of one block; None if it is void (then warm up again) or has failed."""
        block, bench.only = bench.only, None
        if block is None or (block.each < LEAD_IN and self._spent() + block.each <= self._budget):
            block = bench.block(bench.per_block)
        if block is None:
            return None
        if not bench.keep(block):
            bench.settle()
            return None
        bench.each = block.each
        return block.each

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
            page_faults=bench.page_faults / bench.calls if bench.calls else None,
            warm=bench.warm,
            voided=bench.voided,
            every_call=bench.every_call,
            failure=bench.failure,
        )
