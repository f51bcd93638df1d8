"""The sentences at the top of a report: what is faster, what was found alone, and what failed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fwmagic.format import number, one_line, percent, ratio, ratio_between, seconds, seconds_between, setting, times
from fwmagic.report import Ratio, Report, Time, Variant


@dataclass(frozen=True)
class Sentence:
    """One sentence at the top of a report; a warning is shown as one."""

    text: str
    warning: bool = False


def headline(report: Report) -> list[Sentence]:
    """Return the verdicts, then what a reader must not miss: sentences without a full stop."""
    sentences = [Sentence(text) for text in _state(report)]
    verdicts = ratios_to_baseline(report)
    differ = {v.name for v in report.variants if v.agreement is not None and v.agreement.status == "differs"}
    for r in verdicts.values():
        but = ", and their outputs differ" if {r.variant, r.over} & differ else ""
        sentences.append(Sentence(_verdict(r, report.margin) + but))
    if report.fastest is not None and len(verdicts) > 1:
        sentences.append(Sentence(f"{report.fastest} is the fastest: it beats every other variant"))
    compared = {name for r in verdicts.values() for name in (r.variant, r.over)}
    for variant in report.variants:
        sentences += _alone(variant, compared, report.state)
        agreement = variant.agreement
        if agreement is not None and agreement.status == "differs":
            what = f"the outputs of {variant.name} differ from those of {agreement.reference}"
            sentences.append(Sentence(what, warning=True))
    if not report.variants and report.state == "done":
        sentences.append(Sentence("no variant was run"))
    if report.note:
        sentences.append(Sentence(report.note, report.state == "failed"))
    return [Sentence(one_line(s.text).rstrip("."), s.warning) for s in sentences]


def ratios_to_baseline(report: Report) -> dict[str, Ratio]:
    """Return each variant's ratio over the baseline by the variant's name; without a baseline, all as they are."""
    names = {variant.name for variant in report.variants}
    found: dict[str, Ratio] = {}
    for r in report.ratios:
        if report.baseline in (None, r.over):
            found.setdefault(r.variant, r)
        elif r.variant == report.baseline and {r.variant, r.over} <= names:
            found.setdefault(r.over, report.ratio(r.over, over=r.variant))
    return found


def _state(report: Report) -> Iterator[str]:
    if report.state == "running":
        at_work = ", ".join(v.name for v in report.variants if v.status == "running")
        share = f"running, {percent(min(report.progress, 1.0), 2)} of the budget of {seconds(report.budget)} used"
        yield f"{share}{f', now {at_work}' if at_work else ''}: no figure below is final"
    elif report.state == "interrupted":
        spent = f"{seconds(report.spent)} of the budget of {seconds(report.budget)}"
        yield f"interrupted after {spent}: the figures hold for what was timed until then"
    elif report.state == "failed":
        yield "failed: this comparison is not complete"


def _verdict(r: Ratio, margin: float) -> str:
    span = f"95 % interval {ratio_between(r.low, r.high)}" if r.low is not None and r.high is not None else _range(r)
    figures = f"(ratio {ratio(r.median)}, {span}, {r.rounds} {'round' if r.rounds == 1 else 'rounds'})"
    pair = f"{r.variant} and {r.over}"
    if r.verdict in ("faster", "slower"):
        text = f"{r.variant} is {_speed(r.median)} than {r.over} {figures}"
    elif r.verdict == "same":
        text = f"{pair} take the same time, within {setting(margin)} {figures}"
    elif r.verdict == "withheld":
        return f"{pair}: verdict withheld: {r.note}"
    elif r.note and r.repeatable:
        text = f"{pair}: undecided {figures}"
    elif r.low is None or r.high is None:
        text = f"{pair}: undecided: too few rounds for an interval {figures}; a larger --budget may decide"
    else:
        text = f"{pair}: undecided: {r.variant} is {_between(r.low, r.high)} {figures}; a larger --budget may decide"
    if not r.repeatable:
        return f"{text}; not repeatable: parts of this run disagreed, so the interval was widened"
    return f"{text}; {r.note}" if r.note else text


def _speed(value: float) -> str:
    """Return a ratio of times as a speed: 0.43 is `2.3x faster`, 1.02 is `2.0 % slower`."""
    factor, word = (1 / value, "faster") if value < 1 else (value, "slower")
    return f"{times(factor) if factor >= 1.5 else percent(factor - 1, 2)} {word}"


def _between(low: float, high: float) -> str:
    first, second = _speed(low), _speed(high)
    if first.split()[-1] == second.split()[-1]:
        first = first.rsplit(" ", 1)[0]
    return f"between {first} and {second}"


def _range(r: Ratio) -> str:
    return f"range seen {ratio_between(r.least, r.most)}, no interval"


def _alone(variant: Variant, compared: set[str], state: str) -> Iterator[Sentence]:
    """Yield what is to be said of a variant that no verdict speaks of."""
    why = f": {variant.note}" if variant.note else ""
    if variant.status == "failed":
        failure = variant.failure
        line = f" at line {failure.line}" if failure is not None and failure.line is not None else ""
        what = why
        if failure is not None:
            what = f"{line} with {failure.error}" if failure.error else f"{line}: {failure.message}"
        yield Sentence(f"{variant.name} failed{what}", warning=True)
    elif variant.name in compared:
        return
    elif variant.status == "run-once":
        took = f" in {seconds(variant.time.median)}" if variant.time is not None else ""
        yield Sentence(f"{variant.name} ran once{took} and is not compared{why}")
    elif variant.time is not None:
        yield Sentence(f"{variant.name} takes {seconds(variant.time.median)} a call ({block_count(variant.time)})")
    elif variant.status in ("not timed", "interrupted"):
        yield Sentence(f"{variant.name} was {variant.status}{why}")
    elif state != "running":
        yield Sentence(f"{variant.name} was not timed{why}")


def block_count(time: Time) -> str:
    """Return the interval of the median and the number of blocks that it comes from."""
    count = len(time.samples)
    blocks = f"{count} {'block' if count == 1 else 'blocks'} of {number(time.calls_per_block)}"
    blocks += " call" if time.calls_per_block == 1 else " calls"
    if time.low is None or time.high is None:
        return f"{blocks}, too few for an interval"
    return f"95 % interval {seconds_between(time.low, time.high)}, {blocks}"
