"""The run of a %%torch or %%jax cell: once plainly, in the notebook, and then measured without leaving a trace."""

from __future__ import annotations

import ast
import contextlib
import time
from dataclasses import dataclass
from typing import Any

from fwmagic.cells.function import LAST
from fwmagic.cells.interrupts import InterruptGuard
from fwmagic.cells.outcome import Outcome, copy_of, drew_random, state_values
from fwmagic.cells.scene import Overlay, Scene
from fwmagic.cells.snapshot import Snapshot
from fwmagic.measure.load import Load
from fwmagic.memory import passes
from fwmagic.memory.passes import Passes
from fwmagic.options import Options
from fwmagic.report import Compilation, Report, Variant
from fwmagic.run import measuring
from fwmagic.run.draft import Draft, Show
from fwmagic.run.inputs import converted
from fwmagic.run.isolated import Isolation
from fwmagic.run.once import effects, lost_state
from fwmagic.run.place import Here, conditions
from fwmagic.run.session import Session, devices_of, names_of, nothing_in, seed_all, snapshot_of
from fwmagic.run.variants import Preparation, Section


@dataclass(frozen=True)
class _Committed:
    """The plain run: the value of the last expression, and the reference that measured runs must agree with."""

    value: Any
    outcome: Outcome


@dataclass(frozen=True)
class Ran:
    """What a cell gave: the value of its last expression, its report, and what kept it from being compiled."""

    value: Any
    report: Report
    error: BaseException | None = None


def run_single(session: Session, section: Section, show: Show) -> Ran:
    """Run a cell once, plainly, then measure it.

    The notebook is afterwards as after the plain run, also after an interrupt or an error while measuring.

    Raises
    ------
    Whatever the cell raises, with the notebook as the cell left it; nothing is measured then.
    """
    __tracebackhide__ = True
    namespace, body, options, framework = session.namespace, section.body, section.options, section.framework
    if options.device is not None:
        framework.device(options.device)
    inputs, stated = converted(options.inputs, namespace, [framework], framework, options.device)
    for name, module in framework.names().items():
        namespace.setdefault(name, module)
    names = names_of(body)
    if options.seed is not None:
        seed_all(options.seed, framework)
    before = snapshot_of(session, names, section)
    why_once = "" if options.mode == "debug" else _once(section, namespace, before)
    committed = _commit(section, namespace, before, inputs)
    draft = Draft(
        f"%%{framework.name}",
        show,
        budget=options.budget,
        margin=options.margin,
        execution_count=session.execution_count,
    )
    if options.mode == "debug":
        return Ran(committed.value, _debugged(draft, section, committed))
    if body.is_empty:
        draft.change(state="done", note=f"Nothing to time: {nothing_in(body)}.")
        return Ran(committed.value, draft.report)
    if before.deleted():
        why_once = f"the cell donates `{before.deleted()[0]}`, which is gone after one run"
    load = Load()
    after = snapshot_of(session, names, section)
    guard = InterruptGuard()
    section.reference = committed.outcome
    preparation = Preparation(draft, session.programs, guard.window)
    preparation.add(section)
    if why_once:
        return Ran(committed.value, _only_once(draft, section, committed, load, why_once, stated))
    try:
        with guard:
            try:
                before.restore()
                if options.isolated:
                    Isolation(session, [section], preparation, guard).run({}, load)
                    return _ran(committed, draft, preparation, options)
                # anew: the plain run may have changed its copies
                inputs, _ = converted(options.inputs, namespace, [framework], framework, options.device)
                section.scene = _scene(session, section, names, inputs)
                load.start()
                preparation.prepare(section)
                here = Here([framework], guard.window, stated, devices_of([section]))
                how = measuring.Pass(draft, here, options.budget, options.margin, options.baseline, load)
                programs = here.calls(contender.program for contender in preparation.contenders)
                contenders = preparation.contenders
                preparation.errors += measuring.time_contenders(how, contenders, programs)
                passes.measure(Passes(options, guard.window, several=len(contenders) > 1), contenders, draft)
            finally:
                after.restore()
    except KeyboardInterrupt:
        draft.interrupt("interrupted: the notebook is as after the plain run of the cell")
        raise
    except Exception as error:
        draft.change(state="failed", note=f"{type(error).__name__}: the notebook is as after the plain run of the cell")
        raise
    return _ran(committed, draft, preparation, options)


def _ran(committed: _Committed, draft: Draft, preparation: Preparation, options: Options) -> Ran:
    draft.change(state="failed" if preparation.errors else "done", progress=1.0)
    # The cell itself worked: only where compiling was asked for is it an error that it cannot be done.
    asked = preparation.errors if options.mode == "compiled" else []
    return Ran(committed.value, draft.report, next(iter(asked), None))


def _once(section: Section, namespace: dict[str, Any], before: Snapshot) -> str:
    """Return why the cell must not be run again, or an empty string."""
    repeat = section.options.repeat_effects
    return effects(section.body, namespace, repeat) or lost_state(section.body, before, repeat)


def _scene(session: Session, section: Section, names: list[str], inputs: dict[str, Any]) -> Scene:
    """Return the section's scene: the definitions that the plain run made are kept, not made again."""
    overlay = Overlay(session.namespace, {**inputs, **section.definitions})
    overlay.on()
    try:
        snapshot = snapshot_of(session, names, section)
    finally:
        overlay.off()
    device = section.options.device
    scene = Scene(session.namespace, section.framework, section.body, overlay, snapshot, device, session.shell)
    scene.seconds = None if section.reference is None else section.reference.seconds
    return scene


def _commit(section: Section, namespace: dict[str, Any], before: Snapshot, inputs: dict[str, Any]) -> _Committed:
    """Run the cell as it stands, in the notebook's namespace."""
    __tracebackhide__ = True
    body, framework, options = section.body, section.framework, section.options
    tree = list(body.tree.body)
    last = tree.pop().value if body.last is not None else None  # type: ignore[attr-defined]
    statements = body.code(ast.Module(tree, []))
    expression = None if last is None else body.code(ast.Expression(last))
    originals = {name: namespace[name] for name in inputs}
    namespace.update(inputs)
    mode = framework.eager() if options.mode == "debug" else contextlib.nullcontext()
    try:
        with framework.on_device(options.device), mode:
            start = time.perf_counter()
            exec(statements, namespace)
            value = None if expression is None else eval(expression, namespace)
            results = ({} if last is None else {LAST: value}) | {n: namespace[n] for n in body.live if n in namespace}
            wait = framework.waiter(tuple(results.values()))
            if wait is not None:
                wait(tuple(results.values()))
            seconds = time.perf_counter() - start
    finally:
        for name, original in originals.items():
            if namespace.get(name) is inputs[name]:
                namespace[name] = original
    paths = before.find_changed()
    section.definitions = {name: namespace[name] for name in body.defined if name in namespace}
    outcome = Outcome(
        results={name: copy_of(result, framework) for name, result in results.items()},
        changed=state_values(before, paths, body, framework),
        random=drew_random(before, body),
        seconds=seconds,
    )
    return _Committed(value, outcome)


def _debugged(draft: Draft, section: Section, committed: _Committed) -> Report:
    why = "one run without a compiler, for debugging: its time says nothing"
    variant = Variant(
        section.name, section.name, section.framework.name, "debug", "waiting", colour=section.framework.colour
    )
    draft.add(variant)
    measuring.once(draft, variant, committed.outcome.seconds, why, source=section.body.text)
    draft.change(state="done", progress=1.0)
    return draft.report


def _only_once(draft: Draft, section: Section, committed: _Committed, load: Load, why: str, inputs: str) -> Report:
    """Report the plain run as the only one."""
    load.start()
    load.stop()
    for name in section.options.variants():
        measuring.once(
            draft,
            draft.report[name],
            committed.outcome.seconds,
            why,
            source=section.body.text,
            compilation=Compilation("eager", why),
        )
    found = conditions([section.framework], devices_of([section]), load, inputs)
    draft.change(state="done", progress=1.0, conditions=found)
    return draft.report
