"""Whether two variants computed the same outputs: structure, shape, dtype and values, the first difference named."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any

from fwmagic.agreement import plain
from fwmagic.agreement.chance import BEYOND_CHANCE, Chance, Pairs
from fwmagic.agreement.close import (
    Array,
    Closeness,
    Hidden,
    ToNumpy,
    UnreadableError,
    array,
    closeness,
    is_residue,
    not_finite,
    roundoff_of,
)
from fwmagic.agreement.relation import one_sided, relation
from fwmagic.format import percent
from fwmagic.report import Agreement
from fwmagic.report.report import NOT_COMPARED

# A name at the top, or where in it something lies, such as `net.weight` or `hist[3]`.
_PATH = re.compile(r"[^\W\d]\w*([.\[].*)?")
# Two ways to compute a value that cancels part by some times what a rounding of each number that goes in moves it by.
_MOVES = 30
# So many times where the rounding is that of floats of 16 bits, which moves by percents: more would hide a difference.
_COARSE_MOVES = 1
# Two arrays that are apart by more than this share of their size have nothing in common that rounding leaves, but for
# nothing: what cancelled to so many unit roundoffs. Values that vary by no more than so many times what a rounding
# moves them by vary by chance.
_SWAMPED, _RESIDUE, _OF_CHANCE = 0.25, 1000, 3
#: Why a cell that is random is: it was seen to draw; or only that no run gives what another one does.
DRAWS, VARIES = "draws random numbers or reads the clock", "gives something else in every run"


@dataclass(frozen=True)
class Draws:
    """Two trees of outputs, once more: each from generators that had moved on; None: it was not run again.

    `more` are those of still further runs of each. The trees may lack names of those that are compared: then nothing is
    known of these. `leads`: the outputs have to be those of the reference where these are the same in every run.
    """

    reference: Any = None
    outputs: Any = None
    more: tuple[tuple[Any, ...], tuple[Any, ...]] = ((), ())
    leads: bool = False


def agree(
    reference: Any,
    outputs: Any,
    *,
    names: tuple[str, str],
    to_numpy: ToNumpy,
    random: bool = False,
    again: Draws | None = None,
    moved: tuple[Any, Any] | None = None,
    coarsely: bool = False,
    sizes: Collection[int] = (),
    why: str = DRAWS,
) -> Agreement:
    """Compare two trees of outputs, of one framework or of two.

    Mappings are compared by key, dataclasses by field, sequences (list, tuple, namedtuple, torch.Size) by position
    whatever their class, and modules and optimizers that have one by their `state_dict()`. Integers, booleans and text
    are compared exactly. Two floats a (reference) and b agree if both are NaN, or equal, or if |a - b| <= r (|a| + s),
    with r from `close.TOLERANCES` for the coarser dtype and s the root mean square of the finite reference values: an
    element that cancelled to nearly nothing carries the rounding errors of its neighbours' magnitude. Where values
    differ by far more than their neighbours' rounding explains, and are close only because these are so much larger,
    the sentence says so; also where a whole output is no more than what rounding leaves of values of the size of the
    others, and where the values of a coarse dtype are off to one side. The parts of a complex number are compared
    alike, with its modulus as |a|. A different dtype is a difference, with two exceptions that the sentence states:
    integers of another width in another library, and a Python number that is an array without dimensions on the other
    side.

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
        The cell draws random numbers or reads the clock. Values that agree anyway do; of others, structure, shape and
        dtype are compared. So are values that `again` shows to be the same in every run; of the rest mean and spread,
        which differ if they do by far more than from one run to the other.
    again : Draws, optional
        The outputs of a further run of each variant, if it is random.
    moved : tuple of two objects, optional
        What the reference is where the numbers that it was computed from are off by a rounding, and by another one.
        Floats that differ by no more than some times as much as these do, in no more than some times as many places,
        agree: no way of computing them tells these digits. Where they differ by a quarter of their own size, they are
        not compared.
    coarsely : bool, optional
        Whether these roundings are those to floats of 16 bits or less, which move the reference by percents.
    sizes : collection of int
        What may have been summed over, as for `relation.relation`.
    why : str
        What makes the cell random: `DRAWS` or `VARIES`.
    """
    shifted = None if moved is None else _pairs(*moved, to_numpy)
    comparison = _Comparison(names, to_numpy, moved=shifted, sizes=sizes)
    comparison.moves = _COARSE_MOVES if coarsely else _MOVES
    comparison.compare(reference, outputs)
    found = comparison.result()
    again = again or Draws()
    if not random or found.status != "differs":
        return found
    both = ((reference, again.reference), (outputs, again.outputs))
    once = [None if more is None else _pairs(tree, more, to_numpy) for tree, more in both]
    further = [tuple(_pairs(tree, one, to_numpy) for one in again.more[i]) for i, (tree, _) in enumerate(both)]
    chance = Chance(once[0], once[1], further[0], further[1], again.leads)
    by_chance = _Comparison(names, to_numpy, chance, why=why)
    by_chance.compare(reference, outputs)
    known = [(_part_of(tree, more), more) for tree, more in both if more is not None]
    if any(_parts_in_structure(tree, more, to_numpy) for tree, more in known):
        sentence = f"not compared: the cell {why}, and its outputs have other parts in every run"
        return Agreement(names[0], "not compared", sentence)
    return by_chance.result()


def _part_of(tree: Any, known: Any) -> Any:
    """Return those names of a tree that another one has, too; of no mapping, all."""
    are_names = isinstance(tree, Mapping) and isinstance(known, Mapping)
    return {name: tree[name] for name in tree if name in known} if are_names else tree


def _parts_in_structure(tree: Any, other: Any, to_numpy: ToNumpy) -> bool:
    """Say whether one of two trees of outputs has parts that the other has not."""
    comparison = _Comparison(("", ""), to_numpy, Chance(None, None))
    comparison.compare(tree, other)
    return any("differ in structure" in sentence for sentence in comparison.differences.values())


def spoilt(outputs: Any, to_numpy: ToNumpy) -> str:
    """Return which output is NaN or infinite, and how much of it: `98 % of Out`; empty if none is."""
    found = {path: not_finite(one.values) for path, (one, _) in _pairs(outputs, outputs, to_numpy).items()}
    path = max((path for path, odd in found.items() if odd.spoils), key=lambda path: found[path].share, default=None)
    return "" if path is None else _share_of(path, found[path].share)


def _share_of(path: str, share: float) -> str:
    return f"{'all' if share == 1 else percent(share, 2)} of {path}"


def _pairs(tree: Any, other: Any, to_numpy: ToNumpy) -> Pairs:
    """Return the arrays and numbers that two trees have at the same paths, in the same shapes."""
    comparison = _Comparison(("", ""), to_numpy, Chance(None, None))
    comparison.compare(tree, other)
    return comparison.pairs


@dataclass(frozen=True)
class _Blur:
    """By how much a rounding moves an array at most; and the `size` of its values if two are as far apart, else 0."""

    most: float
    size: float


def _moved_by(found: Closeness, a: Array, b: Array, moved: tuple[Array, Array], moves: int) -> _Blur | None:
    """Return by how much a rounding moves an array, if that explains how far two are apart; else None.

    It does if no more than `moves` times as many values are apart by any amount as it moves by some part of that: one
    value that it takes across a threshold says nothing of a hundred others. Where two are apart by their own size, as
    two runs of what is chaotic are, any other values would be explained as well.
    """
    import numpy as np

    pairs = (a, b), moved
    kinds = {one.values.dtype.kind for pair in pairs for one in pair}
    if not found.largest or kinds - set("fc") or moved[0].shape != a.shape or moved[1].shape != a.shape:
        return None
    with np.errstate(all="ignore"):
        sizes = (np.abs(x.values.astype("complex128") - y.values).ravel() for x, y in pairs)
        apart, blur = (-np.sort(-size) for size in sizes)
        largest = apart[: found.count]
        explained = np.isfinite(blur).all() and (largest <= moves * blur[np.arange(len(largest)) // moves]).all()
        values = a.values[np.isfinite(a.values)].astype("complex128")
        spread = float(np.std(values)) if values.size else 0.0
        # What varies by chance alone is known by its level.
        size = spread if spread > _OF_CHANCE * _rms(blur) else _rms(values)
        residue = max(map(_rms, (a.values, b.values))) <= _RESIDUE * max(map(roundoff_of, (a, b)))
        swamped = _rms(apart) > _SWAMPED * size and not residue
        return _Blur(float(blur[0]), size if swamped else 0.0) if explained else None


def _rms(values: Any) -> float:
    import numpy as np

    known = values[np.isfinite(values)]
    return float(np.sqrt(np.mean(np.square(np.abs(known))))) if known.size else 0.0


class _Comparison:
    """The walk through two trees, and what it found on its way; with `chance`, values may differ by chance.

    `moved` has the arrays of the reference, by path, where its inputs are off by a rounding, and by another one.
    """

    def __init__(
        self,
        names: tuple[str, str],
        to_numpy: ToNumpy,
        chance: Chance | None = None,
        moved: Pairs | None = None,
        sizes: Collection[int] = (),
        why: str = DRAWS,
    ) -> None:
        self.names = names
        self.to_numpy = to_numpy
        self.chance = chance
        self.moved = moved or {}
        self.moves = _MOVES
        self.sizes = sizes
        self.why = why
        self.blurred: dict[str, str] = {}
        self.pairs: dict[str, tuple[Array, Array]] = {}
        self.odd: list[str] = []
        self.tested: list[bool] = []
        self.hidden: dict[str, Hidden] = {}
        self.off: dict[str, str] = {}
        self.floats: list[Any] = []
        self.apart: dict[str, tuple[str, Array, Array, Closeness]] = {}
        self.differences: dict[str, str] = {}
        self.told: dict[str, tuple[str, ...]] = {}
        self.notes: list[str] = []
        self.uncompared: list[str] = []
        self.compared = 0
        self.used = 0.0
        self.farthest = 0.0, 0.0

    def compare(self, reference: Any, outputs: Any) -> None:
        """Visit every pair of leaves, in order; the stack is explicit, so that depth is not limited."""
        stack = [("", reference, outputs)]
        seen: dict[tuple[int, int], tuple[Any, Any]] = {}  # holds the objects too: an id is unique while one lives
        while stack:
            path, a, b = stack.pop()
            if (id(a), id(b)) in seen:
                continue
            try:
                a, b = plain.unpacked(a), plain.unpacked(b)
                numbers = plain.many_numbers(a, b)
                if numbers is None and a is b and type(a) is dict:  # where they are looked for what is not finite
                    numbers = plain.many_numbers([*a.values()], [*b.values()])
                children = self.children(path, a, b) if numbers is None else None
                if children is not None:
                    seen[id(a), id(b)] = a, b
                    stack += reversed([child for child in children if not self.is_settled(child[1], child[2])])
                elif numbers is not None:
                    self.values(path or "output", *numbers)
                    self.compared += 1
                else:
                    self.leaf(path or "output", a, b)
            except UnreadableError as error:
                self.uncompared.append(f"{path or 'output'} ({error})")

    def children(self, path: str, a: Any, b: Any) -> Iterator[tuple[str, Any, Any]] | None:
        """Return the pairs inside of two containers of one kind, None if these are not such containers."""
        if hasattr(type(a), "state_dict") and hasattr(type(b), "state_dict"):
            return self.children(path or "output", a.state_dict(), b.state_dict())
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            return self.items(path, a, b)
        if plain.is_masked(a) or plain.is_masked(b):
            return self.masked(path or "output", a, b)
        if plain.has_fields(a) and plain.has_fields(b):
            return self.items(path or "output", plain.fields(a), plain.fields(b), attributes=True)
        if plain.is_sequence(a) and plain.is_sequence(b):
            if len(a) != len(b):
                self.differ("in structure", path or "output", f"{len(a)} and {len(b)} items")
            names = getattr(a, "_fields", None)
            places = [f".{name}" for name in names] if names else [f"[{i}]" for i in range(len(a))]
            return ((f"{path or 'output'}{place}", x, y) for place, x, y in zip(places, a, b, strict=False))
        return None

    def is_settled(self, a: Any, b: Any) -> bool:
        """Say whether two values are numbers or text, or hold nothing else, and are the same: most of a long list."""
        if self.chance is not None or not plain.same_plainly(a, b):
            return False
        self.floats += [a] if type(a) is float else []
        self.compared += a is not None
        return True

    def items(
        self, path: str, a: Mapping[Any, Any], b: Mapping[Any, Any], attributes: bool = False
    ) -> Iterator[tuple[str, Any, Any]]:
        """Yield pairs under the keys of both, but those that are settled; a key of one side only is a difference."""
        for key in [*a, *(key for key in b if key not in a)]:
            if key in a and key in b and self.is_settled(a[key], b[key]):
                continue
            names_itself = not path and isinstance(key, str) and _PATH.fullmatch(key)
            inside = f"{path}.{key}" if attributes else key if names_itself else f"{path or 'output'}[{key!r}]"
            if key in a and key in b:
                yield inside, a[key], b[key]
            else:
                self.differ("in structure", inside, f"missing in {self.names[key in a]}")

    def masked(self, path: str, a: Any, b: Any) -> Iterator[tuple[str, Any, Any]]:
        """Yield the masks of two arrays, at least one of which has one, and then the values that neither masks."""
        import numpy as np

        x, y = array(a, self.to_numpy), array(b, self.to_numpy)
        if x is None or y is None or x.shape != y.shape:
            yield path, getattr(a, "data", a), getattr(b, "data", b)
            return
        one, other = (np.ma.getmaskarray(v if plain.is_masked(v) else known.values) for v, known in ((a, x), (b, y)))
        yield f"{path}.mask", one, other
        hidden = one | other
        left, right = (np.where(hidden, np.zeros((), known.values.dtype), known.values) for known in (x, y))
        yield path, left, right

    def leaf(self, path: str, a: Any, b: Any) -> None:
        """Compare two values that are no containers of one kind."""
        if a is None and b is None:
            return
        x, y = array(a, self.to_numpy), array(b, self.to_numpy)
        if x is not None and y is not None:
            self.arrays(path, x, y)
        elif (x is None and not plain.kinds(a)) or (y is None and not plain.kinds(b)):
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
        if plain.is_plain(a) and plain.is_plain(b):
            if a != b and self.chance is None and (a == a or b == b):  # two that are no number are the same
                shown = plain.shown(a), plain.shown(b)
                if isinstance(a, Set) and isinstance(b, Set):
                    shown = plain.shown_set(a, b), plain.shown_set(b, a)
                self.differ("", path, " and ".join(shown), pair=shown)
            return
        for value in (a, b):
            known = (
                plain.is_plain(value)
                or plain.kinds(value)
                or isinstance(value, Mapping)
                or plain.is_sequence(value)
                or plain.has_fields(value)
            )
            if not known and array(value, self.to_numpy) is None:
                raise UnreadableError(f"objects of class {type(value).__name__} cannot be compared")
        self.differ("in structure", path, f"{self.described(a)} and {self.described(b)}")

    def numbers(self, path: str, a: Any, b: Any) -> None:
        """Compare two Python numbers."""
        if plain.kinds(a) != plain.kinds(b):
            self.differ("in type", path, f"the {type(a).__name__} {a} and the {type(b).__name__} {b}")
        elif self.chance is None and isinstance(a, int) and a != b:  # of any length, which an array could not hold
            self.differ("", path, f"{a} and {b}, compared exactly", pair=(str(a), str(b)))
        elif self.chance is not None or a != b:
            self.values(path, plain.number_array(a), plain.number_array(b))
        elif not isinstance(a, int):
            self.floats.append(a)

    def number_and_array(self, path: str, a: Any, b: Any, x: Array | None, y: Array | None) -> None:
        """Compare a Python number with an array, which must have no dimensions and the same kind of numbers."""
        number, other = (a, y) if x is None else (b, x)
        if other is None or other.shape or other.values.dtype.kind not in plain.kinds(number):
            self.differ("in structure", path, f"{self.described(a)} and {self.described(b)}")
            return
        self.values(path, x or plain.number_array(a), y or plain.number_array(b))
        self.notes.append(f"{path} is a Python number on one side and an array without dimensions on the other")

    def arrays(self, path: str, a: Array, b: Array) -> None:
        """Compare two arrays: shape, then dtype, then values."""
        kinds = a.values.dtype.kind + b.values.dtype.kind
        if a.shape != b.shape:
            if self.chance is None or not self.chance.decides_shape(path):
                shapes = str(list(a.shape)), str(list(b.shape))
                self.differ("in shape", path, " and ".join(shapes), self.hint(a, b), shapes)
        elif a.dtype == b.dtype:
            self.values(path, a, b)
        elif kinds in ("ii", "uu") and a.library != b.library and a.values.shape == b.values.shape:
            self.values(path, a, b)
            self.notes.append(f"the integers of {path} are {a.dtype} and {b.dtype}")
        else:
            words = f"{a.dtype} and {b.dtype}"
            if kinds in ("ff", "cc") and self.chance is None:
                found = closeness(a, b)
                words += f" ({how_far(a, found)})" if found.count else " (the values agree)"
            self.differ("in dtype", path, words, pair=(a.dtype, b.dtype))

    def values(self, path: str, a: Array, b: Array) -> None:
        """Compare the values of two arrays of one shape."""
        if self.chance is not None:
            self.pairs[path] = a, b
            if not self.chance.is_fixed(path):
                if len(self.chance.of(path)) == 2 and a.values.dtype.kind in "fiub":
                    self.tested.append(self.chance.is_tested(path))
                moment = self.chance.moment(path, a, b)
                if moment is not None:
                    self.differ(moment[0], path, moment[1])
                return
        odd = not_finite(a.values)
        self.odd += [_share_of(path, odd.share)] if odd.share else []
        found = closeness(a, b)
        if found.used > self.used:
            self.used, self.farthest = found.used, (found.largest, found.relative)
        self.floats += [a.values] if a.values.dtype.kind in "fc" else []
        if not found.count:
            self.hidden.update({} if found.hidden is None else {path: found.hidden})
            off = one_sided(a, b) if found.used else ""
            self.off.update({path: off} if off else {})
            return
        blur = _moved_by(found, a, b, self.moved[path], self.moves) if path in self.moved else None
        if blur is not None:
            words = f"by {found.largest:.2g}, and a rounding of what goes into it moves it by {blur.most:.2g}"
            if blur.size:
                raise UnreadableError(f"it differs {words}, where its values are of about {blur.size:.2g}")
            self.blurred[path] = words
            return
        x, y = a.values[found.index], b.values[found.index]
        if x != x or y != y:
            bound = "NaN on one side only"
        else:
            bound = f"tolerance {found.tolerance:.2g}" if found.tolerance else "compared exactly"
        much = f" ({how_far(a, found)})" if how_far(a, found) else ""
        where = f"{path}[{', '.join(map(str, found.index))}]" if found.index else path
        residue = "rounding leaves as much where values of about 1 cancel" if is_residue(a, b, 1.0) else ""
        self.differ("", where, f"{x} and {y}, {bound}{much}", self.hint(a, b) or residue, _short_pair(x, y))
        if found.tolerance:
            self.apart[where] = path, a, b, found

    def forgive_residue(self) -> None:
        """Take those for hidden, instead of different, that are as a whole what rounding leaves of other outputs."""
        import numpy as np

        if len(self.floats) < 2 or not self.apart:
            return
        sizes = map(np.abs, self.floats)
        top = max(float(np.max(size, where=np.isfinite(size), initial=0.0)) for size in sizes)
        for where, (path, a, b, found) in self.apart.items():
            if is_residue(a, b, top):
                del self.differences[where]
                self.hidden[path] = Hidden(found.count, found.worst, found.relative, top / found.largest)

    def hint(self, a: Array, b: Array) -> str:
        """Return how the one follows from the other, if nothing else was found to differ so far."""
        return "" if self.differences else relation(a, b, self.names, self.sizes)

    def differ(self, how: str, path: str, words: str, hint: str = "", pair: tuple[str, ...] = ()) -> None:
        """Keep a difference; the first one gives the result its sentence, and what the two have there."""
        self.told.setdefault(path, pair)
        sentence = f"{self.names[0]} and {self.names[1]} differ {how}".rstrip()
        self.differences.setdefault(path, f"{sentence} at {path}: {words}{f'; {hint}' if hint else ''}")

    def described(self, value: Any) -> str:
        """Return in words what kind of value this is."""
        found = array(value, self.to_numpy)
        if found is not None:
            return f"an array of {found.dtype} {list(found.shape)}"
        return "None" if value is None else f"a value of class {type(value).__name__}"

    def result(self) -> Agreement:
        """Return what was found, as one sentence."""
        uncompared = f"{NOT_COMPARED}{plain.listed(self.uncompared)}" if self.uncompared else ""
        self.forgive_residue()
        if self.differences:
            path, sentence = next(iter(self.differences.items()))
            more = [other for other in self.differences if other != path]
            sentence += f"; they also differ at {plain.listed(more)}" if more else ""
            return Agreement(self.names[0], "differs", sentence, path, self.told[path])
        if self.chance is not None:
            compared = "shapes and dtypes agree"
            if self.tested and all(self.tested):
                compared = "shapes, dtypes, means and spreads agree, the latter as far as some runs of each can tell"
            elif self.tested:
                compared += f", means and spreads differ by less than {BEYOND_CHANCE} times what two runs of one do"
            sentence = f"not compared value by value: the cell {self.why}; {compared}"
            return Agreement(self.names[0], "not compared", sentence)
        if not self.compared:
            nothing = "not compared: there are no outputs to compare"
            return Agreement(self.names[0], "not compared", uncompared or nothing)
        close = "within tolerance" if self.hidden else "exactly"
        if self.used:
            largest, relative = self.farthest
            apart = f"the largest difference is {largest:.2g} (relative {relative:.2g})"
            close = f"within tolerance, of which at most {100 * self.used:.2g} % is used: {apart}"
        close = "but for rounding" if self.blurred else close
        but = f", but {plain.listed(self.odd)} is NaN or infinite" if self.odd else ""
        parts = [f"{self.names[1]} agrees with {self.names[0]} {close}{but}"]
        parts += (
            [plain.listed([hidden_in_words(path, one) for path, one in self.hidden.items()])] if self.hidden else []
        )
        off = [f"{path} is {words}, which rounding does not explain" for path, words in self.off.items()]
        parts += [plain.listed(off)] if off else []
        blurred = [f"{path} differs {words}" for path, words in self.blurred.items()]
        parts += [plain.listed(blurred)] if blurred else []
        parts += [plain.listed(self.notes)] if self.notes else []
        parts += [uncompared] if uncompared else []
        return Agreement(
            self.names[0], "agrees", "; ".join(parts), next(iter({**self.hidden, **self.off, **self.blurred}), None)
        )


def hidden_in_words(path: str, found: Hidden) -> str:
    """Return which values agree only at the scale of their array."""
    where = f"{path}[{', '.join(map(str, found.index))}]" if found.index else path
    more = f", and {found.count - 1:,} more value{'s' * (found.count > 2)}," if found.count > 1 else ""
    differs = f"it differs by {percent(found.relative, 2)}"
    return f"{where}{more} only beside values {found.scale:.0e} times as large: {differs}"


def how_far(a: Array, found: Closeness) -> str:
    """Return how many values differ, and by how much at most; empty for a single one that is no number."""
    many = f"{found.count:,} of {a.values.size:,} values differ" if a.values.ndim else ""
    if not found.largest:
        return many
    where = f" at [{', '.join(map(str, found.worst))}]" if a.values.ndim and found.count > 1 else ""
    return f"{f'{many}, ' if many else ''}by {found.largest:.2g}{where}, relative {found.relative:.2g}"


def _short_pair(x: Any, y: Any) -> tuple[str, ...]:
    """Return two values of arrays, floats with as few digits as tell them apart."""
    one, other = x.item(), y.item()
    if not isinstance(one, float | complex) or not isinstance(other, float | complex):
        return str(one), str(other)
    pairs = ((f"{one:.{digits}g}", f"{other:.{digits}g}") for digits in (3, 5, 9, 17))
    told = (pair for pair in pairs if pair[0] != pair[1] and "e+0" not in "".join(pair))
    pair = next(told, (str(one), str(other)))
    if all(re.fullmatch(r"-?\d+(\.\d+)?", text) for text in pair):  # with as many places: 8.90 beside 9.04
        places = max(len(text.partition(".")[2]) for text in pair)
        return f"{one:.{places}f}", f"{other:.{places}f}"
    return pair
