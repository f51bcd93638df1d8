"""The walk over everything that a cell can reach: one entry for each object that has contents."""

from __future__ import annotations

import builtins
import collections
import contextlib
import dis
import functools
import gc
import math
import sys
import threading
import types
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from fwmagic.cells.caches import Cached
from fwmagic.cells.held import functions_held
from fwmagic.cells.kinds import DICTIONARY, MISSING, Kind
from fwmagic.cells.modules import is_function_of_user, is_of_user, modules_of, parts_named
from fwmagic.cells.names import looks_up
from fwmagic.cells.namespaces import ABSTRACT, CLASS, GLOBALS, MODULE, BindingsKind
from fwmagic.cells.plans import HEAP_TYPE, PLAIN, WEAK, Plan, Plans, is_only_read
from fwmagic.frameworks import Framework, Kept
from fwmagic.libraries import module_of

_MOST_PARTS = 16  # of a path; one that is longer loses its middle
# Of what no code names, a container of more items is entered without these, and one of so many times as many not at
# all: to look at it would take milliseconds.
_LONG, _LONGER = 1000, 50
#: Bytes of arrays that are saved only because some code may look up any name.
MOST_UNNAMED = 2**30

#: Objects by their framework and their `id`, with their saved state: several walks share a copy that still holds.
Copies = dict[tuple[str, int], tuple[Any, Kept]]


class _PathPart(str):
    """A part of a path that is ready, where others are made from the key in the object above."""

    __slots__ = ()


@dataclass(slots=True, eq=False)
class Entry:
    """One object and what it held: keys and values for a Python object, `kept` for one of a framework.

    `parent` is the place in `Walk.entries` of the object that it was found in, `key` its key there. `inner`
    marks what is no value of the notebook: a dict key, a gradient, the memory of a tensor.
    """

    target: Any
    kind: Kind | None
    keys: Sequence[Any]
    values: list[Any]
    parent: int
    key: Any
    inner: bool
    kept: Kept | None = None
    framework: Framework | None = None

    def now(self) -> Entry:
        """Return an entry of the same object with what it holds now."""
        if self.kept is not None and self.framework is not None:
            return replace(self, kept=self.framework.keep(self.target))
        keys, values = self.kind.read(self.target) if self.kind is not None else ((), [])
        return replace(self, keys=keys, values=values)

    def differs(self) -> bool:
        """Say whether the object holds anything else now; identity counts, not equality."""
        if self.kept is not None:
            return self.kept.changed()
        if self.kind is None or not self.kind.mutable:
            return False
        return not self.kind.same(self.keys, self.values, *self.kind.read(self.target))


class Walk:
    """All that can be reached from names of a namespace, and from more objects; each is visited once.

    Modules, classes and functions' globals of libraries are not entered, nor are their weak references followed.
    What the notebook itself holds is visited before the insides of library objects. With `keep`, frameworks save
    their arrays and generators; without, arrays are passed by. `stop` ends the walk at the objects that it is true
    of, which are then in `stopped`. `caches` are the functions with a cache that cannot be put back, by their place
    in `entries`; `foreign` are modules and classes of libraries that were come upon. `stateless` are objects of
    frameworks that hold nothing, such as compiled functions, and `donating` those of them that may use their
    arguments up; `looks_up` says whether a notebook function may look up any name. `memos` are what is remembered
    of objects, by their `id`, and wrong when these are put back. `unread` are names that nothing reads, whose
    objects are passed by. `copies` are those of earlier walks; what is saved here is added. `too_much` is the path
    of an array that is not saved, since those that no code names take too much memory.
    """

    def __init__(
        self,
        namespace: dict[str, Any],
        frameworks: Sequence[Framework],
        *,
        keep: bool,
        stop: Callable[[Any], bool] | None = None,
        copies: Copies | None = None,
    ) -> None:
        self.too_much = ""
        self._most = self._long = math.inf  # entries; items of a container whose own items are entered
        self._copies: Copies = {} if copies is None else copies
        self._unnamed: dict[Hashable, int] = {}
        self.entries: list[Entry] = []
        self.unrestorable: list[tuple[int, str]] = []
        self.stopped: list[tuple[str, Any]] = []
        self.caches: list[int] = []
        self.foreign: list[Any] = []
        self.stateless: list[Any] = []
        self.donating: list[Any] = []
        self.memos: dict[int, Any] = {}
        self.looks_up = False
        self._namespace = namespace
        self._frameworks = frameworks
        self._readable = [pair for framework in frameworks for pair in framework.readable]
        self._keep = keep
        self._stop = stop
        self._plans = Plans(namespace)
        self._names: Final = BindingsKind()
        self.unread: set[str] = set()
        # What is written to the screen, and who holds these streams, is nothing to put back.
        screens = (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
        self._seen = {id(namespace), id(sys.modules), *map(id, screens)}
        # What waits to be visited: (value, parent, key, inner), by whether the notebook itself holds it.
        self._waiting: dict[bool, list[tuple[Any, int, Any, bool]]] = {True: [], False: []}
        self._add(namespace, self._names, -1, "", False)

    def run(
        self, names: Iterable[str], roots: Iterable[tuple[str, Any]], unread: Collection[str] = frozenset()
    ) -> None:
        """Visit everything that the names lead to, then the other objects, each given with its path.

        What names that are `unread` hold is passed by, unless a notebook function reads them.
        """
        self.unread |= set(unread)
        self._push([(root, -1, path, False) for path, root in roots if type(root) not in PLAIN], True)
        self._add_names(names, but=self.unread)
        with uncollected():
            self._visit_all()

    def run_everywhere(self) -> None:
        """Visit what all other names lead to, too."""
        self._add_names([*self.unread, *self._names.others(self._namespace)])
        self._names.every = True
        with uncollected():
            self._visit_all()

    def beyond(self, most: int) -> list[Entry]:
        """Return what this walk has not come upon and the notebook's other names lead to, `most` entries at most.

        What is called from code in C can change it, such as a function that a library has registered. Each name has
        its share: of what leads to a lot, such as data, a part is left out, and what long containers hold. All goes by
        the name that leads to it, as if it were found there.
        """
        others = Walk(self._namespace, self._frameworks, keep=False)
        others._seen |= self._seen
        others._long = _LONG
        others._add_names([name for name in self._names.others(self._namespace) if name not in self.unread])
        roots, others._waiting[True] = others._waiting[True], []
        with uncollected():
            for left in range(len(roots), 0, -1):
                root, known = roots.pop(), len(others.entries)
                others._push([root], True)
                others._most = known + (most - known) // left
                others._visit_all()
                for entry in others.entries[known:]:
                    entry.parent, entry.key = 0, root[2]
                for waiting in others._waiting.values():
                    waiting.clear()
        return others.entries[1:]

    def reached(self, value: Any) -> bool:
        """Say whether the object was visited."""
        return id(value) in self._seen

    def path(self, index: int) -> str:
        """Return how a reader would write the object of an entry: `net.weight`, `hist[3]`."""
        entry = self.entries[index]
        is_class = issubclass(type(entry.target), type)
        return entry.target.__qualname__ if is_class else self.path_to(entry.parent, entry.key)

    def path_to(self, parent: int, key: Any) -> str:
        """Return how a reader would write what an entry holds under a key."""
        parts: list[str] = []
        while True:
            if parent < 0:
                parts.append(str(key))
                break
            above = self.entries[parent]
            parts.append(
                key if isinstance(key, _PathPart) or above.kind is None else above.kind.label(above.target, key)
            )
            if issubclass(type(above.target), type):
                parts.append(above.target.__qualname__)
                break
            parent, key = above.parent, above.key
        if len(parts) > _MOST_PARTS:
            parts[_MOST_PARTS // 2 : -_MOST_PARTS // 2] = [" … "]
        path = "".join(reversed(parts))
        for pattern, readable in self._readable:
            path = pattern.sub(readable, path)
        return path

    def _visit_all(self) -> None:
        while (self._waiting[True] or self._waiting[False]) and len(self.entries) < self._most:
            own = bool(self._waiting[True])
            value, parent, key, inner = self._waiting[own].pop()
            if id(value) not in self._seen:
                self._seen.add(id(value))
                if self._stop is not None and self._stop(value):
                    self.stopped.append((self.path_to(parent, key), value))
                else:
                    self._visit(value, parent, key, own, inner)

    def _push(self, found: list[tuple[Any, int, Any, bool]], own: bool) -> None:
        found.reverse()
        self._waiting[own] += found

    def _add(self, target: Any, kind: Kind | None, parent: int, key: Any, inner: bool, **kept: Any) -> int:
        keys, values = kind.read(target) if kind is not None else ((), [])
        self.entries.append(Entry(target, kind, keys, values, parent, key, inner, **kept))
        return len(self.entries) - 1

    def _add_names(self, names: Iterable[str], but: Collection[str] = frozenset()) -> None:
        wanted, known = list(dict.fromkeys(names)), set(self._names.names)
        new = [name for name in wanted if name not in known]
        self._names.names += new
        self.entries[0].values += [self._namespace.get(name, MISSING) for name in new]
        read = [name for name in wanted if name not in but and (name not in known or name in self.unread)]
        self.unread -= set(read)
        found = ((name, self._namespace.get(name, MISSING)) for name in read)
        self._push([(value, 0, name, False) for name, value in found if type(value) not in PLAIN], True)

    def _visit(self, value: Any, parent: int, key: Any, own: bool, inner: bool) -> None:
        if type(value) in _COUNTED and len(value) > self._long * _LONGER:
            return
        plan = self._plans.of(type(value))
        if plan.is_class:
            if self._plans.is_notebook(value):
                kinds = ABSTRACT if "_abc_impl" in vars(value) else CLASS
                self._enter(value, kinds, parent, key, True, inner)
                # Its bases, and its own class, which may keep what it makes.
                self._push([(one, parent, key, inner) for one in (*value.__mro__[1:-1], type(value))], own)
            elif own and value.__flags__ & HEAP_TYPE:
                self.foreign.append(value)
            return
        if plan.is_module:
            if is_of_user(value) and vars(value) is not self._namespace:
                self._enter(value, (MODULE,), parent, key, False, inner)
            elif own and not is_of_user(value):
                self.foreign.append(value)
            return
        if plan.asks and self._is_kept(value, parent, key, own, inner):
            return
        if issubclass(type(value), WEAK):  # those of libraries are caches, and none of the cell's business
            self._push([(vars(value)["data"], parent, key, inner)] if own else [], own)
            return
        if issubclass(type(value), Cached) and not self._is_of_library(value):
            self.caches.append(len(self.entries))
        if self._is_memory(value, parent):
            return
        if plan.why and (own or plan.anywhere) and self._keep and not self._is_in_module(parent):
            self.unrestorable.append((self._add(value, None, parent, key, inner), plan.why))
        if plan.kinds and (own or not plan.only_own):
            own_inside = self._holds_own(value, plan, own)
            self._enter(value, plan.kinds, parent, key, own_inside, inner)

    def _is_of_library(self, function: Any) -> bool:
        """Say whether a function with a cache is one that a library offers: what it keeps is that library's affair."""
        module = sys.modules.get(function.__module__ or "")
        if not isinstance(module, types.ModuleType) or vars(module) is self._namespace or is_of_user(module):
            return False
        return vars(module).get(function.__name__) is function

    def _is_memory(self, value: Any, parent: int) -> bool:
        """Say whether it is only the memory of the array that holds it, whose numbers are saved with that."""
        return is_only_read(value) and parent > 0 and self.entries[self.entries[parent].parent].kept is not None

    def _is_in_module(self, place: int) -> bool:
        """Say whether a module is on the way to an object: most of what it holds is not the cell's to change."""
        while place >= 0:
            if self.entries[place].kind in (MODULE, GLOBALS):
                return True
            place = self.entries[place].parent
        return False

    def _holds_own(self, value: Any, plan: Plan, own: bool) -> bool:
        """Say whether what the object holds is the notebook's own, and not the inside of a library's object.

        What Python's own decorators make of the notebook's functions, such as a `singledispatch`, holds what is theirs,
        and a condition is its lock.
        """
        if issubclass(type(value), types.FunctionType):
            return own and (value.__globals__ is self._namespace or value.__globals__ is vars(functools))
        is_open = plan.builtin or module_of(type(value)) == "functools" or issubclass(type(value), threading.Condition)
        return plan.notebook or (own and is_open)

    def _enter(self, value: Any, kinds: tuple[Kind, ...], parent: int, key: Any, own: bool, inner: bool) -> None:
        found: list[tuple[Any, int, Any, bool]] = []
        for kind in kinds:
            index = self._add(value, kind, parent, key, inner)
            entry = self.entries[index]
            if isinstance(entry.keys, list) and kind.hashes and len(entry.keys) <= self._long:
                found += [(held, index, _PathPart(""), True) for held in entry.keys if type(held) not in PLAIN]
            if len(entry.values) > self._long or PLAIN.issuperset(map(type, entry.values)):
                continue
            pairs = zip(entry.values, entry.keys, strict=True)
            found += [(held, index, name, inner) for held, name in pairs if not _needs_no_walk(held)]
        if issubclass(type(value), types.FunctionType):
            if value.__globals__ is vars(functools) and {"dispatch", "_clear_cache"} <= vars(value).keys():
                self._remember(value)
            found += [(cell, index, _PathPart(f".{name}"), inner) for name, cell in _cells(value).items()]
            if value.__globals__ is self._namespace:
                self.looks_up = self.looks_up or bool(looks_up(value.__code__))
                found += self._imported(value, inner)
                parts = parts_named(value.__code__, self._namespace)
                found += [(one, -1, one.__name__, inner) for one in parts]
                self._add_names(name for name in globals_to_walk(value.__code__) if self._is_ours(name))
            elif is_function_of_user(value):
                module = sys.modules.get(str(value.__globals__.get("__name__")))
                if type(module) is types.ModuleType and vars(module) is value.__globals__:
                    found.append((module, index, _PathPart(f" ({module.__name__})"), inner))
                elif id(value.__globals__) not in self._seen:
                    self._seen.add(id(value.__globals__))
                    self._enter(value.__globals__, (GLOBALS,), index, _PathPart(".__globals__"), False, inner)
                found += self._imported(value, inner)
        self._push(found, own)

    def _remember(self, dispatching: types.FunctionType) -> None:
        """Pass by what a `singledispatch` remembers of its registry: that is no state."""
        memo = getattr(vars(dispatching)["_clear_cache"], "__self__", None)
        registry = _cells(vars(dispatching)["dispatch"]).get("registry")
        if memo is not None and registry is not None:
            self._seen.add(id(memo))
            self.memos[id(registry.cell_contents)] = memo

    def _imported(self, function: Any, inner: bool) -> list[tuple[Any, int, Any, bool]]:
        """Return the modules of the user that a function may import, to be visited under their own names."""
        modules = modules_of(function.__code__, function.__globals__.get("__package__") or "")
        return [(one, -1, one.__name__, inner) for one in modules if vars(one) is not self._namespace]

    def _is_ours(self, name: str) -> bool:
        return name in self._namespace or not hasattr(builtins, name)

    def _is_kept(self, value: Any, parent: int, key: Any, own: bool, inner: bool) -> bool:
        """Say whether a framework takes care of the object; then it has its entry."""
        for framework in self._frameworks:
            is_array = framework.is_array(value)
            if is_array and not self._keep:
                return True
            if is_array and self._names.every and not self._has_room(value, framework):
                self.too_much = self.too_much or self.path_to(parent, key)
                return True
            kept = self._saved(value, framework) if self._keep else None
            if kept is not None:
                index = self._add(value, None, parent, key, inner, kept=kept, framework=framework)
                attributes = getattr(value, "__dict__", None)
                for child in kept.children():
                    if child is attributes:
                        self._enter(child, (DICTIONARY,), index, _PathPart(""), own, True)
                    else:
                        self._push([(child, index, _PathPart(_attribute_path(value, child, framework)), True)], own)
                return True
            if is_array:
                index = self._add(value, None, parent, key, inner, framework=framework)
                self.unrestorable.append((index, f"the array {framework.describe(value)} cannot be put back"))
                return True
            if framework.is_stateless(value):
                self.stateless.append(value)
                self.donating += [value] if framework.may_donate(value) else []
                wrapped = getattr(value, "__dict__", {}).get("__wrapped__")  # the user's function in a jitted one
                self._push([(wrapped, parent, key, inner)] if wrapped is not None else [], own)
                self._push([(one, -1, one.__name__, inner) for one in functions_held(value, self._is_of_user)], own)
                return True
        return False

    def _is_of_user(self, function: types.FunctionType) -> bool:
        return function.__globals__ is self._namespace or is_function_of_user(function)

    def _saved(self, value: Any, framework: Framework) -> Kept | None:
        place = framework.name, id(value)
        _, kept = self._copies.get(place, (None, None))
        if kept is None or kept.changed():
            kept = framework.keep(value)
            if kept is not None:
                self._copies[place] = value, kept
        return kept

    def _has_room(self, array: Any, framework: Framework) -> bool:
        """Say whether an array that no code names may be saved, too."""
        memory, size = framework.memory.memory_of(array)
        if sum(self._unnamed.values()) + size * (memory not in self._unnamed) > MOST_UNNAMED:
            return False
        self._unnamed[memory] = size
        return True


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Put garbage collection off: the many new objects of a walk would set it off, and it takes longer than they do."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _cells(function: types.FunctionType) -> dict[str, Any]:
    return dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))


_COUNTED = (list, tuple, dict, set, frozenset, collections.deque)


def _needs_no_walk(value: Any) -> bool:
    """Say whether nothing of it can change: a data set of a million pairs of numbers needs no entry for each."""
    return type(value) in PLAIN or (type(value) in (tuple, frozenset) and all(type(held) in PLAIN for held in value))


def _attribute_path(value: Any, child: Any, framework: Framework) -> str:
    """Return the part of the path that leads to what a framework's object refers to."""
    if framework.is_array(child):
        return next((f".{name}" for name in ("grad", "base") if getattr(value, name, None) is child), "")
    return ""


def globals_to_walk(code: types.CodeType) -> Iterator[str]:
    """Yield the global names that a function's code, and all code nested in it, reads, binds or deletes."""
    waiting = [code]
    while waiting:
        code = waiting.pop()
        for instruction in dis.get_instructions(code):
            if "GLOBAL" in instruction.opname or instruction.opname == "LOAD_NAME":
                yield instruction.argval
        waiting += [const for const in code.co_consts if isinstance(const, types.CodeType)]
