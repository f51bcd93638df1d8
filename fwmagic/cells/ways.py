"""The ways to compile a section: whole, or the modules and functions that it calls; each is verified, never assumed."""

from __future__ import annotations

import ast
import time
import types
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from fwmagic.cells import uses
from fwmagic.cells.analyse import Body
from fwmagic.cells.fingerprint import fingerprint_of_modules
from fwmagic.cells.foreign import changed_by_libraries
from fwmagic.cells.function import first_use
from fwmagic.cells.loops import why_too_long
from fwmagic.cells.names import names_of_code, notebook_functions
from fwmagic.cells.obstacles import why_never, why_python
from fwmagic.cells.outcome import LONG, Outcome, Window, first_run, root
from fwmagic.cells.patches import patch_code_name, patch_label, program_with_patches
from fwmagic.cells.program import Patch, Program, program_as_function, program_as_written, traced_program
from fwmagic.cells.route import Route
from fwmagic.cells.scene import Scene
from fwmagic.errors import CannotCompile, message_of
from fwmagic.format import one_line, percent
from fwmagic.frameworks.arrays import is_numbers
from fwmagic.frameworks.compiled import MOST_TRACED, CompileLog, CompileOptions, Traced
from fwmagic.frameworks.least import Least
from fwmagic.frameworks.untraced import Untraced
from fwmagic.report import Compilation, Place, Stage

_T = TypeVar("_T")

#: Programs of this many different sections are kept for when a cell is run again.
MOST_KEPT = 32
# What nobody has asked for may consist of so many operations where the compiler takes long for each.
_MOST_LOOKED_AT = 100
#: Less than this is not worth a stage of its own; seconds.
LEAST_SPENT = 0.01
# What a call takes is tried so many times, or for so many seconds: another process may have the core in most of them.
_CALLS, _CALLING = 12, 0.05
# Where a compiler leaves out so much of the work, the time of what is left is compared with nothing.
_MOSTLY = 0.5
# Where a container that the body changes has more entries, a compiler that checks each of them takes seconds.
_MOST_GUARDED = 1000
# A plain run that takes more than `LONG` is looked at if a compiled call takes less than this share of it, and it is
# none of so many seconds.
_FAR_QUICKER, _SLOWEST = 0.25, 10.0


@dataclass
class _KeptProgram:
    """What is kept of a compiled section; `fitted`: it computed the same when it was last compared."""

    compilation: Compilation
    compiled: Callable[..., Any] | None = None
    traced: Traced | None = None
    withheld: str = ""
    least: Least = field(default_factory=Least)
    fitted: bool = False


@dataclass(frozen=True)
class Ready:
    """A program that was compiled, verified by its first run, and what that run gave.

    `prints` is the line of the cell that prints, or calls what does, while it is traced; None: there is none.
    `repeated` is the share of its work that is the same again, and the line;
    `least` is what a call has to do at least. `kept` is what later executions of the cell take of it.
    """

    program: Program
    compilation: Compilation
    outcome: Outcome
    withheld: str = ""
    prints: int | None = None
    repeated: tuple[float, int | None] = (0.0, None)
    least: Least = field(default_factory=Least)
    kept: _KeptProgram | None = None


class Programs:
    """The compiled sections of a session, so that an unchanged cell is not compiled again."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, _KeptProgram] = OrderedDict()

    def compile(
        self,
        scene: Scene,
        options: CompileOptions,
        window: Window,
        look: bool = False,
        anew: bool = False,
        lasts: bool = True,
    ) -> Ready:
        """Compile a section in the first way that works; `window` is where an interrupt may stop it.

        Nobody has asked for a `look`: the whole is compiled, and only where that does not take long. What is kept of an
        earlier execution is taken if it still runs; `anew`: it is not, since it computes something else now. `lasts`:
        what is compiled again in every call is no way that works.

        Raises
        ------
        CannotCompile
            No way works; says why, and at which line.
        """
        body, framework = scene.body, scene.framework
        place = why_never(scene)
        if place is not None:
            raise CannotCompile(place.reason, place.line)
        prime = _primed(scene, window)
        modules = fingerprint_of_modules(scene.namespace, body.all_reads)
        key = (framework.name, body.text, scene.device, options, scene.snapshot.fingerprint(), modules)
        kept = self._kept.pop(key, None)
        again = None if kept is None or anew else _compiled_before(scene, kept, window, lasts)
        if kept is not None and again is not None:
            self._kept[key] = kept
            return again
        start = time.perf_counter()
        try:
            with framework.watch(body.filename) as log:
                ready, kept = self._compile_whole(scene, options, window, look, lasts)
        except CannotCompile as why:
            why.spent = time.perf_counter() - start
            if look or why.final:
                raise
            try:
                ready, kept = _compile_parts(scene, options, window, why, lasts), None
            except CannotCompile as parts:
                parts.spent = time.perf_counter() - start
                raise
            ready = _after_another_way(ready, why.spent, log)
        if kept is not None:
            self._kept[key] = kept
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        stages = (Stage("prime", prime, "once in this process, before any cell"), *ready.compilation.stages)
        return replace(ready, compilation=replace(ready.compilation, stages=stages), kept=kept)

    def _compile_whole(
        self, scene: Scene, options: CompileOptions, window: Window, look: bool, lasts: bool
    ) -> tuple[Ready, _KeptProgram | None]:
        """Compile the body as one function, if it is one that should become one."""
        place = why_python(scene)
        if place is not None:
            raise CannotCompile(place.reason, place.line)
        if scene.framework.strategy == "locals":
            _refuse_long(scene, window, _MOST_LOOKED_AT if look else MOST_TRACED)
            if lasts:
                _refuse_guarded(scene)
        return _compile_whole(scene, options, window, lasts)


def _primed(scene: Scene, window: Window) -> float:
    """Return the seconds of the first compilation in this process; where it fails, nothing can be compiled."""
    framework = scene.framework
    try:
        with window(), changed_by_libraries():
            return framework.prime()
    except Exception as error:  # whatever a broken installation, or a cache that cannot be written, raises
        why = one_line(message_of(error), 200)
        raise CannotCompile(f"{framework.title} can compile nothing here ({type(error).__name__}: {why})") from error


def _after_another_way(ready: Ready, spent: float, log: CompileLog) -> Ready:
    """Return a section that was compiled when another way had failed, with what that took."""
    if spent < LEAST_SPENT:
        return ready
    made = ready.compilation
    cache = "cold" if log.cache == "cold" else made.cache
    return replace(ready, compilation=replace(made, stages=(tried_before(spent), *made.stages), cache=cache))


def tried_before(seconds: float) -> Stage:
    """Return the stage of what was tried, in vain, before something worked."""
    return Stage("tried before", seconds, "time.perf_counter around what did not work")


def _compiled_before(scene: Scene, kept: _KeptProgram, window: Window, lasts: bool) -> Ready | None:
    """Return the section with the program that was compiled for it before; None if that no longer works, or `lasts`."""
    is_input = is_input_of(scene)
    scene.enter()
    try:
        with scene.framework.watch(scene.body.filename) as log:
            if kept.traced is not None:
                inputs = [value for _, value in scene.snapshot.leaves(is_input)]
                used = (inputs[place] for place in kept.traced.used)
                traced = replace(kept.traced, arguments=(*kept.traced.arguments, *used))
                program, _ = traced_program(scene, lambda *_: traced, is_input)
            else:
                program = program_as_function(scene, compiled=kept.compiled)
            program, outcome = first_run(program, window, lasts=lasts and kept.traced is None)
    except Exception:  # what it holds on to is gone; or the cell raises, and does so again when compiled
        return None
    finally:
        scene.exit()
    if outcome.anew:
        return None
    stages = _compile_stages(log, outcome.seconds)
    reused = log.told and not log.compiled
    compilation = replace(kept.compilation, stages=stages, cache="reused" if reused else log.cache)
    again_computed = kept.least.repeated if kept.traced is None else kept.traced.repeated
    prints = _line_that_prints(scene.body, kept.traced)
    return Ready(program, compilation, outcome, kept.withheld, prints, again_computed, kept.least, kept)


def is_input_of(scene: Scene) -> Callable[[Any], bool]:
    """Return a test for what a trace takes as arguments: the framework's arrays, and NumPy's numbers."""
    framework = scene.framework

    return lambda value: framework.is_array(value) or is_numbers(value)


def _compile_whole(
    scene: Scene, options: CompileOptions, window: Window, lasts: bool
) -> tuple[Ready, _KeptProgram | None]:
    """Compile the whole body as one function."""
    body, framework = scene.body, scene.framework
    lifted, withheld = 0, ""
    traced: Traced | None = None
    untraced = _refuse_outside(scene, window) if framework.strategy == "locals" else Untraced()
    least = untraced.least
    route = Route()
    scene.enter()
    fills = _fills(scene)
    with framework.watch(body.filename) as log:
        try:
            if framework.strategy == "namespace":
                with window():
                    program, traced = traced_program(scene, framework.trace, is_input_of(scene), route)
                lifted, withheld, least = traced.lifted, traced.withheld, traced.least
                _refuse(scene, traced.untraced)
                _refuse_another_way(scene, route, window)
            else:
                program = program_as_function(scene, compile=lambda f: framework.compile(f, options))
            program, outcome = first_run(program, window, lasts=lasts and traced is None)
            if traced is not None and traced.untraced.is_worth_a_call:
                _refuse_in_earnest(scene, traced.untraced, _seconds_of_a_call(program, window), window)
            elif untraced.is_worth_a_call and log.told and not log.breaks:
                _refuse(scene, untraced, _seconds_of_a_call(program, window))
        except CannotCompile:
            raise
        except Exception as error:  # whatever the compiler or the traced code raises: the plain run raised nothing
            raise framework.explain(error, body.filename) from error
        finally:
            scene.exit()
    if outcome.anew:
        place = _why_anew(scene, log)
        raise CannotCompile(place.reason, place.line)
    if least == Least() and framework.strategy == "locals" and _is_far_quicker(scene, program, window):
        least = _worked_outside(scene, window).least
    if log.breaks and least.unread[0] and not _leaves_out(scene, program, least.unread[0], window):
        least = replace(least, unread=Least().unread)
    reached = traced.used if traced is not None else scene.snapshot.leaves(framework.is_array)
    if not reached and not (traced is None and outcome.random):
        withheld = (
            "no array reaches it from outside, so that the compiler may have computed its result ahead; "
            "make its inputs in %%setup or in an earlier cell"
        )
    if log.told and "cell" not in log.compiled:
        first = log.breaks[0] if log.breaks else Place(None, "the compiler found nothing in it that it can compile")
        # It saw all functions that the body calls: of one alone it may compile a sum of two numbers.
        seen = not log.breaks and not log.compiled
        raise CannotCompile(f"nothing of the cell was compiled: {first.reason}", first.line, final=seen)
    if traced is None and not fills and not log.breaks and outcome.is_plain:
        line = (body.last or body.statements[-1]).lineno
        raise CannotCompile("the cell returns no array, so that all of its work would be dropped", line)
    reason = "the whole body is one compiled function"
    if log.breaks:
        reason = "the whole body, with Python between its graphs"
    if traced is not None and traced.unread:
        lines = ", ".join(map(str, traced.unread))
        reason += f"; what nothing reads is computed, too (line {lines})"
    compilation = Compilation(
        way="cell",
        reason=reason if log.told else f"the whole body was given to the compiler as one function; {_untold(scene)}",
        compiled=("cell",) if log.told else (),
        stages=_compile_stages(log, outcome.seconds, ahead=traced is not None),
        cache=log.cache,
        graphs=log.graphs if traced is None or not log.told else 1,
        breaks=tuple(log.breaks),
        recompiles=tuple(log.recompiles),
        lifted=lifted,
    )
    changes_own = any(path.split(".")[0] in body.defined for path in outcome.changed)
    reusable = not lifted and not changes_own and not scene.caches
    kept = None  # a program with a private copy of a cache would find it filled
    if reusable and traced is not None:
        own = traced.arguments[: len(traced.arguments) - len(traced.used)]
        own_trace = replace(traced, arguments=own)
        kept = _KeptProgram(compilation, traced=own_trace, withheld=withheld, least=least)
    elif reusable:
        kept = _KeptProgram(compilation, compiled=program.call, withheld=withheld, least=least)
    if not withheld and least.unread[0] >= _MOSTLY:
        withheld = (
            f"nothing reads {percent(least.unread[0], 2)} of what it computes, and a compiler leaves that out: "
            "keep every value whose work is to be timed"
        )
    again = least.repeated if traced is None else traced.repeated
    return Ready(program, compilation, outcome, withheld, _line_that_prints(body, traced), again, least), kept


def _line_that_prints(body: Body, traced: Traced | None) -> int | None:
    """Return the line that printed, or called what did, while the body was traced; None: there was none."""
    code = None if traced is None else traced.untraced.prints
    return None if code is None else _line_of_code(body, code, "print") or body.first_line


def _refuse(scene: Scene, untraced: Untraced, seconds: float | None = None) -> None:
    """Raise CannotCompile where the body works outside of the framework; what remains of a call takes `seconds`."""
    why = untraced.why_not(scene.framework.title, seconds)
    if why:
        line = None if untraced.code is None else _line_of_code(scene.body, untraced.code, untraced.what)
        raise CannotCompile(why, line)


def _refuse_in_earnest(scene: Scene, untraced: Untraced, seconds: float, window: Window) -> None:
    """Raise CannotCompile as `_refuse` does, if a second trace shows the same: others may have had the core."""
    if not untraced.why_not(scene.framework.title, seconds):
        return
    scene.enter()
    try:
        with window():
            _, traced = traced_program(scene, scene.framework.look, is_input_of(scene))
    finally:
        scene.exit()
    _refuse(scene, min(untraced, traced.untraced, key=lambda seen: seen.seconds), seconds)


def _refuse_another_way(scene: Scene, route: Route, window: Window) -> None:
    """Raise CannotCompile where the user's code went another way when it was traced than it goes plainly.

    A slow body is not run again for that: there an error of the framework that was caught tells.
    """
    if not route.may_part():
        return
    if (scene.seconds or 0.0) > LONG:
        place = route.caught((scene.framework.module, *scene.framework.companions), scene.body.filename)
    else:
        place = route.parting(_plain_route(scene, window), scene.body.filename)
    if place is not None:
        raise CannotCompile(place.reason, place.line)


def _plain_route(scene: Scene, window: Window) -> Route:
    """Return the route of a plain run of the body."""
    route = Route()
    scene.overlay.on()
    program = program_as_written(scene)
    program.enter()
    try:
        with window(), route.followed():
            program.call(*program.args)
    finally:
        program.exit()
        scene.restore()  # nobody has noted what such a run changed
    return route


def _refuse_long(scene: Scene, window: Window, most: int) -> None:
    """Raise CannotCompile where there would be too many operations, loops unrolled, as a trace of ours does itself."""
    count = partial(scene.framework.operations, most=most, seconds=scene.seconds or 0.0)
    if _of_plain_run(scene, window, count) > most:
        line = next((loop.lineno for loop in scene.body.loops), None)
        raise CannotCompile(why_too_long(most, in_loop=line is not None), line)


def _refuse_guarded(scene: Scene) -> None:
    """Raise CannotCompile where the body changes a container so long that checks of it take seconds to compile."""
    for path, container in scene.long_changed(_MOST_GUARDED):
        title, count = scene.framework.title, f"{len(container):,}"
        reason = f"it changes `{path}`, and {title} would compile a check for each of its {count} entries"
        raise CannotCompile(reason, _first_way_to(scene, root(path)))


def _first_way_to(scene: Scene, name: str) -> int | None:
    """Return the first line of the body that reads a name, itself or in a notebook function that it calls."""
    line = first_use(scene.body, name)
    if line is not None:
        return line
    functions = notebook_functions(scene.namespace, scene.body.all_reads)
    readers = [function for function in functions if name in names_of_code(function.__code__).reads]
    lines = [first_use(scene.body, function.__qualname__) for function in readers]
    return min((line for line in lines if line is not None), default=None)


def _why_anew(scene: Scene, log: CompileLog) -> Place:
    """Return why a body would be compiled again in every call, with its line: what was under way at a graph break.

    The rest of a call is compiled for the objects that are at hand there, such as a bound method, made in each call.
    """
    why = f"{scene.framework.title} compiles on every call"
    line = next((place.line for place in (*log.recompiles, *log.breaks) if place.line is not None), None)
    calls = [one for one in ast.walk(scene.body.tree) if isinstance(one, ast.Call) and one.lineno == line]
    if log.breaks and calls:
        why += f", since its graph breaks inside of `{ast.unparse(calls[0].func)}(...)`"
        if any(isinstance(inner, ast.Call) for given in calls[0].args for inner in ast.walk(given)):
            why += ": bind what it is given to a name first"
    return Place(line, why)


def _of_plain_run(scene: Scene, window: Window, look: Callable[[Callable[[], Any]], _T]) -> _T:
    """Return what a look at a plain run of the body shows, in which also what the user compiled is run plainly."""
    scene.overlay.on()
    program = program_as_function(scene, keeps=True)
    program.enter()
    try:
        with window(), scene.framework.eager():
            return look(lambda: program.call(*program.args))
    finally:
        program.exit()
        scene.restore()  # nobody has noted what such a run changed


def _worked_outside(scene: Scene, window: Window) -> Untraced:
    """Return what a plain run of the body does outside of the framework, and in it."""
    return _of_plain_run(scene, window, partial(scene.framework.worked_outside, filename=scene.body.filename))


def _is_far_quicker(scene: Scene, program: Program, window: Window) -> bool:
    """Say whether a slow body takes so little time when it is compiled that some of its work may be missing."""
    if scene.seconds is None or scene.seconds > _SLOWEST:
        return False
    return _seconds_of_a_call(program, window) < _FAR_QUICKER * scene.seconds


def _leaves_out(scene: Scene, program: Program, share: float, window: Window) -> bool:
    """Say whether a program with Python between its graphs leaves out such a share of the work, which nothing reads.

    What is handed over to Python is computed, whatever that does with it. Of a small share, no clock can tell.
    """
    if share < _MOSTLY:
        return False
    plain = _of_plain_run(scene, window, _quickest)
    return _seconds_of_a_call(program, window) < (1 - share / 2) * plain


def _quickest(run: Callable[[], Any]) -> float:
    samples = []
    for _ in range(3):
        start = time.perf_counter()
        run()
        samples.append(time.perf_counter() - start)
    return min(samples)


def _refuse_outside(scene: Scene, window: Window) -> Untraced:
    """Raise CannotCompile where a good part of the plain run is work outside of the framework; not if it is slow.

    Return what was seen, as far as anybody looked.
    """
    if scene.seconds is None or scene.seconds > LONG:
        return Untraced()
    untraced = _worked_outside(scene, window)
    _refuse(scene, untraced, max(scene.seconds - untraced.seconds, 0.0))
    return untraced


def _line_of_code(body: Body, code: types.CodeType, called: str) -> int | None:
    """Return the line of the cell where it calls `called` in this code, or where it calls the code."""
    if code.co_filename != body.filename:
        return first_use(body, code.co_qualname)
    name = called.strip("`").rpartition(".")[2]
    lines = [node.lineno for node in ast.walk(body.tree) if isinstance(node, ast.Call) and _is_called(node, name)]
    if lines or code.co_name != "<module>":
        return min(lines, default=code.co_firstlineno)
    return min((loop.lineno for loop in body.loops), default=body.first_line)


def _is_called(node: ast.Call, name: str) -> bool:
    return getattr(node.func, "attr", getattr(node.func, "id", "")) == name


def _seconds_of_a_call(program: Program, window: Window) -> float:
    """Return how long a call of a program takes that has run before: the quickest of some, of a long one of three."""
    samples: list[float] = []
    while len(samples) < 3 or (len(samples) < _CALLS and sum(samples) < _CALLING):
        program.enter()
        try:
            with window():
                start = time.perf_counter()
                outputs = program.call(*program.args)
                if program.wait is not None:
                    program.wait(outputs)
                samples.append(time.perf_counter() - start)
        finally:
            program.exit()
    return min(samples)


def _fills(scene: Scene) -> bool:
    """Say whether the body puts something into an object, which shows only if the object held something else."""
    found = [scene.namespace.get(name) for name in uses.filled(scene.body.statements)]
    # `torch.exp(x)` puts nothing into `torch`
    return bool(scene.body.kept) or not all(isinstance(value, types.ModuleType) for value in found)


def _compile_parts(
    scene: Scene,
    options: CompileOptions,
    window: Window,
    whole: CannotCompile,
    lasts: bool,
    but: frozenset[str] = frozenset(),
) -> Ready:
    """Compile the modules and notebook functions that the body calls, `but` some, and put them back afterwards."""
    framework = scene.framework
    found = program_with_patches(scene, options, but, scene.long_changed(_MOST_GUARDED) if lasts else ())
    if found is None:
        raise whole
    program, patches, route = found, found.patches, Route()
    with framework.watch(scene.body.filename) as log:
        try:
            if framework.strategy == "namespace":
                program = replace(program, call=route.around(program.call))
            program, outcome = first_run(program, window, lasts=lasts)
        except Exception as error:  # whatever the compiler raises: the plain run raised nothing
            raise CannotCompile(
                f"{whole.reason}; then: {framework.explain(error, scene.body.filename)}", whole.line
            ) from error
    if outcome.anew:
        again = {patch_code_name(patch) for patch in patches} & log.recompiled
        if not again:
            raise whole
        return _compile_parts(scene, options, window, whole, lasts, but | again)
    compiled = [patch for patch in patches if _is_compiled(patch, log)]
    if not compiled:
        raise whole
    if framework.strategy == "namespace":
        _refuse_another_way(scene, route, window)
    program = replace(program, call=found.call, patches=tuple(compiled))
    is_module = any(not isinstance(patch.owner, dict) for patch in compiled)
    reason = f"the body stays Python: {whole.reason}"
    compilation = Compilation(
        way="modules" if is_module else "functions",
        reason=reason if log.told else f"{reason}; {_untold(scene)}",
        line=whole.line,
        compiled=tuple(sorted({patch_label(patch) for patch in compiled})) if log.told else (),
        stages=_compile_stages(log, outcome.seconds),
        cache=log.cache,
        graphs=log.graphs,
        breaks=tuple(log.breaks),
        recompiles=tuple(log.recompiles),
    )
    return Ready(program, compilation, outcome)


def _is_compiled(patch: Patch, log: CompileLog) -> bool:
    """Say whether a stand-in was compiled and stays so: one that turns out not to be fit for it says why."""
    return getattr(patch.value, "failure", None) is None and (patch_code_name(patch) in log.compiled or not log.told)


def _untold(scene: Scene) -> str:
    return f"what was compiled is unknown: this version of {scene.framework.title} does not tell"


def _compile_stages(log: CompileLog, seconds: float, ahead: bool = False) -> tuple[Stage, ...]:
    """Return trace, lower, backend and first run; `ahead`: compilation was not part of the first call."""
    source = "reported by the compiler"
    stages = [Stage(name, log.stages.get(name), source) for name in ("trace", "lower", "backend") if name in log.stages]
    compiling = 0.0 if ahead else sum(stage.seconds or 0.0 for stage in stages)
    rest = "first call" if ahead else "first call less the stages above"
    return (*stages, Stage("first run", max(seconds - compiling, 0.0), rest))
