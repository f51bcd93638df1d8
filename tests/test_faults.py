"""Faults of one variant, of a framework, of a cell: each is told in a sentence, and nothing else suffers from it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

import pytest
import torch
from cells import fail, names, run, shown, untouched
from IPython.core.error import UsageError
from tiers import tiered

import fwmagic
from fwmagic.cells.split import MOST_SECTIONS
from fwmagic.display import Display, display_in_place
from fwmagic.errors import FwMagicError
from fwmagic.frameworks import get
from fwmagic.worker.process import RaisedInWorker

ROOT = Path(__file__).parent.parent

# What IPython says of a SystemExit.
exits = pytest.mark.filterwarnings("ignore:To exit")

# What a section raises: its code, and the kind and the text that the report tells.
RAISED = {
    "an endless recursion": (
        "def deeper(n):\n    return deeper(n + 1)\ndeeper(0)",
        "RecursionError", "maximum recursion",
    ),
    "no Exception": ("class Odd(BaseException): pass\nraise Odd('odd')", "Odd", "odd"),
    "no text": (
        "class Odd(Exception):\n    def __str__(self): raise TypeError('no')\nraise Odd",
        "Odd", "its message cannot be read (TypeError)",
    ),
    "a text that exits": (
        "class Odd(Exception):\n    def __str__(self): raise SystemExit\nraise Odd",
        "Odd", "its message cannot be read (SystemExit)",
    ),
    "no repr": (
        "class Odd(Exception):\n    def __repr__(self): raise TypeError('no')\nraise Odd('odd')", "Odd", "odd",
    ),
    "a key without a repr": (
        "class Key:\n    def __repr__(self): raise TypeError('no')\n{}[Key()]",
        "KeyError", "its message cannot be read (TypeError)",
    ),
    "it cannot be pickled": (
        "class Odd(Exception):\n    def __reduce__(self): raise TypeError\nraise Odd('odd')", "Odd", "odd",
    ),
    "its pickle exits": (
        "class Odd(Exception):\n    def __reduce__(self): raise SystemExit\nraise Odd('odd')", "Odd", "odd",
    ),
    "its pickle is a number": (
        "class Odd(Exception):\n    def __reduce__(self): return int, (3,)\nraise Odd('odd')", "Odd", "odd",
    ),
    "it holds a lock": (
        "import threading\nerror = ValueError('odd')\nerror.lock = threading.Lock()\nraise error", "ValueError", "odd",
    ),
    "a long chain": (
        "error = None\nfor n in range(2000):\n    new = ValueError(str(n))\n    new.__context__, error = error, new\n"
        "raise error", "ValueError", "1999",
    ),
    "exit": ("raise SystemExit(3)", "SystemExit", "3"),
    "the end of a generator": ("raise GeneratorExit('odd')", "GeneratorExit", "odd"),
    "a task that is cancelled": ("import asyncio\nraise asyncio.CancelledError('odd')", "CancelledError", "odd"),
    "a group": ("raise BaseExceptionGroup('odd', [SystemExit(3)])", "BaseExceptionGroup", "odd (1 sub-exception)"),
    "an exit in a definition": ("class Odd:\n    raise SystemExit(3)", "SystemExit", "3"),
}  # fmt: skip
FIRST = ("an endless recursion", "no Exception", "no text", "its pickle exits", "exit", "an exit in a definition")


@pytest.mark.parametrize(
    ("options", "which"),
    [
        ("", RAISED),
        ("--isolate", FIRST),
        pytest.param("--isolate", [name for name in RAISED if name not in FIRST], marks=pytest.mark.slow),
    ],
    ids=["here", "isolated", "more isolated"],
)
def test_what_a_section_raises_fails_its_variant_alone(shell, options, which):
    run(shell, "import numpy as np\nkept = np.ones(3)")
    cell = f"%%compare {options} --budget 0.1 --keep-going\n%%numpy before\nnp.ones(3)\n"
    lines = {}
    for name in which:
        cell += f'%%numpy "{name}"\n'
        first = cell.count("\n") + 1
        cell += f"{RAISED[name][0]}\nnp.ones(3)\n"
        lines[name] = range(first, cell.count("\n"))
    with untouched(shell):
        run(shell, f"{cell}%%numpy after\nnp.ones(3)")
    report = shown(shell)[-1]
    assert report.state == "failed"
    assert [variant.status for variant in report] == ["timed", *["failed"] * len(which), "timed"]
    for name in which:
        _, kind, text = RAISED[name]
        failure = report[name].failure
        assert (failure.error, failure.message[: len(text)]) == (kind, text)
        assert failure.line in lines[name]
        assert re.search(rf"^{re.escape(name)}\n[! ] failed", report.details(), re.MULTILINE), "of the first, its stage"
    assert report.ratio("after", over="before").rounds > 0


@exits
@pytest.mark.parametrize(
    ("options", "code", "kind", "text"),
    [
        ("", "raise SystemExit(3)", SystemExit, "3"),
        ("--isolate", "raise SystemExit(3)", SystemExit, "3"),
        ("", "raise GeneratorExit('odd')", GeneratorExit, "odd"),
        (
            "",
            "class Odd(Exception):\n    def __str__(self): raise TypeError\nraise Odd",
            UsageError,
            "Odd: its message",
        ),
    ],
)
def test_the_cell_ends_in_what_its_first_failed_variant_raised(shell, options, code, kind, text):
    error = fail(shell, f"%%compare {options} --budget 0.05\n%%numpy odd\n{code}\n%%numpy after\nnp.ones(3)")
    assert type(error) is kind
    assert str(error).startswith(text)
    assert shown(shell)[-1].state == "failed"
    assert shown(shell)[-1]["after"].status == "timed"


def test_an_error_that_the_kernel_cannot_make_again_is_told_in_words(monkeypatch):
    sent = RaisedInWorker.of(subprocess.CalledProcessError(3, "there"))
    assert type(sent.error()) is subprocess.CalledProcessError
    monkeypatch.delattr(subprocess, "CalledProcessError")
    assert type(sent.error()) is FwMagicError
    assert "CalledProcessError: Command 'there' returned" in str(sent.error())


def test_both_ends_of_a_long_traceback_are_sent():
    def deeper(n):
        return 1 / n if n == 0 else deeper(n - 1)

    try:
        deeper(400)
    except ZeroDivisionError as error:
        sent = RaisedInWorker.of(error).error()
    lines = []
    trace = sent.__traceback__
    while trace is not None:
        lines.append(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    assert lines[0] == "test_both_ends_of_a_long_traceback_are_sent"
    assert lines[-1] == "deeper"
    assert len(lines) < 400


@exits
@pytest.mark.parametrize("raised", ["SystemExit(3)", "GeneratorExit()", "ValueError('no')"])
@pytest.mark.parametrize("options", ["", pytest.param("--isolate", marks=pytest.mark.slow)])
def test_an_exit_in_the_setup_ends_the_report(shell, options, raised):
    with untouched(shell):
        error = fail(shell, f"%%compare {options}\n%%setup\nx = 1\nraise {raised}\n%%numpy\nnp.ones(3)")
    assert type(error).__name__ == raised.partition("(")[0]
    report = shown(shell)[-1]
    assert (report.state, report["numpy"].status) == ("failed", "not timed")
    assert f"%%setup failed at line 4 with {type(error).__name__}" in report.note


@exits
class TestASingleCell:
    def test_an_exit_that_only_a_later_run_makes_ends_no_cell(self, shell):
        run(shell, "tickets = iter('a')")
        cell = "%%jax --mode eager --repeat-effects --budget 0.05 -o r\nif not next(tickets, 0): raise SystemExit(3)\n1"
        assert run(shell, cell) == 1
        report = shell.user_ns["r"]
        assert report.state == "failed"
        assert (report["jax"].failure.error, report["jax"].failure.line) == ("SystemExit", 2)

    @pytest.mark.parametrize("raised", ["SystemExit(3)", "GeneratorExit()"])
    def test_one_in_the_plain_run_is_the_users(self, shell, raised):
        error = fail(shell, f"%%jax --budget 0.05\nx = 1\nraise {raised}")
        assert type(error).__name__ == raised.partition("(")[0]
        assert shell.user_ns["x"] == 1
        assert shown(shell) == []

    def test_what_measuring_itself_raises_ends_the_report(self, shell, monkeypatch):
        def exits(*_, **__):
            raise SystemExit(3)

        monkeypatch.setattr("fwmagic.run.measuring.time_variants", exits)
        assert isinstance(fail(shell, "%%jax --budget 0.05 --mode eager\nx = 1\nx + 1"), SystemExit)
        assert (shown(shell)[-1].state, shell.user_ns["x"]) == ("failed", 1)


def test_a_callable_that_exits_fails_alone():
    def exits():
        raise SystemExit(3)

    report = fwmagic.compare({"odd": exits, "fine": lambda: 1}, budget=0.05, memory=False)
    assert [variant.status for variant in report] == ["failed", "timed"]
    assert report.state == "failed"


def test_results_that_cannot_be_compared_are_not_compared(shell):
    run(
        shell,
        "class Odd:\n    @property\n    def state_dict(self): raise SystemExit\nodd, other = Odd(), Odd()",
    )
    run(shell, "%%compare --budget 0.05\n%%numpy a\nx = odd\nnp.ones(3)\n[odd, 1]\n%%numpy b\n[other, 1]")
    report = shown(shell)[-1]
    assert [variant.status for variant in report] == ["timed", "timed"]
    assert report["b"].agreement.status == "not compared"


class TestAFrameworkThatFails:
    def broken(self, monkeypatch, name, method, error):
        def fails(*_, **__):
            raise error

        monkeypatch.setattr(type(get(name)), method, fails)

    def test_its_first_compilation_fails_it_alone_and_it_runs_eagerly(self, shell, monkeypatch):
        self.broken(monkeypatch, "jax", "prime", OSError("the cache cannot be written"))
        run(shell, "%%compare --budget 0.05\n%%jax\njnp.ones(3) * 2\n%%numpy\nnp.ones(3) * 2")
        report = shown(shell)[-1]
        assert [variant.status for variant in report] == ["timed", "timed"]
        assert report["jax"].compilation.way == "eager"
        assert "JAX can compile nothing here (OSError: the cache cannot be written)" in report["jax"].compilation.reason

    def test_and_only_where_it_has_to_compile_is_it_an_error(self, shell, monkeypatch):
        self.broken(monkeypatch, "jax", "prime", OSError("the cache cannot be written"))
        error = fail(shell, "%%compare --budget 0.05\n%%jax --mode compiled\njnp.ones(3) * 2\n%%numpy\nnp.ones(3) * 2")
        assert "the cache cannot be written" in str(error)
        assert [variant.status for variant in shown(shell)[-1]] == ["failed", "timed"]

    def test_inputs_that_it_cannot_take_fail_it_alone(self, shell, monkeypatch):
        self.broken(monkeypatch, "jax", "from_numpy", RuntimeError("no backend"))
        error = fail(
            shell, "%%compare --budget 0.05\n%%setup\nx = np.ones(3)\n%%jax --mode eager\nx * 2\n%%numpy\nx * 2"
        )
        assert str(error) == "no backend"
        assert [variant.status for variant in shown(shell)[-1]] == ["failed", "timed"]

    def test_a_device_that_it_cannot_tell_is_unknown(self, shell, monkeypatch):
        self.broken(monkeypatch, "jax", "device", RuntimeError("no backend"))
        monkeypatch.setattr(type(get("jax")), "on_device", lambda *_: torch.no_grad())
        run(shell, "%%compare --budget 0.05 --no-check\n%%jax --mode eager\njnp.ones(3)\n%%numpy\nnp.ones(3)")
        assert shown(shell)[-1].conditions.devices["jax"] == "unknown (RuntimeError: no backend)"


CACHE = """
import torch
from fwmagic.frameworks import get
from fwmagic.run.callables import compare
print(get("torch").compile_events(), get("torch").cannot_compile())
print([variant.status for variant in compare({"torch": lambda: torch.ones(3) * 2}, budget=0.05, memory=False)])
"""


@pytest.mark.slow
def test_a_compiler_that_cannot_be_imported_leaves_the_rest_of_its_framework(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "file" / "folder")}
    (tmp_path / "file").touch()
    done = subprocess.run([sys.executable, "-c", CACHE], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("-1 torch.compile cannot be imported (NotADirectoryError:")
    assert done.stdout.splitlines()[-1] == "['timed']"


# Libraries as they are when something is wrong with them, in the place of the real ones.
BROKEN = {
    "raises": "raise RuntimeError('built for another processor')",
    "cannot be read": "b'\\xff'.decode('ascii')",
    "exits": "raise SystemExit(1)",
    "crashes": "import os, signal\nos.kill(os.getpid(), signal.SIGILL)",
}
APART = """
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "fwmagic")
result = shell.run_cell("%%compare --isolate --no-memory --budget 0.05 -o r\\n%%numpy\\nimport numpy\\nnp.ones(3)")
print([variant.status for variant in shell.user_ns["r"]], result.error_in_exec)
if {tried}:
    result = shell.run_cell("%%compare\\n%%jax\\nx = 1\\n%%numpy\\nx = 1")
    print(result.error_in_exec)
"""


@pytest.mark.parametrize("code", tiered(BROKEN, "raises"))
def test_a_library_that_cannot_be_imported_is_nothing_to_the_others(tmp_path, code):
    for name in ("torch", "jax"):
        (tmp_path / f"{name}.py").write_text(code)
    environment = {**os.environ, "IPYTHONDIR": str(tmp_path), "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    tried = code == BROKEN["raises"]
    done = subprocess.run(
        [sys.executable, "-c", APART.format(tried=tried)], env=environment, capture_output=True, text=True
    )
    assert "['timed'] None" in done.stdout, done.stdout + done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    if tried:
        assert "jax cannot be imported, so %%jax cannot run (RuntimeError: built for another processor)" in done.stdout


class TestNamesOfTheReport:
    @pytest.mark.parametrize("name", ["In", "Out", "_", "__", "_3", "_i", "_i3", "_oh", "exit", "quit", "get_ipython"])
    def test_those_of_ipython_are_refused(self, shell, name):
        with untouched(shell):
            error = fail(shell, f"%%jax -o {name}\nx = 1")
        assert str(error) == (
            f"%%jax: --output {name} would take the place of a name that IPython needs: choose another"
        )

    @pytest.mark.parametrize("name", ["__builtins__", "__name__", "print", "open", "None", "ｐｒｉｎｔ"])
    def test_those_of_python_are_refused(self, shell, name):
        with untouched(shell):
            error = fail(shell, f"%%compare -o {name}\n%%numpy\nx = 1")
        assert isinstance(error, UsageError)
        assert str(error).startswith("%%compare: --output ")

    @pytest.mark.parametrize(("magic", "name"), [("%%jax", "math"), ("%%jax", "jnp"), ("%%compare\n%%numpy", "math")])
    def test_those_of_modules_are_refused(self, shell, magic, name):
        run(shell, "import math")
        first, *rest = magic.split("\n")
        error = fail(shell, "\n".join([f"{first} -o {name}", *rest, "x = 1"]))
        assert str(error) == f"-o {name} would take the place of the module `{name}`: choose another name."
        assert type(shell.user_ns["math"]) is type(os)
        assert "x" not in names(shell)

    def test_any_other_is_bound(self, shell):
        run(shell, "def r(): pass")
        for name in ("r", "_r", "_report_1", "Input"):
            run(shell, f"%%jax --mode eager --budget 0.05 -o {name}\n1 + 1")
            assert type(shell.user_ns[name]) is fwmagic.Report


DEEP = " + ".join(["x"] * 20_000)
MALFORMED = {
    "return": ("return 3", "'return' outside function"),
    "unfinished": ("(1, 2", "incomplete input"),
    "indentation": ("  y = 2", "unexpected indent"),
    "a byte order mark": ("\ufeffy = 2", "invalid non-printable character U+FEFF"),
    "a null byte": ("y = '\0'", "Line 3 holds a null byte, which Python cannot read: remove it."),
    "thousands of terms": (f"y = {DEEP}", "is nested too deeply to be read (RecursionError)"),
    "thousands of brackets": (f"y = {'(' * 5000}1{')' * 5000}", "too many nested parentheses"),
}


@pytest.mark.parametrize("magic", ["%%jax", "%%compare\n%%numpy\nnp.ones(3)\n%%numpy b"])
@pytest.mark.parametrize(("code", "sentence"), tiered(MALFORMED, *MALFORMED))
def test_a_cell_that_cannot_be_read_shows_the_users_own_lines_only(shell, capsys, magic, code, sentence):
    run(shell, "%xmode Context")
    capsys.readouterr()
    cell = f"{magic}\nx = 1\n{code}"
    line = cell[: cell.index(code)].count("\n") + 1
    with untouched(shell):
        error = fail(shell, cell)
    assert isinstance(error, SyntaxError | UsageError)
    told = "".join(capsys.readouterr())
    assert sentence.replace("Line 3", f"Line {line}") in told
    assert "Traceback" not in told
    assert "fwmagic" not in told
    assert len(told.splitlines()) < 8
    if isinstance(error, SyntaxError):
        assert f"line {error.lineno}" in told.splitlines()[0]
    assert shown(shell) == []


def test_a_syntax_error_while_the_cell_runs_has_its_traceback(shell, capsys):
    run(shell, "%xmode Context")
    capsys.readouterr()
    error = fail(shell, "%%jax --budget 0.05\nx = 1\neval('x +')")
    assert isinstance(error, SyntaxError)
    assert "eval('x +')" in "".join(capsys.readouterr())


@pytest.mark.parametrize("terms", [300, 900])
def test_a_long_sum_that_python_can_read_runs(shell, terms):
    assert run(shell, f"%%jax --budget 0.05 --mode eager\nx = 1\n{' + '.join(['x'] * terms)}") == terms


class TestAnInterrupt:
    def interrupted(self, monkeypatch, name):
        def stops(*_, **__):
            raise KeyboardInterrupt

        monkeypatch.setattr(name, stops)

    @pytest.mark.parametrize("place", ["isolated.server_answers", "isolated.Walk.run", "measuring.time_variants"])
    def test_shows_none_of_our_frames(self, shell, capsys, monkeypatch, place):
        self.interrupted(monkeypatch, f"fwmagic.run.{place}")
        run(shell, "%xmode Context")
        capsys.readouterr()
        options = "--isolate" if "isolated" in place else ""
        error = fail(shell, f"%%compare {options} --budget 0.05\n%%numpy\nnp.ones(3)")
        told = "".join(capsys.readouterr())
        assert isinstance(error, KeyboardInterrupt)
        assert "File " not in told
        assert "%%compare" in told
        assert shown(shell)[-1].state == "interrupted"

    def test_shows_the_users_own_line(self, shell):
        error = fail(shell, "%%compare --budget 0.05\n%%numpy\nx = 1\nraise KeyboardInterrupt\nnp.ones(3)")
        assert isinstance(error, KeyboardInterrupt)
        assert traceback.extract_tb(error.__traceback__)[-1].lineno == 4

    def test_does_not_cut_off_what_is_shown_last(self, shell, monkeypatch):
        closed = []

        class Interrupted(Display):
            def close(self, report=None):
                signal.raise_signal(signal.SIGINT)
                super().close(report)
                closed.append(1)

        monkeypatch.setattr("fwmagic.execute.display_for_shell", lambda _: Interrupted(display_in_place(shell)))
        error = fail(shell, "%%compare --budget 0.05 -o r\n%%numpy\nnp.ones(3)")
        assert isinstance(error, KeyboardInterrupt)
        assert closed == [1]
        assert shown(shell)[-1].state == shell.user_ns["r"].state == "done"


class TestManySections:
    def test_too_many_are_refused_before_anything_runs(self, shell):
        sections = "".join(f"%%numpy s{n}\nx = 1\n" for n in range(2000))
        start = time.monotonic()
        error = fail(shell, f"%%compare\n{sections}")
        assert time.monotonic() - start < 20  # nothing like the hours that they would take
        sentence = f"2000 sections are more than the {MOST_SECTIONS} that can be compared at once; use several cells"
        assert str(error) == f"%%compare: {sentence}"
        assert shown(shell) == []

    def test_so_are_callables(self):
        with pytest.raises(FwMagicError, match=r"2000 callables are more than the \d+ that can be compared"):
            fwmagic.compare({str(n): lambda: 1 for n in range(2000)})

    @pytest.mark.slow
    def test_as_many_as_are_allowed_are_compared(self, shell):
        sections = "".join(f"%%numpy s{n}\nnp.ones(3)\n" for n in range(MOST_SECTIONS))
        run(shell, f"%%compare --budget 2\n{sections}")
        assert {variant.status for variant in shown(shell)[-1]} == {"timed"}


KILLED = """
import os, sys, time
from multiprocessing import util
from fwmagic.worker.process import Worker, WorkerSetting, launch_server, server_answers
launch_server()
assert server_answers()
worker = Worker(WorkerSetting(dict(os.environ), os.getcwd(), tuple(sys.path)))
print(util.get_temp_dir(), flush=True)
time.sleep(60)
"""


def test_a_kernel_that_is_killed_leaves_no_folder(tmp_path):
    for name in ("torch", "jax"):  # which makes the server quick
        (tmp_path / f"{name}.py").write_text("raise RuntimeError")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-c", KILLED]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as kernel:
        folder = Path(kernel.stdout.readline().strip())
        assert folder.is_dir()
        kernel.kill()
    deadline = time.monotonic() + 30
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not folder.exists()
