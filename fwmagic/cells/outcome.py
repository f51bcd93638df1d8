"""What one run of a program gave: its results, the state that it changed, and whether it drew random numbers."""

from __future__ import annotations

import math
import queue
import re
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import combinations
from typing import Any

from fwmagic.cells.analyse import Body
from fwmagic.cells.function import first_use
from fwmagic.cells.kinds import LOCKS, attributes_of
from fwmagic.cells.modules import on_import
from fwmagic.cells.plans import PLAIN
from fwmagic.cells.program import Program, program_as_written
from fwmagic.cells.scene import Scene
from fwmagic.cells.snapshot import Changes, Snapshot
from fwmagic.cells.steps import steps_of
from fwmagic.cells.threads import wait_for
from fwmagic.cells.watch import Watch
from fwmagic.frameworks import Framework
from fwmagic.report import Place

#: A call that takes longer, in seconds, is not made once more only to find something out.
LONG = 0.25
# Nor is one that takes longer than this, to see whether it compiles again.
_VERY_LONG = 10.0
# So many calls from the start state are tried, at most, and for about so many seconds.
_DEEPEST = 16
_DEPTH_SECONDS = 0.04
# What runs in C only a clock can tell: a later call did far less than a first one, such as sorting what is sorted, if
# this thread worked less than this share of its time, and what a clock adds to a short call, in seconds. It is tried
# until it does not show for the second time, or once if a try takes more than so many seconds.
_FAR_LESS = 0.5
_CLOCK = 3e-6
_TRIES, _TRYING = 5, 0.02

# A thread that a run has left at work is waited for so many seconds.
_JOINING = 5.0
#: A random cell that takes longer, in seconds, is not run again only to see how far chance goes; others are run so many
#: times more, as long as that takes no more seconds.
MOST_AGAIN = 0.05
_DRAWS, _DRAWING = 7, 0.1

# A second call without the first one's state put back could wait for these for ever.
_WAITED_FOR = (
    *(queue.Queue, *LOCKS),
    *(threading.Condition, threading.Semaphore, threading.Event, threading.Barrier),
)

# Of arrays with more axes, sizes are not asked about.
_MOST_AXES = 6

Window = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Outcome:
    """Copies of the results by name and of the changed state by path; `seconds` of the call until all was ready.

    `plain` are the numbers, texts and the like that changed objects hold now, by path, and `left` what else of them can
    be compared with what another section leaves there, as `Snapshot.left_plainly` has it.
    `makes` is an array that was only announced before, as that of a lazy layer is.
    `random`: it drew random numbers or read the clock, or else it `varies`: a further run gave something else.
    `effect` is what it did to the world outside of the notebook, or to a cache, that cannot be put back. `again` is all
    of `given` in a further run of a random cell, from generators that had moved on; None: there was none. `more` are
    those of still further ones. `sizes` are those of what it may have summed over, as `sizes_reached` has them.
    `compilations` is how many things were compiled in the run, of which later ones are free. `alters`: it changed
    something of the notebook or its process, arrays or not, besides the names that it binds and random generators.
    `anew`: later calls from the same state were looked at, and each of them compiles again.
    """

    results: Mapping[str, Any]
    changed: Mapping[str, Any]
    random: bool
    seconds: float
    effect: Place | None = None
    again: Mapping[str, Any] | None = None
    compilations: int = 0
    anew: bool = False
    plain: Mapping[str, Any] = field(default_factory=dict)
    alters: bool = False
    makes: str = ""
    more: tuple[Mapping[str, Any], ...] = ()
    left: Mapping[str, Any] = field(default_factory=dict)
    sizes: frozenset[int] = frozenset()
    varies: bool = False

    @property
    def given(self) -> dict[str, Any]:
        """Results, changed state and plain values in one."""
        return {**self.left, **self.plain, **self.changed, **self.results}

    @property
    def is_plain(self) -> bool:
        """Whether nothing was changed, and the results are numbers, texts and the like, with no array in them."""
        return not self.changed and all(type(value) in PLAIN for value in self.results.values())


def first_run(
    program: Program, window: Window, only: bool = False, watched: bool = False, lasts: bool = False
) -> tuple[Program, Outcome]:
    """Run a program once, from the section's start state; return it with what that showed of later calls, and the rest.

    A program that changes anything is called some more times, unless this is to be its `only` run. If that is `watched`
    and has an effect that cannot be put back, it was the only one; but files that it wrote are as before. `lasts`: what
    it compiles has to last for later calls; if it does not, they are not tried.
    """
    scene = program.scene
    watch = Watch(scene.namespace, scene.body.filename)
    program.enter()
    try:
        before, compiled = alive(scene.framework), scene.framework.compile_events()
        imports = on_import(scene.snapshot.take_in)
        with window(), watch if watched else nullcontext(), imports:
            start = time.perf_counter()
            try:
                outputs = program.call(*program.args)
            except UnboundLocalError as error:
                raise _as_in_a_cell(error, scene.body) from None
            scene.framework.finish()
            seconds = time.perf_counter() - start
        if watch.thread is not None:  # else it would go on while others are timed
            with window():
                wait_for(watch.thread, _JOINING)
        changes = scene.look()
        found = _outcome(program, outputs, changes, drew_random(changes, scene.body), seconds)
        names = _names_of_state(program, changes.paths)
        program = replace(program, wait=_also_state(program, scene.framework.waiter(outputs), names))
        hidden = scene.framework.made_besides(before, [outputs, _state(program, names)])
        scene.took(seconds)
        outcome = replace(
            found,
            effect=watch.effect or (_filled(scene) or left_to_others(scene.snapshot, scene.body) if watched else None),
            compilations=scene.framework.compile_events() - compiled,
            sizes=sizes_reached(scene),
        )
        if lasts and _compiles_anew(program, outcome, window):
            return program, replace(outcome, anew=True)
        if not only and outcome.effect is None:
            program = _settled(program, changes, window, seconds)
            hidden = hidden and (seconds > LONG or _hides_again(program, names, window))
        return _waiting_for_all(program) if hidden else program, outcome
    finally:
        try:
            watch.put_back_files()
        finally:
            program.exit()


def _outcome(program: Program, outputs: Any, changes: Changes, random: bool, seconds: float) -> Outcome:
    """Return what a call has just given, and what state it left."""
    body, framework = program.scene.body, program.scene.framework
    if program.changed is None:
        left = state_values(program.scene.snapshot, changes.paths, body, framework)
    else:
        left = {path: copied_results(value, framework) for path, value in program.changed(outputs).items()}
    return Outcome(
        results={name: copied_results(value, framework) for name, value in program.collect(outputs).items()},
        changed=left,
        random=random,
        seconds=seconds,
        plain={**program.left, **changes.plain_values(body.assigned | body.defined)},
        alters=changes.alter(body.assigned | body.defined),
        makes=next(iter(program.scene.snapshot.made()), ""),
        left={
            path: value
            for path, value in changes.left_plainly(body.assigned | body.defined).items()
            if root(path) not in body.assigned
        },
    )


def sizes_reached(scene: Scene) -> frozenset[int]:
    """Return the lengths of the axes of all arrays that a section can reach, and of several of one array together."""
    shapes = {_lengths(value) for _, value in scene.snapshot.leaves(scene.framework.is_array)}
    short = [shape for shape in shapes if len(shape) <= _MOST_AXES]
    some = (axes for shape in short for count in range(1, len(shape) + 1) for axes in combinations(shape, count))
    return frozenset(map(math.prod, some))


def _lengths(array: Any) -> tuple[int, ...]:
    """Return the lengths of an array's axes: of a nested one, whose rows differ, those that it has, or none."""
    try:
        return tuple(size for size in getattr(array, "shape", ()) if isinstance(size, int))
    except RuntimeError:
        return ()


def _as_in_a_cell(error: UnboundLocalError, body: Body) -> NameError:
    """Return the error of a body that reads a name before it is bound: as code of a cell it has no locals."""
    frames = list(traceback.walk_tb(error.__traceback__))
    code = frames[-1][0].f_code
    quoted = re.search(r"'(\w+)'", str(error))
    if (code.co_filename, code.co_name) != (body.filename, "<module>") or quoted is None:
        return error
    name = quoted[1]
    return NameError(f"name {name!r} is not defined", name=name).with_traceback(error.__traceback__)


def _filled(scene: Scene) -> Place | None:
    """Return which cache a run has filled that cannot be put back, if any."""
    path = scene.filled()
    return Place(first_use(scene.body, root(path)), f"fills the cache of `{path}`") if path else None


def left_to_others(snapshot: Snapshot, body: Body) -> Place | None:
    """Return what a run has changed of a library, or of what another thread uses, if anything."""
    path = snapshot.changed_in_libraries()
    if path:
        return Place(None, f"changes `{path}`, which belongs to a library")
    name = snapshot.module_taken()
    if name:
        return Place(None, f"takes `{name}` from `sys.modules`")
    path = snapshot.changed_with_threads()
    return Place(first_use(body, root(path)), f"another thread uses `{path}`, too, a change of") if path else None


def drawn_again(
    program: Program, outcome: Outcome, window: Window, seeds: bool = False, most: float = MOST_AGAIN
) -> Outcome:
    """Return the outcome of a random program with what further runs gave, if the cell takes `most` seconds at most.

    All begins as in the first run, except that the random generators, or the clock, have moved on. `seeds`: so have the
    seeds that it sets itself for the generators of its framework, from which a compiler may draw other numbers; a
    compiled program would be compiled anew for that.
    """
    scene = program.scene
    if not outcome.random or outcome.again is not None or (scene.seconds or outcome.seconds) > most:
        return outcome
    program.enter()
    runs: list[Mapping[str, Any]] = []
    begun = time.perf_counter()
    try:
        with window():
            program.call(*program.args)
        while not runs or (len(runs) < _DRAWS and time.perf_counter() - begun < _DRAWING):
            scene.snapshot.changes().restore_but_generators()
            for cache in scene.caches:  # also where it holds the same: it counts its hits
                cache.restore()
            with window(), scene.framework.other_seeds() if seeds else nullcontext():
                outputs = program.call(*program.args)
            runs.append(_outcome(program, outputs, scene.snapshot.changes(), True, 0.0).given)
    except KeyboardInterrupt:
        raise
    except BaseException:  # whatever the user's code raises when it is run once more
        return outcome
    finally:
        program.exit()
        scene.restore()
    return replace(outcome, again=runs[0], more=tuple(runs[1:]))


def run_otherwise(
    program: Program, outcome: Outcome, window: Window, way: AbstractContextManager[Any]
) -> Outcome | None:
    """Return the outcome of a program as it is written, run once more in a context; None of a long one."""
    scene = program.scene
    if (scene.seconds or outcome.seconds) > LONG:
        return None
    program.enter()
    try:
        again = program_as_written(scene)
        with window(), scene.framework.eager(), way:
            outputs = again.call(*again.args)
        changes = scene.snapshot.changes()
        return _outcome(again, outputs, changes, drew_random(changes, scene.body), outcome.seconds)
    except KeyboardInterrupt:
        raise
    except BaseException:  # whatever the user's code raises when it is run once more
        return None
    finally:
        program.exit()
        scene.restore()


def outcome_without_run(program: Program, known: Outcome) -> Program:
    """Return a slow program as `first_run` does, from what is known of its cell; it is not called for that."""
    scene = program.scene
    scene.look_later()
    outputs = tuple(known.results[name] for name in program.returned if name in known.results)
    wait = _also_state(program, scene.framework.waiter(outputs), _names_of_state(program, known.changed))
    program = replace(program, wait=wait, most_calls=1)
    return _waiting_for_all(program) if scene.framework.hands_over else program


def _settled(program: Program, changes: Changes, window: Window, seconds: float) -> Program:
    """Return the program with what later calls show: whether they do the work that the first one did.

    Where they find Python objects as the first one left them, and take the same steps, at any depth that was tried,
    they may follow each other to that depth. Else every timed call starts from the start state: a list that was sorted,
    a queue that was drained or a memo that was filled leaves nothing to do. Where a second call fails, the same.
    """
    scene = program.scene
    alone = replace(program, most_calls=1)
    own = scene.body.assigned | scene.body.defined
    if any(copy.changed() for copy in scene.caches):
        return alone
    if program.most_calls == 1 or not (changes.settings or changes.any(own)):
        return program
    if min(seconds, scene.seconds or seconds) > LONG or changes.touch(_WAITED_FOR):
        return alone
    left, set_to = changes.held(own), scene.snapshot.settings_now()
    # An optimizer makes its state in its first step: then blocks begin with an untimed call.
    makes_state = changes.are_inside(scene.framework.optimizers, own)
    try:
        with window():
            _call(program)
        if not changes.still_hold(left, own) or set_to.moved_settings():
            return alone
        depth = _depth(program, window)
        if not depth or (not makes_state and _does_far_less(program, changes, window)):
            return alone
    except KeyboardInterrupt:
        raise
    except BaseException:  # whatever the user's code raises when it is run again from where it left off
        return alone
    finally:
        scene.look(again=True)
    return replace(program, most_calls=depth, lead_in=any(keys for _, (keys, _) in left))


def _depth(program: Program, window: Window) -> int:
    """Return how many calls from the start state were tried; 0 if the last one takes other steps than the first one."""
    program.exit()
    program.enter()
    with window():
        first, depth = steps_of(partial(_call, program)), 2
        begun = time.perf_counter()
        while depth < _DEEPEST and time.perf_counter() - begun < _DEPTH_SECONDS:
            _call(program)
            depth += 1
        return depth if steps_of(partial(_call, program)).like(first) else 0


def _does_far_less(program: Program, changes: Changes, window: Window) -> bool:
    """Say whether a second call from the start state is far less work for this thread than a first one.

    Before both of them all that was changed is gone through, and all settings are: else the first one alone would find
    its code and its data out of the processor's caches.
    """
    missed, begun = 0, time.perf_counter()
    for _ in range(_TRIES):
        program.exit()
        program.enter()
        first, second = (_work(program, changes, window) for _ in range(2))
        missed += second >= _FAR_LESS * first - _CLOCK
        if missed and (missed > 1 or time.perf_counter() - begun > _TRYING):
            return False
    return True


def _work(program: Program, changes: Changes, window: Window) -> float:
    changes.look_through()
    with window():
        start = time.thread_time()
        _call(program)
        return time.thread_time() - start


def _call(program: Program) -> None:
    outputs = program.call(*program.args)
    if program.wait is not None:
        program.wait(outputs)


def state_values(snapshot: Snapshot, paths: list[str], body: Body, framework: Framework) -> dict[str, Any]:
    """Return copies of the arrays that are now at paths that changed, except under names that the body binds."""
    gone = {path for path, _ in snapshot.deleted()}  # there is nothing of these to be compared
    changed = tuple(path for path in paths if root(path) not in body.assigned and path not in gone)
    found = snapshot.find_leaves(framework.is_array, but=body.assigned) if changed else []
    values: dict[str, Any] = {}
    for path, value in found:
        if path.startswith(changed):
            # What is there now comes first; an array that was there before may follow under the same path.
            values.setdefault(path, copied_results(value, framework))
    return values


def drew_random(changes: Changes, body: Body) -> bool:
    """Say whether the results depend on chance or on the clock, so that two runs need not agree."""
    return changes.drew_random() or body.clock is not None


def _also_state(program: Program, wait: Callable[[Any], Any] | None, names: list[str]) -> Callable[[Any], Any] | None:
    """Return a wait that includes arrays which the body leaves in the state instead of returning them."""
    state = partial(_state, program, names)
    wait_for_state = program.scene.framework.waiter(state())
    if wait_for_state is None:
        return wait

    def wait_for_all(outputs: Any) -> None:
        if wait is not None:
            wait(outputs)
        wait_for_state(state())

    return wait_for_all


def _names_of_state(program: Program, paths: Iterable[str]) -> list[str]:
    """Return the names that lead to what a call leaves in the state; none if the program returns its state."""
    return [] if program.changed is not None else sorted({root(path) for path in paths} - program.scene.body.assigned)


def _state(program: Program, names: list[str]) -> list[Any]:
    """Return what is bound to names, or the attributes of that."""
    values = [program.scene.namespace.get(name) for name in names]
    return [attributes_of(value) or value for value in values]


def alive(framework: Framework) -> list[Any]:
    """Return the arrays that are alive, if the framework computes some of them only after a call has returned."""
    return framework.memory.live() if framework.hands_over else []


def _hides_again(program: Program, names: list[str], window: Window) -> bool:
    """Say whether a further call makes arrays that nobody waits for: a first one alone fills the framework's caches."""
    program.exit()
    program.enter()
    before = alive(program.scene.framework)
    try:
        with window():
            outputs = program.call(*program.args)
    except KeyboardInterrupt:
        raise
    except BaseException:  # whatever the user's code raises when it is run once more
        return True
    return program.scene.framework.made_besides(before, [outputs, _state(program, names)])


def _compiles_anew(program: Program, outcome: Outcome, window: Window) -> bool:
    """Say whether a second call from the start state compiles again, and a third one: few compilations are spent on it.

    A slow call is made again only where the first one compiled several things, as after a graph break; of a very slow
    one, a compilation is a small part.
    """
    framework, seconds = program.scene.framework, program.scene.seconds or 0.0
    if seconds > _VERY_LONG or (seconds > LONG and outcome.compilations < 2):
        return False
    for _ in range(2):
        program.exit()
        program.enter()
        before = framework.compile_events()
        with window():
            _call(program)
        if framework.compile_events() == before:
            return False
    return True


def _waiting_for_all(program: Program) -> Program:
    """Return a program that waits for every array that is alive: some are where no path that is quick to go leads."""
    wait, finish = program.wait, program.scene.framework.finish

    def wait_for_all(outputs: Any) -> None:
        if wait is not None:
            wait(outputs)
        finish()

    return replace(program, wait=wait_for_all)


def root(path: str) -> str:
    """Return the name with which a path such as `net.weight` or `hist[3]` begins."""
    return path.split(".")[0].split("[")[0].split("(")[0]


def copied_results(value: Any, framework: Framework) -> Any:
    """Return a tree of arrays that later runs cannot change: containers rebuilt, arrays saved.

    What is nested too deep for Python is returned as it is.
    """
    try:
        return _copied(value, framework, {})
    except RecursionError:
        return value


def _copied(value: Any, framework: Framework, made: dict[int, Any]) -> Any:
    """Return the copy of a value; `made` are those of the lists and dicts around it, which it may hold itself."""
    if id(value) in made:
        return made[id(value)]
    kept = framework.frozen(value)
    if kept is not None:
        return kept
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)._make(_copied(item, framework, made) for item in value)  # type: ignore[attr-defined]
    if type(value) in (list, dict) and PLAIN.issuperset(map(type, value.values() if type(value) is dict else value)):
        return value.copy()
    if type(value) is tuple:
        return tuple(_copied(item, framework, made) for item in value)
    if type(value) is list:
        items = made[id(value)] = list[Any]()
        items += [_copied(item, framework, made) for item in value]
        return items
    if isinstance(value, dict):
        entries = made[id(value)] = dict[Any, Any]()
        entries.update({key: _copied(item, framework, made) for key, item in value.items()})
        return entries
    return value
