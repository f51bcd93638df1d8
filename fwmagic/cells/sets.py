"""Sets: their elements in the order that they are in, and where `pop` goes on, which depends on earlier ones."""

from __future__ import annotations

import ctypes
import operator
from collections.abc import Sequence
from itertools import islice
from typing import Any, Final

_WORD = ctypes.sizeof(ctypes.c_ssize_t)
# A place has a hash and an address; a set has so many inside of itself, and more in a table of their own.
_PLACE, _LEAST_PLACES = 2 * _WORD, 8
# Before these places a set keeps: how many of all its places were ever taken, and are; the last of them; where they
# begin; a hash; and the place where `pop` goes on, which outlives a `clear`. Python offers no way to set that, nor the
# order of the elements, which depends on all that was ever put in and taken out.
_CURSOR: Final = set.__weakrefoffset__ - _LEAST_PLACES * _PLACE - _WORD
_TABLE, _LAST, _FILLED = _CURSOR - 2 * _WORD, _CURSOR - 3 * _WORD, _CURSOR - 5 * _WORD


class Elements(list[Any]):
    """The elements of a set in their order, what is in its places, and where `pop` looks for the `first` to take."""

    places = b""
    filled = cursor = 0
    first: Any = None


def elements_of(target: set[Any]) -> Elements:
    """Return the elements of a set."""
    elements = Elements(set.__iter__(target))
    if _IS_KNOWN:
        elements.places = ctypes.string_at(_word(target, _TABLE).value, _size(target))
        elements.filled = _word(target, _FILLED).value
        elements.cursor = _word(target, _CURSOR).value
        elements.first = _taken_first(elements) if elements.cursor else next(iter(elements), None)
    return elements


def same_elements(before: Sequence[Any], now: Sequence[Any]) -> bool:
    """Say whether these are the same elements, in the same order where that can be put back."""
    if isinstance(before, Elements) and isinstance(now, Elements) and _IS_KNOWN:
        same = len(before) == len(now) and all(map(operator.is_, before, now))
        return same and before.first is now.first
    return len(before) == len(now) and set(map(id, before)) == set(map(id, now))


def refill(target: set[Any], elements: Sequence[Any]) -> None:
    """Make a set hold these, each in the place where it was.

    They are put into a table of as many places as there were, in whatever order; then the places are written over by
    those that were saved, which hold the very same elements.
    """
    set.clear(target)
    if not isinstance(elements, Elements) or not elements.places:
        set.update(target, elements)
        return
    places = len(elements.places) // _PLACE
    # Filled in one go, a set makes a table of the least power of two that is more than twice of what it is to hold.
    least = 0 if places == _LEAST_PLACES else 5 * places // 16
    others = [object() for _ in range(least - len(elements))]
    set.update(target, {*islice(elements, least), *others})
    for element in islice(elements, least, None):
        set.add(target, element)
    for one in others:
        set.discard(target, one)
    if len(target) == len(elements) and _size(target) == len(elements.places):
        ctypes.memmove(_word(target, _TABLE).value, elements.places, len(elements.places))
        _word(target, _FILLED).value = elements.filled
        _word(target, _CURSOR).value = elements.cursor


def _word(target: set[Any], offset: int) -> ctypes.c_ssize_t:
    return ctypes.c_ssize_t.from_address(id(target) + offset)


def _size(target: set[Any]) -> int:
    """Return how many bytes the places of a set have."""
    return (_word(target, _LAST).value + 1) * _PLACE


def _taken_first(elements: Elements) -> Any:
    """Return the element that `pop` would take, or None if there is none."""
    places, held = memoryview(elements.places).cast("P")[::2].tolist(), {id(element): element for element in elements}
    start = elements.cursor % len(places)
    return next((held[place] for place in places[start:] + places[:start] if place in held), None)


def _is_known() -> bool:
    """Say whether a set is laid out as said here: a Python to come may have another way."""
    probe = {*"a"}
    probe |= {*"bcdefghijk"}
    before = [_word(probe, offset).value for offset in (_FILLED, _FILLED + _WORD, _LAST, _CURSOR)]
    probe.pop()
    after = [_word(probe, offset).value for offset in (_FILLED, _FILLED + _WORD, _LAST)]
    return before == [11, 11, 31, 0] and after == [11, 10, 31] and _word(probe, _CURSOR).value > 0


_IS_KNOWN: Final = _is_known()
