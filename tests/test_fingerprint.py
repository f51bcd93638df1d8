"""The fingerprint: equal where a compiled program may be used again, different where it may not."""

from __future__ import annotations

import numpy as np
import pytest
from snapshots import ALL, notebook, run

from fwmagic.cells.snapshot import Snapshot

SETTING = """
    import numpy as np, torch, dataclasses, functools
    n, rate, text, flag = 3, 0.1, 'mean', None
    x, t = np.ones((2, 3)), torch.ones(3)
    config = {'layers': [4, (5, 6)], 'names': {'a', 'b'}}
    kinds = [frozenset({'a', 'b'}), (frozenset({1}), 2)]
    scale = 2
    def helper(v, k=1): return v * scale * k
    def make(power):
        def inner(v): return helper(v) ** power
        return inner
    f = make(2)
    later = functools.partial(helper, k=2)
    class Model:
        depth = 2
        def __init__(self): self.width = 4; self.weight = x
        def call(self): return self.width
    model = Model(); call = model.call
    @dataclasses.dataclass(frozen=True)
    class Setup:
        rate: float
    setup = Setup(0.1)
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU())
"""
NAMES = ["n", "rate", "text", "flag", "x", "t", "config", "f", "later", "model", "call", "setup", "net", "kinds"]


def fingerprint(namespace):
    found = Snapshot(namespace, NAMES, ALL).fingerprint()
    hash(found)
    return found


@pytest.mark.parametrize(
    "cell",
    [
        "pass",
        "kinds = [frozenset({'b', 'a'}), (frozenset({1}), 2)]",
        "x += 1; t.mul_(float('nan'))",
        "x = np.zeros((2, 3)); model.weight = x; t = torch.rand(3)",
        "config = {'layers': [4, (5, 6)], 'names': {'b', 'a'}}; setup = Setup(0.1)",
        "n = int('3'); rate = float('0.1')",
        "later = functools.partial(helper, k=2)",
        "call = model.call",
        "def helper(v, k=1):\n\n    # elsewhere\n    return v * scale * k\nlater = functools.partial(helper, k=2)",
        "f = make(2)",
        "unread = 1",
    ],
)
def test_it_is_the_same(cell):
    namespace = notebook(SETTING)
    before = fingerprint(namespace)
    run(namespace, cell)
    assert fingerprint(namespace) == before


@pytest.mark.parametrize(
    "cell",
    [
        "kinds[0] = frozenset({'a'})",
        "kinds[1] = (frozenset({2}), 2)",
        "n = 4",
        "n = True",
        "n = 3.0",
        "rate = float('nan')",
        "rate = -0.0",
        "flag = 'mean'",
        "x = np.ones((3, 2))",
        "x = x.astype('f4')",
        "model.weight = np.ones((2, 3))  # no longer the x of the notebook",
        "t = t.double()",
        "t.requires_grad_()",
        "del t",
        "config['layers'].append(1)",
        "config['layers'][1] = (5, 7)",
        "config['more'] = 1",
        "config['names'].add('c')",
        "config = {'names': config['names'], 'layers': config['layers']}",
        "scale = 3",
        "f = make(3)",
        "def helper(v, k=1): return v + scale * k",
        "helper.__defaults__ = (2,)",
        "later = functools.partial(helper, k=3)",
        "model.width = 5",
        "model = Model(); call = model.call",
        "Model.depth = 3",
        "Model.call = lambda self: 0",
        "setup = Setup(0.2)",
        "net[0].eval()",
        "net.append(torch.nn.ReLU())",
        "net[1] = torch.nn.Tanh()",
    ],
)
def test_it_differs(cell):
    namespace = notebook(SETTING)
    before = fingerprint(namespace)
    run(namespace, cell)
    assert fingerprint(namespace) != before


def test_nan_is_no_difference_and_dead_objects_are_not_mistaken():
    namespace = notebook(SETTING, rate=0)
    namespace["rate"] = float("nan")
    before = fingerprint(namespace)
    namespace["rate"] = np.float64("nan").item()
    assert fingerprint(namespace) == before
    seen = {before}
    for _ in range(20):  # each time the old model dies, and the new one may get its address
        run(namespace, "call = model = None; model = Model(); call = model.call")
        seen.add(fingerprint(namespace))
    assert len(seen) == 21
