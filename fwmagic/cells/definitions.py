"""What definitions do when they are made: which names they bind, and whether they do anything else."""

from __future__ import annotations

import ast
import builtins
import functools
import importlib.util
import inspect
import sys
from collections.abc import Iterable, Mapping
from enum import Enum, auto
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any, TypeGuard

from fwmagic.cells.modules import is_of_user
from fwmagic.cells.names import (
    LOOKS_UP,
    is_star,
    looks_up,
    names_of_code,
    names_of_statements,
    notebook_functions,
)
from fwmagic.libraries import is_of_library

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_OPERATIONS = (ast.UnaryOp, ast.BinOp, ast.BoolOp, ast.Compare, ast.IfExp)
# Functions of libraries that make something of what they are given, without a look into it.
_WRAPPERS = {
    *("field", "auto", "property", "staticmethod", "classmethod", "partial", "partialmethod"),
    *("namedtuple", "NamedTuple", "TypeVar"),
}


class Meaning(Enum):
    """What is known of a name before the section runs."""

    LIBRARY = auto()  # a module of a library, or a function or class of one
    CLASS = auto()  # a class of the user's that does nothing when another is derived from it
    MADE = auto()  # what a decorator of a library made of a function of the section
    NUMBER = auto()
    OTHER = auto()


class Surroundings:
    """What the names of a section stand for, as far as it can be told before the section runs.

    `earlier` are the statements of `%%setup`, and `statements` those of the section: what these bind hides what the
    notebook has.
    """

    def __init__(
        self, namespace: Mapping[str, Any], earlier: Iterable[ast.stmt], statements: Iterable[ast.stmt]
    ) -> None:
        self._namespace = namespace
        self._statements = [*earlier, *statements]
        self._meanings: dict[str, Meaning] = {}
        for one in self._statements:
            self._meanings |= self._meanings_bound(one)

    def only_defines(self, definition: ast.stmt, before: Iterable[ast.stmt]) -> bool:
        """Say whether it makes no difference if a definition is made before these statements, and only once.

        So it is if all that runs when it is made is known neither to work nor to depend on what may have been
        changed: constants, names that nobody binds anew, and what modules of libraries offer, such as `jax.jit` or
        `nn.Module`. Anything else is work of the section, at the place where it stands.
        """
        earlier = [*before]
        if isinstance(definition, ast.ImportFrom):  # a name of a module of the user's may be bound anew
            return _is_of_libraries(definition.module or "") or not any(map(_acts, earlier))
        return isinstance(definition, ast.Import) or self._is_fixed_definition(definition, earlier, {})

    def _is_fixed_definition(self, node: ast.AST, before: list[ast.stmt], local: Mapping[str, Meaning]) -> bool:
        """Say whether making a function or class, or one in the class that has bound `local`, is as if never done."""
        if isinstance(node, ast.ClassDef):
            keywords = all(
                self._is_offer(one.value) if one.arg == "metaclass" else self._is_passive(one.value, local)
                for one in node.keywords
            )
            if not (keywords and all(map(self._is_base, node.bases)) and self._is_fixed_body(node.body, before)):
                return False
        elif isinstance(node, _FUNCTIONS):
            of = node.args
            defaults = (*of.defaults, *(one for one in of.kw_defaults if one))
            arguments = (*of.posonlyargs, *of.args, *of.kwonlyargs, of.vararg, of.kwarg)
            annotations = (node.returns, *(one.annotation for one in arguments if one))
            if not all(self._is_fixed(one, local) for one in defaults) or not all(map(self._is_quiet, annotations)):
                return False
        else:
            return False
        return all(self._is_known_decorator(one, before, local) for one in node.decorator_list)

    def _is_fixed_body(self, body: Iterable[ast.stmt], before: list[ast.stmt]) -> bool:
        """Say whether the body of a class does no more than define."""
        local: dict[str, Meaning] = {}
        for one in body:
            match one:
                case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                    fixed = self._is_fixed_definition(one, before, local)
                case ast.Assign(targets=targets, value=value):
                    fixed = self._is_fixed(value, local) and all(map(_is_of_names, targets))
                case ast.AnnAssign(target=ast.Name(), value=value, annotation=annotation):
                    fixed = self._is_quiet(annotation) and (value is None or self._is_fixed(value, local))
                case ast.Pass() | ast.Expr(value=ast.Constant()):
                    fixed = True
                case _:
                    fixed = False
            if not fixed:
                return False
            number = isinstance(one, ast.Assign) and self._is_number(one.value, local)
            local |= dict.fromkeys(names_of_statements([one]).writes, Meaning.NUMBER if number else Meaning.OTHER)
        return True

    def _is_known_decorator(self, node: ast.expr, before: list[ast.stmt], local: Mapping[str, Meaning]) -> bool:
        """Say whether a decorator is one of a library, or a part of what such a one made: `@size.setter`."""
        if isinstance(node, ast.Call):
            given = (*node.args, *(one.value for one in node.keywords))
            return self._is_known_decorator(node.func, before, local) and all(
                self._is_passive(one, local) for one in given
            )
        match node:
            case ast.Attribute(value=ast.Name(id=name)) if name in local:
                return True
            case ast.Attribute(value=ast.Name(id=name)) if self._meaning(name) is Meaning.MADE:
                return name not in self._reached(before)  # such as `@f.defjvp`, where nobody has called `f` yet
        return self._is_offer(node)

    def _is_base(self, node: ast.expr) -> bool:
        """Say whether nothing runs when a class is derived from this, but what a library does."""
        if isinstance(node, ast.Subscript):  # such as `Generic[T]`
            return self._is_base(node.value) and self._is_fixed(node.slice, {})
        if isinstance(node, ast.Call):
            return self._is_fixed(node, {})
        is_class = isinstance(node, ast.Name) and self._meaning(node.id) is Meaning.CLASS
        return is_class or self._is_offer(node)

    def _is_fixed(self, node: ast.expr, local: Mapping[str, Meaning]) -> bool:
        """Say whether evaluating this does nothing, and gives the same object or number wherever it stands."""
        match node:
            case ast.Constant():
                return True
            case ast.Name(id=name):
                return name in local or self._is_bound_once(name)
            case ast.Lambda(args=of):
                return all(self._is_fixed(one, local) for one in (*of.defaults, *of.kw_defaults) if one)
            case ast.Tuple() | ast.List():
                return all(self._is_fixed(one, local) for one in node.elts)
            case ast.Dict():
                keys = all(isinstance(one, ast.Constant) for one in node.keys)
                return keys and all(self._is_fixed(one, local) for one in node.values)
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in _WRAPPERS:
                given = (*node.args, *(one.value for one in node.keywords))
                return self._is_offer(node.func) and all(self._is_fixed(one, local) for one in given)
        return self._is_number(node, local) or self._is_offer(node)

    def _is_number(self, node: ast.expr, local: Mapping[str, Meaning]) -> bool:
        """Say whether this is a constant, the name of a number, or an operation on such."""
        match node:
            case ast.Constant():
                return True
            case ast.Name(id=name):
                meaning = local.get(name) or self._meaning(name)
                return meaning is Meaning.NUMBER and (name in local or self._is_bound_once(name))
        parts = (one for one in ast.iter_child_nodes(node) if isinstance(one, ast.expr))
        return isinstance(node, _OPERATIONS) and all(self._is_number(one, local) for one in parts)

    def _is_passive(self, node: ast.expr, local: Mapping[str, Meaning]) -> bool:
        """Say whether what a decorator is given is fixed, and holds nothing of the user's that it could call."""
        named = {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
        calls = any(isinstance(one, ast.Lambda) for one in ast.walk(node))
        known = all((local.get(name) or self._meaning(name)) in (Meaning.LIBRARY, Meaning.NUMBER) for name in named)
        return known and not calls and self._is_fixed(node, local)

    def _is_quiet(self, annotation: ast.expr | None) -> bool:
        calls = [] if annotation is None else [one for one in ast.walk(annotation) if isinstance(one, ast.Call)]
        return all(self._is_fixed(one, {}) for one in calls)

    def _is_offer(self, node: ast.expr) -> bool:
        """Say whether this names a function, a class or a constant of a library: `jit`, `jax.jit`, `math.pi`."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.insert(0, node.attr)
            node = node.value
        if not isinstance(node, ast.Name) or self._meaning(node.id) is not Meaning.LIBRARY:
            return False
        owner = self._namespace.get(node.id)
        for part in parts[:-1]:  # the attributes of other objects, such as `jax.config`, are settings
            owner = getattr(owner, part, None) if isinstance(owner, ModuleType | type) else owner
        return len(parts) < 2 or owner is None or isinstance(owner, ModuleType | type)

    def _is_bound_once(self, name: str) -> bool:
        """Say whether no function binds a name anew."""
        return self._meaning(name) is Meaning.LIBRARY or (self._rebound is not None and name not in self._rebound)

    @functools.cached_property
    def _rebound(self) -> frozenset[str] | None:
        """The names that functions bind, in the section and where it can call them; None if these may be any."""
        read = names_of_statements(self._statements).reads
        functions = notebook_functions(self._namespace, read)
        if LOOKS_UP & read or any(looks_up(one.__code__) for one in functions):
            return None
        found = [names_of_code(one.__code__) for one in functions]
        own = [names_of_statements([one]).writes - {one.name} for one in self._statements if _is_definition(one)]
        return frozenset[str]().union(*(names.writes | names.deletes for names in found), *own)

    def _reached(self, statements: Iterable[ast.stmt]) -> set[str]:
        """Return the names that statements read, and that the functions read which they can call."""
        made = {one.name: one for one in self._statements if _is_definition(one)}
        found, pending = set[str](), {*names_of_statements(statements).reads}
        while pending:
            found |= pending
            called = notebook_functions(self._namespace, pending)
            inner = [names_of_statements([made[name]]).reads for name in pending & made.keys()]
            pending = set[str]().union(*inner, *(names_of_code(one.__code__).reads for one in called)) - found
        return found

    def _meaning(self, name: str) -> Meaning:
        known = self._meanings.get(name)
        if known is not None:
            return known
        value = self._namespace.get(name, getattr(builtins, name, None))
        if isinstance(value, ModuleType):
            return Meaning.OTHER if is_of_user(value) or value.__name__ == "__main__" else Meaning.LIBRARY
        original = inspect.unwrap(value) if isinstance(value, FunctionType) else value
        if isinstance(original, type | FunctionType | BuiltinFunctionType) and _is_of_library(original):
            return Meaning.LIBRARY
        if isinstance(value, type) and not _acts_on_subclasses(value):
            return Meaning.CLASS
        return Meaning.NUMBER if type(value) in (bool, int, float, complex, str, bytes) else Meaning.OTHER

    def _meanings_bound(self, node: ast.stmt) -> dict[str, Meaning]:
        """Return what is known of the names that a statement binds."""
        meaning = Meaning.OTHER
        match node:
            case ast.Import(names=names):
                return {
                    one.asname or one.name.partition(".")[0]: _of_libraries(_is_of_libraries(one.name)) for one in names
                }
            case ast.ImportFrom(module=module):
                meaning = _of_libraries(_is_of_libraries(module or ""))
                return dict.fromkeys(names_made([node]), meaning)
            case ast.ClassDef(keywords=[], decorator_list=decorators, bases=bases, body=body):
                acts = any(getattr(one, "name", "") == "__init_subclass__" for one in body)
                known = all(self._is_known_decorator(one, [], {}) for one in decorators)
                meaning = Meaning.CLASS if known and not acts and all(map(self._is_base, bases)) else Meaning.OTHER
            case ast.FunctionDef(decorator_list=[first, *_]) if self._is_known_decorator(first, [], {}):
                meaning = Meaning.MADE
            case ast.Assign(value=ast.Constant()):
                meaning = Meaning.NUMBER
        bound = names_of_statements([node])
        return dict.fromkeys(bound.writes | bound.deletes, meaning)


def _of_libraries(known: bool) -> Meaning:
    return Meaning.LIBRARY if known else Meaning.OTHER


def _is_of_libraries(module: str) -> bool:
    """Say whether a module, which need not be imported yet, belongs to a library."""
    root = module.partition(".")[0]
    if root in sys.modules:
        return root != "__main__" and not is_of_user(sys.modules[root])
    try:
        spec = importlib.util.find_spec(root)
    except (ImportError, ValueError):
        return False
    return spec is not None and (spec.origin in (None, "built-in", "frozen") or is_of_library(spec.origin))


def _is_definition(node: ast.stmt) -> TypeGuard[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)


def _is_of_names(target: ast.expr) -> bool:
    return isinstance(target, ast.Name) or (isinstance(target, ast.Tuple) and all(map(_is_of_names, target.elts)))


def _acts(statement: ast.stmt) -> bool:
    """Say whether a statement may change an object in place."""
    return any(
        isinstance(node, ast.Call | ast.AugAssign | ast.With)
        or (isinstance(node, ast.Subscript | ast.Attribute) and not isinstance(node.ctx, ast.Load))
        for node in ast.walk(statement)
    )


def names_made(definitions: Iterable[ast.stmt]) -> set[str]:
    """Return the names that definitions have bound which were made, those of `from m import *` among them."""
    made = list(definitions)
    found = set(names_of_statements(made).writes)
    for one in made:
        module = sys.modules.get(one.module or "") if isinstance(one, ast.ImportFrom) and is_star(one) else None
        if module is not None:
            found.update(getattr(module, "__all__", (name for name in vars(module) if not name.startswith("_"))))
    return found


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
