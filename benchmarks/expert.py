"""The suite of cells beside what an expert writes by hand: a compiled function that gets its arrays passed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

from benchmarks.engine import Program
from benchmarks.methods import QUICK, WHOLE, Effort, run_cell, shell, thinned
from benchmarks.results import watched
from benchmarks.runs import OWN
from fwmagic.measure.calls import Local
from fwmagic.measure.timing import Measurement, time_variants
from fwmagic.run.place import Here

Run = dict[str, Any]

_CELL = "%%{framework} --budget 0.05 --no-memory -o timed\n{text};"  # which shows no value
#: Of each framework, so many cells are a smoke test.
_QUICK = 1


@dataclass(frozen=True)
class Cell:
    """A cell, and an expert's function: `setup` is run before both, `expert` binds `call` and `args`."""

    framework: str
    name: str
    setup: str
    text: str
    expert: str

    @property
    def title(self) -> str:
        """The framework and the name."""
        return f"{self.framework}: {self.name}"


def expert(rng: random.Random, quick: bool) -> Iterator[Run]:
    """Time each cell, as fwmagic compiles it, in turns with the expert's function."""
    cells = [*JAX[:_QUICK], *TORCH[:_QUICK]] if quick else [*JAX, *TORCH]
    rng.shuffle(cells)
    for turn, cell in enumerate(cells, start=1):
        about = {"turn": f"{turn}/{len(cells)}", "setup": cell.title, "method": OWN}
        seed = rng.getrandbits(32)
        yield {**about, **watched(lambda cell=cell, seed=seed: _one(cell, QUICK if quick else WHOLE, seed))}


def _one(cell: Cell, effort: Effort, seed: int) -> Run:
    begin(cell)
    with kept() as found:
        run_cell(_CELL.format(framework=cell.framework, text=cell.text.strip()))
    report = shell().user_ns["timed"]
    (variant,) = report
    if variant.failure is not None:
        raise RuntimeError(f"{variant.failure.error}: {variant.failure.message}")
    here, own, _ = found[0]
    begin(cell)  # the cell has left its results
    run_cell(cell.expert)
    call, args = (shell().user_ns[name] for name in ("call", "args"))
    for _ in range(3):
        call(*args)
    other = here.calls("expert", Program("expert", call, args, _waiter(cell.framework)), own.pool)
    measured = time_variants([other, own], budget=effort.budget, seed=seed, length=here.length)
    return {"way": variant.compilation.way, "reason": variant.compilation.reason, **_of(measured, own.name)}


def begin(cell: Cell) -> None:
    """Bind what a cell needs."""
    run_cell(_NAMES[cell.framework] + cell.setup)


def _waiter(framework: str) -> Any:
    if framework == "torch":
        return None
    import jax

    return jax.block_until_ready


def _of(measured: Measurement, name: str) -> Run:
    for timing in measured.variants:
        if timing.failure is not None:
            raise timing.failure
    (ratio,) = measured.ratios
    times = {timing.name: timing for timing in measured.variants}
    return {
        "ratio": ratio.median,
        "verdict": ratio.verdict,
        "each": times["expert"].time().median,
        "raw": {
            "low": ratio.low,
            "high": ratio.high,
            "samples": {"fwmagic": thinned(times[name].samples), "expert": thinned(times["expert"].samples)},
            "calls_per_block": {one.name: one.calls_per_block for one in measured.variants},
            "spent": measured.spent,
        },
    }


@contextmanager
def kept() -> Iterator[list[tuple[Here, Local, Any]]]:
    """Keep where variants are timed in the block, their calls, and their programs."""
    usual, found = Here.calls, []

    def calls(here: Here, name: str, program: Any, pool: str) -> Local:
        made = usual(here, name, program, pool)
        found.append((here, made, program))
        return made

    with mock.patch.object(Here, "calls", calls):
        yield found


_NAMES = {
    "jax": "import functools, numpy as np, jax, jax.numpy as jnp\nrng = np.random.default_rng(0)\n"
    "def array(*shape): return jnp.asarray(rng.standard_normal(shape, dtype=np.float32))\n",
    "torch": "import functools, numpy as np, torch, torch.nn.functional as F\ntorch.manual_seed(0)\n"
    "def array(*shape): return torch.randn(*shape)\n",
}

_JAX_MLP = """
params = {"w1": array(64, 128) / 8, "b1": jnp.zeros(128), "w2": array(128, 10) / 11, "b2": jnp.zeros(10)}
x, y = array(32, 64), jnp.asarray(rng.integers(0, 10, 32))
def forward(params, x):
    return jax.nn.relu(x @ params["w1"] + params["b1"]) @ params["w2"] + params["b2"]
def loss_of(params, x, y):
    return -jnp.mean(jax.nn.log_softmax(forward(params, x))[jnp.arange(len(y)), y])
"""
_OPTAX = """
import optax
tx = optax.{name}(1e-3)
state = tx.init(params)
"""
_OPTAX_CELL = """
loss, grads = jax.value_and_grad(loss_of)(params, x, y)
updates, state = tx.update(grads, state, params)
params = optax.apply_updates(params, updates)
loss
"""
_OPTAX_EXPERT = """
def step(params, state, x, y):
    loss, grads = jax.value_and_grad(loss_of)(params, x, y)
    updates, state = tx.update(grads, state, params)
    return loss, optax.apply_updates(params, updates), state
call, args = jax.jit(step), (params, state, x, y)
"""
_JAX_LOOP = "w, h = array(16, 16) / 4, array(16)\ndef layer(w, h): return jnp.tanh(w @ h)"
_JAX_LOOP_EXPERT = """
def run(w, h):
    for _ in range({turns}):
        h = layer(w, h)
    return h
call, args = jax.jit(run), (w, h)
"""

JAX = [
    Cell(
        "jax", "matmul", "x, w = array(256, 256), array(256, 256)", "x @ w", "call, args = jax.jit(jnp.matmul), (x, w)"
    ),
    Cell(
        "jax",
        "a formula of a million numbers",
        "x = jnp.abs(array(1_000_000))",
        "jnp.sum(jnp.exp(-x) * jnp.log1p(x))",
        "call, args = jax.jit(lambda x: jnp.sum(jnp.exp(-x) * jnp.log1p(x))), (x,)",
    ),
    Cell("jax", "forward of an MLP", _JAX_MLP, "forward(params, x)", "call, args = jax.jit(forward), (params, x)"),
    Cell(
        "jax",
        "value and gradient",
        _JAX_MLP,
        "jax.value_and_grad(loss_of)(params, x, y)",
        "call, args = jax.jit(jax.value_and_grad(loss_of)), (params, x, y)",
    ),
    Cell("jax", "step with optax.sgd", _JAX_MLP + _OPTAX.format(name="sgd"), _OPTAX_CELL, _OPTAX_EXPERT),
    Cell("jax", "step with optax.adam", _JAX_MLP + _OPTAX.format(name="adam"), _OPTAX_CELL, _OPTAX_EXPERT),
    Cell(
        "jax",
        "loop of 20 steps",
        _JAX_LOOP,
        "for _ in range(20):\n    h = layer(w, h)\nh",
        _JAX_LOOP_EXPERT.format(turns=20),
    ),
    Cell(
        "jax",
        "loop of 200 steps",
        _JAX_LOOP,
        "for _ in range(200):\n    h = layer(w, h)\nh",
        _JAX_LOOP_EXPERT.format(turns=200),
    ),
    Cell(
        "jax",
        "scan",
        _JAX_LOOP + "\nxs = array(100, 16)",
        "h, ys = jax.lax.scan(lambda h, x: (layer(w, h) + x, h.sum()), h, xs)\nys",
        """
def run(w, h, xs): return jax.lax.scan(lambda h, x: (layer(w, h) + x, h.sum()), h, xs)
call, args = jax.jit(run), (w, h, xs)
""",
    ),
    Cell(
        "jax",
        "convolution",
        "x, k = array(8, 3, 32, 32), array(16, 3, 3, 3)",
        'jax.nn.relu(jax.lax.conv(x, k, (1, 1), "SAME")).mean((2, 3))',
        'call, args = jax.jit(lambda x, k: jax.nn.relu(jax.lax.conv(x, k, (1, 1), "SAME")).mean((2, 3))), (x, k)',
    ),
    Cell(
        "jax",
        "attention",
        "q, k, v = array(4, 128, 64), array(4, 128, 64), array(4, 128, 64)",
        "scores = jnp.einsum('bqd,bkd->bqk', q, k) / 8\njax.nn.softmax(scores) @ v",
        "call, args = jax.jit(lambda q, k, v: jax.nn.softmax(jnp.einsum('bqd,bkd->bqk', q, k) / 8) @ v), (q, k, v)",
    ),
    Cell(
        "jax",
        "layer norm",
        "x, g, b = array(256, 512), array(512), array(512)",
        "mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)\n(x - mean) / jnp.sqrt(var + 1e-5) * g + b",
        """
def norm(x, g, b):
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / jnp.sqrt(var + 1e-5) * g + b
call, args = jax.jit(norm), (x, g, b)
""",
    ),
    Cell(
        "jax",
        "reductions",
        "x = array(500, 500)",
        "x.mean(), x.std(), x.max(axis=0), jnp.median(x[0])",
        "call, args = jax.jit(lambda x: (x.mean(), x.std(), x.max(axis=0), jnp.median(x[0]))), (x,)",
    ),
    Cell(
        "jax",
        "updates by index",
        "x, i, v = jnp.zeros((1000, 16)), jnp.asarray(rng.integers(0, 1000, 200)), array(200, 16)",
        "x = x.at[i].add(v)\nx = x.at[0].set(0.0)\nx.sum()",
        """
def update(x, i, v):
    x = x.at[i].add(v).at[0].set(0.0)
    return x, x.sum()
call, args = jax.jit(update), (x, i, v)
""",
    ),
    Cell(
        "jax",
        "state in a dict",
        "state = {'m': array(1000), 'v': jnp.zeros(1000), 'n': jnp.zeros(())}\ng = array(1000)",
        "state['m'] = 0.9 * state['m'] + 0.1 * g\nstate['v'] = 0.99 * state['v'] + 0.01 * g * g\nstate['n'] += 1\n"
        "state['m'] / (jnp.sqrt(state['v']) + 1e-8)",
        """
def update(state, g):
    m, v = 0.9 * state['m'] + 0.1 * g, 0.99 * state['v'] + 0.01 * g * g
    return m / (jnp.sqrt(v) + 1e-8), {'m': m, 'v': v, 'n': state['n'] + 1}
call, args = jax.jit(update), (state, g)
""",
    ),
    Cell(
        "jax",
        "flax.linen",
        """
from flax import linen
class Net(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(10)(linen.LayerNorm()(linen.relu(linen.Dense(128)(x))))
net, x = Net(), array(32, 64)
params = net.init(jax.random.key(0), x)
""",
        "net.apply(params, x)",
        "call, args = jax.jit(net.apply), (params, x)",
    ),
    Cell(
        "jax",
        "flax.nnx",
        """
from flax import nnx
class Net(nnx.Module):
    def __init__(self, rngs):
        self.one, self.two = nnx.Linear(64, 128, rngs=rngs), nnx.Linear(128, 10, rngs=rngs)
    def __call__(self, x): return self.two(nnx.relu(self.one(x)))
net, x = Net(nnx.Rngs(0)), array(32, 64)
""",
        "net(x)",
        """
graph, state = nnx.split(net)
call, args = jax.jit(lambda state, x: nnx.merge(graph, state)(x)), (state, x)
""",
    ),
    Cell(
        "jax",
        "random numbers",
        "key, x = jax.random.key(0), array(1000)",
        "key, one = jax.random.split(key)\nx + 0.1 * jax.random.normal(one, x.shape)",
        """
def noisy(key, x):
    key, one = jax.random.split(key)
    return x + 0.1 * jax.random.normal(one, x.shape), key
call, args = jax.jit(noisy), (key, x)
""",
    ),
    Cell(
        "jax",
        "a closure",
        "def make(w):\n    def inner(x): return jnp.tanh(x @ w)\n    return inner\n"
        "w, x = array(64, 64), array(8, 64)\nf = make(w)",
        "f(f(x))",
        "call, args = jax.jit(lambda w, x: make(w)(make(w)(x))), (w, x)",
    ),
    Cell(
        "jax",
        "vmap and sort",
        "x, q = array(64, 256), array(256)",
        "order = jax.vmap(lambda r: jnp.argsort(r)[:10])(x)\nq[order].sum(-1)",
        "call, args = jax.jit(lambda x, q: q[jax.vmap(lambda r: jnp.argsort(r)[:10])(x)].sum(-1)), (x, q)",
    ),
]

_TORCH_MLP = """
net = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10))
x, y = array(32, 64), torch.randint(0, 10, (32,))
"""
_TORCH_STEP = """
opt.zero_grad()
loss = F.cross_entropy(net(x), y)
loss.backward()
opt.step()
loss.detach()
"""
_TORCH_STEP_EXPERT = """
fast = torch.compile(net)
def call(x, y):
    opt.zero_grad()
    loss = F.cross_entropy(fast(x), y)
    loss.backward()
    opt.step()
    return loss.detach()
args = x, y
"""
_TORCH_LOOP = "w, h = array(16, 16) / 4, array(16)\ndef layer(w, h): return torch.tanh(w @ h)"
_TORCH_LOOP_EXPERT = """
def run(w, h):
    for _ in range({turns}):
        h = layer(w, h)
    return h
call, args = torch.compile(run), (w, h)
"""

TORCH = [
    Cell(
        "torch",
        "matmul",
        "x, w = array(256, 256), array(256, 256)",
        "torch.relu(x @ w)",
        "call, args = torch.compile(lambda x, w: torch.relu(x @ w)), (x, w)",
    ),
    Cell(
        "torch",
        "a formula of a million numbers",
        "x = array(1_000_000).abs()",
        "torch.sum(torch.exp(-x) * torch.log1p(x))",
        "call, args = torch.compile(lambda x: torch.sum(torch.exp(-x) * torch.log1p(x))), (x,)",
    ),
    Cell("torch", "forward of a module", _TORCH_MLP, "net(x)", "call, args = torch.compile(net), (x,)"),
    Cell(
        "torch",
        "forward without gradients",
        _TORCH_MLP,
        "with torch.no_grad():\n    out = net(x)\nout",
        "call, args = torch.no_grad()(torch.compile(net)), (x,)",
    ),
    Cell(
        "torch",
        "gradients of a function",
        "w, x = array(64, 64), array(32, 64)\ndef loss_of(w, x): return torch.tanh(x @ w).square().mean()",
        "torch.func.grad(loss_of)(w, x)",
        "call, args = torch.compile(torch.func.grad(loss_of)), (w, x)",
    ),
    Cell(
        "torch",
        "step with SGD",
        _TORCH_MLP + "opt = torch.optim.SGD(net.parameters(), lr=1e-3)",
        _TORCH_STEP,
        _TORCH_STEP_EXPERT,
    ),
    Cell(
        "torch",
        "step with Adam",
        _TORCH_MLP + "opt = torch.optim.Adam(net.parameters(), lr=1e-3)",
        _TORCH_STEP,
        _TORCH_STEP_EXPERT,
    ),
    Cell(
        "torch",
        "loop of 20 steps",
        _TORCH_LOOP,
        "for _ in range(20):\n    h = layer(w, h)\nh",
        _TORCH_LOOP_EXPERT.format(turns=20),
    ),
    Cell(
        "torch",
        "loop of 200 steps",
        _TORCH_LOOP,
        "for _ in range(200):\n    h = layer(w, h)\nh",
        _TORCH_LOOP_EXPERT.format(turns=200),
    ),
    Cell(
        "torch",
        "convolution",
        "conv, x = torch.nn.Conv2d(3, 16, 3, padding=1), array(8, 3, 32, 32)",
        "with torch.no_grad():\n    out = F.relu(conv(x)).mean((2, 3))\nout",
        "call, args = torch.no_grad()(torch.compile(lambda x: F.relu(conv(x)).mean((2, 3)))), (x,)",
    ),
    Cell(
        "torch",
        "attention",
        "q, k, v = array(4, 128, 64), array(4, 128, 64), array(4, 128, 64)",
        "scores = torch.einsum('bqd,bkd->bqk', q, k) / 8\ntorch.softmax(scores, -1) @ v",
        "call = torch.compile(lambda q, k, v: torch.softmax(torch.einsum('bqd,bkd->bqk', q, k) / 8, -1) @ v)\n"
        "args = q, k, v",
    ),
    Cell(
        "torch",
        "layer norm",
        "x, g, b = array(256, 512), array(512), array(512)",
        "F.layer_norm(x, (512,), g, b) + x",
        "call, args = torch.compile(lambda x, g, b: F.layer_norm(x, (512,), g, b) + x), (x, g, b)",
    ),
    Cell(
        "torch",
        "reductions",
        "x = array(500, 500)",
        "x.mean(), x.std(), x.amax(0), x[0].median()",
        "call, args = torch.compile(lambda x: (x.mean(), x.std(), x.amax(0), x[0].median())), (x,)",
    ),
    Cell(
        "torch",
        "updates by index",
        "x, i, v = torch.zeros(1000, 16), torch.randint(0, 1000, (200,)), array(200, 16)",
        "y = x.index_add(0, i, v)\ny[0] = 0.0\ny.sum()",
        """
def update(x, i, v):
    y = x.index_add(0, i, v)
    y[0] = 0.0
    return y.sum(), y
call, args = torch.compile(update), (x, i, v)
""",
    ),
    Cell(
        "torch",
        "state in a dict",
        "state = {'m': array(1000), 'v': torch.zeros(1000), 'n': torch.zeros(())}\ng = array(1000)",
        "state['m'] = 0.9 * state['m'] + 0.1 * g\nstate['v'] = 0.99 * state['v'] + 0.01 * g * g\nstate['n'] += 1\n"
        "state['m'] / (torch.sqrt(state['v']) + 1e-8)",
        """
def update(state, g):
    m, v = 0.9 * state['m'] + 0.1 * g, 0.99 * state['v'] + 0.01 * g * g
    return m / (torch.sqrt(v) + 1e-8), {'m': m, 'v': v, 'n': state['n'] + 1}
call, args = torch.compile(update), (state, g)
""",
    ),
    Cell(
        "torch",
        "random numbers",
        "x = array(1000)",
        "F.dropout(x + 0.1 * torch.randn_like(x), 0.2)",
        "call, args = torch.compile(lambda x: F.dropout(x + 0.1 * torch.randn_like(x), 0.2)), (x,)",
    ),
    Cell(
        "torch",
        "a closure",
        "def make(w):\n    def inner(x): return torch.tanh(x @ w)\n    return inner\n"
        "w, x = array(64, 64), array(8, 64)\nf = make(w)",
        "f(f(x))",
        "call, args = torch.compile(lambda w, x: make(w)(make(w)(x))), (w, x)",
    ),
    Cell(
        "torch",
        "vmap and sort",
        "x, q = array(64, 256), array(256)",
        "order = torch.vmap(lambda r: torch.argsort(r)[:10])(x)\nq[order].sum(-1)",
        "call, args = torch.compile(lambda x, q: q[torch.vmap(lambda r: torch.argsort(r)[:10])(x)].sum(-1)), (x, q)",
    ),
    Cell(
        "torch",
        "a layer of a transformer",
        "layer = torch.nn.TransformerEncoderLayer(64, 4, 128, dropout=0.0, batch_first=True)\nx = array(8, 32, 64)",
        "layer(x)",
        "call, args = torch.compile(layer), (x,)",
    ),
    Cell(
        "torch",
        "embedding and cumulative sum",
        "table, i = array(1000, 32), torch.randint(0, 1000, (16, 50))",
        "torch.cumsum(F.embedding(i, table), 1).amax(1)",
        "call, args = torch.compile(lambda i, table: torch.cumsum(F.embedding(i, table), 1).amax(1)), (i, table)",
    ),
]
