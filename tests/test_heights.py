"""How much room a report takes in a real browser: of a cell's output, an answer and a row a variant, and no more."""

from __future__ import annotations

from dataclasses import replace

import pytest
from browser import Lab, code, output_of
from example_reports import (
    a_compilation,
    a_ratio,
    a_report,
    a_time,
    a_variant,
    four_variants,
    twelve_variants,
    with_failure,
    with_memory,
)

from fwmagic.report import Agreement, Amount, Finding, Ledger, Report

#: In pixels: two variants, and what each further one may add.
MOST, MORE = 350, 40

ALONE = a_report(a_variant("jax"), baseline=None, ratios=())
TWO = a_report(ratios=(a_ratio(),))
REPORTS = {
    "one": ALONE,
    "two": TWO,
    "memory": with_memory(),
    "four": four_variants(),
    "twelve": twelve_variants(),
    "failed": with_failure(),
    "only a failure": replace(with_failure(), variants=with_failure().variants[2:], ratios=(), baseline=None),
}


def allowed(report: Report) -> int:
    return MOST + MORE * max(len(report.variants) - 2, 0)


@pytest.fixture(scope="module")
def page(chromium):
    context = chromium.new_context(viewport={"width": 900, "height": 900})
    yield context.new_page()
    context.close()


@pytest.mark.parametrize("width", [900, 620, 250])
@pytest.mark.parametrize("name", REPORTS)
def test_a_report_is_low_and_nothing_of_it_is_cut_off(page, name, width):
    page.set_viewport_size({"width": width, "height": 900})
    page.set_content(f"<title>report</title><body style='margin:0'>{REPORTS[name].to_html()}")
    shown = page.locator(".fwmagic")
    assert shown.bounding_box()["height"] <= allowed(REPORTS[name])
    assert shown.evaluate("one => one.scrollWidth <= one.clientWidth")
    page.locator("summary").evaluate_all("all => all.forEach(one => { one.parentElement.open = true; })")
    # What is wider than the page when it is opened has a bar of its own to scroll with.
    assert shown.evaluate("one => one.scrollWidth <= one.clientWidth")


@pytest.mark.parametrize(
    ("width", "dots", "below"),
    [
        (900, True, '"● block'),
        (620, True, '"● block'),
        (500, True, '"Too narrow for compile, memory, compiled"'),
        (250, False, '"Too narrow for dots, compile, memory, compiled"'),
    ],
)
def test_dots_have_room_and_a_narrow_page_says_what_it_leaves_out(page, width, dots, below):
    """They are the evidence, and had 60 pixels; of the columns that were gone, nothing said where they are."""
    page.set_viewport_size({"width": width, "height": 900})
    page.set_content(f"<title>report</title><body style='margin:0'>{REPORTS['memory'].to_html()}")
    told = page.locator(".fw-more").evaluate("one => getComputedStyle(one, '::before').content")
    assert told.startswith(below)
    strip = page.locator("tbody .fw-strip").first
    assert strip.is_visible() == dots
    assert not dots or strip.bounding_box()["width"] >= 120
    rows = page.locator(".fw-rows tbody tr").evaluate_all("all => all.map(one => one.getBoundingClientRect().height)")
    assert max(rows) <= 44, "no cell of more than two lines"


SHORT = (
    "jax is short: a part of its time is waking a thread of XLA, which differs from run to run by more than the "
    "interval says"
)


@pytest.mark.parametrize("width", [900, 560, 250])
def test_the_remark_in_sight_is_whole(page, width):
    """At 250 pixels it was cut after its first line."""
    jax = a_variant("jax", time=a_time(0.53e-3), agreement=Agreement("torch", "agrees"))
    finding = Finding("FW502", SHORT, "use --threads 1, or compare larger work", "jax")
    report = a_report(a_variant("torch"), jax, ratios=(a_ratio(),), findings=(finding,))
    page.set_viewport_size({"width": width, "height": 900})
    page.set_content(f"<title>report</title><body style='margin:0'>{report.to_html()}")
    assert page.locator(".fwmagic").bounding_box()["height"] <= MOST
    remark = page.locator(".fw-caveat > summary")
    assert remark.inner_text().endswith("use --threads 1, or compare larger work")
    clamps = "one => [one, ...one.querySelectorAll('*')].map(part => getComputedStyle(part).webkitLineClamp)"
    assert set(remark.evaluate(clamps)) == {"none"}


def test_dots_have_room_beside_an_open_panel(page):
    """They had 80 pixels."""
    used = [(0, None), (0, 31), (30, 61), (46, None)]
    names = ("torch:compiled", "jax:compiled", "jax:eager", "torch:eager")
    caches = ("disk-warm", "cold", "none", "none")
    variants = []
    for (low, high), name, cache in zip(used, names, caches, strict=True):
        amount = Amount("in use", low << 20, "counted", most=None if high is None else high << 20)
        host = Ledger("host", None, (amount,), start=1 << 30)
        variants.append(a_variant(name, memory=(host,), compilation=a_compilation(cache=cache)))
    ratios = tuple(a_ratio(variant=name, over="torch:eager") for name in names[:-1])
    report = a_report(*variants, ratios=ratios, baseline="torch:eager")
    page.set_viewport_size({"width": 555, "height": 900})
    page.set_content(f"<title>report</title><body style='margin:0'>{report.to_html()}")
    assert "memory (not sure)" in str(report)
    assert page.locator(".fw-strip svg").first.bounding_box()["width"] >= 110
    rows = page.locator(".fw-rows tbody tr").evaluate_all("all => all.map(one => one.getBoundingClientRect().height)")
    assert max(rows) <= 44


def test_the_height_is_the_same_while_it_runs_and_when_it_is_over(page):
    page.set_viewport_size({"width": 900, "height": 900})
    waiting = tuple(a_variant(name, status="waiting") for name in ("torch", "jax"))
    first = a_report(*waiting, state="running", progress=0.0, updated="2026-11-22T10:00:00+00:00")
    prepared = replace(first, variants=(a_variant("torch", status="running"), waiting[1]))
    timing = replace(first, variants=TWO.variants, progress=0.6)
    heights = []
    for report in (first, prepared, timing, TWO):
        page.set_content(report.to_html())
        heights.append(page.locator(".fwmagic").bounding_box()["height"])
    assert max(heights) - min(heights) <= 4, heights


COMPILING = """%%compare
%%setup
x = np.linspace(0, 1, 1000).astype(np.float32)
%%torch
torch.sin(x) @ torch.cos(x)
%%jax
jnp.sin(x) @ jnp.cos(x)
"""
#: Notes when the output is first seen, and every first line of it.
LOOK = """() => {
    window.said = [];
    new MutationObserver(() => {
        const line = document.querySelector('.jp-OutputArea .fwmagic .fw-top')?.textContent;
        if (line && line !== window.said.at(-1)) {
            window.seen ??= performance.now();
            window.said.push(line);
        }
    }).observe(document.body, {childList: true, subtree: true, characterData: true});
}"""


@pytest.mark.slow  # its first tier: test_compiling.py, what a compilation is at is published at once
def test_the_first_sign_of_life_comes_at_once_and_says_what_is_compiled(lab: Lab, lab_server):
    lab_server.write("life.ipynb", [code("%load_ext fwmagic"), code(COMPILING)])
    lab.open(lab_server, "life.ipynb")
    lab.run_all()
    lab.wait_until_idle()  # the frameworks have been imported now
    lab.page.evaluate("() => window.jupyterapp.shell.currentWidget.content.widgets[1].model.outputs.clear()")
    lab.page.evaluate(LOOK)
    began = lab.page.evaluate("() => performance.now()")
    lab.run_all()
    lab.page.wait_for_function("() => window.said.at(-1)?.match(/^[✓=?]/)", timeout=120_000)
    said = lab.page.evaluate("() => window.said")
    assert lab.page.evaluate("() => window.seen") - began <= 500, said
    assert any("compiling" in line for line in said), said


@pytest.mark.usefixtures("lab_server")
def test_an_output_of_the_notebook_is_as_low(lab: Lab, lab_server):
    """Of a notebook that is not trusted, too: JupyterLab leaves out the style there."""
    lab_server.write("heights.ipynb", [code(name, output_of(report)) for name, report in REPORTS.items()])
    lab.open(lab_server, "heights.ipynb")
    for place, report in enumerate(REPORTS.values()):
        cell = lab.page.locator(".jp-Notebook .jp-CodeCell").nth(place)
        cell.scroll_into_view_if_needed()
        shown = cell.locator(".jp-OutputArea-output").first
        assert shown.bounding_box()["height"] <= allowed(report)
