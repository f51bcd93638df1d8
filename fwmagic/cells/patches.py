"""Compiled stand-ins for the modules and notebook functions that a section calls, where it cannot be one program."""

from __future__ import annotations

import ast
import inspect
import types
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from fwmagic.cells.function import part_named, why_no_copy, with_own_globals
from fwmagic.cells.names import looks_up, names_of_code, notebook_functions
from fwmagic.cells.obstacles import training_methods
from fwmagic.cells.outcome import root
from fwmagic.cells.program import Patch, Program, program_as_written
from fwmagic.cells.scene import Scene
from fwmagic.frameworks.compiled import CompileOptions


def program_with_patches(
    scene: Scene, options: CompileOptions, but: frozenset[str] = frozenset(), long: Sequence[tuple[str, Any]] = ()
) -> Program | None:
    """Return the body as it is, with the modules and functions that it calls compiled; None: there are none.

    `but` are the names of those that are left as they are, and so are those that may change one of the `long`
    containers, which are told with their paths.
    """
    scene.enter()
    patches: list[Patch] = []
    try:
        patches = [
            patch
            for patch in patches_of(scene, options)
            if patch_code_name(patch) not in but and not _may_change(patch, scene, long)
        ]
        if not patches:
            return None
        for patch in patches:
            patch.on()
        return replace(program_as_written(scene), patches=tuple(patches))
    finally:
        for patch in reversed(patches):
            patch.off()
        scene.exit()


def patches_of(scene: Scene, options: CompileOptions) -> list[Patch]:
    """Return compiled stand-ins for the modules and notebook functions that the body can call."""
    framework, namespace = scene.framework, scene.namespace
    functions = notebook_functions(namespace, scene.body.all_reads)
    read = set(scene.body.all_reads).union(*(names_of_code(f.__code__).reads for f in functions))
    held, training = scene.snapshot.times_held(types.FunctionType), training_methods(scene)
    patches: list[Patch] = []
    found = False
    for value in _modules_to_compile(scene):
        place = framework.module_calls(value)
        call = None if place is None else _to_compile(getattr(*place), scene)
        if place is not None and call is not None:
            patches.append(Patch(*place, framework.compile(call, options)))
            found = True
    # Who names a part of a function means the function, and no stand-in.
    for name in () if part_named(scene.body.code(scene.body.tree)) else sorted(read):
        value = namespace.get(name)
        if not isinstance(value, types.FunctionType) or value.__globals__ is not namespace:
            continue
        names = names_of_code(value.__code__)
        if names.writes or names.reads & scene.body.assigned or looks_up(value.__code__) or held[id(value)] > 1:
            continue  # it must see the namespace as it is at each call, and be the object that others hold
        codes = set(value.__code__.co_names)
        is_plain = not inspect.isgeneratorfunction(value) and not inspect.iscoroutinefunction(value)
        if (
            is_plain
            and not ({"print", "input"} | training) & codes
            and not (found and name not in scene.body.all_reads)
        ):
            call = _to_compile(value, scene)
            if call is not None:
                patches.append(Patch(namespace, name, framework.compile(call, options)))
    return patches


def _to_compile(call: Any, scene: Scene) -> Any:
    """Return what a compiler is given of a function or method: a copy where it needs one; None: a copy will not do."""
    function, namespace = getattr(call, "__func__", call), scene.namespace
    is_notebooks = isinstance(function, types.FunctionType) and function.__globals__ is namespace
    if scene.framework.strategy != "locals" or not is_notebooks:
        return call
    code = function.__code__
    return None if looks_up(code) or why_no_copy(code, namespace, scene.snapshot) else with_own_globals(call, namespace)


def _modules_to_compile(scene: Scene) -> list[Any]:
    """Return the outermost modules that the section can reach."""
    modules: list[Any] = []
    inside: set[int] = set()
    for value in scene.snapshot.objects():
        if scene.framework.module_calls(value) is not None and id(value) not in inside:
            modules.append(value)
            inside.update(id(child) for child in getattr(value, "modules", list)())
    return [module for module in modules if not any(module is not m and _holds(m, module) for m in modules)]


def _may_change(patch: Patch, scene: Scene, long: Sequence[tuple[str, Any]]) -> bool:
    """Say whether what is patched holds one of these containers, reads a name that leads to one, or may be given it."""
    containers, names = {id(one) for _, one in long}, {root(path) for path, _ in long}
    if not isinstance(patch.owner, dict):
        inside: Iterable[Any] = getattr(patch.owner, "modules", list)()
        return any(id(value) in containers for one in inside for value in vars(one).values())
    calls = [node for node in ast.walk(scene.body.tree) if isinstance(node, ast.Call)]
    given = {arg.id for call in calls for arg in call.args if isinstance(arg, ast.Name)}
    given |= {one.value.id for call in calls for one in call.keywords if isinstance(one.value, ast.Name)}
    functions = notebook_functions(scene.namespace, [patch.name])
    return bool(names & given.union(*(names_of_code(function.__code__).reads for function in functions)))


def _holds(outer: Any, inner: Any) -> bool:
    return any(child is inner for child in getattr(outer, "modules", list)())


def patch_label(patch: Patch) -> str:
    """Return what the user calls the patched thing: the function's name, or the module's class."""
    return patch.name if isinstance(patch.owner, dict) else type(patch.owner).__name__


def patch_code_name(patch: Patch) -> str:
    """Return the name under which the compiler reports what the patch compiled."""
    return patch.name if not isinstance(patch.owner, dict) else str(getattr(patch.value, "__name__", patch.name))
