"""From the text of a magic to its run: lines, sources, magics inside of a cell, and what is bound at the end."""

from __future__ import annotations

import inspect
import traceback

import pytest
from cells import fail, run, shown

from fwmagic.report import Report

QUICK = "--budget 0.05"


def line(error):
    """Return the line of the deepest frame of a notebook cell."""
    frames = [
        f for f in traceback.extract_tb(error.__traceback__) if "ipykernel" in f.filename or "<ipython" in f.filename
    ]
    return frames[-1].lineno


@pytest.mark.parametrize("blank", ["", "\n", "\n\n  \n"])
def test_lines_are_the_notebooks_own(shell, blank):
    error = fail(shell, f"%%jax {QUICK}\n{blank}x = 1\ny = 1 / 0")
    assert isinstance(error, ZeroDivisionError)
    assert line(error) == 3 + blank.count("\n")


def test_lines_of_a_section(shell):
    error = fail(shell, f"%%compare {QUICK}\n%%setup\na = 1\n%%numpy\n\nx = 2\ny = x / 0")
    assert isinstance(error, ZeroDivisionError)
    assert line(error) == 7
    assert shown(shell)[-1]["numpy"].failure.line == 7


def test_a_syntax_error_has_its_line(shell):
    assert fail(shell, f"%%jax {QUICK}\nx = 1\ny = = 2").lineno == 3
    assert fail(shell, f"%%compare {QUICK}\n%%numpy\nx = 1\n%%jax\ny = = 2").lineno == 5


def test_the_source_of_what_a_cell_defines(shell):
    run(shell, f"%%jax {QUICK}\n\ndef f(x):\n    # a comment\n    return x + 1\nf(jnp.ones(2))")
    assert inspect.getsource(shell.user_ns["f"]) == "def f(x):\n    # a comment\n    return x + 1\n"
    assert inspect.getsourcelines(shell.user_ns["f"])[1] == 3


def test_the_source_when_the_magic_is_called_as_a_function(shell):
    shell.run_cell_magic("jax", QUICK, "def g(x):\n    return x + 2\ng(1)")
    assert inspect.getsource(shell.user_ns["g"]) == "def g(x):\n    return x + 2\n"


def test_the_report_has_the_cell_as_it_was_written(shell):
    cells = [f"%%jax {QUICK}\n\nx = 1  # one", f"%%compare {QUICK} # both\n%%setup\na = 1\n%%numpy\n\na + 1\n"]
    for cell in cells:
        run(shell, cell)
    assert list({report.cell.rstrip("\n"): 0 for report in shown(shell)}) == [cell.rstrip("\n") for cell in cells]


def test_magics_and_commands_inside_of_a_cell(shell):
    run(shell, f"%%jax {QUICK}\nwords = !echo one two\n%pwd\nwords")
    assert list(shell.user_ns["words"]) == ["one two"]


def test_await_is_refused(shell):
    assert "Line 3 uses `await`" in str(fail(shell, f"%%jax {QUICK}\nx = 1\nawait x"))


def test_future_imports_of_the_notebook_hold(shell):
    run(shell, "from __future__ import annotations")
    run(shell, f"%%jax {QUICK}\ndef f(x: nothing): return x\nf(1)")
    assert shell.user_ns["f"].__annotations__ == {"x": "nothing"}


def test_transformers_of_the_shell_hold(shell):
    import ast

    class Doubles(ast.NodeTransformer):
        def visit_Constant(self, node):
            return ast.copy_location(ast.Constant(node.value * 2), node) if isinstance(node.value, int) else node

    shell.ast_transformers.append(Doubles())
    try:
        run(shell, f"%%jax {QUICK} -o r\nx = 3")
    finally:
        shell.ast_transformers.clear()
    assert shell.user_ns["x"] == 6


class TestValues:
    def test_a_cell_has_the_value_of_its_last_expression(self, shell):
        assert run(shell, f"%%jax {QUICK}\n1 + 2") == 3
        assert run(shell, f"%%jax {QUICK}\nx = 1 + 2") is None
        assert run(shell, f"%%compare {QUICK}\n%%numpy\n1 + 2") is None

    def test_the_report_is_bound_to_a_name(self, shell):
        run(shell, f"%%jax {QUICK} -o one\n1 + 2")
        run(shell, f"%%compare {QUICK} -o two\n%%numpy\n1 + 2")
        assert [type(shell.user_ns[name]) for name in ("one", "two")] == [Report, Report]
        assert shell.user_ns["two"].execution_count == shell.user_ns["one"].execution_count + 1

    def test_it_is_bound_also_when_a_variant_failed(self, shell):
        fail(shell, f"%%jax {QUICK} --mode compiled -o r\nif jnp.ones(()) > 0:\n    y = 1")
        assert shell.user_ns["r"]["jax"].status == "failed"

    def test_the_number_of_the_cell(self, shell):
        run(shell, "1")
        run(shell, f"%%jax {QUICK} -o r\n2")
        assert shell.user_ns["r"].execution_count == 2


def test_an_error_in_a_section_ends_the_cell_unless_told_to_go_on(shell):
    text = "%%numpy a\n1 / 0\n%%numpy b\n1"
    assert isinstance(fail(shell, f"%%compare {QUICK}\n{text}"), ZeroDivisionError)
    run(shell, f"%%compare {QUICK} --keep-going\n{text}")
    assert [variant.status for variant in shown(shell)[-1]] == ["failed", "timed"]


def test_the_display_is_closed_also_after_an_error(shell):
    fail(shell, f"%%compare {QUICK}\n%%setup\n1 / 0\n%%numpy\n1")
    assert shown(shell)[-1].state == "failed"
