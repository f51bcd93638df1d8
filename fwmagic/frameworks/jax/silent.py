"""The traps of JAX that raise nothing: what goes wrong in silence, and what to write instead."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any, TypeGuard

import jax
import numpy as np

from fwmagic.frameworks.jax.compiler import is_traced
from fwmagic.frameworks.rewrite import (
    replaced,
)
from fwmagic.frameworks.traps import Change, Evidence, Inspector, Trap, column_beside_row

# So many traces of one function, in as many calls, are one too many for a compiled function.
_STORM = 3


def suspects(evidence: Evidence) -> Iterator[Trap]:
    """Yield what goes wrong without an error."""
    for line, text in evidence.warned:
        if "float64" in text or "int64" in text or "complex128" in text:
            wide = next(one for one in ("float64", "int64", "complex128") if one in text)
            why = (
                f"JAX computes in 32 bits unless it is told otherwise, so that {wide} was asked for and not given. "
                "`jax.config.update('jax_enable_x64', True)` at the beginning of the notebook allows it."
            )
            yield Trap("numerical", f"{wide} lost", line, why)
    yield from _storms(evidence)
    for name, function, line, bound in evidence.rebound:
        yield Trap(
            "impurity or stale capture",
            "a global value from the time of the trace",
            line,
            f"`{function}` read `{name}` once, while it was traced, and its program keeps that value; line {bound} "
            f"binds `{name}` anew, which later calls do not see. Hand `{name}` over as an argument.",
            _as_argument(evidence, function, name),
        )


def _as_argument(evidence: Evidence, function: str, name: str) -> tuple[Change, ...]:
    """Return the changes that hand a global over to a function of the cell wherever it is called."""
    nodes = list(ast.walk(evidence.tree))
    made = [one for one in nodes if isinstance(one, ast.FunctionDef) and one.name == function]
    calls = [
        one for one in nodes if isinstance(one, ast.Call) and isinstance(one.func, ast.Name) and one.func.id == function
    ]
    mentions = [one for one in nodes if isinstance(one, ast.Name) and one.id == function]
    if len(made) != 1 or len(mentions) != len(calls) or any(call.keywords for call in calls):
        return ()
    by_line: dict[int, list[ast.Call]] = {}
    for call in calls:
        by_line.setdefault(call.lineno, []).append(call)
    changes: list[Change] = []
    for same in by_line.values():
        if len(same) > 1:
            return ()
        arguments = [*map(ast.unparse, same[0].args), name]
        changes += replaced(evidence.text, same[0], f"{function}({', '.join(arguments)})")
    (node,) = made
    given = node.args
    if given.vararg or given.kwarg or given.kwonlyargs or given.defaults:
        return ()
    if len(node.body) == 1 and node.body[0].lineno == node.lineno:
        return ()
    head = f"def {function}({', '.join([*(one.arg for one in given.args), name])}):"
    indent = " " * node.col_offset
    changes.append(Change(node.lineno, node.body[0].lineno - 1, indent + head))
    return tuple(changes)


def _storms(evidence: Evidence) -> Iterator[Trap]:
    for (function, line), traces in evidence.signatures.items():
        if len(traces) < _STORM:
            continue
        differing = [name for name in traces[0] if len({trace.get(name) for trace in traces}) > 1]
        if not differing:
            why = (
                f"`{function}` was traced {len(traces)} times with the same types of arguments: `jax.jit` is called "
                "anew each time, and a new object knows nothing of the old one's programs. Call `jax.jit` once, "
                "outside of the loop."
            )
            yield Trap("tracing restriction", "compiled anew each time", line, why)
            continue
        name = differing[0]
        kinds = [str(trace.get(name)).replace(" tracer", "") for trace in traces]
        seen = ", ".join(list(dict.fromkeys(kinds))[:3])
        weak = any(kind.endswith(" weak") for kind in kinds)
        instead = "Hand over one kind: a Python number is weakly typed" if weak else "Pad to one shape, or hand over an"
        why = (
            f"`{function}` was traced {len(traces)} times, since `{name}` was another type of value each time "
            f"({seen}, …), and each shape, dtype and static value needs a program of its own. {instead}"
            f"{', and `jnp.float32(1)` is not.' if weak else ' array.'}"
        )
        yield Trap("tracing restriction", "a trace for each call", line, why)


def stale(evidence: Evidence) -> Iterator[Trap]:
    """Yield where a traced function read what is neither an argument nor a name of the notebook, and changes later."""
    for one in evidence.lines:
        if not one.own or not one.traced or one.ran <= one.traced or not isinstance(one.node, ast.stmt):
            continue
        own, _ = evidence.scopes.names_around(one.node) or (set(), set())
        for inner in _looked_at(one.node):
            if not isinstance(inner, ast.Attribute | ast.Subscript | ast.Name) or not isinstance(inner.ctx, ast.Load):
                continue
            root: ast.AST = inner
            while isinstance(root, ast.Attribute | ast.Subscript):
                root = root.value
            name = root.id if isinstance(root, ast.Name) else ""
            held = evidence.names.get(name)
            outside = held is None and not hasattr(builtins, name) if root is inner else not _is_code(held)
            if name and (name not in own or name == "self") and outside:
                function = one.function.rpartition(".")[2]
                why = (
                    f"`{function}` read `{ast.unparse(inner)}` while it was traced, and its program keeps that value: "
                    "what it is changed to later, later calls do not see. Hand it over as an argument."
                )
                yield Trap("impurity or stale capture", "a value from the time of the trace", one.line, why)
                return


def _is_code(value: Any) -> bool:
    return isinstance(value, ModuleType | type) or callable(value)


class JaxInspector(Inspector):
    """Looks for keys that are used twice, and for places outside of an array, which JAX moves inside in silence."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, int | None], Trap] = {}
        self._drawn: dict[bytes, int | None] = {}
        self._parts: dict[int, tuple[ast.AST, list[ast.Subscript | ast.Call | ast.BinOp]]] = {}

    def look(self, node: ast.AST, line: int | None, values: Mapping[str, Any]) -> None:
        """Look at the places and the keys in one statement."""
        if id(node) not in self._parts:
            self._parts[id(node)] = (
                node,
                [one for one in _looked_at(node) if isinstance(one, ast.Subscript | ast.Call | ast.BinOp)],
            )
        for inner in self._parts[id(node)][1]:
            if isinstance(inner, ast.Call):
                self._look_at_key(inner, line, values)
            elif isinstance(inner, ast.BinOp):
                sides = (side.id for side in (inner.left, inner.right) if isinstance(side, ast.Name))
                arrays: dict[str, Any] = {name: values.get(name) for name in sides}
                self._add(column_beside_row(inner, line, {n: a.shape for n, a in arrays.items() if _is_array(a)}))
            elif isinstance(inner.ctx, ast.Load):
                self._look_at_place(inner, line, values)

    def found(self) -> list[Trap]:
        """Return what was found, once a line."""
        return list(self._found.values())

    def _add(self, trap: Trap | None) -> None:
        if trap is not None:
            self._found.setdefault((trap.what, trap.line), trap)

    def _look_at_place(self, node: ast.Subscript, line: int | None, values: Mapping[str, Any]) -> None:
        changed = isinstance(node.value, ast.Attribute) and node.value.attr == "at"
        owner = node.value.value if changed else node.value  # type: ignore[attr-defined]
        name = owner.id if isinstance(owner, ast.Name) else ""
        array: Any = values.get(name)
        if not _is_array(array):
            return
        places = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if len(places) > array.ndim:
            return
        for size, index in zip(array.shape, places, strict=False):
            if isinstance(index, ast.Constant) and index.value in (None, ...):
                return  # which axis the next one is of is not looked at
            outside = next((one for one in _integers(index, values) if not -size <= one < size), None)
            if outside is not None:
                self._add(_outside(node, name, outside, size, line, changed))
                return

    def _look_at_key(self, node: ast.Call, line: int | None, values: Mapping[str, Any]) -> None:
        function = ast.unparse(node.func)
        owner, _, method = function.rpartition(".")
        if owner not in ("jax.random", "random", "jrandom", "jr") or not node.args or method in _NOT_DRAWING:
            return
        given = node.args[0]
        key = values.get(given.id) if isinstance(given, ast.Name) else None
        if not isinstance(key, jax.Array) or is_traced(key):
            return
        typed = jax.numpy.issubdtype(key.dtype, jax.dtypes.prng_key)
        if key.size > (1 if typed else 2):
            return  # several keys
        ident = np.asarray(jax.random.key_data(key) if typed else key).tobytes()
        if ident in self._drawn:
            first = self._drawn[ident]
            where = "in this line" if first == line else f"in line {first}"
            name = ast.unparse(given)
            why = (
                f"`{name}` was used {where} already, and the same key draws the same numbers again. "
                f"Take a new one for each use: `{name}, new = jax.random.split({name})`, and draw with `new`."
            )
            self._add(Trap("ordinary bug", "a key that is used twice", line, why))
        else:
            self._drawn[ident] = line


_NOT_DRAWING = {*("fold_in", "PRNGKey", "key", "wrap_key_data", "key_data", "clone", "key_impl")}


def _is_array(value: Any) -> TypeGuard[jax.Array]:
    return isinstance(value, jax.Array) and not is_traced(value)


def _outside(node: ast.Subscript, name: str, place: int, size: int, line: int | None, changed: bool) -> Trap:
    asks = f"`{ast.unparse(node)}` asks for entry {place} of `{name}`, which has {size} there"
    if changed:
        why = f"{asks}, and JAX cannot raise an error from a compiled program: nothing is changed. Mend the index."
    else:
        why = (
            f"{asks}, and JAX cannot raise an error from a compiled program: it takes entry "
            f"{size - 1 if place >= 0 else 0}. Mend the index; `{name}.at[i].get(mode='fill')` gives NaN instead."
        )
    return Trap("ordinary bug", "an index out of bounds", line, why)


def _integers(node: ast.expr, values: Mapping[str, Any]) -> Sequence[int]:
    """Return the least and the largest integer of an index, if it is one, or the name of one or of an array of some."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return [-one for one in _integers(node.operand, values)]
    value: Any = (
        node.value if isinstance(node, ast.Constant) else values.get(node.id) if isinstance(node, ast.Name) else None
    )
    if _is_array(value) and value.dtype.kind in "iu" and 0 < value.size <= _MOST_PLACES:
        value = np.asarray(value)
    if isinstance(value, np.ndarray) and value.dtype.kind in "iu" and 0 < value.size <= _MOST_PLACES:
        return [int(value.min()), int(value.max())]
    return [value] if type(value) is int else []


# Of a longer index, the places are not looked at.
_MOST_PLACES = 1 << 20


def _looked_at(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a simple statement, or of the head of a compound one, whose names have the values of now."""
    heads: dict[type[ast.AST], str] = {ast.If: "test", ast.While: "test", ast.For: "iter"}
    if isinstance(node, _NOT_LOOKED_AT):
        return
    pending = [getattr(node, heads[type(node)]) if type(node) in heads else node]
    while pending:
        inner = pending.pop()
        if not isinstance(inner, _LATER):
            yield inner
            pending += list(ast.iter_child_nodes(inner))[::-1]


_NOT_LOOKED_AT = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.With, ast.Try, ast.Match, ast.ExceptHandler)
_LATER = (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
