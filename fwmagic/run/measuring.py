"""The timing pass of a run: all contenders against each other, and what the report says of it."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from fwmagic.frameworks import line_of
from fwmagic.measure.calls import Calls
from fwmagic.measure.load import Load, usable_cores
from fwmagic.measure.timing import Measurement, Progress, Timing, measure
from fwmagic.report import Finding, Ratio, Stage, Time, Variant, findings
from fwmagic.run.draft import Draft
from fwmagic.run.place import Place
from fwmagic.run.variants import Section, failure_of

#: While a run goes on, this many samples of a variant are shown.
_SHOWN = 100
#: A single call that takes less, in seconds, is mostly what surrounds it: the clock, and caches that were left.
_SHORT = 2e-5


@dataclass(frozen=True)
class Pass:
    """What a timing pass needs besides the programs."""

    draft: Draft
    place: Place
    budget: float
    margin: float
    baseline: str | None
    load: Load

    def run(self, programs: Sequence[Calls]) -> list[Timing]:
        """Time programs, and put their times, ratios and the conditions in the draft."""
        measurement: Measurement | None = None
        if programs:
            names = [program.name for program in programs]
            for name in names:
                self.draft.variant(name, status="running")
            measurement = measure(
                programs,
                budget=self.budget,
                margin=self.margin,
                baseline=names.index(self.baseline) if self.baseline in names else 0,
                seed=random.SystemRandom().getrandbits(32),
                alternate=self.place.alternate,
                least=self.place.least,
                progress=self._tell,
                partial=self._take,
            )
        self.load.stop()
        self.draft.change(conditions=self.place.conditions(self.load))
        if measurement is None:
            return []
        self._take(measurement)
        return list(measurement.variants)

    def _take(self, measurement: Measurement) -> None:
        """Put what was measured in the draft."""
        if self.load.during is None:  # interrupted
            self.load.stop()
        for timing in measurement.variants:
            self._note(timing)
        crowded = self.load.crowds(self.place.threads)
        self.draft.change(
            ratios=tuple(_doubted(ratio, crowded) for ratio in measurement.ratios),
            baseline=measurement.baseline,
            fastest=None if crowded else measurement.fastest,
            spent=measurement.spent,
            progress=1.0 if measurement.stopped != "interrupted" else self.draft.report.progress,
        )

    def _tell(self, now: Progress) -> None:
        times = {timing.name: _few(timing).time() for timing in now.variants}
        variants = tuple(replace(v, time=times.get(v.name, v.time)) for v in self.draft.report.variants)
        self.draft.change(progress=max(0.0, min(now.share, 1.0)), variants=variants)

    def _note(self, timing: Timing) -> None:
        time = timing.time()
        if time is not None and time.cores is not None:
            # The system books the time of other threads a little late, so that short blocks can read too much.
            time = replace(time, cores=min(time.cores, float(usable_cores())))
        if timing.failure is not None:
            failure = failure_of(timing.failure, None, "timing")
            self.draft.variant(timing.name, status="failed", failure=failure, time=None)
        elif time is None:
            self.draft.variant(timing.name, status="not timed", note="no block could be timed within the budget")
        else:
            self.draft.variant(timing.name, status="timed", time=time)
        compilation = self.draft.report[timing.name].compilation
        if compilation is not None and timing.every_call:
            self.draft.variant(timing.name, compilation=replace(compilation, every_call=True))


def _few(timing: Timing) -> Timing:
    """Return a timing with so few samples that showing it between two blocks costs next to nothing."""
    return replace(timing, samples=timing.samples[:: 1 + len(timing.samples) // _SHOWN])


class Entrant(Protocol):
    """A variant that is going to be timed, in this process or in another one."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def section(self) -> Section:
        """Its section."""

    @property
    def withheld(self) -> str:
        """Why a verdict on it would not be honest, or an empty string."""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is to be remarked on its work."""


def time_contenders(how: Pass, contenders: Sequence[Entrant], programs: Sequence[Calls]) -> list[Exception]:
    """Time the variants of sections, `programs` being theirs; return what those raised that failed meanwhile."""
    draft = how.draft
    errors: list[Exception] = []
    for contender, timing in zip(contenders, how.run(programs), strict=False):
        variant = draft.report[contender.name]
        if timing.failure is not None and variant.failure is not None:
            line = line_of(timing.failure, contender.section.body.filename)
            draft.variant(contender.name, failure=replace(variant.failure, line=line))
            errors.append(timing.failure)
        items = contender.section.options.items
        if items is not None and variant.time is not None:
            draft.variant(contender.name, time=replace(variant.time, items_per_second=items / variant.time.median))
    withheld = {contender.name: contender.withheld for contender in contenders if contender.withheld}
    for program in programs:
        found = draft.report[program.name].time
        if program.most_calls == 1 and found is not None and found.median < _SHORT:
            withheld.setdefault(program.name, "each call starts from the same state, and one call is too short to time")
    if withheld:
        draft.change(ratios=tuple(_checked(ratio, withheld) for ratio in draft.report.ratios), fastest=None)
    of_work = [finding for contender in contenders for finding in contender.findings]
    draft.find(*of_work, *findings.of_report(draft.report))
    return errors


def _doubted(ratio: Ratio, crowded: str) -> Ratio:
    """Take a verdict back that may be about the machine's other work."""
    return replace(ratio, verdict="undecided", note=crowded) if crowded else ratio


def _checked(ratio: Ratio, withheld: Mapping[str, str]) -> Ratio:
    """Take the verdict back where the two did not do the same work."""
    for name in (ratio.variant, ratio.over):
        if name in withheld:
            return replace(ratio, verdict="withheld", note=f"{name}: {withheld[name]}")
    return ratio


def once(draft: Draft, variant: Variant, seconds: float, why: str, **facts: Any) -> None:
    """Note a variant that could be run only one time: its one sample, and why."""
    source = "time.perf_counter around the one run, compilation included"
    time = Time((seconds,), seconds, None, None, 1, 1, warm=False, source=source)
    compilation = facts.pop("compilation", variant.compilation)
    if compilation is not None:
        compilation = replace(compilation, stages=(Stage("first run", seconds, "the one run"),), cache="none")
    draft.variant(variant.name, status="run-once", note=why, time=time, compilation=compilation, **facts)
