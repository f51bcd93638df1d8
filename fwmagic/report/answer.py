"""The answer of a report: one line of at most 90 characters, and an even shorter one for a list of runs."""

from __future__ import annotations

import datetime
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fwmagic.format import one_line, percent, ratio_between, seconds, setting, times
from fwmagic.report.report import Agreement, Compilation, Ratio, Report, Variant, turned

#: No answer is longer.
MOST = 90
_NAME = 24
_BRIEF = 30
# From this factor on, a difference is said as one; below, in per cent.
_FACTOR = 1.5
# A longer budget than this is not advised: the machine would not stay the same for so long.
_LONGEST = 60.0
_ROUNDS = 6  # fewer give no interval
_OTHERS = "others used the machine"
_SOMEHOW = "by how much is not sure"
_BUSY = f"{_SOMEHOW}: {_OTHERS}"
# Between the ends of an interval that tells more than a direction.
_WIDE = 2.0

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
        return _several_in_words(report, ratios)
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
    kind = f"{failure.error}: " if failure.error else ""
    return f"{name} failed{line}: {kind}{failure.message}"


def _difference_in_words(report: Report, name: str, found: Agreement) -> str:
    """Return where outputs differ, and what the two have there, as far as it fits."""
    at = f" at {one_line(found.path, 24)}" if found.path else ""
    whose = f" of {one_line(name, 20)}" if len(report.variants) > 2 else ""
    pair = f": {' and '.join(found.pair)}" if found.pair else ""
    differ, so = f"outputs{whose} differ{at}", ": the times are of different things"
    return _first_that_fits(f"{differ}{pair}{so}", f"{differ}{pair}", f"{differ}{so}")


def _pair_in_words(report: Report, r: Ratio) -> Answer:
    if r.verdict == "slower":  # which is faster is asked first
        r = turned(r)
    one, other = one_line(r.variant, _NAME), one_line(r.over, _NAME)
    checked = agreement_in_words(report, [r.variant, r.over])
    if r.verdict in ("faster", "slower"):
        why = _why_no_size(r)
        if why:
            direction = f"{one} is {r.verdict} than {other}, {why}"
            return Answer("✓", direction, one_line(f"{one} {r.verdict}", _BRIEF))
        brief = one_line(f"{one} {speed(r.median)}", _BRIEF)
        inside = ", ".join(part for part in (_span_in_words(r), checked) if part)
        return Answer("✓", f"{one} is {speed(r.median)} than {other}{f' ({inside})' if inside else ''}", brief)
    if r.verdict == "same":
        inside = f" ({checked})" if checked else ""
        return Answer("=", f"{one} and {other}: same time within {setting(report.margin)}{inside}", "same time")
    if r.verdict == "withheld":
        return Answer("✗", f"no verdict: {r.note}", "no verdict", True)
    return Answer("?", f"not sure: {_unsure_in_words(report, r)}", "not sure")


def _is_of_a_busy_machine(r: Ratio) -> bool:
    """Say whether a verdict stands for its direction alone, since others used the machine."""
    return bool(r.note) and r.repeatable


def _why_no_size(r: Ratio) -> str:
    """Return why a verdict stands for its direction alone; empty: it has a size, too."""
    if _is_of_a_busy_machine(r):
        return _BUSY
    if r.interval is not None and r.interval[1] > _WIDE * r.interval[0]:
        return f"{_SOMEHOW}: {_span_in_words(r)}"
    return ""


def _unsure_in_words(report: Report, r: Ratio) -> str:
    """Return between what the ratio lies, and what would tell."""
    advice = _budget_in_words(report, r)
    if r.interval is None:
        return f"too few rounds for an interval{advice}"
    if _is_of_a_busy_machine(r):
        advice = f": {_OTHERS}"
    elif not r.repeatable:
        advice = ": parts of the run disagreed"
    return f"{_between_in_words(r, r.interval)}{advice}"


def _between_in_words(r: Ratio, interval: tuple[float, float]) -> str:
    low, high = (1 / bound for bound in reversed(interval))  # of a speed: above 1 is faster
    return f"{one_line(r.variant, 16)} is {_factor(low)} to {_factor(high)} as fast as {one_line(r.over, 16)}"


def _factor(value: float) -> str:
    return f"{value:.2f}x" if value < 10 else times(value)


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
    if middle >= _FACTOR:
        return f"{ratio_between(*bounds)}x"
    low, high = (100 * (bound - 1) for bound in bounds)
    digits = 1 if high - low >= 0.2 else 2
    return f"{low:.{digits}f}-{high:.{digits}f} %"


def agreement_in_words(report: Report, names: Sequence[str]) -> str:
    """Return whether outputs agree, where they were compared; nothing is said of what nobody asked for."""
    found = {v.agreement.status for v in report.variants if v.name in names and v.agreement is not None}
    if found == {"agrees"}:
        return AGREE
    return "outputs not compared" if "not compared" in found else ""


def _several_in_words(report: Report, ratios: Sequence[Ratio]) -> Answer:
    if report.fastest is None:
        return _leaders_in_words(report)
    name = report.fastest
    known = [turned(r) if r.over == name else r for r in report.ratios if name in (r.variant, r.over)]
    ahead = sorted(known, key=lambda r: -r.median)
    wanted = {r.over: r for r in [*ahead[:1], *(r for r in known if r.over == report.baseline)]}
    leads, brief = f"{one_line(name, _NAME)} is the fastest", one_line(f"{name} fastest", _BRIEF)
    if any(map(_is_of_a_busy_machine, wanted.values())):
        return Answer("✓", f"{leads}, {_BUSY}", brief)
    if any(map(_why_no_size, wanted.values())):
        return Answer("✓", f"{leads}, {_SOMEHOW}", brief)
    # With the intervals of both, of the next one, or of none.
    beaten = [" and ".join(_lead_in_words(r, i < most) for i, r in enumerate(wanted.values())) for most in (2, 1, 0)]
    return Answer("✓", _first_that_fits(*(f"{leads}, by {one}" for one in beaten if one), leads), brief)


def _lead_in_words(r: Ratio, whole: bool) -> str:
    span = _span_in_words(r) if whole else ""
    by = speed(r.median).removesuffix(" faster")
    return f"{by}{f' ({span})' if span else ''} over {one_line(r.over, 20)}"


def _leaders_in_words(report: Report) -> Answer:
    """Return which variants may be the fastest, and what is sure all the same: what they are quicker than."""
    pairs = {pair: r for one in report.ratios for r in (one, turned(one)) if (pair := (r.variant, r.over))}
    quickest = [name for _, name in sorted((v.time.median, v.name) for v in report.variants if v.time is not None)]
    if len(quickest) <= 1:
        return Answer("?", "not sure which is the fastest: too few were timed", "not sure")
    unbeaten = [a for a in quickest if not any(pairs[a, b].verdict == "slower" for b in quickest if (a, b) in pairs)]
    first = (unbeaten or quickest)[0]
    rivals = [b for b in quickest if b != first and ((first, b) not in pairs or pairs[first, b].verdict != "faster")]
    rivals = rivals or quickest[1:2]
    others = [b for b in quickest if b != first and b not in rivals]
    leaders = [first, *rivals]
    if all((a, b) in pairs and pairs[a, b].verdict == "same" for a, b in itertools.combinations(leaders, 2)):
        sign, brief = "=", f"{len(leaders)} equally fast"
        lead = f"{_listed(leaders, 'and')}: same time within {setting(report.margin)}"
        span = ""
    else:
        sign, brief = "?", "not sure"
        lead = f"{_listed(leaders, 'or')} is fastest"
        span = _rivalry_in_words(pairs.get((first, rivals[0])), len(rivals))
    sure = list(_surely_in_words(leaders, others, pairs)) if others else []
    texts = [*(f"{lead}{span}; {one}" for one in sure), *(f"{lead}; {one}" for one in sure), f"{lead}{span}", lead]
    return Answer(sign, _first_that_fits(*texts), brief)


def _listed(names: Sequence[str], last: str) -> str:
    """Return a few names, or of many the first one."""
    few = [one_line(name, 20) for name in names]
    if len(few) > 3:
        return (
            f"{few[0]} {last} one of {len(few) - 1} others" if last == "or" else f"{few[0]} and {len(few) - 1} others"
        )
    return f"{', '.join(few[:-1])} {last} {few[-1]}" if len(few) > 1 else few[0]


def _rivalry_in_words(r: Ratio | None, rivals: int) -> str:
    """Return in parentheses how far apart the two are at most that may be the fastest, or why that is not known."""
    if r is not None and _is_of_a_busy_machine(r):
        return f" ({_OTHERS})"
    if r is None or r.interval is None:
        return " (too few rounds)"
    # No span from one to the other: beside a column of ratios to the baseline, it would be taken for one of these.
    return f" (at most {_most_in_words(max(r.interval[1], 1 / r.interval[0]))} apart)" if rivals == 1 else ""


def _surely_in_words(
    leaders: Sequence[str], others: Sequence[str], pairs: Mapping[tuple[str, str], Ratio]
) -> Iterator[str]:
    """Yield what the leaders are quicker than, and by how much at least: first as much as can be told."""
    wins = [pairs[a, b] for a in leaders for b in others if (a, b) in pairs and pairs[a, b].verdict == "faster"]
    everyone = len(wins) == len(leaders) * len(others)
    if not everyone:  # the first one is quicker than all of them
        wins = [r for r in wins if r.variant == leaders[0]]
    who = one_line(leaders[0], 20) if not everyone or len(leaders) == 1 else "both" if len(leaders) == 2 else "all"
    least = (
        "" if any(map(_is_of_a_busy_machine, wins)) else _least_in_words(min(1 / (r.high or r.median) for r in wins))
    )
    beat = "beats" if who not in ("both", "all") else "beat"
    whom = [_listed(others, "and")] if len(others) <= 3 else []
    for told in (*whom, f"the other {len(others)}" if len(others) > 1 else "the other"):
        if least:
            yield f"{who} {beat} {told} by {least} at least"
        yield f"{who} {beat} {told}"


def _least_in_words(factor: float) -> str:
    """Return what a speed is at least, rounded down."""
    if factor <= 1:
        return ""
    if factor < _FACTOR:
        return f"{math.floor(1000 * (factor - 1)) / 10:.1f} %"
    return f"{math.floor(10 * factor) / 10:.1f}x" if factor < 10 else f"{math.floor(factor)}x"


def _most_in_words(factor: float) -> str:
    """Return what lies between two speeds at most, rounded up."""
    if factor < _FACTOR:
        return f"{math.ceil(1000 * (factor - 1)) / 10:.1f} %"
    return f"{math.ceil(10 * factor) / 10:.1f}x" if factor < 10 else f"{math.ceil(factor)}x"


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
