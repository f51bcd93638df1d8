"""Remarks on fairness and correctness: each has a code, one sentence, and what to do; docs/findings.md lists them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

from fwmagic.format import ordinal, percent, ratio, times
from fwmagic.report.answer import SMALL
from fwmagic.report.report import Finding, Place, Ratio, Report, Variant
from fwmagic.report.tables import contradicted

#: Returns what a variant takes in its other way over what it takes, with the verdict on that; None: it has no other.
Otherwise = Callable[[str, bool], Ratio | None]

#: Other processes that use more than this many cores disturb a measurement.
BUSY = 0.25
#: Below this a call is mostly the overhead of calling it; seconds.
_TINY = 1e-6
# A page from the system costs so many seconds at least; more than such a share of a call is worth a word.
_FAULT, _MUCH = 0.25e-6, 0.25
#: What computes keeps more of a core busy than this.
_IDLE = 0.5
#: Below this share of waiting, a call was not handed over at all.
_WAITS = 0.3
#: Cores used that differ by more than this factor are named.
_CORES = 1.3

#: Another way that takes up to so many times as long, or as short, is not worth a word.
_NEAR = 1.1
# A call of so many seconds or more costs little besides its work.
_SHORT = 2e-3
# So many names are told.
_MOST_NAMED = 3
#: Ways in which the body itself is not compiled.
_PYTHON = ("eager", "functions", "modules")
_COMPILED = ("cell", "functions", "modules")


@dataclass(frozen=True)
class Work:
    """What the first run of a variant showed of its work.

    `title` is the framework's. `gave`: it returned or changed something; `arrays`: arrays of the framework are among
    that. `print_line` is a line that prints while tracing only, which the function `traced_print` would do in every
    call; `unread` is a line whose value nothing reads, with its share of the work where that is known; `repeated` is
    the share of the work that is the same again, and its line; `bar_line` is one that draws a bar, in every call if it
    `draws`; `dropped` is where something is compiled for nothing. None: there is no such line. `spoilt` is how much of
    which output is NaN or infinite, `spoilt_line` the line that first made such values, and `spoilt_turn` how many
    times it had run then; empty, None: none is, or it is not known.
    """

    title: str
    gave: bool
    arrays: bool
    print_line: int | None = None
    traced_print: str = ""
    unread: tuple[float | None, int | None] | None = None
    repeated: tuple[float, int | None] | None = None
    bar_line: int | None = None
    draws: bool = False
    dropped: Place | None = None
    spoilt: str = ""
    spoilt_line: int | None = None
    spoilt_turn: int = 1


def of_work(name: str, work: Work) -> Iterator[Finding]:
    """Yield the findings on what a variant computed."""
    if work.gave and not work.arrays:
        yield Finding(
            "FW101",
            f"{name} returned and changed no {work.title} array: this timed Python or NumPy",
            f"convert the inputs with --inputs or %%setup, or end the cell with a {work.title} array",
            name,
        )
    if not work.gave:
        yield Finding(
            "FW102",
            f"{name} returns nothing and changes nothing that can be seen",
            "end the section with the value that it computes",
            name,
        )
    if work.print_line is not None:
        yield Finding(
            "FW103",
            f"{name}: `print` runs only while tracing, so that no timed call prints",
            f"print with `{work.traced_print}` if printing belongs to the work",
            name,
            work.print_line,
        )
    if work.unread is not None:
        part, line = work.unread
        where = "a part of it" if line is None else f"what line {line} computes"
        much = "may have left it out" if part is None else f"leaves it out ({percent(part, 2)} of the work)"
        yield Finding(
            "FW104",
            f"{name}: {where} is not read, so that the compiler {much}",
            "keep every value whose work is to be timed, in a list or under a name of its own",
            name,
            line,
        )
    if work.repeated is not None:
        share, line = work.repeated
        where = "it" if line is None else f"line {line}"
        yield Finding(
            "FW104",
            f"{name}: {where} computes what was computed before, "
            f"which a compiler does once ({percent(share, 2)} of the work)",
            "give each turn inputs of its own, such as the result of the one before",
            name,
            line,
        )
    if work.bar_line is not None:
        drawn = (
            "is drawn in every call, and is a part of its time" if work.draws else "was left out of what was compiled"
        )
        yield Finding(
            "FW105",
            f"{name}: the progress bar of line {work.bar_line} {drawn}",
            "loop over what is under the bar to time the work alone",
            name,
            work.bar_line,
        )
    if work.dropped is not None:
        yield Finding(
            "FW204",
            f"{name}: {work.dropped.reason}",
            "bind what it returns to a name, and call that",
            name,
            work.dropped.line,
        )
    if work.spoilt:
        turn = f" (when it runs for the {ordinal(work.spoilt_turn)} time)" if work.spoilt_turn > 1 else ""
        where = "" if work.spoilt_line is None else f", from line {work.spoilt_line} on{turn}"
        yield Finding(
            "FW402",
            f"{name}: {work.spoilt} is NaN or infinite{where}: the times are those of such values",
            "let the values stay finite, with fewer turns or other inputs: what agrees now may not agree then",
            name,
            work.spoilt_line,
        )


def of_ways(report: Report, otherwise: Otherwise, training: Set[str] = frozenset()) -> Iterator[Finding]:
    """Yield the findings on ways that differ from what was asked, or from section to section.

    `otherwise` measures how many times as long a variant takes in the other way, for a short moment or a longer one:
    one that compiles itself as one program of ours, and one that is one program of ours as Python. Of a ratio
    without a verdict nothing is said. Variants of sections that are `training` stay Python however they are written.
    """
    timed = [(v, v.compilation.way) for v in report if v.compilation is not None and v.status == "timed"]
    for variant, _ in ((v, way) for v, way in timed if way == "yours"):
        found = otherwise(variant.name, False)
        if found is not None and _is_known(found) and not 1 / _NEAR < found.median < _NEAR:
            yield Finding(
                "FW203",
                f"{variant.name} was timed as it is written; the whole section as one compiled program takes "
                f"{ratio(found.median)} of that{_unsure(found)}",
                "--mode compiled times it so",
                variant.name,
                _line(variant),
            )
    for variant in (v for v, way in timed if way in _COMPILED and v.mode == "auto" and _is_short(v)):
        found = otherwise(variant.name, True)
        if found is not None and _is_known(found) and found.median < 1 / _NEAR:
            yield Finding(
                "FW206",
                f"{variant.name} takes {times(1 / found.median)} as long compiled as it does as Python"
                f"{_unsure(found)}: what a compiled call costs besides its work is more than was saved",
                "ask for --mode eager, or do more work in one call",
                variant.name,
            )
    python = [v for v, way in timed if way in _PYTHON and v.mode == "auto" and _line(v) is not None]
    python = [variant for variant in python if variant.name not in training]
    for variant, _ in ((v, way) for v, way in timed if python and way == "cell" and v.mode == "auto"):
        found = otherwise(variant.name, False)
        cost = ""
        if found is not None and _is_known(found):
            cost = f"; run as Python, {variant.name} takes {times(found.median)} as long{_unsure(found)}"
        where = f" (line {_line(python[0])})"
        yield Finding(
            "FW205",
            f"{variant.name} is one compiled program, and {python[0].name} stays Python{where}{cost}",
            "write both in the same way, or ask for --mode eager",
            variant.name,
        )


def _is_short(variant: Variant) -> bool:
    return variant.time is not None and variant.time.median < _SHORT


def _is_known(found: Ratio) -> bool:
    return found.verdict in ("faster", "slower", "same")


def _unsure(found: Ratio) -> str:
    return f" ({found.note})" if found.note else ""


def _line(variant: Variant) -> int | None:
    """Return the line that kept a variant from being compiled in a fuller way; None: there is none."""
    return None if variant.compilation is None else variant.compilation.line


def of_parting(name: str, sentence: str, line: int | None, found: bool = True) -> Finding:
    """Return the finding on the first lines in which a variant and the reference part, or on why there are none."""
    same = "make these two lines compute the same, then run the cell again: others may part further down"
    results = "bind what differs to a name on a line of its own, so that it can be compared"
    return Finding("FW403", sentence, same if found else results, name, line)


def of_one_sided(name: str, one: str, other: str, what: Sequence[str]) -> Finding:
    """Return the finding on what the section `one` leaves and `other` does not; `name` is the variant concerned."""
    some = ", ".join(f"`{path}`" for path in what[:_MOST_NAMED])
    more = f" and {len(what) - _MOST_NAMED} more" if len(what) > _MOST_NAMED else ""
    return Finding(
        "FW405",
        f"only {one} binds or changes {some}{more}: what that takes is part of its time, and {other} does no such work",
        "let both leave the same, or take it out of the section",
        name,
    )


def of_report(report: Report, engines: Mapping[str, str]) -> Iterator[Finding]:
    """Yield the findings that can be read off a report.

    `engines` names what takes a call's work over in a thread of its own, by the frameworks that have such a thing.
    """
    for variant in report:
        yield from _findings_of_compilation(variant)
        yield from _findings_of_time(variant)
    yield from _findings_of_waiting(report)
    yield from _findings_of_agreement(report)
    yield from _findings_of_fairness(report, engines)
    yield from _findings_of_ratios(report)
    yield from _findings_of_load(report)


def _findings_of_compilation(variant: Variant) -> Iterator[Finding]:
    compilation = variant.compilation
    if compilation is None:
        return
    if compilation.every_call:
        yield Finding(
            "FW201",
            f"{variant.name} compiles on every call, and its time holds the compilation",
            "make the compiled function once, outside of the code that is repeated",
            variant.name,
            compilation.line,
        )
    if compilation.lifted:
        yield Finding(
            "FW202",
            f"{variant.name} captured {compilation.lifted} array(s) as constants; they were made arguments",
            "pass these arrays to the jitted function as arguments",
            variant.name,
        )


def _findings_of_time(variant: Variant) -> Iterator[Finding]:
    time = variant.time
    if time is None:
        return
    if time.median < _TINY:
        yield Finding(
            "FW301",
            f"{variant.name} takes less than a microsecond: most of it is the call itself",
            "do more work in one call",
            variant.name,
        )
    if not time.warm and variant.status == "timed":
        yield Finding(
            "FW302",
            f"{variant.name} had not settled when its warm-up was over",
            "give it a larger --budget",
            variant.name,
        )
    if time.page_faults is not None and time.page_faults * _FAULT > _MUCH * time.median:
        yield Finding(
            "FW304",
            f"{variant.name} gets about {time.page_faults:.0f} new pages of memory from the system in every call, "
            "which is a large part of its time",
            "reuse memory (out=, in-place operations): how much the C library keeps decides what this call takes",
            variant.name,
        )
    if time.voided:
        yield Finding(
            "FW303",
            f"{variant.name} compiled again inside {time.voided} timed block(s), which were thrown away",
            "keep shapes and Python values the same from call to call",
            variant.name,
        )


def _findings_of_waiting(report: Report) -> Iterator[Finding]:
    """Name each variant that computes nothing for most of its time; on a busy machine others may have had the cores."""
    for variant in report:
        time, device = variant.time, report.conditions.devices.get(variant.framework, "")
        if time is None or time.cores is None or time.median < SMALL or _is_busy(report):
            continue
        if time.cores < _IDLE and (device.startswith("cpu") or not device):
            yield Finding(
                "FW305",
                f"{variant.name} waits for about {percent(1 - time.cores, 2)} of its time, as for a lock, a thread, "
                "a file or a sleep: its process computes nothing then",
                "take what waits out of the section, to compare what is computed",
                variant.name,
            )


def _findings_of_agreement(report: Report) -> Iterator[Finding]:
    for variant in report:
        agreement = variant.agreement
        if agreement is not None and agreement.status == "differs":
            yield Finding(
                "FW401",
                f"{variant.name} computed something else than {agreement.reference}: {agreement.sentence}",
                "make both compute the same before you compare their times",
                variant.name,
            )
        elif agreement is not None and agreement.status == "agrees" and agreement.path is not None:
            yield Finding(
                "FW404",
                f"{variant.name}: {agreement.sentence}",
                "compare what counts in a section of its own, or in a wider dtype",
                variant.name,
            )


def _findings_of_fairness(report: Report, engines: Mapping[str, str]) -> Iterator[Finding]:
    timed = [(variant, variant.time) for variant in report if variant.time is not None and variant.status == "timed"]
    if len({variant.framework for variant, _ in timed}) < 2:
        return
    used = [(time.cores, variant) for variant, time in timed if time.cores and time.median > SMALL]
    pairs = [(most, least, a, b) for most, a in used for least, b in used if a.framework != b.framework]
    most, least, fast, slow = max(pairs, key=lambda pair: pair[0] / pair[1], default=(0.0, 0.0, None, None))
    # On a busy machine, what a variant used says what others had left it.
    if fast is not None and slow is not None and most > _CORES * least and not _is_busy(report):
        yield Finding(
            "FW501",
            f"{fast.name} used {most:.1f} cores and {slow.name} {least:.1f}",
            "give both the same number of threads, with --threads N, before you call one of them better",
        )
    for variant, time in timed:
        engine = engines.get(variant.framework)
        on_cpu = report.conditions.devices.get(variant.framework, "").startswith("cpu")
        waits = (time.wait or 0.0) > _WAITS * ((time.wait or 0.0) + (time.dispatch or 0.0))
        pinned = "threads" in variant.options
        if engine is not None and on_cpu and waits and time.median < SMALL and not pinned:
            yield Finding(
                "FW502",
                f"{variant.name} is short: a part of its time is waking a thread of {engine}, "
                "which differs from run to run by more than the interval says",
                "use --threads 1, or compare larger work",
                variant.name,
            )
            return


def _findings_of_ratios(report: Report) -> Iterator[Finding]:
    """Name the ratio of the table that the two times, as a reader divides them, contradict the most."""
    apart = contradicted(report)
    if apart:
        name = max(apart, key=lambda one: apart[one][1])
        (quotient, _), r, more = apart[name], report.over_baseline()[name], len(apart) - 1
        yield Finding(
            "FW503",
            f"the times of {r.variant} and {r.over} give {ratio(quotient)}, their ratio in the same moments is "
            f"{ratio(r.median)}{f' ({more} more like this)' if more else ''}: they moved while they were timed",
            "take the ratio; a larger --budget, or a quieter machine, brings them together",
            r.variant,
        )


def _is_busy(report: Report) -> bool:
    return _cores_of_others(report) > BUSY


def _cores_of_others(report: Report) -> float:
    return max(report.conditions.load_before or 0.0, report.conditions.load_during or 0.0)


def _findings_of_load(report: Report) -> Iterator[Finding]:
    if _is_busy(report):
        yield Finding(
            "FW601",
            f"other processes used {_cores_of_others(report):.1f} cores: times and ratios are those of a busy machine",
            "stop them (.details() names them) and run the cell again",
        )
