"""What a framework without a compiler answers: the part of the protocol that most adapters need not write."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

from fwmagic.errors import CannotCompile, FwMagicError
from fwmagic.report import Moment, Place

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Counters:
    """What an allocator says of one device, in bytes; None: it does not say, and `why` tells the reason if it has one.

    `in_use` is what arrays have, `held` what the allocator has from the driver, in use or not; the peaks are those
    since the process began, or since they were reset.
    """

    in_use: int | None = None
    held: int | None = None
    peak_in_use: int | None = None
    peak_held: int | None = None
    source: str = ""
    why: str = ""


@dataclass(eq=False)
class Events:
    """What was recorded of an allocator: moments in their order, and where they are from; or why there are none."""

    moments: list[Moment] = field(default_factory=list)
    source: str = ""


@dataclass(frozen=True)
class Static:
    """The bytes that a compiler worked out for one program, before any run of it."""

    argument: int
    output: int
    temp: int
    alias: int

    @property
    def total(self) -> int:
        """Arguments, outputs and temporaries together; what an output shares with an argument counts once."""
        return self.argument + self.output + self.temp - self.alias


@dataclass(frozen=True)
class Device:
    """A device as the framework counts them; `uuid` is what it reports of it itself, if it does."""

    name: str
    ordinal: int
    uuid: str | None = None


class Memory(Protocol):
    """The memory of one framework's devices."""

    @property
    def inside(self) -> str:
        """What owns the threads in which no Python runs, such as `XLA`."""

    @property
    def in_threads(self) -> bool:
        """Whether threads of the framework allocate what its arrays need on the host."""

    def started(self) -> bool:
        """Say whether the framework uses a device in this process already; asking for more would make it start."""

    def device(self, wanted: str | None) -> Device | None:
        """Return the device that a cell runs on; None if it has no memory of its own, as a CPU."""

    def counters(self, device: Device) -> Counters:
        """Return the allocator's counters, with all work on the device done."""

    def reset_peak(self, device: Device) -> bool:
        """Make the peaks begin anew; False if they cannot."""

    def record(self, device: Device) -> AbstractContextManager[Events]:
        """Record what the allocator does in the block; the events are there when the block is left."""

    def empty_cache(self, device: Device) -> str:
        """Give back what is held and not in use; return how that is called, or an empty string if there is no way."""

    def in_force(self) -> dict[str, str]:
        """Return how memory is allocated in this process, as it is read back, by name."""


class HostMemory:
    """The memory of a framework that computes on the CPU only: there is no device and no allocator to ask."""

    inside = ""
    in_threads = False

    def started(self) -> bool:
        """Return False."""
        return False

    def device(self, wanted: str | None) -> Device | None:
        """Return None."""
        return None

    def counters(self, device: Device) -> Counters:
        """Return nothing."""
        return Counters(source="it has no device")

    def reset_peak(self, device: Device) -> bool:
        """Return False."""
        return False

    def record(self, device: Device) -> AbstractContextManager[Events]:
        """Record nothing."""
        return nullcontext(Events())

    def empty_cache(self, device: Device) -> str:
        """Return that there is no way."""
        return ""

    def in_force(self) -> dict[str, str]:
        """Return nothing."""
        return {}


#: The adapters of the frameworks that belong to the package, by name, which is also that of the library.
BUILT_IN = {
    "torch": "fwmagic.frameworks.torch",
    "jax": "fwmagic.frameworks.jax",
    "numpy": "fwmagic.frameworks._numpy",
}

#: Arrays of fewer bytes go to another process inside of the pickle, as any other object.
LEAST_PACKED = 1 << 16


class Kept(Protocol):
    """The saved state of one object that a framework owns, such as an array or a random generator."""

    def changed(self) -> bool:
        """Say whether the object differs from what was saved, bit for bit."""

    def restore(self) -> None:
        """Put the saved state back into the same object."""

    def children(self) -> Iterator[Any]:
        """Yield the objects that it refers to and that may change too, such as a gradient."""


@dataclass(eq=False)  # two that have logged nothing yet are two
class CompileLog:
    """What a framework compiled while it was watched.

    `stages` are seconds by name (trace, lower, backend); `compiled` counts the operations, or 1 where that is
    not known, by the name of the function that they come from; `cache` is cold, disk-warm or unknown.
    """

    stages: dict[str, float] = field(default_factory=dict)
    compiled: dict[str, int] = field(default_factory=dict)
    graphs: int | None = None
    breaks: list[Place] = field(default_factory=list)
    recompiles: list[Place] = field(default_factory=list)
    cache: str = "unknown"


@dataclass(frozen=True)
class CompileOptions:
    """What the user asked of the compiler; `mode` and `fullgraph` mean something to torch only."""

    mode: str = "default"
    fullgraph: bool = False


@dataclass(frozen=True)
class Traced:
    """A function compiled ahead of its first run: `call(*arguments)` gives its arrays, `rebuild` what it returned.

    `used` are the places of the arguments that it computes with, the only ones that it is called with; `lifted`
    counts arrays that it had captured and that are arguments now; `withheld` says why a verdict on it would not
    be honest, or is empty; `static` is the compiler's own account of its memory, if it gives one.
    """

    call: Callable[..., Any]
    arguments: tuple[Any, ...]
    rebuild: Callable[[Any], Any]
    used: tuple[int, ...]
    lifted: int = 0
    withheld: str = ""
    static: Static | None = None


class Framework(Protocol):
    """One array library: torch, JAX, NumPy, or another by the entry point group `fwmagic.frameworks`.

    `strategy` says how a body becomes one compiled function: `locals` (a function with locals, inputs as
    arguments), `namespace` (the body runs in the notebook's namespace while arrays are swapped for tracers),
    or an empty string for a framework without a compiler.
    """

    name: str
    title: str
    module: str
    strategy: str
    memory: Memory

    def names(self) -> Mapping[str, Any]:
        """Return the modules that a cell finds without an import, by name: `torch`, or `jax` and `jnp`."""

    def keep(self, value: Any) -> Kept | None:
        """Save `value` if it is an array or generator of this framework; None if it is not."""

    def is_array(self, value: Any) -> bool:
        """Say whether `value` is an array of this framework."""

    def is_stateless(self, value: Any) -> bool:
        """Say whether `value` is a C-level object of this framework with nothing to put back, such as a dtype."""

    def frozen(self, value: Any) -> Any:
        """Return an array that later runs cannot change and that equals `value`; None if it is no array."""

    def describe(self, array: Any) -> str:
        """Return dtype, shape and device of an array, as a compiled program depends on them."""

    def canonical_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """Return the dtype that an array of NumPy's `dtype` gets in this framework."""

    def from_numpy(self, array: np.ndarray[Any, Any], device: str | None) -> Any:
        """Return a private copy of a NumPy array as an array of this framework."""

    def to_numpy(self, array: Any) -> np.ndarray[Any, Any]:
        """Return an array of this framework as a NumPy array (bfloat16 widened to float32)."""

    def pack(self, value: Any, slot: Callable[[np.ndarray[Any, Any]], Any]) -> tuple[Any, ...] | None:
        """Return how another process rebuilds an array, as `object.__reduce__` does, with its numbers in `slot`.

        None: `value` is to be pickled as usual. A function that rebuilds gets the numbers as an array that it must
        copy.
        """

    def waiter(self, outputs: Any) -> Callable[[Any], Any] | None:
        """Return a function that waits until outputs of this structure are computed; None if nothing needs it."""

    def drain(self) -> None:
        """Wait until no work of this framework is under way."""

    def rng_state(self) -> Any:
        """Return the state of the global random generators."""

    def set_rng_state(self, state: Any) -> None:
        """Put a state from `rng_state` back."""

    def flags(self) -> dict[str, Any]:
        """Return the library's global settings that a cell may change, by name."""

    def set_flags(self, flags: Mapping[str, Any]) -> None:
        """Put settings from `flags` back where they differ."""

    def seed(self, seed: int) -> None:
        """Seed the global random generators."""

    def compile_events(self) -> int:
        """Return how many compilations this process has seen so far; only differences mean anything."""

    def cannot_compile(self) -> str:
        """Return why nothing can be compiled on this machine, or an empty string."""

    def prime(self) -> float:
        """Compile something trivial, once per process, so that no cell is charged for it; return the seconds."""

    def watch(self, filename: str) -> AbstractContextManager[CompileLog]:
        """Log what is compiled in the block; places are lines of the file `filename`."""

    def compile(self, function: Callable[..., Any], options: CompileOptions) -> Callable[..., Any]:
        """Return `function` compiled: at its first call, and again when its arguments call for it."""

    def trace(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Traced:
        """Compile a function of arrays that returns any tree of arrays (strategy `namespace`).

        Raises
        ------
        CannotCompile
            Tracing failed; says why, and at which line of the user's cell.
        """

    def is_traced(self, value: Any) -> bool:
        """Say whether `value` stands for an array of a trace that is going on."""

    def adopt(self, values: Iterable[Any]) -> None:
        """Let stateful objects of the framework's libraries be changed inside the trace that is going on."""

    def module_calls(self, value: Any) -> tuple[Any, str] | None:
        """Return where to put a compiled call of the module `value` (object and attribute), or None."""

    def explain(self, error: BaseException, filename: str) -> CannotCompile:
        """Return why tracing or compiling raised `error`, with the line of the user's file."""

    def eager(self) -> AbstractContextManager[Any]:
        """Run without compiling, even what the user compiled: for `--mode debug`."""

    def version(self) -> dict[str, str]:
        """Return the versions of the framework's packages, by name."""

    def device(self, wanted: str | None) -> str:
        """Return the device that a cell runs on, in words; FwMagicError if `wanted` is not here."""

    def on_device(self, wanted: str | None) -> AbstractContextManager[Any]:
        """Make what the code in the block creates on that device; None leaves everything as it is."""

    def threads(self) -> str:
        """Return how many threads the framework computes with, in words, or `unknown`."""

    def workers(self) -> int:
        """Return how many threads one computation may use at most."""

    def use_threads(self, count: int) -> None:
        """Compute with so many threads from now on; in a process in which nothing was computed yet."""

    def preload(self) -> None:
        """Import what the first compilation in a process imports, and start nothing."""

    def settings(self) -> dict[str, str]:
        """Return the flags that change speed or precision, by name."""


@cache
def _offered(path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """Return what the packages on `path`, which is `sys.path`, offer.

    Their metadata is read once, which takes some 30 ms: what is installed later is there after a restart of the kernel.
    """
    return tuple(entry_points(group="fwmagic.frameworks"))


def names() -> list[str]:
    """Return the names of all frameworks that could be asked for."""
    return [*BUILT_IN, *(point.name for point in _offered(tuple(sys.path)))]


def get(name: str) -> Framework:
    """Return the framework of that name, importing it.

    Raises
    ------
    FwMagicError
        It is not installed (says what to install), or there is no such framework.
    """
    where = BUILT_IN.get(name)
    if where is None:
        found = [point for point in _offered(tuple(sys.path)) if point.name == name]
        if not found:
            raise FwMagicError(f"There is no framework {name!r}; there are: {', '.join(names())}.")
        where = found[0].module
    try:
        adapter = importlib.import_module(where)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("fwmagic"):
            raise
        raise FwMagicError(
            f"{error.name} is not installed, so %%{name} cannot run. Install it with: pip install 'fwmagic[{name}]'"
        ) from error
    framework: Framework = adapter.FRAMEWORK
    return framework


def loaded() -> list[Framework]:
    """Return the frameworks that the process has imported already; this imports none."""
    others = [point.name for point in _offered(tuple(sys.path)) if point.module in sys.modules]
    return [get(name) for name in [*(name for name in BUILT_IN if name in sys.modules), *others]]


def installed() -> list[Framework]:
    """Return the frameworks of the package whose library is installed, importing them."""
    return [get(name) for name in BUILT_IN if find_spec(name) is not None]


def line_of(error: BaseException, filename: str) -> int | None:
    """Return the deepest line of `filename` in the traceback of an error."""
    line = None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == filename:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


class Base:
    """A framework that runs eagerly, on one device, and has nothing to wait for."""

    title = ""
    strategy = ""
    memory: Memory = HostMemory()

    def canonical_dtype(self, dtype: Any) -> Any:
        """Return the dtype itself."""
        return dtype

    def flags(self) -> dict[str, Any]:
        """Return nothing: there are no global settings."""
        return {}

    def set_flags(self, flags: Mapping[str, Any]) -> None:
        """Do nothing: there are no global settings."""

    def pack(self, value: Any, slot: Callable[[Any], Any]) -> tuple[Any, ...] | None:
        """Return None: arrays are pickled as usual."""
        return None

    def waiter(self, outputs: Any) -> Callable[[Any], Any] | None:
        """Return None: a call returns only when it is done."""
        return None

    def drain(self) -> None:
        """Do nothing: no work is under way after a call."""

    def compile_events(self) -> int:
        """Return 0: nothing is compiled."""
        return 0

    def cannot_compile(self) -> str:
        """Return that there is no compiler."""
        return f"{self.title} has no compiler"

    def prime(self) -> float:
        """Return 0: there is nothing to prime."""
        return 0.0

    def watch(self, filename: str) -> AbstractContextManager[CompileLog]:
        """Log nothing."""
        return contextlib.nullcontext(CompileLog())

    def compile(self, function: Callable[..., Any], options: CompileOptions) -> Callable[..., Any]:
        """Raise CannotCompile."""
        raise CannotCompile(self.cannot_compile())

    def trace(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Traced:
        """Raise CannotCompile."""
        raise CannotCompile(self.cannot_compile())

    def is_traced(self, value: Any) -> bool:
        """Return False: nothing is traced."""
        return False

    def adopt(self, values: Iterable[Any]) -> None:
        """Do nothing: there is no trace."""

    def module_calls(self, value: Any) -> tuple[Any, str] | None:
        """Return None: there are no modules to compile."""
        return None

    def explain(self, error: BaseException, filename: str) -> CannotCompile:
        """Return the error's class and the first line of its message."""
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")
        return CannotCompile(f"{type(error).__name__}: {first}", line_of(error, filename))

    def eager(self) -> AbstractContextManager[Any]:
        """Change nothing: everything runs eagerly."""
        return contextlib.nullcontext()

    def workers(self) -> int:
        """Return the number of cores: linear algebra libraries use all of them unless they are told otherwise."""
        return os.cpu_count() or 1

    def on_device(self, wanted: str | None) -> AbstractContextManager[Any]:
        """Change nothing: there is one device."""
        return contextlib.nullcontext()

    def preload(self) -> None:
        """Import nothing more."""
