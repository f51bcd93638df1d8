"""The course of a run: which arrays each line of the user's code made, in order, and what they were made from."""

from __future__ import annotations

import ast
import dis
import linecache
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from fwmagic.agreement.close import Array, UnreadableError, array
from fwmagic.cells.follow import Follower
from fwmagic.cells.outcome import Window
from fwmagic.cells.program import program_as_written
from fwmagic.cells.scene import Scene
from fwmagic.libraries import module_of

#: A course ends after so many arrays, so many bytes of them, and so many seconds spent on looking at state.
MOST_STEPS, MOST_BYTES, MOST_LOOKING = 1000, 1 << 29, 5.0
# Of a container, so many items are looked at, to this depth.
_MOST_ITEMS, _MOST_DEPTH = 100, 3


@dataclass(frozen=True)
class Spot:
    """A line of the user's code: number, text, the function that it is in (empty: none); `own`: it is the cell's."""

    line: int
    text: str
    function: str = ""
    own: bool = True


@dataclass(frozen=True)
class Step:
    """An array that was made: its values, and the places in the course of the arrays that it was made from."""

    array: Array
    made_from: frozenset[int] = frozenset()


@dataclass
class Visit:
    """One execution of a line: the arrays made on the way, by their places, with what was called; and its results."""

    spot: Spot
    made: dict[int, str] = field(default_factory=dict)
    results: list[int] = field(default_factory=list)
    words: set[str] = field(default_factory=set)


@dataclass
class Course:
    """What a run did: its steps, its visits in the order in which they ended, and the arrays that it was given.

    `whole` says whether all of it is here: a long one is cut off.
    """

    steps: list[Step] = field(default_factory=list)
    visits: list[Visit] = field(default_factory=list)
    given: list[Array] = field(default_factory=list)
    whole: bool = True


def follow(scene: Scene, window: Window, way: AbstractContextManager[Any] | None = None) -> Course:
    """Run a section's body once, eagerly and line by line, from its start state, which is put back afterwards.

    `way` is a context to run it in.

    Raises
    ------
    Exception
        Whatever the body raises when it runs without being compiled.
    """
    scene.overlay.on()
    try:
        program = program_as_written(scene)
    finally:
        scene.overlay.off()
    program.enter()
    try:
        recorder = _Recorder(scene, program.args)
        told = scene.framework.calls_told(recorder.tell)
        with window(), scene.framework.eager(), way or nullcontext(), told, recorder.following():
            program.call(*program.args)
        return recorder.course
    finally:
        program.exit()
        scene.restore()


class _Recorder(Follower[Visit]):
    """Follows the user's own lines, and what the functions return that they call.

    Of the frames of libraries, only those are looked at that the user's code calls: their arguments and what they
    return. A framework whose functions are no Python tells of their calls by itself (`Framework.calls_told`).
    """

    def __init__(self, scene: Scene, arguments: Iterable[Any]) -> None:
        super().__init__(scene.namespace.get("__name__", "__main__"))
        self.course = Course()
        self._scene = scene
        self._framework = scene.framework
        self._known: dict[int, int] = {}
        self._alive: list[Any] = []  # an identity is unique while its object lives
        self._before: dict[FrameType, dict[str, int]] = {}
        self._bytes = 0
        self._looking = 0.0
        self._state = {path: self._array(value) for path, value in self._reached()}
        self.course.given += [one for one in self._state.values() if one is not None]
        self.course.given += [one for value in self._inside(arguments) if (one := self._array(value)) is not None]

    # Called by Python

    def goes_on(self) -> bool:
        """Say whether the course is not cut off."""
        return self.course.whole

    def enter_own(self, frame: FrameType) -> None:
        """Note what the names of a frame are bound to when it begins."""
        self._before[frame] = self._bound(frame)

    def enter_other(self, frame: FrameType) -> Callable[..., Any] | None:
        """Follow a frame of a library to its return, if one of the user's called it."""
        caller = frame.f_back
        if caller is None or caller not in self.open:
            return None
        made_from, visit, word = self._places(frame.f_locals.values()), self.open[caller], _word_of_call(caller)
        frame.f_trace_lines = False

        def returned(_: FrameType, event: str, value: Any) -> Any:
            if event == "return":
                self._note(value, visit, made_from, word)
            return returned

        return returned

    def tell(self, arguments: Any, value: Any) -> None:
        """Note what a function of the framework returned, or changed in place."""
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame not in self.open:
            frame = frame.f_back
        if frame is not None and self.course.whole:
            self._note(value, self.open[frame], self._places([arguments]), _word_of_call(frame))

    def begin(self, frame: FrameType) -> Visit:
        """Begin the visit of a line."""
        return Visit(_spot(frame, self._scene.body.filename))

    def end(self, frame: FrameType, visit: Visit, value: Any, last: bool) -> None:
        """End the visit of the line that a frame was at: what it bound, returned or changed are its results."""
        before, now = self._before.pop(frame), self._bound(frame)
        names = [name for name, ident in now.items() if before.get(name) != ident]
        if not last:
            self._before[frame] = now
        values = [frame.f_locals[name] for name in names if name in frame.f_locals]
        named = [frame.f_locals[word] for word in _WORD.findall(visit.spot.text) if word in frame.f_locals]
        reads = self._places(named)
        bound = self._note([*values, value], visit, reads)
        in_place = (self._step(one, reads) for one in named if id(one) in self._known)
        bound += [place for place in in_place if place is not None and place not in reads]
        bound = bound or list(visit.made)[-1:]
        changed = self._changed() if frame.f_code.co_name == _CELL else []
        visit.results = list(dict.fromkeys([*bound, *changed]))
        if visit.results:
            self.course.visits.append(visit)

    # What is noted

    def _note(self, value: Any, visit: Visit, made_from: frozenset[int], word: str = "") -> list[int]:
        """Note the arrays in a value as made on a visit, by a call of that name; return their places."""
        found = [place for one in self._inside([value]) if (place := self._step(one, made_from)) is not None]
        if found and word:
            visit.words.add(word)
        for place in found:
            visit.made.setdefault(place, word)
        return found

    def _step(self, value: Any, made_from: frozenset[int]) -> int | None:
        """Return the place of an array, which is new if nobody has seen it, or its values have changed."""
        found = self._array(value)
        if found is None or not self.course.whole:
            return None
        known = self._known.get(id(value))
        if known is not None:
            if _is_unchanged(self.course.steps[known].array, found):
                return known
            made_from |= {known}
        self._bytes += found.values.nbytes
        self.course.steps.append(Step(found, made_from))
        self.course.whole = len(self.course.steps) < MOST_STEPS and self._bytes < MOST_BYTES
        self._known[id(value)] = len(self.course.steps) - 1
        self._alive.append(value)
        return len(self.course.steps) - 1

    def _array(self, value: Any) -> Array | None:
        """Return a copy of the values of an array, also of one that is being differentiated or batched."""
        import numpy as np

        try:
            found = array(self._framework.behind(value), self._to_numpy)
        except UnreadableError:
            return None
        if found is None or not found.values.size:
            return None
        return Array(np.array(found.values), found.shape, found.dtype, found.library)

    def _to_numpy(self, value: Any) -> Any:
        held = self._framework.array_in(value)
        if held is not None:
            return self._framework.to_numpy(held)
        return value if module_of(type(value)) == "numpy" and hasattr(value, "dtype") else None

    def _places(self, values: Iterable[Any]) -> frozenset[int]:
        return frozenset(self._known[id(one)] for one in self._inside(values) if id(one) in self._known)

    def _inside(self, values: Iterable[Any], depth: int = 0) -> Iterator[Any]:
        """Yield values, and instead of containers what they hold."""
        for _, value in zip(range(_MOST_ITEMS), values, strict=False):
            if isinstance(value, Mapping) and depth < _MOST_DEPTH:
                yield from self._inside(value.values(), depth + 1)
            elif isinstance(value, list | tuple) and depth < _MOST_DEPTH:
                yield from self._inside(value, depth + 1)
            elif value is not None:
                yield value

    # State

    def _reached(self) -> list[tuple[str, Any]]:
        found: dict[str, Any] = {}
        for path, value in self._scene.snapshot.find_leaves(self._framework.is_array):
            found.setdefault(path, value)  # what is there now comes before what was there
        held = self._framework.memory.inside
        more = {f"{path}{name}": inner for path, value in found.items() for name, inner in held(value)}
        return [*found.items(), *((path, value) for path, value in more.items() if self._framework.is_array(value))]

    def _changed(self) -> list[int]:
        """Return the places of the arrays of the notebook that are not as they were after the line before."""
        if self._looking > MOST_LOOKING:
            return []
        start, found = time.perf_counter(), list[int]()
        for path, value in self._reached():
            now, old = self._array(value), self._state.get(path)
            if now is not None and not (old is not None and _is_unchanged(old, now)):
                self._state[path] = now
                place = self._step(value, frozenset())
                found += [] if place is None else [place]
        self._looking += time.perf_counter() - start
        return found

    # Frames

    def _bound(self, frame: FrameType) -> dict[str, int]:
        """Return the identities of what a frame's own names are bound to."""
        code, values = frame.f_code, frame.f_locals
        names = (*code.co_varnames, *code.co_cellvars) if code.co_flags & _HAS_LOCALS else code.co_names
        return {name: id(values[name]) for name in names if name in values}


_HAS_LOCALS = next(flag for flag, name in dis.COMPILER_FLAG_NAMES.items() if name == "OPTIMIZED")
_WORD = re.compile(r"[^\W\d]\w*")
_CELL = "<module>"  # what Python calls code that is in no function


def _is_unchanged(old: Array, new: Array) -> bool:
    import numpy as np

    has_nan = new.values.dtype.kind in "fc"
    return old.dtype == new.dtype and np.array_equal(old.values, new.values, equal_nan=has_nan)


def _spot(frame: FrameType, cell: str) -> Spot:
    code = frame.f_code
    text = linecache.getline(code.co_filename, frame.f_lineno).strip()
    function = code.co_qualname.replace(".<locals>", "").partition(".<")[0]  # not the comprehension in it
    return Spot(frame.f_lineno, text, "" if function.startswith("<") else function, code.co_filename == cell)


def _word_of_call(frame: FrameType) -> str:
    """Return what a frame is calling: `layernorm` for `F.layer_norm(...)`, `div` for `a / b`."""
    position = list(frame.f_code.co_positions())[frame.f_lasti // 2]
    line, end, first, last = position
    if line is None or line != end or first is None or last is None:
        return ""
    text = linecache.getline(frame.f_code.co_filename, line).encode()[first:last].decode(errors="replace")
    try:
        node: ast.AST = ast.parse(text, mode="eval").body
    except SyntaxError:
        return ""
    while isinstance(node, ast.Call):
        node = node.func
    if isinstance(node, ast.BinOp):
        return bare_name(type(node.op).__name__)
    return bare_name(getattr(node, "attr", getattr(node, "id", "")))


def bare_name(name: str) -> str:
    """Return the letters of a function's name up to its first digit: `layernorm` of LayerNorm and of layer_norm."""
    return re.split(r"\d", name.replace("_", "").lower(), maxsplit=1)[0]
