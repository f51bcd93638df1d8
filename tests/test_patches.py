"""Which modules and notebook functions get a compiled stand-in."""

from __future__ import annotations

import sys
import types

import pytest
import torch
from scenes import notebook

from fwmagic.cells.patches import patch_code_name, patch_label, patches_of
from fwmagic.frameworks.compiled import CompileOptions

SETUP = """
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Sequential(torch.nn.Linear(2, 2))
    def forward(self, x): return scale(self.inner(x))
net, plain, x, k = Net(), torch.nn.Linear(2, 2), torch.ones(2), 2
holder = {"model": net, "part": net.inner}
mine = torch.nn.Linear(2, 2)
mine.compile()
def scale(x): return x * k
def unused(x): return x
def runs_net(x): return net(x)
def trains(loss): loss.backward()
def shows(x): print(x)
def sets_k():
    global k
    k = 3
def yields(x): yield x
async def awaits(x): return x
def outer(x): return scale(x) + 1
"""


@pytest.fixture
def book(monkeypatch):
    book = notebook("torch", SETUP)
    # It is `__main__`, as in a kernel: Dynamo looks globals up in the module of that name, and remembers it.
    module = types.ModuleType("__main__")
    vars(module).update(book.namespace)
    monkeypatch.setitem(sys.modules, "__main__", module)
    if "torch._dynamo" in sys.modules:
        sys.modules["torch._dynamo.symbolic_convert"]._import_module.cache_clear()
    return book


def patched(book, text):
    return patches_of(book.scene(text), CompileOptions())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("net(x)", ["Net"]),
        ("plain(net(x))", ["Linear", "Net"]),
        ("holder['model'](x)", ["Net"]),
        ("mine(x)", []),
        ("scale(x)", ["scale"]),
        ("outer(x)", ["outer", "scale"]),
        ("net(x)\nscale(x)", ["Net", "scale"]),
        ("k = 3\nscale(x)", []),
        ("trains(x)", []),
        ("shows(x)", []),
        ("sets_k()", []),
        ("yields(x)", []),
        ("awaits(x)", []),
        ("x + 1", []),
        ("def own(x): return x\nown(x)", ["own"]),
    ],
)
def test_what_is_patched(book, text, expected):
    scene = book.scene(text)
    scene.overlay.on()
    try:
        assert sorted(patch_label(patch) for patch in patches_of(scene, CompileOptions())) == sorted(expected)
    finally:
        scene.overlay.off()


def test_functions_keep_their_globals_apart_from_the_notebooks(book):
    (patch,) = patched(book, "scale(x)")
    patch.on()
    assert book.namespace["scale"](book.namespace["x"]).tolist() == [2, 2]
    patch.off()
    assert [name for name in book.namespace if name.startswith("__compiled")] == []


@pytest.mark.parametrize(("text", "name"), [("plain(x)", "forward"), ("net(x)", "forward"), ("scale(x)", "scale")])
def test_the_name_by_which_the_compiler_reports_it(book, text, name):
    (patch,) = patched(book, text)
    with book.framework.watch("cell") as log:
        patch.value(torch.ones(2))
    assert patch_code_name(patch) == name
    assert log.compiled[name] > 0


def test_jax_functions_are_patched_as_they_are():
    book = notebook("jax", "W = jnp.ones(2)\ndef f(x): return x * W\nx = jnp.ones(2)")
    (patch,) = patched(book, "f(x)")
    assert patch.value.function is book.namespace["f"]
    assert patch_label(patch) == patch_code_name(patch) == "f"
