"""A cell line by line in the panel: a slider over its steps, by keyboard, in a narrow panel, and back to the cell."""

from __future__ import annotations

import pytest
from browser import code, output, output_of
from example_reports import a_cell_line_by_line, a_report
from playwright.sync_api import expect

from fwmagic.report.lines import LINES_MIME


@pytest.fixture
def panel(lab, lab_server, request):
    """The panel of a notebook with a report and, run later, a cell line by line."""
    name = f"{request.node.name}.ipynb"
    shown = output({LINES_MIME: a_cell_line_by_line().to_stored(), "text/html": "<p>lines</p>", "text/plain": "lines"})
    lab_server.write(name, [code("first", output_of(a_report())), code("%%jax --debug\nline two\nz = 4", shown)])
    lab.open(lab_server, name)
    lab.open_panel()
    expect(lab.panel.locator(".fwm-runs li")).to_have_count(2)
    lab.panel.locator(".fwm-pick").first.click()  # the first cell is selected, whose run it shows
    return lab.panel


def test_the_arrow_keys_go_from_step_to_step(panel, lab):
    where, slider = panel.locator(".fwm-where"), panel.get_by_role("slider", name="Step")
    current = panel.locator("[aria-current=step]")
    expect(where).to_have_text("Step 1 of 8, while tracing: line 7 of double, time 1")
    slider.focus()
    lab.page.keyboard.press("ArrowRight")
    expect(current).to_contain_text("tracing 1× → float32[] tracer")
    assert "no trace" not in current.inner_text()
    lab.page.keyboard.press("ArrowRight")
    lab.page.keyboard.press("ArrowRight")
    expect(where).to_have_text("Step 4 of 8, without a trace: line 8 of double, time 1")
    expect(current).to_contain_text("no trace 1× → float32[] 2")
    expect(current).to_contain_text("tracing 1× → float32[] tracer")
    lab.page.keyboard.press("End")
    expect(slider).to_have_attribute("aria-valuetext", "Step 8 of 8, without a trace: line 3, time 1; z: 4")
    expect(panel.locator(".fwm-code li").nth(3)).to_contain_text("no trace 2× → float32[] 4")
    lab.page.keyboard.press("ArrowLeft")
    expect(current).to_contain_text("!2")
    lab.page.keyboard.press("Home")
    expect(where).to_contain_text("Step 1 of 8")


@pytest.mark.slow
def test_it_stands_in_the_list_and_leads_to_its_cell(panel, lab):
    picks = panel.locator(".fwm-pick")
    expect(picks.first).to_contain_text("%%jax --debug")
    expect(picks.first).to_contain_text("1 found")
    expect(panel.locator(".fwm-pin")).to_have_count(1)  # of the report
    expect(panel.get_by_role("button", name="Copy", exact=True)).to_be_disabled()
    panel.get_by_role("slider", name="Step").press("End")
    panel.locator(".fwm-where").get_by_role("button", name="line 3").click()
    lab.page.wait_for_function(
        """() => {
            const { content } = window.jupyterapp.shell.currentWidget;
            return content.activeCellIndex === 1 && content.activeCell.editor?.getCursorPosition().line === 2;
        }"""
    )
    picks.nth(1).click()
    expect(panel.locator(".fwm-lines")).to_have_count(0)
    expect(panel.locator(".fwm-chart")).not_to_have_count(0)


@pytest.mark.slow
def test_a_narrow_panel_shows_all_of_it(panel, lab):
    lab.narrow()
    box = panel.bounding_box()
    assert box["width"] <= 260
    panel.get_by_role("slider", name="Step").press("End")
    for place in (panel, panel.locator(".fwm-code")):
        assert place.evaluate("node => node.scrollWidth <= node.clientWidth")
