"""What keeps a cell from being run twice: effects outside of the notebook, and state that cannot be put back."""

from __future__ import annotations

import ast
import dis
import functools
import sys
from collections.abc import Iterator, Mapping
from types import CodeType, FunctionType, ModuleType
from typing import Any

from fwmagic import frameworks
from fwmagic.cells.analyse import Body, dotted, into_memory
from fwmagic.cells.function import first_use
from fwmagic.cells.modules import is_of_user
from fwmagic.cells.names import exposed_names, names_of_code, notebook_functions, words_of_code
from fwmagic.cells.outcome import root
from fwmagic.cells.plans import Plans
from fwmagic.cells.settings import is_put_back
from fwmagic.cells.snapshot import Snapshot
from fwmagic.cells.walk import MOST_UNNAMED
from fwmagic.cells.watch import Watch
from fwmagic.format import size
from fwmagic.frameworks import Framework
from fwmagic.libraries import is_of_library
from fwmagic.report import Place

_ANYWAY = "--repeat-effects times it anyway"
#: Names that a function reads if it writes files, starts processes, opens connections or draws figures.
_GLOBALS = {"subprocess", "shutil", "socket", "requests", "urllib", "sqlite3", "plt", "atexit"}
_METHODS = {
    *("write_text", "write_bytes", "unlink", "mkdir", "makedirs", "system", "touch", "rmdir"),
    *("save", "savez", "savefig", "dump", "to_csv", "to_parquet", "add_scalar"),
}
# Python tells nobody of these.
_UNTOLD = (
    *("os.write", "os.writev", "os.pwrite", "os.pwritev", "os.sendfile", "os.eventfd_write", "os.umask", "os.nice"),
    *("atexit.register", "signal.alarm", "signal.setitimer", "copyreg.pickle", "codecs.register", "tracemalloc.start"),
    *("weakref.finalize", "logging.addLevelName", "mimetypes.add_type"),
)


def effects(body: Body, namespace: dict[str, Any], repeat_effects: bool) -> str:
    """Return which effect outside of the notebook a cell has, or an empty string.

    `repeat_effects` is the user's leave to repeat it; what is read from the keyboard cannot be repeated at all.
    """
    names = {**_imported(body), **namespace}
    if body.stdin is not None:
        return f"line {body.stdin.line}: {body.stdin.reason}, which a measured run cannot"
    if body.effects and not repeat_effects:
        return f"line {body.effects[0].line}: {body.effects[0].reason} ({_ANYWAY})"
    for line, path in [] if repeat_effects else _attributes_set(body):
        whose = _owner(path, names)
        if whose:
            return f"line {line}: `{path}` belongs to {whose}, which is not put back ({_ANYWAY})"
    for node in [] if repeat_effects else ast.walk(body.tree):
        if not isinstance(node, ast.Call) or into_memory(node, body.tree):
            continue
        if _is_effect(dotted(node.func), names):
            return f"line {node.lineno}: what `{dotted(node.func)}` does cannot be undone ({_ANYWAY})"
    methods = _METHODS.union(name for one in frameworks.loaded() for name in one.effects if "." not in name)
    for function in notebook_functions(namespace, body.all_reads):
        code, name = function.__code__, function.__name__
        read = names_of_code(code).reads
        used = sorted(_GLOBALS & read) + sorted(methods & set(code.co_names))
        where = f"line {first_use(body, name)}: " if first_use(body, name) else ""
        used += sorted(one for one in {*read, *_attributes_read_by(code)} if _is_effect(one, namespace))
        if "input" in read:
            return f"{where}`input` in `{name}` reads from the keyboard, which a measured run cannot"
        if used and not repeat_effects:
            return f"{where}what `{used[0]}` does in `{name}` cannot be undone ({_ANYWAY})"
        for path in [] if repeat_effects else _attributes_set_by(code):
            whose = _owner(path, names)
            if whose:
                return f"{where}`{name}` sets `{path}`, which belongs to {whose} and is not put back ({_ANYWAY})"
    return ""


def seen_effect(effect: Place | None, repeat_effects: bool) -> str:
    """Return what a run was seen to do that cannot be undone, as a reason to run its cell only once, or nothing."""
    if effect is None or repeat_effects:
        return ""
    where = "" if effect.line is None else f"line {effect.line}: "
    return f"{where}{effect.reason}, which cannot be undone ({_ANYWAY})"


def done_once(watch: Watch, who: str) -> list[str]:
    """Return the sentence on what was done only once, and cannot be undone, if there was anything."""
    if watch.lasting is None:
        return []
    where = "" if watch.lasting.line is None else f", line {watch.lasting.line}"
    return [f"{who}{where}: {watch.lasting.reason}, which cannot be undone"]


def may_use_up(body: Body, namespace: Mapping[str, Any], snapshot: Snapshot, framework: Framework) -> bool:
    """Say whether a run may leave arrays that no longer exist, since they were donated, or deleted by `x.delete()`.

    Functions that donate are reached from the cell, or made by it or by a function of the user that it reaches. What
    one that is made will donate, no text tells: `jax.jit(f, **options)`.
    """
    functions = (one for one in snapshot.objects() if isinstance(one, FunctionType))
    codes = [one.__code__ for one in functions if not is_of_library(one.__code__.co_filename)]
    words = set[str]().union(*map(words_of_code, [body.code(body.tree), *codes]))
    making = {name.rpartition(".")[2] for name in framework.compilers}
    bound = [namespace.get(word) for word in words]
    bound += [one.func for one in bound if isinstance(one, functools.partial)]
    words |= {one.__name__ for one in bound if isinstance(one, FunctionType)}
    return bool(snapshot.donating or making & words) or any(
        word == "delete" or word.startswith("donate") for word in words
    )


def copies_of_arrays(snapshot: Snapshot, framework: Framework) -> dict[int, tuple[Any, Any]]:
    """Return the arrays of a framework that a run may use up, each with a copy of it, by their `id`.

    Those are left out that a copy cannot stand for, wherever they are, or of which there is none, such as one for which
    the device has no room.
    """
    arrays = [array for _, array in snapshot.leaves(framework.is_array)]
    try:
        copies = {id(array): framework.spare(array) for array in arrays}
    except Exception:  # whatever a device raises that has no more memory
        return {}
    copies = {place: copy for place, copy in copies.items() if copy is not None}
    if not snapshot.fits(copies):
        copies = {place: copy for place, copy in copies.items() if snapshot.fits({place: copy})}
    return {id(array): (array, copies[id(array)]) for array in arrays if id(array) in copies}


def gone(path: str) -> str:
    """Return the reason to run a cell only once after which an array is gone that no copy could stand for."""
    return (
        f"the cell uses up `{path}` (it is donated, or deleted), and there is no copy that another run could begin with"
    )


def _attributes_set(body: Body) -> Iterator[tuple[int, str]]:
    """Yield lines and dotted names of the attributes that a cell binds or deletes, by a statement or `setattr`."""
    for node in ast.walk(body.tree):
        if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
            yield node.lineno, dotted(node)
        elif isinstance(node, ast.Call) and dotted(node.func) in {"setattr", "delattr"} and len(node.args) > 1:
            owner, name = node.args[:2]
            yield node.lineno, f"{dotted(owner)}.{ast.literal_eval(name) if isinstance(name, ast.Constant) else '…'}"


def _attributes_set_by(code: CodeType) -> Iterator[str]:
    """Yield the dotted names of the attributes of globals that a function binds or deletes."""
    parts: list[str] = []
    for instruction in dis.get_instructions(code):
        match instruction.opname:
            case "LOAD_GLOBAL" | "LOAD_NAME":
                parts = [instruction.argval]
            case "LOAD_ATTR" if parts:
                parts.append(instruction.argval)
            case "STORE_ATTR" | "DELETE_ATTR" if parts:
                yield ".".join([*parts, instruction.argval])
                parts = []
            case _:
                parts = []


def _attributes_read_by(code: CodeType) -> Iterator[str]:
    """Yield the dotted names of the attributes of globals that a function reads, and all code nested in it."""
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from _attributes_read_by(const)
    path = ""
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            path = instruction.argval
        elif instruction.opname in ("LOAD_ATTR", "LOAD_METHOD") and path:
            path = f"{path}.{instruction.argval}"
            yield path
        else:
            path = ""


def _is_effect(path: str, namespace: Mapping[str, Any]) -> bool:
    """Say whether a name leads to a function of a framework whose call cannot be undone; it may be another name."""
    called = _called(path, namespace)
    names = [*_UNTOLD, *(name for one in frameworks.loaded() for name in one.effects if "." in name)]
    return called is not None and any(called is _called(name, sys.modules) for name in names)


def _called(path: str, namespace: Mapping[str, Any]) -> Any:
    """Return what a dotted name leads to, through modules only; None if that is nothing."""
    name, *inside = path.split(".")
    value = namespace.get(name)
    for part in inside:
        value = vars(value).get(part) if isinstance(value, ModuleType) else None
    return value


def _imported(body: Body) -> dict[str, ModuleType]:
    """Return the modules that the cell itself imports, by the names that it gives them, if they are there already."""
    aliases = [alias for node in body.definitions if isinstance(node, ast.Import) for alias in node.names]
    names = {a.asname or (top := a.name.partition(".")[0]): a.name if a.asname else top for a in aliases}
    return {name: sys.modules[full] for name, full in names.items() if full in sys.modules}


def _owner(path: str, namespace: Mapping[str, Any]) -> str:
    """Return what the attribute at a dotted name belongs to, if it is not put back; else an empty string."""
    name, *inside = path.split(".")
    owner = namespace.get(name) if inside else None
    while len(inside) > 1 and isinstance(owner, ModuleType):
        held = vars(owner).get(inside[0])
        if not isinstance(held, ModuleType | type):
            break
        owner, inside = held, inside[1:]
    if isinstance(owner, ModuleType):
        whole = ".".join([owner.__name__, *inside])
        is_flag = any(framework.holds_flag(whole) for framework in frameworks.loaded())
        return "" if is_of_user(owner) or is_flag or is_put_back(owner, inside[-1]) else "a module"
    return "a class of a library" if isinstance(owner, type) and not Plans(namespace).is_notebook(owner) else ""


def lost_state(body: Body, snapshot: Snapshot, repeat_effects: bool) -> str:
    """Return which state of the notebook a run would change for good, or an empty string.

    Going backward frees the graph of an earlier cell, so that it cannot be repeated at all.
    """
    if _goes_backward(body):
        # what the body binds before it reads it, such as the loss of the cell's last execution, is not gone through
        fresh = body.assigned - exposed_names(body.tree.body, loops_run=True)[0]
        graph = next((path for path, _ in snapshot.leaves(_has_graph) if root(path) not in fresh), None)
        if graph is not None:
            return f"going backward frees the graph that `{graph}` carries from another cell"
    if snapshot.unrestorable and not repeat_effects:
        path, why = snapshot.unrestorable[0]
        return f"`{path}` cannot be put back: {why} ({_ANYWAY})"
    if snapshot.too_much and not repeat_effects:
        why = f"the arrays that `globals()` and its like can reach take more than {size(MOST_UNNAMED)}"
        return f"`{snapshot.too_much}` is not saved: {why} ({_ANYWAY})"
    return ""


def _has_graph(value: Any) -> bool:
    return hasattr(type(value), "grad_fn") and hasattr(type(value), "requires_grad") and value.grad_fn is not None


def _goes_backward(body: Body) -> bool:
    return "backward" in body.text or "autograd.grad" in body.text
