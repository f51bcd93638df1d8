"""The lessons of examples/lessons run, and each checker takes a right answer and refuses wrong ones."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
from bs4 import BeautifulSoup
from cells import run
from nbclient import NotebookClient

LESSONS = Path(__file__).parent.parent / "examples" / "lessons"
NOTEBOOKS = {path.name: path for path in sorted(LESSONS.glob("*.ipynb"))}

# The last code cell of each lesson calls the checker; the one before it is the exercise. For each its right answer,
# and what the checker says of the exercise as it stands.
RIGHT = {
    1: ("%%jax\ndef halve(x):\n    return jnp.where(x.sum() > 2, x / 2, x)", "cannot be traced"),
    2: ("%%jax\ndef add(total, value):\n    return total + value", "it makes"),
    3: (
        "%%jax\ndef halvings_of(x):\n    def step(state):\n        return state[0] + 1, state[1] / 2\n\n"
        "    return jax.lax.while_loop(lambda state: state[1] > 1, step, (0, x))[0]",
        "cannot be traced",
    ),
    4: (
        "%%jax\ndef add_noise(key, x):\n    key, new = jax.random.split(key)\n"
        "    return key, x + jax.random.normal(new, x.shape)",
        "the same numbers again",
    ),
    5: (
        "%%jax\ndef mean_of_first(values, count):\n"
        "    return jnp.where(jnp.arange(values.size) < count, values, 0).sum() / count",
        "cannot be traced",
    ),
    6: (
        "%%jax\ndef length_of(x):\n    square = (x * x).sum()\n"
        "    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)",
        "its gradient at [0.0, 0.0]",
    ),
    7: ("def first_of(x):\n    return x[:10].clone()", "4,000 bytes"),
    8: (
        "def verdict_of(low, high, margin):\n    if high < 1 - margin:\n        return 'faster'\n"
        "    if low > 1 + margin:\n        return 'slower'\n"
        "    return 'same' if low >= 1 - margin and high <= 1 + margin else 'undecided'",
        "it says 'slower'",
    ),
}
# What the views of a lesson show, in their order.
SHOWN = {
    1: (("`print` while tracing", "1× prints", "3× prints"), ("`print`",), ("jnp.where",)),
    2: (("a change outside of the function in line 7",), ("a global value from the time of the trace in line 6",)),
    3: (("a branch on a value in line 8", "4× x: float32[3] tracer"), ("a branch on a value in line 8",), ("5×",)),
    4: (("nothing was found",), ("a key that is used twice in line 4",), ("a value of the moment of the trace",)),
    5: (("nothing was found",), ("a trace for each call in line 3",), ("compiled anew again and again",)),
    6: (("the first NaN",), ("the first NaN",)),
    7: (("a sum that keeps every graph in line 7",),),
    8: (),
}


@pytest.fixture(scope="module")
def checks():
    sys.path.insert(0, str(LESSONS))
    try:
        import checks
    finally:
        sys.path.remove(str(LESSONS))
    return checks


def test_there_are_eight_in_their_order():
    assert [name.partition("-")[0] for name in NOTEBOOKS] == [str(number) for number in RIGHT]


@pytest.mark.parametrize("path", NOTEBOOKS.values(), ids=NOTEBOOKS)
def test_a_lesson_is_committed_without_outputs_and_answers(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert sum("..." in cell.source for cell in code) == 1
    assert any(cell.source.startswith("predicted(") for cell in code)
    assert notebook.cells[-1].source.startswith("## What to take home")


def answered(number: int, checks, path: Path):
    """Return a lesson as one who knows everything leaves it."""
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    right = {key: value for key, (value, _) in checks._PUZZLES[number].items()}
    next(cell for cell in code if cell.source.startswith("prediction =")).source = f"prediction = {right!r}"
    code[-2].source = RIGHT[number][0]
    return notebook


def executed(notebook):
    return NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(LESSONS)}}).execute()


def results(notebook) -> list[str]:
    """Return what the two checkers of a lesson say: of the prediction, and of the exercise."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    asked = [next(cell for cell in code if cell.source.startswith("predicted(")), code[-1]]
    return [output["data"]["text/plain"] for cell in asked for output in cell.outputs if "data" in output]


def views(notebook) -> list[str]:
    """Return the text of the views of lines that a notebook shows."""
    shown = [output["data"]["text/html"] for c in notebook.cells for output in c.get("outputs", []) if "data" in output
             and "fw-lines" in output["data"].get("text/html", "")]  # fmt: skip
    return [BeautifulSoup(html, "html.parser").get_text(" ") for html in shown]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS.values(), ids=NOTEBOOKS)
def test_a_lesson_runs_before_and_after_it_is_answered(path, checks):
    number = int(path.name.partition("-")[0])
    asked = executed(nbformat.read(path, as_version=4))
    prediction, exercise = results(asked)
    assert "write an answer" in prediction
    assert RIGHT[number][1] in exercise
    for view, words in zip(views(asked), SHOWN[number], strict=True):
        assert [word for word in words if word not in view] == []
    assert results(executed(answered(number, checks, path))) == ["'Right.'", "'Right.'"]


def test_a_lesson_runs_in_this_process_when_it_is_answered(shell, checks, monkeypatch):
    monkeypatch.setitem(sys.modules, "checks", checks)
    notebook = answered(4, checks, NOTEBOOKS["4-randomness.ipynb"])
    load, *others = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    run(shell, load.partition("\n")[2])  # the extension is loaded
    said = [run(shell, source) for source in others if not source.startswith("%%torch")]
    assert said.count("Right.") == 2


class TestCheckers:
    def test_a_prediction(self, checks):
        for lesson, puzzle in checks._PUZZLES.items():
            right = {key: value for key, (value, _) in puzzle.items()}
            assert checks.predicted(lesson, right) == "Right."
            assert "write an answer" in checks.predicted(lesson, {key: ... for key in right})
            for key, (_, hint) in puzzle.items():
                assert checks.predicted(lesson, right | {key: "something else"}) == f"Not yet, {key}: {hint}"

    def test_halved(self, checks):
        import jax.numpy as jnp

        assert checks.halved(lambda x: jnp.where(x.sum() > 2, x / 2, x)) == "Right."
        assert checks.halved(lambda x: x / (1 + (x.sum() > 2))) == "Right."
        assert "cannot be traced" in checks.halved(lambda x: x / 2 if x.sum() > 2 else x)
        assert "should make" in checks.halved(lambda x: x / 2)
        assert "should make" in checks.halved(lambda x: jnp.where(x > 2, x / 2, x))
        assert "shape ()" in checks.halved(lambda x: x.sum() / 2)

    def test_summed(self, checks):
        kept = []
        assert checks.summed(lambda total, value: total + value) == "Right."
        assert "should make" in checks.summed(lambda total, value: value)
        assert "it makes None" in checks.summed(lambda total, value: kept.append(total + value))
        assert "cannot be traced" in checks.summed(lambda total, value: float(total) + float(value))
        assert "raises TypeError" in checks.summed(lambda value: value)
        space = {}
        exec("total = 0.0\ndef add(a, b):\n    global total\n    total = a + b\n    return total", space)
        assert "leaves a tracer in `total`" in checks.summed(space["add"])
        assert space["total"] == 0.0

    def test_halvings(self, checks):
        import jax
        import jax.numpy as jnp

        def python(x):
            count = 0
            while x > 1:
                x, count = x / 2, count + 1
            return count

        def loop(x, test):
            return jax.lax.while_loop(lambda s: test(s[1]), lambda s: (s[0] + 1, s[1] / 2), (0, x))

        assert checks.halvings(lambda x: loop(x, lambda v: v > 1)[0]) == "Right."
        assert "cannot be traced" in checks.halvings(python)
        assert "should make" in checks.halvings(lambda x: loop(x, lambda v: v >= 1)[0])
        assert "should make" in checks.halvings(lambda x: loop(x, lambda v: v > 1)[1])
        assert "should make" in checks.halvings(lambda x: jnp.log2(x))

    def test_noisy(self, checks):
        import jax

        def right(key, x):
            key, new = jax.random.split(key)
            return key, x + jax.random.normal(new, x.shape)

        def parent(key, x):
            return jax.random.split(key)[0], x + jax.random.normal(key, x.shape)

        assert checks.noisy(right) == "Right."
        assert "same numbers again" in checks.noisy(lambda key, x: (key, x + jax.random.normal(key, x.shape)))
        assert "Split that key" in checks.noisy(parent)
        assert "with noise added" in checks.noisy(lambda key, x: (jax.random.split(key)[0], x))
        generator = np.random.default_rng(0)
        drawn = checks.noisy(lambda key, x: (jax.random.split(key)[0], x + generator.standard_normal(4)))
        assert "Where do its numbers come from?" in drawn
        assert "it raises" in checks.noisy(lambda key, x: x)

        def used(key, x):
            new = jax.random.split(key)[1]
            return new, x + jax.random.normal(new, x.shape)

        assert "has drawn with" in checks.noisy(used)
        assert "with noise added" in checks.noisy(lambda key, x: (right(key, x)[0], right(key, x)[1] - x))

    def test_mean_of(self, checks):
        import jax
        import jax.numpy as jnp

        assert checks.mean_of(lambda v, n: jnp.where(jnp.arange(v.size) < n, v, 0).sum() / n) == "Right."
        assert "cannot be traced" in checks.mean_of(lambda v, n: v[:n].mean())
        assert "should make" in checks.mean_of(lambda v, n: v.mean())
        assert "should make" in checks.mean_of(lambda v, n: v.sum() / n)
        ready = jax.jit(lambda v, n: v[: int(n)].mean())
        assert "cannot be traced" in checks.mean_of(ready)
        assert "should make" in checks.mean_of(lambda v, n: (v - jnp.where(jnp.arange(v.size) < n, 0, v)).sum() / n)

    def test_length(self, checks):
        import jax.numpy as jnp

        def right(x):
            square = (x * x).sum()
            return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)

        assert checks.length(right) == "Right."
        assert "its gradient at [0.0, 0.0]" in checks.length(lambda x: jnp.sqrt((x * x).sum()))
        outside = checks.length(lambda x: jnp.where((x * x).sum() > 0, jnp.sqrt((x * x).sum()), 0.0))
        assert "its gradient at [0.0, 0.0]" in outside
        assert "should make" in checks.length(lambda x: jnp.sqrt((x * x).sum() + 1))
        assert "should make" in checks.length(lambda x: jnp.abs(x).sum())

    def test_first_ten(self, checks):
        import torch

        assert checks.first_ten(lambda x: x[:10].clone()) == "Right."
        assert checks.first_ten(lambda x: torch.tensor(x[:10].tolist())) == "Right."
        for wrong in (lambda x: x[:10], lambda x: x[:10].contiguous(), lambda x: x[:10].detach()):
            assert "4,000 bytes" in checks.first_ten(wrong)
        assert "first ten numbers" in checks.first_ten(lambda x: x[:9].clone())
        assert "first ten numbers" in checks.first_ten(lambda x: x[:10].tolist())

    def test_verdict(self, checks):
        space = SimpleNamespace()
        exec(RIGHT[8][0], vars(space))
        assert checks.verdict(space.verdict_of) == "Right."
        assert "it says" in checks.verdict(lambda low, high, margin: "faster" if low + high < 2 else "slower")
        no_margin = checks.verdict(
            lambda low, high, margin: "faster" if high < 1 else "slower" if low > 1 else "undecided"
        )
        assert "it says 'undecided'" in no_margin
        never_same = checks.verdict(
            lambda low, high, margin: "faster" if high < 1 - margin else "slower" if low > 1 + margin else "undecided"
        )
        assert "it says 'undecided'" in never_same
        assert "it says 'same'" in checks.verdict(
            lambda low, high, margin: "faster" if high < 1 - margin else "slower" if low > 1 + margin else "same"
        )
