"""What is timed: tanh(x @ w) in torch, JAX and NumPy, of chosen length, with work planted in it if that is wanted."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import repeat
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

Call = Callable[[], Any]

#: Seconds of one call of a set-up's first framework, by the name of the length.
LENGTHS = {"2 µs": 2e-6, "20 µs": 20e-6, "150 µs": 150e-6, "1 ms": 1e-3, "5 ms": 5e-3}
#: The two lengths at which all methods are compared.
SMALL = "150 µs"
LARGE = "5 ms"
#: A `%%setup` that makes the arrays of these functions, of `size` × `size` numbers.
INPUTS = """%%setup
generator = np.random.default_rng(0)
x, w = (generator.standard_normal(({size}, {size}), dtype=np.float32) for _ in range(2))
w = w / np.float32({size}**0.5)
"""
# Sizes from four steps on are whole steps; below, a step would be most of the work.
_STEP = 32
_TRIES = 12
#: A function is timed in loops of about so many seconds.
_LOOP = 3e-4
_SPIN = 20_000


@dataclass(frozen=True)
class Setup:
    """Two functions to compare: `frameworks` of `a` and of `b`, on `size` × `size` matrices.

    `length` is how many seconds a call of `a` was to take.
    """

    name: str
    frameworks: tuple[str, str]
    size: int
    length: float

    def functions(self, turns: tuple[int, int] = (0, 0)) -> tuple[Call, Call]:
        """Return a and b; each does so many turns of an empty loop before its work, in every call."""
        first, second = (FUNCTIONS[name] for name in self.frameworks)
        return first(self.size, turns[0]), second(self.size, turns[1])


def torch_function(size: int, turns: int = 0) -> Call:
    x, w = torch_arrays(size)

    def call() -> torch.Tensor:
        for _ in repeat(None, turns):
            pass
        return torch.tanh(x @ w)

    return call


def jax_function(size: int, turns: int = 0) -> Call:
    x, w = _jax_arrays(size)
    step = jax.jit(lambda x, w: jnp.tanh(x @ w))

    def call() -> jax.Array:
        # Before the work, not after it: the work goes on in another thread when `step` returns.
        for _ in repeat(None, turns):
            pass
        return step(x, w)

    return call


def numpy_function(size: int, turns: int = 0) -> Call:
    x, w = _arrays(size)

    def call() -> np.ndarray:
        for _ in repeat(None, turns):
            pass
        return np.tanh(x @ w)

    return call


FUNCTIONS: dict[str, Callable[..., Call]] = {"torch": torch_function, "jax": jax_function, "numpy": numpy_function}


def waiting(call: Call) -> Call:
    """Return a call that waits for its result, as a user of `%timeit` has to write it."""
    if isinstance(call(), jax.Array):
        return lambda: call().block_until_ready()
    return call


def setup(framework: str, other: str, length: str) -> Setup:
    """Return the set-up of two frameworks, of one of the `LENGTHS`, sized on this machine."""
    name = framework if framework == other else f"{other}/{framework}"
    return Setup(f"{name} {length}", (framework, other), size_for(framework, LENGTHS[length]), LENGTHS[length])


@lru_cache
def size_for(framework: str, seconds: float) -> int:
    """Return the size at which an undisturbed call takes about so long; the least one if the framework is slower."""
    size = 256
    for _ in range(_TRIES):
        call = waiting(FUNCTIONS[framework](size))
        call()
        fastest = min(_seconds(call, max(3, round(_LOOP / seconds))) for _ in range(7))
        # Work grows with the cube of the size; what a call costs besides does not, so that one step is not enough.
        wanted = size * (seconds / fastest) ** (1 / 3)
        last, size = size, _STEP * round(wanted / _STEP) if wanted >= 4 * _STEP else max(1, round(wanted))
        if size == last:
            break
    return size


def turns_for(share: float, call: Call) -> tuple[int, float]:
    """Return how many turns of an empty loop take that share of a call, and the seconds of the call."""
    call = waiting(call)
    once = statistics.median(_seconds(call, 1) for _ in range(5))
    calls = max(1, round(1e-3 / once))
    each = statistics.median(_seconds(call, calls) for _ in range(15))
    turn = min(_spin_seconds() for _ in range(7))
    return round(share * each / turn), each


# Functions of one framework and size share their buffers, so that no difference of alignment is between them.
@lru_cache
def torch_arrays(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    x, w = (torch.from_numpy(array) for array in _arrays(size))
    return x, w


@lru_cache
def _jax_arrays(size: int) -> tuple[jax.Array, jax.Array]:
    x, w = (jnp.asarray(array) for array in _arrays(size))
    return x, w


@lru_cache
def _arrays(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the same two matrices for the same size, the product of which stays near 1."""
    generator = np.random.default_rng(0)
    x, w = (generator.standard_normal((size, size), dtype=np.float32) for _ in range(2))
    return x, w / np.float32(size**0.5)


def _seconds(call: Call, calls: int) -> float:
    start = time.perf_counter()
    for _ in repeat(None, calls):
        call()
    return (time.perf_counter() - start) / calls


def _spin_seconds() -> float:
    start = time.perf_counter()
    for _ in repeat(None, _SPIN):
        pass
    return (time.perf_counter() - start) / _SPIN
