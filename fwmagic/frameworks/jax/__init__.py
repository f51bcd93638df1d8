"""JAX as a framework."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from importlib import metadata
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fwmagic.errors import CannotCompile, FwMagicError
from fwmagic.frameworks import Base, CompileLog, CompileOptions, Kept, Traced
from fwmagic.frameworks.jax import compiler
from fwmagic.frameworks.jax import state as _state
from fwmagic.frameworks.jax.compiler import config
from fwmagic.frameworks.jax.memory import JaxMemory


class Jax(Base):
    """JAX: bodies run in the notebook's namespace while arrays are swapped for tracers of `jax.jit`."""

    name = "jax"
    title = "JAX"
    module = "jax"
    strategy = "namespace"
    memory = JaxMemory()

    def names(self) -> Mapping[str, Any]:
        """Return `jax`, `jnp` and `np`."""
        return {"jax": jax, "jnp": jnp, "np": np}

    def keep(self, value: Any) -> Kept | None:
        """Save an array: it cannot change, but donation deletes it."""
        return _state.keep(value)

    def is_array(self, value: Any) -> bool:
        """Say whether `value` is a JAX array."""
        return _state.is_array(value)

    def is_stateless(self, value: Any) -> bool:
        """Say whether `value` is a device, a sharding, a jitted function or the like."""
        return _state.is_stateless(value)

    def frozen(self, value: Any) -> Any:
        """Return an array as it is, since it cannot change, or a copy of a NumPy array."""
        if isinstance(value, np.ndarray):
            return value.copy()
        return value if isinstance(value, jax.Array) else None

    def describe(self, array: Any) -> str:
        """Return dtype, weak type, shape and device, as a trace depends on them."""
        return _state.describe(array)

    def canonical_dtype(self, dtype: Any) -> Any:
        """Return the dtype that JAX makes of it: 32 bits unless `jax_enable_x64` is on."""
        return np.dtype(jax.dtypes.canonicalize_dtype(dtype))

    def from_numpy(self, array: np.ndarray[Any, Any], device: str | None) -> Any:
        """Return a private copy on the device, in JAX's canonical dtype."""
        dtype = jax.dtypes.canonicalize_dtype(array.dtype)
        return jax.device_put(np.array(array, dtype=dtype, copy=True), self._device(device))

    def to_numpy(self, array: Any) -> np.ndarray[Any, Any]:
        """Return an array as NumPy's; bfloat16 is widened to float32, a typed key becomes its numbers."""
        if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
            array = jax.random.key_data(array)
        converted = np.asarray(array)
        return converted.astype(np.float32) if converted.dtype == jnp.bfloat16 else converted

    def pack(self, value: Any, slot: Callable[[Any], Any]) -> tuple[Any, ...] | None:
        """Return how to rebuild an array in another process."""
        return _state.pack(value, slot)

    def waiter(self, outputs: Any) -> Callable[[Any], Any] | None:
        """Return a function that waits for every array of outputs of this structure; None if there is none."""
        if not any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(outputs)):
            return None
        if isinstance(outputs, jax.Array):
            # The bare method, without a Python function around it: what surrounds a timed call must cost nothing.
            wait: Callable[[Any], Any] = type(outputs).block_until_ready
            return wait
        if isinstance(outputs, list | tuple) and all(isinstance(value, jax.Array) for value in outputs):
            if len(outputs) == 1:
                return _wait_for_one
            return _wait_for_flat
        return jax.block_until_ready

    def drain(self) -> None:
        """Wait for effects; every timed call has waited for its own outputs."""
        jax.effects_barrier()

    def rng_state(self) -> Any:
        """Return None: JAX has no global generator."""
        return _state.rng_state()

    def set_rng_state(self, state: Any) -> None:
        """Do nothing: JAX has no global generator."""
        _state.set_rng_state(state)

    def flags(self) -> dict[str, Any]:
        """Return JAX's whole configuration."""
        return dict(getattr(jax.config, "values", {}))

    def set_flags(self, flags: Mapping[str, Any]) -> None:
        """Put the configuration back."""
        now = self.flags()
        for name, value in flags.items():
            if now.get(name) != value:
                jax.config.update(name, value)

    def seed(self, seed: int) -> None:
        """Do nothing: JAX has no global generator."""
        _state.seed(seed)

    def compile_events(self) -> int:
        """Return how many backend compilations were seen."""
        return compiler.compile_events()

    def cannot_compile(self) -> str:
        """Return why nothing would be compiled: only a global `jax_disable_jit` does that."""
        return "`jax_disable_jit` is on, so that `jax.jit` compiles nothing" if config("jax_disable_jit") else ""

    def prime(self) -> float:
        """Start the backend and compile one trivial function."""
        return compiler.prime()

    def watch(self, filename: str) -> AbstractContextManager[CompileLog]:
        """Log what JAX compiles."""
        return compiler.watch(filename)

    def compile(self, function: Callable[..., Any], options: CompileOptions) -> Callable[..., Any]:
        """Return `function` jitted: arrays of its arguments and globals are traced, all else is static."""
        from fwmagic.frameworks.jax.compiler import Jitted

        return Jitted(function)

    def trace(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Traced:
        """Compile a function of arrays ahead of its first run."""
        return compiler.trace(function, arguments)

    def is_traced(self, value: Any) -> bool:
        """Say whether `value` is a tracer."""
        return compiler.is_traced(value)

    def adopt(self, values: Iterable[Any]) -> None:
        """Let flax.nnx objects be changed in the trace that is going on."""
        compiler.adopt(values)

    def explain(self, error: BaseException, filename: str) -> CannotCompile:
        """Return why tracing raised."""
        return compiler.explain(error, filename)

    def eager(self) -> AbstractContextManager[Any]:
        """Run under `jax.disable_jit`."""
        context: AbstractContextManager[Any] = jax.disable_jit()
        return context

    def version(self) -> dict[str, str]:
        """Return the versions of JAX and jaxlib."""
        return {"jax": jax.__version__, "jaxlib": metadata.version("jaxlib")}

    def device(self, wanted: str | None) -> str:
        """Return the device in words."""
        device = self._device(wanted)
        return f"{device.platform}:{device.id} ({device.device_kind})"

    def on_device(self, wanted: str | None) -> AbstractContextManager[Any]:
        """Make new arrays on that device."""
        context: AbstractContextManager[Any] = jax.default_device(self._device(wanted))
        return context if wanted else contextlib.nullcontext()

    def threads(self) -> str:
        """Return what sets the size of XLA's pool; JAX does not tell the size itself."""
        named = os.environ.get("PJRT_NPROC") or os.environ.get("NPROC")
        return f"{named} by PJRT_NPROC or NPROC" if named else "unknown: XLA starts one for each core by default"

    def workers(self) -> int:
        """Return what sets the size of XLA's pool on a CPU, or the number of cores."""
        named = os.environ.get("PJRT_NPROC") or os.environ.get("NPROC") or ""
        return int(named) if named.isdigit() else super().workers()

    def use_threads(self, count: int) -> None:
        """Give XLA's pools so many threads: it reads these variables when it starts."""
        os.environ["PJRT_NPROC"] = os.environ["NPROC"] = str(count)
        if count == 1:
            os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false".strip()

    def settings(self) -> dict[str, str]:
        """Return the flags that change speed or precision."""
        return {
            "jax_default_matmul_precision": str(config("jax_default_matmul_precision") or "backend default"),
            "jax_enable_x64": str(config("jax_enable_x64")),
            "jax_disable_jit": str(config("jax_disable_jit")),
            "jax_cpu_enable_async_dispatch": str(config("jax_cpu_enable_async_dispatch")),
        }

    def _device(self, wanted: str | None) -> Any:
        if wanted is None:
            chosen = config("jax_default_device") or jax.devices()[0]
            return jax.devices(chosen)[0] if isinstance(chosen, str) else chosen
        platform, _, index = wanted.partition(":")
        try:
            devices = jax.devices(platform)
        except RuntimeError as error:
            have = sorted({device.platform for device in jax.devices()})
            raise FwMagicError(
                f"--device {wanted}: JAX has no {platform} here, only {', '.join(have)}; leave --device out."
            ) from error
        if index and not (index.isdecimal() and int(index) < len(devices)):
            raise FwMagicError(f"--device {wanted}: JAX sees {len(devices)} {platform} device(s) here.")
        return devices[int(index or 0)]


def _wait_for_one(outputs: Any) -> None:
    outputs[0].block_until_ready()


def _wait_for_flat(outputs: Any) -> None:
    for output in outputs:
        output.block_until_ready()


FRAMEWORK = Jax()
