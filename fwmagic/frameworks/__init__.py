"""What is asked of an array library: one protocol with defaults, and how its adapter is found."""

from __future__ import annotations

import copy
import importlib
import random
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from fwmagic.errors import CannotCompile, FwMagicError, message_of
from fwmagic.frameworks.arrays import Roundings, Spread, is_numpy, spread_of_numbers
from fwmagic.frameworks.compiled import CompileLog, CompileOptions, Form, Staged, Traced
from fwmagic.frameworks.memory import Memory
from fwmagic.frameworks.traps import Evidence, Failing, Inspector, Trap
from fwmagic.frameworks.untraced import Untraced
from fwmagic.report import NEUTRAL

if TYPE_CHECKING:
    import numpy as np

#: The adapters of the frameworks that belong to the package, by name, which is also that of the library.
BUILT_IN = {name: f"fwmagic.frameworks.{name}" for name in ("torch", "jax", "numpy")}

# A statement that imports, at the beginning of a line.
_IMPORT = re.compile(r"^[ \t]*(?:import|from)[ \t]+([\w.]+)", re.MULTILINE)


# State


class Kept(Protocol):
    """The saved state of one object that a framework owns, such as an array or a random generator."""

    def changed(self) -> bool:
        """Say whether the object differs from what was saved, bit for bit."""

    def restore(self) -> None:
        """Put the saved state back into the same object."""

    def children(self) -> Iterator[Any]:
        """Yield the objects that it refers to and that may change too, such as a gradient."""


# The protocol


class Framework(ABC):
    """One array library: torch, JAX, NumPy, or another by the entry point group `fwmagic.frameworks`.

    A framework says its names, and what its arrays are, how they are saved and how they are converted. Each default
    is the answer of one that runs eagerly on the CPU, has nothing to wait for and no random state of its own.

    Attributes
    ----------
    name
        What its sections are called.
    title
        How it is written in a sentence.
    module
        The package that its arrays' classes are from.
    colour
        What it is drawn in: `#RRGGBB`, to be told from the others on a light and on a dark ground.
    strategy
        How a body becomes one compiled function: `locals` (a function with locals, inputs as arguments), `namespace`
        (the body runs in the notebook's namespace while arrays are swapped for tracers), or an empty string for a
        framework without a compiler.
    engine
        What computes in threads in which no Python runs.
    usual
        The settings as the framework comes: a report names only what differs from them.
    hands_over
        Whether a call on a CPU is handed over to such a thread, which also allocates what the arrays need.
    has_views
        Whether an array may look into the memory of another one, which sees what is written to it.
    is_plain
        Whether a section that has none of its arrays is no mistake: it computes with what Python has, too.
    companions
        Modules of libraries on top of it: workers have those that the kernel has, and their objects hold its arrays.
    compilers
        Dotted names whose call compiles what the user chose.
    compiles_itself
        The method of its modules that compiles them where they are.
    uncompiled
        How dotted names end under which nothing is compiled, or nothing stays compiled.
    effects
        Names whose call does what cannot be undone: dotted, or alone where it does not matter what stands before.
    pure
        Names of modules whose functions return something and do nothing else.
    optimizers
        Types of objects that make state in their first step, which later steps find there.
    machinery
        Parts of the paths of its own files that write files or start processes behind the user's back, as compilers do.
    variables
        How the names of environment variables begin that it, or its compiler, sets behind the user's back.
    containers
        Types that a loop runs over a known number of times, as over a list.
    widens
        The call that lets it hold dtypes which it narrows by default.
    readable
        Patterns in the path to an object, and what a reader would write instead.
    decorator
        How Python says that a function is traced.
    traced_print
        What prints also in a compiled program, where `print` does only while it is traced.
    not_eager
        What `eager` does not switch off, as a sentence.
    memory
        Its devices, their allocator, and its arrays that are alive.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    module: ClassVar[str]
    colour: ClassVar[str] = NEUTRAL
    strategy: ClassVar[str] = ""
    engine: ClassVar[str] = ""
    usual: ClassVar[Mapping[str, str]] = {}
    hands_over: ClassVar[bool] = False
    has_views: ClassVar[bool] = False
    is_plain: ClassVar[bool] = False
    companions: ClassVar[tuple[str, ...]] = ()
    compilers: ClassVar[tuple[str, ...]] = ()
    compiles_itself: ClassVar[str] = ""
    uncompiled: ClassVar[tuple[str, ...]] = ()
    effects: ClassVar[tuple[str, ...]] = ()
    pure: ClassVar[tuple[str, ...]] = ()
    optimizers: ClassVar[tuple[type, ...]] = ()
    machinery: ClassVar[tuple[str, ...]] = ()
    variables: ClassVar[tuple[str, ...]] = ()
    containers: ClassVar[tuple[type, ...]] = ()
    widens: ClassVar[str] = ""
    readable: ClassVar[tuple[tuple[re.Pattern[str], str], ...]] = ()
    decorator: ClassVar[str] = ""
    traced_print: ClassVar[str] = ""
    not_eager: ClassVar[str] = ""
    memory: ClassVar[Memory] = Memory()

    # Arrays

    def names(self) -> Mapping[str, Any]:
        """Return the modules that a cell finds without an import, by name: `torch`, or `jax` and `jnp`."""
        return {self.module: importlib.import_module(self.module)}

    @abstractmethod
    def is_array(self, value: Any) -> bool:
        """Say whether `value` is an array of this framework."""

    def array_in(self, value: Any) -> Any:
        """Return the array that `value` is, or holds as a variable of a companion library; None if it is neither."""
        return value if self.is_array(value) else None

    @abstractmethod
    def from_numpy(self, array: np.ndarray[Any, Any], device: str | None) -> Any:
        """Return a private copy of a NumPy array as an array of this framework; it may have any shape and dtype.

        Raises
        ------
        FwMagicError
            The framework has no array like it.
        """

    def from_memory(
        self, block: np.ndarray[Any, Any], views: Sequence[np.ndarray[Any, Any]], device: str | None
    ) -> list[Any]:
        """Return arrays like the views, which look into one block of private memory, as they look into it.

        None for a view that the framework cannot have. The default is that of one whose arrays never change.
        """
        return [self.from_numpy(view, device) for view in views]

    @abstractmethod
    def to_numpy(self, array: Any) -> np.ndarray[Any, Any]:
        """Return an array of this framework as a NumPy array (bfloat16 widened to float32)."""

    def canonical_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """Return the dtype that an array of NumPy's `dtype` gets in this framework."""
        return dtype

    def frozen(self, value: Any) -> Any:
        """Return an array that equals `value`, also one of NumPy's, and that later runs cannot change; or None."""
        if is_numpy(value):
            return value.copy()
        return copy.deepcopy(value) if self.is_array(value) else None

    def describe(self, array: Any) -> str:
        """Return dtype, shape and device of an array, as a compiled program depends on them."""
        return " ".join(self.memory.label(array))

    # State

    @abstractmethod
    def keep(self, value: Any) -> Kept | None:
        """Save `value` if it is an array or generator of this framework; None if it is not, or cannot be saved."""

    def counters(self, arrays: Iterable[Any]) -> Callable[[], None]:
        """Return what sets the counts of changes in place, which the library keeps of these arrays, to what they are.

        It is called when the arrays hold again what they hold now: else the library would take them for changed.
        """
        return _nothing

    def is_stateless(self, value: Any) -> bool:
        """Say whether `value` is a C-level object of this framework with nothing to put back, such as a dtype."""
        return False

    def holds_flag(self, path: str) -> bool:
        """Say whether an attribute of a module of this framework, by its whole path, is one of its `flags`."""
        return False

    def operators(self) -> list[Any]:
        """Return the operators that users have registered, and which code reaches by a name of the framework alone."""
        return []

    def may_donate(self, value: Any) -> bool:
        """Say whether a call of `value` may use its arguments up, so that the arrays are gone afterwards."""
        return False

    def forgetting(self, value: Any) -> Callable[[], None] | None:
        """Return what makes a compiled function forget all that it compiles; None if it has compiled something yet."""
        return None

    def spare(self, value: Any) -> Any:
        """Return a copy of an array, for a call that may use it up; None if no call does that to such arrays."""
        return None

    def nudge(self, arrays: Sequence[Any], roundings: Roundings) -> dict[int, Any]:
        """Change the numbers of arrays by about one rounding each.

        Return what is to stand for those that cannot be changed in place, by the `id` of these. Of what was just
        computed, anything may be among them; and what only looks at another array stays as it is.
        """
        return {}

    def rng_state(self) -> Any:
        """Return the state of the global random generators."""
        return None

    def set_rng_state(self, state: Any) -> None:
        """Put a state from `rng_state` back."""

    def seed(self, seed: int) -> None:
        """Seed the global random generators."""

    def other_seeds(self) -> AbstractContextManager[Any]:
        """Let what seeds the global generators in the block take another seed than it is given."""
        return nullcontext()

    def flags(self) -> dict[str, Any]:
        """Return the library's global settings that a cell may change, by name."""
        return {}

    def set_flags(self, flags: Mapping[str, Any]) -> None:
        """Put settings from `flags` back where they differ."""

    # Waiting

    def waiter(self, outputs: Any) -> Callable[[Any], Any] | None:
        """Return a function that waits until outputs of this structure are computed; None if nothing needs it."""
        return None

    def made_besides(self, before: Sequence[Any], waited: Any) -> bool:
        """Say whether an array is alive that was not `before`, may be late, and is found by no waiter of `waited`."""
        return False

    def finish(self) -> None:
        """Wait until every array that is alive is computed, whoever holds it."""
        self.drain()

    def drain(self) -> None:
        """Wait until no work of this framework is under way, but for that of arrays that were waited for."""

    # Compiling

    def compile_events(self) -> int:
        """Return how many compilations this process has seen so far (only differences mean anything); -1: untold."""
        return 0

    def cannot_compile(self) -> str:
        """Return why nothing can be compiled on this machine, or an empty string."""
        return f"{self.title} has no compiler"

    def prime(self) -> float:
        """Compile something trivial, once per process, so that no cell is charged for it; return the seconds."""
        return 0.0

    def watch(self, filename: str) -> AbstractContextManager[CompileLog]:
        """Log what is compiled in the block; places are lines of the file `filename`."""
        return nullcontext(CompileLog())

    def compile(self, function: Callable[..., Any], options: CompileOptions) -> Callable[..., Any]:
        """Return `function` compiled: at its first call, and again when its arguments call for it."""
        raise CannotCompile(self.cannot_compile())

    def trace(self, function: Callable[..., Any], arguments: tuple[Any, ...], filename: str = "") -> Traced:
        """Compile a function of arrays that returns any tree of arrays (strategy `namespace`), with all of its work.

        Lines are those of the file `filename`.

        Raises
        ------
        CannotCompile
            Tracing failed; says why, and at which line of the user's cell.
        """
        raise CannotCompile(self.cannot_compile())

    def worked_outside(self, run: Callable[[], Any], filename: str) -> Untraced:
        """Run something plainly, and return what that did outside of the framework (strategy `locals`)."""
        return Untraced()

    def operations(self, run: Callable[[], Any], most: int, seconds: float) -> float:
        """Return into how many operations a compiler unrolls what takes so many seconds, or a number above `most`."""
        return 0.0

    def look(self, function: Callable[..., Any], arguments: tuple[Any, ...], filename: str = "") -> Traced:
        """Trace a function as `trace` does, and compile nothing: what comes of it cannot be called."""
        raise CannotCompile(self.cannot_compile())

    def operations_traced(self) -> int:
        """Return how many operations the trace that is going on consists of so far; 0 where that is not told."""
        return 0

    def is_traced(self, value: Any) -> bool:
        """Say whether `value` stands for an array of a trace that is going on."""
        return False

    def adopt(self, values: Iterable[Any]) -> None:
        """Let stateful objects of the companion libraries be changed inside the trace that is going on."""

    def is_compiled(self, value: Any) -> bool:
        """Say whether calling `value` runs what the user had compiled, as `jax.jit` and `torch.compile` return it."""
        return False

    def module_calls(self, value: Any) -> tuple[Any, str] | None:
        """Return where to put a compiled call of the module `value` (object and attribute), or None."""
        return None

    def explain(self, error: BaseException, filename: str) -> CannotCompile:
        """Return why tracing or compiling raised `error`, with the line of the user's file."""
        return CannotCompile(f"{type(error).__name__}: {first_line(error)}", line_of(error, filename))

    def hint(self, error: BaseException) -> str:
        """Return what to write instead of what raised `error`, where the framework's own message does not say."""
        return ""

    def add_hint(self, error: BaseException) -> None:
        """Let the traceback of an error that the user's code raised end with the hint, once."""
        hint = self.hint(error)
        if hint and hint not in getattr(error, "__notes__", ()):
            error.add_note(hint)

    def advise(self, failing: Failing, evidence: Evidence) -> Trap | None:
        """Return what an error means that the framework raised in the user's code; None: it is any other error."""
        return None

    def suspects(self, evidence: Evidence) -> Iterable[Trap]:
        """Return what went wrong without an error, as far as two runs of the cell show it."""
        return ()

    def stale(self, evidence: Evidence) -> Iterable[Trap]:
        """Return what a trace read that changes later, where two runs differ and nothing else explains it."""
        return ()

    def inspector(self) -> Inspector:
        """Return what looks at each statement of one plain run."""
        return Inspector()

    def eager(self) -> AbstractContextManager[Any]:
        """Run without compiling, even what the user compiled: for `--debug`."""
        return nullcontext()

    def spread(self, array: Any) -> Spread | None:
        """Return a few numbers that tell of an array, without copying it; None: it has none that could be told."""
        return spread_of_numbers(self.to_numpy(array))

    def is_staging(self) -> bool:
        """Say whether what runs now is being traced, so that it will not run again."""
        return False

    def is_weak(self, value: Any) -> bool:
        """Say whether a value takes the dtype of what it is computed with, so that another program is made for it."""
        return False

    def tracer_name(self, value: Any) -> str:
        """Return what to call a value that stands for an array while something is traced; empty: it is none."""
        return "tracer" if self.is_traced(value) else ""

    def staging(self, tell: Callable[[list[Staged]], None], anew: bool) -> AbstractContextManager[Any]:
        """Let what is compiled in the block be traced, and nothing more where the framework can leave it at that.

        `tell` is called for each trace in which Python does not run, with what it made. `anew`: also what was traced
        before is to be traced.
        """
        return nullcontext()

    def left_alone(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that the compiler leaves alone, also where it is called amid what is compiled."""
        return function

    def stages_told(
        self, namespace: dict[str, Any], tell: Callable[[list[Form]], None], filename: str
    ) -> AbstractContextManager[Any]:
        """Tell the forms of each program that is compiled in the block; in it, also names of a notebook may differ.

        Lines are those of the file `filename`. It is entered outside of `staging`.
        """
        return nullcontext()

    def stages_of_cell(self, function: Callable[..., Any], arguments: tuple[Any, ...], filename: str) -> list[Form]:
        """Return the forms of a function of arrays that returns any tree of arrays (strategy `namespace`)."""
        return []

    def behind(self, value: Any) -> Any:
        """Return the array with numbers that stands behind one that is being differentiated or batched, or `value`."""
        return value

    def calls_told(self, tell: Callable[[Any, Any], None]) -> AbstractContextManager[Any]:
        """Tell, in the block, of each call of a function that is no Python: its arguments, and what it gave or changed.

        Functions that are Python are seen without it.
        """
        return nullcontext()

    def habits(self, other: str) -> Mapping[str, str]:
        """Return in words what its code does by default, and that of another framework does not, each under a name.

        `{}` stands in them for the section that does so.
        """
        return {}

    def without_habit(self, habit: str, met: set[str]) -> AbstractContextManager[Any]:
        """Let code in the block do what others do instead of one of the habits, or instead of none of them if empty.

        `met` gets the names of all habits that the code shows. State may be changed for that, and is not put back.
        """
        return nullcontext()

    def is_compiler_frame(self, function: str, file: str) -> bool:
        """Say whether a frame on a stack calls what the compiler made, or is a rest of a function that it rewrote.

        The function above such a frame stands at the line of its `def`, and not at the one that runs.
        """
        return False

    def is_generated(self, file: str) -> bool:
        """Say whether code was written by the compiler, by the name of its file."""
        return False

    def stage_of(self, file: str) -> str:
        """Return the stage of a compilation in which code of a file runs: trace, lower, backend, first run, or none."""
        return ""

    # Conditions

    def version(self) -> dict[str, str]:
        """Return the versions of the framework's packages, by name."""
        return {self.module: str(getattr(importlib.import_module(self.module), "__version__", "unknown"))}

    def device(self, wanted: str | None) -> str:
        """Return the device that a cell runs on, in words; FwMagicError if `wanted` is not here."""
        if wanted not in (None, "cpu"):
            raise FwMagicError(f"--device {wanted}: {self.title} computes on the CPU only; leave --device out.")
        return "CPU"

    def on_device(self, wanted: str | None) -> AbstractContextManager[Any]:
        """Make what the code in the block creates on that device; None leaves everything as it is."""
        self.device(wanted)
        return nullcontext()

    def threads(self) -> str:
        """Return how many threads the framework computes with, in words, or `unknown`."""
        return "unknown"

    def settings(self) -> dict[str, str]:
        """Return the flags that change speed or precision, by name."""
        return {}

    def unusual_settings(self) -> dict[str, str]:
        """Return those of the settings that are not as the framework comes: a report names no others."""
        return {name: value for name, value in self.settings().items() if self.usual.get(name) != value}

    # Processes

    def use_threads(self, count: int) -> None:
        """Compute with so many threads from now on; in a process in which nothing was computed yet."""

    def preload(self) -> None:
        """Import what the first compilation in a process imports, and start nothing."""

    def pack(self, value: Any, slot: Callable[[np.ndarray[Any, Any]], Any]) -> tuple[Any, ...] | None:
        """Return how another process rebuilds an array, as `object.__reduce__` does, with its numbers in `slot`.

        None: `value` is to be pickled as usual. A function that rebuilds gets the numbers as an array that it must
        copy, or, where that can be written to, must take as it is: another one looks into the same memory.
        """
        return None

    def registered(self, kind: type) -> Any:
        """Return how a class of the user is registered here, as `register` takes it in another process; None: not."""
        return None

    def register(self, kind: type, how: Any) -> None:
        """Register a class as it is registered in the process that it comes from."""


def _nothing() -> None:
    pass


# How they are found


@cache
def _offered_frameworks(path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """Return what the packages on `path`, which is `sys.path`, offer.

    Their metadata is read once, which takes some 30 ms: what is installed later is there after a restart of the kernel.
    """
    return tuple(entry_points(group="fwmagic.frameworks"))


def names() -> list[str]:
    """Return the names of all frameworks that could be asked for."""
    return [*BUILT_IN, *(point.name for point in _offered_frameworks(tuple(sys.path)))]


def get(name: str) -> Framework:
    """Return the framework of that name, importing it.

    Raises
    ------
    FwMagicError
        It is not installed (says what to install), it cannot be imported (says why), or there is no such framework.
    """
    where = BUILT_IN.get(name)
    if where is None:
        found = [point for point in _offered_frameworks(tuple(sys.path)) if point.name == name]
        if not found:
            raise FwMagicError(f"There is no framework {name!r}; there are: {', '.join(names())}.")
        where = found[0].module
    try:
        with nullcontext() if where in sys.modules else _generators_kept():
            adapter = importlib.import_module(where)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("fwmagic"):
            raise
        package = f"'fwmagic[{name}]'" if name in BUILT_IN else error.name
        raise FwMagicError(
            f"{error.name} is not installed, so %%{name} cannot run. Install it with: pip install {package}"
        ) from error
    except Exception as error:  # whatever a broken installation raises
        raise FwMagicError(
            f"{name} cannot be imported, so %%{name} cannot run ({type(error).__name__}: {first_line(error)}). "
            f"`import {name}` in a cell of its own shows the whole error."
        ) from error
    framework: Framework = adapter.FRAMEWORK
    return framework


@contextmanager
def _generators_kept() -> Iterator[None]:
    """Put the global generators back afterwards: a library may draw numbers while it is imported."""
    numpy = sys.modules.get("numpy.random")
    state, drawn = random.getstate(), None if numpy is None else numpy.get_state(legacy=False)
    try:
        yield
    finally:
        random.setstate(state)
        if numpy is not None:
            numpy.set_state(drawn)


def loaded() -> list[Framework]:
    """Return the frameworks whose library the process has imported already; this imports none.

    The name of one of another package may be that of its library; else it counts from its first use.
    """
    points = [
        point for point in _offered_frameworks(tuple(sys.path)) if {point.name, point.module} & sys.modules.keys()
    ]
    return [get(name) for name in [*(name for name in BUILT_IN if name in sys.modules), *(p.name for p in points)]]


def installed() -> list[Framework]:
    """Return the frameworks of the package whose library is installed and can be imported, importing them."""
    return _able(BUILT_IN)


def imported_in(text: str) -> list[Framework]:
    """Return the frameworks of the package that some code is going to import, importing them if they can be."""
    roots = {name.partition(".")[0] for name in _IMPORT.findall(text)}
    return _able(name for name in BUILT_IN if name in roots)


def _able(names: Iterable[str]) -> list[Framework]:
    found = []
    for name in names:
        with suppress(FwMagicError):  # whoever asks for that one hears of it
            found += [get(name)] if find_spec(name) is not None else []
    return found


# What several of them need


def same_state(left: Any, right: Any) -> bool:
    """Compare states of random generators: numbers, texts and arrays, in dicts, lists and tuples."""
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same_state(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same_state, left, right))
    equal = left == right
    return bool(equal.all() if hasattr(equal, "all") else equal)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message that says anything."""
    return next((line.strip() for line in message_of(error).splitlines() if line.strip()), "no message")


def line_of(error: BaseException, filename: str) -> int | None:
    """Return the deepest line of `filename` in the traceback of an error."""
    line = None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == filename:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
