"""The notebooks of examples/ run whole in a real kernel, and what they tell the reader is what happens."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from example_reports import a_ratio, a_report, a_variant
from nbclient import NotebookClient

from fwmagic.report import MIME, Report

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


def load_demo():
    spec = importlib.util.spec_from_file_location("demo", EXAMPLES / "demo.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


demo = load_demo()


def cell_with(notebook, *needles: str):
    """Return the one code cell that contains every needle."""
    (cell,) = [c for c in notebook.cells if c.cell_type == "code" and all(n in c.source for n in needles)]
    return cell


def report_of(cell) -> Report:
    (report,) = demo.reports(cell)
    return report


def reported(cell) -> list:
    """Return the outputs of a cell that are reports."""
    return [output for output in cell.get("outputs", []) if MIME in output.get("data", {})]


def plain(cell) -> str:
    """Return what a cell printed, without terminal colours."""
    text = "".join(output["text"] for output in cell.outputs if output["output_type"] == "stream")
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def error_of(cell):
    (output,) = [output for output in cell.outputs if output["output_type"] == "error"]
    return output


def line_of(cell, text: str) -> int:
    """Return the line of a cell, counted from 1 as the notebook does, that contains a text."""
    (number,) = [number for number, line in enumerate(cell.source.splitlines(), 1) if text in line]
    return number


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_committed_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


def test_all_notebooks_are_there():
    assert [path.name for path in NOTEBOOKS] == ["debugging.ipynb", "memory.ipynb", "quickstart.ipynb"]


@pytest.fixture(scope="module")
def demonstrated(tmp_path_factory):
    """The folder and the output of one `make demo`."""
    folder = tmp_path_factory.mktemp("demo")
    done = subprocess.run([sys.executable, EXAMPLES / "demo.py", folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


@pytest.fixture(scope="module")
def quickstart(demonstrated):
    return nbformat.read(demonstrated[0] / "quickstart.ipynb", as_version=4)


@pytest.fixture(scope="module")
def debugging():
    notebook = nbformat.read(EXAMPLES / "debugging.ipynb", as_version=4)
    return NotebookClient(notebook, timeout=300, kernel_name="python3").execute()


def test_the_demo_prints_each_comparison_and_says_where_the_notebook_is(demonstrated, quickstart):
    folder, told = demonstrated
    for cell in quickstart.cells:
        for report in demo.reports(cell):
            assert str(report) in told
    assert str(folder / "quickstart.ipynb") in told
    assert str(folder / "quickstart.html") in told
    assert "make lab" in told


def test_the_html_of_the_demo_shows_each_report(demonstrated, quickstart):
    page = BeautifulSoup((demonstrated[0] / "quickstart.html").read_text(), "html.parser")
    shown = [output["data"]["text/html"] for cell in quickstart.cells for output in reported(cell)]
    assert len(shown) >= 4
    text = page.get_text()
    for html in shown:  # the exporter writes the markup anew
        assert BeautifulSoup(html, "html.parser").get_text() in text


def test_one_formula_runs_four_ways_and_all_agree(quickstart):
    report = report_of(cell_with(quickstart, "torch.exp(x) * torch.log(x)"))
    assert [v.name for v in report] == ["torch:eager", "torch:compiled", "jax:eager", "jax:compiled"]
    assert {v.status for v in report} == {"timed"}
    assert "differs" not in {v.agreement.status for v in report if v.agreement is not None}
    assert "agrees" in {v.agreement.status for v in report if v.agreement is not None}
    assert {report[name].compilation.way for name in ("torch:compiled", "jax:compiled")} == {"cell"}


def test_the_training_steps_are_compiled_as_the_text_says_and_their_losses_agree(quickstart):
    report = report_of(cell_with(quickstart, "%%torch module", "%%jax flax"))
    assert (report["module"].compilation.way, report["flax"].compilation.way) == ("modules", "cell")
    assert report["flax"].agreement.status == "agrees"
    assert report.ratio("flax", over="module").verdict in demo.VERDICTS


@pytest.mark.slow
def test_the_training_step_leaves_the_models_as_they_were(quickstart, demonstrated):
    """Run it again, with the weights looked at before and after: the comparison changes none of them."""
    notebook = nbformat.read(EXAMPLES / "quickstart.ipynb", as_version=4)
    step = cell_with(notebook, "%%torch module")
    look = "print([float(p.detach().sum()) for p in torch_model.parameters()], opt_state, len(adam.state))"
    cells = [c for c in notebook.cells if c.cell_type == "code"]
    before = cells[: cells.index(step)]
    kept = [cell for cell in before if not cell.source.startswith("%%")]
    notebook.cells = [*kept, nbformat.v4.new_code_cell(look), step, nbformat.v4.new_code_cell(look)]
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    assert plain(notebook.cells[-1]) == plain(notebook.cells[-3]) != ""


def test_the_branch_on_a_value_falls_back_with_its_reason_and_line(quickstart):
    cell = cell_with(quickstart, "if total > 0")
    compilation = report_of(cell).variants[-1].compilation
    assert compilation.way == "eager"
    assert compilation.line == line_of(cell, "if total > 0")
    assert compilation.reason
    (result,) = [output for output in cell.outputs if output["output_type"] == "execute_result"]
    assert "0.08" in result["data"]["text/plain"]


def test_the_two_standard_deviations_are_named_as_different(quickstart):
    report = report_of(cell_with(quickstart, "heights.std()"))
    assert report["jax"].agreement.status == "differs"
    assert report["jax"].agreement.reference == "torch"


@pytest.mark.slow
def test_under_a_trace_the_cell_fails_in_the_line_of_its_branch(debugging):
    cell = cell_with(debugging, "%%jax\n")
    error = error_of(cell)
    assert error["ename"] == "TracerBoolConversionError"
    traceback = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(error["traceback"]))
    assert re.search(rf"line {line_of(cell, 'if size > 100')}\b", traceback)


def test_in_debug_mode_it_prints_each_step_and_takes_the_branch(debugging):
    cell = cell_with(debugging, "%%jax --debug", 'print("step"')
    steps = [line for line in plain(cell).splitlines() if line.startswith("step")]
    assert steps == [f"step {i} size {size}" for i, size in enumerate((7.0, 21.0, 63.0, 189.0, 94.5))]
    (result,) = [output for output in cell.outputs if output["output_type"] == "execute_result"]
    assert "283.5" in result["data"]["text/plain"]


def test_the_debugger_stops_once_at_the_users_line(debugging):
    cell = cell_with(debugging, "debugger.set_trace()")
    printed = plain(cell)
    assert printed.count("(3, 189.0)") == 1
    call = line_of(cell, "debugger.set_trace()")  # before Python 3.13 pdb stops in the line after the call
    source = cell.source.splitlines()
    stops = [f"{call} {source[call - 1].strip()}", f"{call + 1} {source[call].strip()}"]
    (stop,) = re.findall(r"-+> (\d+) +(.*)", printed)
    assert " ".join(stop) in stops


def test_fullgraph_refuses_the_branch_and_debug_mode_runs_it(debugging):
    refused = cell_with(debugging, "%%torch\n", "fullgraph=True")
    assert error_of(refused)["ename"] == "Unsupported"
    debugged = cell_with(debugging, "%%torch --debug")
    assert plain(debugged).splitlines().count("norm 2.0") == 1


@pytest.fixture(scope="module")
def memory():
    notebook = nbformat.read(EXAMPLES / "memory.ipynb", as_version=4)
    return NotebookClient(notebook, timeout=600, kernel_name="python3").execute()


def printed(notebook, needle: str) -> str:
    """Return what the cell printed that contains the text."""
    return "".join(output.get("text", "") for output in cell_with(notebook, needle).outputs)


@pytest.mark.slow
def test_claim_2_is_answered_from_what_was_measured(memory):
    table = printed(memory, "names = [")
    last = table.splitlines()[-1]
    assert last.split()[0] == "4000000"
    eager, *_, jitted = (float(found) for found in re.findall(r"([\d.]+) MiB, [\d.]+ ms", last))
    assert eager == pytest.approx(3 * 4e6 * 4 / 2**20, rel=0.02)  # exp, log and their product
    assert jitted < 2
    answer = printed(memory, "def against(")
    assert answer.startswith("Claim 2: against torch:eager it held (0.")
    assert "against torch:compiled it " in answer


@pytest.mark.slow
def test_claim_10_needs_a_gpu_and_says_so(memory):
    answer = printed(memory, "def claim_10(")
    assert answer.startswith("Claim 10: it ")
    shown = demo.reports(cell_with(memory, "%%compare --alloc all"))[-1]
    if shown.note:
        assert shown.note.startswith("No GPU here")
        assert "cannot be tested here. No GPU here" in answer
        assert all(variant.memory[0].device == "host" for variant in shown)
    else:
        assert "cannot" not in answer


def notebook_with(report: Report | None, source: str = "%%compare"):
    cell = nbformat.v4.new_code_cell(source, execution_count=1)
    if report is not None:
        cell.outputs = [nbformat.v4.new_output("display_data", {MIME: report.to_dict(), "text/plain": "text"})]
    return nbformat.v4.new_notebook(cells=[cell])


TWO = a_report(ratios=(a_ratio("faster"),))
ALONE = replace(TWO, variants=TWO.variants[:1])


@pytest.mark.parametrize("verdict", ["faster", "slower", "same", "undecided"])
def test_the_demo_is_content_with_every_verdict(verdict):
    assert demo.complaints(notebook_with(a_report(ratios=(a_ratio(verdict),))), True) == []


@pytest.mark.parametrize(
    ("notebook", "complaint"),
    [
        (notebook_with(a_report(ratios=())), "The comparison of cell 1 has no verdict on jax."),
        (notebook_with(a_report(ratios=(a_ratio("withheld"),))), "The comparison of cell 1 has no verdict on jax."),
        (
            notebook_with(replace(TWO, variants=TWO.variants[:1])),
            "The comparison of cell 1 has fewer than two variants.",
        ),
        (notebook_with(None), "The comparison of cell 1 shows no report."),
        (notebook_with(TWO, "%%jax"), "The notebook holds no comparison."),
    ],
)
def test_the_demo_names_what_is_missing(notebook, complaint):
    assert demo.complaints(notebook, True) == [complaint]


def test_without_a_compiler_a_compiled_torch_variant_may_be_missing():
    variants = (a_variant("jax"), a_variant("torch", status="not timed"))
    notebook = notebook_with(a_report(*variants, baseline="jax"))
    assert demo.complaints(notebook, torch_compiles=False) == []
    assert demo.complaints(notebook, torch_compiles=True) == ["The comparison of cell 1 has no verdict on torch."]
