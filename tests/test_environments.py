"""Where fwmagic runs: with one framework, with none, in a terminal, in a kernel, without IPython at all.

Each test has a process of its own. A package that is to be absent is hidden from Python's path finder, so that
importing it fails, and looking for it finds nothing, as if it were not installed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from fwmagic.report import MIME, Report

ROOT = Path(__file__).parent.parent
JAX = ("jax", "jaxlib", "flax", "optax")
TORCH = ("torch",)

WITHOUT = """
import sys
from importlib.machinery import PathFinder

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {absent!r} else super().find_spec(name, path, target)

sys.meta_path = [Without if finder is PathFinder else finder for finder in sys.meta_path]
"""

SHELL = """
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()

def cell(text):
    result = shell.run_cell(text)
    error = result.error_before_exec or result.error_in_exec
    print(f"[{type(error).__name__}] {error}" if error else "[fine]")
"""


@pytest.fixture
def environment(tmp_path) -> dict[str, str]:
    return {**os.environ, "IPYTHONDIR": str(tmp_path / "ipython"), "PYTHONPATH": str(ROOT)}


@pytest.fixture
def python(environment):
    """A function that runs code in a fresh Python in which some packages are absent, and returns what it printed."""

    def run(code: str, absent: tuple[str, ...] = ()) -> str:
        program = WITHOUT.format(absent=absent) + code
        done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_an_absent_package_is_neither_imported_nor_found(python):
    code = """
import importlib.util
print(importlib.util.find_spec("torch"))
try:
    import torch
except ModuleNotFoundError as error:
    print(error.name)
"""
    assert python(code, TORCH).split() == ["None", "torch"]


def test_loading_imports_no_framework_and_no_pandas(python):
    code = """
cell("%load_ext fwmagic")
print([name for name in ("torch", "jax", "flax", "optax", "numpy", "pandas") if name in sys.modules])
"""
    assert python(SHELL + code).splitlines()[-2:] == ["[fine]", "[]"]


@pytest.mark.slow
def test_with_torch_only_torch_cells_work_and_jax_cells_say_what_to_install(python):
    code = """
cell("%load_ext fwmagic")
cell("%%jax\\nout = 1")
print("out" in shell.user_ns)
cell("%%torch --budget 0.2\\nout = torch.arange(4.0).sum()")
print(shell.user_ns["out"])
"""
    printed = python(SHELL + code, JAX)
    assert "is not installed" in printed
    assert "pip install 'fwmagic[jax]'" in printed
    assert "\nFalse\n" in printed
    assert printed.splitlines()[-2:] == ["[fine]", "tensor(6.)"]


def test_with_jax_only_jax_cells_work_and_torch_cells_say_what_to_install(python):
    code = """
cell("%load_ext fwmagic")
cell("%%torch\\nout = 1")
print("out" in shell.user_ns)
cell("%%jax --budget 0.2\\nout = jnp.arange(4.0).sum()")
print(shell.user_ns["out"])
"""
    printed = python(SHELL + code, TORCH)
    assert "is not installed" in printed
    assert "pip install 'fwmagic[torch]'" in printed
    assert "\nFalse\n" in printed
    assert printed.splitlines()[-2:] == ["[fine]", "6.0"]


def test_with_neither_numpy_is_still_compared_and_both_cells_say_what_to_install(python):
    code = """
cell("%load_ext fwmagic")
cell("%%torch\\n1")
cell("%%jax\\n1")
cell("%%compare --budget 0.2 -o report\\n%%numpy a\\nnp.arange(9).sum()\\n%%numpy b\\nnp.arange(9).sum()")
print(shell.user_ns["report"].ratio("b", over="a").variant)
"""
    printed = python(SHELL + code, JAX + TORCH)
    assert "pip install 'fwmagic[torch]'" in printed
    assert "pip install 'fwmagic[jax]'" in printed
    assert printed.splitlines()[-2:] == ["[fine]", "b"]


def test_a_section_of_an_absent_framework_says_what_to_install(python):
    code = """
cell("%load_ext fwmagic")
cell("%%compare\\n%%numpy\\nnp.ones(3).sum()\\n%%jax\\njnp.ones(3).sum()")
"""
    printed = python(SHELL + code, JAX + TORCH)
    assert "pip install 'fwmagic[jax]'" in printed
    assert "[fine]" not in printed.splitlines()[-1]


def test_without_ipython_it_is_a_library(python):
    code = """
import fwmagic
report = fwmagic.compare({"short": lambda: sum(range(100)), "long": lambda: sum(range(10_000))}, budget=0.5)
print(report["short"].time.median > 0, report.ratio("long", over="short").median > 2)
print(fwmagic.Report.from_json(report.to_json()) == report)
"""
    assert python(code, ("IPython", "ipykernel", *JAX, *TORCH)).split()[-3:] == ["True", "True", "True"]


#: Two sections; those without a framework to be imported are the first tier's.
pairs = pytest.mark.parametrize(
    "names", [("numpy a", "numpy b"), pytest.param(("torch", "jax"), marks=pytest.mark.slow)], ids=["numpy", "both"]
)


@pairs
def test_in_terminal_ipython(environment, names):
    # Two empty lines end a cell magic at a prompt.
    typed = f"""%load_ext fwmagic
import numpy as np
A = np.ones(4, np.float32)
%%compare --inputs A --budget 0.5 -o report
%%{names[0]}
A.sum()
%%{names[1]}
A.sum()


print("variants:", *[variant.name for variant in report])
%unload_ext fwmagic
exit
"""
    command = [sys.executable, "-m", "IPython", "--simple-prompt", "--no-banner", "--colors=nocolor"]
    done = subprocess.run(command, input=typed, env=environment, capture_output=True, text=True)
    assert f"variants: {' '.join(name.split()[-1] for name in names)}" in done.stdout, done.stdout + done.stderr
    assert re.search(rf"[✓=?] .*\b{names[1].split()[-1]}\b", done.stdout), "the answer on the two"


@pairs
def test_in_a_kernel_a_comparison_is_one_output_in_three_forms(environment, monkeypatch, names):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    source = "%%compare --budget 0.5\n%%setup\nA = np.ones(4, np.float32)\n" + "\n".join(
        f"%%{name}\nA.sum()" for name in names
    )
    cells = [nbformat.v4.new_code_cell(text) for text in ("%load_ext fwmagic", source)]
    notebook = NotebookClient(nbformat.v4.new_notebook(cells=cells), kernel_name="python3", timeout=300).execute()
    assert notebook.cells[0].outputs == []
    (output,) = notebook.cells[1].outputs
    assert set(output["data"]) == {MIME, "text/html", "text/plain"}
    report = Report.from_json(output["data"][MIME])
    assert report.state == "done"
    assert [variant.name for variant in report] == [name.split()[-1] for name in names]


def test_in_a_kernel_a_traceback_shows_the_users_own_line(environment, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    source = "%%compare --budget 0.1\n%%numpy a\nnp.ones(4).sum()\n%%numpy b\nz = np.ones(3)\nz @ not_there"
    cells = [nbformat.v4.new_code_cell(text) for text in ("%load_ext fwmagic", source)]
    client = NotebookClient(nbformat.v4.new_notebook(cells=cells), kernel_name="python3", allow_errors=True)
    *_, error = client.execute().cells[1].outputs
    shown = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(error["traceback"]))
    assert "----> 6 z @ not_there" in shown
    assert "5 z = np.ones(3)" in shown
    assert "fwmagic/" not in shown
