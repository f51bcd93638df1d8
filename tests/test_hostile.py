"""A notebook from a stranger: nothing that it holds is obeyed, and whatever it holds, JupyterLab goes on."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import nbformat
import pytest
from browser import Lab, code, output, output_of, stored
from example_reports import a_ratio, a_report, a_variant, four_variants, with_memory
from nbformat.sign import NotebookNotary
from playwright.sync_api import expect
from tiers import tiered

from fwmagic.report import MIME, Failure, Report
from fwmagic.report.words import CHARTS

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
# Of these the format allows some values only.
FIXED = ("state", "status", "way", "verdict", "kind", "how", "colour")
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
    failure = Failure("ValueError", "wrong shape", 3, "first run")
    raised = a_variant("broken", status="failed", failure=failure, note="why", options={"a": "b"})
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


# What a browser obeys, it obeys in a trusted notebook only.
@pytest.fixture(scope="module", params=[pytest.param("not trusted", marks=pytest.mark.slow), "trusted"])
def stranger(request, lab_server, profile):
    """The page with a hostile notebook, and all that the page asked for."""
    name = f"{request.param.replace(' ', '-')}.ipynb"
    control = output({"text/html": '<img src="control" onerror="window.obeyed=1">', "text/plain": "control"})
    cells = [code(f"{i}", output(bundle(payload))) for i, payload in enumerate(PAYLOADS.values())]
    path = lab_server.write(name, [code("control", control), *cells])
    if request.param == "trusted":
        with NotebookNotary(data_dir=str(lab_server.folder.parent / "data")) as notary:
            notary.sign(nbformat.read(path, as_version=4))
    lab = Lab(profile.new_page())
    page = lab.page
    asked: list[str] = []
    page.on("request", lambda one: asked.append(one.url))
    lab.open(lab_server, name)
    lab.open_panel()
    expect(lab.panel.locator(".fwm-runs li")).to_have_count(len(PAYLOADS))
    # The sign of it.
    obeyed = "1" if request.param == "trusted" else "undefined"
    page.wait_for_function(f"() => String(window.obeyed) === '{obeyed}'")
    yield lab
    assert page.evaluate("() => window.hacked") is None
    assert not [url for url in asked if url.endswith("/x")]
    assert lab.errors == []
    page.close()


def shows(place: Any, payload: str) -> None:
    """Check that a view of the report says the payload everywhere, and has made nothing of it."""
    expect(place.locator("figure svg")).to_have_count(len(CHARTS))
    expect(place.locator(".fwm-headline p").first).to_contain_text(payload)
    for part in ("h3", "dt", "dd", "figure tbody th", "section tbody th", "figure svg text"):
        # A chart cuts long labels.
        text = payload[:8] if "svg" in part else payload
        expect(place.locator(part).filter(has_text=text).first).to_be_attached()
    assert place.locator(MADE).count() == 0
    assert place.page.evaluate("() => window.hacked") is None


def shows_statically(place: Any, payload: str) -> None:
    """Check the same of the static HTML, in the cell's output or alone on a page."""
    text = payload[:30]  # a label is cut at forty characters
    for part in (".fw-top p", ".fw-name", "th", ".fw-group", "li", "li b"):
        expect(place.locator(part).filter(has_text=text).first).to_be_attached()
    assert place.locator(MADE).count() == 0
    assert place.page.evaluate("() => window.hacked") is None


@pytest.mark.parametrize("payload", tiered(PAYLOADS, "image"))
class TestPayloads:
    @staticmethod
    def pick(stranger, payload):
        """Return the button of the run: of runs that began at one moment, the last in the notebook comes first."""
        return stranger.panel.locator(".fwm-pick").nth(-1 - list(PAYLOADS.values()).index(payload))

    def test_the_output_shows_it_as_text(self, stranger, payload):
        index = list(PAYLOADS.values()).index(payload)
        cell = stranger.page.locator(".jp-Notebook .jp-CodeCell").nth(index + 1)
        cell.scroll_into_view_if_needed()
        shows_statically(cell.locator(".fwmagic"), payload)

    def test_the_panel_shows_it_as_text(self, stranger, payload):
        pick = self.pick(stranger, payload)
        pick.click()
        expect(pick).to_contain_text(payload)
        shows(stranger.panel, payload)

    @pytest.mark.parametrize(
        "marks", ["samples", "medians", "intervals", "stages", "ratios", "ratio_intervals", "segments"]
    )
    def test_the_tooltip_of_a_mark_shows_it_as_text(self, stranger, payload, marks):
        self.pick(stranger, payload).click()
        for chart in CHARTS:
            # The drawing before stays until the next is ready.
            drawn = stranger.panel.locator(f"figure[data-chart={chart}] svg text")
            expect(drawn.filter(has_text=payload[:8]).first).to_be_attached()
        stranger.panel.locator(f".{marks}_marks").locator("path, line").first.hover(force=True)
        tooltip = stranger.page.locator("#vg-tooltip-element.visible")
        expect(tooltip).to_contain_text(payload)
        assert tooltip.locator(MADE).count() == 0
        assert stranger.page.evaluate("() => window.hacked") is None


@pytest.mark.parametrize("payload", tiered(PAYLOADS, "image", "end of an attribute"))
def test_the_static_html_shows_it_as_text(lab, payload):
    data = {k: v for k, v in hostile(everything()._repr_mimebundle_()[MIME], payload).items() if k != "words"}
    asked: list[str] = []
    lab.page.on("request", lambda one: asked.append(one.url))
    lab.page.set_content(f"<title>report</title>{Report.from_json(data).to_html()}")
    shows_statically(lab.page.locator(".fwmagic"), payload)
    assert asked == []


def changed(**places: Any) -> dict[str, Any]:
    """Return a stored report with other values at places such as `variants__0__time__median`."""
    data = copy.deepcopy(a_report(ratios=(a_ratio(),))._repr_mimebundle_()[MIME])
    for place, value in places.items():
        *way, last = (int(part) if part.isdigit() else part for part in place.split("__"))
        at = data
        for part in way:
            at = at[part]
        at[last] = value
    return data


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in changed().items() if key != name}


def because(why: str) -> str:
    return f"This is not a report of fwmagic ({why}): run the cell again."


NEWER = "This report has version {} of the format, which this panel does not know: update fwmagic."
LONG = "x" * 2**20

# Values that are no report, and what is said of them. In the first tier, one page holds all of them together.
NONE = {
    "a text": ("a report", because("it is no JSON object")),
    "a list": ([changed()], because("it is no JSON object")),
    "null": (None, because("it is no JSON object")),
    "a number": (42, because("it is no JSON object")),
    "an empty object": ({}, because("must have required property 'run_id'")),
    "no state": (without("state"), because("must have required property 'state'")),
    "no version": (without("version"), because("must have required property 'version'")),
    "a version as text": (changed(version="1"), because("/version must be equal to constant")),
    "variants that are a text": (changed(variants="two"), because("/variants must be array")),
    "a variant that is null": (changed(variants__0=None), because("/variants/0 must be object")),
    "samples as text": (
        changed(variants__0__time__samples=["1"]), because("/variants/0/time/samples/0 must be number"),
    ),
    "a state that is not known": (
        changed(state="over"), because("/state must be equal to one of the allowed values"),
    ),
    "words that are a list": (changed(words=[]), because("/words must be object")),
    "a negative time": (changed(variants__0__time__median=-1e-3), because("/variants/0/time/median must be >= 0")),
    "NaN as text": (changed(variants__0__time__median="NaN"), because("/variants/0/time/median must be number")),
    "Infinity as text": (changed(budget="Infinity"), because("/budget must be number")),
    "a ratio of zero": (changed(ratios__0__median=0), because("/ratios/0/median must be > 0")),
    "a newer version": (changed(version=2), NEWER.format(2)),
}  # fmt: skip

# Reports that no fwmagic writes, and what is shown of them all the same.
ODD = {
    "no words": (without("words"), "a report without words"),
    "no sentence": (changed(words__headline=[]), "Time per call"),
    "no variants": (changed(variants=[], ratios=[]), "jax is 2.3x faster"),
    "one megabyte in a name": (changed(variants__0__name=LONG), "Time per call"),
    "one megabyte in the source": (changed(variants__0__source=LONG), "Time per call"),
    "one megabyte in a sentence": (changed(words__headline__0__text=LONG), "Time per call"),
    "a megabyte in a remark": (changed(words__details__0__lines__0__text=f"{LONG} {LONG}"), "Time per call"),
    "two variants of one name": (changed(variants__1__name="torch"), "Time per call"),
    "an empty name": (changed(variants__0__name=""), "Time per call"),
    "a name from inside JavaScript": (changed(variants__0__name="__proto__", ratios__0__variant="constructor"), "Time"),
    "ratios beyond all measure": (changed(ratios__0__median=1e-300, ratios__0__high=1e300), "Paired ratio"),
    "a bound of zero": (changed(ratios__0__low=0), "Paired ratio"),
    "a ratio of what is not there": (changed(ratios__0__variant="gone", ratios__0__over="gone"), "Time per call"),
    "times of zero": (
        changed(variants__0__time__samples=[0, 0], variants__0__time__median=0, variants__0__time__low=0),
        "Time per call",
    ),
    "times beyond all measure": (changed(variants__0__time__median=1e308, variants__1__time__median=5e-324), "Time"),
    "no samples": (changed(variants__0__time__samples=[], variants__1__time__samples=[]), "jax is 2.3x faster"),
    "a date that is none": (changed(started="yesterday"), "Time per call"),
    "a field of a later fwmagic": (changed(mood="good"), "Time per call"),
}  # fmt: skip


@pytest.fixture
def reader(lab, lab_server):
    """A page that shows a report that is fine, and does so again after the test."""
    lab_server.write("fine.ipynb", [code("1", output_of(a_report()))])
    lab.open(lab_server, "fine.ipynb")
    lab.open_panel()
    yield lab
    lab.close_notebook()
    lab.command("docmanager:open", {"path": "fine.ipynb"})
    expect(lab.panel.locator("h2")).to_have_text("fine.ipynb")
    expect(lab.panel.locator("figure[data-chart=times] svg")).to_be_visible()


def opened(lab: Lab, server: Any, value: Any) -> None:
    """Open a notebook with this value on the page."""
    server.write("odd.ipynb", [code("1", stored(value))])
    lab.command("docmanager:open", {"path": "odd.ipynb"})
    expect(lab.panel.locator("h2")).to_have_text("odd.ipynb")


@pytest.mark.parametrize(("value", "sentence"), tiered(NONE, "a text"))
def test_what_is_no_report_gets_one_sentence(reader, lab_server, value, sentence):
    opened(reader, lab_server, value)
    expect(reader.panel.locator("p").first).to_have_text(sentence)
    expect(reader.panel.locator(".fwm-runs, .fwm-report")).to_have_count(0)


@pytest.mark.parametrize(("value", "words"), tiered(ODD, "no words", "one megabyte in a name"))
def test_an_odd_report_is_shown(reader, lab_server, value, words):
    opened(reader, lab_server, value)
    expect(reader.panel).to_contain_text(words)
    expect(reader.panel.locator(".fwm-headline")).to_have_count(1)
    for chart in reader.panel.locator("figure").all():
        expect(chart.locator("svg")).to_have_count(1)


def huge(kind: str) -> dict[str, Any]:
    """Return a stored report of some 9 MB."""
    data = changed()
    variant, ratio = data["variants"][1], data["ratios"][0]
    words = data["words"]
    if kind == "samples":
        for one in data["variants"]:
            one["time"]["samples"] = [1e-3 * (1 + i % 7) for i in range(450_000)]
    elif kind == "variants":
        names = [f"v{i}" for i in range(9000)]
        data["variants"] = [{**variant, "name": name} for name in names]
        data["ratios"] = [{**ratio, "variant": name} for name in names]
        words["charts"] = {chart: rows[:1] * len(names) for chart, rows in words["charts"].items()}
        words["figures"]["rows"] *= len(names) // 2
    elif kind == "remarks":
        line = {"label": "x", "text": "a remark of no great length " * 3, "warning": True}
        words["details"] = [{"name": f"v{i}", "lines": [line] * 30} for i in range(2000)]
    elif kind == "memory":
        amount = {"kind": "in use", "bytes": 2**21, "source": "counters"}
        moments = {"seconds": [*range(60_000)], "in_use": [2**20] * 60_000, "held": [2**21] * 60_000}
        variant["memory"] = [
            {"device": f"cuda:{i}", "total": 2**30, "peak": [amount] * 10, "timeline": moments if i < 6 else {}}
            for i in range(2000)
        ]
        words["charts"]["memory"] = words["charts"]["timeline"] = [[], [["cuda:0", "in use", "2 MiB", "1"]] * 9000]
    elif kind == "texts":
        data["cell"] = words["headline"][0]["text"] = variant["name"] = "word " * 600_000
    else:
        finding = {"code": "FW101", "sentence": "a finding of no great length " * 3, "fix": "none"}
        data["findings"] = [finding] * 2000
        moments = {"seconds": [*range(100_000)], "in_use": [2**20] * 100_000, "held": [2**21] * 100_000}
        amount = {"kind": "in use", "bytes": 2**21, "source": "counters"}
        ledger = {"device": "cuda:0", "total": 2**30, "peak": [amount] * 3}
        variant["memory"] = [{**ledger, "timeline": moments}, ledger]
        names = [f"v{i}" for i in range(66)]
        data["variants"] = [data["variants"][0], variant, *({**variant, "name": n, "memory": [ledger]} for n in names)]
        data["ratios"] = [{**ratio, "variant": a, "over": b} for a in names for b in names if a != b]
        words["details"] = [
            {"name": "all", "lines": [{"label": "FW101", "warning": True, "finding": i} for i in range(2000)]}
        ]
        words["charts"] = {chart: rows[:1] * 68 for chart, rows in words["charts"].items()}
        words["charts"]["memory"] = [[["cuda:0", "in use", "2 MiB"]] * 6] * 68
        variant["source"] = words["headline"][0]["text"] = "x" * 2**20
    return data


def work_of(lab: Lab, notebook: str) -> float:
    """Return the seconds of CPU that the page's thread takes in ten seconds from opening a notebook, unfolded too."""
    lab.command("docmanager:open", {"path": "fine.ipynb"})
    expect(lab.panel.locator("h2")).to_have_text("fine.ipynb")
    lab.page.wait_for_timeout(1500)
    session = lab.page.context.new_cdp_session(lab.page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def used() -> float:
        found = session.send("Performance.getMetrics")["metrics"]
        return next(one["value"] for one in found if one["name"] == "TaskDuration")

    before = used()
    lab.command("docmanager:open", {"path": notebook})
    lab.page.wait_for_timeout(5000)
    lab.page.evaluate(
        """() => {
            const folds = document.querySelectorAll('#fwmagic-panel summary');
            folds.forEach((one, i) => setTimeout(() => one.click(), 200 * i));
        }"""
    )
    lab.page.wait_for_timeout(5000)
    took = used() - before
    session.detach()
    return took


@pytest.mark.parametrize(
    "kind",
    [
        "all",
        *(pytest.param(one, marks=pytest.mark.slow) for one in ("samples", "variants", "remarks", "memory", "texts")),
    ],
)
def test_of_a_huge_report_as_much_is_read_and_shown_as_leaves_the_page_free(reader, lab_server, kind):
    """Beside what JupyterLab itself does with an output of this size, which the control has under another type."""
    value = huge(kind)
    other = output({"application/vnd.other+json": value, "text/plain": "as large"})
    lab_server.write("control.ipynb", [code("1", output_of(a_report())), code("2", other)])
    lab_server.write("huge.ipynb", [code("1", stored(value))])
    control = work_of(reader, "control.ipynb")
    reader.close_notebook()
    ours = work_of(reader, "huge.ipynb")
    expect(reader.panel.locator(".fwm-report")).to_contain_text("Too much to be shown whole.")
    charts = reader.panel.locator("figure")
    expect(charts.locator("svg")).to_have_count(charts.count())
    elements = reader.panel.locator("*").count()
    print(f"{kind}: {ours:.2f} s of 10 s, the control {control:.2f} s, {elements} elements")
    assert elements < 10_000
    assert ours - control <= 0.5


def test_a_date_that_is_none_is_said_to_be_unknown(reader, lab_server):
    opened(reader, lab_server, changed(started="yesterday"))
    expect(reader.panel.locator(".fwm-pick")).to_contain_text("at an unknown time")


def test_a_newer_type_is_named_in_the_panel_and_its_text_stays_in_the_output(reader, lab_server):
    newer = {"application/vnd.fwmagic.report.v2+json": changed(version=2), "text/plain": "what its text says"}
    lab_server.write("odd.ipynb", [code("1", output(newer))])
    reader.command("docmanager:open", {"path": "odd.ipynb"})
    expect(reader.panel.locator("p").first).to_have_text(NEWER.format(2))
    expect(reader.page.get_by_text("what its text says")).to_be_visible()


@pytest.mark.parametrize("number", ["NaN", pytest.param("-Infinity", marks=pytest.mark.slow)])
def test_a_file_with_a_number_that_json_lacks_does_not_open(lab, lab_server, number):
    lab_server.write("fine.ipynb", [code("1", output_of(a_report()))])
    path = lab_server.write("bare.ipynb", [code("1", stored(changed(budget=12345)))])
    path.write_text(path.read_text(encoding="utf-8").replace("12345", number), encoding="utf-8")
    lab.open(lab_server, "fine.ipynb")
    lab.open_panel()
    lab.command("docmanager:open", {"path": "bare.ipynb"})
    dialog = lab.page.locator(".jp-Dialog")
    expect(dialog).to_contain_text("File Load Error for bare.ipynb")
    dialog.get_by_role("button", name="Close").click()
    dialog.get_by_role("button", name="Discard").click()
    expect(lab.panel.locator("h2")).to_have_text("fine.ipynb")
    expect(lab.panel.locator("figure[data-chart=times] svg")).to_be_visible()


def test_all_of_them_together_leave_the_kernel_and_the_good_report_alone(lab, lab_server):
    values = [value for value, _ in NONE.values()]
    odd = [
        changed(run_id=str(i)) | {k: v for k, v in value.items() if k != "run_id"}
        for i, (value, _) in enumerate(ODD.values())
    ]
    cells = [code(str(i), stored(value)) for i, value in enumerate([*values, *odd])]
    lab_server.write("all.ipynb", [*cells, code("'the answer is', 6 * 7")])
    lab.open(lab_server, "all.ipynb")
    lab.open_panel()
    for _, sentence in NONE.values():
        expect(lab.panel.locator("p").filter(has_text=sentence).first).to_be_visible()
    expect(lab.panel.locator(".fwm-runs li")).to_have_count(len(ODD))
    lab.run_all()
    expect(lab.page.get_by_text("('the answer is', 42)")).to_be_visible()
    expect(lab.panel).to_contain_text("No report in this notebook yet")
