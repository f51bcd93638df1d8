"""What definitions do when they are made: which names they read then, and whether they may change anything else."""

from __future__ import annotations

import ast
import builtins
import sys
from collections.abc import Iterable, Iterator, Mapping
from types import FunctionType, ModuleType
from typing import Any

from fwmagic.cells.modules import is_of_user
from fwmagic.cells.names import is_star, names_of_expression, names_of_statements
from fwmagic.libraries import is_of_library

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
# Decorators under these names ask for nothing that a statement may have changed.
_KNOWN = {
    *("property", "staticmethod", "classmethod", "dataclass", "cache", "lru_cache", "cached_property", "wraps"),
    *("contextmanager", "total_ordering", "singledispatch", "partial", "jit", "vmap", "no_grad", "inference_mode"),
}


def names_read_at_once(definitions: Iterable[ast.stmt]) -> list[str]:
    """Return the names that are read when the definitions are made, and not only when they are called."""
    return sorted(name for one in definitions for part in _run_at_once(one) for name in names_of_expression(part).reads)


def may_depend_on(definition: ast.stmt, before: Iterable[ast.stmt]) -> bool:
    """Say whether what is made may be another thing after these statements, since they may change objects in place.

    A decorator, a default or an attribute of a class may look at what they change, itself or in a function that it
    calls. What a module offers as a decorator or a base, such as `jax.jit` or `nn.Module`, does not.
    """
    acting = [statement for statement in before if any(map(_acts, ast.walk(statement)))]
    if not acting or isinstance(definition, ast.Import | ast.ImportFrom):
        return False
    found, made = names_of_statements(acting), [*_made_at_once(definition)]
    decorators = [part for one in made for part in one.decorator_list]
    bases = [part for one in made if isinstance(one, ast.ClassDef) for part in one.bases]
    offered = {id(part) for part in (*decorators, *bases) if _is_offer(part)}
    parts = [part for part in _run_at_once(definition) if id(part) not in offered]
    calls = [node.func for part in parts for node in ast.walk(part) if isinstance(node, ast.Call)]
    run = {one.id for one in (*decorators, *calls) if isinstance(one, ast.Name)}
    read = set[str]().union(*(names_of_expression(part).reads for part in parts))
    return bool(run - _KNOWN - vars(builtins).keys() or read & (found.reads | found.writes))


def _acts(node: ast.AST) -> bool:
    """Say whether a part of a statement may change an object in place."""
    is_place = isinstance(node, ast.Subscript | ast.Attribute) and not isinstance(node.ctx, ast.Load)
    return (
        is_place or isinstance(node, ast.AugAssign) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call))
    )


def _is_offer(part: ast.expr) -> bool:
    """Say whether a decorator or a base is a dotted name, a known one, or a call of one with no more than such."""
    if isinstance(part, ast.Call):
        return all(map(_is_offer, (part.func, *part.args, *(one.value for one in part.keywords))))
    return isinstance(part, ast.Constant | ast.Attribute) or (isinstance(part, ast.Name) and part.id in _KNOWN)


def names_made(definitions: Iterable[ast.stmt]) -> set[str]:
    """Return the names that definitions have bound which were made, those of `from m import *` among them."""
    made = list(definitions)
    found = set(names_of_statements(made).writes)
    for one in made:
        module = sys.modules.get(one.module or "") if isinstance(one, ast.ImportFrom) and is_star(one) else None
        if module is not None:
            found.update(getattr(module, "__all__", (name for name in vars(module) if not name.startswith("_"))))
    return found


def may_act(definitions: Iterable[ast.stmt], namespace: Mapping[str, Any]) -> bool:
    """Say whether making the definitions may change something else, as a decorator does that keeps what it decorates.

    What libraries offer by their modules, such as `dataclass` or `jax.jit`, is trusted to change nothing that counts.
    """
    for node in (node for one in definitions for node in _made_at_once(one)):
        bases, keywords = (node.bases, node.keywords) if isinstance(node, ast.ClassDef) else ([], [])
        calls = (inner for part in _run_at_once(node) for inner in ast.walk(part) if isinstance(inner, ast.Call))
        called = [*node.decorator_list, *(one.value for one in keywords), *(call.func for call in calls)]
        if any(_acts_when_called(value) for value in _roots(called, namespace)):
            return True
        if any(_acts_on_subclasses(value) for value in _roots(bases, namespace)):
            return True
    return False


def _roots(expressions: Iterable[ast.expr], namespace: Mapping[str, Any]) -> Iterator[Any]:
    names = {name for expression in expressions for name in names_of_expression(expression).reads}
    return (namespace[name] for name in names if name in namespace)


def _acts_when_called(value: Any) -> bool:
    """Say whether calling it, or a method of it, may run code of the notebook, or change what the notebook holds."""
    if isinstance(value, ModuleType):
        return is_of_user(value)
    keeps = isinstance(value, FunctionType) and any(map(callable, vars(value).values()))  # such as a `singledispatch`
    return keeps or not (callable(value) and _is_of_library(value))


def _acts_on_subclasses(value: Any) -> bool:
    if not isinstance(value, type):
        return not isinstance(value, ModuleType)
    own = (one for one in value.__mro__ if not _is_of_library(one))
    return not _is_of_library(type(value)) or any("__init_subclass__" in vars(one) for one in own)


def _is_of_library(value: Any) -> bool:
    code = getattr(value, "__code__", None)
    if code is not None:
        return is_of_library(code.co_filename)
    module = sys.modules.get(getattr(value, "__module__", None) or "")
    return module is not None and module.__name__ != "__main__" and not is_of_user(module)


def _made_at_once(node: ast.stmt) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """Yield a definition, and of a class those in it."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        yield node
    if isinstance(node, ast.ClassDef):
        for statement in node.body:
            yield from _made_at_once(statement)


def _run_at_once(node: ast.AST) -> Iterator[ast.expr]:
    """Yield the expressions that run when a definition is made."""
    if isinstance(node, _FUNCTIONS):
        arguments = node.args
        yield from (*node.decorator_list, *arguments.defaults, *(one for one in arguments.kw_defaults if one))
    elif isinstance(node, ast.expr) and isinstance(getattr(node, "ctx", None), ast.Load | None):
        yield node
    elif not isinstance(node, ast.Import | ast.ImportFrom):
        for child in ast.iter_child_nodes(node):
            yield from _run_at_once(child)
