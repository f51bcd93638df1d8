"""Arrays of any library as values, and whether two of them are close: the tolerances, and how far they are apart."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fwmagic.libraries import module_of

if TYPE_CHECKING:
    import numpy as np

#: The relative tolerance of a dtype, by the beginning of its name. 1e-7 for float64 is that of
#: `torch.testing.assert_close`. For float32 its 1.3e-6 is too tight for sums that two libraries add up in
#: different orders: with n terms the error grows like sqrt(n) unit roundoffs u = 6e-8 (Higham and Mary, "A new
#: approach to probabilistic rounding error analysis", SIAM J. Sci. Comput. 41, 2019), here for n = 10^6. Arrays of
#: 16 bits are added up in float32 and rounded a few times, hence 8 u, 2 to 4 times the tolerances of `assert_close`.
TOLERANCES = {
    "float64": 1e-7,
    "complex128": 1e-7,
    "float32": 6e-5,
    "complex64": 6e-5,
    "float16": 4e-3,
    "complex32": 4e-3,
    "bfloat16": 3.2e-2,
    "float8": 0.25,
}
_FINEST = 1e-7
# A mask such as -1e9 says nothing about rounding: a magnitude that fills so many places, and this share of an
# array, and is so many times larger than all others, is left out of the array's scale.
_FILL_COUNT, _FILL_SHARE, _FILL_FACTOR = 8, 0.1, 1e3
# A value is hidden by the scale of its array if it differs by more than this share of its own size, or so many times
# the tolerance, and by more than rounding explains: so many times what differs in the large values, those of more than
# this share of the scale, and so many unit roundoffs of the largest one.
_HIDDEN, _HIDDEN_TOLERANCES = 0.01, 10
_HIDDEN_NOISE, _LARGE, _HIDDEN_ROUNDOFFS = 10, 0.1, 4
# What rounding leaves of larger values is no number: two such arrays differ by more than this share of themselves.
_ALIKE = 0.1
# What is at its fixed point still moves by so many unit roundoffs of the largest value, at most.
_FEW_ROUNDOFFS = 8
# The unit roundoff of a dtype, by the beginning of its name; of others that of float64.
_ROUNDOFF = {
    **dict.fromkeys(("float32", "complex64"), 2.0**-24),
    **dict.fromkeys(("float16", "complex32"), 2.0**-11),
    "bfloat16": 2.0**-8,
    "float8": 2.0**-3,
}

ToNumpy = Callable[[Any], "np.ndarray[Any, Any] | None"]


class UnreadableError(Exception):
    """A value that cannot be compared, and why."""


@dataclass(frozen=True)
class Array:
    """The values of an array, and how its library describes it; `library` is that library's package."""

    values: np.ndarray[Any, Any]
    shape: tuple[int, ...]
    dtype: str
    library: str = ""


@dataclass(frozen=True)
class Closeness:
    """How many values of two arrays are not close, and the first one's index and tolerance (0: exact).

    `used` is the largest share of its tolerance that a value which is close makes use of. `largest` is the largest
    difference of values that are not close and finite on both sides, and `worst` is where it is; `relative` is the
    largest difference of such values over the larger one of the two (0: none is finite on both sides, or no number).
    Where all floats are close, `largest` is of those that are not equal, and `relative` is what it is of that value.
    `hidden` are values that are close only because the array holds far larger ones.
    """

    count: int
    index: tuple[int, ...]
    tolerance: float
    used: float
    largest: float = 0.0
    relative: float = 0.0
    worst: tuple[int, ...] = ()
    hidden: Hidden | None = None


@dataclass(frozen=True)
class Hidden:
    """How many values differ by more than rounding explains, the worst one's index and difference over its own size.

    `scale` is how many times larger the scale of the array is than that value.
    """

    count: int
    index: tuple[int, ...]
    relative: float
    scale: float


def array(value: Any, to_numpy: ToNumpy) -> Array | None:
    """Return an array, a NumPy scalar, or a variable that holds an array; None for anything else.

    Raises
    ------
    UnreadableError
        It is an array whose values cannot be had or compared, such as a donated one.
    """
    if isinstance(value, type):
        return None
    try:
        values = to_numpy(value)
    except (RuntimeError, TypeError, ValueError) as error:
        raise UnreadableError(f"its values cannot be read: {error}") from error
    numpy = sys.modules.get("numpy")
    if values is None and numpy is not None and isinstance(value, numpy.generic):
        values = numpy.asarray(value)
    if values is None:
        return None
    shape = value.shape if hasattr(value, "shape") else values.shape
    kind = getattr(value, "dtype", values.dtype)
    dtype = str(getattr(kind, "name", kind)).rpartition(".")[2]  # torch.float32
    if values.dtype.kind == "V" and dtype.startswith(("float", "int", "uint")):  # 4 and 8 bits, unknown to NumPy
        values = values.astype("float32" if dtype.startswith("float") else "int16")
    if values.dtype.kind in "OV":
        raise UnreadableError(f"arrays of dtype {dtype} cannot be compared")
    return Array(values, tuple(shape), dtype, module_of(type(value)).partition(".")[0])


def closeness(a: Array, b: Array) -> Closeness:
    """Compare the values of two arrays of one shape; `agreement.agree` states the rule."""
    import numpy as np

    # Only values that are not equal cost more than this one comparison; a NaN equals nothing.
    places = np.flatnonzero(~np.asarray(a.values == b.values))
    tolerance, used, hidden, farthest = np.zeros(len(places)), 0.0, None, (0.0, 0.0)
    if len(places) and a.values.dtype.kind in "fc":
        is_complex = a.values.dtype.kind == "c"
        x, y = (each.values.ravel()[places].astype("complex128" if is_complex else "float64") for each in (a, b))
        with np.errstate(all="ignore"):
            sizes = np.abs(x)
            sizes[~np.isfinite(sizes)] = 0.0
            relative = max(tolerance_of(a.dtype), tolerance_of(b.dtype))
            # The smallest normal number, because XLA takes smaller ones for zero and torch does not.
            scale = _scale(a.values)
            tolerance = relative * sizes + (relative * scale + float(np.finfo(np.float32).tiny))
            far = np.zeros(len(places), dtype=bool)
            for p, q in ((x.real, y.real), (x.imag, y.imag)) if is_complex else ((x, y),):
                share = np.abs(p - q) / tolerance
                close = share <= 1
                used = max(used, float(np.max(share, where=close, initial=0.0)))
                left = np.flatnonzero(~close)
                far[left] |= ~((p[left] == q[left]) | (np.isnan(p[left]) & np.isnan(q[left])))
            roundoff = max(map(roundoff_of, (a, b)))
            if not far.any():
                apart, larger = np.abs(x - y), np.maximum(sizes, np.abs(y))
                hidden = _hidden(a.values, places, apart, larger, scale, relative, roundoff)
                worst = int(np.argmax(np.where(np.isfinite(apart), apart, -1.0)))
                farthest = (float(apart[worst]), float(apart[worst] / larger[worst])) if used else farthest
        places, tolerance = places[far], tolerance[far]
    if not len(places):
        return Closeness(0, (), 0.0, used, *farthest, hidden=hidden)
    index, *_ = _indices(places[:1], a.values.shape)
    return Closeness(len(places), index, float(tolerance[0]), used, *_farthest(a, b, places))


def _hidden(
    values: np.ndarray[Any, Any],
    places: np.ndarray[Any, Any],
    apart: np.ndarray[Any, Any],
    sizes: np.ndarray[Any, Any],
    scale: float,
    tolerance: float,
    roundoff: float,
) -> Hidden | None:
    """Return which values, of those that differ by `apart` and are of these sizes, the scale of their array hides.

    Where large values cancel, small ones carry their rounding errors, and so do the large ones themselves: what is far
    beyond that is no rounding.
    """
    import numpy as np

    noise = float(np.max(apart, where=np.isfinite(apart) & (sizes >= _LARGE * scale), initial=0.0))
    top = float(np.max(np.abs(values), where=np.isfinite(values), initial=0.0))
    least = max(_HIDDEN_NOISE * noise, _HIDDEN_ROUNDOFFS * roundoff * top)
    shares = apart / sizes
    found = np.flatnonzero((shares > max(_HIDDEN, _HIDDEN_TOLERANCES * tolerance)) & (apart > least))
    if not len(found):
        return None
    worst = int(found[np.argmax(shares[found])])
    (index,) = _indices(places[[worst]], values.shape)
    return Hidden(len(found), index, float(shares[worst]), scale / float(sizes[worst]))


def is_close(a: Array, b: Array) -> bool:
    """Say whether two arrays have one shape, and values that are all close."""
    return a.values.shape == b.values.shape and not closeness(a, b).count


def is_residue(a: Array, b: Array, top: float) -> bool:
    """Say whether all values of two arrays are as small as what rounding leaves where values of size `top` cancel.

    What is as small, but nearly the same on both sides, was meant to be.
    """
    import numpy as np

    if {a.values.dtype.kind, b.values.dtype.kind} - set("fc"):
        return False
    x, y = (one.values.astype("complex128") for one in (a, b))
    largest = float(max(np.abs(x).max(initial=0.0), np.abs(y).max(initial=0.0)))
    small = largest <= _HIDDEN_ROUNDOFFS * max(map(roundoff_of, (a, b))) * top
    return small and float(np.abs(x - y).max(initial=0.0)) > _ALIKE * largest


def is_rounded(a: Array, b: Array) -> bool:
    """Say whether what two arrays differ by is a few roundings of their largest value, at most."""
    import numpy as np

    if a.values.shape != b.values.shape or {a.values.dtype.kind, b.values.dtype.kind} - set("fc"):
        return False
    x, y = (one.values.astype("complex128") for one in (a, b))
    return bool(np.abs(x - y).max(initial=0.0) <= _FEW_ROUNDOFFS * roundoff_of(a) * np.abs(x).max(initial=0.0))


def roundoff_of(one: Array) -> float:
    """Return the unit roundoff of an array's dtype: of anything but floats that of float64."""
    return _by_name(_ROUNDOFF, one.dtype, 2.0**-53)


def _farthest(a: Array, b: Array, places: np.ndarray[Any, Any]) -> tuple[float, float, tuple[int, ...]]:
    """Return the largest difference at some places of the flat arrays, the largest relative one, and where it is."""
    import numpy as np

    if {a.values.dtype.kind, b.values.dtype.kind} - set("iufc"):
        return 0.0, 0.0, ()
    wide = "complex128" if "c" in a.values.dtype.kind + b.values.dtype.kind else "float64"
    x, y = (each.values.ravel()[places].astype(wide) for each in (a, b))
    with np.errstate(all="ignore"):
        apart, larger = np.abs(x - y), np.maximum(np.abs(x), np.abs(y))
        known = np.isfinite(apart) & np.isfinite(larger)
        if not known.any():
            return 0.0, 0.0, ()
        apart[~known] = -1.0
        shares = apart[known] / larger[known]
        worst, *_ = _indices(places[[int(np.argmax(apart))]], a.values.shape)
        return float(apart.max()), float(np.max(shares, where=np.isfinite(shares), initial=0.0)), worst


def _indices(places: np.ndarray[Any, Any], shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    import numpy as np

    return [tuple(int(i) for i in np.unravel_index(place, shape)) for place in places]


@dataclass(frozen=True)
class NotFinite:
    """The share of an array's values that are NaN or infinite; `is_mask`: all are minus infinity, as in a mask."""

    share: float
    is_mask: bool = False

    @property
    def spoils(self) -> bool:
        """Whether what is timed is the handling of such values: a mask has them on purpose, up to one half."""
        return self.share > 0.5 if self.is_mask else self.share >= _FEW


# Below this share, NaN and infinity may be meant: a missing reading, a few bins of a histogram that are empty.
_FEW = 0.01


def not_finite(values: np.ndarray[Any, Any]) -> NotFinite:
    """Return what of an array is NaN or infinite; nothing if it holds no floats."""
    import numpy as np

    if values.dtype.kind not in "fc" or not values.size:
        return NotFinite(0.0)
    finite = np.isfinite(values)
    if finite.all():
        return NotFinite(0.0)
    odd = values[~finite]
    return NotFinite(len(odd) / values.size, values.dtype.kind == "f" and bool(np.all(odd == -np.inf)))


def tolerance_of(dtype: str) -> float:
    """Return the relative tolerance of a dtype: of anything but floats that of the finest."""
    return _by_name(TOLERANCES, dtype, _FINEST)


def _by_name(table: Mapping[str, float], dtype: str, otherwise: float) -> float:
    return next((value for name, value in table.items() if dtype.startswith(name)), otherwise)


def _scale(values: np.ndarray[Any, Any]) -> float:
    """Return the root mean square of the finite values, without a mask's fill value."""
    import numpy as np

    sizes = np.abs(values).ravel().astype(np.float64, copy=False)
    finite = np.isfinite(sizes)
    sizes = sizes if finite.all() else sizes[finite]
    top = sizes.max(initial=0.0)
    if np.count_nonzero(sizes == top) >= max(_FILL_COUNT, _FILL_SHARE * len(sizes)):
        rest = sizes[sizes < top]
        if 0 < rest.max(initial=0.0) < top / _FILL_FACTOR:
            sizes, top = rest, rest.max()
    return float(top * np.sqrt(np.mean(np.square(sizes / top)))) if top else 0.0
