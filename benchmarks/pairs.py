"""The suite of memory-bound eager pairs: the verdict in this kernel beside that of isolated workers."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from benchmarks.methods import QUICK, of_report, run_cell, shell
from benchmarks.results import watched
from benchmarks.runs import ISOLATED, OWN

Run = dict[str, Any]

# Processes take turns, of a few calls each: these take milliseconds.
_BUDGET = 5.0
#: Two ways to compute the same with torch, eagerly, on arrays that no cache holds: names, and what a and b are.
PAIRS = {
    "mish": ("F.mish(x)", "x * torch.tanh(F.softplus(x))"),
    "silu": ("F.silu(x)", "x * torch.sigmoid(x)"),
    "gelu": ("F.gelu(x, approximate='tanh')", "0.5 * x * (1 + torch.tanh(0.7978845608 * (x + 0.044715 * x**3)))"),
    "relu squared": ("F.relu(x).square_()", "F.relu(x) ** 2"),
    "softplus": ("F.softplus(x)", "torch.log1p(torch.exp(x))"),
    "hard swish": ("F.hardswish(x)", "x * torch.clamp(x + 3, 0, 6) / 6"),
    "scaled sum": ("torch.add(x, y, alpha=0.5)", "x + 0.5 * y"),
    "linear blend": ("torch.lerp(x, y, 0.3)", "x + 0.3 * (y - x)"),
    "addcmul": ("torch.addcmul(x, x, y)", "x + x * y"),
    "layer norm": (
        "F.layer_norm(x, (1000,))",
        "(x - x.mean(-1, True)) / (x.var(-1, keepdim=True, correction=0) + 1e-5).sqrt()",
    ),
}
_CELL = """%%compare --mode eager --budget {budget} --no-memory {options} -o timed
%%setup
import torch.nn.functional as F
generator = np.random.default_rng(0)
x, y = (generator.standard_normal((2000, 1000), dtype=np.float32) for _ in range(2))
%%torch a
{a}
%%torch b
{b}
"""


def pairs(rng: random.Random, quick: bool) -> Iterator[Run]:
    """Compare each pair in this process and in processes of their own, in random order."""
    budget = QUICK.budget if quick else _BUDGET
    jobs = [(name, method) for name in ([*PAIRS][:1] if quick else PAIRS) for method in (OWN, ISOLATED)]
    rng.shuffle(jobs)
    for turn, (name, method) in enumerate(jobs, start=1):
        a, b = PAIRS[name]
        text = _CELL.format(budget=budget, options="--isolate" if method == ISOLATED else "", a=a, b=b)

        def work(text: str = text) -> Run:
            run_cell(text)
            return of_report(shell().user_ns.pop("timed"), "a", "b")

        yield {"turn": f"{turn}/{len(jobs)}", "setup": name, "method": method, **watched(work)}
