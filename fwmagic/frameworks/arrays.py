"""NumPy's arrays, which every framework can give: told from other values, copied to a page, seen in a few numbers."""

from __future__ import annotations

import ctypes
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np

_PAGE = 4096
# Of an array, so many numbers are looked at in one go for the first that is not finite.
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Spread:
    """The least, mean and largest of an array's numbers; `odd` is its first NaN or Inf, and `at` the place of that."""

    low: float
    mean: float
    high: float
    odd: float | None = None
    at: tuple[int, ...] | None = None


def aligned_copy(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return a contiguous copy that begins on a page, so that no variant has an input at a luckier address.

    Its order is C, or Fortran's if that is the array's own.
    """
    import numpy as np

    room = np.empty(array.nbytes + _PAGE, np.uint8)
    start = -room.__array_interface__["data"][0] % _PAGE
    order: Literal["C", "F"] = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
    copy = np.ndarray(array.shape, array.dtype, room, start, order=order)
    copy[...] = array
    return copy


def memory_between(low: int, high: int) -> np.ndarray[Any, Any]:
    """Return the bytes of this process's memory from one address to another, as a view."""
    import numpy as np

    return np.ctypeslib.as_array((ctypes.c_uint8 * (high - low)).from_address(low))


def sharing(arrays: Sequence[np.ndarray[Any, Any]]) -> list[list[int]]:
    """Return the places of the arrays whose memory overlaps, by group; those that are alone are in none."""
    import numpy as np

    known = [place for place, one in enumerate(arrays) if one.nbytes and not one.dtype.hasobject]
    bounds = {place: np.lib.array_utils.byte_bounds(arrays[place]) for place in known}
    groups: list[list[int]] = []
    end = 0
    for place in sorted(known, key=bounds.__getitem__):
        low, high = bounds[place]
        if low >= end:
            groups.append([])
        groups[-1].append(place)
        end = max(end, high)
    return [sorted(group) for group in groups if len(group) > 1]


def copied_together(
    arrays: Sequence[np.ndarray[Any, Any]], dtypes: Sequence[Any]
) -> tuple[np.ndarray[Any, Any], list[np.ndarray[Any, Any]]] | None:
    """Return a private copy, on a page, of the memory that arrays share, and the arrays as its views, of these dtypes.

    None where the dtypes change and the arrays do not all show the same numbers.
    """
    import numpy as np

    bounds = [np.lib.array_utils.byte_bounds(one) for one in arrays]
    low, high = min(one for one, _ in bounds), max(one for _, one in bounds)
    memory, old, new = memory_between(low, high), 1, 1
    if any(one.dtype != dtype for one, dtype in zip(arrays, dtypes, strict=True)):
        pairs = zip(arrays, dtypes, strict=True)
        kinds = {(np.empty(0, one.dtype).real.dtype, np.empty(0, dtype).real.dtype) for one, dtype in pairs}
        steps = [(one.__array_interface__["data"][0] - low, *one.strides) for one in arrays]
        if len(kinds) > 1 or any(step % min(kinds)[0].itemsize for some in steps for step in some):
            return None
        ((before, after),) = kinds
        old, new = before.itemsize, after.itemsize
        with np.errstate(all="ignore"):
            memory = memory[: len(memory) // old * old].view(before).astype(after)
    block = aligned_copy(memory)
    views = [
        np.ndarray(
            one.shape,
            dtype,
            block,
            (one.__array_interface__["data"][0] - low) // old * new,
            [step // old * new for step in one.strides],
        )
        for one, dtype in zip(arrays, dtypes, strict=True)
    ]
    return block, views


def is_numpy(value: Any) -> bool:
    """Say whether `value` is a NumPy array, without importing NumPy for that."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)


def is_numbers(value: Any) -> bool:
    """Say whether `value` is a NumPy array of numbers, in memory or in a mapped file, and of no other subclass."""
    return is_numpy(value) and type(value).__name__ in ("ndarray", "memmap") and value.dtype.kind in "biufc"


def is_mapped(value: Any) -> bool:
    """Say whether `value` is a NumPy array in a mapped file."""
    return is_numpy(value) and type(value).__name__ == "memmap"


def spread_of_numbers(values: np.ndarray[Any, Any]) -> Spread | None:
    """Return the spread of a NumPy array, which is not copied; None: it is empty, or holds no real numbers."""
    import numpy as np

    if not values.size or not (values.dtype.kind in "biuf" or values.dtype.name == "bfloat16"):
        return None
    with np.errstate(all="ignore"):
        low, mean, high = (float(values.min()), float(values.mean(dtype=_sum_dtype(values))), float(values.max()))
    if math.isfinite(low) and math.isfinite(high):
        return Spread(low, mean, high)
    for start in range(0, values.size, _CHUNK):
        part = values.flat[start : start + _CHUNK]
        odd = np.flatnonzero(~np.isfinite(part))
        if odd.size:
            place = np.unravel_index(start + int(odd[0]), values.shape)
            return Spread(low, mean, high, float(part[odd[0]]), tuple(int(one) for one in place))
    return Spread(low, mean, high)


def _sum_dtype(values: np.ndarray[Any, Any]) -> Any:
    """Return the dtype in which numbers are summed up: a small one would overflow."""
    return "float64" if values.dtype.kind in "biu" or values.dtype.itemsize < 4 else None


# So many units in the last place, at most, is a number off by that was given.
_OFF = 2.7
# So many more take it across a threshold on which it was, whatever roundings come in between.
_CLEARLY = 8.0
# So many numbers of an array are looked at for whether they are those of a grid: each of them there twice on average.
_SAMPLE, _AGAIN = 4096, 2


class Roundings:
    """By what floats are to be multiplied to be off by about one unit in their last place.

    Nobody rounds numbers that the dtype holds with digits to spare: whole ones, halves, quarters. Nor those of a grid,
    such as pixels or labels, which were given: they are the same numbers for everyone, and a threshold may be one of
    them. Both stay as they are, unless `every` number is to be off, by some more units, and by other ones for another
    `every`. `computes`: from now on, what comes was computed from what has been given. The last place is that of floats
    of another relative `spacing`, if that is larger.
    """

    def __init__(self, every: int = 0, spacing: float = 0.0) -> None:
        import numpy as np

        self.computes = False
        self._every = every
        self._spacing = spacing
        self._grids: list[np.ndarray[Any, Any]] = []
        self._chance = np.random.default_rng(0)

    def factors(self, numbers: np.ndarray[Any, Any], eps: float) -> Any:
        """Return the factors of some numbers; `eps` is of their dtype.

        What was given is off by the same chance always, all to one side, and on the whole by no whole number of units:
        what is taken off them, such as their mean, is to be rounded in another way, too. What was computed is off to
        either side.
        """
        import numpy as np

        eps = max(eps, self._spacing)
        digits = round(-math.log2(eps))
        with np.errstate(all="ignore"):
            steps = numbers.astype("float64") * 2.0 ** (digits // 4)
            still = (steps == np.rint(steps)) & (np.abs(numbers) < 2.0**digits)
        if self.computes:
            for grid in self._grids:
                still |= np.isin(numbers, grid)
            return np.where(still, 1.0, 1 + eps * self._chance.uniform(-1, 1, numbers.shape))
        noise = _OFF * np.random.default_rng(self._every).random(numbers.shape, dtype=np.float32)
        if self._every:
            return 1 + eps * (_CLEARLY + noise)
        some = numbers[~still]
        grid = np.unique(some[:: max(len(some) // _SAMPLE, 1)])
        if _AGAIN * len(grid) <= min(len(some), _SAMPLE):
            self._grids.append(grid)
            return np.ones(numbers.shape)
        return np.where(still, 1.0, 1 + eps * noise)

    def off(self, numbers: Any) -> Any:
        """Return floats of NumPy that are off."""
        import numpy as np

        factors = self.factors(np.asarray(numbers), float(np.finfo(numbers.dtype).eps))
        return (numbers * factors).astype(numbers.dtype)
