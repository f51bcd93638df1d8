"""The panel and the cell's output in a real JupyterLab, with a real kernel that runs real torch and JAX."""

from __future__ import annotations

import json
import os
import re
import signal
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest
from browser import Lab, code, output_of
from example_reports import a_report, a_time, a_variant, four_variants, twelve_variants, with_memory
from playwright.sync_api import expect

from fwmagic.format import ratio, ratio_between, seconds, seconds_between, size, size_between
from fwmagic.report import MOST_POINTS, Finding, Report
from fwmagic.report.answer import answer_of
from fwmagic.report.tables import device_in_words, segment_in_words
from fwmagic.report.words import CHARTS, ranked

COMPARE = """%%compare --budget {budget} --baseline torch -o report
%%setup
A = np.random.default_rng(0).standard_normal((768, 768)).astype(np.float32)
%%torch --mode eager
torch.tanh(A @ A)
%%jax
jnp.tanh(A @ A)
"""


#: Selects a cell by its place.
SELECT = "at => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = at; }"
QUICK = "%%compare --budget 0.2\n%%numpy a\nnp.sort(np.ones(9))\n%%numpy b\nnp.sort(np.ones(9))"


def live(budget=0.3):
    return [code("%load_ext fwmagic"), code(COMPARE.format(budget=budget))]


def drawn_parts(amount) -> list[int]:
    """Return the bytes of the bars of an amount: what is sure, and what is perhaps there, too."""
    return [amount.bytes, amount.most - amount.bytes] if amount.most is not None else [amount.bytes]


def samples_in(place) -> int:
    return place.locator(".samples_marks path").count()


@pytest.fixture(scope="module")
def run(lab_server, profile):
    """The page after one run, the values seen meanwhile, and the report in the kernel."""
    lab_server.write("live.ipynb", live(budget=6))
    lab_server.write("second.ipynb", [code("1")])
    lab = Lab(profile.new_page()).open(lab_server, "live.ipynb")
    lab.run_all()
    progress = lab.page.locator(".fwmagic progress")
    seen = []
    for _ in range(600):
        seen.append(progress.evaluate_all("all => all.map(one => one.value)"))
        if any(seen) and not seen[-1]:  # it has ended
            break
        lab.page.wait_for_timeout(50)
    lab.wait_until_idle()
    expect(lab.panel.locator(".fwm-chart")).to_have_count(len(CHARTS))
    yield lab, seen, ranked(lab.report_in_kernel("report"))
    lab.page.close()


class TestLiveRun:
    """One comparison from the first update to what is left after a reload and a restart of the kernel."""

    def test_the_output_is_updated_while_the_cell_runs(self, run):
        lab, seen, _ = run
        values = [value[0] for value in seen if value]
        assert len(set(values)) > 2, values
        assert values == sorted(values)
        expect(lab.page.locator("progress")).to_have_count(0)

    def test_the_panel_opened_by_itself(self, run):
        lab, _, _ = run
        expect(lab.panel).to_be_visible()
        expect(lab.panel.locator("h2")).to_have_text("live.ipynb")

    def test_the_output_says_what_the_report_in_the_kernel_says(self, run):
        lab, _, report = run
        shown = lab.page.locator(".fwmagic")
        expect(shown.locator(".fw-top p").first).to_have_text(answer_of(report).line)
        rows = shown.locator(".fw-rows tbody tr").all_inner_texts()
        for row, variant in zip(rows, report, strict=True):
            assert variant.name in row
            assert seconds(variant.time.median) in row
            assert variant.name != "jax" or ratio(report.ratio("jax").median) in row
        assert shown.locator(".fw-strip .fw-dots").count() == len(report.variants)

    def test_the_values_are_those_of_the_report_in_the_kernel(self, run):
        lab, _, report = run
        shown = lab.panel
        expect(shown.locator(".fwm-headline p").first).to_have_text(answer_of(report).line)
        expect(shown.locator(".fwm-pick")).to_contain_text(answer_of(report).brief)
        shown.locator("figure[data-chart=times] summary").click()
        cells = shown.locator("figure[data-chart=times] tbody tr").evaluate_all(
            "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))"
        )
        assert cells == [
            [v.name, seconds(v.time.median), seconds_between(*v.time.interval), str(len(v.time.samples))]
            for v in report
        ]

    def test_the_marks_are_counted(self, run):
        lab, _, report = run
        shown = lab.panel
        assert samples_in(shown) == sum(min(len(v.time.samples), MOST_POINTS) for v in report)
        assert shown.locator(".medians_marks path").count() == len(report.variants)
        assert shown.locator(".intervals_marks path").count() == len(report.variants)
        stages = [stage for v in report for stage, _ in v.compile_stages]
        assert shown.locator(".stages_marks path").count() == len(stages) > 0
        assert shown.locator(".ratios_marks path").count() == 1
        assert shown.locator(".ratio_intervals_marks path, .ratio_intervals_marks line").count() == 1

    def test_memory_is_drawn_on_one_scale_for_both(self, run):
        lab, _, report = run
        shown = lab.panel
        ledgers = [(v, one) for v in report for one in v.memory]
        assert {v.name for v, _ in ledgers} == {"torch", "jax"}
        told = [(v.name, device_in_words(one), segment_in_words(one, a), a) for v, one in ledgers for a in one.peak]
        # What the compiler only worked out stands in the table alone.
        amounts = [(v.name, one.device, a) for v, one in ledgers if one.how != "static" for a in one.peak]
        assert max(a.bytes for *_, a in amounts) > 2**20
        bars = shown.locator("figure[data-chart=memory] .segments_marks path")
        parts = [part for *_, a in amounts if a.bytes is not None for part in drawn_parts(a)]
        assert bars.count() == len(parts)
        widths = bars.evaluate_all("all => all.map(one => one.getBBox().width)")
        scale = (max(widths) + 1) / max(parts)  # a pixel parts two bars
        assert widths == [pytest.approx(max(scale * part - 1, 0), abs=2) for part in parts]
        lines = shown.locator("figure[data-chart=timeline] .timelines_marks path")
        assert lines.count() == sum(len(one.timeline) > 0 for _, one in ledgers)
        shown.locator("figure[data-chart=memory] summary").click()
        cells = shown.locator("figure[data-chart=memory] tbody tr").evaluate_all(
            "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))"
        )
        sizes = [size(a.bytes) if a.most is None else size_between(a.bytes, a.most) for *_, a in told]
        assert cells == [[*one, x, a.source] for x, (*one, a) in zip(sizes, told, strict=True)]

    def test_a_second_notebook_has_its_own_list(self, run, lab_server):
        lab, _, _ = run
        lab.command("docmanager:open", {"path": "second.ipynb"})
        expect(lab.panel.locator("h2")).to_have_text("second.ipynb")
        expect(lab.panel).to_contain_text("No report in this notebook yet")
        lab.command("docmanager:open", {"path": "live.ipynb"})
        expect(lab.panel.locator("h2")).to_have_text("live.ipynb")
        expect(lab.panel.locator(".fwm-runs li")).to_have_count(1)

    def test_a_rerun_stands_beside_the_run_before_it(self, run):
        lab, _, _ = run
        lab.command("notebook:run-all-cells")
        expect(lab.panel.locator(".fwm-runs li")).to_have_count(2, timeout=60_000)
        lab.wait_until_idle()
        expect(lab.panel.locator("progress")).to_have_count(0)
        expect(lab.panel.locator(".fwm-runs li").nth(1)).to_contain_text("earlier run")
        lab.panel.locator(".fwm-beside").click()
        expect(lab.panel.locator(".fwm-changes")).to_contain_text("What changed from ① to ②")
        expect(lab.panel.locator("figure[data-chart=times] svg")).to_contain_text("② jax")
        # One of the two has left the notebook; the button goes to the other.
        expect(lab.panel.locator("[data-command='fwmagic:go-to-cell']")).to_be_enabled()

    def test_the_choice_survives_a_reload(self, run):
        lab, _, _ = run
        lab.command("docmanager:save")
        lab.page.wait_for_timeout(1500)  # JupyterLab writes its state a moment after it changed
        lab.page.reload()
        lab.wait_for_kernel("live.ipynb")
        expect(lab.panel.locator(".fwm-changes")).to_be_visible()
        expect(lab.panel.locator(".fwm-runs li")).to_have_count(2)

    def test_clear_takes_the_earlier_runs_and_leaves_the_notebook(self, run, lab_server):
        lab, _, _ = run
        before = (lab_server.folder / "live.ipynb").read_text(encoding="utf-8")
        lab.panel.locator(".fwm-clear").click()
        expect(lab.panel.locator(".fwm-runs li")).to_have_count(1)
        assert not lab.page.evaluate("() => window.jupyterapp.shell.currentWidget.context.model.dirty")
        assert (lab_server.folder / "live.ipynb").read_text(encoding="utf-8") == before

    def test_a_restart_of_the_kernel_leaves_what_was_seen(self, run):
        lab, _, _ = run
        lab.page.evaluate("() => void window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
        expect(lab.panel.locator(".fwm-runs li")).to_have_count(1)
        expect(lab.panel.locator("figure[data-chart=times] svg")).to_be_visible()


@pytest.mark.usefixtures("new_page")  # JupyterLab's dialog about it stays on the old one
def test_a_kernel_that_ends_leaves_the_run_marked_unfinished(lab, lab_server):
    # without a margin, equal work is never decided
    endless = "%%compare --budget 60 --margin 0\n%%numpy a\nnp.sort(np.ones(9))\n%%numpy b\nnp.sort(np.ones(9))"
    tell = code("import os, pathlib\n%load_ext fwmagic\npathlib.Path('pid').write_text(str(os.getpid()))")
    lab_server.write("ended.ipynb", [tell, code(endless)])
    lab.open(lab_server, "ended.ipynb")
    lab.run_all()
    lab.panel.locator("figure[data-chart=times]").wait_for(timeout=60_000)
    os.kill(int((lab_server.folder / "pid").read_text()), signal.SIGKILL)
    expect(lab.panel.locator(".fwm-warning").first).to_contain_text("Unfinished: the kernel ended", timeout=30_000)
    expect(lab.panel.locator(".fwm-runs li")).to_contain_text("unfinished")
    expect(lab.panel.locator("progress")).to_have_count(0)


@pytest.mark.slow
@pytest.mark.usefixtures("new_page")
def test_a_page_that_is_loaded_anew_while_a_cell_runs_goes_on_with_it(lab, lab_server):
    # Isolated variants take the whole budget.
    busy = "%%compare --isolate --budget 20\n%%numpy a\nnp.sort(np.ones(9))\n%%numpy b\nnp.sort(np.ones(9))"
    lab_server.write("anew.ipynb", [code("%load_ext fwmagic"), code(busy)])
    lab.open(lab_server, "anew.ipynb")
    lab.run_all()
    lab.panel.locator("figure[data-chart=times]").wait_for(timeout=60_000)
    lab.command("docmanager:save")
    lab.page.wait_for_timeout(1500)
    lab.page.reload()
    lab.page.wait_for_function("() => window.jupyterapp?.commands.hasCommand('fwmagic:open')")
    lab.open_panel()
    expect(lab.panel.locator("progress")).to_be_visible(timeout=30_000)
    assert "Unfinished" not in lab.panel.inner_text()
    expect(lab.panel.locator("progress")).to_have_count(0, timeout=60_000)
    expect(lab.panel.locator(".fwm-runs li")).to_have_count(1)
    assert "Unfinished" not in lab.panel.inner_text(), "its end was seen"


class TestStoredReports:
    """Each test opens a notebook of its own."""

    @pytest.fixture
    def two(self, request, lab, lab_server):
        """Two reports that are stored in the notebook, with much text between their cells."""
        older = a_report(
            run_id="older", started="2026-11-21T10:00:00+00:00", execution_count=1, cell="%%compare\n%%jax\nx @ x"
        )
        faster = a_variant("jax", time=a_time(0.2e-3))
        newer = a_report(
            a_variant("torch"), faster, run_id="newer", started="2026-11-22T10:00:00+00:00", execution_count=2,
            conditions=replace(older.conditions, versions={"torch": "2.14.0", "jax": "0.10.2"}),
            cell="%%compare\n%%jax\nx @ x.T", findings=(Finding("FW101", "it does nothing.", "do more", None, 2),),
        )  # fmt: skip
        filling = [code("\n".join(f"x{i} = {i}" for i in range(80))) for _ in range(3)]
        name = f"{request.node.name}.ipynb"
        lab_server.write(name, [code("first", output_of(older)), *filling, code("second\nline two", output_of(newer))])
        lab.open(lab_server, name)
        lab.open_panel()
        expect(lab.panel.locator("h2")).to_have_text(name)
        lab.page.evaluate(SELECT, 4)
        expect(lab.panel.locator(".fwm-runs li")).to_have_count(2)
        yield older, newer
        lab.page.keyboard.press("Escape")  # closes a menu or the palette

    def test_the_title_follows_a_new_name_of_the_notebook(self, lab, two):
        lab.page.evaluate("() => void window.jupyterapp.shell.currentWidget.context.rename('another name.ipynb')")
        expect(lab.panel.locator("h2")).to_have_text("another name.ipynb")

    def test_the_newest_comes_first_and_is_shown(self, lab, two):
        picks = lab.panel.locator(".fwm-pick")
        expect(picks.nth(0)).to_contain_text("[2]")
        expect(picks.nth(1)).to_contain_text("[1]")
        expect(picks.nth(0)).to_have_attribute("aria-pressed", "true")
        assert "not compared" in picks.nth(0).inner_text()

    def test_picking_one_shows_it(self, lab, two):
        older, _ = two
        lab.panel.locator(".fwm-pick").nth(1).click()
        expect(lab.panel.locator(".fwm-pick").nth(1)).to_have_attribute("aria-pressed", "true")
        lab.panel.locator("figure[data-chart=times] summary").click()
        expect(lab.panel.locator("figure[data-chart=times] tbody")).to_contain_text(seconds(older["jax"].time.median))

    def test_a_pinned_one_stays_in_front_and_is_not_cleared(self, lab, two):
        picks = lab.panel.locator(".fwm-pick")
        pin = lab.panel.get_by_role("button", name="Pin: [1]")
        pin.click()
        expect(picks.nth(0)).to_contain_text("[1]")
        expect(pin).to_have_attribute("aria-pressed", "true")
        expect(picks.nth(1)).to_have_attribute("aria-pressed", "true")  # the newest is still what is shown
        # Its output goes, and the run stays.
        lab.page.evaluate("() => window.jupyterapp.shell.currentWidget.context.model.cells.get(0).outputs.clear()")
        expect(picks.nth(0)).to_contain_text("earlier run")
        lab.panel.locator(".fwm-clear").click()
        expect(picks).to_have_count(2)
        pin.click()
        lab.panel.locator(".fwm-clear").click()
        expect(picks).to_have_count(1)

    def test_picking_two_shows_both_on_one_scale_and_what_changed(self, lab, two):
        older, newer = two
        lab.panel.locator(".fwm-beside").click()
        expect(lab.panel.locator("figure[data-chart=times] svg")).to_have_count(1)
        expect(lab.panel.locator(".samples_marks path")).to_have_count(
            sum(min(len(v.time.samples), MOST_POINTS) for report in two for v in report)
        )
        changed = lab.panel.locator(".fwm-changes tr")
        expect(changed.filter(has_text="jax per call")).to_contain_text(seconds(older["jax"].time.median))
        expect(changed.filter(has_text="jax per call")).to_contain_text(seconds(newer["jax"].time.median))
        expect(changed.filter(has_text="jax per call")).to_contain_text("ratio 0.377")
        expect(changed.filter(has=lab.page.get_by_role("rowheader", name="versions: torch"))).to_contain_text("2.14.0")
        assert lab.panel.locator(".fwm-diff > *").all_inner_texts() == ["  %%jax", "- x @ x", "+ x @ x.T"]
        lab.panel.locator(".fwm-beside").last.click()
        expect(lab.panel.locator(".fwm-changes")).to_have_count(0)

    def test_go_to_the_cell(self, lab, two):
        lab.page.evaluate(SELECT, 1)
        lab.panel.locator("[data-command='fwmagic:go-to-cell']").click()
        lab.page.wait_for_function("() => window.jupyterapp.shell.currentWidget.content.activeCellIndex === 4")
        expect(lab.page.get_by_text("second", exact=True)).to_be_in_viewport()

    def test_it_shows_the_run_of_the_selected_cell_and_says_so_where_it_does_not(self, lab, two):
        picks, whose = lab.panel.locator(".fwm-pick"), lab.panel.locator(".fwm-whose")
        first, second = (re.compile(rf"^Shown: .*\[{n}\] \d\d:\d\d:\d\d\s*$") for n in (1, 2))
        expect(whose).to_have_text(second)
        lab.page.evaluate(SELECT, 0)
        expect(whose).to_have_text(first)
        expect(picks.nth(1)).to_have_attribute("aria-pressed", "true")
        lab.page.evaluate(SELECT, 1)  # it has none
        expect(whose).to_have_text(first)
        lab.page.evaluate(SELECT, 0)
        picks.nth(0).click()
        expect(whose).to_have_text(re.compile(r"^Not the selected cell\. Shown: .*\[2\]"))
        expect(whose).to_have_class(re.compile("fwm-warning"))
        whose.get_by_role("button", name="Show the selected cell: ").click()
        expect(whose).to_have_text(first)
        # A pinned one stays.
        lab.panel.get_by_role("button", name="Pin: [1]").click()
        lab.page.evaluate(SELECT, 4)
        expect(whose).to_have_text(re.compile(r"^Not the selected cell\. Shown: .*\[1\]"))

    def test_the_line_of_a_remark_leads_to_that_line_of_the_cell(self, lab, two):
        lab.page.evaluate(SELECT, 1)
        lab.panel.get_by_text("Remarks").click()
        lab.panel.get_by_role("button", name="line 2").click()
        lab.page.wait_for_function(
            """() => {
                const cell = window.jupyterapp.shell.currentWidget.content.activeCell;
                return cell.editor?.getCursorPosition().line === 1 && cell.editor.hasFocus();
            }"""
        )
        assert lab.page.evaluate("() => window.jupyterapp.shell.currentWidget.content.activeCellIndex") == 4

    def test_the_command_that_shows_it_takes_the_focus_there_and_a_report_does_not(self, lab, two):
        lab.page.evaluate("() => window.jupyterapp.shell.currentWidget.content.activeCell.editor.focus()")
        assert not lab.page.evaluate("() => document.activeElement.closest('#fwmagic-panel') !== null")
        lab.command("fwmagic:open")
        lab.page.wait_for_function("() => document.activeElement.id === 'fwmagic-panel'")

    def test_a_screen_reader_is_told_the_verdict(self, lab, two):
        older, _ = two
        said = lab.panel.get_by_role("status").first
        expect(said).to_have_text(answer_of(two[1]).line)
        lab.panel.locator(".fwm-pick").nth(1).click()
        expect(said).to_have_text(answer_of(older).line)

    def test_a_chart_is_saved_as_svg(self, lab, two):
        button = lab.panel.get_by_role("button", name="Save as SVG (Time per call")
        with lab.page.expect_download() as download:
            button.click()
        expect(lab.panel.get_by_role("button", name="Saved (Time per call")).to_be_visible()
        assert download.value.suggested_filename == "fwmagic-times.svg"
        drawing = ElementTree.parse(download.value.path()).getroot()
        assert drawing.tag == "{http://www.w3.org/2000/svg}svg"
        assert "background" in drawing.get("style", "")
        assert "torch" in "".join(drawing.itertext())

    def test_exports_of_a_pair_have_both_and_what_changed(self, lab, two):
        lab.panel.locator(".fwm-beside").click()
        lab.panel.locator("[data-command='fwmagic:copy-markdown']").click()
        lab.page.wait_for_function("() => navigator.clipboard.readText().then(text => text.includes('①'))")
        text = lab.page.evaluate("() => navigator.clipboard.readText()")
        assert text.count("### Conditions") == 2
        assert "| versions: torch | 2.13.0 | 2.14.0 |" in text
        assert "- x @ x\n+ x @ x.T\n" in text
        with lab.page.expect_download() as download:
            lab.panel.locator("[data-command='fwmagic:save-json']").click()
        assert download.value.suggested_filename == "fwmagic-older-newer.json"
        saved = json.loads(download.value.path().read_text(encoding="utf-8"))
        assert [Report.from_json(one).run_id for one in saved["reports"]] == ["older", "newer"]
        assert saved["changes"]["code"] == ["  %%jax", "- x @ x", "+ x @ x.T"]

    def test_copy_as_markdown(self, lab, two):
        _, newer = two
        lab.panel.locator("[data-command='fwmagic:copy-markdown']").click()
        lab.page.wait_for_function("() => navigator.clipboard.readText().then(text => text.length > 0)")
        alone = replace(newer, conditions=replace(newer.conditions, neighbours=()))
        assert lab.page.evaluate("() => navigator.clipboard.readText()") == alone.to_markdown()

    def test_it_says_that_it_has_copied(self, lab, two):
        button = lab.panel.locator("[data-command='fwmagic:copy-markdown']")
        button.click()
        expect(button).to_have_text("Copied")
        expect(button).to_have_text("Copy")

    def test_save_as_json(self, lab, two):
        _, newer = two
        with lab.page.expect_download() as download:
            lab.panel.locator("[data-command='fwmagic:save-json']").click()
        assert download.value.suggested_filename == "fwmagic-newer.json"
        saved = Report.from_json(download.value.path().read_text(encoding="utf-8"))
        alone = replace(newer, conditions=replace(newer.conditions, neighbours=()))
        assert saved.to_dict(MOST_POINTS) == alone.to_dict(MOST_POINTS)

    def test_every_command_is_in_the_palette(self, lab, two):
        lab.command("apputils:activate-command-palette")
        lab.page.keyboard.type("fwmagic")
        for label in (
            "Compare PyTorch and JAX",
            "Go to the cell",
            "Copy as Markdown",
            "Save as JSON",
            "Clear earlier runs",
        ):
            expect(lab.page.locator(".lm-CommandPalette-itemLabel", has_text=label).first).to_be_visible()

    def test_the_view_menu_opens_the_panel(self, lab, two):
        lab.command("application:toggle-right-area")
        expect(lab.panel).to_be_hidden()
        lab.page.locator(".lm-MenuBar-itemLabel", has_text="View").click()
        lab.page.locator(".lm-Menu-itemLabel", has_text="Compare PyTorch and JAX").click()
        expect(lab.panel).to_be_visible()

    def test_charts_follow_the_theme(self, lab, two):
        def label_colour():
            return lab.panel.locator("figure[data-chart=times] .role-axis-label text").first.evaluate(
                "node => getComputedStyle(node).fill"
            )

        before = label_colour()
        lab.theme("Dark")
        for _ in range(50):
            if label_colour() != before:
                break
            lab.page.wait_for_timeout(100)
        assert label_colour() != before
        lab.theme("Light")

    def test_hovering_shows_the_exact_value(self, lab, two):
        _, newer = two
        lab.panel.locator(".medians_marks path").last.hover(force=True)
        expect(lab.page.locator("#vg-tooltip-element")).to_contain_text("torch")
        exact = f"{1000 * newer['torch'].time.median:.3f}ms"
        expect(lab.page.locator("#vg-tooltip-element")).to_contain_text(exact)

    def test_it_is_used_by_keyboard_alone(self, lab, two):
        lab.panel.locator(".fwm-pick").first.focus()
        walked, outlines = [], {}
        for _ in range(60):
            walked.append(lab.page.evaluate("() => document.activeElement.textContent"))
            lab.page.keyboard.press("Tab")
            at, outline = lab.page.evaluate(
                "() => [document.activeElement.outerHTML, getComputedStyle(document.activeElement).outlineStyle]"
            )
            outlines[at[:80]] = outline
            if not lab.page.evaluate("() => document.activeElement.closest('#fwmagic-panel') !== null"):
                break
        for name in (
            "[1]",
            "☆",
            "⇄",
            "Go to the cell",
            "Copy",
            "Save",
            "Table",
            "Save as SVG",
        ):
            assert any(name in text for text in walked), (name, walked)
        outlines.popitem()  # outside
        assert {at: how for at, how in outlines.items() if how != "solid"} == {}, "it is seen where one is"
        lab.panel.locator(".fwm-pick").nth(1).focus()
        lab.page.keyboard.press("Enter")
        expect(lab.panel.locator(".fwm-pick").nth(1)).to_have_attribute("aria-pressed", "true")

    def test_nothing_of_it_moves_by_itself(self, lab, two):
        """Who asks for reduced motion gets the same as everybody: what changes is there at once."""
        lab.page.evaluate(
            """() => {
                window.moved = [];
                for (const kind of ['transitionrun', 'animationstart']) {
                    document.addEventListener(kind, ({target}) => {
                        if (target.closest('#fwmagic-panel, .fwmagic')) {
                            window.moved.push(`${kind}: ${target.outerHTML.slice(0, 80)}`);
                        }
                    });
                }
            }"""
        )
        lab.panel.locator(".fwm-pick").nth(1).hover()
        lab.panel.locator(".fwm-pick").nth(1).click()
        lab.panel.locator("summary").first.click()
        lab.page.locator(".fwmagic summary").first.click()
        lab.panel.locator(".fwm-beside").first.click()
        expect(lab.panel.locator(".fwm-changes")).to_be_visible()
        lab.page.wait_for_timeout(300)
        assert lab.page.evaluate("() => window.moved") == []


def test_any_variant_may_be_the_baseline_and_a_column_sorts_the_figures(lab, lab_server):
    report = twelve_variants(40)
    lab_server.write("twelve.ipynb", [code("1", output_of(report))])
    lab.open(lab_server, "twelve.ipynb")
    lab.open_panel()
    chosen = lab.panel.get_by_role("combobox", name="Baseline")
    expect(chosen).to_have_value(report.baseline)
    chosen.select_option("v05")
    others = [v.name for v in report if v.name != "v05"]
    expect(lab.panel.locator("figure[data-chart=ratios] .ratios_marks path")).to_have_count(len(others))
    lab.panel.locator("figure[data-chart=ratios] summary").click()
    rows = "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))"
    found = {name: report.ratio(name, "v05") for name in others}
    assert lab.panel.locator("figure[data-chart=ratios] tbody tr").evaluate_all(rows) == [
        [name, "v05", ratio(r.median), ratio_between(*r.interval), r.verdict] for name, r in found.items()
    ]
    lab.panel.locator("summary").filter(has_text="Figures").click()
    figures = lab.panel.locator("section details").first.locator("table")
    head = figures.get_by_role("button", name="paired ratio to v05")
    for order in ("ascending", "descending"):
        head.click()
        expect(figures.locator(f"th[aria-sort={order}]")).to_have_count(1)
        names = sorted(others, key=lambda name: found[name].median)
        names.insert(sum(found[name].median < 1 for name in names), "v05")
        if order == "descending":
            names.reverse()
        assert [row[0] for row in figures.locator("tbody tr").evaluate_all(rows)] == names


def test_memory_is_drawn_on_one_scale(lab, lab_server):
    report = with_memory()
    lab_server.write("memory.ipynb", [code("1", output_of(report))])
    lab.open(lab_server, "memory.ipynb")
    lab.open_panel()
    amounts = [a for v in report for ledger in v.memory for a in ledger.peak]
    segments = [a for a in amounts if a.bytes is not None and a.kind != "free"]
    expect(lab.panel.locator("figure[data-chart=memory] .segments_marks path")).to_have_count(len(segments))
    expect(lab.panel.locator("figure[data-chart=timeline] svg")).to_be_visible()
    lab.panel.locator("figure[data-chart=memory] summary").click()
    expect(lab.panel.locator("figure[data-chart=memory] tbody tr")).to_have_count(
        sum(len(ledger.peak) for v in report for ledger in v.memory)
    )


@pytest.mark.usefixtures("new_page")
@pytest.mark.slow
def test_the_setting_keeps_it_from_opening(lab, lab_server):
    folder = lab_server.settings / "fwmagic"
    folder.mkdir(exist_ok=True)
    setting = folder / "panel.jupyterlab-settings"
    setting.write_text(json.dumps({"openByItself": False}), encoding="utf-8")
    try:
        lab_server.write("closed.ipynb", [code("%load_ext fwmagic"), code(QUICK)])
        lab.open(lab_server, "closed.ipynb")
        lab.run_all()
        lab.wait_until_idle()
        expect(lab.page.locator(".fwmagic")).to_contain_text("ratio")
        expect(lab.panel).to_be_hidden()
    finally:
        setting.unlink()
    lab.open_panel()
    expect(lab.panel.locator(".fwm-runs li")).to_have_count(1)


@pytest.mark.slow
def test_a_hundred_reports_are_all_listed(lab, lab_server):
    report = four_variants(40)
    cells = [
        code(
            str(i),
            output_of(
                replace(
                    report,
                    run_id=str(i),
                    started=f"2026-11-22T10:{i // 60:02}:{i % 60:02}+00:00",
                    cell=f"%%compare\nnumber{i}",
                )
            ),
        )
        for i in range(100)
    ]
    lab_server.write("hundred.ipynb", cells)
    lab.open(lab_server, "hundred.ipynb")
    lab.open_panel()
    expect(lab.panel.locator(".fwm-runs li")).to_have_count(100)
    lab.panel.locator(".fwm-pick").nth(50).click()
    expect(lab.panel.locator(".fwm-pick").nth(50)).to_have_attribute("aria-pressed", "true")
    # The run of the selected cell is in sight in the list.
    lab.page.evaluate(SELECT, 20)
    expect(lab.panel.locator(".fwm-pick").nth(79)).to_have_attribute("aria-pressed", "true")
    place = "one => [one.getBoundingClientRect().top, one.getBoundingClientRect().bottom]"
    (top, end), (first, last) = (
        lab.panel.locator(one).evaluate(place) for one in (".fwm-runs ul", ".fwm-runs li[aria-current=true]")
    )
    assert top - 1 <= first < last <= end + 1
    field = lab.panel.get_by_label("Filter the reports")
    field.fill("outputs number7")
    expect(lab.panel.locator(".fwm-pick")).to_have_count(11)
    field.fill("nothing of this")
    expect(lab.panel.locator(".fwm-runs")).to_contain_text("No report has these words.")
    field.fill("")
    expect(lab.panel.locator(".fwm-pick")).to_have_count(100)
