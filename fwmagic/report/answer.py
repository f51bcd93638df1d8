"""The answer of a report: one line of at most 90 characters, and an even shorter one for a list of runs."""

from __future__ import annotations

import datetime
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from fwmagic.format import between, one_line, percent, ratio_between, seconds, setting, times
from fwmagic.report.report import Agreement, Compilation, Ratio, Report, Variant, turned

#: No answer is longer.
MOST = 90
_NAME = 24
_BRIEF = 30
# From this factor on, a difference is said as one; below, in per cent.
_FACTOR = 1.5
_TWICE = 2.0
# A longer budget than this is not advised: the machine would not stay the same for so long.
_LONGEST = 60.0
_ROUNDS = 6  # fewer give no interval
#: Below this the hand-over to another thread is a visible part of a call on a CPU; seconds.
SMALL = 1e-3
_OTHERS = "others used the machine"
_SOMEHOW = "by how much is not sure"
_BUSY = f"{_SOMEHOW}: {_OTHERS}"
# An interval whose far end is so many times as far from 1 as its near end tells no size, but its own two ends.
_WIDE = 2.5

AGREE = "outputs agree"
"""What is said where all outputs were compared, and none differs."""

SHORT = {"yours": "by the code", "cell": "whole cell", "modules": "modules", "functions": "functions", "eager": "no"}
"""How a variant was compiled, in a word or two."""


@dataclass(frozen=True)
class Answer:
    """What a run says, by its sign: ✓ a verdict, = the same, ? not sure, ✗ no comparison, … at work, or none.

    Attributes
    ----------
    sign
        One character, or empty.
    text
        The line, without its sign, and with no full stop.
    brief
        At most 30 characters, for a list.
    warning
        Whether it is to be shown as a warning.
    """

    sign: str
    text: str
    brief: str
    warning: bool = False

    @property
    def line(self) -> str:
        """The line with its sign."""
        return one_line(f"{self.sign} {self.text}", MOST) or self.brief


def answer_of(report: Report) -> Answer:
    """Return what the run says, in one line."""
    timed = [variant for variant in report.variants if variant.status == "timed"]
    failed = next((variant for variant in report.variants if variant.status == "failed"), None)
    differs = next((v for v in report.variants if v.agreement is not None and v.agreement.status == "differs"), None)
    if report.state == "running":
        return _at_work(report)
    if report.state == "interrupted":
        return Answer("✗", f"interrupted after {seconds(report.spent)}: {report.note}", "interrupted", True)
    if failed is not None:
        return Answer("✗", _failure_in_words(failed), f"{one_line(failed.name, 16)} failed", True)
    if report.state == "failed":
        return Answer("✗", report.note or "this comparison is not complete", "failed", True)
    if differs is not None and differs.agreement is not None:
        return Answer("✗", _difference_in_words(report, differs.name, differs.agreement), "outputs differ", True)
    ratios = list(report.over_baseline().values())
    if len(ratios) == 1:
        return _pair_in_words(report, ratios[0])
    if ratios:
        return _several_in_words(report)
    if len(timed) == 1 and len(report.variants) == 1:
        return _alone_in_words(timed[0])
    return _without_times(report)


def speed(value: float) -> str:
    """Return a ratio of times as a speed: 0.43 is `2.3x faster`, 1.02 is `2.0 % slower`."""
    factor, word = (1 / value, "faster") if value < 1 else (value, "slower")
    return f"{times(factor) if factor >= _FACTOR else percent(factor - 1, 2)} {word}"


def phase(report: Report) -> str:
    """Return what a running report is at."""
    if report.progress >= 1:
        return "measuring memory"
    if report.progress:
        return f"timing, {100 * report.progress:.0f} % of {seconds(report.budget)}"
    running = [variant for variant in report.variants if variant.status == "running"]
    at_work = [variant for variant in running if variant.compilation is None]
    if not at_work:
        return "comparing the outputs" if running else "running it once, plainly"
    compiling = any(variant.mode != "eager" for variant in at_work)
    names = one_line(", ".join(variant.name for variant in at_work), 40)
    note = "; ".join(variant.note for variant in at_work if variant.note)
    return f"{'compiling' if compiling else 'running'} {names}{f': {note}' if note else ''}"


def as_of(report: Report) -> str:
    """Return when a running report was seen last, and what that means if nothing follows; empty: it is not known."""
    try:
        when = datetime.datetime.fromisoformat(report.updated).astimezone()
    except (ValueError, OverflowError, OSError):
        return ""
    return f"as of {when:%H:%M:%S}; a run that stays so was cut off: run the cell again"


def _at_work(report: Report) -> Answer:
    doing = phase(report)
    return Answer("…", f"{doing}: no figure is final", one_line(doing, _BRIEF))


def _failure_in_words(variant: Variant) -> str:
    name, failure = one_line(variant.name, _NAME), variant.failure
    if failure is None:
        return f"{name} failed{f': {variant.note}' if variant.note else ''}"
    line = f", line {failure.line}" if failure.line is not None else ""
    begin = f"{name} failed{line}: {f'{failure.error}: ' if failure.error else ''}"
    # What tells is the first sentence, and of a long one how it begins and ends: the rest is among the remarks.
    first = one_line(re.split(r"\n|(?<=\.) ", failure.message.strip(), maxsplit=1)[0], 4 * MOST).rstrip(" .:")
    room = MOST - 2 - len(begin)
    end = first[-2 * room // 5 :].partition(" ")[2]
    return _first_that_fits(
        f"{begin}{one_line(failure.message, 4 * MOST)}",
        f"{begin}{first}…",
        f"{begin}{one_line(first, room - len(end) - 1)} {end}" if 0 < len(end) < room // 2 else f"{begin}{first}",
    )


def _difference_in_words(report: Report, name: str, found: Agreement) -> str:
    """Return where outputs differ, and what the two have there, as far as it fits."""
    at = f" at {one_line(found.path, 24)}" if found.path else ""
    whose = f" of {one_line(name, 20)}" if len(report.variants) > 2 else ""
    so = ": the times are of different things"
    names = (one_line(one, 20) for one in (found.reference, name))
    told = ", ".join(f"{one} {value}" for one, value in zip(names, found.pair, strict=False))
    quoted = [f"outputs differ{at}: {told}{end}" for end in (so, "") if told]
    return _first_that_fits(*quoted, f"outputs{whose} differ{at}{so}")


def _pair_in_words(report: Report, r: Ratio) -> Answer:
    if r.verdict == "slower":  # which is faster is asked first
        r = turned(r)
    one, other = one_line(r.variant, _NAME), one_line(r.over, _NAME)
    checked = agreement_in_words(report, [r.variant, r.over])
    if r.verdict in ("faster", "slower"):
        by, span = speed(r.median), _span_in_words(r)
        direction = f"{one} {r.verdict}"
        if _is_of_a_busy_machine(r):
            return Answer("✓", f"{one} is {r.verdict} than {other}, {_BUSY}", one_line(direction, _BRIEF))
        if _is_wide(r):
            by, span = f"{span} {r.verdict}", _SOMEHOW
        elif _differs_between_runs(report, r):
            by, span = f"about {by}", _SOMEHOW
        lead = f"{one} is {by} than {other}"
        texts = [f"{lead} ({inside})" for inside in (", ".join(filter(None, (span, checked))), checked) if inside]
        briefs = [text for text in (f"{one} {by}", direction) if len(text) <= _BRIEF]
        return Answer("✓", _first_that_fits(*texts, lead), briefs[0] if briefs else one_line(direction, _BRIEF))
    if r.verdict == "same":
        inside = f" ({checked})" if checked else ""
        here = " in this run" if _differs_between_runs(report, r) else ""
        same = f"same time within {setting(report.margin)}{here}"
        return Answer(
            "=", _first_that_fits(f"{one} and {other}: {same}{inside}", f"{one} and {other}: {same}"), "same time"
        )
    if r.verdict == "withheld":
        return Answer("✗", f"no verdict: {r.note}", "no verdict", True)
    if r.interval is None:
        return Answer("?", _few_rounds_in_words(report, (r.variant, r.over), r), "not sure")
    return Answer("?", _unsure_in_words(report, r, r.interval), "not sure")


def _is_of_a_busy_machine(r: Ratio) -> bool:
    """Say whether a verdict stands for its direction alone, since others used the machine."""
    return bool(r.note) and r.repeatable


def _is_wide(r: Ratio) -> bool:
    """Say whether an interval that lies on one side of 1 tells little more than that."""
    if r.interval is None:
        return False
    near, far = sorted(max(bound, 1 / bound) - 1 for bound in r.interval)
    return far > _WIDE * near


def _differs_between_runs(report: Report, r: Ratio) -> bool:
    """Say whether a ratio is of calls so short that it differs from run to run by more than its interval (FW502)."""
    named = {finding.variant for finding in report.findings if finding.code == "FW502"}
    engines = {v.framework for v in report.variants if v.name in named}
    pair = (v for v in report.variants if v.name in (r.variant, r.over) and v.framework in engines)
    return any(v.time is not None and v.time.median < SMALL for v in pair)


def _unsure_in_words(report: Report, r: Ratio, interval: tuple[float, float]) -> str:
    """Return between what the ratio lies, as the table has it, and what would tell."""
    if _is_of_a_busy_machine(r):
        advice = f": {_OTHERS}"
    elif _differs_between_runs(report, r):
        advice = ": --threads 1 may tell"
    else:
        advice = _budget_in_words(report, r) if r.repeatable else ": parts of the run disagreed"
    unsure = f"not sure: {one_line(r.variant, 16)} takes {ratio_between(*interval)}x as long as {one_line(r.over, 16)}"
    return _first_that_fits(f"{unsure}{advice}", unsure)


def _few_rounds_in_words(report: Report, names: Sequence[str], r: Ratio) -> str:
    """Return which of some variants has the shortest time, and why that is not sure: there is no interval."""
    times = {v.name: v.time.median for v in report.variants if v.name in names and v.time is not None}
    quickest = min(times or names, key=lambda name: times.get(name, 0.0))
    rounds = max(one.rounds for one in report.ratios)
    few = f"{rounds} round{'s' * (rounds > 1)}" if rounds else "so few rounds"
    shortest = "shortest" if len(times) > 2 else "shorter"
    lead = f"{one_line(quickest, _NAME)} has the {shortest} time, not sure after {few}"
    return _first_that_fits(f"{lead}{_budget_in_words(report, replace(r, rounds=rounds))}", lead)


def _budget_in_words(report: Report, r: Ratio) -> str:
    """Return which budget would tell: an interval narrows with the square root of what is spent."""
    spent = max(report.spent, report.budget)
    if r.interval is None:
        needed = spent * 2 * _ROUNDS / max(r.rounds, 1)
    else:
        low, middle, high = (math.log(value) for value in (r.interval[0], r.median, r.interval[1]))
        margin = math.log1p(report.margin)
        # What is left between the median and the edge of a verdict; on an edge, nothing would tell.
        room = abs(abs(middle) - margin)
        needed = spent * ((high - low) / 2 / room) ** 2 if room > 0 else math.inf
    needed = 1.5 * needed  # the estimate is one itself
    if needed > _LONGEST:
        return ": too close to tell" if r.interval is not None and abs(math.log(r.median)) < 0.05 else ""
    return f": --budget {max(math.ceil(needed), math.ceil(1.5 * report.budget))} would tell"


def _span_in_words(r: Ratio) -> str:
    """Return the interval in the unit of the speed: `1.98-2.22x`, `2.1-5.0 %`."""
    if r.interval is None:
        return ""
    bounds = [1 / bound for bound in reversed(r.interval)] if r.median < 1 else list(r.interval)
    middle = max(r.median, 1 / r.median)
    if middle >= _FACTOR or bounds[1] >= _TWICE:  # nobody reads 134 %
        return f"{ratio_between(*bounds)}x"
    low, high = (100 * (bound - 1) for bound in bounds)
    return f"{between(low, high, lambda value, count: f'{value:.{count - 2}f}')} %"


def agreement_in_words(report: Report, names: Sequence[str]) -> str:
    """Return whether outputs agree, where they were compared; nothing is said of what nobody asked for."""
    found = [v.agreement for v in report.variants if v.name in names and v.agreement is not None]
    if any(one.status == "not compared" for one in found):
        return "outputs not compared"
    if any(one.is_partial for one in found):
        return "not all outputs compared"
    return AGREE if {one.status for one in found} == {"agrees"} else ""


def _several_in_words(report: Report) -> Answer:
    name, pairs = report.fastest, _pairs(report)
    if name is None:
        return _leaders_in_words(report, pairs)
    wanted = dict.fromkeys(r for r in (closest(report), pairs.get((name, report.baseline or ""))) if r is not None)
    leads, brief = f"{one_line(name, _NAME)} is the fastest", one_line(f"{name} fastest", _BRIEF)
    if any(map(_is_of_a_busy_machine, wanted)):
        return Answer("✓", f"{leads}, {_BUSY}", brief)
    # With the intervals of both, of the next one, or of none; or the next one alone.
    beaten = [" and ".join(_lead_in_words(report, r, i < most) for i, r in enumerate(wanted)) for most in (2, 1, 0)]
    beaten += [_lead_in_words(report, r, False) for r in [*wanted][:1]]
    return Answer("✓", _first_that_fits(*(f"{leads}, by {one}" for one in beaten if one), leads), brief)


def _lead_in_words(report: Report, r: Ratio, whole: bool) -> str:
    span, by = _span_in_words(r), speed(r.median).removesuffix(" faster")
    if _is_wide(r):
        by, whole = span, False
    elif _differs_between_runs(report, r):
        by, whole = f"about {by}", False
    return f"{by}{f' ({span})' if span and whole else ''} over {one_line(r.over, 20)}"


def closest(report: Report) -> Ratio | None:
    """Return the ratio of the quickest variant over the one that comes closest to it; None: it is not known."""
    pairs, leaders = _pairs(report), _leaders(report)
    if report.fastest is not None:
        known = (r for (name, _), r in pairs.items() if name == report.fastest)
        return max(known, key=lambda r: r.median, default=None)
    return pairs.get((leaders[0], leaders[1])) if len(leaders) > 1 else None


def _pairs(report: Report) -> dict[tuple[str, str], Ratio]:
    """Return the ratio of each variant over each other one that is known."""
    return {(r.variant, r.over): r for one in report.ratios for r in (turned(one), one)}


def _quickest(report: Report) -> list[str]:
    """Return all that were timed, the shortest time first."""
    return [name for _, name in sorted((v.time.median, v.name) for v in report.variants if v.time is not None)]


def _leaders(report: Report) -> list[str]:
    """Return the variants that may be the fastest, the shortest time of those that no other one beats first."""
    pairs, quickest = _pairs(report), _quickest(report)
    unbeaten = [a for a in quickest if not any(pairs[a, b].verdict == "slower" for b in quickest if (a, b) in pairs)]
    first = next(iter(unbeaten or quickest), "")
    rivals = [b for b in quickest if b != first and not _beats(pairs, first, b)]
    return [first, *(rivals or quickest[1:2])] if quickest else []


def _beats(pairs: Mapping[tuple[str, str], Ratio], one: str, other: str) -> bool:
    return (one, other) in pairs and pairs[one, other].verdict == "faster"


def _leaders_in_words(report: Report, pairs: Mapping[tuple[str, str], Ratio]) -> Answer:
    """Return which variants may be the fastest, and what is sure all the same: what they are quicker than."""
    leaders = _leaders(report)
    if len(leaders) <= 1:
        return Answer("?", "not sure which is the fastest: too few were timed", "not sure")
    known = [r for name in leaders[1:] if (r := pairs.get((leaders[0], name))) is not None]
    untold = next((r for r in known if r.interval is None), None)
    if untold is not None:
        return Answer("?", _few_rounds_in_words(report, leaders, untold), "not sure")
    if all((a, b) in pairs and pairs[a, b].verdict == "same" for a, b in itertools.combinations(leaders, 2)):
        sign, brief = "=", f"{len(leaders)} equally fast"
        leads = [f"{_listed(leaders, 'and')}: same time within {setting(report.margin)}"]
    else:
        sign, brief = "?", "not sure"
        times = {v.name: f" ({seconds(v.time.median)})" for v in report.variants if v.time is not None}
        why = f": {_OTHERS}" if any(map(_is_of_a_busy_machine, known)) else ""
        leads = [f"fastest is {_listed(leaders, 'or', told)}{why}" for told in (times, {})]
    won = [f"; {one}" for one in _won_in_words(leaders, [b for b in _quickest(report) if b not in leaders], pairs)]
    return Answer(sign, _first_that_fits(*(f"{lead}{one}" for lead in leads for one in won), *leads), brief)


def _listed(names: Sequence[str], last: str, told: Mapping[str, str] | None = None) -> str:
    """Return a few names, or of many the first one, each with what is told of it."""
    few = [f"{one_line(name, 20)}{(told or {}).get(name, '')}" for name in names]
    if len(few) > 3:
        return f"{few[0]} {last} {'one of ' * (last == 'or')}{len(few) - 1} others"
    return f"{', '.join(few[:-1])} {last} {few[-1]}" if len(few) > 1 else few[0]


def _won_in_words(leaders: Sequence[str], others: Sequence[str], pairs: Mapping[tuple[str, str], Ratio]) -> list[str]:
    """Return what the leaders, or else the first of them, are quicker than: with names if they are few, and without."""
    if not others:
        return []
    everyone = all(_beats(pairs, a, b) for a in leaders for b in others)
    who = f"{'both' if len(leaders) == 2 else 'all'} beat" if everyone else f"{one_line(leaders[0], 20)} beats"
    whom = [_listed(others, "and")] if len(others) <= 3 else []
    return [f"{who} {told}" for told in (*whom, f"the other {len(others)}" if len(others) > 1 else "the other")]


def _first_that_fits(*texts: str) -> str:
    """Return the first text that is short enough beside a sign, or else the last one."""
    return next((text for text in texts if len(text) <= MOST - 2), texts[-1])


def _alone_in_words(variant: Variant) -> Answer:
    time, name = variant.time, one_line(variant.name, _NAME)
    if time is None:
        return Answer("", f"{name} was timed", "timed")
    takes, how = f"{name} {seconds(time.median)}", _compiled_in_words(variant.compilation)
    return Answer("", f"{takes}{f', {how}' if how else ''}", one_line(takes, _BRIEF))


def _compiled_in_words(compilation: Compilation | None) -> str:
    if compilation is None:
        return ""
    if compilation.way != "eager":
        return f"compiled: {SHORT.get(compilation.way, compilation.way)}"
    if compilation.line is None:
        return "not compiled"
    # What it is, without the class of the error and what to do about it: both are among the remarks.
    why = re.split(r"[:;] ", re.sub(r"^\w+: ", "", compilation.reason), maxsplit=1)[0]
    return f"not compiled: line {compilation.line}: {why}"


def _without_times(report: Report) -> Answer:
    """Return what is to be said where nothing was compared: variants that ran once, or were not timed at all."""
    if not report.variants:
        return Answer("", report.note or "no variant was run", "nothing timed")
    brief = "ran once" if all(variant.status == "run-once" for variant in report.variants) else "not compared"
    if len(report.variants) > 2:
        return Answer("", f"{len(report.variants)} variants, {brief}", brief)
    return Answer("", "; ".join(map(_without_verdict, report.variants)), brief)


def _without_verdict(variant: Variant) -> str:
    name, why = one_line(variant.name, _NAME), f": {variant.note}" if variant.note else ""
    if variant.time is None:
        return f"{name} was not timed{why}"
    took = seconds(variant.time.median)
    return f"{name} ran once in {took}{why}" if variant.status == "run-once" else f"{name} {took}"
