"""The ways to compile a section: whole, or the modules and functions that it calls; each is verified, never assumed."""

from __future__ import annotations

import types
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import Any

from fwmagic.cells import names as names_of
from fwmagic.cells import program as programs
from fwmagic.cells import uses
from fwmagic.cells.function import first_use, stays_in_namespace
from fwmagic.cells.loops import loops_over_data
from fwmagic.cells.modules import of_user
from fwmagic.cells.outcome import Outcome, Window, first_run
from fwmagic.cells.patches import code_name, label, patches_of
from fwmagic.cells.program import Patch, Program
from fwmagic.cells.scene import Scene
from fwmagic.errors import CannotCompile
from fwmagic.frameworks import CompileLog, CompileOptions, Traced
from fwmagic.report import Compilation, Place, Stage

#: Programs of this many different sections are kept for when a cell is run again.
MOST_KEPT = 32


@dataclass(frozen=True)
class Ready:
    """A program that was compiled, verified by its first run, and what that run gave."""

    program: Program
    compilation: Compilation
    outcome: Outcome
    withheld: str = ""


@dataclass(frozen=True)
class _Kept:
    """What is kept of a compiled section."""

    compilation: Compilation
    compiled: Callable[..., Any] | None = None
    traced: Traced | None = None
    withheld: str = ""


class Programs:
    """The compiled sections of a session, so that an unchanged cell is not compiled again."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()

    def clear(self) -> None:
        """Forget all compiled sections."""
        self._kept.clear()

    def compile(self, scene: Scene, options: CompileOptions, window: Window) -> Ready:
        """Compile a section in the first way that works; `window` is where an interrupt may stop it.

        Raises
        ------
        CannotCompile
            None did; says why, and at which line.
        """
        body, framework = scene.body, scene.framework
        self._refuse(scene)
        with window():
            prime = framework.prime()
        modules = of_user(scene.namespace, body.all_reads)
        key = (framework.name, body.text, scene.device, options, scene.snapshot.fingerprint(), modules)
        kept = self._kept.pop(key, None)
        if kept is not None:
            ready = _again(scene, kept, window)
            if ready is not None:
                self._kept[key] = kept
                return ready
        try:
            place = self._stays_python(scene)
            if place is not None:
                raise CannotCompile(place.reason, place.line)
            ready, kept = _whole(scene, options, window)
        except CannotCompile as whole:
            ready, kept = _parts(scene, options, window, whole)
        if kept is not None:
            self._kept[key] = kept
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        stages = (Stage("prime", prime, "once in this process, before any cell"), *ready.compilation.stages)
        return replace(ready, compilation=replace(ready.compilation, stages=stages))

    def _refuse(self, scene: Scene) -> None:
        """Raise CannotCompile where no way can work."""
        body, framework = scene.body, scene.framework
        why = framework.cannot_compile() if framework.strategy else f"{framework.title} has no compiler"
        if why:
            raise CannotCompile(why)
        places = [body.disables_jit]
        if framework.strategy == "namespace":
            places += [body.clock, body.host_random, *body.effects[:1]]
        for place in places:
            if place is not None:
                consequence = "" if place is body.disables_jit else ", which a trace would do once and never again"
                raise CannotCompile(place.reason + consequence, place.line)

    def _stays_python(self, scene: Scene) -> Place | None:
        """Return why the body should not become one compiled function, or None."""
        body, namespace = scene.body, scene.namespace
        locals_only = scene.framework.strategy == "locals"
        if locals_only:
            place = body.trains or body.defines or stays_in_namespace(body, namespace) or _trains(scene)
            if place is not None:
                return place
        return loops_over_data(body, namespace, unknown=locals_only)


def _again(scene: Scene, kept: _Kept, window: Window) -> Ready | None:
    """Return the section with the program that was compiled for it before; None if that no longer works."""
    is_input = _is_input(scene)
    scene.enter()
    try:
        with scene.framework.watch(scene.body.filename) as log:
            if kept.traced is not None:
                inputs = [value for _, value in scene.snapshot.leaves(is_input)]
                used = (inputs[place] for place in kept.traced.used)
                traced = replace(kept.traced, arguments=(*kept.traced.arguments, *used))
                program, _ = programs.traced(scene, lambda *_: traced, is_input)
            else:
                program = programs.as_function(scene, compiled=kept.compiled)
            outcome = first_run(program, window)
    except Exception:  # what it holds on to is gone: it is compiled anew, and what is wrong then shows
        return None
    finally:
        scene.exit()
    stages = _stages(log, outcome.seconds)
    reused = log.told and not log.compiled
    compilation = replace(kept.compilation, stages=stages, cache="reused" if reused else log.cache)
    return Ready(program, compilation, outcome, kept.withheld)


def _trains(scene: Scene) -> Place | None:
    """Return the notebook function that trains and that the body calls, or None."""
    for function in names_of.notebook_functions(scene.namespace, scene.body.all_reads):
        if {"backward", "step"} & set(function.__code__.co_names):
            name = function.__qualname__
            return Place(first_use(scene.body, name), f"`{name}` trains")
    return None


def _is_input(scene: Scene) -> Callable[[Any], bool]:
    """Return a test for what a trace takes as arguments: the framework's arrays, and NumPy's numbers."""
    framework = scene.framework

    def is_input(value: Any) -> bool:
        if framework.is_array(value):
            return True
        kind = getattr(getattr(value, "dtype", None), "kind", "O")
        return type(value).__module__ == "numpy" and type(value).__name__ == "ndarray" and kind in "biufc"

    return is_input


def _whole(scene: Scene, options: CompileOptions, window: Window) -> tuple[Ready, _Kept | None]:
    """Compile the whole body as one function."""
    body, framework = scene.body, scene.framework
    lifted, withheld = 0, ""
    traced: Traced | None = None
    scene.enter()
    fills = _fills(scene)
    with framework.watch(body.filename) as log:
        try:
            if framework.strategy == "namespace":
                with window():
                    program, traced = programs.traced(scene, framework.trace, _is_input(scene))
                lifted, withheld = traced.lifted, traced.withheld
            else:
                program = programs.as_function(scene, compile=lambda f: framework.compile(f, options))
            outcome = first_run(program, window)
        except CannotCompile:
            raise
        except Exception as error:  # whatever the compiler or the traced code raises: the plain run raised nothing
            raise framework.explain(error, body.filename) from error
        finally:
            scene.exit()
    reached = traced.used if traced is not None else scene.snapshot.leaves(framework.is_array)
    if not reached and not (traced is None and outcome.random):
        withheld = (
            "no array reaches it from outside, so that the compiler may have computed its result ahead; "
            "make its inputs in %%setup or in an earlier cell"
        )
    if log.told and "cell" not in log.compiled:
        first = log.breaks[0] if log.breaks else Place(None, "there was no array computation to compile")
        raise CannotCompile(f"nothing of the cell was compiled: {first.reason}", first.line)
    if traced is None and not fills and not log.breaks and outcome.is_plain:
        line = (body.last or body.statements[-1]).lineno
        raise CannotCompile("the cell returns no array, so that all of its work would be dropped", line)
    reason = "the whole body is one compiled function"
    if log.breaks:
        reason = "the whole body, with Python between its graphs"
    compilation = Compilation(
        way="cell",
        reason=reason if log.told else f"the whole body was given to the compiler as one function; {_untold(scene)}",
        compiled=("cell",) if log.told else (),
        stages=_stages(log, outcome.seconds, ahead=traced is not None),
        cache=log.cache,
        graphs=log.graphs if traced is None or not log.told else 1,
        breaks=tuple(log.breaks),
        recompiles=tuple(log.recompiles),
        lifted=lifted,
    )
    changes_own = any(path.split(".")[0] in body.defined for path in outcome.changed)
    reusable = not lifted and not changes_own
    kept = None
    if reusable and traced is not None:
        own = traced.arguments[: len(traced.arguments) - len(traced.used)]
        kept = _Kept(compilation, traced=replace(traced, arguments=own), withheld=withheld)
    elif reusable:
        kept = _Kept(compilation, compiled=program.call, withheld=withheld)
    return Ready(program, compilation, outcome, withheld), kept


def _fills(scene: Scene) -> bool:
    """Say whether the body puts something into an object, which shows only if the object held something else."""
    found = [scene.namespace.get(name) for name in uses.filled(scene.body.statements)]
    # `torch.exp(x)` puts nothing into `torch`
    return bool(scene.body.kept) or not all(isinstance(value, types.ModuleType) for value in found)


def _parts(scene: Scene, options: CompileOptions, window: Window, whole: CannotCompile) -> tuple[Ready, _Kept | None]:
    """Compile the modules and notebook functions that the body calls, and put them back afterwards."""
    framework = scene.framework
    scene.enter()
    patches: list[Patch] = []
    try:
        patches = patches_of(scene, options)
        if not patches:
            raise whole
        for patch in patches:
            patch.on()
        program = programs.plain(scene)
    finally:
        for patch in reversed(patches):
            patch.off()
        scene.exit()
    program.patches = patches
    with framework.watch(scene.body.filename) as log:
        try:
            outcome = first_run(program, window)
        except Exception as error:  # whatever the compiler raises: the plain run raised nothing
            raise CannotCompile(
                f"{whole.reason}; then: {framework.explain(error, scene.body.filename)}", whole.line
            ) from error
    compiled = [patch for patch in patches if code_name(patch) in log.compiled or not log.told]
    if not compiled:
        raise whole
    is_module = any(not isinstance(patch.owner, dict) for patch in compiled)
    reason = f"the body stays Python: {whole.reason}"
    compilation = Compilation(
        way="modules" if is_module else "functions",
        reason=reason if log.told else f"{reason}; {_untold(scene)}",
        line=whole.line,
        compiled=tuple(sorted({label(patch) for patch in compiled})) if log.told else (),
        stages=_stages(log, outcome.seconds),
        cache=log.cache,
        graphs=log.graphs,
        breaks=tuple(log.breaks),
        recompiles=tuple(log.recompiles),
    )
    return Ready(program, compilation, outcome), None


def _untold(scene: Scene) -> str:
    return f"what was compiled is unknown: this version of {scene.framework.title} does not tell"


def _stages(log: CompileLog, seconds: float, ahead: bool = False) -> tuple[Stage, ...]:
    """Return trace, lower, backend and first run; `ahead`: compilation was not part of the first call."""
    source = "reported by the compiler"
    stages = [Stage(name, log.stages.get(name), source) for name in ("trace", "lower", "backend") if name in log.stages]
    compiling = 0.0 if ahead else sum(stage.seconds or 0.0 for stage in stages)
    rest = "first call" if ahead else "first call less the stages above"
    return (*stages, Stage("first run", max(seconds - compiling, 0.0), rest))
