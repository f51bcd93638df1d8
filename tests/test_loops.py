"""How often a body loops, by the values that it loops over."""

from __future__ import annotations

import ast

import numpy as np
import pytest
import torch

from fwmagic.cells.analyse import analyse
from fwmagic.cells.loops import MOST_UNROLLED, bars, loops_over_data, with_turns_told, without_bars
from fwmagic.frameworks.torch import FRAMEWORK

DATA = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(4, 1)), batch_size=2)
NAMESPACE = {
    "n": 16,
    "few": [1, 2],
    "many": list(range(17)),
    "table": dict.fromkeys(range(20)),
    "loader": DATA,
    "rows": np.zeros((17, 2)),
    "pair": torch.zeros(2, 3),
    "net": torch.nn.Sequential(*[torch.nn.Identity() for _ in range(3)]),
    "config": type("Config", (), {"steps": 17, "few": (1, 2)}),
    "stream": iter("abc"),
}


def place(text, unknown=True):
    return loops_over_data(analyse(text, "cell", 2), NAMESPACE, unknown, FRAMEWORK.containers)


@pytest.mark.parametrize(
    "source",
    [
        *("range(3)", "range(n)", "range(4, 20)", "range(0, 160, 10)", "few", "pair", "net"),
        *(
            "(1, 2, 3)",
            "enumerate(few)",
            "zip(few, many)",
            "zip(loader, few)",
            "tqdm(range(16))",
            "tqdm.auto.tqdm(few, desc='few')",
            "trange(3, 9)",
            "enumerate(tqdm(few))",
            "reversed(range(16))",
            "config.few",
            "'abc'",
        ),
    ],
)
def test_short_loops(source):
    assert place(f"for i in {source}:\n    x = i") is None


@pytest.mark.parametrize(
    "source",
    [
        *("range(17)", "range(n, 100)", "range(config.steps)", "many", "table", "table.items()", "rows", "loader"),
        *("tqdm(range(17))", "trange(20)", "tqdm(loader, total=2)", "enumerate(tqdm(many))"),
        *("enumerate(loader)", "zip(loader, loader)", "stream", "enumerate(many)", "sorted(many)"),
    ],
)
def test_long_loops_and_data(source):
    found = place(f"x = 1\nfor i in {source}:\n    x = i")
    assert found.line == 3
    assert found.reason == f"the loop over `{source}` runs over data or more than {MOST_UNROLLED} times"


@pytest.mark.parametrize(
    "text", ["b = f(1)\nfor i in b: pass", "for i in f(1): pass", "for i in range(len(few)): pass"]
)
def test_what_is_not_known_is_the_callers_to_judge(text):
    assert place(text, unknown=True) is not None
    assert place(text, unknown=False) is None


@pytest.mark.parametrize("source", ["range(17)", "many", "rows", "tqdm(range(5000))", "net"])
def test_a_trace_of_its_own_says_when_a_loop_is_too_long(source):
    assert place(f"for i in {source}:\n    x = i", unknown=False) is None


@pytest.mark.parametrize("source", ["loader", "stream", "enumerate(loader)", "tqdm(stream)"])
def test_data_stays_python_for_a_trace_too(source):
    found = place(f"for i in {source}:\n    x = i", unknown=False)
    assert found.reason == f"the loop over `{source}` runs over data"


def test_the_first_of_several_and_nested_ones():
    assert place("for i in few:\n    for j in many:\n        x = i").line == 3
    assert place("for i in few: pass\nfor j in loader: pass\nfor k in many: pass").line == 3


def test_while_says_nothing():
    assert place("while n < 3:\n    x = 1") is None


def test_a_name_that_the_body_binds_has_another_value():
    assert place("many = [1]\nfor i in many: pass", unknown=False) is None


def test_bars_and_what_is_under_them():
    body = analyse("for i in tqdm(few): pass\nfor i in range(2): pass\nfor i in trange(3, desc='x'): pass", "cell", 2)
    assert bars(body) == (2, 4)
    under = [ast.unparse(loop.iter) for loop in without_bars(body.statements)]
    assert under == ["few", "range(2)", "range(3)"]
    assert bars(body) == (2, 4)


def test_each_turn_of_a_loop_is_told_with_its_line():
    text = "def f():\n    for i in (1, 2): pass\nfor i in tqdm(range(3)):\n    while i < 2:\n        i = i + 1\nf()"
    body = analyse(f"x = 1\n{text}\nx = f", "cell", 2)
    lines: list[int] = []
    exec(body.code(ast.Module(with_turns_told(body.tree.body, "told"), [])), {"told": lines.append})
    assert lines == [5, 6, 6, 5, 6, 5]
