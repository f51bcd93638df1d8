"""The text of the user's code, by statements: which one a line belongs to, and which names it binds or changes."""

from __future__ import annotations

import ast
import linecache
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType

_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_COMPOUND = (*_DEFINITIONS, ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.Match)
# Methods that change what they belong to.
_CHANGING = {*("append", "extend", "insert", "update", "add", "pop", "setdefault", "clear", "remove")}


@dataclass(frozen=True)
class Statement:
    """A simple statement, or the head of a compound one: lines, node, and the names that it binds or changes."""

    first: int
    last: int
    node: ast.AST
    names: tuple[str, ...] = ()


class Source:
    """The statements of one file; `tree` has the file's line numbers."""

    def __init__(self, tree: ast.Module) -> None:
        self.tree = tree
        self._by_line: dict[int, Statement] = {}
        self._heads: dict[int, Statement] | None = None
        for node in ast.walk(tree):  # outer ones come first, so that inner ones take their place
            for one in _statements(node):
                for line in range(_first_line(one.node), one.last + 1):  # from its decorators on
                    self._by_line[line] = one

    def at(self, line: int) -> Statement | None:
        """Return the statement to which a line belongs."""
        return self._by_line.get(line)

    def head(self, code: CodeType) -> Statement | None:
        """Return the line of `def` of a function; its names are the parameters."""
        if self._heads is None:
            self._heads = {}
            for node in ast.walk(self.tree):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
                    self._heads[first] = _head(node, _parameters(node))
        return self._heads.get(code.co_firstlineno) if not code.co_name.startswith("<") else None

    def path_to(self, line: int, end: int, start: int, stop: int) -> list[ast.AST]:
        """Return the nodes from the module down to the smallest one that covers this span of the text."""
        path: list[ast.AST] = [self.tree]
        while True:
            inner = next(
                (child for child in ast.iter_child_nodes(path[-1]) if _covers(child, (line, start), (end, stop))), None
            )
            if inner is None:
                return path
            path.append(inner)


def source_of_file(filename: str) -> Source:
    """Return the source of another cell, or of none where its text is no Python."""
    text = "".join(linecache.getlines(filename))
    if text.startswith("%%"):  # of a magic
        text = "\n" + text.partition("\n")[2]
    try:
        return Source(ast.parse(text))
    except (SyntaxError, ValueError):
        return Source(ast.Module([], []))


def _covers(node: ast.AST, start: tuple[int, int], stop: tuple[int, int]) -> bool:
    if not hasattr(node, "lineno"):  # such as the arguments of a function
        return any(_covers(child, start, stop) for child in ast.iter_child_nodes(node))
    begin, end = (tuple(getattr(node, f"{which}{part}") for part in ("lineno", "col_offset")) for which in ("", "end_"))
    first = min([begin, *((one.lineno, 0) for one in getattr(node, "decorator_list", ()))])
    return first <= start and end >= stop


def _statements(node: ast.AST) -> Iterator[Statement]:
    if isinstance(node, _DEFINITIONS):
        yield _head(node, ())
    elif isinstance(node, ast.ExceptHandler):
        yield Statement(node.lineno, node.lineno, node)
    elif isinstance(node, ast.stmt):
        yield _head(node, tuple(dict.fromkeys(_bound(node))))


def _head(node: ast.stmt, names: tuple[str, ...]) -> Statement:
    last = node.end_lineno or node.lineno
    if isinstance(node, _COMPOUND):
        body = getattr(node, "body", None) or getattr(node, "cases", [])
        last = max(node.lineno, min((_first_line(one) for one in body), default=last + 1) - 1)
        if isinstance(node, ast.Try):
            last = node.lineno
    return Statement(node.lineno, last, node, names)


def _first_line(node: ast.AST) -> int:
    lines: list[int] = [getattr(node, "lineno", 0) or getattr(getattr(node, "pattern", None), "lineno", 0)]
    lines += [one.lineno for one in getattr(node, "decorator_list", ())]
    return min(lines)


def _parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> tuple[str, ...]:
    given = node.args
    every = [*given.posonlyargs, *given.args, given.vararg, *given.kwonlyargs, given.kwarg]
    return tuple(one.arg for one in every if one is not None and one.arg not in ("self", "cls"))


def _bound(node: ast.AST) -> Iterator[str]:
    """Yield the names that a statement, or the head of one, binds or changes, as they are written."""
    targets: list[ast.AST] = []
    if isinstance(node, ast.Assign):
        targets = list(node.targets)
    elif isinstance(node, ast.AugAssign | ast.AnnAssign | ast.For | ast.AsyncFor):
        targets = [node.target]
    elif isinstance(node, ast.With | ast.AsyncWith):
        targets = [item.optional_vars for item in node.items if item.optional_vars is not None]
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        called = node.value.func
        if isinstance(called, ast.Attribute) and (called.attr in _CHANGING or _is_in_place(called.attr)):
            targets = [called.value]
    for target in targets:
        yield from _named(target)
    parts = ("value", "test", "iter")
    for part in (getattr(node, name, None) for name in parts):
        if isinstance(part, ast.AST):
            yield from (one.target.id for one in ast.walk(part) if isinstance(one, ast.NamedExpr))


def _is_in_place(method: str) -> bool:
    return method.endswith("_") and not method.endswith("__")


def _named(target: ast.AST) -> Iterator[str]:
    if isinstance(target, ast.Tuple | ast.List):
        for one in target.elts:
            yield from _named(one)
    elif isinstance(target, ast.Starred | ast.Subscript):
        yield from _named(target.value)
    elif isinstance(target, ast.Name):
        yield target.id
    elif isinstance(target, ast.Attribute):
        for name in _named(target.value):
            yield f"{name}.{target.attr}"
