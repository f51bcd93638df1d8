"""A framework that another package brings, tests/toy, is one like any other: nothing of fwmagic knows its name."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cells import run, shown
from leftovers import workers

from fwmagic import frameworks
from fwmagic.report import words

TOY = Path(__file__).parent / "toy"
COLOUR = "#7B61C4"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that pip has installed the package into."""
    folder, source = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("source")
    for file in TOY.iterdir():
        if file.is_file():
            (source / file.name).write_bytes(file.read_bytes())  # a build writes beside what it builds
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, "--target", folder, source], check=True)
    return folder


@pytest.fixture(autouse=True)
def toy(installed, monkeypatch):
    """The package can be imported, here and in workers, and is not yet."""
    monkeypatch.syspath_prepend(installed)
    yield
    for name in ("toylib", "toylib_fwmagic"):
        sys.modules.pop(name, None)


CELL = """%%compare {options} --budget 0.3 --no-memory
%%setup
a = np.arange(2000.0)
%%toy
(a + a).sum()
%%numpy
(a + a).sum().reshape(1)
"""


@pytest.mark.parametrize("options", ["", "--isolate"])
def test_it_is_compared(shell, options):
    run(shell, CELL.format(options=options))
    report = shown(shell)[-1]
    assert {variant.name: variant.status for variant in report} == {"toy": "timed", "numpy": "timed"}
    assert report["numpy"].agreement.status == "agrees"
    assert report["toy"].compilation.way == "eager"
    assert "Toylib has no compiler" in report["toy"].compilation.reason
    conditions = report.conditions
    assert (conditions.versions["toylib"], conditions.devices["toy"]) == ("0.5", "CPU")
    assert conditions.threads["toy"] == "unknown"
    assert conditions.process == ("a process for each variant" if options else "the kernel's own process")
    assert report.ratio("numpy").rounds > 0
    assert workers() == []


@pytest.mark.parametrize("options", ["", "--isolate"])
def test_its_arrays_of_the_notebook_are_used_and_stay_as_they_are(shell, options):
    run(shell, "import toylib\nkept = toylib.Row([1, 2])")
    cell = f"%%compare {options} --budget 0.2 --no-memory -o r\n%%toy\nkept[0] = 5\ntotal = kept.sum()"
    run(shell, cell)
    assert shell.user_ns["kept"].numbers == [1, 2]
    total = shell.user_ns["r"]["toy"].outputs["total"]
    assert list(getattr(total, "numbers", total)) == [7]  # from a process of its own, a result comes as NumPy's


def test_its_arrays_can_be_given_to_others(shell):
    run(shell, "import toylib\na = toylib.Row([1, 2])")
    run(shell, "%%compare --inputs a --budget 0.2 --no-memory\n%%toy\na + a\n%%numpy\na + a")
    assert shown(shell)[-1]["numpy"].agreement.status == "agrees"


def test_a_difference_from_it_is_found(shell):
    run(shell, "%%compare --budget 0.1 --no-memory\n%%toy\ntoylib.ones(2)\n%%numpy\nnp.array([1.0, 3.0])")
    report = shown(shell)[-1]
    found = report["numpy"].agreement
    assert (found.status, found.reference, found.pair) == ("differs", "toy", ("1", "3"))
    assert "toy and numpy differ" in next(one.sentence for one in report.findings if one.code == "FW401")


@pytest.mark.parametrize("options", ["", "--isolate"])
def test_a_finding_says_its_title(shell, options):
    run(shell, f"%%compare {options} --budget 0.1 --no-memory\n%%toy\n[1.0, 2.0]")
    sentences = [finding.sentence for finding in shown(shell)[-1].findings if finding.code == "FW101"]
    assert sentences == ["toy returned and changed no Toylib array: this timed Python or NumPy"]


@pytest.mark.memory
def test_its_memory_is_measured(shell):
    run(shell, "%%compare --budget 0.1\n%%toy\ntoylib.ones(1 << 18)")
    (ledger,) = shown(shell)[-1]["toy"].memory
    assert ledger.device == "host"


def test_its_arrays_are_among_the_largest(shell):
    """Once a section was one of its own; a library that bears its framework's name is known from its import."""
    run(shell, "%%compare --budget 0.1 --no-memory\n%%toy\ntoylib.ones(2)")
    run(shell, "import toylib\nkept = [toylib.ones(123_456)]")
    found = run(shell, "%memory 50")
    (live,) = [live for live in found.arrays if live.framework == "toy"]
    assert (live.what, live.bytes, live.device, live.holders) == ("float64 (123456,)", 8 * 123_456, "cpu", ("kept[0]",))
    assert "toy float64 (123456,)" in str(found)


@pytest.mark.memory
def test_it_is_drawn_in_its_colour(shell):
    run(shell, CELL.format(options="--baseline numpy").replace("--no-memory", ""))
    report = shown(shell)[-1]
    assert COLOUR in report.to_html()
    for chart in words.charts(report):
        assert report.to_svg(chart).count(COLOUR) > 0, chart
    assert [variant["colour"] for variant in json.loads(report.to_json())["variants"]] == [COLOUR, "#009E73"]


def test_it_is_found_without_being_imported():
    assert "toy" in frameworks.names()
    assert "toy" not in [framework.name for framework in frameworks.loaded()]
    assert "toylib" not in sys.modules
