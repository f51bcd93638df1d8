"""Cells that log and that warn: what handlers, filters, formatters and hooks do is done in every call, and put back."""

from __future__ import annotations

import contextlib
import ctypes
import io
import logging
import subprocess
import sys
import textwrap
import warnings

import pytest
from cells import run

SETUP = """
import ctypes, io, logging, warnings
import numpy as np, torch
A, x, rec = np.ones(3), torch.ones(3), []
def work():  # counted where no snapshot looks
    ctypes.c_int.from_address(place).value += 1
    rec.append(len(rec))
class Keeps(logging.Handler):
    def emit(self, record):
        work()
class Filters(logging.Filter):
    def filter(self, record):
        work()
        return True
class Formats(logging.Formatter):
    def format(self, record):
        work()
        return "seen on the screen"
class Lazy:
    def __str__(self):
        work()
        return "seen on the screen"
def logger(name, handler):
    made = logging.getLogger(name)
    made.handlers[:], made.propagate = [handler], False
    made.setLevel(logging.INFO)
    return made
keeps = logger("mine.keeps", Keeps())
screen = logger("mine.screen", logging.StreamHandler())
filters = logger("mine.filters", logging.StreamHandler(io.StringIO()))
filters.handlers[0].addFilter(Filters())
formats = logger("mine.formats", logging.StreamHandler())
formats.handlers[0].setFormatter(Formats())
written = io.StringIO()
memory = logger("mine.memory", logging.StreamHandler(written))
def shows(message, *_, **__):
    work()
def old():
    warnings.warn("old", DeprecationWarning)
    return len(rec)
"""
CASES = {
    "handler": "keeps.info('step')\nlen(rec)",
    "handler-by-its-name": "import logging\nlogging.getLogger('mine.keeps').info('step')\nlen(rec)",
    "last-record": "keeps.info('loss %s', 2.5)\nrec[-1] + 7",
    "lazy-argument": "screen.info('%s', Lazy())\nlen(rec)",
    "filter": "filters.info('step')\nlen(rec)",
    "formatter": "formats.info('step')\nlen(rec)",
    "branch": "if screen.isEnabledFor(20):\n    work()\nlen(rec)",
    "stream-in-memory": "memory.info('step')\nwork()\nlen(written.getvalue())",
    "warning": "warnings.warn('q')\nlen(rec)",
    "helper-that-warns": "old()",
}


@pytest.fixture
def counted(shell):
    counter = ctypes.c_int(0)
    show = warnings.showwarning
    run(shell, f"place = {ctypes.addressof(counter)}\n{SETUP}")
    with warnings.catch_warnings():
        run(shell, "warnings.showwarning = shows\nwarnings.simplefilter('always')")
        yield shell, counter
    warnings.showwarning = show


def plainly(names, text):
    """Return what the cell gives when it is run once, with nothing shown; what it has changed is put back by hand."""
    *body, last = text.splitlines()
    with contextlib.redirect_stderr(io.StringIO()):
        exec("\n".join(body), names)
        value = eval(last, names)
    names["rec"].clear()
    names["written"].seek(0)
    names["written"].truncate()
    return value


@pytest.mark.parametrize("text", CASES.values(), ids=CASES)
def test_a_section_that_logs_or_warns_does_all_its_work_in_each_call(counted, capsys, text):
    shell, counter = counted
    names = shell.user_ns
    expected = plainly(names, text)
    capsys.readouterr()
    counter.value = 0
    run(shell, f"%%compare --budget 0.1 -o r\n%%numpy a\n{text}\n%%numpy b\n{expected!r}")
    assert [(one.status, one.note) for one in names["r"]] == [("timed", "")] * 2
    assert names["r"]["b"].agreement.status == "agrees"
    assert counter.value >= 30
    assert (names["rec"], names["written"].getvalue()) == ([], "")
    assert "seen on the screen" not in capsys.readouterr().err


def test_a_torch_cell_whose_handler_keeps_metrics(counted):
    shell, counter = counted
    cell = "%%torch --mode eager --budget 0.1 -o r\nkeeps.info('loss %s', 1.5)\ny = x.sum() + rec[-1]\ny"
    assert run(shell, cell).item() == 3
    assert [one.status for one in shell.user_ns["r"]] == ["timed"]
    assert shell.user_ns["rec"] == [0]
    assert counter.value >= 30


def test_a_warning_that_is_shown_once_is_so_in_a_notebook_that_was_compared(shell):
    run(shell, "import warnings\nwarnings.simplefilter('default')")
    with warnings.catch_warnings(record=True) as shown:
        run(shell, "%%compare --budget 0.1\n%%numpy a\nwarnings.warn('a')\n1")
        shown.clear()
        before = dict(shell.user_ns)
        assert "__warningregistry__" not in before
        exec(compile("warnings.warn('a')", "cell", "exec"), shell.user_ns)
        assert len(shown) == 1


def test_what_a_cell_disables_of_the_log_is_put_back(shell):
    run(shell, "import logging")
    run(shell, "%%compare --budget 0.1 -o r\n%%numpy a\nlogging.disable(50)\nlogging.root.manager.disable")
    assert logging.root.manager.disable == 0
    assert [one.status for one in shell.user_ns["r"]] == ["timed"]


def test_what_frameworks_register_when_they_start_is_not_the_cells(tmp_path):
    code = """
    from IPython.core.interactiveshell import InteractiveShell
    shell = InteractiveShell.instance()
    shell.run_cell("%load_ext fwmagic\\nimport copy, copyreg, torch, jax\\nnet = torch.nn.Linear(2, 2)").raise_error()
    cell = "%%compare --budget 0.05 -o r\\n%%jax b\\njnp.ones(3)\\n%%torch a\\ncopy.deepcopy(net)(torch.ones(2)).sum()"
    shell.run_cell(cell).raise_error()
    print([one.status for one in shell.user_ns["r"]])
    import sympy
    print(sympy.core.function.UndefinedFunction in shell.user_ns["copyreg"].dispatch_table)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-2:] == ["['timed', 'timed']", "True"]
