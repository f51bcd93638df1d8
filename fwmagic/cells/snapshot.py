"""Everything that names lead to, as it is at one moment: what differs from that later, and how it is put back."""

from __future__ import annotations

import gc
import operator
import random
import re
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import FunctionType, ModuleType
from typing import Any

from fwmagic.cells.caches import Cache
from fwmagic.cells.fingerprint import fingerprint
from fwmagic.cells.foreign import Foreign
from fwmagic.cells.kinds import MISSING, NumbersKind, same_contents
from fwmagic.cells.modules import has_finalizer
from fwmagic.cells.names import LOOKS_UP
from fwmagic.cells.namespaces import BindingsKind
from fwmagic.cells.plans import PLAIN
from fwmagic.cells.rebuild import put_in_place, rebuilt
from fwmagic.cells.settings import Setting, Settings
from fwmagic.cells.threads import reached_by_threads
from fwmagic.cells.values import CONTAINERS, MOST_READ, NUMBERS, comparable
from fwmagic.cells.walk import Copies, Entry, Walk, uncollected
from fwmagic.errors import FwMagicError, message_of
from fwmagic.frameworks import Framework, same_state

#: A setting of the process, or a framework that stands for all of its own.
_Set = Setting | Framework
_PRIVATE = re.compile(r"(^|[.'\"])_")
# Of what no code shows, so many objects are saved, and containers of so many items.
_MOST_BEYOND = 10_000
_MOST_NAMED = 8  # differing values of one container; with more, the container itself is named


class Snapshot:
    """Everything that can be reached from names of a namespace, as it is now.

    Arrays and random generators are copied once to host memory; Python objects are remembered with what they
    hold. All of it is put back into the same objects: no identity changes. The state of the global random
    generators, of `random` and of each framework, belongs to it, and so do the settings of the process.

    Parameters
    ----------
    namespace
        Where the names are looked up; functions with these globals are notebook functions.
    names
        Names to start from. One that is not bound is remembered as such, and unbound on `restore`.
    frameworks
        Those whose arrays and generators are saved.
    roots
        More objects to start from, such as functions that were defined elsewhere.
    unread
        Names that are bound anew whatever they hold: they are put back, and what they hold is passed by.
    copies
        Saved arrays and generators of earlier snapshots: those that still hold are taken. New ones are added.
    beyond
        Whether objects are saved, too, that no code shows to be reached from the names, but arrays.

    Attributes
    ----------
    copies
        The saved arrays and generators, for later snapshots.
    too_much
        The path of an array that only code which may look up any name can reach, and that is not saved, since such
        arrays take too much memory; or nothing.
    unrestorable
        Path of, and reason for, each object that cannot be put back: an iterator, an open file.
    caches
        The caches of functions that were reached, by their paths: they are not put back.
    stateless, donating
        What was reached of frameworks that holds nothing, such as compiled functions; and what of it may use its
        arguments up.
    looks_up
        Whether names are looked up that no code shows, as by `globals()`: then all names are among those saved.
    """

    def __init__(
        self,
        namespace: dict[str, Any],
        names: Iterable[str],
        frameworks: Sequence[Framework],
        roots: Iterable[object] = (),
        unread: Collection[str] = frozenset(),
        copies: Copies | None = None,
        beyond: bool = False,
    ) -> None:
        self._namespace = namespace
        self._roots = [(_name_of(root), root) for root in roots]
        self._frameworks = list(frameworks)
        self.copies: Copies = {} if copies is None else copies
        self._walk = Walk(namespace, self._frameworks, keep=True, copies=self.copies)
        wanted = list(names)
        self._walk.run(wanted, self._roots, unread)
        self.looks_up = self._walk.looks_up or not {*LOOKS_UP - {"get_ipython"}, "locals"}.isdisjoint(wanted)
        named = len(self._walk.unrestorable)
        if self.looks_up:
            self._walk.run_everywhere()
        self.too_much = self._walk.too_much
        self.unrestorable = [(self._walk.path(index), why) for index, why in self._walk.unrestorable[:named]]
        self.caches = {self._walk.path(index): Cache(self._walk.entries[index].target) for index in self._walk.caches}
        self.stateless, self.donating = self._walk.stateless, self._walk.donating
        shared = reached_by_threads(namespace, self._frameworks)
        # What another thread may change meanwhile is never put back: that would take away what it has done.
        self._shared = [] if shared is None else [e for e in self._walk.entries[1:] if shared.reached(e.target)]
        theirs = set(map(id, self._shared))
        own = [entry for entry in self._walk.entries if id(entry) not in theirs]
        hidden = self._walk.beyond(_MOST_BEYOND) if beyond and not self.looks_up else []
        hidden = [entry for entry in hidden if shared is None or not shared.reached(entry.target)]
        self._structure = _refilled_last([*own, *hidden])
        self._kept = [entry for entry in own if entry.kept is not None]
        self._recounts = [one.counters([e.target for e in self._kept if e.framework is one]) for one in frameworks]
        self._foreign = [Foreign(owner) for owner in self._walk.foreign]
        self._random = random.getstate()
        self._generators = [(framework, framework.rng_state()) for framework in self._frameworks]
        self._flags = [(framework, framework.flags()) for framework in self._frameworks]
        self._settings = Settings()
        self._exchanged: list[tuple[Entry, Entry]] = []  # with what they were at first

    def take_in(self, module: ModuleType) -> None:
        """Save what a module holds as well, which was just imported."""
        known = len(self._walk.entries)
        self._walk.run((), [(module.__name__, module)])
        found = self._walk.entries[known:]
        self._structure = _refilled_last([*self._structure, *found])
        self._kept += [entry for entry in found if entry.kept is not None]

    def restore(self) -> None:
        """Put everything back; of the arrays, only those that differ bit for bit are copied.

        Raises
        ------
        FwMagicError
            Something refused to be put back; all else was, and it is named.
        """
        self.finalize()
        self._put_back([entry for entry in [*self._structure, *self._kept] if entry.differs()], recount=True)
        for foreign in self._foreign:
            foreign.restore()
        for framework, flags in self._flags:
            framework.set_flags(flags)
        self._restore_generators()
        self._settings.restore()

    def finalize(self) -> None:
        """Have what was left in circles finalized now, and not when all is put back, if the user wrote a finalizer."""
        if any(issubclass(type(one.target), type) and has_finalizer(one.target) for one in self._walk.entries):
            gc.collect()

    def restore_structure(self) -> None:
        """Put names, containers, attributes and closures back, and no array contents; raises like `restore`."""
        self._put_back([entry for entry in self._structure if entry.differs()])

    def changes_of_structure(self) -> Changes:
        """Return which names, containers, attributes and closures hold something else now."""
        return Changes(self, [entry for entry in self._structure if entry.differs()], False, ())

    def changes(self, unseen: bool = False) -> Changes:
        """Return what differs now; all that could, if what does differ later is still `unseen`."""
        every = [*self._structure, *self._kept]
        if unseen:
            return Changes(self, every, drew=True, settings=self.all_settings())
        return Changes(self, [entry for entry in every if entry.differs()], self.moved_on(), self.moved_settings())

    def changed_in_libraries(self) -> str:
        """Return which name of a module or class of a library is bound to something of the user's now; or nothing."""
        return next((path for foreign in self._foreign if (path := foreign.path())), "")

    def module_taken(self) -> str:
        """Return the name of a module that is no longer among those imported, or nothing."""
        return self._settings.module_taken()

    def changed_with_threads(self) -> str:
        """Return the path of an object that holds something else now, and that another thread has, too; or nothing."""
        return next(iter(self.paths(entry for entry in self._shared if entry.differs())), "")

    def moved_on(self) -> bool:
        """Say whether a global random generator has drawn numbers since."""
        moved = any(not same_state(state, framework.rng_state()) for framework, state in self._generators)
        return moved or random.getstate() != self._random

    def moved_settings(self) -> set[_Set]:
        """Return which settings differ now: of the process, and the frameworks that have others."""
        return {*self._settings.moved(), *(framework for framework, flags in self._flags if framework.flags() != flags)}

    def all_settings(self) -> set[_Set]:
        """Return the settings of the process, and the frameworks."""
        return {*self._settings.early(), *self._frameworks}

    def settings_now(self) -> Snapshot:
        """Return a snapshot of the settings alone."""
        return Snapshot({}, (), self._frameworks)

    def objects(self) -> list[Any]:
        """Return every object that was reached and has contents, in the order of the walk."""
        return list({id(entry.target): entry.target for entry in self._walk.entries[1:]}.values())

    def deleted(self) -> list[tuple[str, Any]]:
        """Return path and object of the arrays that no longer exist, such as those donated to a compiled program."""
        found = [place for place, entry in enumerate(self._walk.entries) if getattr(entry.kept, "deleted", False)]
        return [(self._walk.path(place), self._walk.entries[place].target) for place in found]

    def leaves(self, is_leaf: Callable[[Any], bool]) -> list[tuple[str, Any]]:
        """Return path and object of what was reached and `is_leaf` is true of, each once, in the order of the walk.

        Only what `substitute` can replace counts: not a dict's keys, and not the insides of another leaf.
        """
        found = {
            id(entry.target): (place, entry.target)
            for place, entry in reversed(list(enumerate(self._walk.entries)))
            if not entry.inner and is_leaf(entry.target)
        }
        return [(self._walk.path(place), target) for place, target in sorted(found.values(), key=lambda pair: pair[0])]

    def substitute(self, new: Mapping[int, Any]) -> None:
        """Put other objects in place of some that were reached, by their `id`, wherever they occur.

        They are replaced in names, containers, attributes, closures and inside tuples, which are rebuilt up to
        the next object that can be changed. `restore` and `restore_structure` undo it.
        """
        put_in_place(self._walk.entries, new)

    def made(self) -> list[str]:
        """Return the paths of the arrays that were only announced, as those of a lazy layer, and are there now."""
        found = [place for place, entry in enumerate(self._walk.entries) if getattr(entry.kept, "made", False)]
        return [self._walk.path(place) for place in found]

    def exchange(self, new: Mapping[int, Any]) -> set[int]:
        """Put other objects in place of arrays that were there at first, and take them for what was there.

        Unlike after `substitute`, `restore` puts these back, and they are no changes. What is not exchanged again comes
        back: with none, all is as it was at first. Later exchanges are of arrays that the first one had, too. Return
        the `id` of those that were there at first for each array of the last exchange that no longer exists.
        """
        deleted = {id(first.target) for entry, first in self._exchanged if getattr(entry.kept, "deleted", False)}
        made = rebuilt([first for _, first in self._exchanged] or self._walk.entries, new)
        if not self._exchanged:
            concerned = (e for e in self._walk.entries if not made.keys().isdisjoint(map(id, (e.target, *e.values))))
            self._exchanged = [(entry, replace(entry)) for entry in concerned]
        for entry, first in self._exchanged:
            values = [made.get(id(value), value) for value in first.values]
            same = all(map(operator.is_, values, entry.values))
            entry.target, entry.values, entry.kept = made.get(id(first.target), first.target), values, first.kept
            if entry.framework is not None and entry.target is not first.target:
                entry.kept = entry.framework.keep(entry.target)
            if not same and entry.kind is not None and entry.kind.mutable:
                entry.kind.write(entry.target, entry.keys, values)
        return deleted

    def fits(self, new: Mapping[int, Any]) -> bool:
        """Say whether `substitute` can put these objects wherever it has come upon those that they stand for."""
        found = {id(value) for entry in self._walk.entries for value in entry.values}
        made = rebuilt(self._walk.entries, new)
        fixed = (entry.target for entry in self._walk.entries if entry.kind is not None and not entry.kind.mutable)
        return found >= new.keys() and not any(made.get(id(target), MISSING) is target for target in fixed)

    def held(self, wanted: Callable[[Any], bool]) -> list[tuple[str, str, Any]]:
        """Return what the objects that were reached held: path, kind of the object, and key, where it was wanted."""
        return [
            (self._walk.path_to(place, key), entry.kind.name, key)
            for place, entry in enumerate(self._walk.entries)
            if entry.kind is not None and not entry.inner and not PLAIN.issuperset(map(type, entry.values))
            for key, value in zip(entry.keys, entry.values, strict=True)
            if type(value) not in PLAIN and wanted(value)
        ]

    def times_held(self, type_: type) -> Counter[int]:
        """Return in how many places each object of one type was held, by its `id`: in values, and in keys of dicts."""
        held: Counter[int] = Counter()
        for entry in self._walk.entries:
            for part in (entry.values, () if isinstance(entry.keys, range) else entry.keys):
                held.update(id(value) for value in part if type(value) is type_)
        return held

    def find_leaves(self, predicate: Callable[[Any], bool], but: frozenset[str] = frozenset()) -> list[tuple[str, Any]]:
        """Return path and object of what can be reached now, also through what was reached before, and is wanted.

        What can be reached only through the names in `but` is left out.
        """
        walk = Walk(self._namespace, self._frameworks, keep=False, stop=predicate)
        walk.run([name for name in self._walk.entries[0].keys if name not in but], self._roots)
        for place, entry in enumerate(self._walk.entries):
            if not walk.reached(entry.target):
                walk.run((), [(self._walk.path(place), entry.target)])
        return walk.stopped

    def fingerprint(self) -> tuple[Any, ...]:
        """Return a hashable description of what a compiled program may have taken for fixed.

        Arrays count by `Framework.describe`, numbers and text by type and value, containers by type and keys,
        functions by their code, closure, defaults and globals, frozen dataclasses by their fields; all other
        objects by their identity and what they hold. The flags of the frameworks count, too.
        """
        every = (flag for _, flags in self._flags for flag in flags.items())
        flags = tuple((name, value) for name, value in every if isinstance(value, Hashable))
        with uncollected():
            names, *others = self._walk.entries
            bound = dict(zip(names.keys, names.values, strict=True))
            read = {name: value for name, value in bound.items() if name not in self._walk.unread}
            return *fingerprint([replace(names, keys=[*read], values=[*read.values()]), *others]), flags

    def put_back(self, entries: Iterable[Entry], generators: bool, settings: Collection[_Set]) -> None:
        """Put these entries back as they were, these settings, and global generators if wanted; raises as `restore`."""
        self._put_back(entries)
        for framework, flags in self._flags:
            if framework in settings:
                framework.set_flags(flags)
        if generators:
            self._restore_generators()
        of_process = [one for one in settings if isinstance(one, Setting)]
        if of_process:
            self._settings.restore(of_process)

    def paths(self, entries: Iterable[Entry]) -> list[str]:
        """Return the paths of what differs in these entries, such as `net.weight`, `hist[3]` or `x`."""
        changed = {id(entry) for entry in entries}
        places = [place for place, entry in enumerate(self._walk.entries) if id(entry) in changed]
        return list(dict.fromkeys(path for place in places for path in self._changes(place)))

    def containers(self, objects: Iterable[Any], most: int) -> list[tuple[str, Any]]:
        """Return the lists, dicts and the like of more than `most` items among these, with their paths."""
        wanted = {id(one): one for one in objects if type(one) in CONTAINERS and len(one) > most}
        places = [place for place, entry in enumerate(self._walk.entries) if id(entry.target) in wanted]
        return [(self._walk.path(place), self._walk.entries[place].target) for place in places]

    def plain_values(self, entries: Iterable[Entry], but: Collection[str]) -> dict[str, Any]:
        """Return the numbers, texts and the like that these hold now, by path; those of long ones are left out."""
        changed = {id(entry) for entry in entries}
        found: dict[str, Any] = {}
        for place, entry in enumerate(self._walk.entries):
            if id(entry) in changed and entry.kind is not None:
                keys, values = _told(entry, *_read(entry, but))
                if len(values) <= MOST_READ:
                    pairs = zip(keys, values, strict=True)
                    found |= {self._walk.path_to(place, key): v for key, v in pairs if type(v) in NUMBERS}
        return found

    def left_plainly(self, entries: Iterable[Entry], but: Collection[str]) -> dict[str, Any]:
        """Return what of these can be compared now, by path: containers whole, of other objects what has a public name.

        It is copied as `comparable` does.
        """
        changed = {id(entry) for entry in entries}
        found: dict[str, Any] = {}
        for place, entry in enumerate(self._walk.entries):
            if id(entry) not in changed or entry.kind is None or issubclass(type(entry.target), random.Random):
                continue
            if issubclass(type(entry.target), CONTAINERS) and not _is_names(entry):
                found[self._walk.path(place)] = comparable(entry.target)
                continue
            keys, values = _read(entry, but)
            found |= {self._walk.path_to(place, key): comparable(v) for key, v in zip(keys, values, strict=True)}
        return {path: value for path, value in found.items() if value is not ... and not _PRIVATE.search(path)}

    def plain_before(self, paths: Collection[str]) -> dict[str, Any]:
        """Return the numbers, texts and the like that were at these paths; those of long containers are left out."""
        return {
            path: value
            for place, entry in enumerate(self._walk.entries if paths else ())
            if len(entry.values) <= MOST_READ
            for key, value in zip(*_told(entry, entry.keys, entry.values), strict=True)
            if type(value) in NUMBERS and (path := self._walk.path_to(place, key)) in paths
        }

    def is_inside(self, entry: Entry, types: tuple[type, ...]) -> bool:
        """Say whether an entry is one of an object of these types, or was found through one."""
        while not issubclass(type(entry.target), types):
            if entry.parent < 0:
                return False
            entry = self._walk.entries[entry.parent]
        return True

    def alike_but_for_arrays(self, before: Any, after: Any) -> bool:
        """Say whether what an object held and what it holds is the same, where an array is as good as one like it."""
        (keys, values), (new_keys, new_values) = before, after
        if len(keys) != len(new_keys) or any(old is not new for old, new in zip(keys, new_keys, strict=True)):
            return list(keys) == list(new_keys) if isinstance(keys, range) else False
        return all(_alike(old, new) or self._are_like(old, new) for old, new in zip(values, new_values, strict=True))

    def _are_like(self, old: Any, new: Any) -> bool:
        """Say whether these are arrays of one shape, dtype and place."""
        owner = next((one for one in self._frameworks if one.is_array(old) and one.is_array(new)), None)
        return owner is not None and owner.describe(old) == owner.describe(new)

    def _put_back(self, entries: Iterable[Entry], recount: bool = False) -> None:
        failed: list[str] = []
        for entry in entries:
            try:
                if entry.kept is not None:
                    recount = True
                    entry.kept.restore()
                elif entry.kind is not None:
                    entry.kind.write(entry.target, entry.keys, entry.values)
                    if id(entry.target) in self._walk.memos:
                        self._walk.memos[id(entry.target)].clear()
            # One object that refuses, for a reason of its own, must not keep the others from being put back.
            except BaseException as error:
                known = entry in self._walk.entries
                path = self._walk.path(self._walk.entries.index(entry)) if known else type(entry.target).__qualname__
                failed.append(f"{path} ({type(error).__name__}: {message_of(error)})")
        for counts in self._recounts if recount else ():  # also of an array that holds the same after a change
            counts()
        if failed:
            raise FwMagicError(f"These could not be put back as they were: {'; '.join(failed)}.")

    def _restore_generators(self) -> None:
        random.setstate(self._random)
        for framework, state in self._generators:
            framework.set_rng_state(state)

    def _changes(self, place: int) -> list[str]:
        """Return the paths of what differs in one object: of its values where they can be named, else its own."""
        entry = self._walk.entries[place]
        path = self._walk.path(place)
        if entry.kind is None:
            return [path]
        keys, values = entry.kind.read(entry.target)
        if isinstance(entry.keys, range):
            if len(keys) != len(entry.keys):
                return [path]
            differing = [key for key in keys if not _alike(entry.values[key], values[key])]
            if not differing and entry.differs():  # a set whose `pop` goes on elsewhere
                return [path]
        elif same_contents(entry.keys, keys):
            pairs = zip(keys, entry.values, values, strict=True)
            differing = [key for key, old, new in pairs if old is not new and not _alike(old, new)]
        else:
            before = {id(key): (key, value) for key, value in zip(entry.keys, entry.values, strict=True)}
            after = {id(key): (key, value) for key, value in zip(keys, values, strict=True)}
            differing = [
                key
                for ident, (key, value) in {**before, **after}.items()
                if not _alike(before.get(ident, (key, MISSING))[1], after.get(ident, (key, MISSING))[1])
            ]
            if not differing and list(before) != list(after):
                return [path]
        if len(differing) > _MOST_NAMED and place:  # names are always told apart
            return [path]
        return [self._walk.path_to(place, key) for key in differing]


class Changes:
    """What differed from a snapshot when somebody looked: where, and what it held then.

    `drew`: a global random generator had drawn numbers; `settings` are those that were others.
    """

    def __init__(self, snapshot: Snapshot, entries: list[Entry], drew: bool, settings: Iterable[_Set]) -> None:
        self.drew = drew
        self.settings = set(settings)
        self._snapshot = snapshot
        self._entries = entries

    @property
    def paths(self) -> list[str]:
        """The paths of what differs now among these, such as `net.weight`, `hist[3]` or `x`."""
        return self._snapshot.paths(self._entries)

    @property
    def objects(self) -> list[Any]:
        """The objects that held something else, without the names."""
        return [entry.target for entry in self._entries if not _is_names(entry)]

    def with_those_of(self, other: Changes) -> Changes:
        """Return what differed when somebody looked, either time."""
        entries = {id(entry): entry for entry in (*self._entries, *other._entries)}
        return Changes(self._snapshot, [*entries.values()], self.drew, self.settings)

    def besides_names(self) -> Changes:
        """Return those of objects, without names that were bound; no generators and no settings."""
        return Changes(self._snapshot, [entry for entry in self._entries if not _is_names(entry)], False, ())

    def now(self) -> Changes:
        """Return the same objects with what they hold now, to be put back to that."""
        return Changes(self._snapshot, [entry.now() for entry in self._entries], False, ())

    def restore(self) -> None:
        """Put these back, which takes no time where nothing was changed; raises like `Snapshot.restore`."""
        self._snapshot.put_back(self._entries, self.drew, self.settings)

    def add(self, others: Changes) -> None:
        """Take in what differed at another time."""
        known = set(map(id, self._entries))
        self._entries += [entry for entry in others._entries if id(entry) not in known]
        self.drew |= others.drew
        self.settings |= others.settings

    def nothing(self) -> bool:
        """Say whether there is nothing to put back at all."""
        return not (self._entries or self.drew or self.settings)

    def any(self, but: Collection[str]) -> bool:
        """Say whether anything is among these, besides names in `but` that were bound."""
        return any(not _is_names(entry) or _names_differ(entry, but) for entry in self._entries)

    def alter(self, but: Collection[str]) -> bool:
        """Say whether an object, a setting, or a name besides those in `but` is another one; no random generators."""
        return bool(self.settings) or any(
            not _is_generator(one) and (not _is_names(one) or _names_differ(one, but)) for one in self._entries
        )

    def plain_values(self, but: Collection[str]) -> dict[str, Any]:
        """Return the numbers, texts and the like that these objects hold now, by path; of names, those not in `but`."""
        return self._snapshot.plain_values(self._entries, but)

    def left_plainly(self, but: Collection[str]) -> dict[str, Any]:
        """Return what these hold now that can be compared, by path; of names, those that are not in `but`."""
        return self._snapshot.left_plainly(self._entries, but)

    def touch(self, types: tuple[type, ...]) -> bool:
        """Say whether one of these is an object of these types, or inside one."""
        return any(self._snapshot.is_inside(entry, types) for entry in self._entries)

    def are_inside(self, types: tuple[type, ...], but: Collection[str]) -> bool:
        """Say whether there are Python objects among these, besides names in `but`, and all inside objects of types."""
        objects = [e for e in self._entries if e.kind is not None and (not _is_names(e) or _names_differ(e, but))]
        return bool(objects) and all(self._snapshot.is_inside(entry, types) for entry in objects)

    def look_through(self) -> None:
        """Read all of these and all settings, as putting them back does."""
        for entry in self._entries:
            entry.differs()
        self._snapshot.moved_settings()

    def restore_but_generators(self) -> None:
        """Put these back, except that random generators go on from where they are; raises like `Snapshot.restore`."""
        self._snapshot.put_back([one for one in self._entries if not _is_generator(one)], False, ())

    def drew_random(self) -> bool:
        """Say whether a random generator was among them, or a global one has drawn numbers since the snapshot."""
        return self._snapshot.moved_on() or any(map(_is_generator, self._entries))

    def held(self, but: Collection[str] = ()) -> list[tuple[Entry, Any]]:
        """Return what the Python objects among these hold now; of names, those that are not in `but`."""
        return [(entry, _read(entry, but)) for entry in self._entries if entry.kind is not None]

    def still_hold(self, before: list[tuple[Entry, Any]], but: Collection[str] = ()) -> bool:
        """Say whether they hold what `held` returned before, where an array is as good as one like it."""
        return all(self._snapshot.alike_but_for_arrays(old, _read(entry, but)) for entry, old in before)


def _refilled_last(entries: Iterable[Entry]) -> list[Entry]:
    """Return the entries of Python's objects that can change, sets and dicts last.

    The hashes of what these hold may depend on attributes that changed.
    """
    structure = [entry for entry in entries if entry.kind is not None and entry.kind.mutable]
    return sorted(structure, key=lambda entry: entry.kind is not None and entry.kind.hashes)


def _name_of(root: Any) -> str:
    if issubclass(type(root), ModuleType):
        return str(root.__name__)
    named = issubclass(type(root), type | FunctionType)  # what any other object answers is up to its class
    return str(root.__qualname__ if named else type(root).__qualname__)


def _read(entry: Entry, but: Collection[str]) -> tuple[Sequence[Any], list[Any]]:
    """Return keys and values that an object has now; of names, only those that are not in `but`."""
    assert entry.kind is not None
    keys, values = entry.kind.read(entry.target)
    if not _is_names(entry):
        return keys, values
    pairs = [(key, value) for key, value in zip(keys, values, strict=True) if key not in but]
    return [key for key, _ in pairs], [value for _, value in pairs]


def _told(entry: Entry, keys: Sequence[Any], values: list[Any]) -> tuple[Sequence[Any], list[Any]]:
    """Return keys and values that were read, those of an array of numbers as numbers."""
    return entry.kind.tell(entry.target, values) if isinstance(entry.kind, NumbersKind) else (keys, values)


def _is_names(entry: Entry) -> bool:
    return isinstance(entry.kind, BindingsKind)


def _names_differ(entry: Entry, but: Collection[str]) -> bool:
    names = zip(entry.keys, entry.values, strict=True)
    return any(entry.target.get(name, MISSING) is not value for name, value in names if name not in but)


def _is_generator(entry: Entry) -> bool:
    if entry.framework is None or entry.inner:
        return issubclass(type(entry.target), random.Random)
    return not entry.framework.is_array(entry.target)


def _alike(old: Any, new: Any) -> bool:
    """Say whether a value is the same object, or a number or text that is written the same."""
    if old is new or type(old) is not type(new):
        return old is new
    if type(old) in (float, complex):
        return repr(old) == repr(new)
    return type(old) in (int, str, bytes) and bool(old == new)
