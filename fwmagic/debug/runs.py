"""The two runs of a cell that is debugged, plain and traced: what each one gave, or raised, with its record."""

from __future__ import annotations

import bdb
import pdb
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from fwmagic.cells.definitions import names_made
from fwmagic.cells.obstacles import why_python
from fwmagic.cells.outcome import Outcome, Window, first_run
from fwmagic.cells.patches import program_with_patches
from fwmagic.cells.program import program_as_function, program_in_namespace, traced_program
from fwmagic.cells.scene import Scene
from fwmagic.cells.snapshot import Snapshot
from fwmagic.cells.ways import is_input_of
from fwmagic.cells.yours import yours
from fwmagic.debug.record import Record
from fwmagic.debug.source import Source
from fwmagic.errors import CannotCompile
from fwmagic.frameworks import first_line
from fwmagic.frameworks.compiled import CompileLog, CompileOptions, Form, Traced
from fwmagic.report import Place
from fwmagic.run.checking import agreement
from fwmagic.run.inputs import converted_inputs
from fwmagic.run.section import Section
from fwmagic.run.session import Session
from fwmagic.run.single import scene_of_single


@dataclass
class PlainRun:
    """The run without a trace: its record, the value of the last expression, and what it raised, or gave and did.

    `names` are those of the notebook after it.
    """

    record: Record
    value: Any = None
    error: BaseException | None = None
    outcome: Outcome | None = None
    effect: Place | None = None
    names: Mapping[str, Any] = field(default_factory=dict)
    definitions: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class TracedRun:
    """The traced run: its record, and what was compiled; or what it raised, or why there was none.

    `is_yours`: what the user compiled was traced, and not the cell as a whole. `shows_stages`: its forms were
    asked for, and are in `stages`, or `why_no_stages` says why there are none. `leaked` are paths to values that
    outlived the trace, `rebound` is as in `Evidence`.
    """

    record: Record
    log: CompileLog = field(default_factory=CompileLog)
    error: BaseException | None = None
    outcome: Outcome | None = None
    why_not: str = ""
    is_yours: bool = False
    shows_stages: bool = False
    stages: list[Form] = field(default_factory=list)
    why_no_stages: str = ""
    leaked: list[str] = field(default_factory=list)
    rebound: list[tuple[str, str, int, int]] = field(default_factory=list)


@dataclass(frozen=True)
class Aside:
    """Runs a cell beside the notebook, from the state that `before` holds: it prints nothing and leaves nothing."""

    session: Session
    before: Snapshot
    window: Window

    def run(self, section: Section, source: Source) -> PlainRun:
        """Run a cell without a trace; no debugger stops in it."""
        namespace = self.session.namespace
        plain = PlainRun(record_of(section, namespace, source, traced=False))
        scene = self._scene(section, {})
        program = program_in_namespace(scene, whole=True)

        def call() -> Any:
            try:
                with section.framework.eager(), no_debuggers(), plain.record.recording():
                    outputs = program.call()
            finally:
                plain.names = dict(namespace)
            made = names_made(section.body.definitions)
            plain.definitions = {name: namespace[name] for name in made if name in namespace}
            return outputs

        try:
            _, plain.outcome = first_run(replace(program, call=call), self.window, only=True)
        except Exception as error:  # whatever the cell raises; what was recorded until then stands
            plain.error = error
        finally:
            scene.restore()
        return plain

    def trace(self, section: Section, plain: PlainRun, traced: TracedRun, cannot: str) -> None:
        """Run a cell with its trace: what the user compiled, or the cell as one function; `cannot` says why not."""
        framework, body, record = section.framework, section.body, traced.record
        scene = self._scene(section, plain.definitions)
        held = bool(scene.snapshot.held(framework.is_compiled))
        traced.is_yours = plain.error is not None or yours(scene).called is not None
        try:
            if cannot:
                raise CannotCompile(cannot)
            with framework.watch(body.filename) as log, framework.staging(record.note_staged, anew=held):
                traced.log = log
                if traced.is_yours:
                    traced.outcome = _run_as_written(scene, traced, self.window)
                elif framework.strategy == "namespace":
                    traced.outcome = _run_as_one_trace(scene, record, self.window)
                else:
                    traced.outcome = _run_compiled(scene, traced, self.window)
        except CannotCompile as error:
            traced.why_not = error.reason
        except Exception as error:  # whatever the cell, or the compiler, raises while tracing
            traced.error = error
        finally:
            scene.restore()
        if traced.shows_stages and not traced.is_yours and framework.strategy == "namespace":
            _stages_of_cell(scene, traced)

    def _scene(self, section: Section, definitions: Mapping[str, Any]) -> Scene:
        framework, options = section.framework, section.options
        inputs, _ = converted_inputs(options.inputs, self.session.namespace, [framework], framework, options.device)
        return scene_of_single(self.session, section, definitions, inputs, self.before)


def record_of(section: Section, namespace: Mapping[str, Any], source: Source, traced: bool) -> Record:
    """Return an empty record of a run of a cell."""
    record = Record(
        section.framework, namespace.get("__name__", "__main__"), (section.body.filename, source), traced=traced
    )
    if not traced:
        record.inspector = section.framework.inspector()
    return record


def _run_as_written(scene: Scene, traced: TracedRun, window: Window) -> Outcome:
    program = program_in_namespace(scene, whole=True)

    def call() -> Any:
        with no_debuggers(), _stages_told(scene, traced), traced.record.recording():
            outputs = program.call()
        left = scene.snapshot.find_leaves(scene.framework.is_traced)
        traced.leaked = [path for path, _ in left]
        traced.rebound = list(_rebound(traced.record, scene.namespace))
        return outputs

    _, outcome = first_run(replace(program, call=call), window, only=True)
    return outcome


def _rebound(record: Record, namespace: Mapping[str, Any]) -> Iterator[tuple[str, str, int, int]]:
    """Yield the globals that a traced function read and that are bound to something else now; see `Evidence`."""
    for (file, first), held in record.captured.items():
        for name, value in held.items():
            lines = [line for line in record.lines.values() if line.file == record.own and name in line.statement.names]
            bound = max((line.statement.first for line in lines if line.function == "<module>"), default=None)
            if file == record.own and bound is not None and namespace.get(name) is not value:
                yield name, record.lines[file, first, "def"].function, first, bound


def _run_as_one_trace(scene: Scene, record: Record, window: Window) -> Outcome:
    scene.enter()
    try:
        with window(), no_debuggers(), record.recording():
            program, _ = traced_program(scene, scene.framework.trace, is_input_of(scene))
        _, outcome = first_run(program, window, only=True)
    finally:
        scene.exit()
    return outcome


def _stages_told(scene: Scene, traced: TracedRun) -> AbstractContextManager[Any]:
    """Note the forms of each program that is compiled in the block, where they were asked for."""
    if not traced.shows_stages:
        return nullcontext()
    return scene.framework.stages_told(scene.namespace, traced.stages.extend, scene.body.filename)


def _stages_of_cell(scene: Scene, traced: TracedRun) -> None:
    """Note the forms of the cell as one function."""
    framework = scene.framework

    def trace(function: Any, arguments: Any, filename: str = "") -> Traced:
        traced.stages += framework.stages_of_cell(function, arguments, filename)
        return Traced(function, (), lambda outputs: outputs, ())

    scene.enter()
    try:
        traced_program(scene, trace, is_input_of(scene))
    except Exception as error:  # whatever the cell, or the compiler, raises
        traced.why_no_stages = f"{type(error).__name__}: {first_line(error)}"
    finally:
        scene.exit()


def _run_compiled(scene: Scene, traced: TracedRun, window: Window) -> Outcome:
    framework, options = scene.framework, CompileOptions()
    place = why_python(scene)
    program = None if place is None else program_with_patches(scene, options)
    if place is not None and program is None:
        raise CannotCompile(place.reason, place.line)
    if program is None:
        scene.enter()
        try:
            program = program_as_function(scene, compile=lambda function: framework.compile(function, options))
        finally:
            scene.exit()
    compiled = program.call

    def call(*arguments: Any) -> Any:
        with no_debuggers(), _stages_told(scene, traced):
            return compiled(*arguments)

    _, outcome = first_run(replace(program, call=call), window, only=True)
    return outcome


@contextmanager
def no_debuggers() -> Iterator[None]:
    """Let breakpoints, `breakpoint()` and `set_trace()` do nothing in the block: the first run has stopped at them.

    Entering a scene puts the hook of `breakpoint()` back, so this is for the call alone.
    """
    debugpy = sys.modules.get("debugpy")
    of_jupyter = debugpy if debugpy is not None and debugpy.is_client_connected() else None
    hook = sys.breakpointhook
    places = [owner for owner in (bdb.Bdb, pdb.Pdb) if "set_trace" in vars(owner)]
    methods = [owner.set_trace for owner in places]
    sys.breakpointhook = lambda *_, **__: None
    for owner in places:
        owner.set_trace = lambda *_, **__: None  # type: ignore[method-assign]
    if of_jupyter is not None:
        of_jupyter.trace_this_thread(False)
    try:
        yield
    finally:
        if of_jupyter is not None:
            of_jupyter.trace_this_thread(True)
        sys.breakpointhook = hook
        for owner, method in zip(places, methods, strict=True):
            owner.set_trace = method  # type: ignore[method-assign]


def difference(section: Section, plain: PlainRun, traced: TracedRun) -> str:
    """Return how the results of the traced run differ from those of the plain one; empty: they do not."""
    one, other = plain.outcome, traced.outcome
    if one is None or other is None:
        return ""
    names, paths = one.results.keys() & other.results.keys(), one.changed.keys() & other.changed.keys()
    expected, found = (
        {**{name: run.results[name] for name in names}, **{path: run.changed[path] for path in paths}}
        for run in (one, other)
    )
    result = agreement(expected, found, ("run", "traced"), [section.framework], one.random)
    return result.sentence if result.status == "differs" else ""
