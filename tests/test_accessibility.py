"""The panel and the output for everybody: no rule of axe is broken, and nothing jumps while a run goes on."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from browser import code, output_of, stored
from example_reports import a_report, a_variant, four_variants, two_runs, with_failure, with_memory
from playwright.sync_api import expect

from fwmagic.report import MIME

AXE = Path(__file__).parents[1] / "labextension" / "node_modules" / "axe-core" / "axe.min.js"
RUNNING = a_report(a_variant("torch"), a_variant("jax", status="running"), state="running", progress=0.3)
STATES = {
    "four variants": [output_of(four_variants())],
    "memory": [output_of(with_memory())],
    "two": [output_of(report) for report in two_runs()],
    "failed": [output_of(with_failure())],
    "unfinished": [output_of(RUNNING)],
    "newer": [stored({**a_report()._repr_mimebundle_()[MIME], "version": 2})],
    "invalid": [stored("text")],
    "no report": [],
    "no kernel": [],
    "no notebook": [],
}
COMPARE = """%%compare --budget 8 --mode eager
%%setup
A = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
%%numpy
np.tanh(A @ A)
%%torch
torch.tanh(A @ A)
"""


@pytest.fixture
def state(request, lab, lab_server):
    """The page with the panel in a state, and every table in it opened."""
    name = request.param
    lab_server.write("state.ipynb", [code("1", *STATES[name])])
    lab.open(lab_server, "state.ipynb")
    lab.open_panel()
    if name == "two":
        lab.panel.locator(".fwm-beside").click()
        expect(lab.panel.locator(".fwm-changes")).to_be_visible()
    elif name == "no kernel":
        lab.page.evaluate("() => void window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
        expect(lab.panel).to_contain_text("This notebook has no kernel")
    elif name == "no notebook":
        lab.page.evaluate("() => window.jupyterapp.shell.currentWidget.dispose()")
        expect(lab.panel).to_contain_text("No notebook is open")
    for place in ("#fwmagic-panel", ".fwm-output"):
        charts = lab.page.locator(f"{place} figure")
        expect(charts.locator("svg")).to_have_count(charts.count())
        lab.page.locator(f"{place} details").evaluate_all("all => all.forEach(one => { one.open = true; })")
    yield lab
    lab.theme("Light")


@pytest.mark.parametrize("theme", ["Light", "Dark"])
@pytest.mark.parametrize("state", STATES, indirect=True)
def test_axe_finds_nothing(state, theme):
    lab = state
    lab.theme(theme)
    lab.page.add_script_tag(path=AXE)
    # JupyterLab's body has no height and hides what overflows: axe would take all of the page for invisible.
    lab.page.add_style_tag(content="body { height: 100vh; }")
    places = [place for place in ("#fwmagic-panel", ".fwm-output") if lab.page.locator(place).count()]
    assert "#fwmagic-panel" in places
    for place in places:
        found = lab.page.evaluate("place => axe.run(place)", place)
        broken = [(v["id"], n["html"][:300], n["failureSummary"]) for v in found["violations"] for n in v["nodes"]]
        assert broken == [], place
        assert "color-contrast" in [rule["id"] for rule in found["passes"]]


def test_nothing_jumps_while_a_run_is_drawn_again_and_again(lab, lab_server):
    lab_server.write("steady.ipynb", [code("%load_ext fwmagic"), code(COMPARE)])
    lab.open(lab_server, "steady.ipynb")
    lab.open_panel()
    lab.page.evaluate(
        """() => {
            window.heights = {'#fwmagic-panel': [], '.fwm-output': []};
            window.drawings = new Set();
            const look = () => {
                for (const [place, heights] of Object.entries(window.heights)) {
                    const figure = document.querySelector(`${place} figure[data-chart=times]`);
                    const drawing = figure?.querySelector('svg');
                    // From the first drawing on; a figure that is taken away counts as one without a height.
                    if (drawing || heights.length > 0) {
                        heights.push(figure?.getBoundingClientRect().height ?? 0);
                        window.drawings.add(drawing);
                    }
                }
                requestAnimationFrame(look);
            };
            look();
        }"""
    )
    lab.run_all()
    lab.wait_until_idle()
    expect(lab.page.locator(".fwm-report")).to_have_count(2)
    expect(lab.page.locator("progress")).to_have_count(0)
    assert lab.page.evaluate("() => window.drawings.size") > 6
    for place, heights in lab.page.evaluate("() => window.heights").items():
        assert len(heights) > 30, place
        assert [fall for fall in pairwise(heights) if fall[1] < fall[0] - 0.5] == [], place
