"""Every place of a notebook that holds an array, written as a reader would write it."""

from __future__ import annotations

import gc
import inspect
import re
import sys
import types
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import PurePath
from typing import Any

from fwmagic import frameworks
from fwmagic.cells.walk import Entry, Walk, uncollected
from fwmagic.frameworks import Framework


@dataclass(frozen=True)
class Origin:
    """How a reader is told where a path starts that is no name of the notebook: words `before` and `after` it.

    `own`: it is the notebook's, and not in the middle of a library.
    """

    before: str
    after: str = ""
    own: bool = True


#: A local variable: where it is, its name, its value.
Local = tuple[Origin, str, Any]


class Frames:
    """The frames of tracebacks and of running functions, each read once, under the first words that lead to it."""

    def __init__(self, namespace: Mapping[str, Any]) -> None:
        self._namespace = namespace
        self._seen: dict[int, Any] = {}  # by id; kept, so that an id stays what it was

    def last(self) -> Iterator[Local]:
        """Yield the last exception and its traceback's local variables: Python's, then what IPython keeps besides."""
        for name in ("last_exc", "last_value"):
            error = getattr(sys, name, None)
            yield Origin(""), f"sys.{name}", error
            yield from self.of(error, "last traceback: ")
        yield from self._of_traceback(getattr(sys, "last_traceback", None), "last traceback: ")
        formatter = getattr(_shell(self._namespace), "InteractiveTB", None)
        yield from self._of_traceback(getattr(formatter, "tb", None), "IPython's last traceback: ")

    def of(self, error: Any, before: str) -> Iterator[Local]:
        """Yield the local variables that an exception keeps by its traceback, and by those of what led to it."""
        waiting = [error]
        while waiting:
            error = waiting.pop()
            if isinstance(error, BaseException) and id(error) not in self._seen:
                self._seen[id(error)] = error
                waiting += [error.__context__, error.__cause__]
                yield from self._of_traceback(error.__traceback__, before)

    def running(self) -> Iterator[Local]:
        """Yield the local variables of notebook functions that run, in any thread."""
        for frame in _running(self._namespace):
            yield from self._of_frame(frame, frame.f_lineno, "running: ")

    def _of_traceback(self, trace: Any, before: str) -> Iterator[Local]:
        while isinstance(trace, types.TracebackType):
            yield from self._of_frame(trace.tb_frame, trace.tb_lineno, before)
            trace = trace.tb_next

    def _of_frame(self, frame: types.FrameType, line: int, before: str) -> Iterator[Local]:
        if id(frame) in self._seen:
            return
        self._seen[id(frame)] = frame
        code = frame.f_code
        own = frame.f_globals is self._namespace
        where = f"line {line}" if own else f"{PurePath(code.co_filename).name}, line {line}"
        function = code.co_qualname.rpartition("<locals>.")[2]
        place = Origin(before, f" in `{function}` ({where})", own)
        for name, value in _locals(frame).items():
            yield place, name, value


def _locals(frame: types.FrameType) -> dict[str, Any]:
    """Return the local variables of a function's frame; none of a module's or a class's, which are held elsewhere."""
    if not frame.f_code.co_flags & inspect.CO_OPTIMIZED:
        return {}
    with uncollected():
        had = gc.get_referents(frame)
        held = frame.f_locals
        found = dict(held)
        # Before Python 3.13 it is a dict that the frame keeps from now on, even when its variables are cleared.
        if type(held) is dict and not any(one is held for one in had):
            held.clear()
    return found


def _running(namespace: Mapping[str, Any]) -> list[types.FrameType]:
    """Return the frames of functions of the notebook that run; no variable is left that leads to this frame itself."""
    found = []
    for frame in sys._current_frames().values():
        at: types.FrameType | None = frame
        while at is not None:
            if at.f_globals is namespace:
                found.append(at)
            at = at.f_back
        del frame
    return found


def _shell(namespace: Mapping[str, Any]) -> Any:
    """Return the IPython shell whose namespace it is, or None."""
    return getattr(namespace.get("get_ipython"), "__self__", None)


# Texts that IPython keeps, its own second names, and what would be taken for the number below.
_PASSED_BY = re.compile(r"In|_ih|_oh|_dh|_i+|_i\d+|<\d+>.*")
# Walked last: an object that has a name of the user's, too, is told by that one.
_OUTPUTS = re.compile(r"(Out|_+|_\d+)\b")
# A path that does not start at a name of the notebook starts with the number of its `Origin`.
_NUMBER = re.compile(r"<(\d+)>")
_NOTEBOOK = Origin("")
_GRAPH = "graph of "
_EXCEPTION = "exception"
_MOST_READ = 64  # places of one memory that are put into words


@dataclass(frozen=True)
class Spot:
    """Where the walk met an object: the entry that holds it (-1: a root), and under which key, or as a key."""

    index: int
    key: Any
    is_key: bool = False


@dataclass(frozen=True)
class Holder:
    """A place in words, and where its path starts."""

    text: str
    place: Origin

    def use(self) -> tuple[bool, bool, int]:
        """Return what to sort by, the most telling first: names, then outputs, then all else; short ones first."""
        return self.place != _NOTEBOOK, _OUTPUTS.match(self.text) is not None, len(self.text)


class Places:
    """All that the names of a namespace lead to, with the last traceback, running functions and autograd graphs.

    Arrays of the frameworks that are asked about are in `arrays`, each once, with the framework's name.
    """

    def __init__(self, namespace: dict[str, Any], asked: Sequence[Framework]) -> None:
        self._memories = {framework.name: framework.memory for framework in asked}
        self._kinds = _Kinds(asked)
        self._walk = Walk(namespace, frameworks.loaded(), keep=False, stop=self._kinds)
        self._frames = Frames(namespace)
        self._places: list[Origin] = []
        self._roots: list[tuple[str, Any]] = []
        self._above: dict[int, list[Spot]] = {}
        names = [name for name in list(namespace) if isinstance(name, str) and not _PASSED_BY.fullmatch(name)]
        self._find(sorted(names, key=lambda name: _OUTPUTS.match(name) is not None))
        kinds = [(self._kinds.of(value), value) for _, value in self._walk.stopped]
        self.arrays = [(kind, value) for kind, value in kinds if kind != _EXCEPTION]

    def spots(self, idents: AbstractSet[int]) -> dict[int, list[Spot]]:
        """Return all places that directly hold the objects with these `id`s, also the second and third of each."""
        found: dict[int, list[Spot]] = defaultdict(list)
        as_keys: list[tuple[int, Spot]] = []
        for index, entry in enumerate(self._walk.entries):
            if not idents.isdisjoint(map(id, entry.values)):
                pairs = zip(entry.keys, entry.values, strict=True)
                for spot, ident in [(Spot(index, key), id(value)) for key, value in pairs if id(value) in idents]:
                    found[ident].append(spot)
            for name, cell in _closure(entry):
                if id(cell) in idents:
                    found[id(cell)].append(Spot(index, name))
            if entry.kind is not None and entry.kind.hashes and isinstance(entry.keys, list):
                as_keys += [(id(key), Spot(index, key, is_key=True)) for key in entry.keys if id(key) in idents]
        for ident, spot in [*((id(value), Spot(-1, path)) for path, value in self._roots), *as_keys]:
            if ident in idents:
                found[ident].append(spot)
        return found

    def words(self, spots: list[tuple[Spot, str]]) -> list[Holder]:
        """Return places in words, each given with what to call the object there: `a view`, or nothing.

        After them come other ways to the same places: a module has two names, or is in `Out`, too.
        """
        read = spots[:_MOST_READ]
        ways = (way for spot, what in read for way in self._ways(spot, what))
        found = [*(self._holder(spot, what) for spot, what in read), *islice(ways, _MOST_READ)]
        return sorted(dict.fromkeys(found), key=Holder.use)

    def names_of(self, objects: Sequence[Any]) -> dict[int, list[str]]:
        """Return, by `id`, how a reader would write the places that hold these objects, with their types."""
        kinds = {id(one): type(one).__qualname__ for one in objects}
        words: dict[int, list[str]] = {}
        for ident, spots in self.spots(kinds.keys()).items():
            texts = [self._holder(spot, "").text for spot in spots]
            words[ident] = [f"{text if '`' in text else f'`{text}`'} ({kinds[ident]})" for text in texts]
        return words

    def _find(self, names: list[str]) -> None:
        """Walk from the names and frames, then from what arrays and exceptions hold, until nothing new is met."""
        found = [*map(self._root, self._frames.last()), *map(self._root, self._frames.running())]
        done = 0
        while found or names:
            self._roots += found
            self._walk.run(names, found)
            new = self._walk.stopped[done:]
            done += len(new)
            names, found = [], [*self._inside_arrays(new), *self._inside_exceptions(new), *self._graphs(new)]

    def _root(self, local: Local) -> tuple[str, Any]:
        place, path, value = local
        if place == _NOTEBOOK:
            return path, value
        if place not in self._places[-1:]:
            self._places.append(place)
        return f"<{len(self._places) - 1}>{path}", value

    def _split(self, path: str) -> tuple[Origin, str]:
        number = _NUMBER.match(path)
        return (self._places[int(number[1])], path[number.end() :]) if number else (_NOTEBOOK, path)

    def _inside_arrays(self, new: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
        """Return what arrays hold, by the shortest path to each: an optimizer has a parameter too, and its `grad`."""
        inside = {id(value): list(self._inside(value)) for _, value in new}
        inside = {ident: held for ident, held in inside.items() if held}
        spots = self.spots(inside.keys()) if inside else {}
        paths = {id(value): path for path, value in new}
        for ident, known in spots.items():
            named = [self._walk.path_to(spot.index, spot.key) for spot in known if not spot.is_key]
            paths[ident] = min(named, key=lambda path: Holder(path, self._split(path)[0]).use(), default=paths[ident])
        return [(f"{paths[ident]}{how}", held) for ident, all_held in inside.items() for how, held in all_held]

    def _inside(self, value: Any) -> Iterable[tuple[str, Any]]:
        kind = self._kinds.of(value)
        return () if kind == _EXCEPTION else self._memories[kind].inside(value)

    def _inside_exceptions(self, new: list[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
        for path, value in new:
            if self._kinds.of(value) == _EXCEPTION:
                yield f"{path}.args", value.args
                yield from ((f"{path}.{name}", held) for name, held in value.__dict__.items())
                yield from ((f"{path}.{name}", getattr(value, name)) for name in ("__cause__", "__context__"))
                place, rest = self._split(path)
                for where, name, held in self._frames.of(value, f"{place.before}traceback of `{rest}`: "):
                    yield self._root((where, name, held))

    def _graphs(self, new: list[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
        for kind, memory in self._memories.items():
            # The graph of what was found in a graph is a part of that one.
            mine = [(path, value) for path, value in new if self._kinds.of(value) == kind and not self._in_graph(path)]
            for which, held in memory.graphs([value for _, value in mine]):
                place, path = self._split(mine[which][0])
                yield self._root((replace(place, before=place.before + _GRAPH), path, held))

    def _in_graph(self, path: str) -> bool:
        return self._split(path)[0].before.endswith(_GRAPH)

    def _holder(self, spot: Spot, what: str) -> Holder:
        path = self._walk.path(spot.index) if spot.is_key else self._walk.path_to(spot.index, spot.key)
        place, path = self._split(path)
        before = place.before
        at, entries = spot.index, self._walk.entries
        while at >= 0:
            above = entries[at].parent
            if isinstance(entries[at].target, types.CellType) and above >= 0:
                (_, function), (_, cell) = self._split(self._walk.path(above)), self._split(self._walk.path(at))
                if path.startswith(cell) and cell.startswith(function):
                    before += f"closure of `{function}`: "
                    path = path[len(function) :].removeprefix(".")
                break
            at = above
        before += "a key of " if spot.is_key else what
        return Holder(f"{before}`{path}`{place.after}" if before or place.after else path, place)

    def _ways(self, spot: Spot, what: str) -> Iterator[Holder]:
        """Yield the same place by other ways: through another holder of one of the objects on the first way."""
        entries = self._walk.entries
        if not self._above:
            self._above = self.spots({id(entry.target) for entry in entries[1:] if not isinstance(entry.target, type)})
        at = spot.index
        while at > 0 and not isinstance(entries[at].target, type):
            entry = entries[at]
            first = entry.parent, entry.key
            for other in self._above.get(id(entry.target), ()):
                if not (_is_first(other, entry) or other.is_key or self._passes(other.index, entry.target)):
                    entry.parent, entry.key = other.index, other.key
                    yield self._holder(spot, what)
                    entry.parent, entry.key = first
            at = entry.parent

    def _passes(self, index: int, target: Any) -> bool:
        """Say whether the first way to an entry leads through an object: from there, it would be a way back."""
        while index >= 0:
            if self._walk.entries[index].target is target:
                return True
            index = self._walk.entries[index].parent
        return False


class _Kinds:
    """What the walk is to stop at: arrays, by the name of their framework, and exceptions."""

    def __init__(self, asked: Sequence[Framework]) -> None:
        self._frameworks = asked
        self._known: dict[type, str] = {}

    def of(self, value: Any) -> str:
        kind = type(value)
        if kind not in self._known:
            mine = (framework.name for framework in self._frameworks if framework.is_array(value))
            self._known[kind] = _EXCEPTION if issubclass(kind, BaseException) else next(mine, "")
        return self._known[kind]

    def __call__(self, value: Any) -> bool:
        return self.of(value) != ""


def _closure(entry: Entry) -> Iterable[tuple[str, Any]]:
    """Return the cells of a function's closure, with the names of its variables."""
    if type(entry.target) is not types.FunctionType or entry.kind is None or entry.kind.name != "function":
        return ()
    return zip(entry.target.__code__.co_freevars, entry.target.__closure__ or (), strict=True)


def _is_first(spot: Spot, entry: Entry) -> bool:
    """Say whether the walk found the entry here; keys are not compared by `==`, which may be the user's."""
    if spot.index != entry.parent:
        return False
    if spot.key is entry.key or isinstance(entry.target, types.CellType):
        return True
    return type(spot.key) is type(entry.key) and type(spot.key) in (int, str) and bool(spot.key == entry.key)
