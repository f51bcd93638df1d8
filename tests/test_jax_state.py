"""JAX, Flax and optax: what a cell changes is put back, arrays can be swapped for others, donated ones are named."""

from __future__ import annotations

import flax.nnx as nnx
import jax
import jax.experimental
import jax.numpy as jnp
import numpy as np
import pytest
from snapshots import ALL, notebook, round_trip, run

from fwmagic.cells.snapshot import Snapshot
from fwmagic.frameworks import get

JAX = get("jax")
NEW_REF = getattr(jax, "new_ref", None) or jax.experimental.mutable_array
RAW_VALUE = next(slot for slot in nnx.Variable.__slots__ if slot.endswith("raw_value"))

TRAIN = """
    import jax, jax.numpy as jnp, optax
    import flax.linen as nn
    from flax.training.train_state import TrainState
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x): return nn.Dense(1)(nn.tanh(nn.Dense(4)(x)))
    net = Net(); x = jnp.ones((2, 3)); params = net.init(jax.random.key(0), x)
    tx = optax.adam(0.1); opt_state = tx.init(params)
    state = TrainState.create(apply_fn=net.apply, params=params, tx=tx)
    losses = {'all': []}
    def loss(params): return (net.apply(params, x) ** 2).mean()
    def step():
        global params, opt_state, state
        value, grads = jax.value_and_grad(loss)(params)
        updates, opt_state = tx.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
        state = state.apply_gradients(grads=grads)
        losses['all'].append(value)
"""


def test_an_optax_step_is_undone():
    namespace = notebook(TRAIN)
    before = {name: namespace[name] for name in ("params", "opt_state", "state")}
    changed = round_trip(namespace, "step net", "step(); step()")
    assert all(namespace[name] is value for name, value in before.items())
    assert namespace["losses"] == {"all": []}
    assert set(changed) == {"params", "opt_state", "state", "losses['all']"}
    assert Snapshot(namespace, ["step", "net", "tx", "state"], ALL).unrestorable == []


def test_nnx_modules_their_rngs_and_optimizers_are_put_back_in_place():
    namespace = notebook("""
        import jax, jax.numpy as jnp, optax
        from flax import nnx
        class Net(nnx.Module):
            def __init__(self, rngs):
                self.rngs = rngs
                self.dense = nnx.Linear(3, 1, rngs=rngs); self.norm = nnx.BatchNorm(1, rngs=rngs); self.calls = 0
            def __call__(self, x):
                self.calls += 1
                return self.norm(self.dense(x)) + jax.random.normal(self.rngs.noise(), (2, 1))
        net = Net(nnx.Rngs(0, noise=1)); opt = nnx.Optimizer(net, optax.adam(0.1), wrt=nnx.Param); x = jnp.eye(2, 3)
        def step():
            loss, grads = nnx.value_and_grad(lambda net: (net(x) ** 2).mean())(net)
            opt.update(net, grads)
            return loss
    """)
    net = namespace["net"]
    kernel, array = net.dense.kernel, net.dense.kernel[...]
    first = []
    snapshot = Snapshot(namespace, ["step"], ALL)
    assert snapshot.unrestorable == []
    for _ in range(2):
        run(namespace, "got = float(step()), float(step()), float(net.dense.kernel[0, 0])")
        first.append(namespace["got"])
        changes = snapshot.changes()
        changed = changes.paths
        changes.restore()
    assert first[0] == first[1]
    assert {"net.calls", "net.dense.kernel"} <= set(changed)
    assert net.dense.kernel is kernel
    assert jnp.array_equal(kernel[...], array)
    assert net.calls == 0
    assert net.rngs.noise.count[...] == 0
    assert namespace["opt"].step[...] == 0


def test_donated_arrays_are_named():
    namespace = notebook("import jax, jax.numpy as jnp", x=jnp.ones(3), box=[jnp.zeros(2)])
    snapshot = Snapshot(namespace, ["x", "box"], ALL)
    assert snapshot.deleted() == []
    run(namespace, "x = jax.jit(lambda x: x + 1, donate_argnums=0)(x); box[0].delete()")
    snapshot.restore()
    assert [path for path, _ in snapshot.deleted()] == ["x", "box[0]"]
    assert Snapshot(namespace, ["x", "box"], ALL).deleted() == []  # it was so before


def test_arrays_are_exchanged_for_copies_wherever_they_are_and_come_back():
    namespace = notebook("import jax, jax.numpy as jnp", x=jnp.ones(3))
    run(namespace, "pair = (x, [x])")
    x, pair, inner = (namespace["x"], namespace["pair"], namespace["pair"][1])
    snapshot = Snapshot(namespace, ["x", "pair"], ALL)
    for _ in range(2):
        copy = jnp.ones(3)
        snapshot.exchange({id(x): copy})
        assert namespace["x"] is namespace["pair"][0] is namespace["pair"][1][0] is copy
        assert not snapshot.changes().any(but=())
        copy.delete()
        run(namespace, "x = None")
        snapshot.restore()
        assert namespace["x"] is copy
    assert snapshot.exchange({}) == {id(x)}
    assert namespace["x"] is inner[0] is x
    assert namespace["pair"] is pair


def test_a_ref_holds_what_it_held():
    namespace = notebook("import jax, jax.numpy as jnp", new_ref=NEW_REF)
    run(namespace, "r = new_ref(jnp.array([1.0, jnp.nan]))")
    assert Snapshot(namespace, ["r"], ALL).changes().paths == []
    assert round_trip(namespace, "r", "r[...] = jnp.zeros(2)") == ["r"]
    assert np.array_equal(namespace["r"][...], [1.0, np.nan], equal_nan=True)


def test_arrays_are_swapped_wherever_they_occur_and_put_back():
    namespace = notebook("""
        import collections, functools, jax, jax.numpy as jnp, flax.struct
        from flax import nnx
        Pair = collections.namedtuple('Pair', 'left right')
        class Owner:
            __slots__ = ('held',)
        @flax.struct.dataclass
        class State:
            w: object
        a, b = jnp.ones(2), jnp.zeros(3)
        box = {'deep': [(Pair(a, 1), (b, (a,))), b]}
        owner = Owner(); owner.held = State(w=a)
        def make(held):
            def read(): return held
            return read
        read = make(a)
        later = functools.partial(max, a)
        method = Pair(a, 2)._asdict
        net = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
        key = jax.random.key(0)
        def use(scale=a): return scale
    """)
    names = ["a", "b", "box", "owner", "read", "later", "method", "net", "key", "use"]
    tuples = namespace["box"]["deep"][0]
    snapshot = Snapshot(namespace, names, [JAX])
    leaves = snapshot.leaves(JAX.is_array)
    assert [path for path, _ in leaves[:2]] == ["a", "b"]
    assert {"net.kernel", "net.bias", "key"} <= {path for path, _ in leaves}
    assert len(leaves) == len({id(value) for _, value in leaves}) == 5
    new = {id(value): ("new", path) for path, value in leaves}
    for undo in (snapshot.restore, snapshot.restore_structure):
        snapshot.substitute(new)
        swapped = ("new", "a")
        assert namespace["a"] == swapped
        assert namespace["box"]["deep"] == [((swapped, 1), (("new", "b"), (swapped,))), ("new", "b")]
        assert type(namespace["box"]["deep"][0][0]) is namespace["Pair"]
        assert namespace["owner"].held.w == swapped
        assert namespace["read"]() == swapped
        assert namespace["later"].args == (swapped,)
        assert namespace["method"]()["left"] == swapped
        assert namespace["use"]() == swapped
        assert object.__getattribute__(namespace["net"].kernel, RAW_VALUE)[0] == "new"
        undo()
        assert snapshot.changes().paths == []
        assert namespace["box"]["deep"][0] is tuples


def test_tracers_that_leaked_are_found():
    namespace = notebook("hist, deep = [], {}\ndef log(v): hist.append(v); deep['x'] = (v,)", x=jnp.ones(2))
    snapshot = Snapshot(namespace, ["x", "log"], [JAX])

    def traced(x: jax.Array) -> jax.Array:
        namespace["log"](x)
        namespace["log"](1)
        namespace["hist"] = None
        found = snapshot.find_leaves(lambda value: isinstance(value, jax.core.Tracer))
        assert [path for path, _ in found] == ["hist[0]"], "hist is no longer bound, but was reached before"
        assert all(value is x for _, value in found)
        return x

    namespace["deep"]["y"] = 1
    jax.jit(traced)(jnp.ones(2))
    assert snapshot.find_leaves(lambda value: isinstance(value, jax.core.Tracer))
    snapshot.restore()
    assert snapshot.find_leaves(lambda value: isinstance(value, jax.core.Tracer)) == []
    assert [path for path, _ in snapshot.find_leaves(JAX.is_array)] == ["x"]


def test_what_jax_calls_an_array():
    assert JAX.is_array(jax.random.key(0))
    assert not JAX.is_array(np.ones(2))
    seen = []
    jax.jit(lambda x: seen.append((JAX.is_array(x), JAX.keep(x), JAX.is_stateless(x))))(1.0)
    assert seen == [(False, None, True)]
    described = [JAX.describe(v) for v in (jnp.ones(2), jnp.ones(3), jnp.asarray(1.0), jnp.float32(1), jnp.int32(1))]
    assert len(set(described)) == 5
    assert JAX.rng_state() is None


@pytest.mark.parametrize("wrap", ["jax.jit", "nnx.jit", "jax.vmap", "jax.checkpoint", "jax.custom_jvp"])
def test_a_wrapped_function_is_looked_into(wrap):
    namespace = notebook(f"import jax\nfrom flax import nnx\nhist = []\n@{wrap}\ndef f(x): hist.append(1); return x")
    namespace["g"] = namespace.pop("f")
    round_trip(namespace, "g", "hist.append(2)")
    assert namespace["hist"] == []
