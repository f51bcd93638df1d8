"""How a framework is found: built in, not installed, or another package's."""

from __future__ import annotations

import importlib
import subprocess
import sys
import textwrap

import pytest
from cells import run, shown

from fwmagic import frameworks
from fwmagic.errors import CannotCompile, FwMagicError
from fwmagic.frameworks import Base, CompileLog, CompileOptions, line_of

ADAPTER = '''
"""A third framework: arrays that are lists of numbers."""

from fwmagic.frameworks import Base


class Vector:
    def __init__(self, numbers):
        self.numbers = list(numbers)

    def __add__(self, other):
        return Vector(a + b for a, b in zip(self.numbers, other.numbers))

    def sum(self):
        return sum(self.numbers)


class Kept:
    def __init__(self, value):
        self.value, self.numbers = value, list(value.numbers)

    def changed(self):
        return self.value.numbers != self.numbers

    def restore(self):
        self.value.numbers[:] = self.numbers

    def children(self):
        return iter(())


class Vectors(Base):
    name = "vectors"
    title = "Vectors"
    module = "vectors_adapter"

    def names(self):
        return {"Vector": Vector}

    def keep(self, value):
        return Kept(value) if isinstance(value, Vector) else None

    def is_array(self, value):
        return isinstance(value, Vector)

    def is_stateless(self, value):
        return False

    def frozen(self, value):
        return Vector(value.numbers) if isinstance(value, Vector) else None

    def describe(self, array):
        return str(len(array.numbers))

    def from_numpy(self, array, device):
        return Vector(array.tolist())

    def to_numpy(self, array):
        import numpy

        return numpy.array(array.numbers)

    def rng_state(self):
        return None

    def set_rng_state(self, state):
        pass

    def seed(self, seed):
        pass

    def version(self):
        return {"vectors": "1.2"}

    def device(self, wanted):
        return "cpu"

    def threads(self):
        return "1"

    def settings(self):
        return {}


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

    def test_a_section_of_it_is_timed_and_compared(self, shell):
        run(
            shell,
            textwrap.dedent(
                """
                %%compare --budget 0.2 -o r
                %%setup
                a = np.arange(5.0)
                %%vectors
                b = a + a
                b.sum()
                %%numpy
                b = a + a
                b.sum()
                """
            ).strip(),
        )
        report = shell.user_ns["r"]
        assert [variant.status for variant in report] == ["timed", "timed"]
        assert report["vectors"].compilation.way == "eager"
        assert "Vectors has no compiler" in report["vectors"].compilation.reason
        assert report["numpy"].agreement.status == "agrees"
        assert report.conditions.versions["vectors"] == "1.2"
        assert report["vectors"].outputs["Out"] == 20

    def test_its_state_is_put_back(self, shell):
        run(shell, "import vectors_adapter\nv = vectors_adapter.Vector([1, 2])")
        run(shell, "%%compare --budget 0.1\n%%vectors\nv.numbers[0] += 1\nv.sum()")
        assert shell.user_ns["v"].numbers == [1, 2]

    def test_a_difference_from_it_is_found(self, shell):
        run(shell, "%%compare --budget 0.1\n%%vectors\nVector([1, 2]).sum()\n%%numpy\nnp.array([1, 3]).sum()")
        assert shown(shell)[-1]["numpy"].agreement.status == "differs"


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


class TestBase:
    """What a framework without a compiler answers."""

    base = Base()

    def test_nothing_is_compiled_or_waited_for(self):
        base = self.base
        assert (base.waiter([1]), base.drain(), base.compile_events(), base.prime()) == (None, None, 0, 0.0)
        assert (base.is_traced(1), base.adopt([1]), base.module_calls(len)) == (False, None, None)
        with base.watch("cell") as log, base.eager(), base.on_device("cpu"):
            assert log.compiled == {}
        assert base.canonical_dtype("float64") == "float64"

    def test_compiling_says_so(self):
        assert "has no compiler" in self.base.cannot_compile()
        for attempt in (lambda: self.base.compile(len, CompileOptions()), lambda: self.base.trace(len, ())):
            with pytest.raises(CannotCompile, match="has no compiler"):
                attempt()

    def test_errors_in_one_sentence(self):
        assert self.base.explain(ValueError("\n first \nsecond"), "cell").reason == "ValueError: first"
        assert self.base.explain(ValueError(), "cell").reason == "ValueError: no message"
