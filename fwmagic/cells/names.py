"""The names that code reads and writes, taken from its bytecode, so that every syntax is covered."""

from __future__ import annotations

import ast
import dis
import functools
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fwmagic.cells.kinds import attributes_of

# The last is for a type alias, or the bound of a type parameter, in a class body.
_READS = {"LOAD_NAME", "LOAD_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS"}
_WRITES = {"STORE_NAME", "STORE_GLOBAL"}
_DELETES = {"DELETE_NAME", "DELETE_GLOBAL"}
#: What looks up or binds names that no bytecode shows, and what leads to a namespace.
LOOKS_UP = {"globals", "eval", "exec", "get_ipython"}
LEADS_TO_NAMES = {"_getframe", "currentframe", "f_globals", "f_locals", "__globals__", "__main__", "user_ns"}
#: Statements that only define something.
DEFINITIONS = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)

_HOLD_OTHERS = (types.MethodType, type, list, tuple, dict)
# Most of what a large list holds.
_CALL_NOTHING = {types.ModuleType, type(None), bool, int, float, complex, str, bytes, range}


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


def names_as_values(code: types.CodeType) -> set[str]:
    """Return the global names that a function's code reads for anything but to call what they are bound to."""
    names, pending = set[str](), [code]
    while pending:
        current = pending.pop()
        for instruction in dis.get_instructions(current):
            is_called = instruction.opname == "LOAD_GLOBAL" and (instruction.arg or 0) & 1
            if instruction.opname in _READS and not is_called:
                names.add(instruction.argval)
        pending += [const for const in current.co_consts if isinstance(const, types.CodeType)]
    return names


def looks_up(code: types.CodeType) -> str:
    """Return by what a function's code can reach names that it does not show, or an empty string.

    Inside of a function, `locals`, `vars` and `dir` tell of that function alone.
    """
    own, texts, pending = set[str](), set[Any](), [code]
    while pending:
        current = pending.pop()
        own.update(current.co_names)
        texts.update(const for const in current.co_consts if isinstance(const, str))
        pending += [const for const in current.co_consts if isinstance(const, types.CodeType)]
    # A method may have such a name, as that which sets a model to evaluation has.
    read = names_of_code(code).reads if LOOKS_UP & own else set[str]()
    found = LOOKS_UP & read | LEADS_TO_NAMES & own | {"__main__"} & texts
    if {"modules", "__name__"} <= own:
        found.add("sys.modules")
    return min(found, default="")


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


def is_star(node: ast.AST) -> bool:
    """Say whether this is `from m import *`."""
    return isinstance(node, ast.ImportFrom) and node.names[0].name == "*"


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
    idle = set(_CALL_NOTHING)
    pending: list[Any] = [namespace[name] for name in names if name in namespace]
    while pending:
        value = pending.pop()
        if type(value) in idle or id(value) in seen or issubclass(type(value), types.ModuleType):
            continue
        seen.add(id(value))
        if not type(value).__dictoffset__ and not issubclass(type(value), _HOLD_OTHERS):
            idle.add(type(value))  # of more such objects, too, only the class has anything to call
        pending.extend(_callables(value, namespace))
        if issubclass(type(value), types.FunctionType) and value.__globals__ is namespace:
            found.append(value)
            pending.extend(namespace[name] for name in names_of_code(value.__code__).reads if name in namespace)
    return found


def _callables(value: Any, namespace: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the functions and classes that calling `value`, or a method of it, may run."""
    if issubclass(type(value), functools.partial):
        yield value.func
        yield from value.args
    elif issubclass(type(value), types.MethodType):
        yield value.__func__
        yield value.__self__
    elif issubclass(type(value), type):
        if value.__module__ == namespace.get("__name__", "__main__"):
            for item in vars(value).values():
                if issubclass(type(item), staticmethod | classmethod):
                    yield item.__func__
                elif issubclass(type(item), property):
                    yield from (item.fget, item.fset)
                yield item
    elif issubclass(type(value), types.FunctionType):
        yield getattr(value, "__wrapped__", None)
        for cell in value.__closure__ or ():
            try:
                yield cell.cell_contents
            except ValueError:  # a cell that is not filled yet
                continue
    elif issubclass(type(value), list | tuple | dict):
        held = value.values() if issubclass(type(value), dict) else value
        if not _CALL_NOTHING.issuperset(map(type, held)):
            yield from held
    else:
        yield getattr(type(value), "__wrapped__", None)
        yield attributes_of(value).get("__wrapped__")
        yield type(value)
