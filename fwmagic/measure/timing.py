"""The engine that times variants against each other: warm-up, rounds in random order, looks, and a budget."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fwmagic.measure import stats
from fwmagic.measure.bench import FILL, LEAD_IN, Bench, settle, warm_up
from fwmagic.measure.calls import Block, Calls
from fwmagic.measure.rounds import Rounds
from fwmagic.report import Ratio, Time

_WARM_UP = 0.3
_SPLIT = 0.05
_SPLIT_CALLS = 25
_FIRST_LOOK = 10
_TELL = 0.25
#: Nothing is decided before this share of the budget is used: what a machine does for a moment is not what it does.
LEAST = 0.2


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

    `samples` has one value a block that counts, `calls` their calls together. `every_call`: it compiles on
    every call. `failure` is what it raised; it was not timed any further.
    """

    name: str
    samples: tuple[float, ...]
    calls_per_block: int
    calls: int
    dispatch: float | None
    wait: float | None
    cores: float | None
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
            cores=self.cores,
            warm=self.warm,
            voided=self.voided,
        )


@dataclass(frozen=True)
class Measurement:
    """Everything that `time_variants` found out.

    `rounds` has one row a round with one value a variant (None: failed, or void), `segments` the third of the
    run that each round belongs to. `stopped` is decided, out of budget, or failed (no variant is left).
    `baseline` names the variant that the ratios are over: the first one that works if the one asked for failed.
    """

    variants: tuple[Timing, ...]
    rounds: tuple[tuple[float | None, ...], ...]
    segments: tuple[int, ...]
    ratios: tuple[Ratio, ...]
    baseline: str | None
    fastest: str | None
    spent: float
    stopped: str


def time_variants(
    programs: Sequence[Calls],
    *,
    budget: float,
    seed: int,
    alternate: bool,
    least: float = LEAST,
    margin: float = stats.MARGIN,
    baseline: int = 0,
    progress: Callable[[Progress], None] | None = None,
    partial: Callable[[Measurement], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Measurement:
    """Time programs against each other, within `budget` wall seconds for warm-up and rounds of all of them.

    Every program is called at least once. The order within a round is random, from `seed`. `alternate` says
    that the programs belong to different frameworks, or run in different processes; `least` is the share of the
    budget before which nothing is decided. `progress` is called between blocks, at most four times a second. An
    exception of a program drops that program; KeyboardInterrupt and the like propagate, after `partial` was called
    with what was measured until then.

    Raises
    ------
    ValueError
        There is nothing to time, the budget is not positive, or two programs have the same name.
    """
    names = [program.name for program in programs]
    if not programs or budget <= 0 or len(set(names)) < len(names):
        raise ValueError(f"programs with different names and a positive budget were expected, not {names}, {budget}")
    engine = _Engine(
        [Bench(program, alternate, clock) for program in programs],
        Rounds(names, baseline, margin),
        budget,
        least * budget,
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
        rng: random.Random,
        progress: Callable[[Progress], None] | None,
        clock: Callable[[], float],
    ) -> None:
        self._benches = benches
        self._rounds = rounds
        self._budget = budget
        self._least = least
        self._rng = rng
        self._progress = progress
        self._clock = clock
        self._start = self._told = clock()
        self._only: dict[Bench, Block] = {}

    def warm_up(self) -> None:
        """Warm every variant up, each with its share of the time for that; then split dispatch and waiting."""
        share = _WARM_UP * self._budget / len(self._benches)
        for turn, bench in enumerate(self._shuffled(), start=1):
            # What one leaves over is for the next; what a single long call took too much is not taken from it.
            deadline = max(self._start + turn * share, self._clock() + share)
            only = warm_up(bench, deadline, self._clock)
            if only is not None:
                self._only[bench] = only
            elif bench.failure is None:
                bench.split(self._split_calls(bench))
            self._tell(warming=True)

    def run_rounds(self) -> str:
        """Run rounds until all is decided, the next one would pass the budget, or nothing is left; say which."""
        look, first = _FIRST_LOOK, True
        took: list[float] = []
        while self._alive():
            took = [*took[-2:], self._round()]
            spent = self._spent()
            if len(self._rounds) >= look and spent >= self._least:
                look = 2 * len(self._rounds)
                if self._rounds.decided(self._alive(), repeated=first):
                    return "decided"
                # Parts that disagree get a second look; then the interval that spans them all is the answer.
                first = False
            # The quickest of the last three: one disturbed round is no reason to stop early.
            if spent + min(took) > self._budget:
                return "out of budget"
        return "failed"

    def measurement(self, stopped: str) -> Measurement:
        """Return all that was found out."""
        spent = self._spent()
        alive = self._alive()
        ratios = self._rounds.ratios(alive)
        return Measurement(
            variants=tuple(_timing(bench) for bench in self._benches),
            rounds=self._rounds.rows,
            segments=self._rounds.segments(),
            ratios=ratios,
            baseline=self._rounds.baseline(alive),
            fastest=stats.fastest([bench.name for bench in self._benches if bench.failure is None], ratios),
            spent=spent,
            stopped=stopped,
        )

    def _round(self) -> float:
        """Run one block of every variant in random order; return the wall seconds that such a round takes."""
        begun = self._clock()
        row = {bench: self._sample(bench) for bench in self._shuffled()}
        self._rounds.add([row.get(bench) for bench in self._benches], begun)
        return sum(bench.cost for bench in row)

    def _sample(self, bench: Bench) -> float | None:
        """Return the seconds per call of one block; None if it is void (then warm up again) or has failed."""
        self._tell(warming=False)
        block = self._only.pop(bench, None)
        if block is None or (block.each < LEAD_IN and self._spent() + bench.cost <= self._budget):
            block = bench.block(bench.calls)
        if block is None:
            return None
        if not bench.keep(block):
            settle(bench)
            return None
        if block.each * bench.calls < FILL / 4:
            bench.fill(block.each)  # there was no time for a warm-up that would have found this out
        return block.each

    def _split_calls(self, bench: Bench) -> int:
        each = bench.each or 0.0
        seconds = _SPLIT * self._budget
        if each <= 0:
            return _SPLIT_CALLS
        # each variant has its share of these seconds, but a single call may take all of them
        return min(_SPLIT_CALLS, max(int(seconds / len(self._benches) / each), int(seconds >= each)))

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
        self._progress(Progress(share, warming, len(self._rounds), tuple(_timing(bench) for bench in self._benches)))


def _timing(bench: Bench) -> Timing:
    wall = sum(block.seconds for block in bench.kept)
    return Timing(
        name=bench.name,
        samples=tuple(block.each for block in bench.kept),
        calls_per_block=bench.calls,
        calls=sum(block.calls for block in bench.kept),
        dispatch=bench.dispatch,
        wait=bench.wait,
        cores=sum(block.cpu for block in bench.kept) / wall if wall > 0 else None,
        warm=bench.warm,
        voided=bench.voided,
        every_call=bench.every_call,
        failure=bench.failure,
    )
