"""A report while it is being made."""

from __future__ import annotations

import datetime

import pytest
from example_reports import a_variant

from fwmagic.errors import entries_of
from fwmagic.frameworks import get
from fwmagic.options import Options
from fwmagic.report import Finding
from fwmagic.run.draft import Draft, interrupt_of_user


def test_every_change_is_a_new_report_and_is_shown():
    seen = []
    draft = Draft("%%jax", seen.append, Options("jax", budget=3.0))
    first = draft.report
    draft.add(a_variant("a"))
    draft.add(a_variant("b"))
    draft.variant("b", status="failed", note="why")
    finding = Finding("FW101", "sentence", "fix")
    draft.find(finding)
    draft.find(finding)
    draft.change(state="done")
    assert [len(report.variants) for report in seen] == [1, 2, 2, 2, 2, 2]
    assert [report.state for report in seen] == ["running"] * 5 + ["done"]
    assert seen[-1] is draft.report
    assert [variant.status for variant in draft.report] == ["timed", "failed"]
    assert draft.report["b"].note == "why"
    assert draft.report.findings == (finding, finding)
    assert (first.variants, first.magic, first.state, first.budget) == ((), "%%jax", "running", 3.0)


def test_no_finding_changes_nothing():
    seen = []
    Draft("compare", seen.append, Options("compare")).find()
    assert seen == []


def test_who_and_when():
    one, two = (Draft("compare", lambda _: None, Options("compare")).report for _ in range(2))
    assert one.run_id != two.run_id
    age = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(one.started)
    assert datetime.timedelta(0) <= age < datetime.timedelta(seconds=30)


def test_an_interrupt_in_a_compiler_shows_the_users_line_and_none_of_the_compilers(tmp_path):
    get("torch")
    compiler = tmp_path / "site-packages" / "torch" / "_inductor"
    compiler.mkdir(parents=True)
    interrupted = "def inner():\n    raise KeyboardInterrupt"
    files = {"cell": "def cell(then):\n    return then()", str(compiler / "a.py"): interrupted}
    cell, inner = ({} for _ in files)
    for namespace, (file, text) in zip((cell, inner), files.items(), strict=True):
        exec(compile(text, file, "exec"), namespace)
    with pytest.raises(KeyboardInterrupt) as caught:
        cell["cell"](inner["inner"])
    cell["__name__"] = "__main__"
    shown = interrupt_of_user(caught.value, "cell")
    assert [entry.tb_frame.f_code.co_name for entry in entries_of(shown)] == ["cell"]
