"""Tables of the suite of cells with a known temporary: what every method said of each, and how far off that was."""

from __future__ import annotations

from benchmarks.goals import peak_error, said, within
from benchmarks.markdown import median, number, percent, table
from benchmarks.runs import ISOLATED, LARGE, MEMIT, MIB, OWN, SAMPLER, Run, Runs

#: The figures that are compared: a method, what it tells, and the head of its column.
_FIGURES = (
    (OWN, "heap", "heap"),
    (ISOLATED, "heap", "heap, isolated"),
    (OWN, "resident", "resident"),
    (ISOLATED, "resident", "resident, isolated"),
    (MEMIT, "resident", MEMIT),
    (SAMPLER, "resident", SAMPLER),
)


def memory(runs: Runs) -> str:
    """Return a summary by method and size, and every cell with what each method was off."""
    parts = [_summary(runs), _cells(runs)]
    if not runs.of("memory", method=MEMIT):
        parts.append(f"{MEMIT} was left out: memory_profiler was not installed.")
    return "\n\n".join(parts)


def _summary(runs: Runs) -> str:
    rows = []
    for method, figure, head in _FIGURES:
        for name, large in (("1 to 16", False), ("16 to 256", True)):
            some = Runs(run for run in runs.of("memory", method=method) if (run["true"] >= LARGE) == large)
            off = [abs(peak_error(run, figure)) for run in some.good]
            right = [run for run in some.good if abs(peak_error(run, figure)) <= 0.02]
            near = [run for run in some.good if within({**run, "resident": run[figure]})]
            far = [run for run in some.good if run not in near]
            ours = figure == "resident" and method in (OWN, ISOLATED)
            rows.append(
                (
                    head,
                    name,
                    str(len(some)),
                    str(len(some.failed)),
                    percent(median(off), 2),
                    percent(max(off, default=None), 2),
                    str(len(right)),
                    str(len(near)),
                    f"{sum(map(said, far))} of {len(far)}" if ours else "–",
                )
            )
    heads = ("figure", "MiB", "cells", "failed", "error, median", "worst", "within 2 %", "within 2 % or 1 MiB")
    return table((*heads, "else, the report says so"), rows)


def _cells(runs: Runs) -> str:
    found: dict[tuple[str, int], dict[str, Run]] = {}
    for run in runs.of("memory"):
        if "true" in run:
            found.setdefault((run["setup"], run["true"]), {})[run["method"]] = run
    rows = []
    for (setup, true), methods in sorted(found.items()):
        one = next(iter(methods.values()))
        off = (_off(methods.get(method), figure) for method, figure, _ in _FIGURES)
        rows.append((setup, f"{true / MIB:.2f}", number(one["lasted"], 1e3), *off))
    return table(("temporary of", "MiB", "lives, ms", *(head for *_, head in _FIGURES)), rows)


def _off(run: Run | None, figure: str) -> str:
    if run is None:
        return "–"
    return "failed" if "failed" in run else f"{100 * peak_error(run, figure):+.2f} %"
