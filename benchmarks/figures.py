"""Every figure of a results file as Markdown tables: `python -m benchmarks.figures FILE`."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import figures_of_memory, figures_of_workers, goals
from benchmarks.markdown import median, number, percent, table
from benchmarks.results import load
from benchmarks.runs import ALIKE, HAND, ISOLATED, OWN, Run, Runs, busy, deviations, errors, share, spread


def to_markdown(data: Mapping[str, Any]) -> str:
    """Return all figures of a results file; a suite without a run is left out."""
    parts = [_sessions(data["sessions"])]
    runs = Runs(data["runs"])
    for title, suites, draw in _TABLES:
        found = runs.of(*suites)
        if found:
            parts.append(f"## {title}\n\n{draw(found)}")
            parts += _failures(found.failed)
    parts.append("## Goals\n\n" + table(("goal", "found", "met"), goals.rows(runs)))
    return "\n\n".join(parts) + "\n"


def _sessions(sessions: Iterable[Mapping[str, Any]]) -> str:
    rows = [
        (
            one["started"] + (" (quick: numbers that mean nothing)" if one.get("quick") else ""),
            f"{one['commit']}{' with changes' if one['dirty'] else ''}",
            ", ".join(f"{name} {version}" for name, version in one["versions"].items() if version),
            f"{one['machine']}; {one['system']}; load {one['load']:.2f}",
            ", ".join(one.get("suites", ())),
        )
        for one in sessions
    ]
    return "# Figures\n\n" + table(("session", "commit", "versions", "machine", "suites"), rows)


def _failures(failed: Iterable[Run]) -> list[str]:
    """Return a list of what failed, alike failures together; no list if nothing did."""
    reasons = Counter(
        f"{run['suite']}, {run.get('setup', 'whole suite')}, {run.get('method', 'no method')}: {run['failed']}"
        for run in failed
    )
    return ["\n".join(f"- failed, {count} times: {reason}" for reason, count in reasons.items())] if reasons else []


def _alike(runs: Runs) -> str:
    heads = ("set-up", "method", "ms a call", "runs", "failed", "ratio error, median", "worst", 'false "different"')
    rows = []
    for (_, _, setup, method), group in runs.groups("suite", "length", "setup", "method"):
        found, own = errors(group), method == OWN
        rows.append(
            (
                setup,
                method,
                number(median(run["each"] for run in group.good), 1e3),
                str(len(group)),
                str(len(group.failed)),
                percent(median(found), 2),
                percent(max(found, default=None), 2),
                percent(share(group, "faster", "slower")) if method != HAND else "–",
                percent(share(group, "same")) if own else "–",
                percent(share(group, "undecided")) if own else "–",
                percent(goals.holding(group)) if own else "–",
                number(goals.deciding(group)) if own else "–",
                number(median(run["seconds"] for run in group.good)),
            )
        )
    return table((*heads, "`same`", "undecided", "interval holds 1", "decided, s, median", "s a run"), rows)


def _expert(runs: Runs) -> str:
    rows = [
        (
            run["setup"],
            run["way"],
            number(run["each"], 1e6),
            number(run["ratio"]),
            f"{number(run['raw']['low'])} to {number(run['raw']['high'])}",
            run["reason"] if run["way"] != "cell" else "",
        )
        for run in sorted(runs.good, key=lambda run: -run["ratio"])
    ]
    heads = ("cell", "way", "expert, µs a call", "fwmagic over expert", "95 % interval", "why it is not one program")
    return table(heads, rows)


def _alone(runs: Runs) -> str:
    away = goals.beside_hand(runs)
    rows = []
    for (setup,), group in runs.groups("setup"):
        own, hand = ([run["each"] for run in group.of("alone", method=method).good] for method in (OWN, HAND))
        own_range, hand_range = (percent(max(some) / min(some) - 1, 1) if some else "–" for some in (own, hand))
        rows.append(
            (setup, number(median(own), 1e6), number(median(hand), 1e6), percent(away[setup], 1), own_range, hand_range)
        )
    heads = ("cell", "fwmagic, µs a call", "by hand, µs a call", "difference", "from run to run", "by hand")
    return table(heads, rows)


def _pairs(runs: Runs) -> str:
    heads = ("pair", "b over a", "95 % interval", "verdict", "isolated", "95 % interval", "verdict")
    rows = []
    for (setup,), group in runs.groups("setup"):
        cells = []
        for method in (OWN, ISOLATED):
            for run in group.of("pairs", method=method).good[-1:]:
                ratio = run["raw"]["ratio"]
                cells += [number(run["ratio"]), f"{number(ratio['low'])} to {number(ratio['high'])}", run["verdict"]]
        rows.append((setup, *cells))
    return table(heads, rows)


def _lab(runs: Runs) -> str:
    rows = []
    for (setup,), group in runs.groups("setup"):
        verdicts = Counter(run["verdict"] for run in group.good)
        each = ", ".join(f"{verdict} {count}" for verdict, count in sorted(verdicts.items()))
        ratios = [run["ratio"] for run in group.good]
        spent = median(run["spent"] for run in group.good)
        rows.append((setup, str(len(group)), f"{number(min(ratios))} to {number(max(ratios))}", each, number(spent)))
    return table(("pair", "runs", "b over a", "verdicts", "s of timing, median"), rows)


def _planted(runs: Runs) -> str:
    heads = ("planted", "set-up", "method", "runs", "failed", "found", "wrong side", '"same" or "not different"')
    rows = [
        (
            percent(planted, 1),
            setup,
            method,
            str(len(group)),
            str(len(group.failed)),
            percent(goals.found(group)),
            percent(goals.wrong_side(group)),
            percent(share(group, "same", "not different")),
            percent(share(group, "undecided")),
            percent(median(errors(group)), 2),
        )
        for (planted, setup, method), group in runs.groups("share", "setup", "method")
    ]
    return table((*heads, "undecided", "ratio error, median"), rows)


def _frameworks(runs: Runs) -> str:
    heads = ("set-up", "method", "runs", "failed", "busy", "ratio, median", "spread: SD", "median deviation", "worst")
    rows = []
    for (setup, method), group in runs.groups("setup", "method"):
        away = deviations(group)
        rows.append(
            (
                setup,
                method,
                str(len(group)),
                str(len(group.failed)),
                str(busy(group)),
                number(median(run["ratio"] for run in group.good)),
                percent(spread(group), 2),
                percent(median(away), 2),
                percent(max(away, default=None), 2),
                number(median(run["seconds"] for run in group.good)),
            )
        )
    return table((*heads, "s a run"), rows)


def _neighbour(runs: Runs) -> str:
    heads = ("set-up", "method", "planted", "runs", "failed", "false verdicts", "undecided", "load named")
    rows = []
    for (setup, method), both in runs.groups("setup", "method"):
        for planted in (False, True):
            group = Runs(run for run in both if (run.get("planted") is not None) == planted)
            if group:
                own = method == OWN
                rows.append(
                    (
                        setup,
                        method,
                        percent(next(iter(group)).get("share")) if planted else "no",
                        str(len(group)),
                        str(len(group.failed)),
                        percent(goals.false_verdicts(group)),
                        percent(share(group, "undecided")) if own else "–",
                        percent(goals.load_named(group)) if own else "–",
                    )
                )
    return table(heads, rows)


def _coverage(runs: Runs) -> str:
    rows = []
    for run in runs.good:
        replays = run["replays"]
        for budget in sorted({one["budget"] for one in replays}):
            some = [one for one in replays if one["budget"] == budget]
            bounded = [one for one in some if one["low"] is not None]
            rows.append(
                (
                    run["setup"],
                    str(len(run["samples"]["a"])),
                    str(run["stretch"]),
                    f"{some[0]['rounds']} ({budget:g} s)",
                    str(len(some)),
                    percent(goals.covered(some), 1),
                    percent(median(math.log(one["high"] / one["low"]) / 2 for one in bounded), 2),
                )
            )
    heads = ("set-up", "recorded rounds", "stretch", "rounds a replay", "replays", "covered", "half width, median")
    return table(heads, rows)


def _cost(runs: Runs) -> str:
    rows = [
        (
            run["setup"],
            str(run["calls"]),
            str(len(run["samples"]["fwmagic"])),
            number(median(run["samples"]["fwmagic"]), 1e6),
            number(median(run["samples"]["by hand"]), 1e6),
            f"{goals.cost(run) * 1e6:+.4f}",
        )
        for run in runs.good
    ]
    return table(
        ("function", "calls a loop", "loops", "fwmagic, µs a call", "by hand, µs a call", "difference, µs"), rows
    )


def _loading(runs: Runs) -> str:
    seconds = [run["load_ext"] for run in runs.good]
    imported = sorted({name for run in runs.good for name in run["imported"]})
    row = (
        str(len(runs)),
        str(len(runs.failed)),
        number(median(seconds), 1e3),
        number(max(seconds, default=None), 1e3),
        ", ".join(imported) or "none of them",
    )
    return table(("processes", "failed", "ms, median", "ms, worst", "torch, jax, numpy, pandas imported"), [row])


def _again(runs: Runs) -> str:
    rows = [
        (
            str(run["execution"]),
            number(run["seconds"]),
            number(run["spent"]),
            f"{run['verdict']} ({run['ratio']:.3f})",
            ", ".join(f"{name} {run['ways'][name]} {seconds * 1e3:.2f} ms" for name, seconds in run["each"].items()),
        )
        for run in runs.good
    ]
    return table(("execution", "s to the end", "s of timing", "JAX over torch", "variants"), rows)


def _panel(runs: Runs) -> str:
    rows = []
    for (setup, kind), group in runs.groups("setup", "kind"):
        good = list(group.good)
        if kind == "updates":
            each = [1e3 * run["updating"] / run["updates"] for run in good]
            updates = f"updates of {good[0]['spent']:.3g} s"
            rows.append((updates, kind, str(good[0]["updates"]), str(len(group)), *_spread(each), "", ""))
        else:
            first, each = ([run[name] for run in good] for name in ("first", "milliseconds"))
            rows.append((setup, kind, str(good[0]["charts"]), str(len(group)), *_spread(each), *_spread(first)))
    heads = ("report", "drawn", "charts or updates", "runs", "ms, median", "worst", "first chart, median", "worst")
    return table(heads, rows)


def _spread(milliseconds: Sequence[float]) -> tuple[str, str]:
    return number(median(milliseconds)), number(max(milliseconds))


def _budget(runs: Runs) -> str:
    rows = [
        (
            run["setup"],
            f"{run['length']:g}",
            f"{run['budget']:g}",
            f"{run['spent']:.4f}",
            f"{run['spent'] - run['budget']:+.4f}",
            f"{(run['spent'] - run['budget']) / run['length']:+.1f}",
            " and ".join(str(calls) for calls in run["calls"]),
            "yes" if goals.kept(run) else "no",
        )
        for run in sorted(runs.good, key=lambda run: (run["setup"], run["length"], run["budget"]))
    ]
    heads = ("way", "s a call", "budget, s", "spent, s", "over, s", "over, calls", "calls, first run included", "kept")
    return table(heads, rows)


_TABLES: tuple[tuple[str, tuple[str, ...], Callable[[Runs], str]], ...] = (
    ("Identical functions on the same buffers", ALIKE, _alike),
    ("Identical sections of a `%%compare` cell", ("cells",), _alike),
    ("Cells alone, beside a loop by hand over the same program", ("alone",), _alone),
    ("Cells beside an expert's function", ("expert",), _expert),
    ("Extra work in one of two identical functions", ("planted",), _planted),
    ("torch against JAX on equal work, run to run", ("frameworks",), _frameworks),
    ("torch against JAX in processes of their own, and in one, run to run", ("isolated",), _frameworks),
    ("Memory-bound pairs, in this process and isolated", ("pairs",), _pairs),
    ("In JupyterLab, beside its browser", ("lab",), _lab),
    ("With a busy neighbour", ("neighbour",), _neighbour),
    ("With a neighbour that is busy in bursts", ("bursts",), _neighbour),
    ("How often the 95 % interval holds the true ratio", ("coverage",), _coverage),
    ("Cost of a timed call", ("cost",), _cost),
    ("`%load_ext fwmagic` in fresh processes", ("loading",), _loading),
    ("An unchanged `%%compare` of two ~1 ms cells, run again", ("again",), _again),
    ("The panel: from a report to its last mark", ("panel",), _panel),
    ("`--budget`, and long cells", ("budget", "long"), _budget),
    ("Isolated workers", ("workers",), figures_of_workers.workers),
    ("Timing with memory measured in the same run", ("perturbation",), figures_of_workers.perturbation),
    ("Cells with a known temporary", ("memory",), figures_of_memory.memory),
)


def main(arguments: Sequence[str]) -> int:
    """Print the figures of the file that is named."""
    if len(arguments) != 1:
        print("usage: python -m benchmarks.figures FILE", file=sys.stderr)
        return 2
    print(to_markdown(load(Path(arguments[0]))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
