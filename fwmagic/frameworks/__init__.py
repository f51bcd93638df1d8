"""What a framework offers to the rest of the package, and how one is found by its name."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

from fwmagic.errors import CannotCompile, FwMagicError
from fwmagic.frameworks.memory import Memory, Static
from fwmagic.report import Place

if TYPE_CHECKING:
    import numpy as np

#: The adapters of the frameworks that belong to the package, by name, which is also that of the library.
BUILT_IN = {
    "torch": "fwmagic.frameworks._torch",
    "jax": "fwmagic.frameworks._jax",
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
    not known, by the name of the function that they come from; `cache` is cold, disk-warm or unknown. Where this
    version of the framework does not tell what it compiles, `told` is False and a name that is not there means nothing.
    """

    stages: dict[str, float] = field(default_factory=dict)
    compiled: dict[str, int] = field(default_factory=dict)
    told: bool = True
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
