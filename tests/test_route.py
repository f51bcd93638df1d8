"""The route of the user's code: what goes another way with traced values than plainly is not compiled."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
from cells import run
from scenes import notebook

from fwmagic.errors import CannotCompile
from fwmagic.frameworks.compiled import CompileOptions

SETUP = """
import contextlib
X, W, hist = jnp.ones((8, 8)), jnp.ones((8, 8)) * 0.1, []
def to_float(v):
    try:
        return float(v)
    except Exception:
        return None
def sign(v):
    try:
        return 1.0 if v.sum() > 0 else -1.0
    except jax.errors.TracerBoolConversionError:
        return 0.0
def kind(v):
    if isinstance(v, jax.core.Tracer):
        return "traced"
    return "array"
def layer(v):
    return v @ W
def step(carry, x):
    try:
        float(carry.sum())
    except Exception:
        pass
    return carry * 0.5 + x, None
class Counting:
    calls = 0
    def __call__(self, v):
        self.calls += 1
        return v @ W if self.calls > 1 else v + 1
counting = Counting()
"""


@pytest.fixture
def book():
    return notebook("jax", SETUP)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("y = X @ W\nhist.append(to_float(y.sum()))\ny", 3, "`to_float` catches ConcretizationTypeError"),
        ("y = X @ W * sign(X)\ny", 2, "`sign` catches TracerBoolConversionError"),
        ("y = X @ W\ntry:\n    n = np.asarray(y)\nexcept Exception:\n    n = None\ny", 4, "it catches TracerArray"),
        ("y = X @ W\nwith contextlib.suppress(TypeError):\n    float(y.sum())\ny", 4, "it catches Concretization"),
        ("y = X @ W\nk = kind(y)\ny", 3, "`kind` goes another way with a traced value than plainly"),
        ("y = X @ W + 0 if isinstance(X, jax.core.Tracer) else X @ W\ny", 2, "it goes another way"),
        ("y = X @ W\nif 'float32[' in str(y):\n    y = y + 1\ny", 4, "it goes another way"),
    ],
)
def test_what_goes_another_way_when_it_is_traced_is_not_compiled(book, text, line, words):
    why = book.refused(text)
    assert why.line == line
    assert words in why.reason


@pytest.mark.parametrize(
    "text",
    [
        "y = X\nfor i in range(4):\n    y = counting(y) if i else layer(y)\ny",
        "ys = [layer(v) for v in (X, W) if v.ndim == 2]\nys",
        "y = X @ W\ntry:\n    n = {}['a']\nexcept KeyError:\n    n = 2\ny * n",
        "try:\n    scale\nexcept NameError:\n    scale = 2.0\ny = X @ W * scale\ny",
        # JAX traces the step of a scan where the cell runs plainly, too
        "y = jax.lax.scan(step, X, jnp.ones(3))[0]\ny",
        "y = jax.grad(lambda w: (w @ W).sum() if w.ndim == 2 else w.sum())(X)\ny",
    ],
)
def test_what_goes_the_same_way_is_compiled(book, text):
    assert book.ready(text).compilation.way == "cell"


def test_of_a_slow_cell_only_what_it_catches_is_known(book):
    def ready(text):
        scene = book.scene(text)
        scene.seconds = 1.0
        return book.programs.compile(scene, CompileOptions(), nullcontext)

    assert ready("y = X @ W\nk = kind(y)\ny").compilation.way == "cell"
    with pytest.raises(CannotCompile, match="`to_float` catches ConcretizationTypeError"):
        ready("y = X @ W\nk = to_float(y.sum())\ny")


def test_functions_are_not_compiled_where_one_of_them_goes_another_way(book):
    assert book.ready("y = layer(X)\nif y.sum() > 0:\n    y = y + 1\ny").compilation.way == "functions"
    why = book.refused("y = layer(X) * sign(X)\nif y.sum() > 0:\n    y = y + 1\ny")
    assert why.line == 2
    assert "`sign` catches TracerBoolConversionError" in why.reason


def test_what_a_trace_leaves_in_python_objects_is_compared_with_what_the_plain_run_leaves(shell):
    run(shell, "import jax, jax.numpy as jnp\nX = jnp.ones((8, 8))\nclass R: pass\nr = R()")
    for _ in range(2):  # the second plain run leaves what is there already
        run(shell, "%%jax --budget 0.05 -o report\ny = X @ X\nr.kind = type(y).__name__\ny")
        compilation = shell.user_ns["report"]["jax"].compilation
        assert compilation.way == "eager"
        assert "differ at r.kind: 'ArrayImpl'" in compilation.reason
