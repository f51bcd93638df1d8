"""What Notebook 7 has of the panel: the same output, and the panel in the right area, opened by the menu."""

from __future__ import annotations

import pytest
from browser import Lab, code, output_of, server
from example_reports import four_variants
from playwright.sync_api import expect
from test_heights import REPORTS, allowed

# Isolated variants take the whole budget, so there is time to see the run go on.
COMPARE = """%%compare --isolate --budget 3 --mode eager
%%setup
A = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
%%numpy
np.tanh(A @ A)
%%torch
torch.tanh(A @ A)
"""


@pytest.fixture(scope="module")
def notebook_server(tmp_path_factory):
    with server(tmp_path_factory.mktemp("notebook"), "notebook") as running:
        yield running


@pytest.fixture
def notebook(chromium):
    context = chromium.new_context(viewport={"width": 1500, "height": 1000})
    context.set_default_timeout(30_000)
    lab = Lab(context.new_page())
    yield lab
    context.close()
    # Notebook 7 itself looks for the schema of a plugin that it does not have.
    assert [error for error in lab.errors if "reading 'schema'" not in error] == []


def choose(lab, menu, item):
    """Choose an item of the menu bar: a page of Notebook 7 does not tell of its application."""
    lab.page.locator(".lm-MenuBar-itemLabel", has_text=menu).click()
    lab.page.locator(".lm-Menu-itemLabel").get_by_text(item, exact=True).click()


def opened(lab, at, name):
    """Open a notebook and wait for its kernel, then open the panel."""
    lab.page.goto(at.url(name))
    expect(lab.page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]")).to_be_visible(timeout=60_000)
    choose(lab, "View", "Compare PyTorch and JAX")
    expect(lab.panel).to_be_visible()


def test_a_stored_report_is_drawn_in_the_output_and_in_the_right_area(notebook, notebook_server):
    notebook_server.write("stored.ipynb", [code("1", output_of(four_variants()))])
    opened(notebook, notebook_server, "stored.ipynb")
    said = "✗ outputs of jax:compiled differ at loss[0]"
    expect(notebook.panel.locator("figure svg")).to_have_count(3)
    expect(notebook.panel.locator("figure[data-chart=times] .medians_marks path")).to_have_count(4)
    expect(notebook.panel.locator(".fwm-headline")).to_contain_text(said)
    shown = notebook.page.locator(".fwmagic")
    expect(shown.locator(".fw-top")).to_contain_text(said)
    expect(shown.locator(".fw-rows tbody tr")).to_have_count(4)
    output, panel = shown.bounding_box(), notebook.panel.bounding_box()
    assert panel["x"] >= output["x"] + output["width"]


@pytest.mark.slow  # its first tier: test_heights.py
def test_an_output_is_low_and_stands_in_no_box_to_scroll(notebook, notebook_server):
    notebook_server.write("heights.ipynb", [code(name, output_of(report)) for name, report in REPORTS.items()])
    opened(notebook, notebook_server, "heights.ipynb")
    for place, (name, report) in enumerate(REPORTS.items()):
        cell = notebook.page.locator(".jp-Notebook .jp-CodeCell").nth(place)
        cell.scroll_into_view_if_needed()
        shown = cell.locator(".jp-OutputArea-output").first
        assert shown.bounding_box()["height"] <= allowed(report), name
        outer = cell.locator(".jp-Cell-outputArea")
        assert outer.evaluate("one => one.scrollHeight <= one.clientHeight + 1"), name


@pytest.mark.slow
def test_a_run_is_followed(notebook, notebook_server):
    notebook_server.write("live.ipynb", [code("%load_ext fwmagic"), code(COMPARE)])
    opened(notebook, notebook_server, "live.ipynb")
    expect(notebook.panel).to_contain_text("No report in this notebook yet")
    notebook.page.evaluate(
        """() => {
            window.progress = new Set();
            new MutationObserver(() => document.querySelectorAll('#fwmagic-panel progress').forEach(
                one => window.progress.add(one.value)
            )).observe(document.body, {subtree: true, childList: true, attributes: true});
        }"""
    )
    choose(notebook, "Run", "Run All Cells")
    panel, output = notebook.panel, notebook.page.locator(".fwmagic")
    expect(panel.locator("figure[data-chart=ratios] svg")).to_be_visible(timeout=60_000)
    expect(panel.locator("progress")).to_have_count(0, timeout=60_000)
    assert notebook.page.evaluate("() => window.progress.size") > 2
    expect(panel.locator(".fwm-runs li")).to_have_count(1)
    expect(panel.locator(".fwm-headline")).to_have_text(output.locator(".fw-top").text_content())
