"""How much Python runs in a call, counted."""

from __future__ import annotations

import json
import sys

import pytest

from fwmagic.cells import steps
from fwmagic.cells.steps import Steps, steps_of


def called(text, **names):
    """Return the steps of code of a user."""
    code = compile(text, "cell", "exec")
    return steps_of(lambda: exec(code, names))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x = 0\nwhile x < 3:\n    x += 1", "x = 0\nwhile x < 4:\n    x += 1"),
        ("y = x if x else x + 1", "y = z if z else z + 1"),
        ("sum(i for i in range(5))", "sum(i for i in range(6))"),
        ("def f(n): return f(n - 1) if n else n\nf(3)", "def f(n): return f(n - 1) if n else n\nf(4)"),
        ("json.dumps({}, indent=1)", "for _ in range(30): json.dumps({}, indent=1)"),
    ],
)
def test_more_work_takes_more_steps(one, other):
    names = {"x": 1, "z": 0, "json": json}
    few, many = called(one, **names), called(other, **names)
    assert few == called(one, **names)
    assert few.own < many.own or few.calls < many.calls
    assert not few.like(many)
    assert few.like(few)


def test_what_libraries_do_now_and_then_is_no_other_work():
    assert Steps(10, 100).like(Steps(10, 90))
    assert not Steps(10, 100).like(Steps(10, 60))
    assert not Steps(10, 100).like(Steps(11, 100))


def test_a_long_call_is_cut_off_and_made_to_its_end(monkeypatch):
    monkeypatch.setattr(steps, "MOST_STEPS", 1000)
    names = {"done": []}
    found = called("for i in range(10_000):\n    pass\ndone.append(i)", **names)
    assert (found.own, names["done"]) == (1000, [9999])


@pytest.mark.parametrize("text", ["1 + 1", "1 / 0"])
def test_whoever_traces_goes_on_afterwards(text):
    def trace(*_):
        return None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        if "0" in text:
            with pytest.raises(ZeroDivisionError):
                called(text)
        else:
            called(text)
        assert sys.gettrace() is trace
    finally:
        sys.settrace(before)
