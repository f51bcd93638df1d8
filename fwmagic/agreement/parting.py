"""Where the courses of two runs part: the first lines from which no later value is the same in both."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from fwmagic.agreement.close import Array, closeness, is_close, tolerance_of
from fwmagic.agreement.relation import permutations_of_axes
from fwmagic.cells.course import Course, Visit

if TYPE_CHECKING:
    import numpy as np

# So many lines after the first one that parts are looked at for a better counterpart.
_WINDOW = 12
# Of the results of a line, such as the parameters that an optimizer changed, so many are looked at.
_MOST_RESULTS = 8
# What a line costs as the counterpart of another: a shape, a number of axes, and a call that are not the same.
_OTHER_SHAPE, _OTHER_AXES, _OTHER_CALL = 4.0, 6.0, 3.0
# Values that are as near as this were worked out in two ways; and nearer by such a factor than the line that stood in
# their place.
_NEAR, _NEARER = 2e-3, 0.1
# XLA takes smaller numbers for zero. A mask that is added has zeros, and a value that is at least so large.
_TINY, _FILL = 1.2e-38, 1e4


@dataclass(frozen=True)
class Side:
    """One side of a parting: the execution of a line, how many times it ran before, and what it made."""

    visit: Visit
    before: int
    array: Array


@dataclass(frozen=True)
class Parting:
    """The first pair of lines that part, of the one run and of the other."""

    one: Side
    other: Side


def parting(one: Course, other: Course) -> Parting | None:
    """Return the first lines of two runs after which they part; None: what has a counterpart is the same.

    A value has a counterpart if the other run has one of its shape, dtype and values, up to the order of axes where
    the shapes differ, and a mask also if it says the opposite. A line whose result has none still does not part if
    later values depend on it that have one: it is then a step of another way to work out the same. Of the lines
    that do part, the first of each run are a pair; the counterpart of a line may also be one that goes less far, or
    the end of several that work out the same step.
    """
    a, b = _Matched(one, other), _Matched(other, one)
    first, second = a.apart(), b.apart()
    if not (first or second) or not one.visits or not other.visits:
        return None
    if not first:
        turned = parting(other, one)
        return None if turned is None else Parting(turned.other, turned.one)
    last = _last_together(a, b, first[0].place)
    ours = a.between(last[0], first[0].place)
    theirs = b.between(last[1], second[0].place if second else len(other.visits))
    pairs = [(first[0], stop) for stop in [*theirs, *second[:1]] or [_Stop(b, len(other.visits) - 1)]]
    pairs += [(stop, second[0]) for stop in ours if second]
    order = {stop: place for stops in (ours, theirs) for place, stop in enumerate(stops)}
    ends = {first[0]: len(ours), **{stop: len(theirs) for stop in second[:1]}}
    x, y = min(pairs, key=lambda pair: _cost(*pair) + sum((order | ends).get(stop, 0) for stop in pair))
    x, y = _with_shapes(x, y, first, second)
    x, y = _worked_out(x, y, first, second)
    return Parting(*map(_Stop.side, (x, y), _alike(x, y)))


class _Matched:
    """One run beside another: which of its steps have a counterpart there, and which lines part for good."""

    def __init__(self, course: Course, other: Course) -> None:
        self.course = course
        found = _Finder(other)
        self.partners = [found.partner(step.array) for step in course.steps]
        self._together = [False] * len(course.steps)
        children: defaultdict[int, list[int]] = defaultdict(list)
        for place, step in enumerate(course.steps):
            for source in step.made_from:
                children[source].append(place)
        tells = [
            partner is not None and _tells(step.array)
            for step, partner in zip(course.steps, self.partners, strict=True)
        ]
        for place in reversed(range(len(course.steps))):
            later = any(tells[child] or self._together[child] for child in children[place] if child > place)
            self._together[place] = later
        self.parts = [
            partner is None and not later for partner, later in zip(self.partners, self._together, strict=True)
        ]

    def apart(self) -> list[_Stop]:
        """Return the visits whose own results part, in the order in which they began to.

        A result that is passed on counts where it was made, and a line that calls functions of the user began to part
        before these did if what it gave to them does.
        """
        seen: set[int] = set()
        found: list[tuple[int, int]] = []
        for place, visit in enumerate(self.course.visits):
            own = [result for result in visit.results if self.parts[result] and result not in seen]
            if own:
                found.append((min(own + [step for step in visit.made if self.parts[step]]), place))
            seen.update(visit.results)
        return [_Stop(self, place) for _, place in sorted(found)][: _WINDOW + 1]

    def between(self, last: int, end: int) -> list[_Stop]:
        """Return the visits between two whose results do not part."""
        stops = range(last + 1, end)
        visits = self.course.visits
        return [_Stop(self, place) for place in stops if not any(self.parts[one] for one in visits[place].results)]


@dataclass(frozen=True)
class _Stop:
    """A visit by its place in a run."""

    run: _Matched
    place: int

    @property
    def visit(self) -> Visit:
        """The visit itself."""
        return self.run.course.visits[self.place]

    @property
    def arrays(self) -> list[Array]:
        """The results of the visit, only those that part if there are such."""
        parts = [result for result in self.visit.results if self.run.parts[result]]
        return [self.run.course.steps[result].array for result in parts or self.visit.results]

    @property
    def calls(self) -> set[str]:
        """The names of the calls of the visit whose values part; all that were made, if none does."""
        parts = {word for step, word in self.visit.made.items() if self.run.parts[step]}
        return (parts or self.visit.words) - {""}

    def side(self, array: Array) -> Side:
        """Return what is said of the visit, and of one of its results."""
        spot = self.visit.spot
        return Side(self.visit, sum(one.spot == spot for one in self.run.course.visits[: self.place]), array)


def _alike(x: _Stop, y: _Stop) -> tuple[Array, Array]:
    """Return a result of each of two visits, the two that are most alike."""
    pairs = ((a, b) for a in x.arrays[:_MOST_RESULTS] for b in y.arrays[:_MOST_RESULTS])
    return min(pairs, key=lambda pair: _unlike(*pair))


def _unlike(a: Array, b: Array) -> float:
    """Return how little two arrays look like counterparts of each other."""
    x, y = _core(a), _core(b)
    shape = 0.0 if sorted(x.shape) == sorted(y.shape) else _OTHER_SHAPE
    return (shape if x.ndim == y.ndim else _OTHER_AXES) + min(_distance(a, b), 1.0)


def _last_together(a: _Matched, b: _Matched, before: int) -> tuple[int, int]:
    """Return the last visits before one of `a` that have the same results in both runs; -1: there are none."""
    results: dict[int, int] = {}
    for place, visit in enumerate(b.course.visits):
        for result in visit.results:
            results.setdefault(result, place)
    for place in range(before - 1, -1, -1):
        found = [a.partners[result] for result in a.course.visits[place].results]
        partners = [results[partner] for partner in found if partner is not None and partner in results]
        if partners:
            return place, max(partners)
    return -1, -1


def _cost(x: _Stop, y: _Stop) -> float:
    """Return how little two visits look like counterparts of each other."""
    return _unlike(*_alike(x, y)) + _OTHER_CALL * (not _same_call(x, y))


def _same_call(x: _Stop, y: _Stop) -> bool:
    """Say whether two visits call functions of one name, or of which one begins as the other does."""
    return any(
        one == other or (min(len(one), len(other)) > 2 and (one.startswith(other) or other.startswith(one)))
        for one in x.calls
        for other in y.calls
    )


def _with_shapes(x: _Stop, y: _Stop, first: Sequence[_Stop], second: Sequence[_Stop]) -> tuple[_Stop, _Stop]:
    """Return the pair, or the first one of one shape if these two cannot be counterparts at all."""
    if _unlike(*_alike(x, y)) < _OTHER_AXES or _same_call(x, y):
        return x, y
    fits = [
        (i + j, i, j)
        for i, p in enumerate(first)
        for j, q in enumerate(second)
        if _unlike(*_alike(p, q)) < _OTHER_SHAPE
    ]
    if not fits:
        return x, y
    _, i, j = min(fits)
    return first[i], second[j]


def _worked_out(x: _Stop, y: _Stop, first: Sequence[_Stop], second: Sequence[_Stop]) -> tuple[_Stop, _Stop]:
    """Return the pair, or one with the end of several lines that work out what is one call on the other side."""
    if _same_call(x, y):
        return x, y
    near = min(_NEAR, _NEARER * _distance(*_alike(x, y)))
    others = [(x, q) for q in second if q.place > y.place] + [(p, y) for p in first if p.place > x.place]
    fits = [(_distance(*_alike(p, q)), p.place + q.place, (p, q)) for p, q in others if not _same_call(p, q)]
    best = min(fits, key=lambda fit: fit[:2], default=None)
    return best[2] if best is not None and best[0] <= near else (x, y)


def _distance(a: Array, b: Array) -> float:
    """Return the root mean square of the difference over that of the first, up to a factor; infinite: other shapes."""
    import numpy as np

    x, y = _core(a), _core(b)
    if {x.dtype.kind, y.dtype.kind} - set("iufb"):
        return math.inf
    orders = [tuple(range(x.ndim))] if x.shape == y.shape else list(permutations_of_axes(x.shape, y.shape))
    best = math.inf
    q = np.nan_to_num(y.astype("float64"), posinf=0.0, neginf=0.0)
    for order in orders:
        p = np.nan_to_num(x.astype("float64"), posinf=0.0, neginf=0.0).transpose(order)
        size = float(np.sqrt(np.mean(p * p)))
        if size:
            best = min(best, float(np.sqrt(np.mean((p - q) ** 2))) / size)
    return best


# Counterparts


def _core(one: Array) -> np.ndarray[Any, Any]:
    """Return the values of an array without its axes of length 1."""
    return one.values.squeeze()


def _tells(one: Array) -> bool:
    """Say whether a counterpart tells that what it was made from is the same: flags, masks and constants do not."""
    return one.values.dtype.kind in "fc" and _other_values(one.values) > 1


@dataclass
class _Finder:
    """The arrays of a run, to be found by shape and values: its steps by their places, what it was given as -1."""

    course: Course
    _by_shape: dict[tuple[int, ...], list[tuple[int, Array, float]]] = field(default_factory=dict)
    _masks: dict[tuple[tuple[int, ...], bytes], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        given = ((-1, one) for one in self.course.given)
        for place, one in [*given, *((place, step.array) for place, step in enumerate(self.course.steps))]:
            self._by_shape.setdefault(tuple(sorted(_core(one).shape)), []).append((place, one, _size(one)))
            for key in _mask_keys(one):
                self._masks.setdefault(key, place)

    def partner(self, one: Array) -> int | None:
        """Return the place of the first step that is the counterpart of an array; -1 if only what was given is one."""
        size, given = _size(one), None
        for place, other, theirs in self._by_shape.get(tuple(sorted(_core(one).shape)), []):
            # If the values are close, so are their sizes: that costs nothing to compare.
            within = 3 * max(tolerance_of(one.dtype), tolerance_of(other.dtype))
            if math.isclose(size, theirs, rel_tol=within, abs_tol=_TINY) and _are_counterparts(one, other):
                if place >= 0:
                    return place
                given = -1
        masks = (self._masks[key] for key in _mask_keys(one) if key in self._masks)
        return next(masks, given)


def _size(one: Array) -> float:
    """Return the root mean square of what is finite; of text, nothing."""
    import numpy as np

    if one.values.dtype.kind not in "biufc":
        return 0.0
    sizes = np.abs(one.values).astype("float64").ravel()
    sizes = sizes[np.isfinite(sizes)]
    top = sizes.max(initial=0.0)
    return float(top * np.sqrt(np.mean(np.square(sizes / top)))) if top else 0.0


def _are_counterparts(a: Array, b: Array) -> bool:
    kinds = a.values.dtype.kind + b.values.dtype.kind
    if a.dtype != b.dtype and not (set(kinds) <= set("iu")):
        return False
    x, y = (replace(one, values=_core(one), shape=_core(one).shape) for one in (a, b))
    if x.shape == y.shape:
        return not closeness(x, y).count
    return any(
        is_close(replace(x, values=x.values.transpose(order), shape=y.shape), y)
        for order in permutations_of_axes(x.shape, y.shape)
    )


def _mask_keys(one: Array) -> Iterator[tuple[tuple[int, ...], bytes]]:
    """Yield a key for where an array of two values has the one, and a key for where it has the other."""
    import numpy as np

    values = _core(one)
    if values.dtype.kind not in "biuf" or _other_values(values) != 1:
        return
    size = max(abs(float(values.min())), abs(float(values.max())))
    if not (values == 0).any() or not (size == 1 or size >= _FILL):
        return
    kept = values == 0
    yield values.shape, np.packbits(kept).tobytes()
    yield values.shape, np.packbits(~kept).tobytes()


def _other_values(values: np.ndarray[Any, Any]) -> int:
    """Return how many values there are besides the first one, at most 2."""
    if not values.size:
        return 0
    rest = values[values != values.flat[0]]
    return 0 if not rest.size else 1 + bool((rest != rest.flat[0]).any())
