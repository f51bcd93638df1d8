"""What one run of a program gave: its results, the state that it changed, and whether it drew random numbers."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

from fwmagic.cells.analyse import Body
from fwmagic.cells.function import first_use
from fwmagic.cells.kinds import LOCKS
from fwmagic.cells.plans import PLAIN
from fwmagic.cells.program import Program
from fwmagic.cells.scene import Scene
from fwmagic.cells.snapshot import Changes, Snapshot
from fwmagic.cells.watch import Watch
from fwmagic.frameworks import Framework
from fwmagic.report import Place

#: A call that takes longer, in seconds, is not made once more only to find something out.
LONG = 0.25
# A later call does the work of a first one if it takes this share of its time: what was put back a moment ago is slower
# to reach. Less is enough where the first one makes an optimizer's state, too. One that takes far longer does more.
_NEARLY = 0.8
_NEARLY_MADE = 0.5
_FAR_LESS = 0.25
_FAR_MORE = 2
# What clock and caches add to a short call, in seconds.
_CLOCK = 3e-6
# Tries of first and later calls: at most so many, until so many seconds have passed.
_MOST_TRIES = 6
_TRYING = 0.02
# So many calls after a first one are tried, at most, and in about so many seconds.
_DEEPEST = 16
_DEPTH_SECONDS = 5e-3

# A random cell that takes longer, in seconds, is not run again only to see how far chance goes.
_AGAIN = 0.05

# A second call without the first one's state put back could wait for these for ever.
_WAITED_FOR = (
    *(queue.Queue, *LOCKS),
    *(threading.Condition, threading.Semaphore, threading.Event, threading.Barrier),
)

Window = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Outcome:
    """Copies of the results by name and of the changed state by path; `seconds` of the call until all was ready.

    `effect` is what it did to the world outside of the notebook, or to a cache, that cannot be put back. `again` are
    the results of a further run of a random cell, from generators that had moved on; None: there was none.
    """

    results: Mapping[str, Any]
    changed: Mapping[str, Any]
    random: bool
    seconds: float
    effect: Place | None = None
    again: Mapping[str, Any] | None = None

    @property
    def is_plain(self) -> bool:
        """Whether nothing was changed, and the results are numbers, texts and the like, with no array in them."""
        return not self.changed and all(type(value) in PLAIN for value in self.results.values())


def first_run(program: Program, window: Window, only: bool = False, watched: bool = False) -> tuple[Program, Outcome]:
    """Run a program once, from the section's start state; return it with what that showed of later calls, and the rest.

    A program that changes anything is called some more times, unless this is to be its `only` run. If that is `watched`
    and has an effect that cannot be put back, it was the only one; but files that it wrote are as before.
    """
    scene = program.scene
    watch = Watch(scene.namespace, scene.body.filename)
    program.enter()
    try:
        with window(), watch if watched else nullcontext():
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
            effect=watch.effect or (_filled(scene) if watched else None),
        )
        return program if only or outcome.effect is not None else _settled(program, changes, window, seconds), outcome
    finally:
        watch.put_back_files()
        program.exit()


def _filled(scene: Scene) -> Place | None:
    """Return which cache a run has filled that cannot be put back, if any."""
    path = scene.filled()
    return Place(first_use(scene.body, root(path)), f"fills the cache of `{path}`") if path else None


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
    except KeyboardInterrupt:
        raise
    except BaseException:  # whatever the user's code raises when it is run once more
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
    """Return the program with what later calls show: whether they do the work that the first one did.

    Where they find Python objects as the first one left them, and take as long, at any depth that was tried, they may
    follow each other to that depth. Else every timed call starts from the start state: a list that was sorted, a queue
    that was drained or a memo that was filled leaves nothing to do. Where a second call fails, the same.
    """
    scene = program.scene
    alone = replace(program, most_calls=1)
    own = scene.body.assigned | scene.body.defined
    if any(copy.changed() for copy in scene.caches):
        return alone
    if program.most_calls == 1 or not (changes.settings_too or changes.any(own)):
        return program
    if min(seconds, scene.seconds or seconds) > LONG or changes.touch(_WAITED_FOR):
        return alone
    left, set_to = changes.held(own), scene.snapshot.settings_now()
    # An optimizer makes its state in its first step: then blocks begin with an untimed call.
    makes_state = changes.are_inside(scene.framework.optimizers, own)
    try:
        with window():
            _call(program)
        if not changes.still_hold(left, own) or set_to.settings_differ():
            return alone
        depth = _depth(program, changes, window, _NEARLY_MADE if makes_state else _NEARLY)
    except KeyboardInterrupt:
        raise
    except BaseException:  # whatever the user's code raises when it is run again from where it left off
        return alone
    finally:
        scene.look(again=True)
    lead_in = any(keys for _, (keys, _) in left)
    return replace(program, most_calls=max(depth, 2), lead_in=lead_in) if depth else alone


def _depth(program: Program, changes: Changes, window: Window, share: float) -> int:
    """Return how many calls after a first one were tried and take as long as it, or at least this share; 0 if none do.

    First and later calls take turns, and before both of them all that was changed has been gone through: else the
    first ones alone would find it out of the processor's caches, and threads asleep.
    """
    first: list[float] = []
    later: list[float] = []
    depth, begun = 1, time.perf_counter()
    while len(first) < _MOST_TRIES and (not first or time.perf_counter() - begun < _TRYING):
        program.exit()
        program.enter()
        with window():
            first.append(_seconds(program))
            if len(first) == 1:
                depth = max(1, min(_DEEPEST, int(_DEPTH_SECONDS / max(first[0], 1e-9))))
            for _ in range(depth - 1):
                _call(program)
        changes.look_through()
        with window():
            later.append(_seconds(program))
        if min(later) < _FAR_LESS * min(first) - _CLOCK:
            return 0
    short, long = min(first), min(later)
    return depth if share * short - _CLOCK <= long <= _FAR_MORE * short + _CLOCK else 0


def _seconds(program: Program) -> float:
    start = time.perf_counter()
    _call(program)
    return time.perf_counter() - start


def _call(program: Program) -> None:
    outputs = program.call(*program.args)
    if program.wait is not None:
        program.wait(outputs)


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
