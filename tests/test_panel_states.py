"""Every state of the panel in which there is nothing, too little or too much to show."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from browser import code, output_of, stored
from example_reports import a_ratio, a_report, a_variant, four_variants, two_runs, with_failure, with_memory
from playwright.sync_api import expect
from tiers import tiered

from fwmagic.report import MIME, Failure

EMPTY = "No report in this notebook yet: load fwmagic and compare two cells, as in this example."
NO_NOTEBOOK = "No notebook is open: open one, and run a comparison in it."
NO_KERNEL = "This notebook has no kernel: choose one, and run a comparison."
NEWER = "This report has version 2 of the format, which this panel does not know: update fwmagic."
INVALID = "This is not a report of fwmagic (it is no JSON object): run the cell again."
# Isolated variants take the whole budget: so long there is a run to be seen, however quick the machine.
COMPARE = """%%compare --isolate --budget {budget} --mode eager
%%setup
A = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
%%numpy
np.tanh(A @ A)
%%torch
torch.tanh(A @ A)
"""
FAILING = """%%compare --budget 0.2 --keep-going
%%numpy a
np.ones(3) @ np.ones(4)
%%numpy b
np.ones(3) + 1
"""


def newer() -> Any:
    return stored({**a_report()._repr_mimebundle_()[MIME], "version": 2})


class TestEmptyStates:
    def test_no_notebook(self, lab, lab_server):
        lab.page.goto(f"{lab_server.url().removesuffix('/tree/')}?reset")  # the page, and no notebook
        lab.page.wait_for_function("() => window.jupyterapp?.commands.hasCommand('fwmagic:open')")
        lab.open_panel()
        expect(lab.panel).to_have_text(NO_NOTEBOOK)

    def test_a_kernel_that_was_shut_down(self, lab, lab_server):
        lab_server.write("none.ipynb", [code("1")])
        lab.open(lab_server, "none.ipynb")
        lab.open_panel()
        expect(lab.panel).to_contain_text(EMPTY)
        lab.page.evaluate("() => void window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
        expect(lab.panel.locator("p")).to_have_text([NO_KERNEL])

    def test_no_kernel_chosen_in_the_dialog(self, lab, lab_server):
        lab_server.write("none.ipynb", [code("1")])
        lab.open(lab_server, "none.ipynb")
        lab.open_panel()
        dialog = lab.page.locator(".jp-Dialog")
        for kernel, sentence in (("No Kernel", NO_KERNEL), ("Python 3 (ipykernel)", EMPTY)):
            lab.command("notebook:change-kernel")
            dialog.locator("select").select_option(label=kernel)
            dialog.get_by_role("button", name="Select Kernel").click()
            expect(lab.panel.locator("p")).to_have_text([sentence])

    def test_a_kernel_that_is_starting_is_not_said_to_be_missing(self, lab, lab_server):
        lab_server.write("starting.ipynb", [code("1")])
        lab_server.write("open.ipynb", [code("1")])
        lab.open(lab_server, "open.ipynb")
        lab.open_panel()
        lab.page.evaluate(
            """() => {
                window.said = [];
                const panel = document.querySelector('#fwmagic-panel');
                new MutationObserver(() => window.said.push(panel.textContent)).observe(
                    panel, {childList: true, characterData: true, subtree: true});
            }"""
        )
        lab.command("docmanager:open", {"path": "starting.ipynb"})
        lab.wait_for_kernel("starting.ipynb")
        said = lab.page.evaluate("() => window.said")
        assert any("starting.ipynb" in text for text in said)
        assert not [text for text in said if NO_KERNEL in text]

    @pytest.mark.parametrize("executed", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["pasted", "run"])
    def test_the_example_can_be_copied_pasted_and_run(self, lab, lab_server, executed):
        lab_server.write("paste.ipynb", [code(""), code("")])
        lab.open(lab_server, "paste.ipynb")
        lab.open_panel()
        expect(lab.panel.locator("p")).to_have_text([EMPTY])
        for i in range(2):
            lab.panel.get_by_role("button", name=f"Copy cell {i + 1}").click()
            shown = lab.panel.locator("pre").nth(i).inner_text()
            lab.page.wait_for_function("text => navigator.clipboard.readText().then(t => t === text)", arg=shown)
            editor = lab.page.locator(".jp-CodeCell .cm-content").nth(i)
            editor.click()
            lab.page.keyboard.press("ControlOrMeta+V")
            expect(editor).to_contain_text(shown.splitlines()[-1])
        assert "%%compare" in shown
        if not executed:
            return
        lab.run_all()
        expect(lab.panel.locator("figure[data-chart=times] svg")).to_be_visible(timeout=120_000)
        expect(lab.panel.locator("progress")).to_have_count(0, timeout=120_000)
        words = lab.panel.locator(".fwm-headline")
        expect(words).to_contain_text("jax")
        expect(words).to_contain_text("torch")
        expect(lab.panel.locator(".samples_marks path").first).to_be_attached()


def test_a_variant_that_fails_is_named_with_its_line_and_the_other_is_timed(lab, lab_server):
    lab_server.write("failing.ipynb", [code("%load_ext fwmagic"), code(FAILING)])
    lab.open(lab_server, "failing.ipynb")
    lab.run_all()
    lab.wait_until_idle()
    said = "✗ a failed, line 3: ValueError"
    expect(lab.panel.locator(".fwm-headline .fwm-warning")).to_contain_text(said)
    expect(lab.panel.locator("dl .fwm-warning", has_text="failed")).to_contain_text("line 3: ValueError")
    expect(lab.panel.locator("figure[data-chart=times] .medians_marks path")).to_have_count(1)
    output = lab.page.locator(".fwmagic")
    expect(output.locator(".fw-top .fw-alarm")).to_contain_text(said)
    expect(output.locator(".fw-rows tbody tr")).to_have_count(2)
    expect(output.locator(".fw-strip .fw-dots")).to_have_count(1)


@pytest.mark.parametrize(
    ("value", "sentence"), tiered({"newer": (newer(), NEWER), "invalid": (stored("text"), INVALID)}, "newer")
)
def test_what_cannot_be_shown_stands_above_what_can(lab, lab_server, value, sentence):
    lab_server.write("mixed.ipynb", [code("1", value), code("2", output_of(a_report()))])
    lab.open(lab_server, "mixed.ipynb")
    lab.open_panel()
    expect(lab.panel.locator("p").first).to_have_text(sentence)
    expect(lab.panel.locator(".fwm-runs li")).to_have_count(1)
    expect(lab.panel.locator("figure[data-chart=times] svg")).to_be_visible()


@pytest.fixture
def no_vega(lab_server, new_page):
    page = lab_server.configuration / "labconfig" / "page_config.json"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(json.dumps({"disabledExtensions": {"@jupyterlab/vega5-extension": True}}), encoding="utf-8")
    yield
    page.unlink()


def test_an_application_without_vega_shows_the_tables(lab, lab_server, no_vega):
    lab_server.write("without.ipynb", [code("1", output_of(a_report()))])
    lab.open(lab_server, "without.ipynb")
    lab.open_panel()
    expect(lab.panel.locator(".fwm-headline")).to_contain_text("torch 1.23 ms")
    figure = lab.panel.locator("figure[data-chart=times]")
    expect(figure).to_contain_text("This chart could not be drawn; its table has the same figures.")
    expect(figure.locator("tbody tr").first).to_be_visible()
    expect(figure.locator("svg")).to_have_count(0)


#: Whether one of the scripts that the page has loaded is vega-embed's.
HAS_VEGA = """async () => {
    const loaded = performance.getEntriesByType('resource').map(entry => entry.name);
    const scripts = loaded.filter(name => /[.]js([?]|$)/.test(name));
    const texts = await Promise.all(scripts.map(async name => (await fetch(name)).text()));
    return texts.some(text => text.includes('vega-actions'));
}"""


@pytest.mark.usefixtures("new_page")
@pytest.mark.slow
def test_vega_is_loaded_by_the_first_report_before_there_is_a_chart(lab, lab_server):
    waiting = replace(a_report(a_variant("torch", time=None, compilation=None)), state="running", ratios=())
    lab_server.write("begun.ipynb", [code("1", output_of(waiting))])
    lab_server.write("nothing.ipynb", [code("1")])
    lab.open(lab_server, "nothing.ipynb")
    assert not lab.page.evaluate(HAS_VEGA)
    lab.open(lab_server, "begun.ipynb")
    lab.page.wait_for_function(HAS_VEGA)
    expect(lab.page.locator(".fwmagic .fw-top")).to_be_visible()
    expect(lab.page.locator("figure")).to_have_count(0)


LONG_NAMES = a_report(
    a_variant("torch:compiled with a long name of its own"), a_variant("jax:compiled with a long name, too"),
    ratios=(a_ratio(variant="jax:compiled with a long name, too", over="torch:compiled with a long name of its own"),),
    baseline="torch:compiled with a long name of its own",
)  # fmt: skip


@pytest.mark.usefixtures("new_page")
@pytest.mark.parametrize(
    "reports",
    tiered(
        {
            "four": ([four_variants()],),
            "memory": ([with_memory()],),
            "long names": ([LONG_NAMES],),
            "two": ([*two_runs()],),
        },
        "two",
    ),
)
def test_at_250_pixels_nothing_is_cut_off(lab, lab_server, reports):
    lab_server.write("narrow.ipynb", [code("1", *map(output_of, reports))])
    lab.open(lab_server, "narrow.ipynb")
    lab.open_panel()
    lab.narrow()
    if len(reports) > 1:
        lab.panel.locator(".fwm-beside").click()
        expect(lab.panel.locator(".fwm-changes")).to_be_visible()
        # Of what changed, nothing has to be scrolled to.
        assert lab.panel.locator(".fwm-changes .fwm-scroll").evaluate("one => one.scrollWidth <= one.clientWidth")
        assert lab.panel.locator(".fwm-diff").evaluate("one => one.scrollWidth <= one.clientWidth")
    lab.page.wait_for_function("() => document.querySelector('#fwmagic-panel').offsetWidth <= 250")
    # Every chart is drawn anew for the width.
    lab.page.wait_for_function(
        """() => [...document.querySelectorAll('#fwmagic-panel figure')].every(
            f => f.querySelector('svg')?.getBoundingClientRect().width <= f.clientWidth)"""
    )
    width = lab.panel.evaluate("panel => [panel.scrollWidth, panel.clientWidth]")
    assert width[0] <= width[1]
    cut = lab.panel.evaluate(
        """panel => [...panel.querySelectorAll('figure')].flatMap(figure => {
            const svg = figure.querySelector('svg').getBoundingClientRect();
            return [...figure.querySelectorAll('svg :is(text, .mark-symbol path, .mark-rect path, .mark-rule line)')]
                .map(node => [node.textContent || node.outerHTML, node.getBoundingClientRect()])
                .filter(([, box]) => box.left < svg.left - 1 || box.right > svg.right + 1)
                .map(([text, box]) => `${figure.dataset.chart}: ${text} ${box.left}-${box.right}`);
        })"""
    )
    assert cut == []
    over = lab.panel.evaluate(
        """panel => [...panel.querySelectorAll('figure')].flatMap(figure => {
            const shown = [...figure.querySelectorAll('svg text')]
                .filter(text => text.textContent && text.getAttribute('opacity') !== '0')
                .map(text => [text.textContent, text.getBoundingClientRect()]);
            return shown.flatMap(([one, a], i) => shown.slice(i + 1)
                .filter(([, b]) => a.left < b.right - 1 && b.left < a.right - 1
                    && a.top < b.bottom - 2 && b.top < a.bottom - 2)
                .map(([other]) => `${figure.dataset.chart}: ${one} over ${other}`));
        })"""
    )
    assert over == []
    for drawn in lab.panel.locator("figure[data-chart=ratios] svg").all():
        labels = drawn.locator(".role-axis-label text").evaluate_all(
            "all => all.filter(one => one.getAttribute('opacity') !== '0').map(one => one.textContent)"
        )
        assert "1" in labels, "where the baseline is"
    # The names leave most of the width to the figures.
    for chart in lab.panel.locator("figure").all():
        grid = chart.locator("svg .background").first.bounding_box()
        assert grid["width"] > 0.4 * 250
    # What is wider has a bar of its own to scroll with.
    assert lab.panel.locator(".fwm-scroll").evaluate_all(
        "all => all.every(one => getComputedStyle(one).overflowX === 'auto')"
    )


def test_the_line_that_unfolds_the_remarks_has_the_first_of_them(lab, lab_server):
    why = "dot_general requires contracting dimensions to have the same shape, got (200000,) and (3,)."
    *others, broken = with_failure().variants
    told = replace(broken, failure=Failure("TypeError", why, 7, "first run"))
    lab_server.write("why.ipynb", [code("1", output_of(replace(with_failure(), variants=(*others, told))))])
    lab.open(lab_server, "why.ipynb")
    lab.open_panel()
    remarks = lab.panel.locator("summary", has_text="Remarks")
    expect(remarks).to_have_text(f"Remarks (1): line 7: TypeError (first run): {why}")
    # It stands between the answer and the charts, where it is seen at first.
    answer, times = lab.panel.locator(".fwm-headline"), lab.panel.locator("figure[data-chart=times]")
    tops = [one.evaluate("one => one.getBoundingClientRect().top") for one in (answer, remarks, times)]
    assert tops == sorted(tops)


def test_a_table_that_is_wider_than_the_panel_names_the_columns_beyond_its_edge(lab, lab_server):
    lab_server.write("wider.ipynb", [code("1", output_of(with_memory()))])
    lab.open(lab_server, "wider.ipynb")
    lab.open_panel()
    lab.narrow()
    lab.panel.locator("summary", has_text="Figures").click()
    expect(lab.panel.locator(".fwm-left:visible")).to_have_text(re.compile("Scroll for: .*memory.*, compiled →"))


def test_times_and_memory_of_two_variants_are_low_at_250_pixels(lab, lab_server):
    """They are what a reader looks for below the answer: both are to be seen at once."""
    report = with_memory()
    on_host = replace(report, variants=tuple(replace(v, memory=v.memory[1:]) for v in report.variants))
    lab_server.write("low.ipynb", [code("1", output_of(on_host))])
    lab.open(lab_server, "low.ipynb")
    lab.open_panel()
    lab.narrow()
    lab.page.wait_for_function("() => document.querySelector('#fwmagic-panel').offsetWidth <= 250")
    heights = {}
    for name in ("times", "memory"):
        chart = lab.panel.locator(f"figure[data-chart={name}]")
        expect(chart.locator("svg")).to_be_visible()
        heights[name] = chart.bounding_box()["height"]
    assert sum(heights.values()) <= 320, heights
    # All that there is to press on a report stands in one row.
    tops = lab.panel.locator(".fwm-actions button").evaluate_all("all => all.map(one => one.offsetTop)")
    assert len(set(tops)) == 1, tops


@pytest.mark.parametrize(("budget", "least"), [(4, 3), pytest.param(10, 6, marks=pytest.mark.slow)])
@pytest.mark.slow
def test_nothing_jumps_while_a_run_is_drawn_again_and_again(lab, lab_server, budget, least):
    name = f"steady{budget}.ipynb"  # of one that was open before, the panel has its run, and shows that at first
    lab_server.write(name, [code("%load_ext fwmagic"), code(COMPARE.format(budget=budget))])
    lab.open(lab_server, name)
    lab.open_panel()
    lab.page.evaluate(
        """() => {
            window.heights = {'#fwmagic-panel': []};
            window.output = new Set();
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
            };
            const frame = () => {
                look();
                const output = document.querySelector('.jp-OutputArea .fwmagic');
                if (output) {
                    window.output.add(Math.round(output.getBoundingClientRect().height));
                }
                requestAnimationFrame(frame);
            };
            frame();
            // Also between two frames nothing is empty: what is drawn is put in place of what was there.
            new MutationObserver(look).observe(document.body, {childList: true, subtree: true});
        }"""
    )
    lab.run_all()
    lab.wait_until_idle()
    expect(lab.page.locator(".fwm-report")).to_have_count(1)
    expect(lab.page.locator("progress")).to_have_count(0)
    assert lab.page.evaluate("() => window.drawings.size") > least
    heights = lab.page.evaluate("() => [...window.output]")
    assert len(heights) <= 3, heights
    assert max(heights) <= 350
    for place, heights in lab.page.evaluate("() => window.heights").items():
        assert len(heights) > 30, place
        assert [fall for fall in pairwise(heights) if fall[1] < fall[0] - 0.5] == [], place
