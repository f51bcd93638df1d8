"""Whether two random variants gave what chance explains: means and spreads, beside those of further runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fwmagic.agreement.close import Array, is_close

#: Where random arrays differ in mean or spread by so many times what chance was seen to do, it is not chance: what two
#: runs of each show, or so many standard errors of the difference, of some runs and of independent values.
BEYOND_CHANCE = 20
_ERRORS_OF_RUNS, _ERRORS_OF_VALUES = 10, 5
# So many different runs of each show how far apart chance brings them; and what rounding makes of a mean, as a share.
_RUNS, _ROUNDED = 4, 1e-4

#: Arrays and numbers of two trees, by path.
Pairs = Mapping[str, tuple[Array, Array]]


@dataclass(frozen=True)
class Chance:
    """What further runs of two random variants gave: by path, an array with that of the further run; None: no run."""

    reference: Pairs | None
    outputs: Pairs | None
    more_of_reference: tuple[Pairs, ...] = ()
    more_of_outputs: tuple[Pairs, ...] = ()
    leads: bool = False

    def of(self, path: str) -> list[tuple[Array, Array]]:
        """Return what is known of an array: two pairs, if both variants have it in the same shape in every run."""
        return [some[path] for some in (self.reference, self.outputs) if some is not None and path in some]

    def decides_shape(self, path: str) -> bool:
        """Say whether an array was seen to have another shape in another run."""
        return any(some is not None and path not in some for some in (self.reference, self.outputs))

    def is_fixed(self, path: str) -> bool:
        """Say whether both arrays are, or have to be, the same in every run."""
        some = (self.reference,) if self.leads else (self.reference, self.outputs)
        return all(one is not None and path in one and is_close(*one[path]) for one in some)

    @property
    def is_unknown(self) -> bool:
        """Whether one of the two was not run again, so that nothing is known of its moments."""
        return self.reference is None or self.outputs is None

    def moment(self, path: str, a: Array, b: Array) -> tuple[str, str] | None:
        """Return in which moment two random arrays differ by more than chance explains, and the words for it."""
        known = self.of(path)
        if len(known) < 2 or a.values.dtype.kind not in "fiub" or not min(a.values.size, b.values.size):
            return None
        for moment, error, word in ((_mean, _error_of_mean, "in mean"), (_spread, _error_of_spread, "in spread")):
            x, y = moment(a.values), moment(b.values)
            seen = max(abs(moment(one.values) - moment(two.values)) for one, two in known)
            runs = self._runs(path, moment)
            alone = math.hypot(error(a.values), error(b.values))
            if self.is_tested(path):
                x, y = (sum(of_one) / len(of_one) for of_one in runs)
                between = math.hypot(*(_spread_of(of_one) / math.sqrt(len(of_one)) for of_one in runs))
                within = max(_ERRORS_OF_RUNS * between, _ERRORS_OF_VALUES * alone)
            elif min(a.values.size, b.values.size) < 2:
                return None
            else:
                within = BEYOND_CHANCE * max(seen, *(_error_of_mean(one.values) for one in (a, b)))
            within = max(within, _ROUNDED * max(abs(x), abs(y)))
            if math.isfinite(x + y + within) and abs(x - y) > within:
                return word, f"{x:.4g} and {y:.4g}, and from run to run by {seen:.2g} only"
        return None

    def _runs(self, path: str, moment: Callable[[Any], float]) -> tuple[list[float], list[float]]:
        """Return a moment of an array in every run of either variant."""
        both = ((self.reference, self.more_of_reference), (self.outputs, self.more_of_outputs))
        found: list[list[float]] = []
        for first, more in both:
            pairs = [some[path] for some in (*([first] if first is not None else []), *more) if path in some]
            found.append([moment(pairs[0][0].values), *(moment(two.values) for _, two in pairs)] if pairs else [])
        return found[0], found[1]

    def is_tested(self, path: str) -> bool:
        """Say whether so many runs of both variants gave something else each that their moments can be compared."""
        return all(len(set(of_one)) >= _RUNS for of_one in self._runs(path, _mean))


def _mean(values: Any) -> float:
    return float(values.astype("float64").mean())


def _spread(values: Any) -> float:
    return float(values.astype("float64").std())


def _error_of_mean(values: Any) -> float:
    """Return how well the mean of independent values is known."""
    return _spread(values) / math.sqrt(values.size)


def _error_of_spread(values: Any) -> float:
    """Return how well the spread of independent values is known: by their fourth moment."""
    apart = (values.astype("float64") - _mean(values)) ** 2
    spread = _spread(values)
    return float(apart.std()) / (2 * spread * math.sqrt(values.size)) if spread else 0.0


def _spread_of(numbers: list[float]) -> float:
    """Return the standard deviation of what some numbers are a sample of."""
    mean = sum(numbers) / len(numbers)
    return math.sqrt(sum((number - mean) ** 2 for number in numbers) / (len(numbers) - 1))
