"""A section's body as a function with locals: inputs are its parameters, live results are what it returns."""

from __future__ import annotations

import ast
import builtins
import itertools
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fwmagic.cells.analyse import Body
from fwmagic.cells.loops import without_bars
from fwmagic.cells.names import (
    looks_up,
    names_as_values,
    names_of_code,
    names_of_statements,
    notebook_functions,
    words_of_code,
)
from fwmagic.cells.snapshot import Snapshot
from fwmagic.cells.uses import unread_entries
from fwmagic.report import Place

#: The name under which the value of a last expression is returned: that of the notebook's results.
LAST = "Out"
_LAST_LOCAL = "_fw_last"
_PARTS = {"__code__", "__defaults__", "__kwdefaults__"}
_copies = itertools.count()


@dataclass(frozen=True)
class Function:
    """The generated function `cell`, its inputs, and the names of its results, which are the first that it returns."""

    call: types.FunctionType
    parameters: tuple[str, ...]
    returned: tuple[str, ...]
    source: str

    def arguments(self, namespace: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the inputs as they are now."""
        return tuple(namespace[name] for name in self.parameters)


def returned_names(body: Body) -> tuple[str, ...]:
    """Return the names of what a program of this body returns, in order."""
    return ((LAST,) if body.last is not None else ()) + body.live


def make_function(body: Body, namespace: dict[str, Any], compiled: bool = False, keeps: bool = False) -> Function:
    """Return the body as a function whose globals are the notebook's.

    One that is to be `compiled` has globals of its own, the code of the notebook that it reads: compilers leave names
    of theirs there. It draws no bars, and also `keeps` what a compiler would leave out, by returning it. Parameters are
    the names that the body may read before it binds them, except modules, functions and classes, which stay global so
    that a compiler may look into them; and results that are perhaps never bound. What is not bound yet is no parameter,
    so that reading it raises a `NameError`; a result that is never bound is None.
    """
    parameters = sorted(
        name for name in body.reads if name in namespace and (name in body.assigned or not _is_code(namespace[name]))
    )
    parameters += sorted(name for name in body.maybe - {*parameters} if name in namespace)
    returned = returned_names(body)
    statements = without_bars(body.statements) if compiled else list(body.statements)
    values: list[ast.expr] = []
    if body.last is not None:
        target = ast.Name(_LAST_LOCAL, ast.Store())
        statements.append(ast.copy_location(ast.Assign([target], body.last), body.last))
        values.append(ast.Name(_LAST_LOCAL, ast.Load()))
    # What is put into an object of the body's own is work, too: a compiler would drop what nobody can reach.
    values += [ast.Name(name, ast.Load()) for name in (*body.live, *body.kept)]
    if compiled or keeps:
        values += unread_entries(body.statements, body.last, but=body.live)
    end = statements[-1] if statements else None
    statements += [_or_none(name, end) for name in sorted(body.maybe - {*parameters}) if end is not None]
    give_back = ast.Return(ast.Tuple(values, ast.Load()))
    statements.append(ast.copy_location(give_back, end) if end is not None else give_back)
    arguments = ast.arguments(
        posonlyargs=[], args=[ast.arg(name) for name in parameters], kwonlyargs=[], kw_defaults=[], defaults=[]
    )
    definition = ast.FunctionDef("cell", arguments, statements, [])
    definition.lineno, definition.col_offset = 1, 0  # the cell's, as for the code of a whole cell
    definition.end_lineno, definition.end_col_offset = max(s.end_lineno or 0 for s in statements), 0
    module = ast.fix_missing_locations(ast.Module([definition], []))
    code = body.code(module)
    inner = next(const for const in code.co_consts if isinstance(const, types.CodeType))
    if compiled:
        inner = _code_of_its_own(inner)
    function = types.FunctionType(inner, _globals_of_function(inner, namespace) if compiled else namespace, "cell")
    return Function(function, tuple(parameters), returned, ast.unparse(module))


def _or_none(name: str, place: ast.stmt) -> ast.stmt:
    """Return a statement that binds a name to None if it is not bound."""
    handler = ast.ExceptHandler(ast.Name("NameError", ast.Load()), None, ast.parse(f"{name} = None").body)
    return ast.copy_location(ast.Try(ast.parse(name).body, [handler], [], []), place)


def with_own_globals(call: Any, namespace: Mapping[str, Any]) -> Any:
    """Return a notebook function, or a method of a notebook class, with globals of its own; others as they are."""
    function = call.__func__ if isinstance(call, types.MethodType) else call
    if not isinstance(function, types.FunctionType) or function.__globals__ is not namespace:
        return call
    copy = _copied_function(function, _globals_of_function(function.__code__, namespace))
    return types.MethodType(copy, call.__self__) if isinstance(call, types.MethodType) else copy


def _globals_of_function(code: types.CodeType, namespace: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `code` reads of the namespace; the notebook functions among it are copied to share these globals.

    Dynamo looks up the globals of a function that it inlines by the name of their module, unless they are those
    of the function that it began with.
    """
    own = {"__builtins__": namespace.get("__builtins__", builtins), "__name__": namespace.get("__name__", "__main__")}
    functions = _functions_read(code, namespace)
    read = names_of_code(code).reads.union(*(names_of_code(one.__code__).reads for one in functions.values()))
    own |= {name: namespace[name] for name in read - own.keys() if name in namespace}
    own |= {name: _copied_function(function, own) for name, function in functions.items()}
    return own


def _copied_function(function: types.FunctionType, own: dict[str, Any]) -> types.FunctionType:
    code = _code_of_its_own(function.__code__)
    copy = types.FunctionType(code, own, function.__name__, function.__defaults__, function.__closure__)
    for name in ("__kwdefaults__", "__qualname__", "__annotations__", "__doc__", "__module__"):
        setattr(copy, name, getattr(function, name))
    copy.__dict__ = vars(function)  # shared: what the function keeps in attributes of its own is the notebook's
    return copy


def _code_of_its_own(code: types.CodeType) -> types.CodeType:
    """Return a copy of code, and of the code nested in it, that equals no other: it has one more constant.

    Dynamo remembers what it compiled by code object, with the globals of that time; and what code consists of, for all
    code that is equal, so that an unchanged cell would get the nested functions of its last execution.
    """
    inside = (_code_of_its_own(const) if isinstance(const, types.CodeType) else const for const in code.co_consts)
    return code.replace(co_consts=(*inside, next(_copies)))


def why_no_function(body: Body, namespace: Mapping[str, Any], reached: Iterable[Any] = ()) -> Place | None:
    """Return why the body cannot become a function with locals, or None if it can.

    `reached` are objects that the body can reach; the notebook's functions among them count as called.
    """
    if body.uses_namespace is not None:
        return body.uses_namespace
    read = names_of_statements(body.tree.body).reads
    others = [one for one in reached if isinstance(one, types.FunctionType) and one.__globals__ is namespace]
    for function in dict.fromkeys([*notebook_functions(namespace, read), *others]):
        name = function.__qualname__
        names = names_of_code(function.__code__)
        shared = sorted(names.reads & body.assigned)
        if shared:
            line = first_use(body, name)
            return Place(line, f"`{name}` reads `{shared[0]}` from the namespace, and the body assigns it")
        changed = sorted(names.writes | names.deletes)  # a copy of the function would write to the copy's own globals
        if changed:
            return Place(first_use(body, name), f"`{name}` assigns the global `{changed[0]}`")
        hidden = looks_up(function.__code__)
        if hidden:
            return Place(first_use(body, name), f"`{name}` may look up any name, by `{hidden}`")
    return None


def why_no_copy(code: types.CodeType, namespace: Mapping[str, Any], snapshot: Snapshot) -> str:
    """Return which notebook function that `code` reads could be told from a copy of it, and why, or an empty string.

    A copy has other globals; and where it is not only called, as in `f is g` or `table[f]`, it is another object than
    the one that a dict or an attribute holds, or that a method of the notebook reads.
    """
    functions = _functions_read(code, namespace)
    copied = {id(one) for one in functions.values()}
    others = [one for one in snapshot.objects() if issubclass(type(one), types.FunctionType) and id(one) not in copied]
    elsewhere = set().union(*(names_of_code(one.__code__).reads for one in others if one.__globals__ is namespace))
    held = snapshot.times_held(types.FunctionType)
    values = names_as_values(code).union(*(names_as_values(one.__code__) for one in functions.values()))
    for name, function in functions.items():
        part = part_named(code) or part_named(function.__code__)
        if part:
            return f"`{part}` of a function is named, and a compiled copy of `{name}` has one of its own"
        hidden = looks_up(function.__code__)
        if hidden:
            return f"`{name}` may look up any name, by `{hidden}`"
        if name in values and (held[id(function)] > 1 or name in elsewhere):
            return f"`{name}` is used as a value, and a compiled copy of it would be another object"
    return ""


def part_named(code: types.CodeType) -> str:
    """Return which part of a function, that decides what it does, some code names; or an empty string."""
    return min(_PARTS & words_of_code(code), default="")


def _functions_read(code: types.CodeType, namespace: Mapping[str, Any]) -> dict[str, types.FunctionType]:
    """Return the notebook functions that code reads by name, and that these read."""
    found: dict[str, types.FunctionType] = {}
    pending = [code]
    while pending:
        for name in sorted(names_of_code(pending.pop()).reads - found.keys()):
            value: Any = namespace.get(name)
            if issubclass(type(value), types.FunctionType) and value.__globals__ is namespace:
                found[name] = value
                pending.append(value.__code__)
    return found


def first_use(body: Body, name: str) -> int | None:
    """Return the first line on which the section reads `name`, or the class whose method that is."""
    root = name.partition(".")[0]
    lines = [node.lineno for node in ast.walk(body.tree) if isinstance(node, ast.Name) and node.id == root]
    return min(lines, default=None)


def _is_code(value: Any) -> bool:
    return issubclass(type(value), types.ModuleType | types.FunctionType | types.BuiltinFunctionType | type)
