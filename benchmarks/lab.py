"""The suite of comparisons in JupyterLab: the browser that shows the notebook runs on the same cores."""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from benchmarks.methods import QUICK, WHOLE
from benchmarks.results import ROOT, THREADS, Watch
from benchmarks.runs import OWN

# What drives JupyterLab is the tests' own.
sys.path.append(str(ROOT / "tests"))
import browser

_COUNT = 5
#: Pairs of sections by name, and whether they are the same; the unlike ones differ by far more than 1.2 times.
PAIRS = {
    "torch, alike": ("%%torch {} --mode eager\ntorch.tanh(x @ x)", 1, 1),
    "jax, alike": ("%%jax {} --mode compiled\njnp.tanh(x @ x)", 1, 1),
    "numpy, alike": ("%%numpy {}\nnp.tanh(x @ x)", 1, 1),
    "a sort, alike": ("%%numpy {}\nnp.sort(x[:20])", 1, 1),
    "torch, unlike": ("%%torch {} --mode eager\nfor _ in range({}): y = torch.tanh(x @ x)\ny", 1, 2),
    "jax, unlike": ("%%jax {} --mode compiled\ny = x\nfor _ in range({}): y = jnp.tanh(y @ x)\ny", 1, 2),
    "numpy, unlike": ("%%numpy {}\nfor _ in range({}): y = np.tanh(x @ x)\ny", 2, 3),
    "a sort, unlike": ("%%numpy {}\nfor _ in range({}): y = np.sort(x[:20])\ny", 2, 3),
}
_SETUP = "%%setup\nx = np.random.default_rng(0).standard_normal((160, 160), dtype=np.float32) / 16\n"
_KEEP = """found.append({
    "setup": SETUP, "verdict": timed.ratio("b").verdict, "ratio": timed.ratio("b").median, "low": timed.ratio("b").low,
    "high": timed.ratio("b").high, "spent": timed.spent, "neighbours": list(timed.conditions.neighbours),
})"""


def lab(rng: random.Random, quick: bool) -> Iterator[dict[str, Any]]:
    """Compare each pair as often, in random order, each in a cell of one notebook that a browser shows."""
    for name in THREADS:  # the kernel has as many as a user's
        os.environ.pop(name, None)
    jobs = [*PAIRS][:1] if quick else [*PAIRS] * _COUNT
    rng.shuffle(jobs)
    budget = (QUICK if quick else WHOLE).budget
    texts = ["%load_ext fwmagic\nimport json\nfound = []"]
    for name in jobs:
        body, a, b = PAIRS[name]
        sections = "\n".join(body.format(section, turns) for section, turns in (("a", a), ("b", b)))
        texts.append(f"%%compare --budget {budget} --no-check -o timed\n{_SETUP}{sections}")
        texts.append(_KEEP.replace("SETUP", repr(name)))
    texts.append("print(json.dumps(found))")
    with tempfile.TemporaryDirectory() as home, browser.server(Path(home)) as server, sync_playwright() as playwright:
        server.write("compare.ipynb", [browser.code(text) for text in texts])
        launched = playwright.chromium.launch(executable_path=browser.chromium(), args=browser.FLAGS)
        watch, opened = Watch(), browser.Lab(launched.new_page()).open(server, "compare.ipynb")
        opened.run_all()
        opened.wait_until_idle(timeout=60 + 20 * len(jobs))
        found = json.loads(opened.page.locator(".jp-OutputArea-output pre").last.inner_text())
        launched.close()
    for turn, run in enumerate(found, start=1):
        same = run["setup"].endswith(", alike")
        about = {"turn": f"{turn}/{len(jobs)}", "method": OWN, "planted": None, "true": 1.0 if same else None}
        yield {**about, **run, "load": watch.load()}
