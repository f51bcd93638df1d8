"""The largest arrays that are alive, and who holds them."""

from __future__ import annotations

import gc
import sys
import types
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Any

from fwmagic import frameworks
from fwmagic.cells.walk import uncollected
from fwmagic.frameworks import Framework
from fwmagic.memory.places import Holder, Places, Spot

_STEPS = 4  # from the array to what holds it, to what holds that, and so on
_MOST_FOLLOWED = 1000
_MOST_NAMED = 2
# What everything is held by, or what says nothing of who wants it.
_ENDS = (types.ModuleType, types.FrameType, type)

#: An object that is on the way up, and the places of the memories that it holds.
_Step = tuple[Any, set[int]]


def outside(
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
        level, named, in_modules, by_kind = _up(level, seen, known, in_words)
        for place, texts in by_kind.items():
            by_type.setdefault(place, texts)
        for place, texts in named.items():
            answers.setdefault(place, tuple(f"inside {text}" for text in dict.fromkeys(texts)))
        for place, texts in in_modules.items():
            answers.setdefault(place, (_not_found(texts),))
        level = {ident: (one, held - answers.keys()) for ident, (one, held) in level.items()}
        level = dict([(ident, step) for ident, step in level.items() if step[1]][:_MOST_FOLLOWED])
        if not level:
            break
    for place, texts in by_type.items():
        answers.setdefault(place, (_not_found(texts),))
    return [answers.get(place, ("only by the framework itself",)) for place in range(len(memories))]


def _up(
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
            by_kind[place].append(_what(one))
        for name, place in _globals(one, below):
            in_modules[place].append(f"`{name}`")
        if not isinstance(one, _ENDS):
            above[id(one)] = one, places
    return above, {place: texts for place, texts in named.items() if texts}, in_modules, by_kind


def _not_found(holders: Sequence[str]) -> str:
    few = list(dict.fromkeys(holders))[:_MOST_NAMED]
    return f"not found: held by {' and '.join(few)} outside of the notebook's names"


def _what(one: Any) -> str:
    if isinstance(one, types.FrameType):
        return f"the variables of a call of `{one.f_code.co_qualname}`"
    kind = type(one)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def _globals(holder: Any, held: Sequence[_Step]) -> Iterator[tuple[str, int]]:
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
class Live:
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
class _Memory:
    bytes: int
    arrays: list[tuple[str, Any]] = field(default_factory=list)


def largest(arrays: Mapping[str, Iterable[object]], namespace: dict[str, Any], count: int = 10) -> tuple[Live, ...]:
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
        places = Places(namespace, list(asked.values()))
        given = [(name, array) for name in asked for array in arrays[name]]
        memories = _memories(asked, [*given, *places.arrays])[:count]
        idents = {id(array): index for index, memory in enumerate(memories) for _, array in memory.arrays}
        spots = places.spots(idents.keys())
        found = [_live(memory, asked, places, spots) for memory in memories]
        missing = [place for place, live in enumerate(found) if not live.holders]
        known = set(map(id, before)) - {id(arrays), *map(id, arrays.values())} if missing else set()
        arrays_of = [[array for _, array in memories[place].arrays] for place in missing]
        answers = outside(arrays_of, known, places.names_of) if missing else []
        for place, holders in zip(missing, answers, strict=True):
            found[place] = replace(found[place], holders=holders)
        return tuple(found)


def _memories(asked: Mapping[str, Framework], arrays: Iterable[tuple[str, Any]]) -> list[_Memory]:
    found: dict[Hashable, _Memory] = {}
    for name, array in {id(array): (name, array) for name, array in arrays}.values():
        identity, size = asked[name].memory.memory_of(array)
        memory = found.setdefault(identity, _Memory(size))
        memory.bytes = max(memory.bytes, size)
        memory.arrays.append((name, array))
    large = [memory for memory in found.values() if memory.bytes >= SMALLEST]
    return sorted(large, key=lambda memory: memory.bytes, reverse=True)


def _live(
    memory: _Memory,
    asked: Mapping[str, Framework],
    places: Places,
    spots: Mapping[int, list[Spot]],
) -> Live:
    sizes = [asked[name].memory.size_of(array) for name, array in memory.arrays]
    name, shown = memory.arrays[sizes.index(max(sizes))]
    what, device = asked[name].memory.label(shown)
    direct = [
        (spot, "a view " if size < memory.bytes else "")
        for (_, array), size in zip(memory.arrays, sizes, strict=True)
        for spot in spots.get(id(array), ())
    ]
    return Live(name, what, memory.bytes, device, _named(places.words(direct), len(direct)))


def _named(holders: Sequence[Holder], direct: int) -> tuple[str, ...]:
    """Return the first holders; of a traceback, frames of libraries only where none of the notebook's own has it."""
    own = {holder.place.before for holder in holders if holder.place.own}
    texts = [holder.text for holder in holders if holder.place.own or holder.place.before not in own]
    more = max(len(holders), direct) - len(holders) + len(texts) - MOST_NAMED
    return (*texts[:MOST_NAMED], *([f"{more} more"] if more > 0 else []))
