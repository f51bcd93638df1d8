"""How one array follows from another: another order of axes, a factor, a shift, a coarser dtype, its rows sorted."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from fwmagic.agreement.close import Array, closeness, is_close, roundoff_of, tolerance_of
from fwmagic.format import percent

if TYPE_CHECKING:
    import numpy as np

    Values = np.ndarray[Any, Any]

#: Of larger arrays, nothing is looked for: each look passes over all values.
_MOST_VALUES = 1_000_000
_MOST_AXES = 4
# A factor is known to about six digits of float32, and one that is a whole number or that of a logarithm to these.
_EXACT = 3e-6
# Values are told to be of a coarser dtype if at least this share of the other side's are not.
_MANY = 0.5
# Means of fewer values are not asked about: any whole factor may be meant; and n / (n - 1) of more is 1 in float32.
_LEAST_COUNTED, _MOST_COUNTED = 16, 30_000
_LOGARITHMS = {
    math.log(2): "a natural logarithm against one to base 2",
    math.log(10): "a natural logarithm against one to base 10",
    math.log(2) / math.log(10): "a logarithm to base 2 against one to base 10",
    math.pi / 180: "degrees against radians",
}
# An array of 16 bits is off to one side if its values are by more than one roundoff on the whole, and by so many times
# what chance leaves of the mean of so many roundings at least. The tolerance of wider ones is narrower than this.
_ONE_SIDED, _MANY_ROUNDINGS, _LEAST_OFF = 8, 16, 1e-4
# By so many unit roundoffs, of its own size and of the array's, may a value differ that is found in another place.
_ROUNDOFFS = 4


def relation(a: Array, b: Array, names: tuple[str, str], sizes: Collection[int] = ()) -> str:
    """Return in words how `b` follows from `a`, such as `b is 2 x a everywhere`; an empty string if no way is known.

    `names` are what the two are called. What is said holds for all values, within the tolerance of their dtypes.
    `sizes` are the lengths of axes, or of several together, that may have been summed over: only with one of these a
    factor is told to come from n against n - 1.
    """
    import numpy as np

    if {a.values.dtype.kind, b.values.dtype.kind} - set("iufc") or max(a.values.size, b.values.size) > _MOST_VALUES:
        return ""
    with np.errstate(all="ignore"):
        looks: tuple[Callable[[Array, Array, str, str], Iterator[str]], ...]
        if a.values.shape != b.values.shape:
            looks = (_other_axes, _other_shape, _cropped, _other_order)
        else:
            scale = partial(_other_scale, sizes=sizes)
            looks = (_other_axes, scale, _rounded, _other_function, _moved, _other_order, _at_an_edge)
        return next((words for look in looks for words in look(a, b, *names)), "")


def one_sided(a: Array, b: Array) -> str:
    """Return in words by how much close values of `b` are off on the whole, if rounding does not explain it, or ""."""
    import numpy as np

    least = max(_LEAST_OFF, roundoff_of(a), roundoff_of(b))
    if {a.values.dtype.kind, b.values.dtype.kind} != {"f"} or least > max(tolerance_of(a.dtype), tolerance_of(b.dtype)):
        return ""
    x, y = (one.values.ravel().astype("float64") for one in (a, b))
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    size = float(x @ x)
    if len(x) < _MANY_ROUNDINGS or not size:
        return ""
    factor, added = float(x @ y) / size - 1, float(np.mean(y - x))
    looks = (  # by how much, that as a share of the values, what it leaves unexplained, and the words
        (factor, factor, np.sqrt(np.sum(np.square(y - x * (1 + factor))) / size / len(x)), percent(abs(factor), 2)),
        (added, added / np.sqrt(size / len(x)), np.std(y - x) / np.sqrt(size), f"{abs(added):.2g}"),
    )
    for off, share, chance, words in looks:
        if abs(share) > max(least, _ONE_SIDED * chance):
            return f"{'larger' if off > 0 else 'smaller'} by {words} on the whole"
    return ""


def permutations_of_axes(shape: tuple[int, ...], other: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Yield the orders of axes that make `other` of `shape`, but for the one that they have; of a few axes only."""
    if len(shape) == len(other) <= _MOST_AXES and sorted(shape) == sorted(other):
        for order in itertools.permutations(range(len(shape))):
            if order != tuple(range(len(shape))) and tuple(shape[axis] for axis in order) == other:
                yield order


def _made(a: Array, values: Values) -> Array:
    return replace(a, values=values, shape=values.shape)


def _other_axes(a: Array, b: Array, first: str, second: str) -> Iterator[str]:
    for order in permutations_of_axes(a.values.shape, b.values.shape):
        if is_close(_made(a, a.values.transpose(order)), b):
            how = "transposed" if a.values.ndim == 2 else f"with its axes in the order {order}"
            yield f"{second} is {first} {how}"


def _other_shape(a: Array, b: Array, first: str, second: str) -> Iterator[str]:
    if a.values.size == b.values.size and is_close(_made(a, a.values.reshape(b.values.shape)), b):
        yield f"{second} is {first} in another shape, with the same values in the same order"


def _cropped(a: Array, b: Array, first: str, second: str) -> Iterator[str]:
    """Find the smaller array in the larger one: at its beginning, at its end, or in its middle."""
    if a.values.ndim != b.values.ndim:
        return
    for small, large, inner, outer in ((a, b, first, second), (b, a, second, first)):
        more = [y - x for x, y in zip(small.values.shape, large.values.shape, strict=True)]
        if min(more) >= 0:
            for where, starts in (
                ("beginning", [0] * len(more)),
                ("end", more),
                ("middle", [rest // 2 for rest in more]),
            ):
                part = tuple(slice(s, s + n) for s, n in zip(starts, small.values.shape, strict=True))
                if is_close(_made(large, large.values[part]), small):
                    yield f"{inner} is the {where} of {outer}"


def _rounded(a: Array, b: Array, first: str, second: str) -> Iterator[str]:
    """Find values of float32 or float64 that are those of a coarser dtype, on one side only."""
    import numpy as np

    for name, to_coarse in _COARSE.items():
        coarse = [one.values.dtype.kind == "f" and _is_same(one.values, to_coarse(one.values)) for one in (a, b)]
        if coarse[0] != coarse[1]:
            x, y = to_coarse(a.values), to_coarse(b.values)
            (finer, rounded), held = ((b.values, y), a.values) if coarse[0] else ((a.values, x), b.values)
            # Single values and whole numbers are of any dtype.
            tells = finer.size > 1 and np.mean(finer != rounded) >= _MANY and np.any(held != np.rint(held))
            if tells and is_close(Array(x, x.shape, name), Array(y, y.shape, name)):
                yield f"the values of {second if coarse[1] else first} are rounded to {name}"


def _to_bfloat16(values: Values) -> Values:
    """Round to the upper 16 bits of a float32, to even."""
    import numpy as np

    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    upper: Values = ((bits + (0x7FFF + ((bits >> 16) & 1))) & np.uint32(0xFFFF0000)).astype(np.uint32).view(np.float32)
    return upper


_COARSE: dict[str, Callable[[Any], Any]] = {
    "bfloat16": _to_bfloat16,
    "float16": lambda values: values.astype("float16").astype("float32"),
    "float32": lambda values: values.astype("float32"),
}


def _is_same(values: Values, others: Values) -> bool:
    import numpy as np

    return bool(np.any(values)) and np.array_equal(values, others, equal_nan=True)


def _other_scale(a: Array, b: Array, first: str, second: str, sizes: Collection[int]) -> Iterator[str]:
    """Find a constant factor, or a constant that was added; of a single value, only a factor that tells something."""
    import numpy as np

    x, y = (one.values.ravel() for one in (a, b))
    known = np.isfinite(x) & np.isfinite(y)
    x, y = (one[known].astype("complex128" if one.dtype.kind == "c" else "float64") for one in (x, y))
    if not np.any(x) or x.dtype.kind == "c" or y.dtype.kind == "c":
        return
    factor = float(x @ y / (x @ x))
    words = _factor_in_words(factor, sizes)
    if f"{factor:.6g}" not in ("0", "1") and (len(x) > 1 or words) and is_close(_made(a, a.values * factor), b):
        if factor == -1:
            yield f"{second} is the negative of {first}"
        else:
            yield f"{second} is {factor:.6g} x {first}{' everywhere' if len(x) > 1 else ''}{words}"
    added = float(np.mean(y - x))
    if len(x) > 1 and added and is_close(_made(a, a.values + added), b):
        yield f"{second} is {first} {'+' if added > 0 else '-'} {abs(added):.6g} everywhere"


def _factor_in_words(factor: float, sizes: Collection[int]) -> str:
    """Return what a factor may come from, as a question."""
    for value in (factor, 1 / factor) if factor > 0 else ():
        for known, words in _LOGARITHMS.items():
            if abs(value / known - 1) < _EXACT:
                return f": {words}?"
        if value > _LEAST_COUNTED - 0.5 and abs(value / round(value) - 1) < _EXACT:
            return f": a sum against a mean of {round(value)}?"
        for power in (1, 2):  # of a variance, and of a standard deviation
            for count in sizes:
                if 1 < count <= _MOST_COUNTED and abs(value**power / (count / (count - 1)) - 1) < _EXACT:
                    return f": n against n - 1, with n = {count}?"
    return ""


def _other_function(a: Array, b: Array, first: str, second: str) -> Iterator[str]:
    """Find the two sides of a usual function, such as probabilities and their logarithms."""
    import numpy as np

    if a.values.dtype.kind != "f" or not np.any(a.values != a.values.flat[:1]):  # a single value may become any other
        return
    for function, words in ((np.log, "logarithm"), (np.exp, "exponential"), (np.sqrt, "square root"),
                            (np.square, "square"), (np.reciprocal, "reciprocal")):  # fmt: skip
        if is_close(_made(a, function(a.values)), b):
            yield f"{second} is the {words} of {first}"
    if is_close(_made(a, np.abs(a.values)), _made(b, np.abs(b.values))):
        yield f"{second} is {first} but for signs"


def _moved(a: Array, b: Array, first: str, second: str) -> Iterator[str]:
    """Find an axis along which the values are reversed, or shifted by one place."""
    import numpy as np

    for axis, count in enumerate(a.values.shape):
        if count > 1 and is_close(_made(a, np.flip(a.values, axis)), b):
            yield f"{second} is {first} reversed along axis {axis}"
        if count > 2:
            x, y = np.moveaxis(a.values, axis, 0), np.moveaxis(b.values, axis, 0)
            if is_close(_made(a, x[:-1]), _made(b, y[1:])) or is_close(_made(a, x[1:]), _made(b, y[:-1])):
                yield f"{second} is {first} shifted by one along axis {axis}"


def _other_order(a: Array, b: Array, first: str, second: str) -> Iterator[str]:
    import numpy as np

    x, y = a.values, b.values
    if x.shape == y.shape and closeness(a, b).count < 2:  # another order moves two values at least
        return
    if x.shape == y.shape and x.ndim > 1 and len(x) > 1 and x.dtype.kind != "c":
        # A sum with weights of no pattern tells the rows apart, whatever rounding did to their values.
        weights = np.random.default_rng(0).standard_normal(x[0].size)
        rows = [one.values[np.argsort(one.values.reshape(len(x), -1) @ weights)] for one in (a, b)]
        if _are_rounded(a, b, *rows):
            yield f"{second} has the rows of {first} in another order"
    if x.size == y.size > 1 and _are_rounded(a, b, np.sort(x.ravel()), np.sort(y.ravel())):
        yield f"{second} has the values of {first} in another order"


def _are_rounded(a: Array, b: Array, x: Values, y: Values) -> bool:
    """Say whether values of two arrays differ by rounding each: in sorted ones, a tolerance hides one that is gone."""
    import numpy as np

    wide = "complex128" if "c" in x.dtype.kind + y.dtype.kind else "float64"
    if not {x.dtype.kind, y.dtype.kind} & set("fc"):
        return np.array_equal(x, y)
    x, y = x.astype(wide), y.astype(wide)
    sizes = np.abs(x)
    scale = float(np.sqrt(np.mean(np.square(sizes), where=np.isfinite(sizes))))
    near = np.abs(x - y) <= _ROUNDOFFS * max(map(roundoff_of, (a, b))) * (sizes + scale)
    return bool(np.all((x == y) | (np.isfinite(sizes) & near) | (np.isnan(x) & np.isnan(y))))


def _at_an_edge(a: Array, b: Array, first: str, second: str) -> Iterator[str]:
    """Find that all but the ends of one axis is equal, or of every axis."""
    for axes in [*((axis,) for axis in range(a.values.ndim)), tuple(range(a.values.ndim))]:
        if all(a.values.shape[axis] > 2 for axis in axes):
            part = tuple(slice(1, -1) if axis in axes else slice(None) for axis in range(a.values.ndim))
            if axes and is_close(_made(a, a.values[part]), _made(b, b.values[part])):
                where = "the edges" if len(axes) == a.values.ndim > 1 else f"the ends of axis {axes[0]}"
                yield f"{second} is {first} but for {where}"
