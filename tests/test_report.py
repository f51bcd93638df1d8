"""The report as a value: to JSON and back, and how it is asked for a variant or a ratio."""

from __future__ import annotations

import json
import math
from dataclasses import FrozenInstanceError, replace

import pytest
from example_reports import (
    a_ledger,
    a_ratio,
    a_report,
    a_time,
    a_variant,
    four_variants,
    reports,
    twelve_variants,
    with_memory,
)
from hypothesis import given
from hypothesis import strategies as st

from fwmagic.report import MIME, MOST_POINTS, Agreement, Amount, Finding, Ledger, Moment, Report, Timeline
from fwmagic.report.ledger import MOST_MOMENTS
from fwmagic.report.words import to_words


@given(reports())
def test_json_and_back_gives_an_equal_report(report):
    assert Report.from_json(report.to_json()) == report
    assert Report.from_json(report.to_json().encode()) == report
    assert Report.from_json(json.loads(report.to_json())) == report


def test_to_json_writes_a_file_with_every_sample(tmp_path):
    report = four_variants(1000)
    path = tmp_path / "report.json"
    assert report.to_json(path) == path.read_text(encoding="utf-8")
    assert len(Report.from_json(path.read_bytes())["numpy"].time.samples) == 1000


def test_a_stored_report_keeps_all_variants_ratios_and_findings():
    findings = tuple(Finding("FW101", f"sentence {i}", "fix") for i in range(100))
    report = replace(twelve_variants(1000), findings=findings)
    stored = Report.from_json(report._repr_mimebundle_()[MIME])
    assert [v.name for v in stored] == [v.name for v in report]
    assert [(r.variant, r.over, r.verdict) for r in stored.ratios] == [
        (r.variant, r.over, r.verdict) for r in report.ratios
    ]
    assert len(stored.ratios) == 66
    assert stored.findings == findings
    assert 12 <= len(stored["v00"].time.samples) < MOST_POINTS, "of many variants, each has fewer samples"


def test_a_stored_report_leaves_out_what_holds_its_default_and_is_the_same_when_it_is_read():
    report = a_report(a_variant("torch", time=a_time(points=3)), ratios=(a_ratio(),))
    stored = report.to_dict(MOST_POINTS)
    assert "note" not in stored["ratios"][0]
    assert "voided" not in stored["variants"][0]["time"]
    assert stored["version"] == 1
    back = Report.from_json(stored)
    assert back.conditions == report.conditions
    assert back.ratios == (replace(report.ratios[0], least=None, most=None),), "the interval says enough"
    assert (back["torch"].time.voided, back["torch"].time.warm) == (0, True)


def test_a_notebook_names_no_process_of_others():
    bundle = a_report(ratios=(a_ratio(),))._repr_mimebundle_()
    assert "chrome" not in json.dumps(bundle)
    assert "chrome" in a_report(ratios=(a_ratio(),)).details()


def test_a_stored_report_has_the_cell_and_of_a_very_long_one_the_first_lines():
    cell = "%%compare\n%%torch\nx @ x\n"
    assert Report.from_json(a_report(cell=cell)._repr_mimebundle_()[MIME]).cell == cell
    long = a_report(cell="y = 1\n" * 2000)
    stored = Report.from_json(long._repr_mimebundle_()[MIME]).cell
    assert 3900 < len(stored) <= 4000
    assert set(stored.splitlines()) == {"y = 1"}
    assert Report.from_json(long.to_json()) == long


#: In bytes, all parts of an output together.
MOST_OF_TWO, MOST_OF_TWELVE = 15_000, 60_000


def test_stored_outputs_are_small():
    agrees = Agreement(
        "torch", "agrees", "jax agrees with torch within tolerance, of which at most 1.3 % is used", None
    )
    jax = a_variant("jax", time=a_time(0.53e-3, 2000), agreement=agrees)
    finding = Finding(
        "FW502", "jax is short: on a CPU, a part of its time is waking a thread", "use --threads 1", "jax"
    )
    cell = "%%compare\n%%setup\nx = np.ones((512, 512))\n%%torch\n" + "x = torch.tanh(x @ x)\n" * 40
    two = a_report(
        a_variant("torch", time=a_time(points=2000)), jax, ratios=(a_ratio(),), findings=(finding,), cell=cell
    )
    for report, most in ((two, MOST_OF_TWO), (twelve_variants(2000), MOST_OF_TWELVE)):
        parts = [json.dumps(part, ensure_ascii=False).encode() for part in report._repr_mimebundle_().values()]
        assert sum(map(len, parts)) <= most


def with_remarks(report: Report) -> Report:
    """Return a report whose variants agree, with memory as it is measured on a CPU, on a busy machine."""
    kept = "without and with 3.44 MiB that the C library had kept of freed memory"
    static = Amount("in use", 2**20, "XLA's static analysis, not measured: 781 KiB arguments + 4 B outputs + 250 KiB")
    agrees = Agreement(
        "by_1", "agrees", "by_20 agrees with by_1 within tolerance, of which at most 1.3 % is used", None
    )
    moments = Timeline.of(Moment(0.001 * i, 2**20 * i, None) for i in range(9))
    host = Ledger(
        "host", None, (Amount("in use", 9 * 2**20, "Linux's VmHWM, reset before the call"),),
        timeline=moments, source="growth of resident memory, 0 where it was below, sampled every 768 µs", note=kept,
        start=2**29,
    )  # fmt: skip
    first, *others = (replace(v, memory=(replace(host, note=""),), options={"budget": "3.0"}) for v in report)
    memory = (host, Ledger("CPU", None, (static,), how="static")) if len(others) > 1 else (host,)
    variants = (first, *(replace(v, agreement=agrees, memory=memory) for v in others))
    short = (
        Finding("FW502", f"{v.name} is short: a part of its time is waking a thread of XLA", "use --threads 1", v.name)
        for v in report
    )
    busy = Finding("FW601", "other processes used 1.3 cores: times and ratios are those of a busy machine", "stop them")
    return replace(report, variants=variants, findings=(*short, busy) if len(others) > 1 else (busy,))


@pytest.mark.parametrize(
    ("report", "most"),
    [
        pytest.param(a_report(a_variant("torch"), a_variant("jax"), ratios=(a_ratio(),)), MOST_OF_TWO, id="two"),
        pytest.param(twelve_variants(2000), MOST_OF_TWELVE, id="twelve"),
    ],
)
def test_compiled_variants_with_memory_and_remarks_are_stored_in_as_little(report, most):
    full = with_remarks(report)
    parts = [json.dumps(part, ensure_ascii=False).encode() for part in full._repr_mimebundle_().values()]
    assert sum(map(len, parts)) <= most
    stored = Report.from_json(full._repr_mimebundle_()[MIME])
    assert len(stored.ratios) == len(report.variants) * (len(report.variants) - 1) / 2
    assert stored.findings == full.findings


def test_of_many_variants_a_notebook_has_what_is_to_be_noted_and_details_has_all():
    many = twelve_variants()
    hot = replace(many, variants=(replace(many["v00"], time=replace(many["v00"].time, warm=False)), *many.variants[1:]))
    said = {group["name"]: group["lines"] for group in hot._repr_mimebundle_()[MIME]["words"]["details"]}
    assert list(said) == ["all variants", "v00"]
    assert [line["label"] for line in said["v00"]] == ["not warm"]
    assert said["all variants"][-1]["text"] == "on each of 12 variants: .details() of the report"
    assert "of which at most 1.3 % is used" not in hot.to_html()
    assert hot.details().count("of which at most 1.3 % is used") == 11


def test_live_outputs_are_not_in_the_json():
    report = a_report(a_variant("torch", outputs=object()))
    assert "outputs" not in report.to_dict()["variants"][0]
    assert Report.from_json(report.to_json())["torch"].outputs is None


def test_the_bundle_of_a_notebook_is_thinned_and_readable():
    report = four_variants(1000)
    bundle = report._repr_mimebundle_()
    assert list(bundle) == [MIME, "text/html", "text/plain"]
    stored = Report.from_json(bundle[MIME])
    assert [len(v.time.samples) for v in stored] == [MOST_POINTS] * 4
    first = report["numpy"].time.samples[0]
    assert stored["numpy"].time.samples[0] == pytest.approx(first, rel=1e-4)
    assert stored.ratio("numpy").verdict == "slower"


def test_thinning_keeps_few_samples_and_spreads_over_many():
    few = a_report(a_variant("torch", time=a_time(points=MOST_POINTS)))
    assert len(few.to_dict(MOST_POINTS)["variants"][0]["time"]["samples"]) == MOST_POINTS
    thousand = replace(a_time(), samples=tuple(map(float, range(1000))))
    many = a_report(a_variant("torch", time=thousand))
    samples = many.to_dict(10)["variants"][0]["time"]["samples"]
    assert samples == [0, 100, 200, 300, 400, 500, 600, 700, 800, 900]


def test_a_timeline_is_thinned_to_fewer_moments_than_samples():
    def moments(*most):
        return report.to_dict(*most)["variants"][0]["memory"][0]["timeline"]

    report = a_report(a_variant("torch", memory=(a_ledger(points=1000),)))
    assert {len(column) for column in moments().values()} == {1000}
    assert {len(column) for column in moments(MOST_POINTS).values()} == {MOST_MOMENTS}
    assert {len(column) for column in moments(10).values()} == {10}


@given(st.lists(st.integers(0, 100), min_size=1, max_size=60), st.integers(2, 20))
def test_thinning_a_timeline_keeps_its_most_and_its_last(counts, most):
    timeline = Timeline.of(Moment(float(i), count, 2 * count) for i, count in enumerate(counts))
    kept = timeline.thinned(most)
    assert len(kept) <= most
    assert max(kept.in_use) == max(counts)
    assert kept[-1] == timeline[-1]
    assert list(kept.seconds) == sorted(kept.seconds)


def test_a_timeline_has_a_column_for_what_is_known():
    moments = [Moment(0.0, None, 3), Moment(1.0, 5, None)]
    assert list(Timeline.of(moments)) == moments
    assert Timeline.of([Moment(0.0, 1, None)]) == Timeline((0.0,), (1,))
    assert not Timeline()


def test_the_program_is_left_out_of_a_stored_report():
    report = a_report(a_variant("torch", source="def cell(): ..."))
    assert report.to_dict()["variants"][0]["source"] == "def cell(): ..."
    assert "source" not in report.to_dict(MOST_POINTS)["variants"][0]


def test_a_stored_report_brings_its_words_and_they_are_passed_over_when_it_is_read():
    report = with_memory()
    stored = report._repr_mimebundle_()[MIME]
    alone = replace(report, conditions=replace(report.conditions, neighbours=()))
    assert stored.pop("words") == to_words(alone)
    assert stored == alone.to_dict(MOST_POINTS)
    assert "words" not in report.to_dict()
    assert Report.from_json(stored | {"words": 3}) == Report.from_json(stored)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_becomes_none(value):
    report = a_report(a_variant("torch", time=a_time(dispatch=value)))
    assert "NaN" not in report.to_json()
    assert "Infinity" not in report.to_json()
    assert Report.from_json(report.to_json())["torch"].time.dispatch is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "not a fwmagic report: a JSON object was expected"),
        ("{}", "report version None is not known to this fwmagic"),
        ('{"version": 2}', r"report version 2 is not known to this fwmagic \(it reads 1\): update fwmagic"),
        ('{"version": 1}', "report.run_id is missing"),
        ("no json", "Expecting value"),
    ],
)
def test_what_is_no_report_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        Report.from_json(text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"state": 1}, "report.state: one of running, done, interrupted, failed was expected, not 1"),
        ({"note": 1}, "report.note: str was expected, not int"),
        ({"budget": "2"}, "report.budget: float was expected, not str"),
        ({"budget": True}, "report.budget: float was expected, not bool"),
        ({"budget": None}, "report.budget: float was expected, not NoneType"),
        ({"execution_count": 1.5}, "report.execution_count: int was expected, not float"),
        ({"execution_count": True}, "report.execution_count: int was expected, not bool"),
        ({"variants": {}}, "report.variants: a list was expected, not dict"),
        ({"variants": [3]}, r"report.variants\[0\]: an object was expected, not int"),
        ({"conditions": []}, "report.conditions: an object was expected, not list"),
        ({"conditions": {"versions": ["a"]}}, "report.conditions.versions: an object was expected, not list"),
        ({"conditions": {"versions": {"a": 1}}}, "report.conditions.versions.a: str was expected, not int"),
        ({"ratios": [{"variant": "a"}]}, r"report.ratios\[0\].over is missing"),
    ],
)
def test_a_wrong_type_is_named_with_its_place(change, message):
    data = a_report().to_dict() | change
    with pytest.raises(ValueError, match=message):
        Report.from_json(data)


def test_a_whole_number_is_read_as_a_float_and_unknown_fields_are_passed_over():
    data = a_report().to_dict() | {"budget": 3, "of a later version": 1}
    budget = Report.from_json(data).budget
    assert budget == 3.0
    assert isinstance(budget, float)


def test_a_report_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        a_report().state = "failed"


def test_a_variant_is_found_by_its_name_and_by_its_section():
    report = a_report(a_variant("torch"), a_variant("mine:eager", section="mine"))
    assert report["torch"].name == "torch"
    assert report["mine"].name == "mine:eager"
    assert [variant.name for variant in report] == ["torch", "mine:eager"]


def test_a_section_in_two_modes_needs_the_mode():
    report = a_report(a_variant("mine:eager", section="mine"), a_variant("mine:compiled", section="mine"))
    with pytest.raises(KeyError, match="no variant 'mine' in this report; it has: mine:eager, mine:compiled"):
        report["mine"]
    with pytest.raises(KeyError, match="it has: none"):
        a_report(variants=())["mine"]


def test_a_name_goes_before_a_section():
    report = a_report(a_variant("a", section="s"), a_variant("s", section="t"))
    assert report["s"].section == "t"


def test_ratio_in_its_own_direction():
    report = a_report(ratios=(a_ratio(),))
    assert report.ratio("jax") is report.ratios[0]
    assert report.ratio("jax", over="torch") is report.ratios[0]


@pytest.mark.parametrize(
    ("verdict", "turned"),
    [
        ("faster", "slower"),
        ("slower", "faster"),
        ("same", "same"),
        ("undecided", "undecided"),
        ("withheld", "withheld"),
    ],
)
def test_ratio_in_the_other_direction(verdict, turned):
    ratio = a_report(ratios=(a_ratio(verdict, 0.5, 0.4, 0.625, least=0.25, most=0.8),)).ratio("torch", over="jax")
    assert (ratio.variant, ratio.over, ratio.verdict) == ("torch", "jax", turned)
    assert (ratio.median, ratio.low, ratio.high) == (2.0, 1.6, 2.5)
    assert (ratio.least, ratio.most) == (1.25, 4.0)
    assert ratio.rounds == 120


def test_ratio_without_an_interval_has_none_in_either_direction():
    ratio = a_report(ratios=(a_ratio(low=None, high=None),)).ratio("torch", over="jax")
    assert (ratio.low, ratio.high) == (None, None)


def test_a_pair_that_was_not_timed_is_an_error_that_names_those_that_were():
    report = four_variants(10)
    with pytest.raises(KeyError, match="no ratio of 'numpy' over 'jax:compiled' in this report; it has: torch:comp"):
        report.ratio("numpy", over="jax:compiled")
    with pytest.raises(KeyError, match="it has: none"):
        a_report().ratio("jax")
    with pytest.raises(KeyError, match="no variant 'tensorflow'"):
        report.ratio("tensorflow")


def test_its_views_are_methods():
    report = a_report(ratios=(a_ratio(),))
    assert str(report).startswith("✓ jax is 2.3x faster than torch")
    assert report.details().startswith("✓ jax is 2.3x faster than torch")
    assert report.to_markdown().startswith("**✓ jax is 2.3x faster than torch")
    assert "jax is 2.3x faster than torch" in report.to_html()
    assert "ratios_marks" in report.to_svg("ratios")
