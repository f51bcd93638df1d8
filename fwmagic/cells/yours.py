"""What of a cell the user compiled: an object that it calls, or makes and calls; a mention of one is not enough."""

from __future__ import annotations

import ast
import dis
import inspect
import textwrap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from types import CodeType, FunctionType
from typing import Any, TypeGuard

from fwmagic.cells.analyse import Body, dotted
from fwmagic.cells.function import first_use
from fwmagic.cells.modules import is_function_of_user
from fwmagic.cells.names import notebook_functions
from fwmagic.cells.outcome import root
from fwmagic.cells.scene import Scene
from fwmagic.frameworks import Framework
from fwmagic.report import Place

# Methods that are called without their names being written.
_UNWRITTEN = {"forward"}
# Those that are called where the name of their class is written.
_MAKING = {"__init__", "__new__", "__post_init__", "setup"}
# Objects whose parts are used by name; of any other, such as a list, all parts may be.
_BY_NAME = {"names", "attributes", "slots", "class", "module"}
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass(frozen=True)
class Yours:
    """`called` is where the cell calls what the user compiled, `dropped` where it compiles something for nothing."""

    called: Place | None = None
    dropped: Place | None = None


def yours(scene: Scene) -> Yours:
    """Return what of a section the user compiled."""
    scene.overlay.on()
    try:
        return _found(scene)
    finally:
        scene.overlay.off()


def _found(scene: Scene) -> Yours:
    body, framework, namespace = scene.body, scene.framework, scene.namespace
    in_place = partial(_compiles_itself, framework, {n: v for n, v in namespace.items() if n not in body.assigned})
    made = _made(body.tree.body, framework.compilers, in_place, keeps=True)
    of_modules = [one for one in scene.snapshot.objects() if _is_of_module(one, namespace)]
    used, functions = _called(body, [*notebook_functions(namespace, body.all_reads), *of_modules])
    dropped = None if made.dropped is None else Place(made.dropped.lineno, _what_is_dropped(made.dropped))
    if made.called is not None:
        return Yours(Place(made.called.lineno, f"the cell calls what it makes by `{_shown(made.called)}`"), dropped)
    held = scene.snapshot.held(framework.is_compiled)
    for path, key, by_name in ((path, key, kind in _BY_NAME) for path, kind, key in held):
        if root(path) in body.unread:  # what the name held before, which the cell binds anew
            continue
        if not by_name or key in used:
            line = _line_of(body, path, key) or _line_of_call(body, functions)
            return Yours(Place(line, f"the cell calls `{path}`, which is compiled already"), dropped)
    for function in functions:
        inner = _made(_statements(function), framework.compilers, in_place)
        line = _line_of_call(body, [function])
        if inner.called is not None:
            what = f"`{function.__name__}` calls what it makes by `{_shown(inner.called)}`"
            return Yours(Place(line, what), dropped)
        if inner.dropped is not None and dropped is None:
            dropped = Place(line, f"{_what_is_dropped(inner.dropped)}, in `{function.__name__}`")
    return Yours(None, dropped)


@dataclass(frozen=True)
class _Made:
    """The first expression that compiles something that is called, and the first whose value is dropped."""

    called: ast.expr | None = None
    dropped: ast.expr | None = None


def _made(
    statements: list[ast.stmt], compilers: Iterable[str], in_place: Callable[[ast.Call], bool], keeps: bool = False
) -> _Made:
    """Return what some statements compile; `keeps`: the names that they bind outlive them.

    `in_place` is true of a call that compiles the object whose method it is.
    """
    wanted = set(compilers)
    parents = {id(child): node for top in statements for node in ast.walk(top) for child in ast.iter_child_nodes(node)}
    loaded = [node for top in statements for node in ast.walk(top) if _is_load(node)]
    called: ast.expr | None = None
    dropped: ast.expr | None = None
    for node in (node for top in statements for node in ast.walk(top)):
        if not isinstance(node, ast.expr):
            continue
        parent = parents.get(id(node))
        if isinstance(node, ast.Call) and isinstance(parent, ast.Expr) and in_place(node):
            name = dotted(node.func).partition(".")[0]
            called = called or (node if any(_comes_after(one, parent) for one in loaded if one.id == name) else None)
        if not _compiles(node, wanted, parents):
            continue
        if isinstance(parent, ast.Expr):
            dropped = dropped or node
            continue
        names = _names_given(parent)
        if names is None or any(_comes_after(load, parent) for load in loaded if load.id in names):
            called = called or node
        elif not keeps:
            dropped = dropped or node
    return _Made(called, dropped)


def _is_load(node: ast.AST) -> TypeGuard[ast.Name]:
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)


def _compiles(node: ast.expr, compilers: set[str], parents: Mapping[int, ast.AST]) -> bool:
    """Say whether an expression is a call that compiles, or a decorator that does."""
    parent = parents.get(id(node))
    if isinstance(node, ast.Call):
        if dotted(node.func) in compilers:
            # `@partial(jax.jit)` and `jax.jit(static_argnums=0)(f)` make a function of the call outside
            return not (isinstance(parent, ast.Call) and parent.func is node and not node.args)
        inner = node.func
        if not isinstance(inner, ast.Call):
            return isinstance(parent, _DEFINITIONS) and _is_partial(node, compilers)
        return _is_partial(inner, compilers) or (dotted(inner.func) in compilers and not inner.args)
    return isinstance(parent, _DEFINITIONS) and node in parent.decorator_list and dotted(node) in compilers


def _compiles_itself(framework: Framework, namespace: Mapping[str, Any], call: ast.Call) -> bool:
    """Say whether a call compiles the module whose method it is; of what is no notebook's yet, the name tells."""
    root, *attributes = dotted(call.func).split(".")
    if not attributes or attributes.pop() != framework.compiles_itself:
        return False
    value = namespace.get(root)
    for name in attributes:  # no property of the user's runs for that
        of_module = framework.module_calls(value) is not None
        value = getattr(value, name, None) if of_module else inspect.getattr_static(value, name, None)
    return root not in namespace or framework.module_calls(value) is not None


def _is_partial(node: ast.Call, compilers: set[str]) -> bool:
    return dotted(node.func).endswith("partial") and bool(node.args) and dotted(node.args[0]) in compilers


def _names_given(parent: ast.AST | None) -> set[str] | None:
    """Return the names that are bound to a value by what it stands in; None where it is used at once, or stored."""
    if isinstance(parent, _DEFINITIONS):
        return {parent.name}
    if isinstance(parent, ast.Assign) and all(isinstance(target, ast.Name) for target in parent.targets):
        return {target.id for target in parent.targets if isinstance(target, ast.Name)}
    return None


def _comes_after(load: ast.AST, statement: ast.AST | None) -> bool:
    end = (getattr(statement, "end_lineno", 0) or 0, getattr(statement, "end_col_offset", 0) or 0)
    return (getattr(load, "lineno", 0), getattr(load, "col_offset", 0)) >= end


def _shown(node: ast.expr) -> str:
    if not isinstance(node, ast.Call):
        return dotted(node)
    return _shown(node.args[0] if dotted(node.func).endswith("partial") else node.func)


def _what_is_dropped(node: ast.expr) -> str:
    return f"what `{_shown(node)}` returns is dropped, so that nothing is compiled by it"


# What the cell calls


def _called(body: Body, waiting: list[FunctionType]) -> tuple[set[str], list[FunctionType]]:
    """Return the names that the cell, and the functions that it calls of those that it can reach, read; and these.

    A method counts as called where its name is written, or is one that Python or a framework calls by itself.
    """
    used = _names_written(body.code(body.tree)) - _only_shown(body)
    called: list[FunctionType] = []
    while True:
        new = [function for function in waiting if _is_written(function, used)]
        if not new:
            return used, called
        called += new
        waiting = [function for function in waiting if function not in new]
        for function in new:
            used |= _names_written(function.__code__)


def _is_of_module(value: object, namespace: Mapping[str, Any]) -> TypeGuard[FunctionType]:
    """Say whether it is a function of a module of the user's."""
    return type(value) is FunctionType and value.__globals__ is not namespace and is_function_of_user(value)


def _only_shown(body: Body) -> set[str]:
    """Return the names that the cell does nothing with but to show their values."""
    shown = [s.value for s in body.tree.body if isinstance(s, ast.Expr) and isinstance(s.value, ast.Name)]
    others = {node.id for node in ast.walk(body.tree) if _is_load(node) and not any(node is one for one in shown)}
    return {node.id for node in shown} - others


def _line_of(body: Body, path: str, key: object) -> int | None:
    """Return the first line that names the object at a path, by its name or as an attribute."""
    wanted = (root(path), key)
    nodes = (node for node in ast.walk(body.tree) if isinstance(node, ast.Name | ast.Attribute))
    lines = [node.lineno for node in nodes if getattr(node, "id", getattr(node, "attr", None)) in wanted]
    return min(lines, default=None)


def _line_of_call(body: Body, functions: list[FunctionType]) -> int | None:
    """Return the first line that names one of some functions, as a name or as an attribute."""
    lines = [first_use(body, one.__qualname__) or _line_of(body, one.__name__, one.__name__) for one in functions]
    return min((line for line in lines if line is not None), default=None)


def _is_written(function: FunctionType, used: set[str]) -> bool:
    name = function.__name__
    if name in _MAKING:
        return bool(used & {*function.__qualname__.split(".")})
    return name in used or name in _UNWRITTEN or name.startswith(("__", "<"))


def _names_written(code: CodeType) -> set[str]:
    """Return every name and attribute that some code reads, and all code nested in it."""
    steps = dis.get_instructions(code)
    found = {step.argval for step in steps if step.opname.startswith("LOAD_") and isinstance(step.argval, str)}
    for const in code.co_consts:
        if isinstance(const, CodeType):
            found |= _names_written(const)
    return found


def _statements(function: FunctionType) -> list[ast.stmt]:
    """Return the statements of a function's body; none where its source is not known, or no `def`."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):  # it was made by `exec`, or is a lambda in the middle of a line
        return []
    first = tree.body[0] if tree.body else None
    return list(first.body) if isinstance(first, ast.FunctionDef) else list(tree.body)
