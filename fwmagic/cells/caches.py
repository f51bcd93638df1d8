"""The caches of `functools.lru_cache`: what they hold, whether that has changed, and private copies of them."""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from fwmagic.cells.kinds import same_contents

#: The type of a function with a cache.
Cached = type(functools.cache(len))


class Cache:
    """The cache of a function, as it is now; `empty`: as it was when the function was made.

    Python offers no way to put a cache back, or to read it but through its garbage collector; so measured runs get a
    `copy` of their own. Where another Python keeps its caches in another way, they count as unreadable.
    """

    def __init__(self, function: Any, empty: bool = False) -> None:
        self.function = function
        self._held = [] if empty else _contents(function)

    def changed(self) -> bool:
        """Say whether it holds anything else now."""
        now = _contents(self.function)
        return now is not None and not _same_pairs(self._held or [], now)

    def copy(self) -> CachedCopy | None:
        """Return a function of its own that starts with what this cache held, or None if there can be none."""
        parameters = self.function.cache_parameters()
        if self._held is None:
            return None
        return CachedCopy(self.function, parameters, [(*_arguments(self.function, key), v) for key, v in self._held])


class CachedCopy:
    """A private copy of `original`, a function with a cache; `restore` makes the cache hold what it held at first."""

    def __init__(self, original: Any, parameters: dict[str, Any], held: Sequence[tuple[Any, Any, Any]]) -> None:
        self.original = original
        self._held = held
        self._fill: list[Any] = []
        self.function = functools.lru_cache(**parameters)(self._computing(original.__wrapped__))
        vars(self.function).update(vars(original))
        self.restore()
        self._start = Cache(self.function)

    def changed(self) -> bool:
        """Say whether the cache holds anything else than at first."""
        return self._start.changed()

    def restore(self) -> None:
        """Make the cache hold what it held at first, in the same order."""
        self.function.cache_clear()
        for arguments, keywords, result in self._held:
            self._fill.append(result)
            self.function(*arguments, **keywords)
        self._start = Cache(self.function)

    def _computing(self, function: Callable[..., Any]) -> Callable[..., Any]:
        if not self._held:
            return function
        fill = self._fill

        @functools.wraps(function)
        def compute(*arguments: Any, **keywords: Any) -> Any:
            return fill.pop() if fill else function(*arguments, **keywords)

        return compute


def _contents(function: Any) -> list[tuple[Any, Any]] | None:
    """Return keys and results, the oldest first; None if they cannot be read."""
    found = _parts(function)
    if found is None:
        return None
    links, table, _ = found
    if function.cache_parameters()["maxsize"] is None:
        return list(table.items())
    return list(zip(links[::3], links[1::3], strict=True)) if len(links) == 3 * len(table) else None


def _parts(function: Any) -> tuple[list[Any], dict[Any, Any], Any] | None:
    """Return what a bounded cache links together (key, result, type, …), its table, and what marks keywords in keys."""
    held = gc.get_referents(function)
    tables = [i for i, value in enumerate(held) if type(value) is dict and value is not vars(function)]
    if not tables or len(held) < tables[-1] + 3:
        return None
    place = tables[-1]  # a dict before it is a key or a result
    return held[1:place], held[place], held[place + 2]


def _arguments(function: Any, key: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments that a cache has made a key of."""
    found = _parts(function)
    if type(key) is not tuple or found is None:
        return (key,), {}
    place = next((i for i, value in enumerate(key) if value is found[2]), None)
    typed = function.cache_parameters()["typed"]  # then the types of all arguments follow
    if place is None:
        return key[: len(key) // 2] if typed else key, {}
    rest = key[place + 1 :]
    pairs = (len(rest) - place) // 3 if typed else len(rest) // 2
    return key[:place], dict(zip(rest[: 2 * pairs : 2], rest[1 : 2 * pairs : 2], strict=True))


def _same_pairs(left: Sequence[tuple[Any, Any]], right: Sequence[tuple[Any, Any]]) -> bool:
    return len(left) == len(right) and all(map(same_contents, left, right))


def copies_of(caches: Iterable[Cache]) -> list[CachedCopy]:
    """Return private copies of the caches that can be copied."""
    return [copy for cache in caches if (copy := cache.copy()) is not None]
