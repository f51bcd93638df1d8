"""The last act of every run: time what is ready, judge it, find what is to be remarked, and measure memory."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace

from fwmagic import frameworks
from fwmagic.measure.bound import why_invalid
from fwmagic.measure.load import Load, usable_cores
from fwmagic.measure.stats import fastest
from fwmagic.measure.timing import Measurement, Progress, Timing, time_variants
from fwmagic.options import Options
from fwmagic.report import Ratio, findings
from fwmagic.run.draft import Draft
from fwmagic.run.place import Entrant, Location

#: While a run goes on, this many samples of a variant are shown.
_SHOWN = 100
#: A single call that takes less, in seconds, is mostly what surrounds it: the clock, and caches that were left.
_SHORT = 5e-6
#: What another way would take is looked at for so many seconds, and no longer than this share of the budget.
_LOOK, _LOOK_SHARE = 0.2, 0.5
_SHORT_LOOK = 0.02
#: In a crowd, a ratio that is further from 1 tells the direction.
_CLEAR = 2.0


class Measuring:
    """The last act of one run: `run` does all of it, or its parts are done for one variant after the other.

    `options` are those that hold for all sections, `parts` is how many times `time` is going to be called: each time
    with its share of the budget.
    """

    def __init__(self, draft: Draft, place: Location, options: Options, load: Load, parts: int = 1) -> None:
        self._draft = draft
        self._place = place
        self._options = options
        self._load = load
        self._parts = parts
        self._done = 0
        self._spent = 0.0
        self._entrants: list[Entrant] = []

    def run(self, entrants: Sequence[Entrant]) -> None:
        """Time variants against each other, say what is to be said of that, and then measure their memory."""
        self.time(entrants)
        self.judge()
        self.measure_memory(entrants)

    def time(self, entrants: Sequence[Entrant]) -> None:
        """Time variants against each other, and put their times and ratios in the draft."""
        self._entrants += entrants
        if entrants:
            names = [entrant.name for entrant in entrants]
            for name in names:
                self._draft.variant(name, status="running")
            measurement = time_variants(
                [entrant.calls for entrant in entrants],
                budget=self._options.budget / self._parts,
                margin=self._options.margin,
                baseline=names.index(self._options.baseline) if self._options.baseline in names else 0,
                seed=random.SystemRandom().getrandbits(32),
                least=self._place.least,
                length=self._place.length,
                surroundings=self._place.surroundings,
                progress=self._tell,
                partial=self._take,
            )
            self._take(measurement)
            self._spent += measurement.spent
        else:
            self._load.stop()
        self._done += 1

    def judge(self) -> None:
        """Say what the numbers hold for, and what is to be remarked on them."""
        self._draft.change(conditions=self._place.conditions(self._load))
        engines = {one.name: one.engine for one in frameworks.loaded() if one.hands_over}
        of_work = [finding for entrant in self._entrants for finding in entrant.findings]
        training = {entrant.name for entrant in self._entrants if entrant.trains}
        of_work += findings.of_ways(self._draft.report, self._in_another_way, training)
        self._draft.find(*of_work, *findings.of_report(self._draft.report, engines))

    def measure_memory(self, entrants: Sequence[Entrant]) -> None:
        """Run variants once more for their memory, if that is wanted."""
        with self._place.memory_passes() if self._options.memory else nullcontext():
            for entrant in entrants:
                failed = self._draft.report[entrant.name].status == "failed"
                ledgers = entrant.last_seen() if failed else entrant.memory()
                self._draft.variant(entrant.name, memory=ledgers or self._draft.report[entrant.name].memory)

    def _in_another_way(self, name: str, shortly: bool) -> Ratio | None:
        """Return what a variant takes in the other way over what it takes, judged as any ratio; None: there is none."""
        (entrant,) = (one for one in self._entrants if one.name == name)
        if entrant.other is None:
            return None
        for look in (_SHORT_LOOK, _LOOK) if shortly else (_LOOK,):
            measurement = time_variants(
                [entrant.calls, entrant.other],
                budget=min(look, _LOOK_SHARE * self._options.budget),
                seed=random.SystemRandom().getrandbits(32),
                length=self._place.length,
                surroundings=self._place.surroundings,
            )
            # Where the other way seems to be quicker, a look of few rounds is not enough.
            if not any(ratio.median < 1 and ratio.interval is None for ratio in measurement.ratios):
                break
        time, (_, other) = self._draft.report[name].time, (timing.time() for timing in measurement.variants)
        if not measurement.ratios or time is None or other is None:
            return None
        why = self._withheld(entrant)
        beside = _beside(measurement.ratios[0], other.median / time.median)
        return _honest(beside, self._crowded(), {name: why} if why else {})

    def _take(self, measurement: Measurement) -> None:
        """Put what was measured in the draft, also what was until an interrupt; no verdict that would not be honest."""
        self._load.stop()
        for timing in measurement.variants:
            self._note(timing)
        interrupted = measurement.stopped == "interrupted"
        crowded = self._crowded()
        withheld = {entrant.name: why for entrant in self._entrants if (why := self._withheld(entrant))}
        invalid = {variant.name for variant in self._draft.report if variant.time is None}
        valid = [ratio for ratio in measurement.ratios if not invalid & {ratio.variant, ratio.over}]
        ratios = tuple(_honest(ratio, crowded, withheld) for ratio in valid)
        names = [timing.name for timing in measurement.variants if timing.name not in invalid]
        self._draft.change(
            ratios=ratios,
            baseline=measurement.baseline if ratios else None,
            fastest=None if withheld else fastest(names, ratios),
            spent=self._spent + measurement.spent,
            progress=self._draft.report.progress if interrupted else (self._done + 1) / self._parts,
        )

    def _crowded(self) -> str:
        """Return why others left too little of the machine for the variants, or an empty string."""
        times = (variant.time for variant in self._draft.report)
        return self._load.crowds(max((time.cores or 0.0 for time in times if time is not None), default=0.0))

    def _withheld(self, entrant: Entrant) -> str:
        """Return why a verdict on a variant would not be honest, or an empty string."""
        time = self._draft.report[entrant.name].time
        if not entrant.withheld and entrant.calls.most_calls == 1 and time is not None and time.median < _SHORT:
            return "each call starts from the same state, and one call is too short to time"
        return entrant.withheld

    def _tell(self, now: Progress) -> None:
        times = {timing.name: _few(timing).time() for timing in now.variants}
        variants = tuple(replace(v, time=times.get(v.name, v.time)) for v in self._draft.report.variants)
        share = max(0.0, min(now.share, 1.0))
        self._draft.change(progress=(self._done + share) / self._parts, variants=variants)

    def _note(self, timing: Timing) -> None:
        (entrant,) = (one for one in self._entrants if one.name == timing.name)
        time = timing.time()
        if timing.failure is not None:
            self._draft.failed(timing.name, timing.failure, "timing", entrant.filename)
            self._draft.variant(timing.name, time=None)
        elif time is None:
            self._draft.variant(timing.name, status="not timed", note="no block could be timed within the budget")
        elif why := why_invalid(time.median, entrant.least):
            self._draft.variant(timing.name, status="not timed", note=why, time=None)
        else:
            # The system books the time of other threads a little late, so that short blocks can read too much.
            cores = None if time.cores is None else min(time.cores, float(usable_cores()))
            rate = None if entrant.items is None else entrant.items / time.median
            self._draft.variant(timing.name, status="timed", time=replace(time, cores=cores, items_per_second=rate))
        compilation = self._draft.report[timing.name].compilation
        if compilation is not None and timing.every_call:
            self._draft.variant(timing.name, compilation=replace(compilation, every_call=True))


def _few(timing: Timing) -> Timing:
    """Return a timing with so few samples that showing it between two blocks costs next to nothing."""
    return replace(timing, samples=timing.samples[:: 1 + len(timing.samples) // _SHOWN])


def _beside(ratio: Ratio, quotient: float) -> Ratio:
    """Return the ratio of a moment as it may be told beside a report, from which readers take the other quotient.

    In that moment one of the two may have met what most blocks of the report did not. So the interval holds both, and
    the one that is nearer to 1 is told.
    """
    if ratio.interval is None or ratio.verdict == "same":
        return replace(ratio, note="")
    low, high = min(ratio.interval[0], quotient), max(ratio.interval[1], quotient)
    nearer = min(ratio.median, quotient, key=lambda one: abs(math.log(one)))
    verdict = "undecided" if low <= 1 <= high else ratio.verdict
    return replace(ratio, median=nearer, low=low, high=high, verdict=verdict, note="")


def _honest(ratio: Ratio, crowded: str, withheld: Mapping[str, str]) -> Ratio:
    """Take a verdict back where the two did not do the same work, or where it may be about the machine's other work.

    In a crowd, a difference that is large stands: its direction is sure, its size is not.
    """
    for name in (ratio.variant, ratio.over):
        if name in withheld:
            return replace(ratio, verdict="withheld", note=f"{name}: {withheld[name]}")
    if not crowded:
        return ratio
    if ratio.interval is not None and (ratio.interval[0] > _CLEAR or ratio.interval[1] < 1 / _CLEAR):
        return replace(ratio, note=f"how much is not sure: {crowded}")
    return replace(ratio, verdict="undecided", note=crowded)
