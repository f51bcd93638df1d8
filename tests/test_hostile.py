"""A notebook from a stranger: nothing that it holds is obeyed, and whatever it holds, JupyterLab goes on."""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from typing import Any

import nbformat
import pytest
from browser import Lab, code, output, output_of, stored
from example_reports import a_ratio, a_report, a_time, a_variant, four_variants, with_memory
from nbformat.sign import NotebookNotary
from playwright.sync_api import expect

from fwmagic.report import MIME, Failure, Report

PAYLOADS = {
    "image": '<img src=x onerror="window.hacked=1">',
    "script": "<script>window.hacked=1</script>",
    "end of a script": "</script><script>window.hacked=1</script>",
    "link": "[x](javascript:window.hacked=1)",
    "address": "javascript:window.hacked=1",
    "end of an attribute": '"><svg onload=window.hacked=1>',
}
# What a payload would be if it were obeyed.
MADE = "img, script, iframe, object, embed, svg[onload], [onerror], [href^='javascript:'], [src^='javascript:']"
# Of these the format allows some words only.
FIXED = ("state", "status", "way", "verdict")
KEYS = ("options", "versions", "devices", "threads", "settings")


def hostile(value: Any, payload: str, key: str = "") -> Any:
    """Return a report's JSON with a payload before every text, names and keys included."""
    if isinstance(value, str):
        return value if key in FIXED else f"{payload} {value}"
    if isinstance(value, list):
        return [hostile(item, payload) for item in value]
    if isinstance(value, dict):
        named = key in KEYS
        return {f"{payload} {k}" if named else k: hostile(v, payload, "" if named else k) for k, v in value.items()}
    return value


def everything() -> Report:
    """Return a report with a text in every place that has one."""
    report = four_variants(40)
    torch, *others = report.variants
    raised = a_variant(
        "broken", status="failed", failure=Failure("ValueError", "wrong shape", 3, "first run"), note="why", options={"a": "b"}
    )  # fmt: skip
    memory = with_memory()
    return replace(
        report, note="a note", variants=(replace(torch, memory=memory["torch"].memory), *others, raised),
        conditions=replace(report.conditions, neighbours=("chrome (0.3)",)),
    )  # fmt: skip


def bundle(payload: str) -> dict[str, Any]:
    """Return what a stranger may have stored: everything hostile, also the HTML for those without the panel."""
    data = everything()._repr_mimebundle_()
    changed = hostile(data[MIME], payload)
    html = Report.from_json({k: v for k, v in changed.items() if k != "words"}).to_html()
    return {MIME: changed, "text/html": html, "text/plain": payload}


@pytest.fixture(scope="module", params=["not trusted", "trusted"])
def stranger(request, lab_server, chromium):
    """The page with a hostile notebook, and all that the page asked for."""
    name = f"{request.param.replace(' ', '-')}.ipynb"
    control = output({"text/html": '<img src="control" onerror="window.obeyed=1">', "text/plain": "control"})
    cells = [code(f"{i}", output(bundle(payload))) for i, payload in enumerate(PAYLOADS.values())]
    path = lab_server.write(name, [code("control", control), *cells])
    if request.param == "trusted":
        with NotebookNotary(data_dir=str(lab_server.folder.parent / "data")) as notary:
            notary.sign(nbformat.read(path, as_version=4))
    context = chromium.new_context(viewport={"width": 1500, "height": 1000})
    context.set_default_timeout(30_000)
    page = context.new_page()
    errors: list[str] = []
    asked: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda one: asked.append(one.url))
    lab = Lab(page).open(lab_server, name)
    lab.open_panel()
    expect(lab.panel.locator(".fwm-runs li")).to_have_count(len(PAYLOADS))
    # What a browser obeys, it obeys in a trusted notebook only: here is the sign of that.
    obeyed = "1" if request.param == "trusted" else "undefined"
    page.wait_for_function(f"() => String(window.obeyed) === '{obeyed}'")
    yield lab
    assert page.evaluate("() => window.hacked") is None
    assert not [url for url in asked if url.endswith("/x")]
    assert errors == []
    context.close()


def shows(place: Any, payload: str) -> None:
    """Check that a view of the report says the payload everywhere, and has made nothing of it."""
    expect(place.locator("figure svg")).to_have_count(5)
    expect(place.locator(".fwm-headline p").first).to_contain_text(payload)
    for part in ("h4", "dt", "dd", "figure tbody th", ".fwm-report > section table th", "figure svg text"):
        # A chart cuts long labels.
        text = payload[:8] if "svg" in part else payload
        expect(place.locator(part).filter(has_text=text).first).to_be_attached()
    assert place.locator(MADE).count() == 0
    assert place.page.evaluate("() => window.hacked") is None


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
class TestPayloads:
    def test_the_output_shows_it_as_text(self, stranger, payload):
        index = list(PAYLOADS.values()).index(payload)
        cell = stranger.page.locator(".jp-Notebook .jp-CodeCell").nth(index + 1)
        cell.scroll_into_view_if_needed()
        shows(cell.locator(".fwm-output"), payload)

    def test_the_panel_shows_it_as_text(self, stranger, payload):
        index = list(PAYLOADS.values()).index(payload)
        pick = stranger.panel.locator(".fwm-pick").nth(index)
        pick.click()
        expect(pick).to_contain_text(payload)
        shows(stranger.panel, payload)

    @pytest.mark.parametrize(
        "marks", ["samples", "medians", "intervals", "stages", "ratios", "ratio_intervals", "segments"]
    )
    def test_the_tooltip_of_a_mark_shows_it_as_text(self, stranger, payload, marks):
        index = list(PAYLOADS.values()).index(payload)
        stranger.panel.locator(".fwm-pick").nth(index).click()
        for chart in ("times", "ratios", "stages", "memory"):  # the drawing before stays until the next is ready
            drawn = stranger.panel.locator(f"figure[data-chart={chart}] svg text")
            expect(drawn.filter(has_text=payload[:8]).first).to_be_attached()
        stranger.panel.locator(f".{marks}_marks").locator("path, line").first.hover(force=True)
        tooltip = stranger.page.locator("#vg-tooltip-element.visible")
        expect(tooltip).to_contain_text(payload)
        assert tooltip.locator(MADE).count() == 0
        assert stranger.page.evaluate("() => window.hacked") is None
