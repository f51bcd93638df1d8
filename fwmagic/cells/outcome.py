"""What one run of a program gave: its results, the state that it changed, and whether it drew random numbers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

from fwmagic.cells.analyse import Body
from fwmagic.cells.plans import PLAIN
from fwmagic.cells.program import Program
from fwmagic.cells.snapshot import Changes, Snapshot
from fwmagic.frameworks import Framework

#: A call that takes longer, in seconds, is not made once more only to find something out.
LONG = 0.25

# A random cell that takes longer, in seconds, is not run again only to see how far chance goes.
_AGAIN = 0.05

Window = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Outcome:
    """Copies of the results by name and of the changed state by path; `seconds` of the call until all was ready.

    `again` are the results of a further run of a random cell, from generators that had moved on; None: there was none.
    """

    results: Mapping[str, Any]
    changed: Mapping[str, Any]
    random: bool
    seconds: float
    again: Mapping[str, Any] | None = None

    @property
    def is_plain(self) -> bool:
        """Whether nothing was changed, and the results are numbers, texts and the like, with no array in them."""
        return not self.changed and all(type(value) in PLAIN for value in self.results.values())


def first_run(program: Program, window: Window, only: bool = False) -> tuple[Program, Outcome]:
    """Run a program once, from the section's start state; return it with what that showed of later calls, and the rest.

    A program that changes Python objects is called a second time, unless this is to be its `only` run.
    """
    scene = program.scene
    program.enter()
    try:
        with window():
            start = time.perf_counter()
            outputs = program.call(*program.args)
            wait = scene.framework.waiter(outputs)
            if wait is not None:
                wait(outputs)
            seconds = time.perf_counter() - start
        changes = scene.look()
        paths = changes.paths
        random = drew_random(changes, scene.body)
        left = state_values(scene.snapshot, paths, scene.body, scene.framework)
        program = replace(program, wait=_also_state(program, wait, paths))
        if program.changed is not None:
            left = {path: copied_results(value, scene.framework) for path, value in program.changed(outputs).items()}
        scene.took(seconds)
        outcome = Outcome(
            results={name: copied_results(value, scene.framework) for name, value in program.collect(outputs).items()},
            changed=left,
            random=random,
            seconds=seconds,
        )
        return program if only else _settled(program, changes, window, seconds), outcome
    finally:
        program.exit()


def drawn_again(program: Program, outcome: Outcome, window: Window) -> Outcome:
    """Return the outcome of a random program with the results of a further run, if the cell is not long.

    All begins as in the first run, except that the random generators, or the clock, have moved on.
    """
    scene = program.scene
    if not outcome.random or outcome.again is not None or (scene.seconds or outcome.seconds) > _AGAIN:
        return outcome
    program.enter()
    try:
        with window():
            program.call(*program.args)
        scene.snapshot.changes().restore_but_generators()
        with window():
            outputs = program.call(*program.args)
        again = {name: copied_results(value, scene.framework) for name, value in program.collect(outputs).items()}
    except Exception:  # whatever the user's code raises when it is run once more
        return outcome
    finally:
        program.exit()
        scene.restore()
    return replace(outcome, again=again)


def outcome_without_run(program: Program, known: Outcome) -> Program:
    """Return a slow program as `first_run` does, from what is known of its cell; it is not called for that."""
    scene = program.scene
    scene.look_later()
    outputs = tuple(known.results[name] for name in program.returned if name in known.results)
    wait = _also_state(program, scene.framework.waiter(outputs), list(known.changed))
    return replace(program, wait=wait, most_calls=1)


def _settled(program: Program, changes: Changes, window: Window, seconds: float) -> Program:
    """Return the program with what a second call shows: whether it finds Python state as the first one did.

    An optimizer makes its state in the first call: then blocks begin with an untimed call. Where every call
    changes the state anew, as one that appends to a list, or where a second call fails, every timed call starts
    from the start state.
    """
    left = changes.held()
    if not left:
        return program
    alone = replace(program, most_calls=1)
    if min(seconds, program.scene.seconds or seconds) > LONG:
        return alone
    try:
        with window():
            program.call(*program.args)
    except Exception:  # whatever the user's code raises when it is run again from where it left off
        return alone
    return replace(program if changes.still_hold(left) else alone, lead_in=True)


def state_values(snapshot: Snapshot, paths: list[str], body: Body, framework: Framework) -> dict[str, Any]:
    """Return copies of the arrays that are now at paths that changed, except under names that the body binds."""
    changed = tuple(path for path in paths if root(path) not in body.assigned)
    found = snapshot.find_leaves(framework.is_array) if changed else []
    values: dict[str, Any] = {}
    for path, value in found:
        if path.startswith(changed):
            # What is there now comes first; an array that was there before may follow under the same path.
            values.setdefault(path, copied_results(value, framework))
    return values


def drew_random(changes: Changes, body: Body) -> bool:
    """Say whether the results depend on chance or on the clock, so that two runs need not agree."""
    return changes.drew_random() or body.clock is not None


def _also_state(program: Program, wait: Callable[[Any], Any] | None, paths: list[str]) -> Callable[[Any], Any] | None:
    """Return a wait that includes arrays which the body leaves in the state instead of returning them."""
    scene = program.scene
    namespace = scene.namespace
    roots = sorted({root(path) for path in paths} - scene.body.assigned)

    def state() -> list[Any]:
        values = [namespace.get(name) for name in roots]
        return [vars(value) if hasattr(value, "__dict__") else value for value in values]

    wait_for_state = scene.framework.waiter(state())
    if program.changed is not None or wait_for_state is None:
        return wait

    def wait_for_all(outputs: Any) -> None:
        if wait is not None:
            wait(outputs)
        wait_for_state(state())

    return wait_for_all


def root(path: str) -> str:
    """Return the name with which a path such as `net.weight` or `hist[3]` begins."""
    return path.split(".")[0].split("[")[0].split("(")[0]


def copied_results(value: Any, framework: Framework) -> Any:
    """Return a tree of arrays that later runs cannot change: containers rebuilt, arrays saved."""
    kept = framework.frozen(value)
    if kept is not None:
        return kept
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)._make(copied_results(item, framework) for item in value)  # type: ignore[attr-defined]
    if type(value) in (list, tuple):
        return type(value)(copied_results(item, framework) for item in value)
    if isinstance(value, dict):
        return {key: copied_results(item, framework) for key, item in value.items()}
    return value
