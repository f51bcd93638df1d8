"""The oracle itself: its digest sees every kind of change and nothing else, its witness every compilation."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
import torch
from digest import differences, kept
from oracle import Notebook, notebook, unlike, witness

SETUP = """
import collections, functools, random, types
from dataclasses import dataclass
from typing import NamedTuple
import numpy as np, torch, jax, jax.numpy as jnp
from flax import nnx
from torch.utils.data import DataLoader

t = torch.arange(6.0).reshape(2, 3)
row = t[0]
w = torch.ones(2, requires_grad=True)
h = w * 2
net = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3))
tied = torch.nn.ModuleList([torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)])
tied[1].weight = tied[0].weight
opt = torch.optim.Adam(net.parameters(), lr=0.1)
sched = torch.optim.lr_scheduler.StepLR(opt, 1)
net(t).sum().backward(); opt.step()
a = np.arange(6.0)
part = a[2:]
shared = torch.from_numpy(a)
objects = np.array([None, 2]); objects[0] = [1]
j = jnp.arange(3.0)
weak = jnp.asarray(2.0)
key = jax.random.key(0)
m = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
rngs = nnx.Rngs(1)
items = [1, [2]]
alias = items[1]
d = {"one": 1, "two": 2}
s = {1, 2}
q = collections.deque([1], maxlen=3)
dd = collections.defaultdict(list)
c = collections.Counter("ab")
class Point:
    shared = [0]
    def __init__(self): self.x = 1
    def move(self): self.x += 1
p = Point()
move = p.move
class Slotted:
    __slots__ = ("v",)
sl = Slotted(); sl.v = 1
@dataclass
class Data:
    v: list
data = Data([1])
class Pair(NamedTuple):
    l: object
    r: object
pair = Pair([1], [2])
def remember(v, seen=[]): seen.append(v)
def counter():
    n = 0
    def count():
        nonlocal n
        n += 1
    return count
count = counter()
half = functools.partial(max, [1], key=len)
def squares():
    n = 0
    while True:
        n += 1
        yield n
gen = squares(); next(gen)
it = iter([1, 2, 3])
pairs = zip("abc", [1, 2, 3])
r = random.Random(1)
g = np.random.default_rng(1)
tg = torch.Generator()
batches = iter(DataLoader([1, 2, 3, 4], batch_size=2))
ns = types.SimpleNamespace(v=jnp.zeros(2))
f = lambda v: v + 1
error = ValueError("a", [1])
7
"""

CHANGES = {
    "a tensor in place": "t.add_(1)",
    "one bit of a tensor": "t[1, 2] = torch.nextafter(t[1, 2], torch.tensor(9.0))",
    "a tensor's dtype": "t = t.double()",
    "a tensor's flag": "t.requires_grad_(True)",
    "a tensor's gradient": "w.sum().backward()",
    "a history": "h = h.detach()",
    "a view that is none any more": "row = row.clone()",
    "an attribute of a tensor": "t.label = 'x'",
    "a parameter": "net[0].weight.data.mul_(2)",
    "a buffer": "net[1].running_mean.add_(1)",
    "a module's mode": "net.eval()",
    "a patched forward": "net[0].forward = net[0].forward",
    "a hook": "net.register_forward_hook(print)",
    "weights that are tied no more": "tied[1].weight = torch.nn.Parameter(tied[0].weight.detach().clone())",
    "an optimizer's state": "opt.state[net[0].weight]['exp_avg'].add_(1)",
    "an optimizer's setting": "opt.param_groups[0]['lr'] = 0.2",
    "a gradient dropped": "opt.zero_grad()",
    "a scheduler": "sched.step()",
    "a NumPy item": "a[0] = -1",
    "NumPy through torch": "shared.mul_(2)",
    "a NumPy flag": "a.flags.writeable = False",
    "a NumPy view that is none any more": "part = part.copy()",
    "memory that is shared no more": "shared = shared.clone()",
    "an object in a NumPy array": "objects[0].append(1)",
    "a JAX array": "j = j.at[0].set(5)",
    "a JAX dtype": "j = j.astype(jnp.int32)",
    "a weak type": "weak = jnp.float32(2)",
    "a random key": "key = jax.random.split(key)[0]",
    "a JAX array in an object": "ns.v = ns.v + 1",
    "an nnx variable": "m.kernel[...] = m.kernel[...] * 2",
    "an nnx random stream": "rngs.default()",
    "a list": "items.append(1)",
    "a nested list": "items[1].append(3)",
    "an alias lost": "items[1] = [2]",
    "a dict's order": "d['one'] = d.pop('one')",
    "a set": "s.add(3)",
    "a deque": "q.append(2)",
    "a deque's limit": "q = collections.deque([1], maxlen=4)",
    "a defaultdict's factory": "dd.default_factory = set",
    "a counter": "c['a'] += 1",
    "an attribute": "p.x = 2",
    "an attribute by a bound method": "move()",
    "another self": "move = Point().move",
    "a class attribute": "Point.shared.append(1)",
    "a slot": "sl.v = 2",
    "a dataclass": "data.v.append(1)",
    "a named tuple": "pair.l.append(1)",
    "a mutable default": "remember(1)",
    "a closed-over number": "count()",
    "a partial": "half = functools.partial(max, [2], key=len)",
    "a generator": "next(gen)",
    "an iterator": "next(it)",
    "a zip": "next(pairs)",
    "a Random": "r.random()",
    "a NumPy generator": "g.random()",
    "a torch generator": "torch.rand(1, generator=tg)",
    "a data loader's place": "next(batches)",
    "a function of the same name": "f = lambda v: v + 2",
    "an exception's argument": "error.args[1].append(1)",
    "torch's random state": "torch.rand(1);",
    "NumPy's random state": "np.random.rand();",
    "Python's random state": "random.random();",
    "a mode of torch": "torch.set_grad_enabled(False);",
    "a new name": "new = 1",
    "a lost name": "del alias",
    "Out": "8",
}
QUIET = {
    "nothing": "pass",
    "reading": "(t.sum(), len(items), d['one'], p.x);",
    "the same object again": "t = t; items = items",
    "a gradient taken and dropped": "jax.grad(lambda v: (v ** 2).sum())(j);",
}


@pytest.fixture(scope="module")
def book():
    with notebook() as opened:
        yield opened


def _after(book: Notebook, text: str) -> list[str]:
    """Return what the digest says of the change that `text` makes to a fresh setup."""
    ready = book.run(SETUP)
    assert ready.error is None
    state = book.digest().lines
    done = book.run(text)
    torch.set_grad_enabled(True)
    book.shell.user_ns.pop("new", None)
    assert done.error is None
    ours = {"new warning filters", "streams kept"}
    return [d for d in differences(state, done.lines | done.outs | done.world) if d.partition(":")[0] not in ours]


@pytest.mark.parametrize("text", CHANGES.values(), ids=CHANGES)
def test_the_digest_sees(book: Notebook, text: str):
    assert _after(book, text)


@pytest.mark.parametrize("text", QUIET.values(), ids=QUIET)
def test_the_digest_does_not_see(book: Notebook, text: str):
    assert _after(book, text) == []


def test_an_object_replaced_by_an_equal_one_is_seen_by_its_identity(book: Notebook):
    book.run("x = [1]\nt = torch.ones(2)")
    replaced = book.run("x = [1]\nt.data = t.data.clone()").kept
    assert replaced["names x"] == "another object"
    assert replaced["names t"] == "the same object"
    assert replaced["names t storage"] == "another object"


def test_a_leaked_tracer_is_named(book: Notebook):
    run = book.run("import jax, jax.numpy as jnp\nleak = []\njax.jit(lambda v: leak.append(v))(jnp.ones(2));")
    assert "A LEAKED TRACER" in run.lines["names leak[0]"]


def test_what_is_shown_differs():
    with notebook() as book:
        quiet = book.run("pass")
        for text in ("print(1)", "import sys; print(1, file=sys.stderr)", "display(1)", "1 / 0", "(1 +"):
            assert unlike(quiet, book.run(text)), text
        twice = book.run("import warnings\nfor _ in range(2): warnings.warn('w', stacklevel=1)")
        assert twice.warned == [("UserWarning", "w", 2)] * 2


def test_the_line_of_an_error_is_the_deepest_of_the_cell():
    with notebook() as book:
        book.run("def f():\n    raise KeyError(1)")
        assert book.run("x = 1\n\nf()").error == ("KeyError", "1", 3)
        assert book.run("x = 1\ny = (").error[::2] == ("SyntaxError", 2)


def test_the_same_object_is_kept_only_if_the_address_is():
    assert kept({"x": 1, "y": 2, "z": 3}, {"x": 1, "y": 5}) == {
        "x": "the same object",
        "y": "another object",
        "z": "gone",
    }


def test_the_witness_sees_what_jax_compiles():
    def witnessed(v):
        return jnp.sin(v) * 2

    with witness() as seen:
        compiled = jax.jit(witnessed)
        compiled(jnp.ones(3))
        first = seen.jax.count("witnessed")
        compiled(jnp.ones(3))
    assert (first, seen.jax.count("witnessed")) == (1, 1)


def test_the_witness_sees_what_dynamo_compiles_and_not_what_it_gives_up():
    def compiled(v):
        return v.sin() * 2

    def broken(v):
        y = v.sin()
        torch._dynamo.graph_break()
        return y * 2

    def empty(v):
        return 1

    with witness() as seen:
        for function in (compiled, broken, empty):
            torch.compile(function, backend="eager")(torch.ones(3))
    assert seen.names() == {"compiled", "broken"}
