"""The names that code reads and writes, taken from its bytecode, so that every syntax is covered."""

from __future__ import annotations

import ast
import dis
import functools
import inspect
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_READS = {"LOAD_NAME", "LOAD_GLOBAL"}
_WRITES = {"STORE_NAME", "STORE_GLOBAL"}
_DELETES = {"DELETE_NAME", "DELETE_GLOBAL"}
_MAKES_CONTAINER = {"list", "dict", "set", "deque", "defaultdict", "OrderedDict"}
#: Statements that only define something.
DEFINITIONS = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass(frozen=True)
class Names:
    """Names of the namespace that some code reads, binds and deletes, nested functions included."""

    reads: frozenset[str]
    writes: frozenset[str]
    deletes: frozenset[str]


def of_code(code: types.CodeType) -> Names:
    """Return the global names of a code object and of all code objects nested in it."""
    reads: set[str] = set()
    writes: set[str] = set()
    deletes: set[str] = set()
    pending = [(code, code.co_name == "<module>")]
    while pending:
        current, is_module = pending.pop()
        for instruction in dis.get_instructions(current):
            name = instruction.argval
            # In a class body STORE_NAME binds an attribute, not a name of the namespace.
            is_local_store = instruction.opname.endswith("_NAME") and not is_module
            if instruction.opname in _READS:
                reads.add(name)
            elif instruction.opname in _WRITES and not is_local_store:
                writes.add(name)
            elif instruction.opname in _DELETES and not is_local_store:
                deletes.add(name)
        pending.extend((const, False) for const in current.co_consts if isinstance(const, types.CodeType))
    reads -= {"__name__", "__build_class__"}  # every class body reads its module's name
    return Names(frozenset(reads), frozenset(writes), frozenset(deletes))


def of_statements(statements: Iterable[ast.stmt]) -> Names:
    """Return the names of top-level statements, or of some that stand in a block of one."""
    body = list(statements)
    try:
        code = compile(ast.Module(body, []), "<names>", "exec", dont_inherit=True)
    except SyntaxError:  # `break` and `continue` are allowed in a loop only
        loop = ast.While(ast.Constant(True), body, [], lineno=1, col_offset=0)
        code = compile(ast.fix_missing_locations(ast.Module([loop], [])), "<names>", "exec", dont_inherit=True)
    return of_code(code)


def of_expression(expression: ast.expr) -> Names:
    """Return the names of an expression."""
    return of_statements([ast.copy_location(ast.Expr(expression), expression)])


def exposed(
    statements: Iterable[ast.stmt], known: frozenset[str] = frozenset(), loops_run: bool = False
) -> tuple[set[str], set[str]]:
    """Return the names that are needed before the statements bind them, perhaps, and those that they surely bind.

    `known` are names that are bound already. Loops may run zero times, unless `loops_run`; a `try` may stop anywhere,
    and so may a `with` that suppresses exceptions. What is deleted is needed, too.
    """
    defined = set(known)
    open_reads: set[str] = set()

    def inner(block: Iterable[ast.stmt], extra: Iterable[str] = ()) -> set[str]:
        reads, surely = exposed(block, frozenset(defined | set(extra)), loops_run)
        open_reads.update(reads)
        return surely

    def read(node: ast.expr | None) -> None:
        if node is not None:
            names = of_expression(node)
            open_reads.update(names.reads - defined)
            defined.update(names.writes)

    def targets(node: ast.expr) -> set[str]:
        assignment = ast.copy_location(ast.Assign(targets=[node], value=ast.Constant(0)), node)
        names = of_statements([ast.fix_missing_locations(assignment)])
        open_reads.update(names.reads - defined)
        return set(names.writes)

    for statement in statements:
        match statement:
            case ast.If(test=test, body=body, orelse=orelse):
                read(test)
                defined |= inner(body) & inner(orelse)
            case ast.For(target=target, iter=iterator, body=body, orelse=orelse):
                read(iterator)
                bound = targets(target)
                bound |= inner(body, bound)
                defined |= bound if loops_run else set()
                inner(orelse)
            case ast.While(test=test, body=body, orelse=orelse):
                read(test)
                bound = inner(body)
                defined |= bound if loops_run else set()
                inner(orelse)
            case ast.With(items=items, body=body):
                for item in items:
                    read(item.context_expr)
                    if item.optional_vars is not None:
                        defined |= targets(item.optional_vars)
                after_body = inner(body)
                if not any(_suppresses(item.context_expr) for item in items):
                    defined |= after_body
            case ast.Try(body=body, handlers=handlers, orelse=orelse, finalbody=final):
                after_body = inner(body)
                for handler in handlers:
                    read(handler.type)
                    inner(handler.body, [handler.name] if handler.name else [])
                inner(orelse, after_body)
                defined |= inner(final)
                if not handlers:
                    defined |= after_body
            case _:
                names = of_statements([statement])
                open_reads.update((names.reads | names.deletes) - defined)
                if not isinstance(statement, ast.Match | ast.TryStar):
                    defined |= names.writes
                defined -= names.deletes
    return open_reads, defined - known


def _suppresses(manager: ast.expr) -> bool:
    """Say whether a context manager goes by a name for one that lets a block end early."""
    return any(name in ast.unparse(manager) for name in ("suppress", "raises"))


def read_again(statements: list[ast.stmt], name: str) -> bool:
    """Say whether what `name` holds last is read by a statement after that.

    A statement that only fills a container, such as `name[0] = x` or, for a list that the statements make,
    `name.append(x)`, counts as one that binds it. A definition that reads it does not count, for it may never be
    called; nor does `print`, which computes nothing.
    """
    return _read_again(statements, name, name in _containers(statements))


def _read_again(statements: list[ast.stmt], name: str, is_container: bool) -> bool:
    def binds(statement: ast.stmt) -> bool:
        return name in of_statements([statement]).writes or name in _filled([statement], is_container)

    last = max((i for i, statement in enumerate(statements) if binds(statement)), default=None)
    if last is None:
        return False
    later = [s for s in statements[last + 1 :] if not isinstance(s, DEFINITIONS) and not _only_shows(s)]
    if name in of_statements(later).reads:
        return True
    statement = statements[last]
    blocks = [getattr(statement, part, []) for part in ("body", "orelse", "finalbody")]
    blocks += [part.body for part in [*getattr(statement, "handlers", []), *getattr(statement, "cases", [])]]
    if isinstance(statement, DEFINITIONS):
        return False
    if isinstance(statement, ast.For | ast.With) and not any(map(binds, statement.body)):
        return name in of_statements([s for s in statement.body if not _only_shows(s)]).reads
    return any(_read_again(block, name, is_container) for block in blocks if block)


def _containers(statements: Iterable[ast.stmt]) -> set[str]:
    """Return the names that the statements bind to a list, dict or set that they make."""
    found: set[str] = set()
    for node in (node for statement in statements for node in ast.walk(statement)):
        if isinstance(node, ast.Assign | ast.AnnAssign):
            value = node.value
            called = value.func if isinstance(value, ast.Call) else None
            makes = getattr(called, "attr", getattr(called, "id", "")) in _MAKES_CONTAINER
            if makes or isinstance(value, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                found.update(target.id for target in targets if isinstance(target, ast.Name))
    return found


def _filled(statements: Iterable[ast.stmt], by_methods: bool) -> set[str]:
    """Return the names into whose items the statements put something, by `name[0] = x` or `name.append(x)`."""
    found: set[str] = set()
    for node in (node for statement in statements for node in ast.walk(statement)):
        if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found.update(_of_items(target) for target in targets if isinstance(target, ast.Subscript))
        call = node.value if isinstance(node, ast.Expr) else None
        if by_methods and isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
            found.add(_of_items(call.func.value) if call.args or call.keywords else "")
    return found - {""}


def _of_items(node: ast.expr) -> str:
    """Return `name` for `name`, `name[0]`, `name[0][1]` and so on, else an empty string."""
    while isinstance(node, ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def filled(statements: Iterable[ast.stmt]) -> set[str]:
    """Return the names into whose objects the statements put something.

    They set an item or attribute, or call a method with arguments and drop what it returns.
    """
    found: set[str] = set()
    for node in (node for statement in statements for node in ast.walk(statement)):
        if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found.update(_holder(target) for target in targets if not isinstance(target, ast.Name))
        call = node.value if isinstance(node, ast.Expr) else None
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and (call.args or call.keywords):
            found.add(_holder(call.func))
    return found - {""}


def worked_on(statements: list[ast.stmt]) -> set[str]:
    """Return the names whose objects the statements may change: they set an attribute, or drop what is returned.

    Filling a container that the statements make does not count: it is as good as binding its name.
    """
    containers = _containers(statements)
    found: set[str] = set()
    for node in (node for statement in statements for node in ast.walk(statement)):
        if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found.update(_holder(target) for target in targets if not _of_items(target))
        if isinstance(node, ast.Expr) and not _only_shows(node) and not _filled([node], True) & containers:
            found.update(of_expression(node.value).reads)
    return found - {""}


def _holder(node: ast.expr) -> str:
    """Return the name with which `name.attribute`, `name[0].attribute` and the like begin, or an empty string."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _only_shows(statement: ast.stmt) -> bool:
    call = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in {"print", "display"}


def notebook_functions(namespace: Mapping[str, Any], names: Iterable[str]) -> list[types.FunctionType]:
    """Return the functions of the notebook that code reading `names` can call.

    Followed are functions whose globals are `namespace`, methods of notebook classes, what decorators wrapped
    (`__wrapped__`), partial objects, and the names that each of these reads in turn.
    """
    found: list[types.FunctionType] = []
    seen: set[int] = set()
    pending: list[Any] = [namespace[name] for name in names if name in namespace]
    while pending:
        value = pending.pop()
        if id(value) in seen or inspect.ismodule(value):
            continue
        seen.add(id(value))
        pending.extend(_callables(value, namespace))
        if isinstance(value, types.FunctionType) and value.__globals__ is namespace:
            found.append(value)
            pending.extend(namespace[name] for name in of_code(value.__code__).reads if name in namespace)
    return found


def _callables(value: Any, namespace: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the functions and classes that calling `value`, or a method of it, may run."""
    if isinstance(value, functools.partial):
        yield value.func
        yield from value.args
    elif isinstance(value, types.MethodType):
        yield value.__func__
        yield value.__self__
    elif isinstance(value, type):
        if value.__module__ == namespace.get("__name__", "__main__"):
            for item in vars(value).values():
                yield from (getattr(item, part, None) for part in ("__func__", "fget", "fset"))
                yield item
    elif isinstance(value, types.FunctionType):
        yield getattr(value, "__wrapped__", None)
        for cell in value.__closure__ or ():
            try:
                yield cell.cell_contents
            except ValueError:  # a cell that is not filled yet
                continue
    elif isinstance(value, list | tuple):
        yield from value
    elif isinstance(value, dict):
        yield from value.values()
    else:
        wrapped = getattr(type(value), "__wrapped__", None)
        yield wrapped if wrapped is not None else inspect.getattr_static(value, "__wrapped__", None)
        yield type(value)
