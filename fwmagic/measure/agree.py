"""Whether two variants computed the same outputs: structure, shape, dtype and values, the first difference named."""

from __future__ import annotations

import dataclasses
import enum
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fwmagic.report import Agreement

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
    return Array(values, tuple(shape), dtype, type(value).__module__.partition(".")[0])


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


# A float of Python has no dtype; it often is a float32 that `.item()` or `float()` took out of an array.
_NUMBER = "float32"
# In this order, because a bool is an int.
_KINDS = {bool: "b", int: "iu", float: "f", complex: "c"}
_PLAIN = (str, bytes, type(None), enum.Enum)
_MOST_NAMED = 3


def agree(
    reference: Any, outputs: Any, *, names: tuple[str, str], to_numpy: ToNumpy, random: bool = False
) -> Agreement:
    """Compare two trees of outputs, of one framework or of two.

    Mappings are compared by key, dataclasses by field, sequences (list, tuple, namedtuple, torch.Size) by position
    whatever their class, and modules and optimizers that have one by their `state_dict()`. Integers, booleans and
    text are compared exactly. Two floats a (reference) and b agree if both are NaN, or equal, or if
    |a - b| <= r (|a| + s), with r from `close.TOLERANCES` for the coarser dtype and s the root mean square of the
    finite reference values: an element that cancelled to nearly nothing carries the rounding errors of its
    neighbours' magnitude. The parts of a complex number are compared alike, with its modulus as |a|. A different
    dtype is a difference, with two exceptions that the sentence states: integers of another width in another
    library, and a Python number that is an array without dimensions on the other side.

    Parameters
    ----------
    reference, outputs : object
        What the two variants returned. A mapping from names at the top gives the paths their first word.
    names : tuple of str
        The names of the two variants.
    to_numpy : callable
        Returns the values of an array of any framework (bfloat16 widened, the data of a typed random key), or
        None for anything else.
    random : bool
        The cell draws random numbers or reads the clock, so that its values cannot be compared.
    """
    if random:
        return Agreement(names[0], "not compared", "not compared: the cell draws random numbers or reads the clock")
    comparison = _Comparison(names, to_numpy)
    comparison.compare(reference, outputs)
    return comparison.result()


class _Comparison:
    """The walk through two trees, and what it found on its way."""

    def __init__(self, names: tuple[str, str], to_numpy: ToNumpy) -> None:
        self.names = names
        self.to_numpy = to_numpy
        self.differences: dict[str, str] = {}
        self.notes: list[str] = []
        self.uncompared: list[str] = []
        self.compared = 0
        self.used = 0.0

    def compare(self, reference: Any, outputs: Any) -> None:
        """Visit every pair of leaves, in order; the stack is explicit, so that depth is not limited."""
        stack = [("", reference, outputs)]
        seen: dict[tuple[int, int], tuple[Any, Any]] = {}  # holds the objects too: an id is unique while one lives
        while stack:
            path, a, b = stack.pop()
            if (id(a), id(b)) in seen:
                continue
            try:
                children = self.children(path, a, b)
                if children is not None:
                    seen[id(a), id(b)] = a, b
                    stack += reversed(list(children))
                else:
                    self.leaf(path or "output", a, b)
            except UnreadableError as error:
                self.uncompared.append(f"{path or 'output'} ({error})")

    def children(self, path: str, a: Any, b: Any) -> Iterator[tuple[str, Any, Any]] | None:
        """Return the pairs inside of two containers of one kind, None if these are not such containers."""
        if hasattr(a, "state_dict") and hasattr(b, "state_dict") and not isinstance(a, type):
            return self.children(path or "output", a.state_dict(), b.state_dict())
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            return self.items(path, a, b)
        if _has_fields(a) and _has_fields(b):
            return self.items(path or "output", _fields(a), _fields(b), attributes=True)
        if _is_sequence(a) and _is_sequence(b):
            if len(a) != len(b):
                self.differ("in structure", path or "output", f"{len(a)} and {len(b)} items")
            names = getattr(a, "_fields", None)
            places = [f".{name}" for name in names] if names else [f"[{i}]" for i in range(len(a))]
            return ((f"{path or 'output'}{place}", x, y) for place, x, y in zip(places, a, b, strict=False))
        return None

    def items(
        self, path: str, a: Mapping[Any, Any], b: Mapping[Any, Any], attributes: bool = False
    ) -> Iterator[tuple[str, Any, Any]]:
        """Yield the pairs under the keys of both; a key of one side only is a difference."""
        for key in [*a, *(key for key in b if key not in a)]:
            word = str(key).isidentifier() and isinstance(key, str)
            inside = f"{path}.{key}" if attributes else key if word and not path else f"{path or 'output'}[{key!r}]"
            if key in a and key in b:
                yield inside, a[key], b[key]
            else:
                self.differ("in structure", inside, f"missing in {self.names[key in a]}")

    def leaf(self, path: str, a: Any, b: Any) -> None:
        """Compare two values that are no containers of one kind."""
        if a is None and b is None:
            return
        x, y = array(a, self.to_numpy), array(b, self.to_numpy)
        if x is not None and y is not None:
            self.arrays(path, x, y)
        elif (x is None and not _kinds(a)) or (y is None and not _kinds(b)):
            self.others(path, a, b)
        elif x is None and y is None:
            self.numbers(path, a, b)
        else:
            self.number_and_array(path, a, b, x, y)
        self.compared += 1

    def others(self, path: str, a: Any, b: Any) -> None:
        """Compare two values of which at least one is neither an array nor a number."""
        if a is b:
            return
        if isinstance(a, _PLAIN) and isinstance(b, _PLAIN):
            if a != b:
                self.differ("", path, f"{_shown(a)} and {_shown(b)}")
            return
        for value in (a, b):
            known = isinstance(value, (*_PLAIN, *_KINDS, Mapping)) or _is_sequence(value) or _has_fields(value)
            if not known and array(value, self.to_numpy) is None:
                raise UnreadableError(f"objects of class {type(value).__name__} cannot be compared")
        self.differ("in structure", path, f"{self.described(a)} and {self.described(b)}")

    def numbers(self, path: str, a: Any, b: Any) -> None:
        """Compare two Python numbers."""
        if _kinds(a) != _kinds(b):
            self.differ("in type", path, f"the {type(a).__name__} {a} and the {type(b).__name__} {b}")
        elif isinstance(a, int) and a != b:  # of any length, which an array could not hold
            self.differ("", path, f"{a} and {b}, compared exactly")
        elif a != b:
            self.values(path, _number(a), _number(b))

    def number_and_array(self, path: str, a: Any, b: Any, x: Array | None, y: Array | None) -> None:
        """Compare a Python number with an array, which must have no dimensions and the same kind of numbers."""
        number, other = (a, y) if x is None else (b, x)
        if other is None or other.shape or other.values.dtype.kind not in _kinds(number):
            self.differ("in structure", path, f"{self.described(a)} and {self.described(b)}")
            return
        self.values(path, x or _number(a), y or _number(b))
        self.notes.append(f"{path} is a Python number on one side and an array without dimensions on the other")

    def arrays(self, path: str, a: Array, b: Array) -> None:
        """Compare two arrays: shape, then dtype, then values."""
        kinds = a.values.dtype.kind + b.values.dtype.kind
        if a.shape != b.shape:
            self.differ("in shape", path, f"{list(a.shape)} and {list(b.shape)}")
        elif a.dtype == b.dtype:
            self.values(path, a, b)
        elif kinds in ("ii", "uu") and a.library != b.library and a.values.shape == b.values.shape:
            self.values(path, a, b)
            self.notes.append(f"the integers of {path} are {a.dtype} and {b.dtype}")
        else:
            words = f"{a.dtype} and {b.dtype}"
            if kinds in ("ff", "cc"):
                count = closeness(a, b).count
                words += f" ({count:,} of {a.values.size:,} values differ too)" if count else " (the values agree)"
            self.differ("in dtype", path, words)

    def values(self, path: str, a: Array, b: Array) -> None:
        """Compare the values of two arrays of one shape."""
        found = closeness(a, b)
        self.used = max(self.used, found.used)
        if not found.count:
            return
        x, y = a.values[found.index], b.values[found.index]
        if x != x or y != y:
            bound = "NaN on one side only"
        else:
            bound = f"tolerance {found.tolerance:.2g}" if found.tolerance else "compared exactly"
        share = f" ({found.count:,} of {a.values.size:,} values differ)" if found.index else ""
        where = f"{path}[{', '.join(map(str, found.index))}]" if found.index else path
        self.differ("", where, f"{x} and {y}, {bound}{share}")

    def differ(self, how: str, path: str, words: str) -> None:
        """Keep a difference; the first one gives the result its sentence."""
        sentence = f"{self.names[0]} and {self.names[1]} differ {how}".rstrip()
        self.differences.setdefault(path, f"{sentence} at {path}: {words}")

    def described(self, value: Any) -> str:
        """Return in words what kind of value this is."""
        found = array(value, self.to_numpy)
        if found is not None:
            return f"an array of {found.dtype} {list(found.shape)}"
        return "None" if value is None else f"a value of class {type(value).__name__}"

    def result(self) -> Agreement:
        """Return what was found, as one sentence."""
        uncompared = f"not compared: {_list(self.uncompared)}" if self.uncompared else ""
        if self.differences:
            path, sentence = next(iter(self.differences.items()))
            more = [other for other in self.differences if other != path]
            sentence += f"; they also differ at {_list(more)}" if more else ""
            return Agreement(self.names[0], "differs", sentence, path)
        if not self.compared:
            nothing = "not compared: there are no outputs to compare"
            return Agreement(self.names[0], "not compared", uncompared or nothing)
        close = f"within tolerance, of which at most {100 * self.used:.2g} % is used" if self.used else "exactly"
        parts = [f"{self.names[1]} agrees with {self.names[0]} {close}"]
        parts += [_list(self.notes)] if self.notes else []
        parts += [uncompared] if uncompared else []
        return Agreement(self.names[0], "agrees", "; ".join(parts))


def _kinds(value: Any) -> str:
    """Return the kinds of NumPy dtypes that hold such a Python number; empty: it is none."""
    return next((kinds for cls, kinds in _KINDS.items() if isinstance(value, cls)), "")


def _number(value: float | complex) -> Array:
    import numpy as np

    return Array(np.asarray(value), (), _NUMBER)


def _is_sequence(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _has_fields(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _fields(value: Any) -> dict[str, Any]:
    return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}


def _shown(value: Any, most: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= most else text[: most - 1] + "…"


def _list(words: list[str]) -> str:
    more = f" and {len(words) - _MOST_NAMED} more" if len(words) > _MOST_NAMED else ""
    return ", ".join(words[:_MOST_NAMED]) + more
