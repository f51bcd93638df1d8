"""What `--debug` finds: the traps of JAX and torch, with their lines, and fixes that run; nothing in clean cells."""

from __future__ import annotations

import jax
import numpy as np
import pytest
import torch
from cells import run
from tiers import tiered

# torch's compiler warns of its own functions while it is imported.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

RESTRICTION, IMPURE, BAKED, BUG, NUMERICAL = (
    *("tracing restriction", "impurity or stale capture"),
    *("Python value baked in", "ordinary bug", "numerical"),
)


def traps(shell, magic: str, text: str):
    """Return the traps of a cell, and its value; None: it failed."""
    result = shell.run_cell(f"%%{magic} --debug -o r\n{text}")
    return list(shell.user_ns["r"].traps), result.result


def jitted(*lines: str, call: str, parameters: str = "x") -> str:
    """Return a cell with a jitted function of these lines, from line 4 on, and a call of it."""
    body = "\n".join(f"    {line}" for line in lines)
    return f"@jax.jit\ndef f({parameters}):\n{body}\n{call}"


ONE, THREE = "f(jnp.float32(2))", "f(jnp.array([1.0, -2.0, 3.0]))"

# The cell, the kind of its trap, what it is, its line, and whether lines are shown that mend it.
JAX = {
    "if": (jitted("if x > 0:", "    return x", "return -x", call=ONE), RESTRICTION, "a branch on a value", 4, True),
    "if else": (
        jitted("if x > 0:", "    y = x * 2", "else:", "    y = -x", "return y", call=ONE),
        *(RESTRICTION, "a branch on a value", 4, True),
    ),
    "if alone": (
        jitted("if x > 0:", "    x = x * 2", "return x", call=ONE),
        *(RESTRICTION, "a branch on a value", 4, True),
    ),
    "conditional": (jitted("return x if x > 0 else -x", call=ONE), RESTRICTION, "a branch on a value", 4, True),
    "while": (
        jitted("while x < 10:", "    x = x * 2", "return x", call=ONE),
        RESTRICTION,
        "a loop until a value",
        4,
        False,
    ),
    "and": (
        jitted("if x > 0 and x < 5:", "    return x", "return -x", call=ONE),
        *(RESTRICTION, "`and`, `or` or `not` of values", 4, True),
    ),
    "not": (jitted("return 1.0 if not x > 0 else x", call=ONE), RESTRICTION, "`and`, `or` or `not` of values", 4, True),
    "max": (jitted("return max(x, 3.0)", call=ONE), RESTRICTION, "`max` of a value", 4, True),
    "assert": (jitted("assert x > 0", "return x", call=ONE), RESTRICTION, "an assertion about a value", 4, False),
    "chain": (
        jitted("return x if 0 < x < 5 else -x", call=ONE),
        *(RESTRICTION, "a chain of comparisons", 4, True),
    ),
    "float": (jitted("return float(x) * 2", call=ONE), RESTRICTION, "a number while tracing", 4, True),
    "item": (jitted("return x.item() * 2", call=ONE), RESTRICTION, "a number while tracing", 4, True),
    "math": ("import math\n" + jitted("return math.sin(x)", call=ONE), RESTRICTION, "`math` of a value", 5, True),
    "numpy": (jitted("return np.sin(x) + 1", call=THREE), RESTRICTION, "NumPy on a traced value", 4, True),
    "mask": (jitted("return x[x > 0].sum()", call=THREE), RESTRICTION, "a boolean mask", 4, True),
    "mask alone": (jitted("return x[x > 0]", call=THREE), RESTRICTION, "a boolean mask", 4, False),
    "list": (
        "table = [1.0, 2.0, 3.0]\n" + jitted("return table[x] * 2", call="f(jnp.int32(1))"),
        *(RESTRICTION, "a list indexed by a traced value", 5, True),
    ),
    "range": (
        jitted(
            "for i in range(n):", "    x = x * 2", "return x", call="f(jnp.float32(1), jnp.int32(3))", parameters="x, n"
        ),
        *(RESTRICTION, "a loop over a traced count", 4, True),
    ),
    "shape": (jitted("return jnp.zeros(x) + 1", call="f(3)"), RESTRICTION, "a shape that depends on a value", 4, True),
    "nonzero": (
        jitted("return jnp.nonzero(x)[0]", call=THREE),
        RESTRICTION,
        "a shape that depends on values",
        4,
        False,
    ),
    "slice": (
        jitted("return x[i:i + 2]", call="f(jnp.arange(5.0), 1)", parameters="x, i"),
        *(RESTRICTION, "a slice with traced bounds", 4, True),
    ),
    "format": (
        jitted('print(f"x is {x:.2f}")', "return x", call=ONE),
        RESTRICTION,
        "a traced value in a format",
        4,
        True,
    ),
    "key of a dictionary": (
        jitted("return {2.0: 1.0}[x]", call="f(2.0)"),
        *(RESTRICTION, "a traced value as a key", 4, False),
    ),
    "leak": (
        "seen = []\n" + jitted("seen.append(x)", "return x", call=f"{ONE}\nseen[0] + 1"),
        *(RESTRICTION, "a value that outlived its trace", 8, False),
    ),
    "text": (
        jitted('return x.sum() if how == "sum" else x.mean()', call="f(jnp.ones(3), 'sum')", parameters="x, how"),
        *(RESTRICTION, "an argument that is no array", 5, True),
    ),
    "static list": (
        "import functools\n@functools.partial(jax.jit, static_argnums=1)\ndef f(x, shape):\n"
        "    return x.reshape(shape)\nf(jnp.ones(4), [2, 2])",
        *(RESTRICTION, "a static argument without a hash", 6, False),
    ),
    "scan": (
        "def step(c, x):\n    return c + x, x\njax.lax.scan(step, jnp.int32(0), jnp.arange(3.0))[0]",
        *(RESTRICTION, "a loop whose state changes its type", 4, False),
    ),
    "cond": (
        "def one(x):\n    return x\ndef two(x):\n    return x > 0\njax.lax.cond(True, one, two, jnp.ones(3))",
        *(RESTRICTION, "branches of different types", 6, False),
    ),
    "vmap": (
        "def f(x):\n    if x > 0:\n        return x\n    return -x\njax.vmap(f)(jnp.arange(3.0))",
        *(RESTRICTION, "a branch under vmap", 3, True),
    ),
    "update": (jitted("x[0] = 5", "return x", call=THREE), BUG, "an update in place", 4, True),
    "update by a sum": (jitted("x[0] += 5", "return x", call=THREE), BUG, "an update in place", 4, True),
    "shapes": ("x = jnp.ones(3)\nx @ jnp.ones(4)", BUG, "`TypeError` in every run", 3, False),
    "index": ("x = jnp.arange(3.0)\nx[10]", BUG, "an index out of bounds", 3, False),
    "key": (
        "key = jax.random.key(0)\na = jax.random.normal(key, (3,))\nb = jax.random.uniform(key, (3,))\na + b",
        *(BUG, "a key that is used twice", 4, False),
    ),
    "print": (jitted('print("x", x)', "return x * 2", call=f"{ONE}\n{ONE}"), IMPURE, "`print` while tracing", 4, True),
    "append": (
        "calls = []\n" + jitted("calls.append(1)", "return x * 2", call=f"{ONE}\n{ONE}\nlen(calls)"),
        *(IMPURE, "a change outside of the function", 5, False),
    ),
    "counter": (
        "count = 0\n" + jitted("global count", "count = count + 1", "return x * 2", call=f"{ONE}\n{ONE}\ncount"),
        *(IMPURE, "a change outside of the function", 6, False),
    ),
    "stale global": (
        "rate = 2.0\n" + jitted("return x * rate", call="a = f(jnp.float32(1))\nrate = 3.0\nb = f(jnp.float32(1))\nb"),
        *(IMPURE, "a global value from the time of the trace", 4, True),
    ),
    "clock": (
        "import time\n" + jitted("return x + time.time() % 1", call=ONE),
        *(BAKED, "a value of the moment of the trace", 5, False),
    ),
    "random": (jitted("return x + np.random.rand()", call=ONE), BAKED, "a value of the moment of the trace", 4, False),
    "storm": (
        jitted("return x.sum()", call="for n in range(1, 6):\n    r = f(jnp.ones(n))\nr"),
        *(RESTRICTION, "a trace for each call", 3, False),
    ),
    "jit in a loop": (
        "def g(x):\n    return x * 2\nfor n in range(4):\n    r = jax.jit(lambda v: g(v))(jnp.float32(n))\nr",
        *(RESTRICTION, "compiled anew each time", 2, False),
    ),
    "NaN": ("x = jnp.array([1.0, -1.0])\ny = jnp.log(x)\n(y + 1).sum()", NUMERICAL, "the first NaN", 3, False),
    "NaN of a gradient": (
        "def root(x):\n    return jnp.where(x > 0, jnp.sqrt(x), 0.0).sum()\n"
        "slope = jax.grad(root)(jnp.array([0.0, 1.0]))\nslope",
        *(NUMERICAL, "the first NaN", 4, False),
    ),
    "inf - inf": ("x = jnp.array([1e30, 1.0]) * 1e30\ny = x - x\ny.sum()", NUMERICAL, "the first NaN", 3, False),
    "donated": (
        "import functools\n@functools.partial(jax.jit, donate_argnums=0)\ndef f(x):\n    return x + 1\n"
        "x = jnp.ones(3)\ny = f(x)\nx + y",
        *(RESTRICTION, "a donated array that is used again", 8, False),
    ),
    "a column beside a row": (
        "guess = jnp.ones((3, 1))\ny = jnp.zeros(3)\nloss = ((guess - y) ** 2).mean()\nloss",
        *(BUG, "a column beside a row", 4, False),
    ),
    "weak types": (
        jitted("return x * 2", call="a = f(1.0)\nb = f(jnp.float32(1))\nc = f(1)\nd = f(jnp.int32(1))\na + b + c + d"),
        *(RESTRICTION, "a trace for each call", 3, False),
    ),
    "a static rate": (
        "import functools\n@functools.partial(jax.jit, static_argnames='rate')\ndef f(x, rate):\n    return x * rate\n"
        "for rate in [0.1, 0.2, 0.3, 0.4]:\n    r = f(jnp.ones(2), rate)\nr",
        *(RESTRICTION, "a trace for each call", 4, False),
    ),
    "key in a loop": (
        "key = jax.random.key(0)\ntotal = 0.0\nfor i in range(3):\n    total = total + jax.random.normal(key)\ntotal",
        *(BUG, "a key that is used twice", 5, False),
    ),
    "key in a function": (
        "def init(key, n):\n    w = jax.random.normal(key, (n,))\n    b = jax.random.normal(key, (n,))\n"
        "    return w, b\nw, b = init(jax.random.key(0), 3)\nw + b",
        *(BUG, "a key that is used twice", 4, False),
    ),
    "key after its split": (
        "key = jax.random.PRNGKey(0)\none, two = jax.random.split(key)\na = jax.random.normal(key)\n"
        "b = jax.random.normal(one)\na + b",
        *(BUG, "a key that is used twice", 4, False),
    ),
    "index of a column": ("x = jnp.ones((3, 4))\ny = x[1, 7]\ny", BUG, "an index out of bounds", 3, False),
    "index of an update": ("x = jnp.zeros(3)\nx = x.at[5].set(1.0)\nx", BUG, "an index out of bounds", 3, False),
    "array of indices": (
        "x = jnp.arange(3.0)\nplaces = jnp.array([0, 3])\nx[places]",
        *(BUG, "an index out of bounds", 4, False),
    ),
    "index while tracing": (
        jitted("return x[i]", call="f(jnp.arange(3.0), 5)", parameters="x, i"),
        *(BUG, "an index out of bounds", 4, False),
    ),
    "stale closure": (
        "def make():\n    rate = 2.0\n    @jax.jit\n    def f(x):\n        return x * rate\n"
        "    a = f(jnp.float32(1))\n    rate = 3.0\n    return a + f(jnp.float32(1))\nmake()",
        *(IMPURE, "a value from the time of the trace", 6, False),
    ),
    "stale dictionary": (
        "config = {'rate': 2.0}\n@jax.jit\ndef f(x):\n    return x * config['rate']\na = f(jnp.float32(1))\n"
        "config['rate'] = 3.0\nb = f(jnp.float32(1))\na + b",
        *(IMPURE, "a value from the time of the trace", 5, False),
    ),
    "stale attribute": (
        "import types\nconfig = types.SimpleNamespace(rate=2.0)\n@jax.jit\ndef f(x):\n    return x * config.rate\n"
        "a = f(jnp.float32(1))\nconfig.rate = 3.0\nb = f(jnp.float32(1))\na + b",
        *(IMPURE, "a value from the time of the trace", 6, False),
    ),
    "generator": (
        "rng = np.random.default_rng(0)\n" + jitted("return x + rng.standard_normal(3)", call=f"{THREE} - {THREE}"),
        *(BAKED, "a value of the moment of the trace", 5, False),
    ),
    "Python's random": (
        "import random\n" + jitted("return x * random.random()", call=f"{ONE} - {ONE}"),
        *(BAKED, "a value of the moment of the trace", 5, False),
    ),
    "logging": (
        "import logging\n" + jitted("logging.debug('x is %s', x)", "return x * 2", call=f"{ONE} + {ONE}"),
        *(IMPURE, "a log while tracing", 5, False),
    ),
    "branch in a scan": (
        "def step(c, x):\n    c = c + x\n    if c > 3:\n        c = c * 0.5\n    return c, c\n"
        "jax.lax.scan(step, jnp.float32(0), jnp.arange(4.0))[0]",
        *(RESTRICTION, "a branch on a value", 4, True),
    ),
    "branch in an inner function": (
        "@jax.jit\ndef outer(x):\n    def inner(y):\n        if y > 0:\n            return y\n        return -y\n"
        "    return inner(x) + 1\nouter(jnp.float32(2))",
        *(RESTRICTION, "a branch on a value", 5, True),
    ),
    "branch in a comprehension": (
        jitted("return jnp.stack([v if v > 0 else -v for v in x])", call=THREE),
        *(RESTRICTION, "a branch on a value", 4, True),
    ),
    "number in a decorated function": (
        "import functools\ndef logged(g):\n    @functools.wraps(g)\n    def h(*a):\n        return g(*a)\n"
        "    return h\n@jax.jit\n@logged\ndef f(x):\n    y = float(x)\n    return y * 2\nf(jnp.float32(1))",
        *(RESTRICTION, "a number while tracing", 11, True),
    ),
    "branch in a linen module": (
        "import flax.linen as nn\nclass Net(nn.Module):\n    @nn.compact\n    def __call__(self, x):\n"
        "        y = nn.Dense(2)(x)\n        if y.sum() > 0:\n            y = y * 2\n        return y\n"
        "model = Net()\nx = jnp.ones((1, 3))\np = model.init(jax.random.key(0), x)\njax.jit(model.apply)(p, x)",
        *(RESTRICTION, "a branch on a value", 7, True),
    ),
    "number in an nnx module": (
        "from flax import nnx\nclass Net(nnx.Module):\n    def __init__(self, rngs):\n"
        "        self.inner = nnx.Linear(3, 2, rngs=rngs)\n    def __call__(self, x):\n        y = self.inner(x)\n"
        "        return y * float(y.sum())\nmodel = Net(nnx.Rngs(0))\n@nnx.jit\ndef run(model, x):\n"
        "    return model(x)\nrun(model, jnp.ones((1, 3)))",
        *(RESTRICTION, "a number while tracing", 8, True),
    ),
    "gradient of whole numbers": (
        "jax.grad(lambda w: (w ** 2).sum())(jnp.arange(3))",
        *(BUG, "a gradient of whole numbers", 2, False),
    ),
    "gradient of several numbers": (
        "jax.grad(lambda w: w ** 2)(jnp.ones(3))",
        *(BUG, "a gradient of several numbers", 2, False),
    ),
    "number under vmap": (
        "def f(x):\n    return float(x) * 2\njax.vmap(f)(jnp.arange(3.0))",
        *(RESTRICTION, "a number while tracing", 3, True),
    ),
    "boolean flag": (
        jitted("if train:", "    return x * 2", "return x", call="f(jnp.float32(2), True)", parameters="x, train"),
        *(RESTRICTION, "a branch on a value", 4, True),
    ),
    "reshape": (
        jitted("return x.reshape(n, 2)", call="f(jnp.ones(6), 3)", parameters="x, n"),
        *(RESTRICTION, "a shape that depends on a value", 4, True),
    ),
    "arange": (
        jitted("return jnp.arange(n)", call="f(5)", parameters="n"),
        *(RESTRICTION, "a shape that depends on a value", 4, True),
    ),
    "unique": (jitted("return jnp.unique(x)", call=THREE), RESTRICTION, "a shape that depends on values", 4, False),
    "branch in a loop": (
        jitted("total = 0.0", "for v in x:", "    if v > 0:", "        total = total + v", "return total", call=THREE),
        *(RESTRICTION, "a branch on a value", 6, True),
    ),
    "a loop's shape": (
        "jax.lax.while_loop(lambda s: s.sum() < 8, lambda s: jnp.concatenate([s, s]), jnp.ones(2))",
        *(RESTRICTION, "a loop whose state changes its type", 2, False),
    ),
}


@pytest.mark.parametrize(("text", "kind", "what", "line", "mended"), tiered(JAX, "if", "stale global"))
def test_a_trap_of_jax(shell, text, kind, what, line, mended):
    check(shell, "jax", text, kind, what, line, mended)


def check(shell, magic, text, kind, what, line, mended):
    """Look for a trap, and let its fix be tried: it runs, and gives what the cell gives without a trace."""
    plain = shell.run_cell(f"%%{magic} --try-fix -o r\n{text}").result
    view, fix = shell.user_ns["r"], shell.user_ns["r"].fix
    assert view.traps, view.answer
    first = view.traps[0]
    assert (first.kind, first.what, first.line) == (kind, what, line), view.traps
    assert first.why.endswith(".")
    assert bool(view.changed[0]) is mended
    if not mended:
        return
    assert (bool(fix.text), fix.agrees) == (True, None if plain is None else True), fix.answer
    new = run(shell, f"%%{magic} --debug -o r\n{fix.text.partition(chr(10))[2]}")
    assert what not in {trap.what for trap in view_of(shell).traps}
    if plain is not None:
        np.testing.assert_allclose(*(np.asarray(getattr(one, "detach", lambda one=one: one)()) for one in (new, plain)))


def view_of(shell):
    return shell.user_ns["r"]


def compiled(*lines: str, call: str = "f(torch.ones(3))", parameters: str = "x", options: str = "") -> str:
    body = "\n".join(f"    {line}" for line in lines)
    return f"@torch.compile{options}\ndef f({parameters}):\n{body}\n{call}"


LEAF = "w = torch.ones(3, requires_grad=True)\n"

TORCH = {
    "if": (
        compiled("if x.sum() > 0:", "    return x", "return -x"),
        *(RESTRICTION, "a branch on a value", 4, True),
    ),
    "fullgraph": (
        compiled("if x.sum() > 0:", "    return x", "return -x", options="(fullgraph=True)"),
        *(RESTRICTION, "a branch on a value", 4, True),
    ),
    "while": (
        compiled("while x.sum() < 100:", "    x = x * 2", "return x"),
        *(RESTRICTION, "a loop until a value", 4, False),
    ),
    "item": (
        compiled("s = x.sum().item()", "return x * s"),
        *(RESTRICTION, "a number out of a tensor", 4, True),
    ),
    "print": (compiled("y = x * 2", 'print("y")', "return y + 1"), RESTRICTION, "`print`", 5, False),
    "mask": (compiled("return x[x > 0].sum()"), RESTRICTION, "a shape that depends on values", 4, True),
    "clock": (
        "import time\n" + compiled("t = time.time()", "return x + 1"),
        *(RESTRICTION, "a function that cannot be traced", 5, False),
    ),
    "module": (
        "net = torch.nn.Linear(3, 1)\nnet(torch.ones(2, 3)).sum()",
        *(RESTRICTION, "a module that is made in what is compiled", 2, False),
    ),
    "recompiled": (
        compiled(
            "return x * len(k)", call="for n in range(5):\n    r = f(torch.ones(3), 'a' * n)\nr", parameters="x, k"
        ),
        *(BAKED, "compiled anew again and again", 2, False),
    ),
    "leaf": (LEAF + "w += 1\nw.sum()", BUG, "an update in place of a leaf", 3, True),
    "saved": (
        LEAF + "y = torch.exp(w)\ny += 1\ny.sum().backward()\nw.grad",
        *(BUG, "a value that going backward needs was changed", 5, True),
    ),
    "detached": (
        LEAF + "y = (w * 2).detach()\nloss = y.sum()\nloss.backward()\nw.grad",
        *(BUG, "a loss without a gradient", 5, True),
    ),
    "no gradient": (
        LEAF + "with torch.no_grad():\n    loss = w.sum()\nloss.backward()",
        *(BUG, "a loss without a gradient", 5, False),
    ),
    "backward twice": (
        LEAF + "loss = (w ** 2).sum()\nloss.backward()\nloss.backward()",
        *(BUG, "a graph that is gone through twice", 5, False),
    ),
    "numpy": (LEAF + "a = np.sin(w.numpy())\na", BUG, "NumPy on a tensor that requires a gradient", 3, True),
    "dtypes": (
        "a = torch.ones(2, 2, dtype=torch.float64)\na @ torch.ones(2, 2)",
        *(BUG, "dtypes that do not fit", 3, False),
    ),
    "devices": (
        "x = torch.ones(3)\nx + torch.ones(3, device='meta')",
        *(BUG, "tensors on different devices", 3, False),
    ),
    "view": ("x = torch.zeros(4)\nrow = x[1:3]\nrow += 1\nx", BUG, "storage that two names share", 4, False),
    "training": (
        "with torch.no_grad():\n    y = net(torch.ones(2, 3))\ny.sum()",
        *(BUG, "a layer that is left in training", 3, False),
    ),
    "NaN": ("x = torch.tensor([1.0, -1.0])\ny = torch.sqrt(x)\n(y * 2).sum()", NUMERICAL, "the first NaN", 3, False),
    "conditional": (
        compiled("return x if x.sum() > 0 else -x"),
        *(RESTRICTION, "a branch on a value", 4, True),
    ),
    "float": (compiled("return x * float(x.sum())"), RESTRICTION, "a number out of a tensor", 4, False),
    "nonzero": (
        compiled("i = x.nonzero()", "return x * i.shape[0]"),
        *(RESTRICTION, "a shape that depends on values", 4, False),
    ),
    "shapes": (
        compiled("return x * 2", call="for n in range(2, 7):\n    r = f(torch.ones(n))\nr", options="(dynamic=False)"),
        *(BAKED, "compiled anew again and again", 2, False),
    ),
    "branch in a module": (
        "class Net(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.w = torch.nn.Parameter(torch.ones(3))\n    def forward(self, x):\n        y = x * self.w\n"
        "        if y.sum() > 0:\n            y = y * 2\n        return y\nmodel = Net()\n"
        "run = torch.compile(model)\nrun(torch.ones(1, 3)).sum()",
        *(RESTRICTION, "a branch on a value", 8, True),
    ),
    "seed": (
        "torch.manual_seed(0)\n@torch.compile\ndef f(x):\n    return x + torch.rand(3)\nf(torch.ones(3))",
        *(NUMERICAL, "random numbers of the compiler's own", 5, False),
    ),
    "leaf in one place": (LEAF + "w[0] = 2.0\nw.sum()", BUG, "an update in place of a leaf", 3, True),
    "saved in one place": (
        LEAF + "h = torch.sigmoid(w)\nh[0] = 0\nh.sum().backward()\nw.grad",
        *(BUG, "a value that going backward needs was changed", 5, False),
    ),
    "data": (LEAF + "loss = (w.data ** 2).sum()\nloss.backward()", BUG, "a loss without a gradient", 4, False),
    "decorated without gradients": (
        LEAF + "@torch.no_grad()\ndef loss_of(w):\n    return (w ** 2).sum()\nloss_of(w).backward()",
        *(BUG, "a loss without a gradient", 6, False),
    ),
    "gradients that add up": (
        LEAF + "optimizer = torch.optim.SGD([w], lr=0.1)\nfor i in range(3):\n    loss = (w ** 2).sum()\n"
        "    loss.backward()\n    optimizer.step()\nw",
        *(BUG, "gradients that add up", 6, False),
    ),
    "a sum of losses": (
        LEAF + "total = 0\nfor i in range(3):\n    loss = (w * i).sum()\n    loss.backward()\n    total += loss\ntotal",
        *(BUG, "a sum that keeps every graph", 7, False),
    ),
    "a column beside a row": (
        "guess = torch.ones(3, 1)\ny = torch.zeros(3)\nloss = ((guess - y) ** 2).mean()\nloss",
        *(BUG, "a column beside a row", 4, False),
    ),
    "layers in a list": (
        "class Net(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.layers = [torch.nn.Linear(3, 3)]\nmodel = Net()\n"
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\nlen(optimizer.param_groups)",
        *(BUG, "layers in a plain list", 7, True),
    ),
    "gradient of several numbers": (
        LEAF + "y = w * 2\ny.backward()\nw.grad",
        *(BUG, "a gradient of several numbers", 4, True),
    ),
    "gradient of whole numbers": (
        "x = torch.arange(3, requires_grad=True)\nx",
        *(BUG, "a gradient of whole numbers", 2, False),
    ),
    "two names": ("a = torch.zeros(3)\nb = a\nb += 1\na", BUG, "storage that two names share", 4, False),
    "memory of NumPy": (
        "a = np.zeros(3)\nt = torch.from_numpy(a)\nt += 1\na.sum()",
        *(BUG, "storage that two names share", 4, False),
    ),
    "a view by its method": (
        "x = torch.zeros(4)\nhead = x[:2]\nhead.add_(1)\nx",
        *(BUG, "storage that two names share", 4, False),
    ),
    "batch norm": (
        "norm = torch.nn.BatchNorm1d(3)\nwith torch.inference_mode():\n    y = norm(torch.ones(2, 3))\ny.sum()",
        *(BUG, "a layer that is left in training", 4, False),
    ),
}


# What Dynamo says of the clock: a warning that is raised would be a break of its own.
@pytest.mark.filterwarnings("ignore:Dynamo does not know how to trace the builtin `time.time:UserWarning")
@pytest.mark.parametrize(("text", "kind", "what", "line", "mended"), tiered(TORCH, "leaf"))
def test_a_trap_of_torch(shell, text, kind, what, line, mended):
    shell.user_ns["net"] = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Dropout(0.5))
    check(shell, "torch", text, kind, what, line, mended)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Explicitly requested dtype")
def test_a_float64_that_is_lost(shell):
    found, _ = traps(shell, "jax", "x = jnp.ones(3, dtype='float64')\nx.sum()")
    assert [(trap.kind, trap.what, trap.line) for trap in found] == [(NUMERICAL, "float64 lost", 2)]


@pytest.mark.slow
def test_results_that_differ_by_rounding_alone(shell, monkeypatch):
    monkeypatch.setattr("fwmagic.debug.debugging.difference", lambda *_: "Out: 1.0 and 1.1")
    found, _ = traps(shell, "jax", "x = jnp.ones(3)\nx.sum()")
    assert [(trap.kind, trap.what) for trap in found] == [(NUMERICAL, "rounding")]


MODEL = "import flax.linen as nn\nnet = nn.Dense(2)\nx = jnp.ones((3, 4))\nparams = net.init(jax.random.key(0), x)\n"

CLEAN_JAX = {
    "expression": "x = jnp.arange(6.0).reshape(2, 3)\n(x @ x.T).sum()",
    "where": jitted("return jnp.where(x > 0, x, -x).sum()", call=THREE),
    "cond": jitted("return jax.lax.cond(x > 0, lambda v: v, lambda v: -v, x)", call=ONE),
    "while_loop": jitted("return jax.lax.while_loop(lambda v: v < 10, lambda v: v * 2, x)", call=ONE),
    "scan": "def step(c, x):\n    return c + x, c\njax.lax.scan(step, 0.0, jnp.arange(4.0))",
    "grad": "jax.grad(lambda w: (w ** 2).sum())(jnp.ones(3))",
    "vmap": "jax.vmap(lambda v: v * 2)(jnp.arange(3.0))",
    "keys": "key = jax.random.key(0)\na, b = jax.random.split(key)\njax.random.normal(a) + jax.random.normal(b)",
    "keys in a loop": "key = jax.random.key(0)\nr = 0.0\nfor i in range(3):\n    key, k = jax.random.split(key)\n"
    "    r = r + jax.random.normal(k)\nr",
    "at set": "x = jnp.zeros(3)\nx = x.at[1].set(5)\nx",
    "two shapes": jitted("return x.sum()", call="f(jnp.ones(2)) + f(jnp.ones(3))"),
    "static": "import functools\n@functools.partial(jax.jit, static_argnames='n')\ndef f(x, n):\n"
    "    for _ in range(n):\n        x = x * 2\n    return x\nf(jnp.float32(1), n=3)",
    "python in the cell": "total = 0.0\nfor value in [1.0, 2.0]:\n    total = total + jnp.float32(value)\ntotal",
    "list in the cell": "out = []\nfor i in range(3):\n    out.append(jnp.float32(i))\njnp.stack(out)",
    "list in a function": jitted(
        "parts = []", "for i in range(3):", "    parts.append(x * i)", "return sum(parts)", call=ONE
    ),
    "debug print": jitted("jax.debug.print('x {}', x)", "return x", call=ONE),
    "print outside": jitted("return x * 2", call=f"y = {ONE}\nprint('y', y)\ny"),
    "print in the cell": "x = jnp.ones(3)\nprint('x', x)\nx.sum()",
    "seeded data": "data = np.random.default_rng(0).standard_normal(5)\n(jnp.asarray(data) * 2).sum()",
    "negative index": "x = jnp.arange(3.0)\nx[-1] + x[2]",
    "mask of infinities": "m = jnp.where(jnp.arange(3) > 1, 0.0, -jnp.inf)\njax.nn.softmax(m)",
    "a NaN on purpose": "x = jnp.array([1.0, jnp.nan])\njnp.nanmean(x)",
    "global that stays": "rate = 2.0\n" + jitted("return x * rate", call=f"a = {ONE}\nb = {ONE}\na + b"),
    "linen": MODEL + "net.apply(params, x).sum()",
    "dictionary": "p = {'w': jnp.ones(3), 'b': jnp.float32(1)}\n" + jitted("return x['w'].sum() + x['b']", call="f(p)"),
}

CLEAN_JAX |= {
    "sgd by hand": "w = jnp.zeros(3)\nx = jnp.arange(6.0).reshape(2, 3)\ny = jnp.ones(2)\n@jax.jit\n"
    "def step(w, x, y):\n    loss = lambda w: ((x @ w - y) ** 2).mean()\n    return w - 0.1 * jax.grad(loss)(w)\n"
    "for _ in range(5):\n    w = step(w, x, y)\nw",
    "optax": MODEL + "import optax\ntx = optax.adam(1e-2)\nstate = tx.init(params)\n@jax.jit\n"
    "def step(params, state, x):\n    def loss(p):\n        return (net.apply(p, x) ** 2).mean()\n"
    "    value, grads = jax.value_and_grad(loss)(params)\n    updates, state = tx.update(grads, state, params)\n"
    "    return optax.apply_updates(params, updates), state, value\nlosses = []\nfor i in range(3):\n"
    "    params, state, value = step(params, state, x)\n    losses.append(float(value))\nlosses[-1]",
    "linen module": "import flax.linen as nn\nclass Net(nn.Module):\n    features: int = 4\n    @nn.compact\n"
    "    def __call__(self, x):\n        for _ in range(2):\n            x = nn.relu(nn.Dense(self.features)(x))\n"
    "        return nn.Dense(1)(x)\nmodel = Net()\nx = jnp.ones((2, 3))\nparams = model.init(jax.random.key(0), x)\n"
    "jax.jit(model.apply)(params, x).sum()",
    "nnx module": "from flax import nnx\nclass Net(nnx.Module):\n    def __init__(self, rngs):\n"
    "        self.inner = nnx.Linear(3, 2, rngs=rngs)\n    def __call__(self, x):\n"
    "        return nnx.relu(self.inner(x))\nmodel = Net(nnx.Rngs(0))\n@nnx.jit\ndef loss(model, x):\n"
    "    return (model(x) ** 2).mean()\nloss(model, jnp.ones((2, 3)))",
    "dropout": "import flax.linen as nn\nclass Net(nn.Module):\n    @nn.compact\n    def __call__(self, x, train):\n"
    "        return nn.Dropout(0.5, deterministic=not train)(nn.Dense(2)(x))\nmodel = Net()\nx = jnp.ones((2, 3))\n"
    "key, drop = jax.random.split(jax.random.key(0))\nparams = model.init(key, x, train=False)\n"
    "model.apply(params, x, train=True, rngs={'dropout': drop}).shape",
    "scan of a network": "ws = jnp.ones((3, 2, 2)) * 0.1\ndef layer(h, w):\n    return jnp.tanh(h @ w), None\n"
    "h, _ = jax.lax.scan(layer, jnp.ones((4, 2)), ws)\nh.sum()",
    "pairwise": "x = jnp.arange(6.0).reshape(3, 2)\nd = ((x[:, None] - x[None, :]) ** 2).sum(-1)\nd",
    "outer product by names": "a = jnp.ones((3, 1))\nb = jnp.ones((1, 4))\nc = a * b\nc.sum()",
    "bias": "x = jnp.ones((4, 3))\nb = jnp.zeros(3)\ny = x + b\ny.mean()",
    "standardised": "x = jnp.arange(12.0).reshape(4, 3)\nm = x.mean(0, keepdims=True)\n"
    "s = x.std(0, keepdims=True)\nz = (x - m) / s\nz",
    "vmap of grad": "def loss(w, x):\n    return (w * x).sum() ** 2\n"
    "g = jax.vmap(jax.grad(loss), in_axes=(None, 0))(jnp.ones(3), jnp.ones((4, 3)))\ng.shape",
    "keys for each": "keys = jax.random.split(jax.random.key(0), 3)\n"
    "x = jnp.stack([jax.random.normal(k, (2,)) for k in keys])\nx.mean()",
    "keys by fold_in": "key = jax.random.key(0)\n"
    "x = [jax.random.normal(jax.random.fold_in(key, i)) for i in range(3)]\ny = sum(x)\ny",
    "key chain in a function": "def draw(key):\n    key, one = jax.random.split(key)\n    a = jax.random.normal(one)\n"
    "    key, two = jax.random.split(key)\n    return key, a + jax.random.normal(two)\n"
    "key, a = draw(jax.random.key(0))\nkey, b = draw(key)\na + b",
    "a generator of the cell": "rng = np.random.default_rng(0)\ndata = rng.standard_normal(5)\n"
    "(jnp.asarray(data) * 2).sum()",
    "gather": "table = jnp.arange(10.0)\nplaces = jnp.array([0, 9, -1])\ntable[places].sum()",
    "rows and columns": "x = jnp.ones((3, 4))\nx[2, 3] + x[-1, 0] + x[0, -4] + x[:, 3].sum() + x[..., 3].sum()",
    "scatter": "x = jnp.zeros((3, 3))\nx = x.at[0, 2].add(1.0).at[2].set(5.0)\nx.sum()",
    "new axis": "x = jnp.arange(3.0)\ny = x[None, 2]\nz = x[:, None]\ny.sum() + z.sum()",
    "closure that stays": "def make(rate):\n    @jax.jit\n    def f(x):\n        return x * rate\n    return f\n"
    "f, g = make(2.0), make(3.0)\nf(jnp.float32(1)) + g(jnp.float32(1))",
    "configuration": "config = {'rate': 0.1, 'steps': 3}\n@jax.jit\ndef f(x):\n    for _ in range(config['steps']):\n"
    "        x = x - config['rate'] * x\n    return x\n" + f"{ONE} + {ONE}",
    "partial": "import functools\ndef f(x, power):\n    return x ** power\n"
    "square = jax.jit(functools.partial(f, power=2))\nsquare(jnp.arange(3.0)).sum()",
    "decorated": "import functools\ndef doubled(g):\n    @functools.wraps(g)\n    def h(*a):\n"
    "        return 2 * g(*a)\n    return h\n@jax.jit\n@doubled\ndef f(x):\n    return x + 1\nf(jnp.float32(1))",
    "timed by hand": "import time\n"
    + jitted(
        "return x * 2",
        call=f"start = time.perf_counter()\ny = {ONE}\ntook = time.perf_counter() - start\ny",
    ),
    "stop_gradient": "def loss(w):\n    return (w * jax.lax.stop_gradient(w)).sum()\njax.grad(loss)(jnp.ones(3))",
    "custom jvp": "@jax.custom_jvp\ndef f(x):\n    return jnp.sin(x)\n@f.defjvp\ndef slope(primals, tangents):\n"
    "    (x,), (t,) = primals, tangents\n    return f(x), jnp.cos(x) * t\njax.grad(f)(jnp.float32(1))",
    "remat": "f = jax.checkpoint(lambda x: jnp.sin(jnp.sin(x)))\njax.grad(f)(jnp.float32(1))",
    "einsum": "x = jnp.ones((2, 3))\nw = jnp.ones((3, 4))\njnp.einsum('ij,jk->ik', x, w).sum()",
    "attention": "q = jnp.ones((2, 4, 8))\ns = q @ q.swapaxes(-1, -2) / 8 ** 0.5\n"
    "m = jnp.tril(jnp.ones((4, 4), bool))\na = jax.nn.softmax(jnp.where(m, s, -jnp.inf), -1)\n(a @ q).sum()",
    "a switch": "fs = [lambda x: x, lambda x: x * 2]\njax.lax.switch(1, fs, jnp.float32(3))",
    "an associative scan": "jax.lax.associative_scan(jnp.add, jnp.arange(4.0))",
    "a dataclass": "import dataclasses\n@dataclasses.dataclass\nclass Run:\n    rate: float = 0.1\n"
    "    def step(self, w):\n        return w - self.rate * w\nrun1 = Run()\nw = run1.step(jnp.ones(3))\nw",
    "NumPy before JAX": "x = np.linspace(0, 1, 5, dtype=np.float32)\nx[0] = 2\ny = jnp.asarray(x)\ny.sum()",
}

CLEAN_TORCH = {
    "expression": "x = torch.ones(4, 4)\ntorch.relu(x @ x).mean()",
    "item at the end": "x = torch.ones(4)\n(x * 2).sum().item()",
    "compiled": compiled("return torch.where(x > 0, x, -x).sum()"),
    "assert": compiled("assert x.sum() > 0", "return x * 2"),
    "called twice": compiled("return x * 2", call="f(torch.ones(3)) + f(torch.ones(3))"),
    "training step": "opt = torch.optim.SGD(net.parameters(), lr=0.1)\nloss = net(torch.ones(2, 3)).sum()\n"
    "loss.backward()\nopt.step()\nopt.zero_grad()",
    "sgd by hand": "w = torch.ones(3, requires_grad=True)\nloss = (w ** 2).sum()\nloss.backward()\n"
    "with torch.no_grad():\n    w -= 0.1 * w.grad\nw",
    "own tensor in place": "x = torch.zeros(4)\nx += 1\nx",
    "clone": "x = torch.zeros(4)\nrow = x[1:3].clone()\nrow += 1\nrow.sum() + x.sum()",
    "eval": "net.eval()\nwith torch.no_grad():\n    y = net(torch.ones(2, 3))\ny.sum()",
    "loop": "x = torch.ones(3)\nfor i in range(3):\n    x = x * 2\nx",
    "list": "parts = [torch.ones(2) * i for i in range(3)]\ntorch.stack(parts)",
    "module": "class Net(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n"
    "        self.layers = torch.nn.ModuleList([torch.nn.Linear(3, 3) for _ in range(2)])\n    def forward(self, x):\n"
    "        for layer in self.layers:\n            x = torch.relu(layer(x))\n        return x.sum()\nmodel = Net()\n"
    "run = torch.compile(model)\nrun(torch.ones(2, 3))",
    "training loop": "opt = torch.optim.Adam(net.parameters())\ntotal = 0.0\nfor i in range(3):\n    opt.zero_grad()\n"
    "    loss = net(torch.ones(2, 3)).pow(2).mean()\n    loss.backward()\n    opt.step()\n"
    "    total += loss.item()\ntotal",
    "zeroed at the end": "opt = torch.optim.SGD(net.parameters(), lr=0.1)\nfor i in range(3):\n"
    "    loss = net(torch.ones(2, 3)).sum()\n    loss.backward()\n    opt.step()\n    opt.zero_grad()\nloss.item()",
    "accumulated gradients": "opt = torch.optim.SGD(net.parameters(), lr=0.1)\nfor i in range(4):\n"
    "    loss = net(torch.ones(2, 3)).sum() / 2\n    loss.backward()\n    if i % 2:\n        opt.step()\n"
    "        opt.zero_grad()\nloss.item()",
    "losses of several heads": "w = torch.ones(3, requires_grad=True)\nloss = 0\nfor k in range(3):\n"
    "    part = (w * k).sum()\n    loss += part\nloss.backward()\nw.grad",
    "evaluation": "net.eval()\nright = 0\nwith torch.no_grad():\n    for i in range(3):\n"
    "        y = net(torch.ones(2, 3))\n        right += (y.argmax(1) == 0).sum().item()\nnet.train()\nright",
    "seed without a compiler": "torch.manual_seed(0)\nx = torch.randn(3)\ny = torch.randn(3)\nx + y",
    "buffer": "out = torch.empty(4)\nfor i in range(4):\n    out[i] = i * 2.0\nout",
    "broadcast on purpose": "x = torch.arange(3.0)\nd = x[:, None] - x[None, :]\nb = torch.ones(2, 3) + x\n"
    "d.sum() + b.sum()",
    "functional": "x = torch.ones(2, 3)\nw = torch.ones(3, 3)\ny = torch.nn.functional.layer_norm(x @ w, (3,))\ny",
    "vmap and grad": "from torch.func import grad, vmap\ndef loss(w, x):\n    return (w * x).sum() ** 2\n"
    "vmap(grad(loss), in_dims=(None, 0))(torch.ones(3), torch.ones(4, 3))",
    "compiled step": "w = torch.ones(3, requires_grad=True)\n@torch.compile\ndef loss(w, x):\n"
    "    return ((w * x) ** 2).mean()\nvalue = loss(w, torch.ones(3))\nvalue.backward()\nw.grad",
    "detached on purpose": "w = torch.ones(3, requires_grad=True)\ntarget = (w * 2).detach()\n"
    "loss = ((w - target) ** 2).sum()\nloss.backward()\nw.grad",
}


@pytest.mark.parametrize("text", tiered(CLEAN_JAX, "where"))
def test_no_alarm_in_a_clean_cell_of_jax(shell, text):
    assert traps(shell, "jax", text)[0] == []
    assert "nothing was found" in shell.user_ns["r"].answer


@pytest.mark.parametrize("text", tiered(CLEAN_TORCH, "own tensor in place"))
def test_no_alarm_in_a_clean_cell_of_torch(shell, text):
    shell.user_ns["net"] = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Dropout(0.5))
    assert traps(shell, "torch", text)[0] == []


def test_there_are_enough_of_them():
    assert len(JAX) >= 45
    assert len(TORCH) >= 30
    assert len(CLEAN_JAX) + len(CLEAN_TORCH) >= 60


def test_the_shell_is_left_with_jit(shell):
    run(shell, "1")
    assert not jax.config.jax_disable_jit
