"""One execution of `--debug`: the cell runs once without a trace, and is traced beside it; then both are told."""

from __future__ import annotations

import bdb
import linecache
from collections.abc import Callable, Mapping
from typing import Any

from fwmagic.cells.definitions import names_made
from fwmagic.cells.function import LAST, returned_names
from fwmagic.cells.interrupts import InterruptGuard
from fwmagic.cells.outcome import Outcome, copied_results, drew_random, state_values
from fwmagic.cells.program import call_in_namespace
from fwmagic.cells.scene import Overlay
from fwmagic.cells.snapshot import Snapshot
from fwmagic.cells.watch import Watch
from fwmagic.debug.diagnosis import diagnose
from fwmagic.debug.fixing import Fix, try_fix
from fwmagic.debug.runs import Aside, PlainRun, TracedRun, difference, record_of
from fwmagic.debug.source import Source
from fwmagic.debug.view import LineView, line_view
from fwmagic.frameworks.traps import Trap
from fwmagic.run.draft import interrupt_of_user, time_stamp
from fwmagic.run.effects import gone, seen_effect
from fwmagic.run.section import Section
from fwmagic.run.session import Session
from fwmagic.run.single import made_ready, why_only_once

Show = Callable[[LineView], None]


def run_debug(session: Session, section: Section, show: Show, reread: Callable[[str], Section]) -> Any:
    """Run a cell once without a trace, and show it line by line beside its trace; return its value.

    The notebook is afterwards as if the cell had run once; if it fails, as if it had not run. `reread` returns the text
    of a whole cell as a section.

    Raises
    ------
    Whatever the cell raises when it runs without a trace.
    """
    __tracebackhide__ = True
    started = time_stamp()
    namespace, body, framework = session.namespace, section.body, section.framework
    under = Overlay(namespace, {})
    under.on()
    inputs, _, before = made_ready(session, section)
    why_once = why_only_once(section, namespace, before)
    source = Source(body.tree)
    cannot = framework.cannot_compile()  # before lines are followed: it may import a compiler
    plain = PlainRun(record_of(section, namespace, source, traced=False))
    try:
        _run_plainly(section, namespace, before, inputs, plain)
    except BaseException as error:
        plain.error = error
        if why_once or not isinstance(error, Exception) or isinstance(error, bdb.BdbQuit):
            _undo(before, under)
            raise
    why_once = why_once or (gone(lost[0][0]) if (lost := before.deleted()) else "")
    why_once = why_once or seen_effect(plain.effect, repeat_effects=False)
    guard = InterruptGuard()
    after = (
        None
        if plain.error
        else session.snapshot_of(body, framework, roots=before.changes().objects, copies=before.copies)
    )
    traced = TracedRun(record_of(section, namespace, source, traced=True), why_not=why_once)
    traced.shows_stages = section.options.stages
    traps: list[Trap] | None = None
    fix = Fix(f"the changed lines were not run: {why_once}") if section.options.try_fix else None
    interrupt: KeyboardInterrupt | None = None
    aside = Aside(session, before, guard.window)
    try:
        with guard:
            if not why_once:
                before.restore()
                if plain.record.lost:  # a debugger took over
                    plain.record = aside.run(section, source).record
                aside.trace(section, plain, traced, cannot)
            traps = diagnose(section, plain, traced, difference(section, plain, traced))
            if fix is not None and not why_once:
                fix = Fix("the changed lines were not run to the end: it was interrupted")
                fix = try_fix(aside, section, plain, traps, reread, cannot)
    except KeyboardInterrupt as error:  # the cell itself has run
        interrupt = error
        if traps is None:
            traced.why_not = "it was interrupted"
    finally:
        if after is None:
            _undo(before, under)
        else:
            after.restore()
    if traps is None:
        traps = diagnose(section, plain, traced, "")
    if plain.error is not None:
        framework.add_hint(plain.error)
    text = [row.rstrip("\n") for row in linecache.getlines(body.filename)]
    show(line_view(section, session.execution_count, started, plain, traced, traps, text, fix))
    if plain.error is not None:
        raise plain.error
    if interrupt is not None:
        raise interrupt_of_user(interrupt, body.filename)
    return plain.value


def _undo(before: Snapshot, under: Overlay) -> None:
    """Put everything back: the cell did not run."""
    before.restore()
    under.off()


def _run_plainly(
    section: Section, namespace: dict[str, Any], before: Snapshot, inputs: Mapping[str, Any], plain: PlainRun
) -> None:
    """Run the cell in the notebook's namespace, without a trace."""
    __tracebackhide__ = True
    body, framework = section.body, section.framework
    originals = {name: namespace[name] for name in inputs}
    namespace.update(inputs)
    run = call_in_namespace(body, namespace, whole=True)
    device, watch = framework.on_device(section.options.device), Watch(namespace, body.filename)
    try:
        with device, framework.eager(), watch, plain.record.recording(beside=False):
            outputs = run()
            wait = framework.waiter(outputs)
            if wait is not None:
                wait(outputs)
    finally:
        plain.effect, plain.names = watch.effect, dict(namespace)
        for name, original in originals.items():
            if namespace.get(name) is inputs[name]:
                namespace[name] = original
    results = dict(zip(returned_names(body), outputs, strict=True))
    changes = before.changes()
    plain.value = results.get(LAST)
    plain.definitions = {name: namespace[name] for name in names_made(body.definitions) if name in namespace}
    plain.outcome = Outcome(
        results={name: copied_results(result, framework) for name, result in results.items()},
        changed=state_values(before, changes.paths, body, framework),
        random=drew_random(changes, body),
        seconds=0.0,
    )
