"""The run of a %%torch or %%jax cell: once plainly, in the notebook, and then measured without leaving a trace."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from fwmagic.cells.analyse import Body
from fwmagic.cells.caches import Cache, copies_of
from fwmagic.cells.definitions import names_made
from fwmagic.cells.function import LAST, first_use
from fwmagic.cells.interrupts import InterruptGuard
from fwmagic.cells.modules import on_import
from fwmagic.cells.outcome import Outcome, Window, copied_results, drew_random, left_to_others, root, state_values
from fwmagic.cells.scene import Overlay, Scene, quiet
from fwmagic.cells.snapshot import Snapshot
from fwmagic.cells.watch import Watch
from fwmagic.measure.load import Load
from fwmagic.report import Place, Report
from fwmagic.run.draft import Draft, Show, interrupt_of_user
from fwmagic.run.effects import copies_of_arrays, effects, gone, lost_state, may_use_up, seen_effect
from fwmagic.run.inputs import converted_inputs
from fwmagic.run.isolated import Isolation
from fwmagic.run.measuring import Measuring
from fwmagic.run.place import Here, conditions_here, conditions_with_load, passes
from fwmagic.run.preparation import Preparation
from fwmagic.run.section import Section, devices_of_sections
from fwmagic.run.session import Session, seed_all, start


@dataclass(frozen=True)
class _Committed:
    """The plain run: the value of the last expression, what it defined and changed, and what measured runs refer to."""

    value: Any
    definitions: Mapping[str, Any]
    outcome: Outcome
    changed: list[Any]


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
    inputs, stated, before = made_ready(session, section)
    why_once = why_only_once(section, namespace, before)
    # They are made while there is something to copy: the plain run is on the notebook's own arrays.
    spared = not why_once and may_use_up(body, namespace, before, framework)
    spares = copies_of_arrays(before, framework) if spared else {}
    committed = _commit(section, namespace, before, inputs)
    draft = Draft(f"%%{framework.name}", show, options, session.execution_count, session.cell)
    if body.is_empty:
        draft.change(state="done", note=f"Nothing to time: {body.why_empty}.")
        return SingleRun(committed.value, draft.report)
    used_up = {id(array): spares[id(array)][1] for _, array in before.deleted() if id(array) in spares}
    spares.clear()
    why_once = why_once or _seen_only_once(section, before, committed, used_up)
    load = Load()
    before.finalize()  # what the plain run has left, too
    # What the plain run has changed may no longer be within reach, such as a list of a hook that removes itself.
    after = session.snapshot_of(body, framework, roots=committed.changed, copies=before.copies)
    guard = InterruptGuard()
    draft.add_waiting(section)
    try:
        with guard:
            if why_once:
                _report_only_once(draft, section, committed, load, why_once, stated)
            else:
                try:
                    before.restore()
                    before.exchange(used_up)
                    _measure(session, section, committed, draft, guard.window, load, stated, before, used_up)
                finally:
                    before.exchange({})
                    after.restore()
            draft.end()
    except KeyboardInterrupt as error:
        draft.interrupt("interrupted: the notebook is as after the plain run of the cell")
        raise interrupt_of_user(error, body.filename) from None
    except BaseException as error:
        draft.fail(f"{type(error).__name__}: the notebook is as after the plain run of the cell")
        raise
    # The cell itself worked: only where compiling was asked for is it an error that it cannot be done.
    asked = draft.errors if options.mode == "compiled" else []
    return SingleRun(committed.value, draft.report, next(iter(asked), None))


def made_ready(session: Session, section: Section) -> tuple[dict[str, Any], str, Snapshot]:
    """Make the notebook ready for the plain run; return the inputs, what is stated of them, and the state before it."""
    namespace, options, framework = session.namespace, section.options, section.framework
    if options.device is not None:
        framework.device(options.device)
    start(framework)
    inputs, stated = converted_inputs(options.inputs, namespace, [framework], framework, options.device)
    for name, module in framework.names().items():
        namespace.setdefault(name, module)
    if options.seed is not None:
        seed_all(options.seed, framework)
    return inputs, stated, session.snapshot_of(section.body, framework)


def _measure(
    session: Session,
    section: Section,
    committed: _Committed,
    draft: Draft,
    window: Window,
    load: Load,
    stated: str,
    before: Snapshot,
    used_up: Mapping[int, Any],
) -> None:
    """Make the variants of a cell, whose start state is in place, ready, and time them."""
    framework, options = section.framework, section.options
    preparation = Preparation(draft, session.programs, window)
    preparation.references.refer(section, committed.outcome)
    if options.isolated:
        Isolation(session, [section], draft, preparation, window).run({}, load)
        return
    # anew: the plain run may have changed its copies
    inputs, _ = converted_inputs(options.inputs, session.namespace, [framework], framework, options.device)
    scene = scene_of_single(session, section, committed.definitions, inputs, before)
    scene.used_up = tuple(used_up.values())
    scene.took(committed.outcome.seconds)
    scene.changed = tuple(committed.changed)
    load.start()
    preparation.prepare(section, scene)
    silence = partial(quiet, session.shell)
    here = Here([framework], window, stated, devices_of_sections([section]), silence)
    contenders = preparation.contenders
    wanted = passes(options, window, several=len(contenders) > 1)
    Measuring(draft, here, options, load).run(here.entrants(contenders, wanted))


def why_only_once(section: Section, namespace: dict[str, Any], before: Snapshot) -> str:
    """Return why the cell must not be run again, or an empty string."""
    repeat = section.options.repeat_effects
    return effects(section.body, namespace, repeat) or lost_state(section.body, before, repeat)


def _seen_only_once(section: Section, before: Snapshot, committed: _Committed, used_up: Mapping[int, Any]) -> str:
    """Return why the plain run showed that the cell must not be run again, or an empty string.

    There are copies of the arrays in `used_up`.
    """
    for path, array in before.deleted():
        if id(array) not in used_up:
            return gone(path)
    return seen_effect(committed.outcome.effect, section.options.repeat_effects)


def scene_of_single(
    session: Session,
    section: Section,
    definitions: Mapping[str, Any],
    inputs: Mapping[str, Any],
    before: Snapshot,
) -> Scene:
    """Return the section's scene, with the definitions that the plain run made.

    Functions with a cache are copies, whose caches hold what they held before the plain run.
    """
    namespace, body = session.namespace, section.body
    overlay = Overlay(namespace, {**inputs, **definitions})
    overlay.on()
    try:
        snapshot = session.snapshot_of(body, section.framework, copies=before.copies)
        known = {id(cache.function): cache for cache in before.caches.values()}
        found = (cache.function for cache in snapshot.caches.values())
        copies = copies_of(known.get(id(one)) or Cache(one, empty=True) for one in found)
        if copies:
            overlay.put_in(snapshot, {id(copy.original): copy.function for copy in copies})
            snapshot = session.snapshot_of(body, section.framework, copies=before.copies)
    finally:
        overlay.off()
    return Scene(
        namespace,
        section.framework,
        body,
        overlay,
        snapshot,
        section.options.device,
        session.shell,
        caches=tuple(copies),
    )


def _commit(section: Section, namespace: dict[str, Any], before: Snapshot, inputs: dict[str, Any]) -> _Committed:
    """Run the cell as it stands, in the notebook's namespace."""
    __tracebackhide__ = True
    body, framework, options = section.body, section.framework, section.options
    statements, last = body.runs(whole=True)
    originals = {name: namespace[name] for name in inputs}
    namespace.update(inputs)
    try:
        imports = on_import(before.take_in)
        with framework.on_device(options.device), Watch(namespace, body.filename) as watch, imports:
            compiled = framework.compile_events()
            begun = time.perf_counter()
            exec(statements, namespace)
            value = None if last is None else eval(last, namespace)
            results = ({} if last is None else {LAST: value}) | {n: namespace[n] for n in body.live if n in namespace}
            framework.finish()
            seconds = time.perf_counter() - begun
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
        effect=watch.effect or _filled(before, body) or left_to_others(before, body),
        compilations=framework.compile_events() - compiled,
        plain=changes.plain_values(body.assigned | body.defined),
        alters=changes.alter(body.assigned | body.defined),
        makes=next(iter(before.made()), ""),
    )
    definitions = {name: namespace[name] for name in names_made(body.definitions) if name in namespace}
    return _Committed(value, definitions, outcome, changes.objects)


def _filled(before: Snapshot, body: Body) -> Place | None:
    """Return which cache the plain run has filled that measured runs cannot have a copy of, if any."""
    filled = {path: cache for path, cache in before.caches.items() if cache.changed()}
    stuck = (path for path, cache in filled.items() if not _can_be_copied(cache, before))
    path = next(stuck, None)
    return None if path is None else Place(first_use(body, root(path)), f"fills the cache of `{path}`")


def _can_be_copied(cache: Cache, before: Snapshot) -> bool:
    copies = copies_of([cache])
    return bool(copies) and before.fits({id(copy.original): copy.function for copy in copies})


def _report_only_once(draft: Draft, section: Section, committed: _Committed, load: Load, why: str, inputs: str) -> None:
    """Report the plain run as the only one."""
    load.start()
    load.stop()
    for name in section.options.variants():
        draft.once(name, committed.outcome.seconds, why, source=section.body.text)
    devices = devices_of_sections([section])
    draft.change(conditions=conditions_with_load(conditions_here([section.framework], devices), load, inputs))
