"""Compiled stand-ins for the modules and notebook functions that a body calls."""

from __future__ import annotations

import inspect
import types
from typing import Any

from fwmagic.cells import names as names_of
from fwmagic.cells.function import isolated
from fwmagic.cells.program import Patch
from fwmagic.cells.scene import Scene
from fwmagic.frameworks import CompileOptions


def patches_of(scene: Scene, options: CompileOptions) -> list[Patch]:
    """Return compiled stand-ins for the modules and notebook functions that the body can call."""
    framework, namespace = scene.framework, scene.namespace
    functions = names_of.notebook_functions(namespace, scene.body.all_reads)
    read = set(scene.body.all_reads).union(*(names_of.of_code(f.__code__).reads for f in functions))
    patches: list[Patch] = []
    found = False
    for value in _reached(scene):
        place = framework.module_calls(value)
        if place is not None:
            owner, name = place
            call = isolated(getattr(owner, name), namespace) if framework.strategy == "locals" else getattr(owner, name)
            patches.append(Patch(owner, name, framework.compile(call, options)))
            found = True
    for name in sorted(read):
        value = namespace.get(name)
        if not isinstance(value, types.FunctionType) or value.__globals__ is not namespace:
            continue
        names = names_of.of_code(value.__code__)
        if names.writes or names.reads & scene.body.assigned:
            continue  # it must see the namespace as it is at each call
        codes = set(value.__code__.co_names)
        is_plain = not inspect.isgeneratorfunction(value) and not inspect.iscoroutinefunction(value)
        if (
            is_plain
            and not {"backward", "step", "print", "input"} & codes
            and not (found and name not in scene.body.all_reads)
        ):
            call = isolated(value, namespace) if framework.strategy == "locals" else value
            patches.append(Patch(namespace, name, framework.compile(call, options)))
    return patches


def _reached(scene: Scene) -> list[Any]:
    """Return the outermost modules that the section can reach."""
    modules: list[Any] = []
    inside: set[int] = set()
    for value in scene.snapshot.objects():
        if scene.framework.module_calls(value) is not None and id(value) not in inside:
            modules.append(value)
            inside.update(id(child) for child in getattr(value, "modules", list)())
    return [module for module in modules if not any(module is not m and _holds(m, module) for m in modules)]


def _holds(outer: Any, inner: Any) -> bool:
    return any(child is inner for child in getattr(outer, "modules", list)())


def label(patch: Patch) -> str:
    """Return what the user calls the patched thing: the function's name, or the module's class."""
    return patch.name if isinstance(patch.owner, dict) else type(patch.owner).__name__


def code_name(patch: Patch) -> str:
    """Return the name under which the compiler reports what the patch compiled."""
    return patch.name if not isinstance(patch.owner, dict) else str(getattr(patch.value, "__name__", patch.name))
