"""The loops of a body: how often they run, by the values that they run over, and what a trace has to know of them."""

from __future__ import annotations

import ast
import copy
import math
from collections.abc import Iterable, Mapping
from typing import Any

from fwmagic.cells.analyse import Body, dotted
from fwmagic.report import Place

# What draws a bar for what it is given, and what does for a range.
_BARS = {"tqdm", "tqdm_notebook", "track", "progress_bar"}
_RANGE_BARS = {"trange", "tnrange"}
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


def loops_over_data(body: Body, namespace: Mapping[str, Any], containers: tuple[type, ...] = ()) -> Place | None:
    """Return the first loop that runs over data, by the value that it runs over; lists are none, nor `containers`."""
    for loop in body.loops:
        if isinstance(loop, ast.For) and _loop_length(loop.iter, namespace, body.assigned, containers) == math.inf:
            return Place(loop.lineno, f"the loop over `{ast.unparse(loop.iter)}` runs over data")
    return None


def why_too_long(most: int, in_loop: bool = True) -> str:
    """Return why a loop is not unrolled that would be more operations, or a body without one not compiled."""
    return f"{'the loop would be unrolled into' if in_loop else 'it would be'} more than {most:,} operations"


def _loop_length(
    node: ast.expr, namespace: Mapping[str, Any], assigned: frozenset[str], containers: tuple[type, ...]
) -> float | None:
    """Return how often a loop over `node` runs; infinity for data loaders and iterators; None if not known."""
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        return len(node.elts)
    if isinstance(node, ast.Call):
        name = dotted(node.func)
        under = _under_bar(node)
        if under is not None:
            return _loop_length(under, namespace, assigned, containers)
        lengths = [_loop_length(argument, namespace, assigned, containers) for argument in node.args]
        if name in {"enumerate", "zip", "reversed", "sorted", "list", "tuple"} and lengths:
            known = [length for length in lengths if length is not None]
            return min(known) if known else None
        if name == "range":
            bounds = [_constant(argument, namespace, assigned) for argument in node.args]
            return None if any(not isinstance(b, int) for b in bounds) else len(range(*bounds))
        if isinstance(node.func, ast.Attribute) and node.func.attr in {"items", "keys", "values"}:
            return _loop_length(node.func.value, namespace, assigned, containers)
        return None
    value = _constant(node, namespace, assigned)
    if value is None:
        return None
    if isinstance(value, list | tuple | dict | set | range | str) or type(value) in containers:
        return len(value)
    shape = _asked(value, "shape")
    return float(shape[0]) if shape and isinstance(shape, tuple) else math.inf


def _constant(node: ast.expr, namespace: Mapping[str, Any], assigned: frozenset[str]) -> Any:
    """Return the value of a constant, a name or an attribute of a name that the body does not bind; else None."""
    if isinstance(node, ast.Constant):
        return node.value
    name = dotted(node)
    root, *attributes = name.split(".")
    if not name or root in assigned or root not in namespace:
        return None
    value = namespace[root]
    for attribute in attributes:
        value = _asked(value, attribute)
    return value


def _asked(value: Any, attribute: str) -> Any:
    """Return an attribute of an object, None if it has none: classes of the user may answer in ways of their own."""
    try:
        return getattr(value, attribute, None)
    except Exception:  # whatever the user's own `__getattr__` raises
        return None


# Bars


def bars(body: Body) -> tuple[int, ...]:
    """Return the lines of the loops for which a bar is drawn while they run."""
    return tuple(loop.lineno for loop in body.loops if isinstance(loop, ast.For) and _under_bar(loop.iter) is not None)


def _under_bar(node: ast.expr) -> ast.expr | None:
    """Return what a loop over `node` runs over if that draws a bar, else None."""
    if not isinstance(node, ast.Call) or not node.args or isinstance(node.args[0], ast.Starred):
        return None
    name = dotted(node.func).rpartition(".")[2]
    if name in _BARS:
        return node.args[0]
    if name in _RANGE_BARS:
        return ast.copy_location(ast.Call(ast.copy_location(ast.Name("range", ast.Load()), node), node.args, []), node)
    return None


def without_bars(statements: Iterable[ast.stmt]) -> list[ast.stmt]:
    """Return statements like these, in which loops run over what is under their bars: no compiler draws one."""
    copied = copy.deepcopy(list(statements))
    for node in (node for statement in copied for node in ast.walk(statement)):
        if isinstance(node, ast.For):
            node.iter = _under_bar(node.iter) or node.iter
    return copied


# Turns


def with_turns_told(statements: Iterable[ast.stmt], name: str) -> list[ast.stmt]:
    """Return statements like these, in which each turn of a loop begins with a call of `name` with the loop's line.

    Loops inside of definitions are left alone.
    """
    copied = without_bars(statements)
    pending: list[ast.AST] = list(copied)
    while pending:
        node = pending.pop()
        if isinstance(node, _DEFINITIONS):
            continue
        pending.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.For | ast.While):
            call = ast.Call(ast.Name(name, ast.Load()), [ast.Constant(node.lineno)], [])
            told = ast.copy_location(ast.Expr(call), node.body[0])
            node.body.insert(0, ast.fix_missing_locations(told))
    return copied
