"""How often a body loops, by the values that it loops over."""

from __future__ import annotations

import ast

import numpy as np
import pytest
import torch

from fwmagic.cells.analyse import analyse
from fwmagic.cells.loops import bars, loops_over_data, with_turns_told, without_bars
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


def data(text):
    return loops_over_data(analyse(text, "cell", 2), NAMESPACE, FRAMEWORK.containers)


@pytest.mark.parametrize(
    "source",
    [
        *("range(3)", "range(n)", "range(4, 20)", "range(config.steps)", "few", "many", "table", "table.items()"),
        *("pair", "rows", "net", "config.few", "'abc'", "(1, 2, 3)", "enumerate(few)", "zip(loader, few)"),
        *("tqdm(range(5000))", "tqdm.auto.tqdm(few, desc='few')", "trange(3, 9)", "reversed(range(16))", "f(1)"),
    ],
)
def test_what_is_there_or_not_known_is_no_data(source):
    assert data(f"for i in {source}:\n    x = i") is None


@pytest.mark.parametrize(
    "source", ["loader", "stream", "enumerate(loader)", "tqdm(stream)", "zip(loader, loader)", "tqdm(loader, total=2)"]
)
def test_data(source):
    found = data(f"for i in {source}:\n    x = i")
    assert found.reason == f"the loop over `{source}` runs over data"


def test_the_first_of_several_and_nested_ones():
    assert data("for i in few:\n    for j in loader:\n        x = i").line == 3
    assert data("for i in many: pass\nfor j in loader: pass\nfor k in stream: pass").line == 3


def test_while_says_nothing():
    assert data("while n < 3:\n    x = 1") is None


def test_a_name_that_the_body_binds_has_another_value():
    assert data("loader = [1]\nfor i in loader: pass") is None


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
