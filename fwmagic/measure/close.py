"""Whether the values of two arrays are close: as close as two libraries' rounding errors let them be."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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

    `used` is the largest share of its tolerance that a value which is close makes use of.
    """

    count: int
    index: tuple[int, ...]
    tolerance: float
    used: float


def array(value: Any, to_numpy: ToNumpy) -> Array | None:
    """Return an array, a NumPy scalar, or a JAX variable that holds an array; None for anything else.

    Raises
    ------
    UnreadableError
        It is an array whose values cannot be had or compared, such as a donated one.
    """
    if isinstance(value, type) or not (hasattr(value, "dtype") and hasattr(value, "shape")):
        return None
    try:
        values = to_numpy(value)
        if values is None and hasattr(value, "__jax_array__"):  # what `flax.nnx` holds its arrays in
            values = to_numpy(value := value.__jax_array__())
    except (RuntimeError, TypeError, ValueError) as error:
        raise UnreadableError(f"its values cannot be read: {error}") from error
    numpy = sys.modules.get("numpy")
    if values is None and numpy is not None and isinstance(value, numpy.generic):
        values = numpy.asarray(value)
    if values is None:
        return None
    dtype = str(getattr(value.dtype, "name", value.dtype)).removeprefix("torch.")
    if values.dtype.kind == "V" and dtype.startswith(("float", "int", "uint")):  # 4 and 8 bits, unknown to NumPy
        values = values.astype("float32" if dtype.startswith("float") else "int16")
    if values.dtype.kind in "OV":
        raise UnreadableError(f"arrays of dtype {dtype} cannot be compared")
    return Array(values, tuple(value.shape), dtype, type(value).__module__.partition(".")[0])


def closeness(a: Array, b: Array) -> Closeness:
    """Compare the values of two arrays of one shape; `measure.agree` states the rule."""
    import numpy as np

    # Only values that are not equal cost more than this one comparison; a NaN equals nothing.
    places = np.flatnonzero(~np.asarray(a.values == b.values))
    tolerance, used = np.zeros(len(places)), 0.0
    if len(places) and a.values.dtype.kind in "fc":
        is_complex = a.values.dtype.kind == "c"
        x, y = (each.values.ravel()[places].astype("complex128" if is_complex else "float64") for each in (a, b))
        with np.errstate(all="ignore"):
            sizes = np.abs(x)
            sizes[~np.isfinite(sizes)] = 0.0
            relative = max(_tolerance(a.dtype), _tolerance(b.dtype))
            # The smallest normal number, because XLA takes smaller ones for zero and torch does not.
            tolerance = relative * sizes + (relative * _scale(a.values) + float(np.finfo(np.float32).tiny))
            far = np.zeros(len(places), dtype=bool)
            for p, q in ((x.real, y.real), (x.imag, y.imag)) if is_complex else ((x, y),):
                share = np.abs(p - q) / tolerance
                close = share <= 1
                used = max(used, float(np.max(share, where=close, initial=0.0)))
                left = np.flatnonzero(~close)
                far[left] |= ~((p[left] == q[left]) | (np.isnan(p[left]) & np.isnan(q[left])))
        places, tolerance = places[far], tolerance[far]
    if not len(places):
        return Closeness(0, (), 0.0, used)
    index = tuple(int(i) for i in np.unravel_index(places[0], a.values.shape))
    return Closeness(len(places), index, float(tolerance[0]), used)


def _tolerance(dtype: str) -> float:
    return next((value for name, value in TOLERANCES.items() if dtype.startswith(name)), _FINEST)


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
