"""The overlay is put on the notebook's namespace and taken off without a trace."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwmagic.cells.scene import Overlay


def test_names_are_there_only_while_it_is_on():
    kept, hidden = object(), object()
    namespace: dict[str, Any] = {"kept": kept, "hidden": hidden}
    exec("def reader(): return new, hidden", namespace)
    before = dict(namespace)
    overlay = Overlay(namespace, {"new": 1, "hidden": 2})
    overlay.off()
    assert namespace == before
    overlay.on()
    overlay.on()
    assert namespace["reader"]() == (1, 2), "functions see it through their globals"
    exec("another = kept; kept = None; del hidden; new = 5", namespace)
    overlay.off()
    overlay.off()
    assert namespace == before
    assert namespace["kept"] is kept
    assert namespace["hidden"] is hidden


def test_what_a_definition_run_bound_can_be_kept():
    namespace: dict[str, Any] = {"x": 1}
    overlay = Overlay(namespace, {"gone": 1})
    overlay.on()
    exec("def f(): return x\nx = 2\ndel gone", namespace)
    overlay.keep(["f", "gone"])
    overlay.off()
    assert namespace["x"] == 1
    assert "f" not in namespace
    overlay.on()
    assert namespace["f"]() == 1
    assert "gone" not in namespace
    overlay.off()
    assert "f" not in namespace


@pytest.mark.parametrize(
    ("name", "stays"), [("__compiled_fn_1", True), ("_140344500019792_c9", True), ("x_1_c2", False)]
)
def test_names_of_compilers_stay_and_names_like_them_do_not(name, stays):
    names = {}
    overlay = Overlay(names, {})
    overlay.on()
    names[name] = 1
    overlay.off()
    assert (name in names) is stays


def test_ipython_keeps_its_history_and_underscore_comes_back(bare_shell):
    namespace = bare_shell.user_ns
    bare_shell.run_cell("40 + 2", store_history=True)
    overlay = Overlay(namespace, {"x": 1})
    overlay.on()
    bare_shell.run_cell("y = 2; 1 + 1", store_history=True)
    inputs, outputs = namespace["_i"], namespace["Out"]
    exec("for _ in range(3): pass", namespace)
    overlay.off()
    assert namespace["_"] == 42
    assert namespace["_i"] == inputs == "40 + 2"
    assert namespace["_2"] == 2
    assert namespace["Out"] is outputs
    assert outputs[2] == 2
    assert "x" not in namespace
    assert "y" not in namespace


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.integers()),
    st.dictionaries(st.sampled_from("abcdef"), st.integers()),
    st.lists(st.tuples(st.sampled_from("abcdef"), st.none() | st.integers())),
)
def test_any_changes_are_taken_off(under, bindings, changes):
    namespace = dict(under)
    overlay = Overlay(namespace, bindings)
    overlay.on()
    assert namespace == {**under, **bindings}
    for name, value in changes:
        if value is None:
            namespace.pop(name, None)
        else:
            namespace[name] = value
    overlay.off()
    assert namespace == under
