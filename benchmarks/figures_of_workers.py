"""Tables of the suites of isolated workers, and of what measuring memory does to the timing pass."""

from __future__ import annotations

from benchmarks import goals
from benchmarks.markdown import median, number, percent, table
from benchmarks.runs import Runs, busy


def workers(runs: Runs) -> str:
    """Return how long workers and cold imports took to start, and arrays to arrive."""
    starts = [
        (setup, *_counts(group), *_milliseconds(group))
        for (setup,), group in runs.of("workers", method="start").groups("setup")
    ]
    sends = [
        (name, f"{max(run['bytes'] for run in group) / 1e6:g}", kind, *_counts(group), *_milliseconds(group))
        for (name, kind), group in runs.of("workers", method="send").groups("setup", "kind")
    ]
    heads = ("runs", "failed", "busy", "ms, median", "ms, least", "ms, worst")
    both = (table(("start", *heads), starts), table(("array", "MB", "transfer to a worker", *heads), sends))
    return "\n\n".join(both)


def perturbation(runs: Runs) -> str:
    """Return the times of a program by the engine and by hand, and what was seen while blocks ran."""
    repeats = Runs(run for run in runs if run["setup"] != "counts")
    rows = []
    for of, to in (("fwmagic", "by hand"), ("fwmagic", "fwmagic --no-memory"), ("by hand again", "by hand")):
        ratios = [run["medians"][of] / run["medians"][to] - 1 for run in repeats.good]
        rows.append(
            (
                f"{of} over {to}",
                *_counts(repeats),
                number(median(run["medians"][of] for run in repeats.good), 1e6),
                number(median(run["medians"][to] for run in repeats.good), 1e6),
                _signed(goals.perturbed(repeats, of, to)),
                _signed(min(ratios, default=None)),
                _signed(max(ratios, default=None)),
            )
        )
    heads = ("times", "repeats", "failed", "busy", "µs a call", "µs of the other", "off, median", "least", "most")
    counts = [
        tuple(str(run[name]) for name in ("blocks", "calls", "threads", "profiles", "nvml", "nvml_outside"))
        for run in runs.of("perturbation", setup="counts").good
    ]
    seen = ("blocks", "calls", "threads of ours", "profile hooks", "NVML calls", "NVML calls outside of blocks")
    return f"{table(heads, rows)}\n\n{table(seen, counts)}"


def _counts(runs: Runs) -> tuple[str, str, str]:
    return str(len(runs)), str(len(runs.failed)), str(busy(runs))


def _milliseconds(runs: Runs) -> tuple[str, str, str]:
    seconds = [run["seconds"] for run in runs.good]
    return tuple(
        number(value, 1e3) for value in (median(seconds), min(seconds, default=None), max(seconds, default=None))
    )


def _signed(value: float | None) -> str:
    return "–" if value is None else ("+" if value >= 0 else "") + percent(value, 2)
