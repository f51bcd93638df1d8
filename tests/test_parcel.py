"""Parcels: what is sent to another process arrives as it was, shared where it was shared, and leaves nothing behind."""

from __future__ import annotations

import gc
import os
import threading
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from leftovers import shared_memory

from fwmagic import frameworks
from fwmagic.errors import FwMagicError
from fwmagic.worker.parcel import Parcel, unpack_parcel

BIG = 1 << 17


def sent(**values):
    """Pack values and unpack them again; this process stands for the other one."""
    with Parcel(values, frameworks.installed()) as parcel:
        return types.SimpleNamespace(**unpack_parcel(parcel.address))


@pytest.mark.parametrize("size", [3, BIG], ids=["small", "big"])
class TestArrays:
    def test_a_tensor(self, size):
        x = torch.arange(size, dtype=torch.float64).reshape(1, -1).requires_grad_()
        found = sent(x=x).x
        assert torch.equal(found, x)
        assert (found.dtype, found.requires_grad, found.is_leaf) == (torch.float64, True, True)

    def test_tensors_that_share_their_memory_still_do(self, size):
        base = torch.zeros(size, 2)
        found = sent(base=base, view=base.T[1], alias=base.detach())
        found.base[0, 1] = 5.0
        assert found.view[0] == 5.0
        assert found.alias[0, 1] == 5.0
        assert found.view.stride() == base.T[1].stride()

    def test_arrays_that_share_their_memory_still_do(self, size):
        whole = np.zeros((size, 2))
        tensor = torch.zeros(size)
        apart = np.ones(size)
        row, again = whole[:, 1], whole.view("i8")
        found = sent(view=row, whole=whole, again=again, numbers=tensor.numpy(), tensor=tensor[1:], apart=apart)
        found.whole[1, 1] = 5.0
        assert found.view[1] == 5.0
        assert found.again.view("f8")[1, 1] == 5.0
        assert found.view.strides == row.strides
        found.tensor[0] = 7.0
        assert found.numbers.tolist()[:3] == [0.0, 7.0, 0.0]
        assert not np.shares_memory(found.apart, found.whole)
        assert whole[1, 1] == tensor[1] == 0.0

    def test_a_view_that_must_not_be_written_to_still_sees_what_is(self, size):
        whole = np.zeros(size)
        view = whole[:2]
        view.setflags(write=False)
        found = sent(whole=whole, view=view)
        found.whole[1] = 5.0
        assert (found.view[1], found.view.flags.writeable) == (5.0, False)

    def test_parameters_are_those_of_the_optimizer(self, size):
        net = torch.nn.Linear(size, 1)
        optimizer = torch.optim.Adam(net.parameters())
        net(torch.ones(1, size)).sum().backward()
        optimizer.step()
        found = sent(net=net, optimizer=optimizer)
        assert found.optimizer.param_groups[0]["params"][0] is found.net.weight
        assert torch.equal(found.optimizer.state[found.net.weight]["exp_avg"], optimizer.state[net.weight]["exp_avg"])
        assert torch.equal(found.net.weight, net.weight)
        assert torch.equal(found.net.weight.grad, net.weight.grad)

    @pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32", "bool"])
    def test_a_jax_array(self, size, dtype):
        x = jnp.arange(size).astype(dtype)
        found = sent(x=x).x
        assert isinstance(found, jax.Array)
        assert (found.dtype, found.weak_type, found.committed) == (x.dtype, False, False)
        assert bool((found == x).all())

    def test_a_jax_array_on_a_device_of_its_own(self, size):
        device = jax.devices("cpu")[0]
        found = sent(x=jax.device_put(jnp.ones(size), device)).x
        assert found.committed
        assert found.devices() == {device}

    @pytest.mark.parametrize("order", ["C", "F"])
    def test_a_numpy_array(self, size, order):
        x = np.asarray(np.arange(2.0 * size).reshape(2, size), order=order)
        x.setflags(write=False)
        found = sent(x=x).x
        assert np.array_equal(found, x)
        assert (found.flags.f_contiguous, found.flags.writeable) == (order == "F" or size == 1, False)

    def test_what_is_unpacked_is_its_own(self, size):
        x = torch.zeros(size)
        with Parcel({"x": x}, frameworks.installed()) as parcel:
            one, other = unpack_parcel(parcel.address)["x"], unpack_parcel(parcel.address)["x"]
        one += 1
        assert x[0] == 0
        assert other[0] == 0


def test_keys_and_weak_types_keep_what_they_are():
    found = sent(key=jax.random.key(3), weak=jnp.full((BIG,), 1.0, dtype=None) * 1.0, scalar=jnp.asarray(2.0))
    assert jnp.issubdtype(found.key.dtype, jax.dtypes.prng_key)
    assert bool((jax.random.key_data(found.key) == jax.random.key_data(jax.random.key(3))).all())
    assert found.scalar == 2.0


def test_functions_of_the_notebook_share_the_other_namespace():
    namespace = {"__name__": "__main__", "scale": 2.0}
    exec("def f(x): return x * scale\ndef g(x): return f(x) + 1", namespace)
    values = {"namespace": {name: namespace[name] for name in ("scale", "f", "g")}}
    there = {"__name__": "__main__"}
    with Parcel(values, frameworks.installed(), namespace) as parcel:
        there.update(unpack_parcel(parcel.address, there)["namespace"])
    assert there["f"].__globals__ is there["g"].__globals__ is there
    there["scale"] = 10.0  # as a cell does that binds it anew
    assert there["g"](1) == 11.0
    assert namespace["g"](1) == 3.0


@pytest.mark.parametrize("value", [threading.Lock(), (x for x in "ab"), torch.compile(torch.sin)])
def test_what_cannot_be_sent_is_named_with_the_way_out(value):
    with pytest.raises(FwMagicError, match=r"`broken` cannot be sent to a process of its own \(.*pickle.*--isolate"):
        sent(namespace={"fine": 1, "broken": value})


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_nothing_is_left_behind():
    gc.collect()
    before, there = descriptors(), shared_memory()
    sent(x=torch.zeros(BIG))
    with pytest.raises(FwMagicError):
        sent(x=torch.zeros(BIG), broken=threading.Lock())
    assert descriptors() == before
    assert shared_memory() - there == set()


def test_a_system_without_nameless_memory_uses_a_file_and_removes_it(monkeypatch, tmp_path):
    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    with Parcel({"x": torch.ones(BIG)}, frameworks.installed()) as parcel:
        assert len(list(tmp_path.iterdir())) == 1
        assert torch.equal(unpack_parcel(parcel.address)["x"], torch.ones(BIG))
    assert list(tmp_path.iterdir()) == []


_TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(tree=_TREES, sizes=st.lists(st.integers(0, BIG), max_size=4))
@settings(deadline=None, max_examples=40)
def test_any_tree_arrives_as_it_was(tree, sizes):
    arrays = [np.arange(size, dtype=np.uint16) for size in sizes]
    found = sent(tree=tree, arrays=arrays)
    assert found.tree == tree
    assert all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(found.arrays, arrays, strict=True))


def test_a_jitted_function_is_one_there_too():
    f = jax.jit(lambda v, n: v * n, static_argnames="n")
    found = sent(f=f).f
    assert frameworks.get("jax").is_compiled(found)
    assert found(jnp.ones(2), n=3).tolist() == found.__wrapped__(jnp.ones(2), n=3).tolist() == [3.0, 3.0]
