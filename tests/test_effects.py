"""What keeps a cell from being run twice, and what does not."""

from __future__ import annotations

import io
import json
import os
import types

import numpy as np
import pytest
import torch

import fwmagic.cells.walk
from fwmagic import frameworks
from fwmagic.cells.analyse import analyse
from fwmagic.cells.snapshot import Snapshot
from fwmagic.run.effects import effects, lost_state

EFFECTS = [
    ("x = 1\npickle.dump(x, f)", "line 3: what `pickle.dump` does cannot be undone"),
    ("torch.save(1, 'a')", "line 2: what `torch.save` does cannot be undone"),
    ("import os\nos.remove('a')", "line 3: what `os.remove` does cannot be undone"),
    ("import os\nos.write(9, b'a')", "line 3: what `os.write` does cannot be undone"),
    ("subprocess.run('ls')", "line 2: what `subprocess.run` does cannot be undone"),
    ("path.write_text('a')", "line 2: what `path.write_text` does cannot be undone"),
    ("get_ipython().system('ls')", "line 2: what a magic or `!` command does cannot be undone"),
]


def body(text):
    return analyse(text, "cell", 2, frameworks.loaded())


@pytest.mark.parametrize(("text", "why"), EFFECTS)
def test_effects_run_once_unless_the_user_allows_more(text, why):
    assert effects(body(text), {}, False) == f"{why} (--repeat-effects times it anyway)"
    assert effects(body(text), {}, True) == ""


@pytest.mark.parametrize("text", ["os.write(9, b'a')", "write(9, b'a')", "[os.writev(9, [b'a']) for _ in (1,)]"])
def test_bytes_that_a_function_writes_are_an_effect(text):
    namespace = {"__name__": "__main__", "os": os, "write": os.write}
    exec(f"def send():\n    {text}", namespace)
    assert "in `send` cannot be undone" in effects(body("send()"), namespace, False)


@pytest.mark.parametrize("text", ["print(1)", "x.append(1)", "net(x)", "np.random.rand()", "[*range(3)]", "display(1)"])
def test_what_can_be_undone_is_no_effect(text):
    assert effects(body(text), {}, False) == ""


@pytest.mark.parametrize(
    "text",
    [
        "f = io.BytesIO()\ntorch.save(x, f)",
        "torch.save(x, f=io.BytesIO())",
        "with io.StringIO() as f:\n    json.dump([], f)",
    ],
)
def test_what_is_written_to_memory_is_no_effect(text):
    names = {"torch": torch, "io": io, "json": json}
    assert effects(body(text), names, False) == ""
    assert effects(body(f"{text}\nif x: f = 'a.pt'\ntorch.save(x, f)"), names, False)


@pytest.mark.parametrize("text", ["input()", "x = int(input('?'))", "import sys\nsys.stdin.readline()"])
@pytest.mark.parametrize("allowed", [False, True])
def test_the_keyboard_is_read_once_in_any_case(text, allowed):
    assert "reads from the keyboard, which a measured run cannot" in effects(body(text), {}, allowed)


def lost(text, allowed=False, **namespace):
    code = body(text)
    adapters = [frameworks.get("torch"), frameworks.get("numpy")]
    return lost_state(code, Snapshot({"torch": torch, **namespace}, code.names, adapters), allowed)


def test_an_iterator_cannot_be_put_back():
    assert lost("next(it)", it=iter("ab")).startswith("`it` cannot be put back")
    assert lost("next(it)", allowed=True, it=iter("ab")) == ""
    assert lost("items.append(1)", items=[]) == ""


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("batches = iter(range(3))\nn = next(batches)", False),
        ("n = next(batches)\nbatches = iter(range(3))", True),
        ("if n:\n    batches = iter(range(3))\nn = next(batches)", True),
        ("def draw(): return next(batches)\nbatches = iter(range(3))\nn = draw()", True),
        ("batches = iter(range(3))\nn = drawn()", True),
        ("n = next(batches) if n else 0\nbatches = iter(range(3))", True),
        ("batches = iter(range(3))\nn = eval('batches')", False),
    ],
)
def test_an_iterator_that_the_cells_last_execution_left_is_no_matter(text, read):
    namespace = {"__name__": "__main__", "n": 0, "batches": iter(range(9))}
    exec("def drawn(): return next(batches)", namespace)
    code = body(text)
    why = lost_state(code, Snapshot(namespace, code.names, [frameworks.get("numpy")], unread=code.unread), False)
    assert why.startswith("`batches` cannot be put back" if read else "") is True
    assert bool(why) is read


def test_arrays_that_no_code_names_are_saved_up_to_a_size(monkeypatch):
    monkeypatch.setattr(fwmagic.cells.walk, "MOST_UNNAMED", 1000)
    small, large = np.zeros(50), np.zeros(100)
    assert lost("n = len(globals())", small=small, view=small[1:], same=small) == ""
    assert lost("n = len(large)", large=large, small=small) == ""
    assert lost("large.sum(), globals()", large=large, small=small) == ""
    why = lost("n = len(globals())", large=large, small=small)
    assert why.startswith("`small` is not saved: the arrays that `globals()` and its like can reach take more than")
    assert lost("n = len(globals())", allowed=True, large=large, small=small) == ""


class TestGraphs:
    """Going backward frees a graph: one of an earlier cell is gone after one run."""

    def test_through_the_graph_of_an_earlier_cell(self):
        loss = (torch.ones(2, requires_grad=True) * 2).sum()
        why = "going backward frees the graph that `loss` carries from another cell"
        assert lost("loss.backward()", loss=loss) == why
        assert lost("loss.backward()", allowed=True, loss=loss) == why
        assert lost("torch.autograd.grad(loss, x)", loss=loss, x=1) == why

    def test_not_through_one_that_the_body_makes_anew(self):
        """The loss that the last execution of the same cell left behind is not gone through."""
        loss = (torch.ones(2, requires_grad=True) * 2).sum()
        assert lost("loss = (w * 2).sum()\nloss.backward()", loss=loss, w=torch.ones(2, requires_grad=True)) == ""

    def test_but_through_one_that_it_reads_first(self):
        loss = (torch.ones(2, requires_grad=True) * 2).sum()
        assert "`loss`" in lost("loss = loss + 1\nloss.backward()", loss=loss)

    def test_leaves_have_none(self):
        assert lost("(w * 2).sum().backward()", w=torch.ones(2, requires_grad=True)) == ""
        assert lost("y = h * 2", h=torch.ones(2, requires_grad=True) * 2) == ""


def helper(text):
    namespace = {"__name__": "__main__"}
    exec(text, namespace)
    return namespace


@pytest.mark.parametrize(
    ("text", "used"),
    [
        ("def f(): socket.socket()", "socket"),
        ("def f(): net.save('x')", "save"),
        ("def g(): path.write_text('x')\ndef f(): g()", "write_text"),
    ],
)
def test_effects_in_functions_that_the_cell_calls(text, used):
    why = effects(body("f()"), helper(text), False)
    assert f"what `{used}` does in" in why
    assert effects(body("f()"), helper(text), True) == ""
    assert effects(body("1 + 1"), helper(text), False) == ""


@pytest.mark.parametrize("text", ["keep(1, 'a')", "t.save(1, 'a')", "f()", "at_end(f)", "s.setitimer(0, 1.0)"])
def test_effects_under_another_name(text):
    names = "import torch as t, signal as s\nfrom torch import save as keep\nfrom atexit import register as at_end\n"
    namespace = helper(f"{names}def f(): keep(1, 'a')")
    why = effects(body(text), namespace, False)
    assert "line 2: what `" in why
    assert "cannot be undone" in why
    assert effects(body(text), namespace, True) == ""


def test_a_module_of_the_user_is_put_back():
    mine = types.ModuleType("mine")
    assert effects(body("mine.x = 1"), {"mine": mine}, False) == ""
    assert effects(body("setattr(mine, 'x', 1)"), {"mine": mine}, False) == ""
    mine.torch = torch
    assert "belongs to a module" in effects(body("mine.torch.x = 1"), {"mine": mine}, False)


@pytest.mark.parametrize("text", ["torch.x = 1", "torch.backends.x = 1", "del torch.x"])
def test_an_attribute_of_a_module_is_not_put_back(text):
    why = effects(body(text), {"torch": torch}, False)
    assert why.startswith("line 2: `torch.")
    assert "belongs to a module" in why
    assert effects(body(text), {"torch": torch}, True) == ""
    assert effects(body("net.x = 1"), {"torch": torch, "net": torch.nn.Linear(1, 1)}, False) == ""
