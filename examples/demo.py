"""Run quickstart.ipynb in a real kernel and print its comparisons: what `make demo` does.

The executed notebook and its HTML go to `build/`, or to the folder that is given as the only argument. The exit
status is 1 if a cell failed or a comparison has no verdict.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert import HTMLExporter

from fwmagic import Report
from fwmagic.report import MIME

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "examples" / "quickstart.ipynb"
VERDICTS = {"faster", "slower", "same", "undecided"}
CELL_TIMEOUT = 600  # seconds; the first torch.compile of a machine probes its C++ compiler


def compiler() -> str | None:
    """Return the C++ compiler that torch.compile would use here, if there is one."""
    return shutil.which(os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++"))


def reports(cell: nbformat.NotebookNode) -> list[Report]:
    """Return the reports that a cell displayed."""
    bundles = [output["data"] for output in cell.get("outputs", []) if MIME in output.get("data", {})]
    return [Report.from_json(bundle[MIME]) for bundle in bundles]


def missing_verdicts(report: Report, torch_compiles: bool) -> list[str]:
    """Return the names of the variants that should have been compared to the baseline, and were not."""
    decided = {ratio.variant for ratio in report.ratios if ratio.verdict in VERDICTS}
    excused = {
        variant.name
        for variant in report.variants
        if not torch_compiles and (variant.framework, variant.mode) == ("torch", "compiled")
    }
    return [v.name for v in report.variants if v.name not in decided | excused | {report.baseline}]


def complaints(notebook: nbformat.NotebookNode, torch_compiles: bool) -> list[str]:
    """Return what is wrong with the comparisons of an executed notebook, one sentence each."""
    found = []
    comparisons = [cell for cell in notebook.cells if cell.source.startswith("%%compare")]
    if not comparisons:
        found.append("The notebook holds no comparison.")
    for cell in comparisons:
        title = f"The comparison of cell {cell.get('execution_count')}"
        shown = reports(cell)
        if not shown:
            found.append(f"{title} shows no report.")
        for report in shown:
            if len(report.variants) < 2:
                found.append(f"{title} has fewer than two variants.")
            found += [f"{title} has no verdict on {name}." for name in missing_verdicts(report, torch_compiles)]
    return found


def main(folder: Path) -> int:
    """Execute the notebook into `folder`, print what it found, and return the exit status."""
    folder.mkdir(parents=True, exist_ok=True)
    torch_compiles = compiler() is not None
    if not torch_compiles:
        print("No C++ compiler was found, which torch.compile needs: the torch cells run eager.\n")
    print(f"Running {NOTEBOOK.name} ...\n", flush=True)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT,
        resources={"metadata": {"path": str(NOTEBOOK.parent)}},
        extra_arguments=["--log-level=ERROR"],  # ipykernel warns of every kernel on TCP, also on the loopback device
    )
    wrong = []
    try:
        client.execute()
    except CellExecutionError as error:
        wrong.append(f"A cell failed.\n{error}")
    executed, page = folder / NOTEBOOK.name, folder / f"{NOTEBOOK.stem}.html"
    nbformat.write(notebook, executed)
    page.write_text(HTMLExporter().from_notebook_node(notebook)[0], encoding="utf-8")
    for cell in notebook.cells:
        for report in reports(cell):
            print(f"--- In [{cell.execution_count}]  {cell.source.splitlines()[0]}\n{report}\n")
    wrong += complaints(notebook, torch_compiles)
    print(f"The executed notebook: {executed}\nThe same as a page for a browser: {page}")
    print("`make lab` opens JupyterLab, where you can look at both and change the cells.")
    for sentence in wrong:
        print(sentence, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build")))
