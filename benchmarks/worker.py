"""Run one suite in this process and write one line of JSON a run to standard output; started by `benchmarks`."""

from __future__ import annotations

import json
import os
import random
import sys

from benchmarks.suites import SUITES


def main(name: str, seed: int, quick: bool) -> None:
    """Run the suite of that name."""
    # Whatever else is printed goes to standard error, so that each line of standard output is a run.
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    if name != "loading":
        import torch

        torch.set_num_threads(1)
    for run in SUITES[name].run(random.Random(seed), quick):
        lines.write(json.dumps(run, allow_nan=False) + "\n")
        lines.flush()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), "--quick" in sys.argv)
