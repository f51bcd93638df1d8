"""torch.compile, and what it says of itself; every private name of Dynamo and Inductor that we read is here."""

from __future__ import annotations

import collections
import copy
import functools
import importlib
import json
import os
import re
import sys
import time
import types
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import PurePath
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from fwmagic.errors import CannotCompile, message_of
from fwmagic.frameworks import first_line, line_of
from fwmagic.frameworks.compiled import CompileLog, CompileOptions, Staged
from fwmagic.report import Place

# Where the code that Inductor writes lies, unless a variable names another folder; and its code in memory.
_GENERATED = "torchinductor"
_GENERATED_IN = "TORCHINDUCTOR_CACHE_DIR"
_GENERATED_IN_MEMORY = "<eval_with_key>"
# How Dynamo calls what it compiled, and how it names the rest of a function after a graph break.
_ENTRY = ("_fn", "torch/_dynamo/eval_frame.py")
_REST = "torch_dynamo_resume_in_"

_events = 0


class CallsTold(TorchFunctionMode):
    """Tells of every call of a function of torch: its arguments, and what it returned or, in place, changed."""

    def __init__(self, tell: Callable[[Any, Any], None]) -> None:
        super().__init__()
        self._tell = tell

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the function, and tell of it."""
        result = function(*args, **(kwargs or {}))
        self._tell((args, kwargs), args[0] if result is None and args else result)
        return result


def compile_events() -> int:
    """Return how many frames Dynamo began to compile since this was first asked; -1 if it cannot be imported."""
    if _why_not_imported("torch._dynamo"):
        return -1
    _listen()
    return _events


@functools.cache
def _why_not_imported(module: str) -> str:
    """Return why a part of torch cannot be imported, or an empty string; a second try would fail in another way."""
    try:
        importlib.import_module(module)
    except Exception as error:  # whatever a broken installation raises, or a cache that cannot be made
        return f"torch.compile cannot be imported ({type(error).__name__}: {first_line(error)})"
    return ""


def _listen() -> None:
    """Count compilations from now on; the listener fires only when Dynamo compiles.

    `torch.compiler.reset` takes all listeners away, so this is asked for anew each time.
    """
    callbacks = getattr(getattr(torch, "_dynamo", None), "callback", None)
    handler = getattr(callbacks, "callback_handler", None)
    if callbacks is not None and _count not in getattr(handler, "start_callbacks", ()):
        callbacks.on_compile_start(_count)


def _count(*_: Any) -> None:
    global _events
    _events += 1


@functools.cache
def cannot_compile() -> str:
    """Return why Inductor cannot build kernels for the CPU here, or an empty string."""
    why = _why_not_imported("torch._dynamo") or _why_not_imported("torch._inductor.cpp_builder")
    if why:
        return why
    from torch._inductor import exc
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        get_cpp_compiler()
    except (exc.InvalidCxxCompiler, OSError):
        return "torch.compile needs a C++ compiler and none was found; install one, for example g++"
    return ""


def preload() -> None:
    """Import Dynamo and Inductor, and start none of Inductor's own processes: the importer is going to be copied."""
    os.environ["TORCH_WARM_POOL"] = "0"
    _ = _why_not_imported("torch._dynamo") or _why_not_imported("torch._inductor.compile_fx")


@functools.cache
def prime() -> float:
    """Compile one trivial function; return the seconds.

    The first compilation of a process probes the C++ compiler and starts Inductor, which can take ten seconds
    and belongs to no cell.
    """
    start = time.perf_counter()
    _listen()
    torch.compile(lambda x: x + 1)(torch.zeros(8))
    return time.perf_counter() - start


def compile(function: Callable[..., Any], options: CompileOptions) -> Callable[..., Any]:
    """Return `torch.compile(function)` under the user's options.

    Dynamo silently compiles nothing where the outermost frame is torch's own, as that of `nn.Sequential` is.
    """
    mode = None if options.mode == "default" else options.mode
    if str(getattr(function, "__module__", "")).startswith("torch."):
        function = _framed(function)
    compiled: Callable[..., Any] = torch.compile(function, mode=mode, fullgraph=options.fullgraph)
    return compiled


def left_alone(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that Dynamo does not look at: it would compile whatever runs, also what follows lines."""
    if _why_not_imported("torch._dynamo"):
        return function
    alone: Callable[..., Any] = torch.compiler.disable(function)  # type: ignore[no-untyped-call]
    return alone


@contextmanager
def staging(tell: Callable[[list[Staged]], None], anew: bool) -> Iterator[None]:
    """Let `torch.compile` make graphs and run them as they are, and tell what each one holds, line by line.

    What was compiled outside of the block stays what it is.
    """
    usual = torch.compile

    def backend(graph: Any, inputs: Any) -> Any:
        tell([staged for node in graph.graph.nodes if (staged := _staged(node)) is not None])
        for listener in _listeners:
            listener(graph, inputs)
        return graph.forward

    @functools.wraps(usual)
    def compile(*arguments: Any, **options: Any) -> Any:
        kept = {name: value for name, value in options.items() if name in ("fullgraph", "dynamic", "disable")}
        return usual(*arguments, **kept, backend=backend)

    torch.compile = compile
    try:
        yield
    finally:
        torch.compile = usual


_listeners: list[Callable[[Any, Any], None]] = []


@contextmanager
def graphs_told(listener: Callable[[Any, Any], None]) -> Iterator[None]:
    """Tell of each graph that `staging` makes in the block, with its example inputs."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def forms(graph: Any, inputs: Any) -> list[tuple[str, float | None, str, dict[str, list[str]]]]:
    """Return the forms of a graph of Dynamo: name, seconds that it took to make (None: not told), and text.

    The last is of which stacks each kernel of the text is, by its name with the number of its call. What this version
    of torch does not tell is left out. Where Inductor raises, its error is the last text.
    """
    found: list[tuple[str, float | None, str, dict[str, list[str]]]] = []
    found.append(("FX graph", None, graph.print_readable(print_output=False), {}))
    module = None if _why_not_imported("torch._inductor.compile_fx") else sys.modules["torch._inductor.compile_fx"]
    compile_graph, compile_inner = (getattr(module, name, None) for name in ("compile_fx", "compile_fx_inner"))
    if compile_graph is None or compile_inner is None:
        return found
    if why := cannot_compile():
        return [*found, ("Inductor code", None, f"# not made: {why}", {})]
    began = time.perf_counter()

    def inner(lowered: Any, *arguments: Any, **options: Any) -> Any:
        start = time.perf_counter()
        found.append(("AOT graph", start - began, lowered.print_readable(print_output=False), {}))
        compiled = compile_inner(lowered, *arguments, **options)
        code = str(getattr(compiled, "source_code", ""))
        if code:
            stacks = json.loads(getattr(compiled, "inductor_provenance_stack_traces_str", None) or "{}")
            found.append(("Inductor code", time.perf_counter() - start, code, stacks))
        return compiled

    try:
        with _told_in_full():
            compile_graph(copy.deepcopy(graph), inputs, inner_compile=inner)
    except Exception as error:  # whatever Inductor raises: the forms that were made until then stand
        found.append(("Inductor code", None, f"# not made: {type(error).__name__}: {first_line(error)}", {}))
    return found


def _told_in_full() -> AbstractContextManager[Any]:
    """Let Inductor lower each graph anew, and say of which stacks each kernel is, where this version can.

    From a warm cache on disk, nothing would be lowered, and there would be nothing to tell.
    """
    config: Any = sys.modules.get("torch._inductor.config")
    wanted: dict[str, Any] = {}
    if hasattr(config, "force_disable_caches"):
        wanted["force_disable_caches"] = True
    if hasattr(getattr(config, "trace", None), "provenance_tracking_level"):
        wanted["trace.provenance_tracking_level"] = 1
    return config.patch(wanted) if wanted else nullcontext()


def _staged(node: Any) -> Staged | None:
    """Return what a node of a graph makes, and on which line; None if that is no tensor, or not known."""
    value = node.meta.get("example_value")
    places = re.findall(r'File "(.+)", line (\d+)', node.stack_trace or "")
    if node.op in ("placeholder", "output") or not isinstance(value, torch.Tensor) or not places:
        return None
    file, line = places[-1]
    shape = ",".join(str(size) for size in value.shape)
    return Staged(file, int(line), node.name, f"{str(value.dtype).removeprefix('torch.')}[{shape}]")


def _framed(call: Callable[..., Any]) -> Callable[..., Any]:
    def forward(*arguments: Any, **keywords: Any) -> Any:
        return call(*arguments, **keywords)

    # A code object of its own: of one that all modules share, Dynamo gives up after a few recompilations.
    return types.FunctionType(
        forward.__code__.replace(), forward.__globals__, "forward", forward.__defaults__, forward.__closure__
    )


@contextmanager
def watch(filename: str) -> Iterator[CompileLog]:
    """Log graphs, breaks, recompiles and stages of what Dynamo compiles in the block."""
    from torch._dynamo import utils

    metrics = getattr(utils, "get_compilation_metrics", list)
    log = CompileLog(told=metrics is not list)
    reasons: list[Any] = getattr(utils, "graph_break_reasons", [])
    seen_metrics = {id(entry): entry for entry in metrics()}
    seen_reasons = len(reasons)
    cache_before = _cache_counts()
    in_forward_mode = _in_forward_mode()
    try:
        with _without_memories():
            yield log
    finally:
        if _in_forward_mode() and not in_forward_mode:
            torch._C._exit_dual_level(0)  # a compilation that failed did not leave it, and all later ones would fail
        entries = [entry for entry in metrics() if id(entry) not in seen_metrics]
        _read_dynamo(log, entries, filename)
        for reason in reasons[seen_reasons:]:
            place = Place(_line(getattr(reason, "user_stack", ()), filename), _dynamo_sentence(str(reason.reason)))
            if place not in log.breaks:
                log.breaks.append(place)
        hits, misses = (now - before for now, before in zip(_cache_counts(), cache_before, strict=True))
        log.cache = "cold" if misses else "disk-warm" if hits else "unknown"


@contextmanager
def _without_memories() -> Iterator[None]:
    """Compile as if for the first time: which numbers and sizes Dynamo has seen to change decides what it makes."""
    from torch._dynamo import pgo

    before = pgo._CODE_STATE
    pgo._CODE_STATE = collections.defaultdict(pgo.CodeState)
    try:
        yield
    finally:
        pgo._CODE_STATE = before


def _in_forward_mode() -> bool:
    """Say whether a forward-mode level is entered; there can be only one."""
    try:
        torch._C._exit_dual_level(torch._C._enter_dual_level())
    except RuntimeError:
        return True
    return False


def _read_dynamo(log: CompileLog, entries: list[Any], filename: str) -> None:
    totals = {"trace": 0.0, "lower": 0.0, "backend": 0.0}
    log.told = log.told and all(hasattr(entry, name) for entry in entries for name in ("co_name", "graph_op_count"))
    for entry in entries:
        operations = getattr(entry, "graph_op_count", None) or 0
        name = str(getattr(entry, "co_name", "?"))
        if name.startswith(_REST):
            name = name.removeprefix(_REST).rpartition("_at_")[0]
        if operations:
            log.graphs = (log.graphs or 0) + 1
            log.compiled[name] = log.compiled.get(name, 0) + operations
        frame, lowered, inductor = (
            getattr(entry, field, None) or 0.0
            for field in ("entire_frame_compile_time_s", "backend_compile_time_s", "inductor_compile_time_s")
        )
        totals["trace"] += max(frame - lowered, 0.0)
        totals["lower"] += max(lowered - inductor, 0.0)
        totals["backend"] += inductor
        reason = getattr(entry, "recompile_reason", None)
        if reason:
            log.recompiled.add(name)
            own = getattr(entry, "co_filename", None) == filename
            log.recompiles.append(
                Place(getattr(entry, "co_firstlineno", None) if own else None, _dynamo_sentence(reason))
            )
    if entries:
        log.stages = totals
        log.graphs = (log.graphs or 0) if log.told else None


def _cache_counts() -> tuple[int, int]:
    from torch._dynamo.utils import counters

    inductor, autograd = counters["inductor"], counters["aot_autograd"]
    hits = inductor["fxgraph_cache_hit"] + autograd["autograd_cache_hit"]
    return hits, inductor["fxgraph_cache_miss"] + inductor["fxgraph_cache_bypass"]


def is_compiler_frame(function: str, file: str) -> bool:
    """Say whether a frame on a stack calls what was compiled, or is the rest of a function after a graph break.

    A function that Dynamo has rewritten stands under its old name, at the line of its `def` or of a graph break, and
    calls such a frame.
    """
    return (function == _ENTRY[0] and file.endswith(_ENTRY[1])) or function.startswith(_REST)


def is_generated(file: str) -> bool:
    """Say whether Inductor wrote the code of a file, or of what stands for one."""
    chosen = os.environ.get(_GENERATED_IN)
    written = any(part.startswith(_GENERATED) for part in PurePath(file).parts)
    return written or bool(chosen and file.startswith(chosen)) or file.startswith(_GENERATED_IN_MEMORY)


# Dynamo calls AOTAutograd through Inductor, which it calls in turn.
_STAGES = (
    ("torch/_functorch/", "lower"),
    ("torch/_inductor/", "backend"),
    ("torch/_dynamo/convert_frame.py", "trace"),
)


def stage_of(file: str) -> str:
    """Return the stage of a compilation in which code of a file runs, if in any: of nested frames, the innermost."""
    if is_generated(file):
        return "first run"
    path = PurePath(file).as_posix()
    return next((stage for part, stage in _STAGES if part in path), "")


def is_compiled(value: Any) -> bool:
    """Say whether `value` is a function or module that the user compiled, or scripted or traced as TorchScript."""
    if str(getattr(value, "__module__", "")).startswith("torch.") and not isinstance(value, torch.nn.Module):
        return isinstance(value, torch.jit.ScriptFunction)
    if isinstance(value, torch.nn.Module):
        compiled = getattr(value, "_compiled_call_impl", None) is not None or hasattr(value, "_orig_mod")
        return compiled or isinstance(value, torch.jit.ScriptModule)
    if not isinstance(value, types.FunctionType):
        return False
    return "_torchdynamo_orig_callable" in vars(value) and "_torchdynamo_disable" not in vars(value)


def forgetting(value: Any) -> Callable[[], None] | None:
    """Return what makes a compiled function or module forget what it compiles; None if it has, or nobody can."""
    if not issubclass(type(value), types.FunctionType | torch.nn.Module) or not is_compiled(value):
        return None
    is_module = isinstance(value, torch.nn.Module)
    owner = type(getattr(value, "_orig_mod", value))
    # A scripted module has none of Python's.
    function = getattr(owner, "forward", None) if is_module else value._torchdynamo_orig_callable
    code = getattr(function, "__code__", None)
    dynamo = sys.modules.get("torch._C._dynamo.eval_frame")
    compiled, forget = (getattr(dynamo, name, None) for name in ("_debug_get_cache_entry_list", "reset_code"))
    if code is None or compiled is None or forget is None or compiled(code):
        return None
    return functools.partial(forget, code)


# In these is what went wrong inside of the compilers, for whatever reason.
_FAILURES = {"BackendCompilerFailed", "InternalTorchDynamoError", "TorchRuntimeError"}


def explain(error: BaseException, filename: str) -> CannotCompile:
    """Return why Dynamo or Inductor raised, with the line of the user's file."""
    named = re.findall(rf'File "{re.escape(filename)}", line (\d+)', message_of(error))
    line = _line(getattr(error, "real_stack", ()) or (), filename) or line_of(error, filename)
    if line is None and named:
        line = int(named[-1])
    kind = type(error).__name__
    words = f"{kind}: {_dynamo_sentence(message_of(error)) or 'no message'}"
    # What Dynamo has foreseen has an error of its own, with a sentence for users.
    foreseen = type(error).__module__ == "torch._dynamo.exc" and kind not in _FAILURES
    return CannotCompile(words if foreseen else f"torch.compile failed on it ({words})", line)


def _line(stack: Any, filename: str) -> int | None:
    """Return the deepest line of `filename` in a stack of frame summaries."""
    lines = [frame.lineno for frame in stack if frame.filename == filename]
    return lines[-1] if lines else None


def _dynamo_sentence(text: str) -> str:
    """Return the first line of a message, with Dynamo's explanation where there is one."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].endswith("raised:"):
        lines = lines[1:]
    explained = [line.removeprefix("Explanation: ") for line in lines if line.startswith("Explanation: ")]
    first = lines[0] if lines else ""
    if first.startswith("generic_jump"):
        return "a branch that depends on a tensor's value"
    return f"{first}: {explained[0]}" if explained else first
