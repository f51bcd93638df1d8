"""Programs: stand-ins that are there only while one runs, and the plain ways to run a body."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from scenes import call, notebook

from fwmagic.cells.function import LAST
from fwmagic.cells.program import Patch, traced_program


class TestPatch:
    def test_of_a_name_of_a_namespace(self):
        namespace = {"f": len}
        patch = Patch(namespace, "f", sum)
        patch.on()
        assert namespace == {"f": sum}
        patch.off()
        assert namespace == {"f": len}

    def test_of_an_attribute_that_the_class_has(self):
        net = torch.nn.Linear(1, 1)
        patch = Patch(net, "forward", len)
        patch.on()
        assert net.forward is len
        patch.off()
        assert "forward" not in vars(net)
        assert net.forward.__func__ is torch.nn.Linear.forward

    def test_of_an_attribute_that_the_object_has(self):
        net = torch.nn.Linear(1, 1)
        net.forward = own = lambda x: x
        patch = Patch(net, "forward", len)
        patch.on()
        patch.off()
        assert vars(net)["forward"] is own

    def test_taking_off_what_is_not_on_does_nothing(self):
        namespace = {"f": len}
        patch = Patch(namespace, "f", sum)
        patch.off()
        patch.on()
        patch.off()
        namespace["f"] = max
        patch.off()
        assert namespace == {"f": max}


def test_patches_are_there_between_enter_and_exit_only():
    book = notebook("numpy", "def f(): return 1")
    f = book.namespace["f"]
    program = book.plain("f()")
    stand_ins = Patch(book.namespace, "f", lambda: 2), Patch(book.namespace, "f", lambda: 3)
    program = dataclasses.replace(program, patches=stand_ins)
    program.enter()
    assert book.namespace["f"]() == 3
    program.exit()
    assert book.namespace["f"] is f


def test_a_body_that_shares_its_names_with_a_function_runs_in_the_namespace():
    book = notebook("numpy", "k = 1\ndef f(): return k")
    inside, outside = book.plain("k = 2\nf()"), book.plain("m = 2\nf()")
    assert (call(inside)[LAST], call(outside)[LAST]) == (2, 1)
    assert (inside.args, inside.source) == ((), "k = 2\nf()")
    assert "def cell(" in outside.source
    assert book.namespace["k"] == 1


@pytest.mark.parametrize(("text", "most"), [("k = k + 1\nf()", 1), ("k = 2\nf()", None)])
def test_one_that_rebinds_its_own_inputs_is_called_once_a_block(text, most):
    book = notebook("numpy", "k = 1\ndef f(): return k")
    assert book.plain(text).most_calls == most


def test_in_the_namespace_names_that_were_not_bound_are_none():
    book = notebook("numpy", "k = 1\ndef f(): return k")
    assert call(book.plain("k = 2\nif f() > 5:\n    z = 1")) == {"k": 2, "z": None}


def test_a_trace_leaves_the_namespace_as_it_was_also_if_it_fails():
    book = notebook("jax", "x = jnp.ones(3)\nd = {'x': x}")
    scene = book.scene("d['y'] = x * 2\nz = d['y'] + 1\nq = 1 / 0")
    scene.enter()
    before = dict(book.namespace)
    with pytest.raises(ZeroDivisionError):
        traced_program(scene, book.framework.trace, book.framework.is_array)
    assert list(book.namespace["d"]) == ["x"]
    assert book.namespace["d"]["x"] is book.namespace["x"] is before["x"]
    scene.exit()
    assert "z" not in book.namespace
