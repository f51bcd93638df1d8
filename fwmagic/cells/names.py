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

# The last is for a type alias, or the bound of a type parameter, in a class body.
_READS = {"LOAD_NAME", "LOAD_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS"}
_WRITES = {"STORE_NAME", "STORE_GLOBAL"}
_DELETES = {"DELETE_NAME", "DELETE_GLOBAL"}
#: Statements that only define something.
DEFINITIONS = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass(frozen=True)
class Names:
    """Names of the namespace that some code reads, binds and deletes, nested functions included."""

    reads: frozenset[str]
    writes: frozenset[str]
    deletes: frozenset[str]


def names_of_code(code: types.CodeType) -> Names:
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


def words_of_code(code: types.CodeType) -> set[str]:
    """Return every name in a code object and in those nested in it: of globals, attributes, and named arguments."""
    words, pending = set[str](), [code]
    while pending:
        current = pending.pop()
        words.update(current.co_names)
        for const in current.co_consts:
            if isinstance(const, types.CodeType):
                pending.append(const)
            elif isinstance(const, tuple):  # the names of the arguments of a call
                words.update(word for word in const if isinstance(word, str))
    return words


def names_of_statements(statements: Iterable[ast.stmt]) -> Names:
    """Return the names of top-level statements, or of some that stand in a block of one."""
    body = list(statements)
    try:
        code = compile(ast.Module(body, []), "<names>", "exec", dont_inherit=True)
    except SyntaxError:  # `break` and `continue` are allowed in a loop only
        loop = ast.While(ast.Constant(True), body, [], lineno=1, col_offset=0)
        code = compile(ast.fix_missing_locations(ast.Module([loop], [])), "<names>", "exec", dont_inherit=True)
    return names_of_code(code)


def names_of_expression(expression: ast.expr) -> Names:
    """Return the names of an expression."""
    return names_of_statements([ast.copy_location(ast.Expr(expression), expression)])


def exposed_names(
    statements: Iterable[ast.stmt], known: frozenset[str] = frozenset(), loops_run: bool = False
) -> tuple[set[str], set[str]]:
    """Return the names that are needed before the statements bind them, perhaps, and those that they surely bind.

    `known` are names that are bound already. Loops may run zero times, unless `loops_run`; a `try` may stop anywhere,
    and so may a `with` that suppresses exceptions. What is deleted is needed, too.
    """
    defined = set(known)
    open_reads: set[str] = set()

    def inner(block: Iterable[ast.stmt], extra: Iterable[str] = ()) -> set[str]:
        reads, surely = exposed_names(block, frozenset(defined | set(extra)), loops_run)
        open_reads.update(reads)
        return surely

    def read(node: ast.expr | None) -> None:
        if node is not None:
            names = names_of_expression(node)
            open_reads.update(names.reads - defined)
            defined.update(names.writes)

    def targets(node: ast.expr) -> set[str]:
        assignment = ast.copy_location(ast.Assign(targets=[node], value=ast.Constant(0)), node)
        names = names_of_statements([ast.fix_missing_locations(assignment)])
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
                names = names_of_statements([statement])
                open_reads.update((names.reads | names.deletes) - defined)
                if not isinstance(statement, ast.Match | ast.TryStar):
                    defined |= names.writes
                defined -= names.deletes
    return open_reads, defined - known


def _suppresses(manager: ast.expr) -> bool:
    """Say whether a context manager goes by a name for one that lets a block end early."""
    return any(name in ast.unparse(manager) for name in ("suppress", "raises"))


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
            pending.extend(namespace[name] for name in names_of_code(value.__code__).reads if name in namespace)
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
