"""jax.jit, and what JAX says of it: a cell traced ahead of its run, and notebook functions compiled as they stand."""

from __future__ import annotations

import functools
import operator
import secrets
import sys
import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import PurePath
from types import FunctionType
from typing import Any

import jax
import numpy as np

from fwmagic.errors import CannotCompile
from fwmagic.frameworks import first_line, line_of
from fwmagic.frameworks.compiled import MOST_TRACED, CompileLog, Static, Traced
from fwmagic.frameworks.jax.jaxpr import (
    arithmetic,
    captured_constants,
    coarsest,
    evaluate,
    gone_through,
    repeated,
    unread,
    used_arguments,
)
from fwmagic.frameworks.jax.tree import Flattener, flatten, holds_itself, leaves_of
from fwmagic.frameworks.least import Least
from fwmagic.frameworks.untraced import Untraced, is_file_of_user, watched
from fwmagic.libraries import module_of

#: The packages in which the work of a cell is meant to be done.
PACKAGES = ("jax", "flax", "optax")

_STAGES = {
    "/jax/core/compile/jaxpr_trace_duration": "trace",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "lower",
    "/jax/core/compile/backend_compile_duration": "backend",
}
# The modules of JAX in which they take place.
_STAGE_OF = {
    "jax/_src/interpreters/partial_eval.py": "trace",
    "jax/_src/interpreters/mlir.py": "lower",
    "jax/_src/compiler.py": "backend",
}
# Of a program that does so many times the work that is written: seconds, at least, that one of these operations on
# numbers takes on a CPU, and that Python takes to hand over one of its operations where it is not compiled.
_MOST_TIMES, _EACH, _DISPATCH = 4, 1e-9, 5e-6
_events = 0
_logs: list[CompileLog] = []


@functools.cache
def listen() -> None:
    """Count compilations from now on; the listener fires only when JAX traces or compiles."""

    def duration(event: str, duration_secs: float, **details: str | int) -> None:
        global _events
        stage = _STAGES.get(event)
        if stage is None:
            return
        if stage == "backend":
            _events += 1
        for log in _logs:
            log.stages[stage] = log.stages.get(stage, 0.0) + duration_secs
            if stage == "backend" and "fun_name" in details:
                name = str(details["fun_name"]).removeprefix("jit(").removesuffix(")")
                log.compiled[name] = log.compiled.get(name, 0) + 1
            elif stage == "backend":  # before JAX 0.6.1
                log.told = False

    def happened(event: str, **_: Any) -> None:
        for log in _logs:
            if event == "/jax/compilation_cache/cache_hits":
                log.cache = "disk-warm"
            elif event == "/jax/compilation_cache/cache_misses":
                log.cache = "cold"

    jax.monitoring.register_event_duration_secs_listener(duration)
    jax.monitoring.register_event_listener(happened)


def config(name: str) -> Any:
    """Return the value of a flag of JAX's configuration, or `unknown` if this JAX has no such flag."""
    try:
        return getattr(jax.config, name) if hasattr(jax.config, name) else jax.config._read(name)
    except AttributeError:
        return "unknown"


def compile_events() -> int:
    """Return how many backend compilations were seen since this was first asked."""
    listen()
    return _events


def stage_of(file: str) -> str:
    """Return the stage of a compilation in which code of a file runs, if in any: of nested frames, the innermost."""
    path = PurePath(file).as_posix()
    return next((stage for end, stage in _STAGE_OF.items() if path.endswith(end)), "")


@functools.cache
def prime() -> float:
    """Start the backend and compile one trivial function; return the seconds."""
    listen()
    start = time.perf_counter()
    jax.block_until_ready(jax.jit(lambda x: x + 1)(np.zeros(8, np.float32)))
    return time.perf_counter() - start


@contextmanager
def watch(filename: str) -> Iterator[CompileLog]:
    """Log what JAX compiles in the block."""
    listen()
    log = CompileLog(cache="unknown" if config("jax_compilation_cache_dir") else "cold")
    _logs.append(log)
    try:
        yield log
    finally:
        _logs.remove(log)


def trace(function: Callable[..., Any], arguments: tuple[Any, ...], filename: str = "") -> Traced:
    """Trace, lower and compile a function of arrays; captured arrays become arguments, and nothing is left out.

    JAX folds what it captured as a constant, so that nothing of the work may be left at run time. A function
    that was jitted before may still hold arrays of the user: these are found in the jaxpr and lifted. XLA leaves out
    what no output needs: what the text computes and nothing reads is an output, too.

    Raises
    ------
    CannotCompile
        A result holds traced values in an object that JAX cannot take apart, there is no array in the results, the
        function consists of too many operations, or its program computes most of them many times over.
    jax.errors.JAXTypeError
        And whatever else the traced function raises.
    """
    shape: list[Any] = []
    pending = [function]

    def flat(*arrays: Any) -> Any:
        results = pending[0](*arrays)
        if holds_itself(results):
            raise CannotCompile("a result holds itself, or is nested too deep for JAX to take apart")
        leaves, tree = flatten(results)
        for leaf in leaves:
            if _hides_arrays(leaf):
                raise CannotCompile(f"a result of type {type(leaf).__name__} holds arrays that JAX cannot take apart")
        # XLA would write an array that goes by two names twice.
        once = {id(leaf): leaf for leaf in leaves if isinstance(leaf, jax.Array)}
        places = {key: _Place(place) for place, key in enumerate(once)}
        shape[:] = [tree, [places.get(id(leaf), leaf) for leaf in leaves]]
        found = [*once.values()]
        return found[0] if len(found) == 1 else found  # one array is waited for in less time than a list of one

    def rebuild(outputs: Any) -> Any:
        tree, static = shape
        computed = [outputs] if isinstance(outputs, jax.Array) else outputs
        return jax.tree.unflatten(tree, [computed[leaf.place] if isinstance(leaf, _Place) else leaf for leaf in static])

    flat.__name__ = function.__name__
    jitted = jax.jit(flat)
    traced = jitted.trace(*arguments)
    pending.clear()  # the program outlives the cell, whose state it must not keep alive
    closed = traced.jaxpr
    if not closed.jaxpr.outvars and not closed.effects:
        raise CannotCompile("the cell returns no array, so that all of its work would be dropped")
    if len(closed.jaxpr.eqns) > MOST_TRACED:
        raise CannotCompile(f"it consists of {len(closed.jaxpr.eqns):,} operations when its loops are unrolled")
    captured: dict[int, Any] = {}
    hidden = captured_constants(closed.jaxpr, closed.consts, captured, nested=False)
    withheld = f"{hidden} array(s) captured inside of a loop or a branch are constants to XLA" if hidden else ""
    used = used_arguments(closed.jaxpr)
    rest = unread(closed.jaxpr, filename)
    again = repeated(closed.jaxpr, filename)
    least = Least(arithmetic(closed.jaxpr, rest.variables), gone_through(closed.jaxpr), spacing=coarsest(closed.jaxpr))
    if not captured and len(used) == len(arguments) and not rest.variables:
        account = _built(traced, len(closed.jaxpr.eqns))
        return Traced(jitted, arguments, rebuild, used, withheld=withheld, static=account, repeated=again, least=least)
    constants = list(captured.values())

    def cell(values: list[Any], *inputs: Any) -> Any:
        given = dict(zip(captured, values, strict=True))
        every: list[Any] = [None] * len(closed.jaxpr.invars)
        for place, value in zip(used, inputs, strict=True):
            every[place] = value
        outputs = evaluate(closed.jaxpr, closed.consts, every, given, rest.variables)
        return outputs[0] if len(outputs) == 1 else outputs

    cell.__name__ = function.__name__
    program = jax.jit(cell)
    inputs = tuple(arguments[place] for place in used)
    account = _built(program.trace(constants, *inputs), len(closed.jaxpr.eqns))
    given = (constants, *inputs)
    return Traced(program, given, rebuild, used, len(constants), withheld, account, rest.lines, again, least)


def _built(traced: Any, operations: int) -> Static | None:
    """Compile what was traced, and return the static analysis of the program.

    XLA writes values into what uses them, and computes them anew in each: where each turn of a loop uses a value some
    times, that is more work than all that is saved. How much is counted, so that a cell goes the same way every time.

    Raises
    ------
    CannotCompile
        This would take longer than one operation after the other, on a CPU.
    """
    lowered = traced.lower()
    compiled = lowered.compile()
    least, done = (_arithmetic_of(program) for program in (lowered, compiled))
    anew = _EACH * (done - least) > _DISPATCH * operations
    if least and done > _MOST_TIMES * least and anew and jax.default_backend() == "cpu":
        why = "it would compute values anew for each of their uses"
        raise CannotCompile(f"{why}, {done / least:.0f} times the work that is written")
    return static(compiled)


def _arithmetic_of(program: Any) -> float:
    """Return how many operations on numbers a program does in XLA's analysis; 0 if this backend gives none."""
    try:
        analysis = program.cost_analysis()
    except (NotImplementedError, jax.errors.JaxRuntimeError):
        return 0.0
    return float(analysis.get("flops", 0.0)) if isinstance(analysis, dict) else 0.0


def look(function: Callable[..., Any], arguments: tuple[Any, ...], filename: str = "") -> Traced:
    """Trace a function once more and compile nothing."""

    def anew(*arrays: Any) -> None:  # JAX remembers a function that it has traced
        function(*arrays)

    jax.eval_shape(anew, *arguments)
    return Traced(function, (), lambda outputs: outputs, ())


def operations_traced() -> int:
    """Return how many operations the trace that is going on consists of so far; 0 where this JAX does not tell."""
    context = getattr(sys.modules.get("jax._src.core"), "trace_ctx", None)
    frame = getattr(getattr(context, "trace", None), "frame", None)
    return len(getattr(frame, "tracing_eqns", getattr(frame, "eqns", ())))


def is_staging() -> bool:
    """Say whether `jax.jit`, or a loop or branch of `jax.lax`, is being traced; False where this JAX does not tell."""
    trace = getattr(getattr(sys.modules.get("jax._src.core"), "trace_ctx", None), "trace", None)
    while trace is not None:
        if hasattr(trace, "frame"):
            return True
        trace = getattr(trace, "parent_trace", None)
    return False


def is_weak(value: Any) -> bool:
    """Say whether a value is weakly typed, as a Python number is: it takes the dtype of what it is computed with."""
    return bool(getattr(getattr(value, "aval", None), "weak_type", False))


def tracer_name(value: Any) -> str:
    """Return `tracer` for one of `jax.jit`, and of any other the name of its class, such as `BatchTracer`."""
    if not is_traced(value):
        return ""
    kind = type(value).__name__
    return "tracer" if kind in ("DynamicJaxprTracer", "JitTracer") else kind


@contextmanager
def staging(tell: Any, anew: bool) -> Iterator[None]:
    """Let functions that were traced before be traced again: JAX traces once for each set of such metadata.

    Without them, what was traced before is not seen.
    """
    set_metadata: Any = None
    if anew:
        with suppress(ImportError):
            from jax.experimental.xla_metadata import set_xla_metadata as set_metadata
    with nullcontext() if set_metadata is None else set_metadata(fwmagic=secrets.token_hex(4)):
        yield


def _hides_arrays(leaf: Any) -> bool:
    """Say whether a leaf of a result holds traced values where JAX does not look, or may yield some later."""
    return hasattr(type(leaf), "__next__") or any(is_traced(value) for value in getattr(leaf, "__dict__", {}).values())


@dataclass(frozen=True)
class _Place:
    """Where an array is among the outputs."""

    place: int


def static(compiled: Any) -> Static | None:
    """Return the static analysis of a compiled program; None if this backend gives none.

    `peak_memory_in_bytes` is not used: on a CPU it leaves out temporaries.
    """
    try:
        analysis = compiled.memory_analysis()
    except (NotImplementedError, jax.errors.JaxRuntimeError):
        return None
    if analysis is None:
        return None
    names = ("argument", "output", "temp", "alias")
    sizes = [getattr(analysis, f"{name}_size_in_bytes", None) for name in names]
    return None if any(size is None for size in sizes) else Static(*(int(size) for size in sizes if size is not None))


# Where the classes of jitted functions are from.
_JITTING = ("jax", "jaxlib", "flax", "equinox")


def is_compiled(value: Any) -> bool:
    """Say whether `value` is a function that the user jitted, or a program that was compiled ahead of time.

    What a package has jitted itself is found there under its name: `jax.numpy.sin`.
    """
    if module_of(type(value)).partition(".")[0] not in _JITTING or isinstance(value, jax.Array):
        return False
    if isinstance(value, jax.stages.Compiled):
        return True
    if not (hasattr(value, "lower") and hasattr(value, "__wrapped__")):
        return False
    owner = sys.modules.get(str(getattr(value, "__module__", "")))
    named = getattr(owner, str(getattr(value, "__name__", "")), None) is value
    return not named or is_file_of_user(getattr(owner, "__file__", None) or "<cell>")


def is_traced(value: Any) -> bool:
    """Say whether `value` is a tracer."""
    return isinstance(value, jax.core.Tracer)


def behind(value: Any) -> Any:
    """Return the array behind a tracer of `jax.grad`, or behind one of `jax.vmap` with all of its batch."""
    inner = value
    while is_traced(inner):
        inner = getattr(inner, "primal", getattr(inner, "val", None))
    return value if inner is None else inner


def adopt(values: Iterable[Any]) -> None:
    """Let flax.nnx objects be changed in the trace that is going on.

    nnx remembers the trace in which a Variable was made and refuses to change it in another one, since a trace
    would lose the change. Here the change is read back and returned, so the objects are told of the new trace.
    """
    for value in values:
        if not any(module_of(class_).startswith("flax.") for class_ in type(value).__mro__):
            continue
        state = getattr(value, "_pytree__state", None)
        for owner in (value, state):
            mark = getattr(owner, "_trace_state", None)
            if mark is not None and type(mark).__name__ == "TraceState":
                object.__setattr__(owner, "_trace_state", type(mark)())


_HINTS = {
    "TracerBoolConversionError": "it branches on a value that is not known while tracing: use `jnp.where`, "
    "`jax.lax.cond` or `jax.lax.while_loop`",
    "ConcretizationTypeError": "it needs a number while tracing: return the array instead of converting it, "
    "or print it with `jax.debug.print`",
    "TracerIntegerConversionError": "it uses a traced value as a Python integer: use `jnp.take`, "
    "`jax.lax.fori_loop` or a static argument",
    "TracerArrayConversionError": "it hands a traced value to NumPy: use `jnp` instead of `np`",
    "NonConcreteBooleanIndexError": "the shape of its result depends on values: use `jnp.where` with three "
    "arguments, or `size=`",
    "UnexpectedTracerError": "a traced value outlived its trace: return it instead of storing it",
}
# Under `jax.vmap` a branch fails also where nothing is compiled.
_BATCHED = (
    "under `jax.vmap` a value stands for many, so it has no single truth: use `jnp.where`, or `jax.lax.while_loop` "
    "with a mask of those that go on"
)
_SLICED = (
    "the bounds of a slice are not known while tracing, and a shape must be: use `jax.lax.dynamic_slice_in_dim` with a "
    "size that is a Python number, or a mask of the entries that count"
)
_CHANGED = (
    "it changes an array of NumPy in place, which is one of JAX while tracing: write "
    "`x = jnp.asarray(x).at[...].set(...)`"
)


def hint(error: BaseException) -> str:
    """Return what to write instead of what raised `error` while tracing; nothing for any other error."""
    kind, message = type(error).__name__, str(error)
    if kind == "TracerBoolConversionError" and "BatchTracer" in message:
        return _BATCHED
    if isinstance(error, IndexError) and message.lower().startswith(("slice entries", "array slice indices")):
        return _SLICED
    return _HINTS.get(kind, "")


def explain(error: BaseException, filename: str) -> CannotCompile:
    """Return why tracing raised, in one sentence, with the line of the user's file."""
    why = hint(error) or first_line(error)
    if isinstance(error, TypeError) and "immutable" in why:  # JAX's advice is for its own arrays alone
        why = _CHANGED
    if isinstance(error, RecursionError):
        why = "it goes too deep for a trace, as a result does that holds itself"
    words = f"{type(error).__name__}: {why}"
    foreseen = why != first_line(error) or isinstance(error, jax.errors.JAXTypeError | jax.errors.JAXIndexError)
    return CannotCompile(words if foreseen else f"jax.jit failed on it ({words})", line_of(error, filename))


class Jitted:
    """A function compiled by `jax.jit`, once for each structure of its arguments.

    What `equinox.filter_jit` does, and the function's global arrays are arguments too, so that they are not
    folded as constants. Numbers are traced at first and static if that fails. A function that cannot be traced, or
    that works outside of JAX, runs as it is, and `failure` says why.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.failure: CannotCompile | None = None
        self.traces_numbers = True
        self._programs: dict[Hashable, tuple[Any, list[Any]]] = {}
        self._flatten = Flattener()
        self._of_arrays: dict[int, tuple[Any, list[Any]]] = {}  # by the number of arrays, where there are no others
        self._read: tuple[list[str], list[Any]] | None = None

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Call the compiled function."""
        if self.failure is not None:
            return self.function(*arguments, **keywords)
        try:
            return self._call(arguments, keywords)
        except (jax.errors.JAXTypeError, jax.errors.JAXIndexError, TypeError) as error:
            if self.traces_numbers:
                self.traces_numbers = False
                return self(*arguments, **keywords)
            self.failure = explain(error, self.function.__code__.co_filename)
            return self.function(*arguments, **keywords)

    def _call(self, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        only_arrays = not keywords and all(isinstance(one, jax.Array) for one in arguments) and self._reads_no_arrays()
        if only_arrays and len(arguments) in self._of_arrays:  # most calls, which should cost no more than one of JAX
            return _rebuilt(*self._of_arrays[len(arguments)], [*arguments])
        captured = self._globals()
        leaves, tree = self._flatten((arguments, keywords, captured))
        traced = [self._is_dynamic(leaf) for leaf in leaves]
        static = tuple(None if is_traced else leaf for leaf, is_traced in zip(leaves, traced, strict=True))
        if any("_pytree__state" in getattr(value, "__dict__", ()) for value in (*arguments, *keywords.values())):
            raise TypeError("a flax.nnx object keeps its state in place, which a trace of the function would lose")
        key = (tree, static, tuple(traced))
        arrays = [leaf for leaf, is_traced in zip(leaves, traced, strict=True) if is_traced]
        if not arrays:  # there is nothing to trace: what it returns would be computed once, and never again
            return self.function(*arguments, **keywords)
        if key not in self._programs:
            self._programs[key] = self._program(tree, static, traced, arrays)
        if only_arrays:
            self._of_arrays[len(arguments)] = self._programs[key]
        return _rebuilt(*self._programs[key], arrays)

    def _program(
        self, tree: Any, static: tuple[Any, ...], traced: list[bool], arrays: list[Any]
    ) -> tuple[Any, list[Any]]:
        outputs: list[Any] = []
        host: list[Untraced] = []

        def run(arrays: list[Any]) -> list[Any]:
            given = iter(arrays)
            leaves = [next(given) if is_traced else leaf for leaf, is_traced in zip(static, traced, strict=True)]
            arguments, keywords, captured = jax.tree.unflatten(tree, leaves)
            with self._bound(captured), watched(PACKAGES, self._names()) as seen:
                result = self.function(*arguments, **keywords)
            host.append(seen)
            flat, out_tree = flatten(result)
            for leaf in flat:
                if _hides_arrays(leaf):
                    raise TypeError(
                        f"a result of type {type(leaf).__name__} may hold arrays that JAX cannot take apart"
                    )
            is_array = [isinstance(value, jax.Array) for value in flat]
            outputs[:] = [out_tree, [_ARRAY if a else v for v, a in zip(flat, is_array, strict=True)]]
            return [value for value, a in zip(flat, is_array, strict=True) if a]

        run.__name__ = self.function.__name__
        program = _with_all_work(jax.jit(run), arrays)
        self._refuse(host, program, lambda: look(run, (arrays,)), arrays)
        return program, outputs

    def _refuse(self, host: list[Untraced], program: Any, again: Callable[[], Any], arrays: list[Any]) -> None:
        """Note why the function must not be compiled, if it works outside of JAX; this call is still right."""
        seconds = None
        if host[-1].is_worth_a_call:
            times = []
            for _ in range(3):
                start = time.perf_counter()
                jax.block_until_ready(program(arrays))
                times.append(time.perf_counter() - start)
            seconds = min(times)
        if seconds is not None and host[-1].why_not("JAX", seconds):
            again()  # another process may have had the core meanwhile
        reason = min(host, key=lambda seen: seen.seconds).why_not("JAX", seconds)
        if reason:
            self.failure = CannotCompile(reason, self.function.__code__.co_firstlineno)

    def _is_dynamic(self, leaf: Any) -> bool:
        if isinstance(leaf, jax.Array | np.ndarray):
            return True
        return self.traces_numbers and isinstance(leaf, int | float) and not isinstance(leaf, bool)

    def _names(self) -> list[Any]:
        """Return what the global names are bound to that the function reads."""
        namespace = self.function.__globals__
        return [namespace[name] for name in self.function.__code__.co_names if name in namespace]

    def _reads_no_arrays(self) -> bool:
        """Say whether the function was seen to read no global arrays, and all that it reads is still the same."""
        if self._read is None:
            return False
        names, values = self._read
        return all(map(operator.is_, map(self.function.__globals__.get, names), values))

    def _globals(self) -> dict[str, Any]:
        """Return the global arrays, and trees of arrays, that the function and its helpers read."""
        namespace = self.function.__globals__
        found: dict[str, Any] = {}
        pending, seen = [self.function.__code__], set()
        while pending:
            code = pending.pop()
            pending.extend(const for const in code.co_consts if isinstance(const, type(code)))
            for name in code.co_names:
                value = namespace.get(name)
                if name in seen or value is None:
                    continue
                seen.add(name)
                if isinstance(value, FunctionType) and value.__globals__ is namespace:
                    pending.append(value.__code__)
                elif isinstance(value, jax.Array | np.ndarray | dict | list | tuple):
                    leaves = leaves_of(value)
                    if leaves and all(isinstance(leaf, jax.Array | np.ndarray) for leaf in leaves):
                        found[name] = value
        values = [namespace[name] for name in seen]
        holds = any(isinstance(value, jax.Array | np.ndarray | dict | list | tuple) for value in values)
        self._read = None if holds else ([*seen], values)
        return found

    @contextmanager
    def _bound(self, captured: dict[str, Any]) -> Iterator[None]:
        namespace = self.function.__globals__
        before = {name: namespace[name] for name in captured}
        namespace.update(captured)
        try:
            yield
        finally:
            namespace.update(before)


_ARRAY, _LEAF = object(), jax.tree.structure(0)


def _rebuilt(program: Any, outputs: list[Any], arrays: list[Any]) -> Any:
    """Call a program, and return its arrays with what else the function returns, as the function does."""
    tree, static = outputs
    computed = program(arrays)
    if tree == _LEAF and static[0] is _ARRAY:
        return computed[0]
    found = iter(computed)
    return jax.tree.unflatten(tree, [next(found) if value is _ARRAY else value for value in static])


def _with_all_work(jitted: Any, arrays: list[Any]) -> Any:
    """Return a jitted function as one that leaves nothing out, also not what nothing reads."""
    closed = jitted.trace(arrays).jaxpr
    rest = unread(closed.jaxpr)
    if not rest.variables:
        return jitted

    def run(arrays: list[Any]) -> list[Any]:
        return evaluate(closed.jaxpr, closed.consts, arrays, {}, rest.variables)

    run.__name__ = jitted.__name__
    return jax.jit(run)
