"""The largest arrays that are alive, and who holds them: places of the notebook first, then what is outside of it."""

from __future__ import annotations

import gc
import inspect
import re
import sys
import types
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import PurePath
from typing import Any

from fwmagic import frameworks
from fwmagic.cells.walk import Entry, Walk, uncollected
from fwmagic.frameworks import Framework
from fwmagic.libraries import module_of


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


class HoldingFrames:
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
        shell = getattr(self._namespace.get("get_ipython"), "__self__", None)
        formatter = getattr(shell, "InteractiveTB", None)
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
        for name, value in _locals_of_frame(frame).items():
            yield place, name, value


def _locals_of_frame(frame: types.FrameType) -> dict[str, Any]:
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
class Holding:
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


class Holders:
    """All that the names of a namespace lead to, with the last traceback, running functions and autograd graphs.

    Arrays of the frameworks that are asked about are in `arrays`, each once, with the framework's name.
    """

    def __init__(self, namespace: dict[str, Any], asked: Sequence[Framework]) -> None:
        self._memories = {framework.name: framework.memory for framework in asked}
        self._kinds = _HeldKinds(asked)
        self._walk = Walk(namespace, frameworks.loaded(), keep=False, stop=self._kinds)
        self._frames = HoldingFrames(namespace)
        self._places: list[Origin] = []
        self._roots: list[tuple[str, Any]] = []
        self._above: dict[int, list[Holding]] = {}
        names = [name for name in list(namespace) if isinstance(name, str) and not _PASSED_BY.fullmatch(name)]
        self._find(sorted(names, key=lambda name: _OUTPUTS.match(name) is not None))
        kinds = [(self._kinds.of(value), value) for _, value in self._walk.stopped]
        self.arrays = [(kind, value) for kind, value in kinds if kind != _EXCEPTION]

    def holdings(self, idents: AbstractSet[int]) -> dict[int, list[Holding]]:
        """Return all places that directly hold the objects with these `id`s, also the second and third of each."""
        found: dict[int, list[Holding]] = defaultdict(list)
        as_keys: list[tuple[int, Holding]] = []
        for index, entry in enumerate(self._walk.entries):
            if not idents.isdisjoint(map(id, entry.values)):
                pairs = zip(entry.keys, entry.values, strict=True)
                for holding, ident in [(Holding(index, key), id(value)) for key, value in pairs if id(value) in idents]:
                    found[ident].append(holding)
            for name, cell in _cells_held(entry):
                if id(cell) in idents:
                    found[id(cell)].append(Holding(index, name))
            if entry.kind is not None and entry.kind.hashes and isinstance(entry.keys, list):
                as_keys += [(id(key), Holding(index, key, is_key=True)) for key in entry.keys if id(key) in idents]
        for ident, holding in [*((id(value), Holding(-1, path)) for path, value in self._roots), *as_keys]:
            if ident in idents:
                found[ident].append(holding)
        return found

    def words(self, holdings: list[tuple[Holding, str]]) -> list[Holder]:
        """Return places in words, each given with what to call the object there: `a view`, or nothing.

        After them come other ways to the same places: a module has two names, or is in `Out`, too.
        """
        read = holdings[:_MOST_READ]
        ways = (way for holding, what in read for way in self._ways(holding, what))
        found = [*(self._holder(holding, what) for holding, what in read), *islice(ways, _MOST_READ)]
        return sorted(dict.fromkeys(found), key=Holder.use)

    def names_of(self, objects: Sequence[Any]) -> dict[int, list[str]]:
        """Return, by `id`, how a reader would write the places that hold these objects, with their types."""
        kinds = {id(one): type(one).__qualname__ for one in objects}
        words: dict[int, list[str]] = {}
        for ident, holdings in self.holdings(kinds.keys()).items():
            texts = [self._holder(holding, "").text for holding in holdings]
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
        holdings = self.holdings(inside.keys()) if inside else {}
        paths = {id(value): path for path, value in new}
        for ident, known in holdings.items():
            named = [self._walk.path_to(holding.index, holding.key) for holding in known if not holding.is_key]
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

    def _holder(self, holding: Holding, what: str) -> Holder:
        path = self._walk.path(holding.index) if holding.is_key else self._walk.path_to(holding.index, holding.key)
        place, path = self._split(path)
        before = place.before
        at, entries = holding.index, self._walk.entries
        while at >= 0:
            above = entries[at].parent
            if isinstance(entries[at].target, types.CellType) and above >= 0:
                (_, function), (_, cell) = self._split(self._walk.path(above)), self._split(self._walk.path(at))
                if path.startswith(cell) and cell.startswith(function):
                    before += f"closure of `{function}`: "
                    path = path[len(function) :].removeprefix(".")
                break
            at = above
        before += "a key of " if holding.is_key else what
        return Holder(f"{before}`{path}`{place.after}" if before or place.after else path, place)

    def _ways(self, holding: Holding, what: str) -> Iterator[Holder]:
        """Yield the same place by other ways: through another holder of one of the objects on the first way."""
        entries = self._walk.entries
        if not self._above:
            self._above = self.holdings(
                {id(entry.target) for entry in entries[1:] if not isinstance(entry.target, type)}
            )
        at = holding.index
        while at > 0 and not isinstance(entries[at].target, type):
            entry = entries[at]
            first = entry.parent, entry.key
            for other in self._above.get(id(entry.target), ()):
                if not (_is_first_holding(other, entry) or other.is_key or self._passes(other.index, entry.target)):
                    entry.parent, entry.key = other.index, other.key
                    yield self._holder(holding, what)
                    entry.parent, entry.key = first
            at = entry.parent

    def _passes(self, index: int, target: Any) -> bool:
        """Say whether the first way to an entry leads through an object: from there, it would be a way back."""
        while index >= 0:
            if self._walk.entries[index].target is target:
                return True
            index = self._walk.entries[index].parent
        return False


class _HeldKinds:
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


def _cells_held(entry: Entry) -> Iterable[tuple[str, Any]]:
    """Return the cells of a function's closure, with the names of its variables."""
    if type(entry.target) is not types.FunctionType or entry.kind is None or entry.kind.name != "function":
        return ()
    return zip(entry.target.__code__.co_freevars, entry.target.__closure__ or (), strict=True)


def _is_first_holding(holding: Holding, entry: Entry) -> bool:
    """Say whether the walk found the entry here; keys are not compared by `==`, which may be the user's."""
    if holding.index != entry.parent:
        return False
    if holding.key is entry.key or isinstance(entry.target, types.CellType):
        return True
    return type(holding.key) is type(entry.key) and type(holding.key) in (int, str) and bool(holding.key == entry.key)


_STEPS = 4  # from the array to what holds it, to what holds that, and so on
_MOST_FOLLOWED = 1000
_MOST_NAMED_OUTSIDE = 2
# What everything is held by, or what says nothing of who wants it.
_ENDS = (types.ModuleType, types.FrameType, type)

#: An object that is on the way up, and the places of the memories that it holds.
_Step = tuple[Any, set[int]]


def holders_outside(
    memories: Sequence[Sequence[Any]],
    known: AbstractSet[int],
    in_words: Callable[[Sequence[Any]], Mapping[int, list[str]]],
) -> list[tuple[str, ...]]:
    """Return who holds arrays: a name that leads to an opaque object, a global of a module, or at least a type.

    Parameters
    ----------
    memories
        Arrays that share one memory, for each memory.
    known
        The `id`s of the objects that count: those that there were before the search.
    in_words
        Returns, by `id`, the places of the notebook that hold these objects.
    """
    answers: dict[int, tuple[str, ...]] = {}
    by_type: dict[int, list[str]] = {}
    level: dict[int, _Step] = {id(one): (one, {place}) for place, arrays in enumerate(memories) for one in arrays}
    seen = set(level)
    for _ in range(_STEPS):
        level, named, in_modules, by_kind = _holders_above(level, seen, known, in_words)
        for place, texts in by_kind.items():
            by_type.setdefault(place, texts)
        for place, texts in named.items():
            answers.setdefault(place, tuple(f"inside {text}" for text in dict.fromkeys(texts)))
        for place, texts in in_modules.items():
            answers.setdefault(place, (_holders_unnamed(texts),))
        level = {ident: (one, held - answers.keys()) for ident, (one, held) in level.items()}
        level = dict([(ident, step) for ident, step in level.items() if step[1]][:_MOST_FOLLOWED])
        if not level:
            break
    for place, texts in by_type.items():
        answers.setdefault(place, (_holders_unnamed(texts),))
    return [answers.get(place, ("only by the framework itself",)) for place in range(len(memories))]


def _holders_above(
    level: Mapping[int, _Step],
    seen: set[int],
    known: AbstractSet[int],
    in_words: Callable[[Sequence[Any]], Mapping[int, list[str]]],
) -> tuple[dict[int, _Step], dict[int, list[str]], dict[int, list[str]], dict[int, list[str]]]:
    """Go from objects to what holds them; return that, and by memory the names, globals and types that were met."""
    holders = [one for one in gc.get_referrers(*(one for one, _ in level.values())) if id(one) not in seen]
    seen.update(map(id, holders))
    words = in_words([one for one in holders if id(one) in known])
    above: dict[int, _Step] = {}
    named: dict[int, list[str]] = defaultdict(list)
    in_modules: dict[int, list[str]] = defaultdict(list)
    by_kind: dict[int, list[str]] = defaultdict(list)
    for one in holders:
        below = [level[id(held)] for held in gc.get_referents(one) if id(held) in level]
        places = set().union(*(held for _, held in below))
        # An object's `__dict__` may have come into being when the search asked for it.
        if id(one) not in known and type(one) is not dict:
            continue
        for place in places if id(one) in known else ():
            named[place] += words.get(id(one), [])
            by_kind[place].append(_kind_of_holder(one))
        for name, place in _globals_that_hold(one, below):
            in_modules[place].append(f"`{name}`")
        if not isinstance(one, _ENDS):
            above[id(one)] = one, places
    return above, {place: texts for place, texts in named.items() if texts}, in_modules, by_kind


def _holders_unnamed(holders: Sequence[str]) -> str:
    few = list(dict.fromkeys(holders))[:_MOST_NAMED_OUTSIDE]
    return f"not found: held by {' and '.join(few)} outside of the notebook's names"


def _kind_of_holder(one: Any) -> str:
    if isinstance(one, types.FrameType):
        return f"the variables of a call of `{one.f_code.co_qualname}`"
    kind = type(one)
    name = kind.__qualname__ if module_of(kind) == "builtins" else f"{module_of(kind)}.{kind.__qualname__}"
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def _globals_that_hold(holder: Any, held: Sequence[_Step]) -> Iterator[tuple[str, int]]:
    """Yield the global names, `module.NAME`, under which a module's dict has objects, with the memories they hold."""
    if type(holder) is not dict:
        return
    places = {id(one): held for one, held in held}
    for name, module in list(sys.modules.items()):
        # By the plainest way: a lazy module would load itself when asked.
        if issubclass(type(module), types.ModuleType) and object.__getattribute__(module, "__dict__") is holder:
            for key, value in holder.items():
                yield from ((f"{name}.{key}", place) for place in places.get(id(value), ()))


#: Memory of fewer bytes than this is not reported.
SMALLEST = 1024
#: So many holders of one memory are named; of more, it is said how many there are.
MOST_NAMED = 8


@dataclass(frozen=True)
class Held:
    """Memory that is alive: its bytes, the largest array that it belongs to, and how a reader writes its holders.

    `what` is dtype and shape. `holders` are paths (`net.layer.weight`, `Out[12]`), or words with a path in
    backticks ("last traceback: `big` in `step` (line 7)"); if none was found, one sentence that says so.
    """

    framework: str
    what: str
    bytes: int
    device: str
    holders: tuple[str, ...]


@dataclass
class _HeldMemory:
    bytes: int
    arrays: list[tuple[str, Any]] = field(default_factory=list)


def largest_held(
    arrays: Mapping[str, Iterable[object]], namespace: dict[str, Any], count: int = 10
) -> tuple[Held, ...]:
    """Return the largest arrays that are alive, the largest first, with all that was found to hold them.

    Arrays that share memory, such as the views of one tensor, count once, with all of it. What is in a reference
    cycle that Python has yet to collect is alive; run `gc.collect()` before to leave it out.

    Parameters
    ----------
    arrays
        By the name of a loaded framework, all its arrays, as its memory's `live` lists them. Those that the names
        lead to are added, and what autograd graphs have saved.
    namespace
        The notebook's names. Holders are also looked for in the last traceback and those of exceptions that are
        reached, and in the notebook's functions that run.
    count
        How many to return at most.

    Returns
    -------
    Text and numbers only: nothing is kept alive by it.
    """
    with uncollected():
        before = gc.get_objects()
        asked = {framework.name: framework for framework in frameworks.loaded() if framework.name in arrays}
        in_notebook = Holders(namespace, list(asked.values()))
        given = [(name, array) for name in asked for array in arrays[name]]
        memories = _held_memories(asked, [*given, *in_notebook.arrays])[:count]
        idents = {id(array): index for index, memory in enumerate(memories) for _, array in memory.arrays}
        holdings = in_notebook.holdings(idents.keys())
        found = [_held(memory, asked, in_notebook, holdings) for memory in memories]
        missing = [place for place, live in enumerate(found) if not live.holders]
        known = set(map(id, before)) - {id(arrays), *map(id, arrays.values())} if missing else set()
        arrays_of = [[array for _, array in memories[place].arrays] for place in missing]
        answers = holders_outside(arrays_of, known, in_notebook.names_of) if missing else []
        for place, holders in zip(missing, answers, strict=True):
            found[place] = replace(found[place], holders=holders)
        return tuple(found)


def _held_memories(asked: Mapping[str, Framework], arrays: Iterable[tuple[str, Any]]) -> list[_HeldMemory]:
    found: dict[Hashable, _HeldMemory] = {}
    for name, array in {id(array): (name, array) for name, array in arrays}.values():
        identity, size = asked[name].memory.memory_of(array)
        memory = found.setdefault(identity, _HeldMemory(size))
        memory.bytes = max(memory.bytes, size)
        memory.arrays.append((name, array))
    large = [memory for memory in found.values() if memory.bytes >= SMALLEST]
    return sorted(large, key=lambda memory: memory.bytes, reverse=True)


def _held(
    memory: _HeldMemory,
    asked: Mapping[str, Framework],
    in_notebook: Holders,
    holdings: Mapping[int, list[Holding]],
) -> Held:
    sizes = [asked[name].memory.size_of(array) for name, array in memory.arrays]
    name, shown = memory.arrays[sizes.index(max(sizes))]
    what, device = asked[name].memory.label(shown)
    direct = [
        (holding, "a view " if size < memory.bytes else "")
        for (_, array), size in zip(memory.arrays, sizes, strict=True)
        for holding in holdings.get(id(array), ())
    ]
    return Held(name, what, memory.bytes, device, _named_holders(in_notebook.words(direct), len(direct)))


def _named_holders(holders: Sequence[Holder], direct: int) -> tuple[str, ...]:
    """Return the first holders; of a traceback, frames of libraries only where none of the notebook's own has it."""
    own = {holder.place.before for holder in holders if holder.place.own}
    texts = [holder.text for holder in holders if holder.place.own or holder.place.before not in own]
    more = max(len(holders), direct) - len(holders) + len(texts) - MOST_NAMED
    return (*texts[:MOST_NAMED], *([f"{more} more"] if more > 0 else []))
