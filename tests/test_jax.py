"""JAX's answers: waiting, draining, devices and settings."""

from __future__ import annotations

import collections
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fwmagic.errors import FwMagicError
from fwmagic.frameworks import get
from fwmagic.frameworks.jax import FRAMEWORK

JAX = get("jax")
Pair = collections.namedtuple("Pair", "a b")
STRUCTURES = {
    "array": lambda a, b: a,
    "list of one": lambda a, b: [a],
    "list": lambda a, b: [a, b],
    "tuple": lambda a, b: (a, b),
}


@pytest.mark.parametrize("gone", [False, True], ids=["as it is", "the private name gone"])
@pytest.mark.parametrize("slow_first", [True, False])
@pytest.mark.parametrize("make", STRUCTURES.values(), ids=STRUCTURES)
def test_every_array_of_flat_outputs_is_waited_for(make, slow_first, gone, monkeypatch):
    if gone:
        monkeypatch.delattr(sys.modules["jaxlib.xla_client"], "batched_block_until_ready")
    quick, big = jnp.ones(2), jnp.ones((1500, 1500))
    slow = jax.jit(lambda a: a @ a @ a)
    slow(big).block_until_ready()
    wait = JAX.waiter(make(quick, quick))
    outputs = make(slow(big), quick) if slow_first else make(quick, slow(big))
    wait(outputs)
    assert all(leaf.is_ready() for leaf in jax.tree.leaves(outputs))


@pytest.mark.parametrize(
    "make", [lambda a: {"x": [a, 2, "s"]}, lambda a: (a, None), lambda a: Pair(a, [a + 1]), lambda a: [[a]]]
)
def test_outputs_of_any_tree_are_waited_for(make, monkeypatch):
    """The program takes a while: what is waited for is ready, and was not before."""
    big = jnp.ones((1500, 1500))
    program = jax.jit(lambda a: a @ a @ a)
    program(big).block_until_ready()
    wait = JAX.waiter(make(big))
    outputs = make(program(big))
    wait(outputs)
    assert all(leaf.is_ready() for leaf in jax.tree.leaves(outputs) if isinstance(leaf, jax.Array))


@pytest.mark.parametrize("outputs", [None, (), [], 3, "text", {"a": 1}, np.ones(2), [None]])
def test_what_needs_no_waiting(outputs):
    assert JAX.waiter(outputs) is None


def test_drain_waits_for_effects():
    seen = []
    jax.jit(lambda x: jax.debug.callback(lambda y: seen.append(float(y)), x.sum()))(jnp.ones((300, 300)))
    JAX.drain()
    assert seen == [90000.0]


class TestDevice:
    def test_it_is_told(self):
        assert JAX.device(None) == JAX.device("cpu") == "cpu:0 (cpu)"

    @pytest.mark.parametrize("wanted", ["tpu", "rocm", "nonsense"])
    def test_one_that_is_not_here(self, wanted):
        with pytest.raises(FwMagicError, match=f"--device {wanted}: JAX has no {wanted} here, only .*cpu"):
            JAX.device(wanted)

    def test_a_number_that_is_not_here(self):
        with pytest.raises(FwMagicError, match=r"--device cpu:9: JAX sees 1 cpu device\(s\) here"):
            JAX.device("cpu:9")

    @pytest.mark.parametrize("wanted", ["cpu:x", "cpu:-1"])
    def test_no_number(self, wanted):
        with pytest.raises(FwMagicError, match=f"--device {wanted}"):
            JAX.device(wanted)

    def test_new_arrays_are_made_there(self):
        with JAX.on_device("cpu:0"):
            assert jax.config.jax_default_device == jax.devices("cpu")[0]
        with JAX.on_device(None):
            assert jax.config.jax_default_device is None


class TestArrays:
    def test_numbers_keep_their_values_in_the_canonical_dtype(self):
        array = np.arange(3.0)
        converted = JAX.from_numpy(array, None)
        array[0] = 9
        assert (converted.dtype, converted.tolist()) == (np.float32, [0, 1, 2])
        assert JAX.canonical_dtype(np.dtype(np.int64)) == np.int32

    def test_back_to_numpy(self):
        assert JAX.to_numpy(jnp.ones(2, jnp.bfloat16)).dtype == np.float32
        key = jax.random.key(3)
        assert JAX.to_numpy(key).tolist() == jax.random.key_data(key).tolist()
        assert JAX.to_numpy(jnp.ones(2)).tolist() == [1, 1]

    def test_what_is_frozen(self):
        array = np.zeros(1)
        copy = JAX.frozen(array)
        array[0] = 1
        assert copy == 0
        assert JAX.frozen("text") is None


def test_disabled_jit_is_the_one_thing_that_keeps_it_from_compiling():
    assert JAX.cannot_compile() == ""
    with JAX.eager():
        assert "`jax_disable_jit` is on" in JAX.cannot_compile()


def test_settings_and_versions_are_words():
    assert JAX.version().keys() == {"jax", "jaxlib"}
    with jax.default_matmul_precision("float32"):
        assert JAX.settings()["jax_default_matmul_precision"] == "float32"
    assert JAX.settings()["jax_default_matmul_precision"] == "backend default"
    assert set(JAX.settings()) == {
        *("jax_default_matmul_precision", "jax_enable_x64", "jax_disable_jit", "jax_cpu_enable_async_dispatch")
    }


def test_threads(monkeypatch):
    for name in ("NPROC", "PJRT_NPROC"):
        monkeypatch.delenv(name, raising=False)
    assert JAX.threads().startswith("unknown")
    monkeypatch.setenv("NPROC", "2")
    assert JAX.threads() == "2 by PJRT_NPROC or NPROC"


def test_there_is_no_global_generator():
    JAX.seed(1)
    JAX.set_rng_state(JAX.rng_state())
    assert JAX.rng_state() is None


def test_the_names_that_a_cell_finds():
    assert JAX.names() == {"jax": jax, "jnp": jnp, "np": np}
    assert FRAMEWORK is JAX


@pytest.mark.parametrize("make", [tuple, list])
def test_typed_keys_are_waited_for(make):
    keys = make(jax.random.split(jax.random.key(0)))
    wait = JAX.waiter(keys)
    wait(keys)
    assert all(jax.random.key_data(key).is_ready() for key in keys)
