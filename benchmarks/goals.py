"""What the project set itself as goals, and whether the runs of a results file meet them; a failed run meets none."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from benchmarks.runs import (
    ALIKE,
    HAND,
    ISOLATED,
    LARGE,
    LONG,
    MIB,
    NO_VERDICT,
    OWN,
    PEERS,
    PINNED,
    Run,
    Runs,
    deviations,
    errors,
    share,
    spread,
)

#: The share of runs that have to find what is planted: by its share of a call, and fwmagic's margin.
_FOUND = {(0.02, 0.01): 0.95, (0.015, 0.01): 0.9, (0.005, 0.002): 0.8}
#: A verdict on calls of so many seconds at most should not take long.
_SOON = 1e-3
_SEND = 0.2
_QUICKER = 10.0
_BESIDE_EXPERT = 1.2
_BESIDE_HAND = 0.03
_ISOLATED_APART = 0.05


def rows(runs: Runs) -> Iterator[tuple[str, str, str]]:
    """Yield each goal, what was found, and whether that meets it."""
    for suite in (*ALIKE, "cells"):
        yield from _alike(suite, runs.of(suite))
    for title, suites in (("alike", ALIKE), ("cells", ("cells",))):
        yield from _honest(title, runs.of(*suites, method=OWN))
    near = beside_hand(runs.of("alone"))
    goal = f"time per call within {100 * _BESIDE_HAND:g} % of a loop by hand, in every cell"
    yield _row(goal, _part(abs(away) <= _BESIDE_HAND for away in near.values()), 1.0, at_least=True, count=len(near))
    yield from _expert(runs.of("expert"))
    for (extra, margin), least in _FOUND.items():
        planted = runs.of("planted", method=OWN, share=extra, margin=margin)
        goal = f"planted {100 * extra:g} %, margin {100 * margin:g} %: found in ≥ {100 * least:.0f} %"
        yield _row(goal, found(planted), least, at_least=True, count=len(planted))
    for (setup,), group in runs.of("frameworks").groups("setup"):
        yield _spread(setup, group, OWN)
        own, hand = group.of("frameworks", method=OWN), group.of("frameworks", method=HAND)
        times = _times(math.inf if own.failed else spread(own), spread(hand))
        yield _row(f"{setup}: spread (SD) ≤ that of a loop by hand", times, 1.0, unit="times", count=len(own))
        goal = f"{setup}: interval holds the ratio of a minute by hand, in turns, in ≥ 90 %"
        yield _row(goal, holding_long(group), 0.9, at_least=True, count=len(own))
    for (setup,), group in runs.of("isolated").groups("setup"):
        yield from _isolated(setup, group)
    yield from _pairs(runs.of("pairs"))
    yield from _lab(runs.of("lab"))
    busy = runs.of("neighbour", method=OWN)
    yield _row("busy neighbour: false verdicts ≤ 1 %", false_verdicts(busy), 0.01, count=len(busy))
    yield _row("busy neighbour: load named in every run", load_named(busy), 1.0, at_least=True, count=len(busy))
    bursts = runs.of("bursts", method=OWN)
    yield _row("neighbour in bursts: false verdicts ≤ 1 %", false_verdicts(bursts), 0.01, count=len(bursts))
    # Recordings of before have nothing that is not counted.
    replays = [replay for run in runs.of("coverage").good if run.get("counted", True) for replay in run["replays"]]
    yield _row("interval covers in ≥ 93 % of replays", covered(replays), 0.93, at_least=True, count=len(replays))
    for run in runs.of("cost").good:
        yield _row(f"cost of a timed {run['setup']} call ≤ 0.1 µs", cost(run) * 1e6, 0.1, unit="µs")
    yield from _waits(runs)
    yield from _panel(runs.of("panel"))
    yield from _workers(runs.of("workers"))
    yield from _perturbation(runs.of("perturbation"))
    yield from _memory(runs.of("memory"))
    broken = sorted({run["suite"] for run in runs.failed if "method" not in run})
    yield "every suite ran to its end", ", ".join(broken) + " broke off" if broken else "yes", _met(not broken)


def found(runs: Runs) -> float | None:
    """Return the share of runs that found the planted work, on its side."""
    return _share(runs, lambda run: run["verdict"] == _right(run))


def wrong_side(runs: Runs) -> float | None:
    """Return the share of runs that found a difference on the other side."""
    return _share(runs, lambda run: run["verdict"] in ("faster", "slower") and run["verdict"] != _right(run))


def false_verdicts(runs: Runs) -> float | None:
    """Return the share of runs whose verdict is not true, those that failed with them; to have none is not false."""

    def is_false(run: Run) -> bool:
        right = {"same", "not different"} if run["planted"] is None else {_right(run)}
        return run["verdict"] not in {*right, "undecided", "withheld", NO_VERDICT}

    return (sum(map(is_false, runs.good)) + len(runs.failed)) / len(runs) if len(runs) else None


def load_named(runs: Runs) -> float | None:
    """Return the share of runs in which fwmagic named a process that used the processor."""
    return _share(runs, lambda run: bool(run["raw"]["neighbours"]))


def holding(runs: Runs) -> float | None:
    """Return the share of runs whose interval holds the true ratio; one without an interval does not."""
    return _share(runs, lambda run: _holds(run["true"], run["raw"]["ratio"]))


def deciding(runs: Runs) -> float | None:
    """Return the median of the seconds until a verdict; a run without one would never have had it."""
    decided = ("faster", "slower", "same")
    times = [run["raw"]["spent"] if run["verdict"] in decided else math.inf for run in runs.good]
    return _median([*times, *(math.inf for _ in runs.failed)])


def holding_long(runs: Runs) -> float | None:
    """Return the share of runs of fwmagic whose interval holds the ratio of a minute by hand, in turns."""
    truths = [run["ratio"] for run in runs.of("frameworks", method=LONG).good]
    own = runs.of("frameworks", method=OWN)
    return _share(own, lambda run: _holds(truths[0], run["raw"]["ratio"])) if truths else None


def beside_hand(runs: Runs) -> dict[str, float]:
    """Return how far the time per call is from that of a loop by hand, as a fraction with its sign, by cell."""
    found = {}
    for (setup,), group in runs.groups("setup"):
        own, hand = (_median([run["each"] for run in group.of("alone", method=m).good]) for m in (OWN, HAND))
        found[setup] = math.inf if group.failed or own is None or not hand else own / hand - 1
    return found


def apart(runs: Runs) -> dict[str, tuple[bool, float]]:
    """Return, by pair, whether isolated workers give the verdict of this process, and how far their ratio is from its.

    Of a pair with several runs, the last ones count: a file may have been added to.
    """
    found = {}
    for (setup,), group in runs.groups("setup"):
        own, isolated = ([*group.of("pairs", method=method).good] for method in (OWN, ISOLATED))
        if group.failed or not own or not isolated:
            found[setup] = False, math.inf
            continue
        here, away = own[-1], isolated[-1]
        found[setup] = here["verdict"] == away["verdict"], abs(away["ratio"] / here["ratio"] - 1)
    return found


def covered(replays: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the share of replays whose interval holds the true ratio; one without an interval does not."""
    if not replays:
        return None
    return sum(_holds(one["true"], one) for one in replays) / len(replays)


def cost(run: Run) -> float:
    """Return the seconds that a timed call costs more than one in a loop written by hand: difference of medians."""
    samples = run["samples"]
    return statistics.median(samples["fwmagic"]) - statistics.median(samples["by hand"])


def kept(run: Run) -> bool:
    """Say whether the budget was kept within 10 % or one call; each variant's one call is always made."""
    least = run["length"] * len(run["calls"])
    budget = run["budget"]
    return bool(run["spent"] <= max(1.1 * budget, budget + run["length"], 1.1 * least))


def _alike(suite: str, runs: Runs) -> Iterator[tuple[str, str, str]]:
    own, hand = runs.of(suite, method=OWN), runs.of(suite, method=HAND)
    # A run that failed has no ratio: its error is taken as without bound.
    away, count = [*errors(own), *(math.inf for _ in own.failed)], len(own)
    times = _times(_median(away), _median(errors(hand)))
    yield _row(f"{suite}: ratio error, median ≤ 1.2 times that by hand", times, 1.2, unit="times", count=count)
    yield _row(f"{suite}: ratio error, median ≤ 0.15 %", _median(away), 0.0015, count=count)
    yield _row(f"{suite}: ratio error, worst ≤ 0.8 %", max(away, default=None), 0.008, count=count)
    yield _row(f"{suite}: `same` in ≥ 95 %", share(own, "same"), 0.95, at_least=True, count=count)
    short = Runs(run for run in own if run.get("length", math.inf) <= _SOON)
    goal = f"{suite}: decided on calls of ≤ 1 ms, median ≤ 0.5 s"
    yield _row(goal, deciding(short), 0.5, unit="s", count=len(short))


def _honest(title: str, runs: Runs) -> Iterator[tuple[str, str, str]]:
    yield _row(f"{title}: false verdicts ≤ 0.5 %", false_verdicts(runs), 0.005, count=len(runs))
    yield _row(f"{title}: interval holds 1 in ≥ 94 %", holding(runs), 0.94, at_least=True, count=len(runs))


def _expert(runs: Runs) -> Iterator[tuple[str, str, str]]:
    near = _share(runs, lambda run: run["ratio"] <= _BESIDE_EXPERT)
    goal = f"a cell takes ≤ {_BESIDE_EXPERT:g} times as long as an expert's function, in every one"
    yield _row(goal, near, 1.0, at_least=True, count=len(runs))


def _spread(setup: str, runs: Runs, method: str) -> tuple[str, str, str]:
    own = spread(runs.of("frameworks", "isolated", method=method))
    peers = {peer: spread(runs.of("frameworks", "isolated", method=peer)) for peer in PEERS}
    times = {peer: value / own for peer, value in peers.items() if value is not None and own}
    text = ", ".join(f"{peer} {value:.1f} times" for peer, value in times.items())
    which = setup if method == OWN else f"{setup}, {method}"
    goal = f"{which}: spread (SD) of each peer ≥ 3 times ours"
    return goal, text or "–", _met(min(times.values()) >= 3 if len(times) == len(PEERS) else None)


def _pairs(runs: Runs) -> Iterator[tuple[str, str, str]]:
    found = apart(runs)
    alike = _part(same for same, _ in found.values())
    yield _row("isolated: the verdict of this process, in every pair", alike, 1.0, at_least=True, count=len(found))
    near = _part(away <= _ISOLATED_APART for _, away in found.values())
    goal = f"isolated: ratio within {100 * _ISOLATED_APART:g} % of this process, in every pair"
    yield _row(goal, near, 1.0, at_least=True, count=len(found))


def _lab(runs: Runs) -> Iterator[tuple[str, str, str]]:
    unlike = Runs(run for run in runs.good if run["true"] is None)
    decided = share(unlike, "faster", "slower")
    yield _row("in JupyterLab: unlike things decided in ≥ 95 %", decided, 0.95, at_least=True, count=len(unlike))
    alike = Runs(run for run in runs.good if run["true"] is not None)
    yield _row("in JupyterLab: false verdicts ≤ 1 %", false_verdicts(alike), 0.01, count=len(alike))


def _isolated(setup: str, runs: Runs) -> Iterator[tuple[str, str, str]]:
    own = runs.of("isolated", method=PINNED)
    away, count = [*deviations(own), *(math.inf for _ in own.failed)], len(own)
    yield _row(f"{setup}, {PINNED}: ratio from its median, median ≤ 0.5 %", _median(away), 0.005, count=count)
    yield _row(f"{setup}, {PINNED}: ratio from its median, worst ≤ 2 %", max(away, default=None), 0.02, count=count)
    yield _spread(setup, runs, PINNED)


def _waits(runs: Runs) -> Iterator[tuple[str, str, str]]:
    loading = runs.of("loading")
    worst = _worst(loading, lambda run: run["load_ext"] * 1e3)
    yield _row("`%load_ext fwmagic`, worst ≤ 50 ms", worst, 50, unit="ms", count=len(loading))
    light = _share(loading, lambda run: not run["imported"])
    yield _row("`%load_ext` imports no framework", light, 1.0, at_least=True, count=len(loading))
    later = Runs(run for run in runs.of("again") if "failed" in run or run["execution"] > 1)
    slowest = _worst(later, lambda run: run["seconds"])
    yield _row("unchanged %%compare again, worst ≤ 0.8 s", slowest, 0.8, unit="s", count=len(later))
    decided = share(later, "faster", "slower", "same")
    yield _row("unchanged %%compare again: decided", decided, 1.0, at_least=True, count=len(later))
    budgets = runs.of("budget", "long")
    yield _row("budget kept within 10 % or one call", _share(budgets, kept), 1.0, at_least=True, count=len(budgets))
    long = runs.of("long")
    calls = _worst(long, lambda run: float(max(run["calls"])))
    yield _row("calls a variant of a 10 s cell ≤ 4, first run included", calls, 4, unit="calls", count=len(long))


def _panel(runs: Runs) -> Iterator[tuple[str, str, str]]:
    first = [run["first"] for run in runs.good if run["kind"] == "first"]
    later = [run["milliseconds"] / run["charts"] for run in runs.good if run["kind"] == "later"]
    yield _row("panel: the first chart of a page, worst ≤ 400 ms", max(first, default=None), 400, unit="ms")
    yield _row("panel: a later chart, median ≤ 50 ms", _median(later), 50, unit="ms")
    shares = [run["updating"] / run["spent"] for run in runs.good if run["kind"] == "updates"]
    yield _row("panel: share of a run that its updates take, worst ≤ 1 %", max(shares, default=None), 0.01)


def _workers(runs: Runs) -> Iterator[tuple[str, str, str]]:
    times, count = quicker(runs), len(runs.of("workers", setup="later worker"))
    goal = "a later isolated worker starts ≥ 10 times as quickly as cold imports"
    yield _row(goal, times, _QUICKER, at_least=True, unit="times", count=count)
    for (name,), sends in runs.of("workers", method="send", kind="later").groups("setup"):
        worst = _worst(sends, lambda run: run["seconds"])
        yield _row(f"100 MB from {name} reach a worker, worst ≤ 0.2 s", worst, _SEND, unit="s", count=len(sends))


def _perturbation(runs: Runs) -> Iterator[tuple[str, str, str]]:
    times = Runs(run for run in runs if run["setup"] != "counts")
    off = math.inf if times.failed else perturbed(times)
    away = None if off is None else abs(off)
    yield _row("timing with memory on: off a loop by hand ≤ 2 %", away, 0.02, count=len(times))
    counts = runs.of("perturbation", setup="counts")
    worst = _worst(counts, lambda run: float(run["threads"] + run["profiles"] + run["nvml"]))
    yield _row(
        "while blocks run: no thread, profile hook or NVML call of ours", worst, 0, unit="seen", count=len(counts)
    )


def _memory(runs: Runs) -> Iterator[tuple[str, str, str]]:
    for method, where in ((OWN, "the kernel's process"), (ISOLATED, "isolated")):
        some = runs.of("memory", method=method)
        worst = _worst(some, lambda run: abs(peak_error(run, "heap")))
        yield _row(f"peak of the heap, {where}: error, worst ≤ 2 %", worst, 0.02, count=len(some))
    for method, where in ((ISOLATED, "isolated"), (OWN, "the kernel's process")):
        large = Runs(run for run in runs.of("memory", method=method) if run["true"] >= LARGE)
        goal = f"resident growth of 16 to 256 MiB, {where}: within 2 % or 1 MiB in every cell"
        yield _row(goal, _share(large, within), 1.0, at_least=True, count=len(large))
    off = Runs(run for run in runs.of("memory", method=OWN).good if not within(run))
    goal = "resident growth that is further off, the kernel's process: the report says so"
    yield _row(goal, _share(off, said), 1.0, at_least=True, count=len(off))


def quicker(runs: Runs) -> float | None:
    """Return how many times as quickly as cold imports a later worker starts: ratio of medians."""
    later, cold = (runs.of("workers", setup=setup) for setup in ("later worker", "cold imports"))
    if later.failed or cold.failed:
        return 0.0
    if not later or not cold:
        return None
    first, second = (statistics.median(run["seconds"] for run in some.good) for some in (cold, later))
    return first / second


def perturbed(runs: Runs, of: str = "fwmagic", to: str = "by hand") -> float | None:
    """Return by which share the engine's time of a call differs from the loop by hand: median over the repeats."""
    ratios = [run["medians"][of] / run["medians"][to] for run in runs.good]
    return statistics.median(ratios) - 1 if ratios else None


def peak_error(run: Run, figure: str) -> float:
    """Return how far the `heap` or `resident` peak is from the true one, as a fraction of that, with its sign."""
    return float(run[figure] / run["true"] - 1)


def within(run: Run) -> bool:
    """Say whether a resident peak is within 2 % or 1 MiB, whichever is more, of the true one."""
    return bool(abs(run["resident"] - run["true"]) <= max(0.02 * run["true"], MIB))


def said(run: Run) -> bool:
    """Say whether the report itself doubts the resident growth that it gives."""
    return bool(run["raw"]["host"]["note"])


def _worst(runs: Runs, value: Callable[[Run], float]) -> float | None:
    """Return the largest value; without bound if a run failed, None without a run."""
    return max([*map(value, runs.good), *(math.inf for _ in runs.failed)], default=None)


def _share(runs: Runs, holds: Callable[[Run], Any]) -> float | None:
    return sum(bool(holds(run)) for run in runs.good) / len(runs) if len(runs) else None


def _part(those: Iterable[bool]) -> float | None:
    found = list(those)
    return sum(found) / len(found) if found else None


def _holds(true: float, interval: Mapping[str, Any]) -> bool:
    return bool(interval["low"] is not None and interval["low"] <= true <= interval["high"])


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def _times(own: float | None, other: float | None) -> float | None:
    return None if own is None or not other else own / other


def _right(run: Run) -> str:
    """Return the true verdict on b where work was planted."""
    return "slower" if run["planted"] == "b" else "faster"


def _row(
    goal: str, value: float | None, limit: float, *, at_least: bool = False, unit: str = "%", count: int | None = None
) -> tuple[str, str, str]:
    if value is None:
        return goal, "no run", _met(None)
    shown = f"{100 * value:.2f} %" if unit == "%" else f"{value:.4g} {unit}"
    return (
        goal,
        shown + (f" of {count}" if count is not None else ""),
        _met(value >= limit if at_least else value <= limit),
    )


def _met(met: bool | None) -> str:
    return "–" if met is None else "yes" if met else "NO"
