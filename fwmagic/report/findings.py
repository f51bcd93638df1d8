"""Remarks on fairness and correctness: each has a code, one sentence, and what to do; docs/findings.md lists them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fwmagic.cells import uses
from fwmagic.cells.analyse import Body
from fwmagic.cells.outcome import Outcome
from fwmagic.frameworks import Framework
from fwmagic.report.report import Compilation, Finding, Report, Variant

#: Below this a call is mostly the overhead of calling it; seconds.
_TINY = 1e-6
#: Below this the hand-over to another thread is a visible part of a JAX call on a CPU; seconds.
_SMALL = 1e-3
#: Below this share of waiting, a call was not handed over at all.
_WAITS = 0.3
#: Cores used that differ by more than this factor are named.
_CORES = 1.3


def of_work(
    name: str, framework: Framework, body: Body, outcome: Outcome, compilation: Compilation
) -> Iterator[Finding]:
    """Yield the findings on what a variant of a section computed, from its first run."""
    values = [value for value in (*outcome.results.values(), *outcome.changed.values()) if value is not None]
    if framework.name != "numpy" and values and not any(_holds_array(framework, value) for value in values):
        yield Finding(
            "FW101",
            f"{name} returned and changed no {framework.title} array: this timed Python or NumPy",
            f"convert the inputs with --inputs or %%setup, or end the cell with a {framework.title} array",
            name,
        )
    if not values:
        yield Finding(
            "FW102",
            f"{name} returns nothing and changes nothing that can be seen",
            "end the section with the value that it computes",
            name,
        )
    if body.prints and compilation.way == "cell" and framework.name == "jax":
        yield Finding(
            "FW103",
            f"{name}: `print` runs only while tracing, so that no timed call prints",
            "print with `jax.debug.print` if printing belongs to the work",
            name,
            body.prints[0],
        )
    unread = uses.unread(list(body.statements)) if compilation.way == "cell" else []
    if unread:
        yield Finding(
            "FW104",
            f"{name}: what line {unread[0]} computes is not read, so that the compiler may have left it out",
            "keep every value whose work is to be timed, in a list or under a name of its own",
            name,
            unread[0],
        )


def of_report(report: Report) -> Iterator[Finding]:
    """Yield the findings that can be read off a report alone."""
    for variant in report:
        yield from _of_compilation(variant)
        yield from _of_time(variant)
    yield from _of_agreement(report)
    yield from _of_fairness(report)
    yield from _of_load(report)


def _holds_array(framework: Any, value: Any) -> bool:
    if framework.is_array(value):
        return True
    if isinstance(value, Mapping):
        return any(_holds_array(framework, item) for item in value.values())
    if isinstance(value, list | tuple):
        return any(_holds_array(framework, item) for item in value)
    # A module, an optimizer or the like holds its arrays somewhere inside.
    return any(kind.__module__.split(".")[0] in (framework.module, "flax") for kind in type(value).__mro__)


def _of_compilation(variant: Variant) -> Iterator[Finding]:
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


def _of_time(variant: Variant) -> Iterator[Finding]:
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
    if time.voided:
        yield Finding(
            "FW303",
            f"{variant.name} compiled again inside {time.voided} timed block(s), which were thrown away",
            "keep shapes and Python values the same from call to call",
            variant.name,
        )


def _of_agreement(report: Report) -> Iterator[Finding]:
    for variant in report:
        agreement = variant.agreement
        if agreement is not None and agreement.status == "differs":
            yield Finding(
                "FW401",
                f"{variant.name} computed something else than {agreement.reference}: {agreement.sentence}",
                "make both compute the same before you compare their times",
                variant.name,
            )


def _of_fairness(report: Report) -> Iterator[Finding]:
    timed = [(variant, variant.time) for variant in report if variant.time is not None and variant.status == "timed"]
    if len({variant.framework for variant, _ in timed}) < 2:
        return
    used = [(time.cores, variant) for variant, time in timed if time.cores and time.median > _SMALL]
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
        on_cpu = report.conditions.devices.get("jax", "").startswith("cpu")
        waits = (time.wait or 0.0) > _WAITS * ((time.wait or 0.0) + (time.dispatch or 0.0))
        pinned = "threads" in variant.options
        if variant.framework == "jax" and on_cpu and waits and time.median < _SMALL and not pinned:
            yield Finding(
                "FW502",
                f"{variant.name} is short: on a CPU, a part of its time is waking the thread that XLA hands work to, "
                "which can differ from run to run by more than the interval says",
                "use --threads 1, where no other core has to wake up, or compare larger work",
                variant.name,
            )
            return


def _is_busy(report: Report) -> bool:
    from fwmagic.measure.load import BUSY

    return _cores_of_others(report) > BUSY


def _cores_of_others(report: Report) -> float:
    return max(report.conditions.load_before or 0.0, report.conditions.load_during or 0.0)


def _of_load(report: Report) -> Iterator[Finding]:
    if _is_busy(report):
        who = ", ".join(report.conditions.neighbours[:2]) or "processes of others"
        yield Finding(
            "FW601",
            f"other processes used {_cores_of_others(report):.1f} cores ({who}): "
            "times and ratios are those of a busy machine",
            "stop them and run the cell again",
        )
