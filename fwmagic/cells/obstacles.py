"""What keeps a section from being one compiled function, as far as its text and the objects that it reaches tell."""

from __future__ import annotations

import ast
import dis
import functools
import sys
import types
from collections.abc import Iterable
from itertools import chain
from typing import Any

from fwmagic.cells.analyse import dotted
from fwmagic.cells.function import first_use, make_function, why_no_copy, why_no_function
from fwmagic.cells.loops import loops_over_data
from fwmagic.cells.names import names_of_code, notebook_functions, words_of_code
from fwmagic.cells.scene import Scene
from fwmagic.report import Place

_Remembering: Any = type(functools.cache(len))


def why_never(scene: Scene) -> Place | None:
    """Return why no way to compile a section, nor any part of it, can work, or None."""
    body, framework = scene.body, scene.framework
    why = framework.cannot_compile() if framework.strategy else f"{framework.title} has no compiler"
    if why:
        return Place(None, why)
    if body.disables_jit is not None:
        return body.disables_jit
    places = [body.clock]
    if framework.strategy == "namespace":
        places += [_host_random(scene), *body.effects[:1], _file_opened(scene)]
    for place in places:
        if place is not None:
            return Place(place.line, f"{place.reason}, which a trace would do once and never again")
    return _class_changed(scene) if framework.strategy == "locals" else None


def _host_random(scene: Scene) -> Place | None:
    """Return where a body draws random numbers of Python's or NumPy's, by its text: not those of a framework."""
    imported: dict[str, str] = {
        alias.asname or alias.name: getattr(node, "module", None) or alias.name
        for node in ast.walk(scene.body.tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    for name, place in scene.body.host_random.items():
        root = name.partition(".")[0]
        module = imported.get(root) or str(getattr(scene.namespace.get(root), "__name__", root))
        if module.partition(".")[0] in ("random", "np", "numpy"):
            return place
    return None


def why_python(scene: Scene) -> Place | None:
    """Return why a body should not become one compiled function, or None."""
    body, namespace = scene.body, scene.namespace
    if scene.framework.strategy == "locals":
        place = trains(scene) or body.defines or why_no_function(body, namespace, scene.snapshot.objects())
        place = place or _why_no_copy(scene) or _remembers(scene)
        if place is not None:
            return place
    return loops_over_data(body, namespace, scene.framework.containers)


def _remembers(scene: Scene) -> Place | None:
    """Return where a body calls a recursive function that remembers its results, or None.

    A compiler that leaves what it remembers out of account goes through all of its calls.
    """
    for node in ast.walk(scene.body.tree):
        if isinstance(node, ast.FunctionDef):
            made = [dotted(one.func if isinstance(one, ast.Call) else one) for one in node.decorator_list]
            inside = {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
            if any(name.rpartition(".")[2] in ("cache", "lru_cache") for name in made) and node.name in inside:
                return Place(node.lineno, f"`{node.name}` remembers its results, and calls itself")
    for value in scene.snapshot.objects():
        if type(value) is _Remembering:
            name, code = value.__wrapped__.__qualname__, getattr(value.__wrapped__, "__code__", None)
            if code is not None and code.co_name in code.co_names:
                return Place(first_use(scene.body, name), f"`{name}` remembers its results, and calls itself")
    return None


def trains(scene: Scene) -> Place | None:
    """Return where a body trains, itself or in a notebook function that it calls, or None."""
    body, methods = scene.body, training_methods(scene)
    if body.trains is not None or (body.steps is not None and "step" in methods):
        return body.trains or body.steps
    for function in notebook_functions(scene.namespace, body.all_reads):
        if function.__code__.co_filename == "<string>":  # written by a decorator, as `__eq__` of a dataclass is
            continue
        if methods & _methods_called(function.__code__):
            name = function.__qualname__
            return Place(first_use(body, name), f"`{name}` trains")
    return None


def training_methods(scene: Scene) -> set[str]:
    """Return the names of methods that train: a `step` is that of an optimizer, if the body can reach or make one."""
    kinds = scene.framework.optimizers
    if any(issubclass(type(value), kinds) for value in scene.snapshot.objects()):
        return {"backward", "step"}
    functions = notebook_functions(scene.namespace, scene.body.all_reads)
    codes = [scene.body.code(scene.body.tree), *(function.__code__ for function in functions)]
    words = set[str]().union(*map(words_of_code, codes))
    made = {word for word in words if issubclass(type(scene.namespace.get(word)), type)}
    own = any(issubclass(scene.namespace[word], kinds) for word in made)
    return {"backward", "step"} if own or words & _names_below(kinds) else {"backward"}


def _methods_called(code: types.CodeType) -> set[str]:
    """Return the names of the methods that code calls; since Python 3.12 a mark tells a method from an attribute."""
    marked = sys.version_info >= (3, 12)
    steps = ((step.opname, step.arg or 0, step.argval) for step in dis.get_instructions(code))
    return {name for op, arg, name in steps if op == "LOAD_METHOD" or (op == "LOAD_ATTR" and marked and arg & 1)}


def _names_below(kinds: Iterable[type]) -> set[str]:
    """Return the names of all classes that are derived from these."""
    below = list[type](chain.from_iterable(kind.__subclasses__() for kind in kinds))
    return {kind.__name__ for kind in below} | (_names_below(below) if below else set())


def _file_opened(scene: Scene) -> Place | None:
    """Return where a body opens a file, itself or in a notebook function that it calls, or None."""
    for name in ("open", *scene.body.all_reads):
        function = scene.namespace.get(name)
        read = names_of_code(function.__code__).reads if isinstance(function, types.FunctionType) else ()
        if name in scene.body.all_reads and (name == "open" or "open" in read):
            return Place(first_use(scene.body, name), f"`{name}` {'reads' if name == 'open' else 'opens'} a file")
    return None


def _class_changed(scene: Scene) -> Place | None:
    """Return where a body sets an attribute of a class, which a compiler may read as it was before, or None."""
    names = {**scene.namespace, **scene.overlay.bindings}
    for node in ast.walk(scene.body.tree):
        owner: ast.expr | None = None
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            owner = node.value
        elif isinstance(node, ast.Call) and dotted(node.func) == "setattr" and node.args:
            owner = node.args[0]
        if isinstance(owner, ast.Name) and issubclass(type(names.get(owner.id)), type):
            return Place(owner.lineno, f"the body sets an attribute of the class `{owner.id}`")
    return None


def _why_no_copy(scene: Scene) -> Place | None:
    """Return why the functions that the body reads must be the notebook's own, or None."""
    scene.overlay.on()
    try:
        cell = make_function(scene.body, scene.namespace).call
        why = why_no_copy(cell.__code__, scene.namespace, scene.snapshot)
    finally:
        scene.overlay.off()
    return Place(None, why) if why else None
