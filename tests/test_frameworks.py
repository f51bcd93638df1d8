"""How a framework is found: built in, not installed, or another package's."""

from __future__ import annotations

import array
import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fwmagic import frameworks
from fwmagic.errors import CannotCompile, FwMagicError
from fwmagic.frameworks import Framework, arrays, line_of
from fwmagic.frameworks.compiled import CompileLog, CompileOptions

ADAPTER = '''
"""A third framework, with what has no default."""

from fwmagic.frameworks import Framework


class Vectors(Framework):
    name = "vectors"
    title = "Vectors"
    module = "vectors_adapter"

    def is_array(self, value):
        return isinstance(value, list)

    def keep(self, value):
        return None

    def from_numpy(self, array, device):
        return array.tolist()

    def to_numpy(self, array):
        import numpy

        return numpy.array(array)


FRAMEWORK = Vectors()
'''


@pytest.fixture
def third(tmp_path, monkeypatch):
    """Install a package that offers a third framework by its entry point."""
    (tmp_path / "vectors_adapter.py").write_text(ADAPTER)
    info = tmp_path / "vectors-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: vectors\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("[fwmagic.frameworks]\nvectors = vectors_adapter\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("vectors_adapter", None)


def test_what_packages_offer_is_read_once(monkeypatch):
    known = frameworks.names()
    monkeypatch.setattr(frameworks, "entry_points", None)
    assert frameworks.names() == known
    assert {"torch", "jax", "numpy"} >= {framework.name for framework in frameworks.loaded()}


@pytest.mark.usefixtures("third")
class TestThird:
    def test_it_is_found_by_its_name(self):
        assert "vectors" in frameworks.names()
        assert frameworks.get("vectors").title == "Vectors"

    def test_it_is_loaded_only_when_it_is_used(self):
        assert "vectors" not in [framework.name for framework in frameworks.loaded()]
        frameworks.get("vectors")
        assert "vectors" in [framework.name for framework in frameworks.loaded()]

    def test_it_is_loaded_once_its_library_is_if_it_bears_its_name(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "vectors", sys)
        assert "vectors" in [framework.name for framework in frameworks.loaded()]

    def test_a_library_of_it_that_is_missing_is_named(self, monkeypatch):
        def missing(name):
            raise ModuleNotFoundError("No module named 'vectors'", name="vectors")

        monkeypatch.setattr(importlib, "import_module", missing)
        with pytest.raises(FwMagicError, match=r"vectors is not installed, .* pip install vectors$"):
            frameworks.get("vectors")


def test_one_that_nobody_offers():
    with pytest.raises(FwMagicError, match="There is no framework 'tensors'; there are: torch, jax, numpy"):
        frameworks.get("tensors")


def test_one_that_is_not_installed(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError("No module named 'jax'", name="jax")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(FwMagicError, match=r"jax is not installed, .* pip install 'fwmagic\[jax\]'"):
        frameworks.get("jax")


def test_a_mistake_of_our_own_is_not_taken_for_that(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError("No module named 'fwmagic.x'", name="fwmagic.x")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ModuleNotFoundError):
        frameworks.get("jax")


def test_nothing_is_imported_to_see_what_is_loaded():
    code = "import sys; from fwmagic import frameworks as f; f.names(); assert not f.loaded(), f.loaded(); "
    code += "assert not {'torch', 'jax', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_deepest_line_of_a_file():
    def raises():
        raise ZeroDivisionError  # the line that is meant

    with pytest.raises(ZeroDivisionError) as error:
        raises()
    assert line_of(error.value, __file__) == raises.__code__.co_firstlineno + 1
    assert line_of(error.value, "elsewhere") is None


def test_two_logs_that_logged_nothing_are_two():
    logs = [CompileLog(), CompileLog()]
    logs.remove(logs[1])
    assert len(logs) == 1
    assert CompileLog() != CompileLog()


class Plain(Framework):
    """A framework that says no more than it must, with arrays that are Python's."""

    name, title, module = "plain", "Plain", "array"

    def is_array(self, value):
        return isinstance(value, array.array)

    def keep(self, value):
        return None

    def from_numpy(self, array_, device):
        return array.array("d", array_)

    def to_numpy(self, array_):
        return np.array(array_)


class TestDefaults:
    """What a framework without a compiler and a device answers."""

    plain = Plain()

    def test_what_has_no_default_has_to_be_written(self):
        with pytest.raises(TypeError, match=r"from_numpy.*is_array.*keep.*to_numpy"):
            Framework()

    def test_nothing_is_compiled_or_waited_for(self):
        plain = self.plain
        assert (plain.waiter([1]), plain.drain(), plain.compile_events(), plain.prime()) == (None, None, 0, 0.0)
        assert (plain.is_traced(1), plain.adopt([1]), plain.module_calls(len)) == (False, None, None)
        with plain.watch("cell") as log, plain.eager(), plain.on_device("cpu"):
            assert log.compiled == {}
        assert plain.canonical_dtype("float64") == "float64"
        with plain.calls_told(lambda *_: None):
            assert plain.behind([1]) == [1]

    def test_compiling_says_so(self):
        assert self.plain.cannot_compile() == "Plain has no compiler"
        for attempt in (lambda: self.plain.compile(len, CompileOptions()), lambda: self.plain.trace(len, ())):
            with pytest.raises(CannotCompile, match="Plain has no compiler"):
                attempt()

    def test_errors_in_one_sentence(self):
        assert self.plain.explain(ValueError("\n first \nsecond"), "cell").reason == "ValueError: first"
        assert self.plain.explain(ValueError(), "cell").reason == "ValueError: no message"

    def test_an_array_is_copied_and_one_of_numpys_too(self):
        for value in (array.array("d", [1]), np.ones(1)):
            kept = self.plain.frozen(value)
            value[0] = 2
            assert list(kept) == [1]
        assert self.plain.frozen([1]) is None

    def test_it_computes_on_the_cpu(self):
        assert self.plain.device(None) == self.plain.device("cpu") == "CPU"
        for ask in (self.plain.device, self.plain.on_device):
            with pytest.raises(FwMagicError, match="--device cuda: Plain computes on the CPU only; leave --device out"):
                ask("cuda")
        assert (self.plain.threads(), self.plain.settings(), self.plain.rng_state()) == ("unknown", {}, None)
        assert self.plain.version() == {"array": "unknown"}
        assert self.plain.names() == {"array": array}

    def test_what_is_told_of_an_array_needs_only_the_usual_names(self):
        memory = self.plain.memory
        given = array.array("d", bytes(8 << 10))
        assert (memory.memory_of(given)[1], memory.label(given)) == (sys.getsizeof(given), ("array ()", "cpu"))
        assert memory.memory_of(given)[1] > 8 << 10
        assert (memory.memory_of(np.ones(3))[1], memory.size_of(np.ones(3))) == (24, 24)
        assert memory.label(np.ones((3, 1))) == ("float64 (3, 1)", "cpu")
        assert self.plain.describe(np.ones((3, 1))) == "float64 (3, 1) cpu"
        assert (memory.live(), memory.inside(given), memory.graphs([given]), memory.policies) == ([], (), (), ())
        assert memory.environment({"A": "1"}) == {"A": "1"}


@pytest.mark.parametrize(
    ("value", "of_numbers"),
    [
        (np.ones(2), True),
        (np.array([True]), True),
        (np.array(["a"]), False),
        (np.array([None]), False),
        (np.ma.ones(2), False),
    ],
)
def test_arrays_of_numbers(value, of_numbers):
    assert arrays.is_numpy(value)
    assert arrays.is_numbers(value) is of_numbers


def test_what_is_no_array_of_numpy():
    assert not any(arrays.is_numpy(value) for value in (np.float32(1), [1], np.ndarray))


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ({"key": np.arange(3), "at": 1}, {"key": np.arange(3), "at": 1}, True),
        ({"key": np.arange(3), "at": 1}, {"key": np.arange(1, 4), "at": 1}, False),
        ({"at": 1}, {"on": 1}, False),
        ((1, [2]), (1, [2]), True),
        ((1, [2]), (1, [2, 3]), False),
        (None, None, True),
    ],
)
def test_states_of_generators(left, right, same):
    assert frameworks.same_state(left, right) is same


def test_what_some_code_is_going_to_import_is_known_before():
    """A cell that is the first to import torch has the effects of what it calls there all the same."""
    lines = ("import os, sys", "if True:", "    from torch import nn", "import jax.numpy as jnp", "x = 'import numpy'")
    text = "\n".join([*lines, "import nowhere"])
    assert [framework.name for framework in frameworks.imported_in(text)] == ["torch", "jax"]
    assert frameworks.imported_in("important = 1") == []


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_copy_begins_on_a_page_and_keeps_its_order(order):
    array = np.asarray(np.arange(12.0).reshape(3, 4), order=order)
    copy = arrays.aligned_copy(array)
    assert copy.ctypes.data % 4096 == 0
    assert (copy == array).all()
    assert copy.flags[f"{order}_CONTIGUOUS"]
    assert not np.shares_memory(copy, array)
    assert [arrays.aligned_copy(np.float32(3) * np.ones(shape)).shape for shape in ((), (0, 2))] == [(), (0, 2)]


def test_importing_a_framework_draws_no_numbers(tmp_path):
    """In a process of its own: a library is imported once."""
    drawing = "import random\nimport numpy\nrandom.random()\nnumpy.random.rand()\nFRAMEWORK = 1\n"
    (tmp_path / "drawing.py").write_text(drawing)
    code = """
import random
import numpy
from fwmagic import frameworks
state = lambda: (random.getstate(), repr(numpy.random.get_state()))
frameworks.BUILT_IN = {"jax": "drawing"}
before = state()
assert frameworks.get("jax") == 1
assert state() == before
"""
    path = os.pathsep.join([str(tmp_path), str(Path(frameworks.__file__).parents[2])])
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": path})
