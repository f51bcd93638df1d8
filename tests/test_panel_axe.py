"""axe-core finds nothing to object to: panel and cell output, in every state, in both themes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from browser import Lab, code, output, output_of, stored
from example_reports import (
    a_cell_line_by_line,
    a_report,
    a_variant,
    four_variants,
    two_runs,
    with_failure,
    with_memory,
)
from playwright.sync_api import expect
from tiers import tiered

from fwmagic.report import MIME, Report
from fwmagic.report.lines import LINES_MIME

AXE = Path(__file__).parents[1] / "labextension" / "node_modules" / "axe-core" / "axe.min.js"


def running() -> Report:
    """Return a report whose end nobody saw."""
    return a_report(a_variant("torch"), a_variant("jax", status="running"), state="running", progress=0.3)


def newer() -> Any:
    return stored({**a_report()._repr_mimebundle_()[MIME], "version": 2})


STATES = {
    "four variants": [output_of(four_variants())],
    "memory": [output_of(with_memory())],
    "two": [*map(output_of, two_runs())],
    "failed": [output_of(with_failure())],
    "lines": [output({LINES_MIME: a_cell_line_by_line().to_stored()})],
    "unfinished": [output_of(running())],
    "many": [output_of(replace(with_failure(), run_id=str(i), cell=f"%%compare\n{i}")) for i in range(5)],
    "newer": [newer()],
    "invalid": [stored("text")],
    "no report": [],
    "no kernel": [],
    "no notebook": [],
}


@pytest.fixture(scope="module")
def state(request, profile, lab_server):
    """A page with the panel in a state, everything in it opened; both themes are tried on it."""
    name = request.param
    lab = Lab(profile.new_page())
    opened(lab, lab_server, name)
    yield lab
    lab.theme("Light")
    lab.page.close()
    assert lab.errors == []


def opened(lab, lab_server, name):
    lab_server.write("state.ipynb", [code("1", *STATES[name])])
    lab.open(lab_server, "state.ipynb")
    lab.open_panel()
    if name == "two":
        lab.panel.locator(".fwm-beside").click()
        lab.panel.locator(".fwm-pin").first.click()
        expect(lab.panel.locator(".fwm-changes")).to_be_visible()
    elif name == "no kernel":
        lab.page.evaluate("() => void window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
        expect(lab.panel).to_contain_text("This notebook has no kernel")
    elif name == "no notebook":
        lab.page.evaluate("() => window.jupyterapp.shell.currentWidget.dispose()")
        expect(lab.panel).to_contain_text("No notebook is open")
    elif name == "no report":
        expect(lab.panel).to_contain_text("No report in this notebook yet")
    for place in ("#fwmagic-panel", ".fwmagic"):
        lab.page.locator(f"{place} details").evaluate_all("all => all.forEach(one => { one.open = true; })")
        charts = lab.page.locator(f"{place} figure")
        expect(charts.locator("svg")).to_have_count(charts.count())
    # Of a table that the window's edge cuts in two, axe cannot judge the contrast.
    lab.page.set_viewport_size({"width": 1500, "height": 5000})
    lab.page.add_script_tag(path=AXE)
    # JupyterLab's body has no height and hides what overflows: axe would take all of the page for invisible.
    lab.page.add_style_tag(content="body { height: 100vh; }")


@pytest.mark.parametrize("theme", ["Light", "Dark"])
@pytest.mark.parametrize("state", tiered({name: name for name in STATES}, "four variants", "failed"), indirect=True)
def test_axe_finds_nothing(state, theme):
    lab = state
    lab.theme(theme)
    places = [place for place in ("#fwmagic-panel", ".fwmagic") if lab.page.locator(place).count()]
    assert "#fwmagic-panel" in places
    for place in places:
        found = lab.page.evaluate("place => axe.run(place)", place)
        assert [(v["id"], n["html"][:200], n["failureSummary"]) for v in found["violations"] for n in v["nodes"]] == []
        # Nothing was hidden from it: it has judged the contrast of text.
        assert "color-contrast" in [rule["id"] for rule in found["passes"]]
