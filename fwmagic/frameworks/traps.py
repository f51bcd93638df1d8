"""Traps: what keeps code from being traced, or makes a trace compute something else; and what is known of a cell."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

TrapKind = Literal[
    "tracing restriction",
    "impurity or stale capture",
    "Python value baked in",
    "ordinary bug",
    "numerical",
]


@dataclass(frozen=True)
class Change:
    """Lines of the cell, the first and the last one, and what to write in their place."""

    first: int
    last: int
    text: str


@dataclass(frozen=True)
class Trap:
    """One reason: what it is, the line of the cell (None: of another one), why in two sentences, and what to change."""

    kind: TrapKind
    what: str
    line: int | None
    why: str
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True)
class Failing:
    """Where an error was raised in the user's code.

    `node` is the expression that raised it, as far as that is known, or the statement; `path` leads from the module to
    it. `values` are those of the names there.
    """

    error: BaseException
    line: int
    own: bool
    path: Sequence[ast.AST]
    values: Mapping[str, Any]

    @property
    def node(self) -> ast.AST | None:
        """The innermost node that is known to have raised the error."""
        return self.path[-1] if self.path else None

    def inside(self, *kinds: type[Any]) -> Any:
        """Return the innermost node of these kinds around what raised the error, itself included, or None."""
        return next((node for node in reversed(self.path) if isinstance(node, kinds)), None)


@dataclass
class LineFacts:
    """What is known of one statement of the user's: how often it ran plainly, and while tracing; what it prints."""

    line: int
    own: bool
    function: str
    node: ast.AST | None
    ran: int = 0
    traced: int = 0
    prints: bool = False


@dataclass
class Evidence:
    """What two runs of a cell showed: the plain one, and the traced one.

    Attributes
    ----------
    file
        The name of the cell's code.
    text
        The cell, by lines.
    tree
        Its code.
    raised, traced_raised
        What each run raised, and where.
    differs
        How the results of the traced run differ, as a sentence; empty: they do not.
    exact
        Whether the traced run was made by the same compiler that would compile the cell.
    lines
        What is known of each statement that ran.
    breaks, recompiles
        Where a graph ended, and where one was compiled again, with reasons; lines are the cell's.
    leaked
        Paths to values of a trace that outlived it.
    warned
        Lines and texts of warnings of the plain run.
    rebound
        Names of the notebook that a traced function read, and that were bound to something else later; with the line of
        the function, its name, and the line that bound it anew.
    plain
        The names of parameters whose values in the plain run were no arrays, by function.
    signatures
        For each traced function its line and what its arguments were, for each trace.
    names
        What the notebook's names were bound to after the plain run.
    scopes
        The functions of the code.
    """

    file: str
    text: Sequence[str]
    tree: ast.Module
    raised: Failing | None = None
    traced_raised: Failing | None = None
    differs: str = ""
    lines: list[LineFacts] = field(default_factory=list)
    breaks: Sequence[Any] = ()
    recompiles: Sequence[Any] = ()
    leaked: Sequence[str] = ()
    warned: Sequence[tuple[int, str]] = ()
    rebound: Sequence[tuple[str, str, int, int]] = ()
    plain: Mapping[str, frozenset[str]] = field(default_factory=dict)
    signatures: Mapping[tuple[str, int], Sequence[Mapping[str, str]]] = field(default_factory=dict)
    names: Mapping[str, Any] = field(default_factory=dict)
    scopes: Scopes = field(init=False)

    def __post_init__(self) -> None:
        self.scopes = Scopes(self.tree)


class Scopes:
    """The functions of a cell: which one a statement is in, and which names that binds; worked out once."""

    def __init__(self, tree: ast.Module) -> None:
        self._around: dict[int, ast.FunctionDef] = {}
        self._names: dict[int, tuple[set[str], set[str]]] = {}
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef):
                # an inner one comes later
                self._around.update((id(inner), function) for inner in ast.walk(function) if inner is not function)

    def names_around(self, node: ast.AST | None) -> tuple[set[str], set[str]] | None:
        """Return the names that the function around a statement binds, and those that it shares with code outside."""
        function = self._around.get(id(node))
        if function is None:
            return None
        if id(function) not in self._names:
            self._names[id(function)] = _names_of_function(function)
        return self._names[id(function)]


def _names_of_function(function: ast.FunctionDef) -> tuple[set[str], set[str]]:
    given = function.args
    own = {one.arg for one in [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg] if one}
    shared: set[str] = set()
    for inner in ast.walk(function):
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
            own.add(inner.id)
        elif isinstance(inner, ast.Global | ast.Nonlocal):
            shared.update(inner.names)
    return own, shared


class Inspector:
    """Looks at each statement of the user's before it runs plainly, and runs nothing itself."""

    def look(self, node: ast.AST, line: int | None, values: Mapping[str, Any]) -> None:
        """Look at a statement in that line of the cell (None: of another cell); `values` are those of names there."""

    def found(self) -> list[Trap]:
        """Return what was found."""
        return []


def is_column_beside_row(one: Sequence[int], other: Sequence[int]) -> bool:
    """Say whether arrays of two shapes, `(n,)` and `(n, 1)`, become `(n, n)`, where one number for each was meant."""
    row, column = sorted((tuple(one), tuple(other)), key=len)
    return len(row) == 1 and column == (*row, 1) and row[0] > 1


def column_beside_row(node: ast.BinOp, line: int | None, shapes: Mapping[str, Sequence[int]]) -> Trap | None:
    """Return the trap of an operation on two named arrays whose shapes are such; None: they are not."""
    names = [side.id for side in (node.left, node.right) if isinstance(side, ast.Name) and side.id in shapes]
    if len(names) < 2 or not is_column_beside_row(shapes[names[0]], shapes[names[1]]):
        return None
    told = " and ".join(f"`{name}` is {tuple(shapes[name])}" for name in names)
    size = max(shapes[names[0]])
    why = (
        f"{told}, so that `{ast.unparse(node)}` is broadcast to ({size}, {size}): each number meets each other one. "
        "Give both one shape, by `.reshape(-1)` or `[:, None]`."
    )
    return Trap("ordinary bug", "a column beside a row", line, why)


def path_to_line(tree: ast.Module, line: int) -> list[ast.AST]:
    """Return the nodes from a module down to the innermost statement that a line belongs to."""
    path: list[ast.AST] = [tree]
    while True:
        inside = [one for one in ast.iter_child_nodes(path[-1]) if isinstance(one, ast.stmt)]
        inner = next((one for one in inside if one.lineno <= line <= (one.end_lineno or one.lineno)), None)
        if inner is None:
            return path if len(path) > 1 else []
        path.append(inner)


def outlives(node: ast.AST | None, scopes: Scopes) -> str:
    """Return the name of something outside of a function that a statement in it changes; empty: it changes none."""
    names = scopes.names_around(node)
    if node is None or names is None:
        return ""
    own, shared = names
    targets = list(getattr(node, "targets", [])) or [getattr(node, "target", None)]
    for target in targets:
        if isinstance(target, ast.Name) and target.id in shared:
            return target.id
        while isinstance(target, ast.Subscript | ast.Attribute):
            target = target.value
            if isinstance(target, ast.Name) and (target.id not in own or target.id in shared or target.id == "self"):
                return target.id
    call = getattr(node, "value", None) if isinstance(node, ast.Expr) else None
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in _CHANGING:
        base = call.func.value
        while isinstance(base, ast.Subscript | ast.Attribute):
            base = base.value
        if isinstance(base, ast.Name) and base.id not in own - shared:
            return base.id
    return ""


_CHANGING = {*("append", "extend", "insert", "add", "update", "setdefault", "pop", "remove", "clear")}
