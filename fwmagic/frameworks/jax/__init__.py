"""JAX as a framework."""

from __future__ import annotations

import contextlib
import math
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from importlib import metadata
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from fwmagic.errors import FwMagicError
from fwmagic.frameworks import Framework
from fwmagic.frameworks.arrays import Spread, aligned_copy, spread_of_numbers
from fwmagic.frameworks.compiled import CompileOptions
from fwmagic.frameworks.jax import compiler, silent, stages, state, traps, turns
from fwmagic.frameworks.jax.compiler import config
from fwmagic.frameworks.jax.memory import JaxMemory
from fwmagic.frameworks.jax.tree import Flattener, holds_itself, is_tree, leaves_of


class Jax(Framework):
    """JAX: bodies run in the notebook's namespace while arrays are swapped for tracers of `jax.jit`.

    It has no global random generator: its random state is in its keys.
    """

    name = "jax"
    title = "JAX"
    module = "jax"
    colour = "#2080C4"
    strategy = "namespace"
    engine = "XLA"
    hands_over = True
    widens = "jax.config.update('jax_enable_x64', True) before JAX makes an array"
    companions = ("flax", "flax.linen", "flax.nnx", "optax")
    compilers = (
        *("jax.jit", "jit", "jax.pmap", "pmap", "jax.shard_map"),
        *("nnx.jit", "nnx.pmap", "nn.jit", "eqx.filter_jit"),
    )
    # A class can be registered only once.
    effects = (
        *("register_pytree_node", "register_pytree_with_keys", "register_pytree_node_class", "register_dataclass"),
        *("register_pytree_with_keys_class", "register_static"),
    )
    machinery = ("jax/_src/compil", "jax/_src/cache_key", "jax/_src/lru_cache", "jax/_src/path")
    variables = ("JAX", "XLA", "TPU", "LIBTPU", "PJRT", "NPROC", "TF_", "GRPC", "TENSORSTORE", "ENABLE_RUNTIME")
    uncompiled = ("disable_jit", "clear_caches")
    pure = ("jnp",)
    readable = ((re.compile(r"\._?raw_value\b"), ""),)  # the slot of a variable of flax.nnx
    decorator = "@jax.jit"
    traced_print = "jax.debug.print"
    not_eager = (
        "Under jax.disable_jit, jax.vmap and jax.grad still trace, each operation is still compiled by itself, and "
        "static arguments, donation and the structures of loops are not checked."
    )
    memory = JaxMemory()

    def names(self) -> Mapping[str, Any]:
        """Return `jax`, `jnp` and `np`."""
        return {"jax": jax, "jnp": jnp, "np": np}

    def is_array(self, value: Any) -> bool:
        """Say whether `value` is a JAX array, and no tracer of one."""
        return isinstance(value, jax.Array) and not isinstance(value, jax.core.Tracer)

    def array_in(self, value: Any) -> Any:
        """Return the array that `value` is, or holds as a variable of flax.nnx."""
        if self.is_array(value):
            return value
        # asked of the class: an object's own `__getattr__` is the user's, and may raise anything
        return value.__jax_array__() if hasattr(type(value), "__jax_array__") else None

    def canonical_dtype(self, dtype: Any) -> Any:
        """Return the dtype that JAX makes of it: 32 bits unless `jax_enable_x64` is on, in the machine's byte order."""
        return np.dtype(jax.dtypes.canonicalize_dtype(dtype.newbyteorder("=")))

    def from_numpy(self, array: np.ndarray[Any, Any], device: str | None) -> Any:
        """Return a private copy on the device, in JAX's canonical dtype."""
        dtype = self.canonical_dtype(array.dtype)
        return jax.device_put(aligned_copy(np.asarray(array, dtype)), self._device(device))

    def to_numpy(self, array: Any) -> np.ndarray[Any, Any]:
        """Return an array as NumPy's; bfloat16 is widened to float32, a typed key becomes its numbers."""
        if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
            array = jax.random.key_data(array)
        converted = np.asarray(array)
        return converted.astype(np.float32) if converted.dtype == jnp.bfloat16 else converted

    def spread(self, array: Any) -> Spread | None:
        """Return a few numbers of an array, where it lies: on a CPU NumPy shares its memory."""
        is_numeric = array.dtype == bool or jnp.issubdtype(array.dtype, jnp.number)
        if array.is_deleted() or not is_numeric or not array.size:
            return None
        if array.is_fully_addressable and {device.platform for device in array.devices()} == {"cpu"}:
            return spread_of_numbers(np.asarray(array))
        with jax.ensure_compile_time_eval():
            low, mean, high = (float(one(array)) for one in (jnp.min, jnp.mean, jnp.max))
            if math.isfinite(low) and math.isfinite(high):
                return Spread(low, mean, high)
            place = int(jnp.argmin(jnp.isfinite(array)))
            at = tuple(int(one) for one in np.unravel_index(place, array.shape))
            return Spread(low, mean, high, float(array[at]), at)

    def frozen(self, value: Any) -> Any:
        """Return an array as it is, since it cannot change."""
        return value if isinstance(value, jax.Array) else super().frozen(value)

    describe = staticmethod(state.describe)
    keep = staticmethod(state.keep)
    is_stateless = staticmethod(state.is_stateless)
    may_donate = staticmethod(state.may_donate)
    registered = staticmethod(state.registered)
    register = staticmethod(state.register)
    forgetting = staticmethod(state.forgetting)
    spare = staticmethod(state.spare)
    nudge = staticmethod(state.nudge)

    def flags(self) -> dict[str, Any]:
        """Return JAX's whole configuration."""
        return dict(getattr(jax.config, "values", {}))

    def set_flags(self, flags: Mapping[str, Any]) -> None:
        """Put the configuration back."""
        now = self.flags()
        for name, value in flags.items():
            if now.get(name) != value:
                jax.config.update(name, value)

    def waiter(self, outputs: Any) -> Callable[[Any], Any] | None:
        """Return a function that waits for every array of outputs of this structure; None if there is none."""
        if holds_itself(outputs):
            return lambda _: self.finish()
        leaves = leaves_of(outputs)
        if not any(isinstance(leaf, jax.Array) for leaf in leaves):
            return None
        if any(isinstance(leaf, jax.Array) and leaf.is_deleted() for leaf in leaves):
            return partial(_wait_for_leaves, Flattener())
        if isinstance(outputs, jax.Array):
            # The bare method, without a Python function around it: what surrounds a timed call must cost nothing.
            wait: Callable[[Any], Any] = type(outputs).block_until_ready
            return wait
        if isinstance(outputs, list | tuple) and all(map(state.is_plain, outputs)):
            # What `jax.block_until_ready` calls, once it has looked what there is: a Python loop takes longer.
            return getattr(sys.modules.get("jaxlib.xla_client"), "batched_block_until_ready", _wait_for_flat)
        # JAX asks any leaf whether it can be waited for: an attribute of the user's own object may raise.
        known = all(isinstance(leaf, jax.Array | np.ndarray | int | float | str) for leaf in leaves)
        return jax.block_until_ready if known and is_tree(outputs) else partial(_wait_for_leaves, Flattener())

    def made_besides(self, before: Sequence[Any], waited: Any) -> bool:
        """Look through all arrays that are alive; the array behind a typed key stands for it."""
        known = {id(array) for array in before}
        arrays = (leaf for leaf in leaves_of(waited) if issubclass(type(leaf), jax.Array))
        known.update(id(getattr(array, "_base_array", array)) for array in arrays)
        return any(id(array) not in known for array in self.memory.live())

    def finish(self) -> None:
        """Wait for every array that is alive: JAX has no other barrier for plain computations."""
        for array in self.memory.live():
            if not array.is_ready():
                array.block_until_ready()

    def drain(self) -> None:
        """Wait for effects; every timed call has waited for its own outputs."""
        jax.effects_barrier()

    compile_events = staticmethod(compiler.compile_events)
    stage_of = staticmethod(compiler.stage_of)
    prime = staticmethod(compiler.prime)
    watch = staticmethod(compiler.watch)
    trace = staticmethod(compiler.trace)
    look = staticmethod(compiler.look)
    operations_traced = staticmethod(compiler.operations_traced)
    is_compiled = staticmethod(compiler.is_compiled)
    is_traced = staticmethod(compiler.is_traced)
    is_staging = staticmethod(compiler.is_staging)
    is_weak = staticmethod(compiler.is_weak)
    tracer_name = staticmethod(compiler.tracer_name)
    staging = staticmethod(compiler.staging)
    eager = staticmethod(turns.eager)
    stages_told = staticmethod(stages.telling)
    stages_of_cell = staticmethod(stages.stages_of_cell)
    advise = staticmethod(traps.advise)
    stale = staticmethod(silent.stale)
    suspects = staticmethod(silent.suspects)
    inspector = silent.JaxInspector
    adopt = staticmethod(compiler.adopt)
    explain = staticmethod(compiler.explain)
    behind = staticmethod(compiler.behind)
    hint = staticmethod(compiler.hint)

    def cannot_compile(self) -> str:
        """Return why nothing would be compiled: only a global `jax_disable_jit` does that."""
        return "`jax_disable_jit` is on, so that `jax.jit` compiles nothing" if config("jax_disable_jit") else ""

    def compile(self, function: Callable[..., Any], options: CompileOptions) -> Callable[..., Any]:
        """Return `function` jitted: arrays of its arguments and globals are traced, all else is static."""
        return compiler.Jitted(function)

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

    usual: ClassVar[Mapping[str, str]] = {
        "jax_default_matmul_precision": "backend default",
        "jax_enable_x64": "False",
        "jax_disable_jit": "False",
        "jax_cpu_enable_async_dispatch": "True",
    }

    def settings(self) -> dict[str, str]:
        """Return the flags that change speed or precision."""
        return {
            "jax_default_matmul_precision": str(config("jax_default_matmul_precision") or "backend default"),
            "jax_enable_x64": str(config("jax_enable_x64")),
            "jax_disable_jit": str(config("jax_disable_jit")),
            "jax_cpu_enable_async_dispatch": str(config("jax_cpu_enable_async_dispatch")),
        }

    def use_threads(self, count: int) -> None:
        """Give XLA's pools so many threads: it reads these variables when it starts."""
        os.environ["PJRT_NPROC"] = os.environ["NPROC"] = str(count)
        if count == 1:
            os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false".strip()

    pack = staticmethod(state.pack)

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


def _wait_for_flat(outputs: Any) -> None:
    for output in outputs:
        output.block_until_ready()


def _wait_for_leaves(flatten: Flattener, outputs: Any) -> None:
    for output in flatten(outputs)[0]:
        if isinstance(output, jax.Array) and not output.is_deleted():
            output.block_until_ready()


FRAMEWORK = Jax()
