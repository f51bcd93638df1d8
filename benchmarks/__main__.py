"""Run the suites, each in a process of its own, and add all runs to one JSON file."""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from benchmarks.figures import to_markdown
from benchmarks.results import ROOT, THREADS, Results
from benchmarks.runs import is_busy
from benchmarks.suites import NEIGHBOURS, SUITES, Suite


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; return 1 if a suite broke off."""
    asked = _parse(arguments)
    suites = [SUITES[name] for name in SUITES if name in asked.only]
    results = Results(asked.out)
    results.begin(seed=asked.seed, quick=asked.quick, suites=[suite.name for suite in suites])
    if not asked.quick:
        minutes = sum(suite.seconds for suite in suites) / 60
        print(f"about {minutes:.0f} minutes; leave the machine alone meanwhile", flush=True)
    broken = []
    for suite in suites:
        start = time.perf_counter()
        try:
            with _beside(suite.neighbour) if suite.neighbour else nullcontext():
                for run in _runs(suite, asked.seed, asked.quick):
                    results.add(run)
                    print(_progress(run), flush=True)
                    if "broke off" in run.get("failed", ""):
                        broken.append(suite.name)
        finally:
            results.save()
        print(f"{suite.name}: {time.perf_counter() - start:.0f} s, written to {results.path}", flush=True)
    print(f"\n{to_markdown(results.data)}")
    return 1 if broken else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    listed = ", ".join(f"{suite.name} ({suite.seconds} s)" for suite in SUITES.values())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure fwmagic beside %timeit and torch's Timer. The figures of a results file are printed by "
        "`python -m benchmarks.figures FILE`.",
        epilog=f"Suites: {listed}.",
    )
    parser.add_argument("--only", help="names of suites, with commas between them; all of them if left out")
    parser.add_argument("--out", type=Path, help="results file; one that exists is added to")
    parser.add_argument("--quick", action="store_true", help="a smoke test: numbers that mean nothing")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32), help="of all random orders")
    asked = parser.parse_args(arguments)
    asked.only = list(SUITES) if asked.only is None else asked.only.split(",")
    unknown = [name for name in asked.only if name not in SUITES]
    if unknown:
        parser.error(f"no suite {unknown[0]!r}; there are: {', '.join(SUITES)}")
    if asked.out is None:
        asked.out = ROOT / "benchmarks" / "results" / time.strftime("%Y-%m-%dT%H%M%S.json", time.gmtime())
    return asked


def _runs(suite: Suite, seed: int, quick: bool) -> Iterator[dict[str, Any]]:
    """Yield the runs that a worker writes; one more, a failed one, if it breaks off."""
    command = [sys.executable, "-m", "benchmarks.worker", suite.name, str(seed), *(["--quick"] if quick else [])]
    with subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **THREADS}, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    ) as worker:
        assert worker.stdout is not None
        for line in worker.stdout:
            yield {"suite": suite.name, **json.loads(line)}
    if worker.returncode:
        yield {"suite": suite.name, "failed": f"the worker broke off with exit status {worker.returncode}"}


@contextmanager
def _beside(neighbour: str) -> Iterator[None]:
    """Run a neighbour, as a process that is no child of the one that measures."""
    with subprocess.Popen([sys.executable, "-c", NEIGHBOURS[neighbour]]) as busy:
        try:
            time.sleep(0.5)
            yield
        finally:
            busy.kill()


def _progress(run: dict[str, Any]) -> str:
    words = [run["suite"], run.get("turn", ""), run.get("setup", ""), run.get("method", "")]
    if "failed" in run:
        words.append(f"FAILED: {run['failed']}")
    if "ratio" in run:
        words.append(f"{run['ratio']:.4f} {run['verdict']}")
    if "seconds" in run:
        words.append(f"{run['seconds']:.1f} s")
    if is_busy(run):
        words.append(f"(BUSY MACHINE: others used {run['load']['others']:.2f} cores)")
    return "  ".join(word for word in words if word)


if __name__ == "__main__":
    sys.exit(main())
