"""Each finding by its code: what brings it up, what it says and what to do; and that equal twins bring up nothing."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from cells import run
from example_reports import a_compilation, a_ratio, a_report, a_time, a_variant
from tiers import thinned

import fwmagic
from fwmagic.report import Agreement, findings, turned

ROOT = Path(__file__).parent.parent
CODES = {
    "FW101",
    "FW102",
    "FW103",
    "FW104",
    "FW105",
    "FW201",
    "FW202",
    "FW203",
    "FW204",
    "FW205",
    "FW206",
    "FW301",
    "FW302",
    "FW303",
    "FW304",
    "FW305",
    "FW401",
    "FW402",
    "FW403",
    "FW404",
    "FW405",
    "FW501",
    "FW502",
    "FW503",
    "FW601",
}
QUICK = "--budget 0.1"
CHANGED = """
import collections, heapq, io, os
import numpy as np
A, rng = np.ones((9, 9)), np.random.default_rng(0)
kept, seen, table, names = [], set(), {"old": 1}, ["a", "b"]
queue, counts, buffer, raw = collections.deque(), collections.Counter(), io.StringIO(), bytearray()
class Thing:
    n = 0
    def count(self): self.n += 1
thing = Thing()
def bump():
    global total
    total = total + 1
total = 0
"""


def found(report, code):
    """Return the findings of a report that have this code."""
    return [finding for finding in findings.of_report(report, {"jax": "XLA"}) if finding.code == code]


def of_cell(shell, text, code):
    """Return the findings with this code of a cell that is run."""
    head, _, body = text.partition("\n")
    run(shell, f"{head} -o r\n{body}")
    return [finding for finding in shell.user_ns["r"].findings if finding.code == code]


def two(**fields):
    """Return a quiet report of two variants, the second with other fields."""
    second = a_variant("jax", **fields)
    median = 1.0 if second.time is None else second.time.median / a_time().median
    ratios = (a_ratio("undecided", median, median * 0.98, median * 1.02),)
    report = a_report(a_variant("torch"), second, ratios=ratios)
    return replace(report, conditions=replace(report.conditions, load_before=0.0, load_during=0.0))


def test_every_code_is_in_the_documentation_and_the_other_way_round():
    code = (ROOT / "fwmagic" / "report" / "findings.py").read_text(encoding="utf-8")
    docs = (ROOT / "docs" / "findings.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\bFW\d{3}\b", code)) == CODES
    assert set(re.findall(r"\bFW\d{3}\b", docs)) == CODES


def test_a_fair_comparison_has_none():
    assert list(findings.of_report(two(), {})) == []


class TestWork:
    def test_fw101_a_section_that_touched_no_array_of_its_framework(self, shell):
        (finding,) = of_cell(shell, f"%%torch {QUICK} --mode eager\nimport numpy\nnumpy.ones(3).sum()", "FW101")
        assert finding.sentence == "torch returned and changed no torch array: this timed Python or NumPy".replace(
            "no torch", f"no {title('torch')}"
        )
        assert "--inputs" in finding.fix
        assert finding.variant == "torch"

    @pytest.mark.parametrize(
        "text",
        [
            f"%%torch {QUICK} --mode eager\ntorch.ones(3)",
            f"%%torch {QUICK} --mode eager\n{{'a': [torch.ones(3)]}}",
            f"%%torch {QUICK} --mode eager\nw += 1\n3",
            f"%%compare {QUICK}\n%%numpy\n1.0",
        ],
    )
    def test_not_fw101(self, shell, text):
        run(shell, "import torch\nw = torch.zeros(3)")
        assert of_cell(shell, text, "FW101") == []

    def test_fw102_a_section_that_returns_nothing(self, shell):
        run(shell, "def nothing():\n    pass")
        (finding,) = of_cell(shell, f"%%compare {QUICK}\n%%numpy\nnothing()", "FW102")
        assert "returns nothing and changes nothing" in finding.sentence
        assert of_cell(shell, f"%%compare {QUICK}\n%%numpy\n1", "FW102") == []

    @pytest.mark.parametrize("framework", ["numpy", pytest.param("torch", marks=pytest.mark.slow)])
    @pytest.mark.parametrize(
        "text",
        thinned(
            [
                "kept.append(A.sum())",
                "kept.append(3)",
                "seen.add(3)",
                "table.update(a=None)",
                "queue.appendleft('x')",
                "counts.update('abc')",
                "heapq.heappush(kept, 3)",
                "del table['old']",
                "thing.n = None",
                "setattr(thing, 'n', 3)",
                "thing.count()",
                "buffer.write('a')",
                "raw.extend(b'ab')",
                "names.remove('b')",
                "bump()",
                "os.environ['FWMAGIC_TEST'] = '1'",
            ],
            4,
        ),
    )
    def test_not_fw102_what_changes_something_of_the_notebook(self, shell, framework, text):
        run(shell, CHANGED)
        if framework == "numpy":
            assert of_cell(shell, f"%%compare {QUICK}\n%%numpy\n{text}", "FW102") == []
        else:
            assert of_cell(shell, f"%%{framework} {QUICK} --mode eager\n{text}", "FW102") == []
        (finding,) = of_cell(shell, f"%%compare {QUICK}\n%%numpy\nif True:\n    rng.random(3)", "FW102")
        assert "changes nothing" in finding.sentence

    def test_fw103_print_in_a_traced_cell(self, shell, capsys):
        text = "x = jnp.ones(3)\nprint(x.shape)\nx"
        (finding,) = of_cell(shell, f"%%jax {QUICK}\n{text}", "FW103")
        assert finding.line == 3
        assert "jax.debug.print" in finding.fix
        assert of_cell(shell, f"%%jax {QUICK} --mode eager\n{text}", "FW103") == []
        assert capsys.readouterr().out.count("(3,)") == 2

    def test_fw104_work_that_nothing_reads(self, shell):
        run(shell, "import torch\nt = torch.ones(9)")
        x, lib, magic = "t", "torch", "torch"
        text = f"for i in range(3):\n    y = {lib}.exp({x} * i)"
        (finding,) = of_cell(shell, f"%%{magic} {QUICK}\n{text}", "FW104")
        assert (finding.line, finding.variant) == (3, magic)
        assert of_cell(shell, f"%%{magic} {QUICK} --mode eager\n{text}", "FW104") == []
        run(shell, "def helper(v): return torch.sin(v) * 2\ndef fills(v): v[0] = 1; return v")
        for dropped in ("t.sin()", "with torch.no_grad():\n    torch.cos(t)", "helper(t)", "t * 2"):
            (finding,) = of_cell(shell, f"%%{magic} {QUICK}\n{dropped}\ny = t + 1", "FW104")
            assert finding.line in (2, 3)
        assert of_cell(shell, f"%%{magic} {QUICK}\nfills(t)\ny = t + 1", "FW104") == []
        kept = f"y = {x}\nfor i in range(3):\n    y = {lib}.exp(y)"
        assert of_cell(shell, f"%%{magic} {QUICK}\n{kept}", "FW104") == []


def title(name):
    from fwmagic import frameworks

    return frameworks.get(name).title


class TestCompilation:
    def test_fw201_a_cell_that_compiles_every_call(self, shell):
        text = "f = jax.jit(lambda x: x * 2)\nf(jnp.ones(3))"
        (finding,) = of_cell(shell, f"%%jax --budget 0.4\n{text}", "FW201")
        assert "compiles on every call" in finding.sentence
        assert finding.line == 2
        assert shell.user_ns["r"]["jax"].compilation.every_call

    def test_not_fw201_if_it_is_made_once(self, shell):
        run(shell, "import jax, jax.numpy as jnp\nf = jax.jit(lambda x: x * 2)")
        assert of_cell(shell, f"%%jax {QUICK}\nf(jnp.ones(3))", "FW201") == []

    def test_fw202_lifted_constants(self):
        (finding,) = found(two(compilation=a_compilation(lifted=3)), "FW202")
        assert finding.sentence == "jax captured 3 array(s) as constants; they were made arguments"
        assert finding.variant == "jax"


class TestTime:
    def test_fw301_less_than_a_microsecond(self):
        assert [f.variant for f in found(two(time=a_time(0.9e-6)), "FW301")] == ["jax"]
        assert found(two(time=a_time(1.1e-6)), "FW301") == []

    def test_fw302_not_warm(self):
        assert [f.variant for f in found(two(time=a_time(warm=False)), "FW302")] == ["jax"]
        assert found(two(status="run-once", time=a_time(warm=False)), "FW302") == []

    def test_fw304_pages_from_the_system_in_every_call(self):
        (finding,) = found(two(time=a_time(1e-3, page_faults=1025.0)), "FW304")
        assert "about 1025 new pages" in finding.sentence
        assert found(two(time=a_time(1e-3, page_faults=900.0)), "FW304") == []
        assert found(two(time=a_time(1e-3, page_faults=None)), "FW304") == []

    def test_fw305_a_call_that_waits(self):
        (finding,) = found(two(time=a_time(0.02, cores=0.1)), "FW305")
        assert finding.sentence.startswith("jax waits for about 90 % of its time")
        waits = two(time=a_time(0.02, cores=0.1))
        busy = replace(waits, conditions=replace(waits.conditions, load_during=1.4))
        on_gpu = replace(waits, conditions=replace(waits.conditions, devices={"jax": "cuda:0"}))
        for other in (two(time=a_time(0.02, cores=0.6)), two(time=a_time(5e-4, cores=0.1)), busy, on_gpu):
            assert found(other, "FW305") == []

    def test_fw303_voided_blocks(self):
        (finding,) = found(two(time=a_time(voided=2)), "FW303")
        assert "2 timed block(s)" in finding.sentence


class TestAgreement:
    def test_fw401_other_results(self):
        differs = Agreement("torch", "differs", "5 of 9 values differ", "x[0]")
        (finding,) = found(two(agreement=differs), "FW401")
        assert finding.sentence == "jax computed something else than torch: 5 of 9 values differ"
        assert found(two(agreement=replace(differs, status="agrees")), "FW401") == []
        assert found(two(agreement=replace(differs, status="not compared")), "FW401") == []

    @pytest.mark.parametrize("head", ["%%torch --mode eager", "%%torch", "%%jax", "%%compare --mode eager\n%%jax"])
    def test_fw402_not_a_number_with_the_line_that_first_made_one(self, shell, head):
        run(shell, "import torch, jax.numpy as jnp\nt, j = (lib.linspace(-3, 3, 41) for lib in (torch, jnp))")
        magic, *more = head.split("\n")
        x = "t" if "torch" in head else "j"
        text = "\n".join([f"{magic} {QUICK}", *more, f"y = {x} * 2", "for _ in range(9):", "    y = y * 1e9", "y"])
        (finding,) = of_cell(shell, text, "FW402")
        line = len(text.split("\n")) - 1
        assert finding.line == line
        assert f"of Out is NaN or infinite, from line {line} on (when it runs for the 5th time)" in finding.sentence

    @pytest.mark.parametrize("body", ["1 / (t - 1)", "t / t", "torch.where(t > 1, t, float('-inf'))"])
    def test_not_fw402(self, shell, body):
        run(shell, "import torch\nt = torch.arange(2.0, 9.0)")
        assert of_cell(shell, f"%%torch {QUICK} --mode eager\n{body}", "FW402") == []

    def test_fw404_what_agrees_only_beside_larger_values(self):
        agrees = Agreement("torch", "agrees", "jax agrees with torch exactly", "x")
        (finding,) = found(two(agreement=agrees), "FW404")
        assert finding.sentence == "jax: jax agrees with torch exactly"
        assert found(two(agreement=replace(agrees, path=None)), "FW404") == []

    def test_fw402_is_a_part_of_the_check(self, shell):
        run(shell, "import torch\nt = torch.zeros(9)")
        assert len(of_cell(shell, f"%%torch {QUICK} --mode eager\nt / t", "FW402")) == 1
        assert of_cell(shell, f"%%torch {QUICK} --mode eager --no-check\nt / t", "FW402") == []


class TestFairness:
    def test_fw501_other_numbers_of_cores(self):
        (finding,) = found(two(time=a_time(cores=1.0)), "FW501")
        assert finding.sentence == "torch used 1.9 cores and jax 1.0"
        assert found(two(time=a_time(cores=1.6)), "FW501") == []
        assert found(two(time=a_time(cores=None)), "FW501") == []

    def test_not_fw501_for_short_calls_or_one_framework(self):
        assert found(two(time=a_time(0.5e-3, cores=1.0)), "FW501") == []
        same = a_report(a_variant("torch:a"), a_variant("torch:b", time=a_time(cores=1.0)))
        assert found(same, "FW501") == []

    def test_fw501_names_the_two_of_unlike_frameworks_that_differ_most(self):
        modes = [a_variant(f"jax:{mode}", time=a_time(cores=cores)) for mode, cores in (("a", 0.5), ("b", 4.0))]
        (finding,) = found(replace(two(), variants=(a_variant("torch", time=a_time(cores=1.0)), *modes)), "FW501")
        assert finding.sentence == "jax:b used 4.0 cores and torch 1.0"

    def test_not_fw501_where_others_used_the_machine(self):
        busy = two(time=a_time(cores=1.0))
        assert found(replace(busy, conditions=replace(busy.conditions, load_during=1.4)), "FW501") == []

    def test_fw502_short_jax_calls_on_a_cpu(self):
        (finding,) = found(two(time=a_time(0.5e-3)), "FW502")
        assert "--threads 1" in finding.fix
        assert found(two(time=a_time(0.5e-3), options={"threads": "1"}), "FW502") == []
        on_gpu = two(time=a_time(0.5e-3))
        on_gpu = replace(on_gpu, conditions=replace(on_gpu.conditions, devices={"jax": "cuda:0"}))
        assert found(on_gpu, "FW502") == []

    def test_fw503_times_that_contradict_the_ratio(self):
        assert found(two(), "FW503") == []
        report = two()
        (ratio,) = report.ratios
        for low, high, apart in ((0.5, 1.0, 1), (0.6, 0.612, 1), (0.99, 1.0, 0), (0.93, None, 1), (0.965, 1.0, 0)):
            moved = replace(ratio, median=low * 1.01, low=high and low, high=high)
            for one in (moved, turned(moved)):  # stored the other way round, it says the same
                assert len(found(replace(report, ratios=(one,)), "FW503")) == apart, low

    def test_fw503_times_on_the_other_side_of_a_verdict(self):
        report = two()
        (ratio,) = report.ratios
        close = (a_variant("torch"), a_variant("jax", time=a_time(1.24e-3)))
        for verdict, times in (("faster", 1), ("same", 0), ("undecided", 0)):
            one = replace(ratio, median=0.98, low=0.97, high=0.985, verdict=verdict)
            assert len(found(replace(report, variants=close, ratios=(one,)), "FW503")) == times, verdict

    def test_fw601_a_busy_machine(self):
        quiet = two()
        for name in ("load_before", "load_during"):
            busy = replace(quiet, conditions=replace(quiet.conditions, **{name: 1.4}))
            (finding,) = found(busy, "FW601")
            assert "other processes used 1.4 cores: times" in finding.sentence
            assert "chrome" not in finding.sentence, "who reads the notebook need not know what else ran"


def test_the_library_has_them_too():
    report = fwmagic.compare({"a": lambda: 1, "b": lambda: 2}, budget=0.1)
    assert {finding.code for finding in report.findings} >= {"FW301", "FW401"}
