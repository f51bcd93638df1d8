"""How often a body loops, judged by the values that it loops over."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

from fwmagic.cells.analyse import Body, dotted
from fwmagic.report import Place

#: A body that loops more often than this stays Python: a trace would copy the loop's body that many times.
MOST_UNROLLED = 16


def loops_over_data(body: Body, namespace: Mapping[str, Any], unknown: bool) -> Place | None:
    """Return the first loop that runs over data or more than 16 times, judged by the values it loops over.

    `unknown` is the answer for a loop over something that the body itself makes.
    """
    for loop in body.loops:
        if isinstance(loop, ast.While):
            continue
        source = ast.unparse(loop.iter)
        length = _length(loop.iter, namespace, body.assigned)
        if (length is None and unknown) or (length is not None and length > MOST_UNROLLED):
            return Place(loop.lineno, f"the loop over `{source}` runs over data or more than {MOST_UNROLLED} times")
    return None


def _length(node: ast.expr, namespace: Mapping[str, Any], assigned: frozenset[str]) -> float | None:
    """Return how often a loop over `node` runs; infinity for data loaders and iterators; None if not known."""
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        return len(node.elts)
    if isinstance(node, ast.Call):
        name = dotted(node.func)
        lengths = [_length(argument, namespace, assigned) for argument in node.args]
        if name in {"enumerate", "zip", "reversed", "sorted", "list", "tuple"} and lengths:
            known = [length for length in lengths if length is not None]
            return min(known) if known else None
        if name == "range":
            bounds = [_constant(argument, namespace, assigned) for argument in node.args]
            return None if any(not isinstance(b, int) for b in bounds) else len(range(*bounds))
        if isinstance(node.func, ast.Attribute) and node.func.attr in {"items", "keys", "values"}:
            return _length(node.func.value, namespace, assigned)
        return None
    value = _constant(node, namespace, assigned)
    if value is None:
        return None
    sized = isinstance(value, list | tuple | dict | set | range | str) or type(value).__name__ in {
        *("ModuleList", "Sequential", "ModuleDict", "ParameterList"),
    }
    if sized:
        return len(value)
    shape = getattr(value, "shape", None)
    return float(shape[0]) if shape else float("inf")


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
        value = getattr(value, attribute, None)
    return value
