"""The run of a %%torch or %%jax cell: once plainly, in the notebook, and then measured without leaving a trace."""

from __future__ import annotations

import ast
import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from fwmagic.cells.function import LAST
from fwmagic.cells.interrupts import InterruptGuard
from fwmagic.cells.outcome import Outcome, copied_results, drew_random, state_values
from fwmagic.cells.scene import Overlay, Scene, quiet
from fwmagic.cells.snapshot import Snapshot
from fwmagic.measure.load import Load
from fwmagic.report import Report
from fwmagic.run.draft import Draft, Show
from fwmagic.run.effects import effects, lost_state
from fwmagic.run.inputs import converted_inputs
from fwmagic.run.isolated import Isolation
from fwmagic.run.measuring import Measuring
from fwmagic.run.place import Here, conditions_here, conditions_with_load, passes
from fwmagic.run.preparation import Preparation
from fwmagic.run.section import Section, devices_of_sections
from fwmagic.run.session import Session, seed_all
from fwmagic.run.staging import DEBUGGED


@dataclass(frozen=True)
class _Committed:
    """The plain run: the value of the last expression, what it defined, and the reference of measured runs."""

    value: Any
    definitions: Mapping[str, Any]
    outcome: Outcome


@dataclass(frozen=True)
class SingleRun:
    """What a cell gave: the value of its last expression, its report, and what kept it from being compiled."""

    value: Any
    report: Report
    error: BaseException | None = None


def run_single(session: Session, section: Section, show: Show) -> SingleRun:
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
    inputs, stated = converted_inputs(options.inputs, namespace, [framework], framework, options.device)
    for name, module in framework.names().items():
        namespace.setdefault(name, module)
    if options.seed is not None:
        seed_all(options.seed, framework)
    before = session.snapshot(body.names, framework)
    why_once = DEBUGGED if options.mode == "debug" else _why_only_once(section, namespace, before)
    committed = _commit(section, namespace, before, inputs)
    draft = Draft(f"%%{framework.name}", show, options, session.execution_count)
    if body.is_empty and options.mode != "debug":
        draft.change(state="done", note=f"Nothing to time: {body.why_empty}.")
        return SingleRun(committed.value, draft.report)
    if before.deleted() and options.mode != "debug":
        why_once = f"the cell donates `{before.deleted()[0]}`, which is gone after one run"
    load = Load()
    after = session.snapshot(body.names, framework)
    guard = InterruptGuard()
    draft.add_waiting(section)
    if why_once:
        return SingleRun(committed.value, _report_only_once(draft, section, committed, load, why_once, stated))
    preparation = Preparation(draft, session.programs, guard.window)
    preparation.refer(section, committed.outcome)
    try:
        with guard:
            try:
                before.restore()
                if options.isolated:
                    Isolation(session, [section], draft, preparation, guard.window).run({}, load)
                else:
                    # anew: the plain run may have changed its copies
                    inputs, _ = converted_inputs(options.inputs, namespace, [framework], framework, options.device)
                    scene = _scene_of_single(session, section, committed, inputs)
                    load.start()
                    preparation.prepare(section, scene)
                    silence = partial(quiet, session.shell)
                    here = Here([framework], guard.window, stated, devices_of_sections([section]), silence)
                    contenders = preparation.contenders
                    wanted = passes(options, guard.window, several=len(contenders) > 1)
                    Measuring(draft, here, options, load).run(here.entrants(contenders, wanted))
            finally:
                after.restore()
    except KeyboardInterrupt:
        draft.interrupt("interrupted: the notebook is as after the plain run of the cell")
        raise
    except Exception as error:
        draft.fail(f"{type(error).__name__}: the notebook is as after the plain run of the cell")
        raise
    draft.end()
    # The cell itself worked: only where compiling was asked for is it an error that it cannot be done.
    asked = draft.errors if options.mode == "compiled" else []
    return SingleRun(committed.value, draft.report, next(iter(asked), None))


def _why_only_once(section: Section, namespace: dict[str, Any], before: Snapshot) -> str:
    """Return why the cell must not be run again, or an empty string."""
    repeat = section.options.repeat_effects
    return effects(section.body, namespace, repeat) or lost_state(section.body, before, repeat)


def _scene_of_single(session: Session, section: Section, committed: _Committed, inputs: Mapping[str, Any]) -> Scene:
    """Return the section's scene: the definitions that the plain run made are kept, not made again."""
    overlay = Overlay(session.namespace, {**inputs, **committed.definitions})
    overlay.on()
    try:
        snapshot = session.snapshot(section.body.names, section.framework)
    finally:
        overlay.off()
    scene = Scene(
        session.namespace, section.framework, section.body, overlay, snapshot, section.options.device, session.shell
    )
    scene.took(committed.outcome.seconds)
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
    except Exception as error:
        framework.add_hint(error)
        raise
    finally:
        for name, original in originals.items():
            if namespace.get(name) is inputs[name]:
                namespace[name] = original
    changes = before.changes()
    outcome = Outcome(
        results={name: copied_results(result, framework) for name, result in results.items()},
        changed=state_values(before, changes.paths, body, framework),
        random=drew_random(changes, body),
        seconds=seconds,
    )
    return _Committed(value, {name: namespace[name] for name in body.defined if name in namespace}, outcome)


def _report_only_once(
    draft: Draft, section: Section, committed: _Committed, load: Load, why: str, inputs: str
) -> Report:
    """Report the plain run as the only one."""
    load.start()
    load.stop()
    for name in section.options.variants():
        draft.once(name, committed.outcome.seconds, why, source=section.body.text)
    devices = devices_of_sections([section])
    draft.change(conditions=conditions_with_load(conditions_here([section.framework], devices), load, inputs))
    draft.end()
    return draft.report
