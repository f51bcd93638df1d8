"""What holds a replaced object gets the new one; what cannot change, such as a tuple, is made anew for that."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from fwmagic.cells.walk import Entry


def put_in_place(entries: Sequence[Entry], new: Mapping[int, Any]) -> None:
    """Write `new[id(value)]` over each value in all entries, which must hold what they held at the walk."""
    replaced = rebuilt(entries, new)
    for entry in entries:
        if entry.kind is not None and entry.kind.mutable:
            values = [replaced.get(id(value), value) for value in entry.values]
            if any(value is not old for value, old in zip(values, entry.values, strict=True)):
                entry.kind.write(entry.target, entry.keys, values)


def rebuilt(entries: Sequence[Entry], new: Mapping[int, Any]) -> dict[int, Any]:
    """Return `new` with an object for each immutable one that holds a replaced one, at any depth."""
    immutable = [entry for entry in entries if entry.kind is not None and not entry.kind.mutable]
    holders: defaultdict[int, list[Entry]] = defaultdict(list)
    for entry in immutable:
        for value in entry.values:
            holders[id(value)].append(entry)
    # Upwards from what is replaced, to learn how many values of each holder have to be rebuilt before it.
    waits: Counter[int] = Counter()
    ready = list(new)
    reached = set(new)
    while ready:
        for holder in holders[ready.pop()]:
            waits[id(holder.target)] += 1
            if id(holder.target) not in reached:
                reached.add(id(holder.target))
                ready.append(id(holder.target))
    made = dict(new)
    ready = list(new)
    while ready:
        for holder in holders[ready.pop()]:
            ident = id(holder.target)
            waits[ident] -= 1
            if not waits[ident] and ident not in new and holder.kind is not None:
                values = [made.get(id(value), value) for value in holder.values]
                made[ident] = holder.kind.rebuild(holder.target, values)
                ready.append(ident)
    return made
