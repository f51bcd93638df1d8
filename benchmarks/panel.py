"""What the JupyterLab panel costs: from a report to its last mark in a real browser, and the kernel's updates."""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from benchmarks.results import ROOT, Watch
from fwmagic.report import MIME

# What drives JupyterLab, and reports of all sizes, are the tests' own.
sys.path.append(str(ROOT / "tests"))
import browser
from example_reports import a_report, four_variants, with_memory

_PAGES = 3
_LATER = 5
#: Draws a stored value in a new renderer: milliseconds to the marks of the chart that comes first, and to the last
#: change in all of its charts.
_DRAW = """async ([mime, value]) => {
    const registry = window.jupyterapp.shell.currentWidget.content.rendermime;
    const renderer = registry.createRenderer(mime);
    const place = document.createElement('div');
    place.style.cssText = 'position: fixed; top: 0; left: 0; width: 600px; height: 900px; overflow: auto; z-index: 99';
    document.body.append(place);
    place.append(renderer.node);
    const figures = () => [...place.querySelectorAll('.fwm-chart')];
    const drawn = figure => figure.querySelector('svg .role-mark') !== null;
    let first = 0, last = 0;
    const observer = new MutationObserver(() => {
        last = performance.now();
        first ||= figures().some(drawn) ? last : 0;
    });
    observer.observe(place, {childList: true, subtree: true});
    const start = performance.now();
    // what Lumino tells a widget that it has been shown: React draws only then
    renderer.processMessage({type: 'after-attach', isConflatable: false, conflate: () => false});
    await renderer.renderModel({data: {[mime]: value}, metadata: {}, trusted: false, setData: () => {}});
    while (!figures().length || !figures().every(drawn)) {
        await new Promise(resolve => setTimeout(resolve, 1));
    }
    await new Promise(resolve => setTimeout(resolve, 200));
    observer.disconnect();
    const charts = figures().length;
    place.remove();
    return {first: first - start, milliseconds: last - start, charts};
}"""
_WATCH = """
%load_ext fwmagic
import time
from fwmagic.display import Display
updating, show = [], Display._show
def watched(self, report):
    start = time.perf_counter()
    show(self, report)
    updating.append(time.perf_counter() - start)
Display._show = watched
"""
# Equal work is never decided without a margin: it runs for the whole budget.
_RUN = """%%compare --budget 5 --margin 0 -o report
%%numpy a
np.sort(np.arange(20_000)[::-1])
%%numpy b
np.sort(np.arange(20_000)[::-1])"""
_TELL = "print(sum(updating[1:-1]), len(updating) - 2, report.spent)"


def panel(rng: random.Random, quick: bool) -> Iterator[dict[str, Any]]:
    """Time first and later charts, and the share of a run that its updates take."""
    reports = {"two variants": a_report(), "four variants": four_variants(1000), "memory": with_memory()}
    values = {name: report._repr_mimebundle_()[MIME] for name, report in reports.items()}
    with tempfile.TemporaryDirectory() as home, browser.server(Path(home)) as server, sync_playwright() as playwright:
        server.write("empty.ipynb", [browser.code("")])
        launched = playwright.chromium.launch(executable_path=browser.chromium(), args=browser.FLAGS)
        for name, value in [*values.items()][: 1 if quick else None]:
            for _ in range(1 if quick else _PAGES):
                page = launched.new_page()
                browser.Lab(page).open(server, "empty.ipynb")
                for turn in range(2 if quick else 1 + _LATER):
                    watch = Watch()
                    drawn = page.evaluate(_DRAW, [MIME, value])
                    about = {"turn": f"{turn + 1}", "setup": name, "kind": "later" if turn else "first"}
                    yield {**about, "method": "fwmagic", **drawn, "load": watch.load()}
                page.close()
        for turn in range(1 if quick else _PAGES):
            notebook = f"updates-{turn + 1}.ipynb"
            server.write(notebook, [browser.code(text) for text in (_WATCH, _RUN, _TELL)])
            watch = Watch()
            page = launched.new_page()
            drawn = _updates(browser.Lab(page).open(server, notebook))
            page.close()
            yield {"turn": f"{turn + 1}", "setup": "updates", "method": "fwmagic", **drawn, "load": watch.load()}
        launched.close()


def _updates(lab: browser.Lab) -> dict[str, Any]:
    lab.run_all()
    lab.wait_until_idle()
    told = lab.page.locator(".jp-OutputArea-output pre").last.inner_text()
    updating, count, spent = (float(number) for number in told.split())
    return {"kind": "updates", "updating": updating, "updates": int(count), "spent": spent}
